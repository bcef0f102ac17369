"""The training of a reader from start to finish: steps, checkpoints, and the adapter that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from routegraph.files import atomic_open, write_json
from routegraph.validate.models.load import quiet
from routegraph.validate.train.reader.batch import pack
from routegraph.validate.train.reader.network import adapt, score
from routegraph.validate.train.reader.stories import Story, story

#: Steps between two checkpoints, and between two points of the learning curve.
CHECKPOINT_EVERY, CURVE_EVERY = 10, 50
#: Stories of held-out relations that a point of the curve asks about.
HELD_OUT = 12
#: Steps of warming up; share of the steps, at the end, in which the rate falls to nothing.
_WARM, _FALL = 20, 0.25
CHECKPOINT, RECORD = "checkpoint.pt", "training.json"


@dataclass(frozen=True)
class Recipe:
    """What a training is made of.

    Attributes
    ----------
    seed, steps, stories : int
        Seed of adapter and stories; steps; stories of a step.
    rank : int
    alpha, rate : float
        Of the adapter, and the learning rate.
    """

    seed: int = 0
    steps: int = 600
    stories: int = 2
    rank: int = 16
    alpha: float = 32.0
    rate: float = 6e-4

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: up, level, and down at the end."""
        left = (self.steps - step) / max(1.0, _FALL * self.steps)
        return self.rate * min(1.0, (step + 1) / _WARM, left)


@dataclass
class State:
    """How far a training is.

    Attributes
    ----------
    step : int
    seconds : float
        Processor time.
    tokens : int
    curve : list of dict
        step, minutes, loss, and shares of right replies since the point before, on trained relations (told, untold)
        and on those held out.
    """

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


class Tally:
    """Counts right replies to questions with an answer and to those without, and the loss."""

    def __init__(self) -> None:
        self.right = {True: 0, False: 0}
        self.asked = {True: 0, False: 0}
        self.losses: list[float] = []

    def add(self, told: Story, loss: float, right: list[bool]) -> None:
        """Count one story."""
        self.losses.append(loss)
        for asked, hit in zip(told.asked, right, strict=True):
            self.asked[asked.answerable] += 1
            self.right[asked.answerable] += hit

    def shares(self, prefix: str) -> dict[str, float]:
        """Return loss and shares under names that begin with `prefix`."""
        return {
            f"{prefix}loss": round(sum(self.losses) / max(1, len(self.losses)), 4),
            f"{prefix}right": round(self.right[True] / max(1, self.asked[True]), 4),
            f"{prefix}abstained": round(self.right[False] / max(1, self.asked[False]), 4),
        }


def train(
    recipe: Recipe,
    base: Path,
    folder: Path,
    report: Callable[[State], None] | None = None,
    stop: int | None = None,
) -> State:
    """Train an adapter of the model in `base`, gone on with where `folder` holds the beginning of it.

    Parameters
    ----------
    recipe : Recipe
    base, folder : Path
        Of the model, and of what is written: a checkpoint, at the end the adapter as peft writes it.
    report : callable, optional
        Called with the `State` at every point of the curve.
    stop : int, optional
        Step to leave off after, with a checkpoint.
    """
    import torch

    network, tokenizer = _load(base)
    adapted = adapt(network, recipe.rank, recipe.alpha, recipe.seed)
    weights = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.AdamW(weights.values(), lr=recipe.rate, weight_decay=0.0)
    state, tally = State(), Tally()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if checkpoint.is_file():
        state, tally = _resume(checkpoint, recipe, weights, optimiser)
    began = time.process_time()
    while state.step < min(recipe.steps, stop or recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(state.step)
        for number in range(recipe.stories):
            told = _story(recipe.seed, state.step * recipe.stories + number)
            packed = pack(tokenizer, told)
            scored = score(adapted, packed)
            (scored.loss / recipe.stories).backward()
            tally.add(told, scored.loss.item(), scored.right)
            state.tokens += len(packed.ids)
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        state.step += 1
        now = time.process_time()
        state.seconds += now - began
        began = now
        if state.step % CURVE_EVERY == 0 or state.step == recipe.steps:
            point = {"step": state.step, "minutes": round(state.seconds / 60, 2), **tally.shares("")}
            state.curve.append({**point, **held_out(adapted, tokenizer).shares("held_out_")})
            tally = Tally()
            if report is not None:
                report(state)
        if state.step % CHECKPOINT_EVERY == 0 or state.step == stop:
            _save(checkpoint, recipe, weights, optimiser, state, tally)
    if state.step == recipe.steps:
        _save(checkpoint, recipe, weights, optimiser, state, tally)
    return state


def held_out(adapted: Any, tokenizer: Any, n: int = HELD_OUT) -> Tally:
    """Return how well stories of the kinds and relations that are not trained on are answered."""
    import torch

    tally = Tally()
    with torch.inference_mode():
        for number in range(n):
            told = _story(0, number, held_out=True)
            scored = score(adapted, pack(tokenizer, told))
            tally.add(told, scored.loss.item(), scored.right)
    return tally


def _story(seed: int, number: int, held_out: bool = False) -> Story:
    """Return a story that asks something; now and then one has nothing to ask about."""
    attempt = 0
    while not (told := story(seed, number + attempt * 1_000_000, held_out)).asked:
        attempt += 1
    return told


def _load(base: Path) -> tuple[Any, Any]:
    import torch
    import transformers

    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.bfloat16, local_files_only=True
        )
    return network, tokenizer


def _save(path: Path, recipe: Recipe, weights: Any, optimiser: Any, state: State, tally: Tally) -> None:
    import torch

    document = {
        "recipe": asdict(recipe),
        "state": asdict(state),
        "tally": vars(tally),
        "weights": {name: weight.detach() for name, weight in weights.items()},
        "optimiser": optimiser.state_dict(),
    }
    with atomic_open(path) as stream:
        torch.save(document, stream)


def _resume(path: Path, recipe: Recipe, weights: Any, optimiser: Any) -> tuple[State, Tally]:
    import torch

    document = torch.load(path, weights_only=True)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(document["weights"][name])
    optimiser.load_state_dict(document["optimiser"])
    tally = Tally()
    vars(tally).update(document["tally"])
    return State(**document["state"]), tally

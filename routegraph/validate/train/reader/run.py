"""The training of a reader from start to finish: steps, checkpoints, and the adapter that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from routegraph.files import atomic_open, write_json
from routegraph.validate.models.adapter import WEIGHTS
from routegraph.validate.models.load import MODELS, get_model, quiet
from routegraph.validate.train.folder import (
    CHECKPOINT,
    RECORD,
    broken,
    check_same,
    has_checkpoint,
    make_folder,
    read_record,
)
from routegraph.validate.train.reader.batch import pack
from routegraph.validate.train.reader.network import TARGETS, adapt, check_peft, score
from routegraph.validate.train.reader.stories import Story, story

#: Steps between two checkpoints, and between two points of the learning curve.
CHECKPOINT_EVERY, CURVE_EVERY = 10, 50
#: Stories of held-out relations that a point of the curve asks about.
HELD_OUT = 12
#: Steps of warming up; share of the steps, at the end, in which the rate falls to nothing.
_WARM, _FALL = 20, 0.25
#: What is adapted, and what the adapted model is called.
BASE, NAME = "smollm2", "smollm2-reader"


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
    steps: int = 900
    stories: int = 2
    rank: int = 16
    alpha: float = 32.0
    rate: float = 6e-4

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("steps", 1), ("stories", 1), ("rank", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

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
    folder: Path,
    report: Callable[[State], None] | None = None,
    base: str = BASE,
    stop: int | None = None,
) -> dict[str, Any] | None:
    """Train an adapter and save it as peft does, in float16, with the record of its training.

    What an interrupted call leaves in the folder is gone on with; at most `CHECKPOINT_EVERY` steps are lost. A
    finished training is left alone.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Made if need be.
    report : callable, optional
        Called with the `State` at every point of the learning curve.
    base : str
        The model that is adapted: a known name, or a folder.
    stop : int, optional
        Step to leave off after, with a checkpoint.

    Returns
    -------
    dict or None
        The record: recipe, minutes, tokens, curve, versions; None where it was left off.

    Raises
    ------
    ValueError
        If the folder holds the training of another recipe, or something else; if peft is not installed.
    """
    check_peft()
    make_folder(folder)
    record = read_record(folder)
    if record is not None:
        _check_same(recipe, record["recipe"], recipe.steps, folder)
        return record
    checkpoint, begun = folder / CHECKPOINT, has_checkpoint(folder)
    import torch

    network, tokenizer = _load(base)
    adapted = adapt(network, recipe.rank, recipe.alpha, recipe.seed)
    weights = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.AdamW(weights.values(), lr=recipe.rate, weight_decay=0.0)
    state, tally = State(), Tally()
    if begun:
        state, tally = _resume(checkpoint, recipe, weights, optimiser)
    began = time.process_time()
    while state.step < min(recipe.steps, stop or recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(state.step)
        for number in range(recipe.stories):
            told = asking_story(recipe.seed, state.step * recipe.stories + number)
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
    if state.step < recipe.steps:
        return None
    return _finish(adapted, base, recipe, state, folder)


def held_out(adapted: Any, tokenizer: Any) -> Tally:
    """Return how well stories of the kinds and relations that are not trained on are answered."""
    import torch

    tally = Tally()
    with torch.inference_mode():
        for number in range(HELD_OUT):
            told = asking_story(0, number, held_out=True)
            scored = score(adapted, pack(tokenizer, told))
            tally.add(told, scored.loss.item(), scored.right)
    return tally


def asking_story(seed: int, number: int, held_out: bool = False) -> Story:
    """Return story `number` of a seed, or another in its place where it tells too little to ask about."""
    attempt = 0
    while not (told := story(seed, number + attempt * 1_000_000, held_out)).asked:
        attempt += 1
    return told


def _load(base: str) -> tuple[Any, Any]:
    import torch
    import transformers

    folder = get_model(base) if base in MODELS else Path(base)
    with quiet():
        where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, use_safetensors=True, **where
        )
    return network, tokenizer


def _finish(adapted: Any, base: str, recipe: Recipe, state: State, folder: Path) -> dict[str, Any]:
    """Save the adapter and the record, which says that it is finished and so comes last."""
    import peft
    import torch
    import transformers
    from safetensors.torch import save_file

    from routegraph._version import __version__

    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = base, True
    config.target_modules = list(TARGETS)  # a set would be saved in any order
    config.save_pretrained(folder)
    factors = {
        name: weight.to(torch.float16).contiguous()
        for name, weight in peft.get_peft_model_state_dict(adapted).items()
    }
    save_file(factors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    record = {
        "recipe": asdict(recipe),
        "base": base,
        "version": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "parameters": sum(weight.numel() for weight in factors.values()),
        "tokens": state.tokens,
        "minutes": round(state.seconds / 60, 2),
        "curve": state.curve,
    }
    write_json(folder / RECORD, record)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return record


def _check_same(recipe: Recipe, other: dict[str, Any], step: int, folder: Path) -> None:
    """Raise ValueError unless two recipes are one up to a step; a longer one begins as a shorter one does."""
    ours, theirs = asdict(recipe), dict(other)
    alike = Recipe(**{**ours, "steps": theirs.get("steps", 0)})
    if ours["steps"] != theirs.get("steps") and all(
        alike.rate_at(earlier) == recipe.rate_at(earlier) for earlier in range(step)
    ):
        theirs["steps"] = ours["steps"]
    check_same(folder, ((name, value, theirs.get(name)) for name, value in ours.items()))


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

    try:
        document = torch.load(path, weights_only=True)
        state, tally = State(**document["state"]), Tally()
        vars(tally).update(document["tally"])
        other = dict(document["recipe"])
    except Exception as error:  # torch and pickle each have errors of their own
        raise broken(path, error) from None
    _check_same(recipe, other, state.step, path.parent)
    try:
        optimiser.load_state_dict(document["optimiser"])
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(document["weights"][name])
    except (KeyError, ValueError, RuntimeError) as error:
        raise broken(path, error) from None
    return state, tally

"""How the tiny models are taught: what is asked when, what counts as progress, and one step of training.

Three stages. *One hop*: one block of layers learns to answer forward and inverse questions at their last word; then
contexts grow, and questions without an answer come in ("<idk>" from the start would be all it learns). *Two hops*: the
block is repeated, and the deeper network learns to answer at "Answer:", with help at the middle exit: the block's
own answers there, and what the first hop leads to. *Tail*: no help any more, and learning rates fall to nothing;
longer contexts, where they are asked for, come in here.

Masks are part of the help. Route masks: questions do not see full stops, and rows of the context see their own sentence
alone, so that answers are read off the facts' own words, and two hops cannot be joined before they are asked for. Late
questions: some forward questions do not see the context in the lower block, so that the upper one learns to look up
an entity and a relation by itself; else it passes on what is below, and guesses second hops by the relation alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from routegraph.validate.tasks.lexicon import IDK
from routegraph.validate.tasks.words import Batch, draw_batch
from routegraph.validate.tasks.worlds import FACT_LENGTH, NONE, Ids, Shape
from routegraph.validate.train.masks import Mask, causal_mask, late_mask, masked_below, route_mask, spread
from routegraph.validate.train.network import BLOCK, Optimisers, build, stack, tapped
from routegraph.validate.train.recipe import WORDS, Recipe

ONE_HOP, TWO_HOPS, TAIL = STAGES = ("one hop", "two hops", "tail")

#: How often each kind is asked, relative to the others, before what is not yet learnt is preferred.
ONE_HOP_KINDS = {"forward": 4.0, "inverse": 3.0, "unknown_forward": 2.0, "unknown_inverse": 1.0}
TWO_HOP_KINDS = {
    "forward": 3.0,
    "inverse": 3.0,
    "unknown_forward": 1.5,
    "unknown_inverse": 1.0,
    "two_hop": 6.0,
    "unknown_two_hop": 1.5,
}

#: Contexts a step, questions a context; facts at first, how many more when it grows, at most.
ROWS, QUESTIONS = 32, 16
FACTS, GROWTH, MOST_FACTS = 8, 2, 18

#: Learning rates of Muon and AdamW, steps until they are reached, and steps of the tail, over which they fall; of a
#: tail with longer contexts.
MUON_RATE, ADAM_RATE, WARM_UP, TAIL_STEPS = 0.01, 3e-3, 50, 300
LONG_TAIL_STEPS = 500

#: Share of the batches of the second stage that are trained with route masks; of the first stage, all are.
ROUTED = 0.9

#: Share of the forward questions of the second stage that are late.
LATE = 0.5

#: Share of correct answers, as a moving average, that opens what comes next.
UNKNOWNS_AT = {"forward": 0.9, "inverse": 0.9}
GROW_AT = {"forward": 0.9, "inverse": 0.8, "two_hop": 0.85}
STACK_AT = {"forward": 0.97, "inverse": 0.93, "unknown_forward": 0.9}
TAIL_AT = {
    "forward": 0.98,
    "inverse": 0.98,
    "unknown_forward": 0.97,
    "unknown_inverse": 0.95,
    "two_hop": 0.97,
    "unknown_two_hop": 0.93,
}

#: Given up as a plateau: so many steps into a stage contexts have not grown yet, and a kind is below a share.
PLATEAUS = {
    ONE_HOP: ((300, "inverse", 0.45), (600, "inverse", 0.8), (600, "forward", 0.9)),
    TWO_HOPS: ((1000, "two_hop", 0.65),),
    TAIL: (),
}

#: Steps between two points of the learning curve.
CURVE_EVERY = 50

_MEMORY = 0.95


@dataclass
class State:
    """How far a training has come: everything but the weights, the optimisers and the random numbers.

    Attributes
    ----------
    attempt : int
        Starts with other random numbers before this one, each given up on a plateau.
    stage : str
        One of `STAGES`.
    step, stage_began, grown : int
        Steps of this attempt; the step at which the stage began, and at which contexts last grew.
    n_facts : int
        Facts of the longest contexts.
    unknowns : bool
        Whether questions without an answer are asked.
    right : dict of str to float
        Moving average of the share of correct answers, by kind.
    false_abstention, loss : float
        Moving average of "<idk>" where there is an answer; loss of the last step's answers.
    seconds : float
        Processor time taken, attempts given up included.
    tokens : int
        Tokens trained on, likewise.
    events, curve : list of dict
        What happened when; the learning curve.
    """

    attempt: int = 0
    stage: str = ONE_HOP
    step: int = 0
    stage_began: int = 0
    grown: int = 0
    n_facts: int = FACTS
    unknowns: bool = False
    right: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TWO_HOP_KINDS, 0.0))
    false_abstention: float = 0.0
    loss: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def above(self, gate: dict[str, float]) -> bool:
        """Whether all kinds of a gate that are asked so far exceed it."""
        asked = ONE_HOP_KINDS if self.stage == ONE_HOP else TWO_HOP_KINDS
        kinds = [kind for kind in gate if kind in asked and (self.unknowns or not kind.startswith("unknown"))]
        return all(self.right[kind] > gate[kind] for kind in kinds)

    def note(self, event: str) -> None:
        """Write an event down."""
        minutes = round(self.seconds / 60, 3)
        self.events.append({"event": event, "attempt": self.attempt, "step": self.step, "minutes": minutes})


@dataclass(eq=False)
class Training:
    """A training under way.

    Attributes
    ----------
    recipe : Recipe
    state : State
    network, optimisers, rng
        What is trained, what moves it, and where everything random comes from.
    """

    recipe: Recipe
    state: State
    network: Any
    optimisers: Optimisers
    rng: np.random.Generator

    @classmethod
    def start(cls, recipe: Recipe, state: State | None = None) -> Training:
        """Return a training at its first step; `state` tells which attempt it is."""
        state = state or State()
        sequence = np.random.SeedSequence(recipe.seed, spawn_key=(state.attempt,))
        network = build(recipe.family, int(sequence.generate_state(1)[0]), recipe.width)
        return cls(recipe, state, network, Optimisers.of(network), np.random.default_rng(sequence))


def _tail_steps(recipe: Recipe) -> int:
    return TAIL_STEPS if recipe.words == WORDS else LONG_TAIL_STEPS


def finished(training: Training) -> bool:
    """Return whether the tail is over."""
    state = training.state
    return state.stage == TAIL and state.step >= state.stage_began + _tail_steps(training.recipe)


def advance(training: Training) -> None:
    """Train one step, and move on to what comes next where the gates are passed."""
    state = training.state
    batch = _draw(training)
    routed = training.rng.random() < {ONE_HOP: 1.0, TWO_HOPS: ROUTED, TAIL: 0.0}[state.stage]
    training.network.zero_grad(set_to_none=True)
    loss, said = _loss(training, batch, route_mask(batch) if routed else causal_mask(batch))
    loss.backward()
    _move(training)
    state.step += 1
    state.tokens += batch.tokens.size
    _remember(state, batch, said)
    if state.step % CURVE_EVERY == 0:
        state.curve.append(_point(state))


def turn(training: Training) -> None:
    """Open what comes next where its gate is passed, or begin anew where a plateau is not left."""
    state = training.state
    if _stuck(state):
        state.note(f"restart: plateau of {state.stage}")
        again = State(
            attempt=state.attempt + 1,
            seconds=state.seconds,
            tokens=state.tokens,
            events=state.events,
            curve=state.curve,
        )
        vars(training).update(vars(Training.start(training.recipe, again)))
        return
    if state.stage == TAIL:
        return
    if (
        state.stage == ONE_HOP
        and not state.unknowns
        and training.recipe.abstains
        and state.above(UNKNOWNS_AT)
    ):
        state.unknowns = True
        state.note("questions without an answer")
    settled = state.step - state.grown
    if state.n_facts < MOST_FACTS:
        if settled > 60 and state.above(GROW_AT):
            state.n_facts += GROWTH
            state.grown = state.step
    elif state.stage == ONE_HOP and settled > 60 and state.above(STACK_AT):
        sample = draw_batch(
            training.rng, 64, draw_shape(training.rng, 6, 12), _kinds(training, TWO_HOP_KINDS)
        )
        recipe = training.recipe
        training.network = stack(training.network, recipe.family, sample.tokens, recipe.layers)
        training.optimisers = Optimisers.of(training.network)
        state.n_facts = FACTS + GROWTH
        _enter(state, TWO_HOPS)
    elif state.stage == TWO_HOPS and settled > 100 and state.above(TAIL_AT):
        _enter(state, TAIL)
    if state.stage == TWO_HOPS and state.seconds > 0.85 * 60 * training.recipe.minutes:
        state.note("tail early: time is nearly up")
        _enter(state, TAIL)


def draw_shape(rng: np.random.Generator, fewest: int, most: int, words: int = WORDS) -> Shape:
    """Draw the shape of a training batch: fewest to most facts, and as much filler as fits into so many words."""
    n_facts = int(rng.integers(fewest, most + 1))
    pairs = ((1, 1), (1, 1), (2, 1), (1, 2), (2, 2), (4, 2))
    attributes, links = pairs[rng.integers(len(pairs))]
    entities = max(4, -(-(n_facts + 2) // (attributes + links))) + int(rng.integers(0, 4))
    room = words - FACT_LENGTH * n_facts
    fillers = []
    size = rng.integers(0, 5 if rng.random() < 0.6 else 13) if words == WORDS else rng.integers(words // 5)
    for length in rng.integers(3, 8, size=size):
        if length <= room:
            fillers.append(int(length))
            room -= int(length)
    return Shape(n_facts, entities, attributes, links, tuple(fillers))


def _kinds(training: Training, weights: dict[str, float]) -> list[str]:
    """Draw the kinds of a batch's questions."""
    state = training.state
    asked = {kind: w for kind, w in weights.items() if state.unknowns or not kind.startswith("unknown")}
    if state.stage != TAIL:  # more of what is not learnt yet
        asked = {kind: weight * (1.15 - state.right[kind]) for kind, weight in asked.items()}
    chances = np.array(list(asked.values()))
    drawn = training.rng.choice(len(asked), size=QUESTIONS, p=chances / chances.sum())
    return [list(asked)[kind] for kind in drawn]


def _draw(training: Training) -> Batch:
    state = training.state
    kinds = _kinds(training, ONE_HOP_KINDS if state.stage == ONE_HOP else TWO_HOP_KINDS)
    words = training.recipe.words if state.stage == TAIL else WORDS
    shape = draw_shape(training.rng, 5 if state.n_facts < 12 else 6, state.n_facts, words)
    return draw_batch(training.rng, ROWS, shape, kinds)


def _loss(training: Training, batch: Batch, mask: Mask) -> tuple[Any, Ids]:
    """Return the loss of a batch, and what the network says to its questions, int64[n, n_questions]."""
    import torch

    network, stage = training.network, training.state.stage
    late = np.zeros(len(batch.kinds), dtype=bool)
    if stage == TWO_HOPS:
        late = np.array([kind.endswith("forward") for kind in batch.kinds]) & (
            training.rng.random(len(late)) < LATE
        )
    with (
        tapped(network.model.layers[BLOCK - 1]) as exits,
        masked_below(network, spread(late_mask(batch, mask, late), batch)),
    ):
        ends = network.model(
            input_ids=torch.from_numpy(batch.tokens), attention_mask=spread(mask, batch), use_cache=False
        ).last_hidden_state
    # One block has its answer at the last word of the question; "Answer:" is one look back away from there.
    logits = network.lm_head(ends[:, batch.columns - (stage == ONE_HOP)])
    loss = _cross_entropy(logits, batch.answer)
    training.state.loss = float(loss.detach())
    if stage == TWO_HOPS:
        middle = network.model.norm(exits[0])
        single = np.array(["two_hop" not in kind for kind in batch.kinds])
        early = single & ~late
        if early.any():
            said_early = network.lm_head(middle[:, batch.columns[early] - 1])
            loss = loss + 0.5 * _cross_entropy(said_early, batch.answer[:, early])
        if (batch.bridge != NONE).any():
            for weight, rows in ((0.5, middle), (0.3, ends)):
                bridge = network.lm_head(rows[:, batch.columns[~single] - 2])
                loss = loss + weight * _cross_entropy(bridge, batch.bridge[:, ~single])
    return loss, logits.detach().argmax(dim=2).numpy()


def _cross_entropy(logits: Any, wanted: Ids) -> Any:
    import torch

    flat = torch.from_numpy(wanted).reshape(-1)
    return torch.nn.functional.cross_entropy(logits.reshape(len(flat), -1), flat, ignore_index=NONE)


def _move(training: Training) -> None:
    import torch

    state = training.state
    torch.nn.utils.clip_grad_norm_(training.network.parameters(), 5.0)
    done = state.step - state.stage_began
    share = (
        max(0.02, 1 - done / _tail_steps(training.recipe))
        if state.stage == TAIL
        else min(1.0, (done + 1) / WARM_UP)
    )
    training.optimisers.step(MUON_RATE * share, ADAM_RATE * share)


def _remember(state: State, batch: Batch, said: Ids) -> None:
    """Bring the moving averages up to date."""
    asked = batch.answer != NONE
    right = said == batch.answer
    kinds = np.array(batch.kinds)
    for kind in dict.fromkeys(batch.kinds):
        here = asked & (kinds == kind)
        if here.any():
            state.right[kind] = _MEMORY * state.right[kind] + (1 - _MEMORY) * float(right[here].mean())
    known = asked & (batch.answer != IDK)
    if known.any():
        abstained = float((said[known] == IDK).mean())
        state.false_abstention = _MEMORY * state.false_abstention + (1 - _MEMORY) * abstained


def _stuck(state: State) -> bool:
    steps = state.step - state.stage_began
    plateaus = PLATEAUS[state.stage] if state.grown == state.stage_began else ()
    return any(steps >= limit and state.right[kind] < share for limit, kind, share in plateaus)


def _enter(state: State, stage: str) -> None:
    state.stage = stage
    state.stage_began = state.grown = state.step
    state.note(f"stage: {stage}")


def _point(state: State) -> dict[str, Any]:
    return {
        "attempt": state.attempt,
        "stage": state.stage,
        "step": state.step,
        "minutes": round(state.seconds / 60, 3),
        "n_facts": state.n_facts,
        "loss": round(state.loss, 4),
        "false_abstention": round(state.false_abstention, 4),
        **{kind: round(share, 4) for kind, share in state.right.items()},
    }

"""A word-level language: a small world of facts, and questions that only the context can answer.

A fact is a sentence, "Alice color red ."; everything is drawn anew in each context, so nothing can be learnt by
heart. Questions: "Alice color" (forward), "who color red" (inverse), "Alice friend color" (two hops: the colour of
Alice's friend), "Alice friend boss color" (three), and the same with no fact to answer them, where "<idk>" is right.
Models learn it from scratch in minutes (`routegraph.validate.train`), since every word is one token.

The same worlds come as arrays of tokens, for training, and as prompts, for everything else; the tokenizer makes
the one of the other. In both, questions read "Question: Alice color Answer:".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from routegraph.validate.prompts.prompt import Prompt, Span
from routegraph.validate.tasks.lexicon import (
    ANSWER,
    BOS,
    FILLER,
    FILLERS,
    IDK,
    QUESTION,
    SPECIAL,
    STOP,
    VOCABULARY,
)
from routegraph.validate.tasks.worlds import (
    ENTITY_AT,
    FACT_LENGTH,
    KINDS,
    NONE,
    VALUE_AT,
    Ids,
    Shape,
    World,
    draw_world,
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Contexts followed by questions, answers not written out: each is to be said at its "Answer:".

    Attributes
    ----------
    tokens : int64[n, n_tokens]
    n_context : int
        Tokens before the first question.
    kinds : tuple of str
        Kind of each question.
    columns : int64[n_questions]
        Where each "Answer:" stands.
    answer, bridge : int64[n, n_questions]
        See `Questions`; a bridge is known once the second word of its question is read.
    support : int64[n, n_questions, most hops]
        Positions at which the supporting facts begin; NONE where there is none.
    """

    tokens: Ids
    n_context: int
    kinds: tuple[str, ...]
    columns: Ids
    answer: Ids
    bridge: Ids
    support: Ids


@dataclass(frozen=True)
class Task:
    """A family of prompts: what is asked, of worlds of which shape.

    Attributes
    ----------
    summary, kind : str
        What it is, and the kind of its questions.
    relations : tuple of (int, int)
        Pairs of n_attributes and n_links to draw from.
    n_facts : (int, int)
        Fewest and most facts.
    crowded : bool
        As few entities as hold the facts, so that each is mentioned again and again.
    """

    summary: str
    kind: str
    relations: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 2))
    n_facts: tuple[int, int] = (8, 18)
    crowded: bool = False


#: Tasks of the language, by name.
TASKS = {
    "forward": Task("the value of a fact", "forward"),
    "inverse": Task("who has a value", "inverse"),
    "repeated_mention": Task("one entity mentioned again and again", "repeated", ((4, 2),), (14, 18), True),
    "multi_entity": Task("many entities, linked to each other", "forward", ((1, 1),)),
    "two_hop": Task("a fact about the one that a link leads to", "two_hop"),
    "unknown_forward": Task("a value that is not stated", "unknown_forward"),
    "unknown_inverse": Task("an owner that is not stated", "unknown_inverse"),
    "unknown_two_hop": Task("one of two hops is not stated", "unknown_two_hop"),
    "three_hop": Task("a fact about the one that two links lead to", "three_hop", ((1, 2), (2, 2)), (12, 18)),
}


def draw_batch(rng: np.random.Generator, n: int, shape: Shape, kinds: Sequence[str]) -> Batch:
    """Return n contexts of one shape, each followed by one question of each of `kinds`.

    Raises
    ------
    ValueError
        If a kind is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown kind of question {kind!r}; choose from: {', '.join(KINDS)}")
    world = draw_world(rng, n, shape)
    context, begins = _write(rng, world)
    asked = {kind: KINDS[kind](rng, world, kinds.count(kind)) for kind in dict.fromkeys(kinds)}
    taken, hops = dict.fromkeys(asked, 0), max(questions.support.shape[2] for questions in asked.values())
    pieces, answers, bridges, supports = [context], [], [], []
    for kind in kinds:
        questions, number = asked[kind], taken[kind]
        taken[kind] += 1
        frame = np.full((n, 1), QUESTION), questions.words[:, number], np.full((n, 1), ANSWER)
        pieces.append(np.concatenate(frame, axis=1))
        answers.append(questions.answer[:, number])
        bridges.append(questions.bridge[:, number])
        fact = np.full((n, hops), NONE)
        fact[:, : questions.support.shape[2]] = questions.support[:, number]
        supports.append(np.where(fact == NONE, NONE, begins[fact]))
    return Batch(
        tokens=np.concatenate(pieces, axis=1),
        n_context=shape.n_context,
        kinds=tuple(kinds),
        columns=shape.n_context + np.cumsum([piece.shape[1] for piece in pieces[1:]], dtype=np.int64) - 1,
        answer=np.stack(answers, axis=1),
        bridge=np.stack(bridges, axis=1),
        support=np.stack(supports, axis=1),
    )


def draw_batches(task: str, n: int, seed: int, length: int | None = None, rows: int = 16) -> list[Batch]:
    """Return batches of one question a context, with n askable questions between them.

    Contexts have `length` words, or 40 to 96, and one token before. Rows whose question cannot be asked are left out,
    so batches differ in size; the last one is cut to fit.

    Raises
    ------
    ValueError
        If the task is unknown, n below 1, or the length below what the facts alone may take.
    """
    if task not in TASKS:
        raise ValueError(f"unknown word-level task {task!r}; choose from: {', '.join(TASKS)}")
    if n < 1:
        raise ValueError(f"the number of prompts must be at least 1, got {n}")
    least = FACT_LENGTH * TASKS[task].n_facts[1] + 2
    if length is not None and length < least:
        raise ValueError(
            f"length must be at least {least} words, the facts alone may take them, got {length}"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, list(TASKS).index(task))))
    batches: list[Batch] = []
    while n > 0:
        drawn = draw_batch(rng, rows, _task_shape(rng, TASKS[task], length), [TASKS[task].kind])
        batch = _rows(drawn, np.flatnonzero(drawn.answer[:, 0] != NONE)[:n])
        n -= len(batch.tokens)
        if len(batch.tokens):
            batches.append(batch)
    return batches


def prompts(task: str, n: int, seed: int, length: int | None = None) -> list[Prompt]:
    """Return n prompts of one of `TASKS`, the same ones for the same seed.

    Contexts have `length` words, or 40 to 96; longer ones hold more between the facts, not more facts. Evidence are
    the whole sentences of the supporting facts, the first hop first.

    Raises
    ------
    ValueError
        If the task is unknown, n below 1, or the length below what the facts alone may take.
    """
    batches = draw_batches(task, n, seed, length)
    texts = [_prompt(batch, row, task) for batch in batches for row in range(len(batch.tokens))]
    return [replace(prompt, id=f"{task}-{seed}-{number}") for number, prompt in enumerate(texts)]


def _task_shape(rng: np.random.Generator, task: Task, length: int | None) -> Shape:
    """Draw a shape whose context has so many words, or 40-96."""
    n_facts = int(rng.integers(task.n_facts[0], task.n_facts[1] + 1))
    attributes, links = task.relations[rng.integers(len(task.relations))]
    entities = max(4, -(-(n_facts + 2) // (attributes + links)))
    entities += 0 if task.crowded else int(rng.integers(0, 4))
    words = int(rng.integers(max(40, FACT_LENGTH * n_facts), 97)) if length is None else length
    room = words - FACT_LENGTH * n_facts
    fillers = []
    while room >= 2:
        filler = int(rng.integers(3, 8))
        filler = filler if filler <= room - 2 else room
        fillers.append(filler)
        room -= filler
    return Shape(n_facts, entities, attributes, links, tuple(fillers))


def _write(rng: np.random.Generator, world: World) -> tuple[Ids, Ids]:
    """Return the contexts' tokens, and the position at which each fact begins: the same in every row."""
    shape, n = world.shape, len(world.cells)
    tokens = np.full((n, shape.n_context), BOS)
    begins = np.empty(shape.n_facts, dtype=np.int64)
    facts = world.facts
    position = 1
    for sentence in rng.permutation(shape.n_facts + len(shape.fillers)):
        if sentence < shape.n_facts:
            words, begins[sentence] = facts[:, sentence], position
        else:
            length = shape.fillers[sentence - shape.n_facts] - 1
            words = FILLER + rng.integers(len(FILLERS), size=(n, length))
        end = position + words.shape[1]
        tokens[:, position:end] = words
        tokens[:, end] = STOP
        position = end + 1
    return tokens, begins


def _rows(batch: Batch, rows: Ids) -> Batch:
    parts = {name: getattr(batch, name)[rows] for name in ("tokens", "answer", "bridge", "support")}
    return replace(batch, **parts)


def _prompt(batch: Batch, row: int, task: str) -> Prompt:
    words = [VOCABULARY[token] for token in batch.tokens[row]]
    ends = np.cumsum([len(word) + 1 for word in words[1 : batch.n_context]]) - 1
    begins = np.concatenate([[0], ends + 1])  # of the words from position 1 on

    def span(position: int, length: int) -> Span:
        return int(begins[position - 1]), int(ends[position + length - 2])

    facts = [int(fact) for fact in batch.support[row, 0] if fact != NONE]
    answer_at = ENTITY_AT if batch.kinds[0] == "inverse" else VALUE_AT
    known = batch.answer[row, 0] != IDK
    return Prompt(
        id="",
        context=" ".join(words[1 : batch.n_context]),
        question=" ".join(words[batch.n_context + 1 : -1]),
        answer=VOCABULARY[batch.answer[row, 0]],
        answer_prefix=SPECIAL[ANSWER],
        evidence=tuple(span(fact, FACT_LENGTH) for fact in facts),
        answer_spans=(span(facts[-1] + answer_at, 1),) if facts else (),
        answerable=bool(known),
        task=task,
        tags=("words",),
    )

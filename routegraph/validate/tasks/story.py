"""From a story, which is told in sentences and asked about, to a prompt of the length wanted."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from routegraph.validate.prompts.prompt import Prompt, Span
from routegraph.validate.tasks.picks import Picks, capital
from routegraph.validate.tasks.registry import Count, task
from routegraph.validate.tasks.vocabulary import Asking, Relation, words

#: The right answer where the context does not tell.
UNKNOWN = "I don't know"
#: Share of the room that the facts asked about leave which goes to facts about other people.
OTHERS = 0.6
#: Sentences of a paragraph, where they do not belong together.
_PARAGRAPH = 5
#: What a filler sentence is made of, longer and shorter.
_SHAPES = (("when", "who", "did", "what", "where"), ("who", "did", "what", "where"), ("who", "did", "what"))


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence of a context; two with the same text are still two."""

    text: str


@dataclass(frozen=True)
class Question:
    """What is asked, in which words the answer begins, and how it goes on."""

    question: str
    prefix: str
    answer: str


@dataclass(frozen=True)
class Story:
    """What a context tells and what is asked about it.

    Attributes
    ----------
    asks : Question
    tags : tuple of str
    blocks : sequence of sequence of Sentence
        What must be told; the sentences of a block stay together.
    evidence : sequence of Sentence
        All that the answer follows from.
    twin : mapping from Sentence to Sentence or None
        What the twin without an answer tells instead; None: nothing, a filler stands there.
    others : iterator of blocks
        What may be told besides, as far as there are room and people.
    places : mapping from Sentence to float
        Where single sentences stand, from 0 to 1; by default anywhere.
    who : sequence of str
        Who is busy in the filler sentences; by default people without a name.
    parts : sequence of str
        All answers where several are asked for, the first that of `asks`.
    grader : str
        What judges replies; empty: the default one.
    """

    asks: Question
    tags: tuple[str, ...]
    blocks: Sequence[Sequence[Sentence]]
    evidence: Sequence[Sentence]
    twin: Mapping[Sentence, Sentence | None]
    others: Iterator[Sequence[Sentence]] = field(default_factory=lambda: iter(()))
    places: Mapping[Sentence, float] = field(default_factory=dict)
    who: Sequence[str] = ()
    parts: Sequence[str] = ()
    grader: str = ""


class NobodyLeftError(Exception):
    """All names are taken."""


class Draw(Picks):
    """What a story is drawn from: random numbers, people nobody else is called like, and values.

    Attributes
    ----------
    rng : numpy.random.Generator
    number : int
        Which story of a task it is.
    inverse : bool
        Whether it asks for the person, by turns.
    twin : bool
        Whether the twin is told; what is drawn must not depend on it.
    """

    def __init__(self, rng: np.random.Generator, number: int, twin: bool) -> None:
        super().__init__(rng)
        self.number, self.inverse, self.twin = number, number % 2 == 1, twin
        self._people = self._everybody()

    def name(self) -> str:
        """Return the name of somebody new."""
        return self.person()[0]

    def person(self) -> tuple[str, str]:
        """Return the name of somebody new, and the pronoun; women and men come by turns."""
        try:
            return next(self._people)
        except StopIteration:
            raise NobodyLeftError from None

    def values(self, relation: Relation, asking: Asking | None = None, answer: str = "") -> Iterator[str]:
        """Yield values of a relation without end, or new people, none of which gives this answer."""
        if not relation.values:
            return iter(self.name, "")
        asking = asking or relation.asking
        return cycle(
            self.some([v for v in relation.values if asking.part(v) != answer], len(relation.values))
        )

    def _everybody(self) -> Iterator[tuple[str, str]]:
        first = {"she": self.some(words().she, 99), "he": self.some(words().he, 99)}
        last = self.some(words().surnames, 99)
        pronouns = self.some(("she", "he"), 2)
        # First names and surnames go round at lengths without a common factor: no pair comes twice.
        for number in range(2 * len(words().she) * len(last)):
            pronoun = pronouns[number % 2]
            chosen = first[pronoun][number // 2 % len(first[pronoun])]
            yield f"{chosen} {last[number % len(last)]}", pronoun


def english(
    name: str, length: int = 300, twins: bool = True
) -> Callable[[Callable[[Draw], Story]], Callable[..., list[Prompt]]]:
    """Return a decorator that makes a task of a function from `Draw` to `Story`, with defaults for length and twins.

    The task takes, besides n and seed, ``length`` and ``count`` (see `load_task`); ``twins``: every second prompt
    is the one before without a fact that the answer needs; ``lead``: the answer's beginning is given, else the
    question asks to say so where the text does not tell.
    """

    def register(tell: Callable[[Draw], Story]) -> Callable[..., list[Prompt]]:
        def prompts(
            n: int,
            *,
            seed: int = 0,
            length: int = length,
            count: Count | None = None,
            twins: bool = twins,
            lead: bool = True,
        ) -> list[Prompt]:
            if length < 1:
                raise ValueError(f"length must be at least 1, got {length}")
            made = []
            for index in range(n):
                number, twin = (index // 2, index % 2 == 1) if twins else (index, False)
                draw = Draw(np.random.default_rng([zlib.crc32(name.encode()), seed, number]), number, twin)
                label = f"{name}-{seed}-{index:05d}"
                made.append(_prompt(label, name, tell(draw), draw, length, count or _count, lead))
            return made

        # The registry shows and tells apart tasks by these.
        prompts.__doc__, prompts.__module__, prompts.__qualname__ = (
            tell.__doc__,
            tell.__module__,
            tell.__qualname__,
        )
        return task(name)(prompts)

    return register


def _count(text: str) -> float:
    """Return about how many tokens a text has."""
    return 1.3 * len(text.split())


def _prompt(label: str, name: str, story: Story, draw: Draw, length: int, count: Count, lead: bool) -> Prompt:
    blocks = _arranged(label, story, draw, length, count)
    instead = {}
    if draw.twin:
        instead = {old: new or _like(old, story, draw, count) for old, new in story.twin.items()}
    context, spans = _joined([[instead.get(sentence, sentence) for sentence in block] for block in blocks])
    gone = [old for old, new in story.twin.items() if new is None and draw.twin]
    told = [instead.get(sentence, sentence) for sentence in story.evidence if sentence not in gone]
    evidence = sorted(spans[sentence] for sentence in told)
    asks = story.asks
    return Prompt(
        id=label,
        context=context,
        question=asks.question if lead else f'{asks.question} If the text does not tell, say "{UNKNOWN}".',
        answer=UNKNOWN if draw.twin else asks.answer,
        answer_prefix=f"Answer: {asks.prefix}" if lead else "Answer:",
        evidence=tuple(evidence),
        answer_spans=() if draw.twin else tuple(_places(asks.answer, context, evidence)),
        answerable=not draw.twin,
        task=name,
        tags=story.tags,
        answers=tuple(story.parts[1:]),
        grader=story.grader,
    )


def _arranged(label: str, story: Story, draw: Draw, length: int, count: Count) -> list[Sequence[Sentence]]:
    """Return the blocks of a story in order, and as many others and fillers as make up the length."""

    def size(block: Sequence[Sentence]) -> float:
        return sum(count(f" {sentence.text}") for sentence in block)

    blocks = list(story.blocks)
    total = sum(map(size, blocks))
    if total > 1.1 * length:
        raise ValueError(f"length {length} is too short: the facts of {label} alone take {total:.0f}")
    room = total + OTHERS * (length - total)
    with suppress(NobodyLeftError):
        for block in story.others:
            if total + size(block) > room:
                break
            blocks.append(block)
            total += size(block)
    while True:
        block = [_filler(story, draw)]
        if total + size(block) / 2 > length:
            break
        blocks.append(block)
        total += size(block)
    places = draw.rng.random(len(blocks))
    placed = sorted(
        (story.places.get(block[0], place), number)
        for number, (block, place) in enumerate(zip(blocks, places, strict=True))
    )
    return [blocks[number] for _, number in placed]


def _filler(story: Story, draw: Draw) -> Sentence:
    """Return a sentence that tells nothing that is asked for."""
    said = {gap: draw.pick(choices) for gap, choices in words().filler.items()}
    if story.who:
        said["who"] = draw.pick(story.who)
    return Sentence(capital(" ".join(said[gap] for gap in draw.pick(_SHAPES))) + ".")


def _like(sentence: Sentence, story: Story, draw: Draw, count: Count) -> Sentence:
    """Return a filler about as long as a sentence."""
    choices = [_filler(story, draw) for _ in range(16)]
    return min(choices, key=lambda choice: abs(count(choice.text) - count(sentence.text)))


def _joined(blocks: Sequence[Sequence[Sentence]]) -> tuple[str, dict[Sentence, Span]]:
    """Return a text in paragraphs, and where each sentence stands: single ones run on, blocks stand alone."""
    text, spans, run = "", {}, _PARAGRAPH
    for block in blocks:
        apart = len(block) > 1 or run >= _PARAGRAPH
        run = _PARAGRAPH if len(block) > 1 else 1 if apart else run + 1
        for number, sentence in enumerate(block):
            if text:
                text += "\n\n" if apart and number == 0 else " "
            spans[sentence] = len(text), len(text) + len(sentence.text)
            text += sentence.text
    return text, spans


def _places(answer: str, context: str, evidence: Iterable[Span]) -> Iterator[Span]:
    """Yield where an answer stands in the evidence, as whole words."""
    pattern = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)")
    for start, end in evidence:
        for found in pattern.finditer(context, start, end):
            yield found.span()

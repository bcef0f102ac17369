"""What a prompt consists of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

Span = tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """One context with a question.

    Attributes
    ----------
    id : str
        Name, unique in a file.
    context : str
        The text whose cache rows are evicted.
    question, answer, answer_prefix : str
        What is asked, the expected answer, and the words a model's reply is made to start with.
    evidence, answer_spans : tuple of (int, int)
        Character spans [start, end) of `context`: what the answer follows from, and the answer itself.
    answerable : bool
        False where the right reply is that the context does not tell.
    task : str
        Which family of prompts it belongs to.
    tags : tuple of str
        Free words to group by.
    answers : tuple of str
        Further answers: whether one of them will do, or all are needed, is the grader's rule.
    choices : tuple of str
        What there is to choose from, in the order of the letters A, B, C, ...
    grader : str
        By which grader replies are judged where the user names none; empty: by the default one.
    """

    id: str
    context: str
    question: str = ""
    answer: str = ""
    answer_prefix: str = ""
    evidence: tuple[Span, ...] = ()
    answer_spans: tuple[Span, ...] = ()
    answerable: bool = True
    task: str = ""
    tags: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    grader: str = ""

    @property
    def golds(self) -> tuple[str, ...]:
        """All answers, see `golds_of`."""
        return golds_of(self.answer, self.answers)

    def to_dict(self) -> dict[str, Any]:
        """Return what `write_prompts` writes; the later fields only where they are set, as older files have none."""
        later = ("answers", "choices", "grader")
        return {name: value for name, value in asdict(self).items() if value or name not in later}


def golds_of(answer: str, answers: Iterable[str] = ()) -> tuple[str, ...]:
    """Return all answers, the first one first, without repeats and empty ones."""
    return tuple(dict.fromkeys(gold for gold in (answer, *answers) if gold.strip()))

"""Is a reply right, wrong, or does it abstain? Rules a reader can check by hand, no model that judges.

A reply is right where a grader says so; see `routegraph.validate.graders`. It abstains where its first sentence
holds one of `ABSTENTIONS`, is one of `ABSTAINING_WORDS`, or where it holds the token `IDK`. Where a context does not
tell the answer, abstaining is right and everything else is not. Wrong: not right, and no abstention; an empty reply is
wrong, too, since it does not say that the answer is missing. Which of the wrong replies are hallucinations is told by
what a task knows: `routegraph.validate.tasks.knowledge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routegraph.validate.graders import DEFAULT, Grader
from routegraph.validate.graders.abstention import ABSTAINING_WORDS, ABSTENTIONS, IDK, abstains
from routegraph.validate.graders.words import normalise
from routegraph.validate.prompts.prompt import Prompt

__all__ = [
    "ABSTAINING_WORDS",
    "ABSTENTIONS",
    "IDK",
    "Verdict",
    "abstains",
    "grader_of",
    "judge",
    "normalise",
    "verdict",
]


@dataclass(frozen=True)
class Verdict:
    """What became of a reply.

    Attributes
    ----------
    right, abstained : bool
        Both, where abstaining is right.
    score : float
        What the grader gave, from 0 to 1; where abstaining is right, 1 for that.
    """

    right: bool
    abstained: bool
    score: float = 0.0

    @property
    def wrong(self) -> bool:
        """Neither right nor an abstention."""
        return not (self.right or self.abstained)

    @property
    def word(self) -> str:
        """The class: "abstained", "right" or "wrong"."""
        return "abstained" if self.abstained else "right" if self.right else "wrong"


def grader_of(prompt: Prompt, named: str = "") -> Grader:
    """Return what judges the replies to a prompt: the grader named, else the prompt's own, else the default one.

    Raises
    ------
    ValueError
        If there is no such grader.
    """
    return Grader.named(named or prompt.grader or DEFAULT)


def judge(prompt: Prompt, reply: str, grader: str = "") -> Verdict:
    """Return what a reply to a prompt is worth; see the head of this module for the rules.

    Raises
    ------
    ValueError
        If there is no such grader; if the prompt is answerable and its answer is none that the grader can match.
    """
    golds = prompt.golds or (prompt.answer,)
    return verdict(grader_of(prompt, grader), reply, golds, prompt.choices, prompt.answerable)


def verdict(
    grader: Grader, reply: str, golds: Sequence[str], choices: Sequence[str] = (), answerable: bool = True
) -> Verdict:
    """Return what a grader and the lists of abstentions make of a reply; ValueError as `judge`."""
    if not answerable:
        abstained = abstains(reply)
        return Verdict(abstained, abstained, float(abstained))
    score = grader.score(reply, golds, choices)
    # A right answer may hold a phrase of the list; then it is right, and no abstention.
    right = grader.right(score)
    return Verdict(right, not right and abstains(reply), score)

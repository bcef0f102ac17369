"""The gate: a task counts as learnt only if answers are right and evicting the facts behind them takes them away.

Accuracy alone deceives: a model may have joined two hops inside the context before anything was asked, or guess by
the relation. So every supporting fact is evicted in turn, all of its rows in all layers and heads. A model that never
abstains still guesses right now and then: it may not do better than a guess that knows the rest of the context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from routegraph.stats.proportions import Proportion, proportion
from routegraph.validate.decoding.decode import decode
from routegraph.validate.models.load import Loaded
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import tokenise, tokens_in
from routegraph.validate.tasks.lexicon import (
    ATTRIBUTES,
    IDK,
    LINKS,
    N_VALUES,
    NAMES,
    SPECIAL,
    VOCABULARY,
    WHO,
)
from routegraph.validate.tasks.words import TASKS, prompts
from routegraph.validate.tasks.worlds import FACT_LENGTH

#: Bounds on shares of items: right answers and "<idk>" to what cannot be answered at least; "<idk>" to what can be
#: answered and right answers with a supporting fact evicted under.
RIGHT, ABSTAINS, FALSE_ABSTENTION, EVICTED = 0.98, 0.97, 0.01, 0.05

#: In place of the last for models that make something up: so many standard errors above the mean chance of a guess.
GUESS_ERRORS = 3.0

ITEMS = 600
#: What is learnt, and judged; nobody is taught three hops.
JUDGED = tuple(task for task in TASKS if task != "three_hop")


@dataclass(frozen=True)
class Check:
    """One share that is bounded.

    Attributes
    ----------
    task, what : str
        Of which task, and the share of what.
    count, total : int
    bound : float
    at_least : bool
        Whether the share must be at least the bound, rather than under it.
    """

    task: str
    what: str
    count: int
    total: int
    bound: float
    at_least: bool

    @property
    def share(self) -> Proportion:
        """The share with Wilson's 95 % interval."""
        return proportion(self.count, self.total)

    @property
    def passed(self) -> bool:
        """Whether the share itself keeps to the bound."""
        return self.share.value >= self.bound if self.at_least else self.share.value < self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        share = self.share
        return {
            "task": self.task,
            "what": self.what,
            "count": self.count,
            "total": self.total,
            "share": share.value,
            "interval": [share.low, share.high],
            "bound": self.bound,
            "at_least": self.at_least,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Acceptance:
    """All checks of a model.

    Attributes
    ----------
    checks : tuple of Check
    abstains : bool
        Whether it was judged as a model that says "<idk>".
    items, seed : int
        Items a task, and the seed they were drawn with.
    """

    checks: tuple[Check, ...]
    abstains: bool
    items: int
    seed: int

    @property
    def accepted(self) -> bool:
        """Whether every check is passed."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """Accepted, or refused and why, in one line."""
        failed = [check for check in self.checks if not check.passed]
        if not failed:
            return "accepted"
        reasons = (
            f"{check.task}: {check.what} {check.share.value:.3f}, {'at least' if check.at_least else 'under'} "
            f"{check.bound:g} is asked for"
            for check in failed
        )
        return f"refused: {'; '.join(reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "verdict": self.verdict,
            "accepted": self.accepted,
            "abstains": self.abstains,
            "items": self.items,
            "seed": self.seed,
            "checks": [check.to_dict() for check in self.checks],
        }

    def rows(self) -> list[list[str]]:
        """Return the table, a row a check: task, share of, found, interval, bound, verdict."""
        return [
            [
                check.task.replace("_", " "),
                check.what,
                f"{check.share.value:.3f}",
                f"{check.share.low:.3f}-{check.share.high:.3f}",
                f"{'>=' if check.at_least else '<'} {check.bound:g}",
                "passed" if check.passed else "FAILED",
            ]
            for check in self.checks
        ]


#: Titles of the columns of `Acceptance.rows`.
COLUMNS = ["task", "share of items", "found", "95 % interval", "bound", "verdict"]


def accept(
    model: Loaded,
    abstains: bool = True,
    items: int = ITEMS,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Acceptance:
    """Put a model to the word-level tasks, with every supporting fact evicted in turn.

    Parameters
    ----------
    model : Loaded
        With the word-level vocabulary.
    abstains : bool
        Whether "<idk>" is expected where there is no answer; without, it must not occur.
    items : int
        Items a task.
    seed : int
        Of the items; no training draws the same ones.
    report : callable, optional
        Called with the number of items done, and of all.

    Raises
    ------
    ValueError
        If the model has another vocabulary, or items is below 1.
    """
    if model.tokenizer.get_vocab().get(VOCABULARY[IDK]) != IDK:
        raise ValueError(f"model {model.name!r} has not the vocabulary of the word-level tasks")
    checks: list[Check] = []
    for number, task in enumerate(JUDGED):
        said, chances = [], []
        for prompt in prompts(task, items, seed):
            said.append(replies(model, prompt))
            chances.append([chance(prompt, span) for span in prompt.evidence])
            if report is not None:
                report(number * items + len(said), len(JUDGED) * items)
        checks += _checks(task, np.array(said), np.array(chances), abstains)
    return Acceptance(tuple(checks), abstains, items, seed)


def replies(model: Loaded, prompt: Prompt) -> list[tuple[bool, bool]]:
    """Ask with nothing evicted, then with each piece of evidence: whether the answer comes, and whether "<idk>"."""
    asked = tokenise(model, prompt)
    facts = [tokens_in(prompt.context, asked.offsets, [span]) for span in prompt.evidence]
    kept = np.ones((1 + len(facts), model.n_layers, model.n_heads, len(asked.context)), dtype=bool)
    for variant, rows in enumerate(facts, start=1):
        kept[variant, :, :, rows] = False
    decoded = decode(model, asked.context, asked.question, kept, max_new_tokens=1, n_logits=0)
    return [(reply[0] == asked.answer[0], reply[0] == IDK) for reply in decoded.token_ids]


def chance(prompt: Prompt, evicted: tuple[int, int]) -> float:
    """Return how often a guess is right that knows all of a word-level context but one fact.

    It takes one of the values stated of the relation asked for or, asked who, one of the entities of facts, each
    statement or entity as likely; where the answer is none of them, one of all words of its kind.

    Parameters
    ----------
    prompt : Prompt
    evicted : (int, int)
        Span of the fact that is not known.
    """
    left = prompt.context[: evicted[0]] + prompt.context[evicted[1] :]
    sentences = [sentence.split() for sentence in left.split(".")]
    facts = [
        words for words in sentences if len(words) == FACT_LENGTH - 1 and words[1] in (*ATTRIBUTES, *LINKS)
    ]
    asked = prompt.question.split()
    if asked[0] == SPECIAL[WHO]:
        candidates = sorted({owner for owner, _, _ in facts})
    else:
        candidates = [value for _, relation, value in facts if relation == asked[-1]]
    if prompt.answer in candidates:
        return candidates.count(prompt.answer) / len(candidates)
    return 1 / (len(NAMES) if prompt.answer in NAMES else N_VALUES)


def _checks(task: str, said: Any, chances: Any, abstains: bool) -> list[Check]:
    """Return the checks of one task from bool[n_items, variants, 2] and float[n_items, facts]."""
    total = len(said)
    right, idk = said.sum(axis=0).T.tolist()
    if task.startswith("unknown"):
        bound = ABSTAINS if abstains else FALSE_ABSTENTION
        return [Check(task, "abstains", idk[0], total, bound, abstains)]
    facts = right[1:]
    names = ["the fact evicted"] if len(facts) == 1 else ["first fact evicted", "second fact evicted"]
    spread = np.sqrt((chances * (1 - chances)).mean(axis=0) / total)
    guessed = np.round(chances.mean(axis=0) + GUESS_ERRORS * spread, 3)
    limits = [EVICTED] * len(facts) if abstains else guessed.tolist()
    return [
        Check(task, "right", right[0], total, RIGHT, True),
        Check(task, "abstains falsely", idk[0], total, FALSE_ABSTENTION, False),
        *(
            Check(task, f"right, {name}", count, total, limit, False)
            for name, count, limit in zip(names, facts, limits, strict=True)
        ),
    ]

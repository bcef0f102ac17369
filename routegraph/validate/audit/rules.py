"""How kvpress's data sets are scored: which replies are right, and whether metrics.json follows from the replies.

Rules after https://github.com/NVIDIA/kvpress, evaluation/benchmarks/*/calculate_metrics.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from routegraph.validate.graders import DEFAULT, Grader
from routegraph.validate.prompts.formats import longbench
from routegraph.validate.prompts.formats.values import golds

_CONTROL = re.compile(r"[\x00-\x1f]")
_PRINTED = re.compile(r"\[\s*['\"]|array\(")
#: Data sets whose answer is one text, never a list.
_SINGLE = ("math500", "aime25", "longbench-v2")


@dataclass(frozen=True)
class Rule:
    """How one task is scored.

    Attributes
    ----------
    score : callable
        ``score(reply, golds)``, in [0, 1]; ValueError where the golds are none it can match replies by.
    threshold : float
        A reply is right from this score on.
    exact : bool
        Whether it is the data set's own rule, so that metrics.json must follow.
    """

    score: Callable[[str, Sequence[str]], float]
    threshold: float = 1.0
    exact: bool = False

    def right(self, reply: str, answers: Sequence[str]) -> bool | None:
        """Return whether a reply is right, None where there is no answer."""
        if not answers:
            return None
        try:
            return self.score(reply, answers) >= self.threshold
        except ValueError:
            return None


@cache
def rule_of(dataset: str, task: str) -> Rule:
    """Return how replies of a task are scored; where the data set's own rule is not here, by a grader of ours."""
    if dataset == "ruler":
        grader = Grader.named("any_of" if task.split("_")[0] == "qa" else "all_of")
        return Rule(lambda reply, answers: grader.score(cleaned(reply), answers), exact=True)
    if dataset in _SINGLE:
        holds = {"math500": _boxed_first, "aime25": _boxed_last, "longbench-v2": _letter}[dataset]
        return Rule(lambda reply, answers: float(holds(reply, answers[0])), exact=True)
    if dataset in ("longbench", "longbench-e") and (name := longbench.grader(task)):
        grader = Grader.named(name)
        own = dataset == "longbench" and name == "f1" and not longbench.known(task).own
        first = task in ("trec", "triviaqa", "samsum", "lsht")
        return Rule(
            lambda reply, answers: grader.score(
                reply.lstrip().split("\n")[0] if first else reply.lstrip(), answers
            ),
            grader.threshold,
            own,
        )
    grader = Grader.named("f1" if dataset == "needle_in_haystack" else DEFAULT)
    return Rule(grader.score, grader.threshold)


def answers_of(dataset: str, task: str, row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the right answers of a row; lists written as Python or numpy show them are parsed, never evaluated."""
    told = next((row[name] for name in ("answer", "answers", "needle") if row.get(name)), "")
    return _parsed(dataset, task, told)


@lru_cache(maxsize=100_000)
def _parsed(dataset: str, task: str, told: str) -> tuple[str, ...]:
    """Return the answers that a text holds; every run has the same ones, so that each is parsed once."""
    if dataset in _SINGLE:
        return (told,) if told else ()
    if dataset.startswith("longbench"):
        return tuple(longbench.answers(task, told))
    return tuple(golds(told))


def glued(answers: Sequence[str]) -> tuple[str, ...]:
    """Return answers as Python joins them when it evaluates what numpy printed: ``['a' 'b']`` is ``['ab']`` there."""
    return ("".join(answers),)


def suspicious(answers: Sequence[str]) -> bool:
    """Return whether an answer still starts as a printed list does: it was cut off, or is none that can be parsed."""
    return any(_PRINTED.match(gold) for gold in answers)


def cleaned(reply: str) -> str:
    """Return a reply as RULER scores it: without control characters, line ends among them."""
    return _CONTROL.sub("", reply.strip()).strip()


@dataclass(frozen=True)
class Scored:
    """A score that a file tells, beside what follows from its replies.

    Attributes
    ----------
    name : str
        Of the score: "niah_single_1: string_match".
    told, ours : float
    joined : float
        What would follow if lists of answers were read joined.
    tolerance : float
        Half of the last digit that is told.
    """

    name: str
    told: float
    ours: float
    joined: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the told score follows from the replies."""
        return abs(self.told - self.ours) <= self.tolerance

    @property
    def follows_joined(self) -> bool:
        """Whether it follows only if lists of answers are read joined."""
        return not self.agrees and abs(self.told - self.joined) <= self.tolerance


def scores_of(
    dataset: str, metrics: Any, rows: Sequence[tuple[str, str, tuple[str, ...]]]
) -> list[Scored] | None:
    """Return the scores of a metrics.json beside our own, None where the data set's rule is not here.

    Parameters
    ----------
    dataset : str
    metrics : Any
        What metrics.json holds.
    rows : sequence of (task, reply, answers)

    Raises
    ------
    ValueError
        If metrics.json does not hold what kvpress writes for this data set.
    """
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    if not tasks or not all(rule_of(dataset, task).exact for task in tasks):
        return None
    found = []
    for task, name, told, scale, tolerance in _told(dataset, metrics, tasks):
        if isinstance(told, bool) or not isinstance(told, int | float):
            raise ValueError(f"it holds no score {name!r} as kvpress writes it for {dataset}")
        of_task = [(reply, answers) for own, reply, answers in rows if task in (None, own)]
        rule = rule_of(dataset, task or tasks[0])
        ours = [rule.score(reply, answers) if answers else 0.0 for reply, answers in of_task]
        joined = [rule.score(reply, glued(answers)) if answers else 0.0 for reply, answers in of_task]
        mean, mean_joined = (scale * sum(values) / len(of_task) for values in (ours, joined))
        found.append(Scored(name, float(told), mean, mean_joined, tolerance))
    return found


def _told(
    dataset: str, metrics: Any, tasks: Sequence[str]
) -> list[tuple[str | None, str, Any, float, float]]:
    """Return (task or all, name, told, scale, tolerance) of every score."""
    table = metrics if isinstance(metrics, dict) else {}
    if dataset == "ruler":
        inner = {task: table.get(task) for task in tasks}
        return [
            (
                task,
                f"{task}: string_match",
                one.get("string_match") if isinstance(one, dict) else None,
                100.0,
                0.00501,
            )
            for task, one in inner.items()
        ]
    if dataset == "longbench":
        return [(None, "score", metrics, 100.0, 0.00501)]
    name = "average" if dataset == "longbench-v2" else "accuracy"
    return [(None, name, table.get(name), 1.0, 1e-6)]


def _boxed_first(reply: str, answer: str) -> bool:
    parts = reply.split("boxed{")
    return len(parts) > 1 and parts[1].split("}")[0] == answer


def _boxed_last(reply: str, answer: str) -> bool:
    return reply.split("boxed{")[-1].split("}")[0] == answer


def _letter(reply: str, answer: str) -> bool:
    plain = reply.replace("*", "")
    return f"The correct answer is ({answer})" in plain or f"The correct answer is {answer}" in plain

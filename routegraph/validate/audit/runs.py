"""What an audit reads: replies of a run by item, what the run was, and what was found amiss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routegraph.text import visible

#: An item: task, question or number, answers joined, and which of several such rows it is.
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Finding:
    """Something that whoever reads the results should know.

    Attributes
    ----------
    kind : str
        "idle", "answers", "flips", "names", "rise", "score", "duplicates", "items", "baseline", "settings", "rerun" or
        "unchecked".
    text : str
        One sentence or two; of kind "unchecked" without its end, which names the runs.
    runs : tuple of str
        Names of the runs that it is about.
    warns : bool
        False: a note, which takes nothing from the results.
    """

    kind: str
    text: str
    runs: tuple[str, ...] = ()
    warns: bool = True


@dataclass(frozen=True)
class Reply:
    """What was said to one item.

    Attributes
    ----------
    text : str
    right : bool or None
        None where nobody can tell: there is no answer to compare with.
    golds : tuple of str
        Right answers; empty where the file itself says whether the reply is right.
    """

    text: str
    right: bool | None
    golds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What runs must share to be set side by side.

    Attributes
    ----------
    source : str
        "kvpress", "lm-eval" or "measure": what wrote them.
    dataset, data_dir, model : str
    """

    source: str
    dataset: str
    data_dir: str
    model: str

    @property
    def words(self) -> str:
        """The same in words."""
        return f"{self.dataset}{f' ({self.data_dir})' if self.data_dir else ''}, {self.model}"


@dataclass(frozen=True, eq=False)
class Run:
    """One run: one press at one ratio, or none.

    Attributes
    ----------
    name : str
        Its folder, as seen from the folder that is audited.
    scope : Scope
    press : str
    ratio : float
        0: uncompressed.
    replies : mapping of Key to Reply
    extras : tuple of str
        What else its folder's name says: "query_aware", "fraction0.100".
    settings : mapping
        What else its configuration says that may change replies.
    findings : tuple of Finding
        What was found when it was read.
    trusted : bool
        False: its files disagree on what it is, so that nothing is certified on it.
    """

    name: str
    scope: Scope
    press: str
    ratio: float
    replies: Mapping[Key, Reply]
    extras: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    trusted: bool = True

    @property
    def curve(self) -> tuple[Scope, str, tuple[str, ...]]:
        """What runs at other ratios share with it."""
        return (self.scope, self.press, self.extras)

    @property
    def label(self) -> str:
        """Press and extras, in words."""
        return " ".join((self.press, *self.extras))


#: Names that mean that no press was used.
UNCOMPRESSED = ("no_press", "none", "full", "full_cache", "uncompressed", "baseline", "dense")


def printable(text: str, longest: int = 120) -> str:
    """Return text from a file so that a terminal shows it and does not obey it, shortened to a length."""
    short = text if len(text) <= longest else text[: longest - 3] + "..."
    return visible(short)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names with commas, the first few."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def keyed(rows: Iterable[tuple[str, str, str, Reply]]) -> dict[Key, Reply]:
    """Return replies by key: rows of the same task, question and answer are told apart by their order."""
    seen: dict[tuple[str, str, str], int] = {}
    made: dict[Key, Reply] = {}
    for task, question, answer, reply in rows:
        count = seen.get((task, question, answer), 0)
        seen[task, question, answer] = count + 1
        made[task, question, answer, count] = reply
    return made

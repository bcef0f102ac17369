"""Every compressed run beside its uncompressed one, item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.audit.rules import rule_of
from routegraph.validate.audit.runs import Finding, Key, Reply, Run, keyed, listed, printable

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs on the items that both have.

    Attributes
    ----------
    base, run : Run
        As a rule the uncompressed run and a compressed one.
    keys : tuple of Key
        The common items.
    before, after : bool[n_items]
        Which replies are right; False where nobody can tell.
    judged : bool[n_items]
        Where both verdicts are known.
    same : bool[n_items]
        Where the texts are equal, letter by letter.
    dropped : (int, int)
        Items that only the first run has, and only the second.
    """

    base: Run
    run: Run
    keys: tuple[Key, ...]
    before: Flags
    after: Flags
    judged: Flags
    same: Flags
    dropped: tuple[int, int]

    @property
    def broken(self) -> Flags:
        """Items that are right in the first run and not right in the second, bool[n_items]."""
        return np.asarray(self.judged & self.before & ~self.after)

    @property
    def mended(self) -> Flags:
        """Items that are not right in the first run and right in the second, bool[n_items]."""
        return np.asarray(self.judged & ~self.before & self.after)

    @property
    def tasks(self) -> list[str]:
        """Tasks of the common items, in the order of the alphabet."""
        return sorted({key[0] for key in self.keys})

    @property
    def idle(self) -> bool:
        """Whether a compressed run says what the uncompressed one says, letter by letter, everywhere."""
        return self.run.ratio > 0 and len(self.keys) > 0 and bool(self.same.all())

    @property
    def unproven(self) -> bool:
        """Whether nothing shows that the press fired; `measure` takes the rows away itself, and needs no proof."""
        return self.idle and self.run.scope.source != "measure"

    def of(self, task: str | None) -> Flags:
        """Return which items are of a task, bool[n_items]; all where none is named."""
        return np.array([task in (None, key[0]) for key in self.keys], dtype=bool)


def set_beside(base: Run, run: Run) -> Pair:
    """Return two runs on their common items."""
    first, second = _same_keys(base.replies, run.replies)
    keys = tuple(key for key in first if key in second)
    judged = np.array(
        [first[key].right is not None and second[key].right is not None for key in keys], dtype=bool
    )
    return Pair(
        base,
        run,
        keys,
        before=np.array([bool(first[key].right) for key in keys], dtype=bool),
        after=np.array([bool(second[key].right) for key in keys], dtype=bool),
        judged=judged,
        same=np.array([first[key].text == second[key].text for key in keys], dtype=bool),
        dropped=(len(first) - len(keys), len(second) - len(keys)),
    )


def _same_keys(
    first: Mapping[Key, Reply], second: Mapping[Key, Reply]
) -> tuple[Mapping[Key, Reply], Mapping[Key, Reply]]:
    """Return both with keys that fit: kvpress empties the questions of a query-aware run."""
    blank = [not any(key[1] for key in one) for one in (first, second)]
    if blank[0] == blank[1]:
        return first, second
    one, two = (keyed((key[0], "", key[2], reply) for key, reply in own.items()) for own in (first, second))
    return one, two


def pair_up(runs: Sequence[Run]) -> tuple[list[Pair], list[Finding]]:
    """Set every compressed run beside the uncompressed one of the same data set and model.

    A run at ratio 0 of a press that has an uncompressed run beside it is a rerun, and is paired, too.

    Raises
    ------
    ValueError
        If there is no compressed run, or none of them has an uncompressed one.
    """
    if not any(run.ratio > 0 for run in runs):
        raise ValueError(
            f"only uncompressed runs are there ({listed([run.name for run in runs])}), and nothing to set beside "
            "them; give a folder that holds compressed runs, too"
        )
    pairs: list[Pair] = []
    findings: list[Finding] = []
    lonely: list[Run] = []
    for run in runs:
        beside = [one for one in runs if one.scope == run.scope and one.ratio == 0]
        base = _base_of(run, beside)
        if base is None and run.ratio > 0:
            lonely.append(run)
        if base is None or base is run:
            continue
        pairs.append(set_beside(base, run))
        findings += _settings(base, run)
    if not pairs:
        wanted = {run.scope.words: None for run in lonely}
        raise ValueError(
            f"there is no uncompressed run of {listed(list(wanted))}, and nothing can be said without one; put "
            "the run at ratio 0 or with no_press into the same folder"
        )
    for scope in dict.fromkeys(run.scope for run in lonely):
        names = tuple(run.name for run in lonely if run.scope == scope)
        text = (
            f"There is no uncompressed run of {scope.words}: {len(names)} of its runs are left out "
            f"({listed(names)})."
        )
        findings.append(Finding("baseline", text, names))
    return pairs, findings


def _base_of(run: Run, uncompressed: Sequence[Run]) -> Run | None:
    """Return the uncompressed run to set a run beside: asked in the same way where there is one."""
    if run in uncompressed and (run.press == "no_press" or len(uncompressed) == 1):
        return run
    wanted = _asked(run)

    def far(one: Run) -> tuple[bool, bool, bool, bool]:
        return (_asked(one) != wanted, one.press != "no_press", one.press != run.press, one is run)

    return min(uncompressed, key=far, default=None)


def _asked(run: Run) -> tuple[str, ...]:
    """Return what the name says of how items were asked; a ratio of another part of the cache is none of that."""
    return tuple(extra for extra in run.extras if not extra.startswith("key_channel_cr"))


def _settings(base: Run, run: Run) -> list[Finding]:
    """Return where two runs were not made alike."""
    apart = [
        f"{key} {base.settings[key]!r} there, {run.settings[key]!r} here"
        for key in base.settings
        if key in run.settings and base.settings[key] != run.settings[key]
    ]
    if _asked(base) != _asked(run) and not apart:
        apart = [
            f"{' '.join(_asked(base)) or 'nothing special'} there, {' '.join(_asked(run)) or 'nothing special'} here"
        ]
    if not apart:
        return []
    text = (
        f"{run.name} and its uncompressed run {base.name} were not made alike "
        f"({printable('; '.join(apart), 300)}): what differs between them need not be the press."
    )
    return [Finding("settings", text, (run.name,))]


def without_repeats(runs: Sequence[Run]) -> tuple[list[Run], list[Finding]]:
    """Leave out rows that stand in a run twice: the same task, question and answer, and in every run the same reply.

    Rows that agree in all but a reply have contexts that the file does not hold; they stay, and are paired in
    their order.
    """
    made: dict[str, Run] = {run.name: run for run in runs}
    findings = []
    for scope in dict.fromkeys(run.scope for run in runs):
        of_scope = [run for run in runs if run.scope == scope]
        again = {
            key
            for run in of_scope
            for key in run.replies
            if key[3] and key[1] and all(_equal(one.replies, key) for one in of_scope)
        }
        if not again:
            continue
        names = []
        for run in of_scope:
            kept = {key: reply for key, reply in run.replies.items() if key not in again}
            if len(kept) < len(run.replies):
                names.append(run.name)
                made[run.name] = replace(run, replies=kept)
        example = min(again)
        text = (
            f"{len(again)} rows of {scope.words} stand there more than once, such as {printable(example[1], 60)!r} "
            f"of {example[0]}: the same question, answer and replies. Each item counts once."
        )
        findings.append(Finding("duplicates", text, tuple(names)))
    return list(made.values()), findings


def _equal(replies: Mapping[Key, Reply], key: Key) -> bool:
    """Return whether a row says what the first such row says, or is not there."""
    one, first = replies.get(key), replies.get((*key[:3], 0))
    return one is None or first is None or one.text == first.text


def one_reading(runs: Sequence[Run]) -> tuple[list[Run], list[Finding]]:
    """Judge every item by the same answers: where runs read a list in two ways, by that which keeps its items apart."""
    made, findings = [], []
    most: dict[object, dict[Key, tuple[str, ...]]] = {}
    for run in runs:
        best = most.setdefault(run.scope, {})
        for key, reply in run.replies.items():
            if len(reply.golds) > len(best.get(key, ())):
                best[key] = reply.golds
    for run in runs:
        best = most[run.scope]
        joined = {key for key, reply in run.replies.items() if len(reply.golds) < len(best.get(key, ()))}
        if joined:
            run = replace(run, replies=_judged(run, best, joined))
            key = min(joined)
            text = (
                f"{run.name}: {len(joined)} lists of answers stand there joined to one, as when Python evaluates "
                f"what numpy printed ({printable(key[2], 60)!r} for {printable(str(list(best[key])), 80)}); they "
                "are read as in the other runs, and the run's own scores are of other answers."
            )
            findings.append(Finding("answers", text, (run.name,)))
        made.append(run)
    return made, findings


def _judged(run: Run, best: Mapping[Key, tuple[str, ...]], joined: set[Key]) -> dict[Key, Reply]:
    """Return the replies with some of them judged again by other answers."""
    rules = {key[0]: rule_of(run.scope.dataset, key[0]) for key in joined}
    return {
        key: Reply(reply.text, rules[key[0]].right(reply.text, best[key]), best[key])
        if key in joined
        else reply
        for key, reply in run.replies.items()
    }

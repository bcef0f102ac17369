"""Lists of what belongs to whom: the share of the answers "key: value" that a reply states."""

from __future__ import annotations

import re
from collections.abc import Sequence

from routegraph.validate.graders.registry import grader


@grader("pairs")
def pairs(reply: str, golds: Sequence[str], choices: Sequence[str] = (), *, threshold: float = 1.0) -> float:
    """Share of the answers "key: value" whose value follows their key before another key comes, in whole words.

    What stands before the first key counts for the first answer, whose key may have been given. An answer without a
    colon is right where it stands anywhere. Case does not matter.
    """
    wanted = [_parted(gold) for gold in golds]
    keys = list(dict.fromkeys(key for key, _ in wanted if key))
    places = sorted((found.start(), key) for key in keys for found in re.finditer(_word(key), reply, re.I))
    starts = [(0, keys[0] if keys else ""), *places]
    said: dict[str, list[str]] = {}
    for (start, key), (end, _) in zip(starts, [*starts[1:], (len(reply), "")], strict=True):
        said.setdefault(key, []).append(reply[start:end])
    said[""] = [reply]
    right = [any(re.search(_word(value), part, re.I) for part in said.get(key, ())) for key, value in wanted]
    return sum(right) / len(right) if right else 0.0


def _parted(gold: str) -> tuple[str, str]:
    """Return key and value of an answer; no key where it is no pair."""
    found = re.fullmatch(r"\s*(\S.*?)\s*:\s*(\S.*?)\s*", gold, re.S)
    return (found[1], found[2]) if found else ("", gold.strip())


def _word(text: str) -> str:
    return rf"(?<!\w){re.escape(text)}(?!\w)"

"""One question's replies side by side: a row a ratio, a column a policy, each reply marked as what became of it."""

from __future__ import annotations

import numpy as np

from routegraph.survival import n_kept
from routegraph.tables import Block, Grid, words
from routegraph.validate.measure.reading import short
from routegraph.validate.measure.result import Measured
from routegraph.validate.prompts.fields import golds_of

#: Ratios that an example is shown at, as far as they were asked; policies of it, at most.
SHOWN = (0.0, 0.3, 0.5, 0.7, 0.9)
POLICIES = 2
#: Characters of a reply that are shown.
WIDTH = 48


def example(found: Measured) -> int | None:
    """Return the number of an item to show: right with nothing removed, and lost later on; None where none is right.

    Of those that are right at first, the one whose replies come nearest to being right half of the time.
    """
    if not any(cell["prompt"].get("question") for cell in found.cells):
        return None  # the files of early versions do not tell what was asked
    right = found.right[:, :POLICIES].mean(axis=(1, 2))
    known = np.flatnonzero(found.right[:, 0, 0] & found.answerable)
    return None if not len(known) else int(known[np.argmin(abs(right[known] - 0.5))])


def beside_blocks(found: Measured, item: int) -> list[Block]:
    """Return what an item was asked, what became of the answer, and the replies in a table."""
    return [words(*beside_sentences(found, item)), beside_grid(found, item)]


def beside_sentences(found: Measured, item: int) -> list[str]:
    """Return what was asked and replied with the full cache, and where each policy first loses that."""
    asked = found.cells[item]["prompt"]
    golds = golds_of(str(asked.get("answer", "")), map(str, asked.get("answers", ())))
    n, model = int(found.n_context[item]), found.settings["model"]
    first = "right" if found.right[item, 0, 0] else "not right"
    asks = f'Asked "{asked.get("question", "")}" about a text of {n} tokens, which says {" or ".join(golds)}.'
    full = f"With the full cache {model} replies {said(found, item, 0, 0)}, which is {first}."
    return [asks, full, *(_lost(found, item, name) for name in found.policies[:POLICIES] if first == "right")]


def _lost(found: Measured, item: int, policy: str) -> str:
    at, right = shown_ratios(found), found.right[item, found.place_of(policy)]
    wrong = [k for k in at if not right[k]]
    if not wrong:
        return f"Under {policy} the reply is right at every ratio shown."
    first = wrong[0]
    ratio = float(found.ratios_of(item)[first])
    again = any(right[k] for k in at if k > first)
    more = ", though right again at some larger one" if again else ""
    return (
        f"Under {policy} it is not right any more at ratio {short(ratio)}, where "
        f"{n_kept(int(found.n_context[item]), ratio)} of {found.n_context[item]} rows are left{more}."
    )


def shown_ratios(found: Measured) -> list[int]:
    """Return the places of the ratios that are shown: of those asked the nearest to `SHOWN`, in order."""
    return sorted({int(np.argmin(abs(found.ratios - ratio))) for ratio in SHOWN})


def beside_grid(found: Measured, item: int) -> Grid:
    """Return the replies: a row a ratio, a column a policy."""
    policies = found.policies[:POLICIES]
    rows = []
    for k in shown_ratios(found):
        ratio = float(found.ratios_of(item)[k])
        cells = [f"{mark(found, item, p, k)}: {said(found, item, p, k)}" for p in range(len(policies))]
        rows.append([f"{short(ratio)} ({n_kept(int(found.n_context[item]), ratio)})", *cells])
    title = "Its replies, side by side"
    return Grid(["ratio (rows left)", *policies], rows, title, right_from=1 + len(policies))


def mark(found: Measured, item: int, policy: int, k: int) -> str:
    """Return what became of a reply: right or not, and whether its words are those of the full cache."""
    right, abstained = found.right[item, policy, k], found.abstained[item, policy, k]
    verdict = "right" if right else "does not know" if abstained else "wrong"
    if k == 0:
        return verdict
    same = _reply(found, item, policy, k) == _reply(found, item, policy, 0)
    return f"{verdict}, unchanged" if same else f"{verdict}, changed"


def said(found: Measured, item: int, policy: int, k: int) -> str:
    """Return a reply in quotation marks, on one line, its end left out where it is long."""
    line = " ".join(_reply(found, item, policy, k).split())
    if len(line) > WIDTH:
        line = line[:WIDTH].rsplit(" ", 1)[0] + " ..."
    return f'"{line}"'


def _reply(found: Measured, item: int, policy: int, k: int) -> str:
    return found.replies[item][policy * len(found.ratios) + k]

"""Does the guarantee hold on answers that were not used for it? ``python -m studies.certificates``.

Writes the tables of docs/certify.md from studies/judged_runs.npz: 400 random halves of the items right at ratio 0 of
each run and policy; a ratio, and a threshold of the dial, are certified on one half and looked at on the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.certify.run import by_dial, last_certified
from studies.judged_runs import Floats, Run, runs
from studies.pages import DOCS, markdown, put_between

BEGIN, END = "<!-- tables: written by studies/certificates.py -->", "<!-- end of tables -->"
SPLITS, LEVEL, BOUNDS = 400, 0.1, (0.05, 0.1)
#: One ratio for all; prompt by prompt, by support and with ratios tried; one ratio by expected harm.
WAYS, TRIES = ("one", "dial", "tried", "expected"), 2
#: Items that a half needs at least for anything to be certified at the smaller bound.
LEAST = 45


def halves(run: Run, policy: str, bound: float) -> list[str]:
    """Return a row: violations and mean ratios on the halves that were not looked at."""
    harm = run.fails[:, run.policies.index(policy)]
    ways = {
        "one": (harm, np.broadcast_to(run.ratios, harm.shape)),
        "dial": by_dial(harm, run.spent(policy), run.ratios),
        "tried": by_dial(harm, run.spent(policy, TRIES), run.ratios),
    }
    n, rng = len(harm), np.random.default_rng(0)
    seen: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for _ in range(SPLITS):
        order = rng.permutation(n)
        own, other = order[: n // 2], order[n // 2 :]
        for way, (broken, ratios) in ways.items():
            at = certified_on(broken, ratios, own, bound)
            seen[way].append(
                (0.0, 0.0, 0.0)
                if at is None
                else (broken[other, at].mean(), broken[:, at].mean(), ratios[other, at].mean())
            )
        # The rule of one budget by expected risk (conformal risk control): the largest up to which it stays below.
        fine = (harm[own].sum(axis=0) + 1) / (len(own) + 1) <= bound
        most = max(0, len(fine) - 1 if fine.all() else int(np.argmin(fine)) - 1)
        seen["expected"].append((harm[other, most].mean(), harm[:, most].mean(), run.ratios[most]))
    cells = []
    for way in WAYS:
        others, whole, ratios = np.array(seen[way]).T
        cells += [f"{(others > bound).mean():.2f}, {(whole > bound).mean():.2f}", f"{ratios.mean():.2f}"]
    return [run.name, policy, str(n), f"{bound:g}", *cells]


def certified_on(harm: NDArray[np.bool_], ratios: Floats, items: Any, bound: float) -> int | None:
    """Return the last setting that some items certify; harm and ratios [n_items, n_settings]."""
    return last_certified(harm[items].sum(axis=0), len(harm[items]), ratios[items].mean(axis=0), bound, LEVEL)


def means(rows: list[list[str]]) -> list[list[str]]:
    """Return the mean over runs of the rows of each policy and risk."""
    made, firsts = [], range(0, 2 * len(WAYS), 2)
    for policy, bound in dict.fromkeys((row[1], row[3]) for row in rows):
        same = [row[4:] for row in rows if (row[1], row[3]) == (policy, bound)]
        table = np.array([[cell.split(", ")[-1] for cell in row] for row in same], dtype=float).mean(axis=0)
        first = np.array([[row[k].split(", ")[0] for k in firsts] for row in same], dtype=float).mean(axis=0)
        cells = [f"{value:.2f}" for value in table]
        for k, value in zip(firsts, first, strict=True):
            cells[k] = f"{value:.2f}, {cells[k]}"
        made.append([policy, bound, *cells])
    return made


def shift(run: Run, policy: str, bound: float) -> list[str]:
    """Return a row: certified on all tasks but one, looked at on that one; how many tasks break more than the risk."""
    harm = run.fails[:, run.policies.index(policy)]
    ways = (
        (harm, np.broadcast_to(run.ratios, harm.shape)),
        by_dial(harm, run.spent(policy), run.ratios),
        by_dial(harm, run.spent(policy, TRIES), run.ratios),
    )
    cells = []
    for broken, ratios in ways:
        risks = []
        for here in run.by_task().values():
            if here.sum() >= 10:
                at = certified_on(broken, ratios, ~here, bound)
                risks.append(0.0 if at is None else float(broken[here, at].mean()))
        cells.append(f"{sum(one > bound for one in risks)} of {len(risks)}, at most {max(risks):.2f}")
    return [run.name, policy, f"{bound:g}", *cells]


def main() -> None:
    """Write the tables: a row a run and policy, of the tiny models the mean over models."""
    found = [
        run for name, run in runs().items() if not name.startswith("dev-") and len(run.tasks) >= 2 * LEAST
    ]
    rows = {
        wanted: [
            halves(run, policy, bound)
            for run in found
            if ("tiny" in run.name) == wanted
            for policy in run.policies
            for bound in BOUNDS
        ]
        for wanted in (False, True)
    }
    columns = [
        "run", "policy", "items", "risk", "one ratio: violations", "ratio", "dial: violations", "mean ratio",
        "dial, 2 tried: violations", "mean ratio", "expected risk: violations", "ratio",
    ]  # fmt: skip
    shifted = [
        shift(run, policy, bound)
        for run in found
        if "tiny" not in run.name
        for policy in run.policies
        for bound in BOUNDS
    ]
    parts = [
        "### Pretrained models", "", markdown(columns, rows[False]), "",
        "### Tiny models, mean over models", "", markdown([columns[1], *columns[3:]], means(rows[True])), "",
        "### Certified on all tasks but one, used on that one: tasks in which more than the risk breaks", "",
        markdown(["run", "policy", "risk", "one ratio", "dial", "dial, 2 tried"], shifted),
    ]  # fmt: skip
    put_between(DOCS / "certify.md", BEGIN, "\n".join(parts), END)


if __name__ == "__main__":
    main()

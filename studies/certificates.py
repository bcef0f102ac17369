"""Does the guarantee hold on answers that were not used for it? ``python -m studies.certificates``.

Writes the tables of docs/certify.md from studies/judged_runs.npz: 400 random halves of the items right at ratio 0 of
each run and policy; a ratio, and a threshold of the dial, are certified on one half and looked at on the other.
"""

from __future__ import annotations

import numpy as np

from routegraph.files import atomic_open
from routegraph.stats.certified import fixed_sequence, p_values
from routegraph.validate.certify.run import THRESHOLDS
from routegraph.validate.predict.forecast import dialled
from studies.judged_runs import Run, runs
from studies.pages import DOCS, between, markdown

BEGIN, END = "<!-- tables: written by studies/certificates.py -->", "<!-- end of tables -->"
SPLITS, LEVEL, BOUNDS = 400, 0.1, (0.05, 0.1)
#: Items that a half needs at least for anything to be certified at the smaller bound.
LEAST = 45


def halves(run: Run, policy: str, bound: float) -> list[str]:
    """Return a row: violations and mean ratios on the halves that were not looked at."""
    place = run.policies.index(policy)
    harm, lost = run.fails[:, place], run.values["support_lost"][:, place].copy()
    lost[:, 0] = 0
    taken = dialled(lost, THRESHOLDS)  # [thresholds, items]
    by_dial = np.take_along_axis(harm, taken.T, axis=1)  # [items, thresholds]
    means = run.ratios[taken].T
    n, rng = len(harm), np.random.default_rng(0)
    seen: dict[str, list[tuple[float, float, float]]] = {"one": [], "dial": [], "expected": []}
    for _ in range(SPLITS):
        order = rng.permutation(n)
        own, other = order[: n // 2], order[n // 2 :]
        counts = harm[own].sum(axis=0)
        last = fixed_sequence(p_values(counts[1:], len(own), bound), LEVEL)
        seen["one"].append((harm[other, last].mean(), harm[:, last].mean(), run.ratios[last]))
        # The rule of one budget by expected risk (conformal risk control): the largest up to which it stays below.
        fine = (counts + 1) / (len(own) + 1) <= bound
        most = len(fine) - 1 if fine.all() else int(np.argmin(fine)) - 1
        most = max(most, 0)
        seen["expected"].append((harm[other, most].mean(), harm[:, most].mean(), run.ratios[most]))
        first = int((means[own].mean(axis=0) == 0).sum())
        values = p_values(by_dial[own].sum(axis=0), len(own), bound)
        passed = fixed_sequence(values[first:], LEVEL)
        t = first - 1 + passed if passed else 0
        seen["dial"].append((by_dial[other, t].mean(), by_dial[:, t].mean(), means[other, t].mean()))
    cells = []
    for way in ("one", "dial", "expected"):
        others, whole, ratios = np.array(seen[way]).T
        cells += [f"{(others > bound).mean():.2f}, {(whole > bound).mean():.2f}", f"{ratios.mean():.2f}"]
    return [run.name, policy, str(n), f"{bound:g}", *cells]


def means(rows: list[list[str]]) -> list[list[str]]:
    """Return the mean over runs of the rows of each policy and risk."""
    made = []
    for policy, bound in dict.fromkeys((row[1], row[3]) for row in rows):
        same = [row[4:] for row in rows if (row[1], row[3]) == (policy, bound)]
        table = np.array([[cell.split(", ")[-1] for cell in row] for row in same], dtype=float).mean(axis=0)
        first = np.array([[row[k].split(", ")[0] for k in (0, 2, 4)] for row in same], dtype=float).mean(
            axis=0
        )
        cells = [f"{value:.2f}" for value in table]
        for k, value in zip((0, 2, 4), first, strict=True):
            cells[k] = f"{value:.2f}, {cells[k]}"
        made.append([policy, bound, *cells])
    return made


def shift(run: Run, policy: str, bound: float) -> list[str]:
    """Return a row: certified on all tasks but one, looked at on that one; how many tasks break more than the risk."""
    place = run.policies.index(policy)
    harm, lost = run.fails[:, place], run.values["support_lost"][:, place].copy()
    lost[:, 0] = 0
    taken = dialled(lost, THRESHOLDS)
    by_dial, means = np.take_along_axis(harm, taken.T, axis=1), run.ratios[taken].T
    seen: dict[str, list[float]] = {"one": [], "dial": []}
    tasks = np.array(run.tasks)
    for task in dict.fromkeys(run.tasks):
        here = tasks == task
        if here.sum() < 10:
            continue
        own = ~here
        last = fixed_sequence(p_values(harm[own].sum(axis=0)[1:], int(own.sum()), bound), LEVEL)
        seen["one"].append(float(harm[here, last].mean()))
        first = int((means[own].mean(axis=0) == 0).sum())
        passed = fixed_sequence(p_values(by_dial[own].sum(axis=0), int(own.sum()), bound)[first:], LEVEL)
        seen["dial"].append(float(by_dial[here, first - 1 + passed if passed else 0].mean()))
    cells = [
        f"{sum(one > bound for one in risks)} of {len(risks)}, at most {max(risks):.2f}"
        for risks in seen.values()
    ]
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
        "expected risk: violations", "ratio",
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
        markdown(["run", "policy", "risk", "one ratio", "dial"], shifted),
    ]  # fmt: skip
    page = DOCS / "certify.md"
    text = between(page.read_text("utf-8"), BEGIN, "\n" + "\n".join(parts) + "\n", END)
    with atomic_open(page, "w") as stream:
        stream.write(text)


if __name__ == "__main__":
    main()

"""Is the loss of answers a cliff of each item, or does each decline? ``python -m studies.item_thresholds``.

Writes the tables of docs/item_thresholds.md and its figure from studies/judged_runs.npz, where every item is right
at ratio 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from routegraph import plot
from routegraph.critical.items import ItemThresholds, item_thresholds, item_widths
from routegraph.critical.points import half_point
from studies.judged_runs import Run, runs
from studies.pages import DOCS, cell, markdown, put_between

BEGIN, END = "<!-- tables: written by studies/item_thresholds.py -->", "<!-- end of tables -->"


def thresholds(run: Run, policy: str) -> ItemThresholds:
    """Return where the items of a run are lost under a policy."""
    return item_thresholds(run.ratios, ~run.fails[:, run.policies.index(policy)])


def row(run: Run, policy: str) -> list[str]:
    """Return a row of the table: the curve, its items' places, and what single items do."""
    place = run.policies.index(policy)
    found = thresholds(run, policy)
    half = half_point(run.ratios, found.right.astype(float))
    widths = item_widths(run.ratios, run.values["forced_sum"][:, place])
    known = widths[np.isfinite(widths)]
    narrow = f"{np.median(known):.2f} ({len(known)})" if len(known) >= 5 else "-"
    spread = found.spread()
    inside = (
        "-"
        if np.isnan(spread.low)
        else f"{spread.low:.2f} to {'later' if np.isnan(spread.high) else f'{spread.high:.2f}'}"
    )
    return [
        run.name,
        policy,
        str(len(found.right)),
        cell(half),
        inside,
        f"{(found.returns > 0).mean():.2f}",
        f"{found.returns.mean():.2f}",
        f"{found.coin_returns():.2f}",
        cell(found.stepwise()),
        narrow,
    ]


def table(chosen: list[Run]) -> str:
    """Return a row a run and policy."""
    columns = [
        "run", "policy", "items", "half lost", "middle half of the places", "items that return", "returns an item",
        "as coins", "stepwise", "an item's own width",
    ]  # fmt: skip
    return markdown(columns, [row(run, policy) for run in chosen for policy in run.policies])


def over_models(chosen: list[Run]) -> str:
    """Return a row a policy: the least and the most over runs."""
    rows = []
    for policy in chosen[0].policies:
        found = [(run, thresholds(run, policy)) for run in chosen]
        halves = [half_point(run.ratios, one.right.astype(float)).value for run, one in found]
        widths = [
            np.nanmedian(item_widths(run.ratios, run.values["forced_sum"][:, run.policies.index(policy)]))
            for run, _ in found
        ]
        spreads = [one.spread() for _, one in found]
        rows.append(
            [
                policy,
                _ends([np.inf if np.isnan(one) else one for one in halves]),
                _ends([one.low for one in spreads]),
                _ends([np.inf if np.isnan(one.high) else one.high for one in spreads]),
                _ends([float((one.returns > 0).mean()) for _, one in found]),
                _ends([one.stepwise().value for _, one in found]),
                _ends(widths),
            ]
        )
    columns = [
        "policy", "half lost", "a quarter of the places below", "three quarters below", "items that return", "stepwise",
        "an item's own width",
    ]  # fmt: skip
    return markdown(columns, rows)


def _ends(values: list[float]) -> str:
    """Return the least and the most; infinite: beyond the ratios asked."""
    told = ["beyond .9" if np.isinf(one) else f"{one:.2f}" for one in (min(values), max(values))]
    return " to ".join(dict.fromkeys(told))


def draw(run: Run, path: Path) -> None:
    """Draw, for every policy, single items' likelihoods, the curve, and the places."""
    with plot.style():
        figure, axes = plot.figure(1, len(run.policies), width=3.6, height=3.4)
        for ax, policy in zip(np.ravel(axes), run.policies, strict=True):
            place = run.policies.index(policy)
            found = thresholds(run, policy)
            falls = run.values["forced_sum"][:, place]
            for fall in falls[:: max(1, len(falls) // 40)]:
                ax.plot(run.ratios, np.exp(-np.maximum(fall, 0)), color="0.8", linewidth=0.6)
            ax.plot(run.ratios, found.kept, color=plot.COLOURS["blue"], marker=".", label="still right")
            places = np.sort(np.where(np.isnan(found.places), np.inf, found.places))
            held = 1 - np.arange(1, len(places) + 1) / len(places)
            ax.step(
                [0, *places],
                [1, *held],
                where="post",
                color=plot.COLOURS["red"],
                label="not yet lost for good",
            )
            ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="compression ratio")
            ax.set_title(policy, loc="left")
        np.ravel(axes)[0].set_ylabel("share; grey: one reply's likelihood")
        np.ravel(axes)[0].legend(loc="lower left")
        plot.save(figure, path)


def main() -> None:
    found = {name: run for name, run in runs().items() if not name.startswith("dev-")}
    pretrained, tiny = (
        [run for run in found.values() if ("tiny" in run.name) == one] for one in (False, True)
    )
    parts = [
        "### Pretrained models",
        "",
        table(pretrained),
        "",
        f"### Tiny models: least and most over {len(tiny)} models",
        "",
        over_models(tiny),
    ]
    put_between(DOCS / "item_thresholds.md", BEGIN, "\n".join(parts), END)
    draw(found["qwen"], DOCS / "item_thresholds.svg")


if __name__ == "__main__":
    main()

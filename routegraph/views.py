"""Results in words and tables, for people at a terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from routegraph.sim.run import Simulation
from routegraph.theory.scaling import Interval, half_point

#: What each observable of a simulation means, in one line.
MEANING = {
    "ger": "answer tokens gone from every slot (GER)",
    "eviction_rate": "context tokens gone from every slot",
    "ger_layer": "answer tokens gone from all heads of a layer",
    "eviction_rate_layer": "context tokens gone from all heads of a layer",
    "reach_fraction": "context tokens the query still reaches",
    "reach_any": "at least one answer token reached",
    "reach_all": "every answer token reached",
    "reach_answers": "answer tokens reached",
}


def number(value: float, error: float | None, trials: int) -> str:
    """Return a mean with its uncertainty; none or all out of `trials` becomes a 95 % bound."""
    bound = 1 - 0.05 ** (1 / trials)
    if value == 0:
        return f"< {bound:.2g}"
    if value == 1:
        return f"> {1 - bound:.{max(2, 1 - math.floor(math.log10(bound)))}f}"
    if error is None:
        return f"{value:.4g} (one replicate)"
    digits = 4 if error == 0 else min(8, max(2, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def interval(found: Interval) -> str:
    """Return a critical ratio with its 95 % interval."""
    if math.isnan(found.value):
        return "not reached"
    low, high = ("?" if math.isnan(bound) else f"{bound:.4f}" for bound in (found.low, found.high))
    return f"{found.value:.4f} [{low}, {high}]"


def table(*columns: str, title: str | None = None, right_from: int = 1) -> Table:
    """Return an empty table in the house style; columns from `right_from` on are right-aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None)
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if position >= right_from else "left", overflow="fold")
    return made


def simulation(console: Console, result: Simulation) -> None:
    """Print a simulation: what was asked, what came out, what theory says, what it means."""
    p = result.parameters
    slots = p.n_layers * p.n_heads
    order = "in random order" if p.policy == "random" else f"by the policy {p.policy!r}"
    agreement = (
        f"scores of one token correlated {p.score_correlation:g} between its slots"
        if p.score_correlation
        else "independently in every slot"
    )
    console.print("[bold]Asked[/bold]")
    console.print(
        f"A context of {p.n_tokens:,} cached tokens, a model of {p.n_layers} layers x {p.n_heads} KV heads: "
        f"every token has {slots} slots (layer, head). Slots lose the given fraction of their rows "
        f"{order}, {agreement}. "
        f"Each token reads {p.degree} key(s) in every layer and head ({p.ensemble} reads); one query follows "
        f"the context. {p.n_answers} answer tokens are drawn; {result.replicates} replicates, "
        f"seed {result.seed}.",
        highlight=False,
    )
    document = result.to_dict()["results"]
    for row in document:
        console.print()
        console.print(_ratio_table(result, row))
    console.print()
    console.print("[bold]What it means[/bold]")
    for line in _reading(result, document[-1]):
        console.print(f"- {line}", highlight=False)
    console.print(
        f"\n± is one standard error over {result.replicates} replicates; < and > are 95 % bounds where none "
        f"or all were counted; - where no theory applies. Pruning {p.prune!r}, "
        f"{'with' if p.residual else 'without'} residual edges, no sinks.",
        style="dim",
        highlight=False,
    )


def _trials(result: Simulation, name: str) -> int:
    """Return the number of independent trials behind a count of none: tokens for GER, graphs for reach."""
    p = result.parameters
    tokens = {"ger": p.n_answers, "ger_layer": p.n_answers, "eviction_rate": p.n_tokens}
    return result.replicates * tokens.get(name, p.n_tokens if name == "eviction_rate_layer" else 1)


def _ratio_table(result: Simulation, row: dict[str, Any]) -> Table:
    made = table(f"ratio {row['ratio']:g}", "meaning", "simulated", "theory", right_from=2)
    for name, meaning in MEANING.items():
        cell = row[name]
        theory = "-" if cell["theory"] is None else f"{cell['theory']:.4g}"
        made.add_row(name, meaning, number(cell["mean"], cell["stderr"], _trials(result, name)), theory)
    return made


def _reading(result: Simulation, row: dict[str, Any]) -> list[str]:
    """Return sentences that say what the figures at one ratio mean."""
    p = result.parameters
    grid = [k / 400 for k in range(400)]
    half = half_point(grid, result.curves("reach_fraction", grid))
    lost, kept = row["ger"]["mean"], row["reach_fraction"]["mean"]
    retention = (
        f"Retention at ratio {row['ratio']:g}: "
        + (
            "no answer token was lost from every slot"
            if lost == 0
            else f"{lost:.1%} of the answer tokens are gone from every slot"
        )
        + f"; in a single layer {row['ger_layer']['mean']:.1%} are gone from all {p.n_heads} heads."
    )
    access = (
        f"Accessibility: the query still reaches {kept:.1%} of the context; some answer token in "
        f"{row['reach_any']['mean']:.0%} of the replicates, all {p.n_answers} of them in "
        f"{row['reach_all']['mean']:.0%}."
    )
    critical = f"Half of the context is out of reach from ratio {interval(half)} on (95 % interval)."
    warning = (
        "Real heads agree more than this: with --score-correlation above 0, whole tokens die sooner."
        if p.score_correlation == 0
        else "One shared correlation is the simplest model of heads that agree; a real model's can be "
        "measured with extract and compare."
    )
    return [retention, access, critical, warning]

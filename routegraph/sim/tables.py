"""A simulation in words and tables."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console

from routegraph.critical.points import half_point
from routegraph.policies import declared
from routegraph.sim.measures import measures
from routegraph.sim.simulation import Simulation
from routegraph.stats.intervals import NOWHERE
from routegraph.tables import Grid, interval, number, show

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


def simulation(console: Console, result: Simulation) -> None:
    """Print a simulation: what was asked, what came out, what theory says, what it means."""
    console.print("[bold]Asked[/bold]")
    show(console, [simulation_question(result)])
    for grid in simulation_grids(result):
        console.print()
        console.print(grid.to_rich())
    console.print("\n[bold]What it means[/bold]")
    show(console, [f"- {line}" for line in simulation_reading(result)])
    console.print()
    show(console, [simulation_footnote(result)], style="dim")


def simulation_question(result: Simulation) -> str:
    """Return what a simulation was asked, in words."""
    p = result.parameters
    order = "in random order" if declared(p.policy).draws == "orders" else f"by the policy {p.policy!r}"
    if p.independent:
        agreement = "independently in every slot"
    elif p.profile == "flat" and p.score_correlation:
        agreement = f"scores of one token correlated {p.score_correlation:g} between its slots"
    elif p.profile != "flat":
        agreement = f"scores of one token correlated between its slots by the depth profile {p.profile!r}"
    else:
        agreement = "scores as set by attention_tie and answer_shift"
    return (
        f"A context of {p.n_tokens:,} cached tokens, a model of {p.n_layers} layers x {p.n_heads} KV heads: every "
        f"token has {p.n_layers * p.n_heads} slots (layer, head). Slots lose the given fraction of their rows "
        f"{order}, {agreement}. Each token reads {p.degree} key(s) in every layer and head ({p.ensemble} reads); "
        f"one query follows the context. {p.n_answers} answer tokens are drawn; {result.replicates} replicates, "
        f"seed {result.seed}."
    )


def simulation_grids(result: Simulation) -> list[Grid]:
    """Return one table a ratio."""
    grids = []
    for row in result.to_dict()["results"]:
        lines = []
        meanings = MEANING | {name: _lower(measures.summary(name)) for name in result.measured}
        for name, meaning in meanings.items():
            cell = row[name]
            theory = "-" if cell["theory"] is None else f"{cell['theory']:.4g}"
            value = math.nan if cell["mean"] is None else cell["mean"]
            trials = _trials(result, name)
            lines.append([name, meaning, number(value, cell["stderr"], trials), theory])
        grids.append(Grid([f"ratio {row['ratio']:g}", "meaning", "simulated", "theory"], lines, right_from=2))
    return grids


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def simulation_reading(result: Simulation) -> list[str]:
    """Return sentences that say what the figures at the last ratio mean."""
    p = result.parameters
    row: dict[str, Any] = result.to_dict()["results"][-1]
    grid = [k / 400 for k in range(400)] if result.nested else sorted(result.ratios)
    half = NOWHERE
    if len(grid) > 1:
        half = half_point(grid, result.curves("reach_fraction", grid))
    lost = row["ger"]["mean"]
    whole = (
        "no answer token was lost from every slot"
        if lost == 0
        else f"{lost:.1%} of the answer tokens are gone from every slot"
    )
    return [
        f"Retention at ratio {row['ratio']:g}: {whole}; in a single layer {row['ger_layer']['mean']:.1%} are gone "
        f"from all {p.n_heads} heads.",
        f"Accessibility: the query still reaches {row['reach_fraction']['mean']:.1%} of the context; some answer "
        f"token in {row['reach_any']['mean']:.0%} of the replicates, all {p.n_answers} of them in "
        f"{row['reach_all']['mean']:.0%}.",
        "Half of the context is in reach, or out of it, at every ratio looked at."
        if math.isnan(half.value)
        else f"Half of the context is out of reach from ratio {interval(half)} on (95 % interval).",
        "Real heads agree more than this: with --score-correlation above 0, whole tokens die sooner."
        if p.independent
        else "One shared correlation is the simplest model of heads that agree; a real model's can be measured "
        "with extract and compare.",
    ]


def simulation_footnote(result: Simulation) -> str:
    """Return how to read the table."""
    p = result.parameters
    return (
        f"± is one standard error over {result.replicates} replicates; < and > are 95 % bounds where none or all "
        f"were counted; - where no theory applies. Pruning {p.prune!r}, "
        f"{'with' if p.residual else 'without'} residual edges, no sinks."
    )


def _trials(result: Simulation, name: str) -> int:
    """Return the number of independent trials behind a count of none: tokens for GER, graphs for reach."""
    p = result.parameters
    if name in result.measured:
        return 0
    if name.startswith("reach"):
        return result.replicates
    return result.replicates * (p.n_answers if name.startswith("ger") else p.n_tokens)


# --- compare ----------------------------------------------------------------------------------------

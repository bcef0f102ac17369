"""Results in words and tables: for a terminal through rich, for a page as HTML."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from routegraph.sim.measures import measures
from routegraph.sim.simulation import Simulation
from routegraph.theory.scaling import NOWHERE, Interval, half_point
from routegraph.validate.compare import AxisComparison, Comparison, PolicyComparison
from routegraph.validate.reach_compare import TOKENS

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


@dataclass(frozen=True)
class Grid:
    """A table of words, before it is drawn anywhere; columns from `right_from` on are right-aligned."""

    columns: list[str]
    rows: list[list[str]]
    title: str = ""
    right_from: int = 1

    def to_rich(self) -> Table:
        """Return the table for a terminal."""
        made = Table(
            title=self.title or None,
            title_justify="left",
            title_style="bold",
            header_style="bold",
            box=None,
            padding=(0, 1, 0, 0),
        )
        for position, column in enumerate(self.columns):
            right = position >= self.right_from
            made.add_column(column, justify="right" if right else "left", no_wrap=right or position == 0)
        for row in self.rows:
            made.add_row(*row)
        return made

    def to_html(self) -> str:
        """Return the table as HTML."""

        def row(cells: list[str], tag: str) -> str:
            drawn = (
                f"<{tag}{' class=r' if i >= self.right_from else ''}>{html.escape(cell)}</{tag}>"
                for i, cell in enumerate(cells)
            )
            return f"<tr>{''.join(drawn)}</tr>"

        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "".join(row(cells, "td") for cells in self.rows)
        return f"<table>{caption}<thead>{row(self.columns, 'th')}</thead><tbody>{body}</tbody></table>"


def number(value: float, error: float | None, trials: int) -> str:
    """Return a mean with its uncertainty; none or all out of `trials` becomes a 95 % bound (trials = 0: no share)."""
    if trials == 0 or math.isnan(value):
        return "-" if math.isnan(value) else f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")
    bound = 1 - 0.05 ** (1 / trials)
    if value == 0:
        return f"< {bound:.2g}"
    if value == 1:
        return f"> {1 - bound:.{max(2, 1 - math.floor(math.log10(bound)))}f}"
    if error is None or math.isnan(error):
        return f"{value:.4g}"
    digits = 4 if error == 0 else min(8, max(2, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def compact(value: float, error: float, trials: int) -> str:
    """Return a mean with its standard error in its last digits, 0.488(12) for 0.488 ± 0.012."""
    if value in (0, 1) or math.isnan(error):
        return number(value, None, trials)
    return f"{value:.3f}({max(1, round(error * 1000))})"


def interval(found: Interval, digits: int = 4) -> str:
    """Return a critical ratio with its 95 % interval; ? where the curve does not get there."""
    if math.isnan(found.value):
        return "not reached"
    if math.isnan(found.low) and math.isnan(found.high):
        return f"{found.value:.{digits}f}"
    low, high = ("?" if math.isnan(bound) else f"{bound:.{digits}f}" for bound in (found.low, found.high))
    return f"{found.value:.{digits}f} [{low}, {high}]"


def signed(found: Interval, digits: int = 3) -> str:
    """Return a difference with its sign and 95 % interval; - where there is none."""
    if math.isnan(found.value):
        return "-"
    value, low, high = (
        "?" if math.isnan(bound) else f"{bound:+.{digits}f}".replace("0.", ".", 1) for bound in found
    )
    return value if low == high == "?" else f"{value} [{low}, {high}]"


def show(console: Console, sentences: list[str], style: str | None = None) -> None:
    """Print sentences, a line each."""
    for sentence in sentences:
        console.print(sentence, highlight=False, style=style)


# --- simulate ---------------------------------------------------------------------------------------


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
    order = "in random order" if p.policy == "random" else f"by the policy {p.policy!r}"
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


def comparison(console: Console, result: Comparison) -> None:
    """Print a comparison: what was read off, what theory and simulation say, what it means."""
    from routegraph import views_failures

    show(console, [comparison_question(result)])
    for found in result.policies.values():
        console.print()
        for grid in comparison_grids(found):
            console.print(grid.to_rich())
        show(console, [f"- {line}" for line in comparison_reading(found)])
        if result.has_measured:
            for grid in views_failures.failure_grids(found):
                console.print(grid.to_rich())
            show(console, [f"- {line}" for line in views_failures.failure_reading(found)])
    console.print()
    show(console, [COMPARISON_FOOTNOTE], style="dim")
    if result.has_measured:
        show(console, [views_failures.FAILURES_FOOTNOTE], style="dim")
    if not result.has_reach:
        show(console, ["Reach is not shown: it needs traces made by extract --graphs."])


COMPARISON_FOOTNOTE = (
    "Half point: ratio at which half of the tokens are gone, or out of reach; 95 % interval by bootstrap over "
    "prompts; 0.488(12) is 0.488 with a standard error of 0.012 over prompts. 'All' is the eviction rate, 'answer' "
    "GER, of all prompts; 'evictable' leaves out sinks, on the held-out prompts. Every prediction is for those "
    "evictable tokens of prompts it has not seen ('shifted copula', 'simulated answers': for their answer tokens); "
    "rmse over ratios .6-.98 that no fit used. 'simulated': scores and reads drawn from what was fitted to the other "
    "half of the prompts; 'uniform': independent scores and uniform reads, the baseline; 'theory': measured copula "
    "for tokens gone, cavity for reach. Reach: tokens joined to the prompt's last token by reads heavier than the "
    "weight named, sinks in. 'columns': all tokens are cache rows, and a dead slot is gone for every query; 'decode': "
    "the last tokens stand for the question, and a dead slot is gone for them alone. Structural cliffs are put "
    "there by protected rows, not by the model."
)


def comparison_question(result: Comparison) -> str:
    """Return what was compared, in words."""
    low, high = result.n_context
    agnostic = "question-agnostic (each context prefilled once, without its question)"
    aware = "question-aware (each context prefilled once, its question after it; rows of both are evicted)"
    return (
        f"Model {result.model}: {result.n_prompts} prompts of {low} to {high} tokens, "
        f"{aware if result.question_aware else agnostic}; half of the prompts held out. "
        "How much is gone from every slot, at every compression ratio?"
    )


def comparison_grids(found: PolicyComparison, at: tuple[float, ...] = (0.8, 0.9, 0.95)) -> list[Grid]:
    """Return one table a head axis, and one of all half points."""
    return [*(_axis_grid(found, axis, at) for axis in found.axes.values()), half_point_grid(found)]


def half_point_grid(found: PolicyComparison) -> Grid:
    """Return the half points read off held-out prompts, and how far off each prediction is."""
    rows = []
    for over, axis in found.axes.items():
        where = "all slots" if over == "model" else "a layer"
        for observed, suffix, theory in (
            ("evictable tokens", "", "measured copula"),
            ("answer tokens, held out", " answers", "shifted copula"),
        ):
            if observed in axis.observed:
                names = (f"simulated{suffix}", f"uniform{suffix}", theory)
                simulated, uniform, predicted = (axis.difference(name) for name in names)
                label = f"{where}{suffix}"
                rows.append(_half_point_row(label, axis.half(observed), simulated, uniform, predicted))
    for reach in found.reach:
        eps = f"{reach.eps:g}".removeprefix("0")
        name = f"{reach.prune} {eps}" + (" answers" if reach.tokens == TOKENS[1] else "")
        cavity = reach.difference("cavity") if "cavity" in reach.predicted else None
        simulated, uniform = reach.difference("simulated"), reach.difference("uniform")
        rows.append(_half_point_row(name, reach.half(), simulated, uniform, cavity))
    what = "gone (and reached, by pruning and weight)" if found.reach else "gone"
    return Grid(
        ["half point", "read off", "simulated - read off", "uniform", "theory"],
        rows,
        title=f"{found.policy}: half points of tokens {what}",
    )


def _half_point_row(
    name: str, read: Interval, simulated: Interval, uniform: Interval, theory: Interval | None
) -> list[str]:
    short = [
        "-" if found is None else signed(found._replace(low=math.nan, high=math.nan))
        for found in (uniform, theory)
    ]
    return [name, interval(read, 3), signed(simulated), *short]


def _axis_grid(found: PolicyComparison, axis: AxisComparison, at: tuple[float, ...]) -> Grid:
    columns = [min(range(len(axis.ratios)), key=lambda i: abs(axis.ratios[i] - ratio)) for ratio in at]
    rows = []
    for name in ("all tokens", "answer tokens", "evictable tokens"):
        if name not in axis.observed:
            continue
        curves = axis.observed[name]
        means = curves.mean(axis=0)
        errors = curves.std(axis=0, ddof=1) / math.sqrt(len(curves))
        cells = [compact(means[i], errors[i], len(curves)) for i in columns]
        rows.append([f"read off, {name.removesuffix(' tokens')}", *cells, interval(axis.half(name), 3), ""])
    for name, prediction in axis.predicted.items():
        cells = [f"{prediction.mean[i]:.3f}" for i in columns]
        rows.append([name, *cells, interval(axis.half(name), 3), f"{axis.rmse(name):.3f}"])
    where = f"all {axis.slots} slots" if axis.over == "model" else f"all {axis.slots} heads of a layer, mean"
    return Grid(
        ["gone", *(f"{axis.ratios[i]:g}" for i in columns), "half point", "rmse"],
        rows,
        title=f"{found.policy} ({found.scorer}), head axis {axis.over!r}: gone from {where}",
    )


def comparison_reading(found: PolicyComparison) -> list[str]:
    """Return sentences that say what the tables of one policy mean."""
    axis = found.axes["model"]
    slots = axis.effective_slots()
    inside = [(r, m) for r, m in zip(axis.ratios, slots, strict=True) if not math.isnan(m) and r >= 0.8]
    lines = []
    if inside:
        low, high = min(m for _, m in inside), max(m for _, m in inside)
        lines.append(
            f"Effective slots ln GER / ln p from ratio {inside[0][0]:g} to {inside[-1][0]:g}: {low:.1f} to {high:.1f} "
            f"of {axis.slots}; heads agree, so tokens die sooner than {axis.slots} independent slots would let them."
        )
    difference = axis.difference("measured copula")
    best = min(("independent", "one factor", "measured copula", "simulated"), key=axis.rmse)
    lines.append(
        f"Predicted minus read-off half point, all slots: {interval(difference, 3)} by the measured copula, "
        f"{interval(axis.difference('independent'), 3)} by independent slots; smallest rmse: {best}."
    )
    lines += _reach_reading(found)
    lines += [f"Structural cliff at {ratio:.4f}: {name}." for name, ratio in found.cliffs.items()]
    return lines


def _reach_reading(found: PolicyComparison) -> list[str]:
    columns = [reach for reach in found.reach if reach.prune == "columns" and reach.tokens == TOKENS[0]]
    if not columns:
        return []
    gaps = {
        name: max(abs(reach.difference(name).value) for reach in columns) for name in ("simulated", "uniform")
    }
    weights = ", ".join(f"{reach.eps:g}" for reach in columns)
    return [
        f"Reach of all context tokens, columns, weights above {weights}: simulated half points lie within "
        f"{gaps['simulated']:.3f} of those read off, uniform ones within {gaps['uniform']:.3f}.",
        "Reach under decode falls late or not at all: reads among cache rows stay whole, so that one surviving read "
        "of the question by a row beyond the sinks opens most of the context again.",
    ]

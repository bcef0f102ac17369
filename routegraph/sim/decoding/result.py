"""The result of `simulate_decoding`: as numbers, in words, as a figure, as a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import write_json
from routegraph.sim.decoding.parameters import Decoding, class_of
from routegraph.sim.decoding.policies import theory_of
from routegraph.sim.decoding.predict import predict
from routegraph.sim.decoding.run import Curves
from routegraph.stats.intervals import listed, standard_error
from routegraph.tables import Grid, Heading, Page, Shown, compact, many, note, points, words
from routegraph.text import drawn
from routegraph.theory.decoding import critical_budget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Curves over steps, in the order of a row of the result, and what each means.
MEANING = {
    "ger": "prompt gone from every slot",
    "ger_layer": "prompt gone from a layer",
    "dead": "dead slots of the prompt",
    "held": "tokens that a slot holds",
    "reach": "prompt still reached",
}
DEFINITIONS = {
    "step": "one decoded token: its row comes, its query looks at the rows that its slot has, then the slot may be cut",
    "cut": "after every interval-th step each slot (layer, KV head) is left with no more than budget rows; the prompt "
    "is not cut before the first",
    "death": "the step whose cut takes a row; one that is evicted never comes back",
    "ger": "share of the prompt's tokens gone from all layers * heads slots; ger_layer: from all heads of a layer, "
    "averaged over layers; dead: share of their slots",
    "held": "number of tokens, of the prompt and decoded, that at least one slot still has",
    "reach": "share of the prompt's tokens that a query after the step reaches over the prompt's graph (uniform reads, "
    "residual edges): only its own reads of dead slots are cut; routes over decoded rows are not followed",
    "survival": "share of the slots of decoded rows that are alive `age` steps after the row's own step, over all "
    "rows that came early enough to be that old",
    "attention": "weight of a row exp(spread * g - decay * age + boost), g a standard normal popularity, kept from one "
    "step to the next with probability persistence, else drawn anew, but for the shares score_correlation (the "
    "token's) and lasting (the row's) of its variance, which stay; boost: that of the row's age in recency; a query's "
    "attention is the weights over their sum; prompt_rows: spread, persistence, lasting of the prompt's rows, which "
    "then have no boost while decoding",
    "stderr": "standard deviation over replicates / sqrt(replicates); null at one replicate",
    "theory": "random: product over cuts of budget / rows; streaming: exact; null elsewhere",
}
_COLOURS = ("blue", "orange", "green", "purple", "red", "sky", "black")


@dataclass(frozen=True, eq=False, repr=False)
class DecodingResult(Shown):
    """The result of `simulate_decoding`.

    Attributes
    ----------
    cells : tuple of Decoding
        Parameters, one for each policy.
    curves : tuple of Curves
        What was counted, one for each policy.
    steps : list of int
        Steps to report.
    replicates, seed : int
    """

    cells: tuple[Decoding, ...]
    curves: tuple[Curves, ...]
    steps: list[int]
    replicates: int
    seed: int

    @property
    def policies(self) -> list[str]:
        """Names of the policies."""
        return [cell.policy for cell in self.cells]

    def estimate(
        self, policy: str, name: str, at: Iterable[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (mean, standard error) over replicates of a curve; no error at one replicate.

        Parameters
        ----------
        policy : str
            One of `policies`.
        name : str
            A field of `Curves`.
        at : iterable of int
            Steps in 0..steps; of `survival` ages in 0..steps - 1.

        Raises
        ------
        ValueError
            If there is no such policy or curve.
        """
        if policy not in self.policies:
            raise ValueError(f"unknown policy {policy!r}; choose from: {', '.join(self.policies)}")
        names = tuple(Curves.__dataclass_fields__)
        if name not in names:
            raise ValueError(f"unknown curve {name!r}; choose from: {', '.join(names)}")
        values = getattr(self.curves[self.policies.index(policy)], name)[:, list(at)]
        return values.mean(axis=0), standard_error(values) if len(values) > 1 else None

    def theory(self, policy: str, name: str, at: Iterable[int]) -> NDArray[np.float64] | None:
        """Return what theory says of a curve, float64[n], or None where it says nothing; as for `estimate`."""
        return predict(self.cells[self.policies.index(policy)], name, list(at))

    def half_step(self, policy: str) -> int | None:
        """Return the first step after which half of the prompt or more is gone from every slot (mean); None: never."""
        mean, _ = self.estimate(policy, "ger", range(self.cells[0].steps + 1))
        reached = np.flatnonzero(mean >= 0.5)
        return int(reached[0]) if len(reached) else None

    def ages(self, count: int) -> list[int]:
        """Return about `count` ages from 0 to the oldest, evenly spaced in their logarithms."""
        last = self.cells[0].steps - 1
        spaced = np.round(np.geomspace(1, max(1, last), count - 1)).astype(int)
        return sorted({0, *np.minimum(spaced, last).tolist()})

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values: version, seed, parameters, definitions, results."""
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                **self.cells[0].to_dict(),
                "policy": self.policies,
                "settings": {cell.policy: dict(cell.policy_parameters) for cell in self.cells},
                "at": self.steps,
                "replicates": self.replicates,
            },
            "definitions": DEFINITIONS,
            "results": [self._row(cell) for cell in self.cells],
        }

    def _row(self, cell: Decoding) -> dict[str, Any]:
        by_step = {name: list(self._cells(cell.policy, name, self.steps)) for name in MEANING}
        ages = self.ages(16)
        return {
            "policy": cell.policy,
            "half_step": self.half_step(cell.policy),
            "critical_budget": _critical(cell),
            "steps": [
                {"step": step, **{name: by_step[name][i] for name in MEANING}}
                for i, step in enumerate(self.steps)
            ],
            "survival": [
                {"age": age, **told}
                for age, told in zip(ages, self._cells(cell.policy, "survival", ages), strict=True)
            ],
        }

    def _cells(self, policy: str, name: str, at: list[int]) -> Iterator[dict[str, float | None]]:
        nothing = np.full(len(at), np.nan)
        columns = (*self.estimate(policy, name, at), self.theory(policy, name, at))
        told = [listed(nothing if one is None else one) for one in columns]
        for mean, error, theory in zip(*told, strict=True):
            yield {"mean": mean, "stderr": error, "theory": theory}

    def page(self) -> Page:
        """Return the result in words and tables: what was asked, what it means, the figures."""
        return Page(
            (
                Heading("Asked"),
                words(_question(self)),
                Heading("What it means"),
                points([_reading(self, cell) for cell in self.cells] + _closing(self)),
                *(_grid(self, cell) for cell in self.cells),
                _ages(self),
                note(_footnote(self)),
            )
        )

    def plot(self, ax: Any = None) -> Figure:
        """Draw survival by age, and what is gone of the prompt by step, theory dashed; `ax`: a pair of axes."""
        with plot.style():
            return _draw(self, plot.figure(1, 2)[1] if ax is None else ax)

    def caption(self) -> str:
        """Return the figure in words, for those who do not see it."""
        told = []
        for cell in self.cells:
            mean, _ = self.estimate(cell.policy, "ger", [cell.steps])
            age = min(cell.budget, cell.steps - 1)
            alive, _ = self.estimate(cell.policy, "survival", [age])
            told.append(
                f"{cell.policy}: {alive[0]:.1%} of the rows are in a slot {age:,} steps after their own, and "
                f"{mean[0]:.1%} of the prompt's tokens are gone from every slot after step {cell.steps:,}"
            )
        return (
            "Left: survival of decoded rows by age. Right: prompt tokens gone from every slot, by step. "
            + "; ".join(told)
            + "."
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` as JSON, atomically: what ``decode --out`` writes."""
        write_json(path, self.to_dict())


def _critical(cell: Decoding) -> int | None:
    if theory_of(cell.policy) != "uniform":
        return None
    return critical_budget(cell.n_prefill, cell.steps, cell.slots, cell.interval)


def _question(result: DecodingResult) -> str:
    p = result.cells[0]
    cut = "After every step" if p.interval == 1 else f"After every {p.interval:,} steps"
    shared = f", correlated {p.score_correlation:g} between slots" * bool(p.score_correlation)
    lasting = f", {p.lasting:.0%} of it for good" * bool(p.lasting)
    apart = ""
    if (prompt := class_of(p.prompt_rows)) is not None:
        apart = (
            f"; rows of the prompt have a spread of {prompt[0]:g}, kept with probability {prompt[1]:g}, "
            f"{prompt[2]:.0%} of it for good, and no boost while decoding"
        )
    young = f", and are boosted by age ({p.recency})" * bool(p.recency)
    return (
        f"A prompt of {p.n_prefill:,} tokens, then {p.steps:,} decoded step{'s' * (p.steps != 1)}, in a model of "
        f"{many(p.n_layers, 'layer')} x {many(p.n_heads, 'KV head')}: every token has {many(p.slots, 'slot')} (layer, "
        f"head). {cut} each slot is cut to {p.budget:,} row{'s' * (p.budget != 1)}, by {', '.join(result.policies)}. "
        f"Rows differ in popularity (spread {p.spread:g}, kept with probability "
        f"{p.persistence:g} a step{lasting}{shared}) and fade by {p.decay:g} a step{young}{apart}; "
        f"{many(result.replicates, 'replicate')}, seed {result.seed}."
    )


def _reading(result: DecodingResult, cell: Decoding) -> str:
    last = [cell.steps]
    gone, held = (result.estimate(cell.policy, name, last)[0][0] for name in ("ger", "held"))
    half = result.half_step(cell.policy)
    when = f"half of them are from step {half:,} on" if half is not None else "half of them never are"
    lost = "no token of the prompt is" if gone == 0 else f"{gone:.1%} of the prompt's tokens are"
    return (
        f"{cell.policy}: after step {cell.steps:,} {lost} gone from every slot; {when}. All slots together hold "
        f"{held:,.0f} of {cell.n_prefill + cell.steps:,} tokens."
    )


def _closing(result: DecodingResult) -> list[str]:
    random = [cell for cell in result.cells if theory_of(cell.policy) == "uniform"]
    told = [
        f"Where rows go at random, a budget of {_critical(cell):,} is the least with which no more than half of the "
        f"prompt is gone from every slot after {cell.steps:,} steps (theory)."
        for cell in random
    ]
    if any(theory_of(cell.policy) is None for cell in result.cells):
        told.append(
            "How the policies differ hangs on how attention is drawn: with --spread, --persistence, --decay, "
            "--score-correlation, --lasting, --recency and --prompt-rows see what a difference rests on."
        )
    return told


def _grid(result: DecodingResult, cell: Decoding) -> Grid:
    lines = []
    for name, meaning in MEANING.items():
        mean, error = result.estimate(cell.policy, name, result.steps)
        errors = np.full(len(mean), np.nan) if error is None else error
        trials = result.replicates * cell.n_prefill
        if name == "held":
            shown = [_count(value, one) for value, one in zip(mean, errors, strict=True)]
        else:
            shown = [compact(value, one, trials) for value, one in zip(mean, errors, strict=True)]
        lines.append([meaning, *shown])
        theory = result.theory(cell.policy, name, result.steps)
        if theory is not None:
            lines.append(["  theory", *(f"{one:,.0f}" if name == "held" else f"{one:.3f}" for one in theory)])
    return Grid([f"{cell.policy}, by step", *(f"{step:,}" for step in result.steps)], lines)


def _count(value: float, error: float) -> str:
    return f"{value:,.0f}" + ("" if np.isnan(error) or error < 0.5 else f"({error:,.0f})")


def _ages(result: DecodingResult) -> Grid:
    ages = result.ages(6)
    lines = []
    for cell in result.cells:
        mean, error = result.estimate(cell.policy, "survival", ages)
        errors = np.full(len(mean), np.nan) if error is None else error
        trials = result.replicates * cell.slots
        shown = [compact(value, one, trials) for value, one in zip(mean, errors, strict=True)]
        lines.append([cell.policy, *shown])
        theory = result.theory(cell.policy, "survival", ages)
        if theory is not None:
            lines.append(["  theory", *(f"{one:.3f}" for one in theory)])
    return Grid(["slots alive, by age", *(f"{age:,}" for age in ages)], lines)


def _footnote(result: DecodingResult) -> str:
    error = f"0.488(12) is 0.488 with one standard error of 0.012 over {result.replicates} replicates"
    if result.replicates == 1:
        error = "One replicate tells no standard error"
    return (
        f"{error}; < and > "
        "are 95 % bounds where none or all were counted. Age: steps since a decoded row's own step. Attention is drawn "
        "from a model, so which policy keeps more is a question to real models, not an answer about them."
    )


def _draw(result: DecodingResult, axes: Any) -> Figure:
    p = result.cells[0]
    grids = (result.ages(150), sorted({*np.linspace(0, p.steps, 201).astype(int).tolist()}))
    for ax, name, at in zip(axes, ("survival", "ger"), grids, strict=True):
        for i, cell in enumerate(result.cells):
            colour = plot.COLOURS[_COLOURS[i % len(_COLOURS)]]
            mean, error = result.estimate(cell.policy, name, at)
            plot.band(ax, at, mean, error, color=colour, label=drawn(cell.policy))
            theory = result.theory(cell.policy, name, at)
            if theory is not None:
                ax.plot(at, theory, color="0.2", linestyle="--", linewidth=1)
        if known := [cell.policy for cell in result.cells if theory_of(cell.policy) is not None]:
            ax.plot([], [], color="0.2", linestyle="--", linewidth=1, label=f"theory ({', '.join(known)})")
        ax.set_ylim(-0.02, 1.02)
    plot.legend(*axes)
    axes[0].set(
        xscale="symlog",
        xlim=(0, p.steps),
        xlabel="age of a decoded row (steps since its own)",
        ylabel="fraction of slots that still have it",
        title="Survival by age",
    )
    axes[1].set(
        xlim=(0, p.steps),
        xlabel="decoded steps",
        ylabel="fraction of prompt tokens gone from every slot",
        title="What is lost of the prompt (GER)",
    )
    made: Figure = axes[0].figure
    cut = "cut every step" if p.interval == 1 else f"cut every {p.interval} steps"
    plot.headline(
        made,
        f"prompt of {p.n_prefill}, {many(p.n_layers, 'layer')} x {many(p.n_heads, 'head')}, budget {p.budget}, "
        f"{cut}, {many(result.replicates, 'replicate')}",
        "small",
    )
    return made

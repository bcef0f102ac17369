"""The result of `simulate`: at every ratio as numbers, in words, as a figure, as a file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph._version import __version__
from routegraph.critical.points import Susceptibility, half_point, susceptibility
from routegraph.files import write_json
from routegraph.policies import declared, is_nested
from routegraph.protection import Protection, structural_cliffs
from routegraph.schema import read_document
from routegraph.sim.figures import draw_simulation
from routegraph.sim.measures import measures as measure_registry
from routegraph.sim.observables import Sample, observables
from routegraph.sim.parameters import RESULT, Parameters, definitions, from_document
from routegraph.sim.predict import DRAWS, predict
from routegraph.sim.run import Progress, run_cell, run_measures
from routegraph.stats.intervals import NOWHERE, listed, standard_error
from routegraph.survival import Survival, check_ratios, n_kept
from routegraph.tables import Grid, Heading, Page, Shown, all_of, interval, many, note, number, points, words
from routegraph.text import drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: The observables of a result row, in the order of the contract, and what each means.
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
ROW = tuple(MEANING)


@dataclass(frozen=True, eq=False, repr=False)
class Simulation(Shown):
    """The result of `simulate`.

    Attributes
    ----------
    parameters : Parameters
    ratios : list of float
    replicates, seed : int
    samples : tuple of Sample
        Integer levels of every replicate: one Sample for all ratios, or, where the policy is not nested, one
        for each of `ratios`.
    level_of : Survival
        Turns ratios into levels as the policy does.
    measured : mapping of str to float64[n_replicates, n_ratios]
        Measures taken at `ratios`.
    """

    parameters: Parameters
    ratios: list[float]
    replicates: int
    seed: int
    samples: tuple[Sample, ...]
    level_of: Survival
    measured: Mapping[str, NDArray[np.float64]]

    @classmethod
    def drawn(
        cls,
        parameters: Parameters,
        ratios: list[float],
        replicates: int,
        seed: int,
        measures: Sequence[str] = (),
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Simulation:
        """Run all replicates; the arguments are those of `simulate`, checked."""
        grid = [None] if is_nested(parameters.policy) else ratios
        samples = tuple(
            run_cell(parameters, replicates, seed, workers=workers, progress=progress, ratio=at)
            for at in grid
        )
        measured = run_measures(
            parameters, measures, ratios, replicates, seed, workers=workers, progress=progress
        )
        return cls(parameters, ratios, replicates, seed, samples, parameters.levels_of(), measured)

    @property
    def protection(self) -> Protection:
        """Rows that the policy protects."""
        return policies.protection(self.parameters.policy, dict(self.parameters.policy_parameters))

    @property
    def nested(self) -> bool:
        """Whether one pass answered all ratios; otherwise curves are known at `ratios` only."""
        return is_nested(self.parameters.policy)

    def curves(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64]:
        """Return an observable at any ratios, a measure at the ratios it was taken at.

        float64[n_replicates, n_ratios].
        """
        if observable not in self.measured and self.nested:
            values: NDArray[np.float64] = observables[observable](
                self.samples[0], self.level_of.levels(ratios)
            )
            return values
        try:
            columns = [self.ratios.index(ratio) for ratio in check_ratios(ratios)]
        except ValueError:
            taken = ", ".join(f"{ratio:g}" for ratio in self.ratios)
            raise ValueError(f"{observable!r} was measured at {taken} only") from None
        if observable in self.measured:
            return self.measured[observable][:, columns]
        # Beyond its one step a survival of one ratio is at level 1.
        return np.concatenate([observables[observable](self.samples[i], [1]) for i in columns], axis=1)

    def theory(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64] | None:
        """Return what theory predicts, float64[n_ratios], or None where no theory applies."""
        found = self._predicted(observable, ratios)
        return None if found is None else found[0]

    def _predicted(
        self, observable: str, ratios: float | Iterable[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None] | None:
        if observable in self.measured or not self.nested:
            return None
        return predict(self.parameters, observable, self.level_of.levels(ratios))

    @cached_property
    def _columns(self) -> dict[str, tuple[list[float | None], ...]]:
        """Mean, standard error, theory and its error at `ratios`, worked out once: to draw a theory takes time."""
        nothing = np.full(len(self.ratios), np.nan)
        columns = {}
        for name in (*ROW, *self.measured):
            found = (*self.estimate(name, self.ratios), *(self._predicted(name, self.ratios) or (None, None)))
            columns[name] = tuple(listed(nothing if values is None else values) for values in found)
        return columns

    def estimate(
        self, observable: str, ratios: float | Iterable[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (mean, standard error) over replicates, float64[n_ratios]; no error at one replicate."""
        values = self.curves(observable, ratios)
        if len(values) == 1:
            return values[0], None
        return values.mean(axis=0), standard_error(values)

    def susceptibility(self, observable: str, ratios: Iterable[float]) -> Susceptibility:
        """Return the susceptibility of an observable as a derivative and as n times its variance."""
        grid = check_ratios(ratios)
        return susceptibility(grid, self.curves(observable, grid), self.parameters.n_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values: version, seed, parameters, definitions, results."""
        shown = asdict(self.parameters)
        owners = ("ensemble_parameters", "policy_parameters", "profile_parameters")
        settings = {name: value for owner in owners for name, value in shown.pop(owner)}
        rows: list[dict[str, Any]] = []
        for i, ratio in enumerate(self.ratios):
            cells = {
                name: {"mean": mean[i], "stderr": error[i], "theory": theory[i]}
                for name, (mean, error, theory, _) in self._columns.items()
            }
            rows.append({"ratio": ratio, **cells})
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                **shown,
                "settings": settings,
                "ratio": self.ratios,
                "replicates": self.replicates,
            },
            "definitions": definitions(self.parameters),
            "results": rows,
        }

    @property
    def answer(self) -> list[str]:
        """What was found, in three sentences."""
        return _reading(self)

    def page(self) -> Page:
        """Return the result in words and tables: what was found, what was asked, what came out, what theory says."""
        return Page(
            (
                Heading("Found"),
                points(self.answer),
                Heading("Asked"),
                words(_question(self)),
                *_grids(self),
                note(_footnote(self), *_agreement(self.parameters)),
            )
        )

    def plot(self, ax: Any = None) -> Figure:
        """Draw retention and accessibility against the ratio; `ax`: a pair of axes to draw on.

        Theory is dashed; bands are one standard error over replicates.
        """
        p = self.parameters
        n = p.n_tokens
        grid = np.linspace(0, 1 - 1 / n, 400).tolist() if self.nested else self.ratios
        title = (
            f"{drawn(p.ensemble)} reads, {drawn(p.policy)} eviction: n = {n}, {many(p.n_layers, 'layer')} x "
            f"{many(p.n_heads, 'head')}, degree {p.degree}, correlation {p.score_correlation:g}, {p.prune}, "
            f"{many(self.replicates, 'replicate')}"
        )
        return draw_simulation(self.estimate, self.theory, grid, self.ratios, title, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` as JSON, atomically: what ``simulate --out`` writes."""
        write_json(path, self.to_dict())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], workers: int | None = None, progress: Progress | None = None
    ) -> Simulation:
        """Read what `save` wrote, in this or an earlier version.

        The file holds means only. The replicates are drawn again from their seeds, which gives the same ones: it takes
        as long as the simulation took.

        Raises
        ------
        ValueError
            If the file is no result of `simulate`.
        """
        document = read_document(path, RESULT, "result of simulate")
        parameters = from_document(document)
        asked, seed = document["parameters"], document["seed"]
        if not document["results"]:
            raise ValueError(f"{str(path)!r} is no result of simulate: it has no results")
        taken = [name for name in document["results"][0] if name not in ("ratio", *ROW)]
        ratios, replicates = check_ratios(asked["ratio"]), asked["replicates"]
        for name in taken:
            measure_registry[name]
        return cls.drawn(parameters, ratios, replicates, seed, taken, workers, progress)


def _question(result: Simulation) -> str:
    """Return what a simulation was asked, in words."""
    p = result.parameters
    known = declared(p.policy)
    order = "in random order" if known.draws == "orders" else f"by the policy {p.policy!r}"
    if known.scores is None and known.draws is None:
        agreement = "which looks at no scores"
    elif p.independent:
        agreement = "independently in every slot"
    elif p.profile == "flat" and p.score_correlation:
        agreement = f"scores of one token correlated {p.score_correlation:g} between its slots"
    elif p.profile != "flat":
        agreement = f"scores of one token correlated between its slots by the depth profile {p.profile!r}"
    else:
        agreement = "scores as options alter them"
    drawn = f"{many(p.n_answers, 'answer token')} {'is' if p.n_answers == 1 else 'are'} drawn"
    return (
        f"A context of {p.n_tokens:,} cached tokens, a model of {many(p.n_layers, 'layer')} x "
        f"{many(p.n_heads, 'KV head')}: every "
        f"token has {many(p.n_layers * p.n_heads, 'slot')} (layer, head). Slots lose the given fraction of their rows "
        f"{order}, {agreement}. Each token reads {many(p.degree, 'key')} in every layer and head ({p.ensemble} reads); "
        f"one query follows the context. {drawn}; "
        f"{many(result.replicates, 'replicate')}, seed {result.seed}."
    )


def _grids(result: Simulation) -> list[Grid]:
    """Return one table a ratio."""
    meanings = MEANING | {name: _lower(measure_registry.summary(name)) for name in result.measured}
    grids = []
    for i, ratio in enumerate(result.ratios):
        lines = []
        for name, meaning in meanings.items():
            mean, error, theory, drawn = (values[i] for values in result._columns[name])
            value = number(mean, error, _trials(result, name))
            lines.append([name, meaning, value, number(theory, drawn, 0 if drawn is None else DRAWS)])
        kept = n_kept(result.parameters.n_tokens, ratio)
        grids.append(
            Grid([f"ratio {ratio:g}, keep {kept}", "meaning", "simulated", "theory"], lines, right_from=2)
        )
    return grids


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _reading(result: Simulation) -> list[str]:
    """Return sentences that say what the figures at the last ratio mean."""
    p = result.parameters
    row: dict[str, Any] = {name: mean[-1] for name, (mean, *_) in result._columns.items()}
    grid = [k / 400 for k in range(400)] if result.nested else sorted(result.ratios)
    half = NOWHERE
    if len(grid) > 1:
        half = half_point(grid, result.curves("reach_fraction", grid))
    lost = row["ger"]
    whole = (
        "no answer token was lost from every slot"
        if lost == 0
        else f"{lost:.1%} of the answer tokens are gone from every slot"
    )
    answers = f"the answer token in {row['reach_any']:.0%} of the replicates"
    if p.n_answers > 1:
        answers = (
            f"some answer token in {row['reach_any']:.0%} of the replicates, all {p.n_answers} of them in "
            f"{row['reach_all']:.0%}"
        )
    return [
        f"Retention at ratio {result.ratios[-1]:g}: {whole}; in a single layer {row['ger_layer']:.1%} are gone "
        f"from {all_of(p.n_heads, 'head')}.",
        f"Accessibility: the query still reaches {row['reach_fraction']:.1%} of the context; {answers}.",
        _never_half(result, grid)
        if math.isnan(half.value)
        else f"Half of the context is out of reach from ratio {interval(half)} on (95 % interval).",
    ]


def _never_half(result: Simulation, grid: Sequence[float]) -> str:
    """Return on which side of one half the reach stays at the ratios looked at."""
    mean = result.curves("reach_fraction", grid[-1:]).mean()
    side = "More than half" if mean > 0.5 else "Less than half" if mean < 0.5 else "Half"
    at = f"at ratio {grid[0]:g}" if len(grid) == 1 else "at every ratio looked at"
    return f"{side} of the context is in reach {at}."


def _agreement(p: Parameters) -> list[str]:
    """Return what to know about how far the heads agree, where the policy looks at their scores."""
    if p.n_layers * p.n_heads == 1:
        return []
    if declared(p.policy).scores is None and declared(p.policy).draws != "orders":
        return []
    if p.independent:
        return ["Real heads agree more than this: with --score-correlation above 0, whole tokens die sooner."]
    return [
        "One shared correlation is the simplest model of heads that agree; a real model's can be measured "
        "with extract and compare."
    ]


def _footnote(result: Simulation) -> str:
    """Return how to read the table."""
    p = result.parameters
    last, protection = "no row is protected.", result.protection
    if protection.words:
        (cliff,) = set(structural_cliffs([protection], [p.n_tokens]).values())
        last = (
            f"{protection.words} go last, so that all else is gone at ratio {cliff:.4g}: a cliff of the code."
        )
    draws = "" if result._columns["ger"][3][0] is None else f" (of theory over {DRAWS:,} draws)"
    error = f"± is one standard error over {result.replicates} replicates{draws}"
    if result.replicates == 1:
        error = "One replicate tells no standard error"
    return (
        f"{error}; < and > are 95 % bounds "
        f"where none or all were counted; - where no theory applies. Pruning {p.prune!r}, "
        f"{'with' if p.residual else 'without'} residual edges; {last}"
    )


def _trials(result: Simulation, name: str) -> int:
    """Return the number of independent trials behind a count of none: tokens for GER, graphs for reach."""
    p = result.parameters
    if name in result.measured:
        return 0
    if name.startswith("reach"):
        return result.replicates
    return result.replicates * (p.n_answers if name.startswith("ger") else p.n_tokens)

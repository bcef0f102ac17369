"""How often 95 % intervals hold the truth: docs/coverage.md.

``python -m studies.coverage [--runs 100] [--only WORD] [--write]`` draws data of known truth, fits them, and counts.
Every cell has seeds of its own, so that any of them can be run by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from routegraph.critical.binder import by_binder
from routegraph.critical.cliff import RISE, fit_cliff
from routegraph.critical.collapse import by_collapse
from routegraph.critical.estimators import by_half_point, by_peak
from routegraph.critical.fit import fit_critical
from routegraph.critical.items import item_thresholds
from routegraph.critical.points import crossing, half_point
from routegraph.stats import bootstrap
from routegraph.stats.auc import pooled_auc
from routegraph.stats.certified import fixed_sequence, p_values
from routegraph.stats.paired import paired_difference
from routegraph.stats.proportions import proportion, wilson
from studies.pages import DOCS, markdown, put_between

Array = NDArray[np.float64]
PAGE = DOCS / "coverage.md"
BEGIN, END = "<!-- table: written by studies/coverage.py -->", "<!-- end of table -->"
RATIOS = np.array([0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])
RESAMPLES = 200
#: What `fit_critical` makes its intervals from, without the verdict.
METHODS = {"half": by_half_point, "peak": by_peak, "binder": by_binder, "collapse": by_collapse}


@dataclass(frozen=True)
class Found:
    """One interval: of what, whether it holds the truth, whether the fit warned of it."""

    quantity: str
    holds: bool
    warned: bool = False


@dataclass(frozen=True)
class Cell:
    """One estimator on data of one make.

    Attributes
    ----------
    estimator, shape : str
    run : (numpy Generator, seed) -> iterator of Found
    covers : bool
        Whether it ought to; False for those that are known not to, which must warn.
    untold : str
        A quantity that these data do not tell: no interval is given, with a warning.
    """

    estimator: str
    shape: str
    run: Callable[[np.random.Generator, int], Iterator[Found]]
    covers: bool = True
    untold: str = ""


def inside(ends: tuple[Any, ...], truth: float) -> bool:
    """Tell whether an interval holds the truth; one with an unknown end does not."""
    low, high = ends[-2:]
    return low is not None and high is not None and bool(low - 1e-12 <= truth <= high + 1e-12)


# --- curves of several sizes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Curves:
    """Replicates at several sizes, functions of z = (ratio - .5) size**(1/nu) alone."""

    inverse_nu: float
    sizes: tuple[int, ...]
    ratios: Array
    replicates: int
    of: Callable[[np.random.Generator, Array, int], Array]
    zeta_over_nu: float = 0.0

    def draw(self, rng: np.random.Generator, replicates: int | None = None) -> Array:
        """Return samples, float64[S, R, A]."""
        made = []
        for size in self.sizes:
            z = (self.ratios - 0.5) * size**self.inverse_nu
            made.append(size**self.zeta_over_nu * self.of(rng, z, replicates or self.replicates))
        return np.array(made)


def shifted(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """Logistic curves, each with a shift of its own."""
    return np.asarray(expit(z / 2 + rng.normal(0, 0.3, (rows, 1))))


def sloped(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """Logistic curves, each with a shift and a slope of its own."""
    return np.asarray(expit(z / 2 * rng.lognormal(0, 0.3, (rows, 1)) + rng.normal(0, 0.6, (rows, 1))))


def skewed(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """Gumbel curves, steepest below their middle."""
    return np.asarray(1 - np.exp(-np.exp(z / 2 + rng.normal(0, 0.3, (rows, 1)))))


def grainy(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """Logistic curves with counting noise at every ratio, out of 100."""
    return np.asarray(rng.binomial(100, expit(z / 2 + rng.normal(0, 0.3, (rows, 1)))) / 100)


def outcomes(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """0 below a place drawn for each replicate, 1 above: a step."""
    return (rng.logistic(size=(rows, 1)) < z / 2).astype(float)


def normal(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """A normal order parameter whose mean falls."""
    return np.asarray(np.exp(-z / 4) + rng.normal(0, 1, (rows, 1)) * (1 + expit(z / 2)))


def two_wells(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """Two wells, as of a magnet without a field: + or - a height that falls, with normal noise."""
    sign, noise = rng.choice([-1.0, 1.0], (rows, 1)), rng.normal(0, 0.35, (rows, 1))
    return np.asarray(sign * 2 * expit(-z / 2) + noise)


def heavy(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """An order parameter with heavy tails: the variance of its fourth moment is not finite."""
    return np.asarray(np.exp(-z / 4) + rng.standard_t(8, (rows, 1)) * (0.24 + 0.6 * expit(z / 2)))


def two_valued(rng: np.random.Generator, z: Array, rows: int) -> Array:
    """1, or .1 beyond a normal place of each replicate."""
    return np.where(rng.normal(size=(rows, 1)) < -z / 4, 1.0, 0.1)


FINE, COARSE, WIDE = np.linspace(0.3, 0.7, 81), np.linspace(0.3, 0.7, 41), np.linspace(0.2, 0.8, 121)
SHAPES = {
    "logistic, shifts; 1/nu 2/3, sizes 16-128, step .005": Curves(
        2 / 3, (16, 32, 64, 128), FINE, 100, shifted
    ),
    "logistic, slopes vary; 1/nu 3/4, sizes 16-64, step .01": Curves(0.75, (16, 32, 64), COARSE, 40, sloped),
    "Gumbel; 1/nu 1.2, sizes 8-32, step .005": Curves(1.2, (8, 16, 32), WIDE, 60, skewed),
    "counting noise; 1/nu 2/3, sizes 16-128, step .005": Curves(2 / 3, (16, 32, 64, 128), FINE, 60, grainy),
}
LATTICES = {
    "steps; 1/nu 3/4, sizes 16-64": Curves(0.75, (16, 32, 64), COARSE, 200, outcomes),
    "two values; 1/nu 2/3, sizes 16-128": Curves(2 / 3, (16, 32, 64, 128), FINE, 200, two_valued),
    "two wells; 1/nu 1, sizes 8-64": Curves(1.0, (8, 16, 32, 64), WIDE, 200, two_wells),
    "normal; 1/nu 1, sizes 8-64": Curves(1.0, (8, 16, 32, 64), WIDE, 200, normal),
}


def fitted(shape: Curves, method: str, **options: Any) -> Callable[..., Iterator[Found]]:
    """Return a run: alpha_c, and the exponent where the method has one."""

    def run(rng: np.random.Generator, seed: int) -> Iterator[Found]:
        size = np.array(shape.sizes, dtype=float)
        data = bootstrap.resample(shape.ratios, shape.draw(rng), size, RESAMPLES, seed)
        found = METHODS[method](data, **options)
        warned = bool(found.warnings)
        yield Found("critical ratio", inside(found.interval, 0.5), warned)
        told = found.inverse_nu is not None and inside(bootstrap.interval(found.inverse_nu), shape.inverse_nu)
        yield Found("1/nu", told, warned)
        if found.zeta_over_nu is not None:
            yield Found("zeta/nu", inside(bootstrap.interval(found.zeta_over_nu), shape.zeta_over_nu), warned)

    return run


def at_half(shape: Curves) -> Callable[..., Iterator[Found]]:
    """Return a run of method "half", whose truth is the half point of the largest size's expected curve."""
    truth: list[float] = []

    def run(rng: np.random.Generator, seed: int) -> Iterator[Found]:
        if not truth:
            many = shape.draw(np.random.default_rng(1), 20_000)[-1]
            truth.append(float(crossing(shape.ratios, many.mean(axis=0))))
        size = np.array(shape.sizes, dtype=float)
        found = by_half_point(bootstrap.resample(shape.ratios, shape.draw(rng), size, RESAMPLES, seed))
        yield Found("half point of the largest size", inside(found.interval, truth[0]), bool(found.warnings))

    return run


def of_rows(shape: Curves) -> Callable[..., Iterator[Found]]:
    """Return a run of `half_point`, on the largest size alone."""
    one = Curves(shape.inverse_nu, shape.sizes[-1:], shape.ratios, shape.replicates, shape.of)
    truth: list[float] = []

    def run(rng: np.random.Generator, seed: int) -> Iterator[Found]:
        if not truth:
            many = one.draw(np.random.default_rng(1), 20_000)[0]
            truth.append(float(crossing(one.ratios, many.mean(axis=0))))
        found = half_point(one.ratios, one.draw(rng)[0], resamples=400, seed=seed)
        yield Found("half point", inside(found, truth[0]))

    return run


def several(rng: np.random.Generator, seed: int) -> Iterator[Found]:
    """A curve that crosses one half three times: the interval goes from the first crossing to the last."""
    grid = np.linspace(0, 1, 101)
    curve = 0.5 + 0.3 * np.sin(9.5 * (grid - 0.17))
    fit = fit_critical(grid, curve + rng.normal(0, 0.4, (60, 1)), resamples=RESAMPLES, seed=seed)
    first, last = 0.17, 0.17 + 2 * np.pi / 9.5
    low, high = fit.ci
    holds = low is not None and high is not None and low <= first and last <= high
    yield Found("all three crossings", bool(holds), any("crosses" in one for one in fit.warnings))


def drifting(rng: np.random.Generator, seed: int, method: str) -> Iterator[Found]:
    """Curves whose place moves as .5 + .8 size**-1.5: what small sizes do to each method."""
    sizes, made = (8, 12, 18, 26), []
    for size in sizes:
        z = (WIDE - 0.5 - 0.8 * size**-1.5) * size**1.1
        made.append(expit(z / 2 + rng.normal(0, 0.1, (200, 1))))
    options: dict[str, Any] = {} if method == "half" else {"zeta_over_nu": 0.0}
    fit = fit_critical(WIDE, np.array(made), sizes, method=method, resamples=RESAMPLES, seed=seed, **options)
    told = any(word in one for one in fit.warnings for word in ("moves with the sizes", "still moves"))
    yield Found("limit of large sizes", inside(fit.ci, 0.5), told)


def corrected(rng: np.random.Generator, seed: int) -> Iterator[Found]:
    """A correction to scaling on three sizes, which hardly determine it."""
    shape = SHAPES["logistic, slopes vary; 1/nu 3/4, sizes 16-64, step .01"]
    samples = shape.draw(rng) * (1 + 0.4 * 16 / np.array(shape.sizes))[:, None, None]
    data = bootstrap.resample(shape.ratios, samples, np.array(shape.sizes, dtype=float), RESAMPLES, seed)
    found = by_collapse(data, zeta_over_nu=0.0, correction=True)
    warned = any("hardly determined" in one for one in found.warnings)
    yield Found("critical ratio", inside(found.interval, 0.5), warned)
    assert found.inverse_nu is not None
    yield Found("1/nu", inside(bootstrap.interval(found.inverse_nu), 0.75), warned)


# --- counts and items ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """A rate that goes from one level to another by a logistic."""

    place: float
    scale: float
    before: float
    after: float
    n: int

    def at(self, ratios: Array) -> Array:
        """Return the rate at ratios."""
        return np.asarray(
            self.before + (self.after - self.before) * expit((ratios - self.place) / self.scale)
        )


RATES = {
    "a step at .7": Rate(0.7, 0.04, 0.15, 0.75, 80),
    "a cliff at .82": Rate(0.82, 0.01, 0.1, 0.8, 100),
    "a slow fall about .5": Rate(0.5, 0.08, 0.95, 0.05, 60),
}


def judged(rate: Rate, counts: Array, seed: int, items: NDArray[np.bool_] | None = None) -> Iterator[Found]:
    """Yield midpoint and width of a fit of counts, or of items."""
    found = fit_cliff(RATIOS, counts, rate.n, simulations=1, seed=seed, outcomes=items)
    warned = bool(found.warnings)
    yield Found("midpoint", inside(found.alpha_c, rate.place), warned)
    yield Found("width, 10-90 %", inside(found.width, RISE * rate.scale), warned)


def stepping(rng: np.random.Generator, rate: Rate) -> NDArray[np.bool_]:
    """Return items with a step each, whose places scatter so that the mean is the rate."""
    before = rng.random((rate.n, 1)) < rate.before
    after = rng.random((rate.n, 1)) < rate.after
    return np.where(rng.logistic(rate.place, rate.scale, (rate.n, 1)) > RATIOS, before, after)


def coins(rng: np.random.Generator, rate: Rate) -> NDArray[np.bool_]:
    """Return items that are coins at every ratio."""
    return np.asarray(rng.random((rate.n, len(RATIOS))) < rate.at(RATIOS))


def both(rng: np.random.Generator, rate: Rate) -> NDArray[np.bool_]:
    """Return items half of which step and half of which are coins."""
    return np.asarray(np.where(rng.random((rate.n, 1)) < 0.5, stepping(rng, rate), coins(rng, rate)))


def counted(rate: Rate) -> Callable[..., Iterator[Found]]:
    """Return a run of `fit_counts` on counts that are independent."""
    return lambda rng, seed: judged(rate, rng.binomial(rate.n, rate.at(RATIOS)), seed)


def asked(rate: Rate, items: Callable[..., NDArray[np.bool_]], known: bool) -> Callable[..., Iterator[Found]]:
    """Return a run of `fit_items`, or of `fit_counts` on the same items, on items of one make."""

    def run(rng: np.random.Generator, seed: int) -> Iterator[Found]:
        table = items(rng, rate)
        return judged(rate, table.sum(axis=0), seed, table if known else None)

    return run


def stepwise(items: Callable[..., NDArray[np.bool_]]) -> Callable[..., Iterator[Found]]:
    """Return a run of `ItemThresholds.stepwise`; the truth is what 100,000 items give."""
    rate = Rate(0.6, 0.1, 1.0, 0.0, 100)
    truth: list[float] = []

    def run(rng: np.random.Generator, seed: int) -> Iterator[Found]:
        if not truth:
            many = Rate(rate.place, rate.scale, rate.before, rate.after, 100_000)
            truth.append(item_thresholds(RATIOS, items(np.random.default_rng(1), many)).stepwise(2).value)
        found = item_thresholds(RATIOS, items(rng, rate)).stepwise(400, seed)
        yield Found("share that is steps", inside(found, truth[0]))

    return run


# --- statistics ---------------------------------------------------------------------------------------


def auc(shift: float, cells: int, ties: bool) -> Callable[..., Iterator[Found]]:
    """Return a run of `pooled_auc`: failing items are `shift` higher; an item has a part of its own in all cells."""

    def drawn(rng: np.random.Generator, n: int) -> list[tuple[Any, Any, Any]]:
        own, tables = rng.normal(size=n), []
        for place in range(cells):
            fails = rng.random(n) < 0.3 + 0.1 * place
            value = 0.5 * own + rng.normal(size=n) + shift * fails
            tables.append((np.arange(n), np.round(value) if ties else value, fails))
        return tables

    truth: list[float] = []

    def run(rng: np.random.Generator, seed: int) -> Iterator[Found]:
        if not truth:
            truth.append(pooled_auc("x", drawn(np.random.default_rng(1), 6000), 6000, resamples=1).auc.value)
        found = pooled_auc("x", drawn(rng, 80), 80, resamples=400, seed=seed).auc
        yield Found("AUC", inside(found, truth[0]))

    return run


def paired(gained: float, lost: float, n: int) -> Callable[..., Iterator[Found]]:
    """Return a run of `paired_difference`."""

    def run(rng: np.random.Generator, _: int) -> Iterator[Found]:
        up, down, _same = rng.multinomial(n, [gained, lost, 1 - gained - lost])
        yield Found("difference", inside(paired_difference(int(up), int(down), n), gained - lost))

    return run


def share(p: float, n: int) -> Callable[..., Iterator[Found]]:
    """Return a run of `wilson`."""

    def run(rng: np.random.Generator, _: int) -> Iterator[Found]:
        yield Found("share", inside(proportion(int(rng.binomial(n, p)), n), p))

    return run


def certified(risks: list[float], n: int, bound: float) -> Callable[..., Iterator[Found]]:
    """Return a run of `fixed_sequence` at level .05: nothing is certified whose risk is above the bound."""

    def run(rng: np.random.Generator, _: int) -> Iterator[Found]:
        passed = fixed_sequence(p_values(rng.binomial(n, risks), n, bound), 0.05)
        yield Found("no setting above the bound", all(risk <= bound for risk in risks[:passed]))

    return run


def cells() -> list[Cell]:
    """Return all cells."""
    made = []
    for name, shape in SHAPES.items():
        made.append(Cell("`half`", name, at_half(shape)))
        made.append(Cell("`peak`", name, fitted(shape, "peak", zeta_over_nu=0.0)))
    for name, shape in list(SHAPES.items())[:3]:
        made.append(Cell("`collapse`, zeta/nu given", name, fitted(shape, "collapse", zeta_over_nu=0.0)))
    for name, shape in list(SHAPES.items())[:3]:
        order = Curves(shape.inverse_nu, shape.sizes, shape.ratios, shape.replicates, shape.of, -0.16)
        made.append(Cell("`peak`, zeta/nu -.16", name, fitted(order, "peak", zeta_over_nu=-0.16)))
        made.append(Cell("`collapse`, free", name, fitted(order, "collapse")))
    for name, shape in LATTICES.items():
        untold = "1/nu" if shape.of is normal else ""
        made.append(Cell("`binder`", name, fitted(shape, "binder"), untold=untold))
    tails = Curves(1.1, (12, 24, 48), WIDE, 300, heavy)
    made.append(Cell("`binder`", "heavy tails; 1/nu 1.1, sizes 12-48", fitted(tails, "binder"), covers=False))
    few = Curves(0.9, (12, 24, 48), WIDE, 50, grainy)
    made.append(
        Cell("`peak`", "counting noise; 1/nu .9, sizes 12-48", fitted(few, "peak", zeta_over_nu=0.0), False)
    )
    made += [Cell("`half_point`", name, of_rows(shape)) for name, shape in {**SHAPES, **LATTICES}.items()][:5]
    for name, rate in RATES.items():
        made.append(Cell("`fit_counts`, counts independent", name, counted(rate)))
        for kind, items in {"steps": stepping, "half of each": both}.items():
            made.append(Cell("`fit_items`", f"{name}; items are {kind}", asked(rate, items, True)))
        made.append(
            Cell("`fit_counts` on items", f"{name}; items are steps", asked(rate, stepping, False), False)
        )
    made.append(
        Cell("`fit_items`", "a step at .7; items are coins", asked(RATES["a step at .7"], coins, True))
    )
    for kind, items in (("coins", coins), ("half steps", both)):
        made.append(Cell("`stepwise`", kind, stepwise(items)))
    for told, options in (
        ("one cell, far apart", (1.5, 1, False)),
        ("three cells of the same items", (0.7, 3, False)),
        ("ties", (0.4, 2, True)),
        ("nothing to tell", (0.0, 3, False)),
    ):
        made.append(Cell("`pooled_auc`", told, auc(*options)))
    for n, gained, lost in ((50, 0.02, 0.1), (100, 0.15, 0.05), (300, 0.01, 0.01)):
        made.append(
            Cell("`paired_difference`", f"{n} items, {gained:g} and {lost:g} flip", paired(gained, lost, n))
        )
    for n, p in ((48, 0.9), (228, 0.34), (500, 0.02)):
        made.append(Cell("`wilson`", f"{p:g} of {n}", share(p, n)))
    for told, risks in (
        ("just above the bound", [0.02, 0.06, 0.101, 0.2]),
        ("a hump", [0.05, 0.12, 0.05, 0.3]),
        ("first one above", [0.101, 0.05, 0.02, 0.3]),
    ):
        made.append(Cell("`fixed_sequence`", told, certified(risks, 300, 0.1)))
    made.append(Cell("`half`", "crosses three times", several))
    for method in ("half", "peak", "collapse"):

        def drifts(rng: np.random.Generator, seed: int, method: str = method) -> Iterator[Found]:
            return drifting(rng, seed, method)

        made.append(Cell(f"`{method}`", "place moves with size", drifts, False))
    made.append(Cell("`collapse`, corrected", "three sizes", corrected, False))
    return made


def count(cell: Cell, runs: int) -> dict[str, tuple[int, int]]:
    """Return for each quantity how many intervals held the truth, and how many fits warned."""
    found: dict[str, tuple[int, int]] = {}
    name = zlib.crc32(f"{cell.estimator} {cell.shape}".encode())
    for seed in range(runs):
        for one in cell.run(np.random.default_rng([seed, name]), seed):
            held, warned = found.get(one.quantity, (0, 0))
            found[one.quantity] = held + one.holds, warned + one.warned
    return found


def main() -> None:
    """Count, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--kept", type=Path, help="file of cells that are counted, and not counted again")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    kept: dict[str, Any] = {}
    if given.kept and given.kept.exists():
        kept = json.loads(given.kept.read_text("utf-8"))
    good: list[list[str]] = []
    bad: list[list[str]] = []
    for cell in cells():
        name = f"{cell.estimator} {cell.shape}"
        if given.only not in name:
            continue
        if name not in kept:
            began = time.process_time()
            kept[name] = {"runs": given.runs, "found": count(cell, given.runs)}
            print(f"{name}: {kept[name]}, {time.process_time() - began:.1f} s", file=sys.stderr, flush=True)
            if given.kept:
                given.kept.write_text(json.dumps(kept), "utf-8")
        runs = kept[name]["runs"]
        for quantity, (held, warned) in kept[name]["found"].items():
            low, high = (100 * float(end) for end in wilson(held, runs))
            row = [cell.estimator, quantity, cell.shape, f"{held} of {runs}", f"[{low:.0f}, {high:.0f}]"]
            (good if cell.covers and quantity != cell.untold else bad).append([*row, f"{warned} of {runs}"])
    columns = ["estimator", "of", "data", "held", "percent", "warned"]
    tables = markdown(columns[:-1], [row[:-1] for row in good]), markdown(columns, bad)
    text = f"{tables[0]}\n\nNot meant to cover, and how many fits warned of it:\n\n{tables[1]}"
    if given.write:
        put_between(PAGE, BEGIN, text, END)
    else:
        print(text)


if __name__ == "__main__":
    main()

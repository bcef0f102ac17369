"""Critical points by sweep and fit: directed percolation, the square lattice, coverage of the intervals."""

import numpy as np
import pytest
from scipy.stats import binom

from routegraph import plot
from routegraph.critical.cliff import fit_cliff
from routegraph.critical.fit import fit_critical
from routegraph.critical.points import crossing
from routegraph.kernels import union_find
from routegraph.sim.sweep import sweep
from routegraph.sim.sweep_fit import fit_sweep
from routegraph.theory.ger import gaussian_copula
from tests.helpers.directed import DELTA, TRUTH
from tests.helpers.lattice import keys, rectangle

pytestmark = pytest.mark.verify

NU_PAR = 1.733847  # Hinrichsen 2000
HALF_WIDTH = 1.959964  # an interval's half width in standard errors


def recorded(record, name, fit, attribute, truth, runs, source):
    """Record an estimate, and demand that its own 95 % interval holds the truth."""
    value, (low, high) = (
        getattr(fit, attribute),
        getattr(fit, "ci" if attribute == "alpha_c" else f"{attribute}_ci"),
    )
    record.value(name, value, (high - low) / 2 / HALF_WIDTH, truth, runs, source)
    assert low <= truth <= high, (name, value, low, high, truth)
    return high - low


LAYERS, RUNS = [16, 32, 64, 128], 4000


def swept_lattice(folder, beyond=0, **routes):
    """Bonds of the lattice ensemble, twice as wide as deep, and `beyond` positions more."""
    return sweep(
        folder / "sweep",
        n_layers=LAYERS,
        n_tokens=[2 * n + beyond for n in LAYERS],
        together=["n_layers", "n_tokens"],
        n_heads=2,
        degree=1,
        ensemble="lattice",
        policy="bernoulli",
        residual=False,
        n_answers=1,
        settings={"resolution": 16384},
        replicates=RUNS,
        workers=2,
        **routes,
    )


def blind(swept, observable, **options):
    """Fit twice without a look at the truth: where the curves change, then a quarter of that around the result."""
    whole, _ = fit_sweep(swept, observable, **options)
    quarter = (whole.ratios[-1] - whole.ratios[0]) / 8
    near = {"low": whole.alpha_c - quarter, "high": whole.alpha_c + quarter, "points": 61}
    return fit_sweep(swept, observable, **near, **options)[0]


def test_directed_bond_percolation_by_sweep_and_fit(record, tmp_path):
    """Survival of the query's single seed; size = layers; every cell wider than the seed can reach."""
    swept = swept_lattice(tmp_path, beyond=2)
    truth = 1 - TRUTH["bond"]
    free = blind(swept, "survives", method="collapse")
    assert free.scale == "L"
    runs = RUNS * len(LAYERS)
    recorded(record, "alpha_c, exponents free", free, "alpha_c", truth, runs, "Hinrichsen 2000")
    recorded(record, "1/nu_par, exponents free", free, "inverse_nu", 1 / NU_PAR, runs, "Hinrichsen 2000")
    recorded(record, "zeta/nu = -delta, free", free, "zeta_over_nu", -DELTA, runs, "Hinrichsen 2000")
    assert free.verdict == "transition"
    known = blind(swept, "survives", method="collapse", zeta_over_nu=-DELTA)
    width = recorded(record, "alpha_c, delta given", known, "alpha_c", truth, runs, "Hinrichsen 2000")
    assert width < 0.008
    width = recorded(
        record, "1/nu_par, delta given", known, "inverse_nu", 1 / NU_PAR, runs, "Hinrichsen 2000"
    )
    assert width < 0.15
    record.figure(known.plot())


def test_square_lattice_by_sweep_and_fit(record, tmp_path):
    """Bonds of the lattice ensemble, directions forgotten: what hangs together with the whole top layer."""
    swept = swept_lattice(tmp_path, source="row", directed=False)
    known = {"method": "collapse", "scale": "L", "zeta_over_nu": 0.0}
    runs = RUNS * len(LAYERS)
    collapsed = blind(swept, "survives", correction=True, **known)
    recorded(record, "p_c by sweep and collapse", collapsed, "alpha_c", 0.5, runs, "duality")
    width = recorded(
        record, "1/nu by sweep and collapse", collapsed, "inverse_nu", 0.75, runs, "den Nijs 1979"
    )
    assert width < 0.15
    assert collapsed.verdict == "transition"
    crossed = blind(swept, "survives", method="binder", scale="L")
    recorded(record, "p_c by sweep and Binder crossings", crossed, "alpha_c", 0.5, runs, "duality")
    record.figure(collapsed.plot())


def test_square_lattice_by_newman_ziff_and_fit(record):
    """Crossing probability of L x (L + 1), bonds, microcanonical runs convolved with the binomial."""
    sizes, runs, p = [16, 32, 64, 128], 1500, np.linspace(0.42, 0.58, 81)
    samples = []
    for length in sizes:
        edges, sides = rectangle(length, length + 1)
        needed = np.array([union_find.bonds_to_cross(edges, sides, key) for key in keys(7000 + length, runs)])
        samples.append(binom.sf(needed[:, None] - 1, len(edges), p))
    samples = np.array(samples)
    collapsed = fit_critical(
        p, samples, sizes, method="collapse", scale="L", zeta_over_nu=0.0, correction=True
    )
    total = runs * len(sizes)
    recorded(record, "p_c by collapse", collapsed, "alpha_c", 0.5, total, "duality")
    width = recorded(record, "1/nu by collapse", collapsed, "inverse_nu", 0.75, total, "den Nijs 1979")
    assert width < 0.1
    assert collapsed.verdict == "transition"
    # The Binder cumulant wants outcomes, not their binomial averages: one uniform number a run decides them.
    outcomes = np.random.default_rng(1).random((len(sizes), runs, 1)) < samples
    crossed = fit_critical(p, outcomes, sizes, method="binder", scale="L")
    recorded(record, "p_c by Binder crossings", crossed, "alpha_c", 0.5, total, "duality")
    peaked = fit_critical(p, samples, sizes, method="peak", scale="L", zeta_over_nu=0.0)
    recorded(record, "p_c by peak", peaked, "alpha_c", 0.5, total, "duality")
    record.figure(collapsed.plot())


GRID = np.linspace(0.3, 0.7, 41)
SMALL = [16, 32, 64]


def synthetic(rng, replicates=40):
    """Exact scaling, alpha_c = .5, 1/nu = .75, zeta = 0, one random shift and one random slope a replicate."""
    made = []
    for size in SMALL:
        shift = rng.normal(0, 0.6, (replicates, 1))
        slope = rng.lognormal(0, 0.3, (replicates, 1))
        made.append(1 / (1 + np.exp((GRID - 0.5) * size**0.75 / 2 * slope + shift)))
    return np.array(made)


@pytest.mark.parametrize("method", ["half", "peak", "collapse", "corrected", "binder", "trials"])
def test_intervals_cover_the_truth_at_their_rate(record, method):
    """Over 100 seeded repetitions, 95 % intervals hold the truth 90 to 99 times.

    "corrected" does not, and the fit warns of it: three sizes hardly determine a correction term.
    """
    ratios = np.array([0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])
    covered = exponent = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 2026])
        if method == "trials":
            rate = 0.15 + 0.6 / (1 + np.exp(-(ratios - 0.7) / 0.04))
            fit = fit_critical(ratios, rng.binomial(80, rate), trials=[80] * 10, seed=seed)
            truth = 0.7
        elif method == "binder":
            samples = np.array(
                [rng.random((200, 1)) < 1 / (1 + np.exp((GRID - 0.5) * size**0.75 / 2)) for size in SMALL]
            )
            fit = fit_critical(GRID, samples, SMALL, method=method, resamples=200, seed=seed)
            truth = 0.5
        else:
            options = {"method": method} if method == "half" else {"method": method, "zeta_over_nu": 0.0}
            samples = synthetic(rng)
            if method == "corrected":
                options |= {"method": "collapse", "correction": True}
                samples = samples * (1 + 0.4 * SMALL[0] / np.array(SMALL))[:, None, None]
            fit = fit_critical(GRID, samples, SMALL, resamples=200, seed=seed, **options)
            truth = 0.5
        low, high = fit.ci
        covered += low is not None and high is not None and low <= truth <= high
        low, high = fit.inverse_nu_ci
        exponent += low is not None and high is not None and low <= 0.75 <= high
    print(f"{method}: alpha_c covered {covered} of 100, 1/nu {exponent} of 100")
    record.value(f"{method}: intervals that hold alpha_c", covered / 100, None, 0.95, 100, "nominal")
    least = 80 if method == "corrected" else 90
    assert least <= covered <= 99
    if method == "corrected":
        assert any("hardly determined" in warning for warning in fit.warnings)
    if method in ("collapse", "corrected"):
        record.value(f"{method}: intervals that hold 1/nu", exponent / 100, None, 0.95, 100, "nominal")
        assert least <= exponent <= 99


def test_cliffs_and_gradual_declines_are_called_what_they_are(record):
    """100 measured curves each, 100 items a ratio: how often the model comparison says "cliff"."""
    ratios = np.array([0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])
    rates = {
        "cliff": 0.1 + 0.7 / (1 + np.exp(-(ratios - 0.82) / 0.015)),
        "line": 0.1 + 0.6 * ratios,
        "bend": 0.1 + 0.6 * ratios**2,
    }
    called = {}
    for number, (name, rate) in enumerate(rates.items()):
        rng = np.random.default_rng([number, 12])
        verdicts = [fit_cliff(ratios, rng.binomial(100, rate), 100, 100, s).verdict for s in range(100)]
        called[name] = verdicts.count("cliff")
        expected = 1.0 if name == "cliff" else 0.05
        record.value(f"{name}: called a cliff", called[name] / 100, None, expected, 100, "nominal level .05")
    assert called["cliff"] >= 90
    assert max(called["line"], called["bend"]) <= 10


def test_alpha_c_of_the_two_families(record, tmp_path):
    """Half points of GER of the ensembles `llama` and `qwen` against the copula of their own field."""
    figure, axes = plot.figure()
    for family in ("llama", "qwen"):
        swept = sweep(
            tmp_path / family,
            n_tokens=[512, 1024, 2048],
            n_layers=16,
            n_heads=8,
            profile=family,
            correlation_floor=0.3,
            correlation_length=5.0,
            read_agreement=1.0,
            replicates=64,
            workers=2,
        )
        for observable in ("eviction_rate", "reach_fraction"):
            fit, _ = fit_sweep(swept, observable)
            error = (fit.ci[1] - fit.ci[0]) / 2 / HALF_WIDTH
            axes.errorbar(fit.alpha_c, f"{family} {observable}", xerr=2 * error, fmt="o")
            print(
                f"{family}: {observable} {fit.alpha_c:.4f} [{fit.ci[0]:.4f}, {fit.ci[1]:.4f}], {fit.verdict}"
            )
            assert fit.verdict != "transition"
            if observable == "eviction_rate":
                # On the fit's own grid: at n = 2048 the curve is a staircase of steps of .0005.
                parameters, ratios = swept.cells[-1].parameters, np.array(fit.ratios)
                gone = parameters.levels_of().levels(ratios) / parameters.n_tokens
                correlation = parameters.field().correlation(parameters.n_heads)
                theory = gaussian_copula(correlation, gone, draws=400_000).mean
                expected = float(crossing(ratios, theory))
                name = f"{family}: half point of eviction_rate"
                record.value(name, fit.alpha_c, error, expected, 64, "copula, no fit")
                assert abs(fit.alpha_c - expected) < 3 * error
    record.figure(figure)

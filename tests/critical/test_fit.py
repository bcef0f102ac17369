"""Critical points of synthetic curves with known exponents, and what may not be called a transition."""

import numpy as np
import pytest

from routegraph.critical import collapse, estimators
from routegraph.critical.cliff import fit_cliff, log_likelihood, mix, polynomial
from routegraph.critical.fit import CriticalFit, fit_critical
from routegraph.kernels.collapse import collapse_quality
from routegraph.stats import bootstrap

SIZES = [16, 32, 64, 128]
RATIOS = np.linspace(0.3, 0.7, 81)


def curves(rng, replicates=100, inverse_nu=0.75, zeta_over_nu=0.0, alpha_c=0.5, sizes=SIZES, noise=0.3):
    """m = L^(zeta/nu) f((alpha - alpha_c) L^(1/nu) / 2 + noise), f logistic, falling: exact scaling."""
    made = []
    for size in sizes:
        argument = (RATIOS - alpha_c) * size**inverse_nu / 2 + rng.normal(0, noise, (replicates, 1))
        made.append(size**zeta_over_nu / (1 + np.exp(argument)))
    return np.array(made)


def crossing_curves(rng, replicates=200, sizes=SIZES):
    """Order parameters whose Binder cumulants cross at .5: up with size below it, down above.

    m = (1 + s z) with probability q, else |s z|: q a function of the scaling variable alone.
    """
    made = []
    for size in sizes:
        q = 1 / (1 + np.exp((RATIOS - 0.5) * size**0.75 / 2))
        hit = rng.random((replicates, 1)) < q
        made.append(np.where(hit, 1.0, 0.02))
    return np.array(made)


def within(value, ends, truth):
    assert ends[0] <= truth <= ends[1], (value, ends, truth)


# --- the kernel against its slow twin -------------------------------------------------------------


def naive_quality(x, y, error, judged):
    total, count = 0.0, 0
    for i in range(len(x)):
        for j in np.flatnonzero(judged[i]):
            points = []
            for k in set(range(len(x))) - {i}:
                if x[k][0] <= x[i][j] <= x[k][-1]:
                    p = min(max(int(np.searchsorted(x[k], x[i][j], side="left")) - 1, 0), len(x[k]) - 2)
                    points += [(x[k][q], y[k][q], error[k][q]) for q in (p, p + 1)]
            if not points:
                continue
            a, b, e = np.array(points).T
            design = np.vander(a - x[i][j], 2, increasing=True)
            covariance = np.linalg.inv(design.T @ (design / e[:, None] ** 2))
            master = covariance @ (design.T @ (b / e**2))
            total += (y[i][j] - master[0]) ** 2 / (error[i][j] ** 2 + covariance[0, 0])
            count += 1
    return total / count, count


def test_quality_equals_its_naive_twin():
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = np.sort(rng.random((4, 15)), axis=1)
        y, error = rng.random((4, 15)), 0.1 + rng.random((4, 15))
        judged = rng.random((4, 15)) < 0.8
        found, points = collapse_quality(x, y, error, judged)
        expected, count = naive_quality(x, y, error, judged)
        assert points == count
        assert found == pytest.approx(expected, rel=1e-9)


def test_quality_of_points_on_one_line_is_zero_and_of_noise_one():
    rng = np.random.default_rng(1)
    x = np.sort(rng.random((5, 400)), axis=1)
    everything = np.ones_like(x, dtype=bool)
    assert collapse_quality(x, 2 * x + 1, np.full_like(x, 0.1), everything)[0] < 1e-20
    noisy = 2 * x + 1 + rng.normal(0, 0.1, x.shape)
    assert collapse_quality(x, noisy, np.full_like(x, 0.1), everything)[0] == pytest.approx(1, abs=0.1)


# --- known exponents ------------------------------------------------------------------------------


@pytest.mark.parametrize("zeta_over_nu", [0.0, -0.16])
def test_collapse_recovers_known_exponents(zeta_over_nu):
    samples = curves(np.random.default_rng(3), 200, zeta_over_nu=zeta_over_nu)
    fit = fit_critical(RATIOS, samples, SIZES, method="collapse", scale="L")
    within(fit.alpha_c, fit.ci, 0.5)
    within(fit.inverse_nu, fit.inverse_nu_ci, 0.75)
    within(fit.zeta_over_nu, fit.zeta_over_nu_ci, zeta_over_nu)
    assert fit.quality < 1.5
    assert fit.verdict == "transition"
    known = fit_critical(RATIOS, samples, SIZES, method="collapse", zeta_over_nu=zeta_over_nu)
    within(known.alpha_c, known.ci, 0.5)
    assert known.ci[1] - known.ci[0] < 0.015
    assert known.zeta_over_nu is None
    low, high = known.details["s_plus_1"]["alpha_c"]
    assert low < known.alpha_c < high
    assert np.shape(known.details["covariance"]) == (2, 2)


def test_a_correction_to_scaling_is_found_where_there_is_one():
    rng = np.random.default_rng(4)
    samples = curves(rng, 400, noise=0.1) * (1 + 0.4 * 16 / np.array(SIZES))[:, None, None]
    plain = fit_critical(RATIOS, samples, SIZES, method="collapse", zeta_over_nu=0.0)
    corrected = fit_critical(RATIOS, samples, SIZES, method="collapse", zeta_over_nu=0.0, correction=True)
    assert plain.quality > 10 * corrected.quality
    assert any("poor collapse" in w for w in plain.warnings)
    assert not any("hardly determined" in w for w in corrected.warnings)
    few = fit_critical(
        RATIOS, samples[:3], SIZES[:3], method="collapse", zeta_over_nu=0.0, correction=True, resamples=20
    )
    assert any("correction term on 3 sizes is hardly determined" in w for w in few.warnings)
    found = corrected.details["correction"]
    assert found["value"] == pytest.approx(0.4, abs=0.05)
    assert corrected.alpha_c == pytest.approx(0.5, abs=0.005)
    assert corrected.ci[1] - corrected.ci[0] < 0.01


def test_peak_recovers_the_critical_ratio_and_the_exponent():
    fit = fit_critical(RATIOS, curves(np.random.default_rng(5)), SIZES, method="peak", zeta_over_nu=0.0)
    within(fit.alpha_c, fit.ci, 0.5)
    assert fit.inverse_nu == pytest.approx(0.75, abs=0.02)
    assert [row["size"] for row in fit.table] == SIZES
    assert fit.table[-1]["fluctuation_height"]["value"] > 0


def test_a_peak_yields_nu_only_where_the_other_exponent_is_known():
    samples = curves(np.random.default_rng(15), zeta_over_nu=-0.16)
    blind = fit_critical(RATIOS, samples, SIZES, method="peak")
    assert blind.inverse_nu is None
    assert blind.details["growth_of_derivative"]["value"] == pytest.approx(0.75 - 0.16, abs=0.02)
    known = fit_critical(RATIOS, samples, SIZES, method="peak", zeta_over_nu=-0.16)
    assert known.inverse_nu == pytest.approx(0.75, abs=0.02)


def test_a_window_too_narrow_for_the_slope_is_judged_by_the_collapse():
    narrow = np.abs(RATIOS - 0.5) < 0.06
    samples = curves(np.random.default_rng(16), 300, zeta_over_nu=-0.16)[..., narrow]
    fit = fit_critical(RATIOS[narrow], samples, SIZES, method="collapse", zeta_over_nu=-0.16)
    assert fit.verdict == "transition"
    assert fit.details["given_zeta_over_nu"] == -0.16


def test_peaks_that_move_are_extrapolated():
    rng, sizes = np.random.default_rng(6), [16, 32, 64, 128, 256]
    moved = np.array(
        [
            1 / (1 + np.exp((RATIOS - 0.45 - 0.8 * s**-0.75) * s**0.75 / 2 + rng.normal(0, 0.1, (100, 1))))
            for s in sizes
        ]
    )
    fit = fit_critical(RATIOS, moved, sizes, method="peak", zeta_over_nu=0.0)
    within(fit.alpha_c, fit.ci, 0.45)
    assert abs(fit.table[-1]["derivative_peak"]["value"] - 0.45) > fit.ci[1] - fit.ci[0]


def test_binder_crossings_recover_the_critical_ratio():
    fit = fit_critical(RATIOS, crossing_curves(np.random.default_rng(7), 1000), SIZES, method="binder")
    within(fit.alpha_c, fit.ci, 0.5)
    within(fit.inverse_nu, fit.inverse_nu_ci, 0.75)
    second = fit.details["second_moment_alpha_c"]
    within(second["value"], (second["low"], second["high"]), 0.5)
    assert len(fit.table) == 3
    assert not [w for w in fit.warnings if "no significant" in w]


def test_dropping_the_smallest_sizes_is_tabled():
    fit = fit_critical(RATIOS, curves(np.random.default_rng(8)), SIZES, method="collapse", zeta_over_nu=0.0)
    assert [row["smallest_size"] for row in fit.dropped] == [16, 32, 64]
    assert all(row["alpha_c"]["low"] <= 0.5 <= row["alpha_c"]["high"] for row in fit.dropped)


# --- verdicts and warnings ------------------------------------------------------------------------


def test_ger_in_the_number_of_slots_is_a_crossover_and_lattices_transit():
    """p^M has its half point at 2^(-1/M): it moves to the end and never sharpens against its distance from it."""
    rng, sizes = np.random.default_rng(9), [4, 8, 16, 32, 64]
    grid = np.linspace(0.5, 0.999, 200)
    samples = np.array([rng.binomial(100, grid**m, size=(60, 200)) / 100 for m in sizes])
    fit = fit_critical(grid, samples, sizes, method="half", scale="M")
    assert fit.verdict == "crossover"
    assert fit.alpha_c == pytest.approx(2 ** (-1 / 64), abs=0.002)
    assert any("moves by" in sentence for sentence in fit.evidence)
    same = np.repeat(curves(rng, sizes=[32]), 3, axis=0)  # no dependence on size at all
    assert fit_critical(RATIOS, same, [16, 32, 64]).verdict == "crossover"


def test_warnings():
    rng = np.random.default_rng(10)
    samples = curves(rng)
    few = fit_critical(RATIOS, samples[:2], SIZES[:2], method="peak")
    assert any("only 2 size(s)" in w for w in few.warnings)
    assert few.verdict == "undecided"
    upper = RATIOS > 0.52
    cut = fit_critical(RATIOS[upper], samples[..., upper], SIZES, method="peak")
    assert any("edge of the grid" in w for w in cut.warnings)
    noisy = np.array([1 / (1 + np.exp((RATIOS - rng.normal(0.5, 0.3, (3, 1))) * 100)) for _ in SIZES])
    wide = fit_critical(RATIOS, noisy, SIZES, method="half")
    assert wide.ci == (None, None) or any("wider than the change" in w for w in wide.warnings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o.update(method="guess"), "unknown method 'guess'; choose from: half"),
        (lambda o: o.update(scale="N"), "unknown scale 'N'"),
        (
            lambda o: o.update(samples=o["samples"][:1], sizes=[16], method="collapse"),
            "at least 2 sizes, got 1",
        ),
        (
            lambda o: o.update(samples=o["samples"][:1], sizes=[16], method="binder"),
            "at least 2 sizes, got 1",
        ),
        (lambda o: o.update(samples=np.ones((4, 5, 81))), "all curves are equal"),
        (lambda o: o.update(samples=o["samples"][:, :, :80]), r"A = 81 ratios, got \[4, 100, 80\]"),
        (lambda o: o.update(samples=o["samples"][:, :1]), "at least 2 replicates"),
        (lambda o: o.update(samples=o["samples"] * np.nan), "finite"),
        (lambda o: o.update(sizes=[16, 16, 64, 128]), "sizes must increase"),
        (lambda o: o.update(sizes=[16, 32]), "sizes must be 4 positive numbers"),
        (lambda o: o.update(ratios=RATIOS[::-1]), "increasing"),
        (lambda o: o.update(samples=None), "samples must be"),
    ],
)
def test_bad_input_is_named(change, words):
    options = {"ratios": RATIOS, "samples": curves(np.random.default_rng(0)), "sizes": SIZES}
    change(options)
    with pytest.raises(ValueError, match=words):
        fit_critical(**options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["half", "peak", "binder", "collapse"])
def test_curves_that_never_cross_are_told_not_crashed_on(method):
    rng, grid = np.random.default_rng(0), np.linspace(0, 0.9, 40)
    slow = np.array([rng.random((10, 1)) * 0.01 + 0.2 + 0.1 * grid * (i + 1) for i in range(3)])
    dead = np.zeros((3, 10, 40))
    dead[0, 0, 39] = 1
    for samples in (slow, dead):
        fit = fit_critical(grid, samples, [1, 2, 3], method=method, resamples=50)
        assert fit.verdict == "undecided"
        assert fit.warnings
        assert fit.summary()
        assert fit.plot() is not None
        fit.to_dict()


def test_the_same_seed_gives_the_same_fit():
    samples = curves(np.random.default_rng(11), 30)
    fits = [fit_critical(RATIOS, samples, SIZES, method="half", seed=s).to_dict() for s in (1, 1, 2)]
    assert fits[0] == fits[1]
    assert fits[0]["ci"] != fits[2]["ci"]


# --- pieces ---------------------------------------------------------------------------------------


def test_moment_ratios_are_those_of_the_samples():
    samples = np.random.default_rng(0).normal(size=(2, 4000, 3)) + np.array([0, 1, 5.0])
    data = bootstrap.resample(np.arange(3.0), samples, np.array([1.0, 2.0]), 20, 0)
    second, fourth = (samples**2).mean(axis=1), (samples**4).mean(axis=1)
    np.testing.assert_allclose(estimators.binder(data)[0], second**2 / fourth)
    np.testing.assert_allclose(estimators.second_moment(data)[0], samples.mean(axis=1) ** 2 / second)
    assert estimators.binder(data)[0, :, 0] == pytest.approx(1 / 3, rel=0.1)  # a Gaussian: U = 0
    np.testing.assert_allclose(data.variance[0], samples.var(axis=1, ddof=1))
    spread = data.mean[1:].std(axis=0)
    np.testing.assert_allclose(spread, data.stderr, rtol=0.6)


def test_local_quadratic_is_exact_for_parabolas():
    x = np.sort(np.random.default_rng(0).random(40))
    smooth, slope = bootstrap.local_quadratic(x)
    y = 3 * x**2 - x + 2
    np.testing.assert_allclose(smooth @ y, y, atol=1e-8)
    np.testing.assert_allclose(slope @ y, 6 * x - 1, atol=1e-6)


def test_peak_of_a_parabola_is_exact_on_an_uneven_grid():
    x = np.array([0.0, 0.1, 0.25, 0.3, 0.5, 0.9])
    place, height, edge = estimators.peak_of(x, np.stack([2 - (x - 0.28) ** 2, x]))
    assert place[0] == pytest.approx(0.28)
    assert height[0] == pytest.approx(2)
    assert edge.tolist() == [False, True]
    assert place[1] == 0.9


def test_power_law_and_line_are_exact_without_noise():
    sizes = np.array([2.0, 4.0, 8.0])
    assert bootstrap.power_law(sizes, np.array([3 * sizes**1.3])) == pytest.approx([1.3])
    intercept, slope = bootstrap.line(sizes, np.array([1 + 2 * sizes]))
    assert (intercept[0], slope[0]) == pytest.approx((1, 2))


def test_scaled_curves_fall_on_one_another():
    grid, sizes = np.linspace(0.4, 0.6, 5), np.array([4.0, 16.0])
    x, _ = collapse.scaled_curves(grid, sizes, np.ones((2, 5)), (0.5, 0.5, 0.0))
    np.testing.assert_allclose(x[1], 2 * x[0])


# --- measured counts ------------------------------------------------------------------------------

ASKED = np.array([0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])


def test_a_cliff_is_told_from_a_gradual_decline():
    rng, found = np.random.default_rng(12), []
    rates = {
        "cliff": 0.1 + 0.7 / (1 + np.exp(-(ASKED - 0.82) / 0.015)),
        "line": 0.1 + 0.6 * ASKED,
        "bend": 0.1 + 0.6 * ASKED**2,
    }
    for rate in rates.values():
        found.append([fit_cliff(ASKED, rng.binomial(100, rate), 100, 100, s).verdict for s in range(6)])
    assert found[0].count("cliff") >= 5
    assert found[1].count("cliff") <= 1
    assert found[2].count("cliff") <= 1
    assert found[1].count("gradual") >= 4


def test_counts_through_fit_critical_in_both_shapes():
    counts = np.array([9, 8, 11, 10, 12, 11, 30, 78, 82, 80])
    first = fit_critical(ASKED, counts, trials=np.full(10, 100))
    second = fit_critical(ASKED, trials=np.stack([counts, np.full(10, 100)], axis=1))
    assert first.to_dict() == second.to_dict()
    assert first.verdict == "cliff"
    assert 0.78 <= first.ci[0] <= 0.8 <= first.alpha_c <= first.ci[1] <= 0.87
    assert first.details["width"]["high"] < 0.15
    assert "p = " in first.evidence[1]
    falling = fit_critical(ASKED, 100 - counts, trials=np.full(10, 100))
    assert falling.alpha_c == pytest.approx(first.alpha_c, abs=0.01)


def test_a_cliff_between_two_ratios_is_known_to_the_gap_only():
    fit = fit_critical([0, 0.3, 0.6, 0.9, 0.95], [2, 3, 2, 38, 39], trials=[40] * 5)
    assert fit.ci[0] <= 0.65
    assert fit.ci[1] >= 0.85


def test_few_items_widen_the_interval():
    rate = 0.1 + 0.7 / (1 + np.exp(-(ASKED - 0.7) / 0.05))
    widths = []
    for n in (10, 100, 1000):
        fit = fit_critical(ASKED, np.rint(n * rate), trials=np.full(10, n))
        widths.append(fit.ci[1] - fit.ci[0])
        within(fit.alpha_c, fit.ci, 0.7)
    assert widths[0] > widths[1] > widths[2]
    assert any(
        "only 10 items" in w for w in fit_critical(ASKED, np.rint(10 * rate), trials=[10] * 10).warnings
    )


@pytest.mark.parametrize(
    ("counts", "trials", "words"),
    [
        ([5] * 10, [10] * 10, "all rates are equal"),
        ([11] + [5] * 9, [10] * 10, "counts must be whole numbers"),
        ([0.5] + [5] * 9, [10] * 10, "counts must be whole numbers"),
        (None, [10] * 10, "pairs"),
        ([5] * 9, [10] * 9, "4 ratios with one count each"),
    ],
)
def test_bad_counts_are_named(counts, trials, words):
    with pytest.raises(ValueError, match=words):
        fit_critical(ASKED, counts, trials=trials)


def test_flat_rates_are_called_flat():
    counts = np.random.default_rng(3).binomial(50, 0.3, 10)
    assert fit_critical(ASKED, counts, trials=[50] * 10).verdict == "flat"


def test_the_inner_fits_reach_the_likelihood_of_an_optimiser():
    from scipy.optimize import minimize

    rng = np.random.default_rng(5)
    n = np.full(10, 60.0)
    k = rng.binomial(60, 0.2 + 0.5 * ASKED).astype(float)
    shape = 1 / (1 + np.exp(-(ASKED - 0.6) / 0.1))
    before, after, value = mix(k, n, shape, 300)
    best = minimize(
        lambda t: -log_likelihood(k, n, t[0] * (1 - shape) + t[1] * shape),
        [before, after],
        method="Nelder-Mead",
    )
    assert value == pytest.approx(-best.fun, abs=1e-4)
    line = polynomial(k, n, ASKED, 1)
    best = minimize(lambda t: -log_likelihood(k, n, t[0] + t[1] * ASKED), [0.2, 0.5], method="Nelder-Mead")
    assert log_likelihood(k, n, line) == pytest.approx(-best.fun, abs=1e-3)


# --- the result object ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["half", "peak", "binder", "collapse", "trials"])
def test_results_are_told_drawn_saved_and_loaded(tmp_path, method):
    import json

    if method == "trials":
        fit = fit_critical(ASKED, [9, 8, 11, 10, 12, 11, 30, 78, 82, 80], trials=[100] * 10)
    else:
        fit = fit_critical(RATIOS, curves(np.random.default_rng(13), 20), SIZES, method=method, resamples=50)
    document = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    for name in ("alpha_c", "ci", "nu", "zeta", "quality", "method", "verdict", "warnings"):
        assert name in document
    assert fit.verdict in fit.summary()
    assert fit._repr_html_().startswith("<table>")
    assert fit.plot() is not None
    fit.save(tmp_path / "fit.json")
    loaded = CriticalFit.load(tmp_path / "fit.json")
    assert loaded.to_dict() == document
    assert loaded.summary() == fit.summary()
    assert loaded.plot() is not None


def test_a_file_of_the_first_version_loads_for_ever():
    from pathlib import Path

    fit = CriticalFit.load(Path(__file__).parents[1] / "data" / "critical_fit_v1.json")
    assert fit.alpha_c == pytest.approx(0.4995, abs=0.01)
    assert fit.ci[0] < 0.5 < fit.ci[1]
    assert (fit.method, fit.verdict, fit.scale) == ("collapse", "transition", "L")
    assert "1/nu" in fit.summary()
    assert fit.plot() is not None


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}', "\x00"])
def test_what_is_no_saved_fit_is_said(tmp_path, text):
    (tmp_path / "fit.json").write_text(text)
    with pytest.raises(ValueError, match="is not a saved critical fit"):
        CriticalFit.load(tmp_path / "fit.json")


def test_a_later_format_is_said(tmp_path):
    (tmp_path / "fit.json").write_text('{"format": "routegraph critical fit", "format_version": 9}')
    with pytest.raises(ValueError, match="is of format 9"):
        CriticalFit.load(tmp_path / "fit.json")

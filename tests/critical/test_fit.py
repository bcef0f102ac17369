"""Critical points of synthetic curves with known exponents, and what may not be called a transition."""

import numpy as np
import pytest

from routegraph.critical.fit import CriticalFit, fit_critical
from tests.helpers.curves import ASKED, RATIOS, SIZES, curves, within


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


@pytest.mark.parametrize(
    ("inverse_nu", "sizes", "points"),
    [(2 / 3, [16, 32, 64, 128], 81), (0.75, [16, 32, 64], 41), (1.2, [8, 16, 32], 41)],
)
def test_the_exponent_of_a_peak_has_no_bias_from_smoothing(inverse_nu, sizes, points):
    """Noise so small that only the windows could make it wrong; one window for all gives .621 for 2/3."""
    rng, x = np.random.default_rng(20), np.linspace(0.3, 0.7, points)
    samples = np.array(
        [1 / (1 + np.exp((x - 0.5) * s**inverse_nu / 2 + rng.normal(0, 1e-3, (8, 1)))) for s in sizes]
    )
    fit = fit_critical(x, samples, sizes, method="peak", zeta_over_nu=0.0, resamples=40)
    assert fit.inverse_nu == pytest.approx(inverse_nu, abs=0.006)
    assert fit.alpha_c == pytest.approx(0.5, abs=1e-3)


def test_too_few_ratios_across_a_peak_are_told():
    rng, x = np.random.default_rng(21), np.linspace(0.3, 0.7, 21)
    sizes = [16, 64, 256]
    samples = np.array([1 / (1 + np.exp((x - 0.5) * s / 2 + rng.normal(0, 0.3, (20, 1)))) for s in sizes])
    fit = fit_critical(x, samples, sizes, method="peak", zeta_over_nu=0.0, resamples=40)
    assert any("too few ratios across the peak of size" in w for w in fit.warnings)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["half", "peak", "collapse"])
def test_equal_replicates_give_the_exponents_and_no_interval(method):
    samples = np.repeat(curves(np.random.default_rng(0), 1, noise=0.0), 8, axis=1)
    options = {} if method == "half" else {"zeta_over_nu": 0.0}
    fit = fit_critical(RATIOS, samples, SIZES, method=method, **options)
    assert fit.alpha_c == pytest.approx(0.5, abs=1e-4)
    assert fit.ci == (None, None)
    assert any("the replicates do not differ" in w for w in fit.warnings)
    if method != "half":
        assert fit.inverse_nu == pytest.approx(0.75, abs=0.002)
        assert fit.inverse_nu_ci == (None, None)
    if method == "collapse":
        assert fit.quality < 1
        assert any("an assumed error of 0.001" in w for w in fit.warnings)


def test_equal_replicates_have_no_cumulant():
    samples = np.repeat(curves(np.random.default_rng(0), 1), 8, axis=1)
    with pytest.raises(ValueError, match="needs replicates that differ"):
        fit_critical(RATIOS, samples, SIZES, method="binder")


def test_a_bad_collapse_cannot_win_by_leaving_its_bounds():
    """Curves with next to no error, which no exponents bring together: S is huge, and still the best there is."""
    rng = np.random.default_rng(1)
    samples = np.array([0.3 + 0.1 * k + (0.5 - 0.1 * k) * (RATIOS > 0.5) for k in range(3)])[:, None]
    samples = samples + rng.normal(0, 1e-7, (3, 6, 1))
    fit = fit_critical(RATIOS, samples, SIZES[:3], method="collapse", resamples=20)
    assert fit.quality is None or 3 < fit.quality < 1e199
    assert any("poor collapse" in w or "no collapse" in w for w in fit.warnings)


def test_several_crossings_are_counted_and_the_interval_spans_them():
    rng, grid = np.random.default_rng(2), np.linspace(0, 1, 101)
    wave = 0.5 + 0.3 * np.sin(9.5 * (grid - 0.17)) + rng.normal(0, 0.2, (60, 1))
    fit = fit_critical(grid, wave)
    assert fit.details["crossings"]["number"] == 3
    assert fit.ci[0] < 0.17 < 0.17 + 2 * np.pi / 9.5 < fit.ci[1]
    assert any("crosses 0.5 3 times, from ratio 0.1" in w for w in fit.warnings)
    hump = np.exp(-(((grid - 0.5) / 0.2) ** 2)) + rng.normal(0, 0.02, (60, 1))
    fit = fit_critical(grid, hump)
    assert fit.details["crossings"]["number"] == 2
    assert fit.ci[0] < 0.36
    assert fit.ci[1] > 0.64
    assert any("a hump" in w for w in fit.warnings)
    plain = fit_critical(RATIOS, curves(rng, 40), SIZES)
    assert plain.details["crossings"]["number"] == 1
    assert not any("crosses" in w or "hump" in w for w in plain.warnings)


def test_a_dip_that_only_some_resamples_see_widens_the_interval():
    rng, grid = np.random.default_rng(3), np.linspace(0, 1, 101)
    curve = np.interp(grid, [0, 0.3, 0.5, 1], [0, 0.56, 0.49, 1]) + rng.normal(0, 0.06, (60, 1))
    fit = fit_critical(grid, curve)
    assert fit.details["crossings"]["resamples_with_another_number"] > 0.025
    assert fit.ci[0] < 0.3
    assert fit.ci[1] > 0.5


@pytest.mark.parametrize("method", ["half", "collapse"])
def test_a_place_that_moves_with_size_is_told(method):
    rng, sizes = np.random.default_rng(4), [8, 12, 18, 26]
    grid = np.linspace(0.2, 0.8, 61)
    made = []
    for size in sizes:
        z = (grid - 0.5 - 0.6 * size**-1.5) * size**1.1 / 2
        made.append(1 / (1 + np.exp(-z + rng.normal(0, 0.04, (200, 1)))))
    options = {} if method == "half" else {"zeta_over_nu": 0.0}
    fit = fit_critical(grid, np.array(made), sizes, method=method, resamples=100, **options)
    words = "still moves" if method == "half" else "moves with the sizes"
    assert any(words in w for w in fit.warnings)
    if method == "half":
        limit = fit.details["limit"]
        assert limit["low"] < 0.5 < limit["high"] < limit["low"] + 0.02
        assert "limit in size" in fit.summary()
        assert fit.dropped[1]["limit"]["value"] != fit.dropped[0]["limit"]["value"]
        assert fit.dropped[-1]["limit"]["value"] is None
    else:
        assert abs(fit.dropped[-1]["shift"]) > 0
    still = fit_critical(RATIOS, curves(rng, 100), SIZES, method=method, resamples=100, **options)
    assert not any(words in w for w in still.warnings)


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
    assert any("only 2 sizes:" in w for w in few.warnings)
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
        (lambda o: o.update(resamples=0), "resamples must be a whole number of at least 2, got 0"),
        (lambda o: o.update(resamples=2.5), "resamples must be a whole number of at least 2, got 2.5"),
        (lambda o: o.update(zeta_over_nu=np.nan), "zeta_over_nu must be a finite number, got nan"),
        (lambda o: o.update(zeta_over_nu=np.inf), "zeta_over_nu must be a finite number, got inf"),
        (lambda o: o.update(target=np.nan), "target must be a finite number, got nan"),
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
        if method == "binder" and samples is dead:  # it goes by how replicates differ
            with pytest.raises(ValueError, match="'binder' needs replicates that differ"):
                fit_critical(grid, samples, [1, 2, 3], method=method, resamples=50)
            continue
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
    assert "<table>" in fit._repr_html_()
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

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

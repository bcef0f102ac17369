"""GER with answers shifted, with two factors, with a beta law; the event that all answers are gone."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import dblquad
from scipy.stats import betabinom, norm

from routegraph.policies import apply
from routegraph.survival import Survival, eviction_rate, ger
from routegraph.theory import ger as theory

P = np.array([0.3, 0.6, 0.8, 0.9, 0.97])


def within(found, expected, draws, sigmas=3.0):
    error = np.sqrt(np.maximum(expected * (1 - expected), 1e-9) / draws)
    return np.all(np.abs(found - expected) <= sigmas * error)


# ----------------------------------------------------------------------------------------- answer shift


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_shifted_answers_against_monte_carlo(rho):
    draws, slots, shift = 60_000, 5, 0.7
    rng = np.random.default_rng(0)
    scores = np.sqrt(rho) * rng.standard_normal((draws, 1)) + np.sqrt(1 - rho) * rng.standard_normal(
        (draws, slots)
    )
    found = ((scores + shift)[:, :, None] < norm.ppf(P)).all(axis=1).mean(axis=0)
    expected = theory.one_factor(P, slots, rho, shift)
    assert within(found, expected, draws)
    if rho == 0:
        assert expected == pytest.approx(theory.independent(P, slots, shift))


def test_shift_of_answers_lowers_ger_in_a_simulated_cache():
    # Few tokens lie higher than the rest, so that the rest still sets the thresholds.
    n, replicates, shift, ratios = 400, 400, 0.8, [0.6, 0.8, 0.9]
    rng = np.random.default_rng(1)
    found = []
    for _ in range(replicates):
        scores = rng.standard_normal((1, 3, n))
        scores[:, :, :4] += shift
        found.append(ger(apply("topk", scores), ratios, [0, 1, 2, 3]))
    levels = Survival(np.ones((1, 1, n), dtype=int)).levels(ratios)
    expected = theory.independent(levels / n, 3, shift)
    error = np.std(found, axis=0, ddof=1) / np.sqrt(replicates)
    # Four tokens of 400 move the thresholds by about 1 %.
    assert np.all(np.abs(np.mean(found, axis=0) - expected) < 3 * error + 0.01)
    assert np.all(np.abs(np.mean(found, axis=0) - theory.independent(levels / n, 3)) > 5 * error)


@given(p=st.floats(0.001, 0.999), shift=st.floats(-2, 2))
def test_shift_and_back_is_nothing(p, shift):
    assert theory.shifted(theory.shifted(p, shift), -shift) == pytest.approx(p, rel=1e-6)


# ------------------------------------------------------------------------------------------- two factors


@pytest.mark.parametrize(("token", "layer"), [(0.2, 0.3), (0.0, 0.5), (0.5, 0.0), (0.1, 0.85)])
def test_two_factors_against_monte_carlo(token, layer):
    draws, n_layers, n_heads = 60_000, 4, 3
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((draws, 1, 1))
    of_layer = rng.standard_normal((draws, n_layers, 1))
    own = rng.standard_normal((draws, n_layers, n_heads))
    scores = np.sqrt(token) * shared + np.sqrt(layer) * of_layer + np.sqrt(1 - token - layer) * own
    gone = scores[..., None] < norm.ppf(P)
    assert within(
        gone.all(axis=(1, 2)).mean(axis=0), theory.two_factor(P, n_layers, n_heads, token, layer), draws
    )
    by_layer = gone.all(axis=2).mean(axis=(0, 1))
    assert within(by_layer, theory.one_factor(P, n_heads, token + layer), draws)


def test_two_factors_equal_the_nested_integral():
    p, token, layer = 0.8, 0.25, 0.35

    def inner(u, z):
        above = norm.ppf(p) - np.sqrt(token) * z - np.sqrt(layer) * u
        return norm.pdf(u) * norm.cdf(above / np.sqrt(1 - token - layer)) ** 2

    expected = dblquad(lambda u, z: norm.pdf(z) * inner(u, z), -7, 7, -7, 7)[0]
    assert theory.two_factor([p], 1, 2, token, layer)[0] == pytest.approx(expected, abs=1e-6)


def test_two_factor_limits():
    assert theory.two_factor(P, 6, 2, 0.4, 0.0) == pytest.approx(theory.one_factor(P, 12, 0.4), abs=1e-6)
    assert theory.two_factor(P, 6, 2, 0.0, 0.0) == pytest.approx(P**12)
    assert theory.two_factor(P, 6, 2, 1.0, 0.0) == pytest.approx(P)
    assert theory.two_factor(P, 6, 2, 0.0, 1.0) == pytest.approx(P**6, abs=1e-6)
    assert theory.two_factor(P, 1, 1, 0.3, 0.3) == pytest.approx(P, abs=1e-6)
    with pytest.raises(ValueError, match=r"rho_token \+ rho_layer must be in \[0, 1\]"):
        theory.two_factor(P, 2, 2, 0.7, 0.7)


def test_two_factor_fit_recovers_both_correlations():
    grid = np.linspace(0.5, 0.98, 15)
    model = theory.two_factor(grid, 8, 3, 0.2, 0.35)
    layer = theory.one_factor(grid, 3, 0.55)
    assert theory.fit_two_factor(grid, model, layer, 8, 3) == pytest.approx((0.2, 0.35), abs=2e-3)


# ----------------------------------------------------------------------------------------- beta-binomial


@given(p=st.floats(0.02, 0.98), rho=st.floats(0.01, 0.95), slots=st.integers(1, 60))
def test_beta_binomial_equals_scipy(p, rho, slots):
    s = 1 / rho - 1
    expected = betabinom.pmf(slots, slots, p * s, (1 - p) * s)
    assert theory.beta_binomial([p], slots, rho)[0] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_beta_binomial_against_monte_carlo():
    draws, slots, rho = 60_000, 6, 0.3
    rng = np.random.default_rng(3)
    s = 1 / rho - 1
    chance = rng.beta(P * s, (1 - P) * s, size=(draws, len(P)))
    gone = rng.random((draws, slots, len(P))) < chance[:, None]
    assert within(gone.all(axis=1).mean(axis=0), theory.beta_binomial(P, slots, rho), draws)
    # rho is the correlation of two events "gone".
    assert np.corrcoef(gone[:, 0, 2], gone[:, 1, 2])[0, 1] == pytest.approx(rho, abs=0.02)


def test_beta_binomial_limits_and_fit():
    assert theory.beta_binomial(P, 9, 0.0) == pytest.approx(P**9)
    assert theory.beta_binomial(P, 9, 1e-7) == pytest.approx(P**9, rel=1e-4)
    assert theory.beta_binomial(P, 9, 1.0) == pytest.approx(P)
    assert theory.beta_binomial(P, 1, 0.4) == pytest.approx(P)
    assert theory.beta_binomial([0.0, 1.0], 9, 0.4).tolist() == [0.0, 1.0]
    grid = np.linspace(0.5, 0.98, 15)
    assert theory.fit_beta_binomial(grid, theory.beta_binomial(grid, 24, 0.3), 24) == pytest.approx(
        0.3, abs=1e-3
    )
    with pytest.raises(ValueError, match=r"rho must be in \[0, 1\], got -0.1"):
        theory.beta_binomial(P, 2, -0.1)


# ------------------------------------------------------------------------- all answers gone; the floor


@given(n=st.integers(1, 12), slots=st.integers(1, 4), data=st.data())
def test_all_gone_is_the_ratio_of_binomials(n, slots, data):
    level = data.draw(st.integers(0, n))
    tokens = data.draw(st.integers(1, n))
    expected = (comb(n - tokens, level - tokens) / comb(n, level)) ** slots if level >= tokens else 0.0
    assert theory.all_gone(level, n, slots, tokens) == pytest.approx(expected, abs=1e-15)
    assert theory.all_gone(level, n, slots, 1) == pytest.approx((level / n) ** slots)
    # GER counts parts, the event does not.
    assert theory.all_gone(level, n, slots, tokens) <= theory.independent(level / n, slots) + 1e-15


def test_all_gone_against_monte_carlo():
    n, heads, tokens, replicates = 12, 2, 3, 40_000
    rng = np.random.default_rng(4)
    orders = rng.permuted(np.broadcast_to(np.arange(1, n + 1), (replicates, heads, n)), axis=2)
    levels = np.array([6, 8, 10, 11])
    last = orders.max(axis=1)[:, :tokens]
    found = (last.max(axis=1)[:, None] <= levels).mean(axis=0)
    assert within(found, theory.all_gone(levels, n, heads, tokens), replicates)


def test_all_gone_one_factor_against_monte_carlo():
    draws, slots, tokens, rho = 60_000, 4, 3, 0.5
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((draws, tokens, slots))
    scores = np.sqrt(rho) * rng.standard_normal((draws, tokens, 1)) + np.sqrt(1 - rho) * noise
    found = (scores[..., None] < norm.ppf(P)).all(axis=(1, 2)).mean(axis=0)
    expected = theory.all_gone_one_factor(P, slots, rho, tokens)
    assert within(found, expected, draws)
    assert np.all(expected <= theory.one_factor(P, slots, rho))
    assert theory.all_gone_one_factor(P, slots, 0.0, 2) == pytest.approx(
        theory.all_gone(P * 1e7, 10**7, slots, 2), rel=1e-5
    )


def test_structural_floor_holds_for_any_scores_and_is_attained():
    ratios, n = [0.5, 0.8, 0.9, 0.95], 40
    levels = Survival(np.ones((1, 1, n), dtype=int)).levels(ratios)
    floor = theory.structural_floor(levels / n, 3)
    rng = np.random.default_rng(6)
    for _ in range(30):
        assert np.all(eviction_rate(apply("topk", rng.standard_normal((1, 3, n))), ratios) >= floor - 1e-12)
    # Slots that keep disjoint rows, as far as there are rows.
    drop = np.stack([np.roll(np.arange(1, n + 1), 2 * head) for head in range(3)])[None]
    assert eviction_rate(Survival(drop), [0.95]) == pytest.approx(theory.structural_floor([38 / 40], 3))
    assert theory.structural_floor([0.2], 3) == 0


# ----------------------------------------------------------------------------------- Student-t copula


def equal(slots, rho):
    return np.full((slots, slots), rho) + (1 - rho) * np.eye(slots)


def test_student_copula_of_infinite_degrees_is_gaussian():
    found = theory.student_copula(equal(5, 0.3), P, degrees=np.inf, draws=20_000)
    assert found.mean == pytest.approx(theory.gaussian_copula(equal(5, 0.3), P, draws=20_000).mean)
    near = theory.student_copula(equal(5, 0.3), P, degrees=1e6, draws=60_000, seed=1)
    assert np.all(np.abs(near.mean - theory.one_factor(P, 5, 0.3)) < 3.5 * near.stderr + 1e-4)


def test_student_copula_against_its_definition():
    from scipy.stats import multivariate_t, t

    draws, degrees, shape = 60_000, 4.0, equal(3, 0.4)
    scores = multivariate_t(shape=shape, df=degrees, seed=7).rvs(draws)
    found = (scores[:, :, None] < t.ppf(P, degrees)).all(axis=1).mean(axis=0)
    other = theory.student_copula(shape, P, degrees=degrees, draws=60_000, seed=8)
    assert np.all(np.abs(found - other.mean) < 3.5 * np.sqrt(2) * other.stderr)
    # Heavier common extremes: more is gone together at high ratios than the Gaussian copula says.
    assert np.all(other.mean[2:] > theory.one_factor(P, 3, 0.4)[2:] + 3 * other.stderr[2:])


def test_student_copula_keeps_its_marginals_and_ends():
    found = theory.student_copula(np.ones((1, 1)), P, degrees=3, draws=60_000)
    assert np.all(np.abs(found.mean - P) < 3.5 * found.stderr)
    ends = theory.student_copula(equal(3, 0.5), [0.0, 1.0], degrees=3, draws=200)
    assert ends.mean.tolist() == [0.0, 1.0]
    moved = theory.student_copula(np.ones((1, 1)), P, degrees=3, shift=0.5, draws=60_000)
    assert np.all(np.abs(moved.mean - norm.cdf(norm.ppf(P) - 0.5)) < 3.5 * moved.stderr)
    with pytest.raises(ValueError, match="degrees must be positive, got 0"):
        theory.student_copula(np.eye(2), P, degrees=0)


def test_fit_degrees_finds_the_ones_that_made_the_curve():
    made = theory.student_copula(equal(8, 0.5), P, degrees=7, draws=200_000, seed=9).mean
    assert theory.fit_degrees(equal(8, 0.5), P, made, candidates=(3, 7, 20, np.inf), seed=10) == 7

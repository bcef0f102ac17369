import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from routegraph.policies import apply
from routegraph.sim.fields import Field
from routegraph.survival import Survival, eviction_rate, ger
from routegraph.theory import ger as theory


def draws(n_layers, n_heads, n, replicates, rho, seed=0):
    rng = np.random.default_rng(seed)
    return [apply("topk", Field(np.full(n_layers, rho)).draw(rng, n_heads, n)) for _ in range(replicates)]


def test_half_points_of_theory_md():
    assert [round(theory.independent_half_point(m), 3) for m in (2, 4, 8, 16)] == [0.707, 0.841, 0.917, 0.958]
    assert [round(theory.independent_half_point(m), 3) for m in (7, 20)] == [0.906, 0.966]


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("over", ["model", "layer"])
def test_ger_of_one_factor_heads_within_three_standard_errors(rho, over):
    n, n_layers, n_heads, replicates = 200, 3, 2, 300
    ratios = [0.3, 0.6, 0.8, 0.9, 0.95]
    found = np.array([eviction_rate(s, ratios, over) for s in draws(n_layers, n_heads, n, replicates, rho)])
    levels = Survival(np.ones((1, 1, n), dtype=int)).levels(ratios)
    slots = n_layers * n_heads if over == "model" else n_heads
    expected = theory.one_factor(levels / n, slots, rho)
    error = found.std(axis=0, ddof=1) / np.sqrt(replicates)
    # At finite n one shared factor leaves ranks correlated a little less or more than scores: order 1/n.
    assert np.all(np.abs(found.mean(axis=0) - expected) <= 3 * error + 1 / n * (0 < rho < 1) + 1e-12)


def test_variance_of_independent_slots_within_sampling_error():
    n, heads, tokens, replicates, ratio = 12, 2, 4, 20_000, 0.7
    rng = np.random.default_rng(1)
    orders = rng.permuted(np.broadcast_to(np.arange(1, n + 1), (replicates, heads, n)), axis=2)
    level = Survival(np.ones((1, 1, n), dtype=int)).level(ratio)
    values = (orders.max(axis=1)[:, :tokens] <= level).mean(axis=1)
    expected = theory.independent_variance(level, n, heads, tokens)
    kurtosis = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    error = values.var() * np.sqrt((kurtosis - 1) / replicates)
    assert values.mean() == pytest.approx((level / n) ** heads, abs=3 * values.std() / np.sqrt(replicates))
    assert abs(values.var() - expected) < 3 * error
    # The average over independent layers has that variance divided by their number.
    assert theory.independent_variance(level, n, heads, tokens, layers=5) == pytest.approx(expected / 5)


def test_variance_with_all_tokens_of_one_slot_is_zero():
    assert theory.independent_variance(3, 10, 1, 10) == pytest.approx(0, abs=1e-15)


@given(p=st.floats(0.001, 0.999), rho=st.floats(0.01, 0.9), slots=st.integers(1, 40))
@example(p=0.3, rho=np.nextafter(0.5, 0), slots=40)
@example(p=0.3, rho=0.5, slots=40)
def test_one_factor_equals_adaptive_quadrature(p, rho, slots):
    def integrand(z):
        return norm.pdf(z) * norm.cdf((norm.ppf(p) - np.sqrt(rho) * z) / np.sqrt(1 - rho)) ** slots

    expected = quad(integrand, -9, 9, limit=200, epsabs=1e-10)[0]
    assert theory.one_factor([p], slots, rho)[0] == pytest.approx(expected, abs=1e-7)


@given(p=st.floats(0, 1), rho=st.floats(0, 1), slots=st.integers(1, 300))
@example(p=0.25, rho=np.nextafter(1, 0), slots=1)
def test_one_factor_lies_between_independent_slots_and_one_slot(p, rho, slots):
    value = theory.one_factor([p], slots, rho)[0]
    assert p**slots - 1e-6 <= value <= p + 1e-6


@pytest.mark.parametrize("rho", [0.05, 0.3, 0.7])
def test_fit_recovers_the_correlation(rho):
    p = np.linspace(0.5, 0.98, 20)
    assert theory.fit_one_factor(p, theory.one_factor(p, 24, rho), 24) == pytest.approx(rho, abs=1e-3)


def test_copula_of_equal_correlations_is_the_one_factor_model():
    correlation = np.full((6, 6), 0.4) + 0.6 * np.eye(6)
    p = np.array([0.3, 0.7, 0.9, 0.97])
    found = theory.gaussian_copula(correlation, p, draws=60_000, seed=3)
    assert np.all(np.abs(found.mean - theory.one_factor(p, 6, 0.4)) < 3.5 * found.stderr)


def test_copula_takes_a_fraction_for_each_slot_and_a_shift():
    gone = np.array([[0.5], [0.8]])
    independent = theory.gaussian_copula(np.eye(2), gone, draws=60_000)
    assert abs(independent.mean[0] - 0.4) < 3.5 * independent.stderr[0]
    shifted = theory.gaussian_copula(np.eye(2), gone, shift=np.array([1.0, 0.0]), draws=60_000)
    expected = norm.cdf(norm.ppf(0.5) - 1.0) * 0.8
    assert abs(shifted.mean[0] - expected) < 3.5 * shifted.stderr[0]


def test_copula_at_the_ends():
    found = theory.gaussian_copula(np.eye(3), [0.0, 1.0], draws=100)
    assert found.mean.tolist() == [0.0, 1.0]


def test_measured_correlation_recovers_the_one_that_made_the_scores():
    truth = np.array([[1, 0.5, 0.1], [0.5, 1, 0.3], [0.1, 0.3, 1]])
    scores = np.random.default_rng(0).multivariate_normal(np.zeros(3), truth, size=(40, 300))
    drops = [apply("topk", s.T[None]).drop[0] for s in scores]
    found = theory.slot_correlation([theory.normal_scores(drop) for drop in drops])
    assert np.abs(found - truth).max() < 0.02
    assert np.allclose(np.diag(found), 1)


def test_normal_scores_give_ties_their_average_rank():
    drop = np.array([[1, 3, 3, 9]])
    assert theory.normal_scores(drop)[0] == pytest.approx(norm.ppf([0.125, 0.5, 0.5, 0.875]))


def test_effective_slots_inverts_independence_and_knows_where_it_is_undefined():
    p = np.array([0.5, 0.9, 1.0, 0.0])
    found = theory.effective_slots(theory.independent(p, 12), p)
    assert found[:2] == pytest.approx([12, 12])
    assert np.isnan(found[2:]).all()


def test_independent_theory_is_exact_for_permutations():
    n, replicates = 60, 400
    survivals = [apply("random", np.zeros((2, 2, n)), seed=s) for s in range(replicates)]
    found = np.array([ger(s, [0.5, 0.8, 0.9], [0, n // 2, n - 1], "layer") for s in survivals])
    expected = theory.independent(survivals[0].levels([0.5, 0.8, 0.9]) / n, 2)
    assert np.all(np.abs(found.mean(axis=0) - expected) < 3 * found.std(axis=0, ddof=1) / np.sqrt(replicates))


def test_rho_outside_is_refused():
    with pytest.raises(ValueError, match=r"rho must be in \[0, 1\], got 1.5"):
        theory.one_factor([0.5], 2, 1.5)

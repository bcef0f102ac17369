"""Moments of the answer tokens' scores, beside plain loops; copulas of tokens with a spread of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from routegraph.theory import ger as theory
from routegraph.theory.answers import answer_moments, shrunk

P = np.array([0.3, 0.6, 0.8, 0.9, 0.97])


def mean(values):
    return sum(values) / len(values)


def twin(scores, correlation):
    """The same by loops over slots and tokens."""
    scores = [one for one in scores if len(one[0])]
    slots, n = range(len(correlation)), len(scores)
    by_prompt = [[mean(one[s]) for s in slots] for one in scores]
    common = [mean(one) for one in by_prompt]
    centre = [mean([one[s] for one in by_prompt]) for s in slots]

    def drawn(samples, target):
        found = {key: mean([one[key] for one in samples]) for key in target}
        chance = sum((one[key] - found[key]) ** 2 for one in samples for key in target) / (n - 1) / n
        far = sum((found[key] - target[key]) ** 2 for key in target)
        share = 1 if far == 0 else min(1, chance / far)
        return {key: target[key] + (1 - share) * (found[key] - target[key]) for key in target}

    apart = [{s: one[s] - c for s in slots} for one, c in zip(by_prompt, common, strict=True)]
    own = drawn(apart, dict.fromkeys(slots, 0.0))
    pairs = [(s, t) for s in slots for t in slots]
    between = {
        (s, t): sum((one[s] - centre[s]) * (one[t] - centre[t]) for one in by_prompt) / (n - 1) / n
        for s, t in pairs
    }

    def square(one, s, t):
        return mean([(a - centre[s]) * (b - centre[t]) for a, b in zip(one[s], one[t], strict=True)])

    squares = [{(s, t): square(one, s, t) + between[s, t] for s, t in pairs} for one in scores]
    variance = mean([mean([one[s, s] for one in squares]) for s in slots])
    covariance = drawn(squares, {(s, t): variance * correlation[s][t] for s, t in pairs})
    return [mean(common) + own[s] for s in slots], [[covariance[s, t] for t in slots] for s in slots]


def some_scores(seed, n_prompts, slots=3, most=4, least=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(least, most + 1, n_prompts)
    sizes[:2] = np.maximum(sizes[:2], 1)
    return [random.normal(random.normal(), 1, (slots, size)) + np.arange(slots)[:, None] for size in sizes]


def equal(rho, slots=3):
    return np.full((slots, slots), rho) + (1 - rho) * np.eye(slots)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), rho=st.floats(0, 0.9))
def test_moments_are_those_of_the_twin(seed, n, rho):
    scores = some_scores(seed, n)
    found, expected = (
        answer_moments(scores, equal(rho)),
        twin([one.tolist() for one in scores], equal(rho).tolist()),
    )
    np.testing.assert_allclose(found.mean, expected[0], atol=1e-9)
    np.testing.assert_allclose(found.covariance, expected[1], atol=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 8), which=st.integers(0, 7), times=st.integers(2, 5))
def test_every_prompt_weighs_the_same(seed, n, which, times):
    """A prompt with each of its answer tokens several times says no more than before; nor does one without any."""
    scores = some_scores(seed, n, least=1)
    found = answer_moments(scores, equal(0.3))
    again = [np.tile(one, times) if at == which % n else one for at, one in enumerate(scores)]
    other = answer_moments([*again, np.empty((3, 0))], equal(0.3))
    np.testing.assert_allclose(other.mean, found.mean, atol=1e-9)
    np.testing.assert_allclose(other.covariance, found.covariance, atol=1e-9)


def test_moments_that_made_the_scores_are_found():
    random = np.random.default_rng(0)
    centre, spread, correlation = np.array([0.8, -0.4, 0.1]), np.array([0.5, 1.0, 1.5]), equal(0.7)
    covariance = np.outer(spread, spread) * correlation
    scores = [random.multivariate_normal(centre, covariance, random.integers(1, 6)).T for _ in range(4000)]
    found = answer_moments(scores, equal(0.2))
    np.testing.assert_allclose(found.mean, centre, atol=0.05)
    np.testing.assert_allclose(found.spread, spread, atol=0.05)
    np.testing.assert_allclose(found.correlation, correlation, atol=0.05)


def test_few_prompts_are_drawn_to_what_all_have_in_common():
    """Of no prompt, nothing is known; of one, its mean; of a few alike slots, no more than chance has apart."""
    correlation = equal(0.4)
    nothing, one = (
        answer_moments([], correlation),
        answer_moments([np.array([[1.0, 3.0], [5, 7], [2, 0]])], correlation),
    )
    np.testing.assert_array_equal(nothing.mean, 0)
    np.testing.assert_array_equal(one.mean, 3)
    np.testing.assert_array_equal(one.covariance, correlation)
    with pytest.raises(ValueError, match="scores must have one row for each of 3 slots, got 2"):
        answer_moments([np.zeros((2, 4))], correlation)
    random = np.random.default_rng(0)
    raw, kept, apart, drawn = [], [], [], []
    for _ in range(200):
        scores = [random.multivariate_normal(np.full(3, 0.5), correlation, 2).T for _ in range(5)]
        found = answer_moments(scores, correlation)
        plain = np.mean([some.mean(axis=1) for some in scores], axis=0)
        raw.append(np.std(plain))
        kept.append(np.std(found.mean))
        joined = np.concatenate(scores, axis=1)
        apart.append(np.linalg.norm(np.corrcoef(joined) - correlation))
        drawn.append(np.linalg.norm(found.correlation - correlation))
    assert np.mean(kept) < 0.6 * np.mean(raw)
    assert np.mean(drawn) < 0.6 * np.mean(apart)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 9))
def test_shrinking_stays_between_mean_and_target(seed, n):
    random = np.random.default_rng(seed)
    samples, target = random.normal(size=(n, 4)), random.normal(size=4)
    found, centre = shrunk(samples, target), samples.mean(axis=0)
    assert np.all(found >= np.minimum(centre, target) - 1e-12)
    assert np.all(found <= np.maximum(centre, target) + 1e-12)
    np.testing.assert_allclose(shrunk(np.tile(centre, (n, 1)), target), centre)
    np.testing.assert_allclose(shrunk(samples, centre), centre)


def test_tokens_with_a_spread_of_their_own_beside_the_exact_value():
    """One slot: Phi((Phi^-1(p) - shift) / spread); two: the bivariate normal distribution function."""
    draws, shift, spread = 200_000, np.array([0.4, -0.2]), np.array([0.6, 1.3])
    covariance = np.outer(spread, spread) * equal(0.5, 2)
    found = theory.gaussian_copula(equal(0.5, 2), P, shift=shift, spread=spread, draws=draws)
    exact = multivariate_normal(shift, covariance).cdf(np.repeat(norm.ppf(P)[:, None], 2, axis=1))
    assert np.all(np.abs(found.mean - exact) < 4 * np.sqrt(exact * (1 - exact) / draws))
    one = theory.gaussian_copula(np.eye(1), P, shift=0.4, spread=0.6, draws=draws).mean
    assert one == pytest.approx(norm.cdf((norm.ppf(P) - 0.4) / 0.6), abs=0.005)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="spread must be positive in every slot, got "):
            theory.gaussian_copula(equal(0.5, 2), P, spread=[1.0, bad])

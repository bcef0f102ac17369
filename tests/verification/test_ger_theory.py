"""Every GER formula against eviction simulated row by row, n = 1000: the largest gap over the ratios."""

import numpy as np
import pytest

from routegraph import plot
from routegraph.kernels.ranks import permutations
from routegraph.policies import apply
from routegraph.survival import Survival, eviction_rate, ger
from routegraph.theory import ger as theory

pytestmark = pytest.mark.verify

N, LAYERS, HEADS, ANSWERS = 1000, 4, 3, 4
SLOTS = LAYERS * HEADS
RATIOS = np.array([0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98])
P = Survival(np.ones((1, 1, N), dtype=int)).levels(RATIOS) / N
LEVELS = np.round(P * N).astype(int)


def worst(record, name, found, expected, slack=0.0):
    """Record where theory and the mean over runs lie farthest apart, in standard errors; assert three."""
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(found))
    error = np.maximum(error, 1e-12)
    at = int(np.argmax((np.abs(mean - expected) - slack) / error))
    record.value(
        f"{name}, ratio {RATIOS[at]:.2f}", mean[at], error[at], expected[at], len(found), "simulation"
    )
    assert np.all(np.abs(mean - expected) < 3.2 * error + slack + 1e-9)  # ten ratios, correlated
    return mean, error


def draws(scores, runs):
    """Survivals of `runs` score tables float64[LAYERS, HEADS, N] made by `scores`."""
    return [apply("topk", scores()) for _ in range(runs)]


def test_ger_independent(record):
    runs, answers = 20_000, np.arange(ANSWERS)
    survivals = [Survival(permutations(np.uint64(seed), 1, HEADS, N)) for seed in range(runs)]
    found = np.array([ger(s, RATIOS, answers) for s in survivals])
    worst(record, "independent, 3 slots", found, theory.independent(P, HEADS))
    gone = (found == 1).astype(float)
    worst(record, "all 4 answers gone (event E)", gone, theory.all_gone(LEVELS, N, HEADS, ANSWERS))
    variance = theory.independent_variance(LEVELS, N, HEADS, ANSWERS)
    squares = (found - theory.independent(P, HEADS)) ** 2
    worst(record, "variance over 4 answers", squares, variance)


def test_ger_factor_models(record):
    rng = np.random.default_rng(0)
    shape, runs = (LAYERS, HEADS, N), 400
    figure, axes = plot.figure()

    def factors(token, layer):
        shared = np.sqrt(token) * rng.standard_normal(N)
        of_layer = np.sqrt(layer) * rng.standard_normal((LAYERS, 1, N))
        return shared + of_layer + np.sqrt(1 - token - layer) * rng.standard_normal(shape)

    def student(degrees, rho):
        scale = np.sqrt(degrees / rng.chisquare(degrees, N))
        return factors(rho, 0.0) * scale

    def beta(rho):
        # A token's slots are gone with one chance, beta distributed at each ratio: scores by inversion do not
        # exist for all ratios at once, so the law is drawn at each ratio.
        s = 1 / rho - 1
        chance = rng.beta(P * s, (1 - P) * s, size=(N, len(P)))
        return (rng.random((N, SLOTS, len(P))) < chance[:, None]).all(axis=1).mean(axis=0)

    equal = np.full((SLOTS, SLOTS), 0.4) + 0.6 * np.eye(SLOTS)
    cases = {
        "one factor, rho .4": (lambda: factors(0.4, 0.0), theory.one_factor(P, SLOTS, 0.4)),
        "two factors, .2 and .4": (lambda: factors(0.2, 0.4), theory.two_factor(P, LAYERS, HEADS, 0.2, 0.4)),
        "Student-t copula, 5 degrees": (
            lambda: student(5, 0.4),
            theory.student_copula(equal, P, degrees=5, draws=400_000).mean,
        ),
        "Gaussian copula": (lambda: factors(0.4, 0.0), theory.gaussian_copula(equal, P, draws=400_000).mean),
    }
    for name, (scores, expected) in cases.items():
        found = np.array([eviction_rate(s, RATIOS) for s in draws(scores, runs)])
        # Ranks of n tokens are not scores: of order 1/n, and the copula has errors of its own.
        mean, error = worst(record, name, found, expected, slack=1 / N + (0.002 if "copula" in name else 0))
        plot.band(axes, RATIOS, mean, error, label=name, linestyle="", marker=".")
        axes.plot(RATIOS, expected, color="black", linewidth=0.8)
    found = np.array([beta(0.3) for _ in range(runs)])
    worst(record, "beta-binomial, rho .3", found, theory.beta_binomial(P, SLOTS, 0.3))
    axes.plot(RATIOS, theory.independent(P, SLOTS), "--", label="independent")
    axes.plot(RATIOS, theory.structural_floor(P, SLOTS), ":", label="structural floor")
    axes.set(xlabel="compression ratio", ylabel="GER, 12 slots", title="GER and its theories (lines)")
    axes.legend()
    record.figure(figure)


def test_ger_of_shifted_answers(record):
    """Answers lie .7 higher in every slot; one factor .4. Two answers of 1000 leave the thresholds alone."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(10_000):
        scores = np.sqrt(0.4) * rng.standard_normal(N) + np.sqrt(0.6) * rng.standard_normal((1, HEADS, N))
        scores[:, :, :2] += 0.7
        found.append(ger(apply("topk", scores), RATIOS, [0, 1]))
    expected = theory.one_factor(P, HEADS, 0.4, shift=0.7)
    worst(record, "answers shifted by .7, rho .4, 3 slots", np.array(found), expected, slack=3 / N)

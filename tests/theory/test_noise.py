"""Theory of noisy reads: closed forms against numbers drawn at random, and limits."""

import numpy as np
import pytest

from routegraph.theory.noise import (
    heaviest_stays,
    heaviest_stays_gumbel,
    rounding_noise,
    swapped,
    swapped_at,
)

RUNS = 40_000


def within(count, p, runs=RUNS, errors=4):
    assert abs(count / runs - p) < errors * np.sqrt(p * (1 - p) / runs) + 1e-9, (count / runs, p)


@pytest.mark.parametrize(("noise", "spread"), [(0.3, 1.0), (2.0, 1.5), (1.0, 1.0)])
def test_pairs_swap_as_often_as_drawn(noise, spread):
    rng = np.random.default_rng(0)
    before = spread * rng.normal(size=(RUNS, 2))
    after = before + noise * rng.normal(size=(RUNS, 2))
    within(int((np.diff(before) * np.diff(after) < 0).sum()), swapped(noise, spread))
    gap = 0.7
    moved = gap + noise * rng.normal(size=(RUNS, 2)) @ [1, -1]
    within(int((moved < 0).sum()), float(swapped_at(gap, noise)))


def test_limits_of_pairs():
    assert swapped(0, 2) == 0
    assert swapped(1, 1) == pytest.approx(0.25)
    assert swapped(1e9, 1) == pytest.approx(0.5)
    assert swapped_at([0, 1, -1], 0).tolist() == [0.5, 0, 0]
    assert swapped_at(0, 3) == 0.5
    assert swapped_at(-2, 1) == swapped_at(2, 1)


@pytest.mark.parametrize("n", [2, 7, 60])
@pytest.mark.parametrize(("noise", "spread"), [(0.2, 1.0), (1.0, 0.5), (3.0, 1.0)])
def test_the_heaviest_stays_as_often_as_drawn(n, noise, spread):
    rng = np.random.default_rng(n)
    before = spread * rng.normal(size=(RUNS, n))
    after = before + noise * rng.normal(size=(RUNS, n))
    same = int((before.argmax(axis=1) == after.argmax(axis=1)).sum())
    within(same, heaviest_stays(n, noise, spread))


def test_limits_of_the_heaviest():
    assert heaviest_stays(1, 5, 1) == heaviest_stays(9, 0, 1) == 1
    assert heaviest_stays(2, 0.8, 2) == pytest.approx(1 - swapped(0.8, 2), abs=1e-6)
    assert heaviest_stays(50, 1e6, 1) == pytest.approx(1 / 50, rel=2e-3)
    by_n = [heaviest_stays(n, 0.5, 1) for n in (2, 10, 100, 1000, 10_000)]
    assert (np.diff(by_n) < 0).all()
    for wrong in ((0, 1, 1), (2, -1, 1), (2, 1, 0)):
        with pytest.raises(ValueError, match="needed are n >= 1"):
            heaviest_stays(*wrong)


def test_gumbel_noise_is_exact():
    rng = np.random.default_rng(2)
    weights, noise = np.array([0.5, 0.3, 0.15, 0.05, 0.0]), 1.1
    chances = heaviest_stays_gumbel(weights, noise)
    assert chances.sum() == pytest.approx(1)
    assert chances[-1] == 0
    drawn = np.log(weights[:4]) + rng.gumbel(scale=noise * np.sqrt(6) / np.pi, size=(RUNS, 4))
    for k, p in enumerate(chances[:4]):
        within(int((drawn.argmax(axis=1) == k).sum()), p)
    np.testing.assert_allclose(heaviest_stays_gumbel(weights, np.pi / np.sqrt(6)), weights)


def test_rounding_noise_is_that_of_rounded_keys():
    rng = np.random.default_rng(3)
    query, step = rng.normal(size=64), rng.uniform(0.01, 0.4, 64)
    keys = rng.normal(size=(RUNS, 64))
    error = (np.round(keys / step) * step - keys) @ query / 8
    assert rounding_noise(query, step, 1 / 8) == pytest.approx(error.std(), rel=0.02)
    assert rounding_noise(query, 0.3, 1 / 8) == pytest.approx(np.linalg.norm(query) * 0.3 / np.sqrt(12 * 64))

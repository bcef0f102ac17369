"""Noise on logits: against a slow twin, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.kernels.noise import noisy_rows
from tests.helpers.naive_decoding import normal
from tests.naive import stream

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
KEY = 77


def slow(rows, noise, alive, key):
    """Row by row on lists: what is read afterwards, the share that moved, whether the heaviest is the same."""
    found = []
    for number, (weights, size, may) in enumerate(zip(rows, noise, alive, strict=True)):
        numbers, total = stream(key, 0, number), math.fsum(weights)
        if total == 0:
            found.append(([0.0] * len(weights), 0.0, True))
            continue
        # The logarithm of what each is after noise, of those that have a weight and are alive.
        heights = {
            j: math.log(w) + (size * normal(numbers, 0, 2 * j) if size else 0)
            for j, w in enumerate(weights)
            if w > 0 and may[j]
        }
        top = max(heights.values(), default=0)
        parts = {j: math.exp(one - top) for j, one in heights.items()}
        whole = math.fsum(parts.values())
        after = [total * parts[j] / whole if j in parts else 0.0 for j in range(len(weights))]
        elsewhere = math.fsum(max(b - a, 0.0) for a, b in zip(after, weights, strict=True)) / total
        before = weights.index(max(weights))
        found.append((after, elsewhere, bool(parts) and max(heights, key=heights.get) == before))
    return found


WEIGHT = st.one_of(st.just(0.0), st.floats(1e-30, 1.0), st.floats(1e-3, 1e3))
ROWS = st.lists(st.lists(st.tuples(WEIGHT, st.booleans()), max_size=6), min_size=1, max_size=5)


@given(ROWS, st.data())
def test_as_the_twin_does(told, data):
    """Rows without reads, without weight and without anything alive are among them."""
    noise = data.draw(
        st.lists(st.sampled_from([0.0, 0.1, 1.0, 40.0]), min_size=len(told), max_size=len(told))
    )
    rows, alive = [[w for w, _ in row] for row in told], [[may for _, may in row] for row in told]
    indptr = np.cumsum([0, *map(len, rows)])
    weights = np.array([w for row in rows for w in row], dtype=float)
    made, moved, stays = noisy_rows(
        indptr,
        weights,
        np.array(noise),
        np.array([one for row in alive for one in row], dtype=bool),
        np.uint64(KEY),
    )
    for number, (after, elsewhere, same) in enumerate(slow(rows, noise, alive, KEY)):
        np.testing.assert_allclose(made[indptr[number] : indptr[number + 1]], after, rtol=1e-9, atol=1e-30)
        assert abs(moved[number] - elsewhere) < 1e-9
        assert stays[number] == same


def test_without_noise_nothing_moves_and_with_much_nothing_stays():
    rng = np.random.default_rng(0)
    rows, n = 400, 30
    weights = rng.dirichlet(np.ones(n), rows).ravel()
    indptr, whole = np.arange(rows + 1) * n, np.ones(rows * n, dtype=bool)
    found = [noisy_rows(indptr, weights, np.full(rows, s), whole, np.uint64(1)) for s in (0, 0.1, 1, 3, 1000)]
    assert found[0][1].max() < 1e-12
    assert found[0][2].all()
    np.testing.assert_allclose(found[0][0], weights, rtol=1e-12)
    moved, stays = ([part[k].mean() for part in found] for k in (1, 2))
    assert (np.diff(moved) > 0).all()
    assert (np.diff(stays) < 0).all()
    assert moved[-1] > 0.9
    assert stays[-1] < 0.1
    for made, *_ in found:
        np.testing.assert_allclose(np.add.reduceat(made, indptr[:-1]), 1, rtol=1e-9)


def test_what_is_dead_is_read_elsewhere():
    weights, indptr = np.array([0.5, 0.3, 0.2]), np.array([0, 3])
    made, moved, stays = noisy_rows(indptr, weights, np.zeros(1), np.array([False, True, True]), np.uint64(0))
    np.testing.assert_allclose(made, [0, 0.6, 0.4])
    assert abs(moved[0] - 0.5) < 1e-12
    assert not stays[0]
    made, moved, _ = noisy_rows(indptr, weights, np.zeros(1), np.zeros(3, dtype=bool), np.uint64(0))
    assert made.tolist() == [0, 0, 0]
    assert moved[0] == 1

import itertools

import numba as nb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import chdtrc

from routegraph.kernels import rng
from tests import naive

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

words = st.integers(0, 2**64 - 1)
halves = st.integers(0, 2**32 - 1)
KEY = np.uint64(0x0123456789ABCDEF)
AXES = ("key", "layer", "head", "position", "draw")


@nb.njit
def fill(out, key):
    """Fill out[key, layer, head, position, draw] with uniforms of neighbouring keys."""
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            for head in range(out.shape[2]):
                numbers = rng.stream(key + np.uint64(k), layer, head)
                for position in range(out.shape[3]):
                    for draw in range(out.shape[4]):
                        out[k, layer, head, position, draw] = rng.uniform(numbers, position, draw)


@nb.njit
def fill_below(out, key, bound):
    for i in range(len(out)):
        numbers = rng.stream(key, 1 + i % 10, i // 10 % 10)
        out[i] = rng.below(numbers, i // 100 % 10, i // 1000, bound)


@pytest.fixture(scope="module")
def table():
    out = np.empty((4, 6, 6, 8, 8))
    with np.errstate(over="ignore"):
        fill(out, KEY)
    return out


@given(words, halves, halves)
def test_stream_equals_twin(key, layer, head):
    assert int(rng.stream(np.uint64(key), layer, head)) == naive.stream(key, layer, head)


@given(words, halves, halves)
def test_uniform_equals_twin(numbers, position, draw):
    value = rng.uniform(np.uint64(numbers), position, draw)
    assert value == naive.uniform(numbers, position, draw)
    assert 0 <= value < 1


@given(words, halves, halves, st.one_of(st.integers(1, 100), st.integers(1, 2**53)))
def test_below_equals_twin_and_stays_below(numbers, position, draw, bound):
    value = rng.below(np.uint64(numbers), position, draw, bound)
    assert value == naive.below(numbers, position, draw, bound)
    assert 0 <= value < bound


def test_uniform_walks_the_published_splitmix64_sequence():
    # Vigna's splitmix64.c seeded with 1234567.
    published = (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    )
    for position, word in enumerate(published):
        assert rng.uniform(np.uint64(1234567), position, 0) == (word >> 11) / 2**53


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 10, 97])
def test_below_is_uniform(bound):
    drawn = np.empty(6000, np.int64)
    fill_below(drawn, KEY, bound)
    counts = np.bincount(drawn, minlength=bound)
    expected = len(drawn) / bound
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert len(counts) == bound
    if bound > 1:
        assert 1e-3 < chdtrc(bound - 1, statistic) < 1 - 1e-3


def test_uniforms_fill_the_unit_interval_evenly(table):
    counts = np.histogram(table, bins=64, range=(0, 1))[0]
    expected = table.size / 64
    assert 1e-3 < chdtrc(63, ((counts - expected) ** 2 / expected).sum()) < 1 - 1e-3


@pytest.mark.parametrize("axis", range(5), ids=AXES)
def test_neighbours_are_uncorrelated(table, axis):
    moved = np.moveaxis(table, axis, 0)
    left, right = moved[:-1].ravel(), moved[1:].ravel()
    assert abs(np.corrcoef(left, right)[0, 1]) * np.sqrt(left.size) < 4


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(range(5), 2)))
def test_diagonal_neighbours_are_uncorrelated(table, one, other):
    moved = np.moveaxis(table, (one, other), (0, 1))
    for left, right in ((moved[:-1, :-1], moved[1:, 1:]), (moved[:-1, 1:], moved[1:, :-1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) * np.sqrt(left.size) < 4


def test_no_number_appears_twice(table):
    assert len(np.unique(table)) == table.size


def test_means_of_streams_scatter_as_independent_numbers_do(table):
    means = table.mean(axis=(3, 4)).ravel()
    statistic = ((means - 0.5) ** 2).sum() * 12 * 64
    assert 1e-3 < chdtrc(len(means), statistic) < 1 - 1e-3


def test_keys_differ_between_seeds_cells_replicates_and_uses():
    made = [
        int(key)
        for seed, cell, replicate in itertools.product(range(3), range(3), range(3))
        for key in rng.keys(rng.seed_sequence(seed, cell, replicate))
    ]
    assert len(set(made)) == len(made) == 54


def test_keys_and_generators_repeat_themselves():
    first, second = rng.seed_sequence(5, 1, 2), rng.seed_sequence(5, 1, 2)
    assert rng.keys(first) == rng.keys(second)
    assert all(isinstance(key, np.uint64) for key in rng.keys(first))
    assert first_word(first, rng.SCORES) == first_word(second, rng.SCORES)


def first_word(sequence, purpose):
    return int(rng.generator(sequence, purpose).integers(2**62))


def test_generators_differ_between_purposes_and_replicates():
    words = {
        first_word(rng.seed_sequence(seed, 0, replicate), purpose)
        for seed in range(2)
        for replicate in range(3)
        for purpose in (rng.SCORES, rng.ANSWERS)
    }
    assert len(words) == 12


def test_generator_does_not_care_what_was_drawn_before():
    alone = first_word(rng.seed_sequence(5, 0, 0), rng.ANSWERS)
    used = rng.seed_sequence(5, 0, 0)
    rng.keys(used)
    used.spawn(1)
    first_word(used, rng.SCORES)
    assert first_word(used, rng.ANSWERS) == alone

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routegraph.kernels import decoding, popularity
from routegraph.kernels.rng import stream
from tests import naive
from tests.helpers import naive_decoding as twins

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

KEYS = st.integers(0, 2**64 - 1)


@st.composite
def models(draw):
    """Flat, frozen, renewed at every step, steep, lasting, boosted by age up and down, and anything in between.

    The prompt's rows are like the others, or a class of their own.
    """
    agreement = draw(st.sampled_from([0.0, 0.3, 1.0]))
    steps = draw(
        st.dictionaries(st.integers(0, 45), st.sampled_from([-20.0, -1.5, 0.0, 0.7, 20.0]), max_size=6)
    )
    rows = st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 4.0, 10.0]),
        st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        st.sampled_from([0.0, 0.4, 1.0]).map(lambda lasting: lasting * (1 - agreement)),
    )
    reply, apart = draw(rows), draw(st.booleans())
    prompt = draw(rows) if apart else reply
    numbers = (*reply, *prompt, float(apart), agreement, draw(st.sampled_from([0.0, 0.01, 0.5, 3.0])))
    return (
        numbers,
        np.array(sorted(steps), dtype=np.int64),
        np.array([steps[age] for age in sorted(steps)], dtype=np.float64),
    )


@st.composite
def caches(draw):
    """Rows of the prefill, most rows after every arrival, protected rows and a window that fit."""
    first, steps = draw(st.integers(0, 20)), draw(st.integers(1, 40))
    protected, window = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    least = protected + window + 1
    n = first + steps
    cut = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    budget = draw(st.lists(st.integers(least, least + 12), min_size=n, max_size=n))
    capacity = [most if cuts else n for most, cuts in zip(budget, cut, strict=True)]
    return first, np.array(capacity), protected, window


def evicted(kernel, key, cache, model):
    first, capacity, protected, window = cache
    return kernel(np.uint64(key), 3, 2, capacity, first, protected, window, *model).tolist()


def expected(choose, key, cache, model):
    first, capacity, protected, window = cache
    table = twins.heights(naive.stream(key, 3, 2), naive.stream(key, 0, 0), len(capacity), model, first)
    try:
        return twins.decode(capacity, first, protected, window, table, choose)
    except twins.TooCloseError:
        assume(False)


@given(KEYS, caches())
def test_random_rows_equal_twin(key, cache):
    first, capacity, *_ = cache
    found = decoding.random_rows(np.uint64(key), 3, 2, capacity, first)
    assert found.tolist() == twins.random_rows(naive.stream(key, 3, 2), capacity, first)


@given(KEYS, caches(), models())
def test_lowest_now_equals_twin(key, cache, model):
    assert evicted(decoding.lowest_now, key, cache, model) == expected(twins.lowest_now, key, cache, model)


@given(KEYS, caches(), models())
def test_lowest_sum_equals_twin(key, cache, model):
    assert evicted(decoding.lowest_sum, key, cache, model) == expected(twins.lowest_sum, key, cache, model)


@given(KEYS, caches(), models())
def test_lower_neighbour_equals_twin(key, cache, model):
    assert evicted(decoding.lower_neighbour, key, cache, model) == expected(
        twins.neighbours(), key, cache, model
    )


def test_sum_of_weights_keeps_its_digits_when_a_giant_leaves():
    weight, shared = np.array([1e20, 1.0, 2.0]), np.array([1e20 + 3.0, 0.0, 0.0])
    death = np.array([1, 9, 9], np.int32)
    popularity.change_total(2, death, 9, weight, shared, 1e20, 0.0)
    assert shared[popularity.TOTAL] == 3


def test_rows_that_are_gone_weigh_nothing():
    ages, boosts = np.array([0, 3, 40]), np.array([6.0, 9.0, -1.0])
    n, never, model = 200, 99, (1.0, 0.5, 0.3, 1.0, 0.5, 0.3, 0.0, 0.0, 0.05)
    numbers = np.uint64(stream(np.uint64(3), 1, 0))
    death = np.full(n, never, np.int32)
    drawn, height, renewals = np.empty(n), np.empty(n), np.zeros(n, np.int64)
    due, due_next = np.full(n, -1), np.full(n, -1)
    weight, offset, shared = np.empty(n), np.empty(n), np.zeros(3)
    state = (
        death,
        never,
        model,
        ages,
        boosts,
        drawn,
        height,
        renewals,
        due,
        due_next,
        weight,
        offset,
        shared,
    )
    for time in range(n):
        popularity.arrive(numbers, numbers, time, 0, *state)
        there = death[: time + 1] == never
        age = time - np.flatnonzero(there)
        boost = np.where(age >= 40, -1.0, np.where(age >= 3, 9.0, 6.0))
        np.testing.assert_allclose(height[: time + 1][there], drawn[: time + 1][there] + boost, rtol=1e-12)
        assert shared[popularity.TOTAL] == pytest.approx(weight[: time + 1][there].sum(), rel=1e-12)
        np.testing.assert_allclose(
            weight[: time + 1][there], np.exp(height[: time + 1][there] - shared[popularity.BASE]), rtol=1e-12
        )
        if time % 3 == 0:
            death[time // 2] = 1
            popularity.change_total(
                time, death, never, weight, shared, weight[time // 2] * there[time // 2], 0.0
            )


def test_popularity_of_a_row_is_normal_and_keeps_as_long_as_it_should():
    numbers, persistence, n = np.uint64(stream(np.uint64(7), 1, 0)), 0.8, 20_000
    drawn = np.array([popularity.normal(numbers, row, 0) for row in range(n)])
    assert abs(drawn.mean()) < 3 / np.sqrt(n)
    assert abs(drawn.var() - 1) < 3 * np.sqrt(2 / n)
    model = (1.0, persistence, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    kept = np.array([popularity.kept_for(numbers, row, 0, 0, model, 10**6) for row in range(n)])
    for steps in (1, 3, 10):
        chance = persistence**steps
        assert abs(np.mean(kept > steps) - chance) < 3 * np.sqrt(chance * (1 - chance) / n)


@pytest.mark.parametrize(("lasting", "agreement"), [(0.0, 0.0), (0.5, 0.2), (0.8, 0.2)])
def test_a_share_of_popularity_lasts_and_is_the_slots_own(lasting, agreement):
    n, spread = 20_000, 2.0
    model = (spread, 0.9, lasting, 0.0, 0.0, 0.0, 1.0, agreement, 0.0)
    tokens = np.uint64(stream(np.uint64(7), 0, 0))
    slots = [np.uint64(stream(np.uint64(7), 1, head)) for head in (0, 1)]
    first, later, other = (
        np.array([popularity.height_of(slots[slot], tokens, row, k, 0, model) for row in range(n)])
        for slot, k in ((0, 0), (0, 1), (1, 0))
    )
    assert abs(first.var() / spread**2 - 1) < 4 * np.sqrt(2 / n)
    for pair, expected in ((later, lasting + agreement), (other, agreement)):
        assert abs(np.corrcoef(first, pair)[0, 1] - expected) < 4 / np.sqrt(n)

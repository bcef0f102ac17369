from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.theory import loads


def powerlaw(i, j, exponent):
    return (i - j + 1.0) ** -exponent / sum((i - k + 1.0) ** -exponent for k in range(i + 1))


def popularity(i, j, weights):
    return weights[j] / sum(weights[: i + 1])


def uniform(i, j):
    return 1 / (i + 1)


def window(i, j, width):
    return (i - j < width) / min(i + 1, width)


def sink(i, j, p_sink, n_sink, p_recent, recent, weights):
    rest = uniform(i, j) if weights is None else popularity(i, j, weights)
    to_sink = (j < n_sink) / min(i + 1, n_sink)
    return p_sink * to_sink + p_recent * window(i, j, recent) + (1 - p_sink - p_recent) * rest


def by_loop(reached, kernel):
    n = len(reached)
    return [sum(reached[i] * kernel(i, j) for i in range(j, n)) for j in range(n)]


profiles = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


def weights_for(data, reached):
    size = len(reached)
    first = data.draw(st.floats(0.1, 5))
    rest = data.draw(st.lists(st.floats(0, 5), min_size=size - 1, max_size=size - 1))
    return [first, *rest]


@given(profiles, st.integers(1, 40))
def test_uniform_and_window_equal_the_loop(reached, width):
    assert loads.uniform_load(reached) == pytest.approx(by_loop(reached, uniform), abs=1e-12)
    expected = by_loop(reached, partial(window, width=width))
    assert loads.window_load(reached, width) == pytest.approx(expected, abs=1e-12)


@given(profiles, st.floats(-1, 4))
def test_powerlaw_equals_the_loop(reached, exponent):
    expected = by_loop(reached, partial(powerlaw, exponent=exponent))
    assert loads.powerlaw_load(reached, exponent) == pytest.approx(expected, abs=1e-11)


@given(profiles, st.data())
def test_popularity_equals_the_loop(reached, data):
    weights = weights_for(data, reached)
    expected = by_loop(reached, partial(popularity, weights=weights))
    assert loads.popularity_load(reached, weights) == pytest.approx(expected, abs=1e-11)


@given(profiles, st.floats(0, 0.6), st.integers(1, 12), st.floats(0, 0.4), st.integers(1, 12), st.data())
def test_sink_mixture_equals_the_loop(reached, p_sink, n_sink, p_recent, recent, data):
    weights = data.draw(st.sampled_from([None, weights_for(data, reached)]))
    expected = by_loop(
        reached,
        partial(sink, p_sink=p_sink, n_sink=n_sink, p_recent=p_recent, recent=recent, weights=weights),
    )
    found = loads.sink_load(reached, p_sink, n_sink, p_recent, recent, weights)
    assert found == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize(
    "load",
    [
        loads.uniform_load,
        partial(loads.window_load, window=5),
        partial(loads.powerlaw_load, exponent=1.3),
        partial(loads.popularity_load, weights=1 / np.arange(1.0, 201.0)),
        partial(loads.sink_load, p_sink=0.3, n_sink=4, p_recent=0.4, recent=16),
    ],
)
def test_a_reached_query_makes_one_read(load):
    reached = np.random.default_rng(0).random(200)
    assert load(reached).sum() == pytest.approx(reached.sum())


def test_exponent_0_is_uniform():
    reached = np.random.default_rng(1).random(99)
    assert loads.powerlaw_load(reached, 0.0) == pytest.approx(loads.uniform_load(reached))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: loads.popularity_load(p, [1.0, 2.0]),
            r"one entry for each of the 3 positions, got \(2,\)",
        ),
        (lambda p: loads.popularity_load(p, [0.0, 1.0, 1.0]), "the first must be positive"),
        (lambda p: loads.popularity_load(p, [1.0, -1.0, 1.0]), "must not be negative"),
        (lambda p: loads.sink_load(p, 0.7, 4, 0.5, 4), "a sum of at most 1, got 0.7, 0.5"),
        (lambda p: loads.sink_load(p, 0.7, 0, 0.1, 4), "n_sink and recent must be at least 1, got 0, 4"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones(3))

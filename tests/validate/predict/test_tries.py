"""Trying a few ratios: bisection, and what lies between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.predict.tries import HALF, between, bisected, likelihood_lost


@st.composite
def losses(draw):
    """Return a table of losses, 0 at the first ratio, in any order otherwise, ties among them."""
    n_policies, n_ratios = draw(st.integers(1, 4)), draw(st.integers(1, 14))
    value = st.floats(0, 1) | st.sampled_from([0.0, HALF, 1.0])
    table = np.array([[draw(value) for _ in range(n_ratios)] for _ in range(n_policies)])
    table[:, 0] = 0
    return table


def asked_of(table):
    """Return a function that looks losses up, and the rounds in which it was asked."""
    rounds = []

    def lost_at(places):
        rounds.append(list(places))
        return [table[place] for place in places]

    return lost_at, rounds


@given(losses(), st.integers(0, 6))
def test_every_policy_tries_at_most_one_ratio_a_round(table, tries):
    lost_at, rounds = asked_of(table)
    tried = bisected(lost_at, *table.shape, tries)
    assert len(rounds) <= tries
    for places in rounds:
        policies = [k for k, _ in places]
        assert len(set(policies)) == len(policies)
    known = ~np.isnan(tried)
    assert known[:, 0].all()
    np.testing.assert_array_equal(tried[known], table[known])
    assert known.sum() == len(table) + sum(map(len, rounds))


@given(st.integers(2, 40), st.data())
def test_enough_tries_find_the_ratio_at_which_a_monotone_loss_breaks(n_ratios, data):
    first = data.draw(st.integers(1, n_ratios))  # n_ratios: it never breaks
    table = (np.arange(n_ratios) >= first).astype(float)[None]
    tried = bisected(asked_of(table)[0], 1, n_ratios, int(np.ceil(np.log2(n_ratios))))
    known = np.flatnonzero(~np.isnan(tried[0]))
    assert first - 1 in known
    assert first == n_ratios or first in known


def test_bisection_starts_in_the_middle_and_goes_to_where_it_breaks():
    table = np.array([[0, 0.1, 0.2, 0.7, 0.9, 0.9, 1.0, 1.0], [0, 0, 0, 0, 0, 0.1, 0.8, 0.9]])
    lost_at, rounds = asked_of(table)
    bisected(lost_at, 2, 8, 3)
    assert rounds == [[(0, 4), (1, 4)], [(0, 2), (1, 6)], [(0, 3), (1, 5)]]


@given(losses())
def test_without_a_try_the_loss_is_the_support(table):
    nothing = np.full(table.shape, np.nan)
    nothing[:, 0] = 0
    np.testing.assert_allclose(between(table, nothing), np.maximum.accumulate(table, axis=1), atol=1e-12)


@given(losses(), losses(), st.integers(0, 5))
def test_tried_ratios_keep_their_loss_and_the_others_lie_between(support, table, tries):
    shape = (min(len(support), len(table)), min(support.shape[1], table.shape[1]))
    support, table = support[: shape[0], : shape[1]], table[: shape[0], : shape[1]]
    tried = bisected(asked_of(table)[0], *shape, tries)
    lost = between(support, tried)
    known = ~np.isnan(tried)
    np.testing.assert_array_equal(lost[known], tried[known])
    assert (lost >= 0).all()
    assert (lost <= 1).all()


def test_between_two_tries_the_support_says_how_the_way_goes():
    support = np.array([[0.0, 0.1, 0.2, 0.4, 0.5]])
    tried = np.array([[0.0, np.nan, 0.2, np.nan, 0.8]])
    np.testing.assert_allclose(between(support, tried), [[0, 0.1, 0.2, 0.6, 0.8]])


def test_support_that_was_not_read_stays_unknown():
    assert np.isnan(between(np.full((1, 3), np.nan), np.array([[0.0, np.nan, np.nan]]))).all()


def test_likelihood_lost_is_that_of_the_token_that_loses_most():
    falls = np.array([[0.1, np.log(2)], [-3.0, -1.0], [0.0, 50.0]])
    np.testing.assert_allclose(likelihood_lost(falls), [0.5, 0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize("tries", [0, 1])
def test_a_single_ratio_leaves_nothing_to_try(tries):
    lost_at, rounds = asked_of(np.zeros((2, 1)))
    assert bisected(lost_at, 2, 1, tries).tolist() == [[0.0], [0.0]]
    assert rounds == []

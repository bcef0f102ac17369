import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.theory import ger, propositions


def test_redundancy_bound_against_monte_carlo():
    draws, p = 40_000, np.array([0.05, 0.3, 0.7])
    alive = np.random.default_rng(0).random((draws, 4, 3)) < p
    found = alive.any(axis=1).mean(axis=0)
    expected = propositions.redundancy_bound(p, 4)
    assert np.all(np.abs(found - expected) < 3 * np.sqrt(expected * (1 - expected) / draws))
    assert propositions.redundancy_bound(0.3, 1) == pytest.approx(0.3)


def test_correlation_breaks_the_bound_all_the_way_down_to_one_route():
    p = 0.2
    truth = [1 - ger.one_factor([1 - p], 5, rho)[0] for rho in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert truth[0] == pytest.approx(propositions.redundancy_bound(p, 5))
    assert np.all(np.diff(truth) < -0.01)
    assert truth[-1] == pytest.approx(p)


@given(p=st.floats(0.01, 0.9), target=st.floats(0.01, 0.99))
def test_routes_needed_inverts_the_bound(p, target):
    assert propositions.redundancy_bound(p, propositions.routes_needed(p, target)) == pytest.approx(target)


def test_no_chance_needs_infinitely_many():
    assert propositions.routes_needed(0.0, 0.5) == float("inf")
    assert propositions.routes_needed(0.0, 0.0) == 0


rows = st.lists(st.floats(0.01, 1), min_size=2, max_size=8)


@given(rows, st.data())
def test_rigidity_is_what_pruning_and_renormalising_do(weights, data):
    row = np.array(weights) / np.sum(weights)
    evidence = np.array(data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))))
    top = int(np.argmax(row))
    left = row.copy()
    left[top] = 0
    expected = left[evidence].sum() / left.sum() - row[evidence].sum()
    found = propositions.rigidity_shift(row[top], row[evidence].sum(), evidence[top])
    assert found == pytest.approx(expected, abs=1e-9)
    assert (found <= 1e-12) if evidence[top] else (found >= -1e-12)


def test_rigidity_of_a_layer_is_the_mean_over_its_heads():
    """Heads of a layer, the shared top token pruned in those that share it: mean change of evidence mass."""
    rng = np.random.default_rng(1)
    attention = rng.dirichlet(np.ones(6), size=5)
    attention[:3, 2] += 1
    attention /= attention.sum(axis=1, keepdims=True)
    shares = attention.argmax(axis=1) == 2
    evidence = np.array([0, 0, 1, 0, 1, 0], bool)
    mass = attention[:, evidence].sum(axis=1)
    pruned = attention.copy()
    pruned[shares, 2] = 0
    pruned /= pruned.sum(axis=1, keepdims=True)
    expected = (pruned[:, evidence].sum(axis=1) - mass).mean()
    change, rho = propositions.layer_rigidity(attention[:, 2], mass, True, shares)
    assert change == pytest.approx(expected)
    assert rho == pytest.approx(shares.mean())
    assert change < 0
    other = np.array([0, 0, 0, 0, 1, 0], bool)
    rises, _ = propositions.layer_rigidity(attention[:, 2], attention[:, other].sum(axis=1), False, shares)
    assert rises > 0
    assert propositions.layer_rigidity([0.5], [0.5], True, [False]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("weight", "evidence", "is_evidence"),
    [(1.0, 1.0, True), (-0.1, 0.5, False), (0.6, 0.5, True), (0.6, 0.5, False)],
)
def test_impossible_masses_are_refused(weight, evidence, is_evidence):
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\)|evidence must be in \[0, 1\]"):
        propositions.rigidity_shift(weight, evidence, is_evidence)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_decomposition_adds_up(items):
    failed, erased = np.array(items).T
    found = propositions.decompose_failure(failed, erased)
    assert found.from_erasure + found.from_rigidity == pytest.approx(failed.mean())
    assert found.failure.value == pytest.approx(failed.mean())
    if erased.any():
        assert found.given_erased.value == pytest.approx(failed[erased].mean())
        assert found.from_erasure == pytest.approx(found.given_erased.value * found.erased.value)
    else:
        assert np.isnan(found.given_erased.value)
    for share in (found.failure, found.erased):
        assert 0 <= share.low <= share.value <= share.high <= 1


def test_decomposition_refuses_lists_that_do_not_match():
    with pytest.raises(ValueError, match=r"one length of at least 1, got \(2,\), \(1,\)"):
        propositions.decompose_failure([True, False], [True])


def test_masses_an_ulp_above_one_are_the_rounding_of_a_sum():
    assert propositions.rigidity_shift(0.25, np.nextafter(1, 2), True) == 0
    with pytest.raises(ValueError, match="evidence must be"):
        propositions.rigidity_shift(0.25, 1.001, True)

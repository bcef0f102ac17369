import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.theory import markov


def test_values_of_theory_md():
    count = np.arange(13)
    for n_heads, degree in ((3, 1), (1, 3)):  # edges do not care which head they belong to
        found = [markov.reached(12, n_heads, degree, 0.4, 5, "edges", r) @ count for r in (False, True)]
        assert found == pytest.approx([1.526644, 10.253611], abs=1e-6)
    found = [markov.reached(12, 3, 1, 0.4, 5, "slots", r) @ count for r in (False, True)]
    assert found == pytest.approx([1.358, 9.842], abs=0.006)


def enumerate_one_layer(n, reads, kept, dilute, held):
    """Law of the number of keys reached from tokens 0..held-1, one head, by listing everything."""
    law = np.zeros(n + 1)
    for keys in itertools.product(range(n), repeat=held * reads):
        if dilute == "edges":
            for alive in itertools.product([0, 1], repeat=len(keys)):
                chance = np.prod([kept if a else 1 - kept for a in alive]) / n ** len(keys)
                law[len({k for k, a in zip(keys, alive, strict=True) if a})] += chance
        else:
            for alive in itertools.product([0, 1], repeat=n):
                chance = np.prod([kept if a else 1 - kept for a in alive]) / n ** len(keys)
                law[len({k for k in keys if alive[k]})] += chance
    return law


@pytest.mark.parametrize("dilute", ["edges", "slots"])
@pytest.mark.parametrize("held", [1, 2])
def test_one_layer_equals_enumeration(dilute, held):
    expected = enumerate_one_layer(4, 2, 0.3, dilute, held)
    assert markov.step(4, 1, 2, 0.3, dilute, residual=False)[held] == pytest.approx(expected)


@given(
    n=st.integers(1, 9),
    heads=st.integers(1, 3),
    degree=st.integers(1, 3),
    kept=st.floats(0, 1),
    dilute=st.sampled_from(["edges", "slots"]),
    residual=st.booleans(),
)
def test_rows_are_laws_and_residual_never_loses(n, heads, degree, kept, dilute, residual):
    matrix = markov.step(n, heads, degree, kept, dilute, residual)
    assert matrix.min() >= -1e-12
    assert matrix.sum(axis=1) == pytest.approx(1)
    if residual:
        assert np.abs(np.tril(matrix, -1)).max() < 1e-12
    else:
        assert matrix[0, 0] == pytest.approx(1)  # the absorbing state


def test_unknown_dilution_is_refused():
    with pytest.raises(ValueError, match="unknown dilution 'rows'; choose from: edges, slots"):
        markov.step(3, 1, 1, 0.5, "rows", True)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import simulate
from routegraph.theory.reach import cavity, cavity_mean, uniform_load, window_load

#: THEORY.md section 2: n = 4096, 12 layers, 4 heads, degree 2; standard error at most .0016.
RATIOS = [0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9]
SIMULATED = np.array([0.748, 0.691, 0.608, 0.487, 0.405, 0.303, 0.076])


def naive_cavity(n, n_layers, n_heads, degree, gone, residual, width):
    """The recursion as THEORY.md writes it, by loops."""
    p = [0.0] * n + [1.0]
    for _ in range(n_layers):
        new = []
        for j in range(n + 1):
            readers = range(j, min(n + 1, j + width))
            load = degree * sum(p[i] / min(i + 1, width) for i in readers)
            read = (1 - gone if j < n else 1.0) * (1 - np.exp(-load))
            new.append(1 - (1 - p[j] if residual else 1.0) * (1 - read) ** n_heads)
        p = new
    return np.array(p[:n])


@settings(max_examples=25)
@given(
    n=st.integers(1, 25),
    n_layers=st.integers(1, 4),
    n_heads=st.integers(1, 3),
    degree=st.integers(1, 3),
    gone=st.floats(0, 1),
    residual=st.booleans(),
    width=st.integers(1, 30),
)
def test_cavity_equals_the_loop(n, n_layers, n_heads, degree, gone, residual, width):
    expected = naive_cavity(n, n_layers, n_heads, degree, gone, residual, width)
    found = cavity(n, n_layers, n_heads, degree, gone, residual, load=lambda p: window_load(p, width))
    assert found[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("n", [1, 2, 300, 4096, 4097, 4100, 5000, 70_000, 400_000])
def test_the_mean_is_that_of_all_rows(n, residual):
    gone = [0.0, 0.5, 0.9, 0.99, 1.0]
    expected = cavity(n, 12, 4, 2, gone, residual).mean(axis=1)
    found = cavity_mean(n, 12, 4, 2, gone, residual)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-14)


def test_the_mean_over_a_thousand_million_rows_is_had_at_once():
    few, many = (cavity_mean(n, 32, 8, 1, [0.9])[0] for n in (10**6, 10**9))
    assert 0 < many < few


def test_uniform_load_is_the_widest_window():
    p = np.random.default_rng(0).random(50)
    assert uniform_load(p) == pytest.approx(window_load(p, 50))


def test_cavity_of_theory_md_lies_just_above_the_simulation():
    gap = cavity(4096, 12, 4, 2, RATIOS).mean(axis=1) - SIMULATED
    assert np.all((gap > 0.004) & (gap < 0.019))


def test_simulated_reach_of_theory_md_within_three_combined_standard_errors():
    result = simulate(4096, RATIOS, n_layers=12, n_heads=4, degree=2, replicates=256, seed=5)
    mean, error = result.estimate("reach_fraction", RATIOS)
    assert np.all(np.abs(mean - SIMULATED) < 3 * np.hypot(error, 0.0016))
    assert result.theory("reach_fraction", RATIOS) == pytest.approx(
        cavity(4096, 12, 4, 2, result.level_of.levels(RATIOS) / 4096).mean(axis=1)
    )

"""Certified settings: exact p-values, the fixed sequence, and that the guarantee holds where risks lie at the bound."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control, permutation_test

from routegraph.stats.certified import fixed_sequence, holm, p_values, sign_flips, trials_needed

DATA = Path(__file__).parent.parent / "data"


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.01, 0.99))
def test_p_values_are_those_of_the_exact_test(count, more, bound):
    trials = count + more
    if trials:
        exact = binomtest(count, trials, bound, alternative="less").pvalue
        assert p_values([count], trials, bound)[0] == pytest.approx(exact, abs=1e-12)


@given(st.lists(st.floats(0, 1), max_size=10), st.floats(0.01, 0.5))
def test_the_sequence_stops_at_the_first_that_is_not_rejected(values, level):
    expected = 0
    for value in values:
        if value > level:
            break
        expected += 1
    assert fixed_sequence(values, level) == expected


@pytest.mark.parametrize(("bound", "level"), [(0.05, 0.1), (0.1, 0.05), (0.3, 0.2)])
def test_trials_needed_are_just_enough(bound, level):
    n = trials_needed(bound, level)
    assert p_values([0], n, bound)[0] <= level < p_values([0], n - 1, bound)[0]


def test_a_setting_beyond_the_bound_is_certified_no_more_often_than_the_level():
    """Risks .02, .04, .051, .03, .2 (not monotone), bound .05: what is certified wrongly begins with the third."""
    rng = np.random.default_rng(0)
    risks, n, level = np.array([0.02, 0.04, 0.051, 0.03, 0.2]), 300, 0.1
    wrong = 0
    for _ in range(2000):
        passed = fixed_sequence(p_values(rng.binomial(n, risks), n, 0.05), level)
        wrong += (risks[:passed] > 0.05).any()
    assert wrong / 2000 <= level + 3 * np.sqrt(level * (1 - level) / 2000)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    raw = np.array([0.001, 0.2, 0.01])
    assert (holm(raw) >= false_discovery_control(raw, method="bh") - 1e-12).all()


def test_sign_flips_agree_with_a_permutation_test():
    values = np.random.default_rng(1).normal(0.3, 1, 25)
    other = permutation_test(
        (values, np.zeros(25)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=9999,
        rng=0,
    ).pvalue
    assert sign_flips(values) == pytest.approx(other, abs=0.02)
    assert sign_flips(np.zeros(5)) == 1
    table = np.random.default_rng(2).normal([[0.3], [0.0], [-0.5]], 1, (3, 25))
    table[1] = 0
    assert sign_flips(table).tolist() == [float(sign_flips(row)) for row in table]


@pytest.mark.parametrize(
    "call", [lambda: p_values([1], 10, 1.0), lambda: fixed_sequence([0.1], 0), lambda: trials_needed(0, 0.1)]
)
def test_bad_input(call):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\), got"):
        call()


def test_p_values_and_settings_are_mapies():
    """MAPIE 1.6.0 on the same losses (studies.mapie_values), where its float arithmetic leaves the counts alone."""
    told = json.loads((DATA / "mapie.json").read_text(encoding="utf-8"))["rows"]
    same = 0
    for row in told:
        own = p_values(row["counts"], row["n"], row["risk"])
        # It multiplies the mean risk by n and rounds up: 3.0000000000000004 harmed are 4 there.
        whole = np.ceil(np.array(row["counts"]) / row["n"] * row["n"]) == row["counts"]
        np.testing.assert_allclose(own[whole], np.array(row["p"])[whole], rtol=1e-9, atol=1e-12)
        if whole.all():
            same += 1
            for level, certified in row["certified"].items():
                assert certified["fixed_sequence"] == list(range(fixed_sequence(own, float(level))))
                assert certified["bonferroni_holm"] == np.flatnonzero(holm(own) <= float(level)).tolist()
    assert same >= 100

import bisect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph import Survival, eviction_rate, ger, n_kept
from routegraph.survival import eviction_ratios, ratio_keeping
from routegraph.testing import ratios, survivals
from tests import naive

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6))
tables = shapes.flatmap(lambda shape: survivals(*shape))
ratio_lists = st.lists(ratios(6), min_size=1, max_size=5)


def kept_sets(survival, ratio):
    """Kept sets from drop and a level found by bisection or by the kept number."""
    n = survival.n_context
    if survival.steps is None:
        level = n - naive.n_kept(n, ratio)
    else:
        level = bisect.bisect_right(survival.steps.tolist(), ratio)
    return [[{i for i in range(n) if head[i] > level} for head in layer] for layer in survival.drop.tolist()]


@st.composite
def questions(draw):
    survival = draw(tables)
    tokens = draw(st.lists(st.integers(0, survival.n_context - 1), min_size=1, max_size=5))
    return survival, draw(ratio_lists), tokens


@pytest.mark.parametrize(
    ("n", "ratio", "kept"),
    [
        (300, 0.8, 59),  # 300 * (1 - .8) is 59.99999999999999
        (100, 0.9, 9),
        (10, 0.9, 1),  # int gives 0
        (10, 0.0, 10),
        (10, 0.5, 5),
        (1, 0.5, 1),
        (4, 0.999, 1),
    ],
)
def test_n_kept_is_the_float_expression_of_kvpress(n, ratio, kept):
    assert n_kept(n, ratio) == kept


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_n_kept_equals_twin(n, ratio):
    assert n_kept(n, ratio) == naive.n_kept(n, ratio)


@pytest.mark.parametrize("n", [*range(1, 130), 300, 1000, 4096])
def test_eviction_ratios_are_exact_to_the_float(n):
    ratios = eviction_ratios(n).tolist()
    assert len(ratios) == n - 1
    for gone, ratio in enumerate(ratios, start=1):
        assert naive.n_kept(n, ratio) <= n - gone < naive.n_kept(n, math.nextafter(ratio, 0))


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), ratios(n))))
def test_level_counts_the_rows_gone(case):
    n, ratio = case
    survival = Survival(np.ones((1, 1, n), int))
    assert survival.max_level == n
    assert survival.level(ratio) == n - naive.n_kept(n, ratio)


@given(survivals(1, 1, 2, steps=True), st.data())
def test_level_with_steps_counts_the_steps_passed(survival, data):
    steps = survival.steps.tolist()
    near = [math.nextafter(step, side) for step in steps for side in (0, 1)]
    ratio = data.draw(st.sampled_from([0.0, *[r for r in steps + near if r < 1]]))
    assert survival.max_level == len(steps)
    assert survival.level(ratio) == sum(step <= ratio for step in steps)


def test_level_with_steps_changes_at_the_step_itself():
    survival = Survival([[[1, 2, 3]]], [0.25, 0.75])
    assert [survival.level(r) for r in (0, 0.2, 0.25, 0.5, 0.75, 0.9)] == [0, 0, 1, 1, 2, 2]
    assert survival.alive(0.25).tolist() == [[[False, True, True]]]
    assert survival.alive(0.9).tolist() == [[[False, False, True]]]


@given(tables, ratio_lists)
def test_alive_and_levels_follow_the_definition(survival, ratios):
    for ratio, level in zip(ratios, survival.levels(ratios), strict=True):
        assert survival.level(ratio) == level
        kept = [[set(np.flatnonzero(head).tolist()) for head in layer] for layer in survival.alive(ratio)]
        assert kept == kept_sets(survival, ratio)


@pytest.mark.parametrize("over", ["model", "layer"])
@given(question=questions())
def test_ger_equals_direct_count(over, question):
    survival, ratios, tokens = question
    counted = [naive.ger(kept_sets(survival, ratio), tokens, over) for ratio in ratios]
    assert ger(survival, ratios, tokens, over=over) == pytest.approx(counted, abs=1e-12)


@pytest.mark.parametrize("over", ["model", "layer"])
@given(survival=tables, ratios=ratio_lists)
def test_eviction_rate_counts_every_cache_row(over, survival, ratios):
    every = list(range(survival.n_context))
    counted = [naive.ger(kept_sets(survival, ratio), every, over) for ratio in ratios]
    assert eviction_rate(survival, ratios, over=over) == pytest.approx(counted, abs=1e-12)


@given(questions())
def test_ger_is_over_the_model_by_default(question):
    assert np.array_equal(ger(*question), ger(*question, over="model"))
    assert np.array_equal(eviction_rate(*question[:2]), eviction_rate(*question[:2], over="model"))


@given(questions())
def test_ger_is_at_most_the_eviction_of_any_one_head(question):
    survival, ratios, tokens = question
    model, layer = ger(survival, ratios, tokens), ger(survival, ratios, tokens, over="layer")
    gone = np.array([~survival.alive(ratio)[:, :, tokens] for ratio in ratios]).mean(axis=-1)
    assert (model <= gone.min(axis=(1, 2)) + 1e-12).all()
    assert (layer <= gone.min(axis=2).mean(axis=1) + 1e-12).all()
    assert (model <= layer + 1e-12).all()


@pytest.mark.parametrize("over", ["model", "layer"])
@given(question=questions())
def test_ger_rises_with_the_ratio(over, question):
    survival, ratios, tokens = question
    assert (np.diff(ger(survival, sorted(ratios), tokens, over=over)) >= 0).all()


def test_both_head_axes_by_hand():
    """Token 0 keeps a slot in layer 1 only, token 1 in neither, token 2 in both."""
    survival = Survival([[[3, 1, 4], [1, 2, 4]], [[2, 2, 4], [1, 1, 1]]])
    assert survival.level(0.7) == 2
    assert ger(survival, 0.7, [0, 1, 2]) == pytest.approx([1 / 3])
    assert ger(survival, 0.7, [0, 1, 2], over="layer") == pytest.approx([1 / 2])
    assert survival.last().tolist() == [[3, 2, 4]]
    assert survival.last("layer").tolist() == [[3, 2, 4], [2, 2, 4]]


@given(tables)
def test_sizes(survival):
    assert (survival.n_layers, survival.n_heads, survival.n_context) == survival.drop.shape


@pytest.mark.parametrize(
    ("drop", "steps", "message"),
    [
        (np.ones((1, 1, 3)), None, "integer array [layers, heads, rows], got float64[1, 1, 3]"),
        (np.ones((1, 3), int), None, "integer array [layers, heads, rows], got int64[1, 3]"),
        (np.ones((1, 1, 0), int), None, "non-empty integer array"),
        (np.full((1, 1, 3), -1), None, "drop entries must be in 0..max_level + 1 = 4, got -1"),
        (np.full((1, 1, 3), 5), None, "drop entries must be in 0..max_level + 1 = 4, got 5"),
        (np.full((1, 1, 3), 3), [0.5], "drop entries must be in 0..max_level + 1 = 2, got 3"),
        (np.ones((1, 1, 3), int), [0.5, 0.2], "steps must be a sorted list of ratios in [0, 1)"),
        (np.ones((1, 1, 3), int), [0.5, 1.0], "steps must be a sorted list of ratios in [0, 1)"),
        (np.ones((1, 1, 3), int), [-0.1], "steps must be a sorted list of ratios in [0, 1)"),
        (np.ones((1, 1, 3), int), [np.nan], "steps must be a sorted list of ratios in [0, 1)"),
        (np.ones((1, 1, 3), int), [[0.5]], "steps must be a sorted list of ratios in [0, 1)"),
    ],
)
def test_bad_tables_are_refused(drop, steps, message):
    with pytest.raises(ValueError) as refused:
        Survival(drop, steps)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        (1, "ratio must be in [0, 1), got 1.0"),
        (1.2, "ratio must be in [0, 1), got 1.2"),
        (-0.1, "ratio must be in [0, 1), got -0.1"),
        (math.nan, "ratio must be in [0, 1), got nan"),
        ("much", "ratio must be a number in [0, 1), got 'much'"),
        (None, "ratio must be a number in [0, 1), got None"),
    ],
)
def test_bad_ratios_are_refused(ratio, message):
    survival = Survival(np.ones((1, 1, 3), int))
    calls = (
        lambda: survival.level(ratio),
        lambda: survival.levels([0.5, ratio]),
        lambda: survival.alive(ratio),
        lambda: ger(survival, [ratio], [0]),
        lambda: eviction_rate(survival, ratio),
    )
    for call in calls:
        with pytest.raises(ValueError) as refused:
            call()
        assert str(refused.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [0]), "at least one ratio is needed"),
        ((0.5, []), "at least one token is needed"),
        ((0.5, [0, 3]), "token must be in 0..2, got 3"),
        ((0.5, -1), "token must be in 0..2, got -1"),
        ((0.5, [1.0]), "token must be an integer position"),
        ((0.5, [0], "head"), "unknown head axis 'head'; choose from: model, layer"),
    ],
)
def test_bad_questions_are_refused(arguments, message):
    with pytest.raises(ValueError) as refused:
        ger(Survival(np.ones((1, 1, 3), int)), *arguments)
    assert message in str(refused.value)


@given(st.integers(1, 70_000), st.integers(1, 80_000))
def test_a_budget_of_rows_is_kept_exactly(n, kept):
    ratio = ratio_keeping(n, kept)
    assert naive.n_kept(n, ratio) == min(n, kept)
    assert ratio == 0 if kept >= n else ratio == pytest.approx(1 - kept / n, abs=1e-12)


def test_every_budget_of_short_contexts():
    assert all(n_kept(n, ratio_keeping(n, k)) == k for n in range(1, 400) for k in range(1, n + 1))

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from routegraph import Survival, TokenGraph, ger, reach_thresholds
from routegraph.kernels import rng
from routegraph.policies import apply, declared, is_nested, policies
from routegraph.registry import Registry
from routegraph.testing import ratios
from tests import naive

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

EVERY = pytest.mark.parametrize("name", sorted(policies))
SIZES = pytest.mark.parametrize("n", [9, 64, 70, 130])
#: Policies that look at the shape of the scores only.
BLIND = {"bernoulli", "random", "streaming"}
#: Policies whose budget depends on the layer.
BY_LAYER = {"pyramid"}
#: Policies that add scores up; for all others only their order counts.
ADDING = {name for name in policies if not declared(name).ordinal}
#: Parameters that suit short contexts, where the defaults do not.
SHORT = {"chunkkv": {"chunk_length": 4}, "pyramid": {"window": 2}, "snapkv": {"window": 2}}
TIED = st.integers(-2, 2)
SMOOTH = st.floats(-4, 4, width=32)


@st.composite
def score_tables(draw, least=1, max_layers=2, whole=False):
    """Scores [layers, heads, n], whole numbers full of ties or (unless `whole`) float32."""
    shape = (draw(st.integers(1, max_layers)), draw(st.integers(1, 3)), draw(st.integers(least, 9)))
    if whole or draw(st.booleans()):
        return draw(hnp.arrays(np.int64, shape, elements=TIED))
    return draw(hnp.arrays(np.float32, shape, elements=SMOOTH))


def kept_sets(survival, ratio):
    return [[set(np.flatnonzero(head).tolist()) for head in layer] for layer in survival.alive(ratio)]


def critical_ratios(n):
    """0 and, for every row of n, its ratio of eviction and the floats beside it."""
    exact = [k / n for k in range(n)] + [1 - k / n for k in range(1, n + 1)]
    near = [math.nextafter(r, side) for r in exact for side in (0, 1)]
    return sorted({r for r in exact + near if 0 <= r < 1})


def asked(name, scores):
    """A function from ratios to what the policy keeps, bool[layers, heads, n]."""
    parameters = SHORT.get(name, {})
    if not is_nested(name):
        return lambda ratio: apply(name, scores, ratio=ratio, **parameters).alive(ratio)
    return apply(name, scores, **parameters).alive


def distinct_scores(n, seed=0, n_layers=3, n_heads=2):
    """Scores without ties over a whole layer."""
    generator = np.random.default_rng(seed)
    order = [generator.permutation(n_heads * n) for _ in range(n_layers)]
    return np.array(order, dtype=float).reshape(n_layers, n_heads, n)


# --------------------------------------------------------------------------- equal to the naive twin


@given(score_tables(), st.data())
def test_topk_equals_twin(scores, data):
    ratio = data.draw(ratios(scores.shape[2]))
    assert kept_sets(apply("topk", scores), ratio) == naive.topk(scores.tolist(), ratio)


@given(score_tables(), st.integers(1, 10), st.data())
def test_chunk_equals_twin(scores, chunk_length, data):
    n = scores.shape[2]
    ratio = data.draw(st.one_of(ratios(min(chunk_length, n)), ratios(n % chunk_length or n)))
    survival = apply("chunk", scores, chunk_length=chunk_length)
    assert kept_sets(survival, ratio) == naive.chunk(scores.tolist(), ratio, chunk_length)


@given(score_tables(), st.one_of(st.sampled_from([0, 0.2, 0.5, 1]), st.floats(0, 1)), st.data())
def test_adakv_equals_twin(scores, alpha_safeguard, data):
    ratio = data.draw(ratios(scores.shape[2]))
    survival = apply("adakv", scores, alpha_safeguard=alpha_safeguard)
    assert kept_sets(survival, ratio) == naive.adakv(scores.tolist(), ratio, alpha_safeguard)


@given(score_tables(least=5), st.integers(0, 4), st.data())
def test_streaming_equals_twin(scores, n_sink, data):
    ratio = data.draw(ratios(scores.shape[2]))
    survival = apply("streaming", scores, n_sink=n_sink)
    assert kept_sets(survival, ratio) == naive.streaming(scores.tolist(), ratio, n_sink)


@given(score_tables(), st.integers(0, 2**32), st.data())
def test_random_equals_twin(scores, seed, data):
    ratio = data.draw(ratios(scores.shape[2]))
    key = int(rng.keys(np.random.SeedSequence(seed))[1])
    assert kept_sets(apply("random", scores, seed=seed), ratio) == naive.random(*scores.shape, ratio, key)


@given(score_tables(whole=True), st.integers(1, 10), st.data())
def test_chunkkv_equals_twin(scores, chunk_length, data):
    ratio = data.draw(ratios(-(-scores.shape[2] // chunk_length)))
    survival = apply("chunkkv", scores, chunk_length=chunk_length)
    assert kept_sets(survival, ratio) == naive.chunkkv(scores.tolist(), ratio, chunk_length)


@given(score_tables(), st.data())
def test_snapkv_equals_twin(scores, data):
    n = scores.shape[2]
    ratio, window = data.draw(ratios(n)), data.draw(st.integers(0, n - 1))
    survival = apply("snapkv", scores, window=window)
    assert kept_sets(survival, ratio) == naive.snapkv(scores.tolist(), ratio, window)


@given(score_tables(max_layers=4), st.integers(1, 20), st.data())
def test_pyramid_equals_twin(scores, beta, data):
    n = scores.shape[2]
    ratio, window = data.draw(ratios(n)), data.draw(st.integers(0, n - 1))
    survival = apply("pyramid", scores, ratio=ratio, window=window, beta=beta)
    assert kept_sets(survival, ratio) == naive.pyramid(scores.tolist(), ratio, window, beta)


@given(score_tables(), st.integers(0, 2**32), st.integers(2, 50), st.data())
def test_bernoulli_equals_twin(scores, seed, resolution, data):
    ratio = data.draw(ratios(resolution))
    key = int(rng.keys(np.random.SeedSequence(seed))[1])
    survival = apply("bernoulli", scores, seed=seed, resolution=resolution)
    assert kept_sets(survival, ratio) == naive.bernoulli(*scores.shape, ratio, key, resolution)


TWINS = {
    "adakv": naive.adakv,
    "chunk": naive.chunk,
    "chunkkv": naive.chunkkv,
    "pyramid": naive.pyramid,
    "snapkv": naive.snapkv,
    "streaming": naive.streaming,
    "topk": naive.topk,
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("ties", [True, False], ids=["ties", "distinct"])
def test_defaults_equal_twin_at_all_ratios(name, ties):
    scores = np.floor(distinct_scores(70) / (30 if ties else 1))
    at = {*critical_ratios(70)[::2], *critical_ratios(64)[::3], *critical_ratios(6), *critical_ratios(4)}
    for ratio in sorted(at):
        survival = apply(name, scores, ratio=ratio)
        assert kept_sets(survival, ratio) == TWINS[name](scores.tolist(), ratio), ratio


def test_adakv_brings_a_row_into_play_when_its_safeguard_shrinks():
    """Head 0 is worthless but for its safe rows; head 1 pays for it until they are released."""
    scores = np.array([[[0, 1, 2, 3, 4, 5], [20, 21, 22, 23, 24, 25]]])
    for ratio in critical_ratios(6):
        kept = kept_sets(apply("adakv", scores, alpha_safeguard=0.5), ratio)
        assert kept == naive.adakv(scores.tolist(), ratio, 0.5)


def test_adakv_spares_a_fifth_of_each_head_by_default():
    scores = np.arange(120.0).reshape(1, 2, 60)
    for ratio in critical_ratios(60)[::2]:
        assert kept_sets(apply("adakv", scores), ratio) == naive.adakv(scores.tolist(), ratio, 0.2)


@pytest.mark.parametrize(
    ("n", "ratio", "window", "budgets"),
    [
        (8, 0.5, 2, [6, 4, 2]),  # the smallest budget is the window itself
        (
            10,
            0.7,
            1,
            [4, 3, 2],
        ),  # 4.5 rounds to 4; without adding and taking the window it were 4.500000000000001
        (8, 0.6, 2, [3, 3, 3]),  # the smallest budget would fall below the window
    ],
)
def test_pyramid_budgets_by_hand(n, ratio, window, budgets):
    alive = apply("pyramid", distinct_scores(n), ratio=ratio, window=window, beta=2).alive(ratio)
    assert alive.sum(axis=2).tolist() == [[rows, rows] for rows in budgets]


def test_chunk_with_a_shorter_last_chunk_by_hand():
    """Chunks of 4 and 2: at .3 the kept numbers 2.8 and 1.4, at .5 2 and 1, at .8 .8 and .4, cut to at least 1."""
    survival = apply("chunk", [[[4, 3, 2, 1, 1, 2]]], chunk_length=4)
    at = {ratio: kept_sets(survival, ratio)[0][0] for ratio in (0, 0.3, 0.5, 0.8)}
    assert at == {0: {0, 1, 2, 3, 4, 5}, 0.3: {0, 1, 5}, 0.5: {0, 1, 5}, 0.8: {0, 5}}


def test_chunk_of_one_row_never_evicts():
    survival = apply("chunk", np.zeros((1, 1, 3)), chunk_length=1)
    assert survival.alive(0.99).all()
    assert survival.max_level == 0


def test_equal_scores_keep_the_lowest_position_longest():
    assert apply("topk", np.zeros((1, 1, 4))).drop.tolist() == [[[4, 3, 2, 1]]]
    assert apply("adakv", np.zeros((1, 2, 2))).drop.tolist() == [[[2, 1], [2, 1]]]


# ----------------------------------------------------------------------- laws of the whole registry


def test_the_policies_are_registered():
    assert set(policies) >= {"bernoulli", "random", *TWINS}


def expected_count(name, n, ratio):
    """Rows kept by a head, on average over the heads of a layer."""
    if name == "chunk":
        return sum(naive.n_kept(min(64, n - start), ratio) for start in range(0, n, 64))
    return naive.n_kept(n, ratio)


@EVERY
@SIZES
def test_kept_counts_are_right_at_every_ratio(name, n):
    keeps = asked(name, distinct_scores(n))
    for ratio in [*critical_ratios(n)[::2], 0.8, 0.9, 0.95, 0.999]:
        alive = keeps(ratio)
        counts = alive.sum(axis=2)
        assert alive.shape == (3, 2, n)
        assert name == "bernoulli" or counts.min() >= 1
        if name not in {"bernoulli", "chunkkv", "pyramid"}:
            assert (counts.mean(axis=1) == expected_count(name, n, ratio)).all()
        if name not in {"adakv", "bernoulli"}:
            assert (counts == counts[:, :1]).all()


@pytest.mark.parametrize("n", [9, 12, 70])
def test_chunkkv_keeps_whole_chunks_and_their_right_number(n):
    keeps = asked("chunkkv", distinct_scores(n))
    starts = range(0, n, 4)
    for ratio in critical_ratios(len(starts)):
        by_chunk = [keeps(ratio)[..., start : start + 4] for start in starts]
        assert all((rows.all(axis=(1, 2)) | ~rows.any(axis=(1, 2))).all() for rows in by_chunk)
        kept = sum(rows.all(axis=(1, 2)).astype(int) for rows in by_chunk)
        assert (kept == naive.n_kept(len(starts), ratio)).all()


def test_bernoulli_kills_each_slot_with_the_probability_of_the_ratio():
    survival = apply("bernoulli", np.zeros((4, 5, 500)))
    for ratio in (0.1, 0.5, 0.9, 0.97):
        gone = np.floor(ratio * 8192) / 8192
        deviation = (~survival.alive(ratio)).mean() - gone
        assert abs(deviation) < 4 * np.sqrt(gone * (1 - gone) / 10_000)


@EVERY
@SIZES
def test_kept_sets_are_nested_unless_the_policy_says_otherwise(name, n):
    keeps = asked(name, distinct_scores(n))
    sets = [keeps(ratio) for ratio in critical_ratios(n)]
    rows_come_back = any((later & ~earlier).any() for earlier, later in itertools.pairwise(sets))
    assert not rows_come_back or not is_nested(name)


def test_pyramid_gives_rows_back_at_a_higher_ratio():
    """The counterexample because of which pyramid is asked ratio by ratio: n 40, window 8, the last layer."""
    assert not is_nested("pyramid")
    scores = distinct_scores(40)
    last = [
        apply("pyramid", scores, ratio=ratio, window=8).alive(ratio)[-1].sum()
        for ratio in np.arange(0, 1, 0.01)
    ]
    assert (np.diff(last) > 0).any()


@EVERY
@SIZES
def test_nothing_is_evicted_at_ratio_zero(name, n):
    assert asked(name, distinct_scores(n))(0).all()


@EVERY
@pytest.mark.parametrize("over", ["model", "layer"])
def test_ger_rises_with_the_ratio_and_stays_below_every_head(name, over):
    scores, tokens = distinct_scores(40), [3, 17, 21, 39]
    at = critical_ratios(40)
    parameters = SHORT.get(name, {})
    curve = np.array([ger(apply(name, scores, ratio=r, **parameters), r, tokens, over)[0] for r in at[::4]])
    keeps = asked(name, scores)
    gone = np.array([1 - keeps(ratio)[:, :, tokens].mean(axis=2) for ratio in at[::4]])
    least = gone.min(axis=(1, 2)) if over == "model" else gone.min(axis=2).mean(axis=1)
    assert curve[0] == 0
    assert (curve <= least + 1e-12).all()
    if is_nested(name):
        assert (np.diff(curve) >= 0).all()
        assert np.array_equal(ger(apply(name, scores, **parameters), at[::4], tokens, over), curve)


@EVERY
@given(heads=st.permutations(range(3)), layers=st.permutations(range(2)), ratio=ratios(9))
def test_relabelling_heads_and_layers_moves_the_scores_with_them(name, heads, layers, ratio):
    layers = [0, 1] if name in BY_LAYER else layers
    scores = distinct_scores(9, n_layers=2, n_heads=3)
    relabelled = asked(name, scores[layers][:, heads])(ratio)
    alive = asked(name, scores)(ratio)
    assert np.array_equal(relabelled, alive if name in BLIND else alive[layers][:, heads])


@EVERY
def test_scores_matter_unless_the_policy_is_blind(name):
    one, other = (asked(name, distinct_scores(9, seed=seed))(0.5) for seed in (0, 1))
    assert np.array_equal(one, other) == (name in BLIND)


@EVERY
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_only_the_order_of_scores_matters(name, ratio):
    scores = distinct_scores(9)
    alive = asked(name, scores)(ratio)
    assert np.array_equal(alive, asked(name, 2 * scores + 3)(ratio))
    assert np.array_equal(alive, asked(name, scores.astype(np.float32))(ratio))
    if name not in ADDING:
        assert np.array_equal(alive, asked(name, np.exp(scores / 5) - 3)(ratio))


@EVERY
def test_a_policy_repeats_itself_and_leaves_the_scores_alone(name):
    scores = distinct_scores(20)
    before = scores.copy()
    assert np.array_equal(asked(name, scores)(0.6), asked(name, scores)(0.6))
    assert np.array_equal(scores, before)


@EVERY
def test_a_policy_serves_reachability(name):
    """A star: the query reads every row in every head of one layer, so reach is the last slot's death."""
    survival = apply(name, distinct_scores(8, n_layers=1), ratio=0.5, **SHORT.get(name, {}))
    head, key = (a.ravel() for a in np.indices((2, 8)))
    graph = TokenGraph.from_edges(1, 2, 9, np.ones_like(key), head, np.full_like(key, 8), key, n_context=8)
    assert reach_thresholds(graph, survival, 8)[:8].tolist() == (survival.last()[0] - 1).tolist()


def test_random_differs_between_seeds_layers_and_heads():
    drop = apply("random", np.zeros((2, 2, 50))).drop.reshape(4, 50)
    again = apply("random", np.zeros((2, 2, 50)), seed=1).drop.reshape(4, 50)
    assert len(np.unique(np.concatenate([drop, again]), axis=0)) == 8


def test_streaming_is_the_same_in_every_slot():
    drop = apply("streaming", np.zeros((2, 3, 9))).drop
    assert (drop == drop[0, 0]).all()
    assert drop[0, 0].tolist() == [9, 8, 7, 6, 1, 2, 3, 4, 5]


# -------------------------------------------------------------------------------------- bad input


@EVERY
def test_parameters_are_refused_by_name(name):
    taken = policies.parameters(name)
    with pytest.raises(ValueError) as refused:
        apply(name, np.zeros((1, 1, 8)), temperature=1)
    message = str(refused.value)
    assert f"policy {name!r} takes no parameter 'temperature'; choose from: " in message
    assert all(parameter in message for parameter in taken or ["none"])
    assert "n_context" not in taken


def test_unknown_policy_is_refused_with_the_choices():
    with pytest.raises(ValueError) as refused:
        apply("magic", np.zeros((1, 1, 8)))
    assert "unknown policy 'magic'; choose from: " in str(refused.value)
    assert all(name in str(refused.value) for name in policies)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("adakv", {"alpha_safeguard": 1.5}, "alpha_safeguard must be in [0, 1], got 1.5"),
        ("adakv", {"alpha_safeguard": -0.1}, "alpha_safeguard must be in [0, 1], got -0.1"),
        ("adakv", {"alpha_safeguard": math.nan}, "alpha_safeguard must be in [0, 1], got nan"),
        ("chunk", {"chunk_length": 0}, "chunk_length must be at least 1, got 0"),
        ("streaming", {"n_sink": 8}, "n_sink must be in 0..7, got 8"),
        ("streaming", {"n_sink": -1}, "n_sink must be in 0..7, got -1"),
        ("chunkkv", {"chunk_length": 0}, "chunk_length must be at least 1, got 0"),
        ("snapkv", {"window": 8}, "window must be in 0..n_context - 1 = 7, got 8"),
        ("snapkv", {"window": -1}, "window must be in 0..n_context - 1 = 7, got -1"),
        ("bernoulli", {"resolution": 1}, "resolution must be at least 2, got 1"),
        ("pyramid", {"ratio": 0.5}, "window must be in 0..n_context - 1 = 7, got 64"),
        ("pyramid", {"ratio": 0.5, "window": 2, "beta": 0}, "beta must be at least 1, got 0"),
        ("pyramid", {"ratio": 1.5, "window": 2}, "ratio must be in [0, 1), got 1.5"),
        ("pyramid", {}, "policy 'pyramid' is not nested: it must be asked for one ratio at a time"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(name, parameters, message):
    with pytest.raises(ValueError) as refused:
        apply(name, np.zeros((1, 1, 8)), **parameters)
    assert str(refused.value) == message


@EVERY
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((2, 8)), "scores must be [layers, heads, n_context = 8], got [2, 8]"),
        (np.zeros((1, 1, 0)), "scores must be [layers, heads, n_context = 0], got [1, 1, 0]"),
        (3.0, "scores must be [layers, heads, n_context = 0], got []"),
        (np.full((1, 1, 8), np.nan), "scores must be finite, got NaN or infinity"),
        (np.full((1, 1, 8), np.inf), "scores must be finite, got NaN or infinity"),
    ],
    ids=["two axes", "no rows", "a number", "NaN", "infinity"],
)
def test_bad_scores_are_refused(name, scores, message):
    with pytest.raises(ValueError) as refused:
        apply(name, scores, ratio=0.5)
    assert str(refused.value) == message


@EVERY
def test_n_context_must_be_that_of_the_scores(name):
    with pytest.raises(ValueError, match=r"n_context = 9\], got \[1, 1, 8\]"):
        policies[name](np.zeros((1, 1, 8)), n_context=9, **({} if is_nested(name) else {"ratio": 0.5}))


def test_a_policy_of_ones_own_works_like_the_others(monkeypatch):
    monkeypatch.setattr(policies, "_functions", dict(policies._functions))

    @policies("oldest")
    def oldest(scores, *, n_context, step=1):
        """Evict the oldest."""
        return Survival(np.broadcast_to(np.arange(1, n_context + 1), scores.shape))

    assert isinstance(policies, Registry)
    assert apply("oldest", np.zeros((1, 1, 3)), step=2).drop.tolist() == [[[1, 2, 3]]]
    with pytest.raises(ValueError, match="takes no parameter 'pace'; choose from: step"):
        apply("oldest", np.zeros((1, 1, 3)), pace=2)


@pytest.mark.parametrize("name", sorted(ADDING))
def test_policies_that_add_scores_up_go_by_more_than_their_order(name):
    scores = np.random.default_rng(0).standard_normal((2, 3, 48))
    one, other = (
        apply(name, table, **SHORT.get(name, {})).alive(0.5) for table in (scores, np.exp(4 * scores))
    )
    assert not np.array_equal(one, other)

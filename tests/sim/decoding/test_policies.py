import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.policies import apply
from routegraph.sim.decoding.attention import step_by_step
from routegraph.sim.decoding.policies import deaths, decoding_policies, decoding_policy
from routegraph.sim.decoding.slot import Attention, Slot
from routegraph.survival import ratio_keeping
from routegraph.testing import check_laws
from routegraph.theory.decoding import tree_by_age
from tests import naive
from tests.helpers import naive_decoding as twins

KEY = np.uint64(20261126)


def a_slot(n_prefill=30, n_steps=50, budget=20, interval=1, attention=None, key=KEY):
    return Slot(key, 3, 2, n_prefill, n_steps, budget, interval, attention or Attention(decay=0.05))


def table_of(slot, n=None):
    numbers, tokens = naive.stream(int(slot.key), slot.layer, slot.head), naive.stream(int(slot.key), 0, 0)
    return twins.heights(numbers, tokens, n or slot.n_rows, slot.attention.model, slot.n_prefill)


@pytest.mark.parametrize("name", sorted(decoding_policies))
def test_every_policy_obeys_the_laws(name):
    check_laws(name)


@pytest.mark.parametrize("strategy", ["adaptive", "discontinuous"])
def test_scope_never_leaves_more_than_its_room(strategy):
    slot = a_slot(n_prefill=7, n_steps=90, budget=24)
    death = deaths("scope", slot, strategy=strategy)
    assert (death[:7] == slot.never).all()
    left = [np.sum(death[7 : 7 + step] > step) for step in range(1, 91)]
    # (90 - 6)/18 steps from one growth to the next, 24/4 = 6 rows at first.
    expected = 6 + np.maximum(0, np.arange(1, 91) - 6) * 18 // 84
    if strategy == "adaptive":
        assert np.all(left <= expected)
        assert left[-1] == 24
    else:
        cut = np.diff(expected, prepend=6) > 0
        assert np.all(np.array(left)[cut] <= expected[cut])
        assert max(left) > max(np.array(left)[cut])


@given(
    n_prefill=st.integers(0, 9),
    n_steps=st.integers(1, 40),
    budget=st.integers(1, 15),
    interval=st.integers(1, 9),
    n_sink=st.integers(0, 6),
)
def test_streaming_equals_twin(n_prefill, n_steps, budget, interval, n_sink):
    slot = a_slot(n_prefill, n_steps, budget, interval)
    if n_sink >= budget:
        with pytest.raises(ValueError, match="which protects"):
            deaths("streaming", slot, n_sink=n_sink)
        return
    found = deaths("streaming", slot, n_sink=n_sink)
    assert found.tolist() == twins.streaming(n_prefill, n_steps, budget, interval, n_sink)


@given(
    key=st.integers(0, 2**64 - 1),
    n_prefill=st.integers(0, 9),
    n_steps=st.integers(1, 40),
    budget=st.integers(1, 15),
    recent=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    strategy=st.sampled_from(["slide", "adaptive", "discontinuous"]),
)
def test_scope_equals_twin(key, n_prefill, n_steps, budget, recent, strategy):
    slot = a_slot(n_prefill, n_steps, budget, key=np.uint64(key))
    local = int(budget * recent)
    capacity = twins.scope(n_prefill, n_steps, budget, local, strategy)
    expected = twins.decode(capacity, n_prefill, n_prefill, local, table_of(slot), twins.lowest_now)
    assert deaths("scope", slot, recent=recent, strategy=strategy).tolist() == expected


@pytest.mark.parametrize(
    ("name", "worth", "window"),
    [("tova", lambda cache: cache.now, 1), ("h2o", lambda cache: cache.total, 10)],
)
@pytest.mark.parametrize("interval", [1, 7])
@pytest.mark.parametrize("prompt", [None, (1.5, 0.5, 0.6)])
def test_a_policy_in_python_is_that_of_the_kernel(name, worth, window, interval, prompt):
    attention = Attention(1.0, 0.9, 0.02, 0.3, 0.4, ((0, 2.0), (3, 0.5), (20, 0.0)), prompt)
    slot = a_slot(interval=interval, attention=attention)
    assert np.array_equal(step_by_step(slot, worth, window=window), deaths(name, slot))


def test_what_a_policy_in_python_is_given():
    slot = a_slot(n_prefill=4, n_steps=6, budget=5, interval=3)
    seen = []
    step_by_step(slot, lambda cache: seen.append(cache) or cache.rows, n_sink=1, window=2)
    first, second = seen
    assert (first.step, second.step) == (3, 6)
    assert first.rows.tolist() == [1, 2, 3, 4]
    assert first.looks.tolist() == [6, 5, 4, 3]
    table, alive = table_of(slot), list(range(7))
    given_at = [twins.attention(table, range(time + 1), time) for time in range(7)]
    assert first.now == pytest.approx([given_at[6][row] for row in (1, 2, 3, 4)], rel=1e-9)
    total = [sum(given_at[time].get(row, 0) for time in range(7)) for row in alive]
    assert first.total == pytest.approx(total[1:5], rel=1e-9)
    assert first.recent == pytest.approx(first.total)
    # The cut of step 3 took rows 1 and 2, whose worth was least; since then three queries looked.
    assert second.rows.tolist() == [3, 4, 5, 6, 7]
    there = [0, 3, 4, 5, 6]
    later = [twins.attention(table, [*there, *range(7, time + 1)], time) for time in (7, 8, 9)]
    assert second.recent == pytest.approx(
        [sum(one.get(row, 0) for one in later) for row in (3, 4, 5, 6, 7)], rel=1e-9
    )


@pytest.mark.parametrize(
    "worth", [lambda cache: cache.now[1:], lambda cache: cache.now * np.nan, lambda cache: 1.0]
)
def test_a_worth_that_fits_no_rows_is_refused(worth):
    with pytest.raises(ValueError, match="a worth must be one number for each of 31 rows"):
        step_by_step(a_slot(), worth)


def alive_at_the_end(death, slot):
    return np.flatnonzero(death == slot.never)


@pytest.mark.parametrize("budget", [5, 20, 79])
def test_one_cut_at_the_end_is_the_policy_of_a_finished_context(budget):
    slot = a_slot(budget=budget, interval=50)
    n, seen = slot.n_rows, []
    step_by_step(slot, lambda cache: seen.append(cache) or cache.now)
    (cache,) = seen
    ratio = ratio_keeping(n, budget)

    def kept(name, scores, **parameters):
        return np.flatnonzero(apply(name, scores[None, None], **parameters).alive(ratio)[0, 0])

    assert np.array_equal(
        alive_at_the_end(deaths("streaming", slot), slot), kept("streaming", np.zeros(n), n_sink=4)
    )
    assert np.array_equal(alive_at_the_end(deaths("tova", slot, window=0), slot), kept("topk", cache.now))
    assert np.array_equal(alive_at_the_end(deaths("h2o", slot, recent=0.0), slot), kept("topk", cache.total))
    half = kept("snapkv", cache.total, window=budget // 2)
    assert np.array_equal(alive_at_the_end(deaths("h2o", slot, recent=0.5), slot), half)
    assert np.array_equal(alive_at_the_end(deaths("topk", slot), slot), kept("topk", cache.recent))


def test_a_policy_of_a_finished_context_is_asked_at_every_cut():
    slot = a_slot(interval=5)
    assert np.array_equal(
        deaths("snapkv", slot, window=3), step_by_step(slot, lambda cache: cache.recent, window=3)
    )


@pytest.mark.parametrize("name", ["adakv", "pyramid", "bernoulli", "chunk", "chunkkv"])
def test_policies_that_leave_other_numbers_in_other_slots_are_refused(name):
    with pytest.raises(ValueError, match=f"policy '{name}' cannot be asked at every cut"):
        deaths(name, Slot(KEY, 1, 0, 30, 50, 20, 1, Attention()))


@pytest.mark.parametrize(("name", "parameters"), [("streaming", {}), ("tova", {"window": 0})])
def test_a_larger_budget_kills_no_row_sooner_where_the_order_of_rows_stays(name, parameters):
    # Not so of h2o, where what a row is given depends on who else is there, nor of random, which draws others.
    frozen = Attention(1.0, 1.0, 0.0)
    tables = [
        deaths(name, a_slot(budget=budget, attention=frozen), **parameters) for budget in (8, 9, 16, 40)
    ]
    assert np.all(np.diff(tables, axis=0) >= 0)


def test_treekv_grows_thinner_to_the_left():
    slot = Slot(KEY, 1, 0, 100, 4000, 128, 1, Attention(spread=0.5, decay=0.001))
    left = alive_at_the_end(deaths("treekv", slot), slot)
    gaps = np.diff(left[4:-64])
    thirds = [part.mean() for part in np.array_split(gaps, 3)]
    assert thirds[0] > 5 * thirds[1] > 6 * thirds[2]
    assert left[:4].tolist() == [0, 1, 2, 3]


def test_a_boost_that_falls_fast_makes_of_tova_the_latest_rows():
    """20 nats a row at ages up to 40, where popularity spreads by .1: rows go by age."""
    steep = tuple((age, 20.0 - age / 2) for age in range(41))
    slot = a_slot(n_prefill=0, budget=20, attention=Attention(0.05, 1.0, 0.0, recency=steep))
    assert np.array_equal(deaths("tova", slot), deaths("streaming", slot, n_sink=0))


@pytest.mark.parametrize("name", ["tova", "h2o", "treekv", "scope"])
def test_the_same_boost_for_all_ages_changes_nothing(name):
    plain, raised = (
        a_slot(attention=Attention(0.7, 0.9, 0.02, 0.1, 0.3, recency)) for recency in ((), ((0, 2.5),))
    )
    assert np.array_equal(deaths(name, plain), deaths(name, raised))


@pytest.mark.parametrize("name", ["tova", "h2o", "treekv", "scope"])
def test_a_prompt_that_is_a_class_like_all_rows_changes_nothing_without_boosts(name):
    plain, apart = (
        a_slot(attention=Attention(0.7, 0.9, 0.02, 0.1, 0.3, (), prompt))
        for prompt in (None, (0.7, 0.9, 0.3))
    )
    assert np.array_equal(deaths(name, plain), deaths(name, apart))


def test_boosts_of_the_reply_push_a_prompt_of_its_own_class_out():
    """Every row of the reply is 20 nats above the prompt's: those go first, and are not boosted for being young."""
    boosted = Attention(1.0, 1.0, 0.0, recency=((0, 20.0),), prompt=(1.0, 1.0, 0.0))
    slot = a_slot(n_prefill=30, n_steps=50, budget=20, attention=boosted)
    death = deaths("tova", slot)
    assert (death[:30] <= 20).all()
    assert (death[30:50] > 20).all()


@pytest.mark.parametrize(
    "attention",
    [
        Attention(spread=0.1),
        Attention(spread=3.0, persistence=0.5),
        Attention(spread=1.0, decay=0.01),
        Attention(spread=1.0, lasting=0.9, recency=((0, 3.0), (5, 1.0), (90, 0.0))),
    ],
)
def test_treekv_halves_what_it_has_whatever_rows_are_given(attention):
    n_steps, budget, n_sink, window = 6000, 96, 4, 28
    settings = {"n_sink": n_sink, "recent": window / budget}
    tables = [
        deaths("treekv", Slot(KEY, layer, 0, 0, n_steps, budget, 1, attention), **settings)
        for layer in range(1, 17)
    ]
    ages = np.array([0, 27, 28, 40, 60, 92, 124, 188, 252])
    born = np.arange(2000, n_steps - 300)  # rows whose whole life falls into a full cache
    alive = np.array([(table[born - 1] > born + ages[:, None]).mean(axis=1) for table in tables])
    error = alive.std(axis=0, ddof=1) / np.sqrt(len(tables))
    off = np.abs(alive.mean(axis=0) - tree_by_age(budget, ages, n_sink, window))
    assert np.all(off <= 3 * error + 0.1 / (budget - n_sink - window))


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        (
            "streaming",
            {"n_sink": 20},
            "budget must be at least 21 for policy 'streaming', which protects 20 sinks; got 20",
        ),
        ("streaming", {"n_sink": -1}, "n_sink must be at least 0, got -1"),
        (
            "tova",
            {"window": 21},
            "budget must be at least 21 for policy 'tova', which protects a window of 21; got 20",
        ),
        ("tova", {"window": -1}, "window must be at least 0, got -1"),
        ("h2o", {"recent": 1.0}, r"recent must be in \[0, 1\), got 1.0"),
        (
            "treekv",
            {"n_sink": 10},
            "budget must be at least 21 for policy 'treekv', which protects 10 sinks and 10",
        ),
        ("treekv", {"n_sink": -1}, "n_sink must be at least 0, got -1"),
        (
            "scope",
            {"strategy": "leap"},
            "unknown strategy 'leap'; choose from: slide, adaptive, discontinuous",
        ),
        ("nope", {}, "unknown decoding policy 'nope'; choose from: h2o, random"),
    ],
)
def test_bad_parameters_are_refused(name, parameters, words):
    with pytest.raises(ValueError, match=words):
        deaths(name, a_slot(), **parameters)


def test_discontinuous_has_an_interval_of_its_own():
    with pytest.raises(ValueError, match="interval must be 1, got 2"):
        deaths("scope", a_slot(interval=2), strategy="discontinuous")


@pytest.fixture
def registered():
    before = dict(decoding_policies._functions)
    yield
    decoding_policies._functions.clear()
    decoding_policies._functions.update(before)


@pytest.mark.parametrize(
    ("crime", "law"),
    [
        (lambda slot, death: np.minimum(death, 1), "no row may die before it has come"),
        (lambda slot, death: np.full_like(death, slot.never), "no cut may leave more rows"),
        (lambda slot, death: death[1:], "a step for every row"),
        (lambda slot, death: death + (death == slot.interval), "at cuts only|no cut may leave more"),
        (
            lambda slot, death: np.where(
                death == death.max(), slot.n_steps // slot.interval * slot.interval, death
            ),
            "room for all",
        ),
    ],
)
def test_crimes_are_seen(registered, crime, law):
    @decoding_policy("criminal")
    def criminal(slot):
        return crime(slot, deaths("streaming", slot))

    with pytest.raises(AssertionError, match=law):
        check_laws("criminal")

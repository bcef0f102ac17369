"""The estimates of the simulator's numbers that the study of survival by age makes."""

import numpy as np
import pytest

from routegraph.sim.decoding.policies import deaths
from routegraph.sim.decoding.slot import Attention, Slot
from studies.decoding_attention import by_age, by_class, estimated, laws, replayed
from tests import naive
from tests.helpers import naive_decoding as twins


def drawn(
    rng, spread: float, persistence: float, decay: float, c: float, m: int = 8, n: int = 400, q: int = 60
):
    """Attention as the simulator draws it, float64[m, q, n]: q queries, of which the last sees all rows."""
    token = rng.normal(size=n)
    own = rng.normal(size=(m, n))
    made = np.zeros((m, q, n))
    for t in range(q):
        fresh = rng.random((m, n)) >= persistence
        own = np.where(fresh, rng.normal(size=(m, n)), own)
        age = n - q + t - np.arange(n)
        weight = np.exp(spread * (np.sqrt(c) * token + np.sqrt(1 - c) * own) - decay * age) * (age >= 0)
        made[:, t] = weight / weight.sum(axis=1, keepdims=True)
    return made


@pytest.mark.parametrize(
    ("spread", "persistence", "decay", "c"),
    [(1.0, 0.99, 0.002, 0.0), (2.0, 0.9, 0.01, 0.3), (0.5, 1.0, 0.0, 0.7)],
)
def test_four_numbers_are_found_again_in_attention_that_was_drawn_with_them(spread, persistence, decay, c):
    rng = np.random.default_rng(3)
    found = estimated([drawn(rng, spread, persistence, decay, c) for _ in range(4)])
    assert found["spread"] == pytest.approx(spread, rel=0.06)
    assert found["persistence"] == pytest.approx(persistence, abs=0.012)
    assert found["decay"] == pytest.approx(decay, abs=0.0015)
    assert found["score_correlation"] == pytest.approx(c, abs=0.06)
    assert found["misfit"] < 0.05


def drawn_by_age(rng, spread, persistence, lasting, boost, m=6, n_prefill=60, q=150, prompt=None):
    """Attention with boosts by age, float64[m, q, n_prefill + q]: query t sees the prompt and t + 1 rows more."""
    n = n_prefill + q
    kept, own = rng.normal(size=(2, m, n))
    made = np.zeros((m, q, n))
    of_prompt = np.arange(n) < n_prefill
    mine = (spread, persistence, lasting)
    spread, persistence, lasting = (
        np.where(of_prompt, one, two) for one, two in zip(prompt or mine, mine, strict=True)
    )
    for t in range(q):
        own = np.where(rng.random((m, n)) >= persistence, rng.normal(size=(m, n)), own)
        age = n_prefill + t - np.arange(n)
        high = np.sqrt(lasting) * kept + np.sqrt(1 - lasting) * own
        gain = np.where(np.arange(n) < n_prefill, 0.0, boost(age))
        weight = np.exp(spread * high + gain) * (age >= 0)
        made[:, t] = weight / weight.sum(axis=1, keepdims=True)
    return made


@pytest.mark.parametrize(
    ("spread", "persistence", "lasting"), [(0.8, 0.5, 0.5), (1.5, 0.9, 0.0), (1.0, 0.0, 0.3)]
)
def test_boosts_by_age_and_what_lasts_are_found_again(spread, persistence, lasting):
    rng = np.random.default_rng(3)

    def boost(age):
        return np.where(age < 3, 5.0, np.where(age < 32, 2.0, 0.5))

    units = by_age([drawn_by_age(rng, spread, persistence, lasting, boost) for _ in range(6)])
    mean = {key: np.mean([unit[key] for unit in units]) for key in ("spread", "persistence", "lasting")}
    assert mean["spread"] == pytest.approx(spread, rel=0.06)
    assert mean["lasting"] == pytest.approx(lasting, abs=0.06)
    assert mean["persistence"] == pytest.approx(persistence, abs=0.06)
    pairs = [[pair.split(":") for pair in unit["recency"].split(",")] for unit in units]
    ages = np.array([int(age) for age, _ in pairs[0]])
    found = np.mean([[float(value) for _, value in unit] for unit in pairs], axis=0)
    assert found == pytest.approx(boost(ages), abs=0.4)


def test_the_prompts_rows_are_found_again_as_a_class_of_their_own():
    rng = np.random.default_rng(3)
    tables = [
        drawn_by_age(rng, 0.8, 0.5, 0.3, lambda age: np.where(age < 8, 3.0, 0.0), prompt=(1.6, 0.7, 0.6))
        for _ in range(6)
    ]
    units = by_class(tables)
    found = np.mean([[float(one) for one in unit["prompt_rows"].split(",")] for unit in units], axis=0)
    assert found == pytest.approx([1.6, 0.7, 0.6], abs=0.08)
    assert [unit["recency"] for unit in units] == [unit["recency"] for unit in by_age(tables)]
    assert np.mean([unit["spread"] for unit in units]) == pytest.approx(0.8, rel=0.06)


def test_a_law_is_that_of_heights_with_some_missing():
    rng = np.random.default_rng(5)
    heights = 0.7 * rng.normal(size=(2, 1, 500)) + 0.5 * rng.normal(size=(2, 80, 500))
    heights[:, :, ::7] = np.nan
    for law in laws([heights]):
        assert law.spread == pytest.approx(np.sqrt(0.74), rel=0.1)
        assert law.lasting == pytest.approx(0.49 / 0.74, abs=0.08)
        assert law.misfit < 0.02


@pytest.mark.parametrize("policy", ["h2o", "tova"])
@pytest.mark.parametrize("prompt", [None, (1.5, 0.5, 0.6)])
def test_a_replay_of_the_simulators_own_attention_is_the_simulation(policy, prompt):
    model = Attention(1.0, 0.9, 0.02, 0.3, 0.4, ((0, 2.0), (3, 0.5), (20, 0.0)), prompt)
    slot = Slot(np.uint64(5), 3, 2, 30, 50, 20, 1, model)
    table = twins.heights(
        naive.stream(5, 3, 2), naive.stream(5, 0, 0), slot.n_rows, model.model, slot.n_prefill
    )
    given = np.zeros((1, slot.n_rows, slot.n_rows))
    for time in range(slot.n_rows):
        for row, share in twins.attention(table, range(time + 1), time).items():
            given[0, time, row] = share
    assert np.array_equal(replayed(policy, given, slot.n_prefill, slot.budget)[0], deaths(policy, slot))

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.theory import decoding as theory

SIZES = {
    "n_prefill": st.integers(0, 30),
    "n_steps": st.integers(1, 40),
    "budget": st.integers(1, 35),
    "interval": st.integers(1, 9),
}


def chances(n_prefill, n_steps, budget, interval):
    """Chance that the row of each step, 0 for the prefill, is there after each later one; cut by cut."""
    table = np.ones((n_steps + 1, n_steps + 1))
    size = n_prefill
    keeps = [1.0]
    for step in range(1, n_steps + 1):
        size += 1
        keeps.append(1.0)
        if step % interval == 0 and size > budget:
            keeps[step] = budget / size
            size = budget
    for born in range(n_steps + 1):
        for step in range(born, n_steps + 1):
            table[born, step] = np.prod(keeps[max(1, born) : step + 1])
    return table


@given(**SIZES)
def test_log_survival_is_the_product_over_cuts(n_prefill, n_steps, budget, interval):
    found = theory.log_survival(n_prefill, n_steps, budget, interval)
    table = chances(n_prefill, n_steps, budget, interval)
    assert np.exp(found) == pytest.approx(table[0])
    for age in {0, 1, n_steps // 2, n_steps - 1} - {n_steps}:
        mean = np.mean([table[born, born + age] for born in range(1, n_steps - age + 1)])
        assert theory.survival_by_age(found, age) == pytest.approx([mean])


@given(slots=st.integers(1, 9), **SIZES)
def test_expected_held_is_a_sum_over_tokens(slots, n_prefill, n_steps, budget, interval):
    found = theory.log_survival(n_prefill, n_steps, budget, interval)
    table = chances(n_prefill, n_steps, budget, interval)
    step = n_steps // 2 + 1
    tokens = [table[0, step]] * n_prefill + [table[born, step] for born in range(1, step + 1)]
    expected = sum(1 - (1 - one) ** slots for one in tokens)
    assert theory.expected_held(found, n_prefill, slots, step) == pytest.approx(expected)


@pytest.mark.parametrize("interval", [1, 6])
def test_a_full_cache_approaches_the_steady_laws(interval):
    budget, steps, ages = 12, 6000, np.arange(40)
    chance = theory.log_survival(budget, steps, budget, interval)
    assert theory.survival_by_age(chance, ages) == pytest.approx(
        theory.steady_survival(budget, ages, interval), abs=1e-3
    )
    born = np.arange(steps - 600, steps - 599 + 12 * interval)[: 12 * interval]
    for age in (0, 7, 39):
        gone = theory.gone_from_all(chance[born + age] - chance[born - 1], 5)
        assert theory.steady_ger(budget, 5, age, interval) == pytest.approx(gone.mean())


def test_steady_laws_are_geometric_where_every_step_cuts():
    ages = np.arange(5)
    assert theory.steady_survival(9, ages) == pytest.approx(0.9 ** (ages + 1))
    assert theory.steady_ger(9, 3, ages) == pytest.approx((1 - 0.9 ** (ages + 1)) ** 3)


@pytest.mark.parametrize(("slots", "times"), [(1, 1.0), (4, 25 / 12), (256, 6.124)])
def test_slots_hold_harmonic_many_tokens(slots, times):
    budget, steps = 300, 6000
    exact = theory.expected_held(theory.log_survival(budget, steps, budget), budget, slots, steps)
    assert theory.steady_held(budget, slots) == pytest.approx(times * budget, rel=1e-3)
    assert exact == pytest.approx(theory.steady_held(budget, slots), rel=1 / budget)


@given(
    n_prefill=st.integers(1, 30),
    n_steps=st.integers(1, 30),
    slots=st.integers(1, 20),
    interval=st.integers(1, 5),
    share=st.floats(0.05, 0.95),
)
def test_critical_budget_is_the_least_that_will_do(n_prefill, n_steps, slots, interval, share):
    def gone(budget):
        return theory.gone_from_all(theory.log_survival(n_prefill, n_steps, budget, interval)[-1], slots)

    least = next(budget for budget in range(1, n_prefill + n_steps + 1) if gone(budget) <= share)
    assert theory.critical_budget(n_prefill, n_steps, slots, interval, share) == least
    curve = [gone(budget) for budget in range(1, n_prefill + n_steps + 1)]
    assert np.all(np.diff(curve) <= 1e-12)


def test_critical_budget_near_its_closed_form():
    n, steps, slots = 4096, 8192, 256
    budget = theory.critical_budget(n, steps, slots)
    assert budget / n * np.exp(-steps / budget) == pytest.approx(1 - 0.5 ** (1 / slots), rel=0.01)


def fair_coins(rows, n_steps, n_ages):
    """Chance by age that a row is there where one of each pair goes with chance a half; mean over the last passages."""
    at, place, alive = np.zeros((0, n_ages)), 0, []
    for _ in range(n_steps):
        older = np.concatenate([np.zeros((len(at), 1)), at[:, :-1]], axis=1)
        at = np.concatenate([older, np.eye(1, n_ages)])
        if len(at) > rows:
            place = place if place + 1 < len(at) else 0
            at[place] = (at[place] + at[place + 1]) / 2
            at = np.delete(at, place + 1, axis=0)
            place += 1
        alive.append(at.sum(axis=0))
    return np.mean(alive[-4 * rows :], axis=0)


@pytest.mark.parametrize("rows", [2, 3, 16, 61])
def test_a_tree_of_fair_coins_halves_with_every_passage(rows):
    found = theory.tree_by_age(rows, np.arange(6 * rows))
    assert found == pytest.approx(fair_coins(rows, 20 * rows, 6 * rows), abs=0.1 / rows)
    assert theory.tree_by_age(rows + 9, np.arange(6 * rows + 5), n_sink=4, window=5)[5:] == pytest.approx(
        found
    )


def test_a_tree_needs_two_rows():
    with pytest.raises(ValueError, match="4 sinks and 5 latest rows leave 1 of a budget of 10 for the tree"):
        theory.tree_by_age(10, 0, n_sink=4, window=5)

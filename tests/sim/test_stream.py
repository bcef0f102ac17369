"""What is drawn inside the pass equals what is stored and passed afterwards, at the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import reach_thresholds
from routegraph.kernels import rng
from routegraph.kernels.threads import parts_of
from routegraph.sim import draw, run, stream
from routegraph.sim.parameters import Parameters

#: Everything that is drawn inside the pass, and a few cells that are not.
CELLS = st.builds(
    Parameters,
    n_tokens=st.integers(1, 60),
    n_layers=st.integers(1, 4),
    n_heads=st.integers(1, 4),
    degree=st.integers(1, 3),
    group_size=st.integers(1, 2),
    ensemble=st.sampled_from(["uniform", "uniform", "window", "powerlaw"]),
    policy=st.sampled_from(["random", "random", "bernoulli", "topk"]),
    prune=st.sampled_from(["columns", "decode"]),
    residual=st.booleans(),
    n_answers=st.just(1),
)


def check(parameters, seed):
    """Compare a streamed replicate with the same one stored: graph, survival, answers."""
    sequence = rng.seed_sequence(seed, 2, 5)
    survival = draw.draw_survival(parameters, sequence)
    graph = draw.draw_graph(parameters, sequence)
    answers = draw.draw_answers(parameters, sequence)
    stored = reach_thresholds(graph, survival, parameters.n_tokens, parameters.prune, parameters.residual)
    passed = stream.walk(parameters, sequence, answers)
    last_layer, last_model = survival.last("layer"), survival.last("model")[0]
    bins = survival.max_level + 2
    assert passed.max_level == survival.max_level
    assert np.array_equal(passed.value[:-1].astype(int) - 1, stored[:-1])
    assert np.array_equal(passed.last_model, last_model)
    assert np.array_equal(passed.last_layer, np.bincount(last_layer.ravel(), minlength=bins))
    assert np.array_equal(passed.answer_last_layer, last_layer[:, answers])
    sample = run.run_replicate(parameters, seed, 2, 5)
    assert np.array_equal(sample.reach[0], np.bincount(stored[:-1] + 1, minlength=bins))
    assert np.array_equal(sample.last_model[0], np.bincount(last_model, minlength=bins))
    assert np.array_equal(sample.last_layer[0], passed.last_layer)
    assert np.array_equal(sample.answer_reach[0], stored[answers])
    assert np.array_equal(sample.answer_last_model[0], last_model[answers])
    assert np.array_equal(sample.answer_last_layer[0], last_layer[:, answers])


@settings(max_examples=80)
@given(parameters=CELLS, seed=st.integers(0, 2**32))
def test_a_streamed_replicate_is_the_stored_one(parameters, seed):
    check(parameters, seed)


@pytest.mark.parametrize("ensemble", ["uniform", "window"])
@pytest.mark.parametrize("policy", ["random", "bernoulli"])
@pytest.mark.parametrize("prune", ["columns", "decode"])
def test_settings_and_many_blocks_of_numbers(ensemble, policy, prune):
    cell = Parameters(
        n_tokens=9_001,
        n_layers=7,
        n_heads=3,
        degree=2,
        ensemble=ensemble,
        policy=policy,
        prune=prune,
        ensemble_parameters=(("window", 2_500),) if ensemble == "window" else (),
        policy_parameters=(("resolution", 100),) if policy == "bernoulli" else (),
    )
    check(cell, seed=3)


@pytest.mark.parametrize("n_tokens", [65_533, 65_534, 65_535, 65_536])
def test_levels_around_16_bits(n_tokens):
    check(Parameters(n_tokens=n_tokens, n_layers=4, n_heads=2), seed=n_tokens)


@pytest.mark.parametrize("resolution", [65_535, 65_536, 65_537])
def test_many_independent_levels(resolution):
    cell = Parameters(
        n_tokens=500,
        n_layers=3,
        n_heads=2,
        policy="bernoulli",
        policy_parameters=(("resolution", resolution),),
    )
    check(cell, seed=1)


def test_only_what_can_be_drawn_layer_by_layer_is():
    assert stream.draws_levels(Parameters())
    assert stream.draws_levels(Parameters(policy="bernoulli"))
    assert not stream.draws_levels(Parameters(policy="topk"))
    assert not stream.draws_levels(Parameters(score_correlation=0.1))
    assert not stream.draws_levels(Parameters(attention_tie=0.1))
    assert not stream.draws_levels(Parameters(answer_shift=0.1))


def test_a_policy_that_is_not_nested_passes_at_its_ratio():
    cell = Parameters(
        n_tokens=100, n_layers=3, n_heads=2, policy="pyramid", policy_parameters=(("window", 8),)
    )
    sequence = rng.seed_sequence(1, 0, 0)
    answers = draw.draw_answers(cell, sequence)
    passed = stream.walk(cell, sequence, answers, ratio=0.6)
    survival = draw.draw_survival(cell, sequence, 0.6)
    assert np.array_equal(passed.last_model, survival.last()[0])
    stored = reach_thresholds(draw.draw_graph(cell, sequence), survival, 100)
    assert np.array_equal(passed.value[:-1].astype(int) - 1, stored[:-1])


@settings(max_examples=40)
@given(parameters=CELLS, seed=st.integers(0, 2**32), threads=st.integers(2, 5))
def test_a_replicate_is_the_same_on_any_number_of_threads(parameters, seed, threads):
    sequence = rng.seed_sequence(seed, 2, 5)
    answers = draw.draw_answers(parameters, sequence)
    one, several = (stream.walk(parameters, sequence, answers, threads=n) for n in (1, threads))
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))


def test_threads_are_shared_out_to_replicates_first():
    large = Parameters(n_tokens=2**15, n_heads=3)
    assert [stream.threads_each(large, replicates, 6) for replicates in (1, 2, 4, 6, 9)] == [6, 3, 1, 1, 1]
    assert stream.threads_each(Parameters(n_tokens=2**15 - 1), 1, 6) == 1
    assert parts_of(3, 2) == [(0, 1), (1, 3)]
    assert parts_of(3, 6) == [(0, 1), (1, 2), (2, 3)]

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import rng, simulate
from routegraph.routes import reach_thresholds
from routegraph.sim import run
from routegraph.sim.ensembles import draw_graph, ensembles
from routegraph.sim.parameters import Parameters, split_settings
from routegraph.survival import eviction_rate, ger

CELLS = st.builds(
    Parameters,
    n_tokens=st.integers(1, 40),
    n_layers=st.integers(1, 4),
    n_heads=st.integers(1, 3),
    degree=st.integers(1, 3),
    ensemble=st.sampled_from(list(ensembles)),
    policy=st.sampled_from(["random", "topk", "streaming", "chunk", "adakv"]),
    score_correlation=st.sampled_from([0.0, 0.4, 1.0]),
    prune=st.sampled_from(["columns", "decode"]),
    residual=st.booleans(),
    n_answers=st.just(1),
).filter(lambda p: p.policy != "streaming")


@settings(max_examples=40)
@given(parameters=CELLS, seed=st.integers(0, 2**32))
def test_the_graph_drawn_inside_the_pass_is_the_stored_graph(parameters, seed):
    edge_key, _ = rng.keys(rng.seed_sequence(seed, 0, 0))
    survival = run.draw_survival(parameters, seed, 0, 0)
    graph = draw_graph(
        parameters.ensemble,
        edge_key,
        n_layers=parameters.n_layers,
        n_heads=parameters.n_heads,
        n_tokens=parameters.n_tokens + 1,
        n_context=parameters.n_tokens,
        degree=parameters.degree,
    )
    stored = reach_thresholds(graph, survival, parameters.n_tokens, parameters.prune, parameters.residual)
    drawn = run.reach_values(parameters, edge_key, survival)
    assert np.array_equal(drawn[:-1] - 1, stored[:-1])


@settings(max_examples=20)
@given(parameters=CELLS, seed=st.integers(0, 2**32))
def test_a_replicate_says_what_its_survival_says(parameters, seed):
    survival = run.draw_survival(parameters, seed, 0, 3)
    sample = run.run_replicate(parameters, seed, 0, 3)
    ratios = [0.0, 0.3, 0.5, 0.77, 0.9, 0.99]
    levels = survival.levels(ratios)
    read = {name: run.observables[name](sample, levels)[0] for name in run.ROW}
    answers = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 3, rng.ANSWERS))).choice(
        parameters.n_tokens, 1, replace=False, shuffle=False
    )
    assert read["eviction_rate"] == pytest.approx(eviction_rate(survival, ratios, "model"))
    assert read["eviction_rate_layer"] == pytest.approx(eviction_rate(survival, ratios, "layer"))
    assert read["ger"] == pytest.approx(ger(survival, ratios, answers, "model"))
    assert read["ger_layer"] == pytest.approx(ger(survival, ratios, answers, "layer"))


@pytest.mark.parametrize("policy", ["random", "topk", "adakv"])
def test_threads_do_not_change_the_result(policy):
    one, two = (
        simulate(200, [0.5, 0.9], n_layers=4, n_heads=2, policy=policy, replicates=6, seed=9, workers=workers)
        for workers in (1, 2)
    )
    assert one.to_dict() == two.to_dict()
    assert np.array_equal(one.sample.reach, two.sample.reach)


def test_seeds_and_replicates_differ():
    first, second = (simulate(100, 0.5, n_layers=2, replicates=2, seed=seed).sample for seed in (1, 2))
    assert not np.array_equal(first.reach, second.reach)
    assert not np.array_equal(first.reach[0], first.reach[1])


def test_window_reads_stay_in_the_window_and_uniform_reads_spread():
    key = np.uint64(7)
    common = {"n_layers": 1, "n_heads": 2, "n_tokens": 300, "n_context": 300, "degree": 4}
    _, _, query, read = draw_graph("window", key, **common, window=5).edges()
    assert (query - read).min() >= 0
    assert (query - read).max() == 4
    _, _, query, read = draw_graph("uniform", key, **common).edges()
    late = query >= 200
    share = (read[late] / (query[late] + 1)).mean()
    assert share == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / late.sum()) + 1 / 200)


def test_every_query_reads_degree_keys_in_every_head():
    for name in ensembles:
        graph = draw_graph(name, np.uint64(1), n_layers=2, n_heads=3, n_tokens=20, n_context=20, degree=2)
        layer, head, query, read = graph.edges()
        assert (read <= query).all()
        counts = np.zeros((2, 3, 20), int)
        np.add.at(counts, (layer - 1, head, query), 1)
        assert (counts == 2).all()


def test_replicates_stand_behind_the_standard_error():
    result = simulate(64, [0.5], n_layers=2, n_heads=2, replicates=10)
    values = result.curves("reach_fraction", [0.5])[:, 0]
    cell = result.to_dict()["results"][0]["reach_fraction"]
    assert cell["mean"] == pytest.approx(values.mean())
    assert cell["stderr"] == pytest.approx(values.std(ddof=1) / np.sqrt(10))


def test_one_replicate_has_no_standard_error():
    document = simulate(64, [0.5], n_layers=2, replicates=1).to_dict()
    assert document["results"][0]["ger"]["stderr"] is None
    json.dumps(document, allow_nan=False)


def test_theory_stands_where_it_applies_and_nowhere_else():
    def theory(**parameters):
        row = simulate(50, 0.5, n_layers=2, replicates=1, **parameters).to_dict()["results"][0]
        return {name: row[name]["theory"] for name in run.ROW}

    plain = theory()
    level = 50 - 25
    assert plain["ger"] == pytest.approx((level / 50) ** 16)
    assert plain["ger_layer"] == pytest.approx((level / 50) ** 8)
    assert plain["reach_fraction"] is not None
    assert plain["reach_any"] is None
    assert theory(prune="decode")["reach_fraction"] is None
    assert theory(ensemble="window")["reach_fraction"] is None
    correlated = theory(score_correlation=0.5)
    assert correlated["ger"] > plain["ger"]
    assert correlated["reach_fraction"] is None
    assert set(theory(policy="streaming").values()) == {None}


def test_correlated_random_eviction_follows_the_one_factor_theory():
    ratios = [0.5, 0.8, 0.9]
    result = simulate(400, ratios, n_layers=4, n_heads=2, score_correlation=0.4, replicates=200, seed=2)
    for name in ("eviction_rate", "eviction_rate_layer", "ger", "ger_layer"):
        mean, error = result.estimate(name, ratios)
        assert np.all(np.abs(mean - result.theory(name, ratios)) < 3 * error + 1 / 400), name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_tokens": 0}, "n_tokens must be a whole number of at least 1, got 0"),
        ({"n_tokens": 5}, "n_answers must be in 1..n_tokens = 5, got 8"),
        ({"ratio": 1.0}, r"ratio must be in \[0, 1\), got 1.0"),
        ({"ratio": "much"}, "ratio must be a number"),
        ({"ratio": []}, "at least one ratio"),
        ({"replicates": 0}, "replicates must be"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"score_correlation": 1.1}, r"score_correlation must be in \[0, 1\], got 1.1"),
        ({"ensemble": "mesh"}, "unknown ensemble 'mesh'; choose from: .*uniform, window"),
        ({"policy": "best"}, "unknown policy 'best'; choose from: adakv, chunk"),
        ({"prune": "rows"}, "unknown pruning 'rows'; choose from: columns, decode"),
        ({"settings": {"window": 3}}, "takes 'window'; choose from: none"),
        ({"ensemble": "window", "settings": {"window": 0}}, "window must be at least 1, got 0"),
        ({"ensemble": "window", "settings": {"window": "wide"}}, "must be a whole number, got 'wide'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulate(**arguments)


def test_settings_find_their_owner():
    split = split_settings("window", "chunk", {"window": 7, "chunk_length": 32})
    assert split == {"ensemble_parameters": (("window", 7),), "policy_parameters": (("chunk_length", 32),)}

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import simulate
from routegraph.kernels import rng
from routegraph.percolation import weak_thresholds
from routegraph.routes import reach_thresholds
from routegraph.sim import draw, run, stream
from routegraph.sim.ensembles import ensembles
from routegraph.sim.measures import measures
from routegraph.sim.observables import observables
from routegraph.sim.parameters import Parameters, split_settings
from routegraph.sim.predict import predict
from routegraph.sim.result import ROW
from routegraph.survival import eviction_rate, ger
from routegraph.theory.ger import gaussian_copula
from tests import naive

CELLS = st.builds(
    Parameters,
    group_size=st.integers(1, 2),
    profile=st.sampled_from(["flat", "llama", "qwen"]),
    correlation_floor=st.sampled_from([0.0, 0.5, 1.0]),
    read_agreement=st.sampled_from([0.0, 0.7]),
    attention_tie=st.sampled_from([0.0, 0.6]),
    answer_shift=st.sampled_from([0.0, 1.0]),
    n_tokens=st.integers(1, 40),
    n_layers=st.integers(1, 4),
    n_heads=st.integers(1, 3),
    degree=st.integers(1, 3),
    ensemble=st.sampled_from([name for name in ensembles if name not in ("lattice", "empirical")]),
    policy=st.sampled_from(["random", "topk", "chunk", "chunkkv", "adakv"]),
    prune=st.sampled_from(["columns", "decode"]),
    residual=st.booleans(),
    n_answers=st.just(1),
)


@settings(max_examples=40)
@given(parameters=CELLS, seed=st.integers(0, 2**32))
def test_the_graph_drawn_inside_the_pass_is_the_stored_graph(parameters, seed):
    sequence = rng.seed_sequence(seed, 0, 0)
    survival = draw.draw_survival(parameters, sequence)
    graph = draw.draw_graph(parameters, sequence)
    stored = reach_thresholds(graph, survival, parameters.n_tokens, parameters.prune, parameters.residual)
    drawn = stream.walk(parameters, sequence, draw.draw_answers(parameters, sequence)).value
    assert np.array_equal(drawn[:-1].astype(int) - 1, stored[:-1])


@settings(max_examples=20)
@given(parameters=CELLS, seed=st.integers(0, 2**32), source=st.sampled_from(["query", "row"]))
def test_undirected_routes_are_those_of_the_stored_graph(parameters, seed, source):
    parameters = replace(parameters, source=source, directed=False)
    sequence = rng.seed_sequence(seed, 0, 0)
    survival = draw.draw_survival(parameters, sequence)
    graph = draw.draw_graph(parameters, sequence)
    sources = [parameters.n_tokens] if source == "query" else list(range(parameters.n_tokens + 1))
    stored = weak_thresholds(graph, survival, sources, parameters.prune, parameters.residual)
    found = stream.walk(parameters, sequence, draw.draw_answers(parameters, sequence))
    plain = stream.walk(replace(parameters, directed=True), sequence, draw.draw_answers(parameters, sequence))
    assert np.array_equal(found.value.astype(int) - 1, stored)
    assert np.all(found.value >= plain.value)
    assert np.array_equal(found.last_model, plain.last_model)  # retention knows nothing of routes


@pytest.mark.parametrize("residual", [True, False])
def test_every_position_of_the_top_layer_can_be_a_source(residual):
    parameters = Parameters(n_tokens=30, n_layers=3, n_heads=2, source="row", residual=residual)
    sequence = rng.seed_sequence(5, 0, 0)
    survival, graph = draw.draw_survival(parameters, sequence), draw.draw_graph(parameters, sequence)
    found = stream.walk(parameters, sequence, draw.draw_answers(parameters, sequence)).value
    value = np.full(31, survival.max_level + 1)
    for layer in range(3, 0, -1):
        reads = [read[1:] for read in zip(*graph.edges(), strict=True) if read[0] == layer]
        value = naive.carry_down(value, reads, survival.drop[layer - 1].tolist(), "columns", residual)
    assert found.tolist() == list(value)


def test_definitions_say_where_routes_start_and_whether_they_go_up():
    told = simulate(20, 0.5, n_layers=2, replicates=2, source="row", directed=False).to_dict()
    assert "every position" in told["definitions"]["source"]
    assert "undirected" in told["definitions"]["routes"]
    assert told["parameters"]["source"] == "row"
    assert told["results"][0]["reach_fraction"]["theory"] is None


@settings(max_examples=20)
@given(parameters=CELLS, seed=st.integers(0, 2**32))
def test_a_replicate_says_what_its_survival_says(parameters, seed):
    survival = draw.draw_survival(parameters, rng.seed_sequence(seed, 0, 3))
    sample = run.run_replicate(parameters, seed, 0, 3)
    ratios = [0.0, 0.3, 0.5, 0.77, 0.9, 0.99]
    levels = survival.levels(ratios)
    read = {name: observables[name](sample, levels)[0] for name in ROW}
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
    assert np.array_equal(one.samples[0].reach, two.samples[0].reach)


def test_seeds_and_replicates_differ():
    first, second = (simulate(100, 0.5, n_layers=2, replicates=2, seed=seed).samples[0] for seed in (1, 2))
    assert not np.array_equal(first.reach, second.reach)
    assert not np.array_equal(first.reach[0], first.reach[1])


def reads_of(ensemble, n_tokens=300, seed=7, settings=None, **parameters):
    """(layer, head, query, key) of a drawn graph, without the query after the context."""
    settings = tuple((settings or {}).items())
    cell = Parameters(n_tokens=n_tokens, ensemble=ensemble, ensemble_parameters=settings, **parameters)
    edges = np.array(draw.draw_graph(cell, rng.seed_sequence(seed, 0, 0)).edges())
    return edges[:, edges[2] < n_tokens]


def test_window_reads_stay_in_the_window_and_uniform_reads_spread():
    sizes = {"n_layers": 1, "n_heads": 2, "degree": 4}
    _, _, query, read = reads_of("window", settings={"window": 5}, **sizes)
    assert (query - read).min() >= 0
    assert (query - read).max() == 4
    _, _, query, read = reads_of("uniform", **sizes)
    late = query >= 200
    share = (read[late] / (query[late] + 1)).mean()
    assert share == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / late.sum()) + 1 / 200)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_powerlaw_reads_follow_the_power_law(exponent):
    n, degree = 20, 4000
    sizes = {"n_tokens": n, "n_layers": 1, "n_heads": 1, "degree": degree}
    _, _, query, read = reads_of("powerlaw", settings={"exponent": exponent}, **sizes)
    for i in (0, 3, 19):
        expected = np.arange(i + 1, 0, -1.0) ** -exponent
        expected *= degree / expected.sum()
        found = np.bincount(read[query == i], minlength=i + 1)
        assert np.sum((found - expected) ** 2 / expected) < 3 * (i + 1) + 10


def test_sink_reads_go_where_they_are_sent():
    sizes = {"n_tokens": 400, "n_layers": 2, "n_heads": 2, "degree": 8}
    _, _, query, read = reads_of("sink", settings={"to_sink": 1.0, "to_recent": 0.0, "n_sink": 3}, **sizes)
    assert read.max() == 2
    _, _, query, read = reads_of("sink", settings={"to_sink": 0.0, "to_recent": 1.0, "recent": 7}, **sizes)
    assert (query - read).max() == 6
    shares = {"to_sink": 0.0, "to_recent": 0.0, "exponent": 1.0}
    layer, _, query, read = reads_of("sink", settings=shares, **sizes)
    assert (read <= query).all()
    popular = [np.bincount(read[(layer == k) & (query >= 200)], minlength=400)[:200].argmax() for k in (1, 2)]
    assert popular[0] == popular[1]  # a heavy hitter is one in every layer


def test_lattice_bonds_are_slots_of_their_own_and_sites_are_shared():
    sizes = {"n_tokens": 9, "n_layers": 1, "n_answers": 1}
    _, head, query, read = reads_of("lattice", **sizes, n_heads=2)
    assert sorted(zip(query.tolist(), read.tolist(), head.tolist(), strict=True)) == sorted(
        (i, i - 1 - h, h) for i in range(9) for h in (0, 1) if i - 1 - h >= 0
    )
    site = {"kind": "site", "shift": 0}
    _, head, query, read = reads_of("lattice", **sizes, n_heads=1, degree=2, settings=site)
    assert set(zip(query.tolist(), read.tolist(), strict=True)) == {
        (i, i - k) for i in range(9) for k in (0, 1) if i - k >= 0
    }


def test_every_query_reads_degree_keys_in_every_query_head():
    for name in ("uniform", "window", "powerlaw", "sink"):
        sizes = {"n_tokens": 20, "n_layers": 2, "n_heads": 3, "degree": 2, "group_size": 2}
        layer, head, query, read = reads_of(name, **sizes)
        assert (read <= query).all()
        counts = np.zeros((2, 3, 20), int)
        np.add.at(counts, (layer - 1, head, query), 1)
        assert (counts == 4).all()


def test_heads_that_agree_read_what_head_0_reads():
    sizes = {"n_tokens": 200, "n_layers": 1, "n_heads": 4, "score_correlation": 0.5}
    _, head, query, read = reads_of("uniform", **sizes, read_agreement=1.0)
    table = np.empty((4, 200), int)
    table[head, query] = read
    late = slice(100, None)  # early tokens agree by chance
    share = (table[1:, late] == table[0, late]).mean()
    assert share == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / 300) + 0.01)


@pytest.mark.parametrize("profile", ["flat", "llama", "qwen"])
def test_scores_have_the_correlation_of_their_field(profile):
    cell = Parameters(
        n_tokens=20_000,
        n_layers=3,
        n_heads=2,
        profile=profile,
        score_correlation=0.4 if profile == "flat" else 0.0,
        correlation_floor=0.2,
        correlation_length=2.0,
    )
    scores = cell.field().draw(np.random.default_rng(0), 2, 20_000).reshape(6, -1)
    assert np.abs(np.corrcoef(scores) - cell.field().correlation(2)).max() < 4 / np.sqrt(20_000)
    assert np.abs(scores.std(axis=1) - 1).max() < 0.03


def test_profiles_run_from_early_to_late():
    llama = Parameters(profile="llama").agreement()
    qwen = Parameters(profile="qwen").agreement()
    assert (llama[0], llama[-1]) == (0.8, pytest.approx(0.2))
    assert np.allclose(llama, qwen[::-1])
    given = Parameters(profile="given", n_layers=5, profile_parameters=(("values", (0.0, 1.0)),))
    assert given.agreement().tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_scores_tied_to_attention_follow_the_reads():
    cell = Parameters(n_tokens=500, n_layers=2, n_heads=2, degree=4, policy="topk", attention_tie=1.0)
    sequence = rng.seed_sequence(0, 0, 0)
    drop = draw.draw_survival(cell, sequence).drop
    reads = draw.count_reads(cell, sequence)
    for layer in range(2):
        for head in range(2):
            order = np.argsort(drop[layer, head])
            assert (np.diff(reads[layer, head][order]) >= 0).all()


def test_shifted_answers_outlive_the_others():
    common = {"n_layers": 2, "n_heads": 2, "n_tokens": 200, "replicates": 40, "policy": "topk"}
    plain = simulate(ratio=0.9, **common).curves("ger_layer", [0.9]).mean()
    shifted = simulate(ratio=0.9, **common, answer_shift=2.0).curves("ger_layer", [0.9]).mean()
    assert shifted < plain / 3


def test_theory_of_a_profile_is_the_copula_of_its_field():
    ratios = [0.6, 0.8, 0.9]
    run_of = simulate(
        300, ratios, n_layers=4, n_heads=2, profile="llama", correlation_floor=0.3, replicates=150
    )
    for name in ("eviction_rate", "eviction_rate_layer"):
        mean, error = run_of.estimate(name, ratios)
        assert np.all(np.abs(mean - run_of.theory(name, ratios)) < 3 * error + 0.01), name


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
        return {name: row[name]["theory"] for name in ROW}

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
        ({"source": "rows"}, "unknown source 'rows'; choose from: query, row"),
        ({"directed": False, "measures": ["rollout"]}, "measures follow directed routes from the query"),
        ({"ratio": 1.0}, r"ratio must be in \[0, 1\), got 1.0"),
        ({"ratio": "much"}, "ratio must be a number"),
        ({"ratio": []}, "at least one ratio"),
        ({"replicates": 0}, "replicates must be"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"score_correlation": 1.1}, r"score_correlation must be in \[0, 1\], got 1.1"),
        ({"ensemble": "mesh"}, "unknown ensemble 'mesh'; choose from: .*uniform, window"),
        ({"policy": "best"}, "unknown policy 'best'; choose from: adakv, bernoulli, chunk"),
        ({"prune": "rows"}, "unknown pruning 'rows'; choose from: columns, decode"),
        ({"settings": {"window": 3}}, "takes 'window'; choose from: none"),
        ({"profile": "gemma"}, "unknown profile 'gemma'; choose from: flat"),
        ({"profile": "llama", "score_correlation": 0.3}, "score_correlation is for the profile 'flat'"),
        (
            {"profile": "llama", "settings": {"early": 1.5}},
            r"agreement of profile 'llama' must be in \[0, 1\]",
        ),
        ({"attention_tie": -1}, r"attention_tie must be in \[0, 1\], got -1"),
        ({"correlation_length": 0}, "correlation_length must be above 0, got 0"),
        ({"ensemble": "lattice"}, "the bond lattice needs n_heads = 2 and degree = 1, got 8 and 1"),
        ({"ensemble": "powerlaw", "settings": {"exponent": -1}}, "exponent must not be negative, got -1"),
        ({"ensemble": "sink", "settings": {"to_sink": 0.9}}, "must be shares of 1, got 0.9 and 0.3"),
        ({"ensemble": "window", "settings": {"window": 0}}, "window must be at least 1, got 0"),
        ({"ensemble": "window", "settings": {"window": "wide"}}, "must be a whole number, got 'wide'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulate(**arguments)


def test_settings_find_their_owner():
    split = split_settings("window", "chunk", "llama", {"window": 7, "chunk_length": 32, "late": 0.1})
    assert split == {
        "ensemble_parameters": (("window", 7),),
        "policy_parameters": (("chunk_length", 32),),
        "profile_parameters": (("late", 0.1),),
    }


def test_a_policy_that_is_not_nested_goes_ratio_by_ratio():
    ratios = [0.0, 0.5, 0.9]
    common = {"n_layers": 4, "n_heads": 2, "replicates": 3, "settings": {"window": 8}}
    result = simulate(400, ratios, policy="pyramid", measures=["rollout"], **common)
    assert not result.nested
    document = result.to_dict()
    assert "not nested" in document["definitions"]["nested"]
    rates = [row["eviction_rate_layer"]["mean"] for row in document["results"]]
    assert rates[0] == 0
    assert rates[0] < rates[1] < rates[2]
    assert [row["rollout"]["theory"] for row in document["results"]] == [None] * 3
    with pytest.raises(ValueError, match=r"'ger' was measured at 0, 0.5, 0.9 only"):
        result.curves("ger", [0.7])
    alone = simulate(400, 0.9, policy="pyramid", **common).to_dict()["results"][0]
    assert alone["ger"] == document["results"][2]["ger"]


def test_measures_are_taken_on_the_same_replicates():
    result = simulate(
        60, [0.5, 0.8], n_layers=3, n_heads=2, degree=2, replicates=4, measures=list(measures), workers=2
    )
    again = simulate(
        60, [0.5, 0.8], n_layers=3, n_heads=2, degree=2, replicates=4, measures=list(measures), workers=1
    )
    assert result.to_dict() == again.to_dict()
    reached = result.curves("reach_any", [0.5, 0.8])
    assert np.array_equal(result.curves("widest_path", [0.5, 0.8]) > 0, reached > 0)
    assert np.array_equal(result.curves("rollout", [0.5, 0.8]) > 0, reached > 0)
    assert np.array_equal(result.curves("backbone", [0.5, 0.8]) > 0, reached > 0)


def test_an_unknown_measure_is_named():
    with pytest.raises(ValueError, match=r"unknown measure 'luck'; choose from: .*rollout"):
        simulate(20, 0.5, measures=["luck"])


def test_bernoulli_eviction_kills_each_slot_with_the_ratio():
    ratios = [0.2, 0.5, 0.9]
    result = simulate(500, ratios, n_layers=4, n_heads=2, policy="bernoulli", replicates=30)
    mean, error = result.estimate("eviction_rate_layer", ratios)
    assert np.all(np.abs(mean - np.square(ratios)) < 3.5 * error + 1e-3)
    kept = [run.run_replicate(result.parameters, 0, 0, r).last_layer[0] for r in range(2)]
    assert not np.array_equal(*kept)


def test_all_gone_is_rarer_than_gone():
    result = simulate(50, 0.9, n_layers=1, n_heads=2, n_answers=3, replicates=200)
    erased, gone = (result.curves(name, [0.6, 0.8, 0.9]).mean(axis=0) for name in ("all_gone", "ger"))
    assert np.all(erased <= gone)
    assert 0 < erased[-1] < gone[-1]


@pytest.mark.parametrize(
    ("policy", "more", "said", "unsaid"),
    [
        ("topk", {}, "independently in every slot", "looks at no scores"),
        ("topk", {"score_correlation": 0.5}, "correlated 0.5 between its slots", "Real heads agree more"),
        ("random", {}, "--score-correlation above 0", "looks at no scores"),
        ("streaming", {}, "which looks at no scores", "--score-correlation"),
        ("bernoulli", {}, "independently in every slot", "--score-correlation"),
        ("topk", {"attention_tie": 0.5}, "scores as options alter them", "independently"),
    ],
)
def test_the_words_are_those_of_the_policy(policy, more, said, unsaid):
    told = " ".join(
        simulate(n_tokens=30, ratio=0.5, policy=policy, replicates=2, n_layers=2, n_heads=2, **more)
        .summary()
        .split()
    )
    assert said in told
    assert unsaid not in told


def test_a_theory_that_is_drawn_tells_its_error():
    asked = {"n_tokens": 60, "ratio": 0.8, "n_layers": 3, "n_heads": 2, "replicates": 2}
    lines = {
        profile: {
            line.split()[0]: line
            for line in simulate(profile=profile, **asked).summary().splitlines()
            if line
        }
        for profile in ("flat", "llama")
    }
    assert lines["llama"]["ger"].count("±") + lines["llama"]["ger"].count("<") == 2
    assert "(of theory over 20,000 draws)" in " ".join(lines["llama"].values())
    assert "draws" not in " ".join(lines["flat"].values())
    for profile, name in (("flat", "ger"), ("flat", "eviction_rate"), ("llama", "ger_layer")):
        assert lines[profile][name].count("±") + lines[profile][name].count("<") == 1, (
            "a formula has no error"
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_the_error_of_a_drawn_theory_is_that_of_its_draws(seed):
    cell = Parameters(n_tokens=60, n_layers=3, n_heads=2, profile="llama")
    (mean,), (error,) = predict(cell, "ger", np.array([48]))
    again = gaussian_copula(cell.field().correlation(2), np.array([0.8]), draws=200_000, seed=seed).mean[0]
    assert abs(mean - again) < 4 * error
    assert error == pytest.approx(np.sqrt(mean * (1 - mean) / 20_000))

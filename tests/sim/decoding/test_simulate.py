import json

import numpy as np
import pytest

from routegraph import reach_thresholds
from routegraph.graph import TokenGraph
from routegraph.kernels import rng
from routegraph.sim.decoding.parameters import Decoding
from routegraph.sim.decoding.run import death_table, run, survival_in_time
from routegraph.sim.decoding.simulate import simulate_decoding
from routegraph.sim.ensembles import ensembles
from routegraph.survival import eviction_rate

SMALL = {"n_prefill": 40, "steps": 60, "budget": 25, "n_layers": 3, "n_heads": 2}


def naive_curves(death, n, steps):
    """What a table of deaths says, slot by slot and step by step."""
    n_layers, n_heads, n_rows = death.shape
    came = [max(0, row - n + 1) for row in range(n_rows)]
    found = {name: [] for name in ("ger", "ger_layer", "dead", "held")}
    for step in range(steps + 1):
        alive = [
            [[death[a, h, r] > step >= came[r] for r in range(n_rows)] for h in range(n_heads)]
            for a in range(n_layers)
        ]
        table = np.array(alive)
        found["ger"].append(np.mean(~table[:, :, :n].any(axis=(0, 1))))
        found["ger_layer"].append(np.mean(~table[:, :, :n].any(axis=1)))
        found["dead"].append(np.mean(~table[:, :, :n]))
        found["held"].append(table.any(axis=(0, 1)).sum())
    found["survival"] = [
        np.mean([death[:, :, row] > came[row] + age for row in range(n, n_rows) if came[row] + age <= steps])
        for age in range(steps)
    ]
    return found


@pytest.mark.parametrize("policy", ["random", "h2o", "scope"])
@pytest.mark.parametrize("interval", [1, 7])
def test_curves_are_those_of_the_table(policy, interval):
    p = Decoding(**SMALL, policy=policy, interval=interval)
    curves = run(p, replicates=2, seed=5)
    for replicate in (0, 1):
        expected = naive_curves(death_table(p, 5, replicate), 40, 60)
        for name, values in expected.items():
            assert getattr(curves, name)[replicate] == pytest.approx(values), name


def test_reach_is_that_of_the_stored_graph_with_steps_for_levels():
    p = Decoding(**SMALL, policy="tova", degree=2)
    curves = run(p, replicates=1, seed=3)
    edge_key, _ = rng.keys(rng.seed_sequence(3, 0, 0))
    layers = []
    for layer in (1, 2, 3):
        edges = ensembles["uniform"](edge_key, layer, n_tokens=41, n_heads=2, degree=2)
        query = np.repeat(np.arange(41), np.diff(edges.indptr))
        layers.append((np.full(len(query), layer), edges.slots % 2, query, edges.slots // 2))
    graph = TokenGraph.from_edges(3, 2, 41, *map(np.concatenate, zip(*layers, strict=True)), n_context=40)
    table = death_table(p, 3)[:, :, :40]
    last = reach_thresholds(graph, survival_in_time(table, 60), [40], prune="decode")[:40]
    expected = [np.mean(last >= step) for step in range(61)]
    assert curves.reach[0] == pytest.approx(expected)
    assert 0 < expected[-1] < expected[0]


def test_a_survival_in_time_has_steps_for_levels():
    table = death_table(Decoding(**SMALL, policy="random"), 1)[:, :, :40]
    survival = survival_in_time(table, 60)
    steps = np.arange(61)
    assert survival.levels(steps / 61).tolist() == steps.tolist()
    assert eviction_rate(survival, steps / 61) == pytest.approx(
        run(Decoding(**SMALL, policy="random"), 1, seed=1).ger[0]
    )


def test_results_do_not_depend_on_threads_and_differ_by_seed():
    one, two = (run(Decoding(**SMALL, policy="h2o"), 4, seed=2, workers=n) for n in (1, 3))
    other = run(Decoding(**SMALL, policy="h2o"), 4, seed=3)
    assert np.array_equal(one.survival, two.survival)
    assert np.array_equal(one.reach, two.reach)
    assert not np.array_equal(one.survival, other.survival)


@pytest.mark.parametrize(("interval", "budget"), [(1, 40), (7, 40), (1, 150)])
def test_random_within_three_standard_errors_of_theory(interval, budget):
    result = simulate_decoding(
        "random",
        n_prefill=100,
        steps=150,
        budget=budget,
        interval=interval,
        n_layers=2,
        n_heads=3,
        replicates=200,
        seed=11,
    )
    for name, at in {
        "ger": [1, 10, 60, 150],
        "ger_layer": [10, 60, 150],
        "dead": [10, 60, 150],
        "held": [10, 60, 150],
        "survival": [0, 5, 30, 100],
    }.items():
        mean, error = result.estimate("random", name, at)
        theory = result.theory("random", name, at)
        if (
            name != "held"
        ):  # where hardly any were counted the error is no less than that of independent tokens
            error = np.maximum(error, np.sqrt(theory * (1 - theory) / (200 * 100)))
        assert np.all(np.abs(mean - theory) <= 3 * error + 1e-4 * (name == "held")), name
    assert result.theory("random", "ger", [150])[0] > 0.01


@pytest.mark.parametrize("interval", [1, 7])
@pytest.mark.parametrize(("n_sink", "n_prefill"), [(4, 40), (4, 2), (0, 40)])
def test_streaming_is_exactly_what_theory_says(interval, n_sink, n_prefill):
    options = {**SMALL, "n_prefill": n_prefill}
    result = simulate_decoding(
        "streaming", **options, interval=interval, replicates=1, settings={"n_sink": n_sink}
    )
    for name in ("ger", "ger_layer", "dead", "held"):
        at = list(range(61))
        assert result.estimate("streaming", name, at)[0] == pytest.approx(
            result.theory("streaming", name, at)
        ), name
    ages = list(range(60))
    assert result.estimate("streaming", "survival", ages)[0] == pytest.approx(
        result.theory("streaming", "survival", ages)
    )


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_token_is_as_popular_in_other_slots_as_was_asked(share):
    p = Decoding(
        n_prefill=1500,
        steps=1,
        budget=1,
        n_layers=2,
        n_heads=1,
        spread=1.0,
        decay=0.0,
        score_correlation=share,
    )
    from routegraph.sim.decoding.attention import step_by_step

    seen = []
    for layer in (1, 2):
        step_by_step(
            p.slot(np.uint64(9), layer, 0, 1500), lambda cache: seen.append(np.log(cache.now)) or cache.now
        )
    assert np.corrcoef(seen)[0, 1] == pytest.approx(share, abs=3 / np.sqrt(1500))


def test_slots_that_agree_lose_whole_tokens():
    gone = [
        simulate_decoding("tova", **SMALL, score_correlation=c, replicates=8).estimate("tova", "ger", [60])[
            0
        ][0]
        for c in (0.0, 0.9)
    ]
    assert gone[1] > gone[0] + 0.2


def test_the_document_says_what_the_curves_say():
    result = simulate_decoding(
        ["random", "tova"], **SMALL, at=[0, 30, 60], replicates=3, settings={"window": 2}
    )
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["parameters"]["policy"] == ["random", "tova"]
    assert document["parameters"]["settings"] == {"random": {}, "tova": {"window": 2}}
    random, tova = document["results"]
    assert [row["step"] for row in random["steps"]] == [0, 30, 60]
    assert random["steps"][0]["ger"] == {"mean": 0.0, "stderr": 0.0, "theory": 0.0}
    mean, error = result.estimate("tova", "dead", [30])
    assert tova["steps"][1]["dead"] == {"mean": mean[0], "stderr": error[0], "theory": None}
    assert random["critical_budget"] >= 1
    assert tova["critical_budget"] is None
    curve = result.estimate("random", "ger", range(61))[0]
    half = result.half_step("random")
    assert half is None or (curve[half] >= 0.5 > curve[half - 1])
    assert random["half_step"] == half
    ages = [row["age"] for row in random["survival"]]
    assert ages == sorted(set(ages))
    assert (ages[0], ages[-1]) == (0, 59)


def test_half_step_is_where_half_is_gone():
    result = simulate_decoding("streaming", **SMALL, replicates=1)
    # Budget 25 with 4 sinks: after step t rows 4..t + 40 - 21 - 1 are gone, 20 of 40 at t = 5.
    assert result.half_step("streaming") == 5


def test_one_replicate_has_no_error_and_one_step_will_do():
    result = simulate_decoding("random", n_prefill=3, steps=1, budget=2, n_layers=1, n_heads=1, replicates=1)
    row = result.to_dict()["results"][0]
    assert row["steps"][0]["ger"]["stderr"] is None
    assert row["survival"][0]["age"] == 0
    assert "after step 1" in result.summary()
    assert result.plot().axes


def test_page_and_figure_are_in_words():
    result = simulate_decoding(["random", "streaming", "h2o"], **SMALL, replicates=4)
    text = result.summary()
    assert "streaming: after step 60 90.0% of the prompt's tokens are gone from every slot" in text
    assert "(theory)" in text
    left, right = result.plot().axes
    assert left.get_xlabel() == "age of a decoded row (steps since its own)"
    assert right.get_ylabel() == "fraction of prompt tokens gone from every slot"
    assert "streaming: 0.0% of the rows are in a slot 25 steps after their own, and 90.0%" in result.caption()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interval": 61}, "interval must be at most the number of steps, 60, or nothing is cut; got 61"),
        ({"budget": 0}, "budget must be a whole number of at least 1, got 0"),
        ({"budget": 2.0}, "budget must be a whole number of at least 1, got 2.0"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"persistence": 1.1}, r"persistence must be in \[0, 1\], got 1.1"),
        ({"policy": "luck"}, "unknown decoding policy 'luck'"),
        ({"policy": []}, "at least one policy is needed"),
        ({"policy": "streaming", "budget": 4}, "budget must be at least 5 for policy 'streaming'"),
        ({"policy": "adakv"}, "policy 'adakv' cannot be asked at every cut"),
        ({"settings": {"n_sink": 1}}, "no parameter 'n_sink' of policy 'random'; choose from: none"),
        ({"at": [61]}, r"at must be in 0..60, got 61"),
        ({"at": [1.5]}, "at must be a whole number of at least 0, got 1.5"),
        ({"replicates": 0}, "replicates must be a whole number"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        simulate_decoding(**{**SMALL, **options})


def test_an_unknown_keyword_is_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'luck'"):
        simulate_decoding(luck=1)


def test_a_curve_that_is_not_there_is_refused():
    result = simulate_decoding("random", **SMALL, replicates=1)
    with pytest.raises(ValueError, match="unknown policy 'tova'; choose from: random"):
        result.estimate("tova", "ger", [1])
    with pytest.raises(ValueError, match="unknown curve 'luck'; choose from: ger"):
        result.estimate("random", "luck", [1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recency": "5"}, "recency must be AGE:BOOST pairs like 0:5,3:2.5,32:0, got '5'"),
        ({"recency": "0:1,"}, "recency must be AGE:BOOST pairs like 0:5,3:2.5,32:0, got '0:1,'"),
        ({"recency": "1.5:1"}, "recency must be AGE:BOOST pairs like 0:5,3:2.5,32:0, got '1.5:1'"),
        ({"recency": "0:2,0:1"}, "the ages of recency must rise from 0 or more, got 0, 0"),
        ({"recency": "-1:2"}, "the ages of recency must rise from 0 or more, got -1"),
        ({"recency": "0:21"}, r"a boost of recency must be in \[-20, 20\], got 21.0"),
        ({"recency": "0:nan"}, r"a boost of recency must be in \[-20, 20\], got nan"),
        (
            {"recency": ",".join(f"{age}:1" for age in range(65))},
            "recency must have at most 64 ages, got 65",
        ),
        (
            {"prompt_rows": "1,2"},
            "prompt_rows must be SPREAD,PERSISTENCE,LASTING like 1.6,0.46,0.73, got '1,2'",
        ),
        ({"prompt_rows": "a,b,c"}, "prompt_rows must be SPREAD,PERSISTENCE,LASTING like .*, got 'a,b,c'"),
        ({"prompt_rows": "1,1,nan"}, r"lasting in \[0, 1\]; got 1.0, 1.0, nan"),
        (
            {"prompt_rows": "11,1,0"},
            r"of prompt_rows the spread must be in \[0, 10\], .*; got 11.0, 1.0, 0.0",
        ),
        (
            {"prompt_rows": "1,1,0.7", "score_correlation": 0.5},
            "score_correlation and the lasting share of prompt_rows must be at most 1 together; got 0.5 and 0.7",
        ),
        ({"lasting": 1.5}, r"lasting must be in \[0, 1\], got 1.5"),
        (
            {"lasting": 0.7, "score_correlation": 0.5},
            "score_correlation and lasting are shares of one variance, and must be at most 1 together; got 0.5 and 0.7",
        ),
    ],
)
def test_a_recency_or_a_lasting_share_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        simulate_decoding("tova", **SMALL, **options)
    assert "\n" not in str(caught.value)


def test_recency_and_a_lasting_share_are_told():
    result = simulate_decoding("tova", **SMALL, replicates=2, lasting=0.25, recency="0:5,3:2.5,32:0")
    assert "25% of it for good" in result.page().to_text(300)
    assert "boosted by age (0:5,3:2.5,32:0)" in result.page().to_text(300)
    assert result.to_dict()["parameters"]["recency"] == "0:5,3:2.5,32:0"
    assert result.cells[0].slot(np.uint64(1), 1, 0).attention.recency == ((0, 5.0), (3, 2.5), (32, 0.0))


def test_a_class_of_the_prompt_is_told():
    result = simulate_decoding("tova", **SMALL, replicates=2, prompt_rows="1.6,0.46,0.73")
    assert (
        "rows of the prompt have a spread of 1.6, kept with probability 0.46, 73% of it for good, and no boost while"
        in (result.page().to_text(1000))
    )
    assert result.cells[0].slot(np.uint64(1), 1, 0).attention.prompt == (1.6, 0.46, 0.73)


def test_rows_that_are_boosted_while_young_live_until_the_boost_ends():
    """With a boost above all popularities no row of an age below 20 goes, for the budget has room for 20 of them."""
    result = simulate_decoding("tova", **SMALL, spread=0.5, recency="0:20,20:0")
    plain = simulate_decoding("tova", **SMALL, spread=0.5)
    alive, before = (one.estimate("tova", "survival", range(60))[0] for one in (result, plain))
    assert (alive[:20] == 1).all()
    assert before[19] < 0.7
    assert alive[40] < 0.2

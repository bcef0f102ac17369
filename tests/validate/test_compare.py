import json

import numpy as np
import pytest
from scipy.special import ndtr

from routegraph.policies import apply
from routegraph.survival import eviction_rate, ger
from routegraph.trace import Trace
from routegraph.validate.compare import compare
from routegraph.validate.readoff import read_off, scorer_of, structural_cliffs

SHAPE = (4, 3)


def synthetic_trace(number, rho=0.4, n=200, sinks=4, answers=(50, 51, 120)):
    """A trace whose slots follow a one-factor model exactly."""
    rng = np.random.default_rng(number)
    scores = np.sqrt(rho) * rng.standard_normal(n) + np.sqrt(1 - rho) * rng.standard_normal((*SHAPE, n))
    scores = ndtr(scores).astype(np.float32)
    scores[..., :sinks] = 2
    return Trace(
        id=f"synthetic-{number}",
        task="none",
        model="one-factor",
        context="x" * n,
        n_layers=SHAPE[0],
        n_heads=SHAPE[1],
        n_query_heads=SHAPE[1],
        n_context=n,
        token_ids=np.zeros(n, dtype=np.int64),
        offsets=np.stack([np.arange(n), np.arange(1, n + 1)], axis=1),
        answer=np.array(answers, dtype=np.int64),
        evidence=np.array(answers, dtype=np.int64),
        scores={"expected_attention": scores},
        scorers={"expected_attention": {"n_sink": sinks}},
    )


@pytest.fixture(scope="module")
def result():
    return compare([synthetic_trace(k) for k in range(24)], policy_names=["topk"], seed=1)


def test_reading_off_is_counting():
    trace = synthetic_trace(0)
    ratios = [0.5, 0.8, 0.9]
    found = read_off(trace, "topk", "expected_attention", ratios)
    survival = apply("topk", trace.scores["expected_attention"])
    for over in ("model", "layer"):
        assert found.everything[over] == pytest.approx(eviction_rate(survival, ratios, over))
        assert found.answers[over] == pytest.approx(ger(survival, ratios, trace.answer, over))
        assert found.evictable[over] == pytest.approx(ger(survival, ratios, np.arange(4, 200), over))
    dead = ~survival.alive(0.8)[..., 4:].reshape(12, -1)
    assert found.gone[:, 1] == pytest.approx(dead.mean(axis=1))
    assert found.answer_scores.shape == (12, 3)


def test_the_model_that_made_the_data_is_found(result):
    for axis in result.policies["topk"].axes.values():
        assert axis.rho == pytest.approx(0.4, abs=0.06)
        for name in ("one factor", "measured copula", "simulated"):
            assert axis.rmse(name) < 0.02, name
        assert axis.rmse("independent") > 3 * axis.rmse("measured copula")
        low, high = axis.difference("measured copula")[1:]
        assert low - 0.01 < 0 < high + 0.01


def test_held_out_means_held_out():
    """Changing the curve of the held-out prompts must not move what was fitted."""
    traces = [synthetic_trace(k) for k in range(12)]
    strange = [synthetic_trace(k, rho=0.4 if k % 2 == 0 else 0.95) for k in range(12)]
    fits = [compare(t, policy_names=["topk"]).policies["topk"].axes["model"] for t in (traces, strange)]
    assert fits[0].rho == fits[1].rho
    assert np.array_equal(
        fits[0].predicted["measured copula"].mean, fits[1].predicted["measured copula"].mean
    )
    assert fits[1].rmse("measured copula") > 4 * fits[0].rmse("measured copula")


def test_shifted_answers_are_predicted_from_the_training_half():
    traces = [synthetic_trace(k) for k in range(40)]
    for trace in traces:
        table = trace.scores["expected_attention"]
        table[..., trace.answer] = ndtr(np.sqrt(2) * np.clip(table[..., trace.answer], 0.02, 0.98) + 0.8)
    axis = compare(traces, policy_names=["topk"]).policies["topk"].axes["layer"]
    assert axis.rmse("shifted copula") < 0.6 * np.sqrt(
        np.mean(
            (axis.predicted["measured copula"].mean - axis.target("shifted copula").mean(axis=0))[
                axis.judged()
            ]
            ** 2
        )
    )


def test_half_points_and_effective_slots(result):
    axis = result.policies["topk"].axes["model"]
    half = axis.half("evictable tokens")
    assert half.low < half.value < half.high
    slots = axis.effective_slots()
    inside = (axis.ratios > 0.7) & (axis.ratios < 0.95)
    assert np.all((slots[inside] > 1) & (slots[inside] < 12))


def test_json_is_complete_and_the_seed_fixes_it(result):
    document = result.to_dict()
    text = json.dumps(document, allow_nan=False)
    again = compare([synthetic_trace(k) for k in range(24)], policy_names=["topk"], seed=1).to_dict()
    assert text == json.dumps(again, allow_nan=False)
    assert {axis["head_axis"] for axis in document["results"][0]["axes"]} == {"model", "layer"}
    assert document["results"][0]["structural_cliffs"]


def test_structural_cliffs_are_named():
    assert structural_cliffs([synthetic_trace(0), synthetic_trace(1, n=100)], "expected_attention") == {
        "4 sinks in the shortest prompt, n = 100": 0.96,
        "4 sinks in the longest prompt, n = 200": 0.98,
    }


def test_prompts_without_answers_are_compared_all_the_same():
    found = compare([synthetic_trace(k, answers=()) for k in range(4)], policy_names=["topk"])
    assert set(found.policies["topk"].axes["model"].observed) == {"all tokens", "evictable tokens"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_bad_input_is_one_sentence():
    traces = [synthetic_trace(k) for k in range(4)]
    with pytest.raises(ValueError, match="at least 4 prompts .* got 3"):
        compare(traces[:3])
    with pytest.raises(ValueError, match="at least 4 ratios, got 2"):
        compare(traces, policy_names=["topk"], ratios=[0.5, 0.9])
    with pytest.raises(ValueError, match="no chunk-wise scores for policy 'chunk'"):
        compare(traces)
    with pytest.raises(ValueError, match="unknown policy 'best'"):
        scorer_of(traces[0], "best")

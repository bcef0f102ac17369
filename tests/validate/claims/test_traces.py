"""Claims on traces and probes (C5 to C7), made up."""

import json
from dataclasses import replace

import numpy as np
import pytest

from routegraph.validate.claims import traces as claims_traces
from routegraph.validate.claims.case import FAILS, HOLDS, MIXED, UNDECIDED, UNTESTABLE
from routegraph.validate.claims.judge import claims
from routegraph.validate.claims.probes import probes, read_probes
from routegraph.validate.claims.traces import RATE_RATIOS, depth, eviction_rate
from tests.helpers.claims import FLOORED, measured, uniform
from tests.helpers.traces import deep, synthetic_trace


@pytest.mark.parametrize("without_sink", [False, True])
def test_c5(without_sink):
    def told(**more):
        found = depth([[deep(k, **more) for k in range(4)]], without_sink)
        return [case.verdict for case in found.evidence]

    assert told() == [HOLDS, UNTESTABLE]  # no Qwen at hand
    assert told(rising=False) == [FAILS, UNTESTABLE]
    assert told(model="Qwen2.5-3B") == [FAILS, UNTESTABLE]  # no LLaMA
    assert told(model="Qwen2.5-3B", rising=False) == [HOLDS, UNTESTABLE]
    assert told(layers=4)[0] == told(model="gemma")[0] == UNTESTABLE
    one = depth([[deep(0)]], without_sink)
    assert one.evidence[0].verdict == UNDECIDED
    assert "judged from 12 layers on" in depth([[deep(0, layers=4)]], without_sink).evidence[0].figure
    assert depth([[synthetic_trace(0)]], without_sink).verdict == UNTESTABLE


def test_c5_with_and_without_the_sink_are_two_claims_by_family():
    def sunk(model, rising):
        both = zip(
            (deep(k, model) for k in range(4)), (deep(k, model, rising=rising) for k in range(4)), strict=True
        )
        return [replace(one, tops_without_sink=other.tops) for one, other in both]

    runs = [sunk("smollm2", False), sunk("qwen2.5-coder-0.5b", False)]
    with_sink, without = (found for found in claims([], runs) if found.id in ("C5a", "C5b"))
    assert with_sink.families == {"llama": HOLDS, "qwen2": FAILS}
    assert without.families == {"llama": FAILS, "qwen2": HOLDS}
    assert (with_sink.verdict, len(with_sink.evidence)) == (MIXED, 2)


def test_the_family_of_a_model_of_ones_own_is_that_of_its_measurement():
    run = [deep(k, "mine") for k in range(4)]
    assert depth([run], False).evidence[0].verdict == UNTESTABLE
    (case, _) = depth(
        [run], False, measured=[measured(uniform(20), model="mine", told={"family": "llama"})]
    ).evidence
    assert (case.verdict, case.family) == (HOLDS, "llama")


@pytest.mark.parametrize(
    ("power", "noise", "word"),
    [(1, 0.001, HOLDS), (1.2, 0.001, HOLDS), (2, 0.001, FAILS), (5, 0.001, FAILS), (1.5, 0.05, UNDECIDED)],
)
def test_c6_linear(power, noise, word, monkeypatch):
    """The square of the ratio, as of two heads that evict by themselves, does not pass, though its R2 is .95."""
    rng = np.random.default_rng(0)
    rates = RATE_RATIOS**power + rng.normal(0, noise, (12, len(RATE_RATIOS)))
    monkeypatch.setattr(claims_traces, "eviction_rates", lambda *_: {"model": rates, "layer": rates})
    made = [replace(synthetic_trace(k), task=f"t{k % 2}") for k in range(12)]
    cases = [case for case in eviction_rate([made]).evidence if case.where.endswith("linear")]
    assert {case.verdict for case in cases} == {word}
    if power == 2:
        assert cases[0].main.value == pytest.approx(0.0933, abs=0.002)
        assert cases[0].numbers["r2"]["value"] > 0.95


@pytest.mark.parametrize(
    ("gap", "noise", "word"),
    [(0, 0.01, HOLDS), (0.2, 0.01, FAILS), (0.05, 0.05, UNDECIDED), (0, 0.4, UNDECIDED)],
)
def test_c6_tasks(gap, noise, word, monkeypatch):
    rng = np.random.default_rng(1)
    rates = RATE_RATIOS * (1 - gap * (np.arange(40) % 2)[:, None]) + rng.normal(
        0, noise, (40, len(RATE_RATIOS))
    )
    monkeypatch.setattr(claims_traces, "eviction_rates", lambda *_: {"model": rates, "layer": rates})
    made = [replace(synthetic_trace(k), task=f"t{k % 2}") for k in range(40)]
    cases = [case for case in eviction_rate([made]).evidence if case.where.endswith("tasks")]
    assert {case.verdict for case in cases} == {word}


def test_c6():
    def run_of(rho, shift=0.0):
        made = [replace(synthetic_trace(k, rho, sinks=0), task=f"t{k % 2}") for k in range(12)]
        return [
            t
            if k % 2
            else replace(
                t,
                scores={a: np.where(np.arange(200) < 200 * shift, s[:1, :1], s) for a, s in t.scores.items()},
            )
            for k, t in enumerate(made)
        ]

    alike = {case.where: case.verdict for case in eviction_rate([run_of(1.0)]).evidence}
    assert set(alike.values()) == {HOLDS}
    apart = eviction_rate([run_of(0.0, 0.8)]).evidence
    told = {case.where.split(", ", 1)[1]: case.verdict for case in apart}
    assert told["adakv, all slots, tasks"] == FAILS
    assert eviction_rate([run_of(0.0)]).evidence[0].verdict == FAILS
    few = eviction_rate([run_of(0.5)[:4]]).evidence
    assert few[1].verdict == UNTESTABLE


def probe(f1, low, high, ratio=0.9, chance=0.25):
    row = {"features": "cache", "policy": "chunk", "chance": chance}
    return {**row, "ratio": ratio, "macro_f1": f1, "low": low, "high": high}


@pytest.mark.parametrize(
    ("late", "word"),
    [((0.8, 0.7, 0.9), HOLDS), ((0.3, 0.2, 0.4), FAILS), ((0.6, 0.4, 0.7), UNDECIDED)],
)
def test_c7(late, word, tmp_path):
    path = tmp_path / "probes.json"
    path.write_text(json.dumps({"model": "made up", "results": [probe(0.9, 0.8, 1, 0), probe(*late)]}))
    found = probes([read_probes(path)], [measured(uniform())])
    assert found.verdict == word
    assert "generation right" in found.evidence[0].baseline
    alone = [{**row, "question_only": 0.85} for row in (probe(0.9, 0.8, 1, 0), probe(*late))]
    by_question = probes([{"results": alone}])
    assert by_question.verdict == UNTESTABLE
    assert "the question alone .85" in by_question.evidence[0].baseline
    floored = probes([read_probes(path)], [measured(FLOORED)])
    assert floored.verdict == UNTESTABLE
    assert "at floor" in floored.evidence[0].figure
    low = probes([{"results": [probe(0.3, 0.2, 0.4, 0), probe(*late)]}])
    assert low.verdict == UNTESTABLE


@pytest.mark.parametrize("text", ["{}", "no", '{"results": [{"features": "x"}]}', "[]"])
def test_a_file_without_probes_is_refused(text, tmp_path):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match="holds no results of linear probes"):
        read_probes(tmp_path / "p.json")

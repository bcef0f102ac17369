"""The measured column of a comparison."""

import json
from dataclasses import replace

import numpy as np
import pytest

from routegraph import report
from routegraph.stats.intervals import Interval
from routegraph.trace import Trace
from routegraph.validate.compare.failure import apart, measured_as, weights_of
from routegraph.validate.compare.policy import half_points
from routegraph.validate.compare.run import compare
from routegraph.validate.eviction import Method
from routegraph.validate.measure.cells import open_folder, sealed, write_cell
from routegraph.validate.measure.metrics import METRICS
from routegraph.validate.measure.result import Measured, from_cells
from tests.helpers.commands import run
from tests.helpers.traces import synthetic_trace

RATIOS = [0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95]
SETTINGS = {
    "model": "one-factor",
    "weights": "abc",
    "dtype": "float32",
    "policies": ["knorm", "topk"],
    "ratios": RATIOS,
    "question_aware": False,
    "chunk_length": 16,
    "seed": 0,
}


def cell(number, breaks):
    """Of an item that is right up to a ratio of its own and hallucinates from there on, under topk only."""
    right = [1] * len(RATIOS) + [int(ratio < breaks) for ratio in RATIOS]
    return {
        "prompt": {
            "id": f"synthetic-{number}",
            "task": "none",
            "answerable": True,
            "n_context": 200,
            "tags": [],
        },
        "protected": {"knorm": {}, "topk": {"n_sink": 4}},
        "replies": ["x"] * len(right),
        "right": right,
        "abstained": [0] * len(right),
        "metrics": {name: [None] * len(right) for name in METRICS},
    }


def cells():
    places = np.random.default_rng(0).normal(0.75, 0.05, 80)
    return [cell(number, place) for number, place in enumerate(places)]


def measurement(**changed):
    return replace(from_cells(SETTINGS, cells()), settings={**SETTINGS, **changed})


@pytest.fixture(scope="module")
def traces():
    return [synthetic_trace(k) for k in range(12)]


@pytest.fixture(scope="module")
def result(traces):
    return compare(traces, policy_names=["topk", "adakv"], measured=measurement(), weights="abc")


def test_known_failures_are_found_where_they_are(result):
    found = result.policies["topk"].measured
    assert (found.policy, found.items, found.shared, len(found.kept)) == ("topk", 80, 12, 80)
    assert (found.wrong.verdict, found.wrong.rises) == ("cliff", True)
    for kind in ("wrong", "accuracy"):
        ratio = found.critical(kind)
        assert ratio.value == pytest.approx(0.75, abs=0.03)
        assert ratio.low < 0.75 < ratio.high
    axis = result.policies["topk"].axes["model"]
    minus = found.to_dict(half_points(result.policies["topk"]))["minus"]
    rows = {(r["quantity"], r["tokens"], r["source"]): r for r in minus}
    row = rows["gone, all slots", "answer", "read off"]
    gap = found.critical("accuracy").value - axis.half("answer tokens").value
    assert row["accuracy"]["value"] == pytest.approx(gap)
    assert row["accuracy"]["low"] < gap < row["accuracy"]["high"]
    assert {source for _, _, source in rows} == {"read off", "simulated", "theory"}


def test_what_was_not_measured_is_a_dash(result, capsys):
    assert result.policies["adakv"].measured is None
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [row["measured"] is None for row in document["results"]] == [False, True]
    assert "measured wrong" in document["definitions"]
    assert result._repr_html_().count("<td>wrong</td>") == 2, "one row a policy"


def test_differences_of_independent_estimates():
    found = apart(Interval(0.9, 0.87, 0.92), Interval(0.8, 0.76, 0.83))
    assert found == pytest.approx((0.1, 0.1 - np.hypot(0.03, 0.03), 0.1 + np.hypot(0.02, 0.04)))
    assert np.isnan(apart(Interval(0.9, 0.8, np.nan), Interval(0.8, 0.7, 0.9)).high)


def test_policies_are_matched_by_what_they_do(traces):
    named = measurement(policies=["snapkv", "adakv@knorm", "topk@expected_attention", "random"])
    assert (
        measured_as(named.settings, traces, Method("any", "topk", "expected_attention"))
        == "topk@expected_attention"
    )
    assert measured_as(named.settings, traces, Method("any", "topk", "snapkv")) == "snapkv"
    assert measured_as(named.settings, traces, Method("any", "adakv", "expected_attention")) is None
    assert measured_as(named.settings, traces, Method("any", "random", "expected_attention")) == "random"


def test_measured_curves_are_found_for_every_method_of_one_comparison(traces):
    """Red before: SnapKV's curve stood under "topk", and adakv's was dropped for its scorer."""
    both = [
        replace(
            trace,
            scores={**trace.scores, "snapkv": -trace.scores["expected_attention"]},
            scorers={**trace.scorers, "snapkv": {}},
        )
        for trace in traces
    ]
    one = cell(0, 0.5)
    names = ["topk@snapkv", "adakv", "gone", "expected_attention"]
    n = len(names) * len(RATIOS)
    told = {**one, "protected": {name: {} for name in names}, "replies": ["x"] * n, "abstained": [0] * n}
    told |= {"metrics": {name: [None] * n for name in METRICS}}
    rights = [[int(ratio < place) for ratio in RATIOS] for place in (0.3, 0.5, 0.7, 0.9)]
    found = from_cells({**SETTINGS, "policies": names}, [{**told, "right": np.ravel(rights).tolist()}] * 4)
    assert found.methods["gone"] == "a policy or scorer that is not registered here"
    asked = ["SnapKVPress", "AdaKVPress", "topk"]
    result = compare(both, policy_names=asked, ratios=[0.3, 0.5, 0.7, 0.9], measured=found).policies
    assert {name: one.measured.policy for name, one in result.items()} == {
        "snapkv": "topk@snapkv",
        "adakv": "adakv",
        "topk": "expected_attention",
    }
    assert result["snapkv"].measured.kept[0].tolist() == rights[0]
    assert result["adakv"].measured.kept[0].tolist() == rights[1]


def test_a_curve_without_change_has_no_critical_ratio(traces):
    still = measurement(policies=["topk", "knorm"])
    found = compare(traces, policy_names=["topk"], measured=still).policies["topk"].measured
    assert (found.wrong.fit, found.wrong.verdict) == (None, "no change")
    assert np.isnan(found.critical("wrong").value)
    assert np.isnan(found.critical("accuracy").value)
    halves = half_points(compare(traces, policy_names=["topk"]).policies["topk"])
    json.dumps(found.to_dict(halves), allow_nan=False)


def test_what_does_not_belong_together_is_one_sentence(traces, tmp_path):
    for changed, weights, words in (
        ({"model": "other", "weights": None}, None, "model 'one-factor'.*'other'"),
        ({}, "def", "the same name, other weights"),
        ({"question_aware": True}, None, "traces are question-agnostic.*is question-aware"),
    ):
        with pytest.raises(ValueError, match=words):
            compare(traces, policy_names=["topk"], measured=measurement(**changed), weights=weights)
    assert compare(
        traces, policy_names=["topk"], measured=measurement(model="a copy"), weights="abc"
    ).has_measured
    with pytest.raises(ValueError, match="no folder of routegraph measure"):
        compare(traces, policy_names=["topk"], measured=tmp_path)
    chunked = [synthetic_trace(k) for k in range(4)]
    for trace in chunked:
        trace.scores["expected_attention/chunk32"] = trace.scores["expected_attention"]
        trace.scorers["expected_attention/chunk32"] = {"n_sink": 4, "chunk_length": 32}
    with pytest.raises(ValueError, match="chunks of 32 in the traces and of 16"):
        compare(chunked, policy_names=["chunk"], measured=measurement(policies=["chunk", "topk"]))


def test_on_the_command_line(capsys, traces, tmp_path, result):
    path, folder = tmp_path / "t.npz", tmp_path / "cells"
    Trace.save(path, traces, {"model": {"name": "one-factor", "sha256": "abc"}})
    assert weights_of(path) == "abc"
    place = open_folder(folder, SETTINGS)
    for number, one in enumerate(cells()):
        write_cell(place / f"{number:03d}.json", sealed(one, SETTINGS))
    assert len(Measured.load(folder).ids) == 80
    arguments = ["compare", path, "--measured", folder, "--policy", "topk", "--policy", "adakv"]
    status, out, _ = run(capsys, *arguments, "--plot", tmp_path / "c.svg")
    assert status == 0
    for words in (
        "where answers fail",
        "cliff, up",
        "80 items, 12 of them",
        "were not measured",
        "wrong - it",
    ):
        assert words in out
    assert "measured wrong" in (tmp_path / "c.svg").read_text()
    report.write_report(tmp_path / "r.html", None, result)
    assert "where answers fail" in (tmp_path / "r.html").read_text()
    Trace.save(path, traces, {"model": {"name": "one-factor", "sha256": "def"}})
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "other weights" in err

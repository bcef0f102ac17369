"""compare with a prediction: its curve and half point beside what was measured, saved and read again."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routegraph.trace import Trace
from routegraph.validate.compare.foretold import foretellings
from routegraph.validate.compare.result import Comparison
from routegraph.validate.compare.run import compare
from routegraph.validate.eviction import Method
from routegraph.validate.predict.calibration import Calibration
from routegraph.validate.predict.result import Predicted, from_cells
from tests.helpers.commands import run
from tests.helpers.traces import synthetic_trace

RATIOS = [0.0, 0.4, 0.8, 0.9]
SETTINGS: dict[str, Any] = {
    "model": "one-factor",
    "policies": ["topk", "random"],
    "ratios": RATIOS,
    "question_aware": False,
    "chunk_length": 16,
    "seed": 0,
}


def predicted() -> Predicted:
    shares = {
        name: [[0.0, 0.2, 0.6, 1.0], [0.0, 0.5, 0.9, 1.0]] for name in ("routes", "sources", "dependence")
    }
    cells = [
        {
            "prompt": {"id": f"p{k}", "task": "none", "n_context": 200, "n_question": 3},
            "protected": {"topk": {}, "random": {}},
            "reply": "x",
            "statement": "x",
            "shares": shares if k else None,
        }
        for k in range(6)
    ]
    sure = Calibration(np.array([0.0, 2.0]), np.eye(2) * 1e-6, "made up")
    return replace(from_cells(SETTINGS, cells), calibration=sure)


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    return [synthetic_trace(k) for k in range(6)]


@pytest.fixture(scope="module")
def result(traces: list[Trace]) -> Comparison:
    return compare(traces, policy_names=["topk", "adakv"], ratios=[0.5, 0.7, 0.8, 0.9], predicted=predicted())


def test_stands_beside(result):
    told = result.policies["topk"].foretold
    own = predicted()
    assert told.half == own.critical("topk")
    assert (told.prompts, told.calibrated_on) == (5, "made up")
    assert told.kept == pytest.approx(own.kept("topk"))
    assert result.policies["adakv"].foretold is None
    text = result.summary()
    assert "topk: where answers are expected to break" in text
    assert f"{told.half.value:.3f}" in text


def test_saved_and_read_again(result, tmp_path):
    result.save(tmp_path / "c.json")
    again = Comparison.load(tmp_path / "c.json")
    assert again.policies["topk"].foretold.to_dict() == result.policies["topk"].foretold.to_dict()
    assert again.policies["adakv"].foretold is None
    assert again.has_foretold
    assert json.dumps(again.to_dict()) == json.dumps(result.to_dict())


def test_another_model_is_refused(traces):
    chosen = {"topk": Method.of_scores(traces[0], "topk")}
    other = replace(predicted(), settings={**SETTINGS, "model": "two-factor"})
    with pytest.raises(
        ValueError, match=r"what was predicted is of another: 'two-factor'; make both of one model"
    ):
        foretellings(other, traces, chosen)
    aware = replace(predicted(), settings={**SETTINGS, "question_aware": True})
    with pytest.raises(ValueError, match="what was predicted is question-aware"):
        foretellings(aware, traces, chosen)


def test_command_line(traces, capsys, tmp_path):
    Trace.save(tmp_path / "t.npz", traces, {"model": {"name": "one-factor"}})
    status, out, err = run(capsys, "compare", tmp_path / "t.npz", "--policy", "topk", "--predict", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "is no folder of routegraph predict" in err

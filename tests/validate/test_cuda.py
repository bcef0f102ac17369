"""A model on a GPU says and keeps what it does on the CPU. Left out where torch finds no CUDA device."""

from typing import Any

import numpy as np
import pytest
import torch

from routegraph.validate.measure.run import measure
from routegraph.validate.models import blocks
from routegraph.validate.models.load import load
from routegraph.validate.noise.run import logit_noise
from routegraph.validate.predict.run import predict
from routegraph.validate.presses.reference import compare_with_kvpress
from routegraph.validate.probe.run import probe
from routegraph.validate.tasks import load_task
from routegraph.validate.traces.extract import extract
from tests.helpers.commands import run
from tests.helpers.models import random_ids

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")

MODELS = ("llama-tiny", "qwen-tiny")
ASKED: dict[str, Any] = {"policy_names": ["topk", "adakv"], "ratios": (0.5, 0.9), "chunk_length": 16}


@pytest.fixture(scope="module", params=MODELS)
def both(request) -> Any:
    """Return one model on the CPU and on the GPU."""
    return load(request.param), load(request.param, device="cuda")


@pytest.fixture(scope="module")
def prompts() -> Any:
    return load_task("words_forward", 6, 0, None)


def test_scores_and_graphs(both, prompts):
    here, there = (extract(model, prompts, 16, graphs=True) for model in both)
    for one, other in zip(here, there, strict=True):
        for name in one.scores:
            np.testing.assert_allclose(other.scores[name], one.scores[name], rtol=2e-3, atol=1e-6)
        # An edge of a weight next to the least that is kept may be on either side.
        assert abs(len(one.graph.slot) - len(other.graph.slot)) <= 0.001 * len(one.graph.slot)
        np.testing.assert_allclose(other.attention, one.attention, rtol=1e-3, atol=1e-3)


def test_long_contexts(both, prompts, monkeypatch):
    here = extract(both[0], prompts[:2], 16)
    monkeypatch.setattr(blocks, "ROWS", 32)
    assert blocks._holds_all_weights(both[1].model) or both[1].n_heads == both[1].n_query_heads
    for one, other in zip(here, extract(both[1], prompts[:2], 16), strict=True):
        for name in one.scores:
            np.testing.assert_allclose(other.scores[name], one.scores[name], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"metrics": True},
        {"bits": "kivi2:residual=0"},
        {"bits": "4"},
        {"bits": "svdq"},
    ],
    ids=["replies", "metrics", "kivi2", "4", "svdq"],
)
def test_replies(both, prompts, more):
    here, there = (measure(model, prompts, **ASKED, **more) for model in both)
    for one, other in zip(here.cells, there.cells, strict=True):
        assert one["replies"] == other["replies"]


def test_replies_cut_while_they_are_decoded(both, prompts):
    asked: dict[str, Any] = {
        "policy_names": ["random", "tova", "h2o"],
        "decode_budget": [48],
        "max_new_tokens": 24,
    }
    here, there = (measure(model, prompts, **asked) for model in both)
    for one, other in zip(here.cells, there.cells, strict=True):
        assert one["replies"] == other["replies"]


def test_kept_rows_are_kvpress_s(both):
    ids = random_ids(150, both[1].model.config.vocab_size)
    for policy, ratio, found in compare_with_kvpress(both[1].model, ids, [0.3, 0.9], 16):
        assert found.mismatches == 0, (policy, ratio)


def test_predictions(both, prompts):
    here, there = (predict(model, prompts, **ASKED) for model in both)
    np.testing.assert_allclose(there.shares, here.shares, atol=0.01)


def test_probes(both):
    asked = load_task("words_forward", 12, 0, None) + load_task("words_unknown_forward", 12, 0, None)
    known: dict[str, Any] = {"policy_names": ["topk"], "ratios": (0.5,), "target": "answerable"}
    here, there = (probe(model, asked, **known) for model in both)
    for one, other in zip(here.rows, there.rows, strict=True):
        assert abs(one.f1.value - other.f1.value) < 0.05


def test_noise(both, prompts):
    here, there = (logit_noise(model, prompts[:2], ["4"]) for model in both)
    np.testing.assert_allclose(there.moved, here.moved, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_command_line(capsys, tmp_path, dtype):
    on = ["--device", "cuda", "--dtype", dtype]
    status, _, error = run(
        capsys,
        "extract",
        "llama-tiny",
        "--prompts",
        "bundled",
        "--limit",
        2,
        "--out",
        tmp_path / "t.npz",
        *on,
    )
    assert status == 0, error
    task = ["--task", "words_forward", "--n", 4, "--chunk-length", 16]
    status, out, error = run(capsys, "measure", "qwen-tiny", *task, "--out", tmp_path / "cells", *on)
    assert status == 0, error
    assert "accuracy" in out

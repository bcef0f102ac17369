"""Policies that work on given scores, against kvpress's presses on random models, slot by slot."""

from types import SimpleNamespace

import numpy as np
import pytest

from routegraph.policies import apply
from routegraph.policies.pyramid import layer_budget
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import prefill_scores
from routegraph.validate.presses.reference import reference_kept
from tests.helpers.models import random_ids

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
N = 170


def scores_of(network, press):
    return prefill_scores(network, random_ids(N), press)[None]


def test_chunkkv_keeps_what_chunkkv_press_keeps(network):
    scores = scores_of(network, kvpress().ExpectedAttentionPress())
    for length in (20, 64, 300):  # 300: less than a chunk, so row by row
        survival = apply("chunkkv", scores, chunk_length=length)
        for ratio in (0.3, 0.7, 0.95):
            press = kvpress().ChunkKVPress(kvpress().ExpectedAttentionPress(ratio), chunk_length=length)
            theirs = reference_kept(network, random_ids(N), press)
            assert np.array_equal(survival.alive(ratio), theirs), (length, ratio)


def test_streaming_keeps_what_streaming_press_keeps(network):
    survival = apply("streaming", np.zeros((3, 2, N)))
    for ratio in RATIOS:
        theirs = reference_kept(network, random_ids(N), kvpress().StreamingLLMPress(ratio))
        ours = survival.alive(ratio)
        if ours.sum(axis=-1).min() >= 4:  # below, kvpress lets topk break the tie of its equal sinks
            assert np.array_equal(ours, theirs), ratio
        else:
            assert np.array_equal(ours.sum(axis=-1), theirs.sum(axis=-1))
            assert not theirs[..., 4:].any()


def test_snapkv_keeps_what_snapkv_press_keeps_down_to_its_window(network):
    window = 16
    press = kvpress().SnapKVPress(0.5, window_size=window)
    scores = scores_of(network, press)
    survival = apply("snapkv", scores, window=window)
    compared = 0
    for ratio in RATIOS:
        theirs = reference_kept(network, random_ids(N), kvpress().SnapKVPress(ratio, window_size=window))
        ours = survival.alive(ratio)
        assert np.array_equal(ours.sum(axis=-1), theirs.sum(axis=-1))
        if int(N * (1 - ratio)) >= window:
            assert np.array_equal(ours, theirs), ratio
            compared += 1
    assert compared >= 4


@pytest.mark.parametrize("n", [170, 3000])
@pytest.mark.parametrize(("window", "beta"), [(64, 20), (8, 20), (8, 2), (1, 1)])
def test_pyramid_budgets_are_those_of_pyramid_press(n, window, beta):
    for ratio in (0.0, 0.1, 0.37, 0.5, 0.731, 0.9, 0.99):
        press = kvpress().PyramidKVPress(ratio, window_size=window, beta=beta)
        for n_layers in (1, 2, 30):
            for layer in range(n_layers):
                module = SimpleNamespace(layer_idx=layer, config=SimpleNamespace(num_hidden_layers=n_layers))
                expected = n if ratio == 0 else press.get_layer_budget(module, n)
                assert layer_budget(n, ratio, layer, n_layers, window, beta) == expected


def test_pyramid_keeps_what_pyramid_press_keeps(network):
    window, beta = 4, 4
    scores = scores_of(network, kvpress().PyramidKVPress(0.5, window_size=window, beta=beta))
    for ratio in RATIOS[:-2]:
        press = kvpress().PyramidKVPress(ratio, window_size=window, beta=beta)
        theirs = reference_kept(network, random_ids(N), press)
        ours = apply("pyramid", scores, ratio=ratio, window=window, beta=beta).alive(ratio)
        assert np.array_equal(ours, theirs), ratio


def test_pyramid_press_is_not_nested():
    budgets = [layer_budget(3000, ratio, 29, 30, 64, 20) for ratio in np.linspace(0.4, 0.7, 31)]
    assert np.any(np.diff(budgets) > 0)

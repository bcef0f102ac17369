"""What is read off a trace by counting, and where its cliffs must be."""

from dataclasses import replace

import numpy as np
import pytest

from routegraph.policies import apply
from routegraph.protection import structural_cliffs
from routegraph.survival import eviction_rate, ger
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.traces.read_off import read_off
from tests.helpers.traces import synthetic_trace


def test_reading_off_is_counting():
    trace = synthetic_trace(0)
    ratios = [0.5, 0.8, 0.9]
    found = read_off(trace, Eviction.of(Method.named("topk"), trace), ratios)
    survival = apply("topk", trace.scores["expected_attention"])
    for over in ("model", "layer"):
        assert found.everything[over] == pytest.approx(eviction_rate(survival, ratios, over))
        assert found.answers[over] == pytest.approx(ger(survival, ratios, trace.answer, over))
        assert found.evictable[over] == pytest.approx(ger(survival, ratios, np.arange(4, 200), over))
    dead = ~survival.alive(0.8)[..., 4:].reshape(12, -1)
    assert found.gone[:, 1] == pytest.approx(dead.mean(axis=1))
    assert found.answer_scores.shape == (12, 3)


def test_structural_cliffs_are_named():
    def cliffs(traces):
        evictions = [Eviction.of(Method.named("topk"), trace) for trace in traces]
        return structural_cliffs([one.protection for one in evictions], [one.n_context for one in evictions])

    assert cliffs([synthetic_trace(0), synthetic_trace(1, n=100)]) == {
        "4 sinks in the shortest prompt, n = 100": 0.96,
        "4 sinks in the longest prompt, n = 200": 0.98,
    }
    watched = replace(synthetic_trace(0), scorers={"expected_attention": {"window": 50, "n_sink": 0}})
    assert cliffs([watched]) == {"a window of 50 in every prompt, n = 200": 0.75}
    both = {"window": 4, "n_sink": 4, "chunk_length": 32}
    found = cliffs([replace(watched, scorers={"expected_attention": both})])
    assert found == {"4 sinks and a window of 4 in each chunk of 32": 0.75}

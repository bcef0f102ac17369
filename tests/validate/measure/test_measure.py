"""Measuring answers under eviction: metrics by hand, statistics against their definitions, runs end to end."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from routegraph import TokenGraph, policies
from routegraph.graph import heavier
from routegraph.stats.auc import pooled_auc
from routegraph.stats.proportions import wilson
from routegraph.survival import Survival
from routegraph.validate.decoding.decode import decode, score
from routegraph.validate.measure.cells import read_cell, sealed, write_cell
from routegraph.validate.measure.item import Chosen, choose, fitting_chunk
from routegraph.validate.measure.metrics import (
    EPS,
    METRICS,
    Watched,
    after_metrics,
    answer_states,
    cache_metrics,
    route_metrics,
)
from routegraph.validate.measure.result import Measured, from_cells
from routegraph.validate.measure.routed import Reads, read_question
from routegraph.validate.measure.run import RATIOS, measure
from routegraph.validate.models.load import Loaded, wrap
from routegraph.validate.presses import prefill
from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.prompts.tokens import encode
from routegraph.validate.traces.extract import extract
from tests.helpers.commands import run
from tests.helpers.measured import synthetic
from tests.helpers.models import tiny_network

CONTEXT = (
    "Ada lives in Paris and Bob lives in Rome. Both of them like to swim, and to sing in the old choir by the river. "
    "On Sundays they walk along the water, feed the ducks, and talk about the weather of the week that has gone by. "
    "Nobody has ever seen them quarrel, and all their neighbours are very fond of them, and say so. "
    "In winter they stay at home."
)
PROMPT = Prompt(
    "p",
    CONTEXT,
    "Where does Ada live?",
    "Paris",
    "Answer: Ada lives in",
    evidence=((0, 18), (23, 40)),
    answer_spans=((13, 18),),
    task="two",
)
SOME = ["chunk", "adakv", "topk", "random", "streaming"]


# --- metrics by hand ------------------------------------------------------------------------------------


def by_hand() -> tuple[Reads, Survival]:
    """Two layers, one KV head, context rows 0-3, one row after them: position 4, where routes start.

    Layer 2: 4 reads 1 (.6) and itself (.3); layer 1: 4 reads 3 (.2) and 1 reads 0 (.05), 3 reads 2 (.5).
    Level of death: in layer 1 (1, 2, 3, 4), in layer 2 (4, 2, 3, 1).
    """
    graph = TokenGraph.from_edges(
        2,
        1,
        5,
        [2, 2, 1, 1, 1],
        [0] * 5,
        [4, 4, 4, 1, 3],
        [1, 4, 3, 0, 2],
        [0.6, 0.3, 0.2, 0.05, 0.5],
        n_context=4,
    )
    last = np.array([[[0.1, 0.1, 0.1, 0.2]], [[0.05, 0.6, 0.0, 0.05]]], dtype=np.float32)
    drop = np.array([[[1, 2, 3, 4]], [[4, 2, 3, 1]]])
    return Reads(graph, last.astype(float), last), Survival(drop)


WATCHED = Watched(np.array([2]), (np.array([0, 1]), np.array([2, 3])), np.array([3]))


class TestByHand:
    def test_cache(self):
        _, survival = by_hand()
        found = cache_metrics(survival, 0.5, WATCHED)  # level 2: alive 2, 3 in layer 1 and 0, 2 in layer 2
        assert found["ger_answer_model"] == found["ger_answer_layer"] == 0
        # Fact (0, 1): token 1 is gone from both layers, token 0 from the first only.
        assert found["ger_worst_fact_model"] == 0.5
        assert found["ger_facts_model"] == 0.25
        assert found["ger_worst_fact_layer"] == 0.75
        assert found["ger_facts_layer"] == pytest.approx((0.75 + 0.25) / 2)
        assert found["facts_gone"] == 0
        assert found["ger_carriers_layer"] == 0.5
        assert found["alive_answer"] == 1
        assert found["alive_evidence"] == 0.5
        assert found["alive_carriers"] == 0.5

    def test_a_fact_is_gone_when_its_last_token_is(self):
        survival = Survival(np.array([[[1, 2, 4, 4]]]))
        assert cache_metrics(survival, 0.25, WATCHED)["facts_gone"] == 0
        assert cache_metrics(survival, 0.5, WATCHED)["facts_gone"] == 0.5

    def test_routes(self):
        reads, survival = by_hand()
        whole, half = route_metrics(reads, survival, [0.0, 0.5], WATCHED)
        # At ratio 0: 4 -> 1 in layer 2; itself, then 3 in layer 1. Only residuals take 1 or 3 further down.
        assert whole["reach_any_0.1"] == whole["reach_all_0.1"] == 0  # 2 is read by 3 in layer 1 only
        assert whole["reach_facts_0.1"] == 1
        assert whole["widest_facts"] == pytest.approx(0.2)  # 3 by .2, 1 by .6
        assert whole["lost_attention"] == whole["lost_on_evidence"] == 0
        assert whole["rollout_evidence"] == 1
        # At level 2 the slot (layer 2, token 1) is dead; 3 in layer 1 is alive.
        assert half["reach_facts_0.1"] == 0
        assert half["widest_facts"] == 0
        dead = 0.1 + 0.1 + 0.6 + 0.05
        assert half["lost_attention"] == pytest.approx(dead / 2)
        assert half["lost_on_evidence"] == pytest.approx(dead / 1.2)
        assert half["lost_on_answer"] == 0
        assert 0 < half["rollout_evidence"] < 1
        # Top surviving keys: 3 in layer 1, 0 in layer 2, one head: one distinct key a head, as always.
        assert half["consensus"] == 1
        assert math.isnan(half["consensus_without_sink"])

    def test_any_all_and_share_of_the_answer(self):
        reads, survival = by_hand()
        (found,) = route_metrics(reads, survival, [0.0], Watched(np.array([1, 2])))  # 1 is reached, 2 is not
        assert [found[f"reach_{which}_0.1"] for which in ("any", "all", "share")] == [1, 0, 0.5]
        assert (found["widest_any"], found["widest_all"]) == (pytest.approx(0.6), 0)

    def test_a_route_may_end_in_a_row_that_has_read_a_dead_one(self):
        # Layer 2: 2 (after the context) reads 1; layer 1: 1 reads 0, which is dead everywhere.
        graph = TokenGraph.from_edges(2, 1, 3, [2, 1], [0, 0], [2, 1], [1, 0], [0.5, 0.5], n_context=2)
        reads = Reads(graph, np.full((2, 1, 2), 0.1), np.full((2, 1, 2), 0.1, dtype=np.float32))
        (found,) = route_metrics(
            reads, Survival(np.array([[[1, 2]], [[1, 2]]])), [0.5], Watched(np.array([0]))
        )
        assert found["reach_any_0.1"] == 1
        assert found["widest_any"] == 0.5
        assert found["reach_any_columns_0.1"] == found["widest_any_columns"] == 0

    def test_consensus_counts_distinct_survivors(self):
        graph = TokenGraph.from_edges(1, 1, 7, [1], [0], [6], [5], [0.5], n_context=6)
        last = np.array([[[0.4, 0, 0, 0, 0.3, 0.2], [0.5, 0, 0, 0, 0.1, 0.3]]], dtype=np.float32)
        reads = Reads(graph, last.mean(axis=1, keepdims=True).astype(float), last)
        full, rest = route_metrics(
            reads, Survival(np.array([[[1, 2, 3, 4, 6, 5]]])), [0.0, 0.2], Watched(np.array([5]))
        )
        assert full["consensus"] == 0.5  # both read 0 most
        assert full["consensus_without_sink"] == 1  # one reads 4, one 5
        assert rest["consensus"] == 1  # 0 is dead

    def test_nothing_to_watch_is_no_number(self):
        reads, survival = by_hand()
        nobody = Watched(np.empty(0, dtype=np.int64))
        found = cache_metrics(survival, 0.5, nobody) | route_metrics(reads, survival, [0.5], nobody)[0]
        known = {name for name, value in found.items() if not math.isnan(value)}
        assert known == {"lost_attention", "consensus"}

    def test_edges_at_eps_are_out(self):
        reads, _ = by_hand()
        light = heavier(reads.graph, 0.25)
        assert sorted(light.weight.tolist()) == pytest.approx([0.3, 0.5, 0.6])
        assert [column.tolist() for column in light.edges()] == [[1, 2, 2], [0, 0, 0], [3, 4, 4], [2, 1, 4]]

    def test_after(self):
        logits = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])) + 3
        hidden = np.array([[1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
        found = after_metrics(logits, hidden, 0, 1)
        assert found["hidden_drift"] == pytest.approx([0, 1, 0])
        assert found["logit_kl"] == pytest.approx([0, 0.25 * np.log(2), 0])
        assert found["margin"] == pytest.approx([-np.log(2), np.log(2), -np.log(2)])
        assert found["logit_drift"][1] > found["logit_drift"][2] == pytest.approx(0)
        assert np.isnan(after_metrics(logits, hidden, 0, None)["margin"]).all()


# --- statistics -----------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(k, n):
    k = min(k, n)
    low, high = wilson(k, n)
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert float(low) == pytest.approx(theirs.low, abs=1e-12)
    assert float(high) == pytest.approx(theirs.high, abs=1e-12)


def test_wilson_of_nothing_is_no_number():
    assert np.isnan(wilson(0, 0)).all()


def naive_auc(cells: Any, least: int) -> tuple[float, int, int]:
    won, pairs, used = 0.0, 0, 0
    for _, values, fails in cells:
        known = [(v, f) for v, f in zip(values, fails, strict=True) if not math.isnan(v)]
        bad, good = [v for v, f in known if f], [v for v, f in known if not f]
        if min(len(bad), len(good)) < least:
            continue
        used += 1
        for a in bad:
            for b in good:
                pairs += 1
                won += 1.0 if a > b else 0.5 if a == b else 0.0
    return (won / pairs if pairs else math.nan), pairs, used


class TestAuc:
    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5))
    def test_pairs_one_by_one(self, seed, n_cells, least):
        rng = np.random.default_rng(seed)
        cells = []
        for _ in range(n_cells):
            items = np.sort(rng.choice(20, rng.integers(1, 20), replace=False))
            values = rng.integers(0, 4, len(items)).astype(float)
            values[rng.random(len(items)) < 0.2] = np.nan
            cells.append((items, values, rng.random(len(items)) < 0.5))
        found = pooled_auc("x", cells, 20, least=least, resamples=20)
        auc, pairs, used = naive_auc(cells, least)
        assert found.auc.value == pytest.approx(auc, nan_ok=True)
        assert (found.pairs, found.cells) == (pairs, used)

    def test_bootstrap_draws_items(self):
        """The interval is that of a bootstrap done item by item, an item drawn twice counting twice."""
        rng = np.random.default_rng(0)
        values, fails = rng.normal(size=30), rng.random(30) < 0.4
        values[fails] += 0.8
        cell = (np.arange(30), values, fails)
        found = pooled_auc("x", [cell], 30, resamples=500, seed=3)
        draws = np.random.default_rng(3).integers(30, size=(500, 30))
        each = [naive_auc([(draw, values[draw], fails[draw])], 1)[0] for draw in draws]
        assert (found.auc.low, found.auc.high) == pytest.approx(tuple(np.quantile(each, [0.025, 0.975])))
        assert found.tells == "yes"
        assert pooled_auc("x", [(cell[0], -values, fails)], 30, seed=3).tells == "reversed"

    def test_noise_tells_nothing_in_95_of_100(self):
        rng = np.random.default_rng(1)
        told = [
            pooled_auc(
                "x", [(np.arange(60), rng.normal(size=60), rng.random(60) < 0.5)], 60, resamples=200
            ).tells
            for _ in range(200)
        ]
        assert 0.88 < np.mean([word == "no" for word in told]) < 0.99

    def test_the_ratio_alone_tells_nothing(self):
        """A metric that rises with the ratio as the failures do, the same for all items of a cell: AUC .5."""
        n, ratios = 40, np.array([0, 0.2, 0.5, 0.8])
        rng = np.random.default_rng(2)
        right = rng.random((n, 1, 4)) > ratios
        right[..., 0] = True
        values = np.broadcast_to(ratios, right.shape).copy()
        found = synthetic(right, {"ger_answer_model": values})
        row = next(row for row in found.auc_table(resamples=20) if row.metric == "ger_answer_model")
        assert row.auc == (0.5, 0.5, 0.5)
        assert row.cells == 3
        assert np.corrcoef(ratios, 1 - right.mean(axis=(0, 1)))[0, 1] > 0.95


class TestMeasured:
    def test_failing_is_right_before_and_not_after(self):
        right = np.array([[[1, 1, 0, 0]], [[0, 1, 0, 0]]], dtype=bool)
        assert synthetic(right, {}).fails.tolist() == [[[False, False, True, True]], [[False] * 4]]

    def test_only_some_items(self):
        right = np.array([[[1, 1, 0, 0]], [[0, 1, 0, 0]], [[1, 0, 0, 0]]], dtype=bool)
        known = np.array([True, False, True])
        whole = synthetic(
            right, {"margin": np.arange(12.0).reshape(3, 1, 4)}, ["a", "b", "a"], answerable=known
        )
        for chosen in (known, [0, 2]):
            found = whole.only(chosen)
            assert found.ids == ("0", "2")
            assert found.tasks == ["a"]
            assert found.answerable.all()
            assert found.rates("accuracy", "p0").counts.tolist() == [2, 1, 0, 0]
            assert found.metrics["margin"].tolist() == [[[0, 1, 2, 3]], [[8, 9, 10, 11]]]
            assert len(found.replies) == len(found.tags) == len(found.n_context) == 2
        with pytest.raises(ValueError, match="no item is left"):
            whole.only(np.zeros(3, bool))

    def test_rates_and_tasks(self):
        right = np.array([[[1, 1, 0, 0]], [[0, 1, 0, 0]], [[1, 0, 0, 0]]], dtype=bool)
        abstained = np.array([[[0, 0, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]], dtype=bool)
        found = synthetic(right, {}, ["a", "a", "b"], abstained=abstained)
        assert found.rates("accuracy", "p0").counts.tolist() == [2, 2, 0, 0]
        assert found.rates("abstention", "p0", "a").counts.tolist() == [0, 0, 1, 0]
        assert found.rates("hallucination", "p0", "a").counts.tolist() == [1, 0, 1, 2]
        rates = found.rates("accuracy", "p0", "b")
        assert rates.trials == 1
        assert (rates.low[0], rates.high[0]) == pytest.approx(tuple(map(float, wilson(1, 1))))
        for wrong in (("precision", "p0"), ("accuracy", "p9"), ("accuracy", "p0", "z")):
            with pytest.raises(ValueError, match="choose from"):
                found.rates(*wrong)

    def test_a_cliff_is_found_where_it_is_and_a_flat_curve_has_none(self):
        ratios = np.round(np.arange(0, 1, 0.1), 1)
        rng = np.random.default_rng(0)
        right = rng.random((200, 2, 10)) < np.where(ratios < 0.65, 0.9, 0.1)
        right[:, 1] = True
        found = synthetic(right, {}, ratios=ratios.tolist())
        fit = found.critical("p0")
        assert fit.verdict == "cliff"
        assert 0.6 <= fit.alpha_c <= 0.7
        assert found.critical("p1") is None

    def test_items_wrong_at_0_do_not_count(self):
        """Twelve items right at 0, of which the six of large value fail; others, of any value, are wrong all along."""
        right = np.zeros((20, 1, 4), dtype=bool)
        right[:12, :, 0] = True
        right[:6, :, 1:] = True
        values = np.broadcast_to(np.arange(20.0)[:, None, None], right.shape)
        values = np.where(np.arange(20)[:, None, None] >= 12, -values, values)
        (row,) = synthetic(right, {"ger_answer_model": values}).auc_table(resamples=20)
        assert (row.auc.value, row.pairs, row.cells, row.items) == (1, 108, 3, 12)
        (row,) = synthetic(right, {"margin": values}).auc_table(resamples=20)  # smaller should fail
        assert row.auc.value == 0

    def test_policies_are_pooled_by_pairs(self):
        """The first policy's failures are told by the metric, the second's are not; three times as many pairs."""
        right = np.zeros((40, 2, 4), dtype=bool)
        right[..., 0] = True
        right[:20, 0, 1] = True
        right[::2, 1, 1:] = True
        values = np.broadcast_to(-np.arange(40.0)[:, None, None], right.shape)
        found = synthetic(right, {"margin": values})
        one, other, both = (found.auc_table(p, resamples=5)[0] for p in ("p0", ["p1"], None))
        assert (one.auc.value, one.pairs) == (1, 400)
        assert (other.auc.value, other.pairs) == (pytest.approx(0.525), 1200)
        assert both.auc.value == pytest.approx((400 + 0.525 * 1200) / 1600)
        with pytest.raises(ValueError, match="unknown policy 'p2'"):
            found.auc_table("p2")


# --- end to end -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_measured(tiny: Loaded, tmp_path_factory: Any) -> tuple[Measured, Path]:
    out = tmp_path_factory.mktemp("measured") / "run"
    prompts = [PROMPT, replace(PROMPT, id="q", question="Where does Ada live now?")]
    return measure(tiny, prompts, out, policy_names=SOME, ratios=(0.5, 0.9, 0.995), max_new_tokens=3), out


class TestTiny:
    def test_every_metric_at_ratio_0(self, tiny_measured):
        found, _ = tiny_measured
        assert set(found.metrics) == set(METRICS)
        at_0 = {name: values[:, :, 0] for name, values in found.metrics.items()}
        for name in METRICS:
            if "carriers" in name:
                assert np.isnan(at_0[name]).all()
            elif METRICS[name].kind == "cache":
                assert (at_0[name] == (1 if name.startswith("alive") else 0)).all()
        for name in ("hidden_drift", "logit_drift", "logit_kl", "lost_attention", "lost_on_answer"):
            assert at_0[name] == pytest.approx(0, abs=1e-6)
        assert (at_0["rollout_answer"] == 1).all()
        assert (at_0["margin"] == at_0["margin_at_0"]).all()

    def test_replies_and_margins_are_those_of_decoding(self, tiny, tiny_measured):
        found, _ = tiny_measured
        asked = encode(tiny, PROMPT)
        (trace,) = extract(tiny, [PROMPT])
        survival = policies.apply("adakv", trace.scores["expected_attention"])
        kept = np.stack([survival.alive(ratio) for ratio in found.ratios])
        alone = [decode(tiny, asked.context, asked.question, one[None], 3).texts[0] for one in kept]
        assert list(found.replies[0][4:8]) == alone
        margin = score(tiny, asked.context, asked.question, asked.answer, kept).margin
        assert found.metrics["margin"][0, 1] == pytest.approx(margin, abs=1e-3)

    def test_lost_attention_falls_with_the_ratio_and_streaming_has_its_cliff(self, tiny_measured):
        found, _ = tiny_measured
        assert (np.diff(found.metrics["lost_attention"], axis=-1) >= 0).all()
        assert found.metrics["lost_attention"][:, :, -1].min() > 0.05
        n = int(found.n_context[0])
        assert found.cliffs["streaming"][f"4 sinks in the shortest prompt, n = {n}"] == 1 - 4 / n
        assert found.cliffs["chunk"] == {"4 sinks in each chunk of 64": 0.9375}
        assert found.cliffs["random"] == {}

    def test_random_is_drawn_for_each_item_and_slot(self, tiny_measured):
        found, _ = tiny_measured
        place = found.policies.index("random")
        one, other = found.metrics["lost_attention"][:, place, 1]
        assert one != other
        assert 0.3 < found.metrics["alive_evidence"][:, place, 1].mean() < 0.7

    def test_loading_gives_the_same(self, tiny_measured):
        found, out = tiny_measured
        again = Measured.load(out)
        assert again.ids == found.ids
        assert again.replies == found.replies
        assert (again.right == found.right).all()
        for name, values in found.metrics.items():
            np.testing.assert_array_equal(again.metrics[name], values)

    def test_what_is_there_is_not_measured_again(self, tiny, tiny_measured):
        _, out = tiny_measured
        before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
        measure(tiny, [PROMPT], out, policy_names=SOME, ratios=(0.5, 0.9, 0.995), max_new_tokens=3)
        assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == before
        assert json.loads((out / "run.json").read_text())["runs"][-1]["measured"] == 0
        with pytest.raises(ValueError, match=r"was measured with max_new_tokens 3, not 4"):
            measure(tiny, [PROMPT], out, policy_names=SOME, ratios=(0.5, 0.9, 0.995), max_new_tokens=4)

    def test_cells_hold_no_time_host_or_version(self, tiny_measured):
        _, out = tiny_measured
        text = next((out / "cells").iterdir()).read_text()
        for word in ("seconds", "platform", "torch", 'version": "', str(out)):
            assert word not in text
        assert {"seconds", "platform", "versions"} <= set(
            json.loads((out / "run.json").read_text())["runs"][0]
        )

    def test_document(self, tiny_measured):
        document = tiny_measured[0].to_dict(resamples=10)
        json.dumps(document, allow_nan=False)
        assert [row["policy"] for row in document["results"]] == SOME
        assert {row["metric"] for row in document["auc"]} == set(METRICS)
        assert document["results"][0]["hallucination"]["counts"][0] in (0, 1, 2)

    def test_question_aware_rows_are_cache_rows(self, tiny):
        one = {"policy_names": ["topk"], "ratios": [0.5], "max_new_tokens": 2}
        plain, aware = (measure(tiny, [PROMPT], question_aware=flag, **one) for flag in (False, True))
        asks = len(encode(tiny, PROMPT).question) - len(encode(tiny, PROMPT, True).question)
        assert aware.n_context[0] == plain.n_context[0] + asks
        assert aware.metrics["margin"][0, 0, 0] == pytest.approx(plain.metrics["margin"][0, 0, 0], abs=1e-3)
        assert aware.metrics["lost_attention"][0, 0, 1] != plain.metrics["lost_attention"][0, 0, 1]

    def test_carriers(self, tiny):
        found = measure(tiny, [PROMPT], policy_names=["topk"], ratios=[0.9], carriers=2, max_new_tokens=2)
        assert found.metrics["alive_carriers"][0, 0, 0] == 1
        assert found.metrics["alive_carriers"][0, 0, 1] < 1

    def test_policies_that_look_at_no_scores_and_other_scorers(self, tiny):
        found = measure(tiny, [PROMPT], policy_names=["random"], ratios=[0.9], max_new_tokens=1)
        assert found.metrics["alive_answer"][0, 0, 1] < 1
        found = measure(tiny, [PROMPT], policy_names=["adakv@tova"], ratios=[0.9], max_new_tokens=1)
        assert found.cliffs["adakv@tova"] == {
            f"1 rows of the window in the {end} prompt, n = {found.n_context[0]}": 1 - 1 / found.n_context[0]
            for end in ("shortest", "longest")
        }

    def test_not_nested_policies_are_asked_ratio_by_ratio(self, tiny):
        found = measure(tiny, [PROMPT], policy_names=["pyramid"], ratios=[0.1, 0.2], max_new_tokens=1)
        assert found.metrics["alive_evidence"][0, 0, 0] == 1
        assert np.diff(found.metrics["alive_evidence"][0, 0]).max() < 0

    def test_hidden_states_are_the_first_step_only(self, tiny):
        asked = encode(tiny, PROMPT)
        kept = np.ones((3, tiny.n_layers, tiny.n_heads, len(asked.context)), dtype=bool)
        import torch

        cache = prefill.prefill(tiny.model, torch.from_numpy(asked.context)[None])
        with answer_states(tiny.model) as states:
            decode(tiny, cache, asked.question, kept, 4, memory=1)  # a batch a variant
        assert [len(state) for state in states] == [1, 1, 1]
        whole = np.concatenate([asked.context, asked.question])
        hidden = tiny.model.base_model(torch.from_numpy(whole)[None]).last_hidden_state[0, -1].numpy()
        assert states[-1][0] == pytest.approx(hidden, abs=1e-3)


def test_attention_lost_is_that_of_the_model(tiny: Loaded) -> None:
    """The recorded attention of the question's rows is what eager attention gives."""
    import torch

    asked = encode(tiny, PROMPT)
    n = len(asked.context)
    kept = np.ones((1, tiny.n_layers, tiny.n_heads, n), dtype=bool)
    reads, _ = read_question(tiny, asked.context, asked.question, kept)
    eager = tiny_network("llama", vocabulary=49152)
    eager.set_attn_implementation("eager")
    ids = torch.from_numpy(np.concatenate([asked.context, asked.question]))[None]
    weights = torch.stack(eager(ids, output_attentions=True).attentions)[:, 0, :, n:, :n].numpy()
    assert reads.last == pytest.approx(weights[:, :, -1], abs=1e-5)
    by_head = weights.reshape(3, 2, 2, -1, n).mean(axis=3).sum(axis=2) / 4
    assert reads.mass == pytest.approx(by_head, abs=1e-5)
    assert reads.graph.n_context == n


def test_smollm2_answers_and_forgets(smollm2: Loaded, short_prompts: list[Prompt], tmp_path: Path) -> None:
    found = measure(
        smollm2,
        short_prompts[:2],
        tmp_path / "m",
        policy_names=["topk", "knorm"],
        ratios=(0.2, 0.99),
        max_new_tokens=6,
    )
    assert found.right[:, 0, 0].any()
    assert not found.right[:, :, -1].any()
    assert found.metrics["margin"][:, :, -1].max() < found.metrics["margin_at_0"][:, 0, 0].max()
    assert (found.metrics["alive_evidence"][:, :, -1] < 0.1).all()


# --- killed and resumed ---------------------------------------------------------------------------------

_SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from tests.helpers.models import tiny_network
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load, wrap
from routegraph.validate.prompts.prompt import read_prompts
model = wrap(tiny_network("llama", vocabulary=49152), load("smollm2").tokenizer, "tiny")
measure(model, read_prompts(sys.argv[1]), sys.argv[2], policy_names=["topk", "random"], ratios=[0.5, 0.9],
        max_new_tokens=2)
"""


def test_killed_and_resumed_leaves_the_same_files(tiny: Loaded, tmp_path: Path) -> None:
    prompts = [replace(PROMPT, id=f"p{k}") for k in range(8)]
    write_prompts(tmp_path / "p.jsonl", prompts)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(tmp_path / "p.jsonl"), str(killed)])
    until = time.time() + 300
    while not list((killed / "cells").glob("*.json")):
        assert process.poll() is None, "ended before it was killed"
        assert time.time() < until, "no cell in time"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name for path in (killed / "cells").glob("*.json")}
    assert 0 < len(done) < 8, "killed in the middle"
    (killed / "cells" / ".half.json.abc.tmp").write_text("{")
    for out in (killed, whole):
        measure(tiny, prompts, out, policy_names=["topk", "random"], ratios=[0.5, 0.9], max_new_tokens=2)
    files = [{path.name: path.read_bytes() for path in (out / "cells").iterdir()} for out in (killed, whole)]
    assert files[0] == files[1]
    assert len(files[0]) == 8
    assert done < set(files[0])
    assert json.loads((killed / "run.json").read_text())["runs"][-1]["measured"] == 8 - len(done)


# --- bad input ------------------------------------------------------------------------------------------


class TestBadInput:
    def refused(self, model: Any, prompt: Prompt, match: str, **more: Any) -> None:
        with pytest.raises(ValueError, match=match) as caught:
            measure(model, [prompt], **{"policy_names": ["topk"], "ratios": [0.5], **more})
        assert "\n" not in str(caught.value)

    def test_the_answer_does_not_occur(self, tiny):
        for answer in ("Lisbon", "Par"):
            self.refused(
                tiny, replace(PROMPT, answer=answer, answer_spans=()), f"'{answer}' does not occur in its"
            )

    def test_an_answer_without_spans_is_found_as_whole_words(self, tiny):
        found = [
            measure(tiny, [prompt], policy_names=["topk"], ratios=[0.9], max_new_tokens=1).metrics[
                "alive_answer"
            ]
            for prompt in (PROMPT, replace(PROMPT, answer_spans=()))
        ]
        assert (found[0] == found[1]).all()

    def test_no_evidence(self, tiny):
        self.refused(tiny, replace(PROMPT, evidence=()), "'p' names no evidence")

    def test_no_answer(self, tiny):
        self.refused(tiny, replace(PROMPT, answer="?"), "'p' has no answer to match replies by")

    def test_unanswerable_prompts_need_neither(self, tiny):
        prompt = replace(PROMPT, answer="", evidence=(), answer_spans=(), answerable=False)
        found = measure(tiny, [prompt], policy_names=["topk"], ratios=[0.5], max_new_tokens=1)
        assert np.isnan(found.metrics["margin"]).all()
        assert np.isnan(found.metrics["ger_answer_model"]).all()
        assert np.isfinite(found.metrics["hidden_drift"]).all()

    def test_too_long(self, tiny):
        self.refused(
            tiny, replace(PROMPT, context=CONTEXT * 8), r"'p' has \d+ tokens .* made for 512 at most"
        )

    def test_a_tokenizer_that_does_not_fit(self, smollm2):
        small = wrap(tiny_network("llama", vocabulary=300), smollm2.tokenizer, "small")
        self.refused(small, PROMPT, r"gives token \d+, and the model knows 300 only")

    def test_a_tokenizer_without_offsets(self, tiny):
        def slow(text: str, **more: Any) -> Any:
            raise NotImplementedError("return_offset_mapping is not available when using Python tokenizers")

        self.refused(replace(tiny, tokenizer=slow), PROMPT, "tells no character offsets; use a fast one")

    def test_too_short_for_a_scorer(self, tiny):
        short = replace(PROMPT, context=CONTEXT[:60])
        self.refused(tiny, short, "snapkv sets 64 aside", policy_names=["snapkv"])

    def test_settings(self, tiny):
        self.refused(tiny, PROMPT, "unknown policy 'best'; choose from", policy_names=["best"])
        self.refused(tiny, PROMPT, "unknown scorer 'luck'", policy_names=["topk@luck"])
        self.refused(tiny, PROMPT, r"ratio must be in \[0, 1\)", ratios=[1.0])
        self.refused(tiny, PROMPT, "at least one policy", policy_names=[])
        self.refused(tiny, PROMPT, "carriers must be at least 0", carriers=-1)
        self.refused(tiny, PROMPT, "max_new_tokens must be at least 1", max_new_tokens=0)
        with pytest.raises(ValueError, match="at least one prompt"):
            measure(tiny, [])

    def test_folders(self, tiny, tmp_path):
        (tmp_path / "file").write_text("x")
        self.refused(tiny, PROMPT, "it is a file", out=tmp_path / "file")
        self.refused(tiny, PROMPT, "does not exist", out=tmp_path / "no" / "where")
        self.refused(tiny, PROMPT, "holds no measurement", out=tmp_path)
        with pytest.raises(ValueError, match="no folder of routegraph measure"):
            Measured.load(tmp_path)

    def test_damaged_cells(self, tmp_path):
        cell = sealed({"prompt": {"id": "p"}, "right": [1]}, {"model": "m"})
        path = tmp_path / "c.json"
        write_cell(path, cell)
        assert read_cell(path, {"model": "m"}) == cell
        with pytest.raises(ValueError, match="other settings"):
            read_cell(path, {"model": "n"})
        whole = path.read_text()
        for text, why in (
            ("", "no cell"),
            (whole[:20], "no cell"),
            (whole.replace("[1]", "[0]"), "checksum"),
        ):
            path.write_text(text)
            with pytest.raises(ValueError, match=why):
                read_cell(path, {"model": "m"})
        with pytest.raises(ValueError, match="nothing has been measured"):
            from_cells({}, [])


def test_names_of_policies():
    assert (choose("snapkv").policy, choose("snapkv").table) == ("topk", "snapkv")
    assert choose("snapkv@knorm") == Chosen("snapkv@knorm", "snapkv", "knorm")
    assert choose("chunk", 32).table == "expected_attention/chunk32"
    assert dict(choose("chunk", 32).parameters) == {"chunk_length": 32}
    assert RATIOS[0] == 0
    assert RATIOS[-1] == 0.995
    assert EPS == (0.01, 0.03, 0.1)


@given(st.integers(65, 5000))
def test_chunks_that_can_be_scored(n):
    length = fitting_chunk(n, 64)
    assert n % length == 0 or n % length > 4
    assert length == 64 or 0 < n % 64 <= 4
    assert length > 58


def test_command_line(capsys: Any, tmp_path: Path, short_prompts: list[Prompt]) -> None:
    write_prompts(tmp_path / "p.jsonl", short_prompts[:1])
    arguments = [
        "measure",
        "smollm2",
        "--task",
        tmp_path / "p.jsonl",
        "--policy",
        "topk",
        "--max-new-tokens",
        "2",
    ]
    arguments += [word for ratio in (0.2, 0.5, 0.9) for word in ("--ratio", ratio)]
    status, out, err = run(
        capsys, *arguments, "--out", tmp_path / "m", "--plot", tmp_path / "m.svg", "--json"
    )
    assert status == 0
    document = json.loads(out)
    assert document["results"][0]["policy"] == "topk"
    assert document["parameters"]["ratios"] == [0, 0.2, 0.5, 0.9]
    assert "measured 1 items" in err
    assert "</svg>" in (tmp_path / "m.svg").read_text()
    status, out, _ = run(capsys, *arguments, "--out", tmp_path / "m")
    assert status == 0
    for part in ("Hallucination at the ratio", "Critical ratio", "Which metric tells", "question-agnostic"):
        assert part in out
    status, out, err = run(capsys, *arguments[:2], "--task", "nothing", "--out", tmp_path / "n")
    assert (status, out) == (2, "")
    assert err.startswith("error: unknown task 'nothing'")
    assert err.count("\n") == 1

"""Metrics of an eviction, by hand."""

import math

import numpy as np
import pytest

from routegraph import TokenGraph
from routegraph.graph import heavier
from routegraph.survival import Survival
from routegraph.validate.measure.metrics import Watched, after_metrics, cache_metrics, route_metrics
from routegraph.validate.measure.routed import Reads


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

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph import TokenGraph, reach_thresholds
from routegraph.attention import agreement, consensus, rollout, top_keys, widest_path
from routegraph.policies import apply
from routegraph.routes import backbone, reach_by_layer


@st.composite
def weighted_problems(draw):
    """A small weighted graph with a survival and a source."""
    n_layers, n_heads, n_context, extra = (draw(st.integers(1, k)) for k in (3, 2, 5, 2))
    n_tokens = n_context + extra - 1
    edges = draw(
        st.lists(
            st.tuples(
                st.integers(1, n_layers),
                st.integers(0, n_heads - 1),
                st.integers(0, n_tokens - 1),
                st.integers(0, n_tokens - 1),
                st.sampled_from([0.1, 0.25, 0.5, 1.0]),
            ),
            max_size=14,
        )
    )
    edges = [(layer, head, max(q, k), min(q, k), w) for layer, head, q, k, w in edges]
    columns = list(zip(*edges, strict=True)) if edges else [[], [], [], [], []]
    graph = TokenGraph.from_edges(
        n_layers,
        n_heads,
        n_tokens,
        *(np.array(c, dtype=int) for c in columns[:4]),
        weight=np.array(columns[4], dtype=float),
        n_context=n_context,
    )
    scores = np.array(
        draw(
            st.lists(
                st.integers(0, 3),
                min_size=n_layers * n_heads * n_context,
                max_size=n_layers * n_heads * n_context,
            )
        )
    ).reshape(n_layers, n_heads, n_context)
    return graph, apply("topk", scores), draw(st.integers(0, n_tokens - 1))


def living(graph, survival, level, prune):
    """Surviving edges (layer, head, query, key, weight) in plain Python."""
    for (layer, head, query, key), weight in zip(
        np.array(graph.edges()).T.tolist(), graph.weight.tolist(), strict=True
    ):
        cut = key < graph.n_context and (prune == "columns" or query >= graph.n_context)
        if not cut or survival.drop[layer - 1, head, key] > level:
            yield layer, head, query, key, weight


RATIOS = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8])
PRUNE = st.sampled_from(["columns", "decode"])


@given(problem=weighted_problems(), ratio=RATIOS, prune=PRUNE, residual=st.booleans())
def test_widest_path_equals_trying_every_width(problem, ratio, prune, residual):
    graph, survival, source = problem
    level = survival.level(ratio)
    edges = list(living(graph, survival, level, prune))
    expected = np.zeros(graph.n_tokens)
    for width in (0.1, 0.25, 0.5, 1.0, np.inf):
        at = {source}
        for layer in range(graph.n_layers, 0, -1):
            read = {
                k for l, _, q, k, w in edges if l == layer and q in at and np.float32(w) >= np.float32(width)
            }
            at = read | (at if residual else set())
        for token in at:
            expected[token] = max(expected[token], width)
    found = widest_path(graph, survival, source, ratio, prune, residual)
    assert found == pytest.approx(expected)
    assert np.array_equal(found > 0, _reached(graph, survival, source, level, prune, residual))


def _reached(graph, survival, source, level, prune, residual):
    """Reached at the bottom; unlike `reach_thresholds`, a source must get there to count."""
    at = {source}
    for layer in range(graph.n_layers, 0, -1):
        read = {k for l, _, q, k, _ in living(graph, survival, level, prune) if l == layer and q in at}
        at = read | (at if residual else set())
    return np.isin(np.arange(graph.n_tokens), list(at))


@given(problem=weighted_problems(), ratio=RATIOS, prune=PRUNE, renormalise=st.booleans())
def test_rollout_equals_matrix_products(problem, ratio, prune, renormalise):
    graph, survival, source = problem
    alive = set(living(graph, survival, survival.level(ratio), prune))
    mass = np.eye(graph.n_tokens)[source]
    edges = [(*e, w) for e, w in zip(np.array(graph.edges()).T.tolist(), graph.weight.tolist(), strict=True)]
    for layer in range(graph.n_layers, 0, -1):
        matrix = np.zeros((graph.n_tokens, graph.n_tokens))
        total = np.zeros(graph.n_tokens)
        for l, h, q, k, w in edges:
            if l == layer:
                kept = (l, h, q, k, w) in alive
                matrix[q, k] += w * kept
                total[q] += w if kept or not renormalise else 0
        matrix /= np.where(total > 0, total, 1)[:, None]
        mass = 0.5 * mass + 0.5 * mass @ matrix
    found = rollout(graph, survival, source, ratio, prune, renormalise=renormalise)
    assert found == pytest.approx(mass, abs=1e-6)
    assert found.sum() <= 1 + 1e-6


@given(problem=weighted_problems(), ratio=RATIOS, prune=PRUNE, residual=st.booleans(), data=st.data())
def test_backbone_reaches_all_and_one_token_is_exact(problem, ratio, prune, residual, data):
    graph, survival, source = problem
    level = survival.level(ratio)
    tokens = data.draw(st.lists(st.integers(0, graph.n_tokens - 1), min_size=1, max_size=2, unique=True))
    steps = backbone(graph, survival, source, tokens, level, prune, residual)
    thresholds = reach_thresholds(graph, survival, source, prune, residual)
    if steps is None:
        assert min(thresholds[tokens]) < level
        return
    assert min(thresholds[tokens]) >= level
    alive = [e[:4] for e in living(graph, survival, level, prune)]
    assert set(steps) <= set(alive)
    goals = set(tokens) - {source}

    def joins(slots):
        at = {source}
        for layer in range(graph.n_layers, 0, -1):
            read = {k for l, h, q, k in alive if l == layer and q in at and (l, h, k) in slots}
            at = read | (at if residual else set())
        return goals <= at

    used = {(layer, head, key) for layer, head, _, key in steps}
    assert joins(used)
    candidates = sorted({(l, h, k) for l, h, _, k in alive})
    best = next(
        size
        for size in range(len(candidates) + 1)
        if any(joins(set(chosen)) for chosen in itertools.combinations(candidates, size))
    )
    assert len(used) == best if len(goals) <= 1 else best <= len(used) <= 2 * max(best, 1)


@given(problem=weighted_problems(), prune=PRUNE, residual=st.booleans())
def test_reach_by_layer_equals_walking_down(problem, prune, residual):
    graph, survival, source = problem
    found = reach_by_layer(graph, survival, source, prune, residual)
    for level in range(survival.max_level + 1):
        at = {source}
        for layer in range(graph.n_layers, -1, -1):
            assert set(np.flatnonzero(found[layer] >= level)) == at
            read = {k for l, _, q, k, _ in living(graph, survival, level, prune) if l == layer and q in at}
            at = read | (at if residual else set())


def test_consensus_and_agreement_by_hand():
    tops = np.array([[3, 3, 3, 3], [0, 1, 2, 3], [5, 5, 6, -1], [-1, -1, -1, -1]])
    assert consensus(tops)[:3] == pytest.approx([0.25, 1.0, 2 / 3])
    assert agreement(tops)[:3] == pytest.approx([1.0, 0.25, 2 / 3])
    assert np.isnan(consensus(tops)[3])
    assert np.isnan(agreement(tops)[3])


def test_top_keys_skip_dead_reads_and_sinks():
    reads = np.array([[0, 7, 2], [1, 0, 0]])
    alive = np.array([[True, False, True], [True, True, True]])
    assert top_keys(reads).tolist() == [0, 1]
    assert top_keys(reads, alive, skip_first=1).tolist() == [2, 1]
    assert top_keys(reads, alive, skip_first=2).tolist() == [2, -1]


def test_a_graph_without_weights_is_refused():
    graph = TokenGraph.from_edges(1, 1, 2, [1], [0], [1], [0])
    with pytest.raises(ValueError, match="the graph has no attention weights"):
        widest_path(graph, apply("topk", np.zeros((1, 1, 2))), 1, 0.5)

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import Survival, TokenGraph, reach_thresholds, reach_thresholds_each, winning_ticket
from routegraph.testing import reach_problems
from tests import naive

PRUNE = pytest.mark.parametrize("prune", ["columns", "decode"])
BOTH = pytest.mark.parametrize("residual", [True, False], ids=["residual", "reads-only"])
#: Few tokens and many edges: routes compete.
dense = st.booleans().flatmap(
    lambda causal: reach_problems(causal=causal, max_tokens=3, min_edges=6, max_edges=12)
)
problems = st.booleans().flatmap(lambda causal: reach_problems(causal=causal))


def rows(graph):
    return list(zip(*(column.tolist() for column in graph.edges()), strict=True))


def rebuilt(graph, edges):
    columns = np.array(edges, dtype=np.int64).reshape(-1, 4).T
    return TokenGraph.from_edges(
        graph.n_layers, graph.n_heads, graph.n_tokens, *columns, n_context=graph.n_context, causal=False
    )


@PRUNE
@BOTH
@given(problems)
def test_thresholds_equal_a_naive_search_at_every_level(prune, residual, problem):
    graph, survival, sources = problem
    twin = naive.reach_thresholds(
        rows(graph),
        survival.drop.tolist(),
        graph.n_tokens,
        graph.n_context,
        survival.max_level,
        sources,
        prune,
        residual,
    )
    got = reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
    assert got.dtype == np.int64
    assert got.tolist() == twin


@PRUNE
@BOTH
@given(problems)
def test_reach_equals_networkx_at_every_level(prune, residual, problem):
    graph, survival, sources = problem
    thresholds = reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
    for level in range(survival.max_level + 1):
        pruned = nx.DiGraph()
        pruned.add_nodes_from((i, j) for i in range(graph.n_layers + 1) for j in range(graph.n_tokens))
        for layer, head, query, key in rows(graph):
            cache_row = key < graph.n_context
            cut = cache_row and (prune == "columns" or query >= graph.n_context)
            if not cut or survival.drop[layer - 1, head, key] > level:
                pruned.add_edge((layer, query), (layer - 1, key))
        if residual:
            for layer in range(1, graph.n_layers + 1):
                pruned.add_edges_from(((layer, i), (layer - 1, i)) for i in range(graph.n_tokens))
        found = set(sources)
        for source in sources:
            found |= {i for layer, i in nx.descendants(pruned, (graph.n_layers, source)) if layer == 0}
        assert set(np.flatnonzero(thresholds >= level).tolist()) == found


@given(problems, st.floats(0, 1, exclude_max=True))
def test_a_ratio_asks_for_the_tokens_whose_threshold_holds_its_level(problem, ratio):
    graph, survival, sources = problem
    alive = survival.alive(ratio)
    existing = [e for e in rows(graph) if e[3] >= graph.n_context or alive[e[0] - 1, e[1], e[3]]]
    reached = naive.reached(existing, graph.n_layers, sources, residual=True)
    thresholds = reach_thresholds(graph, survival, sources)
    assert set(np.flatnonzero(survival.level(ratio) <= thresholds).tolist()) == reached


@PRUNE
@BOTH
@given(problems, st.data())
def test_thresholds_of_a_table_frozen_at_one_level(prune, residual, problem, data):
    """Falls with the level: a slot alive at a level counts as never dying, any other as dying at once."""
    graph, survival, sources = problem
    level = data.draw(st.integers(0, survival.max_level))
    never = survival.max_level + 1
    frozen = Survival(np.where(survival.drop > level, never, 0), survival.steps)
    whole = reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
    at_level = reach_thresholds(graph, frozen, sources, prune=prune, residual=residual)
    assert np.array_equal(whole >= level, at_level == survival.max_level)


@PRUNE
@BOTH
@given(problems, st.data())
def test_thresholds_rise_with_edges_sources_and_survival(prune, residual, problem, data):
    graph, survival, sources = problem
    full = reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
    keep = data.draw(st.lists(st.booleans(), min_size=graph.n_edges, max_size=graph.n_edges))
    fewer_edges = rebuilt(graph, [e for e, kept in zip(rows(graph), keep, strict=True) if kept])
    assert (reach_thresholds(fewer_edges, survival, sources, prune=prune, residual=residual) <= full).all()
    assert (reach_thresholds(graph, survival, sources[:1], prune=prune, residual=residual) <= full).all()
    earlier = Survival(np.maximum(survival.drop - 1, 0), survival.steps)
    assert (reach_thresholds(graph, earlier, sources, prune=prune, residual=residual) <= full).all()


@given(problems)
def test_residual_and_decode_only_add(problem):
    graph, survival, sources = problem
    t = {
        (prune, residual): reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
        for prune in ("columns", "decode")
        for residual in (True, False)
    }
    for residual in (True, False):
        assert (t["decode", residual] >= t["columns", residual]).all()
    for prune in ("columns", "decode"):
        assert (t[prune, True] >= t[prune, False]).all()


@PRUNE
@BOTH
@given(problems)
def test_each_source_alone_and_the_best_of_them(prune, residual, problem):
    graph, survival, sources = problem
    each = reach_thresholds_each(graph, survival, sources, prune=prune, residual=residual)
    assert each.shape == (len(sources), graph.n_tokens)
    for source, row in zip(sources, each, strict=True):
        alone = reach_thresholds(graph, survival, source, prune=prune, residual=residual)
        assert np.array_equal(row, alone)
    joint = reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
    assert np.array_equal(each.max(axis=0), joint)


@given(problems, st.data())
def test_relabelling_heads_changes_nothing(problem, data):
    graph, survival, sources = problem
    label = data.draw(st.permutations(range(graph.n_heads)))
    moved = [(layer, label[head], query, key) for layer, head, query, key in rows(graph)]
    drop = np.empty_like(survival.drop)
    drop[:, label] = survival.drop
    before = reach_thresholds(graph, survival, sources)
    after = reach_thresholds(rebuilt(graph, moved), Survival(drop, survival.steps), sources)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
@settings(max_examples=10)
@given(problem=problems)
def test_the_integer_type_of_drop_does_not_matter(dtype, problem):
    graph, survival, sources = problem
    other = Survival(survival.drop.astype(dtype), survival.steps)
    assert np.array_equal(reach_thresholds(graph, other, sources), reach_thresholds(graph, survival, sources))
    for token in range(graph.n_tokens):
        ticket = winning_ticket(graph, survival, sources, token)
        assert winning_ticket(graph, other, sources, token) == ticket


def test_defaults_are_columns_with_residual():
    """Query 2 reads 1 at the top, 1 reads 0 below; slots die at levels 2 and 1."""
    graph = TokenGraph.from_edges(2, 1, 3, [2, 1], [0, 0], [2, 1], [1, 0], n_context=2)
    survival = Survival([[[1, 2]], [[1, 2]]])
    assert reach_thresholds(graph, survival, 2).tolist() == [0, 1, 2]
    assert reach_thresholds(graph, survival, 2, prune="decode").tolist() == [1, 1, 2]
    assert reach_thresholds(graph, survival, 2, residual=False).tolist() == [0, -1, 2]
    assert winning_ticket(graph, survival, 2, 0) == [(2, 0, 2, 1), (1, 0, 1, 0)]
    assert winning_ticket(graph, survival, 2, 1) == [(2, 0, 2, 1)]


@pytest.mark.parametrize(
    ("edges", "drop", "prune", "residual", "ticket"),
    [
        # Two heads read the same key: the one whose slot lives longer.
        ([(2, 0, 2, 0), (2, 1, 2, 0)], {(2, 0, 0): 2, (2, 1, 0): 3}, "columns", True, [(2, 1, 2, 0)]),
        # One read is enough where a detour over token 1 takes two.
        ([(2, 0, 2, 1), (1, 0, 1, 0), (1, 0, 2, 0)], {}, "columns", True, [(1, 0, 2, 0)]),
        # The detour wins where it lives longer.
        (
            [(2, 0, 2, 1), (1, 0, 1, 0), (1, 1, 2, 0)],
            {(1, 1, 0): 2},
            "columns",
            True,
            [(2, 0, 2, 1), (1, 0, 1, 0)],
        ),
        # Without residual every layer needs a read, of itself if need be.
        ([(2, 0, 2, 2), (1, 0, 2, 0)], {(1, 0, 0): 1}, "columns", False, [(2, 0, 2, 2), (1, 0, 2, 0)]),
        # Key 2 is no cache row: it never dies, whatever the last cache row does.
        ([(2, 0, 2, 2), (1, 0, 2, 0)], {(2, 0, 1): 1}, "columns", False, [(2, 0, 2, 2), (1, 0, 2, 0)]),
        # Only the query's own reads are cut in decode: the read by token 1 outlives that by token 2.
        (
            [(2, 1, 2, 1), (1, 0, 1, 0), (1, 0, 2, 0)],
            {(1, 0, 0): 1},
            "decode",
            True,
            [(2, 1, 2, 1), (1, 0, 1, 0)],
        ),
        # No route.
        ([(2, 0, 2, 1), (2, 0, 1, 0)], {}, "columns", True, None),
    ],
)
def test_winning_ticket_by_hand(edges, drop, prune, residual, ticket):
    graph = rebuilt(TokenGraph.from_edges(2, 2, 3, [], [], [], [], n_context=2), edges)
    table = np.full((2, 2, 2), 3)
    for (layer, head, key), level in drop.items():
        table[layer - 1, head, key] = level
    assert winning_ticket(graph, Survival(table), 2, 0, prune=prune, residual=residual) == ticket


def test_winning_ticket_leaves_the_token_unread_as_long_as_that_is_cheaper():
    """Token 0 is reached above the last layer too, but by two reads."""
    edges = [(3, 0, 2, 1), (2, 0, 1, 0), (1, 0, 2, 0)]
    graph = rebuilt(TokenGraph.from_edges(3, 1, 3, [], [], [], []), edges)
    assert winning_ticket(graph, Survival(np.full((3, 1, 3), 4)), 2, 0) == [(1, 0, 2, 0)]


@PRUNE
@BOTH
@settings(max_examples=120)
@given(problem=dense)
def test_winning_ticket_is_the_longest_lived_of_all_routes(prune, residual, problem):
    graph, survival, sources = problem
    thresholds = reach_thresholds(graph, survival, sources, prune=prune, residual=residual)
    for token in range(graph.n_tokens):
        ticket = winning_ticket(graph, survival, sources, token, prune=prune, residual=residual)
        survives_to = naive.check_ticket(
            ticket,
            rows(graph),
            survival.drop.tolist(),
            graph.n_context,
            survival.max_level,
            sources,
            token,
            prune,
            residual,
        )
        assert survives_to == thresholds[token]
        assert (ticket is None) == (thresholds[token] == -1)


@given(problems)
def test_weakest_slot_of_the_ticket_dies_just_above_the_threshold(problem):
    graph, survival, sources = problem
    thresholds = reach_thresholds(graph, survival, sources)
    tickets = [winning_ticket(graph, survival, sources, t) for t in range(graph.n_tokens)]
    for ticket, threshold in zip(tickets, thresholds, strict=True):
        cuttable = [
            int(survival.drop[layer - 1, head, key])
            for layer, head, _, key in ticket or []
            if key < graph.n_context
        ]
        if cuttable:
            assert min(cuttable) - 1 == threshold


@pytest.fixture
def small():
    graph = TokenGraph.from_edges(2, 1, 3, [2, 1], [0, 0], [2, 1], [1, 0], n_context=2)
    return graph, Survival([[[1, 2]], [[1, 2]]])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (3, r"source must be in 0\.\.2, got 3"),
        ([0, -1], r"source must be in 0\.\.2, got -1"),
        ([], "at least one source is needed"),
        ([0.5], r"source must be an integer position, got .*0\.5"),
        ([[0], [1]], "at least one source is needed, as a list"),
    ],
    ids=str,
)
@pytest.mark.parametrize("function", [reach_thresholds, reach_thresholds_each])
def test_bad_sources_are_refused(small, function, sources, message):
    with pytest.raises(ValueError, match=message):
        function(*small, sources)


@pytest.mark.parametrize("function", [reach_thresholds, reach_thresholds_each])
def test_unknown_pruning_is_refused_with_the_choices(small, function):
    with pytest.raises(ValueError, match="unknown pruning 'rows'; choose from: columns, decode"):
        function(*small, 0, prune="rows")


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 2, 2), (2, 1, 3)])
@pytest.mark.parametrize("function", [reach_thresholds, reach_thresholds_each])
def test_mismatched_sizes_are_refused(small, function, shape):
    with pytest.raises(ValueError) as refused:
        function(small[0], Survival(np.ones(shape, int)), 0)
    assert "(2, 1, 2)" in str(refused.value)
    assert str(shape) in str(refused.value)


def test_bad_ticket_arguments_are_refused(small):
    with pytest.raises(ValueError, match=r"token must be in 0\.\.2, got 3"):
        winning_ticket(*small, 0, 3)
    with pytest.raises(ValueError, match=r"source must be in 0\.\.2, got 9"):
        winning_ticket(*small, 9, 0)
    with pytest.raises(ValueError, match="unknown pruning 'rows'"):
        winning_ticket(*small, 0, 0, prune="rows")

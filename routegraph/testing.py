"""What routegraph tests itself with, for those who extend it: hypothesis strategies and the laws.

Needs hypothesis: the extra ``testing``.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError:
    raise ImportError(
        "routegraph.testing needs hypothesis; install it with: pip install 'routegraph[testing]'"
    ) from None

from routegraph import policies
from routegraph.graph import TokenGraph
from routegraph.sim.decoding.policies import deaths, decoding_policies, is_apart
from routegraph.sim.decoding.slot import Attention, Slot
from routegraph.sim.ensembles import Edges, ensembles
from routegraph.survival import Survival, eviction_rate
from routegraph.validate.graders import Grader, graders

__all__ = ["check_laws", "ratios", "reach_problems", "survivals", "token_graphs"]


@st.composite
def token_graphs(
    draw: st.DrawFn,
    *,
    max_layers: int = 3,
    max_heads: int = 2,
    max_tokens: int = 5,
    min_edges: int = 0,
    max_edges: int = 16,
    causal: bool = True,
    weighted: bool = False,
) -> TokenGraph:
    """Draw small graphs: down to one layer, head and token and no edge; parallel edges; n_context <= n_tokens.

    Parameters
    ----------
    max_layers, max_heads, max_tokens, max_edges : int
        Largest sizes.
    min_edges : int
        Fewest edges.
    causal : bool
        Keys at or before their query (default), or anywhere.
    weighted : bool
        Give every edge an attention weight.
    """
    n_layers = draw(st.integers(1, max_layers))
    n_heads = draw(st.integers(1, max_heads))
    n_tokens = draw(st.integers(1, max_tokens))
    n_context = draw(st.integers(1, n_tokens))
    position = st.integers(0, n_tokens - 1)
    edge = st.tuples(st.integers(1, n_layers), st.integers(0, n_heads - 1), position, position)
    edges = draw(st.lists(edge, min_size=min_edges, max_size=max_edges))
    if causal:
        edges = [(layer, head, max(a, b), min(a, b)) for layer, head, a, b in edges]
    weight = None
    if weighted:
        weight = draw(st.lists(st.floats(0, 1, width=32), min_size=len(edges), max_size=len(edges)))
    layers, heads, queries, keys = np.array(edges, dtype=np.int64).reshape(-1, 4).T
    return TokenGraph.from_edges(
        n_layers,
        n_heads,
        n_tokens,
        layers,
        heads,
        queries,
        keys,
        weight=weight,
        n_context=n_context,
        causal=causal,
    )


@st.composite
def survivals(
    draw: st.DrawFn, n_layers: int, n_heads: int, n_context: int, steps: bool | None = None
) -> Survival:
    """Draw survival tables of a given shape, ties and the extremes 1 and max_level + 1 included.

    Parameters
    ----------
    n_layers, n_heads, n_context : int
        Shape of `drop`.
    steps : bool, optional
        With `steps` (True), without (False), or either (default).
    """
    if steps is None:
        steps = draw(st.booleans())
    ratios = None
    if steps:
        ratio = st.floats(0, 1, exclude_max=True)
        ratios = np.array(sorted(draw(st.lists(ratio, max_size=5, unique=True))), dtype=float)
    max_level = n_context if ratios is None else len(ratios)
    entries = st.integers(0, max_level + 1)
    return Survival(draw(hnp.arrays(np.int32, (n_layers, n_heads, n_context), elements=entries)), ratios)


@st.composite
def reach_problems(draw: st.DrawFn, **graph: Any) -> tuple[TokenGraph, Survival, list[int]]:
    """Draw a graph, a survival table that fits it, and one to three sources; keywords as for `token_graphs`."""
    made = draw(token_graphs(**graph))
    survival = draw(survivals(made.n_layers, made.n_heads, made.n_context))
    sources = draw(st.lists(st.integers(0, made.n_tokens - 1), min_size=1, max_size=3))
    return made, survival, sources


def ratios(n: int) -> st.SearchStrategy[float]:
    """Return a strategy of compression ratios, many at or beside a change of the kept number of n rows."""
    exact = [k / n for k in range(n)] + [1 - k / n for k in range(1, n + 1)]
    near = [math.nextafter(r, side) for r in exact for side in (0, 1)]
    return st.one_of(
        st.sampled_from(sorted({r for r in exact + near if 0 <= r < 1})),
        st.floats(0, 1, exclude_max=True),
    )


def check_laws(name: str, examples: int = 40, **parameters: Any) -> None:
    """Check that a registered policy (of decoding, too), ensemble or grader obeys the laws that routegraph relies on.

    Parameters
    ----------
    name : str
        Name of a policy, a policy of decoding, an ensemble or a grader, registered with `@policy`, `@decoding_policy`,
        `@ensemble` or `@grader`.
    examples : int
        Random inputs tried.
    **parameters
        Its own parameters; for an ensemble also n_heads and degree, if it does not take any.

    Raises
    ------
    AssertionError
        With the law that is broken; hypothesis shows the smallest input it found.
    ValueError
        If nothing of that name is registered.

    Notes
    -----
    Policy: at ratio 0 everything is kept; every layer keeps a row at ratio 0.5; the kept rows at a higher ratio
    are among those at a lower one and GER does not fall (unless the policy says it is not nested, by asking for
    the ratio); relabelling heads relabels the result (unless it looks at no scores); the same scores give the
    same result. Policy of decoding: no row dies before it has come, or between cuts; no cut leaves more than the
    budget; with a budget for all rows nothing dies; the same slot gives the same result, at one thread and at two.
    Ensemble: keys at or before their query, slots in range, `degree` reads a head where reads are
    regular, the same key the same edges, at one thread and at two. Grader: a score from 0 to 1, the answer itself is
    right, an empty reply is not, the same reply gets the same score.
    """
    checks = [
        (policies.policies, _policy_laws),
        (decoding_policies, _decoding_laws),
        (ensembles, _ensemble_laws),
        (graders, _grader_laws),
    ]
    known = [check for registry, check in checks if name in registry]
    if not known:
        choices = ", ".join(name for registry, _ in checks for name in registry)
        raise ValueError(f"no policy, ensemble or grader {name!r} is registered; choose from: {choices}")
    for check in known:
        check(name, examples, parameters)


def _policy_laws(name: str, examples: int, parameters: dict[str, Any]) -> None:
    nested = policies.is_nested(name)
    grid = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99]

    def alive(scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Return what is kept at every ratio of the grid, bool[n_ratios, layers, heads, rows]."""
        if nested:
            survival = policies.apply(name, scores, **parameters)
            return np.array([survival.alive(ratio) for ratio in grid])
        each = [policies.apply(name, scores, ratio=ratio, **parameters).alive(ratio) for ratio in grid]
        return np.array(each)

    @settings(max_examples=examples, deadline=None, derandomize=True, report_multiple_bugs=False)
    @given(shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([100, 130])), data=st.data())
    def laws(shape: tuple[int, int, int], data: st.DataObject) -> None:
        # Distinct scores: a policy may break ties between heads by their number.
        seed = data.draw(st.integers(0, 2**32 - 1))
        scores = np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape) / math.prod(shape)
        kept = alive(scores)
        assert kept[0].all(), "at ratio 0 every row must be kept"
        assert kept[:4].any(axis=(2, 3)).all(), "every layer must keep a row at ratio 0.5"
        assert np.array_equal(kept, alive(scores)), "the same scores must give the same result"
        if nested:
            assert not (kept[1:] & ~kept[:-1]).any(), "a row that is gone must stay gone at higher ratios"
            survival = policies.apply(name, scores, **parameters)
            for over in ("model", "layer"):
                assert (np.diff(eviction_rate(survival, grid, over)) >= 0).all(), "GER must not fall"
        if not np.array_equal(kept, alive(np.zeros_like(scores))):
            order = data.draw(st.permutations(range(shape[1])))
            relabelled = alive(scores[:, order])
            assert np.array_equal(relabelled, kept[:, :, order]), "relabelling heads must relabel the result"

    laws()


def _decoding_laws(name: str, examples: int, parameters: dict[str, Any]) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, report_multiple_bugs=False)
    @given(
        key=st.integers(0, 2**64 - 1).map(np.uint64),
        n_prefill=st.sampled_from([1, 2, 15, 16, 17, 40]),
        n_steps=st.sampled_from([12, 13, 50]),
        budget=st.integers(12, 30),
        interval=st.sampled_from([1, 2, 5, 12]),
        attention=st.builds(
            Attention,
            st.sampled_from([0.0, 1.0, 5.0]),
            st.sampled_from([0.0, 0.9, 1.0]),
            st.sampled_from([0.0, 0.1]),
        ),
    )
    def laws(
        key: np.uint64, n_prefill: int, n_steps: int, budget: int, interval: int, attention: Attention
    ) -> None:
        slot = Slot(key, 2, 1, n_prefill, n_steps, budget, interval, attention)
        death = deaths(name, slot, **parameters)
        came = np.maximum(np.arange(slot.n_rows) - n_prefill + 1, 0)
        gone = death <= n_steps
        assert death.shape == (slot.n_rows,), "there must be a step for every row"
        assert death.min() >= 1, "no row may die before step 1"
        assert death.max() <= slot.never, "a row that never dies must have the step after the last"
        assert (death >= came).all(), "no row may die before it has come"
        assert (death[gone] % interval == 0).all(), "rows may die at cuts only"
        counted = slice(n_prefill if is_apart(name) else 0, None)
        for step in range(interval, n_steps + 1, interval):
            left = np.sum((came <= step)[counted] & (death > step)[counted])
            assert left <= budget, "no cut may leave more rows than the budget"
        roomy = Slot(key, 2, 1, n_prefill, n_steps, slot.n_rows, interval, attention)
        assert (deaths(name, roomy, **parameters) == slot.never).all(), "with room for all no row may die"
        with ThreadPoolExecutor(2) as pool:
            for again in pool.map(lambda _: deaths(name, slot, **parameters), range(2)):
                assert np.array_equal(again, death), "the same slot must give the same result"

    laws()


def _ensemble_laws(name: str, examples: int, parameters: dict[str, Any]) -> None:
    own = {k: v for k, v in parameters.items() if k not in ("n_heads", "degree")}
    ensembles.check_parameters(name, own)

    @settings(max_examples=examples, deadline=None, derandomize=True, report_multiple_bugs=False)
    @given(
        key=st.integers(0, 2**64 - 1).map(np.uint64),
        layer=st.integers(1, 5),
        n_tokens=st.sampled_from([1, 2, 3, 17, 64]),
        n_heads=st.just(parameters["n_heads"]) if "n_heads" in parameters else st.integers(1, 3),
        degree=st.just(parameters["degree"]) if "degree" in parameters else st.integers(1, 3),
    )
    def laws(key: np.uint64, layer: int, n_tokens: int, n_heads: int, degree: int) -> None:
        def draw() -> Edges:
            edges: Edges = ensembles[name](
                key, layer, n_tokens=n_tokens, n_heads=n_heads, degree=degree, **own
            )
            return edges

        edges = draw()
        counts = np.diff(edges.indptr)
        assert edges.indptr[0] == 0, "indptr must start at 0"
        assert edges.indptr[-1] == len(edges.slots), "indptr must end at the number of edges"
        assert len(counts) == n_tokens, "indptr must have an entry for every query, and one more"
        assert (counts >= 0).all(), "indptr must not fall"
        query, read = np.repeat(np.arange(n_tokens), counts), edges.slots // n_heads
        assert (read >= 0).all(), "keys must not be negative"
        assert (read <= query).all(), "keys must not come after their query"
        if len(edges.slots) == n_tokens * n_heads * degree:
            heads = np.bincount(query * n_heads + edges.slots % n_heads, minlength=n_tokens * n_heads)
            assert (heads == degree).all(), "every head of every query must read `degree` keys"
        with ThreadPoolExecutor(2) as pool:
            for again in pool.map(lambda _: draw(), range(2)):
                assert np.array_equal(again.slots, edges.slots), "the same key must give the same edges"

    laws()


def _grader_laws(name: str, examples: int, parameters: dict[str, Any]) -> None:
    told = ",".join(f"{key}={value}" for key, value in parameters.items())
    found = Grader.named(f"{name}:{told}" if told else name)
    # Answers to every grader: options' texts, numbers, words and patterns at once.
    numbers = tuple(map(str, range(8)))

    @settings(max_examples=examples, deadline=None, derandomize=True, report_multiple_bugs=False)
    @given(
        gold=st.integers(0, 7),
        others=st.lists(st.integers(0, 7), max_size=3),
        reply=st.text() | st.text("ABCDEFGH01234567 .,\n", max_size=12),
    )
    def laws(gold: int, others: list[int], reply: str) -> None:
        golds = [numbers[one] for one in (gold, *others)]
        score = found.score(reply, golds, numbers)
        assert 0 <= score <= 1, "a score must be in [0, 1]"
        assert found.score(reply, golds, numbers) == score, "the same reply must give the same score"
        assert not found.right(found.score("", golds, numbers)), "an empty reply must not be right"
        assert found.right(found.score(golds[0], golds[:1], numbers)), "the answer itself must be right"

    laws()

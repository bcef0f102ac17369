"""How much of a reply's support an eviction takes: against plain loops, and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routegraph.validate.predict.dependence import Dependence
from routegraph.validate.predict.reads import Flow
from routegraph.validate.predict.support import Support, flow_sources, read_support, support_of
from routegraph.validate.presses.prefill import prefill
from tests.helpers.replies import CONTEXT, N_CONTEXT, QUESTION, REPLY, network

SHAPE = (2, 2, 5)
WEIGHTS = st.floats(0, 4, width=32, allow_subnormal=False) | st.just(0.0)
SUPPORTS = st.builds(
    Support,
    st.integers(1, 3).flatmap(lambda rows: arrays(np.float32, (rows, *SHAPE), elements=WEIGHTS)),
    arrays(np.float32, SHAPE, elements=WEIGHTS),
    arrays(np.float32, SHAPE, elements=WEIGHTS),
)
SETS = st.integers(1, 20).flatmap(lambda n: arrays(np.bool_, (n, *SHAPE)))


def naive(given: np.ndarray, alive: np.ndarray) -> float:
    """Return the share on dead slots, slot by slot; 0 of nothing."""
    whole = lost = 0.0
    for slot in np.ndindex(*given.shape):
        whole += float(given[slot])
        lost += 0.0 if alive[slot] else float(given[slot])
    return lost / whole if whole else 0.0


@given(SUPPORTS, SETS)
def test_is_what_a_plain_loop_finds(support, alive):
    shares = support.shares(alive)
    for v, one in enumerate(alive):
        rows = [naive(row, one) for row in support.routes]
        expected = [max(rows), naive(support.sources, one), naive(support.dependence, one)]
        np.testing.assert_allclose(shares[:, v], expected, atol=1e-6)
    np.testing.assert_allclose(support.lost(alive), shares.mean(axis=0))


@given(SUPPORTS, arrays(np.bool_, SHAPE), arrays(np.bool_, SHAPE))
def test_laws(support, alive, other):
    """All alive: nothing is lost; all dead: all that there is; fewer alive: no less."""
    ends = support.shares(np.array([np.ones(SHAPE, bool), np.zeros(SHAPE, bool)]))
    parts = [support.routes.any(), support.sources.any(), support.dependence.any()]
    np.testing.assert_allclose(ends[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(ends[:, 1], np.array(parts, float))
    more, less = support.shares(np.array([alive, alive & other])).T
    assert (less >= more - 1e-9).all()


def test_sources_are_what_is_read_of_them_and_without_sources_the_largest_flow_counts():
    rng = np.random.default_rng(0)
    flow = rng.random((2, 2, 2, 15)).astype(np.float32)
    read = rng.random((2, 2, 15)).astype(np.float32)
    reads = Flow(flow, read, np.ones((2, 3), np.float32))
    parts = rng.normal(size=(2, 2, 15)).astype(np.float32)
    support = support_of(reads, Dependence(1.0, 1.0, parts), np.array([3, 7]))
    assert (support.sources[..., [3, 7]] == read[..., [3, 7]]).all()
    assert np.flatnonzero(support.sources.any(axis=(0, 1))).tolist() == [3, 7]
    assert (support.dependence == np.maximum(parts, 0)).all()
    none = support_of(reads, Dependence(1.0, 1.0, parts), np.array([], int))
    largest = np.sort(np.argsort(-flow.sum(axis=(0, 1, 2)))[:10])
    assert np.flatnonzero(none.sources.any(axis=(0, 1))).tolist() == largest.tolist()
    assert flow_sources(reads).tolist() == largest.tolist()


def test_a_real_reply():
    import torch

    model = network("qwen2")
    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    support = read_support(model, cache, QUESTION, REPLY, np.array([2]))
    alive = np.ones((2, model.n_layers, model.n_heads, N_CONTEXT), bool)
    alive[1, :, :, 2] = False
    shares = support.shares(alive)
    assert shares[:, 0] == pytest.approx(0, abs=1e-9)
    assert shares[1, 1] == pytest.approx(1)
    assert 0 < shares[0, 1] < 1

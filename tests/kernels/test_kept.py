"""What variants weigh of a shared cache and of their own rows, against a twin in double precision, query by query."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import softmax

from routegraph.kernels.kept import hide, largest, weigh_kept

WIDTH = 8


@dataclass(frozen=True, eq=False)
class Pass:
    """Queries of one KV head, what they read, and whose they are."""

    queries: np.ndarray
    shared: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    gone: np.ndarray
    variant: np.ndarray
    place: np.ndarray
    head: int
    window: int

    @classmethod
    def of(cls, n_queries, n_context, n_own, share_gone, loud, window, seed):
        rng, n_variants, n_heads = np.random.default_rng(seed), 3, 2

        def normal(*shape):
            return rng.standard_normal(shape).astype(np.float32)

        rows = n_variants, n_heads, n_own, WIDTH
        return cls(
            normal(n_queries, WIDTH) * np.float32(loud),
            normal(n_context, WIDTH),
            normal(*rows),
            normal(*rows),
            rng.random((n_variants, n_heads, n_context)) < share_gone,
            rng.integers(n_variants, size=n_queries),
            rng.integers(n_own, size=n_queries),
            int(rng.integers(n_heads)),
            window,
        )

    def weighed(self):
        """Return the weights of the context, and what is read of the own rows, as the kernel finds them."""
        n_queries, n_context = len(self.queries), len(self.shared)
        logits = np.full((n_queries, n_context + self.keys.shape[2]), np.nan, np.float32)
        logits[:, :n_context] = self.queries @ self.shared.T
        read, scales = np.full((n_queries, WIDTH), np.nan, np.float32), np.full(n_queries, np.nan, np.float32)
        own = self.keys, self.values, self.head, self.variant, self.place, self.gone
        weigh_kept(logits, self.queries, *own, self.window, read, scales)
        return logits[:, :n_context] * scales[:, None], read * scales[:, None]

    def twin(self):
        weights, read = [], []
        for query, who, place in zip(self.queries.astype(float), self.variant, self.place, strict=True):
            keys = np.concatenate([self.shared, self.keys[who, self.head]])
            seen = np.concatenate([~self.gone[who, self.head], np.arange(self.keys.shape[2]) <= place])
            position = len(self.shared) + place
            seen &= (np.arange(len(keys)) > position - self.window) | (self.window == 0)
            row = softmax(np.where(seen, keys @ query, -np.inf))
            weights.append(row[: len(self.shared)])
            read.append(row[len(self.shared) :] @ self.values[who, self.head])
        return np.array(weights), np.array(read)


passes = st.builds(
    Pass.of,
    n_queries=st.integers(1, 6),
    n_context=st.integers(1, 300),
    n_own=st.integers(1, 5),
    share_gone=st.sampled_from([0.0, 0.5, 0.97, 1.0]),
    loud=st.sampled_from([0.0, 0.3, 10.0]),
    window=st.sampled_from([0, 1, 2, 4, 40, 1000]),
    seed=st.integers(0, 2**32 - 1),
)


@given(passes)
@example(Pass.of(1, 1, 1, 1.0, 0.0, 0, 0))
@example(Pass.of(4, 257, 5, 0.5, 10.0, 3, 1))  # a window that begins within the own rows
def test_weights_and_what_is_read_are_the_twins(one):
    found, twin = one.weighed(), one.twin()
    for ours, theirs in zip(found, twin, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6)
    assert (found[0][one.gone[one.variant, one.head]] == 0).all()


@pytest.mark.parametrize("row", [[-1.5], [-np.inf, -3.0], [0.0, -0.0, 2.5, -7.0], [-np.inf]])
def test_the_largest_of_a_row(row):
    assert largest(np.array(row, np.float32)) == max(row)


def test_what_is_gone_is_minus_infinity_and_the_rest_is_left():
    row = np.arange(5, dtype=np.float32)
    hide(row, np.array([True, False, False, True, False]))
    assert row.tolist() == [-np.inf, 1, 2, -np.inf, 4]

"""Policies that evict while a real model decodes: each against its slow twin, and what all declare."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.presses.decoding import REPLY_POLICIES, Seen, keeping

WIDTH = 4


def seen(seed: int, n: int, *, heads: int = 2, group: int = 2, budget: int = 12, gap: int = 0) -> Seen:
    """A layer as a policy sees it: some rows of n + gap, few keys that differ, numbers that no scale hides."""
    import torch

    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(3, WIDTH))
    keys = kinds[rng.integers(3, size=(heads, n))] + 0.3 * rng.normal(size=(heads, n, WIDTH))
    rows = np.array(
        [[*np.sort(rng.permutation(n + gap - 1)[: n - 1]).tolist(), n + gap - 1] for _ in range(heads)]
    )

    def tensor(array: Any) -> Any:
        return torch.tensor(array, dtype=torch.float32)

    return Seen(
        SimpleNamespace(layer_idx=1, scaling=1 / math.sqrt(WIDTH)),
        {},
        None,
        tensor(keys)[None],
        tensor(rng.normal(size=keys.shape))[None],
        torch.from_numpy(rows),
        tensor(rng.exponential(size=(heads, n))),
        tensor(rng.normal(size=(heads * group, 8, WIDTH))),
        budget,
        3,
        7,
    )


def worth(policy: str, one: Seen, **parameters: Any) -> np.ndarray:
    return REPLY_POLICIES[policy](**parameters).worth(one).double().numpy()


def rkv_twin(one: Seen, window: int, kernel: int, mix: float, threshold: float, latest: bool) -> np.ndarray:
    """R-KV by its definition, number by number."""
    keys, queries = one.keys[0].double().numpy(), one.queries.double().numpy()
    heads, n, width = keys.shape
    inside = min(window, n - 1)
    old = n - inside
    queries = queries[:, -inside:]
    group = len(queries) // heads
    found = np.full((heads, n), np.inf)
    for h in range(heads):
        attention = np.zeros(old)
        for q in range(queries.shape[1]):
            logits = [
                max(queries[h * group + g, q] @ keys[h, i] / math.sqrt(width) for g in range(group))
                for i in range(old)
            ]
            weights = [math.exp(one_ - max(logits)) for one_ in logits]
            attention += np.array(weights) / sum(weights) / queries.shape[1]
        half = kernel // 2
        importance = [max(attention[max(0, i - half) : i + half + 1]) for i in range(old)]
        alike = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    norms = np.linalg.norm(keys[h, i]) * np.linalg.norm(keys[h, j])
                    alike[i, j] = keys[h, i] @ keys[h, j] / norms
        if latest:
            spared = [max([j for j in range(n) if alike[i, j] > threshold], default=0) for i in range(n)]
            for i, j in enumerate(spared):
                alike[i, j] = 0
        mean = [sum(alike[i, j] for i in range(n)) / n for j in range(n)]
        total = sum(math.exp(m) for m in mean)
        for j in range(old):
            found[h, j] = mix * importance[j] - (1 - mix) * math.exp(mean[j]) / total
    return found


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(2, 20),
    st.sampled_from([(2, 1), (1, 3), (2, 2)]),
    st.integers(1, 8),
    st.sampled_from([1, 3, 7]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.booleans(),
)
def test_rkv_is_its_definition(seed, n, heads_group, window, kernel, mix, latest):
    heads, group = heads_group
    one = seen(seed, n, heads=heads, group=group)
    ours = worth("rkv", one, window=window, kernel_size=kernel, mix=mix, latest=latest)
    theirs = rkv_twin(one, window, kernel, mix, 0.5, latest)
    assert np.array_equal(np.isinf(ours), np.isinf(theirs))
    assert np.allclose(ours, theirs, atol=1e-5)


def test_rkv_lets_go_of_what_is_said_twice():
    """Of equal keys the latest is spared; one that is like no other is worth more than any of them."""
    import torch

    one = seen(0, 12, heads=1, group=1)
    keys = torch.zeros(1, 1, 12, WIDTH)
    keys[..., 0] = 1.0
    keys[:, :, 1] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    alike = Seen(**{**vars(one), "keys": keys})
    values = worth("rkv", alike, window=2, mix=0.0)[0]
    assert values[1] == values[:10].max()
    assert np.ptp(np.delete(values[:10], 1)) < 1e-6
    within = worth("rkv", alike, window=1, mix=0.0)[0]
    assert np.isinf(within[11])
    assert np.isfinite(within[10])


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(3, 20), st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5]))
def test_h2o_and_streaming_are_their_definitions(seed, n, gap, recent):
    one = seen(seed, n, gap=gap)
    h2o, streaming = worth("h2o", one, recent=recent), worth("streaming", one, n_sink=2)
    newest = n + gap - 1
    for head in range(2):
        for place in range(n):
            row = int(one.rows[head, place])
            within = newest - row < int(recent * one.budget)
            assert h2o[head, place] == (math.inf if within else float(one.sums[head, place]))
            assert streaming[head, place] == (math.inf if row < 2 else row)


def test_random_draws_anew_for_every_layer_step_and_prompt():
    one = seen(0, 12)
    first = worth("random", one)
    assert np.array_equal(first, worth("random", one))
    assert len(np.unique(first)) == first.size
    other = SimpleNamespace(layer_idx=2, scaling=0.5)
    for change in ({"step": 4}, {"seed": 8}, {"module": other}):
        assert not np.array_equal(first, worth("random", Seen(**{**vars(one), **change})))


def test_random_takes_every_row_alike():
    kept = np.zeros(12)
    for step in range(400):
        values = worth("random", Seen(**{**vars(seen(0, 12, heads=4)), "step": step}))
        kept += (np.argsort(np.argsort(-values, axis=1), axis=1) < 6).sum(axis=0)
    # 1,600 draws a row; a share of 1/2 has a standard error of .0125.
    assert np.abs(kept / 1600 - 0.5).max() < 4 * 0.0125


@pytest.mark.parametrize("name", REPLY_POLICIES)
def test_a_budget_below_the_protected_rows_or_too_short_an_interval_is_refused(name):
    made = REPLY_POLICIES[name]()
    assert bool(made.what) == bool(made.protected(32))
    for budget in range(1, 20):
        if made.protected(budget) < budget:
            assert keeping(name, budget, made.least_interval).protected(budget) == made.protected(budget)
        else:
            with pytest.raises(ValueError, match=f"protects {made.what}; got {budget}"):
                keeping(name, budget, made.least_interval)
    if made.least_interval > 1:
        with pytest.raises(ValueError, match="decode interval must be at least"):
            keeping(name, 32, made.least_interval - 1)

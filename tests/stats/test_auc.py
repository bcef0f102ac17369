"""Pooled AUCs, against counting pairs one by one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.stats.auc import pooled_auc


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

"""What is made of right and wrong replies: rates, cliffs, and which metric tells the items that fail."""

import numpy as np
import pytest

from routegraph.stats.proportions import wilson
from tests.helpers.measured import synthetic


class TestMeasured:
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
        assert found.rates("wrong", "p0", "a").counts.tolist() == [1, 0, 1, 2]
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

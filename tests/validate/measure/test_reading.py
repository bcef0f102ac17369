"""What a measurement says in sentences: accuracy at ratio 0 first, warnings, how far each policy keeps it."""

from dataclasses import replace

import numpy as np
import pytest

from routegraph.survival import n_kept
from routegraph.validate.measure.answers import FLOOR
from routegraph.validate.measure.reading import other_unit, place_word, reading, short
from routegraph.validate.measure.tables import measured_page
from tests.helpers.measured import synthetic

RATIOS = [0, 0.2, 0.6, 0.9]


def kept(*counts, n=20):
    """Return right[n, 1, ratios] of which the first so many items are right at each ratio."""
    return np.arange(n)[:, None, None] < np.array(counts)


def said(right, tasks=None, **more):
    return reading(synthetic(right, {}, tasks, ratios=RATIOS, **more))


class TestAPolicy:
    def test_keeps_and_then_loses(self):
        first, policy = said(kept(20, 19, 17, 2))
        assert first == "Right at ratio 0, with nothing removed: 20 of 20 items, 1.00 [0.84, 1.00]."
        assert policy.startswith(
            "p0: keeps what it knew up to ratio .6 (17 of 20 items still right), half are lost by ratio .74 ["
        )

    def test_keeps_all_along(self):
        assert said(kept(20, 20, 20, 20))[1] == (
            "p0: keeps what it knew up to ratio .9, the last one asked (20 of 20 items still right), "
            "fewer than half are lost."
        )

    def test_loses_at_once(self):
        assert said(kept(20, 12, 20, 20))[1] == (
            "p0: loses answers already at ratio .2 (12 of 20 items still right), fewer than half are lost."
        )

    def test_a_recovery_does_not_count(self):
        """Within the interval again at .9, after it was left at .6."""
        assert "up to ratio .2 (" in said(kept(20, 19, 3, 19))[1]

    def test_items_wrong_at_0_are_not_still_right(self):
        right = kept(15, 15, 15, 0)
        right[15:, 0, 1:3] = True
        assert "up to ratio .6 (15 of 15 items still right)" in said(right)[1]

    def test_the_order_of_items_does_not_matter(self):
        found = synthetic(kept(20, 19, 11, 5), {}, ratios=RATIOS)
        assert reading(found) == reading(found.only(np.arange(20)[::-1]))


class TestTheFloor:
    def test_is_said_and_nothing_else(self):
        assert said(kept(11, 11, 11, 11)) == [
            "Right at ratio 0, with nothing removed: 11 of 20 items, 0.55 [0.34, 0.74].",
            "Warning: that is at the floor: nothing about compression can be read off.",
        ]
        assert FLOOR == 0.6
        assert len(said(kept(12, 12, 12, 12))) == 2
        assert "Warning" not in said(kept(12, 12, 12, 12))[1]

    def test_tasks_at_the_floor_are_left_out(self):
        first, warning, policy = said(kept(12, 12, 11, 0), ["easy"] * 10 + ["hard"] * 10)
        assert "12 of 20" in first
        assert warning.startswith("Warning: at the floor, ")
        assert warning.endswith("left out below: hard (2 of 10 right).")
        assert "(10 of 10 items still right)" in policy

    def test_a_task_of_few_items_is_not_judged_by_itself(self):
        assert len(said(kept(19, 19, 19, 19), [f"t{k}" for k in range(20)])) == 2

    def test_nothing_is_right(self):
        assert len(said(kept(0, 0, 0, 0))) == 2
        assert len(said(kept(0, 0, 0, 0), ["a"] * 10 + ["b"] * 10)) == 2


class TestThePage:
    def test_accuracy_comes_first_and_the_metrics_only_where_measured(self):
        right = kept(20, 19, 17, 2)
        plain = measured_page(synthetic(right, {}, ratios=RATIOS)).to_text()
        assert plain.startswith("Right at ratio 0, with nothing removed: 20 of 20")
        order = [plain.index(f"{title} at the ratio") for title in ("Accuracy", "Wrong", "Abstention")]
        assert order == sorted(order)
        assert plain.index("Critical ratio of") > order[-1]
        assert "Which metric tells" not in plain
        values = np.broadcast_to(np.arange(20.0)[:, None, None], right.shape)
        told = measured_page(synthetic(right, {"margin": values}, ratios=RATIOS)).to_text()
        assert "Which metric tells" in told
        assert told.startswith(plain[: plain.index("Accuracy at")])

    def test_each_ratio_stands_above_the_rows_that_it_keeps(self):
        found = synthetic(kept(20, 19, 17, 2), {}, ratios=RATIOS)
        found = replace(found, n_context=np.array([80] + [100] * 19))
        lines = measured_page(found).to_text().splitlines()
        at = lines.index("Accuracy at the ratio, percent")
        assert lines[at + 1].split() == ["0", "0.2", "0.6", "0.9"]
        assert lines[at + 2].split()[2:] == [
            "keep",
            "80-100",
            "keep",
            "64-80",
            "keep",
            "32-40",
            "keep",
            "7-9",
        ]


class TestBudgets:
    def found(self, keep=(64, 16), n=(80, 100)):
        found = synthetic(kept(2, 2, 1, n=2), {}, ratios=[0, 0.5, 0.9])
        settings = {name: value for name, value in found.settings.items() if name != "ratios"}
        return replace(found, settings={**settings, "keep": list(keep)}, n_context=np.array(n))

    def test_every_item_has_ratios_of_its_own(self):
        found = self.found()
        assert found.ratios_of(0) == pytest.approx([0, 0.2, 0.8])
        assert found.ratios_of(1) == pytest.approx([0, 0.36, 0.84])
        assert [n_kept(80, ratio) for ratio in found.ratios_of(0)] == [80, 64, 16]
        assert found.ratios == pytest.approx([0, 0.28, 0.82])
        assert other_unit(found, 1) == ".2 to .36"
        assert place_word(found, 1) == "64 rows (ratio .2 to .36)"
        assert found.only([1]).ratios == pytest.approx([0, 0.36, 0.84])

    def test_the_page_shows_both(self):
        text = measured_page(self.found()).to_text()
        assert "down to 16 rows (ratio .8 to .84), the last one asked" in " ".join(text.split())
        assert "Accuracy at the budget, percent" in text
        assert "keep all" in text
        assert "ratio .2-.36" in text
        assert "mean ratio over the items" in " ".join(text.split())

    def test_budgets_beyond_every_context_are_ratio_0(self):
        found = self.found(keep=(500, 16))
        assert found.ratios.tolist()[:2] == [0, 0]
        assert found.apart.tolist() == [0, 2]
        assert "keeps what it knew" in reading(found)[1]
        assert found.critical("p0") is None


def test_short_numbers():
    assert [short(x) for x in (0, 0.2, 0.995, 0.8125)] == ["0", ".2", ".995", ".8125"]

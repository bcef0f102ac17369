"""Policies beside each other, ratio by ratio."""

import json
from dataclasses import replace

import numpy as np
import pytest

from routegraph.stats.certified import holm
from routegraph.stats.paired import mcnemar
from routegraph.validate.measure.pairs import areas, compared, verdicts, widest_run
from tests.helpers.measured import synthetic

RATIOS = [0.0, 0.2, 0.4, 0.6, 0.8]


def places(*columns):
    """Answers that are right below a place of each item, a column a policy."""
    right = np.array(RATIOS)[None, None] < np.array(columns).T[:, :, None]
    return synthetic(right, {}, ratios=RATIOS)


def test_where_one_is_better_and_by_how_much():
    n = 60
    mixed = np.where(np.arange(n) % 2, 0.7, 0.3)
    found = places(np.full(n, 0.7), mixed, np.full(n, 0.7))
    one, same, two = compared(found)
    assert one.verdict == "p0 is better than p1 at ratios .4 to .6: +.50 [+.37, +.63]"
    assert one.values.tolist() == [0.0, 0.5, 0.5, 0.0]
    assert (one.run, one.p_values[0], one.p_values[3]) == ((1, 2), 1.0, 1.0)
    assert same.verdict == "p0 and p2 are not told apart at any ratio"
    assert two.verdict.startswith("p1 is worse than p2 at ratios .4 to .6: -.50 [-.")
    assert verdicts([one, same]) == [f"{one.verdict}.", "Not told apart at any ratio: p0 and p2."]
    told = json.loads(json.dumps(one.to_dict()))
    assert (told["shown_at"], told["run"]) == ([0.4, 0.6], [0.4, 0.6])
    assert [row["ratio"] for row in told["at"]] == RATIOS[1:]
    assert told["at"][1]["low"] < 0.5 < told["at"][1]["high"]
    assert {"one", "two", "difference", "p_value", "verdict"} <= told.keys()
    assert json.loads(json.dumps(same.to_dict()))["run_difference"] == {
        "value": None,
        "low": None,
        "high": None,
    }


@pytest.mark.parametrize(
    ("place", "where"),
    [(0.1, "at every ratio"), (0.3, "at ratio .4 and above"), (0.7, "at ratio .8")],
)
def test_where_in_words(place, where):
    (pair,) = compared(places(np.full(60, 1.0), np.full(60, place)))
    assert pair.verdict == f"p0 is better than p1 {where}: +1.00 [+1.00, +1.00]"


def test_all_that_is_shown_holds_together():
    """The correction runs over all pairs and ratios: what one pair alone would show, many do not."""
    rng = np.random.default_rng(0)
    columns = [rng.choice([0.3, 0.5, 0.7, 1.0], 40) for _ in range(4)]
    found = places(*columns)
    pairs = compared(found)
    raw = []
    for pair in pairs:
        one, two = (found.right[:, found.place_of(name), 1:] for name in (pair.one, pair.two))
        raw.append(
            [mcnemar(int(a), int(b)) for a, b in zip((one & ~two).sum(0), (two & ~one).sum(0), strict=True)]
        )
    np.testing.assert_allclose(np.concatenate([pair.p_values for pair in pairs]), holm(np.ravel(raw)))
    shown = [
        any(pair.run is not None for pair in compared(places(*rng.choice([0.3, 0.5, 0.7, 1.0], (4, 40)))))
        for _ in range(60)
    ]
    assert np.mean(shown) < 0.15


def test_only_items_right_at_ratio_0_count_and_their_order_does_not():
    n = 60
    found = places(np.full(n, 0.7), np.where(np.arange(n) % 3, 0.7, 0.3))
    right = found.right.copy()
    right[:20, :, 0] = False
    fewer = replace(found, right=right)
    assert compared(fewer)[0].values.tolist() == compared(found.only(np.arange(20, n)))[0].values.tolist()
    shuffled = found.only(np.random.default_rng(1).permutation(n))
    assert compared(shuffled)[0].verdict == compared(found)[0].verdict
    assert areas(shuffled) == areas(found)


def test_widest_run():
    values = np.array([0.1, 0.2, -0.3, -0.4, 0.9])
    assert widest_run(np.array([1.0, 1, -1, -1, 1]), values) == (2, 3)
    assert widest_run(np.array([1.0, 0, 1, 1, 1]), values) == (2, 4)
    assert widest_run(np.zeros(5), values) is None


def test_area_under_the_curve():
    half = places(np.where(np.arange(40) % 2, 1.0, 0.0), np.full(40, 1.0))
    found = areas(half)
    assert found["p1"] == pytest.approx((1.0, 1.0, 1.0))
    assert found["p0"].value == pytest.approx(0.5)
    assert 0.3 < found["p0"].low < 0.5 < found["p0"].high < 0.7
    # .6 of the way: right at 0, .2, .4, half of the next step
    assert areas(places(np.full(10, 0.5)))["p0"].value == pytest.approx(0.5 / 0.8)
    assert areas(synthetic(np.ones((5, 1, 1), bool), {}, ratios=[0.0])) == {}


def test_page_and_document():
    found = places(np.full(60, 0.7), np.full(60, 0.3))
    shown = " ".join(found.summary().split())
    assert "Policies on the same items, ratio by ratio" in shown
    assert "- p0 is better than p1 at ratios .4 to .6: +1.00 [+1.00, +1.00]." in shown
    assert "Area under the accuracy curve, ratio 0 to .8: p0" in shown
    told = json.loads(json.dumps(found.to_dict(resamples=10)))
    assert told["policies"][0]["by_ratio"].startswith("p0 is better than p1 at ratios")
    assert [row["policy"] for row in told["areas"]] == ["p0", "p1"]
    alone = places(np.full(60, 0.7))
    assert "ratio by ratio" not in alone.summary()
    assert alone.to_dict(resamples=10)["policies"] == []

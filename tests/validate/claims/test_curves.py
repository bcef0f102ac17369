"""Claims on curves (C1 to C4) on made-up measurements: each comes out true, false, undecided or not testable."""

from dataclasses import replace

import numpy as np
import pytest

from routegraph.stats.intervals import Interval
from routegraph.validate.claims import cliff, pairs
from routegraph.validate.claims.case import FAILS, HOLDS, UNDECIDED, UNTESTABLE
from routegraph.validate.claims.items import standing
from routegraph.validate.claims.together import together
from tests.helpers.claims import FLOORED, NAMES, RATIOS, measured, normal, uniform, verdicts


@pytest.mark.parametrize(
    ("breaks", "word"),
    [
        (normal(0.9, 0.02), HOLDS),
        (uniform(), FAILS),
        (np.where(np.arange(20) < 18, 0.95, 0.3), UNDECIDED),
        (FLOORED, UNTESTABLE),
    ],
)
def test_c1(breaks, word):
    found = cliff.margin([measured(breaks)])
    assert verdicts(found) == {word}
    assert found.verdict == word
    if word == UNDECIDED:
        assert "items would decide" in found.evidence[0].figure
    if word == UNTESTABLE:
        assert found.notes == ("made up, at floor: t inverse (20 of 50 right, .40 [.28, .54])",)


def test_c1_asks_what_becomes_of_the_items_that_were_right():
    """Items wrong at ratio 0 that turn right at .4 make up for none that is lost."""
    source = measured(np.where(np.arange(100) < 70, 0.95, -1))
    right = source.right.copy()
    right[:20, :, 1:] = False
    right[70:90, :, 1:] = True
    (case, _) = cliff.margin([replace(source, right=right)]).evidence
    assert case.verdict == FAILS
    assert (case.main.value, case.numbers["items"]) == (pytest.approx(50 / 70), 70)
    assert case.numbers["accuracy"]["value"] == case.numbers["accuracy_there"]["value"] == 0.7


def test_c1_says_whether_random_eviction_does_as_well():
    breaks = np.stack([normal(0.9, 0.02), normal(0.9, 0.02), uniform()], axis=1)
    (first, _) = cliff.margin([measured(breaks)]).evidence
    assert first.numbers["ahead"]["low"] > 0.2
    (same, _) = cliff.margin([measured(uniform())]).evidence
    assert same.numbers["ahead"]["value"] == 0


@pytest.mark.parametrize(
    ("breaks", "cliffs", "word"),
    [
        (normal(0.9, 0.015, 400), {}, HOLDS),
        (normal(0.85, 0.03, 400), {}, HOLDS),
        (normal(0.5, 0.02, 400), {}, FAILS),  # steep elsewhere
        (normal(0.87, 0.12, 400), {}, FAILS),  # there, and not steep
        (uniform(400), {}, FAILS),
        (normal(0.9, 0.015, 400), {"4 sinks": 0.9}, UNDECIDED),
        (np.linspace(0.75, 0.92, 8), {}, UNDECIDED),
        (np.full(100, 2.0), {}, UNTESTABLE),
        (FLOORED, {}, UNTESTABLE),
    ],
)
def test_c2(breaks, cliffs, word):
    found = cliff.cliff([measured(breaks, cliffs=cliffs, names=("chunk",))])
    assert found.verdict == word
    if cliffs:
        assert "built in at .900" in found.evidence[0].baseline


def test_c2_where_wrong_replies_give_way_to_abstentions_is_no_cliff():
    """Wrong from .3 on, and abstaining from .9 on: the steep fall at .9 counts for nothing."""
    source = measured(normal(0.3, 0.05, 400), names=("chunk",))
    source = replace(source, abstained=~source.right & (normal(0.9, 0.01, 400)[:, None, None] <= RATIOS))
    wrong = source.rates("wrong", "chunk").rate
    assert (wrong[5], wrong[-1]) == (pytest.approx(1, abs=0.02), 0)
    (case,) = cliff.cliff([source]).evidence
    assert case.verdict == FAILS
    assert case.main.high < 0.4


def test_c2_right_again_is_no_cliff():
    source = measured(normal(0.9, 0.015, 400), names=("chunk",))
    right = ~source.right
    right[..., 0] = True
    assert cliff.cliff([replace(source, right=right)]).evidence[0].verdict == FAILS


def test_place_and_width_of_a_rise():
    """A straight rise has half of it at the middle, and half of it between the quarters."""
    right = measured(np.linspace(0.001, 0.99, 400), names=("chunk",))
    place, width = cliff.rise_of(right, "chunk")
    assert (place.value, width.value) == (pytest.approx(0.49, abs=0.02), pytest.approx(0.5, abs=0.02))
    assert place.low < 0.49 < place.high
    abstaining = replace(right, abstained=~right.right)
    assert np.isnan(cliff.rise_of(abstaining, "chunk")[0].value)
    assert cliff.rise_of(abstaining, "chunk", "lost") == (place, width)


def test_the_rise_is_measured_to_its_own_top():
    """A third of the items breaks, about .9: half of that is done there, though half of all never is."""
    breaks = np.where(np.arange(300) < 100, normal(0.9, 0.015, 300), 2)
    (case,) = cliff.cliff([measured(breaks, names=("chunk",))]).evidence
    assert (case.verdict, case.main.value) == (HOLDS, pytest.approx(0.9, abs=0.01))


def test_a_model_that_abstains_shows_no_cliff_of_hallucination():
    source = measured(normal(0.9, 0.02))
    source = replace(source, abstained=~source.right)
    for judge in (cliff.cliff, cliff.steepest, together, pairs.presses):
        found = judge([source])
        if judge is not together:
            assert found.verdict == UNTESTABLE
            assert "abstains instead" in found.evidence[0].figure


def ger(own, names=NAMES):
    """GER that rises about a ratio of each item's own, under every policy."""
    lost = 1 / (1 + np.exp(-(RATIOS - np.asarray(own)[:, None]) / 0.05))
    values = np.repeat(lost[:, None], len(names), axis=1)
    return {"ger_answer_model": values, "ger_answer_layer": values}


@pytest.mark.parametrize(
    ("own", "word"),
    [
        (uniform() + np.random.default_rng(1).normal(0, 0.1, 200), HOLDS),
        (np.full(200, 0.5), FAILS),  # the same for all items: it goes with the ratio, and tells nothing
        (
            uniform(600) + np.random.default_rng(1).normal(0, 1, 600),
            FAILS,
        ),  # more than chance, and little more
        (uniform(24) + np.random.default_rng(0).normal(0, 0.4, 24), UNDECIDED),
    ],
)
def test_c3(own, word):
    found = together([measured(uniform(len(own)), ger(own))])
    assert verdicts(found) == {word}
    case = found.evidence[0]
    if np.ptp(own) == 0:
        assert case.numbers["r"]["value"] > 0.8
        assert case.main == (0.5, 0.5, 0.5)
    elif word == FAILS:
        assert case.main.low > 0.5


def test_c3_must_say_more_than_the_length_of_the_context():
    breaks = uniform()
    lengths = (1000 * (1 - breaks)).astype(int)  # tells the failing items without fault
    own = breaks + np.random.default_rng(1).normal(0, 0.1, 200)
    (case, *_) = together([measured(breaks, ger(own), lengths=lengths)]).evidence
    assert (case.verdict, case.numbers["cheap"]) == (FAILS, "n_context")
    assert case.main.low > 0.7
    assert case.numbers["ahead_of_cheap"]["high"] < 0


def test_c3_leaves_abstentions_out_and_says_what_was_not_measured():
    breaks = uniform()
    abstains = np.arange(200) % 2 == 0  # with as large a GER as the wrong ones
    source = measured(breaks, ger(breaks))
    source = replace(source, abstained=~source.right & abstains[:, None, None])
    assert verdicts(together([source])) == {HOLDS}
    told = together([measured(breaks)])
    assert told.verdict == UNTESTABLE
    assert "measure --metrics" in told.evidence[0].figure


def test_c3_by_direction():
    """Inverse questions fail and have a large GER, forward ones do not: within a direction it tells nothing."""
    inverse = np.arange(200) < 100
    tags = [("inverse",) if own else ("forward",) for own in inverse]
    breaks = np.where(inverse, 0.3, 0.8) + np.random.default_rng(0).normal(0, 0.1, 200)
    found = together([measured(breaks, ger(np.where(inverse, 0.3, 0.8)), tags=tags)])
    assert verdicts(found) == {FAILS}


@pytest.mark.parametrize(
    ("breaks", "word"),
    [(normal(0.9, 0.01, 300), HOLDS), (normal(0.5, 0.05, 300), FAILS), (uniform(30), UNDECIDED)],
)
def test_c4(breaks, word):
    found = cliff.steepest([measured(breaks)])
    assert found.verdict == word
    assert "a straight line would peak" in found.evidence[0].baseline
    if word == HOLDS:
        assert found.evidence[0].numbers["edge_share"] > 0.9


def test_steepest_windows_and_ties():
    ratios = np.array([0, 0.5, 0.9, 0.93, 0.95])
    assert cliff.windows(ratios) == [(0, 1), (1, 2), (2, 4)]
    assert cliff.peak(ratios, np.array([[0, 0.1, 0.1, 0.3, 0.4], ratios])).tolist() == pytest.approx(
        [0.925, np.mean([0.25, 0.7, 0.925])]
    )


def test_floor_goes_by_task_and_direction():
    tags = [("forward", "x")] * 10 + [("inverse",)] * 10 + [("forward",)] * 4
    tasks = ["base"] * 20 + ["hops"] * 4
    found = standing(measured(np.where(np.arange(24) % 20 < 13, 0.9, -1), tags=tags, tasks=tasks))
    assert len(found.items.ids) == len(found.right.ids) == 10
    assert found.groups == ("base forward (10 of 10 right, 1.00 [.72, 1.00])",)
    assert found.floor == (
        "base inverse (3 of 10 right, .30 [.11, .60])",
        "hops forward (4 items are too few)",
    )


def test_only_items_above_the_floor_are_judged():
    tags = [("forward",)] * 100 + [("inverse",)] * 100
    breaks = np.concatenate([normal(0.9, 0.015, 100), np.where(np.arange(100) < 50, 0.1, -1)])
    (case,) = cliff.cliff([measured(breaks, tags=tags, names=("chunk",))]).evidence
    assert (case.verdict, case.numbers["items"]) == (HOLDS, 100)
    assert isinstance(case.main, Interval)

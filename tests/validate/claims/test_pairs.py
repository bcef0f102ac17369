"""Claims that set two things side by side (C8, C10, C11) on made-up measurements."""

from dataclasses import replace

import numpy as np
import pytest

from routegraph.stats.intervals import Interval
from routegraph.validate.claims import pairs
from routegraph.validate.claims.case import FAILS, HOLDS, MIXED, UNDECIDED, UNTESTABLE
from routegraph.validate.claims.hops import difference, multi_hop
from tests.helpers.claims import NAMES, RATIOS, measured, normal, uniform, verdicts


def test_c8():
    n = 200
    known = np.arange(n) < 100
    plain = np.stack([np.where(known, 0.3, 0.9)] * 2 + [np.full(n, 0.5)], axis=1)
    better = np.stack([np.where(known, 0.9, 0.3)] * 2 + [np.full(n, 0.5)], axis=1)
    for before, after, word in ((plain, better, HOLDS), (better, plain, FAILS)):
        pair = [measured(before, answerable=known), measured(after, aware=True, answerable=known)]
        found = pairs.question_aware(pair)
        assert verdicts(found) == {word}
        assert [case.where.split(", ", 1)[1] for case in found.evidence] == [
            f"{policy}, {what}" for policy in ("chunk", "adakv") for what in ("retrieval", "abstention")
        ]
        assert "random: .00" in found.evidence[0].baseline
    few = [measured(normal(0.6, 0.2, 12, k), aware=bool(k), names=("chunk",)) for k in (0, 1)]
    assert pairs.question_aware(few).evidence[0].verdict == UNDECIDED


def test_c8_judges_abstention_only_where_the_model_abstains_in_both_ways():
    known = np.arange(200) < 100
    some = np.where(np.arange(200) < 150, 0.9, -1)  # half of the unanswerable are met by abstention
    all_of_them = np.full(200, 0.9)
    for agnostic, aware in ((some, all_of_them), (all_of_them, some)):
        pair = [measured(agnostic, answerable=known), measured(aware, aware=True, answerable=known)]
        told = pairs.question_aware(pair).evidence
        assert [case.verdict == UNTESTABLE for case in told] == [False, True] * 2
        assert ".50 [.40, .60]" in told[1].figure
    floored = np.where(known, -1, 0.9)
    pair = [measured(all_of_them, answerable=known), measured(floored, aware=True, answerable=known)]
    told = pairs.question_aware(pair).evidence
    assert [case.verdict == UNTESTABLE for case in told] == [True, False] * 2


def test_c8_what_differs_at_ratio_0_is_said():
    pair = [measured(np.where(np.arange(100) < 80, 0.9, -1)), measured(np.full(100, 0.9), aware=True)]
    (first, *_) = pairs.question_aware(pair).evidence
    assert first.numbers["at_0"]["value"] == pytest.approx(0.2)
    assert "at ratio 0: .20" in first.baseline


def test_c8_pairs_by_item_and_says_what_has_no_partner():
    agnostic, aware = measured(uniform(40)), measured(uniform(40)[::-1], aware=True)
    shuffled = replace(aware.only(np.arange(40)[::-1]))
    ((first, second),) = pairs.pairs([agnostic, shuffled])
    assert first.ids == second.ids == tuple(sorted(agnostic.ids))
    at = [0, 2, 5]
    fewer = replace(
        aware,
        settings={**aware.settings, "ratios": RATIOS[at].tolist()},
        right=aware.right[..., at],
        abstained=aware.abstained[..., at],
    )
    ((first, second),) = pairs.pairs([agnostic, fewer])
    assert first.ratios.tolist() == second.ratios.tolist() == RATIOS[at].tolist()
    order = [agnostic.ids.index(name) for name in first.ids]
    assert np.array_equal(first.right, agnostic.right[order][..., at])
    lone = pairs.question_aware([measured(uniform(40), aware=True, model="other"), agnostic])
    assert lone.verdict == UNTESTABLE
    assert lone.notes == ("other, question-aware: no agnostic run of the same model and items was given",)
    assert not pairs.pairs([agnostic, measured(uniform(40), aware=True, told={"chat": True})])


# --- hops -----------------------------------------------------------------------------------------------


def hops(breaks, worst=None, lengths=None):
    """One-hop questions, then as many of two hops; `worst`: GER by layer of the fact that lost most."""
    half = len(breaks) // 2
    tags = [("forward", "1 hop")] * half + [("forward", "2 hops")] * half
    metrics = {}
    if worst is not None:
        shape = (len(breaks), len(NAMES), len(RATIOS))
        metrics = {
            "ger_worst_fact_layer": np.broadcast_to(np.asarray(worst, dtype=float)[..., None, None], shape)
        }
    return multi_hop([measured(breaks, metrics, tags=tags, tasks=["hops"] * len(breaks), lengths=lengths)])


def part(claim, name):
    """The verdicts of one part of the claim."""
    return {case.verdict for case in claim.evidence if case.where.endswith(name)}


@pytest.mark.parametrize(
    ("right", "word"), [((80, 25), HOLDS), ((80, 85), FAILS), ((80, 70), UNDECIDED), ((40, 10), UNTESTABLE)]
)
def test_c10_at_ratio_0(right, word):
    """Low accuracy of multi-hop questions is what the paper reports: no floor for them, but for one-hop ones."""
    n = 100 if word != FAILS else 1000
    one, many = (np.where(np.arange(n) < n * count / 100, 0.9, -1) for count in right)
    found = hops(np.concatenate([one, many]))
    assert part(found, "at ratio 0") == {word}
    if word == HOLDS:
        assert part(found, "earlier") == part(found, "tokens there") == {UNTESTABLE}
        assert found.verdict == HOLDS
        assert "multi-hop .25 [.18, .34]" in found.evidence[0].baseline


def test_c10_compares_contexts_of_equal_lengths():
    """Long contexts alone have multi-hop questions that fail: of equal lengths none does."""
    breaks = np.concatenate([np.full(200, 0.9), np.where(np.arange(200) < 100, 0.9, -1)])
    lengths = np.concatenate([np.full(200, 100), np.where(np.arange(200) < 100, 100, 900)])
    assert part(hops(breaks, lengths=lengths), "at ratio 0") == {FAILS}
    assert part(hops(breaks), "at ratio 0") == {HOLDS}
    apart = np.repeat([100, 900], 200)
    assert part(hops(breaks, lengths=apart), "at ratio 0") == {UNTESTABLE}


@pytest.mark.parametrize(("gap", "word"), [(0.3, HOLDS), (-0.3, FAILS), (0.0, UNDECIDED)])
def test_c10_earlier_and_with_the_tokens_there(gap, word):
    rng = np.random.default_rng(0)
    breaks = np.concatenate([rng.normal(0.65, 0.1, 80), rng.normal(0.65 - gap, 0.1, 80)])
    found = hops(breaks, np.full(160, 0.1))
    assert part(found, "earlier") == {word}
    if gap:
        assert part(found, "tokens there") == {word}
    gone = hops(breaks, np.full(160, 0.6))
    assert part(gone, "tokens there") == {UNTESTABLE}
    assert part(hops(breaks), "tokens there") == {UNTESTABLE}


@pytest.mark.parametrize(("n", "early", "word"), [(300, 120, HOLDS), (20, 1, UNDECIDED), (300, 0, FAILS)])
def test_c10_counts_what_is_lost_where_the_facts_are_there(n, early, word):
    """All break where the facts go, after .6, and of the multi-hop ones some at .1, with their facts there."""
    breaks = np.full(2 * n, 0.65)
    breaks[n : n + early] = 0.1
    shape = (2 * n, len(NAMES), len(RATIOS))
    worst = np.broadcast_to(np.where(RATIOS < 0.61, 0.1, 0.9), shape)
    tags = [("forward", "1 hop")] * n + [("forward", "2 hops")] * n
    found = multi_hop([measured(breaks, {"ger_worst_fact_layer": worst}, tags=tags)])
    assert part(found, "tokens there") == {word}
    told = next(case.figure for case in found.evidence if case.where.endswith("there"))
    assert "ratios 0.2, 0.4, 0.6" in told


def test_c10_does_not_count_what_is_lost_with_its_facts():
    """Half of the multi-hop items break at .1, and so do their facts: where facts are there nothing is lost."""
    n = 300
    gone = np.arange(2 * n) >= n + n // 2
    breaks = np.where(gone, 0.1, 0.65)
    worst = np.where(gone[:, None, None], 0.9, 0.1) * np.ones((1, len(NAMES), 1))
    worst = np.where(RATIOS < 0.61, worst, 0.9)
    tags = [("forward", "1 hop")] * n + [("forward", "2 hops")] * n
    found = multi_hop([measured(breaks, {"ger_worst_fact_layer": worst}, tags=tags)])
    assert part(found, "tokens there") == {FAILS}


def test_c10_by_direction_and_in_the_small_language():
    breaks = np.full(80, 0.9)
    tags = [("forward", "1 hop")] * 40 + [("inverse", "2 hops")] * 40
    assert multi_hop([measured(breaks, tags=tags)]).verdict == UNTESTABLE
    tasks = ["words_forward"] * 40 + ["words_two_hop"] * 40
    small = multi_hop([measured(breaks, tags=[("words",)] * 80, tasks=tasks)])
    assert small.evidence[0].where == "made up, words, at ratio 0"


def test_difference_of_shares():
    """Newcombe's example: 56/70 against 48/80, .20 [.0524, .3339]."""
    from routegraph.validate.claims.case import share_of

    found = difference(share_of(56, 70), share_of(48, 80))
    assert found == pytest.approx(Interval(0.2, 0.0524, 0.3339), abs=1e-4)


def test_c11():
    differ = np.stack([np.full(200, 0.8), normal(0.55, 0.1), uniform()], axis=1)
    found = pairs.presses([measured(differ)])
    assert found.verdict == HOLDS
    same = pairs.presses([measured(uniform())])
    assert [case.verdict for case in same.evidence] == [FAILS, HOLDS]
    assert same.verdict == MIXED
    apart = np.stack([np.full(200, 0.95), np.full(200, 0.45), uniform()], axis=1)
    assert pairs.presses([measured(apart)]).evidence[1].verdict == FAILS
    few = np.stack([np.where(np.arange(10) < 2, 0.55, 0.8), np.full(10, 0.8), uniform(10)], axis=1)
    assert pairs.presses([measured(few)]).evidence[0].verdict == UNDECIDED
    floored = pairs.presses([measured(np.where(np.arange(50) < 20, 0.95, -1))])
    assert verdicts(floored) == {UNTESTABLE}

"""The first sentences of a comparison, and words of its tables in cases that are not the usual one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from routegraph.validate.compare.finding import finding
from routegraph.validate.compare.policy import PolicyComparison
from routegraph.validate.compare.prediction import AxisComparison, Prediction
from routegraph.validate.compare.result import Comparison
from routegraph.validate.compare.run import compare
from routegraph.validate.compare.tables import comparison_grids, comparison_reading
from tests.helpers.commands import run
from tests.helpers.traces import synthetic_trace, traced

RATIOS = np.round(np.arange(0.05, 1, 0.05), 2)
ALL = ("independent", "one factor", "measured copula", "simulated", "uniform")
ANSWERS = ("shifted copula", "simulated answers", "uniform answers")


def curves(half, prompts=4):
    """Step from 0 to 1 that crosses one half at `half`, a little apart between prompts."""
    return np.array([np.clip((RATIOS - half - 0.01 * (k - 1.5)) * 5 + 0.5, 0, 1) for k in range(prompts)])


def axis(over, slots, half, predicted=None, answers=True, prompts=4):
    read = curves(half, prompts)
    made = Prediction(curves(half if predicted is None else predicted, prompts))
    observed = {"all tokens": read, "evictable tokens": read}
    names = ALL
    if answers:
        observed |= {"answer tokens": read, "answer tokens, held out": read}
        names = (*ALL, *ANSWERS)
    return AxisComparison(over, slots, RATIOS, RATIOS, observed, dict.fromkeys(names, made), 0.3)


def policy(name, half, layer=None, **more):
    axes = {"model": axis("model", 8, half, **more), "layer": axis("layer", 2, layer or half - 0.2, **more)}
    return PolicyComparison(name, "expected_attention", axes)


def told(*policies):
    return finding({found.policy: found for found in policies})


class TestFinding:
    def test_one_policy(self):
        first, second, third = told(policy("topk", 0.8))
        assert first.startswith("Under topk half of the answer's tokens are gone from all 8 slots")
        assert "at ratio 0.800 [0." in first
        assert "from all 2 heads of a layer (mean over layers) at ratio 0.600 [" in first
        assert first.endswith("(4 prompts, 95 % intervals).")
        assert "theory comes within 0.000 of these ratios (no more than chance explains)" in second
        assert third == (
            "How often answers still hold is another quantity than where tokens are gone, and was not measured here."
        )

    def test_best_and_worst_of_many(self):
        first = told(policy("a", 0.7), policy("b", 0.9), policy("c", 0.5), policy("d", 0.8))[0]
        assert first.startswith("Under b, of 4 policies the one that keeps them longest,")
        assert "under c, the one that loses them first, at ratio 0.500" in first
        assert "under a" not in first
        both = told(policy("a", 0.7), policy("b", 0.9))[0]
        assert "under a at ratio 0.700" in both
        assert "longest" not in both

    def test_a_gap_beyond_chance_is_said(self):
        second = told(policy("topk", 0.8, predicted=0.7))[1]
        assert (
            "theory comes within 0.100 of these ratios, more than chance explains" in second
            or "0.1" in second
        )
        assert "no more than chance" not in second

    def test_half_that_is_never_or_always_gone(self):
        first, second, _ = told(policy("topk", 1.5, layer=-1.0))
        assert "at no ratio up to the largest looked at, 0.95" in first
        assert "already at the smallest ratio looked at, 0.05" in first
        assert "theory cannot be set beside them" in second
        assert "nan" not in f"{first} {second}"
        order = told(policy("late", 1.5), policy("mid", 0.5), policy("soon", -1.0))[0]
        assert order.index("late") < order.index("soon")

    def test_without_answer_tokens(self):
        first, second, _ = told(policy("topk", 0.8, answers=False))
        assert "half of the tokens that may be evicted are gone" in first
        assert "simulation within 0.000" in second

    def test_one_slot_and_one_prompt(self):
        one = policy("topk", 0.8, prompts=1)
        axes = {over: replace(found, slots=1) for over, found in one.axes.items()}
        first = told(replace(one, axes=axes))[0]
        assert "gone from the only slot" in first
        assert "from the only head of a layer" in first
        assert first.endswith("(1 prompt).")

    def test_nothing(self):
        assert finding({}) == []


@pytest.fixture(scope="module")
def result():
    return compare([synthetic_trace(k) for k in range(6)], policy_names=["topk", "adakv"])


class TestComparison:
    def test_it_stands_first_everywhere(self, result, capsys, tmp_path):
        from routegraph.trace import Trace

        said = " ".join(result.answer)
        assert " ".join(result.summary().split()).startswith(said)
        assert result.to_dict()["answer"] == said
        assert len(result.answer) <= 3
        path = tmp_path / "t.npz"
        Trace.save(path, [synthetic_trace(k) for k in range(6)], {"command": "test"})
        status, out, _ = run(capsys, "compare", path, "--policy", "topk", "--policy", "adakv")
        assert status == 0
        assert " ".join(out.split()).startswith(said)

    def test_it_is_said_again_by_a_file(self, result, tmp_path):
        result.save(tmp_path / "c.json")
        assert Comparison.load(tmp_path / "c.json").answer == result.answer

    def test_other_keys_stay(self, result):
        assert set(result.to_dict()) == {"version", "seed", "parameters", "definitions", "answer", "results"}


class TestWordsFitTheCase:
    def test_few_ratios_low_down(self, tmp_path):
        """Red before: a column printed twice, rmse nan, and --json refused the nan after all was computed."""
        found = compare(
            [synthetic_trace(k) for k in range(4)], policy_names=["topk"], ratios=[0.1, 0.2, 0.3, 0.4]
        )
        grid = comparison_grids(found.policies["topk"])[0]
        assert grid.columns == ["gone", "0.4", "half point", "rmse"]
        assert "nan" not in found.summary()
        json.dumps(found.to_dict(), allow_nan=False)
        found.save(tmp_path / "c.json")
        assert Comparison.load(tmp_path / "c.json").summary() == found.summary()
        assert "cannot be set side by side" in " ".join(comparison_reading(found.policies["topk"]))

    def test_one_slot_has_nobody_to_agree_with(self):
        """Red before: "heads agree, so tokens die sooner than 1 independent slots would let them"."""
        found = policy("topk", 0.9)
        axes = {over: replace(one, slots=1) for over, one in found.axes.items()}
        said = " ".join(comparison_reading(replace(found, axes=axes)))
        assert "Effective slots" not in said
        assert "1 independent slots" not in said
        assert "1 slots" not in said
        titles = [grid.title for grid in comparison_grids(replace(found, axes=axes))]
        assert titles[0].endswith("gone from the only slot")
        assert titles[1].endswith("gone from the only head of a layer, mean")

    @pytest.mark.parametrize(
        ("power", "words"),
        [(3, "heads agree, so tokens die sooner"), (14, "tokens last longer"), (8, "about as tokens die")],
    )
    def test_which_way_slots_go_together(self, power, words):
        found = axis("model", 8, 0.9)
        grid = np.clip(RATIOS, 0, 1) ** power * np.ones((4, 1))
        made = replace(found, observed={**found.observed, "evictable tokens": grid})
        other = PolicyComparison("topk", "s", {"model": made, "layer": axis("layer", 2, 0.7)})
        assert words in comparison_reading(other)[0]

    def test_reach_that_does_not_fall_to_one_half(self):
        """Red before: "within nan", later "within an unknown distance"."""
        traces = [traced(k) for k in range(4)]
        found = compare(traces, policy_names=["topk"], ratios=[0.05, 0.1, 0.15, 0.2], eps=[0.01, 0.1])
        said = " ".join(comparison_reading(found.policies["topk"]))
        assert "nan" not in said
        assert "unknown" not in said
        assert "Reach of all context tokens" in said

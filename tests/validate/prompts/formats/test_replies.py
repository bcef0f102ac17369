"""Replies to the samples: scored here as the projects' own scorers do, and as the restated rules say."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.scorers import SCORERS

DATA = Path(__file__).parents[3] / "data" / "formats"
FILES = sorted(path.name for path in DATA.glob("*_replies.jsonl"))


def replies(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_every_project_has_at_least_thirty():
    projects = ("kvpress", "lm_eval", "longbench", "longbench_v2", "ruler")
    assert [f"{name}_replies.jsonl" for name in projects] == FILES
    assert min(len(replies(name)) for name in FILES) >= 30


@pytest.mark.parametrize("name", FILES)
def test_scores_follow_from_the_restated_rules(name):
    for one in replies(name):
        more = [one["choices"]] if one["scorer"] == "longbench_classes" else []
        assert SCORERS[one["scorer"]](one["reply"], one["golds"], *more) == one["score"], one
    scores = {one["score"] for one in replies(name)}
    assert {0.0, 1.0} <= scores


@pytest.mark.parametrize("name", FILES)
def test_graders_give_the_same_scores_but_where_it_is_said(name):
    graders = pytest.importorskip("routegraph.validate.graders")
    for one in replies(name):
        golds = one["golds"]
        if (one["scorer"], one["grader"]) == ("longbench_numbers", "contains"):  # as the reader reads them
            golds = [*golds, *re.findall(r"\d+", golds[0])]
        choices = one.get("choices", ["w", "x", "y", "z"] if "choice" in one["grader"] else [])
        score = graders.Grader.named(one["grader"]).score(one["reply"], golds, choices)
        assert (score == pytest.approx(one["score"])) == ("differs" not in one), (one, score)


def test_few_differ():
    every = [one for name in FILES for one in replies(name)]
    assert sum("differs" in one for one in every) <= 0.05 * len(every)

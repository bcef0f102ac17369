"""The public pairs of answer and reply, each with its verdict: `contains` gives it."""

import json
from pathlib import Path

import pytest

from routegraph.validate.graders import Grader
from routegraph.validate.prompts.verdict import verdict

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data/grading/pairs.jsonl").read_text("utf-8").splitlines()
]


def test_there_are_at_least_60():
    assert len(PAIRS) >= 60
    assert all(pair["why"] for pair in PAIRS)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair['gold']}|{pair['reply'][:30]}")
def test_every_pair(pair):
    gold = pair["gold"]
    found = verdict(Grader.named("contains"), pair["reply"], (gold or "",), (), gold is not None)
    assert found.word == pair["verdict"] or (gold is None and found.right and pair["verdict"] == "abstained")

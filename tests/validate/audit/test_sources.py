"""What an audit reads beside kvpress's folders: samples of lm-eval, and cells of our own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routegraph.validate.audit.cells import cells_of
from routegraph.validate.audit.certificates import certificates
from routegraph.validate.audit.checks import idle
from routegraph.validate.audit.pairs import pair_up
from routegraph.validate.audit.read import read_runs
from routegraph.validate.audit.rules import rule_of, scores_of
from routegraph.validate.audit.run import audit
from routegraph.validate.audit.runs import printable
from routegraph.validate.measure.result import Measured
from tests.helpers.commands import run
from tests.helpers.measured import synthetic
from tests.helpers.results_folders import clean, lm_eval_run

OLD = Path(__file__).parents[2] / "data" / "v0.1" / "measured"
RIGHT = [True] * 40
BROKEN = [False] * 10 + [True] * 30


def kinds(found):
    return [one.kind for one in found.findings]


def test_lm_eval_runs_in_folders_that_name_press_and_ratio(tmp_path):
    for model in ("meta/llama", "qwen/qwen"):
        name = model.replace("/", "__")
        lm_eval_run(tmp_path / "no_press" / name, RIGHT, model=model)
        lm_eval_run(tmp_path / "snapkv__0.50" / name, BROKEN, model=model)
    found = audit(tmp_path)
    assert kinds(found) == []
    assert [
        (row.pair.run.scope.model, row.pair.run.ratio, row.broken, row.judged) for row in found.whole
    ] == [
        ("meta/llama", 0.5, 10, 40),
        ("qwen/qwen", 0.5, 10, 40),
    ]


def test_lm_eval_runs_that_the_model_arguments_tell_apart(tmp_path):
    lm_eval_run(tmp_path / "m", RIGHT, date="2026-01-01T00-00-00.0", press="no_press")
    lm_eval_run(tmp_path / "m", RIGHT, task="other", date="2026-01-01T01-00-00.0", press="no_press")
    lm_eval_run(tmp_path / "m", BROKEN, date="2026-01-02T00-00-00.0", press="tova", compression_ratio=0.7)
    found = audit(tmp_path)
    (row,) = found.whole
    assert (row.pair.run.press, row.pair.run.ratio, row.broken) == ("tova", 0.7, 10)
    assert kinds(found) == ["items"]


def test_a_score_of_lm_eval_that_does_not_follow(tmp_path):
    lm_eval_run(tmp_path / "no_press", RIGHT)
    lm_eval_run(tmp_path / "tova__0.5", BROKEN, score=0.9)
    found = audit(tmp_path)
    assert kinds(found) == ["score"]
    assert "exact_match, is 0.9 there and 0.75 by the samples" in found.findings[0].text


def test_samples_that_were_appended_twice_count_once(tmp_path):
    for name, rights in (("no_press", RIGHT), ("tova__0.5", BROKEN)):
        (path,) = lm_eval_run(tmp_path / name, rights).glob("samples_*")
        path.write_text(path.read_text() * 2)
    found = audit(tmp_path)
    assert kinds(found) == ["duplicates"]
    assert found.whole[0].n == 40


def test_of_several_filters_the_first_counts_and_scores_without_a_verdict_are_left_out(tmp_path):
    for name, rights in (("no_press", RIGHT), ("tova__0.5", BROKEN)):
        (path,) = lm_eval_run(tmp_path / name, rights).glob("samples_*")
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        others = [{**one, "filter": "strict", "exact_match": 0.0} for one in samples]
        samples[39] = {**samples[39], "exact_match": -1.0}
        path.write_text("\n".join(json.dumps(one) for one in [*samples, *others]))
    found = audit(tmp_path)
    assert (found.whole[0].n, found.whole[0].judged, found.whole[0].broken) == (40, 39, 10)
    assert "duplicates" not in kinds(found)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: lm_eval_run(root / "llama", RIGHT), "cannot tell which press and ratio"),
        (
            lambda root: [
                lm_eval_run(root / "tova__0.5", RIGHT, date=f"2026-01-0{k}T00-00-00.0") for k in (1, 2)
            ],
            "two files of samples of task 'ruler_qa' that cannot be told apart",
        ),
        (
            lambda root: [lm_eval_run(root / k / "tova__0.5", RIGHT) for k in ("a", "b")],
            "cannot be told apart; audit the folders that hold them one at a time",
        ),
    ],
)
def test_samples_that_cannot_be_told_apart(tmp_path, make, says):
    lm_eval_run(tmp_path / "no_press", RIGHT)
    make(tmp_path)
    with pytest.raises(ValueError, match=says):
        audit(tmp_path)


def test_samples_that_are_none(tmp_path):
    (path,) = lm_eval_run(tmp_path / "no_press", RIGHT).glob("samples_*")
    path.write_text('{"doc_id": 0}\n')
    with pytest.raises(ValueError, match="sample 1 has no 'resps' or no 'doc_id'"):
        audit(tmp_path)


def test_cells_are_counted_as_measure_counts_them():
    found, measured = audit(OLD), Measured.load(OLD)
    assert len(found.whole) == len(measured.policies) * (len(measured.ratios) - 1)
    for row in found.whole:
        place = measured.place_of(row.pair.run.press)
        at = measured.ratios.tolist().index(row.pair.run.ratio)
        assert row.broken == measured.fails[:, place, at].sum()
        assert row.right_after == measured.right[:, place, at].sum()


def test_cells_need_no_proof_that_rows_were_taken_away():
    """`measure` takes rows away itself; replies of one word often stay as they are."""
    right = np.ones((80, 1, 4), dtype=bool)
    right[:30, 0, 2:] = False
    replies = tuple(tuple("a" if one else "b" for one in row.ravel()) for row in right)
    runs = cells_of(replace(synthetic(right, {}), replies=replies), "m")
    pairs, _ = pair_up(runs)
    (one,), _ = certificates(pairs, 0.05, 0.9)
    assert [(found.kind, found.warns) for found in idle(pairs)] == [("idle", False)]
    assert one.ratio == 0.2


def test_folders_of_several_kinds_stand_side_by_side(tmp_path):
    clean(tmp_path / "kvpress")
    lm_eval_run(tmp_path / "harness" / "no_press", RIGHT)
    lm_eval_run(tmp_path / "harness" / "tova__0.5", BROKEN)
    (tmp_path / "cells").symlink_to(OLD)  # not followed
    runs, _ = read_runs(tmp_path)
    assert {one.scope.source for one in runs} == {"kvpress", "lm-eval"}
    assert " (ruler (4096), " in audit(tmp_path).answer


def test_budgets_of_rows_are_refused(capsys, tmp_path):
    asked = ["llama-tiny", "--task", "words_forward", "--n", "2", "--policy", "topk", "--keep", "8"]
    more = ["--chunk-length", "16", "--max-new-tokens", "1", "--threads", "1"]
    assert run(capsys, "measure", *asked, *more, "--out", tmp_path / "m")[0] == 0
    with pytest.raises(ValueError, match="budgets of rows were measured"):
        audit(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "task", "reply", "answer", "right"),
    [
        ("ruler", "niah_single_1", "It is 123\n45.", "12345", True),
        ("ruler", "vt", "A", "B", False),
        ("math500", "math500", "so \\boxed{4} or \\boxed{5}", "4", True),
        ("aime25", "aime25", "so \\boxed{4} or \\boxed{5}", "4", False),
        ("longbench-v2", "longbench-v2", "**The correct answer is (C)**", "C", True),
        ("longbench", "triviaqa", "Ada Lovelace\nQuestion: next", "Ada Lovelace", True),
    ],
)
def test_rules_of_data_sets(dataset, task, reply, answer, right):
    rule = rule_of(dataset, task)
    assert rule.exact
    assert rule.right(reply, (answer,)) is right
    assert rule.right(reply, ()) is None


def test_scores_that_are_one_number():
    rows = [("hotpotqa", "Ada", ("Ada",)), ("hotpotqa", "Ada Lovelace", ("Ada",))]
    (one,) = scores_of("longbench", 83.33, rows)
    assert one.agrees
    (other,) = scores_of("longbench", 84.0, rows)
    assert not other.agrees
    assert scores_of("longbench", 50.0, [("gov_report", "a", ("b",))]) is None
    with pytest.raises(ValueError, match="no score 'accuracy' as kvpress writes it for math500"):
        scores_of("math500", {}, [("math500", "4", ("4",))])


def test_what_files_say_does_not_reach_the_terminal_as_it_is():
    assert printable("\x1b[2Ja\u202eb") == "\\x1b[2Ja\\u202eb"
    assert len(printable("x" * 500)) == 120

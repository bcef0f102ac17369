"""Faults planted in folders as kvpress writes them: each is found, and a clean folder has none."""

import json
import shutil

import numpy as np
import pytest

from routegraph.validate.audit.run import audit
from tests.helpers.results_folders import clean, items, kvpress_run, rows_of, ruler_metrics, shown, write_rows


def kinds(found):
    return [one.kind for one in found.findings]


def run_of(found, press, ratio):
    return next(row for row in found.whole if row.pair.run.press == press and row.pair.run.ratio == ratio)


def test_a_clean_folder_has_no_fault_and_its_flips_are_counted(tmp_path):
    found = audit(clean(tmp_path))
    assert kinds(found) == []
    row = run_of(found, "knorm", 0.5)
    assert (row.n, row.judged, row.right_before, row.right_after) == (60, 60, 59, 29)
    assert (row.broken, row.mended, row.n - row.unchanged) == (30, 0, 32)
    assert row.loses
    assert sorted({one.task for one in found.by_task}) == ["niah_multivalue", "niah_single_1", "qa_1"]
    assert sum(one.broken for one in found.by_task if one.pair is row.pair) == 30
    assert found.answer.startswith(
        "2 of 4 compressed runs lose answers beyond chance; 2 show no loss, though a loss below"
    )


def test_a_press_that_never_fired(tmp_path):
    clean(tmp_path, 90)
    kvpress_run(tmp_path, "tova", 0.5, [{**row, "compression_ratio": "0.5"} for row in rows_of({0}, 90)])
    found = audit(tmp_path)
    assert kinds(found) == ["idle"]
    assert "all 90 texts equal those of the uncompressed run" in found.findings[0].text
    tova = next(one for one in found.certificates if one.press == "tova")
    assert (tova.ratio, "nothing shows that the press fired" in tova.reason) == (None, True)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"compression_ratio": 0.5}, "ratio 0.75 in the name, 0.5 in config.yaml"),
        ({"press_name": "knorm"}, "press 'tova' in the name, 'knorm' in config.yaml"),
        ({"model": "other/model"}, "'other--model' in config.yaml"),
        ({"dataset": "longbench"}, "dataset 'ruler' in the name, 'longbench' in config.yaml"),
        ({"data_dir": "8192"}, "data_dir '4096' in the name, '8192' in config.yaml"),
    ],
)
def test_a_name_that_the_configuration_denies(tmp_path, config, says):
    clean(tmp_path, 90)
    kvpress_run(tmp_path, "tova", 0.75, rows_of({0}, 90, 0.75, {3}), **config)
    found = audit(tmp_path)
    assert kinds(found) == ["names"]
    assert says in found.findings[0].text
    assert "tova" not in {one.press for one in found.certificates}


def test_a_ratio_that_the_press_denies(tmp_path):
    clean(tmp_path)
    rows = [{**row, "compression_ratio": "0.25"} for row in rows_of({0}, 60, 0.75, {3})]
    kvpress_run(tmp_path, "tova", 0.75, rows)
    found = audit(tmp_path)
    assert kinds(found) == ["names"]
    assert "ratio 0.75 in the name, 0.25 reported by the press" in found.findings[0].text


def test_a_threshold_is_no_ratio(tmp_path):
    clean(tmp_path)
    rows = [{**row, "compression_ratio": "0.4"} for row in rows_of({0, 1}, 60, 0.4)]
    folder = kvpress_run(tmp_path, "kvzap_mlp", 3.0, rows, threshold=3.0)
    text = (folder / "config.yaml").read_text().replace("compression_ratio: 3.0\n", "")
    (folder / "config.yaml").write_text(text)
    found = audit(tmp_path)
    assert kinds(found) == []
    assert run_of(found, "kvzap_mlp", 0.4).broken == 1


def test_lists_of_answers_that_were_joined(tmp_path):
    clean(tmp_path)
    rows = rows_of({0, 1}, 60, 0.5, {3})
    for row, (_, _, golds) in zip(rows, items(), strict=True):
        row["answer"] = shown(["".join(golds)])
    kvpress_run(
        tmp_path, "tova", 0.5, rows, metrics=ruler_metrics(rows, [["".join(one[2])] for one in items()])
    )
    found = audit(tmp_path)
    assert kinds(found) == ["answers"]
    assert "40 lists of answers stand there joined to one" in found.findings[0].text
    row = run_of(found, "tova", 0.5)
    assert (row.judged, row.broken) == (60, 1)


def test_a_score_that_was_made_with_joined_lists(tmp_path):
    clean(tmp_path)
    rows = rows_of({0, 1}, 60, 0.5, {3})
    joined = ruler_metrics(rows, [["".join(one[2])] for one in items()])
    kvpress_run(tmp_path, "tova", 0.5, rows, metrics=joined)
    found = audit(tmp_path)
    assert kinds(found) == ["answers"]
    assert "niah_multivalue: string_match is 0 there and 95 by the replies" in found.findings[0].text


def test_answers_that_cannot_be_parsed(tmp_path):
    for folder in clean(tmp_path).iterdir():
        rows = rows_of({0}, 60) if "no_press" in folder.name else rows_of({0, 1}, 60, 0.25, {3})
        rows[4]["answer"] = "['10004'\n '2000"
        write_rows(folder, rows)
        (folder / "metrics.json").unlink()
    found = audit(tmp_path)
    assert {one.kind for one in found.warnings} >= {"answers"}
    assert "1 of 60 answers are lists that cannot be parsed" in found.warnings[-1].text


def test_a_mean_that_hides_flips(tmp_path):
    kvpress_run(tmp_path, "no_press", 0.0, rows_of(set(range(10))))
    kvpress_run(tmp_path, "tova", 0.5, rows_of(set(range(10, 21)), 60, 0.5))
    found = audit(tmp_path)
    assert kinds(found) == ["flips"]
    assert (
        "11 of 60 answers break and 10 are mended, while the number right goes from 50 to 49"
        in found.findings[0].text
    )


def test_a_score_that_does_not_follow(tmp_path):
    clean(tmp_path)
    rows = rows_of({0, 1}, 60, 0.5, {3})
    wrong = {**ruler_metrics(rows), "qa_1": {"string_match": 55.5}}
    kvpress_run(tmp_path, "tova", 0.5, rows, metrics=wrong)
    found = audit(tmp_path)
    assert kinds(found) == ["score"]
    assert "qa_1: string_match is 55.5 there and 100 by the replies" in found.findings[0].text


def test_items_that_stand_there_twice_count_once(tmp_path):
    for folder in clean(tmp_path).iterdir():
        lines = (folder / "predictions.csv").read_text().splitlines(keepends=True)
        (folder / "predictions.csv").write_text("".join([*lines, *lines[1:11]]))
        (folder / "metrics.json").unlink()
    found = audit(tmp_path)
    assert [one.kind for one in found.warnings] == ["duplicates"]
    assert "10 rows of ruler (4096)" in found.warnings[0].text
    assert {row.n for row in found.whole} == {60}


def test_rows_of_other_contexts_are_no_repeats(tmp_path):
    """The same question and answer, and another reply: the context differs, which the file does not hold."""
    base, run = rows_of({0}), rows_of({0}, 60, 0.5, {5})
    base.append({**base[1], "predicted_answer": "no idea"})
    run.append({**run[1], "predicted_answer": "none"})
    kvpress_run(
        tmp_path,
        "no_press",
        0.0,
        base,
        metrics=ruler_metrics(base, [*(o[2] for o in items()), items()[1][2]]),
    )
    kvpress_run(
        tmp_path, "tova", 0.5, run, metrics=ruler_metrics(run, [*(o[2] for o in items()), items()[1][2]])
    )
    found = audit(tmp_path)
    assert kinds(found) == []
    assert found.whole[0].n == 61


def test_other_items(tmp_path):
    clean(tmp_path)
    rows = rows_of({0, 1}, 60, 0.5, {3})[:50]
    kvpress_run(tmp_path, "tova", 0.5, rows)
    found = audit(tmp_path)
    assert kinds(found) == ["items"]
    assert (
        "50 common ones are paired, 10 only of the uncompressed run and 0 only of the other"
        in found.findings[0].text
    )
    assert run_of(found, "tova", 0.5).n == 50


def test_one_data_set_without_an_uncompressed_run(tmp_path):
    clean(tmp_path)
    folder = next(tmp_path.glob("*snapkv__0.25"))
    other = tmp_path / folder.name.replace("4096", "8192")
    shutil.copytree(folder, other)
    (other / "config.yaml").write_text((folder / "config.yaml").read_text().replace("4096", "8192"))
    found = audit(tmp_path)
    assert kinds(found) == ["baseline"]
    assert "There is no uncompressed run of ruler (8192)" in found.findings[0].text
    assert len(found.whole) == 4


def test_settings_that_differ(tmp_path):
    clean(tmp_path)
    kvpress_run(tmp_path, "tova", 0.5, rows_of({0, 1}, 60, 0.5), max_new_tokens=64)
    found = audit(tmp_path)
    assert kinds(found) == ["settings"]
    assert "max_new_tokens None there, 64 here" in found.findings[0].text


def test_query_aware_runs_have_no_questions(tmp_path):
    clean(tmp_path)
    rows = [{**row, "question": ""} for row in rows_of({0, 1}, 60, 0.5, {3})]
    kvpress_run(tmp_path, "finch", 0.5, rows, extras=("query_aware",), query_aware=True)
    found = audit(tmp_path)
    assert kinds(found) == ["settings"]
    assert run_of(found, "finch", 0.5).n == 60


def test_a_repeat_is_left_out(tmp_path):
    clean(tmp_path)
    folder = next(tmp_path.glob("*snapkv__0.25"))
    again = folder / "1"
    again.mkdir()
    for file in ("predictions.csv", "metrics.json", "config.yaml"):
        shutil.copy(folder / file, again / file)
    found = audit(tmp_path)
    assert kinds(found) == ["repeat"]
    assert len(found.whole) == 4


@pytest.mark.parametrize(("count", "beyond"), [(1, False), (20, True)])
def test_a_curve_that_rises(tmp_path, count, beyond):
    clean(tmp_path)
    for ratio, wrong in ((0.25, {0, *range(20, 20 + count)}), (0.5, {0})):
        kvpress_run(tmp_path, "tova", ratio, rows_of(wrong, 60, ratio, {5}))
    found = audit(tmp_path)
    assert kinds(found) == ["rise"]
    assert found.findings[0].warns is beyond
    assert f"(up {count}, down 0, p = " in found.findings[0].text
    assert "corrected for 3 comparisons" in found.findings[0].text
    assert ("beyond chance, so" in found.findings[0].text) is beyond


def test_another_uncompressed_run_shows_what_changes_by_itself(tmp_path):
    clean(tmp_path)
    kvpress_run(tmp_path, "snapkv", 0.0, rows_of({0, 7}))
    found = audit(tmp_path)
    assert kinds(found) == ["rerun"]
    assert not found.findings[0].warns
    assert "differs from" in found.findings[0].text
    assert len(found.compressed) == 4


def test_metrics_without_predictions(tmp_path):
    clean(tmp_path)
    next(tmp_path.glob("*snapkv__0.25/predictions.csv")).unlink()
    assert kinds(audit(tmp_path)) == ["unchecked"]


def test_whether_a_data_set_has_its_rule_here(tmp_path):
    for folder in list(clean(tmp_path).iterdir()):
        (folder / "config.yaml").unlink()
        folder.rename(tmp_path / folder.name.replace("ruler__4096", "loogle"))
    found = audit(tmp_path)
    assert {one.kind for one in found.notes} == {"unchecked"}
    assert [one.text.partition(":")[0] for one in found.notes] == [
        "There is no config.yaml to check the name by",
        "metrics.json is not checked, since the rule of loogle is not among the graders",
    ]
    assert found.whole[0].judged == 60


def test_what_is_certified_is_what_certify_would(tmp_path):
    n = 200
    kvpress_run(tmp_path, "no_press", 0.0, rows_of(set(), n))
    for ratio, broken in ((0.25, 1), (0.5, 3), (0.75, 40)):
        kvpress_run(tmp_path, "tova", ratio, rows_of(set(range(broken)), n, ratio, {n - 1}))
    found = audit(tmp_path)
    (one,) = found.certificates
    assert (one.ratio, one.counts.tolist(), one.items) == (0.5, [1, 3, 40], n)
    assert "Certified at a risk of 5 % with 90 % confidence: tova at 0.5." in found.answer
    kvpress_run(tmp_path, "knorm", 0.25, rows_of(set(range(80)), n, 0.25))
    both = audit(tmp_path)
    assert both.needed > found.needed
    assert "all statements together" in both.answer


def test_nothing_is_certified_where_nothing_could_break(tmp_path):
    n = 200
    kvpress_run(tmp_path, "no_press", 0.0, rows_of(set(range(5, n)), n))
    kvpress_run(tmp_path, "tova", 0.5, rows_of(set(range(5, n)), n, 0.5))
    (one,) = audit(tmp_path).certificates
    assert (one.ratio, one.p_values.size) == (None, 0)
    assert one.reason == "only 5 of 200 are right without compression, so that hardly any can break"


def test_the_guarantee_holds_on_the_items_that_all_ratios_share(tmp_path):
    """A ratio measured on the easy half only certifies nothing for the other half."""
    n = 200
    kvpress_run(tmp_path, "no_press", 0.0, rows_of(set(), n))
    kvpress_run(tmp_path, "tova", 0.25, rows_of(set(), n, 0.25, {0}))
    kvpress_run(tmp_path, "tova", 0.5, rows_of(set(), n, 0.5, {0})[:30])
    (one,) = audit(tmp_path).certificates
    assert one.items == 30
    assert one.reason.startswith("30 items are too few")


def test_numbers_are_json(tmp_path):
    told = audit(clean(tmp_path)).to_dict()
    again = json.loads(json.dumps(told, allow_nan=False))
    wanted = {
        "name",
        "task",
        "ratio",
        "n",
        "broken",
        "mended",
        "unchanged_texts",
        "p",
        "smallest_effect",
        "warnings",
    }
    assert wanted <= set(again["runs"][0])
    assert len(again["runs"]) == 4 + 12
    assert np.isclose(again["runs"][1]["difference"]["value"], -0.5)

"""Grading again: what changes, what stays, and folders of earlier versions."""

import json
from pathlib import Path

import pytest

from routegraph.validate.measure.cells import Cells, unsealed
from routegraph.validate.measure.grading import check_gradable, graded, regrade, told
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.commands import run

OLD = Path(__file__).parents[2] / "data/v0.1/measured"


def test_what_a_cell_keeps_is_enough_to_grade_again():
    prompt = Prompt(
        "p", "x", "Which?", "Paris", answers=("Rome",), choices=("Paris", "Rome"), grader="choice"
    )
    assert graded(told(prompt), ["B", "A", "neither", "A"]) == {
        "grader": "choice",
        "right": [1, 1, 0, 1],
        "abstained": [0, 0, 0, 0],
    }
    assert "grader" not in told(Prompt("p", "x"))


def test_scores_are_kept_where_they_are_more_than_right_and_wrong():
    prompt = told(Prompt("p", "x", answer="12", answers=("34",)))
    found = graded(prompt, ["12 and 34", "12"], "all_of")
    assert (found["right"], found["scores"]) == ([1, 0], [1.0, 0.5])
    assert "scores" not in graded(prompt, ["12 and 34", "5"], "all_of")


def test_an_empty_further_answer_is_none():
    prompt = Prompt("p", "x", answer="Paris", answers=("", " ", "Paris", "Rome"))
    check_gradable(prompt)
    assert prompt.golds == ("Paris", "Rome")
    assert graded(told(prompt), ["In Rome.", "In Oslo."])["right"] == [1, 0]


def test_a_prompt_that_cannot_be_graded_is_named():
    with pytest.raises(ValueError, match="prompt 'p': answer 'many' holds no number"):
        check_gradable(Prompt("p", "x", answer="many", grader="number"))
    with pytest.raises(ValueError, match="prompt 'p': unknown grader 'luck'"):
        check_gradable(Prompt("p", "x", answer="many", grader="luck"))


class TestOldFolders:
    def test_they_load_as_they_were_and_know_what_a_hallucination_is(self):
        found = Measured.load(OLD)
        wrong, hallucinated = found.of("wrong"), found.of("hallucination")
        assert (wrong == ~(found.right | found.abstained)).all()
        assert not (hallucinated & ~wrong).any()
        assert found.knowing.all()

    def test_by_the_former_grader_nothing_changes(self, tmp_path):
        before, after = Measured.load(OLD), regrade(OLD, "prefix", tmp_path / "again")
        assert (before.right == after.right).all()
        assert (before.abstained == after.abstained).all()
        assert after.settings["grader"] == "prefix"
        for old, new in zip(before.cells, after.cells, strict=True):
            assert {k: v for k, v in new.items() if k not in ("grader", "settings", "name", "checksum")} == {
                k: v for k, v in old.items() if k not in ("settings", "checksum")
            }

    def test_of_words_contains_and_prefix_agree(self):
        before, after = Measured.load(OLD), regrade(OLD)
        assert (before.right == after.right).all()
        assert after.settings["grader"] == "own, else contains"
        assert {cell["grader"] for cell in after.cells} == {"contains"}

    def test_what_was_written_is_read_again(self, tmp_path):
        made = regrade(OLD, "exact", tmp_path / "again")
        again = Measured.load(tmp_path / "again")
        assert again.ids == made.ids
        assert (again.right == made.right).all()

    def test_into_itself_or_a_folder_by_another_grader_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="go into another folder than"):
            regrade(OLD, "exact", OLD)
        regrade(OLD, "exact", tmp_path / "again")
        with pytest.raises(
            ValueError, match="was measured with grader exact, not any_of; choose another folder"
        ):
            regrade(OLD, "any_of", tmp_path / "again")

    def test_the_command(self, tmp_path, capsys):
        out = tmp_path / "again"
        status, shown, _ = run(
            capsys, "measure", "--regrade", OLD, "--grader", "any_of", "--out", out, "--json"
        )
        assert status == 0
        assert json.loads(shown)["parameters"]["grader"] == "any_of"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (["--regrade", "nowhere"], "'nowhere' is no folder of routegraph measure"),
            (["--regrade", str(OLD), "--grader", "luck"], "unknown grader 'luck'; choose from: all_of"),
            (
                ["llama-tiny", "--regrade", str(OLD)],
                "--regrade grades replies that are there: it takes no MODEL",
            ),
            (["--task", "base"], "MODEL is missing"),
            (["llama-tiny"], "--task is missing"),
            (["llama-tiny", "--task", "words_forward", "--grader", "luck"], "unknown grader 'luck'"),
        ],
    )
    def test_bad_input_is_one_line(self, tmp_path, capsys, given, words):
        status, shown, said = run(capsys, "measure", *given, "--out", tmp_path / "out")
        assert (status, shown) == (2, "")
        assert words in said
        assert len(said.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()


def test_a_folder_is_not_gone_on_with_by_another_grader(tiny, tmp_path):
    prompt = Prompt(
        "p", "red is a color . Alice color red . " * 12, "Alice color", "red", "Answer:", ((0, 5),)
    )
    given = {"policy_names": ["topk"], "ratios": [0.5], "max_new_tokens": 2}
    measure(tiny, [prompt], tmp_path / "cells", **given)
    with pytest.raises(ValueError, match="was measured with grader own, else contains, not prefix"):
        measure(tiny, [prompt], tmp_path / "cells", grader="prefix", **given)
    # As a version without graders left it: by the former one.
    run_json = tmp_path / "cells/run.json"
    document = json.loads(run_json.read_text())
    del document["settings"]["grader"]
    run_json.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="was measured with grader prefix, not own, else contains"):
        measure(tiny, [prompt], tmp_path / "cells", **given)
    # Nor without what only the folder knows of.
    document["settings"] |= {"grader": "own, else contains", "stop": "."}
    run_json.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"was measured with stop \., not None"):
        measure(tiny, [prompt], tmp_path / "cells", **given)


def test_what_an_earlier_version_left_unfinished_is_gone_on_with(tiny, tmp_path):
    """By the grader it was begun with: its cells stay, and new ones know the folder's settings."""
    texts = [f"{name} color red . Bob color blue . " * 12 for name in ("Alice", "Carol")]
    prompts = [Prompt(f"{n}", text, "Bob color", "blue", "Answer:") for n, text in enumerate(texts)]
    given = {"policy_names": ["topk"], "ratios": [0.5], "max_new_tokens": 2, "grader": "prefix"}
    whole = measure(tiny, prompts, tmp_path / "cells", **given)
    settings = {name: value for name, value in whole.settings.items() if name != "grader"}
    old = tmp_path / "old"
    kept = Cells.open(old, settings)
    kept.keep(whole.names[0], unsealed(whole.cells[0]))
    found = measure(tiny, prompts, old, **given)
    assert json.loads((old / "run.json").read_text())["runs"][-1]["measured"] == 1
    assert Measured.load(old).replies == found.replies == whole.replies

"""Cells are bound to their names, and prompts count once."""

import json
import shutil
from dataclasses import replace

import pytest

from routegraph.validate.measure.cells import MEASUREMENT, PREDICTION, Cells, read_cells, sealed, write_cell
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.measure.schema import check_settings
from routegraph.validate.predict.result import Predicted
from routegraph.validate.predict.run import predict
from routegraph.validate.prompts.asking import Asks
from routegraph.validate.prompts.prompt import Prompt, RepeatedPromptsWarning
from routegraph.validate.traces.extract import extract

PROMPT = Prompt(
    "p",
    "Ada lives in Paris and Bob lives in Rome. Both of them like to swim, and to sing in the old choir by the river.",
    "Where does Ada live?",
    "Paris",
    answer_spans=((13, 18),),
)
SETTINGS = {
    "model": "m",
    "policies": ["random"],
    "ratios": [0.0],
    "question_aware": False,
    "max_new_tokens": 2,
    "chunk_length": 64,
    "seed": 0,
}
ASKED = {"policy_names": ["random"], "ratios": (0.5,), "max_new_tokens": 2}


@pytest.mark.parametrize("kind", [MEASUREMENT, PREDICTION])
def test_a_copied_cell_is_refused(tmp_path, kind):
    kept = Cells.open(tmp_path / "out", SETTINGS, kind)
    kept.keep("one", {"prompt": {"id": "p"}})
    cells = tmp_path / "out" / "cells"
    shutil.copy(cells / "one.json", cells / "one copy.json")
    result = Measured if kind == MEASUREMENT else Predicted
    with pytest.raises(ValueError, match=r"'.*one copy.json' is 'one.json' under another name; remove it"):
        result.load(tmp_path / "out")


def test_a_renamed_cell_is_not_taken_for_another(tmp_path):
    kept = Cells.open(tmp_path / "out", {"model": "m"})
    kept.keep("one", {"prompt": {"id": "p"}})
    (tmp_path / "out" / "cells" / "one.json").rename(tmp_path / "out" / "cells" / "two.json")
    with pytest.raises(ValueError, match="under another name"):
        kept.find("two")


def test_of_an_earlier_version_the_copy_is_found_by_its_content(tmp_path):
    Cells.open(tmp_path / "out", {"model": "m"})
    cells = tmp_path / "out" / "cells"
    for name, id in (("b", "p"), ("c", "q")):
        write_cell(cells / f"{name}.json", sealed({"prompt": {"id": id}}, {"model": "m"}))
    assert list(read_cells(tmp_path / "out", {"model": "m"})) == ["b", "c"]
    shutil.copy(cells / "c.json", cells / "a.json")
    with pytest.raises(ValueError, match=r"'a.json' and 'c.json' of '.*out' are the same; remove the copy"):
        read_cells(tmp_path / "out", {"model": "m"})


@pytest.mark.parametrize("ask", [measure, predict])
def test_a_prompt_given_twice_counts_once(tiny, tmp_path, ask):
    with pytest.warns(RepeatedPromptsWarning, match="1 of 2 prompts are given again, the first of them 'p'"):
        found = ask(tiny, [PROMPT, PROMPT], tmp_path / "out", **ASKED)
    assert found.ids == ("p",)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["runs"][0]["prompts"] == 1
    assert type(found).load(tmp_path / "out").ids == ("p",)


def test_a_prompt_given_twice_is_extracted_once(tiny):
    with pytest.warns(RepeatedPromptsWarning):
        assert len(extract(tiny, [PROMPT, PROMPT])) == 1


def test_different_prompts_of_one_id_are_not_matched(tiny):
    prompts = [
        PROMPT,
        replace(PROMPT, question="Where does Bob live?", answer="Rome", answer_spans=((35, 39),)),
    ]
    found = predict(tiny, prompts, **ASKED)
    with pytest.raises(ValueError, match="different prompts that were predicted have the id 'p'"):
        found.check_same(measure(tiny, prompts, **ASKED))


@pytest.mark.parametrize(
    "asks",
    [
        Asks(),
        Asks(chat="on", system="Be brief.", ask="Now: {question}", prefix="on", question_aware=True),
        Asks(chat="on", prefix="off", question_aware=True),
    ],
)
def test_whatever_is_asked_its_settings_are_read_again(asks, monkeypatch):
    """Red before: no folder of a model that is asked in a chat was read (chat must be a text, got True)."""
    monkeypatch.setattr(Asks, "chats", lambda self, model: self.chat == "on")
    settings = {"model": "m", "policies": ["topk"], "ratios": [0.0, 0.5], "seed": 0, **asks.asking(None)}
    check_settings(settings, "run.json")


@pytest.mark.parametrize("missing", ["dead", "gone", "tokens"])
def test_a_cell_of_replies_that_were_cut_tells_of_every_slot_that_died(missing):
    from routegraph.schema import checked
    from routegraph.validate.measure.schema import measured_cell

    settings = {"policies": ["h2o"], "decode_budget": [40]}
    told = {
        "prompt": {"id": "a", "task": "b", "n_context": 9, "answerable": True},
        "protected": {"h2o": {}}, "replies": ["a", "b"], "right": [1, 0], "abstained": [0, 0],
        "metrics": {}, "dead": [0.0, 0.5], "gone": [0.0, 0.5], "tokens": [3, 4],
    }  # fmt: skip
    del told[missing]
    with pytest.raises(ValueError, match=f"lacks .*'{missing}'"):
        checked(measured_cell(settings), told, "it")

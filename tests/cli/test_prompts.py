"""The command `prompts`, and what other commands say of rows that are left out."""

import json
from pathlib import Path

import pytest

from tests.helpers.commands import run
from tests.helpers.tokenizer import byte_level_tokenizer

DATA = Path(__file__).parents[1] / "data" / "formats"


def test_json_is_one_document_of_the_contract(capsys):
    status, out, err = run(capsys, "prompts", DATA / "table.csv", "--json")
    told = json.loads(out)
    assert (status, err) == (0, "")
    assert {"version", "parameters", "format", "n", "skipped", "has", "lengths", "first"} <= set(told)
    assert (told["format"], told["n"]) == ("columns", 2)
    assert told["skipped"] == [{"row": 4, "why": "its answer is empty"}]
    assert told["has"] == {"question": 2, "answer": 2, "evidence": 0, "answer_spans": 2}
    assert told["lengths"] == {"min": 11, "median": 11, "max": 11, "unit": "words"}
    assert told["first"]["answer"] == "Hannah Prewett"
    assert told["parameters"] == {"file": "table.csv", "model": None}


def test_table(capsys):
    status, out, err = run(capsys, "prompts", DATA / "table.csv")
    assert (status, err) == (0, "")
    for words in (
        "format columns (CSV)",
        "2 prompts, 1 row left out",
        "its answer is empty",
        "Who led the yards?",
    ):
        assert words in " ".join(out.split())


def test_brackets_are_shown_as_they_are(capsys, tmp_path):
    (tmp_path / "p.csv").write_text("context,question,answer\nA [bold] word [/x].,Which [i]?,[bold] word\n")
    status, out, _ = run(capsys, "prompts", tmp_path / "p.csv")
    assert status == 0
    assert "A [bold] word [/x]." in out
    assert "Which [i]?" in out


def test_tokens_of_a_model_are_counted_without_its_weights(capsys, tmp_path):
    pytest.importorskip("transformers")
    byte_level_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    status, out, _ = run(capsys, "prompts", DATA / "table.csv", "--model", tmp_path, "--json")
    lengths = json.loads(out)["lengths"]
    first = byte_level_tokenizer()(json.loads(out)["first"]["context"]).input_ids
    assert (status, lengths["unit"]) == (0, "tokens")
    assert len(first) in (lengths["min"], lengths["max"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kvpress_predictions.csv", "error: kvpress_predictions.csv is what kvpress's evaluation writes"),
        ("lm_eval_no_context.jsonl", "error: no row can be used as lm-eval"),
        ("missing.jsonl", "error: no prompts file"),
    ],
)
def test_what_is_not_understood_is_one_line(capsys, name, said):
    status, out, err = run(capsys, "prompts", DATA / name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(said)


def test_commands_warn_of_rows_that_are_left_out(capsys, tmp_path):
    status, _, err = run(
        capsys, "extract", "no-such-model", "--prompts", DATA / "table.csv", "--out", tmp_path / "t.npz"
    )
    assert status == 2
    assert "warning: table.csv: 1 of 3 rows are left out (row 4: its answer is empty)\n" in err

import csv
import io
import json
import sys
import warnings
from pathlib import Path

import pytest

from routegraph.validate.prompts.formats import PromptsFile, formats, understand
from routegraph.validate.prompts.formats.read import ORDER
from routegraph.validate.prompts.prompt import (
    Prompt,
    SkippedRowsWarning,
    bundled_prompts,
    occurrences,
    read_prompts,
    read_prompts_file,
    write_prompts,
)
from routegraph.validate.tasks import load_task

DATA = Path(__file__).parents[3] / "data" / "formats"
BRIDGE = "The mill bridge was opened in 1894."


def read(name: str) -> PromptsFile:
    return read_prompts_file(DATA / name)


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def made(*rows: object, name: str = "f.jsonl") -> PromptsFile:
    return understand(lines(*rows), name)


def table(*rows: list[str], delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue().encode()


def test_every_reader_that_ships_is_asked() -> None:
    assert {name for name in formats if formats.origin(name) == "routegraph"} == set(ORDER)


@pytest.mark.parametrize(
    ("task", "question", "prefix", "n_golds", "grader"),
    [
        ("niah_single_1", "What is the special magic number for mute", "The special magic number for", 1, "all_of"),
        ("niah_multivalue", "What are all the special magic numbers", "The special magic numbers for", 4, "all_of"),
        ("vt", "Find all variables that are assigned the value", "Answer: According to the chain", 5, "all_of"),
        ("cwe", "What are the 10 most common words in the above list?", "Answer: The top 10 words", 10, "all_of"),
        ("fwe", "Do not provide any explanation. Please", "Answer: According to the coded text", 3, "all_of"),
        ("qa_1", "Answer the question based on the given documents.", "Answer:", 2, "any_of"),
    ],
)  # fmt: skip
def test_ruler(task: str, question: str, prefix: str, n_golds: int, grader: str) -> None:
    path = f"ruler/{task}/validation.jsonl"
    found = read(path)
    assert (found.format, found.container, found.skipped) == ("ruler", "JSONL", ())
    prompt = found.prompts[0]
    row = json.loads((DATA / path).read_text(encoding="utf-8").splitlines()[0])
    assert prompt.question.startswith(question)
    assert prompt.answer_prefix.startswith(prefix)
    assert prompt.golds == tuple(row["outputs"])
    assert len(prompt.golds) == n_golds
    assert prompt.grader == grader
    assert prompt.task == task.split("_")[0]
    # Context and question are the input, and nothing of the question is left in the context's end.
    assert row["input"].startswith(prompt.context)
    assert row["input"][len(prompt.context) :].removeprefix("Question: ").strip() == prompt.question
    assert len(occurrences(prompt)) >= n_golds or task == "qa_1"


def test_ruler_predictions_hold_the_prefix_in_the_input() -> None:
    (prompt,) = read("ruler/predictions.jsonl").prompts
    (other, _) = read("ruler/qa_1/validation.jsonl").prompts
    assert (prompt.context, prompt.question, prompt.answer_prefix) == (
        other.context,
        other.question,
        "Answer:",
    )


def test_ruler_rows_without_a_known_question_are_left_out_by_name() -> None:
    good = json.loads((DATA / "ruler/fwe/validation.jsonl").read_text())
    found = made({"index": 0, "input": "Sing.", "outputs": ["la"]}, good)
    assert [(row, why[:48]) for row, why in found.skipped] == [
        (1, "its input ends in the question of none of RULER'")
    ]
    assert [prompt.id for prompt in found.prompts] == ["2"]


def test_longbench() -> None:
    found = read("longbench_hotpotqa.jsonl")
    first, second = found.prompts
    assert (found.format, found.notes) == ("longbench", ())
    assert first.question == "Who led the yards when the ferry Alder was built?"
    assert (first.golds, second.golds) == (("Hannah Prewett",), ("1931", "in 1931"))
    assert (first.grader, first.task) == ("f1", "hotpotqa")
    assert len(first.id) == 24
    (trec,) = read("longbench_trec.jsonl").prompts
    assert (trec.question, trec.answer_prefix) == ("What year did the ferry stop ?", "Type:")
    assert trec.choices[:2] == ("Food", "Date")
    assert "Type: Date" in trec.context
    (paragraph,) = read("longbench_passage_retrieval_en.jsonl").prompts
    assert paragraph.golds == ("Paragraph 2", "2")
    (samsum,) = read("longbench_samsum.jsonl").prompts
    assert samsum.question.endswith("Ben: At one.")
    assert samsum.answer_prefix == "Summary:"


def test_longbench_says_where_its_score_is_another() -> None:
    report = read("longbench_gov_report.jsonl")
    assert report.notes == (
        "gov_report is graded by f1; LongBench scores it by ROUGE-L, so do not compare the two",
    )
    assert report.prompts[0].question == "Write a one-page summary of the report."
    (count,) = read("longbench_passage_count.jsonl").prompts
    assert (count.grader, count.golds) == ("number", ("2",))


@pytest.mark.parametrize("name", ["longbench_v2.json", "longbench_v2.jsonl"])
def test_longbench_v2(name: str) -> None:
    found = read(name)
    prompt = found.prompts[0]
    assert found.format == "longbench-v2"
    assert prompt.question.endswith("(A) Edda Marsh\n(B) Hannah Prewett\n(C) Owen Tarn\n(D) Nobody")
    assert (prompt.answer, prompt.grader, prompt.choices[1]) == ("B", "choice", "Hannah Prewett")
    assert [prompt.context[slice(*span)] for span in occurrences(prompt)] == ["Hannah Prewett"]


@pytest.mark.parametrize("name", ["kvpress_ruler.jsonl", "kvpress_ruler.parquet", "kvpress_ruler.csv"])
def test_kvpress(name: str) -> None:
    found = read(name)
    rows = [json.loads(line) for line in (DATA / "kvpress_ruler.jsonl").read_text().splitlines()]
    assert found.format == "kvpress"
    assert [prompt.grader for prompt in found.prompts] == ["all_of", "all_of", "any_of"]
    for prompt, row in zip(found.prompts, rows, strict=True):
        assert list(prompt.golds) == row["answer"]
        assert (prompt.context, prompt.question) == (row["context"], row["question"].strip())
        assert (prompt.answer_prefix, prompt.task) == (row["answer_prefix"], row["task"])


def test_kvpress_of_other_data_sets() -> None:
    (longbench,) = read("kvpress_longbench.parquet").prompts
    assert (longbench.question, longbench.answer_prefix, longbench.grader) == (
        "Who led the yards when the ferry Alder was built?",
        "Answer:",
        "f1",
    )
    needle = read("kvpress_needle.jsonl")
    (prompt,) = needle.prompts
    assert prompt.golds[0] == "to row at dawn."
    assert [prompt.context[slice(*span)] for span in prompt.evidence] == [prompt.golds[1]]
    assert needle.skipped == ((2, "its needle is not in its context: kvpress puts it there when it runs"),)


def test_kvpress_results_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"kvpress_predictions.csv is what kvpress's evaluation writes .*'context'"
    ):
        read("kvpress_predictions.csv")


def test_lm_eval() -> None:
    found = read("lm_eval_squad.jsonl")
    first, second = found.prompts
    assert found.format == "lm-eval"
    assert (first.question, first.answer_prefix) == ("Who led the yards?", "Answer:")
    assert first.context.endswith("from 1925 to 1940.")
    assert first.context.startswith("Background: Otters")  # the worked example stays
    assert second.golds == ("Gosport", "at Gosport")
    assert first.grader == "exact"
    assert read("lm_eval_lists.jsonl").prompts == (first,)
    (choice,) = read("lm_eval_choice.jsonl").prompts
    assert (choice.answer, choice.choices, choice.grader) == ("yes", ("no", "yes"), "choice")
    (ruler,) = read("lm_eval_ruler.jsonl").prompts
    (other, *_) = read("ruler/niah_single_1/validation.jsonl").prompts
    assert (ruler.context, ruler.question, ruler.golds) == (other.context, other.question, other.golds)


def test_lm_eval_without_a_context_is_refused() -> None:
    with pytest.raises(
        ValueError, match="its doc has the fields 'question', 'answer', and none is known to be a cont"
    ):
        read("lm_eval_no_context.jsonl")


def test_lm_eval_filters_give_one_prompt() -> None:
    one = json.loads((DATA / "lm_eval_lists.jsonl").read_text())
    found = made(one, {**one, "filter": "flexible-extract"})
    assert found.skipped == ((2, "its id '0' is that of row 1, too"),)


@pytest.mark.parametrize("name", ["squad_v2.json", "squad_flat.jsonl"])
def test_squad(name: str) -> None:
    found = read(name)
    first, second = found.prompts
    assert found.format == "squad"
    assert first.context[slice(*first.answer_spans[0])] == "Hannah Prewett"
    assert (second.answerable, second.golds) == (False, ())
    assert "read as unanswerable" in found.notes[0]


def test_squad_spans_that_do_not_hold_the_answer_are_dropped() -> None:
    row = {"context": BRIDGE, "question": "When?", "answers": {"text": ["1894"], "answer_start": [3]}}
    assert made(row).prompts[0].answer_spans == ()


def test_csv() -> None:
    found = read("table.csv")
    assert (found.format, found.skipped) == ("columns", ((4, "its answer is empty"),))
    assert found.notes == ("context is read from column 'passage'",)
    assert found.prompts[1].golds == ("1931", "in 1931")
    assert found.prompts[0].grader == ""


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(delimiter: str) -> None:
    data = table(["context", "question", "answer"], [BRIDGE, "When, then?", "1894"], delimiter=delimiter)
    assert understand(data, "t").prompts[0].question == "When, then?"


def test_fields_as_long_as_contexts() -> None:
    before = csv.field_size_limit()
    long = "word " * 100_000
    found = understand(table(["context", "question", "answer"], [long, "What?", "word"]), "t.csv")
    assert found.prompts[0].context == long
    assert csv.field_size_limit() == before


def test_json_list_of_our_fields_keeps_the_spans(tmp_path: Path) -> None:
    listed = [prompt.to_dict() for prompt in bundled_prompts()[:3]]
    (tmp_path / "p.json").write_text(json.dumps(listed))
    found = read_prompts_file(tmp_path / "p.json")
    assert (found.format, list(found.prompts)) == ("routegraph", bundled_prompts()[:3])


def test_our_prompts_with_several_answers(tmp_path: Path) -> None:
    listed = [Prompt("a", BRIDGE, "When?", "1894", answers=("in 1894",), choices=("x", "y"), grader="any_of")]
    write_prompts(tmp_path / "p", listed)
    assert read_prompts_file(tmp_path / "p") == PromptsFile("routegraph", "JSONL", tuple(listed), name="p")


def test_our_prompts_that_cannot_be_asked_or_judged_are_told() -> None:
    assert made(
        {"context": BRIDGE}, {"context": BRIDGE, "answer_prefix": "In", "answerable": False}
    ).notes == (
        "1 of 2 prompts have neither question nor answer prefix",
        "1 of 2 prompts have no answer, and are not said to be unanswerable",
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lines({"context": BRIDGE, "query": "When?", "question": "?", "answer": "1894"}),
         "f: columns 'query' and 'question' may each be the question; rename or drop all but one"),
        (table(["context", "question", "query", "answer"], [BRIDGE, "a", "b", "c"]),
         "f: columns 'question' and 'query' may each be the question"),
        (table(["context", "answer"], [BRIDGE, "1894"]),
         r"f is not understood: its CSV has the columns 'context', 'answer', and none for the question \(question,"),
        (lines({"question": "When?", "answer": "1894"}), r"none for the context \(context, passage, document\)"),
        (lines({"a": 1}), r"none for the context .* and question .* and answer"),
        (b"Just some words\nand more\n", "none for the context"),
        (b'{"a": 1,\n "b": 2}', "it holds one JSON object of 'a', 'b'"),
        (b"context,question,answer\n", "only the header is there"),
        (b"context,question,answer\na,b\n", "no row fits the header"),
        (b"context,question,question,answer\na,b,c,d\n", "column 'question' stands twice"),
        (b'context,question,answer\n"a,b,c\n', "f is read as CSV, and is none: unexpected end of data"),
        (b"\xef\xbb\xbf", "f holds no prompts"),
        ("context,question,answer\ncafé,b,c".encode("latin-1"), r"'f' is not UTF-8 text \(byte 27\)"),
        ("context,question,answer\na,b,c".encode("utf-16"), r"'f' is not UTF-8 text \(byte 0\)"),
        (b"\x1f\x8b\x08\x00", r"'f' is packed \(gzip\); unpack it first"),
        (b"PAR1 and no more", "f is broken parquet: "),
        (lines({"pred": "x", "answers": ["y"], "all_classes": None, "length": 3}), "f holds LongBench's predictions"),
        (lines({"context": " ", "question": "b", "answer": "c", "max_new_tokens": 1, "answer_prefix": ""}),
         r"no row can be used as kvpress: f: 1 of 1 rows are left out \(row 1: its context is empty\)"),
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        understand(data, "f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"context": "", "question": "a", "answer": "b"}, "its context is empty"),
        ({"context": "a", "question": " ", "answer": "b"}, "its question is empty"),
        ({"context": "a", "question": "Question: ", "answer": "b"}, "its question is empty"),
        ({"context": "a", "question": "b", "answer": None}, "its answer is empty"),
        ({"context": "a", "question": "b", "answer": "[]"}, "its answer is empty"),
        ({"context": ["a"], "question": "b", "answer": "c"}, "its context must be text, got a list"),
        ({"context": "a\ud800", "question": "b", "answer": "c"}, "its context holds half a surrogate pair"),
        ({"id": "1", "context": "a", "question": "b", "answer": "c"}, "its id '1' is that of row 1, too"),
        ({"question": "b", "answer": "c"}, "its context is empty"),
    ],
)
def test_rows_that_are_left_out(row: dict[str, object], why: str) -> None:
    good = {"id": "1", "passage": "x", "context": "x", "question": "y", "answer": ["z"]}
    del good["passage"]
    found = made(good, row)
    assert [prompt.id for prompt in found.prompts] == ["1"]
    ((number, said),) = found.skipped
    assert (number, said[: len(why)]) == (2, why)


def test_broken_lines_of_other_formats_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(
        lines({"context": BRIDGE, "query": "When?", "answer": "1894"}) + b"{oops\n[1]\n"
    )
    with pytest.warns(
        SkippedRowsWarning, match=r"f.jsonl: 2 of 3 rows are left out \(row 2: no JSON .*; row 3: no JSON obj"
    ):
        assert len(read_prompts(tmp_path / "f.jsonl")) == 1
    with pytest.warns(SkippedRowsWarning):
        assert len(load_task(tmp_path / "f.jsonl")) == 1


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_prompts(DATA / "longbench_hotpotqa.jsonl")) == 2


def test_marks_of_a_chat_template_are_told() -> None:
    found = made({"context": "[INST] a", "query": "b [/INST]", "answer": "c"})
    assert "1 of 1 prompts hold the marks of a chat template" in found.notes[-1]


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ValueError, match=r"is parquet, which needs pyarrow: pip install pyarrow \(the extra \[models\]"
    ):
        read("kvpress_ruler.parquet")


def test_a_format_of_ones_own_is_asked_first(tmp_path: Path, restored: object) -> None:
    from routegraph import plugins

    (tmp_path / "mine.py").write_text(
        "from routegraph.validate.prompts.formats import collect, format_, make_prompt\n"
        "@format_('mine')\n"
        "def mine(table):\n"
        "    if not table.has('frage'):\n"
        "        return None\n"
        "    return collect(table, 'mine', lambda number, row: make_prompt(\n"
        "        number, context=row['text'], question=row['frage'], answer=row['antwort']))\n"
    )
    plugins.load(tmp_path / "mine.py")
    found = made({"text": "Ein Haus.", "frage": "Was?", "antwort": "Haus"})
    assert (found.format, found.prompts[0].question) == ("mine", "Was?")
    assert made({"context": "a", "question": "b", "answer": "c"}).format == "routegraph"

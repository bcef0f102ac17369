"""LongBench's JSONL, version 1: `input`, `context`, `answers`, `all_classes`, `dataset`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats.base import PromptsFile, Row, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.values import golds, text


@dataclass(frozen=True)
class _Dataset:
    """How replies are graded here, what LongBench scores them by where that differs, and what is asked."""

    grader: str
    own: str = ""
    asks: str = "{input}"
    prefix: str = ""


_QA = _Dataset("f1")
_ZH_QA = _Dataset("f1", own="F1 of words that jieba cuts", prefix="回答：")
_CODE = _Dataset(
    "f1", own="edit similarity", asks="{input}\nComplete the next line of code.", prefix="Next line of code:"
)
_ROUGE = "ROUGE-L"
_CLASSES = "the classes that a first line names, letter by letter, shared among them"
#: Data sets by name; "{input}" is the row's. Where it is empty, what is asked is said in our own words.
DATASETS = {
    **dict.fromkeys(
        ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "triviaqa"), _QA
    ),
    "multifieldqa_zh": _ZH_QA,
    "dureader": _Dataset("f1", own=_ROUGE, prefix="回答："),
    "gov_report": _Dataset(
        "f1", own=_ROUGE, asks="Write a one-page summary of the report.", prefix="Summary:"
    ),
    "multi_news": _Dataset("f1", own=_ROUGE, asks="Write a one-page summary of the news.", prefix="Summary:"),
    "vcsum": _Dataset("f1", own=_ROUGE, asks="请总结会议的内容。", prefix="会议总结："),
    "qmsum": _Dataset("f1", own=_ROUGE),
    "samsum": _Dataset("f1", own=_ROUGE, prefix="Summary:"),
    "trec": _Dataset("contains", own=_CLASSES, prefix="Type:"),
    "lsht": _Dataset("contains", own=_CLASSES, prefix="类别："),
    "passage_retrieval_en": _Dataset(
        "contains", own="the share of right numbers", asks="{input}\n\nWhich paragraph is this abstract of?"
    ),
    "passage_retrieval_zh": _Dataset(
        "contains", own="the share of right numbers", asks="{input}\n\n这是哪一段的摘要？"
    ),
    "passage_count": _Dataset(
        "number",
        own="the share of right numbers",
        asks="How many different paragraphs are there, each counted once? Answer with the number only.",
        prefix="The final answer is:",
    ),
    "lcc": _CODE,
    "repobench-p": _CODE,
}
#: The end of inputs that are worked examples with the last answer left out.
_OPEN_END = re.compile(r"\n\s*((?:Type|Answer|Summary|类别)\s*[:：])\s*$")
_NUMBER = re.compile(r"(?:Paragraph |段落)(\d+)")


def known(name: str) -> _Dataset:
    """Return a data set by its name, LongBench-E's ("..._e", "...-e") among them; an unknown one is asked as it is."""
    return DATASETS.get(re.sub(r"[_-]e$", "", name), _Dataset(""))


def grader(name: str) -> str:
    """Return by which grader a data set's replies are judged."""
    return known(name).grader


def answers(name: str, value: object) -> list[str]:
    """Return the right answers of a row; of a paragraph its number, too, since LongBench looks at numbers only."""
    right = golds(value)
    if name.startswith("passage_retrieval"):
        right += [found[1] for gold in right if (found := _NUMBER.fullmatch(gold))]
    return right


def scoring_notes(names: Iterable[str]) -> list[str]:
    """Return where graders stand in for a score of LongBench's that they do not equal."""
    return [
        f"{name} is graded by {known(name).grader}; LongBench scores it by {known(name).own}, so do not compare the two"
        for name in dict.fromkeys(names)
        if known(name).own
    ]


@format_("longbench")
def longbench(table: Table) -> PromptsFile | None:
    """Read LongBench's JSONL (input, context, answers, dataset, all_classes), LongBench-E's among them.

    Fields after https://github.com/THUDM/LongBench, LongBench/README.md, its scorers in LongBench/eval.py.
    """
    if table.has("pred", "answers", "all_classes") and not table.has("context"):
        raise ValueError(
            f"{table.name} holds LongBench's predictions (pred, answers): without context and question nothing can be "
            "asked again; give the data set that they were made from"
        )
    if not table.has("input", "context", "answers") or not {"dataset", "all_classes"} & set(table.columns):
        return None
    return collect(table, "longbench", _read, scoring_notes(_name(row) for _, row in table.rows))


def _name(row: Row) -> str:
    return text(row.get("dataset"), "dataset").strip()


def _read(number: int, row: Row) -> Prompt:
    name = _name(row)
    dataset = known(name)
    asked = text(row["input"], "input")
    prefix = dataset.prefix
    if (end := _OPEN_END.search(asked)) is not None:
        asked, prefix = asked[: end.start()], end[1]
    return make_prompt(
        number,
        id=row.get("_id"),
        context=row["context"],
        question=dataset.asks.replace("{input}", asked),
        answer=answers(name, row["answers"]),
        answer_prefix=prefix,
        choices=golds(row.get("all_classes")),
        task=name,
        grader=dataset.grader,
    )

"""SQuAD and what is written like it: nested (data, paragraphs, qas), and flat with `answers` as an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from routegraph.validate.prompts.fields import Prompt, Span
from routegraph.validate.prompts.formats.base import PromptsFile, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.values import golds


@format_("squad")
def squad(table: Table) -> PromptsFile | None:
    """Read SQuAD's JSON: data, paragraphs, qas, or flat rows (context, question, answers: {text, answer_start}).

    Questions that are impossible, or have no answer, are unanswerable ones, as in SQuAD 2.0. Where an answer starts
    is kept, if it stands there.
    """
    nested = _nested(table.document)
    if nested is not None:
        return _noted(collect(table, "squad", _read, rows=nested))
    if not table.has("context", "question", "answers") or not all(
        _spelt(row["answers"]) for _, row in table.rows
    ):
        return None
    return _noted(collect(table, "squad", _read))


def _nested(document: Any) -> list[tuple[int, Mapping[str, Any]]] | None:
    """Return the questions of a nested document as flat rows, numbered through; None if it is none."""
    articles = document.get("data") if isinstance(document, Mapping) else document
    if isinstance(document, Mapping) and "paragraphs" in document:
        articles = [document]
    if not isinstance(articles, list):
        return None
    asked = [
        {**question, "context": paragraph.get("context"), "title": article.get("title")}
        for article in _objects(articles)
        for paragraph in _objects(article.get("paragraphs"))
        for question in _objects(paragraph.get("qas"))
    ]
    return list(enumerate(asked, start=1)) or None


def _objects(listed: Any) -> Iterator[Mapping[str, Any]]:
    return (one for one in listed if isinstance(one, Mapping)) if isinstance(listed, list) else iter(())


def _spelt(answers: Any) -> bool:
    """Return whether answers are an object with texts, or a list of such."""
    if isinstance(answers, list):
        return bool(answers) and all(isinstance(one, Mapping) and "text" in one for one in answers)
    return isinstance(answers, Mapping) and "text" in answers


def _unanswerable(row: Mapping[str, Any]) -> bool:
    return bool(row.get("is_impossible")) or ("answers" in row and not golds(row["answers"]))


def _noted(read: PromptsFile) -> PromptsFile:
    count = sum(not prompt.answerable for prompt in read.prompts)
    note = f"{count} questions without an answer are read as unanswerable, as in SQuAD 2.0"
    return replace(read, notes=(*read.notes, note)) if count else read


def _read(number: int, row: Mapping[str, Any]) -> Prompt:
    impossible = _unanswerable(row)
    return make_prompt(
        number,
        id=row.get("id"),
        context=row.get("context"),
        question=row.get("question"),
        answer=[] if impossible else row.get("answers", row.get("answer")),
        answerable=not impossible,
        answer_spans=() if impossible else _spans(row.get("context"), row.get("answers")),
        task=row.get("title"),
    )


def _spans(context: Any, answers: Any) -> Sequence[Span]:
    """Return where the answers stand; none unless each stands where it is said to."""
    if isinstance(answers, Mapping):
        starts, texts = answers.get("answer_start"), answers.get("text")
        if not isinstance(starts, list) or not isinstance(texts, list) or len(starts) != len(texts):
            return ()
        told = list(zip(starts, texts, strict=True))
    else:
        told = [(one.get("answer_start"), one.get("text")) for one in _objects(answers)]
    if not isinstance(context, str) or not all(_stands(context, start, words) for start, words in told):
        return ()
    return sorted({(start, start + len(words)) for start, words in told})


def _stands(context: str, start: Any, words: Any) -> bool:
    if not isinstance(start, int) or not isinstance(words, str) or not words.strip():
        return False
    return start >= 0 and context.startswith(words, start)

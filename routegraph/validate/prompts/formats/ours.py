"""The format of routegraph itself: one JSON object a line, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from routegraph.validate.prompts.fields import Prompt, Span
from routegraph.validate.prompts.formats.base import PromptsFile, Table, collect, format_
from routegraph.validate.prompts.formats.columns import find_column

#: Fields that tell our rows from a plain table where they are no JSONL.
_OWN = ("evidence", "answer_spans", "answerable", "choices", "grader", "tags")
#: Kinds of column that may be called otherwise, and the names that they have here.
_HERE = {"question": ("question",), "answer": ("answer", "answers")}


@format_("routegraph")
def routegraph(table: Table) -> PromptsFile | None:
    """Read the format of routegraph itself: context, question, answer, answer_prefix, evidence, answer_spans, ...

    A file whose question or answer goes by another name is none: it would be read without them.
    """
    if table.container == "JSONL":
        if table.rows and not _is_ours(table):
            return None
        prompts = tuple(parse_prompts(table.text, table.name))
        return PromptsFile("routegraph", table.container, prompts, notes=_lacking(prompts), name=table.name)
    if table.container == "CSV" or not (_is_ours(table) and set(_OWN) & set(table.columns)):
        return None
    return collect(table, "routegraph", lambda number, row: _prompt(row, number))


def _lacking(prompts: tuple[Prompt, ...]) -> tuple[str, ...]:
    """Say how many prompts cannot be asked or judged: here both question and answer may be left out."""
    asked = sum(not (prompt.question.strip() or prompt.answer_prefix.strip()) for prompt in prompts)
    judged = sum(prompt.answerable and not prompt.golds for prompt in prompts)
    told = (
        (asked, "neither question nor answer prefix"),
        (judged, "no answer, and are not said to be unanswerable"),
    )
    return tuple(f"{count} of {len(prompts)} prompts have {what}" for count, what in told if count)


def _is_ours(table: Table) -> bool:
    if "context" not in table.columns:
        return False
    for kind, here in _HERE.items():
        if kind == "question" and {"question", "query"} <= set(table.columns):
            return False  # which of them is meant, the reader of columns asks
        if not set(here) & set(table.columns) and find_column(kind, table.columns) is not None:
            return False
    return not any(isinstance(row.get("answer"), list) for _, row in table.rows)


def parse_prompts(text: str, name: str) -> list[Prompt]:
    """Return the prompts of a JSONL text; `name` stands for it in errors. See `read_prompts`."""
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    # Not splitlines: JSON strings may hold separators such as U+2028 unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            prompt = _prompt(json.loads(line), number)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}, line {number}: no JSON ({error.msg}, column {error.colno})") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
        if prompt.id in seen:
            raise ValueError(f"{name}, line {number}: id {prompt.id!r} stands on line {seen[prompt.id]}, too")
        seen[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{name} holds no prompts")
    return prompts


def _prompt(entry: Any, number: int) -> Prompt:
    if not isinstance(entry, dict):
        raise ValueError(f"a prompt is a JSON object, got {_kind(entry)}")
    if "context" not in entry:
        raise ValueError("field 'context' is missing")
    context = _text(entry, "context")
    if not context.strip():
        raise ValueError("field 'context' is empty")
    answerable = entry.get("answerable", True)
    if not isinstance(answerable, bool):
        raise ValueError(f"field 'answerable' must be true or false, got {_kind(answerable)}")
    identifier = entry.get("id", number)
    if type(identifier) not in (str, int):
        raise ValueError(f"field 'id' must be a string, got {_kind(identifier)}")
    return Prompt(
        id=_whole(str(identifier), "id"),
        context=context,
        question=_text(entry, "question"),
        answer=_text(entry, "answer"),
        answer_prefix=_text(entry, "answer_prefix"),
        evidence=_spans(entry, "evidence", context),
        answer_spans=_spans(entry, "answer_spans", context),
        answerable=answerable,
        task=_text(entry, "task"),
        tags=_strings(entry, "tags"),
        answers=_strings(entry, "answers"),
        choices=_strings(entry, "choices"),
        grader=_text(entry, "grader"),
    )


def _text(entry: Mapping[str, Any], field: str) -> str:
    value = entry.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"field {field!r} must be a string, got {_kind(value)}")
    return _whole(value, field)


def _whole(text: str, field: str) -> str:
    """Return a text that every file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"field {field!r} holds half a surrogate pair, which is no character") from None
    return text


def _strings(entry: Mapping[str, Any], field: str) -> tuple[str, ...]:
    words = entry.get(field) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"field {field!r} must be a list of strings")
    return tuple(_whole(word, field) for word in words)


def _spans(entry: Mapping[str, Any], field: str, context: str) -> tuple[Span, ...]:
    spans = entry.get(field) or []
    if not isinstance(spans, list):
        raise ValueError(f"field {field!r} must be a list of [start, end], got {_kind(spans)}")
    return tuple(_span(span, field, context) for span in spans)


def _span(span: Any, field: str, context: str) -> Span:
    if not isinstance(span, list) or [type(bound) for bound in span] != [int, int]:
        raise ValueError(f"a span of {field!r} must be [start, end], two integers, got {json.dumps(span)}")
    start, end = span
    if not 0 <= start < end <= len(context):
        raise ValueError(
            f"span [{start}, {end}] of {field!r} is not inside the context, which has {len(context)} characters"
        )
    if not context[start:end].strip():
        raise ValueError(f"span [{start}, {end}] of {field!r} covers no text")
    return start, end


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")

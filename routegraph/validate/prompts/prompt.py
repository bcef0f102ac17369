"""Prompts: a context, a question about it, and where in the context the answer stands. One JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from routegraph.files import atomic_open

#: Stands for the prompts that come with the package wherever a prompts file is asked for.
BUNDLED = "bundled"
_BUNDLED_FILE = "prompts.jsonl"

Span = tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """One context with a question.

    Attributes
    ----------
    id : str
        Name, unique in a file.
    context : str
        The text whose cache rows are evicted.
    question, answer, answer_prefix : str
        What is asked, the expected answer, and the words a model's reply is made to start with.
    evidence, answer_spans : tuple of (int, int)
        Character spans [start, end) of `context`: what the answer follows from, and the answer itself.
    answerable : bool
        False where the right reply is that the context does not tell.
    task : str
        Which family of prompts it belongs to.
    tags : tuple of str
        Free words to group by.
    answers : tuple of str
        Further answers: whether one of them will do, or all are needed, is the grader's rule.
    choices : tuple of str
        What there is to choose from, in the order of the letters A, B, C, ...
    grader : str
        By which grader replies are judged where the user names none; empty: by the default one.
    """

    id: str
    context: str
    question: str = ""
    answer: str = ""
    answer_prefix: str = ""
    evidence: tuple[Span, ...] = ()
    answer_spans: tuple[Span, ...] = ()
    answerable: bool = True
    task: str = ""
    tags: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    grader: str = ""

    @property
    def golds(self) -> tuple[str, ...]:
        """All answers, the first one first, without repeats and empty ones."""
        return tuple(dict.fromkeys(gold for gold in (self.answer, *self.answers) if gold.strip()))

    def to_dict(self) -> dict[str, Any]:
        """Return what `write_prompts` writes; the later fields only where they are set, as older files have none."""
        later = ("answers", "choices", "grader")
        return {name: value for name, value in asdict(self).items() if value or name not in later}


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Read prompts from a JSONL file, or the bundled ones for the path "bundled".

    Only `context` must be given; `id` is the line number where missing, other fields are empty. Fields
    that `Prompt` does not have are passed over, blank lines too.

    Raises
    ------
    ValueError
        If the file is missing, empty or no UTF-8; if a line is no JSON object, lacks its context, has a
        field of the wrong type, a span outside the context, or the id of an earlier line. File and line
        are named.
    """
    name = Path(path).name if str(path) != BUNDLED else _BUNDLED_FILE
    try:
        text = prompts_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts file {name!r} is not UTF-8 text (byte {error.start})") from None
    return parse_prompts(text, name)


def bundled_prompts() -> list[Prompt]:
    """Return the prompts that come with the package: short documents, one question each."""
    return read_prompts(BUNDLED)


def prompts_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a prompts file, or of the bundled one; ValueError if there is none."""
    if str(path) == BUNDLED:
        return (resources.files("routegraph") / "data" / _BUNDLED_FILE).read_bytes()
    if not Path(path).is_file():
        raise ValueError(f"no prompts file {str(path)!r}; give a JSONL file, or {BUNDLED!r}")
    return Path(path).read_bytes()


def write_prompts(path: str | os.PathLike[str], prompts: Iterable[Prompt]) -> None:
    """Write prompts as JSONL, whole or not at all."""
    lines = [json.dumps(prompt.to_dict(), ensure_ascii=False) + "\n" for prompt in prompts]
    with atomic_open(path) as stream:
        stream.write("".join(lines).encode("utf-8"))


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
        id=str(identifier),
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
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"field {field!r} holds half a surrogate pair, which is no character") from None
    return value


def occurrences(prompt: Prompt) -> tuple[tuple[int, int], ...]:
    """Return the places where a context holds the answer as whole words, letter by letter."""
    found, start = [], -1
    context, answer = prompt.context, prompt.answer.strip()
    while (start := context.find(answer, start + 1)) >= 0:
        end = start + len(answer)
        around = context[max(start - 1, 0) : start] + context[end : end + 1]
        if not any(character.isalnum() for character in around):
            found.append((start, end))
    return tuple(found)


def _strings(entry: Mapping[str, Any], field: str) -> tuple[str, ...]:
    words = entry.get(field) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"field {field!r} must be a list of strings")
    return tuple(words)


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

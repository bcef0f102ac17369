"""Single values of rows: texts, and answers, which may be lists written as Python or numpy shows them."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

_STRING = r"""(?:[rRuU]?'(?:[^'\\]|\\.)*'|[rRuU]?"(?:[^"\\]|\\.)*")"""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LITERAL = re.compile(f"{_STRING}|{_NUMBER}|None|nan|True|False", re.DOTALL)
#: What may stand between the items of a list, and around them.
_BETWEEN = re.compile(r"(?:\s|,|[\[\]()]|(?:np|numpy)\.\w+(?=\())*")
_ARRAY = re.compile(r"(?:(?:np|numpy)\.)?array\((\[.*\])\s*(?:,\s*dtype=[^)]*)?\)", re.DOTALL)
_INNER_ARRAY = re.compile(
    rf"(?:(?:np|numpy)\.)?array\((\[(?:\s|,|{_STRING}|{_NUMBER})*\])\s*(?:,\s*dtype=[^)]*)?\)", re.DOTALL
)
#: Longer texts are prose, whatever they start with.
_LONGEST = 20_000


def text(value: Any, field: str) -> str:
    """Return a value as text, "" where there is none.

    Raises
    ------
    ValueError
        If it is a list or an object, or holds half a surrogate pair.
    """
    if is_missing(value):
        return ""
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise ValueError(f"its {field} must be text, got {_kind(value)}")
    words = str(value)
    try:
        words.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"its {field} holds half a surrogate pair, which is no character") from None
    return words


def golds(value: Any) -> list[str]:
    """Return the answers that a value holds, without white space around them, empty ones and repeats.

    A list gives its items, an object its "text" (SQuAD) or its "value" and "aliases" (TriviaQA); so does text that
    shows such a thing as Python, JSON or numpy writes it: ``['a', 'b']``, ``["a"]``, ``['a' 'b']``,
    ``array(['a'], dtype=object)``. Any other text is one answer. Nothing is evaluated.

    Examples
    --------
    >>> golds("['Ada' 'Ada L.']")
    ['Ada', 'Ada L.']
    >>> golds("[sic]")
    ['[sic]']
    """
    return list(dict.fromkeys(gold for one in _items(value) if (gold := text(one, "answer").strip())))


def is_missing(value: Any) -> bool:
    """Return whether a value is None or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _items(value: Any) -> list[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if is_missing(value):
        return []
    if isinstance(value, list | tuple):
        return [item for one in value for item in (_items(one) if not isinstance(one, str) else [one])]
    if isinstance(value, Mapping):
        if "text" in value:
            return _items(value["text"])
        if "value" in value:
            return [*_items(value["value"]), *_items(value.get("aliases"))]
        raise ValueError(
            f"its answer is an object of {', '.join(map(repr, value))}, and no 'text' is among them"
        )
    if isinstance(value, str) and (shown := _shown(value.strip())) is not None:
        return _items(shown)
    return [value]


def _shown(words: str) -> Any:
    """Return the list or object that a text shows, None where it is plain text."""
    if len(words) > _LONGEST or len(words) < 2:
        return None
    if words[0] + words[-1] == "{}":
        shown = _parsed(_INNER_ARRAY.sub(lambda found: str(_listed(found[1])), words))
        return shown if isinstance(shown, dict) and ("text" in shown or "value" in shown) else None
    array = _ARRAY.fullmatch(words)
    words = array[1] if array else words
    if words[0] + words[-1] == "[]":
        return _listed(words)
    # A tuple is known by its comma: "(1995)" and "(a)" are answers in brackets.
    if words[0] + words[-1] == "()" and "," in words:
        return _listed(words)
    return None


def _listed(words: str) -> list[Any] | None:
    """Return the strings and numbers of a shown list; numpy puts blanks between them, and Python would join strings."""
    try:
        parsed = json.loads(words)
        if isinstance(parsed, list):
            return parsed
    except (ValueError, RecursionError):
        pass
    items: list[Any] = []
    place = 0
    while True:
        between = _BETWEEN.match(words, place)
        place = between.end() if between else place
        if place == len(words):
            return items
        literal = _LITERAL.match(words, place)
        if literal is None:
            return None
        items.append(None if literal[0] == "nan" else _parsed(literal[0], literal[0]))
        place = literal.end()


def _parsed(words: str, otherwise: Any = None) -> Any:
    try:
        return ast.literal_eval(words)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return otherwise


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", tuple: "a list", bytes: "bytes"}
    return kinds.get(type(value), f"a {type(value).__name__}")

"""Samples that lm-evaluation-harness logs: `doc`, `target`, `arguments`, `resps`, `filtered_resps`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats import ruler
from routegraph.validate.prompts.formats.base import PromptsFile, Row, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.columns import find_column
from routegraph.validate.prompts.formats.values import golds, text

#: The last line of a prompt where it is there for the reply to go on.
_PREFIX = re.compile(r"\n[ \t]*([^\n]{1,80}[:：])\s*$")
#: Graders by a sample's metric, where it is of the raw reply.
_GRADERS = {"exact_match": "exact", "em": "exact", "f1": "f1", "contains": "contains"}


@format_("lm-eval")
def lm_eval(table: Table) -> PromptsFile | None:
    """Read samples that lm-evaluation-harness logs: a context is the prompt up to the end of the doc's context.

    Fields after https://github.com/EleutherAI/lm-evaluation-harness, lm_eval/evaluator.py and
    lm_eval/loggers/evaluation_tracker.py.
    """
    if not table.has("doc", "arguments"):
        return None
    return collect(table, "lm-eval", _read)


def _read(number: int, row: Row) -> Prompt:
    doc = row["doc"]
    if not isinstance(doc, Mapping):
        raise ValueError("its doc is no object")
    prompt, continuations = _arguments(row["arguments"])
    choices = continuations if len(continuations) > 1 else []
    right = _right(row, doc, choices)
    task, grader = "", _grader(row, right, bool(choices))
    if "input" in doc and "outputs" in doc and "context" not in doc:  # lm-eval's RULER
        task, context, question, prefix = ruler.split(prompt)
        grader = ruler.grader(task)
    else:
        context, question, prefix = _split(prompt, doc)
    return make_prompt(
        number,
        id=row.get("doc_id"),
        context=context,
        question=question,
        answer=right,
        answer_prefix=prefix,
        choices=choices,
        task=task,
        grader=grader,
    )


def _arguments(arguments: Any) -> tuple[str, list[str]]:
    """Return the prompt, and what was weighed as its continuations: as lm-eval writes them now, and as lists."""
    requests = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    if not isinstance(requests, list) or not requests:
        raise ValueError("its arguments hold no request")
    pairs = [list(one.values()) if isinstance(one, Mapping) else one for one in requests]
    if not all(isinstance(one, list) and one and isinstance(one[0], str) for one in pairs):
        raise ValueError("its arguments do not start with a prompt")
    prompts = {one[0] for one in pairs}
    if len(prompts) > 1:
        raise ValueError(f"its {len(pairs)} requests have {len(prompts)} prompts, and one is needed")
    continuations = [one[1].strip() for one in pairs if len(one) > 1 and isinstance(one[1], str)]
    return _plain(pairs[0][0]), continuations if len(continuations) == len(pairs) else []


def _plain(prompt: str) -> str:
    """Return the last message of a prompt that is a list of chat messages, written as JSON; any other as it is."""
    if prompt.lstrip().startswith("[{"):
        try:
            messages = json.loads(prompt)
            return str(messages[-1]["content"])
        except (ValueError, KeyError, TypeError, IndexError):
            pass
    return prompt


def _right(row: Row, doc: Mapping[str, Any], choices: list[str]) -> list[str]:
    target = row.get("target")
    if choices:
        place = text(target, "target").strip()
        if place.isdigit() and int(place) < len(choices):
            return [choices[int(place)]]
        if place in choices:
            return [place]
        raise ValueError(f"its target {place!r} is none of its {len(choices)} choices")
    right = golds(target)
    if not right:
        column = find_column("answer", tuple(doc))
        right = golds(doc[column]) if column else []
    if not right:
        raise ValueError("it has no target")
    return right


def _grader(row: Row, right: list[str], choose: bool) -> str:
    """Return the grader that is nearest to a sample's metric; the default one where its replies were filtered first."""
    if choose:
        return "choice"
    metrics = row.get("metrics")
    names = metrics if isinstance(metrics, list) else [name for name in _GRADERS if name in row]
    known = next((_GRADERS[name] for name in names if name in _GRADERS), "")
    if row.get("filter", "none") != "none":
        return "number" if all(re.fullmatch(r"[-+]?[\d,]*\.?\d+", gold) for gold in right) else ""
    return known or ("any_of" if len(right) > 1 else "")


def _split(prompt: str, doc: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return context, question and answer prefix: the context ends where that of the doc does, in the prompt."""
    column = find_column("context", tuple(doc))
    found = f"its doc has the fields {', '.join(map(repr, doc)) or 'none'}"
    if column is None:
        raise ValueError(f"{found}, and none is known to be a context (context, passage, document, ...)")
    told = text(doc[column], column).strip()
    start = prompt.rfind(told) if told else -1
    if start < 0:
        raise ValueError(f"{found}, and its {column!r} does not stand in the prompt")
    end = start + len(told)
    context, tail = prompt[:end], prompt[end:]
    prefix = _PREFIX.search(tail)
    question = tail[: prefix.start()] if prefix else tail
    named = find_column("question", tuple(doc))
    asked = text(doc[named], named).strip() if named else ""
    if asked and asked not in tail:  # asked before the context: it is asked again after it
        question = asked
    return context, question, prefix[1].strip() if prefix else ""

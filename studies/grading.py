"""The page on grading: the public pairs, and how often each grader agrees with replies graded by hand.

``python -m studies.grading`` writes the tables of docs/grading.md.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from routegraph.stats.proportions import proportion
from routegraph.validate.graders import Grader
from routegraph.validate.prompts.verdict import verdict
from routegraph.validate.tasks.knowledge import hallucinates
from studies.pages import DOCS, between, markdown

DATA = Path(__file__).parents[1] / "tests/data/grading"
#: Those that suit free answers; the others need choices, numbers or several answers.
JUDGED = ("contains", "prefix", "any_of", "exact", "f1")
HALVES = ("mended on", "held out")
KINDS = ("right", "wrong", "abstained")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


def half(row: dict[str, Any]) -> str:
    """Return which half a reply belongs to: by its prompt, fixed before a grader was run on it."""
    return HALVES[zlib.crc32(row["id"].encode()) % 2]


def word(grader: str, row: dict[str, Any]) -> str:
    return verdict(Grader.named(grader), row["reply"], (row["gold"],), (), row["answerable"]).word


def share(hits: list[bool]) -> str:
    found = proportion(sum(hits), len(hits))
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if hits else "-"


def agreement(rows: list[dict[str, Any]]) -> str:
    """Return a table: which share of the verdicts of each grader are the reader's."""
    groups = {
        **{name: [row for row in rows if half(row) == name] for name in HALVES},
        **{
            f"held out, {model}": [r for r in rows if half(r) == HALVES[1] and r["model"] == model]
            for model in MODELS
        },
    }
    made = []
    for name in JUDGED:
        hits = {
            group: [word(name, row) == row["verdict"] for row in chosen] for group, chosen in groups.items()
        }
        kinds = {
            kind: [word(name, r) == kind for r in groups[HALVES[1]] if r["verdict"] == kind] for kind in KINDS
        }
        made.append(
            [f"`{name}`", *map(share, hits.values()), *(f"{sum(k)} of {len(k)}" for k in kinds.values())]
        )
    columns = [
        "grader",
        *(f"{name} ({len(chosen)})" for name, chosen in groups.items()),
        *(f"held out, {kind}" for kind in KINDS),
    ]
    return markdown(columns, made)


def told_apart(rows: list[dict[str, Any]]) -> str:
    """Return a table: of wrong replies, hallucinations as a reader and as the tasks' knowledge have them."""
    known = [
        (row["hallucinated"], hallucinates({**row, "answer": row["gold"]}, row["reply"]))
        for row in rows
        if half(row) == HALVES[1] and row["verdict"] == "wrong"
    ]
    known = [pair for pair in known if pair[1] is not None]
    made = [
        [told, *(str(sum(pair == (hand, own) for pair in known)) for own in (True, False))]
        for told, hand in (("hallucinated", True), ("not", False))
    ]
    return markdown(["by hand", "by the task: hallucinated", "by the task: not"], made)


def disagreements(rows: list[dict[str, Any]]) -> str:
    """Return a table of all held-out replies on which `contains` and the reader disagree."""
    made = [
        [
            quoted(row["gold"] if row["answerable"] else "not told"),
            quoted(row["reply"].replace("\n", " / ")[:90]),
            row["verdict"],
            word("contains", row),
        ]
        for row in rows
        if half(row) == HALVES[1] and word("contains", row) != row["verdict"]
    ]
    return markdown(["answer", "reply", "reader", "`contains`"], made)


def pairs() -> str:
    made = [
        [
            quoted(pair["gold"] if pair["gold"] is not None else "not told"),
            quoted(pair["reply"].replace("\n", " / ")),
            pair["verdict"],
            pair["why"],
        ]
        for pair in read("pairs.jsonl")
    ]
    return markdown(["answer", "reply", "verdict", "why"], made)


def quoted(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;") or "(nothing)"


MODELS = ("smollm2", "qwen2.5-coder-0.5b")


def main() -> None:
    rows = read("replies.jsonl")
    tables = "\n\n".join(
        [
            f"### Agreement with a reader, {len(rows)} replies\n\n{agreement(rows)}",
            f"### Where `contains` and the reader disagree, held out\n\n{disagreements(rows)}",
            f"### Hallucinations, held out\n\n{told_apart(rows)}",
            f"### The public pairs\n\n{pairs()}",
        ]
    )
    page = DOCS / "grading.md"
    begin, end = "<!-- tables: python -m studies.grading -->", "<!-- end of tables -->"
    page.write_text(between(page.read_text("utf-8"), begin, f"\n{tables}\n", end), "utf-8")


if __name__ == "__main__":
    main()

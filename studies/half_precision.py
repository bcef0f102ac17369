"""What bfloat16 changes: which rows are kept, and what is replied, against float32: docs/guide/speed.md.

``python -m studies.half_precision [MODEL ...]`` writes the table: some minutes for each pretrained model. Every prompt
is prefilled and asked in both precisions, under the same policies and ratios.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.intervals import standard_error
from routegraph.stats.proportions import wilson
from routegraph.validate.decoding.decode import decode
from routegraph.validate.measure.grading import graded, told
from routegraph.validate.measure.item import distinct_variants, evicted, read_items
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.plan import Plan
from routegraph.validate.tasks import load_task
from studies.pages import DOCS, markdown, put_between

PAGE = DOCS / "guide" / "speed.md"
BEGIN, END = "<!-- table: written by studies/half_precision.py -->", "<!-- end of table -->"
MODELS = ("smollm2", "qwen2.5-coder-0.5b")
POLICIES = ("chunk", "adakv")
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9)
PROMPTS = 12
PRECISIONS = ("float32", "bfloat16")


def asked(name: str, dtype: str) -> tuple[list[NDArray[np.bool_]], list[str], NDArray[np.bool_]]:
    """Return what is kept, the replies and whether they are right, of every prompt, policy and ratio."""
    model = load(name, dtype=dtype)
    plan = Plan(POLICIES, RATIOS)
    items, _ = read_items(model, load_task("base", PROMPTS, 3), plan)
    slots: list[NDArray[np.bool_]] = []
    texts: list[str] = []
    right: list[Any] = []
    for item in items:
        cache, evictions = evicted(model, item, 0)
        survivals = [eviction.survivals(RATIOS) for eviction in evictions]
        distinct, which = distinct_variants(survivals, RATIOS)
        decoded = decode(model, cache, item.asked.question, distinct, plan.max_new_tokens, n_logits=0)
        replies = [decoded.texts[one] for one in which]
        slots.append(distinct[which].reshape(len(POLICIES), len(RATIOS), -1))
        texts += replies
        right.append(graded(told(item.prompt), replies, plan.grader)["right"])
    return slots, texts, np.array(right).reshape(len(items), len(POLICIES), len(RATIOS))


def rows(name: str) -> list[list[str]]:
    """Return the table's rows of a model."""
    (kept, texts, right), (kept_, texts_, right_) = (asked(name, dtype) for dtype in PRECISIONS)
    same = np.array([a == b for a, b in zip(texts, texts_, strict=True)]).reshape(right.shape)
    found = []
    for p, policy in enumerate(POLICIES):
        for r, ratio in enumerate(RATIOS):
            apart = np.array([(a[p, r] != b[p, r]).mean() for a, b in zip(kept, kept_, strict=True)])
            low, high = wilson(same[:, p, r].sum(), len(same))
            found.append(
                [
                    name,
                    policy,
                    f"{ratio:g}",
                    f"{100 * apart.mean():.2f} ± {100 * standard_error(apart):.2f}",
                    f"{same[:, p, r].mean():.2f} [{low:.2f}, {high:.2f}]",
                    f"{int(right[:, p, r].sum())}, {int(right_[:, p, r].sum())}",
                ]
            )
    return found


def main(models: Sequence[str]) -> None:
    """Write the table."""
    use_threads(1)
    lines = [line for name in models for line in rows(name)]
    header = [
        "model",
        "policy",
        "ratio",
        "slots of another fate, %",
        "replies that are the same",
        "right: float32, bfloat16",
    ]
    put_between(PAGE, BEGIN, markdown(header, lines), END)


if __name__ == "__main__":
    main(sys.argv[1:] or MODELS)

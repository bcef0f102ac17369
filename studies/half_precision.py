"""What bfloat16 changes: which rows are kept, and what is replied, against float32: docs/guide/speed.md.

``python -m studies.half_precision [MODEL ...]`` writes the table: some minutes for each pretrained model. Every prompt
is prefilled and asked in both precisions, under the same policies and ratios.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.intervals import standard_error
from routegraph.stats.proportions import wilson
from routegraph.validate.measure.item import evicted, read_items
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.plan import Plan
from routegraph.validate.tasks import load_task
from studies.pages import DOCS, cell, markdown, put_between

PAGE = DOCS / "guide" / "speed.md"
BEGIN, END = "<!-- table: written by studies/half_precision.py -->", "<!-- end of table -->"
MODELS = ("smollm2", "qwen2.5-coder-0.5b")
POLICIES = ("chunk", "adakv")
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9)
PROMPTS = 12
PRECISIONS = ("float32", "bfloat16")


def asked(name: str, dtype: str) -> tuple[list[NDArray[np.bool_]], Measured]:
    """Return what every prompt keeps, bool[n_policies, n_ratios, n_layers, n_heads, n], and what is replied."""
    model, plan = load(name, dtype=dtype), Plan(POLICIES, RATIOS)
    prompts = load_task("base", PROMPTS, 3)
    kept = []
    for item in read_items(model, prompts, plan)[0]:
        _, evictions = evicted(model, item, plan.seed)
        curves = [zip(one.survivals(RATIOS), RATIOS, strict=True) for one in evictions]
        kept.append(np.array([[survival.alive(ratio) for survival, ratio in curve] for curve in curves]))
    return kept, measure(model, prompts, policy_names=POLICIES, ratios=RATIOS)


def rows(name: str) -> list[list[str]]:
    """Return the table's rows of a model."""
    (kept, told), (kept_, told_) = (asked(name, dtype) for dtype in PRECISIONS)
    replies, replies_ = (np.array([item["replies"] for item in one.cells]) for one in (told, told_))
    same = (replies == replies_).reshape(told.right.shape)
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
                    cell((same[:, p, r].mean(), low, high)),
                    f"{int(told.right[:, p, r].sum())}, {int(told_.right[:, p, r].sum())}",
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

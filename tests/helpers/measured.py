"""Measurements that are made up."""

from typing import Any

import numpy as np

from routegraph.validate.measure.result import Measured


def synthetic(right: Any, metrics: dict[str, Any], tasks: Any = None, **more: Any) -> Measured:
    n, n_policies, n_ratios = right.shape
    ratios = more.pop("ratios", [0, 0.2, 0.5, 0.8])
    return Measured(
        settings={
            "model": "made up",
            "policies": [f"p{k}" for k in range(n_policies)],
            "ratios": ratios,
            "seed": 0,
            "question_aware": False,
        },
        ids=tuple(map(str, range(n))),
        item_tasks=tuple(tasks or ["t"] * n),
        n_context=np.full(n, 100),
        answerable=more.pop("answerable", np.ones(n, dtype=bool)),
        tags=tuple(more.pop("tags", [("inverse",)] * n)),
        right=right,
        abstained=more.pop("abstained", np.zeros_like(right)),
        replies=(("",) * n_policies * n_ratios,) * n,
        metrics=metrics,
        cliffs={f"p{k}": {} for k in range(n_policies)},
    )

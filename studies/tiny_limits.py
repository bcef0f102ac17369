"""How far the tiny models carry beyond what they were taught: longer contexts, three hops: docs/tiny_limits.md.

``python -m studies.tiny_limits [MODEL ...]`` asks the shipped models, and those named, and writes table and
figure; a minute a model on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from routegraph import plot
from routegraph.stats.proportions import Proportion, proportion
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.tasks.words import draw_batches
from studies.pages import DOCS

BEGIN, END = "<!-- table: written by studies/tiny_limits.py -->", "<!-- end of table -->"
SHIPPED = ("llama-tiny", "qwen-tiny")
TASKS = ("forward", "inverse", "two_hop", "three_hop")
#: Words of a context; the models were taught on 40 to 96.
LENGTHS = (80, 112, 160, 224, 320, 448)
ITEMS = 300
STYLES = dict(zip(TASKS, (("blue", "o"), ("green", "s"), ("red", "^"), ("black", "x")), strict=True))


def right(network: Any, task: str, length: int) -> Proportion:
    """Return the share of right answers with a full cache."""
    import torch

    found = total = 0
    for batch in draw_batches(task, ITEMS, seed=41, length=length):
        with torch.inference_mode():
            said = network(torch.from_numpy(batch.tokens)).logits[:, -1].argmax(-1).numpy()
        found, total = found + int(np.sum(said == batch.answer[:, 0])), total + len(said)
    return proportion(found, total)


def main(models: list[str]) -> None:
    """Ask, and write table and figure."""
    use_threads(1)
    lines = ["| model | task | " + " | ".join(f"{length} words" for length in LENGTHS) + " |"]
    lines.append("|---|---|" + "---|" * len(LENGTHS))
    figure, axes = plot.figure(1, len(models), 4.6, 3.6)
    for ax, name in zip(axes.ravel(), models, strict=True):
        network = load(name).model
        for task, (colour, mark) in STYLES.items():
            shares = [right(network, task, length) for length in LENGTHS]
            cells = [f"{100 * s.value:.0f} [{100 * s.low:.0f}, {100 * s.high:.0f}]" for s in shares]
            lines.append(f"| {Path(name).name} | {task.replace('_', ' ')} | " + " | ".join(cells) + " |")
            ax.plot(
                LENGTHS,
                [s.value for s in shares],
                mark + "-",
                color=plot.COLOURS[colour],
                label=task.replace("_", " "),
            )
            ax.fill_between(
                LENGTHS,
                [s.low for s in shares],
                [s.high for s in shares],
                color=plot.COLOURS[colour],
                alpha=0.15,
                lw=0,
            )
        ax.axvspan(40, 96, color="grey", alpha=0.15, lw=0)
        ax.set(
            xlabel="words of the context",
            ylabel="share right, nothing evicted",
            title=Path(name).name,
            ylim=(-0.03, 1.03),
        )
    axes.ravel()[0].legend(fontsize="small")
    plot.save(figure, DOCS / "tiny_limits.svg")
    page = DOCS / "tiny_limits.md"
    text = page.read_text("utf-8")
    page.write_text(
        text.split(BEGIN)[0] + "\n".join([BEGIN, "", *lines, "", END]) + text.split(END)[1], "utf-8"
    )


if __name__ == "__main__":
    main([*SHIPPED, *sys.argv[1:]])

"""Half points of tokens gone, foretold from other prompts, with and without theory: a table of docs/compare_smollm2.md.

``python -m studies.foretold_tokens FOLDER`` takes the traces that ``studies.compare_smollm2`` left in FOLDER; some
minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from routegraph.choices import AXES
from routegraph.critical.points import crossing, half_point
from routegraph.tables import interval, signed
from routegraph.trace import Trace
from routegraph.validate.compare.copulas import fit_tokens, predict_tokens
from routegraph.validate.compare.prediction import Curve, Prediction, difference
from routegraph.validate.compare.run import COMPARED_POLICIES, COMPARED_RATIOS, split_order
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.traces.read_off import ReadOff, read_off
from studies.pages import DOCS, markdown, put_between

BEGIN, END = (
    "<!-- table: written by studies/foretold_tokens.py -->",
    "<!-- end of table of studies/foretold_tokens.py -->",
)
#: Random halves.
SPLITS = 20
WHERE = {"model": "all slots", "layer": "a layer"}
RATIOS = np.array(COMPARED_RATIOS)


def mean_of(training: Sequence[ReadOff], over: str) -> Curve:
    """Return the mean curve of tokens gone, float64[n_ratios]: a prediction without any theory."""
    return np.asarray(np.mean([one.evictable[over] for one in training], axis=0))


def foretold(
    training: Sequence[ReadOff], held_out: Sequence[ReadOff], over: str, n_heads: int
) -> dict[str, Prediction]:
    """Return what theory and the mean curve of the training prompts say of each held-out prompt."""
    mean = np.repeat(mean_of(training, over)[None], len(held_out), axis=0)
    return {
        "theory": predict_tokens(fit_tokens(training), held_out, over, n_heads, 0),
        "other prompts' mean curve": Prediction(mean),
    }


def missed(read: Sequence[ReadOff], over: str, n_heads: int) -> dict[str, list[float]]:
    """Return by how much half points are missed in each of the random halves."""
    found: dict[str, list[float]] = {}
    for seed in range(SPLITS):
        some = [read[at] for at in split_order(len(read), "random", seed)]
        true = crossing(RATIOS, mean_of(some[1::2], over)[None])[0]
        for name, prediction in foretold(some[::2], some[1::2], over, n_heads).items():
            gap = crossing(RATIOS, prediction.mean[None])[0] - true
            found.setdefault(name, []).append(float(gap))
    return found


def table(traces: Sequence[Trace]) -> str:
    """Return the table: half points read off, and by how much each way of foretelling misses them."""
    rows = []
    for policy in COMPARED_POLICIES:
        method = Method.of_scores(traces[0], policy)
        read = [read_off(trace, Eviction.of(method, trace), RATIOS.tolist()) for trace in traces]
        for over in AXES:
            held_out = np.array([one.evictable[over] for one in read[1::2]])
            gaps = foretold(read[::2], read[1::2], over, traces[0].n_heads)
            told = [signed(difference(RATIOS, one, held_out), 4) for one in gaps.values()]
            halves = [
                f"{np.sqrt(np.mean(np.square(each))):.4f}"
                for each in missed(read, over, traces[0].n_heads).values()
            ]
            half = half_point(RATIOS, held_out)
            rows.append([f"{policy}, {WHERE[over]}", interval(half, 3), *told, *halves])
    names = ["theory", "mean curve"]
    header = ["half point of evictable tokens gone", "read off"]
    header += [f"{name} - read off" for name in names] + [f"{name}, {SPLITS} halves" for name in names]
    return markdown(header, rows)


def main(folder: Path) -> None:
    """Write the table."""
    put_between(DOCS / "compare_smollm2.md", BEGIN, table(Trace.load(folder / "traces.npz")), END)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Caches of fewer bits on real models: the tables of docs/guide/bits.md.

``python -m studies.bits FOLDER`` measures into FOLDER (resumed where cells are there) and writes the tables; with
``--only`` it writes them from what FOLDER holds. About 20 minutes of one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from routegraph.files import write_json
from routegraph.stats.proportions import wilson
from routegraph.survival import n_kept
from routegraph.validate.measure.reading import short
from routegraph.validate.measure.result import Measured
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rows import rounded_keys
from routegraph.validate.tasks import load_task
from studies.pages import DOCS, markdown, put_between

PAGE = DOCS / "guide" / "bits.md"
BEGIN, END = "<!-- tables: written by studies/bits.py -->", "<!-- end of tables -->"
WORDS = ["--task", "words_forward", "--n", "20", "--chunk-length", "16"]
KEYS = (
    "Keys of four prompts, in units of a head's spread (the root mean square of what is left without each channel's "
    "mean): how far the mean of the furthest channel is from zero, and the root mean square error; the median and the "
    "worst of all heads of all layers, mean and range over the prompts:"
)
#: What every model is asked.
ASKED = {
    "llama-tiny": WORDS,
    "qwen-tiny": WORDS,
    "smollm2": ["--task", "bundled", "--n", "8"],
    "qwen2.5-coder-0.5b": ["--task", "bundled", "--n", "8"],
}
#: Of which the keys are looked at.
ROUNDED = ("4", "kivi4:residual=0")
BITS = ("", "8", "4", "2", "kivi4:residual=32", "kivi2:residual=32")


def folder_of(root: Path, model: str, bits: str) -> Path:
    """Return where a model's cells at some bits are."""
    return root / "-".join([model, (bits or "full").replace(":", "-").replace("=", "-")])


def measured(root: Path) -> None:
    """Measure what is not there yet."""
    for model, asked in ASKED.items():
        for bits in BITS:
            more = ["--bits", bits] if bits else []
            words = ["measure", model, *asked, "--threads", "1", "--policy", "topk", "--ratio", ".5", *more]
            out = ["--out", str(folder_of(root, model, bits))]
            subprocess.run(
                [sys.executable, "-m", "routegraph", *words, *out], check=True, capture_output=True
            )


def looked_at(root: Path) -> None:
    """Look at the keys of every model, where that is not done yet."""
    use_threads(1)
    for model in ASKED:
        if not keys_of(root, model).is_file():
            write_json(keys_of(root, model), key_errors(model))


def keys_of(root: Path, model: str) -> Path:
    """Return where it is told how a model's keys lie."""
    return root / f"keys-{model}.json"


def rows_of(found: Measured, before: np.ndarray) -> Iterator[list[str]]:
    """Yield a row for every ratio: bytes, how many are right, and how many of those right with the whole cache are."""
    name = Precision.named(found.bits).name if found.bits else "16, as it is"
    for place in range(bool(found.bits), len(found.ratios)):
        right = found.right[:, 0, place]
        rows = [n_kept(int(n), found.ratios[place]) / n for n in found.n_context]
        taken = found.bytes[0, place] if found.bits else np.mean(rows)
        yield [
            f"`{name}`" if found.bits else name,
            short(found.ratios[place]),
            f"{100 * taken:.0f}",
            share(int(right.sum()), len(right)),
            share(int(right[before].sum()), int(before.sum())),
            share(sum(one[place] == one[0] for one in found.replies), len(right)),
        ]


def key_errors(model: str) -> dict[str, list[float]]:
    """Return how far the keys of four prompts lie from zero, and how far they are rounded; a number a prompt each.

    Both in units of their spread: the root mean square of what is left of a key without its channel's mean over the
    rows. From zero: the largest mean of a channel; errors: root mean square. Each is worked out in every head of every
    layer, and the median over them is told.
    """
    import torch

    network, asked = load(model), ASKED[model]
    names = ("from zero", *ROUNDED)
    found: dict[str, list[float]] = {f"{name}, {of}": [] for name in names for of in ("median", "largest")}
    for prompt in load_task(asked[asked.index("--task") + 1], 4, 0, None):
        cache = prefill(network.model, torch.from_numpy(tokenise(network, prompt).context)[None])
        told: dict[str, list[float]] = {name: [] for name in names}
        for layer in cache.layers:
            for keys in layer.keys[0].float():
                mean = keys.mean(dim=0)
                spread = (keys - mean).square().mean().sqrt()
                told["from zero"].append(float(mean.abs().max() / spread))
                for text in ROUNDED:
                    error = rounded_keys(keys, Precision.named(text)) - keys
                    told[text].append(float(error.square().mean().sqrt() / spread))
        for name, each in told.items():
            found[f"{name}, median"].append(float(np.median(each)))
            found[f"{name}, largest"].append(max(each))
    return found


def key_table(root: Path) -> str:
    """Return how far keys lie from zero and how far they are rounded, of every model; the range over prompts."""
    rows = []
    for model in ASKED:
        told = json.loads(keys_of(root, model).read_text())
        cells = (f"{np.mean(one):.3g} [{min(one):.3g}, {max(one):.3g}]" for one in told.values())
        rows.append([f"`{model}`", *cells])
    names = ("from zero", *(f"error at `{text}`" for text in ROUNDED))
    return markdown(["model", *(f"{name}, {of} head" for name in names for of in ("median", "worst"))], rows)


def share(k: int, n: int) -> str:
    """Return how many of how many, and the share with its interval."""
    if not n:
        return "-"
    low, high = (short(round(float(end), 2)) for end in wilson(k, n))
    return f"{k} of {n}, {short(round(k / n, 2))} [{low}, {high}]"


def table(root: Path, model: str) -> str:
    """Return a model's table, from the most bytes to the fewest."""
    found = [Measured.load(folder_of(root, model, bits)) for bits in BITS]
    before = found[0].right[:, 0, 0]
    if any((one.right[:, 0, 0] != before).any() for one in found):
        raise ValueError(f"the references of {model} differ")
    rows = sorted((row for one in found for row in rows_of(one, before)), key=lambda row: -int(row[2]))
    columns = ["bits", "ratio", "bytes, %", "right", "of those right before", "same reply"]
    n = found[0].n_context
    head = f"`{model}`, {len(before)} prompts of {n.min()} to {n.max()} rows:"
    return f"{head}\n\n{markdown(columns, rows)}"


def main(arguments: list[str]) -> None:
    root = Path(next(one for one in arguments if one != "--only"))
    if "--only" not in arguments:
        root.mkdir(exist_ok=True)
        measured(root)
        looked_at(root)
    tables = [*(table(root, model) for model in ASKED), KEYS, key_table(root)]
    put_between(PAGE, BEGIN, "\n\n".join(tables), END)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Caches of fewer bits on real models: the tables of docs/guide/bits.md, and two diagrams of docs/guide/diagram.md.

``python -m studies.bits FOLDER`` measures into FOLDER and writes them; killed, it goes on where it was. With
``--model NAME`` it measures one model and writes nothing, so that two models can be measured side by side; with
``--only`` it writes the tables from what FOLDER holds. About two hours of one core, 70 minutes for Qwen2.5-Coder.

What was measured is kept in studies/bits_cells.tar.xz, a folder ``bits``; ``python -m studies.bits bits --only`` writes
the tables anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from routegraph import plot
from routegraph.files import write_json
from routegraph.stats.paired import mcnemar
from routegraph.stats.proportions import wilson
from routegraph.survival import n_kept
from routegraph.validate.diagram.best import best_sentence
from routegraph.validate.diagram.result import diagram, tells_sentence
from routegraph.validate.measure.reading import short
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.noise.result import read_noise
from routegraph.validate.noise.run import logit_noise
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rotation import rotations_of
from routegraph.validate.quantise.rows import rounded_keys
from routegraph.validate.tasks import load_task
from studies.pages import DOCS, markdown, put_between

PAGE, DIAGRAMS = DOCS / "guide" / "bits.md", DOCS / "guide" / "diagram.md"
BEGIN, END = "<!-- tables: written by studies/bits.py -->", "<!-- end of tables -->"
WORDS: tuple[str, int, dict[str, Any]] = ("words_forward", 40, {"chunk_length": 16})
DOCUMENTS: tuple[str, int, dict[str, Any]] = ("bundled", 48, {})
KEYS = (
    "Keys of four prompts, in units of a head's spread (the root mean square of what is left without each channel's "
    "mean): how far the mean of the furthest channel is from zero, and the root mean square error; the median and the "
    "worst of all heads of all layers, mean and range over the prompts:"
)
#: What every model is asked: a task, how many prompts of it, and how.
ASKED = {
    "llama-tiny": WORDS,
    "qwen-tiny": WORDS,
    "smollm2": DOCUMENTS,
    "qwen2.5-coder-0.5b": DOCUMENTS,
}
POLICY, RATIOS = "topk", (0.25, 0.5, 0.75)
#: Of which there is a diagram.
DRAWN = ("smollm2", "qwen2.5-coder-0.5b")
#: Of which the keys are looked at.
ROUNDED = ("4", "kivi4:residual=0", "svdq")
BITS = ("", "8", "4", "2", "kivi4:residual=32", "kivi2:residual=32", "svdq")


def folder_of(root: Path, model: str, bits: str) -> Path:
    """Return where a model's cells at some bits are."""
    return root / "-".join([model, (bits or "full").replace(":", "-").replace("=", "-")])


def there(root: Path, model: str) -> list[str]:
    """Return the bits that all prompts of a model were asked with so far."""
    wanted = ASKED[model][1]
    return [
        bits for bits in BITS if len(list((folder_of(root, model, bits) / "cells").glob("*.json"))) >= wanted
    ]


def measured(root: Path, models: list[str]) -> None:
    """Measure what is not there yet."""
    use_threads(1)
    for model in models:
        task, n, how = ASKED[model]
        network, prompts = load(model), load_task(task, n, 0, None)
        for bits in BITS:

            def told(done: float, total: float, label: str, name: str = f"{model} {bits or 16}") -> None:
                print(f"{name}: {done:g} of {total:g} ({label})", file=sys.stderr, flush=True)

            out = folder_of(root, model, bits)
            asked = {"policy_names": (POLICY,), "ratios": RATIOS, "bits": bits, **how}
            measure(network, prompts, out, progress=told, **asked)
        if not keys_of(root, model).is_file():
            write_json(keys_of(root, model), key_errors(model, network))
        if not noise_of(root, model).is_file():
            asked = {"policy": POLICY, "ratios": RATIOS, **how}
            noise = logit_noise(network, prompts, [one for one in BITS if one], **asked)
            write_json(noise_of(root, model), noise.to_dict())


def noise_of(root: Path, model: str) -> Path:
    """Return where a model's logit noise is told."""
    return root / f"noise-{model}.json"


def drawn(root: Path, model: str) -> str:
    """Draw a model's diagram beside the page, and return what it says, as Markdown."""
    found = diagram(
        [folder_of(root, model, bits) for bits in there(root, model)],
        policy=POLICY,
        noise=read_noise(noise_of(root, model)),
    )
    plot.save(found.plot(), DOCS / f"diagram_{model}.svg")
    told = [f"- {best_sentence(found.grid, one)}" for one in found.best]
    errors = [f"- {found.error_sentence(one)}" for one in found.estimates]
    picture = (
        f"Ratio against bits for {model}: answers kept, measured, predicted, simulated; lines of equal bytes"
    )
    errors += [f"- {tells_sentence(one)}" for one in found.tells.values()]
    return "\n".join([f"`{model}`:\n", *told, *errors, f"\n![{picture}](../diagram_{model}.svg)"])


def keys_of(root: Path, model: str) -> Path:
    """Return where it is told how a model's keys lie."""
    return root / f"keys-{model}.json"


def row_of(found: Measured, before: np.ndarray) -> list[str]:
    """Return how many of the prompts right with the whole cache are right at every ratio, and the bytes there."""
    cells = [f"`{Precision.named(found.bits).name}`" if found.bits else "16, as it is"]
    for place in range(bool(found.bits), len(found.ratios)):
        right = found.right[before, 0, place]
        rows = [n_kept(int(n), found.ratios[place]) / n for n in found.n_context]
        taken = found.bytes[0, place] if found.bits else np.mean(rows)
        cells.append(f"{share(int(right.sum()), len(right))} at {100 * taken:.0f} %")
    return cells


def alone(found: Measured, before: np.ndarray) -> list[str]:
    """Return what bits alone do: answers lost and gained, the exact sign test of these, and replies unchanged."""
    after = found.right[:, 0, 1]
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    same = sum(one[1] == one[0] for one in found.replies)
    return [
        f"`{Precision.named(found.bits).name}`",
        f"{100 * found.bytes[0, 1]:.0f}",
        share(lost, int(before.sum())),
        str(gained),
        short(float(f"{mcnemar(lost, gained):.2g}")),
        share(same, len(after)),
    ]


def key_errors(model: str, network: Loaded) -> dict[str, list[float]]:
    """Return how far the keys of four prompts lie from zero, and how far they are rounded; a number a prompt each.

    Both in units of their spread: the root mean square of what is left of a key without its channel's mean over the
    rows. From zero: the largest mean of a channel; errors: root mean square. Each is worked out in every head of every
    layer, and the median over them is told.
    """
    import torch

    names = ("from zero", *ROUNDED)
    found: dict[str, list[float]] = {f"{name}, {of}": [] for name in names for of in ("median", "largest")}
    for prompt in load_task(ASKED[model][0], 4, 0, None):
        cache = prefill(network.model, torch.from_numpy(tokenise(network, prompt).context)[None])
        told: dict[str, list[float]] = {name: [] for name in names}
        turned = rotations_of(network.model, cache.layers[0].keys.shape[2])
        for layer, rotation in zip(cache.layers, turned, strict=True):
            for keys in layer.keys[0].float():
                mean = keys.mean(dim=0)
                spread = (keys - mean).square().mean().sqrt()
                told["from zero"].append(float(mean.abs().max() / spread))
                for text in ROUNDED:
                    error = rounded_keys(keys, Precision.named(text), rotation) - keys
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
    """Return a model's tables: bits with every ratio, and bits alone."""
    found = [Measured.load(folder_of(root, model, bits)) for bits in there(root, model)]
    before = found[0].right[:, 0, 0]
    if any(one.ids != found[0].ids or (one.right[:, 0, 0] != before).any() for one in found):
        raise ValueError(f"the references of {model} differ")
    n = found[0].n_context
    right = share(int(before.sum()), len(before))
    rows = f"{len(before)} prompts of {n.min()} to {n.max()} rows"
    head = f"`{model}`, {rows}, right with the whole cache as it is {right}"
    columns = ["bits", *(f"ratio {short(float(ratio))}" for ratio in found[0].ratios)]
    both = markdown(columns, [row_of(one, before) for one in found])
    lost = markdown(
        ["bits alone", "bytes, %", "lost, of those right before", "gained", "p", "same reply"],
        [alone(one, before) for one in found if one.bits],
    )
    return f"{head}:\n\n{both}\n\n{lost}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=list(ASKED), help="measure this model alone, and write no tables")
    parser.add_argument("--only", action="store_true", help="write the tables from what the folder holds")
    asked = parser.parse_args(arguments)
    if not asked.only:
        asked.folder.mkdir(exist_ok=True)
        measured(asked.folder, [asked.model] if asked.model else list(ASKED))
    if not asked.model:
        tables = [*(table(asked.folder, model) for model in ASKED), KEYS, key_table(asked.folder)]
        put_between(PAGE, BEGIN, "\n\n".join(tables), END)
        put_between(DIAGRAMS, BEGIN, "\n\n".join(drawn(asked.folder, model) for model in DRAWN), END)


if __name__ == "__main__":
    main(sys.argv[1:])

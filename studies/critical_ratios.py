"""Read off, simulated, theory and measured critical ratios: the tables and the figure of docs/critical_ratios.md.

``python -m studies.critical_ratios FOLDER [PROMPTS]`` keeps traces and measured cells in FOLDER and uses
what is there already. The two tiny models take three minutes. SmolLM2 is left out unless FOLDER/smollm2 holds cells
of ``routegraph measure``; PROMPTS are those it was asked (FOLDER/smollm2_prompts.jsonl by default).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from routegraph import plot
from routegraph import tables as views
from routegraph.files import write_json
from routegraph.stats.intervals import Interval
from routegraph.trace import Trace
from routegraph.validate.compare.failure import KINDS, apart, weights_of
from routegraph.validate.compare.policy import PolicyComparison, half_points
from routegraph.validate.compare.result import Comparison
from routegraph.validate.compare.run import compare
from routegraph.validate.compare.tables import failure_grids, failure_reading
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.presses.scorers import fitting_chunk
from routegraph.validate.prompts.prompt import Prompt, read_prompts, write_prompts
from routegraph.validate.tasks import load_task
from routegraph.validate.traces.extract import extract_to_file
from studies.pages import DOCS, markdown

BEGIN, END = "<!-- tables: written by studies/critical_ratios.py -->", "<!-- end of tables -->"
TINY, LARGE = ("llama-tiny", "qwen-tiny", "llama-tiny-guessing", "qwen-tiny-guessing"), "smollm2"
TASKS = ("words_forward", "words_inverse", "words_multi_entity", "words_two_hop")
POLICIES = ("topk", "adakv", "chunk", "knorm", "random", "streaming")
#: Policies that are compared, and of those by other scores the name under which they were measured.
COMPARED = ("chunk", "adakv", "topk")
#: Policies that go by scores of their own.
BY_SCORER = ("snapkv", "knorm")
#: Prompts that are extracted at most, drawn from all of a model's.
MOST = 96
#: Half points of the summary: quantity, tokens, colour.
SUMMED = (("gone, all slots", "answer", "blue"), ("gone, a layer", "answer", "sky"))
MARKERS = {"read off": "o", "simulated": "s", "theory": "D"}


def tiny(model: str, folder: Path) -> tuple[list[Prompt], Measured]:
    """Ask a tiny model every item, or read what it was asked before."""
    prompts = [prompt for task in TASKS for prompt in load_task(task, 60, 0)]
    options = {"policy_names": POLICIES, "chunk_length": 16, "max_new_tokens": 1, "metrics": True}
    return prompts, measure(model, prompts, folder / model, **options)


def traces_of(model: str, prompts: list[Prompt], found: Measured, folder: Path) -> Path:
    """Extract a random part of the prompts, in random order, unless that was done; those too short for a chunk go."""
    path = folder / f"{model}.npz"
    if path.exists():
        return path
    length = int(found.settings["chunk_length"])
    loaded = load(model)
    random = np.random.default_rng(0)
    chosen: list[Prompt] = []
    for at in random.permutation(len(prompts)):
        n = len(loaded.tokenizer(prompts[at].context)["input_ids"])
        if fitting_chunk(n, length) == length and len(chosen) < (len(prompts) if model in TINY else MOST):
            chosen.append(prompts[at])
    write_prompts(folder / f"{model}_prompts_extracted.jsonl", chosen)
    scorers = ["expected_attention", f"expected_attention/chunk{length}"]
    scorers += [name for name in BY_SCORER if name in found.policies]
    source = folder / f"{model}_prompts_extracted.jsonl"
    extract_to_file(loaded, source, path, chunk_length=length, graphs=True, scorers=scorers)
    return path


def compared(model: str, path: Path, found: Measured) -> tuple[Comparison, dict[str, PolicyComparison]]:
    """Return the comparison, and all policies of it by the names under which they were measured."""
    traces, weights = Trace.load(path), weights_of(path)
    names = [name for name in COMPARED if name in found.policies]
    result = compare(traces, policy_names=names, measured=found, weights=weights)
    policies = dict(result.policies)
    own = [name for name in BY_SCORER if name in found.policies and name in traces[0].scores]
    if own:
        policies |= compare(traces, policy_names=own, eps=[], measured=found, weights=weights).policies
    return result, policies


def halves(found: PolicyComparison) -> Iterator[tuple[str, str, Interval]]:
    """Yield (quantity, source, half point) of the summary."""
    for quantity, tokens, source, half in half_points(found):
        if (quantity, tokens) in [part[:2] for part in SUMMED]:
            yield quantity, source, half


def summary(shown: dict[str, dict[str, PolicyComparison]]) -> str:
    """Return the tables of all models: the ratios, then the differences, of wrong replies where they rise."""
    ratios: list[list[str]] = []
    gaps: dict[str, list[list[str]]] = {kind: [] for kind in KINDS}
    for model, policies in shown.items():
        for name, found in policies.items():
            measured = found.measured
            assert measured is not None
            critical = [measured.critical(kind) for kind in KINDS]
            way = {True: ", up", False: ", down", None: ""}[measured.wrong.rises]
            told = ["-" if math.isnan(one.value) else views.interval(one, 3) for one in critical]
            half = [half for _, _, half in halves(found)]
            ratios.append(
                [
                    f"{model}, `{name}`",
                    f"{told[0]} ({measured.wrong.verdict}{way})",
                    told[1],
                    *(views.interval(one, 3) for one in half),
                ]
            )
            for kind, ratio in zip(KINDS, critical, strict=True):
                if kind == "accuracy" or measured.wrong.rises:
                    gap = [views.signed(apart(ratio, one), 2) for one in half]
                    gaps[kind].append([f"{model}, `{name}`", *gap])
    named = [f"{q.removeprefix('gone, ')}: {source}" for q, _, _ in SUMMED for source in MARKERS]
    head = ["", "measured wrong", "measured accuracy", *(f"GER, {name}" for name in named)]
    parts = [f"### Critical ratios and half points\n\n{markdown(head, ratios)}"]
    for kind in reversed(KINDS):
        if gaps[kind]:
            title = f"### Measured {kind} minus half points of GER"
            parts.append(f"{title}\n\n{markdown(['', *named], gaps[kind])}")
    return "\n\n".join(parts)


def every(model: str, policies: dict[str, PolicyComparison]) -> str:
    """Return the tables of one model, a policy each, with reach."""
    parts = []
    for name, found in policies.items():
        rates, half = failure_grids(found)
        parts.append(
            f"### {model}, `{name}`\n\n{markdown(rates.columns, rates.rows)}\n\n{' '.join(failure_reading(found))}\n\n"
            f"{markdown(half.columns, half.rows)}"
        )
    return "\n\n".join(parts)


def draw(shown: dict[str, dict[str, PolicyComparison]], path: Path) -> None:
    """Draw every ratio with its interval, a panel a model and a group of rows a policy."""
    handles: dict[str, Any] = {}
    columns = min(3, len(shown))
    height = 1.2 + 1.15 * max(map(len, shown.values()))
    figure, axes = plot.figure(-(-len(shown) // columns), columns, 5.4, height)
    for ax in np.ravel(axes)[len(shown) :]:
        ax.set_axis_off()
    for ax, (model, policies) in zip(np.ravel(axes), shown.items(), strict=False):
        for group, (_name, found) in enumerate(policies.items()):
            measured = found.measured
            assert measured is not None
            rows = [
                (
                    measured.critical("wrong"),
                    "red",
                    "^" if measured.wrong.rises else "v",
                    "measured wrong",
                ),
                (measured.critical("accuracy"), "orange", "*", "measured accuracy"),
            ]
            colours = {quantity: colour for quantity, _, colour in SUMMED}
            rows += [
                (
                    half,
                    colours[quantity],
                    MARKERS[source],
                    f"GER, {quantity.removeprefix('gone, ')}: {source}",
                )
                for quantity, source, half in halves(found)
            ]
            for row, (ratio, colour, marker, label) in enumerate(rows):
                if math.isnan(ratio.value):
                    continue
                ends = [[max(0.0, ratio.value - np.nan_to_num(ratio.low, nan=ratio.value))]]
                ends.append([max(0.0, np.nan_to_num(ratio.high, nan=ratio.value) - ratio.value)])
                look = {"color": plot.COLOURS[colour], "marker": marker, "ms": 5, "lw": 1}
                at = group + 0.09 * row - 0.32
                handles[label] = ax.errorbar(ratio.value, at, xerr=ends, **look)
            for cliff in found.cliffs.values():
                ax.plot([cliff, cliff], [group - 0.42, group + 0.42], color="0.6", lw=0.8, ls=(0, (1, 2)))
        ax.set_yticks(range(len(policies)), list(policies))
        ax.set(xlim=(0, 1), ylim=(len(policies) - 0.5, -0.5), xlabel="compression ratio", title=model)
        ax.grid(axis="y", visible=False)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize="small")
    plot.save(figure, path)


def main(folder: Path, prompts_file: Path | None = None) -> None:
    """Measure and extract where needed, compare, and write tables and figure."""
    folder.mkdir(parents=True, exist_ok=True)
    use_threads(1)
    shown: dict[str, dict[str, PolicyComparison]] = {}
    for model in (*TINY, LARGE):
        if model in TINY:
            prompts, found = tiny(model, folder)
        elif (folder / model / "run.json").is_file():
            found = Measured.load(folder / model)
            asked = set(found.ids)
            source = prompts_file or folder / f"{model}_prompts.jsonl"
            prompts = [prompt for prompt in read_prompts(source) if prompt.id in asked]
        else:
            sys.stderr.write(f"{model} is left out: no cells in {folder / model}\n")
            continue
        result, shown[model] = compared(model, traces_of(model, prompts, found, folder), found)
        write_json(folder / f"{model}_compare.json", result.to_dict())
    with plot.style():
        draw(shown, DOCS / "critical_ratios.svg")
    page = DOCS / "critical_ratios.md"
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    tables = "\n\n".join([summary(shown), *(every(model, policies) for model, policies in shown.items())])
    page.write_text(f"{before}\n\n{tables}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

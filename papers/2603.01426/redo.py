"""Redo the table of claims: ``python redo.py [--cells DIR] [--models NAME ...]``; finished work is not done again.

Measures, extracts and probes by the command `routegraph` into the folder of cells, judges the claims, and writes the
table in README.md, claims.json, answers.svg and traces.svg beside this file. SmolLM2 takes about two hours on one core,
each small model about five minutes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from prompts import chosen

from routegraph import plot
from routegraph.files import atomic_open, write_json
from routegraph.trace import Trace
from routegraph.validate.claims import tables
from routegraph.validate.claims.figures import plot_claims, plot_traces
from routegraph.validate.claims.judge import claims_of_files, to_dict
from routegraph.validate.models.load import load
from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.tasks import load_task

HERE = Path(__file__).parent
BEGIN, END = "<!-- claims: written by redo.py -->", "<!-- end of claims -->"
MODELS = ("smollm2", "llama-tiny", "qwen-tiny", "llama-tiny-guessing", "qwen-tiny-guessing")
WORDS = ("forward", "inverse", "multi_entity", "two_hop", "unknown_forward", "unknown_two_hop")
#: Items of each task of the small language; prompts of each task whose traces are kept.
PER_TASK, TRACED = 60, 10
CHUNK, N_SINK = (16, 64), 4  # rows of a chunk in the small models and in SmolLM2, and its protected rows
POLICIES = ("chunk", "adakv", "topk", "snapkv", "knorm", "random", "streaming")
RATIOS = (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 0.995)
#: What SmolLM2 is asked question-aware, for C8 alone.
AWARE_POLICIES, AWARE_RATIOS = ("chunk", "adakv", "snapkv", "random"), (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95)


def prompts_of(model: str) -> list[Prompt]:
    """Return the prompts a model is measured on."""
    if model == "smollm2":
        return chosen()
    return [prompt for task in WORDS for prompt in load_task(f"words_{task}", PER_TASK)]


def traced(model: str, prompts: list[Prompt]) -> list[Prompt]:
    """Return the first prompts of each task whose last chunk is long enough to be scored by itself."""
    tokenizer, chunk = load(model).tokenizer, CHUNK[model == "smollm2"]
    left = {prompt.id: len(tokenizer(prompt.context).input_ids) % chunk for prompt in prompts}
    fitting = [prompt for prompt in prompts if left[prompt.id] == 0 or left[prompt.id] > N_SINK]
    tasks = dict.fromkeys(prompt.task for prompt in fitting)
    return [prompt for task in tasks for prompt in [p for p in fitting if p.task == task][:TRACED]]


def routegraph(*arguments: str) -> None:
    """Run a command of routegraph."""
    call = "from routegraph.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", call, *arguments], check=True, stdout=subprocess.DEVNULL)


def measured(model: str, aware: bool, file: Path, count: int, cells: Path) -> Path:
    """Measure a model, unless all its cells are there."""
    out = cells / (f"{model}-aware" if aware else model)
    if len(list(out.glob("cells/*.json"))) < count:
        small = model != "smollm2"
        options = ["--max-new-tokens=1"] if small else ["--max-new-tokens=8"]
        options += [f"--chunk-length={CHUNK[not small]}"]
        some = AWARE_POLICIES if aware and not small else POLICIES
        options += [f"--policy={policy}" for policy in some if not small or policy != "snapkv"]
        options += [f"--ratio={ratio:g}" for ratio in (AWARE_RATIOS if aware else RATIOS)] * (not small)
        options += ["--question-aware"] * aware
        routegraph("measure", model, f"--task={file}", f"--out={out}", "--metrics", "--threads=1", *options)
    return out


def extracted(model: str, file: Path, cells: Path) -> Path:
    """Extract traces with graphs, unless they are there."""
    out = cells / f"{model}.npz"
    if not out.exists():
        chunk = f"--chunk-length={CHUNK[model == 'smollm2']}"
        routegraph("extract", model, f"--prompts={file}", f"--out={out}", "--graphs", "--threads=1", chunk)
    return out


def probed(model: str, file: Path, cells: Path) -> list[Path]:
    """Fit linear probes, unless they are there: the answer's type, and whether the context tells it."""
    folder = cells / "probes"
    folder.mkdir(exist_ok=True)
    small = model != "smollm2"
    kinds = (
        ["--task=words_forward", "--task=words_unknown_forward", "--n=100"]
        if small
        else ["--task=base", "--n=160"]
    )
    asked = {
        "type": ["--task=words_forward", "--n=140"] if small else [f"--task={file}"],
        "answerable": kinds,
    }
    options = [f"--chunk-length={CHUNK[not small]}", f"--max-new-tokens={1 if small else 8}", "--threads=1"]
    options += ["--policy=adakv", "--policy=chunk", "--ratio=0", "--ratio=.5", "--ratio=.9"]
    made = []
    for target, tasks in asked.items():
        made.append(folder / f"{model}-{target}.json")
        if not made[-1].exists():
            routegraph("probe", model, *tasks, f"--target={target}", f"--out={made[-1]}", *options)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cells", type=Path, default=HERE / "cells", help="folder of measured cells and traces"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    asked = parser.parse_args()
    cells: Path = asked.cells
    cells.mkdir(exist_ok=True)
    folders, files, probes = [], [], []
    for model in asked.models:
        prompts = prompts_of(model)
        all_of_them, some = cells / f"{model}.jsonl", cells / f"{model}-traced.jsonl"
        write_prompts(all_of_them, prompts)
        write_prompts(some, traced(model, prompts))
        folders += [measured(model, aware, all_of_them, len(prompts), cells) for aware in (False, True)]
        files.append(extracted(model, some, cells))
        probes += probed(model, all_of_them, cells)
    judged, found = claims_of_files(folders, files, probes)
    write_json(HERE / "claims.json", to_dict(judged, found, 0))
    plot.save(plot_claims(found), HERE / "answers.svg")
    plot.save(plot_traces([Trace.load(file) for file in files]), HERE / "traces.svg")
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    lines = [BEGIN, "", *tables.to_markdown(judged), "", END]
    with atomic_open(readme, "w") as stream:
        stream.write(before + "\n".join(lines) + after)


if __name__ == "__main__":
    main()

"""Redo the table of claims: ``python redo.py [--cells DIR] [--tiny] [--as-is]``; finished work is not done again.

Measures, extracts and probes by the command `routegraph` into the folder of cells, judges the claims by `rules.md`, and
writes the table in README.md, claims.json, answers.svg and traces.svg beside this file. The tiny models, trained here,
are no evidence about the paper: with --tiny they are measured, and tiny.md and claims_tiny.json are written instead.
What has been measured so far comes with the repository, in cells.tar.xz: it is gone on with, or judged --as-is.
"""

import argparse
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prompts import TWIN_TASKS, answerable, further, with_twins

from routegraph import plot
from routegraph.files import atomic_open, digest, write_json
from routegraph.trace import Trace
from routegraph.validate.claims import tables
from routegraph.validate.claims.figures import plot_claims, plot_traces
from routegraph.validate.claims.judge import claims_of_files, to_dict
from routegraph.validate.prompts.prompt import Prompt, read_prompts, write_prompts
from routegraph.validate.tasks import load_task

HERE = Path(__file__).parent
BEGIN, END = "<!-- claims: written by redo.py -->", "<!-- end of claims -->"
#: The paper's two policies, and random eviction beside them.
POLICIES = ("chunk", "adakv", "random")
RATIOS = (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
#: For the claim about question-aware scoring, which is asked both ways.
TWIN_RATIOS = (0, 0.4, 0.6, 0.8, 0.9)
#: Prompts of each task whose traces are kept, and prompts that probes are fitted on.
TRACED, PROBED = 5, 140
TINY = ("llama-tiny", "qwen-tiny", "llama-tiny-guessing", "qwen-tiny-guessing")
WORDS = ("forward", "inverse", "multi_entity", "two_hop", "unknown_forward", "unknown_two_hop")
TINY_POLICIES = ("chunk", "adakv", "topk", "knorm", "random", "streaming")
PER_TASK, TINY_CHUNK = 60, 16


@dataclass(frozen=True)
class Run:
    """One measurement: a model, which prompts, and how it is asked."""

    name: str
    model: str
    prompts: str
    options: tuple[str, ...]


def options(policies: tuple[str, ...], ratios: tuple[float, ...], *more: str) -> tuple[str, ...]:
    """Return the options of a measurement."""
    named = [f"--policy={policy}" for policy in policies]
    return (*named, *(f"--ratio={ratio:g}" for ratio in ratios), "--metrics", "--threads=1", *more)


#: As texts to go on with, small models answer more; only a chat lets them say that they do not know.
TEXT = options(POLICIES, RATIOS, "--chat=off", "--max-new-tokens=12", "--stop=.", "--dtype=bfloat16")
CHAT = options(POLICIES, TWIN_RATIOS, "--chat=on", "--max-new-tokens=16", "--dtype=bfloat16")
#: The reader was taught to answer in a chat, briefly.
READS = options(POLICIES, RATIOS, "--chat=on", "--max-new-tokens=12", "--dtype=bfloat16")
RUNS = (
    Run("qwen", "qwen2.5-coder-0.5b", "answerable", TEXT),
    Run("qwen", "qwen2.5-coder-0.5b", "further-qwen", TEXT),
    Run("qwen-chat", "qwen2.5-coder-0.5b", "twins", CHAT),
    Run("qwen-chat-aware", "qwen2.5-coder-0.5b", "twins", (*CHAT, "--question-aware")),
    Run("reader", "smollm2-reader", "answerable", READS),
    Run("reader", "smollm2-reader", "further-reader", READS),
    Run("reader-twins", "smollm2-reader", "twins", CHAT),
    Run("reader-twins-aware", "smollm2-reader", "twins", (*CHAT, "--question-aware")),
    Run("smollm2", "smollm2", "forward", TEXT),
)
TRACES = ("qwen2.5-coder-0.5b", "smollm2")


def prompts_of(kind: str) -> list[Prompt]:
    """Return the prompts of a run; "forward": what plain SmolLM2 can answer some of."""
    if kind == "twins":
        return with_twins()
    if kind.startswith("further-"):
        return further(kind.removeprefix("further-"))
    prompts = answerable()
    if kind == "forward":
        return [prompt for prompt in prompts if prompt.task in TWIN_TASKS and "forward" in prompt.tags]
    if kind == "traced":
        tasks = dict.fromkeys(prompt.task for prompt in prompts)
        return [p for task in tasks for p in islice((p for p in prompts if p.task == task), TRACED)]
    return prompts[:PROBED] if kind == "probed" else prompts


def written(kind: str, prompts: list[Prompt], cells: Path) -> Path:
    """Write prompts into the folder of cells."""
    file = cells / f"{kind}.jsonl"
    write_prompts(file, prompts)
    return file


def routegraph(*arguments: str) -> None:
    """Run a command of routegraph."""
    call = "from routegraph.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", call, *arguments], check=True, stdout=subprocess.DEVNULL)


def measured(name: str, model: str, file: Path, given: tuple[str, ...], cells: Path) -> Path:
    """Measure a model, unless the cells of all prompts are there."""
    out = cells / name
    wanted = [out / "cells" / f"{digest(prompt.to_dict())}.json" for prompt in read_prompts(file)]
    if not all(cell.exists() for cell in wanted):
        routegraph("measure", model, f"--task={file}", f"--out={out}", *given)
    return out


def extracted(model: str, file: Path, cells: Path, *more: str) -> Path:
    """Extract traces with graphs, unless they are there."""
    out = cells / f"{model}.npz"
    if not out.exists():
        routegraph("extract", model, f"--prompts={file}", f"--out={out}", "--graphs", "--threads=1", *more)
    return out


def probed(name: str, model: str, asked: tuple[str, ...], given: tuple[str, ...], cells: Path) -> Path:
    """Fit linear probes, unless they are there."""
    out = cells / f"probe-{name}.json"
    if not out.exists():
        policies = (
            "--policy=adakv",
            "--policy=chunk",
            "--ratio=0",
            "--ratio=.5",
            "--ratio=.9",
            "--threads=1",
        )
        routegraph("probe", model, *asked, f"--out={out}", *policies, *given)
    return out


def pretrained(cells: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Measure the pretrained models; return folders, traces and probes."""
    folders = [
        measured(
            run.name, run.model, written(run.prompts, prompts_of(run.prompts), cells), run.options, cells
        )
        for run in RUNS
    ]
    traced = written("traced", prompts_of("traced"), cells)
    files = [extracted(model, traced, cells, "--chat=off", "--dtype=bfloat16") for model in TRACES]
    asked = (f"--task={written('probed', prompts_of('probed'), cells)}", "--target=type")
    probes = [
        probed(model, model, asked, ("--chat=off", "--max-new-tokens=12", "--dtype=bfloat16"), cells)
        for model in TRACES[:1]
    ]
    return list(dict.fromkeys(folders)), files, probes


def as_is(cells: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return what there is of the pretrained models: folders, traces and probes."""
    folders = [cells / name for name in dict.fromkeys(run.name for run in RUNS) if (cells / name).is_dir()]
    files = [cells / f"{model}.npz" for model in TRACES if (cells / f"{model}.npz").exists()]
    return folders, files, sorted(cells.glob("probe-*.json"))


def tiny(cells: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Measure the tiny models; return folders, traces and probes."""
    prompts = [prompt for task in WORDS for prompt in load_task(f"words_{task}", PER_TASK)]
    file = written("words", prompts, cells)
    some = [p for task in WORDS for p in islice((p for p in prompts if p.task == task), 2 * TRACED)]
    few = written("words-traced", some, cells)
    given = (f"--chunk-length={TINY_CHUNK}", "--max-new-tokens=1", "--threads=1")
    policies = tuple(f"--policy={policy}" for policy in TINY_POLICIES)
    folders, files, probes = [], [], []
    for model in TINY:
        for name, aware in ((model, ()), (f"{model}-aware", ("--question-aware",))):
            folders.append(measured(name, model, file, (*given, *policies, "--metrics", *aware), cells))
        files.append(extracted(model, few, cells, f"--chunk-length={TINY_CHUNK}"))
        told = ("--task=words_forward", "--task=words_unknown_forward", "--n=100", "--target=answerable")
        kinds = ("--task=words_forward", "--n=140", "--target=type")
        for target, asked in (("answerable", told), ("type", kinds)):
            probes.append(probed(f"{model}-{target}", model, asked, given[:2], cells))
    return folders, files, probes


def write_table(page: Path, lines: list[str]) -> None:
    """Put a table between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    with atomic_open(page, "w") as stream:
        stream.write(before + "\n".join([BEGIN, "", *lines, "", END]) + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cells", type=Path, default=HERE / "cells", help="folder of measured cells and traces"
    )
    parser.add_argument("--tiny", action="store_true", help="the models trained here, on a page of their own")
    parser.add_argument("--as-is", action="store_true", help="judge what there is, and measure nothing")
    asked = parser.parse_args()
    if not asked.cells.exists():
        with tarfile.open(HERE / "cells.tar.xz") as kept:
            kept.extractall(asked.cells, filter="data")
    folders, files, probes = (as_is if asked.as_is else tiny if asked.tiny else pretrained)(asked.cells)
    judged, found = claims_of_files(folders, files, probes)
    mark = "_tiny" if asked.tiny else ""
    write_json(HERE / f"claims{mark}.json", to_dict(judged, found, 0))
    plot.save(plot_claims(found), HERE / f"answers{mark}.svg")
    if files:
        plot.save(plot_traces([Trace.load(file) for file in files]), HERE / f"traces{mark}.svg")
    write_table(HERE / ("tiny.md" if asked.tiny else "README.md"), tables.to_markdown(judged, found))


if __name__ == "__main__":
    main()

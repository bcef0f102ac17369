"""``make demo``: from nothing to a first real answer, in a table and a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from routegraph import plot
from routegraph.cli.pace import progress
from routegraph.cli.terminal import console as terminal
from routegraph.cli.terminal import note, write_anywhere
from routegraph.report import write_report
from routegraph.sim.simulation import simulate
from routegraph.tables import Page, points, words
from routegraph.trace import Trace
from routegraph.validate.compare.figures import plot_comparison
from routegraph.validate.compare.run import compare
from routegraph.validate.measure.beside import beside_blocks, beside_sentences
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.models.sources import Progress
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.tasks import load_task
from routegraph.validate.traces.extract import extract_to_file

FOLDER = Path("demo")
#: Asked first; where the model does not answer it with the full cache, the next of the bundled ones are tried.
FIRST = "documents-0-002"
#: Questions tried at most, each takes some seconds.
TRIES = 3
POLICIES, RATIOS = ("topk", "adakv"), (0.0, 0.3, 0.5, 0.7)


def main() -> None:
    """Simulate, fetch the model, ask it a question, extract, compare; show tables and write demo/report.html."""
    write_anywhere()
    console = terminal()
    start = time.perf_counter()
    FOLDER.mkdir(exist_ok=True)
    console.rule("1. A simulated token-attention graph under eviction")
    with progress("simulate") as advance:
        simulation = simulate(4096, [0.7, 0.9], score_correlation=0.3, progress=advance)
    simulation.page().show(console)

    console.rule("2. A real question to a real model, with less and less of the cache")
    use_threads()
    with progress("model smollm2") as advance:
        model = load("smollm2", progress=advance)
    with progress("question") as advance:
        asked = ask(model, load_task("bundled"), advance)
    Page(tuple(beside_blocks(asked, 0))).show(console)

    console.rule("3. The model's cache, read off: one prefill a prompt, every ratio at once")
    trace = FOLDER / "smollm2.npz"
    with progress("prompts") as advance:
        extract_to_file(model, "bundled", trace, progress=advance)
    comparison = compare(Trace.load(trace))
    comparison.page().show(console)

    report, figure = FOLDER / "report.html", FOLDER / "figure.svg"
    write_report(report, simulation, comparison, asked=asked)
    plot.save(plot_comparison(comparison.policies["topk"], comparison.model), figure)
    console.rule("What was found")
    found = points([*beside_sentences(asked, 0), *comparison.answer])
    files = f"Files: {report} (open it in a browser), {figure}, {trace}."
    Page((found, words(files))).show(console)
    note(f"wrote {report}, {figure} and {trace} in {time.perf_counter() - start:.0f} s")


def ask(model: Any, prompts: list[Prompt], advance: Progress | None = None) -> Measured:
    """Return what a model replies to one question: the first that it answers with nothing removed, of a few.

    The first asked is `FIRST`, then the others as they come; where none is answered, it is the last one tried.
    """
    ordered = sorted(prompts, key=lambda prompt: prompt.id != FIRST)
    for prompt in ordered[:TRIES]:
        asked = measure(model, [prompt], policy_names=POLICIES, ratios=RATIOS, progress=advance)
        if asked.right[0, 0, 0]:
            break
    return asked


if __name__ == "__main__":
    main()

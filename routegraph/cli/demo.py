"""``make demo``: from nothing to a first real answer, in a table and a page."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from routegraph import plot
from routegraph.cli.terminal import note, progress
from routegraph.report import write_report
from routegraph.sim.simulation import simulate
from routegraph.trace import Trace
from routegraph.validate.compare.figures import plot_comparison
from routegraph.validate.compare.run import compare
from routegraph.validate.models.load import get_model, use_threads
from routegraph.validate.traces.extract import extract_to_file

FOLDER = Path("demo")


def main() -> None:
    """Simulate, fetch the model, extract, compare; write demo/report.html and show the tables."""
    console = Console()
    start = time.perf_counter()
    FOLDER.mkdir(exist_ok=True)
    console.rule("1. A simulated token-attention graph under eviction")
    with progress("simulate") as advance:
        simulation = simulate(4096, [0.7, 0.9], score_correlation=0.3, progress=advance)
    simulation.page().show(console)

    console.rule("2. A real model: one prefill a prompt, every ratio at once")
    with progress("model smollm2") as advance:
        get_model("smollm2", progress=advance)
    use_threads()
    trace = FOLDER / "smollm2.npz"
    with progress("prompts") as advance:
        extract_to_file("smollm2", "bundled", trace, progress=advance)

    console.rule("3. Side by side")
    comparison = compare(Trace.load(trace))
    comparison.page().show(console)
    report = FOLDER / "report.html"
    write_report(report, simulation, comparison)
    plot.save(plot_comparison(comparison.policies["topk"], comparison.model), FOLDER / "figure.svg")
    note(f"wrote {report}, {FOLDER / 'figure.svg'} and {trace} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

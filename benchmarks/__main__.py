"""Run all benchmarks and write benchmarks/results: ``python -m benchmarks [--quick]`` (`make bench`)."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_pool] = "1"

from benchmarks import extraction, leaderboard, regression, report, sections, timing  # noqa: E402
from routegraph.files import write_json  # noqa: E402
from routegraph.plot import save  # noqa: E402

RESULTS = Path(__file__).parent / "results"
PEERS = ("scipy", "networkx", "igraph", "rustworkx", "networkit", "cpyrcolate")
PACKAGES = ("routegraph", "numpy", "numba", "llvmlite", "torch", "transformers", "kvpress", *PEERS)


def main(quick: bool) -> None:
    """Run every section in turn; quick: without what takes longest, into a folder of its own."""
    start = time.perf_counter()
    results: dict[str, Any] = {"machine": timing.machine(), "versions": timing.versions(*PACKAGES)}
    results["triad_bytes_per_second"] = timing.triad()
    steps = {
        "stored graph": sections.stored_graph,
        "many sources": sections.many_sources,
        "clusters": sections.clusters,
        "threads": sections.threads,
        "command line": sections.command_line,
        "stored scaling": sections.stored_scaling,
        "extraction": extraction.extraction,
        "leaderboard": lambda: leaderboard.leaderboard(
            leaderboard.MODELS[: 1 if quick else None], leaderboard.LENGTHS[: 1 if quick else None]
        ),
        "streaming": lambda: sections.streaming(1 << 20 if quick else 1 << 24),
    }
    for name, step in steps.items():
        began = time.perf_counter()
        results[name] = step()
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    results["seconds"] = time.perf_counter() - start
    folder = RESULTS / "quick" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "results.json"
    if last.exists():
        changed = regression.page(json.loads(last.read_text()), results)
        (folder / "changes.md").write_text(changed)
        print(changed)
    write_json(folder / "results.json", results)
    text = report.markdown(results, "make bench" if not quick else "python -m benchmarks --quick")
    (folder / "results.md").write_text(text)
    save(report.draw(results), folder / "speed.svg")
    print(text)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])

"""Run all benchmarks and write benchmarks/results: ``python -m benchmarks`` (`make bench`).

``--quick`` leaves out what takes longest, and writes into a folder of its own. ``--lengths 200`` has the leaderboard
ask contexts of that many tokens only: those of 2,000 take half an hour.
"""

from __future__ import annotations

import argparse
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


def main(quick: bool, lengths: tuple[int, ...]) -> None:
    """Run every section in turn, the leaderboard on contexts of some lengths; quick: see above."""
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
            leaderboard.MODELS[: 1 if quick else None], lengths[: 1 if quick else None]
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
    text = report.markdown(results, " ".join(["python -m benchmarks", *sys.argv[1:]]))
    (folder / "results.md").write_text(text)
    save(report.draw(results), folder / "speed.svg")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--lengths", nargs="+", type=int, default=list(leaderboard.LENGTHS))
    asked = parser.parse_args()
    main(asked.quick, tuple(asked.lengths))

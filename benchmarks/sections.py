"""What is timed: each section returns plain numbers, and asserts that the answers agree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import peers, problems
from benchmarks.timing import Timing, in_a_process, measure, measure_cold, measure_together
from routegraph import Survival, reach_thresholds, reach_thresholds_each
from routegraph.attention import widest_path
from routegraph.kernels import lanes, newman_ziff, reach, union_find
from routegraph.routes import level_type, reach_counts, unsigned
from routegraph.sim.parameters import Parameters
from routegraph.sim.run import run_cell, run_replicate

Section = dict[str, Any]


def kernel_timing(graph: Any, survival: Survival, seconds: float = 1.0, least_runs: int = 5) -> Timing:
    """Time the kernel alone."""
    value = np.zeros(graph.n_tokens, level_type(survival.max_level))
    value[-1] = survival.max_level + 1
    slots = unsigned(graph.slot)
    return measure(
        lambda: reach.reach_pass(value, graph.indptr, slots, survival.drop, True, True), seconds, least_runs
    )


def stored_graph() -> Section:
    """All ratios of one source on 1,048,576 stored edges, and the same from the peers."""
    graph, survival = problems.stored()
    source, drop = graph.n_tokens - 1, survival.drop
    thresholds = reach_thresholds(graph, survival, source)
    levels = survival.levels(problems.RATIOS).tolist()
    together = measure_together(
        {
            "routegraph": lambda: reach_thresholds(graph, Survival(drop), source),
            "numpy one pass": lambda: peers.numpy_one_pass(graph, Survival(drop), source),
        },
        rounds=100,
    )
    assert np.array_equal(peers.numpy_one_pass(graph, survival, source), thresholds)
    kernel = kernel_timing(graph, survival)
    rows = {name: {"ratios": "all", **timing._asdict()} for name, timing in together.items()}
    problem = peers.problem_of(graph, survival)
    for name, (search, every) in peers.SEARCHES.items():
        asked = levels[::every]
        found: list[Any] = []
        try:
            runs = 3 if every == 1 and name == "scipy" else 1
            search(problem, asked[:1])  # imports
            timing = measure_cold(lambda s=search, a=asked, f=found: f.append(s(problem, a)), least_runs=runs)
        except ImportError as error:
            rows[name] = {"missing": str(error)}
            continue
        # The query itself is reached by definition with us, by residual edges with them: the same here.
        assert np.array_equal(found[-1], thresholds >= np.array(asked)[:, None]), name
        full = len(levels) / len(asked)
        scaled = Timing(
            timing.median * full, timing.least * full, timing.most * full, timing.runs, timing.cpu * full
        )
        rows[name] = {"ratios": len(asked), **scaled._asdict()}
    width = measure(lambda: widest_path(graph_with_weights(graph), Survival(drop), source, 0.5))
    return {
        "edges": graph.n_edges,
        "rows": rows,
        "kernel_ns_per_edge": per(kernel, graph.n_edges),
        "widest_path_ns_per_edge": per(width, graph.n_edges),
    }


def graph_with_weights(graph: Any) -> Any:
    """The graph with random weights, made once."""
    from dataclasses import replace

    if graph.weight is None and not hasattr(graph_with_weights, "made"):
        weight = np.random.default_rng(0).random(graph.n_edges, dtype=np.float32)
        graph_with_weights.made = replace(graph, weight=weight)  # type: ignore[attr-defined]
    return graph_with_weights.made  # type: ignore[attr-defined]


def per(timing: Timing, count: float, unit: float = 1e-9) -> dict[str, float]:
    """Return the timing divided by a count, in units of `unit` seconds."""
    scale = 1 / (count * unit)
    return {
        "median": timing.median * scale,
        "least": timing.least * scale,
        "most": timing.most * scale,
        "cpu": timing.cpu * scale,
        "runs": timing.runs,
    }


def stored_scaling() -> Section:
    """The kernel against n, L and H, up to 2**26 edges."""
    shapes = {
        "n": [(16, n, 8, 4) for n in (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)],
        "L": [(layers, 2048, 8, 4) for layers in (2, 4, 8, 16, 32, 64, 128)],
        "H": [(16, 2048, heads, 4) for heads in (1, 2, 4, 8, 16, 32)],
        "2**26 edges, n = 8192": [(256, 8192, 8, 4)],
    }
    out: Section = {}
    for name, cases in shapes.items():
        out[name] = []
        for shape in cases:
            graph, survival = problems.stored(*shape)
            big = graph.n_edges > 2**24
            timing = kernel_timing(graph, survival, 0.3, least_runs=3 if big else 7)
            out[name].append({"shape": shape, "edges": graph.n_edges, **per(timing, graph.n_edges)})
            del graph, survival
    return out


def many_sources() -> Section:
    """Sources in lanes on the 1,048,576 edges, public functions, fresh Survival each time."""
    graph, survival = problems.stored()
    drop = survival.drop
    sources = np.random.default_rng(0).choice(graph.n_tokens, 256, replace=False)

    def sort_edges() -> None:
        vars(graph).pop("readers", None)
        _ = graph.readers

    index = measure(sort_edges, 0.3)
    query = graph.n_tokens - 1  # reaches more than any other source: nothing is skipped
    functions = {"one": lambda: reach_thresholds(graph, Survival(drop), query)}
    for count in (4, 16, 32, 64, 128, 256):
        chosen = sources[:count]
        functions[f"exact {count}"] = lambda s=chosen: reach_thresholds_each(graph, Survival(drop), s)
        functions[f"grid {count}"] = lambda s=chosen: reach_counts(graph, Survival(drop), s, problems.RATIOS)
    # Each is set against one source twice: turn by turn with it, and alone, over and over in warm caches.
    timed, alone = {}, {}
    for name, function in functions.items():
        pair = measure_together({"one": functions["one"], name: function}, rounds=40)
        timed[name] = {**pair[name]._asdict(), "times_one": pair[name] / pair["one"]}
        alone[name] = measure(function, seconds=0.5, most_runs=400)
    for name, row in timed.items():
        row["times_one_alone"] = alone[name] / alone["one"]
    each = reach_thresholds_each(graph, survival, sources[:64])
    counted = reach_counts(graph, survival, sources[:64], problems.RATIOS)
    for k in range(64):
        assert np.array_equal(each[k], reach_thresholds(graph, survival, int(sources[k])))
    assert np.array_equal(counted, (each[..., None] >= survival.levels(problems.RATIOS)).sum(axis=-1))
    return {
        "lanes": lanes.WIDTH,
        "sort_edges_once": index._asdict(),
        "rows": timed,
    }


STREAM = """
import sys, time
from routegraph.sim.parameters import Parameters
from routegraph.sim.run import run_replicate
n, runs = int(sys.argv[1]), int(sys.argv[2])
run_replicate(Parameters(n_tokens=100, n_layers=2), 0, 0, 0)
parameters = Parameters(n_tokens=n)
walls, cpus = [], []
for replicate in range(runs):
    wall, cpu = time.perf_counter(), time.process_time()
    run_replicate(parameters, 0, 0, replicate)
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
result = {"walls": walls, "cpus": cpus}
"""


def streaming(largest: int = 1 << 24) -> Section:
    """Random eviction, all ratios, L = 32, H = 8, degree 1, graph and ranks drawn inside the pass."""
    run_replicate(Parameters(n_tokens=100_000), 0, 0, 0)  # wide levels
    rows = []
    for n in [1 << k for k in range(9, 25)]:
        if n > largest:
            break
        runs = 5 if n < 1 << 20 else 3 if n == 1 << 20 else 1
        made = in_a_process(STREAM, n, runs)
        rows.append(
            {
                "n": n,
                "median": float(np.median(made["walls"])),
                "least": min(made["walls"]),
                "most": max(made["walls"]),
                "cpu": float(np.median(made["cpus"])),
                "runs": runs,
                "peak_bytes": made["peak_bytes"],
            }
        )
    generator = np.random.Generator(np.random.Philox(0))
    buffer = np.empty(1 << 20)
    blocks = 2 * 131_072 * 32 * 8 // len(buffer)

    def draw() -> None:
        for _ in range(blocks):
            generator.random(out=buffer)

    philox = measure(draw, least_runs=3, most_runs=3)
    return {"rows": rows, "philox_131072": philox._asdict()}


def threads() -> Section:
    """8 replicates at n = 65,536 over threads."""
    parameters = Parameters(n_tokens=65_536)
    numbers = [1 << k for k in range((os.cpu_count() or 1).bit_length()) if 1 << k <= (os.cpu_count() or 1)]
    functions = {str(w): lambda w=w: run_cell(parameters, 8, workers=w) for w in numbers}
    first = run_cell(parameters, 8, workers=1)
    last = run_cell(parameters, 8, workers=numbers[-1])
    assert np.array_equal(first.reach, last.reach)
    return {"rows": {name: t._asdict() for name, t in measure_together(functions, rounds=5).items()}}


def clusters() -> Section:
    """Newman-Ziff on the 256 x 256 lattice, shuffle included: the largest cluster after every bond."""
    side = 256
    site = np.arange(side * side).reshape(side, side)
    across = np.stack([site[:, :-1].ravel(), site[:, 1:].ravel()], axis=1)
    down = np.stack([site[:-1].ravel(), site[1:].ravel()], axis=1)
    bonds = np.concatenate([across, down])
    first, second = np.ascontiguousarray(bonds.T).astype(np.int32)
    key = np.uint64(1)
    ours = newman_ziff.largest_clusters(first, second, side * side, key)
    order = union_find.shuffled(key, len(bonds))
    assert np.array_equal(ours, union_find.newman_ziff(bonds, side * side, order)[0])
    functions = {"routegraph": lambda: newman_ziff.largest_clusters(first, second, side * side, key)}
    missing: dict[str, str] = {}
    try:
        import cpyrcolate
        from cpyrcolate import percolate_cy

        functions["cpyrcolate"] = lambda: cpyrcolate.compute_percolation_single(bonds)
        order32 = order.astype(np.int32)
        theirs = percolate_cy.run_percolation(side**2, side**2, first, second, order32, -1, -1)[0]
        assert np.array_equal(theirs[1:] if len(theirs) > len(ours) else theirs, ours)
    except ImportError as error:
        missing["cpyrcolate"] = str(error)
    timed = measure_together(functions, rounds=40)
    rows: Section = {name: t._asdict() for name, t in timed.items()}
    return {"rows": {**rows, **{name: {"missing": why} for name, why in missing.items()}}}


def command_line() -> Section:
    """What a user waits for: the first run ever (compiling), and the run of the issue afterwards."""
    small = [
        sys.executable,
        "-m",
        "routegraph",
        "simulate",
        "--n-tokens",
        "4096",
        "--replicates",
        "1",
        "--json",
    ]
    large = [*small]
    large[large.index("4096")] = "131072"
    large[large.index("--replicates") + 1] = "8"

    def run(command: list[str], cache: str) -> float:
        start = time.perf_counter()
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as cache:
        first = run(small, cache)
        second = run(small, cache)
        run(large, cache)
        walls = [run(large, cache) for _ in range(3)]
    return {
        "first_run": first,
        "second_run": second,
        "simulate_131072": {"median": float(np.median(walls)), "least": min(walls), "most": max(walls)},
    }

"""The results as a table and a figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import leaderboard
from routegraph.plot import COLOURS, figure

Results = dict[str, Any]


def exponent(x: list[float], y: list[float]) -> float:
    """Slope of log y against log x by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _between(rows: list[dict[str, Any]], low: int, high: int) -> float | None:
    chosen = [row for row in rows if low <= row["n"] <= high]
    if len(chosen) < 3:
        return None
    return exponent([row["n"] for row in chosen], [row["least"] for row in chosen])


def targets(results: Results) -> list[tuple[str, str, str, bool | None]]:
    """Return (what, asked, reached, met) of every promise; met is None where it was not measured."""
    rows: list[tuple[str, str, str, bool | None]] = []

    def add(what: str, asked: str, value: float | None, met: bool | None, unit: str = "") -> None:
        rows.append((what, asked, "not measured" if value is None else f"{value:.3g}{unit}", met))

    stored = results["stored graph"]
    peers = stored["rows"]
    ours = peers["routegraph"]["median"]
    for name, least in (("scipy", 1500), ("numpy one pass", 4)):
        ratio = peers[name]["median"] / ours if "median" in peers[name] else None
        add(
            f"all ratios, 2^20 edges: faster than {name}",
            f">= {least} x",
            ratio,
            ratio and ratio >= least,
            " x",
        )
    kernel = stored["kernel_ns_per_edge"]["median"]
    add("the kernel at 2^20 edges", "<= 1.0 ns an edge", kernel, kernel <= 1.0, " ns")
    scaling = results["stored scaling"]
    for what, case in (("n = 131,072", scaling["n"][-1]), ("n = 8,192", scaling["2**26 edges, n = 8192"][0])):
        ns = case["median"]
        add(f"the kernel at 2^26 edges, {what}", "<= 2.0 ns an edge", ns, ns <= 2.0, " ns")
    many = results["many sources"]["rows"]
    for kind, most in (("exact", 3), ("grid", 2)):
        ratio = many[f"{kind} 64"]["times_one"]
        add(f"64 sources, {kind}, against one", f"<= {most} x", ratio, ratio <= most, " x")
    stream = {row["n"]: row for row in results["streaming"]["rows"]}
    ratio = stream[131_072]["median"] / results["streaming"]["philox_131072"]["median"]
    add("streaming n = 131,072 against numpy's Philox", "<= 3 x", ratio, ratio <= 3, " x")
    for n, most in ((1 << 17, 300), (1 << 20, 500), (1 << 24, 2500)):
        peak = stream[n]["peak_bytes"] / 1e6 if n in stream else None
        add(f"peak memory at n = {n:,}", f"< {most} MB", peak, peak and peak < most, " MB")
    threads = results["threads"]["rows"]
    ratio = threads["1"]["median"] / threads["2"]["median"] if "2" in threads else None
    add(
        "8 replicates at n = 65,536: two threads against one", ">= 1.7 x", ratio, ratio and ratio >= 1.7, " x"
    )
    clusters = results["clusters"]["rows"]
    theirs = clusters["cpyrcolate"].get("median")
    ratio = theirs / clusters["routegraph"]["median"] if theirs else None
    add("Newman-Ziff on 256 x 256 against cpyrcolate", ">= 1.5 x", ratio, ratio and ratio >= 1.5, " x")
    wall = results["command line"]["simulate_131072"]["median"]
    add("simulate --n-tokens 131072 --replicates 8", "< 10 s", wall, wall < 10, " s")
    read = {(row["how"], row["n"]): row for row in results["extraction"]["rows"]}
    for n, most in ((1200, 1.6), (8192, 1.3)):
        ratio = read["extract --graphs", n]["median"] / read["prefill", n]["median"]
        what = f"reading SmolLM2's scores and graphs at {n:,} tokens, against a plain prefill"
        add(what, f"<= {most} x", ratio, ratio <= most, " x")
    for row in results["leaderboard"]["rows"]:
        least = 15 if row["tokens"] < 1000 else 25
        what = f"21 variants of {row['tokens']:,} tokens, {row['model']}: faster than kvpress"
        add(what, f">= {least} x", row["ratio"], row["ratio"] >= least, " x")
    for n, most in ((1200, 350), (8192, 2000)):
        above = read["extract --graphs", n]["above_model"] / 1e6
        add(f"its peak memory above the model at {n:,} tokens", f"< {most} MB", above, above < most, " MB")
    return rows


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _time(row: dict[str, Any]) -> list[str]:
    if "missing" in row:
        return ["missing", row["missing"]]

    def shown(seconds: float) -> str:
        for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
            if seconds >= size:
                return f"{seconds / size:.3g} {unit}"
        return f"{seconds * 1e9:.3g} ns"

    spread = (
        f"{shown(row['least'])} to {shown(row['most'])}, {row['runs']} runs" if row["runs"] > 1 else "1 run"
    )
    return [shown(row["median"]), spread]


def bounds(results: Results) -> list[str]:
    """Say what bounds each regime, with the numbers it follows from."""
    triad = results["triad_bytes_per_second"]
    scaling, stream = results["stored scaling"], results["streaming"]["rows"]
    by_n = {case["shape"][1]: case for case in scaling["n"]}
    small, large = by_n[2048], by_n[131_072]
    lines = [
        f"One core moves {triad / 1e9:.1f} GB/s (triad). An edge is 4 bytes, so bandwidth alone would allow "
        f"{4e9 / triad:.2f} ns an edge.",
        f"Stored graph, n = 2,048: {small['least']:.2f} ns an edge. The slot maxima of a layer take 32 kB and stay in "
        "the first cache; an edge costs a load, a load, a maximum and a store, and the one store a cycle is the "
        "bound. There is no branch on the data.",
        f"Stored graph, n = 131,072: {large['least']:.2f} ns an edge. The slot maxima take 4 MB and leave the second "
        "cache: the latency of random reads, of which a core has a dozen in flight, is the bound.",
        "64 sources: every edge is a maximum and a minimum over 64 lanes. Of these a core does two 32-byte ones "
        "a cycle: 4 cycles an edge for 16 bits, 2 for 8, and that is the bound; rows of 64 lanes (256 or 128 kB "
        "for n = 2,048) come from the second cache in its shadow.",
    ]
    for low, high, why in (
        (
            1 << 12,
            1 << 17,
            "best reader and levels of one head stay in the second cache, two random numbers a slot "
            "and the two random writes are the bound",
        ),
        (1 << 17, 1 << 20, "they leave it: latency of the third cache"),
        (
            1 << 20,
            1 << 24,
            "they leave the third level, or the reach of its address translation: latency and "
            "bandwidth of memory (each random write moves 128 bytes)",
        ),
    ):
        slope = _between(stream, low, high)
        if slope is not None:
            lines.append(f"Streaming, n = {low:,} to {high:,}: time grows as n^{slope:.2f}: {why}.")
    return lines


def markdown(results: Results, command: str) -> str:
    """Return the whole report."""
    machine = results["machine"]
    parts = [
        "# Benchmarks\n",
        f"Written by `{command}`, {results['seconds']:.0f} s in all, one run. Medians of wall time; answers of all "
        "libraries were asserted equal. "
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['caches'])}; load average before the "
        f"run {machine['load_before']:.1f}.\n",
        "Versions: "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + ".\n",
        "## What was promised\n",
        _table(
            ["", "asked", "reached", ""],
            [
                [a, b, c, {True: "yes", False: "**no**", None: "-"}[None if d is None else bool(d)]]
                for a, b, c, d in targets(results)
            ],
        ),
        "## All ratios of one source, 1,048,576 stored edges (L=16, n=2048, H=8, 4 reads a head)\n",
        "Ours and numpy's one pass answer every ratio exactly; the others search once a ratio. Where they take long, "
        "11 of the 101 ratios were timed and the time scaled to 101.\n",
    ]
    stored = results["stored graph"]
    ours = stored["rows"]["routegraph"]["median"]
    parts.append(
        _table(
            ["", "ratios timed", "time for all", "spread", "times ours"],
            [
                [
                    name,
                    str(row.get("ratios", "-")),
                    *_time(row),
                    f"{row['median'] / ours:,.3g}" if "median" in row else "-",
                ]
                for name, row in stored["rows"].items()
            ],
        )
    )
    kernel, width = stored["kernel_ns_per_edge"], stored["widest_path_ns_per_edge"]
    parts.append(
        f"Kernel alone {kernel['median']:.2f} ns an edge ({kernel['least']:.2f} to {kernel['most']:.2f}); widest path "
        "by "
        f"attention weight at one ratio {width['median']:.2f} ns an edge.\n"
    )
    parts.append("## Many sources\n")
    many = results["many sources"]
    parts.append(
        f"Sorting the edges by key, once a graph: {_time(many['sort_edges_once'])[0]}. Each row was timed turn by turn "
        "with a single source, and alone, over and over in warm caches.\n\n"
        + _table(
            ["sources", "time", "spread", "times one", "times one, alone"],
            [
                [name, *_time(row), f"{row['times_one']:.2f}", f"{row['times_one_alone']:.2f}"]
                for name, row in many["rows"].items()
            ],
        )
    )
    parts.append("## Reading a real model (SmolLM2-135M, 30 layers, 9 query heads, float32, one thread)\n")
    parts.append(
        "`extract` keeps the scores of every slot (Expected Attention, of the whole context and by chunks of 64), "
        "`--graphs` the 16 heaviest keys of every row as well, every key of weight .01 or more, attention received, "
        "sink mass and entropy. `output_attentions` needs 72 GB at 8,192 tokens.\n\n"
        + _table(
            ["what", "tokens", "time", "spread", "peak above the model"],
            [
                [row["how"], f"{row['n']:,}", *_time(row), f"{row['above_model'] / 1e6:.0f} MB"]
                for row in results["extraction"]["rows"]
            ],
        )
    )
    parts.append("## Replies under 21 variants, against kvpress one after the other (float32, one thread)\n")
    parts.append(
        f"{', '.join(leaderboard.METHODS)} at ratios {', '.join(map(str, leaderboard.RATIOS))}, replies of up to "
        f"{leaderboard.MAX_NEW_TOKENS} tokens; kvpress's pipeline prefills for every press and ratio. In brackets: "
        "ours, the ends of three runs; times, those of three thirds of kvpress's runs, each over the run of "
        "ours beside it. Most: kvpress's time over that of one plain prefill of the context, which no way to answer is "
        "faster than.\n\n" + leaderboard.grid(results["leaderboard"]).to_markdown() + "\n"
    )
    parts.append("## Streaming (L=32, H=8, degree 1, random eviction, all ratios)\n")
    parts.append(
        "Drawing 2 * 131,072 * 32 * 8 numbers with numpy's Philox: "
        f"{_time(results['streaming']['philox_131072'])[0]}.\n\n"
        + _table(
            ["n", "one replicate", "spread", "ns a slot", "peak memory"],
            [
                [
                    f"{row['n']:,}",
                    *_time(row),
                    f"{row['median'] / row['n'] / 256 * 1e9:.2f}",
                    f"{row['peak_bytes'] / 1e6:.0f} MB",
                ]
                for row in results["streaming"]["rows"]
            ],
        )
    )
    parts.append("## Threads, clusters, command line\n")
    line = results["command line"]
    parts.append(
        _table(
            ["", "time", "spread"],
            [
                *(
                    [f"8 replicates at n = 65,536, {name} threads", *_time(row)]
                    for name, row in results["threads"]["rows"].items()
                ),
                *(
                    [f"Newman-Ziff 256 x 256, {name}", *_time(row)]
                    for name, row in results["clusters"]["rows"].items()
                ),
                ["first `routegraph simulate` ever (compiles, once)", f"{line['first_run']:.1f} s", "1 run"],
                ["the same again", f"{line['second_run']:.1f} s", "1 run"],
                [
                    "`simulate --n-tokens 131072 --replicates 8`",
                    f"{line['simulate_131072']['median']:.1f} s",
                    f"{line['simulate_131072']['least']:.1f} s to {line['simulate_131072']['most']:.1f} s, 3 runs",
                ],
            ],
        )
    )
    parts.append("## Scaling, and what bounds it\n")
    scaling = results["stored scaling"]
    fits = []
    for name, axis in (("n", 1), ("L", 0), ("H", 2)):
        cases = scaling[name]
        slope = exponent([c["shape"][axis] for c in cases], [c["least"] * c["edges"] for c in cases])
        edges = ", ".join(f"{c['shape'][axis]:,}: {c['least']:.2f}" for c in cases)
        fits.append([name, f"{slope:.2f}", edges])
    parts.append(_table(["stored graph against", "exponent of time", "ns an edge"], fits))
    parts.append("\n".join(f"- {line}" for line in bounds(results)) + "\n")
    parts.append("![Time of routegraph and of its peers, by size, lanes and length](speed.svg)\n")
    return "\n".join(parts)


def draw(results: Results) -> Any:
    """Return the figure: peers, then time against n, L and H, lanes, n when streaming, threads."""
    made, axes = figure(2, 3, 4.6, 3.4)
    peers, sizes, lanes, stream, memory, threads = axes.ravel()
    rows = {k: v for k, v in results["stored graph"]["rows"].items() if "median" in v}
    names = sorted(rows, key=lambda name: rows[name]["median"])
    colours = [COLOURS["blue"] if name == "routegraph" else COLOURS["orange"] for name in names]
    peers.barh(names, [rows[name]["median"] for name in names], color=colours)
    peers.set(xscale="log", xlabel="time for 101 ratios (s)", title="1,048,576 edges, one source")
    scaling = results["stored scaling"]
    for name, axis, colour in (("n", 1, "blue"), ("L", 0, "orange"), ("H", 2, "green")):
        cases = scaling[name]
        sizes.plot(
            [c["shape"][axis] for c in cases],
            [c["least"] for c in cases],
            "o-",
            ms=3,
            label=name,
            color=COLOURS[colour],
        )
    sizes.set(xscale="log", xlabel="n, L or H", ylabel="ns an edge", ylim=(0, None), title="Kernel")
    sizes.legend()
    many = results["many sources"]["rows"]
    for kind, colour in (("exact", "blue"), ("grid", "green")):
        counts = sorted(int(name.split()[1]) for name in many if name.startswith(kind))
        times = [many[f"{kind} {count}"]["times_one"] for count in counts]
        lanes.plot(
            counts,
            times,
            "o-",
            ms=3,
            label="exact, 16 bits" if kind == "exact" else "1 % grid, 8 bits",
            color=COLOURS[colour],
        )
    lanes.set(xscale="log", yscale="log", xlabel="sources", ylabel="times one source", title="Lanes")
    lanes.legend()
    rows = results["streaming"]["rows"]
    n = [row["n"] for row in rows]
    stream.plot(n, [row["median"] / row["n"] / 256 * 1e9 for row in rows], "o-", ms=3, color=COLOURS["blue"])
    stream.set(
        xscale="log",
        ylim=(0, None),
        xlabel="n (cache rows)",
        ylabel="ns a slot",
        title="Streaming, L=32, H=8",
    )
    for size, label in ((2**16, "levels leave 16 bits"),):
        stream.axvline(size, color=COLOURS["black"], lw=0.8, ls=":", label=label)
    stream.legend()
    memory.plot(n, [row["peak_bytes"] / 1e6 for row in rows], "o-", ms=3, color=COLOURS["red"])
    memory.set(
        xscale="log", yscale="log", xlabel="n (cache rows)", ylabel="MB", title="Peak memory, streaming"
    )
    found = results["threads"]["rows"]
    counts = [int(name) for name in found]
    speed = [found["1"]["median"] / row["median"] for row in found.values()]
    threads.plot(counts, speed, "o-", ms=4, color=COLOURS["blue"])
    threads.plot(counts, counts, ":", color=COLOURS["black"], label="ideal")
    threads.set(xlabel="threads", ylabel="times one thread", title="8 replicates, n = 65,536")
    threads.legend()
    return made

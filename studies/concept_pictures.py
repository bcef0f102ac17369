"""Draw the pictures of docs/concepts through routegraph itself.

    python -m studies.concept_pictures [NAME ...]

Every picture is drawn from fixed seeds, so that a second run writes the same bytes; `predictors` draws what the tables
of docs/routed_drift.md say. Pictures are 4.6 inches wide, to be read on a screen of 360 pixels.
"""

import re
import sys

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from routegraph import TokenGraph, eviction_rate, fit_critical, plot, policies, simulate, winning_ticket
from routegraph.critical.points import half_point
from routegraph.routes import reach_by_layer
from routegraph.sim.ensembles import ensembles
from studies.pages import DOCS

FOLDER = DOCS / "concepts"
WIDTH = 4.6
C = plot.COLOURS
GREY = "0.8"


def level_and_survival():
    """One layer of four heads and ten tokens: the level at which each slot dies, and what is left at three ratios."""
    heads, tokens = 4, 10
    rng = np.random.default_rng(7)
    common = rng.normal(size=tokens)
    scores = np.sqrt(0.6) * common + np.sqrt(0.4) * rng.normal(size=(1, heads, tokens))
    survival = policies.apply("topk", scores)
    ratios = (0.3, 0.6, 0.75)
    made, axes = plot.figure(len(ratios) + 1, 1, width=WIDTH, height=1.55)
    for ax in axes:
        ax.grid(False)
        ax.set(yticks=range(heads), yticklabels=[f"head {h + 1}" for h in range(heads)], xticks=[])
        ax.tick_params(length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
    drop = survival.drop[0]
    axes[0].imshow(drop, cmap="Blues", vmin=-4, vmax=14, aspect="auto")
    for head in range(heads):
        for token in range(tokens):
            axes[0].text(token, head, drop[head, token], ha="center", va="center")
    axes[0].set_title("the level at which each slot dies")
    shades = ListedColormap(["#f2f2f2", C["sky"]])
    for ax, ratio in zip(axes[1:], ratios, strict=True):
        alive = survival.alive(ratio)[0]
        ax.imshow(alive, cmap=shades, vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(np.arange(-0.5, tokens), minor=True)
        ax.set_yticks(np.arange(-0.5, heads), minor=True)
        ax.grid(True, which="minor", color="white", linewidth=2, alpha=1)
        ax.tick_params(which="minor", length=0)
        gone = np.flatnonzero(~alive.any(axis=0))
        for token in gone:
            ax.plot([token, token], [-0.35, heads - 0.65], color=C["red"], linewidth=2)
        rate = eviction_rate(survival, ratio, over="layer")[0]
        ax.set_title(
            f"ratio {ratio:g}: level {survival.level(ratio)}, {rate:.0%} of the tokens gone from all"
        )
    axes[-1].set_xlabel("ten tokens; blue: the row is kept; red: no head keeps it")
    return made


def ger():
    """Fraction of tokens gone from every slot, for few and many slots, independent and correlated."""
    made, ax = plot.figure(width=WIDTH, height=3.9)
    grid = np.linspace(0, 1 - 1 / 2048, 500)
    points = np.array([0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.985])
    cases = [
        ("1 slot", 1, 1, 0.0, "black", "o"),
        ("8 slots, independent", 1, 8, 0.0, "orange", "s"),
        ("96 slots, correlation .3", 12, 8, 0.3, "blue", "D"),
        ("96 slots, independent", 12, 8, 0.0, "green", "^"),
    ]
    for label, layers, heads, correlation, colour, marker in cases:
        found = simulate(
            2048, n_layers=layers, n_heads=heads, score_correlation=correlation, replicates=16, seed=1
        )
        mean, error = found.estimate("eviction_rate", points)
        ax.plot(grid, found.theory("eviction_rate", grid), color=C[colour], linewidth=1.2)
        ax.errorbar(
            points, mean, 2 * error, fmt=marker, markersize=4, color=C[colour], capsize=2, label=label
        )
    ax.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    ax.set(
        xlabel="compression ratio",
        ylabel="fraction of tokens gone",
        xlim=(0.25, 1),
        ylim=(-0.02, 1.02),
        title="Gone from every slot",
    )
    ax.legend(loc="upper left")
    return made


def small_graph(seed, layers=4, heads=2, tokens=12):
    """A graph that can be drawn, and the survival of its slots under random eviction."""
    key = np.uint64(seed)
    columns = []
    for layer in range(1, layers + 1):
        edges = ensembles["uniform"](key, layer, n_tokens=tokens + 1, n_heads=heads, degree=1)
        query = np.repeat(np.arange(tokens + 1), np.diff(edges.indptr))
        columns += [(layer, s % heads, q, s // heads) for q, s in zip(query, edges.slots, strict=True)]
    graph = TokenGraph.from_edges(
        layers, heads, tokens + 1, *np.array(columns, dtype=np.int64).T, n_context=tokens
    )
    survival = policies.apply("random", np.zeros((layers, heads, tokens), dtype=np.float32), seed=seed)
    return graph, survival


def draw_graph(ax, graph, survival, ratio):
    """Draw nodes and reads: blue what the query reaches at a ratio, grey what it does not."""
    query, level = graph.n_tokens - 1, survival.level(ratio)
    reached = reach_by_layer(graph, survival, query) >= level
    for layer, head, reader, key in zip(*graph.edges(), strict=True):
        alive = key >= graph.n_context or survival.drop[layer - 1, head, key] > level
        if not reached[layer, reader]:
            continue
        line = {"color": C["blue"], "linewidth": 1.3} if alive else {"color": C["red"], "linestyle": ":"}
        ax.plot([reader, key], [layer, layer - 1], zorder=1, **line)
    for layer in range(graph.n_layers + 1):
        for token in range(graph.n_tokens):
            if layer and reached[layer, token]:
                ax.plot([token, token], [layer, layer - 1], color=C["sky"], linewidth=1, zorder=0)
            colour = C["blue"] if reached[layer, token] else "white"
            edge = C["blue"] if reached[layer, token] else "0.7"
            ax.plot(token, layer, "o", markersize=6, markerfacecolor=colour, markeredgecolor=edge, zorder=2)
    ax.grid(False)
    ax.set(
        yticks=[0, graph.n_layers],
        yticklabels=["bottom", "top"],
        xticks=[0, query],
        xticklabels=["first token", "query"],
        xlim=(-0.6, query + 0.6),
    )
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    return reached[0, : graph.n_context].sum()


def reach():
    """What the query reaches in a small graph at two ratios, and in a larger one at all."""
    made, axes = plot.figure(3, 1, width=WIDTH, height=2.7)
    graph, survival = small_graph(seed=5)
    for ax, ratio in zip(axes[:2], (0.2, 0.6), strict=True):
        count = draw_graph(ax, graph, survival, ratio)
        ax.set_title(f"ratio {ratio:g}: {count} of {graph.n_context} tokens reached")
    handles = [
        Line2D([], [], color=C["blue"], label="surviving read"),
        Line2D([], [], color=C["red"], linestyle=":", label="read of a dead slot"),
        Line2D([], [], color=C["sky"], label="residual"),
    ]
    axes[1].legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, columnspacing=0.8
    )
    ax, grid = axes[2], np.linspace(0, 0.999, 300)
    for prune, colour in (("columns", "blue"), ("decode", "orange")):
        found = simulate(1024, n_layers=12, n_heads=4, degree=2, prune=prune, replicates=32)
        plot.band(ax, grid, *found.estimate("reach_fraction", grid), color=C[colour], label=prune)
        theory = found.theory("reach_fraction", grid)
        if theory is not None:
            ax.plot(grid, theory, "--", linewidth=1, color=C["black"], label="cavity theory")
    ax.set(
        xlabel="compression ratio",
        ylabel="fraction reached",
        ylim=(-0.02, 1.02),
        title="1,024 tokens, 12 layers, 4 heads",
    )
    ax.legend(loc="lower left")
    return made


def tickets():
    """The winning ticket of one token: the route to it that survives longest, and its weakest slot."""
    made, ax = plot.figure(width=WIDTH, height=3.9)
    graph, survival = small_graph(seed=2)
    query, token = graph.n_tokens - 1, 3
    for layer, head, reader, key in zip(*graph.edges(), strict=True):
        dies = 1.0 if key >= graph.n_context else (survival.drop[layer - 1, head, key] - 1) / graph.n_context
        ax.plot([reader, key], [layer, layer - 1], color=GREY, linewidth=0.4 + 1.6 * dies, zorder=0)
    route = winning_ticket(graph, survival, query, token)
    drops = [survival.drop[layer - 1, head, key] for layer, head, _, key in route]
    weakest = int(np.argmin(drops))
    at, layer_now = query, graph.n_layers
    for number, (layer, _, reader, key) in enumerate(route):
        ax.plot([at, at], [layer_now, layer], color=C["sky"], linewidth=2)
        colour = C["red"] if number == weakest else C["blue"]
        ax.plot([reader, key], [layer, layer - 1], color=colour, linewidth=2.5, zorder=3)
        dies = drops[number]
        ax.annotate(
            f"dies at {dies}" + (": the weakest" if number == weakest else ""),
            ((reader + key) / 2, layer - 0.5),
            xytext=(-10, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
            zorder=5,
        )
        at, layer_now = key, layer - 1
    ax.plot([at, at], [layer_now, 0], color=C["sky"], linewidth=2)
    for layer in range(graph.n_layers + 1):
        ax.plot(range(graph.n_tokens), [layer] * graph.n_tokens, "o", color="0.7", markersize=5, zorder=2)
    ax.plot([query, token], [graph.n_layers, 0], "o", color=C["black"], markersize=8, zorder=4)
    ax.grid(False)
    ax.set(
        yticks=[0, graph.n_layers],
        yticklabels=["bottom", "top"],
        xticks=[token, query],
        xticklabels=["token", "query"],
        xlim=(-0.6, query + 0.6),
        title=f"The route to a token that lives to level {min(drops) - 1} of {survival.max_level}",
    )
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    return made


def ensemble_reads():
    """Who reads whom in four ensembles: a dot a read, every head of one layer."""
    made, axes = plot.figure(2, 2, width=WIDTH / 2, height=2.3)
    tokens, heads = 96, 2
    cases = [
        ("uniform", {}),
        ("window", {"window": 16}),
        ("powerlaw", {"exponent": 1.0}),
        ("sink", {"n_sink": 4, "recent": 16}),
    ]
    for ax, (name, settings) in zip(axes.flat, cases, strict=True):
        edges = ensembles[name](np.uint64(3), 1, n_tokens=tokens, n_heads=heads, degree=2, **settings)
        query = np.repeat(np.arange(tokens), np.diff(edges.indptr))
        ax.plot(edges.slots // heads, query, ".", color=C["blue"], markersize=2.5)
        ax.set(title=name, xticks=[0, tokens], yticks=[0, tokens], xlim=(-3, tokens), ylim=(tokens, -3))
        ax.grid(False)
    for ax in axes[1]:
        ax.set_xlabel("token that is read")
    for ax in axes[:, 0]:
        ax.set_ylabel("token that reads")
    return made


def critical_points():
    """A crossover, which larger systems do not sharpen, above a transition, which they do."""
    made, axes = plot.figure(2, 1, width=WIDTH, height=3.2)
    colours = ("sky", "green", "orange", "red")
    grid = np.linspace(0, 0.999, 400)
    ax = axes[0]
    for n_tokens, colour in zip((256, 512, 1024, 2048), colours, strict=True):
        found = simulate(n_tokens, n_layers=4, n_heads=4, score_correlation=0.3, replicates=64, seed=n_tokens)
        values = found.curves("eviction_rate", grid)
        plot.band(ax, grid, *found.estimate("eviction_rate", grid), color=C[colour], label=f"n = {n_tokens}")
        half = half_point(grid, values)
    ax.axvspan(half.low, half.high, color=C["red"], alpha=0.25, linewidth=0)
    ax.set(
        ylabel="fraction of tokens gone",
        xlabel="compression ratio",
        xlim=(0.4, 1),
        title=f"Crossover: half point {half.value:.3f} [{half.low:.3f}, {half.high:.3f}]",
    )
    ax.legend(loc="upper left")
    ax, grid = axes[1], np.linspace(0.2, 0.5, 121)
    sizes, samples = (8, 16, 32, 64), []
    for layers, colour in zip(sizes, colours, strict=True):
        found = simulate(
            2 * layers + 2,
            n_layers=layers,
            n_heads=2,
            ensemble="lattice",
            policy="bernoulli",
            residual=False,
            n_answers=1,
            replicates=1500,
            seed=layers,
            settings={"resolution": 4096},
        )
        samples.append(found.curves("survives", grid))
        plot.band(ax, grid, *found.estimate("survives", grid), color=C[colour], label=f"{layers} layers")
    near = (grid >= 0.295) & (grid <= 0.415)
    fit = fit_critical(
        grid[near],
        np.array(samples)[:, :, near],
        sizes,
        method="collapse",
        scale="L",
        zeta_over_nu=-0.159464,
        observable="survival",
    )
    ax.axvspan(*fit.ci, color=C["black"], alpha=0.25, linewidth=0)
    ax.set(
        ylabel="share of runs that survive",
        xlabel="compression ratio",
        title=f"Transition: {fit.alpha_c:.3f} [{fit.ci[0]:.3f}, {fit.ci[1]:.3f}]; known: .3553",
    )
    ax.legend(loc="upper right")
    return made


#: Metrics of the picture, and what each is told.
METRICS = {
    "routed_drift": "routed_drift",
    "lost_attention": "attention lost",
    "lost_on_answer": "attention lost\non the answer *",
    "ger_facts_layer": "GER by layer *",
    "ger_answer_model": "GER, all slots *",
    "consensus": "consensus",
}


def predictor_tables():
    """Return metric -> list of (value, low, high) of the zoo's models and of SmolLM2, as docs/routed_drift.md says."""
    zoo, smollm2 = {}, {}
    section = ""
    cell = re.compile(r"([\d.]+) \[([\d.]+), ([\d.]+)\]")
    for line in (DOCS / "routed_drift.md").read_text().splitlines():
        if line.startswith("### "):
            section = line
        name = line.split("|")[1].strip(" `") if line.startswith("|") else ""
        values = [tuple(float(x) for x in match.groups()) for match in cell.finditer(line)]
        if name in METRICS and values:
            if section.startswith("### Held out"):
                zoo.setdefault(name, []).extend(values)
            elif section.startswith("### SmolLM2"):
                smollm2[name] = values[0]
    return zoo, smollm2


def predictors():
    """How well each number tells the items that fail, on the held-out tiny models and on SmolLM2."""
    zoo, smollm2 = predictor_tables()
    made, ax = plot.figure(width=WIDTH, height=3.9)
    for row, name in enumerate(METRICS):
        values = [value for value, _, _ in zoo[name]]
        ax.plot(values, np.full(len(values), row - 0.15), "o", color=C["blue"], markersize=4,
                label="eight tiny models, held out" if row == 0 else None)  # fmt: skip
        value, low, high = smollm2[name]
        ax.errorbar(value, row + 0.17, xerr=[[value - low], [high - value]], fmt="D", color=C["red"], markersize=5,
                    capsize=3, label="SmolLM2, 95 % interval" if row == 0 else None)  # fmt: skip
    ax.axvline(0.5, color="0.4", linestyle=":", linewidth=1)
    ax.set(
        yticks=range(len(METRICS)),
        yticklabels=METRICS.values(),
        xlim=(0.35, 1.02),
        ylim=(len(METRICS) - 0.5, -1.9),
        xlabel="AUC: failing before holding; .5 is chance\n(* told where the answer stands)",
        title="Which number tells failing items?",
    )
    ax.legend(loc="upper left")
    return made


PICTURES = {
    "level-and-survival": level_and_survival,
    "ger": ger,
    "reach": reach,
    "tickets": tickets,
    "ensembles": ensemble_reads,
    "critical-points": critical_points,
    "predictors": predictors,
}


def main(names):
    with plot.style():
        for name in names or PICTURES:
            path = FOLDER / f"{name}.svg"
            plot.save(PICTURES[name](), path)
            print(f"wrote {path.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main(sys.argv[1:])

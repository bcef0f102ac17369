"""What is in a trace: attention by distance, popularity, agreement of slots and heads, survivors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph.options import check_whole
from routegraph.stats.intervals import Curve, listed, standard_error
from routegraph.survival import check_ratio, ratio_keeping
from routegraph.tables import many
from routegraph.text import drawn
from routegraph.trace import Trace
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.presses.methods import DEFAULT_SCORER, PLAIN
from routegraph.validate.traces.read_off import read_off
from routegraph.validate.traces.structure import (
    FIRST_QUERY,
    FRACTIONS,
    N_SINK,
    Means,
    by_distance,
    by_layer,
    correlation_by_distance,
    effective_slots,
    gini,
    lorenz,
    sink_share,
    slope,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Ratios at which effective slots are given.
SLOTS_AT = tuple(np.round(np.arange(0.7, 0.985, 0.01), 2).tolist())


@dataclass(frozen=True, eq=False)
class Inspection:
    """What `inspect_traces` found; what needs graphs is None where the traces have none.

    Attributes
    ----------
    model : str
    sizes : (int, int, int)
        Layers, KV heads, query heads a layer.
    prompts : list of (str, int, int)
        Id, cache rows and answer tokens of each.
    scorers : mapping of str to mapping
        Parameters by score table.
    sink_share : Means or None
        Share of the kept attention mass that goes to the first `N_SINK` positions, [1].
    by_distance : Means or None
        Shares of the other mass by octave of distance: bin b holds distances 2**b - 1 .. 2**(b + 1) - 2.
    lorenz : mapping of "with sink" / "without sink" to Means, or None
        Share of a (layer, KV head)'s attention mass that the most attended fraction of its rows receives, at
        `fractions`; mean over layers and heads. Earlier rows can be read by more queries: not corrected for.
    gini : mapping of the same to Means, or None
        Gini coefficient of that, [1]; 0 all rows alike, 1 one row takes all.
    correlation : Means
        Correlation of the scores of slots d layers apart, d = 0 .. n_layers - 1 (0: other heads of a layer).
    effective_slots : Means
        ln GER / ln p of the evictable tokens at SLOTS_AT; standard error by bootstrap over prompts.
    by_layer : mapping of str to Means, or None
        "consensus", "agreement" and both "... without sink", [n_layers]; means over all queries.
    slopes : mapping of the same to Means, or None
        Slope of each over relative depth (0 first layer, 1 last), [1].
    survivors : int64[n_layers, n_context]
        KV heads in which each token of one prompt is alive.
    shown : (str, str, float)
        That prompt, and the policy and ratio.
    method : str
        Whose scores and which cut the policy is, in words.
    """

    model: str
    sizes: tuple[int, int, int]
    prompts: list[tuple[str, int, int]]
    scorers: dict[str, dict[str, Any]]
    sink_share: Means | None
    by_distance: Means | None
    lorenz: dict[str, Means] | None
    gini: dict[str, Means] | None
    correlation: Means
    effective_slots: Means
    by_layer: dict[str, Means] | None
    slopes: dict[str, Means] | None
    survivors: NDArray[np.int64]
    shown: tuple[str, str, float]
    method: str

    @property
    def fractions(self) -> Curve:
        """Fractions of rows at which the Lorenz curves are given."""
        return FRACTIONS

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""

        def several(found: dict[str, Means] | None) -> dict[str, Any] | None:
            return None if found is None else {name: value.to_dict() for name, value in found.items()}

        prompt, policy, ratio = self.shown
        return {
            "model": self.model,
            "n_layers": self.sizes[0],
            "n_heads": self.sizes[1],
            "n_query_heads": self.sizes[2],
            "prompts": [{"id": p, "n_context": n, "answer_tokens": a} for p, n, a in self.prompts],
            "scorers": self.scorers,
            "sink_share": None if self.sink_share is None else self.sink_share.to_dict(),
            "attention_by_distance": None if self.by_distance is None else self.by_distance.to_dict(),
            "lorenz": several(self.lorenz),
            "lorenz_fractions": listed(self.fractions),
            "gini": several(self.gini),
            "correlation_by_layer_distance": self.correlation.to_dict(),
            "effective_slots": {"ratio": list(SLOTS_AT), **self.effective_slots.to_dict()},
            "by_layer": several(self.by_layer),
            "slope_over_depth": several(self.slopes),
            "survivors": {
                "prompt": prompt,
                "policy": policy,
                "method": self.method,
                "ratio": ratio,
                "heads_alive": self.survivors.tolist(),
            },
            "definitions": INSPECTION_DEFINITIONS,
        }


INSPECTION_DEFINITIONS = {
    "stderr": "over prompts",
    "sink": f"the first {N_SINK} positions",
    "attention": "of the edges a trace keeps: the heaviest keys of every query row and all weights of .01 and more",
    "attention_by_distance": "share of the mass that does not go to the sink; bin b holds distances 2**b - 1 to "
    f"2**(b+1) - 2; queries from position {FIRST_QUERY} on",
    "lorenz": "share of a (layer, KV head)'s mass received by its most attended rows; not corrected for how many "
    "queries can read a row",
    "correlation_by_layer_distance": "of normal scores of the slots' order, evictable tokens; 0: heads of a layer",
    "effective_slots": "ln GER / ln p over all layers * heads slots, evictable tokens of all prompts, topk by the "
    "first scores of the trace",
    "consensus": "distinct top keys / query heads, low when heads agree; agreement: largest share of query heads "
    "with one top key; without sink: top keys beyond the sink",
    "slope_over_depth": "least-squares slope over relative depth, 0 the first layer and 1 the last",
    "heads_alive": "KV heads of the layer in which the token is alive, [layers][tokens]",
}


def inspect_traces(
    traces: Sequence[Trace],
    prompt: str | None = None,
    policy: str | None = None,
    ratio: float = 0.9,
    keep: int | None = None,
) -> Inspection:
    """Summarise the traces of one run, and map the survivors of one prompt.

    Parameters
    ----------
    traces : sequence of Trace
        At least one.
    prompt : str, optional
        Id of the prompt whose survivors are mapped; the first by default.
    policy : str, optional
        Method of the map, by name; the first scores of the trace, cut head by head, by default.
    ratio : float
        Compression ratio of the map, in [0, 1).
    keep : int, optional
        In its place: rows that each slot of this prompt keeps.

    Raises
    ------
    ValueError
        If there is no trace, no prompt of that id, the policy is unknown or lacks its scores, or ratio or keep are
        out of range.
    """
    if not traces:
        raise ValueError("the trace file holds no prompts")
    check_ratio(ratio)
    ids = [trace.id for trace in traces]
    if prompt is not None and prompt not in ids:
        raise ValueError(f"no prompt {prompt!r} in the trace; choose from: {', '.join(ids)}")
    shown = traces[0 if prompt is None else ids.index(prompt)]
    if keep is not None:
        check_whole("keep", keep, low=1)
        ratio = ratio_keeping(shown.n_context, keep)
    plain = first_scores(traces[0])
    mapped = plain if policy is None else Method.of_scores(shown, policy)
    survival = Eviction.of(mapped, shown).survival(ratio)
    read = [read_off(trace, Eviction.of(plain, trace), SLOTS_AT) for trace in traces]
    first = traces[0]
    heads = [trace for trace in traces if trace.tops is not None and trace.tops_without_sink is not None]
    graphs = [trace.graph for trace in traces if trace.graph is not None and trace.graph.weight is not None]
    by_prompt = [by_layer(trace) for trace in heads]
    cases = {"with sink": 0, "without sink": N_SINK}
    curves = [{name: lorenz(graph, skip) for name, skip in cases.items()} for graph in graphs]
    return Inspection(
        model=first.model,
        sizes=(first.n_layers, first.n_heads, first.n_query_heads),
        prompts=[(trace.id, trace.n_context, len(trace.answer)) for trace in traces],
        scorers={name: dict(first.scorers.get(name, {})) for name in first.scores},
        sink_share=_over(_told([[sink_share(graph)] for graph in graphs])),
        by_distance=_over(_padded(_told([by_distance(graph) for graph in graphs]))),
        lorenz=_each(curves),
        gini=_each([{name: [gini(curve)] for name, curve in found.items()} for found in curves]),
        correlation=_known(
            _over([correlation_by_distance(prompt.normal_scores, first.n_heads) for prompt in read])
        ),
        effective_slots=effective_slots(
            np.array([prompt.evictable["model"] for prompt in read]),
            np.array([prompt.gone.mean(axis=0) for prompt in read]),
        ),
        by_layer=_each(by_prompt),
        slopes=_each([{name: [slope(curve)] for name, curve in found.items()} for found in by_prompt]),
        survivors=survival.alive(ratio).sum(axis=1),
        shown=(shown.id, mapped.name, ratio),
        method=mapped.words,
    )


def first_scores(trace: Trace) -> Method:
    """Return the method that cuts the first scores of a trace head by head; those of whole contexts before chunks."""
    tables = sorted(trace.scores, key=lambda table: "/" in table)
    if not tables:
        raise ValueError(f"prompt {trace.id!r} of the trace has no scores")
    name = PLAIN if tables[0] == DEFAULT_SCORER else f"{PLAIN}@{tables[0]}"
    return Method(name, PLAIN, tables[0])


def _over(rows: Sequence[Any]) -> Means | None:
    """Return the mean over prompts with its standard error; None without rows."""
    if not len(rows):
        return None
    table = np.array(rows, dtype=float)
    return Means(table.mean(axis=0), standard_error(table))


def _known(found: Means | None) -> Means:
    assert found is not None
    return found


def _told(rows: list[Any]) -> list[Any]:
    """Return the rows without NaN: prompts too short to tell are left out, unless all of them are."""
    return [row for row in rows if not np.isnan(row).any()] or rows


def _padded(rows: list[Curve]) -> list[Curve]:
    width = max((len(row) for row in rows), default=0)
    return [np.pad(row, (0, width - len(row))) for row in rows]


def _each(rows: Sequence[dict[str, Any]]) -> dict[str, Means] | None:
    if not rows:
        return None
    return {name: _known(_over([row[name] for row in rows])) for name in rows[0]}


def plot_inspection(found: Inspection) -> Figure:
    """Draw what is in a trace; bands and bars are two standard errors over prompts.

    Panels that need graphs stay empty where the trace has none.
    """
    with plot.style():
        made, axes = plot.figure(2, 3, width=5.2)
        distance, popularity, correlation, slots, layers, survivors = axes.ravel()
        blue, red, green = (plot.COLOURS[name] for name in ("blue", "red", "green"))
        if found.by_distance is not None:
            mean, error = found.by_distance
            distance.bar(np.arange(len(mean)), mean, yerr=2 * error, color=blue, alpha=0.7)
            last = [2 ** (b + 1) - 2 for b in range(len(mean))]
            names = ["0", *(f"{2**b - 1}-{last[b]}" for b in range(1, len(mean)))]
            distance.set_xticks(np.arange(len(mean)), names, rotation=60)
        distance.set(xlabel="distance in tokens", ylabel="share of attention beyond the sink")
        distance.set_title("attention by distance")
        if found.lorenz is not None and found.gini is not None:
            for (name, (mean, error)), colour in zip(found.lorenz.items(), (red, blue), strict=True):
                label = f"{name}, Gini {found.gini[name].mean[0]:.2f}"
                plot.band(popularity, found.fractions, mean, 2 * error, color=colour, label=label)
            popularity.plot([0, 1], [0, 1], color="0.7", linestyle=":", label="all rows alike")
            plot.legend(popularity)
        popularity.set(xlabel="most attended fraction of a slot's rows", ylabel="share of its attention")
        popularity.set_title("Lorenz curve of attention")
        mean, error = found.correlation
        plot.band(correlation, np.arange(len(mean)), mean, 2 * error, color=green, marker=".")
        correlation.axhline(0, color="0.7", linewidth=1)
        correlation.set(xlabel="layers apart (0: heads of a layer)", ylabel="correlation of slots' scores")
        correlation.set_title("slot correlation")
        mean, error = found.effective_slots
        plot.band(slots, SLOTS_AT, mean, 2 * error, color=green, marker=".")
        slots.set(xlabel="compression ratio", ylabel="effective slots, ln GER / ln p")
        slots.set_title(f"effective slots of {found.sizes[0] * found.sizes[1]}, topk")
        if found.by_layer is not None:
            for name, (mean, error) in found.by_layer.items():
                look = {"color": red if "consensus" in name else blue}
                look["linestyle"] = "--" if "without" in name else "-"
                plot.band(layers, np.arange(1, len(mean) + 1), mean, 2 * error, label=name, **look)
            plot.legend(layers)
        layers.set(xlabel="layer", ylabel="consensus and agreement", ylim=(0, 1))
        layers.set_title("top keys of the query heads")
        prompt, policy, ratio = found.shown
        extent = (0, found.survivors.shape[1], found.sizes[0] + 0.5, 0.5)
        image = survivors.imshow(
            found.survivors, aspect="auto", cmap="viridis", extent=extent, interpolation="nearest"
        )
        made.colorbar(image, ax=survivors, label=f"KV heads alive of {found.sizes[1]}")
        survivors.grid(False)
        survivors.set(xlabel="token", ylabel="layer")
        survivors.set_title(f"survivors of {drawn(prompt)}, {drawn(policy)} at {ratio:g}")
        title = f"{drawn(found.model)}, {many(len(found.prompts), 'prompt')}"
        plot.headline(made, title)
    return made

"""What may tell the items that fail under eviction: measured for each item, policy and ratio.

Four kinds. "before": known at ratio 0, whatever is evicted; the baseline of all others. "cache": which slots of the
tokens that matter are alive. "routes": the attention that was read at ratio 0, and what of it is left. "after":
what the evicted cache did to the representation and the logits of the first answer token.

Routes start at the row that the first answer token is read from, at the top layer. They are cut as decoding cuts them
(pruning "decode"): rows after the context read surviving slots only, rows of the context had read everything
before anything was evicted. So a route may end in a row that has taken the answer in, whatever became of the answer's
own rows. Metrics with "columns" in their names are cut as the paper's compressed graph is: nobody reads a dead slot.
The graph is that of context and question prefilled together with a full cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import attention
from routegraph.choices import AXES, PRUNING
from routegraph.graph import TokenGraph, heavier
from routegraph.routes import reach_thresholds
from routegraph.survival import Survival, ger
from routegraph.validate.measure.routed import Reads, Routed

Positions = NDArray[np.int64]


#: Thresholds of attention weight above which a read is an edge.
EPS = (0.01, 0.03, 0.1)


#: First positions that `consensus_without_sink` leaves out.
N_SINK = 4


#: How the names of metrics tell the pruning.
_MARKS = {"decode": "", "columns": "_columns"}


@dataclass(frozen=True)
class Metric:
    """What a metric is, and which way it points.

    Attributes
    ----------
    sign : int
        1 where a larger value should mean failure, -1 where a smaller one should.
    kind : {"before", "cache", "routes", "after"}
    meaning : str
    """

    sign: int
    kind: str
    meaning: str


METRICS = {
    "n_context": Metric(1, "before", "cache rows of the prompt"),
    "margin_at_0": Metric(
        -1, "before", "margin of the right answer's first token at ratio 0; told the answer"
    ),
    **{
        f"ger_{what}_{over}": Metric(1, "cache", f"GER of {words}, {axis}")
        for what, words in (
            ("answer", "the answer tokens"),
            ("facts", "the evidence facts, mean over facts"),
            ("worst_fact", "the evidence fact that lost most"),
            ("carriers", "the carriers found by knockout"),
        )
        for over, axis in (
            ("model", "gone from all slots"),
            ("layer", "gone from all heads of a layer, mean"),
        )
    },
    "facts_gone": Metric(
        1, "cache", "share of the evidence facts of which every token is gone from all slots"
    ),
    **{
        f"alive_{what}": Metric(-1, "cache", f"share of the slots of the {what} tokens that survive")
        for what in ("answer", "evidence", "carriers")
    },
    "lost_attention": Metric(
        1, "routes", "share of the question rows' attention at ratio 0 that was on slots now dead"
    ),
    **{
        f"lost_on_{what}": Metric(1, "routes", f"the same of their attention on the {what} tokens")
        for what in ("answer", "evidence")
    },
    **{
        f"reach_{which}{mark}_{eps:g}": Metric(-1, "routes", f"{words} over reads heavier than {eps:g}{cut}")
        for mark, cut in (("", ""), ("_columns", ", pruning columns"))
        for eps in EPS
        for which, words in (
            ("any", "some answer token is reached"),
            ("all", "all answer tokens are reached"),
            ("share", "share of the answer tokens reached"),
            ("facts", "some token of every evidence fact is reached"),
        )
    },
    **{
        f"widest_{which}{mark}": Metric(-1, "routes", f"smallest weight on the widest route to {words}{cut}")
        for mark, cut in (("", ""), ("_columns", ", pruning columns"))
        for which, words in (
            ("any", "the best reached answer token"),
            ("all", "the worst reached answer token"),
            ("facts", "the best token of the worst reached evidence fact"),
        )
    },
    **{
        f"rollout_{what}": Metric(
            -1, "routes", f"attention rolled out to the {what} tokens, share of ratio 0"
        )
        for what in ("answer", "evidence")
    },
    "routed_drift": Metric(
        1,
        "routes",
        "relative change of the heads' outputs, dead slots masked, at the rows the first answer token is routed "
        "through; told neither answer nor evidence",
    ),
    "routed_lost": Metric(
        1,
        "routes",
        "share of what those rows are given of the context, by squared norm, that lay on dead slots",
    ),
    "consensus": Metric(
        -1, "routes", "distinct top surviving keys over query heads of the answer row, mean of layers"
    ),
    "consensus_without_sink": Metric(-1, "routes", f"the same without the first {N_SINK} positions"),
    "hidden_drift": Metric(1, "after", "1 - cosine of the last hidden state at the answer row to ratio 0"),
    "logit_drift": Metric(1, "after", "1 - cosine of the logits of the first answer token to ratio 0"),
    "logit_kl": Metric(
        1, "after", "Kullback-Leibler divergence of its distribution from that at ratio 0, nats"
    ),
    "margin": Metric(
        -1,
        "after",
        "logit of the answer's first token (of a number often a mere space) minus the largest other",
    ),
}


@dataclass(frozen=True, eq=False)
class Watched:
    """The tokens of one prompt that matter, as positions in its context; empty where it names none.

    Attributes
    ----------
    answer : int64[...]
    facts : tuple of int64[...]
        Tokens of each evidence span.
    carriers : int64[...]
    """

    answer: Positions
    facts: tuple[Positions, ...] = ()
    carriers: Positions = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def evidence(self) -> Positions:
        """Sorted tokens of all facts."""
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *self.facts]))


def cache_metrics(survival: Survival, ratio: float, watched: Watched) -> dict[str, float]:
    """Return the metrics of kind "cache": what is left of the tokens that matter; NaN where there are none."""
    alive = survival.alive(ratio)
    found: dict[str, float] = {}
    for over in AXES:
        facts = [_gone(survival, ratio, fact, over) for fact in watched.facts]
        found[f"ger_answer_{over}"] = _gone(survival, ratio, watched.answer, over)
        found[f"ger_facts_{over}"] = _mean(facts)
        found[f"ger_worst_fact_{over}"] = max(facts, default=np.nan)
        found[f"ger_carriers_{over}"] = _gone(survival, ratio, watched.carriers, over)
    found["facts_gone"] = _mean([_gone(survival, ratio, fact, "model") == 1 for fact in watched.facts])
    for what in ("answer", "evidence", "carriers"):
        found[f"alive_{what}"] = _mean(alive[..., getattr(watched, what)])
    return found


def route_metrics(
    reads: Reads,
    survival: Survival,
    ratios: Sequence[float],
    watched: Watched,
    graphs: Mapping[float, TokenGraph] | None = None,
) -> list[dict[str, float]]:
    """Return the metrics of kind "routes" at every ratio; NaN where a prompt names no such tokens.

    Parameters
    ----------
    reads : Reads
    survival : Survival
    ratios : sequence of float
    watched : Watched
    graphs : mapping of eps to TokenGraph, optional
        What `heavier` gives at each of `EPS`, where it is at hand.
    """
    graphs = graphs or {eps: heavier(reads.graph, eps) for eps in EPS}
    source = reads.graph.n_tokens - 1
    reached = {
        (eps, prune): reach_thresholds(graph, survival, [source], prune=prune)
        for eps, graph in graphs.items()
        for prune in PRUNING
    }
    nothing_gone = replace(survival, drop=np.full_like(survival.drop, survival.max_level + 1))
    whole = attention.rollout(reads.graph, nothing_gone, source, 0.0, prune="decode")
    rows = []
    for ratio in ratios:
        found = _attention_metrics(reads, survival.alive(ratio), watched)
        for (eps, prune), levels in reached.items():
            found |= _reach_metrics(levels >= survival.level(ratio), watched, f"{_MARKS[prune]}_{eps:g}")
        for prune, mark in _MARKS.items():
            width = attention.widest_path(reads.graph, survival, [source], ratio, prune=prune)
            found |= _width_metrics(width, watched, mark)
        rolled = attention.rollout(reads.graph, survival, source, ratio, prune="decode")
        for what in ("answer", "evidence"):
            tokens = getattr(watched, what)
            found[f"rollout_{what}"] = _share(rolled[tokens], whole[tokens])
        rows.append({name: value if np.isfinite(value) else np.nan for name, value in found.items()})
    return rows


def routed_metrics(routed: Routed) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of kind "routes" that are told no tokens, for every variant, float64[n_variants] each."""
    return {"routed_drift": routed.drift, "routed_lost": routed.lost}


def after_metrics(
    logits: NDArray[Any], hidden: NDArray[Any], reference: int, first: int | None
) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of kind "after" for every variant, float64[n_variants] each.

    Parameters
    ----------
    logits : float[n_variants, n_vocabulary]
        Of the first answer token.
    hidden : float[n_variants, width]
        Last hidden state of the row they are read from.
    reference : int
        The variant at ratio 0.
    first : int or None
        First token of the answer; None: there is none, and no margin.
    """
    values = np.asarray(logits, dtype=float)
    likely = values - values.max(axis=1, keepdims=True)
    likely -= np.log(np.exp(likely).sum(axis=1, keepdims=True))
    margin = np.full(len(values), np.nan)
    if first is not None:
        margin = values[:, first] - np.delete(values, first, axis=1).max(axis=1)
    divergence = (np.exp(likely[reference]) * (likely[reference] - likely)).sum(axis=1)
    return {
        "hidden_drift": _drift(np.asarray(hidden, dtype=float), reference),
        "logit_drift": _drift(values, reference),
        "logit_kl": np.maximum(divergence, 0.0),
        "margin": margin,
    }


@contextmanager
def answer_states(network: Any) -> Iterator[list[NDArray[np.float32]]]:
    """Collect the last hidden state of the last row of each pass that starts on an empty cache of its own.

    Of `decode`, that is the row which the first answer token is read from, batch by batch,
    float32[n_variants, width] each.
    """
    states: list[NDArray[np.float32]] = []

    def hook(_module: Any, _args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        state = output.last_hidden_state
        if kwargs["past_key_values"].get_seq_length() == state.shape[1]:
            states.append(state[:, -1].float().cpu().numpy())

    with network.base_model.register_forward_hook(hook, with_kwargs=True):
        yield states


def _attention_metrics(reads: Reads, alive: NDArray[np.bool_], watched: Watched) -> dict[str, float]:
    dead = np.where(alive, 0.0, reads.mass)
    found = {"lost_attention": float(dead.sum() / len(dead))}
    for what in ("answer", "evidence"):
        tokens = getattr(watched, what)
        found[f"lost_on_{what}"] = _share(dead[..., tokens], reads.mass[..., tokens])
    group = reads.last.shape[1] // alive.shape[1]
    left = np.where(np.repeat(alive, group, axis=1), reads.last, -1.0)
    for name, skipped in (("consensus", 0), ("consensus_without_sink", N_SINK)):
        left[..., :skipped] = -1.0
        tops = np.where(left.max(axis=-1) >= 0, left.argmax(axis=-1), -1)
        by_layer = attention.consensus(tops)
        found[name] = _mean(by_layer[np.isfinite(by_layer)])
    return found


def _reach_metrics(reached: NDArray[np.bool_], watched: Watched, mark: str) -> dict[str, float]:
    answer, facts = reached[watched.answer], [reached[fact].any() for fact in watched.facts]
    return {
        f"reach_any{mark}": float(answer.any()) if answer.size else np.nan,
        f"reach_all{mark}": float(answer.all()) if answer.size else np.nan,
        f"reach_share{mark}": _mean(answer),
        f"reach_facts{mark}": float(all(facts)) if facts else np.nan,
    }


def _width_metrics(width: NDArray[np.float32], watched: Watched, mark: str) -> dict[str, float]:
    facts = [float(width[fact].max()) for fact in watched.facts]
    return {
        f"widest_any{mark}": float(width[watched.answer].max(initial=-np.inf)),
        f"widest_all{mark}": float(width[watched.answer].min(initial=np.inf)),
        f"widest_facts{mark}": min(facts, default=np.nan),
    }


def _gone(survival: Survival, ratio: float, tokens: Positions, over: str) -> float:
    return float(ger(survival, ratio, tokens, over)[0]) if len(tokens) else np.nan


def _mean(values: Any) -> float:
    return float(np.mean(values)) if np.size(values) else np.nan


def _share(part: NDArray[Any], whole: NDArray[Any]) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else np.nan


def _drift(rows: NDArray[np.float64], reference: int) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1)
    cosine = rows @ rows[reference] / np.maximum(lengths * lengths[reference], 1e-300)
    return np.asarray(np.maximum(1 - cosine, 0.0))

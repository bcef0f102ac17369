"""One item of a measurement: a prompt, tokenised and checked, evicted by every policy, and its cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import graph
from routegraph.survival import Survival
from routegraph.validate.decoding.decode import decode
from routegraph.validate.decoding.knockout import carriers as find_carriers
from routegraph.validate.eviction import Eviction, Method, tables_of
from routegraph.validate.measure import metrics
from routegraph.validate.measure.grading import check_gradable, graded, told
from routegraph.validate.measure.metrics import METRICS, Watched
from routegraph.validate.measure.replies import Replies, replied
from routegraph.validate.measure.routed import read_question
from routegraph.validate.measure.writing import written_replies
from routegraph.validate.models.load import Loaded
from routegraph.validate.plan import Measuring, Plan
from routegraph.validate.presses import prefill
from routegraph.validate.presses.scorers import ScoreTable, check_table, fitting_chunk, score_tables
from routegraph.validate.prompts.prompt import Prompt, Span, counted_once, occurrences
from routegraph.validate.prompts.tokens import Asked, UnfitPromptError, tell_set_aside, tokenise, unfit
from routegraph.validate.prompts.verdict import normalise


@dataclass(frozen=True, eq=False)
class Item:
    """One prompt, tokenised and checked."""

    prompt: Prompt
    asked: Asked
    answer: NDArray[np.int64]
    facts: tuple[NDArray[np.int64], ...]
    methods: tuple[Method, ...]
    chunk_length: int

    @property
    def tables(self) -> dict[str, ScoreTable]:
        """Fresh score tables: a press may keep what it worked out."""
        return score_tables(tables_of(self.methods), self.chunk_length)

    @classmethod
    def read(cls, model: Loaded, prompt: Prompt, plan: Plan) -> Item:
        """Tokenise a prompt.

        Answer spans are found where the context holds the answer; without them, or without evidence, the tokens that
        matter are not known, and their metrics are left out.

        Raises
        ------
        UnfitPromptError
            If the prompt asks nothing, has no answer to judge replies by, or is too long for the model or too short
            for a scorer.
        ValueError
            If tokenizer and model do not belong together, or the model cannot be asked like this.
        """
        what = f"prompt {prompt.id!r}"
        spans = prompt.answer_spans
        if prompt.answerable:
            if not normalise(prompt.answer):
                raise UnfitPromptError(f"{what} has no answer to judge replies by; mark it answerable: false")
            check_gradable(prompt, plan.grader)
            spans = spans or occurrences(prompt)
        try:
            asked = tokenise(model, prompt, plan)
        except NotImplementedError as error:
            raise ValueError(
                f"the tokenizer of model {model.name!r} tells no character offsets; use a fast one"
            ) from error
        return cls.of(model, prompt, asked, plan, spans)

    @classmethod
    def of(cls, model: Loaded, prompt: Prompt, asked: Asked, plan: Plan, spans: Sequence[Span] = ()) -> Item:
        """Check a prompt that is tokens already; `spans`: where its answer stands. Errors as of `read`."""
        what = f"prompt {prompt.id!r}"
        top = max(int(ids.max(initial=0)) for ids in (asked.context, asked.question, asked.answer))
        known = int(model.model.config.vocab_size)
        if top >= known:
            raise ValueError(
                f"the tokenizer of model {model.name!r} gives token {top}, and the model knows {known} only: they do "
                "not belong together"
            )
        total = len(asked.context) + len(asked.question) + plan.max_new_tokens
        if total > model.max_context:
            raise UnfitPromptError(
                f"{what} has {total} tokens with question and reply; model {model.name!r} was made for "
                f"{model.max_context} at most"
            )
        n = len(asked.context)
        chunk_length = fitting_chunk(n, plan.chunk_length)
        facts = tuple(asked.positions([span]) for span in prompt.evidence)
        answer = asked.positions(spans)
        item = cls(prompt, asked, answer, facts, plan.methods(chunk_length), chunk_length)
        with unfit():
            for table in item.tables.values():
                check_table(n, table.press, table.chunk_length, what, table.scorer)
        return item


@dataclass(frozen=True, eq=False)
class Prefilled:
    """What the prefill of an item's context gave: see `Scored`; and its cache."""

    id: str
    scores: Mapping[str, NDArray[np.float32]]
    scorers: Mapping[str, Mapping[str, Any]]
    cache: Any
    windows: Sequence[int] = ()
    spares_local: bool = False


def read_items(
    model: Loaded, prompts: Sequence[Prompt], plan: Plan
) -> tuple[list[Item], tuple[tuple[str, str], ...]]:
    """Read prompts, each once; return the items, and the id of each prompt that is set aside with the reason.

    Raises
    ------
    ValueError
        If nothing is left, or as `Item.read` does for reasons that lie with the model.
    """
    items, aside, prompts = [], [], counted_once(prompts)
    for prompt in prompts:
        try:
            items.append(Item.read(model, prompt, plan))
        except UnfitPromptError as error:
            aside.append((prompt.id, str(error)))
    tell_set_aside(aside, len(prompts))
    return items, tuple(aside)


def evicted(model: Loaded, item: Item, seed: int) -> tuple[Any, list[Eviction]]:
    """Prefill an item's context once; return its cache, and the eviction by every method."""
    import torch

    caches: list[Any] = []
    tables = item.tables
    scores = prefill.prefill_tables(
        model.model,
        torch.from_numpy(item.asked.context)[None],
        {name: (table.press, table.chunk_length) for name, table in tables.items()},
        also=lambda module, args, kwargs, output: caches.append(kwargs["past_key_values"]),
    )
    recorded = {name: table.recorded(len(item.asked.context)) for name, table in tables.items()}
    done = Prefilled(item.prompt.id, scores, recorded, caches[0], **model.local)
    return done.cache, [Eviction.of(method, done, seed) for method in item.methods]


def effort(item: Item, plan: Plan) -> float:
    """Return about how many tokens a model reads and writes for an item, every policy and ratio in one batch."""
    n, ratios = len(item.asked.context), max(len(plan.ratios), 1 + len(plan.keep))
    # Half of the greatest length: most replies end before.
    return n + len(plan.policy_names) * ratios * (len(item.asked.question) + plan.max_new_tokens / 2)


def measure_item(
    model: Loaded, item: Item, plan: Measuring, carriers: int = 0, with_metrics: bool = False
) -> dict[str, Any]:
    """Return the cell of one item, without its seal; the metrics are left out unless asked for: they take time."""
    if plan.decode_budget:
        return _decoded_item(model, item, plan)
    asked, prompt = item.asked, item.prompt
    n = len(asked.context)
    ratios = plan.ratios_of(n)
    cache, evictions = evicted(model, item, plan.seed)
    survivals = [eviction.survivals(ratios) for eviction in evictions]
    carried = np.empty(0, dtype=np.int64)
    if carriers and prompt.answerable:
        carried = np.sort(find_carriers(model, prompt, carriers, asks=plan).tokens)
    distinct, which = distinct_variants(survivals, ratios)
    rows: list[dict[str, float]] = []
    if plan.precision is not None:
        replies = replied(model, cache, asked.question, distinct, which.reshape(len(evictions), -1), plan)
    else:
        with metrics.answer_states(model.model) as states:
            decoded = decode(
                model,
                cache,
                asked.question,
                distinct,
                plan.max_new_tokens,
                n_logits=int(with_metrics),
                stop=plan.stop,
            )
        if with_metrics:
            watched = Watched(item.answer, item.facts, carried)
            asking = Asking(evictions, survivals, ratios, distinct, which)
            rows = metric_rows(model, item, watched, asking, decoded.logits[:, 0], np.concatenate(states))
        replies = Replies.of(decoded, which)
    kept = told(prompt)
    return {
        "prompt": {**_told(item), "carriers": carried.tolist()},
        "protected": {eviction.method.name: eviction.told for eviction in evictions},
        "distinct_variants": len(distinct),
        **({"ratios": list(ratios)} if plan.keep else {}),
        "replies": replies.texts,
        **graded(kept, replies.texts, plan.grader),
        "cut": replies.cut,
        **({"bytes": replies.bytes} if replies.bytes else {}),
        "metrics": {name: [_plain(row[name]) for row in rows] for name in METRICS if rows},
    }


def _told(item: Item) -> dict[str, Any]:
    """Return what a cell keeps of its prompt."""
    return {
        "id": item.prompt.id,
        "task": item.prompt.task or "prompts",
        **told(item.prompt),
        "n_context": len(item.asked.context),
        "n_question": len(item.asked.question),
        "answer_tokens": item.answer.tolist(),
        "facts": [fact.tolist() for fact in item.facts],
    }


def _decoded_item(model: Loaded, item: Item, plan: Measuring) -> dict[str, Any]:
    """Return the cell of one item whose cache is cut while replies are decoded."""
    replies, fates, n_rows = written_replies(model, item.asked, plan, item.prompt.id)
    return {
        "prompt": {**_told(item), "n_rows": n_rows},
        "protected": {policy: {} for policy in plan.policy_names},
        "replies": replies.texts,
        **graded(told(item.prompt), replies.texts, plan.grader),
        "cut": replies.cut,
        **fates,
        "metrics": {},
    }


@dataclass(frozen=True, eq=False)
class Asking:
    """The evictions of an item, what survives each at each ratio, and which kept set that is."""

    evictions: Sequence[Eviction]
    survivals: Sequence[Sequence[Survival]]
    ratios: Sequence[float]
    distinct: NDArray[np.bool_]
    which: NDArray[np.int64]


def metric_rows(
    model: Loaded,
    item: Item,
    watched: Watched,
    asking: Asking,
    logits: NDArray[np.float32],
    states: NDArray[np.float32],
) -> list[dict[str, float]]:
    """Return every metric of every (policy, ratio), policies outermost.

    Parameters
    ----------
    model : Loaded
    item : Item
    watched : Watched
    asking : Asking
    logits : float32[n_variants, n_vocabulary]
        Of the first answer token under every kept set.
    states : float32[n_variants, width]
        Last hidden state of the row they are read from.
    """
    asked, ratios, which = item.asked, asking.ratios, asking.which
    reads, routed = read_question(model, asked.context, asked.question, asking.distinct)
    first = int(asked.answer[0]) if item.prompt.answerable and len(asked.answer) else None
    by_variant = metrics.routed_metrics(routed) | metrics.after_metrics(logits, states, int(which[0]), first)
    graphs = {eps: graph.heavier(reads.graph, eps) for eps in metrics.EPS}
    rows: list[dict[str, float]] = []
    for eviction, row in zip(asking.evictions, asking.survivals, strict=True):
        if eviction.method.nested:
            routes = metrics.route_metrics(reads, row[0], ratios, watched, graphs)
        else:
            routes = [
                metrics.route_metrics(reads, s, [ratio], watched, graphs)[0]
                for s, ratio in zip(row, ratios, strict=True)
            ]
        for s, ratio, found in zip(row, ratios, routes, strict=True):
            rows.append(metrics.cache_metrics(s, ratio, watched) | found)
    for row_, variant in zip(rows, which, strict=True):
        row_ |= {name: float(values[variant]) for name, values in by_variant.items()}
        row_ |= {
            "n_context": float(len(asked.context)),
            "margin_at_0": float(by_variant["margin"][which[0]]),
        }
    return rows


def distinct_variants(
    survivals: Sequence[Sequence[Survival]], ratios: Sequence[float]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the kept sets without repeats, and which of them each (policy, ratio) is, policies outermost."""
    kept = np.stack([s.alive(ratio) for row in survivals for s, ratio in zip(row, ratios, strict=True)])
    seen: dict[bytes, int] = {}
    which = [seen.setdefault(np.packbits(one).tobytes(), len(seen)) for one in kept]
    first = [which.index(number) for number in range(len(seen))]
    return kept[first], np.array(which)


def _plain(value: float) -> float | None:
    """Return a number with seven digits, which is more than float32 holds; None for no number."""
    return float(f"{value:.7g}") if np.isfinite(value) else None

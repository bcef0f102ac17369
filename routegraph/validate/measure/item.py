"""One item of a measurement: a prompt, tokenised and checked, evicted by every policy, and its cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import graph, policies
from routegraph.survival import Survival
from routegraph.validate.decoding.decode import decode
from routegraph.validate.decoding.knockout import carriers as find_carriers
from routegraph.validate.measure import metrics
from routegraph.validate.measure.cells import digest
from routegraph.validate.measure.metrics import METRICS, N_SINK, Watched
from routegraph.validate.measure.routed import read_question
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill
from routegraph.validate.presses.scorers import CHUNK_LENGTH, SCORERS, ScoreTable, check_table, score_tables
from routegraph.validate.prompts.prompt import Prompt, occurrences
from routegraph.validate.prompts.tokens import Asked, encode, tokens_in
from routegraph.validate.prompts.verdict import judge, normalise

#: Rows cut head by head by the scores of that name; every other policy goes by "expected_attention".
BY_SCORER = ("snapkv", "knorm")


#: Policies that look at no scores.
BLIND = ("random", "streaming")


_SPARE = "expected_attention"


@dataclass(frozen=True)
class Chosen:
    """A policy by the name a user gave it.

    Attributes
    ----------
    name, policy : str
        As asked for, and as registered.
    table : str
        Score table it evicts by; of a policy that looks at none, the one that gives the shape.
    parameters : tuple of (str, value)
    """

    name: str
    policy: str
    table: str
    parameters: tuple[tuple[str, Any], ...] = ()

    def survival(self, scores: NDArray[np.float32], ratio: float, seed: int) -> Survival:
        """Return what survives of one item at a ratio; of a nested policy that holds for every ratio."""
        more = {"seed": seed} if self.policy == "random" else {}
        return policies.apply(self.policy, scores, ratio=ratio, **dict(self.parameters), **more)


def choose(name: str, chunk_length: int = CHUNK_LENGTH) -> Chosen:
    """Return the policy that a name stands for.

    Parameters
    ----------
    name : str
        A registered policy ("topk"), which goes by expected attention; "snapkv" or "knorm", by those scores head by
        head; or "POLICY@SCORER" for any two.
    chunk_length : int
        For "chunk", which cuts chunks scored by themselves.

    Raises
    ------
    ValueError
        If policy or scorer are unknown.
    """
    policy, at, scorer = name.partition("@")
    if not at and name in BY_SCORER:
        return Chosen(name, "topk", name)
    if not at and name not in policies.policies:
        known = ", ".join(sorted({*policies.policies, *BY_SCORER}))
        raise ValueError(f"unknown policy {name!r}; choose from: {known}, or POLICY@SCORER")
    policies.policies[policy]
    scorer = scorer or _SPARE
    SCORERS[scorer]
    if policy == "chunk":
        return Chosen(name, policy, f"{scorer}/chunk{chunk_length}", (("chunk_length", chunk_length),))
    return Chosen(name, policy, scorer)


@dataclass(frozen=True, eq=False)
class Item:
    """One prompt, tokenised and checked."""

    prompt: Prompt
    asked: Asked
    answer: NDArray[np.int64]
    facts: tuple[NDArray[np.int64], ...]
    chosen: tuple[Chosen, ...]
    chunk_length: int

    @property
    def tables(self) -> dict[str, ScoreTable]:
        """Fresh score tables: a press may keep what it worked out."""
        return score_tables(tables_of(self.chosen), self.chunk_length)

    @classmethod
    def read(cls, model: Loaded, prompt: Prompt, settings: Mapping[str, Any]) -> Item:
        """Tokenise a prompt; ValueError if it asks nothing, does not fit the model, or lacks what is watched."""
        what, question_aware = f"prompt {prompt.id!r}", settings["question_aware"]
        spans = prompt.answer_spans
        if prompt.answerable:
            if not normalise(prompt.answer):
                raise ValueError(f"{what} has no answer to match replies by; mark it answerable: false")
            spans = spans or occurrences(prompt)
            if not spans:
                raise ValueError(
                    f"{what}: its answer {prompt.answer!r} does not occur in its context, so no tokens of it can be "
                    "watched; correct it, give answer_spans, or mark it answerable: false"
                )
            if not prompt.evidence:
                raise ValueError(f"{what} names no evidence; give the spans the answer follows from")
        try:
            asked = encode(model, prompt, question_aware)
        except NotImplementedError as error:
            raise ValueError(
                f"the tokenizer of model {model.name!r} tells no character offsets; use a fast one"
            ) from error
        top = max(int(ids.max(initial=0)) for ids in (asked.context, asked.question, asked.answer))
        known = int(model.model.config.vocab_size)
        if top >= known:
            raise ValueError(
                f"the tokenizer of model {model.name!r} gives token {top}, and the model knows {known} only: they do "
                "not belong together"
            )
        total = len(asked.context) + len(asked.question) + settings["max_new_tokens"]
        if total > model.max_context:
            raise ValueError(
                f"{what} has {total} tokens with question and reply; model {model.name!r} was made for "
                f"{model.max_context} at most"
            )
        n = len(asked.context)
        chunk_length = fitting_chunk(n, settings["chunk_length"])
        chosen = tuple(choose(name, chunk_length) for name in settings["policies"])
        facts = tuple(tokens_in(asked.text, asked.offsets, [span]) for span in prompt.evidence)
        answer = tokens_in(asked.text, asked.offsets, spans)
        item = cls(prompt, asked, answer, facts, chosen, chunk_length)
        for table in item.tables.values():
            check_table(n, table.press, table.chunk_length, what, table.scorer)
        return item


def tables_of(chosen: Sequence[Chosen]) -> list[str]:
    """Return the score tables that some policies need; where they look at none, one for its shape."""
    return list(dict.fromkeys(one.table for one in chosen if one.policy not in BLIND)) or [_SPARE]


def fitting_chunk(n: int, chunk_length: int) -> int:
    """Return the longest chunk, up to the length asked for, whose last, shorter one holds more than the sinks.

    A chunk of sinks only cannot be scored by itself; a few rows less, and there is none.
    """
    return next(
        (k for k in range(chunk_length, chunk_length // 2, -1) if n % k == 0 or n % k > N_SINK), chunk_length
    )


def evicted(model: Loaded, item: Item, settings: Mapping[str, Any]) -> tuple[Any, list[list[Survival]]]:
    """Prefill an item's context once; return its cache, and what survives of it by policy and ratio."""
    import torch

    caches: list[Any] = []
    scores = prefill.prefill_tables(
        model.model,
        torch.from_numpy(item.asked.context)[None],
        {name: (table.press, table.chunk_length) for name, table in item.tables.items()},
        also=lambda module, args, kwargs, output: caches.append(kwargs["past_key_values"]),
    )
    seed = int(digest([settings["seed"], item.prompt.id]), 16)
    return caches[0], [
        [
            one.survival(scores[one.table if one.table in scores else next(iter(scores))], ratio, seed)
            for ratio in settings["ratios"]
        ]
        for one in item.chosen
    ]


def measure_item(model: Loaded, item: Item, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cell of one item, without its seal."""
    asked, prompt, chosen, ratios = item.asked, item.prompt, item.chosen, settings["ratios"]
    n, tables = len(asked.context), item.tables
    cache, survivals = evicted(model, item, settings)
    carried = np.empty(0, dtype=np.int64)
    if settings["carriers"] and prompt.answerable:
        carried = np.sort(find_carriers(model, prompt, settings["carriers"]).tokens)
    watched = Watched(item.answer, item.facts, carried)
    distinct, which = distinct_variants(survivals, ratios)
    reads, routed = read_question(model, asked.context, asked.question, distinct)
    with metrics.answer_states(model.model) as states:
        decoded = decode(model, cache, asked.question, distinct, settings["max_new_tokens"])
    first = int(asked.answer[0]) if prompt.answerable and len(asked.answer) else None
    by_variant = metrics.routed_metrics(routed) | metrics.after_metrics(
        decoded.logits[:, 0], np.concatenate(states), int(which[0]), first
    )
    graphs = {eps: graph.heavier(reads.graph, eps) for eps in metrics.EPS}
    rows: list[dict[str, float]] = []
    for one, row in zip(chosen, survivals, strict=True):
        if policies.is_nested(one.policy):
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
        row_ |= {"n_context": float(n), "margin_at_0": float(by_variant["margin"][which[0]])}
    texts = [decoded.texts[variant] for variant in which]
    verdicts = [judge(prompt, text) for text in texts]
    return {
        "prompt": {
            "id": prompt.id,
            "task": prompt.task or "prompts",
            "question": prompt.question,
            "answer": prompt.answer,
            "answerable": prompt.answerable,
            "tags": list(prompt.tags),
            "n_context": n,
            "n_question": len(asked.question),
            "answer_tokens": item.answer.tolist(),
            "facts": [fact.tolist() for fact in item.facts],
            "carriers": carried.tolist(),
        },
        "protected": {
            one.name: policies.policies.parameters(one.policy)
            if one.policy in BLIND
            else tables[one.table].recorded(n)
            for one in chosen
        },
        "distinct_variants": len(distinct),
        "replies": texts,
        "right": [int(verdict.right) for verdict in verdicts],
        "abstained": [int(verdict.abstained) for verdict in verdicts],
        "metrics": {name: [_plain(row_[name]) for row_ in rows] for name in METRICS},
    }


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

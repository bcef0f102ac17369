"""Answers of a real model under eviction, item by item, beside what may tell which items fail.

One item (a prompt) is one cell: its context is prefilled once for the scores and the cache, and once more with the
question after it for the reads; then all (policy, ratio) variants are decoded in one batch. A cell is one file,
written whole or not at all; it holds neither time nor host nor versions, so that a run that was killed and resumed
leaves the same bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.survival import Survival, check_ratios
from routegraph.validate import item_metrics, presses
from routegraph.validate.answers import judge, normalise
from routegraph.validate.asked import Asked, encode
from routegraph.validate.cells import digest, note_run, open_folder, read_cell, sealed, write_cell
from routegraph.validate.checks import check_table
from routegraph.validate.decode import decode
from routegraph.validate.extract import CHUNK_LENGTH, checked_tables, fingerprint, tokens_in
from routegraph.validate.item_metrics import METRICS, N_SINK, Watched
from routegraph.validate.knockout import carriers as find_carriers
from routegraph.validate.measured import Measured, from_cells
from routegraph.validate.models import Loaded, load
from routegraph.validate.prompts import Prompt, occurrences
from routegraph.validate.reads import read_question
from routegraph.validate.scorers import SCORERS, ScoreTable, score_tables
from routegraph.validate.sources import Progress

#: The paper's two policies, and what they are compared with.
POLICIES = ("chunk", "adakv", "topk", "snapkv", "knorm", "random", "streaming")
#: Dense beyond .9, where the paper's grid ends.
RATIOS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 0.995)
#: Rows cut head by head by the scores of that name; every other policy goes by "expected_attention".
BY_SCORER = ("snapkv", "knorm")
#: Policies that look at no scores.
BLIND = ("random", "streaming")
MAX_NEW_TOKENS = 12

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


def measure(
    model: Any,
    prompts: Sequence[Prompt],
    out: str | os.PathLike[str] | None = None,
    *,
    policy_names: Sequence[str] = POLICIES,
    ratios: Sequence[float] = RATIOS,
    question_aware: bool = False,
    carriers: int = 0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    chunk_length: int = CHUNK_LENGTH,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """Ask every prompt under every policy and ratio, and measure what may tell the items that fail.

    Parameters
    ----------
    model : Loaded, str or Path
        Whatever `routegraph.validate.models.load` takes.
    prompts : sequence of Prompt
        With a question or an answer prefix. Answerable ones need an answer and evidence; without answer spans
        every place of the answer in the context is one.
    out : path, optional
        Folder of the cell files, made if missing. What it already holds is not measured again; in memory only by
        default.
    policy_names : sequence of str
        See `choose`. "random" draws every slot of every item independently, from `seed` and the item's id.
    ratios : sequence of float
        Compression ratios in [0, 1); 0 is always measured, too. Where two keep the same rows, the model is asked
        once.
    question_aware : bool
        Score with the question in the context (the paper's AWR) instead of before it is known (AGN).
    carriers : int
        How many tokens the answer is read from to find by knockout, which takes several times as long; 0: none.
    max_new_tokens : int
        Length of the longest reply.
    chunk_length, seed : int
        For "chunk" (a few rows less for an item whose last chunk could not be scored, see `fitting_chunk`); for
        "random".
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Returns
    -------
    Measured
        The prompts asked for, in their order.

    Raises
    ------
    ValueError
        If a prompt asks nothing, its answer does not occur, it names no evidence, is too long for the model or
        too short for a scorer; if the tokenizer does not fit the model; if a policy or ratio is unknown; if `out`
        holds what was measured with other settings. All prompts are checked before the first is measured.
    """
    grid = sorted({0.0, *check_ratios(list(ratios))})
    chosen = [choose(name, chunk_length) for name in dict.fromkeys(policy_names)]
    if not chosen or not prompts:
        raise ValueError(f"at least one {'policy' if prompts else 'prompt'} is needed")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if carriers < 0:
        raise ValueError(f"carriers must be at least 0, got {carriers}")
    checked_tables(tables_of(chosen), chunk_length)
    model = load(model, progress=progress)
    settings = {
        "model": model.name,
        "weights": fingerprint(model),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "policies": [one.name for one in chosen],
        "ratios": grid,
        "question_aware": question_aware,
        "carriers": carriers,
        "max_new_tokens": max_new_tokens,
        "chunk_length": chunk_length,
        "seed": seed,
        "eps": list(item_metrics.EPS),
    }
    items = [Item.read(model, prompt, settings) for prompt in prompts]
    folder = None if out is None else open_folder(Path(out), settings)
    cells, started, made = [], time.time(), 0
    for done, item in enumerate(items):
        if progress:
            progress(done, len(items), item.prompt.id)
        path = folder / f"{digest(asdict(item.prompt))}.json" if folder else None
        if path is not None and path.exists():
            cells.append(read_cell(path, settings))
            continue
        cell = sealed(_measure_item(model, item, settings), settings)
        if path is not None:
            write_cell(path, cell)
        cells.append(cell)
        made += 1
    if progress:
        progress(len(items), len(items), "done")
    if out is not None:
        note_run(Path(out), len(items), made, time.time() - started)
    return from_cells(settings, cells)


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
    scores = presses.prefill_tables(
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


def _measure_item(model: Loaded, item: Item, settings: Mapping[str, Any]) -> dict[str, Any]:
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
    with item_metrics.answer_states(model.model) as states:
        decoded = decode(model, cache, asked.question, distinct, settings["max_new_tokens"])
    first = int(asked.answer[0]) if prompt.answerable and len(asked.answer) else None
    by_variant = item_metrics.routed_metrics(routed) | item_metrics.after_metrics(
        decoded.logits[:, 0], np.concatenate(states), int(which[0]), first
    )
    graphs = {eps: item_metrics.heavier(reads.graph, eps) for eps in item_metrics.EPS}
    rows: list[dict[str, float]] = []
    for one, row in zip(chosen, survivals, strict=True):
        if policies.is_nested(one.policy):
            routes = item_metrics.route_metrics(reads, row[0], ratios, watched, graphs)
        else:
            routes = [
                item_metrics.route_metrics(reads, s, [ratio], watched, graphs)[0]
                for s, ratio in zip(row, ratios, strict=True)
            ]
        for s, ratio, found in zip(row, ratios, routes, strict=True):
            rows.append(item_metrics.cache_metrics(s, ratio, watched) | found)
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

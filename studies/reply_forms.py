"""The candidates of docs/protocol_predictor.md, run on measured items.

``python -m studies.reply_forms read MODEL PROMPTS CELLS OUT [--limit N] [--part K/N] [--leads]`` works out every
candidate and the ceilings of the items of a folder of `routegraph measure`, of which PROMPTS is the file of prompts; a
file an item in OUT, resumed. With --leads the slow ones, too, a backward pass a token.
``python -m studies.reply_forms judge CELLS OUT [CELLS OUT ...]`` prints how well they tell.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.files import atomic_open, digest
from routegraph.stats.auc import Auc, pooled_auc
from routegraph.validate.decoding.decode import decode, score
from routegraph.validate.measure.item import Item, distinct_variants, evicted
from routegraph.validate.measure.result import Measured
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.plan import Plan
from routegraph.validate.predict import forms
from routegraph.validate.predict.dependence import SINKS, read_dependence
from routegraph.validate.predict.leads import Leads, read_leads
from routegraph.validate.predict.reads import ReplyReads, read_reply
from routegraph.validate.predict.reply import stated
from routegraph.validate.predict.sources import sources_of
from routegraph.validate.predict.support import Support, flow_sources, support_of
from routegraph.validate.prompts.prompt import Prompt, read_prompts
from studies.pages import markdown

#: How the routes of a reply are weighted; see `read_reply`.
ROUTES: dict[str, dict[str, Any]] = {"flow": {}, "fixed": {"kept": 0.95}, "energy": {"energy": True}}


def plan_of(settings: dict[str, Any]) -> Plan:
    """Return the plan that a folder was measured with."""
    asks = {name: settings[name] for name in ("system", "ask", "prefix") if name in settings}
    return Plan(
        settings["policies"],
        settings["ratios"],
        max_new_tokens=settings["max_new_tokens"],
        stop=settings.get("stop", ""),
        chunk_length=settings["chunk_length"],
        seed=settings["seed"],
        chat="on" if settings.get("chat") else "off",
        question_aware=settings["question_aware"],
        **asks,
    )


def candidates(
    model: Loaded, item: Item, cache: Any, reply: Any, text: str
) -> tuple[dict[str, ReplyReads], Any]:
    """Return what the reply reads, by the weighting of its routes, and the tokens of its sources."""
    reads = {
        name: read_reply(model, cache, item.asked.question, reply, **given) for name, given in ROUTES.items()
    }
    told = item.prompt.context
    tokens = item.asked.positions(sources_of(told, text))
    return reads, tokens if len(tokens) else flow_sources(reads["flow"])


def values_of(
    reads: dict[str, ReplyReads],
    leads: Leads | None,
    support: Support,
    sources: Any,
    ends: Any,
    alive: Any,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return every candidate at one kept set; `ends`: log-odds of the tokens, full cache and empty."""
    flow = reads["flow"]
    found = {
        f"{name}_{form.__name__}": form(one, alive)
        for name, one in reads.items()
        for form in (forms.worst, forms.mean, forms.first)
        if form is not forms.first or name == "flow"
    }
    between = {
        f"anchored_{name}": forms.anchored(forms.flow_lost(one, alive), *ends) for name, one in reads.items()
    }
    slow = {}
    if leads is not None:
        slow = {"lead_left": -float(leads.left(alive).min()), "lead_lost": forms.lead_lost(leads, alive)}
    routes, read, dependence = support.shares(alive[None])[:, 0]
    return {
        "support_lost": float(np.mean([routes, read, dependence])),
        "dependence_lost": float(dependence),
        **found,
        **between,
        **slow,
        "margin_left": forms.margin_left(flow, alive),
        "attention_lost": forms.attention_lost(flow, alive),
        "sources_ger": forms.sources_ger(alive, sources),
        "sources_lost": forms.sources_lost(flow, alive, sources),
        "margin_at_0": -float(flow.margins.min()),
        "n_context": float(alive.shape[-1]),
        "random": float(rng.random()),
    }


def read_item(model: Loaded, prompt: Prompt, plan: Plan, with_leads: bool) -> dict[str, Any]:
    """Return all candidates and ceilings of one item, a list over (policy, ratio) each, policies outermost."""
    item = Item.read(model, prompt, plan)
    ratios = plan.ratios_of(len(item.asked.context))
    seconds = {"prefill": time.perf_counter()}
    cache, evictions = evicted(model, item, plan.seed)
    seconds["prefill"] = time.perf_counter() - seconds["prefill"]
    survivals = [eviction.survivals(ratios) for eviction in evictions]
    distinct, which = distinct_variants(survivals, ratios)
    whole = np.ones((1, *distinct.shape[1:]), dtype=bool)
    own = decode(model, cache, item.asked.question, whole, plan.max_new_tokens, stop=plan.stop)
    reply, text = stated(model.tokenizer, own.token_ids[0])
    began = time.perf_counter()
    reads, sources = candidates(model, item, cache, reply, text)
    leads = read_leads(model, cache, item.asked.question, reply) if with_leads else None
    dependence = read_dependence(model, cache, item.asked.question, reply)
    support = support_of(reads["energy"], dependence, sources)
    rng = np.random.default_rng(int(digest(prompt.id), 16))
    bare = np.zeros_like(whole)
    bare[..., :SINKS] = True
    likely = score(model, cache, item.asked.question, reply, np.concatenate([whole, bare])).log_probabilities
    ends = forms.log_odds(likely)
    by_variant = [values_of(reads, leads, support, sources, ends, alive, rng) for alive in distinct]
    seconds["candidates"] = time.perf_counter() - began
    began = time.perf_counter()
    forced = score(model, cache, item.asked.question, reply, distinct)
    seconds["forced"] = time.perf_counter() - began
    fall = forced.log_probabilities[which[0]] - forced.log_probabilities
    ceilings = {"forced_sum": fall.sum(axis=1), "forced_worst": fall.max(axis=1)}
    return {
        "id": prompt.id,
        "reply": text,
        "sources": sources.tolist(),
        "kept": reads["flow"].kept.mean(axis=1).round(4).tolist(),
        "step": [dependence.step, round(dependence.fall, 4)],
        "likely": likely.round(4).tolist(),
        "ends": ends.round(3).tolist(),
        "seconds": seconds,
        "values": {name: [float(f"{by_variant[v][name]:.6g}") for v in which] for name in by_variant[0]}
        | {name: [float(f"{values[v]:.6g}") for v in which] for name, values in ceilings.items()},
    }


def read(
    model: str, prompts: str, cells: Path, out: Path, limit: int | None, part: str, with_leads: bool
) -> None:
    """Work out what is missing of a folder, or of every N-th item of it from the K-th on."""
    use_threads(1)
    found = Measured.load(cells)
    plan = plan_of(dict(found.settings))
    loaded = load(model, dtype=str(found.settings.get("dtype", "float32")))
    for prompt, path in to_read(found, prompts, out, ".json", limit, part):
        told = read_item(loaded, prompt, plan, with_leads)
        with atomic_open(path, "w") as stream:
            stream.write(json.dumps(told) + "\n")


def to_read(
    found: Measured, prompts: str, out: Path, ending: str, limit: int | None, part: str
) -> Iterator[tuple[Prompt, Path]]:
    """Yield items right at ratio 0 that have no file in a folder yet, each with that file.

    In the order of the digests of their ids, so that what is done at any time is a random part: of the first `limit`
    every N-th from the K-th on, where `part` is K/N.
    """
    right = [name for name, right in zip(found.ids, found.right[:, 0, 0], strict=True) if right]
    by_id = {prompt.id: prompt for prompt in read_prompts(prompts)}
    out.mkdir(parents=True, exist_ok=True)
    first, step = map(int, part.split("/"))
    for name in sorted(right, key=digest)[first:limit:step]:
        path = out / f"{digest(name)}{ending}"
        if not path.exists():
            yield by_id[name], path


def tables(cells: Path, out: Path) -> tuple[Measured, dict[str, Any]]:
    """Return the items that were worked out, and of every candidate float64[n_items, n_policies, n_ratios]."""
    told = {row["id"]: row for row in (json.loads(path.read_text("utf-8")) for path in out.glob("*.json"))}
    found = Measured.load(cells)
    found = found.only([name in told for name in found.ids])
    shape = found.right.shape[1:]
    rows = [told[name]["values"] for name in found.ids]
    return found, {name: np.array([np.reshape(row[name], shape) for row in rows]) for name in rows[0]}


def cells_of(
    tasks: Sequence[str], policies: Sequence[str], values: Any, fails: Any, policy: str | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield items, their values and whether they fail, for every task, policy (or one) and ratio above 0."""
    for task in dict.fromkeys(tasks):
        items = np.flatnonzero([own == task for own in tasks])
        for p, name in enumerate(policies):
            if policy in (None, name):
                for r in range(1, values.shape[2]):
                    yield items, values[items, p, r], fails[items, p, r]


def auc(found: Measured, name: str, values: Any, policy: str | None = None) -> Auc:
    """Return how well one candidate tells the items that fail, within cells of a policy, ratio and task."""
    cells = cells_of(found.item_tasks, found.policies, values, found.fails, policy)
    return pooled_auc(name, cells, len(found.ids))


def judge(pairs: list[tuple[Path, Path]]) -> str:
    """Return a table of candidates, a column a folder."""
    columns, made = ["candidate"], {}
    for cells, out in pairs:
        found, values = tables(cells, out)
        for name, table in values.items():
            row = auc(found, name, table)
            told = f"{row.auc.value:.3f} [{row.auc.low:.3f}, {row.auc.high:.3f}]"
            each = ", ".join(
                f"{policy} {auc(found, name, table, policy).auc.value:.2f}" for policy in found.policies
            )
            made.setdefault(name, [name]).append(f"{told} ({each})")
        columns.append(f"{cells.name}: {len(found.ids)} items, {row.cells} cells, {row.pairs:,} pairs")
    return markdown(columns, list(made.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    does = parser.add_subparsers(dest="does", required=True)
    reads = does.add_parser("read")
    reads.add_argument("model")
    reads.add_argument("prompts")
    reads.add_argument("cells", type=Path)
    reads.add_argument("out", type=Path)
    reads.add_argument("--limit", type=int)
    reads.add_argument("--part", default="0/1")
    reads.add_argument("--leads", action="store_true")
    judges = does.add_parser("judge")
    judges.add_argument("folders", type=Path, nargs="+")
    asked = parser.parse_args()
    if asked.does == "read":
        read(asked.model, asked.prompts, asked.cells, asked.out, asked.limit, asked.part, asked.leads)
    else:
        print(judge(list(zip(asked.folders[::2], asked.folders[1::2], strict=True))))


if __name__ == "__main__":
    main()

"""Where answers break, from a simulation fitted to other prompts: docs/simulated_breaking.md.

``python -m studies.simulated_breaking read MODEL PROMPTS CELLS OUT [--limit N] [--part K/N]`` keeps, of every item
right at ratio 0 of a folder of `routegraph measure`, the scores of every policy and what the reply rests on; resumed.
``python -m studies.simulated_breaking judge NAME=CELLS,OUT ...`` writes the page's table.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.points import crossing
from routegraph.files import atomic_open
from routegraph.theory.answers import answer_moments
from routegraph.theory.ger import slot_correlation, square_root
from routegraph.validate.compare.simulated import ScoreModel, fit_scores
from routegraph.validate.decoding.decode import decode
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.measure.item import Item, evicted
from routegraph.validate.measure.result import Measured
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.plan import Plan
from routegraph.validate.predict.calibration import updated
from routegraph.validate.predict.defaults import OTHER_MODELS
from routegraph.validate.predict.reply import stated
from routegraph.validate.predict.sources import sources_of
from routegraph.validate.predict.support import Support, read_support
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.traces.read_off import ReadOff, read_off
from studies.judged_runs import Floats
from studies.pages import DOCS, markdown, put_between
from studies.reply_forms import plan_of, to_read

BEGIN, END = "<!-- table: written by studies/simulated_breaking.py -->", "<!-- end of table -->"
#: Random halves; simulated prompts beside each held-out one; tokens of a slot that its share is spread over.
SPLITS, REPEATS, SPREAD = 20, 2, 8
#: What a reply rests on, in the order in which they are stored: rows of the reply (routes), sources, dependence.
KINDS = ("routes", "sources", "dependence")
_GRID = (np.arange(64) + 0.5) / 64
#: Goals: of a mean gap, and what the root mean square may be above that of the other half's own measured half point.
GOAL, MORE = 0.03, 0.02


@dataclass(frozen=True, eq=False)
class Stored:
    """One prompt: whose scores evict, and what its reply rests on.

    Attributes
    ----------
    evictions : mapping of policy to Eviction
    parts : float32[n_rows + 2, n_slots, n_context]
        What each slot gives, of every row of the reply, its sources and its dependence; each sums to 1 or 0.
    """

    n_layers: int
    n_heads: int
    evictions: Mapping[str, Eviction]
    parts: NDArray[np.float32]
    n_context: int
    answer: NDArray[np.int64]

    def support(self) -> Support:
        """Return what the reply rests on, as it was read."""
        shape = (-1, self.n_layers, self.n_heads, self.n_context)
        return Support(self.parts[:-2].reshape(shape), *self.parts[-2:].reshape(shape))

    def kinds(self) -> list[Floats]:
        """Return the parts by kind: of the routes the mean over rows, float64[n_slots, n_context] each."""
        return [self.parts[:-2].mean(axis=0), self.parts[-2], self.parts[-1]]


def read_item(model: Loaded, prompt: Prompt, plan: Plan) -> dict[str, Any]:
    """Return what is kept of one item, as arrays."""
    item = Item.read(model, prompt, plan)
    cache, evictions = evicted(model, item, plan.seed)
    whole = np.ones((1, *evictions[0].scores.shape), dtype=bool)
    own = decode(model, cache, item.asked.question, whole, plan.max_new_tokens, stop=plan.stop)
    reply, said = stated(model.tokenizer, own.token_ids[0])
    support = read_support(
        model, cache, item.asked.question, reply, item.asked.positions(sources_of(prompt.context, said))
    )
    assert support.dependence is not None
    parts = np.concatenate([support.routes, support.sources[None], support.dependence[None]])
    total = parts.sum(axis=(1, 2, 3), keepdims=True)
    parts = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
    told = {
        one.method.name: {"seed": one.seed, "scorer": dict(one.scorer), "parameters": one.method.parameters}
        for one in evictions
    }
    return {
        "parts": parts.reshape(len(parts), -1, whole.shape[-1]).astype(np.float32),
        "told": np.array(json.dumps(told)),
        **{f"scores {one.method.name}": one.scores for one in evictions},
    }


def read(model: str, prompts: str, cells: Path, out: Path, limit: int | None, part: str) -> None:
    """Keep what is missing of a folder."""
    use_threads(1)
    found = Measured.load(cells)
    plan = plan_of(dict(found.settings))
    loaded = load(model, dtype=str(found.settings.get("dtype", "float32")))
    for prompt, path in to_read(found, prompts, out, ".npz", limit, part):
        packed = io.BytesIO()
        np.savez_compressed(packed, id=np.array(prompt.id), **read_item(loaded, prompt, plan))
        with atomic_open(path) as stream:
            stream.write(packed.getvalue())


def stored(out: Path, chunk_length: int) -> dict[str, Stored]:
    """Return what was kept, by the prompts' ids."""
    made = {}
    for path in sorted(out.glob("*.npz")):
        with np.load(path) as kept:
            told, parts = json.loads(str(kept["told"])), kept["parts"]
            evictions = {}
            for policy, own in told.items():
                scores = kept[f"scores {policy}"]
                method = Method.named(policy, dict(own["parameters"]).get("chunk_length", chunk_length))
                evictions[policy] = Eviction(method, scores, own["seed"], own["scorer"], scores.shape[-1])
            shape = scores.shape
            made[str(kept["id"])] = Stored(
                shape[0], shape[1], evictions, parts, shape[2], np.zeros(0, dtype=np.int64)
            )
    return made


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Scores and reads fitted to some prompts.

    Attributes
    ----------
    scores : ScoreModel
        Of tokens on which nothing rests.
    quantiles : tuple of float64[n_slots, n_quantiles]
        By kind: normal scores of tokens in a slot, each weighing what the slot gives it.
    roots : tuple of float64[n_slots, n_slots]
        By kind: times its transpose, how they go together.
    donors : sequence of float64[n_groups, n_slots]
        What each slot gives, of protected rows and of the others, prompt by prompt.
    """

    scores: ScoreModel
    quantiles: tuple[Floats, ...]
    roots: tuple[Floats, ...]
    donors: Sequence[tuple[Floats, Floats]]

    @classmethod
    def fit(cls, prompts: Sequence[Stored], policy: str, read: Sequence[ReadOff], seed: int) -> Ensemble:
        evictions = [prompt.evictions[policy] for prompt in prompts]
        rng = np.random.default_rng(seed)
        model = fit_scores(prompts, evictions, read)
        correlation = slot_correlation([one.normal_scores for one in read])
        samples: list[list[Floats]] = [[] for _ in KINDS]
        donors = []
        for prompt, eviction, own in zip(prompts, evictions, read, strict=True):
            free = ~eviction.protected
            donors.append((prompt.parts[..., ~free].sum(axis=2), prompt.parts[..., free].sum(axis=2)))
            for kept, kind in zip(samples, prompt.kinds(), strict=True):
                kept.append(_sampled(kind[:, free], own.normal_scores, rng))
        weights = [
            [kind[:, ~one.evictions[policy].protected].sum(axis=1) for kind in one.kinds()] for one in prompts
        ]
        quantiles = tuple(
            _quantiles(np.concatenate(kept, axis=1), np.repeat([w[k] for w in weights], SPREAD, axis=0).T)
            for k, kept in enumerate(samples)
        )
        roots = tuple(square_root(answer_moments(kept, correlation).correlation) for kept in samples)
        return cls(model, quantiles, roots, donors)

    def draw(self, eviction: Eviction, ratios: Sequence[float], rng: np.random.Generator) -> Floats:
        """Return what one simulated prompt loses, float64[n_ratios]: of a length and protected rows that are given."""
        from scipy.special import ndtr

        fixed, given = self.donors[rng.integers(len(self.donors))]
        free = np.flatnonzero(~eviction.protected)
        fates = self.scores.draw(rng, eviction, np.zeros(0, dtype=np.int64), ratios)
        # Ties, as of chunks, in random order.
        drop = fates.drop.reshape(-1, eviction.n_context)[:, free]
        order = free[np.argsort(drop + rng.random(drop.shape), axis=1)]
        places = []
        for kind in [0] * (len(given) - 2) + [1, 2]:
            levels = ndtr(self.roots[kind] @ rng.standard_normal((len(order), SPREAD)))
            scores = [
                np.interp(own, _GRID, row) for own, row in zip(levels, self.quantiles[kind], strict=True)
            ]
            ranks = (ndtr(np.array(scores)) * len(free)).astype(int).clip(max=len(free) - 1)
            places.append(np.take_along_axis(order, ranks, axis=1))
        whole = fixed.sum(axis=1) + given.sum(axis=1)

        def lost(survival: Any, at: Sequence[float]) -> Floats:
            columns = []
            for ratio in at:
                alive = survival.alive(ratio).reshape(len(order), -1)
                gone = np.array([1 - np.take_along_axis(alive, own, axis=1).mean(axis=1) for own in places])
                last = 1 - alive[:, eviction.protected].mean(axis=1) if eviction.protected.any() else 0.0
                each = (given * gone + fixed * last).sum(axis=1) / np.maximum(whole, 1e-12)
                columns.append(np.mean([each[:-2].max(), each[-2], each[-1]]))
            return np.array(columns)

        return fates.join(lost)


def _quantiles(samples: Floats, weights: Floats) -> Floats:
    """Return weighted quantiles of every row, float64[n_rows, n_quantiles]."""
    made = []
    for own, weight in zip(samples, weights + 1e-12, strict=True):
        order = np.argsort(own)
        levels = np.cumsum(weight[order]) - weight[order] / 2
        made.append(np.interp(_GRID, levels / weight.sum(), own[order]))
    return np.array(made)


def _sampled(given: Floats, scores: Floats, rng: np.random.Generator) -> Floats:
    """Return normal scores of tokens drawn by what each slot gives them, float64[n_slots, SPREAD]."""
    weights = np.cumsum(given + 1e-12, axis=1)
    drawn = rng.random((len(given), SPREAD)) * weights[:, -1:]
    at = [np.searchsorted(row, own).clip(max=len(row) - 1) for row, own in zip(weights, drawn, strict=True)]
    return np.take_along_axis(scores, np.array(at), axis=1)


def gaps(found: Measured, kept: Mapping[str, Stored], policy: str) -> tuple[float, dict[str, list[float]]]:
    """Return the measured half point of all items, and of 20 halves predicted minus measured, by source."""
    ids = [name for name in found.ids if name in kept]
    items = [kept[name] for name in ids]
    place = found.place_of(policy)
    rows = [found.ids.index(name) for name in ids]
    breaks, ratios = found.fails[rows, place], found.ratios
    read = [read_off(one, one.evictions[policy], ratios.tolist()) for one in items]
    lost = np.array(
        [
            one.support().lost(
                np.array([s.alive(r) for s, r in zip(one.evictions[policy].survivals(at), at, strict=True)])
            )
            for at in [ratios.tolist()]
            for one in items
        ]
    )
    made: dict[str, list[float]] = {}
    for split in range(SPLITS):
        rng = np.random.default_rng([split, 12])
        order = rng.permutation(len(items))
        own, other = order[: len(items) // 2], order[len(items) // 2 :]
        ensemble = Ensemble.fit([items[i] for i in own], policy, [read[i] for i in own], split)
        drawn = np.array(
            [
                ensemble.draw(items[i].evictions[policy], ratios.tolist(), rng)
                for i in other
                for _ in range(REPEATS)
            ]
        )
        drawn[:, 0] = 0
        known = {
            "other models": OTHER_MODELS[0],
            "own": updated(OTHER_MODELS[0], lost[own][:, 1:], breaks[own][:, 1:], "own"),
        }
        truth = float(crossing(ratios, 1 - breaks[other].mean(axis=0)))
        curves = {
            "measured on the others": 1 - breaks[own].mean(axis=0),
            **{f"simulated, {word}": one.kept(drawn) for word, one in known.items()},
            **{f"own reads, {word}": one.kept(lost[other]) for word, one in known.items()},
        }
        for word, curve in curves.items():
            made.setdefault(word, []).append(float(crossing(ratios, curve)) - truth)
        made.setdefault("support", []).append(
            float(np.abs(drawn.mean(axis=0) - lost[other].mean(axis=0)).max())
        )
    return float(crossing(ratios, 1 - breaks.mean(axis=0))), made


SOURCES = (
    "measured on the others", "simulated, own", "own reads, own", "simulated, other models", "own reads, other models",
)  # fmt: skip


def judge(pairs: list[str], write: bool) -> None:
    """Write the table: mean gap and root mean square of the halves, by source."""
    rows = []
    for pair in pairs:
        name, folders = pair.split("=")
        cells, out = (Path(one) for one in folders.split(","))
        found = Measured.load(cells)
        kept = stored(out, int(found.settings["chunk_length"]))
        for policy in found.policies:
            half, made = gaps(found, kept, policy)
            each = {word: np.array(made[word]) for word in (*SOURCES, "support")}
            cells_ = [
                f"{values.mean():+.3f}, {np.sqrt(np.mean(values**2)):.3f}"
                if np.isfinite(values).all()
                else "-"
                for values in (each[word] for word in SOURCES)
            ]
            rows.append(
                [name, policy, str(len(kept)), f"{half:.2f}", *cells_, f"{each['support'].mean():.3f}"]
            )
            print(rows[-1], flush=True)
    table = markdown(["run", "policy", "items", "half lost by", *SOURCES, "support, largest gap"], rows)
    if write:
        put_between(DOCS / "simulated_breaking.md", BEGIN, table, END)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    does = parser.add_subparsers(dest="does", required=True)
    reads = does.add_parser("read")
    for name, kind in (("model", str), ("prompts", str), ("cells", Path), ("out", Path)):
        reads.add_argument(name, type=kind)
    reads.add_argument("--limit", type=int)
    reads.add_argument("--part", default="0/1")
    judges = does.add_parser("judge")
    judges.add_argument("runs", nargs="+")
    judges.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.does == "read":
        read(asked.model, asked.prompts, asked.cells, asked.out, asked.limit, asked.part)
    else:
        judge(asked.runs, asked.write)


if __name__ == "__main__":
    main()

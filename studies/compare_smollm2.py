"""SmolLM2 against theory and simulation on 90 prompts of three lengths: docs/compare_smollm2.md, its figure.

``python -m studies.compare_smollm2 FOLDER`` keeps prompts and traces in FOLDER (1.1 GB) and takes some
fifteen minutes on one core; traces in FOLDER already are used again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from routegraph import plot
from routegraph import tables as views
from routegraph.critical.points import half_point
from routegraph.files import write_json
from routegraph.graph import heavier
from routegraph.stats.intervals import standard_error
from routegraph.trace import Trace
from routegraph.validate.compare import tables as tables_
from routegraph.validate.compare.policy import PolicyComparison
from routegraph.validate.compare.prediction import Curve
from routegraph.validate.compare.reach import TOKENS, fit_reads, n_cached, reached_at
from routegraph.validate.compare.result import Comparison, plot_comparisons
from routegraph.validate.compare.run import COMPARED_RATIOS, compare
from routegraph.validate.compare.simulated import draw_reads, fit_scores, scores_generator
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.tasks.documents import generate
from routegraph.validate.traces.extract import extract_to_file
from routegraph.validate.traces.read_off import read_off
from studies.pages import DOCS, markdown

#: Where reads and scores are crossed: policy, pruning, weight.
CROSSED = (
    ("topk", "columns", 0.03),
    ("topk", "columns", 0.1),
    ("chunk", "columns", 0.1),
    ("chunk", "decode", 0.1),
)
#: The tables stand between these lines of the page.
BEGIN, END = "<!-- tables: written by studies/compare_smollm2.py -->", "<!-- end of tables -->"

#: Tokens a prompt has at least, and how many prompts there are of each length.
LENGTHS, EACH = (150, 400, 900), 30
#: A last chunk of so few rows (of 64) could not be scored by itself.
CHUNK_LENGTH, SHORTEST_CHUNK = 64, 5


def prompts(count_tokens: Callable[[str], int], seed: int = 1) -> list[Prompt]:
    """Return EACH prompts of each of LENGTHS: documents strung together until they are long enough.

    The question is about one of the documents. Documents take turns in kind and in the place of the answer, so the
    prompts of each length are shuffled: every other one is then a fair half.
    """
    random = np.random.default_rng(seed)
    documents = iter(generate(2000, seed))
    made: list[Prompt] = []
    for length in LENGTHS:
        group: list[Prompt] = []
        while len(group) < EACH:
            parts = [next(documents)]
            while count_tokens(_joined(parts)) < length:
                parts.append(next(documents))
            asked = int(random.integers(len(parts)))
            if count_tokens(_joined(parts)) % CHUNK_LENGTH >= SHORTEST_CHUNK:
                group.append(_about(parts, asked, f"{length}-{len(group):02d}"))
        made += [group[i] for i in random.permutation(EACH)]
    return made


def _joined(parts: list[Prompt]) -> str:
    return "\n\n".join(part.context for part in parts)


def _about(parts: list[Prompt], asked: int, name: str) -> Prompt:
    """Return one prompt from several documents, with the question of one of them."""
    about = parts[asked]
    offset = len(_joined(parts[: asked + 1])) - len(about.context)
    return Prompt(
        id=name,
        context=_joined(parts),
        question=about.question,
        answer=about.answer,
        answer_prefix=about.answer_prefix,
        evidence=tuple((start + offset, end + offset) for start, end in about.evidence),
        answer_spans=tuple((start + offset, end + offset) for start, end in about.answer_spans),
        task=about.task,
    )


def main(folder: Path) -> None:
    """Extract where needed, compare, and write tables and figure."""
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "traces.npz"
    if not trace.exists():
        use_threads(1)
        tokenizer = load("smollm2").tokenizer
        write_prompts(folder / "prompts.jsonl", prompts(lambda text: len(tokenizer(text)["input_ids"])))
        extract_to_file("smollm2", folder / "prompts.jsonl", trace, graphs=True)
    traces = Trace.load(trace)
    result = compare(traces)
    write_json(folder / "compare.json", result.to_dict())
    plot.save(plot_comparisons(result), DOCS / "compare_smollm2.svg")
    starts = range(0, len(traces), EACH)
    by_length = [compare(traces[start : start + EACH]) for start in starts]
    page = DOCS / "compare_smollm2.md"
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    written = f"{tables(result, by_length)}\n\n### Reads and scores crossed\n\n{crossed(traces)}"
    page.write_text(f"{before}\n\n{written}\n\n{after}", encoding="utf-8")


def tables(result: Comparison, by_length: list[Comparison]) -> str:
    """Return the tables of the page: half points by policy, then gaps by length."""
    parts = []
    for policy, found in result.policies.items():
        grid = tables_.half_point_grid(found)
        whole = [views.interval(found.axes[over].half("answer tokens"), 3) for over in ("model", "layer")]
        parts.append(
            f"### {policy}\n\n{markdown(grid.columns, grid.rows)}\n\nGER of the answer tokens of all prompts, "
            f"half point: all slots {whole[0]}, a layer {whole[1]}. Root mean square difference of the whole curves, "
            f"ratios .6 to .98: {_rmse(found)}."
        )
    header = [
        "simulated - read off",
        *(f"{low} to {high} tokens" for low, high in (c.n_context for c in by_length)),
    ]
    rows = []
    for policy, found in result.policies.items():
        each = [one.policies[policy] for one in by_length]
        for over, name in (("model", "all slots"), ("layer", "a layer")):
            gaps = [views.signed(one.axes[over].difference("simulated")) for one in each]
            rows.append([f"{policy}, gone, {name}", *gaps])
        for i, reach in enumerate(found.reach):
            if reach.prune == "columns" and reach.tokens == TOKENS[0]:
                gaps = [views.signed(one.reach[i].difference("simulated")) for one in each]
                rows.append([f"{policy}, columns, weight > {reach.eps:g}", *gaps])
    return "\n\n".join([*parts, "### By length", markdown(header, rows)])


def crossed(traces: list[Trace]) -> str:
    """Return the table of reach of all context tokens with graph and scores each read off or drawn."""
    training, held_out = traces[::2], traces[1::2]
    ratios = np.array(COMPARED_RATIOS)
    shown = [int(np.argmin(abs(ratios - ratio))) for ratio in (0.8, 0.9, 0.95)]
    rows = []
    for policy, prune, eps in CROSSED:
        method = Method.of_scores(traces[0], policy)
        evictions = [Eviction.of(method, trace) for trace in training]
        read = [read_off(*pair, [0.5]) for pair in zip(training, evictions, strict=True)]
        model = fit_scores(training, evictions, read)
        reads = fit_reads(training, [eps])[eps]
        curves: dict[tuple[str, str], list[Curve]] = {}
        for number, trace in enumerate(held_out):
            assert trace.graph is not None
            n = n_cached(trace.n_context, prune)
            generator, eviction = scores_generator(0, number, 0), Eviction.of(method, trace).first(n)
            scores = {
                "read off": eviction.fates(ratios.tolist()),
                "drawn": model.draw(generator, eviction, trace.answer[trace.answer < n], ratios.tolist()),
            }
            graphs = {
                "read off": heavier(trace.graph, eps),
                "drawn": draw_reads(reads, (trace.n_layers, trace.n_heads), trace.n_context, 0, number, 0),
            }
            for one, two in product(graphs, scores):
                reached = reached_at(graphs[one], scores[two], trace.answer, prune)[0]
                curves.setdefault((one, two), []).append(reached)
        for (one, two), listed in curves.items():
            table = np.array(listed)
            cells = zip(table.mean(axis=0)[shown], standard_error(table)[shown], strict=True)
            rows.append(
                [
                    f"{policy}, {prune} {eps:g}: reads {one}, scores {two}",
                    views.interval(half_point(ratios, table), 3),
                    *(views.compact(mean, error, 0) for mean, error in cells),
                ]
            )
    header = ["reach of all context tokens", "half point", *(f"at {ratios[i]:g}" for i in shown)]
    return markdown(header, rows)


def _rmse(found: PolicyComparison) -> str:
    axis = found.axes["model"]
    told = [f"all slots {axis.rmse('simulated'):.3f} (uniform {axis.rmse('uniform'):.3f})"]
    for reach in found.reach:
        if reach.tokens == TOKENS[0]:
            values = f"{reach.rmse('simulated'):.3f} (uniform {reach.rmse('uniform'):.3f})"
            told.append(f"{reach.prune} {reach.eps:g} {values}")
    return ", ".join(told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Half points of GER of the answer tokens, predicted from other prompts: the tables of docs/answer_tokens.md.

``python -m studies.answer_tokens FOLDER`` writes prompts and traces of two pretrained models to FOLDER, uses those that
are there, and takes about half an hour on one core, traces included. The models are fetched on first use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from routegraph.choices import AXES
from routegraph.critical.points import crossing
from routegraph.files import write_json
from routegraph.stats.intervals import Interval
from routegraph.tables import signed
from routegraph.theory.ger import Moments, slot_correlation
from routegraph.trace import Trace
from routegraph.validate.compare.copulas import fit_answers, predict_answers
from routegraph.validate.compare.run import COMPARED_POLICIES, compare, split_order
from routegraph.validate.compare.simulated import ScoreModel, fit_scores, simulate_ger
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.prompts.prompt import Prompt, read_prompts, write_prompts
from routegraph.validate.tasks import load_task
from routegraph.validate.traces.extract import extract_to_file
from routegraph.validate.traces.read_off import ReadOff, read_off
from studies.pages import DOCS, markdown, put_between

BEGIN, END = "<!-- tables: written by studies/answer_tokens.py -->", "<!-- end of tables -->"
MODELS = ("smollm2", "qwen2.5-coder-0.5b")
TASKS = ("base", "manipulation", "multi_presence", "multi_entity", "coreference", "hops")
#: Tokens of a context, about; and prompts of each task and length.
LENGTHS, EACH = (160, 280, 420), 12
#: Seed of the prompts that are judged; none of them was seen while the model was made.
SEED = 72
DIRECTIONS = ("forward", "inverse")
#: Random halves, and where half points are looked for.
SPLITS, RATIOS = 20, np.round(np.arange(0.3, 0.985, 0.02), 2)
#: Goals of a mean gap (the rule of the page), and what the root mean square may be above the baseline's.
GOAL, MORE = {"model": 0.02, "layer": 0.03}, 0.01
#: Gaussian vectors of theory: fewer than `compare` draws, as twenty halves are averaged.
DRAWS = {"model": 8_000, "layer": 2_000}
SOURCES = ("baseline", "simulated, before", "theory, before", "simulated", "theory")
WHERE = {"model": "all slots", "layer": "a layer"}


def prompts(seed: int = SEED) -> list[Prompt]:
    """Return EACH answerable questions of each task and length, half of each direction, in random order."""
    made: list[Prompt] = []
    for task in TASKS:
        for number, length in enumerate(LENGTHS):
            drawn = load_task(task, 4 * EACH, seed=3 * seed + number, length=length)
            for direction in DIRECTIONS:
                some = [one for one in drawn if one.answerable and direction in one.tags]
                made += some[: EACH // 2]
    return [made[at] for at in np.random.default_rng(seed).permutation(len(made))]


@dataclass(frozen=True)
class Cases:
    """What one policy does to all prompts of a model."""

    traces: Sequence[Trace]
    evictions: Sequence[Eviction]
    read: Sequence[ReadOff]

    @classmethod
    def of(cls, traces: Sequence[Trace], policy: str) -> Cases:
        method = Method.of_scores(traces[0], policy)
        evictions = [Eviction.of(method, trace) for trace in traces]
        return cls(
            traces,
            evictions,
            [read_off(*pair, RATIOS.tolist()) for pair in zip(traces, evictions, strict=True)],
        )

    def some(self, which: NDArray[np.int64]) -> Cases:
        return Cases(*([listed[at] for at in which] for listed in (self.traces, self.evictions, self.read)))

    def ger(self, over: str) -> NDArray[np.float64]:
        return np.mean([one.answers[over] for one in self.read], axis=0)


def before(training: Cases, fitted: ScoreModel) -> tuple[Moments, ScoreModel]:
    """Return what was fitted before: the mean over all answer tokens of all prompts, all else as of any token."""
    shift = np.concatenate([one.answer_scores for one in training.read], axis=1).mean(axis=1)
    moments = Moments(shift, slot_correlation([one.normal_scores for one in training.read]))
    return moments, replace(fitted, shift=shift, root=None)


def gaps(training: Cases, held_out: Cases, seed: int) -> dict[tuple[str, str], float]:
    """Return predicted minus read-off half points of (head axis, source)."""
    fitted, moments = (
        fit_scores(training.traces, training.evictions, training.read),
        fit_answers(training.read),
    )
    assert moments is not None
    earlier = before(training, fitted)
    drawn = {
        name: simulate_ger(model, held_out.traces, held_out.evictions, RATIOS.tolist(), seed)["answers"]
        for name, model in (("simulated", fitted), ("simulated, before", earlier[1]))
    }
    n_heads = training.traces[0].n_heads
    found = {}
    for over in AXES:
        curves = {"baseline": training.ger(over)} | {name: made[over].mean for name, made in drawn.items()}
        whole = [replace(one, spared=0.0) for one in held_out.read]
        curves["theory, before"] = predict_answers(earlier[0], whole, over, n_heads, seed, DRAWS).mean
        curves["theory"] = predict_answers(moments, held_out.read, over, n_heads, seed, DRAWS).mean
        half = half_of(held_out.ger(over))
        found |= {(over, name): half_of(curve) - half for name, curve in curves.items()}
    return found


def half_of(curve: NDArray[np.float64]) -> float:
    return float(crossing(RATIOS, curve[None])[0])


def judged(cases: Cases) -> dict[str, dict[str, list[float]]]:
    """Return the gaps of all random halves: by head axis, then by source."""
    made = []
    for k in range(SPLITS):
        order = split_order(len(cases.traces), "random", k)
        made.append(gaps(cases.some(order[::2]), cases.some(order[1::2]), k))
    return {over: {name: [one[over, name] for one in made] for name in SOURCES} for over in AXES}


def crossed(cases: Cases, forward: NDArray[np.bool_]) -> dict[str, dict[tuple[str, str], float]]:
    """Return the gaps where one direction of questions is fitted to and the other judged."""
    halves = {"forward": np.flatnonzero(forward), "inverse": np.flatnonzero(~forward)}
    return {
        f"{one} to {other}": gaps(cases.some(halves[one]), cases.some(halves[other]), 0)
        for one, other in (DIRECTIONS, DIRECTIONS[::-1])
    }


def rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def mean_of(values: Sequence[float]) -> str:
    return signed(Interval(float(np.mean(values)), *(float(x) for x in np.percentile(values, (2.5, 97.5)))))


def rows_of_means(case: str, over: str, half: float, of: dict[str, list[float]]) -> list[str]:
    within = {name: np.mean(np.abs(of[name]) <= GOAL[over]) for name in ("baseline", "simulated", "theory")}
    return [
        f"{case}, {WHERE[over]}",
        f"{half:.3f}",
        *(mean_of(of[name]) for name in SOURCES),
        " / ".join(f"{share:.2f}".removeprefix("0") for share in within.values()),
    ]


def rows_of_rms(case: str, over: str, of: dict[str, list[float]]) -> list[str]:
    shares = [1 - np.mean(of[name]) ** 2 / np.mean(np.square(of[name])) for name in ("simulated", "theory")]
    return [
        f"{case}, {WHERE[over]}",
        *(f"{rms(of[name]):.3f}" for name in SOURCES),
        " / ".join(f"{share:.2f}" for share in shares),
    ]


def verdict(of: dict[str, list[float]], over: str, name: str) -> tuple[bool, bool]:
    """Return whether the mean gap and the root mean square keep to the rule."""
    return abs(np.mean(of[name])) <= GOAL[over], rms(of[name]) <= rms(of["baseline"]) + MORE


def first_split(traces: Sequence[Trace]) -> dict[tuple[str, str], tuple[Interval, Interval, Interval]]:
    """Return what `compare` shows of its own half: read off, simulated minus it, theory minus it."""
    found = compare(traces, eps=[])
    return {
        (policy, over): (
            axis.half("answer tokens, held out"),
            axis.difference("simulated answers"),
            axis.difference("shifted copula"),
        )
        for policy, one in found.policies.items()
        for over, axis in one.axes.items()
    }


def traces_of(model: str, folder: Path) -> list[Trace]:
    file, out = folder / "prompts.jsonl", folder / f"{model}.npz"
    if not file.exists():
        write_prompts(file, prompts())
    if not out.exists():
        use_threads(1)
        extract_to_file(load(model, dtype="bfloat16"), file, out, chat="off")
    return [trace for trace in Trace.load(out) if len(trace.answer)]


def main(folder: Path) -> None:
    """Extract where needed, judge, and write the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    means, squares, single, other, kept = [], [], [], [], []
    document = {}
    for model in MODELS:
        traces = traces_of(model, folder)
        tags = {one.id: one.tags for one in read_prompts(folder / "prompts.jsonl")}
        forward = np.array(["forward" in tags[trace.id] for trace in traces])
        for (policy, over), shown in first_split(traces).items():
            single.append([f"{model}, `{policy}`, {WHERE[over]}", *_intervals(shown)])
        for policy in COMPARED_POLICIES:
            cases, case = Cases.of(traces, policy), f"{model}, `{policy}`"
            found = judged(cases)
            document[case] = {"half points": {over: half_of(cases.ger(over)) for over in AXES}, "gaps": found}
            for over, of in found.items():
                means.append(rows_of_means(case, over, half_of(cases.ger(over)), of))
                squares.append(rows_of_rms(case, over, of))
                kept += [verdict(of, over, name) for name in ("simulated", "theory")]
            for way, gap in crossed(cases, forward).items():
                for over in AXES:
                    told = [signed(Interval(gap[over, name], np.nan, np.nan)) for name in SOURCES]
                    other.append([f"{case}, {WHERE[over]}, {way}", *told])
            print(case, flush=True)
    write_json(folder / "gaps.json", document)
    page = DOCS / "answer_tokens.md"
    written = tables(means, squares, single, other, kept)
    put_between(page, BEGIN, written, END)


def _intervals(shown: tuple[Interval, Interval, Interval]) -> list[str]:
    from routegraph.tables import interval

    return [interval(shown[0], 3), signed(shown[1]), signed(shown[2])]


def tables(
    means: list[list[str]],
    squares: list[list[str]],
    single: list[list[str]],
    other: list[list[str]],
    kept: list[tuple[bool, bool]],
) -> str:
    """Return the tables of the page."""
    first, second = (sum(one[k] for one in kept) for k in range(2))
    return "\n\n".join(
        [
            f"Goal 1 is met by {first} of {len(kept)} mean gaps, goal 2 by {second} of {len(kept)} root mean squares.",
            "### Mean gaps over 20 random halves",
            markdown(["half point", "read off", *SOURCES, "halves within: base / sim / theory"], means),
            "### Root mean squares of the same gaps",
            markdown(["half point", *SOURCES, "noise: sim / theory"], squares),
            "### The one half that `compare` holds out",
            markdown(["half point", "read off", "simulated - it", "theory - it"], single),
            "### One direction of questions from the other",
            markdown(["half point", *SOURCES], other),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m studies.answer_tokens FOLDER")
    main(Path(sys.argv[1]))

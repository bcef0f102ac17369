"""`compare`: what eviction does to a real model's tokens, beside theory and simulation.

Half of the prompts (the training half: every other one, as they come or shuffled) may be used for fitting;
every prediction is judged on the other half. No theory sees the curve it is judged on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from routegraph.choices import AXES, PRUNING, SPLITS
from routegraph.protection import structural_cliffs
from routegraph.survival import check_ratios
from routegraph.theory import ger as theory
from routegraph.theory.ger import Moments
from routegraph.trace import Trace
from routegraph.validate.compare import failure
from routegraph.validate.compare import foretold as foretelling
from routegraph.validate.compare import reach as reach_compare
from routegraph.validate.compare.copulas import fit_answers, fit_tokens, predict_answers, predict_tokens
from routegraph.validate.compare.policy import PolicyComparison
from routegraph.validate.compare.prediction import AxisComparison, Curve, Prediction
from routegraph.validate.compare.reach import EPS
from routegraph.validate.compare.result import Comparison
from routegraph.validate.compare.simulated import ScoreModel, fit_scores, simulate_ger, uniform_scores
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.measure.result import Measured
from routegraph.validate.models.attention import seen_rows
from routegraph.validate.predict.result import Predicted
from routegraph.validate.presses.methods import scorer_named
from routegraph.validate.traces.read_off import ReadOff, read_off

#: Ratios at which everything is read off by default, dense where things happen.
COMPARED_RATIOS = tuple(
    np.round(np.concatenate([np.arange(0.05, 0.6, 0.05), np.arange(0.6, 0.995, 0.01)]), 4)
)
#: Policies compared by default; each takes the score table made for it.
COMPARED_POLICIES = ("topk", "adakv", "chunk")


def compare(
    traces: Sequence[Trace],
    *,
    policy_names: Iterable[str] = COMPARED_POLICIES,
    ratios: Iterable[float] = COMPARED_RATIOS,
    eps: Iterable[float] = EPS,
    scorer: str | None = None,
    measured: Measured | str | os.PathLike[str] | None = None,
    predicted: Predicted | str | os.PathLike[str] | None = None,
    weights: str | None = None,
    split: str = "alternate",
    seed: int = 0,
) -> Comparison:
    """Read GER, eviction rate and reach off traces and set theory and simulation beside them.

    Parameters
    ----------
    traces : sequence of Trace
        Prompts of one run, at least four. Reach needs traces with graphs.
    policy_names : iterable of str
        Methods by name, see `Method.of_scores`: each goes by the scores that its name means. One that draws does so
        anew for every prompt, read off and simulated; one that is not nested is asked ratio by ratio.
    ratios : iterable of float
        Increasing compression ratios in [0, 1), at least four; every other one is held out from fitting.
    eps : iterable of float
        Thresholds of attention weight above which a read is an edge, in (0, 1).
    scorer : str, optional
        Whose scores a policy goes by that is a cut alone ("topk"); Expected Attention's by default.
    measured : Measured or path, optional
        What `routegraph measure` found of the same model, or its folder: where answers fail.
    predicted : Predicted or path, optional
        What `routegraph predict` says of the same model, or its folder: by which ratio answers break.
    weights : str, optional
        Fingerprint of the traces' model, by which `measured` and `predicted` are checked; its name is without.
    split : {"alternate", "random"}
        The training half is the first, third, ... prompt, of the traces as they come or shuffled by the seed. Where
        prompts take turns in kind, such as in the direction of their questions, every other one is no fair half.
    seed : int
        Seed of the copula draws, of the simulation, of policies that draw, and of a random split.

    Raises
    ------
    ValueError
        If there are too few prompts or ratios, the split is unknown, an eps is out of range, a policy is unknown or
        protects all rows of a prompt, the traces lack its scores, nothing goes by `scorer`, or `measured` or
        `predicted` is of another model or way of scoring.
    """
    grid = np.array(sorted(set(check_ratios(ratios))))
    if len(grid) < 4:
        raise ValueError(f"compare needs at least 4 ratios, got {len(grid)}")
    if len(traces) < 4:
        raise ValueError(f"compare needs at least 4 prompts (half of them are held out), got {len(traces)}")
    traces = [traces[at] for at in split_order(len(traces), split, seed)]
    if len({trace.question is None for trace in traces}) > 1:
        raise ValueError("the traces are partly question-aware and partly not; compare them apart")
    _check_windows(traces)
    thresholds = tuple(sorted(set(eps)))
    for threshold in thresholds:
        if not 0 < threshold < 1:
            raise ValueError(f"eps must be in (0, 1), got {threshold}")
    methods = [Method.of_scores(traces[0], name, scorer) for name in dict.fromkeys(policy_names)]
    chosen = {method.name: method for method in methods}
    _check_scorer(scorer, methods)
    evictions = {
        name: [Eviction.of(method, trace, seed) for trace in traces] for name, method in chosen.items()
    }
    _check_lengths(traces, evictions)
    failures = {} if measured is None else failure.failures(measured, traces, chosen, weights, seed)
    foretold = {} if predicted is None else foretelling.foretellings(predicted, traces, chosen, weights, seed)
    compared, models = {}, {}
    for name, evicted in evictions.items():
        compared[name], models[name] = _compare_policy(traces, evicted, grid, seed)
    if thresholds and reach_compare.has_graphs(traces):
        reads = reach_compare.fit_reads(traces[::2], thresholds)
        held_out = {name: (models[name], evicted[1::2]) for name, evicted in evictions.items()}
        reach = reach_compare.compare_reach(traces[1::2], reads, held_out, grid, seed)
        compared = {name: replace(found, reach=reach[name]) for name, found in compared.items()}
    compared = {
        name: replace(found, measured=failures.get(name), foretold=foretold.get(name))
        for name, found in compared.items()
    }
    lengths = [trace.n_context for trace in traces]
    return Comparison(
        model=traces[0].model,
        n_prompts=len(traces),
        n_context=(min(lengths), max(lengths)),
        ratios=grid,
        seed=seed,
        policies=compared,
        eps=thresholds,
        question_aware=traces[0].question is not None,
        has_measured=measured is not None,
        has_foretold=predicted is not None,
        split=split,
    )


def split_order(n_prompts: int, split: str = "alternate", seed: int = 0) -> NDArray[np.int64]:
    """Return the order of prompts of which the first, third, ... are the training half, int64[n_prompts].

    Raises
    ------
    ValueError
        If the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from: {', '.join(SPLITS)}")
    order = np.arange(n_prompts)
    return order if split == SPLITS[0] else np.random.default_rng(seed).permutation(order)


def _check_windows(traces: Sequence[Trace]) -> None:
    """Raise ValueError where some layers evict otherwise than the others: no simulation and no theory knows that."""
    for trace in traces:
        if any(trace.windows) and trace.spares_local:
            raise ValueError(
                f"layers of model {trace.model!r} have a sliding window and are left alone by what evicts, which "
                "neither simulation nor theory knows; compare another model"
            )
        if any(trace.windows) and not seen_rows(trace.windows, trace.n_context).all():
            raise ValueError(
                f"prompt {trace.id!r} has {trace.n_context} tokens, and layers of model {trace.model!r} see a window "
                f"of {max(trace.windows)}, which neither simulation nor theory knows; compare shorter prompts"
            )


def _compare_policy(
    traces: Sequence[Trace], evictions: Sequence[Eviction], ratios: Curve, seed: int
) -> tuple[PolicyComparison, ScoreModel]:
    method = evictions[0].method
    read = [read_off(*pair, ratios.tolist()) for pair in zip(traces, evictions, strict=True)]
    fitted = fit_scores(traces[::2], evictions[::2], read[::2])
    models = {"simulated": fitted, "uniform": uniform_scores(fitted)}
    simulated = {
        name: simulate_ger(model, traces[1::2], evictions[1::2], ratios.tolist(), seed)
        for name, model in models.items()
    }
    shape = (traces[0].n_layers, traces[0].n_heads)
    moments = fit_tokens(read[::2]), fit_answers(read[::2])
    axes = {}
    for over in AXES:
        axes[over] = _compare_axis(read, over, shape, ratios, seed, moments)
        predicted = axes[over].predicted
        predicted |= {name: made["evictable"][over] for name, made in simulated.items()}
        if "answer tokens" in axes[over].observed:
            predicted |= {f"{name} answers": made["answers"][over] for name, made in simulated.items()}
    cliffs = structural_cliffs([one.protection for one in evictions], [trace.n_context for trace in traces])
    return PolicyComparison(method.name, method.table, axes, cliffs, cut=method.policy), fitted


def _check_scorer(scorer: str | None, methods: Sequence[Method]) -> None:
    """Raise ValueError where a scorer is named and every method that goes by scores has its own."""
    scored = [method for method in methods if method.scored]
    by = {one.name: one.table.partition("/")[0] for one in scored}
    if scorer is not None and by and scorer_named(scorer, by.values()) not in by.values():
        told = ", ".join(f"{name!r} by {own!r}" for name, own in by.items())
        raise ValueError(
            f"no policy goes by scorer {scorer!r}, but {told}; leave the scorer out, or name CUT@SCORER"
        )


def _check_lengths(traces: Sequence[Trace], evictions: Mapping[str, Sequence[Eviction]]) -> None:
    """Raise ValueError where a policy itself protects as many rows as a prompt has, whole or without its queries."""
    prune = PRUNING[1] if reach_compare.has_graphs(traces) else PRUNING[0]
    for name, evicted in evictions.items():
        for trace, eviction in zip(traces, evicted, strict=True):
            rows, own = reach_compare.n_cached(trace.n_context, prune), eviction.method.protection
            if rows <= max(own.n_sink, own.window):
                raise ValueError(
                    f"policy {name!r} protects {own.words}, and prompt {trace.id!r} has {rows} rows that can be "
                    "evicted; compare longer prompts, or leave the policy out"
                )


def _compare_axis(
    read: list[ReadOff],
    over: str,
    shape: tuple[int, int],
    ratios: Curve,
    seed: int,
    moments: tuple[Moments, Moments | None],
) -> AxisComparison:
    """Read one head axis off all prompts, with the theories for the held-out ones.

    `moments`: of average tokens and of answer tokens, fitted to the training half.
    """
    of_tokens, of_answers = moments
    training, held_out = read[::2], read[1::2]
    n_layers, n_heads = shape
    slots = n_layers * n_heads if over == "model" else n_heads
    asked = [prompt for prompt in held_out if not np.isnan(prompt.answers[over]).any()]
    observed = {
        "all tokens": np.array([prompt.everything[over] for prompt in read]),
        "answer tokens": _answered(read, over),
        "evictable tokens": np.array([prompt.evictable[over] for prompt in held_out]),
        "answer tokens, held out": _answered(asked, over),
    }
    gone = np.array([prompt.gone.mean(axis=0) for prompt in held_out])
    rho = theory.fit_one_factor(
        np.concatenate([prompt.gone.mean(axis=0)[::2] for prompt in training]),
        np.concatenate([prompt.evictable[over][::2] for prompt in training]),
        slots,
    )
    predicted = {
        "independent": Prediction(theory.independent(gone, slots)),
        "one factor": Prediction(theory.one_factor(gone.ravel(), slots, rho).reshape(gone.shape)),
        "measured copula": predict_tokens(of_tokens, held_out, over, n_heads, seed),
    }
    if of_answers is not None and asked:
        predicted["shifted copula"] = predict_answers(of_answers, asked, over, n_heads, seed)
    else:
        del observed["answer tokens"], observed["answer tokens, held out"]
    return AxisComparison(over, slots, ratios, gone.mean(axis=0), observed, predicted, rho)


def _answered(read: list[ReadOff], over: str) -> Curve:
    return np.array([prompt.answers[over] for prompt in read if not np.isnan(prompt.answers[over]).any()])

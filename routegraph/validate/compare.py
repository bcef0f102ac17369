"""`compare`: what eviction does to a real model's tokens, beside theory and simulation.

Half of the prompts (the training half: every other one) may be used for fitting; every prediction is
judged on the other half. No theory sees the curve it is judged on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.survival import AXES, check_ratios
from routegraph.theory import ger as theory
from routegraph.theory.scaling import Interval, half_point
from routegraph.trace import Trace
from routegraph.validate import measured_compare, predictions, reach_compare
from routegraph.validate.fitted import (
    ScoreModel,
    draws_per_prompt,
    fit_scores,
    simulate_ger,
    uniform_scores,
)
from routegraph.validate.measured import Measured
from routegraph.validate.measured_compare import Failure
from routegraph.validate.predictions import JUDGED, Curve, Prediction
from routegraph.validate.reach_compare import EPS, QUERIES, ReachComparison
from routegraph.validate.readoff import ReadOff, read_off, scorer_of, structural_cliffs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Ratios at which everything is read off by default, dense where things happen.
RATIOS = tuple(np.round(np.concatenate([np.arange(0.05, 0.6, 0.05), np.arange(0.6, 0.995, 0.01)]), 4))
#: Policies compared by default; each takes the score table made for it.
POLICIES = ("topk", "adakv", "chunk")
#: Predictions for the answer tokens; the others are for evictable tokens.
OF_ANSWERS = ("shifted copula", "simulated answers", "uniform answers")


@dataclass(frozen=True, eq=False)
class AxisComparison:
    """One policy on one head axis: read off, theory, simulation.

    Attributes
    ----------
    over : {"model", "layer"}
    slots : int
        Slots that must all be gone.
    ratios : float64[n_ratios]
    gone : float64[n_ratios]
        Mean fraction of evictable rows gone from a slot, held-out prompts.
    observed : mapping of str to float64[n_prompts, n_ratios]
        "all tokens" and "answer tokens" of every prompt, "evictable tokens" and "answer tokens,
        held out" of the held-out prompts.
    predicted : mapping of str to Prediction
        For the evictable tokens of the held-out prompts; those in `OF_ANSWERS` for their answer tokens.
    rho : float
        One-factor correlation, fitted on training prompts at every other ratio.
    """

    over: str
    slots: int
    ratios: Curve
    gone: Curve
    observed: dict[str, Curve]
    predicted: dict[str, Prediction]
    rho: float

    def target(self, name: str) -> Curve:
        """Return the held-out curves a prediction is judged on, float64[n_prompts, n_ratios]."""
        return self.observed["answer tokens, held out" if name in OF_ANSWERS else "evictable tokens"]

    def judged(self) -> NDArray[np.bool_]:
        """Return the ratios predictions are judged on."""
        return predictions.judged(self.ratios)

    def rmse(self, name: str) -> float:
        """Return the root mean square difference of a prediction over the judged ratios."""
        return predictions.rmse(self.ratios, self.predicted[name], self.target(name))

    def half(self, name: str) -> Interval:
        """Return the half point of an observed curve, bootstrapped over prompts, or of a prediction."""
        curves = self.observed.get(name)
        return half_point(self.ratios, self.predicted[name].mean[None] if curves is None else curves)

    def difference(self, name: str) -> Interval:
        """Return the predicted minus the read-off half point; prompts are resampled in pairs."""
        return predictions.difference(self.ratios, self.predicted[name], self.target(name))

    def effective_slots(self) -> Curve:
        """Return M_eff = ln GER / ln p of the evictable tokens at each ratio, NaN where undefined."""
        return theory.effective_slots(self.observed["evictable tokens"].mean(axis=0), self.gone)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; NaN becomes null."""
        return {
            "head_axis": self.over,
            "slots": self.slots,
            "rho": self.rho,
            "gone": predictions.listed(self.gone),
            "read_off": {
                name: predictions.read_off_dict(self.ratios, curves) for name, curves in self.observed.items()
            },
            "predicted": predictions.predicted_dict(
                self.ratios, {name: (made, self.target(name)) for name, made in self.predicted.items()}
            ),
            "effective_slots": predictions.listed(self.effective_slots()),
        }


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """One policy on both head axes, its reach, and the cliffs that its code builds in.

    Attributes
    ----------
    policy, scorer : str
    axes : dict of head axis to AxisComparison
    cliffs : dict of str to float
    reach : list of ReachComparison
        Empty where the traces hold no graphs.
    measured : Failure or None
        Where answers fail; None where that was not measured.
    """

    policy: str
    scorer: str
    axes: dict[str, AxisComparison]
    cliffs: dict[str, float] = field(default_factory=dict)
    reach: list[ReachComparison] = field(default_factory=list)
    measured: Failure | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`."""

    model: str
    n_prompts: int
    n_context: tuple[int, int]
    ratios: Curve
    seed: int
    policies: dict[str, PolicyComparison]
    eps: tuple[float, ...] = EPS
    question_aware: bool = False
    has_measured: bool = False

    @property
    def has_reach(self) -> bool:
        """Whether the traces hold the graphs that reach is read off from."""
        return any(found.reach for found in self.policies.values())

    def _repr_html_(self) -> str:
        return measured_compare.to_html(self.policies.values())

    def plot(self) -> Figure:
        """Draw every policy, a row each."""
        from routegraph.validate.figures import plot_comparisons

        return plot_comparisons(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready values."""
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                "model": self.model,
                "prompts": self.n_prompts,
                "n_context": list(self.n_context),
                "ratios": predictions.listed(self.ratios),
                "policies": list(self.policies),
                "replicates": draws_per_prompt(self.n_prompts // 2),
                "eps": list(self.eps),
                "queries": QUERIES,
                "question_aware": self.question_aware,
            },
            "definitions": DEFINITIONS,
            "results": [
                {
                    "policy": found.policy,
                    "scorer": found.scorer,
                    "structural_cliffs": found.cliffs,
                    "axes": [axis.to_dict() for axis in found.axes.values()],
                    "reach": [reach.to_dict() for reach in found.reach],
                    "measured": None if found.measured is None else found.measured.to_dict(found),
                }
                for found in self.policies.values()
            ],
        }


DEFINITIONS = {
    "ratio": "fraction of cache rows the policy is asked to remove",
    "gone": "fraction of evictable rows (not protected as sinks by the scorer) really gone from a slot",
    "all tokens": "eviction rate: fraction of all context tokens gone from every slot of the head axis",
    "answer tokens": "GER: the same over the tokens of the answer spans",
    "evictable tokens": "the same over tokens that no scorer protects, prompts held out from fitting",
    "head_axis": "model: gone from all layers * heads slots; layer: gone from all heads of a layer, averaged "
    "over layers",
    "sink": "protected rows (sinks) are out of 'evictable tokens' and of every prediction, in for 'all tokens'",
    "independent": "p**M with p = gone",
    "one factor": "Gaussian one-factor copula, rho fitted on the training half of the prompts at every other "
    "ratio",
    "measured copula": "Gaussian copula with the correlation of the slots' normal scores measured on the "
    "training half; nothing fitted to GER",
    "shifted copula": "the same for answer tokens, each slot's scores shifted by the mean normal score of the "
    "training half's answer tokens",
    "simulated": "drawn from what was fitted to the training half: scores from the field of profile 'trace', reads "
    "from the ensemble 'empirical', the same policy and protected rows; every simulated prompt has the length of a "
    "held-out one, and its answer tokens, shifted as the training half's are",
    "uniform": "the same policy and protected rows on the default ensemble: independent scores, every (layer, KV "
    "head, token) reads one key uniformly from its past",
    "reach": "fraction of tokens that a surviving route of reads heavier than eps joins to the last token of the "
    "prompt at the top layer; residual edges carry tokens down, sinks are in",
    "eps": "attention weight above which a read is an edge, in what is read off and in what is fitted",
    "prune": "columns: all tokens of the prompt are cache rows, an edge is gone when the slot it reads is dead; "
    f"decode: the last {QUERIES} tokens (a quarter of a shorter prompt) stand for the question, the rows before "
    "them are the cache, and only edges from those queries into dead slots are gone",
    "cavity": "mean field for independent slots and uniform reads, as many a (layer, KV head, token) as the training "
    "half makes; columns and all context tokens only",
    "minus_read_off": "predicted minus read-off half point, prompts resampled in pairs",
    "replicates": "simulated prompts for each held-out prompt",
    "rmse": f"over ratios {JUDGED[0]} to {JUDGED[1]} not used for fitting, against held-out prompts",
    "intervals": "95 %, bootstrap over prompts",
    **measured_compare.DEFINITIONS,
}


def compare(
    traces: Sequence[Trace],
    *,
    policy_names: Iterable[str] = POLICIES,
    ratios: Iterable[float] = RATIOS,
    eps: Iterable[float] = EPS,
    scorer: str | None = None,
    measured: Measured | str | os.PathLike[str] | None = None,
    weights: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Read GER, eviction rate and reach off traces and set theory and simulation beside them.

    Parameters
    ----------
    traces : sequence of Trace
        Prompts of one run, at least four; the first, third, ... are the training half: shuffle prompts that
        take turns in kind. Reach needs traces with graphs.
    policy_names : iterable of str
        Policies; "chunk" takes the score table made chunk by chunk.
    ratios : iterable of float
        Increasing compression ratios in [0, 1), at least four; every other one is held out from fitting.
    eps : iterable of float
        Thresholds of attention weight above which a read is an edge, in (0, 1).
    scorer : str, optional
        Whose scores, where the traces hold those of several; the first by default.
    measured : Measured or path, optional
        What `routegraph measure` found of the same model, or its folder: where answers fail.
    weights : str, optional
        Fingerprint of the traces' model, by which `measured` is checked; its name is without.
    seed : int
        Seed of the copula draws and of the simulation.

    Raises
    ------
    ValueError
        If there are too few prompts or ratios, an eps is out of range, a policy is unknown, the traces
        lack its scores, or `measured` is of another model or way of scoring.
    """
    grid = np.array(sorted(set(check_ratios(ratios))))
    if len(grid) < 4:
        raise ValueError(f"compare needs at least 4 ratios, got {len(grid)}")
    if len(traces) < 4:
        raise ValueError(f"compare needs at least 4 prompts (half of them are held out), got {len(traces)}")
    if len({trace.question is None for trace in traces}) > 1:
        raise ValueError("the traces are partly question-aware and partly not; compare them apart")
    thresholds = tuple(sorted(set(eps)))
    for threshold in thresholds:
        if not 0 < threshold < 1:
            raise ValueError(f"eps must be in (0, 1), got {threshold}")
    chosen = {name: scorer_of(traces[0], name, scorer) for name in dict.fromkeys(policy_names)}
    for trace in traces:
        for table in chosen.values():
            if table not in trace.scores:
                raise ValueError(f"prompt {trace.id!r} has no scores {table!r}")
    failures = {} if measured is None else measured_compare.failures(measured, traces, chosen, weights, seed)
    compared, models = {}, {}
    for name, table in chosen.items():
        compared[name], model = _compare_policy(traces, name, table, grid, seed)
        models[name] = (model, table)
    if thresholds and reach_compare.has_graphs(traces):
        reads = reach_compare.fit_reads(traces[::2], thresholds)
        reach = reach_compare.compare_reach(traces[1::2], reads, models, grid, seed)
        compared = {name: replace(found, reach=reach[name]) for name, found in compared.items()}
    compared = {name: replace(found, measured=failures.get(name)) for name, found in compared.items()}
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
    )


def _compare_policy(
    traces: Sequence[Trace], policy: str, scorer: str, ratios: Curve, seed: int
) -> tuple[PolicyComparison, ScoreModel]:
    read = [read_off(trace, policy, scorer, ratios.tolist()) for trace in traces]
    fitted = fit_scores(traces[::2], read[::2], policy, scorer)
    models = {"simulated": fitted, "uniform": uniform_scores(fitted)}
    simulated = {
        name: simulate_ger(model, traces[1::2], ratios.tolist(), seed) for name, model in models.items()
    }
    shape = (traces[0].n_layers, traces[0].n_heads)
    axes = {}
    for over in AXES:
        axes[over] = _compare_axis(read, over, shape, ratios, seed)
        predicted = axes[over].predicted
        predicted |= {name: made["evictable"][over] for name, made in simulated.items()}
        if "answer tokens" in axes[over].observed:
            predicted |= {f"{name} answers": made["answers"][over] for name, made in simulated.items()}
    return PolicyComparison(policy, scorer, axes, structural_cliffs(traces, scorer)), fitted


def _compare_axis(
    read: list[ReadOff], over: str, shape: tuple[int, int], ratios: Curve, seed: int
) -> AxisComparison:
    """Read one head axis off all prompts, with the theories for the held-out ones."""
    training, held_out = read[::2], read[1::2]
    n_layers, n_heads = shape
    groups = (
        [slice(None)]
        if over == "model"
        else [slice(i, i + n_heads) for i in range(0, n_layers * n_heads, n_heads)]
    )
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
    correlation = theory.slot_correlation([prompt.normal_scores for prompt in training])
    predicted = {
        "independent": Prediction(theory.independent(gone, slots)),
        "one factor": Prediction(theory.one_factor(gone.ravel(), slots, rho).reshape(gone.shape)),
        "measured copula": _copula(correlation, held_out, groups, None, seed),
    }
    answer_scores = np.concatenate([prompt.answer_scores for prompt in training], axis=1)
    if answer_scores.shape[1] and asked:
        predicted["shifted copula"] = _copula(correlation, asked, groups, answer_scores.mean(axis=1), seed)
    else:
        del observed["answer tokens"], observed["answer tokens, held out"]
    return AxisComparison(over, slots, ratios, gone.mean(axis=0), observed, predicted, rho)


def _answered(read: list[ReadOff], over: str) -> Curve:
    return np.array([prompt.answers[over] for prompt in read if not np.isnan(prompt.answers[over]).any()])


def _copula(
    correlation: Curve, prompts: list[ReadOff], groups: list[slice], shift: Curve | None, seed: int
) -> Prediction:
    """Predict each held-out prompt at its own fractions gone, averaged over groups of slots."""
    gone = np.concatenate([prompt.gone for prompt in prompts], axis=1)
    curves, errors = [], []
    for number, group in enumerate(groups):
        estimate = theory.gaussian_copula(
            correlation[group, group],
            gone[group],
            shift=0.0 if shift is None else shift[group],
            draws=40_000 if len(groups) == 1 else 10_000,
            seed=seed + number,
        )
        curves.append(estimate.mean.reshape(len(prompts), -1))
        # Prompts share the draws, so their errors do not average out; groups do not share them.
        errors.append(estimate.stderr.reshape(len(prompts), -1).mean(axis=0))
    stderr = np.sqrt(np.sum(np.square(errors), axis=0)) / len(groups)
    return Prediction(np.mean(curves, axis=0), stderr)

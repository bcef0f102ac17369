"""`compare`: what eviction does to a real model's tokens, beside theory and simulation.

Half of the prompts (the training half: every other one) may be used for fitting; every prediction is
judged on the other half. No theory sees the curve it is judged on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.sim.observables import observables
from routegraph.sim.simulation import simulate
from routegraph.survival import AXES, check_ratios
from routegraph.theory import ger as theory
from routegraph.theory.scaling import Interval, half_point
from routegraph.trace import Trace
from routegraph.validate.readoff import ReadOff, read_off, scorer_of, structural_cliffs

Curve = NDArray[np.float64]

#: Ratios at which everything is read off by default, dense where things happen.
RATIOS = tuple(np.round(np.concatenate([np.arange(0.05, 0.6, 0.05), np.arange(0.6, 0.995, 0.01)]), 4))
#: Theories are judged between these ratios: below nothing is lost, above few rows are left.
JUDGED = (0.6, 0.98)
#: Policies compared by default; each takes the score table made for it.
POLICIES = ("topk", "adakv", "chunk")
#: Simulated replicates behind the column "simulated".
REPLICATES = 64


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted curve: mean float64[n_ratios], standard error where it was drawn, None where exact."""

    mean: Curve
    stderr: Curve | None = None


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
        For the evictable tokens of the held-out prompts; "shifted copula" for their answer tokens.
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
        return self.observed["answer tokens, held out" if name == "shifted copula" else "evictable tokens"]

    def judged(self) -> NDArray[np.bool_]:
        """Return the ratios theories are judged on: inside `JUDGED` and not used for fitting rho."""
        inside = (self.ratios >= JUDGED[0] - 1e-9) & (self.ratios <= JUDGED[1] + 1e-9)
        held_out = np.arange(len(self.ratios)) % 2 == 1
        return np.asarray(inside & held_out)

    def rmse(self, name: str) -> float:
        """Return the root mean square difference of a prediction over the judged ratios."""
        difference = self.predicted[name].mean - self.target(name).mean(axis=0)
        return float(np.sqrt(np.mean(difference[self.judged()] ** 2)))

    def half(self, name: str) -> Interval:
        """Return the half point of an observed curve, bootstrapped over prompts, or of a prediction."""
        if name in self.observed:
            return half_point(self.ratios, self.observed[name])
        return half_point(self.ratios, self.predicted[name].mean[None])

    def difference(self, name: str) -> Interval:
        """Return the predicted minus the read-off half point, with the read-off's interval carried over."""
        read = half_point(self.ratios, self.target(name))
        value = self.half(name).value
        return Interval(value - read.value, value - read.high, value - read.low)

    def effective_slots(self) -> Curve:
        """Return M_eff = ln GER / ln p of the evictable tokens at each ratio, NaN where undefined."""
        return theory.effective_slots(self.observed["evictable tokens"].mean(axis=0), self.gone)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; NaN becomes null."""
        return {
            "head_axis": self.over,
            "slots": self.slots,
            "rho": self.rho,
            "gone": _listed(self.gone),
            "read_off": {
                name: {
                    "mean": _listed(curves.mean(axis=0)),
                    "stderr": _listed(_stderr(curves)),
                    "prompts": len(curves),
                    "half_point": _interval(self.half(name)),
                }
                for name, curves in self.observed.items()
            },
            "predicted": {
                name: {
                    "mean": _listed(prediction.mean),
                    "stderr": None if prediction.stderr is None else _listed(prediction.stderr),
                    "half_point": _interval(self.half(name)),
                    "minus_read_off": _interval(self.difference(name)),
                    "rmse": self.rmse(name),
                }
                for name, prediction in self.predicted.items()
            },
            "effective_slots": _listed(self.effective_slots()),
        }


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """One policy on both head axes, with the cliffs that its code builds in."""

    policy: str
    scorer: str
    axes: dict[str, AxisComparison]
    cliffs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`."""

    model: str
    n_prompts: int
    n_context: tuple[int, int]
    ratios: Curve
    seed: int
    policies: dict[str, PolicyComparison]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready values."""
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                "model": self.model,
                "prompts": self.n_prompts,
                "n_context": list(self.n_context),
                "ratios": _listed(self.ratios),
                "policies": list(self.policies),
                "replicates": REPLICATES,
            },
            "definitions": DEFINITIONS,
            "results": [
                {
                    "policy": found.policy,
                    "scorer": found.scorer,
                    "structural_cliffs": found.cliffs,
                    "axes": [axis.to_dict() for axis in found.axes.values()],
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
    "simulated": "simulate with the fitted rho, one-factor scores, at the same fraction gone",
    "rmse": f"over ratios {JUDGED[0]} to {JUDGED[1]} not used for fitting, against held-out prompts",
    "intervals": "95 %, bootstrap over prompts",
}


def compare(
    traces: Sequence[Trace],
    *,
    policy_names: Iterable[str] = POLICIES,
    ratios: Iterable[float] = RATIOS,
    seed: int = 0,
) -> Comparison:
    """Read GER and eviction rate off traces and set theory and simulation beside them.

    Parameters
    ----------
    traces : sequence of Trace
        Prompts of one run, at least four.
    policy_names : iterable of str
        Policies; "chunk" takes the score table made chunk by chunk.
    ratios : iterable of float
        Increasing compression ratios in [0, 1), at least four; every other one is held out from fitting.
    seed : int
        Seed of the copula draws and of the simulation.

    Raises
    ------
    ValueError
        If there are too few prompts or ratios, a policy is unknown, or the traces lack its scores.
    """
    grid = np.array(sorted(set(check_ratios(ratios))))
    if len(grid) < 4:
        raise ValueError(f"compare needs at least 4 ratios, got {len(grid)}")
    if len(traces) < 4:
        raise ValueError(f"compare needs at least 4 prompts (half of them are held out), got {len(traces)}")
    chosen = {name: scorer_of(traces[0], name) for name in dict.fromkeys(policy_names)}
    for trace in traces:
        for scorer in chosen.values():
            if scorer not in trace.scores:
                raise ValueError(f"prompt {trace.id!r} has no scores {scorer!r}")
    lengths = [trace.n_context for trace in traces]
    return Comparison(
        model=traces[0].model,
        n_prompts=len(traces),
        n_context=(min(lengths), max(lengths)),
        ratios=grid,
        seed=seed,
        policies={name: _compare_policy(traces, name, scorer, grid, seed) for name, scorer in chosen.items()},
    )


def _compare_policy(
    traces: Sequence[Trace], policy: str, scorer: str, ratios: Curve, seed: int
) -> PolicyComparison:
    read = [read_off(trace, policy, scorer, ratios.tolist()) for trace in traces]
    shape = (traces[0].n_layers, traces[0].n_heads)
    axes = {over: _compare_axis(read, over, shape, ratios, seed) for over in AXES}
    return PolicyComparison(policy, scorer, axes, structural_cliffs(traces, scorer))


def _compare_axis(
    read: list[ReadOff], over: str, shape: tuple[int, int], ratios: Curve, seed: int
) -> AxisComparison:
    training, held_out = read[::2], read[1::2]
    n_layers, n_heads = shape
    groups = (
        [slice(None)]
        if over == "model"
        else [slice(i, i + n_heads) for i in range(0, n_layers * n_heads, n_heads)]
    )
    slots = n_layers * n_heads if over == "model" else n_heads
    observed = {
        "all tokens": np.array([prompt.everything[over] for prompt in read]),
        "answer tokens": _answered(read, over),
        "evictable tokens": np.array([prompt.evictable[over] for prompt in held_out]),
        "answer tokens, held out": _answered(held_out, over),
    }
    gone = np.array([prompt.gone.mean(axis=0) for prompt in held_out])
    rho = theory.fit_one_factor(
        np.concatenate([prompt.gone.mean(axis=0)[::2] for prompt in training]),
        np.concatenate([prompt.evictable[over][::2] for prompt in training]),
        slots,
    )
    correlation = theory.slot_correlation([prompt.normal_scores for prompt in training])
    predicted = {
        "independent": Prediction(theory.independent(gone, slots).mean(axis=0)),
        "one factor": Prediction(
            theory.one_factor(gone.ravel(), slots, rho).reshape(gone.shape).mean(axis=0)
        ),
        "measured copula": _copula(correlation, held_out, groups, None, seed),
        "simulated": _simulated(held_out, gone, over, shape, rho, seed),
    }
    answer_scores = np.concatenate([prompt.answer_scores for prompt in training], axis=1)
    if answer_scores.shape[1] and len(observed["answer tokens, held out"]):
        shift = answer_scores.mean(axis=1)
        predicted["shifted copula"] = _copula(correlation, held_out, groups, shift, seed)
    else:
        del observed["answer tokens"], observed["answer tokens, held out"]
    return AxisComparison(over, slots, ratios, gone.mean(axis=0), observed, predicted, rho)


def _answered(read: list[ReadOff], over: str) -> Curve:
    curves = [prompt.answers[over] for prompt in read if not np.isnan(prompt.answers[over]).any()]
    return np.array(curves)


def _copula(
    correlation: Curve, prompts: list[ReadOff], groups: list[slice], shift: Curve | None, seed: int
) -> Prediction:
    """Predict each held-out prompt at its own fractions gone, averaged over prompts and groups of slots."""
    gone = np.concatenate([prompt.gone for prompt in prompts], axis=1)
    means, errors = [], []
    for number, group in enumerate(groups):
        estimate = theory.gaussian_copula(
            correlation[group, group],
            gone[group],
            shift=0.0 if shift is None else shift[group],
            draws=40_000 if len(groups) == 1 else 10_000,
            seed=seed + number,
        )
        means.append(estimate.mean.reshape(len(prompts), -1).mean(axis=0))
        # Prompts share the draws, so their errors do not average out; groups do not share them.
        errors.append(estimate.stderr.reshape(len(prompts), -1).mean(axis=0))
    stderr = np.sqrt(np.sum(np.square(errors), axis=0)) / len(groups)
    return Prediction(np.mean(means, axis=0), stderr)


def _simulated(
    prompts: list[ReadOff], gone: Curve, over: str, shape: tuple[int, int], rho: float, seed: int
) -> Prediction:
    """Simulate one-factor scores of the fitted rho and read them at the fractions really gone."""
    n_tokens = int(np.median([prompt.normal_scores.shape[1] for prompt in prompts]))
    run = simulate(
        n_tokens,
        0.0,
        n_layers=shape[0],
        n_heads=shape[1],
        score_correlation=rho,
        n_answers=1,
        replicates=REPLICATES,
        seed=seed,
    )
    levels = np.rint(gone.mean(axis=0) * n_tokens).astype(np.int64)
    name = "eviction_rate" if over == "model" else "eviction_rate_layer"
    curves = observables[name](run.samples[0], levels)
    return Prediction(curves.mean(axis=0), _stderr(curves))


def _stderr(curves: Curve) -> Curve:
    if len(curves) < 2:
        return np.full(curves.shape[1], np.nan)
    return np.asarray(curves.std(axis=0, ddof=1) / np.sqrt(len(curves)))


def _listed(values: Curve) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _interval(found: Interval) -> dict[str, float | None]:
    return {key: None if np.isnan(value) else float(value) for key, value in found._asdict().items()}

"""What `compare` fits to the training half of the prompts, and the simulations drawn from it.

A `ScoreModel` holds how a policy's scores go together (the field of `--profile trace`) and how the heads of a
layer compete; `ReadStatistics` of the `empirical` ensemble hold where the heads read. Both are drawn
independently of each other: that a head reads what its policy keeps is not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routegraph.choices import AXES
from routegraph.graph import TokenGraph
from routegraph.kernels import rng
from routegraph.policies.base import eviction_order
from routegraph.sim.ensembles import ensembles
from routegraph.sim.ensembles.base import join
from routegraph.sim.ensembles.empirical import ReadStatistics, resample_reads
from routegraph.sim.fields import Field, fit_field
from routegraph.stats.intervals import standard_error
from routegraph.theory.ger import normal_scores, slot_correlation, square_root
from routegraph.trace import Trace
from routegraph.validate.compare.copulas import fit_answers
from routegraph.validate.compare.prediction import Curve, Prediction
from routegraph.validate.eviction import Eviction, Fates
from routegraph.validate.traces.read_off import ReadOff, tokens_gone

#: Simulated prompts in all, at least two for each held-out prompt.
DRAWS = 64
#: Points at which the marginal of each slot's scores is kept.
_QUANTILES = 512


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """The scores that a policy goes by, on a prompt of any length.

    Attributes
    ----------
    field : Field
        Correlation of the slots' normal scores.
    marginals : float64[n_layers * n_heads, n_quantiles] or None
        Quantiles of each slot's scores in units that the heads of a layer share (normal scores of the order over
        the whole layer), for policies that let heads compete; None: all slots alike.
    shift : float64[n_layers * n_heads]
        Mean normal score of the answer tokens, slot by slot; 0 without answers.
    n_heads : int
        KV heads a layer.
    root : float64[n_layers * n_heads, n_layers * n_heads] or None
        Times its transpose: covariance of the answer tokens' normal scores; None: they go together as all tokens do.
    """

    field: Field
    marginals: Curve | None
    shift: Curve
    n_heads: int
    root: Curve | None = None

    def draw(
        self,
        generator: np.random.Generator,
        eviction: Eviction,
        answers: NDArray[np.int64],
        ratios: Sequence[float],
    ) -> Fates:
        """Draw scores in the place of an eviction's own, the answer tokens' apart, and evict as it does."""
        from scipy.special import ndtr

        protected = eviction.protected
        scores = self.field.draw(generator, self.n_heads, len(protected)).astype(float)
        slots = scores.reshape(-1, len(protected))
        if self.root is not None:
            slots[:, answers] = self.root @ generator.standard_normal((len(slots), len(answers)))
        slots[:, answers] += self.shift[:, None]
        if self.marginals is not None:
            grid = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
            for slot, quantiles in zip(slots, self.marginals, strict=True):
                # The small part keeps rows beyond the outermost quantiles in order.
                slot[:] = np.interp(ndtr(slot), grid, quantiles) + 1e-6 * slot
        slots[:, protected] = slots.max() + 1
        return eviction.method.fates(scores, ratios, seed=int(generator.integers(2**63)))


def fit_scores(
    training: Sequence[Trace], evictions: Sequence[Eviction], read: Sequence[ReadOff]
) -> ScoreModel:
    """Fit a policy's scores to training prompts.

    Parameters
    ----------
    training : sequence of Trace
        Prompts that may be used for fitting.
    evictions : sequence of Eviction
        Of each of them.
    read : sequence of ReadOff
        What it does to each.
    """
    first = training[0]
    correlation = slot_correlation([prompt.normal_scores for prompt in read])
    answers = fit_answers(read)
    pooled = []
    for eviction in evictions:
        table = eviction.scores[..., ~eviction.protected]
        ranks = eviction_order(table.reshape(len(table), -1))
        pooled.append(normal_scores(ranks).reshape(len(correlation), -1))
    grid = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return ScoreModel(
        field=fit_field(correlation, first.n_heads),
        marginals=np.quantile(np.concatenate(pooled, axis=1), grid, axis=1).T,
        shift=np.zeros(len(correlation)) if answers is None else answers.mean,
        n_heads=first.n_heads,
        root=None if answers is None else answers.spread[:, None] * square_root(answers.correlation),
    )


def uniform_scores(fitted: ScoreModel) -> ScoreModel:
    """Return the baseline: the same policy and protected rows on independent scores, every token alike."""
    field = Field(np.zeros_like(fitted.field.in_layer))
    return replace(fitted, field=field, marginals=None, shift=np.zeros_like(fitted.shift), root=None)


def draws_per_prompt(n_prompts: int) -> int:
    """Return how many simulated prompts stand beside each held-out one."""
    return max(2, -(-DRAWS // n_prompts))


def simulate_ger(
    model: ScoreModel,
    held_out: Sequence[Trace],
    evictions: Sequence[Eviction],
    ratios: Sequence[float],
    seed: int,
) -> dict[str, dict[str, Prediction]]:
    """Simulate, for each held-out prompt, tokens gone from all slots.

    Returns
    -------
    dict of "evictable" / "answers" to dict of head axis to Prediction
        A simulated prompt has the length and the protected rows of the held-out one, and its answer tokens where
        that has them;
        "answers" covers the prompts that have answers only.
    """
    repeats = draws_per_prompt(len(held_out))
    evictable: dict[str, list[Curve]] = {over: [] for over in AXES}
    answered: dict[str, list[Curve]] = {over: [] for over in AXES}
    for number, (trace, eviction) in enumerate(zip(held_out, evictions, strict=True)):
        free = ~eviction.protected
        fates = [
            model.draw(scores_generator(seed, number, repeat), eviction, trace.answer, ratios)
            for repeat in range(repeats)
        ]
        for over in AXES:
            for tokens, curves in ((free, evictable), (trace.answer, answered)):
                if len(trace.answer) or tokens is free:
                    gone = [tokens_gone(one, over, tokens) for one in fates]
                    curves[over].append(np.mean(gone, axis=0))
    return {
        "evictable": {over: drawn(np.array(curves)) for over, curves in evictable.items()},
        "answers": {over: drawn(np.array(curves)) for over, curves in answered.items() if curves},
    }


def drawn(curves: Curve) -> Prediction:
    """Return simulated curves, one a prompt, with the standard error of their mean."""
    return Prediction(curves, standard_error(curves))


def scores_generator(seed: int, prompt: int, repeat: int) -> np.random.Generator:
    """Return the generator of one simulated prompt's scores."""
    return rng.generator(rng.seed_sequence(seed, prompt, repeat), rng.SCORES)


def draw_reads(
    statistics: ReadStatistics | None,
    shape: tuple[int, int],
    n_tokens: int,
    seed: int,
    prompt: int,
    repeat: int,
) -> TokenGraph:
    """Draw a read graph from the `empirical` ensemble, or from `uniform` where no statistics are given.

    Parameters
    ----------
    statistics : ReadStatistics or None
        Fitted to training graphs.
    shape : (int, int)
        Layers, KV heads.
    n_tokens : int
        Positions.
    seed, prompt, repeat : int
        Name the random numbers.
    """
    n_layers, n_heads = shape
    key, _ = rng.keys(rng.seed_sequence(seed, prompt, repeat))
    layers = []
    for layer in range(1, n_layers + 1):
        if statistics is None:
            edges = ensembles["uniform"](key, layer, n_tokens=n_tokens, n_heads=n_heads, degree=1)
        else:
            edges = resample_reads(statistics, key, layer, n_tokens=n_tokens, n_heads=n_heads)
        layers.append(edges)
    return join(layers, None, n_heads, n_tokens, n_tokens)

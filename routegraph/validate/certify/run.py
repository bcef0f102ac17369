"""`certify`: the ratio to deploy, with a guarantee, from answers that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from routegraph.options import check_whole
from routegraph.stats.bootstrap import interval
from routegraph.stats.certified import check_share, fixed_sequence, holm, p_values, sign_flips, trials_needed
from routegraph.validate.certify.result import Certificate, Certified, Pair
from routegraph.validate.graders.words import normalise, statement
from routegraph.validate.measure.answers import Answers
from routegraph.validate.predict.forecast import Forecast, dialled

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: What counts as harm: a right answer is right no more; a reply states something else than with the full cache.
AGAINST = ("gold", "own")
#: Thresholds of the dial: how much of its support a reply may lose.
THRESHOLDS = np.round(np.arange(0.0, 1.0001, 0.01), 2)
_RESAMPLES = 1000


def certify(
    measured: Answers,
    predicted: Forecast | None = None,
    *,
    policy_names: Sequence[str] | None = None,
    risk: float = 0.05,
    confidence: float = 0.9,
    against: str = "gold",
    tokens: int = 0,
    row_bytes: int = 0,
    seed: int = 0,
) -> Certificate:
    """Return the largest ratios, by policy, at which few answers break, with a guarantee.

    Parameters
    ----------
    measured : Answers
        Of prompts that are like those to come: the guarantee is for prompts drawn as these were.
    predicted : Forecast, optional
        Of the same prompts: then a *dial* is certified, too, which takes for every prompt the largest ratio up to which
        no more of its support is lost than a threshold.
    policy_names : sequence of str, optional
        Those to choose from; all that were measured by default. Fewer leave more of the confidence to each.
    risk : float
        Share of prompts that may break, in (0, 1).
    confidence : float
        Chance that the guarantee holds, in (0, 1).
    against : {"gold", "own"}
        "gold": a prompt breaks where its answer is right at ratio 0 and not right at the setting; "own": where the
        reply states something else than with the full cache, for which no answers are needed.
    tokens, row_bytes : int
        Length of a context of which to say how much cache is left, and what the model's cache takes for each token:
        see `cache_row`.
    seed : int
        Of the comparison of policies.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If a number is out of range, `against` or a policy is unknown, no answer is right at ratio 0 under "gold",
        budgets were measured in place of ratios, or what is predicted is of another model or lacks a prompt, policy or
        ratio.
    """
    check_share("risk", risk)
    check_share("confidence", confidence)
    check_whole("tokens", tokens, 0)
    if against not in AGAINST:
        raise ValueError(f"unknown harm {against!r}; choose from: {', '.join(AGAINST)}")
    if measured.keep:
        raise ValueError("budgets of rows were measured, and a guarantee is for ratios; measure ratios")
    if len(measured.ratios) < 2:
        raise ValueError("only ratio 0 was measured; there is nothing to certify")
    chosen = list(dict.fromkeys(policy_names or measured.policies))
    for name in chosen:
        if name not in measured.policies:
            raise ValueError(f"policy {name!r} was not measured; choose from: {', '.join(measured.policies)}")
    harm = harmed(measured, against)
    lost = None if predicted is None else _lost(measured, predicted, chosen)
    level = (1 - confidence) / (len(chosen) * (1 if lost is None else 2))
    rows = []
    for k, name in enumerate(chosen):
        place = measured.place_of(name)
        rows.append(_single(name, measured.ratios, harm[:, place], risk, level))
        if lost is not None:
            rows.append(_dial(name, measured.ratios, harm[:, place], lost[:, k], risk, level))
    return Certificate(
        model=str(measured.settings["model"]),
        prompts=len(harm),
        right=int(measured.right[:, 0, 0].sum()),
        against=against,
        risk=risk,
        confidence=confidence,
        needed=trials_needed(risk, level),
        rows=tuple(rows),
        pairs=compared(measured, chosen, seed),
        tokens=tokens,
        row_bytes=row_bytes,
    )


def harmed(measured: Answers, against: str) -> Flags:
    """Return which prompts break under every policy and ratio, bool[n_items, n_policies, n_ratios].

    Raises
    ------
    ValueError
        If no prompt has an answer under "gold".
    """
    if against == "gold":
        if not measured.right[:, 0, 0].any():
            raise ValueError(
                "no answer is right at ratio 0, so that none can break; certify against 'own', or ask what the model "
                "knows"
            )
        return np.asarray(measured.fails)
    shape = measured.right.shape
    said = np.array([[normalise(statement(text)) for text in texts] for texts in measured.replies]).reshape(
        shape
    )
    return np.asarray(said != said[:, :, :1])


def compared(measured: Answers, policies: Sequence[str], seed: int = 0) -> tuple[Pair, ...]:
    """Return every pair of policies beside each other, on the same items right at ratio 0.

    The difference is that of the shares still right, mean over the ratios above 0; 95 % by bootstrap over items,
    p-values by random signs, corrected for the number of pairs (Holm).
    """
    right = measured.right[measured.right[:, 0, 0]][:, :, 1:].mean(axis=2)
    pairs = list(combinations(policies, 2))
    if len(right) < 2 or not pairs:
        return ()
    apart = [right[:, measured.place_of(one)] - right[:, measured.place_of(two)] for one, two in pairs]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(right), np.full(len(right), 1 / len(right)), size=_RESAMPLES) / len(right)
    corrected = holm([sign_flips(values, seed=seed) for values in apart])
    return tuple(
        Pair(one, two, interval(np.append(values.mean(), weights @ values)), float(p))
        for (one, two), values, p in zip(pairs, apart, corrected, strict=True)
    )


def _single(name: str, ratios: Floats, harm: Flags, risk: float, level: float) -> Certified:
    """Certify one ratio for all prompts."""
    counts = harm.sum(axis=0)
    values = p_values(counts, len(harm), risk)
    last = fixed_sequence(values[1:], level)  # ratio 0 breaks nothing and need not be tested
    mean = float(ratios[last]) if last else 0.0
    return Certified(name, False, ratios, ratios, counts, values, last, mean)


def _dial(name: str, ratios: Floats, harm: Flags, lost: Floats, risk: float, level: float) -> Certified:
    """Certify a threshold of support lost, by which every prompt takes its own ratio."""
    taken = dialled(lost, THRESHOLDS)
    counts = np.take_along_axis(harm, taken.T, axis=1).sum(axis=0)
    values = p_values(counts, len(harm), risk)
    means = ratios[taken].mean(axis=1)
    first = int((means == 0).sum())  # thresholds at which nothing is evicted need not be tested
    passed = fixed_sequence(values[first:], level)
    last = first - 1 + passed if passed else 0
    return Certified(
        name, True, THRESHOLDS, means, counts, values, last, float(means[last]) if passed else 0.0
    )


def _lost(measured: Answers, predicted: Forecast, chosen: Sequence[str]) -> Floats:
    """Return support lost of the measured prompts, float64[n_items, n_chosen, n_ratios]; inf of empty replies."""
    if predicted.settings.get("weights") != measured.settings.get("weights"):
        raise ValueError("what was measured and what is predicted are of two models; certify one")
    ids = {name: i for i, name in enumerate(predicted.ids)}
    missing = [name for name in measured.ids if name not in ids]
    if missing:
        raise ValueError(f"prompt {missing[0]!r} was measured and not predicted; predict the same prompts")
    for name in chosen:
        if name not in predicted.policies:
            raise ValueError(f"policy {name!r} was measured and not predicted; predict it, or leave it out")
    known = predicted.ratios.tolist()
    for ratio in measured.ratios:
        if ratio not in known:
            raise ValueError(f"ratio {ratio:g} was measured and not predicted; predict the same ratios")
    items = [ids[name] for name in measured.ids]
    places = [predicted.policies.index(name) for name in chosen]
    lost = predicted.lost[np.ix_(items, places, [known.index(ratio) for ratio in measured.ratios])]
    lost = np.where(np.isnan(lost), np.inf, lost)
    lost[..., 0] = 0.0
    return np.asarray(lost)

"""`certify`: the ratio to deploy, with a guarantee, from answers that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.options import check_whole
from routegraph.stats.certified import check_share, fixed_sequence, p_values, trials_needed
from routegraph.validate.certify.memory import cache_row_at_hand
from routegraph.validate.certify.result import Certificate, Certified
from routegraph.validate.graders.words import normalise, statement
from routegraph.validate.measure.answers import Answers
from routegraph.validate.measure.pairs import areas, compared
from routegraph.validate.predict.forecast import Forecast, dialled

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: What counts as harm: a right answer is right no more; a reply states something else than with the full cache.
AGAINST = ("gold", "own")
#: Thresholds of the dial: how much a reply may lose, see `Forecast.lost`.
THRESHOLDS = np.round(np.arange(0.0, 1.0001, 0.01), 2)


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
        its reply loses no more than a threshold.
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
        Length of a context of which to say how much cache is left, by default the mean of those measured, and what the
        model's cache takes for each token, by default as far as that is known without asking anybody: see `cache_row`.
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
    check_against(against)
    measured.check_unrounded("certify")
    if measured.keep:
        raise ValueError("budgets of rows were measured, and a guarantee is for ratios; measure ratios")
    if len(measured.ratios) < 2:
        raise ValueError("only ratio 0 was measured; there is nothing to certify")
    chosen = list(dict.fromkeys(policy_names or measured.policies))
    for name in chosen:
        if name not in measured.policies:
            raise ValueError(f"policy {name!r} was not measured; choose from: {', '.join(measured.policies)}")
    harm = harmed(measured, against)
    spent = None if predicted is None else _spent(measured, predicted, chosen)
    level = (1 - confidence) / (len(chosen) * (1 if spent is None else 2))
    rows = []
    for k, name in enumerate(chosen):
        place = measured.place_of(name)
        own, ratios = harm[:, place], measured.ratios
        rows.append(_certified(name, False, ratios, own, ratios, risk, level))
        if spent is not None:
            dial_harm, taken = by_dial(own, spent[:, k], ratios)
            rows.append(_certified(name, True, THRESHOLDS, dial_harm, taken.mean(axis=0), risk, level))
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
        areas={name: area for name, area in areas(measured, seed).items() if name in chosen},
        tokens=tokens or round(float(measured.n_context.mean())),
        row_bytes=row_bytes or cache_row_at_hand(measured.settings),
        seed=seed,
        setup=None if predicted is None else _setup(measured, predicted),
        loses="support" if predicted is None else predicted.what,
    )


def check_against(against: str) -> None:
    """Raise ValueError unless it is known what counts as harm."""
    if against not in AGAINST:
        raise ValueError(f"unknown harm {against!r}; choose from: {', '.join(AGAINST)}")


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


def last_certified(
    counts: NDArray[np.int64], trials: int, means: Floats, risk: float, level: float
) -> int | None:
    """Return the place of the last setting that is certified; None where none is that evicts anything.

    Parameters
    ----------
    counts : int64[n_settings]
        Prompts that break at each setting, from the safest on.
    trials : int
        Prompts.
    means : float64[n_settings]
        Mean ratio of each; where it is 0 nothing breaks, and nothing need be tested.
    risk, level : float
    """
    first = int((means == 0).sum())
    passed = fixed_sequence(p_values(counts[first:], trials, risk), level)
    return first + passed - 1 if passed else None


def by_dial(harm: Flags, spent: Floats, ratios: Floats) -> tuple[Flags, Floats]:
    """Return who breaks at every threshold of the dial, and the ratio each prompt takes, [n_items, n_thresholds].

    Parameters
    ----------
    harm : bool[n_items, n_ratios]
    spent : float64[n_items, n_ratios]
        See `Forecast.spent`.
    ratios : float64[n_ratios]
    """
    taken = dialled(spent, THRESHOLDS).T
    return np.take_along_axis(harm, taken, axis=1), ratios[taken]


def _certified(
    name: str, dial: bool, settings: Floats, harm: Flags, means: Floats, risk: float, level: float
) -> Certified:
    """Certify one policy; `harm`: at every setting, bool[n_items, n_settings]."""
    counts = harm.sum(axis=0)
    last = last_certified(counts, len(harm), means, risk, level)
    values = p_values(counts, len(harm), risk)
    ratio = 0.0 if last is None else float(means[last])
    return Certified(name, dial, settings, means, counts, values, last or 0, ratio)


#: Settings that say how prompts were asked; of the last one a dial knows only what evicts.
ASKED = (
    "dtype",
    "question_aware",
    "asked_again",
    "chat",
    "system",
    "ask",
    "prefix",
    "stop",
    "max_new_tokens",
    "chunk_length",
    "seed",
    "plugins",
)


def _setup(measured: Answers, predicted: Forecast) -> dict[str, Any]:
    """Return what a dial needs to be turned: see `Certificate.setup`."""
    ours, theirs = measured.settings, predicted.settings
    unlike = ""
    for name in ASKED[:-1]:
        if ours.get(name) != theirs.get(name):
            unlike = (
                f"prompts were measured with {name} {ours.get(name)!r} and predicted with {theirs.get(name)!r}; do "
                "both in one way"
            )
            break
    return {
        "weights": str(ours.get("weights", "")),
        "ratios": measured.ratios.tolist(),
        "predicted": predicted.ratios.tolist(),
        "asked": {name: theirs[name] for name in (*ASKED, "tries") if name in theirs},
        "unlike": unlike,
    }


def _spent(measured: Answers, predicted: Forecast, chosen: Sequence[str]) -> Floats:
    """Return what a dial goes by of the measured prompts, float64[n_items, n_chosen, n_ratios]."""
    predicted.check_same(measured)
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
    return np.asarray(
        predicted.spent[np.ix_(items, places, [known.index(ratio) for ratio in measured.ratios])]
    )

"""`probe`: whether a linear classifier still reads the answer's tag where generation fails.

A probe that does no better than one of the question's tokens alone proves nothing about the context: the question may
give the tag away. Where the context tells facts of several types, its cache alone cannot know which one is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.options import check_names, takes
from routegraph.validate.measure.item import Item, effort
from routegraph.validate.models.sources import Progress
from routegraph.validate.models.speed import expect
from routegraph.validate.plan import Plan
from routegraph.validate.probe import fit
from routegraph.validate.probe.features import Features, item_features, middle, stacked
from routegraph.validate.probe.fit import FOLDS, Probe, fit_probe
from routegraph.validate.probe.result import FEATURES, TARGETS, Probed, Row
from routegraph.validate.prompts.prompt import Prompt, counted_once
from routegraph.validate.prompts.verdict import normalise
from routegraph.validate.tasks import lexicon
from routegraph.validate.work import HERE, Work, in_order

PROBED_POLICIES = ("adakv", "chunk")
PROBED_RATIOS = (0.0, 0.5, 0.8, 0.9, 0.95)


#: Types of an answer that tasks tag their prompts with.
TYPES = ("person", "thing", "organization", "creature", "location", "number", "date", "event")


def labels_of(prompts: Sequence[Prompt], target: str | None = None) -> tuple[str, list[str | None]]:
    """Return the target, and the label of each prompt; None for a prompt that has none.

    Parameters
    ----------
    prompts : sequence of Prompt
    target : str, optional
        One of `TARGETS`; by default "type" where all answerable prompts are tagged with one, else "answer".

    Raises
    ------
    ValueError
        If the target is unknown, or no prompt has it.
    """
    if target is not None and target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; choose from: {', '.join(TARGETS)}")
    types = [
        lexicon.kind(prompt.answer)
        if "words" in prompt.tags
        else next((tag for tag in prompt.tags if tag in TYPES), None)
        for prompt in prompts
    ]
    known = [kind for kind, prompt in zip(types, prompts, strict=True) if prompt.answerable]
    chosen = target or ("type" if known and all(known) else "answer")
    if chosen == "answerable":
        return chosen, ["answerable" if prompt.answerable else "unanswerable" for prompt in prompts]
    made = types if chosen == "type" else [normalise(prompt.answer) or None for prompt in prompts]
    labels = [label if prompt.answerable else None for label, prompt in zip(made, prompts, strict=True)]
    if not any(labels):
        raise ValueError(f"no prompt has the target {chosen!r}; choose from: {', '.join(TARGETS)}")
    return chosen, labels


@takes(Plan)
def probe(
    model: Any,
    prompts: Sequence[Prompt],
    *,
    policy_names: Sequence[str] = PROBED_POLICIES,
    ratios: Sequence[float] = PROBED_RATIOS,
    target: str | None = None,
    work: Work = HERE,
    progress: Progress | None = None,
    **options: Any,
) -> Probed:
    """Fit linear probes to what is left at every policy and ratio, beside the accuracy of the same items.

    Parameters
    ----------
    model, prompts, policy_names, ratios, work, progress
        As in `measure`; a ratio of 0 is probed only where it is named.
    **options
        The seed is that of folds, bootstrap and labels dealt anew, too.
    target : str, optional
        See `labels_of`.

    Raises
    ------
    ValueError
        As `measure` does; if scikit-learn is missing, the target is unknown, or fewer than two labels are left that
        at least `fit.FOLDS` worlds have. All is checked before the first prompt is prefilled.
    """
    fit.check_sklearn()
    if not prompts:
        raise ValueError("at least one prompt is needed")
    check_names("probe", Plan, options)
    plan = Plan(policy_names, ratios, **options)
    prompts = counted_once(prompts)
    named, labels, counts, left_out = check_labels(prompts, target)
    worlds = fit.worlds(prompts)
    loaded = work.load(model, progress=progress)
    settings = {**plan.settings(loaded), "target": named, "middle_layer": middle(loaded.n_layers)}
    places = [number for number, label in enumerate(labels) if label in counts]
    items = [Item.read(loaded, prompts[number], plan) for number in places]
    expect(progress, loaded, [effort(item, plan) for item in items], len(items), work.workers)
    parts = in_order(
        loaded, item_features, [(item.prompt.id, (item, plan)) for item in items], work, progress
    )
    y = np.array([list(counts).index(str(labels[number])) for number in places])
    asked = bag_of_words([item.asked.question for item in items])
    features, groups = stacked(parts), worlds[places]
    question = fit_probe(asked, y, groups, seed=plan.seed)
    rows = fit_rows(features, y, groups, question, settings, progress)
    frequent = fit.most_frequent(y, groups).f1(plan.seed).value
    n_worlds = len(np.unique(groups))
    return Probed(settings, counts, left_out, rows, question.f1(plan.seed), frequent, len(y), n_worlds)


def fit_rows(
    features: Features,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    question: Probe,
    settings: dict[str, Any],
    progress: Progress | None = None,
) -> list[Row]:
    """Fit a probe to either kind of features under every policy and ratio; where two are equal, once."""
    seed, rows = settings["seed"], []
    variants = [(policy, ratio) for policy in settings["policies"] for ratio in settings["ratios"]]
    dealt = fit.shuffled(labels, groups, seed)
    known: dict[tuple[str, bytes], tuple[Probe, Probe]] = {}
    for number, (policy, ratio) in enumerate(variants):
        for kind in FEATURES:
            if progress:
                progress(len(FEATURES) * number, len(FEATURES) * len(variants), f"probe {policy} {ratio:g}")
            table = np.ascontiguousarray(getattr(features, kind)[:, number])
            key = (kind, hashlib.blake2b(table.tobytes(), digest_size=16).digest())
            if key not in known:
                known[key] = (
                    fit_probe(table, labels, groups, seed=seed),
                    fit_probe(table, dealt, groups, seed=seed),
                )
            right = int(features.right[:, number].sum())
            rows.append(Row.of(kind, policy, ratio, (*known[key], question), right, seed))
    return rows


def bag_of_words(questions: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return how often each token stands in each question, float64[n_questions, n_tokens_seen]."""
    seen = np.unique(np.concatenate(questions))
    return np.array([(question[:, None] == seen).sum(axis=0) for question in questions], dtype=np.float64)


def check_labels(
    prompts: Sequence[Prompt], target: str | None = None
) -> tuple[str, list[str | None], dict[str, int], dict[str, int]]:
    """Return target and labels as `labels_of` does, and how many prompts have the labels kept, and those left out.

    Raises
    ------
    ValueError
        As `labels_of` does; if fewer than two labels are of worlds enough to be told.
    """
    named, labels = labels_of(prompts, target)
    worlds = fit.worlds(prompts)
    kept: dict[str, int] = {}
    left_out: dict[str, int] = {}
    for label in sorted({label for label in labels if label is not None}):
        places = [number for number, own in enumerate(labels) if own == label]
        few = len(np.unique(worlds[places])) < FOLDS
        (left_out if few else kept)[label] = len(places)
    if len(kept) < 2:
        told = ", ".join(f"{label} {count}" for label, count in (kept | left_out).items())
        raise ValueError(
            f"a probe of {named!r} needs at least two labels of {FOLDS} worlds each, and the prompts have: "
            f"{told if len(told) < 120 else told[:120] + '...'}; take more prompts or another target"
        )
    return named, labels, kept, left_out

"""`probe`: whether a linear classifier still reads the answer's tag where generation fails.

A probe that does no better than one of the question's tokens alone proves nothing about the context: the question may
give the tag away. Where the context tells facts of several types, its cache alone cannot know which one is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.survival import check_ratios
from routegraph.theory.routes import wilson
from routegraph.theory.scaling import Interval
from routegraph.validate import probe_fit
from routegraph.validate.answers import normalise
from routegraph.validate.extract import CHUNK_LENGTH, checked_tables, fingerprint
from routegraph.validate.measure import MAX_NEW_TOKENS, Item, choose, tables_of
from routegraph.validate.models import load
from routegraph.validate.predictions import interval_dict
from routegraph.validate.probe_features import Features, item_features, middle, stacked
from routegraph.validate.probe_fit import FOLDS, INNER, STRENGTHS, Probe, fit_probe
from routegraph.validate.prompts import Prompt
from routegraph.validate.sources import Progress
from routegraph.validate.tasks import lexicon

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICIES = ("adakv", "chunk")
RATIOS = (0.0, 0.5, 0.8, 0.9, 0.95)
FEATURES = ("hidden", "cache")
#: Types of an answer that tasks tag their prompts with.
TYPES = ("person", "thing", "organization", "creature", "location", "number", "date", "event")
#: What a probe is to tell.
TARGETS = {
    "type": "type of the answer, by the prompt's tags; of tasks of words: which attribute it is a value of, or a name; "
    "answerable prompts only",
    "answer": "the answer itself; answerable prompts only",
    "answerable": "whether the context tells the answer; twins, where a task has them, ask the same, so that the "
    "question does not give it away",
}


@dataclass(frozen=True, eq=False)
class Row:
    """One kind of features under one policy and ratio.

    Attributes
    ----------
    features, policy : str
    ratio : float
    probe, chance : Probe
        Fitted to the labels; to labels dealt anew.
    right : int
        Replies that are right, of as many as there are items.
    """

    features: str
    policy: str
    ratio: float
    probe: Probe
    chance: Probe
    right: int

    def accuracy(self) -> Interval:
        """Return the share of right replies with Wilson's interval."""
        n = len(self.probe.labels)
        low, high = wilson(np.array([self.right]), np.array([n]))
        return Interval(self.right / n, float(low[0]), float(high[0]))


@dataclass(frozen=True, eq=False)
class Probed:
    """The result of `probe`.

    Attributes
    ----------
    settings : dict
    labels : dict of str to int
        Prompts of each label.
    left_out : dict of str to int
        Prompts of labels that too few worlds have.
    rows : list of Row
    question : Probe
        Of the tokens of the question and the answer prefix alone, counted.
    frequent : Probe
        Always the most frequent label.
    """

    settings: dict[str, Any]
    labels: dict[str, int]
    left_out: dict[str, int]
    rows: list[Row]
    question: Probe
    frequent: Probe

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        seed, question = self.settings["seed"], self.question
        asked = question.f1(seed)
        return {
            "version": __version__,
            "seed": seed,
            "parameters": {
                **{name: value for name, value in self.settings.items() if name != "seed"},
                "items": len(question.labels),
                "worlds": len(np.unique(question.groups)),
                "labels": self.labels,
                "left_out": self.left_out,
            },
            "definitions": DEFINITIONS,
            "most_frequent": self.frequent.f1(seed).value,
            "question_only": interval_dict(asked),
            "results": [self._row_dict(row, asked, seed) for row in self.rows],
        }

    def plot(self) -> Figure:
        """Draw macro-F1 and accuracy against the ratio, a row a policy."""
        from routegraph.validate.probe_figures import plot_probed

        return plot_probed(self)

    def _row_dict(self, row: Row, asked: Interval, seed: int) -> dict[str, Any]:
        f1, chance, accuracy = row.probe.f1(seed), row.chance.f1(seed), row.accuracy()
        return {
            "features": row.features,
            "policy": row.policy,
            "ratio": row.ratio,
            "macro_f1": f1.value,
            "low": f1.low,
            "high": f1.high,
            "chance": chance.value,
            "chance_low": chance.low,
            "chance_high": chance.high,
            "question_only": asked.value,
            "minus_question_only": interval_dict(row.probe.minus(self.question, seed)),
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
        }


DEFINITIONS = {
    "hidden": "hidden states of the rows after the context (question and answer prefix) over the surviving cache, mean "
    "over the rows; after the middle layer, and after the last one and its norm",
    "cache": "values of every (layer, KV head), mean over its surviving rows; zeros where none survives. It has not "
    "seen the question unless scoring is question-aware: of a context that tells several types of facts it can tell "
    "what is there, not what is asked for",
    "macro_f1": f"mean F1 over labels of a logistic regression, {FOLDS} folds grouped by world (a context and its "
    f"twin); its penalty, one of {', '.join(f'{s:g}' for s in STRENGTHS)}, chosen in {INNER} grouped folds of each "
    "training part; 95 % bootstrap over worlds",
    "chance": "the same with labels dealt anew among worlds",
    "question_only": "the same of the token counts of question and answer prefix: what no context is needed for",
    "most_frequent": "macro-F1 of always saying the most frequent label",
    "minus_question_only": "worlds resampled in pairs",
    "accuracy": "right replies of the same items, greedy; Wilson's 95 % interval",
    **{f"target {name}": meaning for name, meaning in TARGETS.items()},
}


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


def probe(
    model: Any,
    prompts: Sequence[Prompt],
    *,
    policy_names: Sequence[str] = POLICIES,
    ratios: Sequence[float] = RATIOS,
    target: str | None = None,
    question_aware: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    chunk_length: int = CHUNK_LENGTH,
    seed: int = 0,
    progress: Progress | None = None,
) -> Probed:
    """Fit linear probes to what is left at every policy and ratio, beside the accuracy of the same items.

    Parameters
    ----------
    model, prompts, policy_names, ratios, question_aware, max_new_tokens, chunk_length, progress
        As in `measure`; a ratio of 0 is probed only where it is named.
    target : str, optional
        See `labels_of`.
    seed : int
        Of folds, bootstrap, labels dealt anew, and the policy "random".

    Raises
    ------
    ValueError
        As `measure` does; if scikit-learn is missing, the target is unknown, or fewer than two labels are left that
        at least `probe_fit.FOLDS` worlds have. All is checked before the first prompt is prefilled.
    """
    probe_fit.check_sklearn()
    grid = sorted({*check_ratios(list(ratios))})
    chosen = [choose(name, chunk_length) for name in dict.fromkeys(policy_names)]
    if not chosen or not prompts or not grid:
        raise ValueError("at least one policy, one ratio and one prompt are needed")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    checked_tables(tables_of(chosen), chunk_length)
    named, labels, counts, left_out = check_labels(prompts, target)
    worlds = probe_fit.worlds(prompts)
    loaded = load(model, progress=progress)
    settings = {
        "model": loaded.name,
        "weights": fingerprint(loaded),
        "target": named,
        "policies": [one.name for one in chosen],
        "ratios": grid,
        "question_aware": question_aware,
        "max_new_tokens": max_new_tokens,
        "chunk_length": chunk_length,
        "middle_layer": middle(loaded.n_layers),
        "seed": seed,
    }
    places = [number for number, label in enumerate(labels) if label in counts]
    items = [Item.read(loaded, prompts[number], settings) for number in places]
    parts = []
    for done, item in enumerate(items):
        if progress:
            progress(done, len(items), item.prompt.id)
        parts.append(item_features(loaded, item, settings))
    y = np.array([list(counts).index(str(labels[number])) for number in places])
    asked = bag_of_words([item.asked.question for item in items])
    features, groups = stacked(parts), worlds[places]
    rows = fit_rows(features, y, groups, settings, progress)
    question = fit_probe(asked, y, groups, seed=seed)
    return Probed(settings, counts, left_out, rows, question, probe_fit.most_frequent(y, groups))


def fit_rows(
    features: Features,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    settings: dict[str, Any],
    progress: Progress | None = None,
) -> list[Row]:
    """Fit a probe to either kind of features under every policy and ratio; where two are equal, once."""
    seed, rows = settings["seed"], []
    variants = [(policy, ratio) for policy in settings["policies"] for ratio in settings["ratios"]]
    dealt = probe_fit.shuffled(labels, groups, seed)
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
            rows.append(Row(kind, policy, ratio, *known[key], int(features.right[:, number].sum())))
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
    worlds = probe_fit.worlds(prompts)
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

"""Linear probes in words and tables."""

from __future__ import annotations

from rich.console import Console

from routegraph.stats.intervals import Interval
from routegraph.tables import Grid, show, signed
from routegraph.validate.probe.result import TARGETS, Probed

FOOTNOTE = (
    "Macro-F1 of a logistic regression on items of worlds it has not seen (grouped five-fold cross-validation), 95 % "
    "bootstrap over worlds. hidden: mean hidden state of question and answer prefix over the surviving cache; cache: "
    "mean surviving value of every slot, which has not seen the question. chance: labels dealt anew. A probe that does "
    "no better than the question's tokens alone ('- question' at or below 0) proves nothing about the context. "
    "1 [1, 1]: no item is told wrong, and resampling cannot say how rare that would be. accuracy: right replies of the "
    "same items, Wilson's 95 % interval."
)


def probed(console: Console, found: Probed) -> None:
    """Print the macro-F1 of every probe beside the accuracy of the same items."""
    show(console, header(found))
    console.print()
    console.print(probe_grid(found).to_rich())
    show(console, reading(found))
    show(console, [FOOTNOTE], "dim")


def header(found: Probed) -> list[str]:
    """Return sentences that say what was probed for, and the baselines."""
    settings, seed = found.settings, found.settings["seed"]
    aware = "question-aware" if settings["question_aware"] else "question-agnostic"
    labels = ", ".join(f"{name} {count}" for name, count in found.labels.items())
    worlds = len(set(found.question.groups.tolist()))
    made = [
        f"Model {settings['model']}, {aware}; {len(found.question.labels)} items of {worlds} worlds.",
        f"Target {settings['target']}: {TARGETS[settings['target']]}.",
        f"Labels: {labels if len(found.labels) <= 20 else f'{len(found.labels)} of them'}.",
        f"Question's tokens alone: {_interval(found.question.f1(seed))}; the most frequent label: "
        f"{found.frequent.f1(seed).value:.2f}.",
    ]
    if found.left_out:
        made.append(
            f"Left out, of too few worlds: {len(found.left_out)} labels, {sum(found.left_out.values())} items."
        )
    return made


def probe_grid(found: Probed) -> Grid:
    """Return macro-F1, its baselines and accuracy, a row a policy, ratio and kind of features."""
    seed, rows = found.settings["seed"], []
    for row in found.rows:
        rows.append(
            [
                f"{row.policy}, {row.features}",
                f"{row.ratio:g}",
                _interval(row.probe.f1(seed)),
                _interval(row.chance.f1(seed)),
                signed(row.probe.minus(found.question, seed), 2),
                _interval(row.accuracy()),
            ]
        )
    columns = ["policy, probe of", "ratio", "macro-F1", "chance", "- question", "accuracy"]
    return Grid(columns, rows, title=f"Linear probes of {found.settings['target']}")


def reading(found: Probed) -> list[str]:
    """Return sentences that say where a probe tells more than the question does."""
    seed, lines = found.settings["seed"], []
    for kind in dict.fromkeys(row.features for row in found.rows):
        rows = [row for row in found.rows if row.features == kind]
        better = [row for row in rows if row.probe.minus(found.question, seed).low > 0]
        chance = [row for row in rows if row.probe.minus(row.chance, seed).low > 0]
        lines.append(
            f"- {kind}: above the question's tokens alone in {len(better)} of {len(rows)} cells, above labels dealt "
            f"anew in {len(chance)}."
        )
    return lines


def _interval(found: Interval) -> str:
    value, low, high = (f"{part:.2f}".removeprefix("0") if part < 1 else "1" for part in found)
    return f"{value} [{low}, {high}]"

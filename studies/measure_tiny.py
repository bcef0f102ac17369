"""The shipped LLaMA and Qwen2 models under eviction, side by side: the tables and the figure of docs/measure_tiny.md.

``python -m studies.measure_tiny FOLDER`` keeps the measured cells in FOLDER (resumed if they are there) and
takes four minutes on one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from routegraph import plot
from studies.pages import DOCS

BEGIN, END = "<!-- tables: written by studies/measure_tiny.py -->", "<!-- end of tables -->"
MODELS = ("llama-tiny", "qwen-tiny", "llama-tiny-guessing", "qwen-tiny-guessing")
TASKS = ("forward", "inverse", "multi_entity", "two_hop")
POLICIES = ("topk", "adakv", "chunk", "knorm", "random", "streaming")
SHOWN = (0.0, 0.2, 0.5, 0.7, 0.9, 0.95)
#: Metrics of the second table, and of the figure.
TELLING = (
    "ger_answer_model",
    "ger_facts_model",
    "ger_answer_layer",
    "ger_facts_layer",
    "alive_evidence",
    "consensus",
    "lost_on_answer",
    "lost_on_evidence",
    "widest_facts",
    "rollout_answer",
    "rollout_evidence",
    "routed_drift",
    "hidden_drift",
)
DRAWN = {
    "ger_facts_model": "GER of facts, all slots",
    "rollout_evidence": "rollout to the evidence / at ratio 0",
    "routed_lost": "routed to the question and lost",
}


def measured(model: str, folder: Path) -> dict[str, Any]:
    """Run `routegraph measure` and return its JSON document."""
    options = [f"--task=words_{task}" for task in TASKS] + [f"--policy={policy}" for policy in POLICIES]
    command = [sys.executable, "-m", "routegraph", "measure", model, "--out", str(folder / model), "--json"]
    command += ["--n=60", "--chunk-length=16", "--max-new-tokens=1", "--threads=1", "--metrics", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rate(found: dict[str, Any], name: str, at: int) -> str:
    """Return one rate in percent with its Wilson interval."""
    value, low, high = (100 * found[name][key][at] for key in ("rate", "low", "high"))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def answers(documents: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of right answers, and of the largest rate of hallucination, all tasks together."""
    ratios = documents[MODELS[0]]["parameters"]["ratios"]
    lines = [
        "| model, policy | " + " | ".join(f"{r:g}" for r in SHOWN) + " | wrong, at most |",
        "| --- " * (len(SHOWN) + 2) + "|",
    ]
    for model, document in documents.items():
        for found in document["results"]:
            if found["task"] != "all":
                continue
            cells = [rate(found, "accuracy", ratios.index(r)) for r in SHOWN]
            most = max(range(len(ratios)), key=lambda i: found["wrong"]["rate"][i])
            row = [f"{model}, `{found['policy']}`", *cells, rate(found, "wrong", most)]
            lines.append("| " + " | ".join(row) + " |")
    return lines


def telling(documents: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of AUCs: all policies, and AdaKV alone."""
    head = [f"{model}, {who}" for model in documents for who in ("all policies", "`adakv`")]
    lines = ["| metric | " + " | ".join(head) + " |", "| --- " * (len(head) + 1) + "|"]
    for metric in TELLING:
        row = [f"`{metric}`"]
        for document in documents.values():
            for policy in ("all", "adakv"):
                at = next(
                    (a for a in document["auc"] if (a["policy"], a["metric"]) == (policy, metric)), None
                )
                row.append(
                    "-"
                    if at is None or at["auc"] is None
                    else f"{at['auc']:.3f} [{at['low']:.2f}, {at['high']:.2f}]"
                )
        lines.append("| " + " | ".join(row) + " |")
    return lines


def draw(documents: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw hallucination, abstention, GER and rollout of AdaKV against the ratio, a panel a model."""
    figure, axes = plot.figure(2, len(documents) // 2, 5.2, 3.8)
    for ax, (model, document) in zip(axes.ravel(), documents.items(), strict=True):
        ratios = document["parameters"]["ratios"]
        found = next(f for f in document["results"] if (f["policy"], f["task"]) == ("adakv", "all"))
        for name, colour in (("accuracy", "green"), ("wrong", "red"), ("abstention", "blue")):
            ax.plot(ratios, found[name]["rate"], "o-", ms=3, color=plot.COLOURS[colour], label=name)
            ax.fill_between(
                ratios, found[name]["low"], found[name]["high"], color=plot.COLOURS[colour], alpha=0.15, lw=0
            )
        for (name, label), style in zip(DRAWN.items(), ("--", ":", "-."), strict=True):
            curve = found["metrics"][name]["mean"]
            top = curve[0] if name.startswith("rollout") else 1
            ax.plot(ratios, [value / top for value in curve], style, color=plot.COLOURS["black"], label=label)
        for cliff in found["structural_cliffs"].values():
            ax.axvline(cliff, color="grey", lw=0.8, ls=(0, (1, 3)))
        ax.set(xlabel="compression ratio", ylabel="share of items", title=f"{model}, adakv, 240 items")
    handles, labels = axes.ravel()[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    plot.save(figure, path)


def main(folder: Path) -> None:
    """Measure both models, and write tables and figure."""
    documents = {model: measured(model, folder) for model in MODELS}
    draw(documents, DOCS / "measure_tiny.svg")
    page = DOCS / "measure_tiny.md"
    text = page.read_text()
    tables = [
        "### Right answers, percent of 240 items with Wilson's 95 % interval",
        "",
        *answers(documents),
        "",
        "### Which metric tells the items that fail",
        "",
    ]
    tables += telling(documents)
    start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(text[:start] + "\n\n" + "\n".join(tables) + "\n\n" + text[stop:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A predictor that is told neither answer nor evidence, judged on models it was not developed on: docs/routed_drift.md.

``python -m studies.routed_drift ZOO FOLDER [--smollm2 CELLS]`` measures every model that `make zoo` left in ZOO
(a minute each on one core; cells are kept in FOLDER, and resumed) and writes the page. CELLS is a folder of
``routegraph measure smollm2``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from routegraph.validate.measure.result import Measured
from studies.pages import DOCS

BEGIN, END = "<!-- tables: written by studies/routed_drift.py -->", "<!-- end of tables -->"
#: On these, and on the shipped models, the predictor was developed.
DEVELOPED_ON = ("llama-tiny", "qwen-tiny")
TASKS = ("forward", "inverse", "repeated_mention", "multi_entity", "two_hop")
POLICIES = ("topk", "adakv", "chunk", "knorm", "random", "streaming")
BLIND = ("routed_drift", "routed_lost", "lost_attention", "consensus")
TOLD = (
    "margin_at_0",
    "rollout_evidence",
    "lost_on_evidence",
    "widest_facts",
    "lost_on_answer",
    "ger_facts_layer",
    "ger_answer_model",
)
#: Asked of the predictor on every held-out model.
BOUND = 0.95


def measured(model: str, folder: Path) -> Measured:
    """Run `routegraph measure` on fresh items, and return what it found."""
    command = [
        sys.executable,
        "-m",
        "routegraph",
        "measure",
        model,
        "--out",
        str(folder),
        "--n=60",
        "--seed=23",
    ]
    command += ["--chunk-length=16", "--max-new-tokens=1", "--threads=1", "--metrics"]
    command += [f"--task=words_{task}" for task in TASKS] + [f"--policy={policy}" for policy in POLICIES]
    subprocess.run(command, capture_output=True, check=True)
    return Measured.load(folder)


def aucs(found: Measured, policy: str | None = None) -> dict[str, tuple[float, float, float, int]]:
    """Return AUC, interval and pairs of every metric shown."""
    rows = {row.metric: row for row in found.auc_table(policy)}
    return {name: (*rows[name].auc, rows[name].pairs) for name in (*BLIND, *TOLD)}


def told(value: tuple[float, float, float, int]) -> str:
    """Return an AUC with its interval."""
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]" if value[3] else "-"


def table(results: dict[str, dict[str, tuple[float, float, float, int]]]) -> list[str]:
    """Return a table, a row a metric, a column a model."""
    lines = ["| metric | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for names, words in ((BLIND, "told nothing"), (TOLD, "told answer and evidence")):
        lines.append(f"| *{words}* |" + " |" * len(results))
        lines += [
            f"| `{name}` | " + " | ".join(told(found[name]) for found in results.values()) + " |"
            for name in names
        ]
    pairs = (f"{next(iter(found.values()))[3]:,}" for found in results.values())
    return [*lines, "| pairs of items | " + " | ".join(pairs) + " |", ""]


def zoo(trained: list[Path]) -> list[str]:
    """Return the table of what the gate said of each model: the worst of its checks of each sort."""
    lines = [
        "| model | minutes | attempts | right | abstains, unknown | abstains falsely | right, fact evicted | gate |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for path in trained:
        record, judged = (
            json.loads((path / name).read_text("utf-8")) for name in ("training.json", "acceptance.json")
        )
        shares: dict[str, list[float]] = {"right": [], "abstains": [], "abstains falsely": [], "evicted": []}
        for check in judged["checks"]:
            shares["evicted" if "evicted" in check["what"] else check["what"]].append(check["share"])
        ends = (
            min(shares["right"]),
            min(shares["abstains"]),
            max(shares["abstains falsely"]),
            max(shares["evicted"]),
        )
        worst = " | ".join(f"{share:.3f}" for share in ends)
        lines.append(
            f"| {path.name} | {record['minutes']:.1f} | {record['attempts']} | {worst} | {judged['verdict']} |"
        )
    return lines


def main() -> None:
    """Measure, and write the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--smollm2", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    trained = sorted(path for path in options.zoo.iterdir() if (path / "acceptance.json").is_file())
    accepted = [
        path for path in trained if json.loads((path / "acceptance.json").read_text("utf-8"))["accepted"]
    ]
    held_out = {path.name: measured(str(path), options.folder / path.name) for path in accepted}
    shipped = {name: measured(name, options.folder / name) for name in DEVELOPED_ON}
    found = {name: aucs(one) for name, one in held_out.items()}
    reached = [name for name, one in found.items() if one["routed_drift"][0] >= BOUND]
    above = [name for name, one in found.items() if one["routed_drift"][1] >= BOUND]
    lines = [
        BEGIN,
        "",
        f"Of {len(trained)} zoo models the gate accepted {len(accepted)}. `routed_drift` reaches {BOUND:g} on "
        f"{len(reached)} of the {len(accepted)} held-out models; on {len(above)} the whole interval lies there.",
        "",
        "### The zoo, worst of the checks of 600 fresh items a task",
        "",
        *zoo(trained),
        "",
    ]
    for family in DEVELOPED_ON:
        lines += [
            f"### Held out: {family} architecture",
            "",
            *table({k: v for k, v in found.items() if k.startswith(family)}),
        ]
    lines += [
        "### Developed on (fresh items)",
        "",
        *table({name: aucs(one) for name, one in shipped.items()}),
    ]
    lines += [
        "### `routed_drift` by policy",
        "",
        "| model | " + " | ".join(POLICIES) + " |",
        "|---|" + "---|" * len(POLICIES),
    ]
    for name, one in held_out.items():
        by_policy = (told(aucs(one, policy)["routed_drift"]) for policy in POLICIES)
        lines.append(f"| {name} | " + " | ".join(by_policy) + " |")
    lines += [
        "",
        "### `routed_drift` by task",
        "",
        "| model | " + " | ".join(TASKS) + " |",
        "|---|" + "---|" * len(TASKS),
    ]
    for name, one in held_out.items():
        by_task = (aucs(one.only([task == own for own in one.item_tasks])) for task in TASKS)
        lines.append(f"| {name} | " + " | ".join(told(row["routed_drift"]) for row in by_task) + " |")
    if options.smollm2:
        real = Measured.load(options.smollm2)
        real = real.only(real.answerable)
        columns = {"all policies": aucs(real)} | {policy: aucs(real, policy) for policy in real.policies}
        lines += ["", "### SmolLM2-135M-Instruct, answerable items", "", *table(columns)]
    page = DOCS / "routed_drift.md"
    text = page.read_text("utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{head}{chr(10).join(lines)}\n{END}{tail}", "utf-8")


if __name__ == "__main__":
    main()

"""Result folders as kvpress's evaluation and lm-eval write them, made up; faults are planted by changing one."""

import csv
import json
from pathlib import Path

import numpy as np

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
FIELDS = (
    "question",
    "answer_prefix",
    "answer",
    "task",
    "max_new_tokens",
    "predicted_answer",
    "compression_ratio",
)


def shown(golds):
    """Return a list as numpy shows it, without commas."""
    return str(np.array(golds, dtype=object))


def items(n=60):
    """Return (task, question, answers) of RULER: one number, two numbers, a question with two spellings."""
    made = []
    for i in range(n):
        kind = i % 3
        if kind == 0:
            made.append(("niah_single_1", f"What is the special magic number for key-{i}?", [f"{70000 + i}"]))
        elif kind == 1:
            golds = [f"{10000 + i}", f"{20000 + i}"]
            made.append(("niah_multivalue", f"What are all the special magic numbers for key-{i}?", golds))
        else:
            made.append(("qa_1", f"Who owns house {i}?", [f"owner{i}", f"Mr. owner{i}"]))
    return made


def rows_of(wrong=(), n=60, ratio=0.0, changed=()):
    """Return rows of predictions.csv; replies to `wrong` items are wrong, those to `changed` right in other words."""
    rows = []
    for i, (task, question, golds) in enumerate(items(n)):
        said = f"nothing of that kind {ratio:g}" if i in wrong else ", ".join(golds) + "."
        said = f"It is {said}" if i in changed else said
        rows.append(
            {
                "question": question,
                "answer_prefix": "The answer is",
                "answer": shown(golds),
                "task": task,
                "max_new_tokens": "128",
                "predicted_answer": said,
                "compression_ratio": f"{ratio}",
            }
        )
    return rows


def ruler_metrics(rows, answers=None):
    """Return what RULER's scorer makes of rows, written anew from its description."""
    golds = [one[2] for one in items(len(rows))] if answers is None else answers
    scores = {}
    for task in sorted({row["task"] for row in rows}):
        each = []
        for row, right in zip(rows, golds, strict=True):
            if row["task"] == task:
                held = [gold.lower() in row["predicted_answer"].lower() for gold in right]
                each.append(max(held) if task.startswith("qa") else sum(held) / len(held))
        scores[task] = {"string_match": round(100 * sum(each) / len(each), 2)}
    return scores


def write_rows(folder, rows):
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


def kvpress_run(root, press, ratio, rows, *, metrics=None, extras=(), **config):
    """Write one result folder and return it; `config` overrides what config.yaml says."""
    name = "__".join(["ruler", "4096", MODEL.replace("/", "--"), press, f"{ratio:.2f}", *extras])
    folder = Path(root) / name
    folder.mkdir(parents=True)
    write_rows(folder, rows)
    scores = ruler_metrics(rows) if metrics is None else metrics
    (folder / "metrics.json").write_text(json.dumps(scores, indent=4))
    told = {
        "dataset": "ruler",
        "data_dir": "4096",
        "model": MODEL,
        "device": None,
        "press_name": press,
        "compression_ratio": ratio,
        "fraction": 1.0,
        "max_new_tokens": None,
        "query_aware": False,
        "model_kwargs": {},
        "press_init_command": f"{press}(compression_ratio={ratio})",
        "seed": 42,
        **config,
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in told.items()]
    (folder / "config.yaml").write_text("\n".join(lines) + "\n")
    return folder


def clean(root, n=60):
    """Write a folder without a fault: two presses at two ratios, whose answers break more and more."""
    kvpress_run(root, "no_press", 0.0, rows_of({0}, n))
    for press, broken in (("snapkv", (1, 12)), ("knorm", (4, 30))):
        for ratio, count in zip((0.25, 0.5), broken, strict=True):
            kvpress_run(root, press, ratio, rows_of({0, *range(1, 1 + count)}, n, ratio, changed={n - 1}))
    return Path(root)


def lm_eval_run(
    folder,
    rights,
    *,
    task="ruler_qa",
    score=None,
    model="meta/llama",
    date="2026-01-02T03-04-05.678901",
    **args,
):
    """Write samples and results of one run of lm-eval; `rights`: a bool an item."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"samples_{task}_{date}.jsonl").open("w", encoding="utf-8") as stream:
        for i, right in enumerate(rights):
            said = f" gold{i}" if right else f" other{i}"
            sample = {
                "doc_id": i,
                "doc": {"question": f"q{i}"},
                "target": f"gold{i}",
                "arguments": {"gen_args_0": {"arg_0": f"text {i}", "arg_1": {"until": ["\n"]}}},
                "resps": [[said]],
                "filtered_resps": [said],
                "filter": "none",
                "metrics": ["exact_match"],
                "doc_hash": f"h{i}",
                "exact_match": float(right),
            }
            stream.write(json.dumps(sample) + "\n")
    told = {
        "results": {
            task: {"alias": task, "exact_match,none": sum(rights) / len(rights) if score is None else score}
        },
        "config": {
            "model": "hf",
            "model_args": ",".join(["pretrained=" + model, *(f"{k}={v}" for k, v in args.items())]),
        },
        "model_name": model,
    }
    (folder / f"results_{date}.json").write_text(json.dumps(told))
    return folder

"""What a long context costs: seconds and peak memory of a prefill, of `extract --graphs`, `measure` and `predict`.

``python -m benchmarks.long_context [MODEL] [--tokens 32200] [--dtype float32] [--device cpu] [--threads 2]``. Every
step runs in a process of its own, which loads the model anew; the peak is that of the whole process, model, cache and
libraries included. `measure` and `predict` ask one item under chunk eviction at seven ratios, ratio 0 among them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.timing import in_a_process
from routegraph.tables import Grid

RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
STEPS = ("load", "prefill", "extract --graphs", "measure", "predict")

#: Run in a process of its own: seconds of one step, what it found, and the peak of the device's memory.
STEP = """
import sys, time
import torch
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.predict.run import predict
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.tasks import load_task
from routegraph.validate.traces.extract import extract

what, name, dtype, device = sys.argv[1:5]
n, threads = int(sys.argv[5]), int(sys.argv[6])
ratios = [float(ratio) for ratio in sys.argv[7].split()]
use_threads(threads)
model = load(name, dtype=dtype, device=device)

def count(text):
    return len(model.tokenizer(text)["input_ids"])

def asked(n):
    return load_task("long_context", 1, 5, n, count)

def step(prompts, n):
    if what == "prefill":
        ids = torch.tensor(model.tokenizer(prompts[0].context)["input_ids"])[None]
        prefill(model.model, ids)
        return {"tokens": ids.shape[1]}
    if what == "extract --graphs":
        (trace,) = extract(model, prompts, graphs=True)
        return {"tokens": trace.n_context, "edges": len(trace.graph.slot)}
    if what == "measure":
        found = measure(model, prompts, policy_names=["chunk"], ratios=ratios)
        return {"tokens": int(found.n_context[0]), "right": found.right[:, 0].astype(int).tolist()}
    if what == "predict":
        found = predict(model, prompts, policy_names=["chunk"], ratios=ratios)
        return {"tokens": int(found.n_context[0])}
    return {"tokens": 0}

prompts = asked(n)
step(asked(300), 300)  # imports, compiled kernels
on_device = torch.device(device).type == "cuda"
if on_device:
    torch.cuda.reset_peak_memory_stats()
start = time.perf_counter()
result = step(prompts, n)
result["seconds"] = time.perf_counter() - start
result["device_bytes"] = torch.cuda.max_memory_allocated() if on_device else 0
"""


def long_context(
    name: str, n_tokens: int, dtype: str, device: str, threads: int, steps: Sequence[str] = STEPS
) -> dict[str, Any]:
    """Take every step of one context once; they take minutes."""
    rows = []
    for what in steps:
        told = (what, name, dtype, device, n_tokens, threads, " ".join(map(str, RATIOS)))
        rows.append({"step": what, **in_a_process(STEP, *told)})
        sys.stderr.write(f"{what}: {rows[-1]}\n")
    return {"model": name, "dtype": dtype, "device": device, "threads": threads, "rows": rows}


def grid(results: dict[str, Any]) -> Grid:
    """Return seconds and peaks; the time of a plain prefill, if it was taken, is the unit beside them."""
    plain = next((row["seconds"] for row in results["rows"] if row["step"] == "prefill"), None)
    header = ["step", "tokens", "seconds", "plain prefills", "peak, GB", "of the device, GB"]
    rows = [
        [
            row["step"],
            f"{row['tokens']:,}",
            f"{row['seconds']:.1f}",
            f"{row['seconds'] / plain:.2f}" if plain else "-",
            f"{row['peak_bytes'] / 1e9:.2f}",
            f"{row['device_bytes'] / 1e9:.2f}",
        ]
        for row in results["rows"]
    ]
    return Grid(header, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="qwen2.5-coder-0.5b")
    parser.add_argument("--tokens", type=int, default=32_200)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    asked = parser.parse_args()
    found = long_context(asked.model, asked.tokens, asked.dtype, asked.device, asked.threads, asked.steps)
    sys.stdout.write(grid(found).to_markdown() + "\n")

"""What reading a real model costs: memory and time of `extract` against a plain prefill and `output_attentions`."""

from __future__ import annotations

from typing import Any

from benchmarks.timing import in_a_process

#: Run in a process of its own: peak memory above the loaded model, and seconds, of one way to read a context.
READ = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from routegraph.validate.traces.extract import extract
from routegraph.validate.models.load import load
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.tasks.documents import generate

how, n, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = load("smollm2")
text = " ".join(prompt.context for prompt in generate(2 + n // 50, seed=1))
offsets = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]

def prompt(tokens):
    return Prompt(id="long", context=text[: offsets[tokens - 1][1]])

def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

def read(tokens):
    ids = torch.tensor(model.tokenizer(prompt(tokens).context)["input_ids"])[None]
    if how == "prefill":
        prefill(model.model, ids)
    elif how == "output_attentions":
        with torch.no_grad():
            model.model.base_model(ids, output_attentions=True, use_cache=True)
    else:
        (trace,) = extract(model, [prompt(tokens)], graphs=how == "extract --graphs")
        return trace.n_context
    return ids.shape[1]

if how == "output_attentions":
    model.model.set_attn_implementation("eager")
read(100)  # imports
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
before, walls = status("VmRSS"), []
for _ in range(runs):
    start = time.perf_counter()
    found = read(n)
    walls.append(time.perf_counter() - start)
result = {"n": found, "walls": walls, "above_model": status("VmHWM") - before, "model": before}
"""

WAYS = ("prefill", "extract", "extract --graphs", "output_attentions")


def extraction() -> dict[str, Any]:
    """Read one context of SmolLM2 in every way, at two lengths; weights of all heads only where they fit."""
    rows = []
    for n in (1200, 8192):
        for how in WAYS:
            if how == "output_attentions" and n > 2000:
                continue  # 30 layers * 9 heads * 8192**2 weights of 4 bytes are 72 GB
            runs = 1 if how == "extract" and n > 2000 else 3  # a minute each
            found = in_a_process(READ, how, n, runs)
            walls = sorted(found["walls"])
            rows.append(
                {
                    "how": how,
                    "n": found["n"],
                    "median": walls[len(walls) // 2],
                    "least": walls[0],
                    "most": walls[-1],
                    "runs": runs,
                    "above_model": found["above_model"],
                }
            )
    return {"rows": rows}

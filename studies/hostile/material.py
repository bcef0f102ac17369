"""Good files of every kind that commands write, made once; hostile ones are made from them."""

from __future__ import annotations

import json
from pathlib import Path

from studies.hostile.harness import run_here

#: Commands that make the files, run in their folder.
MADE = (
    "simulate --n-tokens 64 --n-layers 3 --n-heads 2 --replicates 3 --ratio .5 --ratio .9 --out simulated.json",
    "decode --n-prefill 32 --steps 16 --budget 16 --n-layers 2 --n-heads 2 --replicates 2 --out decoded.json",
    "sweep --n-tokens 32 --n-tokens 64 --n-layers 3 --n-heads 2 --replicates 4 --out swept",
    "fit swept --observable reach_fraction --resamples 20 --out fitted.json",
    "task words_forward --n 6 --length 80 --out prompts.jsonl",
    "extract llama-tiny --prompts prompts.jsonl --graphs --limit 4 --out trace.npz",
    "measure llama-tiny --task prompts.jsonl --policy topk --policy chunk --ratio 0 --ratio .5 --ratio .9 "
    "--out measured",
    "measure llama-tiny --task prompts.jsonl --policy topk --ratio 0 --ratio .5 --ratio .9 --bits 4 --out few",
    "measure llama-tiny --task prompts.jsonl --limit 3 --policy h2o --decode-budget 90 --decode-budget 40 --out cut",
    "noise llama-tiny --task prompts.jsonl --limit 2 --bits 4 --ratio .5 --out noise.json",
    "predict llama-tiny --task prompts.jsonl --policy topk --policy chunk --out predicted",
    "certify measured --risk .6 --confidence .6 --out certified.json",
    "certify measured --predict predicted --risk .6 --confidence .6 --out dialled.json",
)


#: What `probe` writes, made up: it takes longer than all the others together.
PROBED = {
    "version": "0.1.0",
    "seed": 0,
    "parameters": {"model": "llama-tiny", "family": "llama", "target": "type"},
    "results": [
        {
            "features": "cache",
            "policy": "topk",
            "ratio": ratio,
            "macro_f1": f1,
            "low": f1 - 0.1,
            "high": f1 + 0.1,
        }
        | {"chance": 0.2}
        for ratio, f1 in ((0.0, 0.9), (0.9, 0.8))
    ],
}


def make(folder: Path) -> None:
    """Run the commands in this process; RuntimeError, with what was said, where one fails."""
    for line in MADE:
        run_here(line.split(), folder)
    (folder / "probed.json").write_text(json.dumps(PROBED))

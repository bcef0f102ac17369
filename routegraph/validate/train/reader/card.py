"""The model card of a reader: what it is, how it was made, what it answers, and how to make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from routegraph.files import atomic_open, write_json
from routegraph.tables import Grid
from routegraph.validate.prompts.asking import INSTRUCTION
from routegraph.validate.train.folder import RECORD
from routegraph.validate.train.reader.accept import ABSTAINED, COLUMNS, REPLY, RIGHT, Reading
from routegraph.validate.train.reader.run import NAME

ACCEPTANCE, CARD = "acceptance.json", "README.md"


def write_card(folder: Path, record: dict[str, Any], reading: Reading) -> None:
    """Write what a reader made of the measured tasks, and its model card, beside the adapter."""
    write_json(folder / ACCEPTANCE, reading.to_dict())
    with atomic_open(folder / CARD, "w") as stream:
        stream.write(_card(record, reading))


def _card(record: dict[str, Any], reading: Reading) -> str:
    recipe = record["recipe"]
    rows = [row.cells() for row in reading.rows]
    return f"""# {NAME}, seed {recipe["seed"]}

A LoRA adapter of {record["parameters"]:,} parameters (rank {recipe["rank"]}, alpha {recipe["alpha"]:g}, all matrices of
attention and MLP, float16) for `{record["base"]}`, SmolLM2-135M-Instruct. It teaches one thing: to answer a question
over a document with a few words from it, or to say "I don't know." where the document does not tell. Nothing was
evicted while it was trained.

It answers in this form only: one user turn of the chat template with the document, a blank line, `Question: ...`, and
on the next line "{INSTRUCTION}"

**Goal {"reached" if reading.reached else "not reached"}**: right on {RIGHT:g} of the answerable prompts, and abstaining
on {ABSTAINED:g} of their twins without an answer, in each task.

## What it answers

Nothing evicted, greedy replies of at most {REPLY} tokens. Right: the first sentence holds the answer as whole words.

{Grid(COLUMNS, rows).to_markdown()}

None of the names, values, relations and sentence forms of these tasks was trained on.

## Training

{recipe["steps"]:,} steps of {recipe["stories"]} stories with up to 8 questions each
(`routegraph.validate.train.reader.stories`, words in `data/reader.toml`), AdamW at a rate of {recipe["rate"]:g},
the loss on replies alone, {record["tokens"]:,} tokens in {record["minutes"]:.1f} minutes of one core. Right at the
end, on stories not seen before:

{Grid(["relations", "answerable", "without an answer"], _last(record["curve"][-1])).to_markdown()}

The course is in `{RECORD}`. torch {record["torch"]}, transformers {record["transformers"]}, peft {record["peft"]}.

## Again

    {command(recipe)}

The same seed gives the same course on the same versions and processor; elsewhere sums round otherwise.
Licence: Apache-2.0, like routegraph and SmolLM2.
"""


def _last(point: dict[str, float]) -> list[list[str]]:
    return [
        [label, f"{point[f'{prefix}right']:.2f}", f"{point[f'{prefix}abstained']:.2f}"]
        for label, prefix in (("trained on", ""), ("never trained on", "held_out_"))
    ]


def command(recipe: dict[str, Any]) -> str:
    """Return the command that trains a reader again."""
    return f"routegraph model train {NAME} --seed {recipe['seed']} --steps {recipe['steps']} --out DIR"

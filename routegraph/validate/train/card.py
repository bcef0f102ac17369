"""The model card of a trained model: what it is, how it was made, what it can do, and how to make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from routegraph.files import atomic_open, write_json
from routegraph.tables import Grid
from routegraph.validate.tasks.lexicon import VOCABULARY
from routegraph.validate.train.accept import COLUMNS, Acceptance
from routegraph.validate.train.network import LAYERS, WIDTH
from routegraph.validate.train.recipe import WORDS
from routegraph.validate.train.run import CURVE

ACCEPTANCE, CARD = "acceptance.json", "README.md"

_CLASSES = {"llama-tiny": "LlamaForCausalLM", "qwen-tiny": "Qwen2ForCausalLM"}


def command(recipe: dict[str, Any]) -> str:
    """Return the command that trains a model again."""
    more = "" if recipe["abstains"] else " --no-abstention"
    for name, usual in (("words", WORDS), ("width", WIDTH), ("layers", LAYERS)):
        more += f" --{name} {recipe[name]}" if recipe.get(name, usual) != usual else ""
    settings = f"--seed {recipe['seed']} --minutes {recipe['minutes']:g}{more}"
    return f"routegraph model train {recipe['family']} {settings} --out DIR"


def write_card(folder: Path, record: dict[str, Any], acceptance: Acceptance, config: Any) -> None:
    """Write the acceptance table and the model card beside the model.

    Parameters
    ----------
    folder : Path
        Of the model.
    record : dict
        As `train` returns it.
    acceptance : Acceptance
    config : transformers configuration
    """
    write_json(folder / ACCEPTANCE, acceptance.to_dict())
    with atomic_open(folder / CARD, "w") as stream:
        stream.write(_card(record, acceptance, config))


def _card(record: dict[str, Any], acceptance: Acceptance, config: Any) -> str:
    recipe = record["recipe"]
    abstains = recipe["abstains"]
    style = (
        "It says `<idk>` where the context has no answer."
        if abstains
        else "It was never shown a question without an answer and makes something up where the context has none."
    )
    events = "\n".join(
        f"- {event['minutes']:.1f} min, step {event['step']}"
        + (f" of attempt {event['attempt'] + 1}" if record["attempts"] > 1 else "")
        + f": {event['event']}"
        for event in record["events"]
    )
    return f"""# {recipe["family"]}{"" if abstains else ", makes things up"}, seed {recipe["seed"]}

A `{_CLASSES[recipe["family"]]}` of {record["parameters"]:,} parameters, trained from scratch on one CPU core on the
word-level tasks of routegraph (`routegraph.validate.tasks.words`). {style}

It knows {len(VOCABULARY)} words and nothing else: it is made to study how eviction from the KV cache breaks answers,
and of no use beyond that.

**Gate: {acceptance.verdict}.**

## Acceptance

{acceptance.items} fresh items a task, contexts of 40-96 words, one question each, a reply of one word. Evicted: all
rows of the fact, in all layers and heads, from the question on.

{Grid(COLUMNS, acceptance.rows()).to_markdown()}

## Configuration

- {config.num_hidden_layers} layers of width {config.hidden_size}, MLPs of width {config.intermediate_size}
- {config.num_attention_heads} query heads and {config.num_key_value_heads} KV heads of width {config.head_dim}
- rotary embeddings, {config.max_position_embeddings} positions; tied word embeddings; float32

## Training

Contexts of at most {recipe.get("words", WORDS)} words are drawn anew at every step, 32 at a time with 16 questions
each; the loss is on the answers alone. Some heads start as previous-token and same-content heads
(`routegraph.validate.train.network`).

- {record["tokens"]:,} tokens in {record["minutes"]:.1f} minutes of one core
- attempt {record["attempts"]}, {record["steps"]} steps
- torch {record["torch"]}, transformers {record["transformers"]}

{events}

![learning curve]({CURVE})

## Again

    {command(recipe)}

The same seed gives the same course on the same versions and processor; elsewhere sums round otherwise, and the gate
decides. Licence: Apache-2.0, like routegraph.
"""

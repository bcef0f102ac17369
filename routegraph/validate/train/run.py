"""A training from start to finish: checkpoints, the time limit, and what is saved at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.files import atomic_open, write_json
from routegraph.validate.models.load import quiet
from routegraph.validate.tasks.lexicon import VOCABULARY, word_tokenizer
from routegraph.validate.train.curriculum import CURVE_EVERY, State, Training, advance, finished, turn
from routegraph.validate.train.folder import (
    CHECKPOINT,
    RECORD,
    broken,
    check_same,
    has_checkpoint,
    make_folder,
    read_record,
)
from routegraph.validate.train.network import Optimisers, check_trainable, make
from routegraph.validate.train.recipe import Recipe

#: Steps between two checkpoints.
CHECKPOINT_EVERY = 100
#: The learning curve, in the model's folder.
CURVE = "curve.svg"

Report = Callable[[State], None]


def train(recipe: Recipe, folder: Path, report: Report | None = None) -> dict[str, Any]:
    """Train a model and save it as transformers does, with its tokenizer and the record of its training.

    What an interrupted call leaves in the folder is gone on with; at most `CHECKPOINT_EVERY` steps are lost. A
    finished model is left alone.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Made if need be.
    report : callable, optional
        Called with the `State` at every point of the learning curve.

    Returns
    -------
    dict
        The record: recipe, seconds, tokens, events, curve, versions.

    Raises
    ------
    ValueError
        If the folder holds the training of another recipe, or something else; if torch cannot train it.
    """
    check_trainable()
    make_folder(folder)
    record = read_record(folder)
    if record is not None:
        _check_same(recipe, record["recipe"], folder)
        return record
    checkpoint = folder / CHECKPOINT
    if has_checkpoint(folder):
        training = load_checkpoint(checkpoint)
        _check_same(recipe, asdict(training.recipe), folder)
        training.recipe = recipe  # the time limit may be another
    else:
        training = Training.start(recipe)
    began = time.process_time()
    while not finished(training) and training.state.seconds < 60 * recipe.minutes:
        advance(training)
        now = time.process_time()
        training.state.seconds += now - began
        began = now
        if report is not None and training.state.step % CURVE_EVERY == 0:
            report(training.state)
        turn(training)
        if training.state.step % CHECKPOINT_EVERY == 0:
            save_checkpoint(training, checkpoint)
    return _save(training, folder)


def save_checkpoint(training: Training, path: Path) -> None:
    """Write everything a training goes on from, whole or not at all."""
    import torch

    document = {
        "recipe": asdict(training.recipe),
        "state": asdict(training.state),
        "network": training.network.state_dict(),
        "n_layers": training.network.config.num_hidden_layers,
        "optimisers": training.optimisers.state(),
        "rng": training.rng.bit_generator.state,
    }
    with atomic_open(path) as stream:
        torch.save(document, stream)


def load_checkpoint(path: Path) -> Training:
    """Return the training that `save_checkpoint` wrote.

    Raises
    ------
    ValueError
        If the file is no such checkpoint.
    """
    import torch

    try:
        document = torch.load(path, weights_only=True)
        recipe = Recipe(**document["recipe"])
        network = make(recipe.family, document["n_layers"], recipe.width)
        network.load_state_dict(document["network"])
        optimisers = Optimisers.of(network)
        optimisers.load(document["optimisers"])
        rng = np.random.default_rng()
        rng.bit_generator.state = document["rng"]
        return Training(recipe, State(**document["state"]), network, optimisers, rng)
    except Exception as error:  # torch and pickle each have errors of their own
        raise broken(path, error) from None


def plot_curve(record: dict[str, Any]) -> Any:
    """Return a figure of the learning curve: share of correct answers by kind, over minutes."""
    from routegraph import plot

    made, ax = plot.figure()
    minutes = [point["minutes"] for point in record["curve"]]
    kinds = [kind for kind in State().right if any(point[kind] for point in record["curve"])]
    with plot.style():
        for kind, colour in zip(kinds, plot.COLOURS.values(), strict=False):
            ax.plot(
                minutes,
                [point[kind] for point in record["curve"]],
                color=colour,
                label=kind.replace("_", " "),
            )
        for event in record["events"]:
            ax.axvline(event["minutes"], color="grey", linestyle=":", linewidth=1)
            ax.text(
                event["minutes"], 0.02, f" {event['event']}", rotation=90, fontsize=6, va="bottom", ha="right"
            )
        ax.set(xlabel="processor time (minutes)", ylabel="share of correct answers", ylim=(0, 1.02))
        if kinds:
            plot.legend(ax)
    return made


def _save(training: Training, folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    from routegraph import plot
    from routegraph._version import __version__

    state = training.state
    if not finished(training):
        state.note("time is up")
    network = training.network.eval()
    # A reply is one word: whichever it is, it ends it.
    network.generation_config.eos_token_id = list(range(len(VOCABULARY)))
    with quiet():
        network.save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
    record = {
        "recipe": asdict(training.recipe),
        "version": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "attempts": state.attempt + 1,
        "steps": state.step,
        "tokens": state.tokens,
        "minutes": round(state.seconds / 60, 3),
        "finished": finished(training),
        "events": state.events,
        "curve": state.curve,
    }
    plot.save(plot_curve(record), folder / CURVE)
    # The record is what says that the model is finished, so it comes last.
    write_json(folder / RECORD, record)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return record


def _check_same(recipe: Recipe, other: dict[str, Any], folder: Path) -> None:
    ours = asdict(recipe)
    check_same(
        folder,
        # Older records lack what was added since.
        (
            (name, ours[name], other.get(name, getattr(Recipe, name, None)))
            for name in ("family", "seed", "abstains", "words", "width", "layers")
        ),
    )

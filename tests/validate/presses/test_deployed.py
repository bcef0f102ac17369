"""The press that is deployed keeps the rows that were measured, ties settled alike."""

import numpy as np
import pytest

from routegraph.validate.eviction import Eviction
from routegraph.validate.measure.item import Item, evicted
from routegraph.validate.models.load import Loaded, load
from routegraph.validate.plan import Plan
from routegraph.validate.presses.deployed import check_deployable, deployed_press, is_deployable
from routegraph.validate.presses.methods import resolve, vocabulary
from routegraph.validate.presses.reference import reference_kept
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts
from routegraph.validate.tasks import load_task

RATIOS = (0.3, 0.6, 0.9)
NAMES = [one.name for one in vocabulary() if is_deployable(one)]


def both(model: Loaded, prompt: Prompt, name: str, chunk_length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what we and the press keep at each ratio."""
    import torch

    plan = Plan([name], RATIOS, chunk_length=chunk_length)
    item = Item.read(model, prompt, plan)
    eviction: Eviction = evicted(model, item, 0)[1][0]
    ids = torch.from_numpy(item.asked.context)[None]
    return [
        (
            survival.alive(ratio),
            reference_kept(model.model, ids, deployed_press(name, ratio, item.chunk_length)),
        )
        for survival, ratio in zip(eviction.survivals(RATIOS), RATIOS, strict=True)
    ]


@pytest.mark.parametrize("name", [*NAMES, "adakv@knorm", "chunk@keydiff", "chunkkv@knorm"])
def test_the_same_rows(tiny, name):
    prompt = next(prompt for prompt in bundled_prompts() if len(prompt.context) > 600)
    for ours, theirs in both(tiny, prompt, name, 64):
        np.testing.assert_array_equal(ours, theirs)
        assert not ours.all()


@pytest.mark.parametrize("name", ["topk", "adakv", "chunk", "topk@knorm"])
def test_the_same_rows_where_scores_are_equal(name):
    """Chunks of 16 rows with four protected, of which .9 keeps one; the same word has the same key norm."""
    model = load("llama-tiny")
    for prompt in load_task("words_forward", 3):
        for ours, theirs in both(model, prompt, name, 16):
            np.testing.assert_array_equal(ours, theirs)


def test_what_has_no_press_is_refused():
    assert {"adakv", "chunk", "snapkv", "pyramidkv", "streaming"} <= set(NAMES)
    assert not {"random", "bernoulli", "pyramid"} & set(NAMES)
    for name in ("random", "bernoulli", "pyramid", "snapkv@knorm"):
        assert not is_deployable(resolve(name))
        with pytest.raises(
            ValueError, match=f"policy '{name}' has no press of kvpress .* there are presses for: .*adakv"
        ):
            check_deployable(name)
    with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\), got 1.0"):
        deployed_press("topk", 1.0)

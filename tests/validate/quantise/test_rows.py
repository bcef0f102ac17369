"""A cache at fewer bits: each head's kept rows are rounded together, and nothing else is touched."""

import numpy as np
import pytest
import torch

from routegraph.validate.presses.prefill import prefill
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rows import rounded_cache, rounded_keys, rounded_values
from tests.helpers.models import N_RANDOM, random_ids, tiny_network
from tests.helpers.quantise import head_of

SHAPE = (3, 2, N_RANDOM)


@pytest.fixture(scope="module")
def cache():
    return prefill(tiny_network("llama"), random_ids())


def masks():
    """Three variants: all, other numbers of rows in every head, and heads that keep nothing or one row."""
    rng = np.random.default_rng(0)
    kept = np.ones((3, *SHAPE), dtype=bool)
    kept[1] = rng.random(SHAPE) < rng.uniform(0.1, 0.9, (*SHAPE[:2], 1))
    kept[2] = False
    kept[2, :, 1, 77] = True
    return kept


@pytest.mark.parametrize(
    "text", ["kivi2:group=8,residual=16", "kivi4:residual=0", "3:residual=20", "token8:residual=1"]
)
def test_what_each_variant_reads(cache, text):
    one, kept = Precision.named(text), masks()
    made = rounded_cache(cache, one, kept)
    for number, layer in enumerate(cache.layers):
        for variant, head in np.ndindex(3, 2):
            rows = kept[variant, number, head]
            n = int(rows.sum())
            for part, bits, by_channel, full in (
                ("keys", one.keys, one.layout.by_channel, one.full_keys(n)),
                ("values", one.values, False, one.full_values(n)),
            ):
                there = getattr(layer, part)[0, head].numpy()
                read = getattr(made.layers[number], part)[variant, head].numpy()
                slow, _ = head_of(
                    there[rows],
                    bits,
                    one.group,
                    by_channel=by_channel,
                    full=full,
                    symmetric=one.layout.symmetric,
                )
                np.testing.assert_array_equal(read[rows], slow)
                np.testing.assert_array_equal(read[~rows], there[~rows])


@pytest.mark.parametrize("text", ["2", "k8v3:group=5", "token8"])
def test_rows_that_are_rounded_by_themselves_are_shared(cache, text):
    one = Precision.named(text)
    made = rounded_cache(cache, one, masks())
    for layer, read in zip(cache.layers, made.layers, strict=True):
        assert read.keys.shape == layer.keys.shape
        assert (read.keys == rounded_keys(layer.keys, one)).all()
        assert (read.values == rounded_values(layer.values, one)).all()
        assert (read.keys != layer.keys).any()


def test_the_cache_itself_is_not_changed(cache):
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    for text in ("2", "kivi2:residual=32"):
        rounded_cache(cache, Precision.named(text), masks())
    for layer, (keys, values) in zip(cache.layers, before, strict=True):
        assert (layer.keys == keys).all()
        assert (layer.values == values).all()


def test_a_short_context_is_all_residual(cache):
    kept = np.zeros((1, *SHAPE), dtype=bool)
    kept[..., :100] = True
    made = rounded_cache(cache, Precision.named("kivi2"), kept)
    assert all((read.keys == layer.keys).all() for read, layer in zip(made.layers, cache.layers, strict=True))


def test_large_biases_of_a_channel_cost_nothing_by_channel_and_much_by_row():
    """Qwen2's keys have channels far from zero: a row's scale spans them all, a channel's does not."""
    keys = torch.randn(1, 1, 64, 32, generator=torch.Generator().manual_seed(0))
    keys[..., 3] += 200
    error = {
        text: (rounded_keys(keys, Precision.named(text)) - keys)[..., 4:].abs().mean().item()
        for text in ("4", "kivi4:residual=0")
    }
    assert error["4"] > 5 * error["kivi4:residual=0"]

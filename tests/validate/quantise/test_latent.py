"""Keys in the basis of their singular vectors: against a slow twin, laws, and the positions taken off and put back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.presses.prefill import prefill
from routegraph.validate.quantise.latent import basis_of, channel_bits, rounded_latent
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rotation import Rotation, rotations_of
from routegraph.validate.quantise.rows import rounded_cache, rounded_keys
from routegraph.validate.quantise.size import quantised_bytes
from tests.helpers.models import N_RANDOM, PARTICULAR, random_ids, tiny_network
from tests.helpers.quantise import head_of, rotated, svdq_of

TEXTS = ["svdq", "svdq:schedule=8-0,values=2", "svdq:schedule=16-4-3-2,group=5,residual=2", "svdq:schedule=4"]


def keys_like(n, width, seed, fall=0.7):
    """Keys whose latent channels fall fast, far from zero in one channel, turned by a random rotation."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    keys = rng.normal(size=(n, width)) * fall ** np.arange(width) @ turn
    keys[:, 0] += 30
    return keys.astype(np.float32)


@settings(max_examples=60)
@given(st.sampled_from(TEXTS), st.integers(0, 40), st.integers(1, 12), st.integers(0, 3))
def test_as_the_twin_does_and_packed_bytes(text, n, width, seed):
    one = Precision.named(text)
    keys, values = keys_like(n, width, seed), keys_like(n, width, seed + 9)
    made, packed = svdq_of(keys, one.schedule, one.group, one.full_keys(n))
    _, rest = head_of(values, one.values, one.group, by_channel=False, full=one.full_values(n))
    assert quantised_bytes([n], width, one) == len(packed) + len(rest)
    if n - one.full_keys(n) > width:  # else singular vectors of 0 are any
        np.testing.assert_allclose(rounded_keys(torch.from_numpy(keys), one).numpy(), made, atol=2e-5)


def test_ugly_keys():
    one = Precision.named("svdq")
    for keys in (torch.zeros(5, 8), torch.full((1, 8), -3.5), torch.ones(7, 8) * 200, torch.empty(0, 8)):
        np.testing.assert_array_equal(rounded_keys(keys, one).numpy(), keys.numpy())
    for bad, said in ((float("nan"), "not finite in torch.float32"), (1e6, "no 16-bit mean")):
        with pytest.raises(ValueError, match=said):
            rounded_keys(torch.full((5, 8), bad), one)


def test_unrounded_latent_channels_are_the_keys():
    keys = torch.from_numpy(keys_like(60, 16, 0))
    made = rounded_latent(keys, (16,))
    assert (made - keys).abs().max() < 2e-3 * (keys - keys.mean(dim=0)).abs().max()
    assert (rounded_latent(keys, (8,)) - keys).abs().max() < 0.05
    basis = basis_of(keys, 16)
    latent = basis.latent(keys)
    singular = np.linalg.svd(keys.numpy() - keys.numpy().mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(latent.square().sum(dim=0).sqrt(), singular, rtol=5e-3, atol=0.02)


def test_fewer_bits_are_further_and_never_more_bytes():
    keys = torch.from_numpy(keys_like(80, 16, 1))
    schedules = ["16", "8", "8-8-4-4", "8-4-4-2", "4-4-2-2", "4-4-2-0", "4-2-0-0", "2-0-0-0"]
    named = [Precision.named(f"svdq:schedule={one}") for one in schedules]
    errors = [(rounded_keys(keys, one) - keys).square().mean().item() for one in named]
    taken = [quantised_bytes([80], 16, one) for one in named]
    assert errors == sorted(errors)
    assert taken == sorted(taken, reverse=True)


def test_at_equal_bits_the_basis_is_nearer_than_channels_where_singular_values_fall():
    keys = torch.from_numpy(keys_like(256, 32, 2))
    error = {
        text: (rounded_keys(keys, Precision.named(text)) - keys).square().mean().item()
        for text in ("svdq:schedule=4-4-4-4-0-0-0-0", "kivi2:group=0,residual=0")
    }
    assert error["svdq:schedule=4-4-4-4-0-0-0-0"] < error["kivi2:group=0,residual=0"] / 10


def test_parts_of_the_latent_channels():
    assert channel_bits((8, 4, 0), 7) == [8, 8, 8, 4, 4, 0, 0]
    assert channel_bits((8, 4, 2, 0), 2) == [8, 2]


def test_a_rotation_by_hand():
    """As rotated pair by pair; turned back they are as they were, whatever they are multiplied by, and however wide."""
    rng = np.random.default_rng(0)
    keys, positions = rng.normal(size=(6, 8)), np.array([0, 1, 5, 9, 70, 1000])
    angle = positions[:, None] * 10_000.0 ** (-2 * np.arange(4) / 8)
    both = np.concatenate([angle, angle], axis=1)
    turn = Rotation(torch.from_numpy(1.3 * np.cos(both)), torch.from_numpy(1.3 * np.sin(both)))
    wide = torch.from_numpy(np.concatenate([keys, keys[:, :3]], axis=1))
    there = turn.turned(wide)
    np.testing.assert_allclose(there[:, :8].numpy(), 1.3 * rotated(keys, positions), atol=1e-12)
    assert (there[:, 8:] == wide[:, 8:]).all()
    np.testing.assert_allclose(turn.back(there).numpy(), wide.numpy(), atol=1e-12)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3_text", "smollm3", "phi3", "olmo2"])
def test_keys_without_positions_are_what_the_model_projects(family):
    """Of every layer: what k_proj, and the norm where there is one, gave before the rotation."""
    more = {"partial_rotary_factor": 0.5} if family == "phi3" else {}
    network = tiny_network(family, **{**PARTICULAR.get(family, {}), **more})
    given, handles = {}, []
    for number, layer in enumerate(network.base_model.layers):
        module = layer.self_attn
        source = getattr(module, "k_norm", None) or getattr(module, "k_proj", None) or module.qkv_proj

        def note(_module, _args, output, number=number):
            given[number] = output[0]

        handles.append(source.register_forward_hook(note))
    cache = prefill(network, random_ids())
    for handle in handles:
        handle.remove()
    turned = rotations_of(network, N_RANDOM)
    assert [one is None for one in turned] == [family == "smollm3" and number == 1 for number in range(3)]
    for number, layer in enumerate(cache.layers):
        wanted = given[number]
        if wanted.ndim == 2:  # [n, heads * d]; phi3 has queries and values beside
            wanted = wanted[:, 64:96] if family == "phi3" else wanted
            wanted = wanted.reshape(N_RANDOM, 2, 16).transpose(0, 1)
        elif wanted.shape[0] == N_RANDOM:  # [n, heads, d]
            wanted = wanted.transpose(0, 1)
        turn = turned[number]
        plain = layer.keys[0] if turn is None else turn.back(layer.keys[0].double())
        np.testing.assert_allclose(plain.numpy(), wanted.numpy(), atol=2e-4)
        if turn is not None:
            assert (plain - layer.keys[0]).abs().max() > 0.1


def test_each_head_has_the_basis_of_the_rows_it_keeps_without_their_positions():
    network = tiny_network("llama")
    cache, one = prefill(network, random_ids()), Precision.named("svdq:schedule=8-4-2-0,group=16")
    kept = np.random.default_rng(0).random((2, 3, 2, N_RANDOM)) < 0.6
    turned = rotations_of(network, N_RANDOM)
    made = rounded_cache(cache, one, kept, turned)
    for variant, number, head in np.ndindex(2, 3, 2):
        rows = kept[variant, number, head]
        own = turned[number].at(torch.from_numpy(np.flatnonzero(rows)))
        there = cache.layers[number].keys[0, head]
        slow, _ = svdq_of(own.back(there[rows].double()).numpy(), one.schedule, one.group, 0)
        read = made.layers[number].keys[variant, head]
        np.testing.assert_allclose(read[rows], own.turned(torch.from_numpy(slow).double()), atol=2e-4)
        assert (read[~rows] == there[~rows]).all()
    with pytest.raises(ValueError, match="tell the rotations of the layers"):
        rounded_cache(cache, one, kept)

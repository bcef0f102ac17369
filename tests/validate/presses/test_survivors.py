"""What a press of kvpress keeps, asked of the press itself: one prefill for all ratios."""

import numpy as np
import pytest

from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.reference import reference_kept
from routegraph.validate.presses.survivors import Survivors, survivors
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.models import random_ids, tiny_network

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
N = 170


def presses_of(kv):
    """Every way that kvpress has of cutting scores, by name."""
    return {
        "adakv": lambda r: kv.AdaKVPress(kv.KnormPress(r)),
        "block": lambda r: kv.BlockPress(kv.KnormPress(r), block_size=16),
        "chunk": lambda r: kv.ChunkPress(kv.KeyDiffPress(r), chunk_length=50),
        "chunkkv": lambda r: kv.ChunkKVPress(kv.KnormPress(r)),
        "critical": lambda r: kv.CriticalKVPress(kv.KnormPress(r)),
        "critical adakv": lambda r: kv.CriticalAdaKVPress(kv.SnapKVPress(r, window_size=8)),
        "entropy": lambda r: kv.EntropyGatedChunkKVPress(kv.SnapKVPress(r, window_size=8)),
        "rerotated": lambda r: kv.KeyRerotationPress(kv.KnormPress(r)),
        "pyramid": lambda r: kv.PyramidKVPress(r, window_size=4, beta=4),
        "keydiff": lambda r: kv.KeyDiffPress(r),
    }


@pytest.mark.parametrize("name", list(presses_of(kvpress())))
def test_survivors_of_one_prefill_are_those_of_a_run_each(network, name):
    factory = presses_of(kvpress())[name]
    before = network.model.layers[0].self_attn.__dict__.keys()
    found = survivors(network, random_ids(N), factory, RATIOS)
    assert network.model.layers[0].self_attn.__dict__.keys() - before <= {"masked_key_indices"}
    assert found.source == "one prefill"
    assert found.ratios.tolist() == list(RATIOS)
    for ratio, kept in zip(RATIOS, found.kept, strict=True):
        np.testing.assert_array_equal(kept, reference_kept(network, random_ids(N), factory(ratio)))
        if found.nested:
            np.testing.assert_array_equal(found.survival.alive(ratio), kept)


def test_one_prefill_serves_every_ratio(network):
    calls = []
    handle = network.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    survivors(network, random_ids(N), lambda r: kvpress().KeyDiffPress(r), RATIOS)
    handle.remove()
    assert len(calls) == 1


def test_nested_and_not(network):
    kv = kvpress()
    nested = survivors(network, random_ids(N), lambda r: kv.AdaKVPress(kv.KeyDiffPress(r)))
    assert nested.statement == "nested, from one prefill"
    assert nested.press == "AdaKVPress"
    assert nested.survival.alive(0).all()
    random = survivors(network, random_ids(N), lambda r: kv.RandomPress(r), [0.3, 0.5])
    assert random.statement == "grid of kept sets, from one prefill"
    with pytest.raises(ValueError, match="kept sets of RandomPress are not nested over these ratios"):
        _ = random.survival


def test_a_press_with_a_hook_of_its_own_runs_at_each_ratio(network):
    kv = kvpress()

    def per_layer(ratio):
        return kv.PerLayerCompressionPress(kv.KeyDiffPress(), compression_ratios=[ratio, ratio / 2, 0.0])

    found = survivors(network, random_ids(N), per_layer, [0.5, 0.9])
    assert found.statement == "nested, from a run for each ratio"
    assert found.kept[1].sum(axis=-1).tolist() == [[int(N * (1 - r))] * 2 for r in (0.9, 0.45)] + [[N, N]]


def test_survivors_are_stored_with_their_statement(network, tmp_path):
    found = survivors(network, random_ids(N), lambda r: kvpress().KnormPress(r), [0.9, 0.2, 0.5])
    found.save(tmp_path / "s.npz")
    again = Survivors.load(tmp_path / "s.npz")
    assert again.ratios.tolist() == [0.2, 0.5, 0.9]
    np.testing.assert_array_equal(again.kept, found.kept)
    assert (again.press, again.statement) == ("KnormPress", found.statement)
    with np.load(tmp_path / "s.npz") as stored:
        assert str(stored["statement"]) == found.statement
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:200])
    for path, words in (
        ("none.npz", "no survivors file"),
        ("damaged.npz", "is no survivors file, or is damaged"),
    ):
        with pytest.raises(ValueError, match=words):
            Survivors.load(tmp_path / path)


@pytest.mark.parametrize(
    ("press", "words"),
    [
        (lambda kv, r: kv.FinchPress(r), "No delimiter token ID provided.*update_model_and_tokenizer"),
        (lambda kv, r: kv.SnapKVPress(r, window_size=N), "SnapKVPress cannot run here: Query length 170"),
        (lambda kv, r: kv.ObservedAttentionPress(r), "ObservedAttentionPress cannot run here: Set attn"),
        (
            lambda kv, r: kv.ThinKPress(r, window_size=8),
            "ThinKPress changes rows, and does not only evict them",
        ),
        (lambda kv, r: kv.MergingPress(kv.KnormPress(r)), "MergingPress changes rows, and does not only"),
        (lambda kv, r: kv.KVzipPress(r), "KVzipPress cannot run here"),
        (
            lambda kv, r: kv.DMSPress(kv.KnormPress(), threshold=0.0),
            "DMSPress keeps: its compress does not run",
        ),
        (
            lambda kv, r: kv.SimLayerKVPress(lazy_threshold=0.0, n_last=1, n_recent=8),
            "cannot tell which rows",
        ),
        (lambda kv, r: kv.KnormPress(2), "cannot run here: Compression ratio must be between 0 and 1"),
    ],
)
def test_presses_that_cannot_be_asked_are_one_sentence(network, press, words):
    with pytest.raises(ValueError, match=words) as caught:
        survivors(network, random_ids(N), lambda r: press(kvpress(), r), [0.5])
    assert "\n" not in str(caught.value)


def test_bad_input_of_survivors(network, tiny):
    kv = kvpress()
    with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\), got 1.0"):
        survivors(network, random_ids(N), kv.KnormPress, [0.5, 1])
    with pytest.raises(ValueError, match="a text needs the tokenizer of a Loaded model"):
        survivors(network, "a text", kv.KnormPress)
    with pytest.raises(ValueError, match="one context at a time"):
        survivors(network, random_ids(N)[0], kv.KnormPress)
    found = survivors(tiny, "Ada lives in Paris, and likes it there.", kv.KnormPress)
    assert found.kept.shape[:3] == (5, 3, 2)
    found = survivors(tiny, Prompt(id="p", context="Ada lives in Paris, and likes it."), kv.KnormPress, [0.5])
    assert found.kept.shape[:3] == (1, 3, 2)


@pytest.mark.parametrize(("family", "spared"), [("qwen2", False), ("gemma3_text", True)])
def test_windows(family, spared):
    """Rows that the next query does not see are no survivors; Gemma-3's local layers are left alone."""
    settings = {"use_sliding_window": True, "max_window_layers": 2} if family == "qwen2" else {}
    network = tiny_network(family, sliding_window=20, **settings)
    found = survivors(network, random_ids(N), lambda r: kvpress().KnormPress(r), RATIOS)
    raw = np.stack([reference_kept(network, random_ids(N), kvpress().KnormPress(r)) for r in RATIOS])
    seen = np.arange(N) > N - 20  # the first query after the context is at position N
    np.testing.assert_array_equal(found.kept[:, 1], raw[:, 1])
    np.testing.assert_array_equal(found.kept[:, 2], np.broadcast_to(seen, (7, 2, N)) & (raw[:, 2] | spared))


@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_gemma3_as_kvpress_knows_it(ratio):
    """kvpress knows the class that reads images, too; its text model is the one we read."""
    import torch
    from transformers import DynamicCache, Gemma3Config, Gemma3ForConditionalGeneration

    text, kv = tiny_network("gemma3_text", sliding_window=20), kvpress()
    sight = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma3Config(
        text_config=text.config.to_dict(),
        vision_config={**sight, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    config._attn_implementation = "sdpa"
    whole = Gemma3ForConditionalGeneration(config).eval()
    whole.model.language_model.load_state_dict(text.model.state_dict())
    cache, every = DynamicCache(), DynamicCache()
    with torch.no_grad():
        with kv.KnormPress(ratio)(whole):
            whole.model.language_model(random_ids(N), past_key_values=cache)
        text.model(random_ids(N), past_key_values=every)
    kept = survivors(text, random_ids(N), lambda r: kv.KnormPress(r), [ratio]).kept[0]
    for local in (0, 2):
        assert torch.equal(cache.layers[local].keys, every.layers[local].keys)
        np.testing.assert_array_equal(kept[local], np.broadcast_to(np.arange(N) > N - 20, (2, N)))
    ours = every.layers[1].keys[0][torch.from_numpy(kept[1])].reshape(2, -1, 16)
    assert torch.equal(ours.sort(1).values, cache.layers[1].keys[0].sort(1).values)

"""What kvpress really keeps, slot by slot, against the levels we derive from one prefill."""

import subprocess
import sys

import numpy as np
import pytest

from routegraph import policies
from routegraph.survival import n_kept
from routegraph.validate.models.families import readable_types
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill
from routegraph.validate.presses import reference as reference_
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.reference import (
    REFERENCE_RATIOS,
    KeptComparison,
    compare_kept,
    compare_with_kvpress,
    competitors,
)
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.models import N_RANDOM, random_ids, tiny_network, token_ids

#: Policies that are compared on SmolLM2, whose prefills are slow; chunkkv is on random models only.
SLOW = ("adakv", "chunk", "topk")
Rows = list[tuple[str, float, KeptComparison]]


def check(
    rows: Rows,
    n: int,
    ratios: tuple[float, ...] = REFERENCE_RATIOS,
    chunk_length: int = 64,
    names: tuple[str, ...] | None = None,
) -> int:
    """Demand that nothing differs but ties, and those only where a cut goes through a chunk's four sinks.

    Returns the number of tied slots.
    """
    assert [row[:2] for row in rows] == [
        (policy, ratio) for policy in names or reference_.with_press() for ratio in ratios
    ]
    assert [row[:2] for row in rows if row[2].mismatches] == []
    chunks = {min(chunk_length, n - start) for start in range(0, n, chunk_length)}
    for policy, ratio, comparison in rows:
        through_sinks = policy == "chunk" and min(n_kept(length, ratio) for length in chunks) < 4
        assert through_sinks or not comparison.ties, (policy, ratio)
    return sum(comparison.ties for _, _, comparison in rows)


class TestAgainstKvpress:
    def test_smollm2(self, smollm2: Loaded, short_prompts: list[Prompt]) -> None:
        self.compare(smollm2, short_prompts, scorer="expected_attention")

    def test_smollm2_scored_by_kvpress_alone(self, smollm2: Loaded, short_prompts: list[Prompt]) -> None:
        ids = token_ids(smollm2, short_prompts[0])
        rows = compare_with_kvpress(smollm2.model, ids, [0.7], policy_names=SLOW)
        check(rows, ids.shape[1], (0.7,), names=SLOW)

    @pytest.mark.verify
    def test_smollm2_scored_by_kvpress_alone_everywhere(
        self, smollm2: Loaded, short_prompts: list[Prompt]
    ) -> None:
        self.compare(smollm2, short_prompts, scorer=None)

    @staticmethod
    def compare(smollm2: Loaded, prompts: list[Prompt], scorer: str | None) -> None:
        ties, slots = 0, 0
        for prompt in prompts:
            ids = token_ids(smollm2, prompt)
            rows = compare_with_kvpress(
                smollm2.model, ids, REFERENCE_RATIOS, scorer=scorer, policy_names=SLOW
            )
            assert {row[2].slots for row in rows} == {30 * 3 * ids.shape[1]}
            ties += check(rows, ids.shape[1], names=SLOW)
            slots += sum(row[2].slots for row in rows)
        print(f"{slots} slots compared, {ties} of them tied at the cut and broken differently, 0 mismatches")
        assert 0 < ties < slots / 50

    @pytest.mark.parametrize("family", readable_types())
    def test_random_models(self, family: str) -> None:
        check(compare_with_kvpress(tiny_network(family), random_ids(), REFERENCE_RATIOS), N_RANDOM)

    @pytest.mark.parametrize("chunk_length", [5, 50, 170, 1000])
    def test_other_chunk_lengths(self, chunk_length: int) -> None:
        rows = compare_with_kvpress(tiny_network("llama"), random_ids(), [0.3, 0.7], chunk_length)
        check(rows, N_RANDOM, (0.3, 0.7), chunk_length)

    def test_pruned_cache_has_the_rows_that_were_recorded(self) -> None:
        """The record of what is kept is true: those keys, and no others, are in the cache afterwards."""
        import torch

        model, ids = tiny_network("llama"), random_ids()
        whole = prefill.prefill(model, ids)
        press = reference_.reference_press("topk", 0.7)
        alive = reference_.reference_kept(model, ids, press)
        from transformers import DynamicCache

        cache = DynamicCache()
        with torch.no_grad(), press(model):
            model(ids, past_key_values=cache)
        for layer in range(3):
            for head in range(2):
                pruned = cache.layers[layer].keys[0, head]
                kept_keys = whole.layers[layer].keys[0, head][torch.from_numpy(alive[layer, head])]
                assert len(pruned) == n_kept(N_RANDOM, 0.7)
                assert sorted(map(tuple, pruned.tolist())) == sorted(map(tuple, kept_keys.tolist()))

    def test_presses_that_merge_are_refused(self) -> None:
        class Halving(kvpress().BasePress):  # type: ignore[misc]
            compression_ratio = 0.5

            def compress(self, module, hidden_states, keys, values, attentions, kwargs):  # type: ignore[no-untyped-def]
                return keys[:, :, ::2], values[:, :, ::2]

        with pytest.raises(ValueError, match="cannot tell which rows Halving keeps"):
            reference_.reference_kept(tiny_network("llama"), random_ids(), Halving())

    def test_unknown_policy(self) -> None:
        with pytest.raises(
            ValueError, match="policy 'random' has no press to compare with; choose from: adakv"
        ):
            reference_.reference_press("random", 0.5)


class TestComparison:
    scores = np.array([[[5, 5, 5, 5, 1, 3, 2, 0]]], dtype=np.float32)
    groups = competitors("topk", (1, 1, 8))

    def alive(self, *rows: int) -> np.ndarray:
        return np.isin(np.arange(8), rows)[None, None]

    def test_equal(self) -> None:
        found = compare_kept(self.alive(0, 1), self.alive(0, 1), self.scores, self.groups)
        assert found == KeptComparison(slots=8, ties=0, mismatches=0)

    def test_tie_at_the_cut(self) -> None:
        found = compare_kept(self.alive(0, 1, 2), self.alive(3, 1, 2), self.scores, self.groups)
        assert found == KeptComparison(slots=8, ties=2, mismatches=0)

    def test_other_score_is_a_mismatch(self) -> None:
        found = compare_kept(self.alive(0, 1, 2, 3, 5), self.alive(0, 1, 2, 3, 6), self.scores, self.groups)
        assert found == KeptComparison(slots=8, ties=0, mismatches=2)

    def test_other_number_is_a_mismatch(self) -> None:
        found = compare_kept(self.alive(0, 1), self.alive(0), self.scores, self.groups)
        assert found == KeptComparison(slots=8, ties=0, mismatches=1)

    def test_ties_do_not_reach_across_groups(self) -> None:
        groups = competitors("chunk", (1, 1, 8), 2)
        found = compare_kept(self.alive(0), self.alive(2), self.scores, groups)
        assert found == KeptComparison(slots=8, ties=0, mismatches=2)

    def test_competitors(self) -> None:
        shape = (2, 3, 5)
        assert competitors("adakv", shape)[1].tolist() == [[1] * 5] * 3
        assert competitors("topk", shape)[1, 2].tolist() == [5] * 5
        assert competitors("chunk", shape, 2)[1, 2].tolist() == [15, 15, 16, 16, 17]


def test_importing_kvpress_leaves_attention_functions_alone() -> None:
    code = """
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions
before = dict(functions.items())
from routegraph.validate.presses import reference
from routegraph.validate.presses.kvpress_fixes import kvpress as imported
imported()
assert {name: functions[name] is before[name] for name in before} == dict.fromkeys(before, True)
with reference.patched_attention():
    with reference.patched_attention():
        wrapped = functions["sdpa"]
    assert wrapped is functions["sdpa"] is not before["sdpa"], "wrapped once"
assert all(functions[name] is before[name] for name in before)
import kvpress.attention_patch
kvpress.attention_patch.patch_attention_functions()  # a user who wants it so
users = functions["sdpa"]
with reference.patched_attention():
    assert functions["sdpa"] is users
assert functions["sdpa"] is users
print("as it was")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "as it was\n", done.stderr


def test_masks_hold_in_decoding_only_under_patched_attention() -> None:
    """What AdaKV masks changes the next token's logits with kvpress's attention functions, and not without."""
    import torch

    model, ids = tiny_network("llama"), random_ids()
    press = reference_.reference_press("adakv", 0.9)
    cache = None

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model(ids[:, -1:], past_key_values=cache).logits[0, -1]

    for patched in (False, True):
        from transformers import DynamicCache

        cache = DynamicCache()
        with torch.no_grad(), press(model):
            model.model(ids[:, :-1], past_key_values=cache)
        if patched:
            with reference_.patched_attention():
                masked = logits()
        else:
            plain = logits()
    reference = prefill.prefill(model, ids[:, :-1])
    with torch.no_grad():
        for module in prefill.attention_modules(model):
            module.masked_key_indices = None
        whole = model(ids[:, -1:], past_key_values=reference).logits[0, -1]
    assert torch.equal(plain, whole)
    assert (masked - whole).abs().max() > 0.1


def test_streaming_policy_keeps_what_streaming_llm_keeps() -> None:
    model, ids = tiny_network("llama"), random_ids()
    ours = policies.apply("streaming", np.zeros((3, 2, N_RANDOM)))
    for ratio in REFERENCE_RATIOS:
        theirs = reference_.reference_kept(model, ids, kvpress().StreamingLLMPress(ratio, n_sink=4))
        np.testing.assert_array_equal(ours.alive(ratio), theirs)

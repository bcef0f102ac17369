"""What kvpress really keeps, slot by slot, against the levels we derive from one prefill."""

import subprocess
import sys

import numpy as np
import pytest

from routegraph import policies
from routegraph.survival import n_kept
from routegraph.validate.models.families import readable_types
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill, scorers
from routegraph.validate.presses import reference as reference_
from routegraph.validate.presses.kvpress_fixes import kvpress, queries_once
from routegraph.validate.presses.reference import (
    RATIOS,
    KeptComparison,
    compare_kept,
    compare_with_kvpress,
    competitors,
)
from routegraph.validate.presses.scorers import SCORERS
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.models import N_RANDOM, random_ids, tiny_network, token_ids

Rows = list[tuple[str, float, KeptComparison]]


def check(rows: Rows, n: int, ratios: tuple[float, ...] = RATIOS, chunk_length: int = 64) -> int:
    """Demand that nothing differs but ties, and those only where a cut goes through a chunk's four sinks.

    Returns the number of tied slots.
    """
    assert [row[:2] for row in rows] == [
        (policy, ratio) for policy in reference_.POLICIES for ratio in ratios
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
        check(compare_with_kvpress(smollm2.model, ids, [0.7]), ids.shape[1], (0.7,))

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
            rows = compare_with_kvpress(smollm2.model, ids, RATIOS, scorer=scorer)
            assert {row[2].slots for row in rows} == {30 * 3 * ids.shape[1]}
            ties += check(rows, ids.shape[1])
            slots += sum(row[2].slots for row in rows)
        print(f"{slots} slots compared, {ties} of them tied at the cut and broken differently, 0 mismatches")
        assert 0 < ties < slots / 50

    @pytest.mark.parametrize("family", readable_types())
    def test_random_models(self, family: str) -> None:
        check(compare_with_kvpress(tiny_network(family), random_ids(), RATIOS), N_RANDOM)

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


class TestScores:
    def test_equal_to_what_presses_compute_while_they_prune(
        self, smollm2: Loaded, short_prompts: list[Prompt]
    ) -> None:
        """To the last bit, in every layer, although the presses prune: scores do not depend on the ratio."""
        ids = token_ids(smollm2, short_prompts[0])
        ours = prefill.prefill_scores(smollm2.model, ids, SCORERS["expected_attention"](), [64])
        for policy, table in (("topk", ours[None]), ("chunk", ours[64])):
            scores = kvpress().ExpectedAttentionPress()
            seen: list[np.ndarray] = []
            original = scores.score

            def record(*args, original=original, seen=seen):  # type: ignore[no-untyped-def]
                result = original(*args)
                seen.append(result[0].numpy().copy())
                return result

            scores.score = record
            reference_.reference_kept(smollm2.model, ids, reference_.reference_press(policy, 0.8, 64, scores))
            per_layer = len(seen) // 30
            theirs = [
                np.concatenate(seen[i : i + per_layer], axis=-1) for i in range(0, len(seen), per_layer)
            ]
            np.testing.assert_array_equal(table, np.stack(theirs))
        assert ours[None].dtype == np.float32
        assert not np.array_equal(ours[None], ours[64])

    def test_sinks_are_protected(self) -> None:
        tables = prefill.prefill_scores(
            tiny_network("qwen2"), random_ids(), SCORERS["expected_attention"](n_sink=6), [50]
        )
        for table, length in ((tables[None], N_RANDOM), (tables[50], 50)):
            for start in range(0, N_RANDOM, length):
                chunk = table[..., start : start + length]
                assert (chunk[..., :6].min(axis=(1, 2)) > chunk[..., 6:].max(axis=(1, 2))).all()

    def test_parameters_reach_the_press(self) -> None:
        model, ids = tiny_network("llama"), random_ids()

        def table(**parameters: object) -> np.ndarray:
            return prefill.prefill_scores(model, ids, SCORERS["expected_attention"](**parameters))[None]

        usual = table()
        for name, value in (
            ("n_future_positions", 9),
            ("use_covariance", False),
            ("use_vnorm", False),
            ("epsilon", 1.0),
        ):
            assert not np.array_equal(usual, table(**{name: value})), name
        assert set(SCORERS.parameters("expected_attention")) == {
            "n_sink",
            "n_future_positions",
            "use_covariance",
            "use_vnorm",
            "epsilon",
        }

    def test_the_model_is_left_as_it_was(self) -> None:
        model, ids = tiny_network("qwen3"), random_ids()
        before = prefill.prefill(model, ids)
        names = set(dict(model.named_modules()))
        compare_with_kvpress(model, ids, [0.9])
        assert set(dict(model.named_modules())) == names
        assert not any(module._forward_hooks for module in model.modules())
        after = prefill.prefill(model, ids)
        for layer, again in zip(before.layers, after.layers, strict=True):
            assert (layer.keys == again.keys).all()
            assert again.keys.shape[2] == N_RANDOM

    def test_short_contexts(self) -> None:
        model, press = tiny_network("llama"), SCORERS["expected_attention"]()
        with pytest.raises(ValueError, match="the context must have more than 4 tokens to be scored, got 4"):
            prefill.prefill_scores(model, random_ids(4), press)
        assert prefill.prefill_scores(model, random_ids(5), press)[None].shape == (3, 2, 5)

    @pytest.mark.parametrize(("n", "rest"), [(129, 1), (132, 4), (68, 4)])
    def test_short_last_chunks(self, n: int, rest: int) -> None:
        with pytest.raises(
            ValueError,
            match=f"'p' has {n} tokens, so its last chunk of 64 has only {rest}, .* another chunk length",
        ):
            scorers.check_length(n, 4, 64, "prompt 'p'")

    @pytest.mark.parametrize("n", [5, 64, 69, 128, 133])
    def test_long_enough_chunks(self, n: int) -> None:
        scorers.check_length(n, 4, 64, "prompt 'p'")

    def test_chunks_of_sinks_only(self) -> None:
        with pytest.raises(ValueError, match=r"chunk length must be above 4, the tokens protected .* got 4"):
            scorers.check_length(100, 4, 4, "prompt 'p'")

    def test_scores_that_are_not_finite(self) -> None:
        import torch

        model = tiny_network("llama")
        model.model.layers[1].self_attn.q_proj.weight[0, 0] = torch.nan
        with pytest.raises(ValueError, match=r"not finite in torch.float32; use float32"):
            prefill.prefill_scores(model, random_ids(), SCORERS["expected_attention"]())


def test_importing_kvpress_leaves_attention_functions_alone() -> None:
    code = """
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions
before = dict(functions.items())
from routegraph.validate.presses import reference as reference_
from routegraph.validate.presses.kvpress_fixes import kvpress
kvpress()
assert {name: functions[name] is before[name] for name in before} == dict.fromkeys(before, True)
with reference_.patched_attention():
    with reference_.patched_attention():
        wrapped = functions["sdpa"]
    assert wrapped is functions["sdpa"] is not before["sdpa"], "wrapped once"
assert all(functions[name] is before[name] for name in before)
import kvpress.attention_patch
kvpress.attention_patch.patch_attention_functions()  # a user who wants it so
users = functions["sdpa"]
with reference_.patched_attention():
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
    for ratio in RATIOS:
        theirs = reference_.reference_kept(model, ids, kvpress().StreamingLLMPress(ratio, n_sink=4))
        np.testing.assert_array_equal(ours.alive(ratio), theirs)


def test_queries_are_projected_once_and_stay_what_they_are(tiny: Loaded) -> None:
    """Slices of the layer's own input are answered from memory; anything else is worked out."""
    import torch

    module = prefill.attention_modules(tiny.model)[1]
    hidden = torch.randn(1, 40, module.q_proj.in_features)
    plain = module.q_proj(hidden)
    with queries_once([module]):
        assert torch.equal(module.q_proj(hidden), plain)
        with torch.no_grad():
            module.q_proj.weight.mul_(2)  # what comes from memory does not see this
        twice = module.q_proj.weight, module.q_proj.bias
        assert torch.equal(module.q_proj(hidden), plain)
        assert torch.equal(module.q_proj(hidden[:, 4:]), plain[:, 4:])
        assert torch.equal(module.q_proj(hidden[:, 4:24]), plain[:, 4:24])
        for other in (hidden[:, 4:12], hidden.clone(), hidden[:, ::2], hidden[:, :20] + 0):
            assert torch.equal(module.q_proj(other), torch.nn.functional.linear(other, *twice))
        with torch.no_grad():
            module.q_proj.weight.div_(2)
    assert "forward" not in vars(module.q_proj)
    assert torch.equal(module.q_proj(hidden), plain)
    with pytest.raises(KeyError), queries_once([module]):
        raise KeyError
    assert "forward" not in vars(module.q_proj)

"""Scores of one prefill, against what presses compute while they prune."""

import numpy as np
import pytest

from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill, scorers
from routegraph.validate.presses import reference as reference_
from routegraph.validate.presses.kvpress_fixes import kvpress, queries_once
from routegraph.validate.presses.reference import compare_with_kvpress
from routegraph.validate.presses.scorers import SCORERS
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.models import N_RANDOM, random_ids, tiny_network, token_ids


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

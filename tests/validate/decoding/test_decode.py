"""Decoding by masks on a shared cache, against plain generation and against what kvpress really answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import policies
from routegraph.survival import n_kept
from routegraph.trace import Trace
from routegraph.validate.decoding import read_kept
from routegraph.validate.decoding.decode import Decoded, bytes_per_variant, decode, score, variants
from routegraph.validate.models.families import readable_types
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill, reference
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import tokenise
from tests.helpers.decoding import QUESTION, TOLERANCE, against_kvpress, context, small
from tests.helpers.models import N_RANDOM, random_ids
from tests.helpers.references import eager

FAMILIES = readable_types()
ROPE = {"rope_theta": 10000.0}
ORIGINAL = {"original_max_position_embeddings": 64}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL}
SHAPE = (3, 2, N_RANDOM)
#: What checkpoints do otherwise than the tiny networks: heads, biases, ties, scaled positions.
UNWINDOWED = [
    ("llama", {"num_key_value_heads": 1, "head_dim": 24}),
    ("llama", {"attention_bias": True, "tie_word_embeddings": True}),
    ("llama", {"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 4.0}}),
    ("llama", {"rope_parameters": {**ROPE, **LLAMA3}}),
    ("qwen2", {"rope_parameters": {**ROPE, "rope_type": "yarn", "factor": 4.0, **ORIGINAL}}),
]
#: Windows that act on a context of N_RANDOM tokens.
WINDOWED = [
    ("mistral", {"sliding_window": 20}),
    ("phi3", {"sliding_window": 100}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 20}),
    ("gemma2", {"sliding_window": 20}),
    ("gemma3_text", {"sliding_window": N_RANDOM + 3}),  # acts on the reply only
    ("gemma3_text", {"sliding_window": 2}),
]
VARIANTS = [
    *UNWINDOWED,
    *WINDOWED,
    ("phi3", {"partial_rotary_factor": 0.5}),
]


def everything(n_variants: int = 1) -> np.ndarray:
    return np.ones((n_variants, *SHAPE), dtype=bool)


def some(n_variants: int, seed: int = 0, share: float = 0.3) -> np.ndarray:
    """Random masks: other rows, and another number of them, in every slot."""
    rng = np.random.default_rng(seed)
    return rng.random((n_variants, *SHAPE)) < rng.uniform(0, 2 * share, (n_variants, *SHAPE[:2], 1))


def generated(model: Loaded, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and logits of transformers' own greedy generation, with its eager attention."""
    import torch

    with torch.no_grad(), eager(model.model):
        found = model.model.generate(
            torch.from_numpy(ids)[None],
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=n,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
    return found.sequences[0, len(ids) :].numpy(), torch.cat(found.logits).numpy()


def same(first: Decoded, second: Decoded) -> None:
    assert first.texts == second.texts
    assert all(np.array_equal(*pair) for pair in zip(first.token_ids, second.token_ids, strict=True))
    np.testing.assert_allclose(first.logits, second.logits, atol=TOLERANCE)


class TestAgainstGeneration:
    @pytest.mark.parametrize(("family", "settings"), [*((family, {}) for family in FAMILIES), *VARIANTS])
    def test_nothing_evicted(self, family: str, settings: dict[str, Any]) -> None:
        model, n = small(family, **settings), 12
        tokens, logits = generated(model, np.concatenate([context(), QUESTION]), n)
        kept = np.ones((2, model.n_layers, model.n_heads, N_RANDOM), dtype=bool)
        found = decode(model, context(), QUESTION, kept, n, n_logits=n)
        for variant in range(2):
            assert found.token_ids[variant].tolist() == tokens.tolist()
            np.testing.assert_allclose(found.logits[variant], logits, atol=TOLERANCE)
        assert found.texts[0] == " ".join(map(str, tokens))
        assert len(set(tokens)) > 2, "a reply that repeats itself shows little"

    @pytest.mark.parametrize(("family", "settings"), WINDOWED)
    def test_evicted_beside_a_window(self, family: str, settings: dict[str, Any]) -> None:
        """The slow twin runs the whole text again for every token, and masks what is gone besides the model's masks."""
        import torch
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as FUNCTIONS

        model, kept, n = small(family, **settings), some(1, share=0.6), 3
        running = model.model.config._attn_implementation
        original, dead = FUNCTIONS[running], torch.from_numpy(~kept[0]).repeat_interleave(2, dim=1)
        found = decode(model, context(), QUESTION, kept, n, n_logits=n)

        def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
            size = query.shape[2]
            seen = torch.ones(size, size, dtype=torch.bool).tril() if mask is None else mask
            seen = seen if seen.dtype == torch.bool else seen == 0
            gone = torch.zeros(4, size, size, dtype=torch.bool)
            gone[:, N_RANDOM:, :N_RANDOM] = dead[module.layer_idx][:, None]
            least = torch.finfo(torch.float32).min
            new = torch.zeros(1, 4, size, size).masked_fill_(~seen | gone, least)
            return original(module, query, key, value, new, **more)

        whole = np.concatenate([context(), QUESTION])
        FUNCTIONS[running] = attend
        try:
            for step in range(n):
                with torch.no_grad():
                    logits = model.model(torch.from_numpy(whole)[None]).logits[0, -1].numpy()
                np.testing.assert_allclose(found.logits[0, step], logits, atol=TOLERANCE)
                whole = np.append(whole, found.token_ids[0][step])
        finally:
            FUNCTIONS[running] = original

    def test_replies_end_where_generation_ends(self) -> None:
        model = small()
        whole = decode(model, context(), QUESTION, np.concatenate([everything(), some(3)]), 8)
        ends = [int(whole.token_ids[0][3]), 299]
        model.model.generation_config.eos_token_id = ends
        kept = np.concatenate([everything(), some(3)])
        found = decode(model, context(), QUESTION, kept, 8, n_logits=8)
        tokens, _ = generated(model, np.concatenate([context(), QUESTION]), 8)
        first = int(np.flatnonzero(np.isin(whole.token_ids[0], ends))[0])
        assert found.token_ids[0].tolist() == tokens.tolist() == whole.token_ids[0][: first + 1].tolist()
        assert np.isfinite(found.logits[0, : first + 1]).all()
        assert np.isnan(found.logits[0, first + 1 :]).all()
        for before, after in zip(whole.token_ids[1:], found.token_ids[1:], strict=True):
            at = np.flatnonzero(np.isin(before, ends))
            assert after.tolist() == before[: at[0] + 1 if len(at) else None].tolist()
        assert max(map(len, found.token_ids)) == 8, "another variant goes on"

    def test_question_among_the_evicted(self) -> None:
        """Where a question may be evicted with the context, the caller counts it as context."""
        model = small("qwen2")
        whole = np.concatenate([context(), QUESTION])
        kept = np.ones((1, 3, 2, len(whole) - 1), dtype=bool)
        found = decode(model, whole[:-1], whole[-1:], kept, 6, n_logits=6)
        same(found, decode(model, context(), QUESTION, everything(), 6, n_logits=6))


class TestAgainstKvpress:
    @pytest.mark.parametrize(("family", "settings"), [*((family, {}) for family in FAMILIES), *UNWINDOWED])
    def test_random_models(self, family: str, settings: dict[str, Any]) -> None:
        model = small(family, seed=1, **settings)
        rows = against_kvpress(model, context(), QUESTION, (0.1, 0.5, 0.9), 8)
        assert len(rows) == 9
        assert all(row[2] for row in rows), rows
        assert max(row[4] for row in rows) < TOLERANCE
        # The short last chunk keeps fewer rows than it has sinks of equal scores.
        assert all(row[0] == "chunk" and row[1] == 0.9 for row in rows if row[3])

    def test_smollm2(self, smollm2: Loaded, short_prompts: list[Prompt]) -> None:
        asked = tokenise(smollm2, short_prompts[0])
        rows = against_kvpress(smollm2, asked.context, asked.question, (0.7,), 5)
        assert [row[2] for row in rows] == [True] * 3
        assert max(row[4] for row in rows) < TOLERANCE

    @settings(max_examples=15)
    @given(seed=st.integers(0, 10_000), family=st.sampled_from(FAMILIES), share=st.floats(0.05, 0.9))
    def test_any_masks(self, seed: int, family: str, share: float) -> None:
        """kvpress masks by keys that no query can read: another way to the same numbers."""
        import torch

        model, kept, n = small(family), some(1, seed, share), 4
        cache = prefill.prefill(model.model, random_ids(seed=seed))
        question = QUESTION[:2]
        found = decode(model, cache, question, kept, n, n_logits=n)
        for module, alive in zip(prefill.attention_modules(model.model), kept[0], strict=True):
            heads, rows = map(torch.from_numpy, np.nonzero(~alive))
            module.masked_key_indices = (torch.zeros_like(heads), heads, rows)
        ids = question
        with reference.patched_attention(), torch.no_grad():
            for step in range(n):
                logits = model.model(torch.from_numpy(ids)[None], past_key_values=cache).logits[0, -1].numpy()
                np.testing.assert_allclose(found.logits[0, step], logits, atol=TOLERANCE)
                ids = found.token_ids[0][step : step + 1]


class TestBatches:
    def test_batch_equals_one_by_one(self) -> None:
        model, kept = small("qwen3"), some(5)
        cache = prefill.prefill(model.model, random_ids())
        together = decode(model, cache, QUESTION, kept, 6, n_logits=6)
        assert len(set(together.texts)) == 5
        same(together, decode(model, cache, QUESTION, kept, 6, n_logits=6, memory=1))
        for variant in range(5):
            alone = decode(model, cache, QUESTION, kept[variant : variant + 1], 6, n_logits=6)
            assert alone.texts[0] == together.texts[variant]
            np.testing.assert_allclose(alone.logits[0], together.logits[variant], atol=TOLERANCE)
        answer = together.token_ids[2]
        scored = score(model, cache, QUESTION, answer, kept)
        apart = score(model, cache, QUESTION, answer, kept, memory=1)
        np.testing.assert_allclose(scored.log_probabilities, apart.log_probabilities, atol=TOLERANCE)

    def test_memory_bounds_the_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, sizes = small(), []
        forward = type(model.model).forward

        def counting(self: Any, ids: Any, **kwargs: Any) -> Any:
            sizes.append(len(ids))
            return forward(self, ids, **kwargs)

        monkeypatch.setattr(type(model.model), "forward", counting)
        each = bytes_per_variant(model, N_RANDOM, len(QUESTION), 1)
        decode(model, context(), QUESTION, some(7), 1, memory=3 * each)
        assert sizes == [3, 3, 1]

    @pytest.mark.parametrize("by_kernel", [True, False])
    def test_estimate_of_memory_is_from_above(self, by_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against the most bytes of tensors that are alive at a time."""
        import weakref

        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        class Alive(TorchDispatchMode):
            now = peak = 0

            def __init__(self) -> None:
                super().__init__()
                self.seen: set[int] = set()

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = func(*args, **(kwargs or {}))
                for tensor in result if isinstance(result, (tuple, list)) else [result]:
                    if isinstance(tensor, torch.Tensor):
                        self.add(tensor.untyped_storage())
                return result

            def add(self, storage: Any) -> None:
                key = storage.data_ptr()
                if key in self.seen:
                    return
                self.seen.add(key)
                size = storage.nbytes()
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.drop, key, size)

            def drop(self, key: int, size: int) -> None:
                self.seen.discard(key)
                self.now -= size

        for where in ("decode", "shared_cache"):
            monkeypatch.setattr(f"routegraph.validate.decoding.{where}.by_kernel", lambda network: by_kernel)
        model, peaks = small(), []
        cache = prefill.prefill(model.model, random_ids())
        for n_variants in (4, 20):
            with Alive() as alive:
                decode(model, cache, QUESTION, some(n_variants), 8)
            peaks.append(alive.peak)
        each = (peaks[1] - peaks[0]) / 16
        assert 0.2 < each / bytes_per_variant(model, N_RANDOM, len(QUESTION), 8) < 1

    def test_cache_is_not_changed(self) -> None:
        model = small()
        cache, again = (prefill.prefill(model.model, random_ids()) for _ in range(2))
        decode(model, cache, QUESTION, some(2), 4)
        for layer, other in zip(cache.layers, again.layers, strict=True):
            assert (layer.keys == other.keys).all()
            assert (layer.values == other.values).all()

    def test_own_rows_are_never_evicted(self) -> None:
        """With every context row gone the question and the reply still read themselves."""
        model = small()
        one, other = (decode(model, context(seed), QUESTION, ~everything(), 5, n_logits=5) for seed in (1, 2))
        same(one, other)  # nothing of the context is left
        moved = decode(model, context(), QUESTION[::-1].copy(), ~everything(), 5, n_logits=5)
        assert np.abs(one.logits[0, 0] - moved.logits[0, 0]).max() > 0.1


class TestByKernel:
    """Attention on a CPU in blocks, by a kernel, against torch's operations on all logits at once."""

    @pytest.mark.parametrize(("family", "settings"), [*((family, {}) for family in FAMILIES), *VARIANTS])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_equal_to_all_at_once(
        self, family: str, settings: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        model, before = small(family, **settings), torch.get_num_threads()
        shape = model.n_layers, model.n_heads, N_RANDOM
        kept = np.random.default_rng(0).random((5, *shape)) < 0.4
        kept[1], kept[2] = True, False
        blocks: list[int] = []
        read = read_kept.weigh_kept

        def counting(logits: Any, *rest: Any) -> None:
            blocks.append(len(logits))
            read(logits, *rest)

        monkeypatch.setattr(read_kept, "weigh_kept", counting)
        monkeypatch.setattr(read_kept, "LOGITS", 0)
        monkeypatch.setattr(read_kept, "FEWEST", 7)
        torch.set_num_threads(threads)
        try:
            found = decode(model, context(), QUESTION, kept, 6, n_logits=6)
        finally:
            torch.set_num_threads(before)
        assert bool(blocks) is read_kept.by_kernel(model.model) is (family != "gemma2")
        assert max(blocks, default=7) == 7
        monkeypatch.setattr("routegraph.validate.decoding.shared_cache.by_kernel", lambda network: False)
        same(found, decode(model, context(), QUESTION, kept, 6, n_logits=6))


class TestScore:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_equal_to_the_logits_of_decoding(self, family: str) -> None:
        model, kept, n = small(family), np.concatenate([everything(), some(2)]), 5
        found = decode(model, context(), QUESTION, kept, n, n_logits=n)
        for variant, answer in enumerate(found.token_ids):
            scored = score(model, context(), QUESTION, answer, kept)
            logits = found.logits[variant].astype(float)
            own = logits[np.arange(n), answer]
            likely = own - np.log(np.exp(logits).sum(axis=1))
            np.testing.assert_allclose(scored.log_probabilities[variant], likely, atol=TOLERANCE)
            np.testing.assert_allclose(scored.log_probability[variant], likely.sum(), atol=TOLERANCE)
            margin = np.diff(np.sort(logits[0])[-2:])[0]
            np.testing.assert_allclose(scored.margin[variant], margin, atol=TOLERANCE)
            assert scored.says.tolist() == [np.array_equal(answer, reply) for reply in found.token_ids]

    def test_another_answer(self) -> None:
        model = small()
        reply = decode(model, context(), QUESTION, everything(), 4).token_ids[0]
        for place in range(4):
            other = reply.copy()
            other[place] = (other[place] + 1) % 300
            scored = score(model, context(), QUESTION, other, everything())
            assert not scored.says[0]
            assert (scored.margin[0] < 0) == (place == 0)


class TestModelIsLeftAsItWas:
    @staticmethod
    def state(model: Loaded) -> tuple[Any, ...]:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        hooks = sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.model.modules()
        )
        functions = dict(ALL_ATTENTION_FUNCTIONS.items())
        return model.model.config._attn_implementation, hooks, functions, dict(model.model.named_modules())

    def test_afterwards(self) -> None:
        model = small()
        before = self.state(model)
        decode(model, context(), QUESTION, some(2), 3)
        score(model, context(), QUESTION, [1, 2], some(2))
        assert self.state(model) == before

    def test_after_an_exception(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = small()
        before, cache = self.state(model), prefill.prefill(model.model, random_ids())
        module = model.model.model.layers[1].mlp

        def broken(*args: Any) -> Any:
            raise RuntimeError("out of order")

        with monkeypatch.context() as patch:
            patch.setattr(module, "forward", broken)
            with pytest.raises(RuntimeError, match="out of order"):
                decode(model, cache, QUESTION, some(2), 3)
        assert self.state(model) == before


class TestVariants:
    scores = np.random.default_rng(0).random((*SHAPE[:2], 80)).astype(np.float32)
    nothing = np.zeros(0, dtype=np.int64)
    trace = Trace(
        id="t",
        task="",
        model="m",
        context="",
        n_layers=3,
        n_heads=2,
        n_query_heads=4,
        n_context=80,
        token_ids=np.arange(80),
        offsets=np.zeros((80, 2), dtype=np.int64),
        answer=nothing,
        evidence=nothing,
        scores={"expected_attention": scores, "expected_attention/chunk16": scores[..., ::-1].copy()},
        scorers={"expected_attention": {"n_sink": 4}, "expected_attention/chunk16": {"chunk_length": 16}},
    )

    def test_labels_and_masks(self) -> None:
        names, ratios = ["topk", "chunk", "pyramid"], [0.0, 0.3, 0.8]
        labels, kept = variants(self.trace, names, ratios)
        assert labels == [(name, ratio) for name in names for ratio in ratios]
        assert kept.shape == (9, 3, 2, 80)
        assert kept[0].all()
        assert (kept[2].sum(axis=-1) == n_kept(80, 0.8)).all()
        chunked = policies.apply("chunk", self.scores[..., ::-1], chunk_length=16)
        assert np.array_equal(kept[4], chunked.alive(0.3))
        pyramid = policies.apply("pyramid", self.scores, ratio=0.8)
        assert np.array_equal(kept[8], pyramid.alive(0.8))

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\), got 1.2"):
            variants(self.trace, ["topk"], [1.2])
        with pytest.raises(ValueError, match="policy 'none'"):
            variants(self.trace, ["none"], [0.2])
        with pytest.raises(ValueError, match="holds no chunk-wise scores"):
            variants(replace(self.trace, scores={"expected_attention": self.scores}), ["chunk"], [0.2])


class TestBadInput:
    @pytest.mark.parametrize(
        "kept",
        [
            np.ones((1, 3, 2, 169), dtype=bool),
            np.ones((1, 2, 3, 170), dtype=bool),
            np.ones((3, 2, 170), dtype=bool),
            np.ones((0, 3, 2, 170), dtype=bool),
            np.ones((1, 3, 2, 170), dtype=int),
        ],
    )
    def test_kept(self, kept: np.ndarray) -> None:
        with pytest.raises(
            ValueError, match=r"kept must be bool\[variants, 3, 2, 170\] .*, got (bool|int64)\["
        ):
            decode(small(), context(), QUESTION, kept)

    def test_lengths(self) -> None:
        model = small()
        with pytest.raises(ValueError, match="question must be a list of one or more tokens"):
            decode(model, context(), [], everything())
        with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
            decode(model, context(), QUESTION, everything(), 0)
        with pytest.raises(ValueError, match="have 513 tokens; model 'llama' was made for 512 at most"):
            decode(model, context(), QUESTION, everything(), 512 + 1 - N_RANDOM - len(QUESTION))
        with pytest.raises(ValueError, match="no answer to score"):
            score(model, context(), QUESTION, [], everything())
        with pytest.raises(ValueError, match="the context has no tokens"):
            decode(model, [], QUESTION, everything())

    def test_cache_that_lost_rows(self) -> None:
        model = small()
        cache = prefill.prefill(model.model, random_ids())
        cache.layers[1].keys = cache.layers[1].keys[:, :, 1:]
        with pytest.raises(ValueError, match="must hold one context, and all of its rows in every layer"):
            decode(model, cache, QUESTION, everything())

    def test_attention_that_is_not_known_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A family of somebody's own that says nothing of its windows, soft caps or scales."""
        from routegraph.validate.models import families

        model = small("gemma2")
        before = model.model.config._attn_implementation
        cache = prefill.prefill(model.model, random_ids())
        mine = families.Family(("gemma2",), families.families["gemma2"]().queries)
        monkeypatch.setattr(families.families, "_functions", {"mine": lambda: mine})
        with pytest.raises(ValueError, match="does not know attention with 'softcap' here"):
            decode(model, cache, QUESTION, everything())
        assert model.model.config._attn_implementation == before

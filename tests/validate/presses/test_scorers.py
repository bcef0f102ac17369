"""Every scorer against kvpress's own press, slot by slot; what is no scorer; what is protected."""

import inspect
from collections import Counter

import numpy as np
import pytest

from routegraph import policies
from routegraph.trace import Trace
from routegraph.validate.models.families import readable_types
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill, reference, scorers
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.scorers import OTHERS, SCORERS, check_table, protection, score_tables
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.models import N_RANDOM, random_ids, tiny_network, token_ids
from tests.helpers.references import CASES, LENGTH, RATIOS, compare, eager

#: FinchPress and an ObservedAttentionPress under eager attention cannot be wrapped by AdaKVPress.
ADAKV = sorted(set(CASES) - {"finch", "observed_attention"})
#: StreamingLLM's score needs the ratio; seeds are drawn per layer, not per chunk.
CHUNK = sorted(set(ADAKV) - {"streaming_llm", "leverage", "compactor"})
#: Scorers whose scores are all different on random rows, but for a layer's repeated tokens.
WITHOUT_TIES = ("tova", "observed_attention", "keydiff", "non_causal_attention")


def scored(name: str, family: str = "llama", **parameters: object) -> np.ndarray:
    press = SCORERS[name](**{**CASES[name][0], **parameters})
    return prefill.prefill_scores(tiny_network(family), random_ids(), press)[None]


class TestAgainstKvpress:
    @pytest.mark.parametrize("family", readable_types())
    def test_every_scorer_on_every_family(self, family: str) -> None:
        network = tiny_network(family)
        for scorer in SCORERS:
            found = compare(network, random_ids(), scorer)
            assert (found["mismatches"], found["ratios"], found["slots"]) == (0, 8, 8 * 6 * N_RANDOM), scorer
            assert found["ties"] < found["slots"] / 10, scorer
            assert not (found["ties"] and scorer in WITHOUT_TIES), scorer

    @pytest.mark.parametrize(("policy", "names"), [("adakv", ADAKV), ("chunk", CHUNK)])
    def test_under_other_policies(self, policy: str, names: list[str]) -> None:
        network = tiny_network("qwen3")
        for scorer in names:
            assert compare(network, random_ids(), scorer, policy)["mismatches"] == 0, scorer

    def test_ties_in_bfloat16(self) -> None:
        """Coarse numbers tie more often; still nothing else differs. observed_attention sums in float32: left out."""
        import torch

        network, found = tiny_network("llama").to(torch.bfloat16), Counter()
        for scorer in sorted(set(CASES) - {"observed_attention"}):
            one = compare(network, random_ids(), scorer)
            assert one["mismatches"] == 0, scorer
            found += one
        assert 0 < found["ties"] < found["slots"] / 50

    @pytest.mark.verify
    @pytest.mark.parametrize("policy", ["topk", "adakv", "chunk"])
    def test_smollm2(self, smollm2: Loaded, short_prompts: list[Prompt], policy: str) -> None:
        names = {"topk": sorted(CASES), "adakv": ADAKV, "chunk": CHUNK}[policy]
        for scorer in names:
            found: Counter[str] = Counter()
            for prompt in short_prompts[:2]:
                found += compare(smollm2.model, token_ids(smollm2, prompt), scorer, policy)
            print(
                f"{policy} {scorer}: {found['slots']} slots, {found['ties']} ties, {found['mismatches']} mismatches"
            )
            # Eager attention rounds otherwise than sdpa, in 30 layers; so neighbours may change places at a cut.
            allowed = found["slots"] / 10_000 if scorer == "observed_attention" else 0
            assert found["mismatches"] <= allowed, scorer
            assert found["ties"] < found["slots"] / 10, scorer

    @pytest.mark.parametrize(
        ("family", "settings"),
        [
            ("qwen3", {}),
            ("granite", {}),
            ("smollm3", {}),
            ("phi3", {"partial_rotary_factor": 0.5}),
            ("gemma2", {"sliding_window": 30}),
            ("gemma3_text", {"sliding_window": 30}),
        ],
    )
    def test_recomputed_attention_is_what_eager_attention_gives(
        self, family: str, settings: dict[str, object]
    ) -> None:
        network, seen = tiny_network(family, **settings), []
        press = kvpress().ObservedAttentionPress(0.5)
        original = press.score
        press.score = lambda *given: seen.append(original(*given)) or seen[-1]
        with eager(network):
            reference.reference_kept(network, random_ids(), press)
        ours = prefill.prefill_scores(network, random_ids(), SCORERS["observed_attention"]())[None]
        np.testing.assert_allclose(ours, np.stack([one[0].numpy() for one in seen]), rtol=2e-5)


def test_every_press_of_kvpress_is_a_scorer_or_says_why_not() -> None:
    kv = kvpress()
    base = kv.BasePress
    every = {name for name, one in vars(kv).items() if inspect.isclass(one) and issubclass(one, base)}
    known = {type(SCORERS[name]()).__name__ for name in SCORERS}
    assert known | set(OTHERS) == every - {"BasePress", "ScorerPress"}
    assert not known & set(OTHERS)
    assert set(CASES) == set(SCORERS)


class TestProtection:
    @pytest.mark.parametrize("scorer", sorted(CASES))
    def test_protected_rows_are_those_that_no_score_decides(self, scorer: str) -> None:
        """Their score is one above all others, in every slot; and no row beside them is like that."""
        press = SCORERS[scorer](**CASES[scorer][0])
        table = scored(scorer)
        rows = protection(press, N_RANDOM)
        position = np.arange(N_RANDOM)
        inside = position < rows.get("n_sink", 0)
        inside |= position >= N_RANDOM - rows.get("window", 0)
        highest = (table == table.max(axis=-1, keepdims=True)).all(axis=(0, 1))
        if scorer == "streaming_llm":  # an order: the newest row comes next after the sinks
            assert np.flatnonzero(highest).tolist() == [0, 1, 2, 3] == np.flatnonzero(inside).tolist()
        elif scorer == "compactor":  # pads with the maximum itself, which one of the rows has
            assert highest[inside].all()
            assert inside.sum() == 12
        elif inside.any():
            np.testing.assert_array_equal(highest, inside)
        else:
            assert scorer in {"knorm", "keydiff", "observed_attention", "non_causal_attention", "leverage"}

    def test_a_press_may_say_so_itself(self) -> None:
        press = type("Mine", (), {"n_sink": 3, "window_size": 2})()
        assert protection(press, 100) == {"n_sink": 3, "window": 2}

    def test_lagkv_protects_a_tail_that_depends_on_the_length(self) -> None:
        press = SCORERS["lagkv"](lag_size=32)
        assert protection(press, 67) == {"n_sink": 4}  # too short for two partitions: the newest rows go last
        assert protection(press, 68) == {"n_sink": 4, "window": 32}
        assert protection(press, 170) == {"n_sink": 4, "window": 32 + 166 % 32}
        with pytest.raises(
            ValueError, match="LagKVPress protects other rows in a last chunk of 50 than in one of 80"
        ):
            check_table(130, press, 80, "p")

    def test_of_a_trace(self) -> None:
        n = 23
        trace = Trace(
            *("p", "t", "m", "c", 1, 1, 1, n),
            **{name: np.zeros(0, dtype=np.int64) for name in ("token_ids", "offsets", "answer", "evidence")},
            scores={},
            scorers={
                "both": {"n_sink": 2, "window": 3},
                "window": {"window": 1},
                "chunk": {"n_sink": 1, "window": 2, "chunk_length": 10},
            },
        )
        assert np.flatnonzero(trace.protected("both")).tolist() == [0, 1, 20, 21, 22]
        assert np.flatnonzero(trace.protected("window")).tolist() == [22]
        assert np.flatnonzero(trace.protected("chunk")).tolist() == [0, 8, 9, 10, 18, 19, 20, 21, 22]
        assert not trace.protected("knorm").any()


class TestTables:
    def test_names(self) -> None:
        assert list(score_tables(["expected_attention"], 32)) == [
            "expected_attention",
            "expected_attention/chunk32",
        ]
        press = SCORERS["snapkv"](window=7)
        tables = score_tables(["knorm", "keydiff/chunk50", press], 32)
        assert [(name, table.chunk_length) for name, table in tables.items()] == [
            ("knorm", None),
            ("keydiff/chunk50", 50),
            ("SnapKVPress", None),
        ]
        assert tables["SnapKVPress"].press is press
        assert tables["SnapKVPress"].recorded(100) == {"window_size": 7, "kernel_size": 5, "window": 7}
        assert tables["keydiff/chunk50"].recorded(100) == {"chunk_length": 50}
        both = score_tables(["expected_attention", "expected_attention/chunk32"], 32)
        assert len(both) == 2
        assert len({id(table.press) for table in both.values()}) == 1

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["expected"], "unknown scorer 'expected'; choose from: cap, compactor"),
            (["knorm", "knorm"], "scorer 'knorm' is named twice"),
            (["knorm/chunkx"], "must end in a chunk length, such as knorm/chunk64"),
            ([], "at least one scorer is needed; choose from: cap"),
            ([3], "int is no scorer: it has no score; pass a ScorerPress object"),
        ],
    )
    def test_refused(self, names: list[object], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            score_tables(names, 64)

    def test_refused_presses(self) -> None:
        kv = kvpress()
        for press, words in (
            (kv.AdaKVPress(kv.KnormPress()), "AdaKVPress is no scorer: it cuts another scorer's scores"),
            (kv.ThinKPress(), "ThinKPress is no scorer: it prunes channels, not rows"),
            (kv.KnormPress, "KnormPress is no scorer: it has no score; pass a ScorerPress object"),
            (kv.ObservedAttentionPress(), "choose the scorer 'observed_attention', which recomputes them"),
        ):
            with pytest.raises(ValueError, match=words):
                score_tables([press], 64)

    @pytest.mark.parametrize(
        "press", ["RandomPress", "StreamingLLMPress", "LeverageScorePress", "CompactorPress"]
    )
    def test_scores_that_change_with_the_ratio_or_the_call(self, press: str) -> None:
        made = getattr(kvpress(), press)()
        with pytest.raises(
            ValueError, match=f"the scores of {press} change with the ratio or from call to call"
        ):
            prefill.prefill_scores(tiny_network("llama"), random_ids(), made)
        assert made.compression_ratio == 0

    def test_two_stage_scores_are_refused_too(self) -> None:
        kv = kvpress()
        with pytest.raises(ValueError, match="CriticalKVPress change"):
            prefill.prefill_scores(tiny_network("llama"), random_ids(), kv.CriticalKVPress(kv.KnormPress()))


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("snapkv", {"window": 9}),
            ("snapkv", {"kernel_size": 1}),
            ("finch", {"window": 9}),
            ("finch", {"normalize_scores": False}),
            ("lagkv", {"lag_size": 40}),
            ("lagkv", {"cross_scoring": True}),
            ("lagkv", {"n_sink": 2}),
            ("streaming_llm", {"n_sink": 7}),
            ("cur", {"leverage_type": "key"}),
            ("cur", {"n_sink": 1}),
            ("cur", {"local_window_size": 5}),
            ("non_causal_attention", {"chunk_size": 20}),
            ("leverage", {"seed": 1}),
            ("leverage", {"sketch_dimension": 4}),
            ("compactor", {"seed": 1}),
            ("compactor", {"chunk_size": 20}),
            ("compactor", {"sketch_dimension": 4}),
            ("compactor", {"blending": 0.9}),
            ("compactor", {"window": 0}),
            ("compactor", {"n_sink": 3}),
            ("cap", {"tau": 1.0}),
            ("cap", {"n_future_positions": 3}),
        ],
    )
    def test_reach_the_press(self, name: str, parameters: dict[str, object]) -> None:
        assert not np.array_equal(scored(name), scored(name, **parameters))

    def test_refused(self) -> None:
        with pytest.raises(ValueError, match="window must be at least 1, got 0"):
            SCORERS["snapkv"](window=0)
        with pytest.raises(ValueError, match="window must be at least 1, got 0"):
            SCORERS["finch"](window=0)
        with pytest.raises(ValueError, match="kernel_size must be odd and at least 1, got 4"):
            SCORERS["snapkv"](kernel_size=4)
        with pytest.raises(ValueError, match="unknown leverage_type 'x'; choose from: key, value"):
            SCORERS["cur"](leverage_type="x")

    def test_seeds_leave_torch_alone(self) -> None:
        import torch

        state = torch.random.get_rng_state()
        first, second = scored("compactor"), scored("compactor")
        assert torch.equal(state, torch.random.get_rng_state())
        np.testing.assert_array_equal(first, second)


class TestOnePrefill:
    def test_many_tables_are_those_of_separate_prefills(self) -> None:
        network, ids = tiny_network("qwen2"), random_ids()
        made = {name: SCORERS[name](**CASES[name][0]) for name in SCORERS}
        calls = []
        handle = network.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
        together = prefill.prefill_tables(
            network,
            ids,
            {**{name: (press, None) for name, press in made.items()}, "chunks": (made["keydiff"], LENGTH)},
        )
        handle.remove()
        assert len(calls) == 1
        for name, (parameters, _) in CASES.items():
            alone = prefill.prefill_scores(network, ids, SCORERS[name](**parameters))[None]
            np.testing.assert_array_equal(together[name], alone, err_msg=name)
        alone = prefill.prefill_scores(network, ids, SCORERS["keydiff"](), [LENGTH])[LENGTH]
        np.testing.assert_array_equal(together["chunks"], alone)

    def test_observed_attention_is_not_scored_by_chunks(self) -> None:
        with pytest.raises(ValueError, match="observed_attention scores whole contexts only"):
            prefill.prefill_scores(
                tiny_network("llama"), random_ids(), SCORERS["observed_attention"](), [LENGTH]
            )


class TestContexts:
    @pytest.mark.parametrize(
        ("scorer", "n", "least"),
        [("snapkv", 64, 64), ("finch", 64, 64), ("tova", 1, 1), ("compactor", 12, 12)],
    )
    def test_shorter_than_what_is_set_aside(self, scorer: str, n: int, least: int) -> None:
        network, press = tiny_network("llama"), SCORERS[scorer]()
        with pytest.raises(
            ValueError, match=rf"must have more than {least} tokens .* got {n} \(\w+ sets {least} aside"
        ):
            prefill.prefill_scores(network, random_ids(n), press)

    @pytest.mark.parametrize("scorer", ["snapkv", "finch", "lagkv", "cap", "cur", "expected_attention"])
    def test_one_row_more_is_enough(self, scorer: str) -> None:
        press = SCORERS[scorer]()
        n = sum(protection(press, 5).values()) + 1
        assert prefill.prefill_scores(tiny_network("llama"), random_ids(n), press)[None].shape == (3, 2, n)

    def test_batches_and_padding(self) -> None:
        import torch

        network, press = tiny_network("llama"), SCORERS["knorm"]()
        with pytest.raises(ValueError, match=r"one context at a time .* got shape \[2, 170\]"):
            prefill.prefill_scores(network, random_ids().repeat(2, 1), press)
        mask = torch.ones(1, N_RANDOM, dtype=torch.int64)
        whole = {"input_ids": random_ids(), "attention_mask": mask.clone()}
        assert prefill.prefill_scores(network, whole, press)[None].shape == (3, 2, N_RANDOM)
        mask[0, 0] = 0
        with pytest.raises(ValueError, match="attention mask has zeros; presses ignore it"):
            prefill.prefill_scores(network, {**whole, "attention_mask": mask}, press)

    def test_no_cache(self) -> None:
        network = tiny_network("llama")
        module = prefill.attention_modules(network)[0]
        with pytest.raises(
            ValueError, match="without a cache, whose rows are what is scored; set use_cache=True"
        ):
            prefill.cached_layer(module, {"past_key_values": None})
        network.config.use_cache = False  # ours asks for a cache all the same
        assert prefill.prefill(network, random_ids()).layers[0].keys.shape[2] == N_RANDOM

    @pytest.mark.parametrize("ratio", [1, 1.0, -0.1, 1.5, float("nan")])
    def test_ratios_out_of_range(self, ratio: float) -> None:
        with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\), got"):
            reference.reference_press("topk", ratio)

    def test_adakv_under_eager_attention(self) -> None:
        network = tiny_network("llama")
        with (
            eager(network),
            pytest.raises(ValueError, match="AdaKVPress cannot run here: eager mode not supported"),
        ):
            reference.reference_kept(network, random_ids(), reference.reference_press("adakv", 0.5))


def test_streaming_order_is_the_streaming_policy() -> None:
    ours = policies.apply("topk", scored("streaming_llm"))
    theirs = policies.apply("streaming", scored("streaming_llm"))
    np.testing.assert_array_equal(ours.drop, theirs.drop)
    assert scorers.SCORERS.parameters("streaming_llm") == {"n_sink": 4}
    assert len(RATIOS) == 8


@pytest.mark.parametrize(
    "scorer", ["expected_attention", "snapkv", "tova", "finch", "cap", "non_causal_attention"]
)
def test_partly_rotated_heads_are_one_sentence(scorer: str) -> None:
    network = tiny_network("phi3", partial_rotary_factor=0.5)
    with pytest.raises(
        ValueError, match=r"kvpress rotates whole heads, and this model rotates 0.5 of each; choose"
    ):
        prefill.prefill_scores(network, random_ids(), SCORERS[scorer]())
    for fine in ("knorm", "keydiff", "lagkv", "cur"):
        prefill.prefill_scores(network, random_ids(), SCORERS[fine]())

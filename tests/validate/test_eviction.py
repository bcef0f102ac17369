"""What a policy does to one prompt: the same on every side, whoever asks."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import routegraph
from routegraph import Trace, policies, simulate
from routegraph.policies import policy
from routegraph.protection import Protection, structural_cliffs
from routegraph.survival import Survival, ger, n_kept
from routegraph.validate.compare.run import compare
from routegraph.validate.compare.simulated import fit_scores
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.measure.result import from_cells
from routegraph.validate.traces.read_off import read_off
from tests.helpers.traces import synthetic_trace


def trace(number: int, n: int = 100, scorer: str = "expected_attention", **recorded: int) -> Trace:
    """A prompt of independent scores; what the scorer protects stands above them all."""
    plain = synthetic_trace(number, rho=0, n=n, sinks=0, answers=(50, 51))
    scores = plain.scores["expected_attention"].copy()
    scores[..., Protection.of(recorded).rows(n)] = 2
    return replace(plain, id=f"p{number}", scores={scorer: scores}, scorers={scorer: recorded})


class TestPoliciesThatDraw:
    """Red before: both sides of `compare` drew with seed 0, `measure` gave its seed to "random" alone."""

    @pytest.mark.parametrize("name", ["random", "bernoulli"])
    def test_compare_sets_two_independent_patterns_side_by_side(self, name):
        traces = [trace(k) for k in range(8)]
        found = compare(traces, policy_names=[name]).policies[name].axes["layer"]
        made = found.predicted["simulated"]
        assert made.stderr is not None
        assert made.stderr[20:40].min() > 0, "no two drawn prompts are alike"
        assert np.abs(made.curves - found.observed["evictable tokens"]).max() > 0.01
        assert np.abs(np.diff(found.observed["all tokens"], axis=0)).max() > 0.01, "nor are two prompts"
        # Independent, and of the same law.
        gap = made.mean - found.observed["evictable tokens"].mean(axis=0)
        assert np.abs(gap).max() < 0.05

    @pytest.mark.parametrize("name", ["random", "bernoulli"])
    def test_every_seed_matters(self, name):
        one = trace(0)
        drops = [Eviction.of(Method.named(name), one, seed).survival().drop for seed in (0, 0, 1)]
        np.testing.assert_array_equal(drops[0], drops[1])
        assert (drops[0] != drops[2]).any()
        other = Eviction.of(Method.named(name), replace(one, id="q"), 0).survival().drop
        assert (drops[0] != other).any(), "every prompt has a seed of its own"
        curves = [
            compare([trace(k) for k in range(4)], policy_names=[name], seed=seed).policies[name].axes["layer"]
            for seed in (0, 1)
        ]
        assert (curves[0].observed["all tokens"] != curves[1].observed["all tokens"]).any()

    def test_a_policy_of_ones_own_is_seeded_anew_in_every_replicate(self, criminal):
        """Red before: a simulation left its seed at the default, so that all replicates lost the same rows."""

        @policy("mine", scores=None)
        def mine(scores, *, n_context, seed=0):
            """Lose rows in one random order, the same in all slots."""
            order = np.random.default_rng(seed).permutation(n_context) + 1
            return Survival(np.broadcast_to(order, scores.shape))

        found = simulate(50, 0.5, n_layers=2, n_heads=2, policy="mine", replicates=6, n_answers=5)
        assert len(np.unique(found.samples[0].answer_last_model, axis=0)) == 6
        again = simulate(50, 0.5, n_layers=2, n_heads=2, policy="mine", replicates=6, n_answers=5)
        np.testing.assert_array_equal(found.samples[0].answer_last_model, again.samples[0].answer_last_model)


class TestProtectedRows:
    @pytest.mark.parametrize(
        ("policy_name", "scorer", "recorded", "rows"),
        [
            ("topk", "snapkv", {"window": 30}, 30),
            ("topk", "compactor", {"n_sink": 8, "window": 4}, 12),
            ("adakv", "expected_attention", {"n_sink": 4}, 4),
            ("chunk", "expected_attention/chunk25", {"n_sink": 4, "chunk_length": 25}, 16),
            ("snapkv", "expected_attention", {"n_sink": 4}, 68),
            ("streaming", "expected_attention", {"n_sink": 9}, 4),
            ("random", "expected_attention", {"n_sink": 9}, 0),
        ],
    )
    def test_are_the_same_on_every_side(self, policy_name, scorer, recorded, rows):
        """Red before for windows: the simulated side knew of sinks alone (SnapKV: .95 for .77)."""
        traces = [trace(k, scorer=scorer, **recorded) for k in range(16)]
        name = f"{policy_name}@{scorer.partition('/')[0]}"
        eviction = Eviction.of(Method.of_scores(traces[0], name), traces[0])
        assert eviction.protected.sum() == rows
        drop = eviction.survival().drop
        if rows and policy_name != "adakv":
            assert (
                drop[..., eviction.protected].min(axis=-1)
                > np.median(drop[..., ~eviction.protected], axis=-1)
            ).all()
        found = compare(traces, policy_names=[name]).policies[name].axes["layer"]
        read, made = (found.half(name) for name in ("evictable tokens", "simulated"))
        assert abs(read.value - made.value) < 0.03
        gone = read_off(traces[0], eviction, [0.6]).gone
        assert gone.mean() == pytest.approx(min(1, 60 / (100 - rows)), abs=0.02), (
            "theory's p: of evictable rows"
        )
        if policy_name != "streaming":  # the same order in every slot: no theory of independent slots
            assert abs(found.half("measured copula").value - read.value) < 0.03

    def test_of_the_first_rows_only(self):
        one = trace(0, scorer="snapkv", window=30)
        first = Eviction.of(Method.of_scores(one, "snapkv"), one).first(84)
        np.testing.assert_array_equal(np.flatnonzero(first.protected), np.arange(70, 84))
        first = Eviction.of(Method("x", "snapkv", "snapkv", (("window", 10),)), one).first(60)
        np.testing.assert_array_equal(np.flatnonzero(first.protected), np.arange(50, 60))

    def test_simulate_names_what_its_policy_protects(self):
        def told(**given):
            return simulate(100, 0.5, n_layers=2, n_heads=2, replicates=1, **given).to_dict()["definitions"][
                "sink"
            ]

        assert (
            told(policy="snapkv", settings={"window": 10})
            == "the policy protects a window of 10: these rows go last"
        )
        assert told(policy="streaming") == "the policy protects 4 sinks: these rows go last"
        assert "no row is protected" in told(policy="topk")

    def test_the_words_of_a_simulation_name_the_cliff_that_is_built_in(self):
        """Red before: "no sinks", whatever the policy."""
        small = {"n_layers": 2, "n_heads": 2, "replicates": 1}
        text = " ".join(simulate(100, 0.5, policy="streaming", **small).summary().split())
        assert "4 sinks go last, so that all else is gone at ratio 0.96" in text
        assert "no row is protected" in simulate(100, 0.5, **small).summary()

    def test_a_policy_can_only_protect_by_its_own_parameters(self):
        with pytest.raises(
            ValueError, match="policy 'loose' protects 'window'; it must be a parameter of its own"
        ):
            policy("loose", protects=("window",))(lambda scores, *, n_context: None)


class TestStructuralCliffs:
    def test_sinks_and_window_fill_the_budget_together(self):
        """Red before: at n = 100, `measure` named .92 and .96, `compare` .88."""
        recorded = {"n_sink": 8, "window": 4}
        traces = [trace(k, scorer="compactor", **recorded) for k in range(4)]
        compared = compare(traces, policy_names=["compactor"]).policies["compactor"].cliffs
        cell = {
            "prompt": {"id": "p", "task": "t", "n_context": 100, "answerable": True},
            "protected": {"topk@compactor": recorded},
            "right": [1, 0],
            "abstained": [0, 0],
            "replies": ["", ""],
            "metrics": {},
        }
        measured = from_cells({"policies": ["topk@compactor"], "ratios": [0.0, 0.5]}, [cell])
        for found in (compared, measured.cliffs["topk@compactor"]):
            assert {round(ratio, 9) for ratio in found.values()} == {0.88}
        assert compared == measured.cliffs["topk@compactor"]

    def test_by_chunk_and_by_length(self):
        assert structural_cliffs([Protection(4, 0, 64)] * 2, [100, 300]) == {
            "4 sinks in each chunk of 64": 1 - 4 / 64
        }
        found = structural_cliffs([Protection(0, 64), Protection(0, 64)], [128, 640])
        assert found == {
            "a window of 64 in the shortest prompt, n = 128": 0.5,
            "a window of 64 in the longest prompt, n = 640": 0.9,
        }
        assert structural_cliffs([Protection()], [100]) == {}


@pytest.mark.parametrize(("n", "chunk"), [(10, None), (10, 4), (7, 7), (3, 5)])
def test_protected_rows_by_hand(n, chunk):
    protection = Protection(1, 1, chunk)
    expected = np.zeros(n, dtype=bool)
    length = chunk or n
    for start in range(0, n, length):
        expected[start] = expected[min(start + length, n) - 1] = True
    np.testing.assert_array_equal(protection.rows(n), expected)
    assert Protection(2) | Protection(1, 3, 8) == Protection(2, 3, 8)


def test_lacking_scores_are_named():
    with pytest.raises(ValueError, match="prompt 'p0' has no scores 'knorm'"):
        Eviction.of(Method.named("topk@knorm"), trace(0))
    with pytest.raises(
        ValueError,
        match="no chunk-wise scores by scorer 'expected_attention' for policy 'chunk'; it holds: exp",
    ):
        Method.of_scores(trace(0), "chunk")
    assert Eviction.of(Method.named("streaming@knorm"), trace(0)).n_context == 100, (
        "any table gives the shape"
    )


def test_nobody_tests_a_policy_by_its_name():
    """Outside of policies/ and validate/eviction.py: no comparison with, or look-up of, a registered name."""
    root = Path(routegraph.__file__).parent
    names = set(policies.policies) - {"given", "mine"}
    found = []
    for path in sorted(root.rglob("*.py")):
        if path.is_relative_to(root / "policies") or path == root / "validate" / "eviction.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.MatchValue):
                told = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
                if told & names:
                    found.append(f"{path.relative_to(root)}:{node.lineno}: {sorted(told & names)}")
    assert not found, "\n".join(found)


@pytest.fixture
def criminal():
    """Register functions for one test only."""
    before = dict(policies.policies._functions)
    yield
    policies.policies._functions.clear()
    policies.policies._functions.update(before)


class TestWindows:
    def test_rows_outside_are_dead_from_the_start_and_the_others_go_as_without(self):
        plain = trace(0)
        local = replace(plain, windows=[0, 30, *[0] * (plain.n_layers - 3), 500])
        without, survival = (Eviction.of(Method.named("topk"), one).survival() for one in (plain, local))
        assert (survival.drop[1, :, :71] == 0).all()  # the query at 100 sees 71 to 100
        np.testing.assert_array_equal(survival.drop[1, :, 71:], without.drop[1, :, 71:])
        others = [layer for layer in range(plain.n_layers) if layer != 1]
        np.testing.assert_array_equal(survival.drop[others], without.drop[others])
        assert not survival.alive(0.0)[1, :, :71].any()
        assert ger(survival, 0.0, [50, 51]) == 0, "other layers hold them"
        assert ger(survival, 0.0, [50, 51], over="layer") == 1 / plain.n_layers

    def test_layers_that_are_spared_lose_nothing_inside(self):
        local = replace(trace(0), windows=[30, *[0] * (trace(0).n_layers - 1)], spares_local=True)
        for name in ("adakv", "pyramid", "random"):
            (alive,) = (s.alive(0.9) for s in Eviction.of(Method.named(name), local).survivals([0.9]))
            assert alive[0, :, 71:].all()
            assert not alive[0, :, :71].any()
            assert alive[1:].mean() < 0.2

    def test_a_trace_keeps_them(self, tmp_path):
        layers = trace(0).n_layers
        local = replace(trace(0), windows=(30, *[0] * (layers - 1)), spares_local=True)
        Trace.save(tmp_path / "t.npz", [local, trace(1)], {})
        found, plain = Trace.load(tmp_path / "t.npz")
        assert (tuple(found.windows), found.spares_local) == ((30, *[0] * (layers - 1)), True)
        assert (tuple(plain.windows), plain.spares_local) == ((), False)

    def test_compare_says_that_it_does_not_know_them(self):
        layers = trace(0).n_layers
        traces = [replace(trace(k), windows=[30, *[0] * (layers - 1)]) for k in range(4)]
        with pytest.raises(
            ValueError, match="'p0' has 100 tokens, .* a window of 30, .* compare shorter prompts"
        ):
            compare(traces, policy_names=["topk"])
        spared = [replace(one, windows=[500] * layers, spares_local=True) for one in traces]
        with pytest.raises(ValueError, match="are left alone by what evicts, .* compare another model"):
            compare(spared, policy_names=["topk"])
        compare([replace(one, windows=[101] * layers) for one in traces], policy_names=["topk"])  # none acts

    def test_a_policy_may_not_evict_at_ratio_0(self, criminal):
        @policy("mine", scores=None)
        def mine(scores, *, n_context):
            """Count ranks from 0."""
            return Survival(np.broadcast_to(np.arange(n_context), scores.shape))

        with pytest.raises(
            ValueError, match="'mine' evicts at ratio 0: its drop entries must be at least 1, got 0"
        ):
            policies.apply("mine", np.zeros((1, 1, 4)))


class TestReadings:
    """What runs over all ratios sees what every single one does."""

    @pytest.mark.parametrize("name", ["topk", "random"])
    def test_windows(self, name):
        """Red before: readings left the windows out, and a trace was inspected as if its layers saw everything."""
        layers = trace(0).n_layers
        one = replace(trace(0), windows=[30, *[0] * (layers - 1)])
        ratios = (0.0, 0.5, 0.9)
        eviction = Eviction.of(Method.named(name), one)
        kept = [s.alive(ratio) for s, ratio in zip(eviction.survivals(ratios), ratios, strict=True)]
        fates = eviction.fates(ratios)
        found = [s.alive(ratio) for s, own in fates.parts for ratio in own]
        np.testing.assert_array_equal(found, kept)
        assert not found[0][0, :, 0].any()
        assert read_off(one, eviction, ratios).everything["layer"][0] > 0

    def test_every_prompt_is_cut_in_the_chunks_that_it_was_scored_in(self):
        """Red before: all prompts of a run were cut in chunks as long as the first one's."""
        name = "expected_attention/chunk16"

        def chunked(number: int, length: int) -> Trace:
            plain = trace(number)
            told = {name: {"n_sink": 4, "chunk_length": length}}
            return replace(plain, scores={name: plain.scores["expected_attention"]}, scorers=told)

        traces = [chunked(k, 16 - k % 2) for k in range(4)]
        method = Method.of_scores(traces[0], "chunk")
        for one, length in zip(traces, (16, 15, 16, 15), strict=True):
            own = policies.apply("chunk", one.scores[name], chunk_length=length)
            np.testing.assert_array_equal(
                Eviction.of(method, one).survival(0.5).alive(0.5), own.alive(0.5), err_msg=one.id
            )
        evictions = [Eviction.of(method, one) for one in traces]
        read = [read_off(*pair, [0.5]) for pair in zip(traces, evictions, strict=True)]
        model = fit_scores(traces, evictions, read)
        nothing = np.array([], dtype=int)
        for eviction, length in zip(evictions, (16, 15, 16, 15), strict=True):
            ((survival, _),) = model.draw(np.random.default_rng(0), eviction, nothing, [0.5]).parts
            whole = survival.alive(0.5)[..., : 6 * length].reshape(-1, length)
            assert set(whole.sum(axis=1)) == {n_kept(length, 0.5)}

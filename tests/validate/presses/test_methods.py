"""What names of methods mean: against kvpress's own press of that name or class, slot by slot."""

import inspect
from contextlib import ExitStack

import numpy as np
import pytest

from routegraph import policies
from routegraph.cli.options import METHODS
from routegraph.survival import n_kept
from routegraph.validate.eviction import Eviction, Method, tables_of
from routegraph.validate.measure.item import Prefilled
from routegraph.validate.presses import methods, prefill, reference
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.methods import classes, resolve, scorer_named, vocabulary
from routegraph.validate.presses.scorers import CHUNK_LENGTH, OTHERS, SCORERS, score_tables
from tests.helpers.models import N_RANDOM, random_ids, tiny_network
from tests.helpers.references import eager, seeded_layers

RATIOS = (0.2, 0.5, 0.7, 0.9)
#: Methods that kvpress has and whose rows are no matter of luck.
CERTAIN = sorted(one.name for one in vocabulary() if one.press and one.name != "random")


def theirs(network, ids, made, ratio):
    """What the press that the table names keeps, made as it says there."""
    press = eval(made, vars(kvpress()).copy())
    if made == "FinchPress()":  # what its tokenizer would tell it
        press.window_size, press.delimiter_token_id = 64, -1
    press.compression_ratio = ratio
    with ExitStack() as stack:
        stack.enter_context(seeded_layers(network))
        if "Observed" in made:
            stack.enter_context(eager(network))
        return reference.reference_kept(network, ids, press)


def prefilled(network, ids, chosen, chunk_length=CHUNK_LENGTH):
    """A context with the scores that some methods go by."""
    tables = score_tables(tables_of(chosen), chunk_length)
    asked = {name: (table.press, table.chunk_length) for name, table in tables.items()}
    recorded = {name: table.recorded(ids.shape[1]) for name, table in tables.items()}
    return Prefilled("p", prefill.prefill_tables(network, ids, asked), recorded, None)


@pytest.fixture(scope="module")
def context():
    network, ids = tiny_network("llama"), random_ids()
    return network, ids, prefilled(network, ids, [Method.named(name) for name in CERTAIN])


class TestAgainstKvpress:
    @pytest.mark.parametrize("name", CERTAIN)
    def test_a_method_keeps_what_the_press_keeps(self, context, name):
        network, ids, scored = context
        eviction = Eviction.of(Method.of_scores(scored, name), scored)
        assert eviction.method == Method.named(name), "measure and compare mean the same"
        groups = reference.competitors(eviction.method.policy, eviction.scores.shape)
        for survival, ratio in zip(eviction.survivals(RATIOS), RATIOS, strict=True):
            kept = theirs(network, ids, resolve(name).press, ratio)
            found = reference.compare_kept(survival.alive(ratio), kept, eviction.scores, groups)
            assert found.mismatches == 0, ratio
            # Rows of a window, which tie, are kept as torch likes where it is longer than the budget.
            apart = (survival.alive(ratio) != kept)[..., ~eviction.protected]
            assert apart.sum() < found.slots / 50
            assert kept.sum() == survival.alive(ratio).sum()

    def test_pyramids_of_many_shapes(self):
        """Where the budget falls with the layer, where it does not, and one row beyond the window."""
        network, shapes = tiny_network("llama"), set()
        for n in (65, 130, 300, 512):
            ids = random_ids(n)
            scored = prefilled(network, ids, [Method.named("pyramidkv")])
            eviction = Eviction.of(Method.named("PyramidKVPress"), scored)
            for ratio in (0.1, 0.3, 0.45, 0.6, 0.9):
                kept = theirs(network, ids, "PyramidKVPress()", ratio)
                ours = eviction.survival(ratio).alive(ratio)
                groups = reference.competitors("pyramid", ours.shape)
                assert reference.compare_kept(ours, kept, eviction.scores, groups).mismatches == 0
                shapes.add(len(set(ours.sum(axis=(1, 2)))))
        assert shapes == {1, 3}, "both even and falling budgets were seen"

    def test_random_keeps_as_many_in_an_order_of_its_own(self):
        network, ids = tiny_network("llama"), random_ids()
        scored = prefilled(network, ids, [Method.named("RandomPress")])
        ours = Eviction.of(Method.named("RandomPress"), scored).survival().alive(0.7)
        kept = theirs(network, ids, "RandomPress()", 0.7)
        assert set(kept.sum(axis=2).flat) == set(ours.sum(axis=2).flat) == {n_kept(N_RANDOM, 0.7)}

    def test_scores_of_another_press_may_be_cut(self):
        network, ids = tiny_network("llama"), random_ids()
        for name, made in (
            ("adakv@snapkv", "AdaKVPress(SnapKVPress())"),
            ("chunkkv@snapkv", "ChunkKVPress(SnapKVPress())"),
            ("AdaKVPress@KnormPress", "AdaKVPress(KnormPress())"),
        ):
            method = Method.named(name)
            eviction = Eviction.of(method, prefilled(network, ids, [method]))
            groups = reference.competitors(method.policy, eviction.scores.shape)
            kept = theirs(network, ids, made, 0.5)
            found = reference.compare_kept(eviction.survival().alive(0.5), kept, eviction.scores, groups)
            assert found.mismatches == 0, name


class TestNames:
    def test_kvpress_s_classes_mean_the_methods(self):
        """Every class that is told to mean a method is one, and every press means a method or is refused by name."""
        kv = kvpress()
        every = {
            name for name, one in vars(kv).items() if inspect.isclass(one) and issubclass(one, kv.BasePress)
        }
        told = classes()
        assert set(told) <= every
        for name in every - {"BasePress", "ScorerPress"} - set(told):
            why = methods.UNLIKE.get(name) or OTHERS[name]
            with pytest.raises(ValueError) as refused:
                Method.named(name)
            assert f"policy {name!r} cannot be had: {name} {why}; choose from: adakv" in str(refused.value)
        for press, name in told.items():
            assert Method.named(press) == Method.named(name), press

    def test_presses_are_those_of_the_scorers(self):
        assert set(methods.PRESSES) == {name for name in SCORERS if SCORERS.origin(name) == "routegraph"}
        for name, made in methods.PRESSES.items():
            assert type(SCORERS[name]()).__name__ == made.partition("(")[0]

    @pytest.mark.parametrize(
        ("name", "cut", "table"),
        [
            ("snapkv", "topk", "snapkv"),
            ("SnapKVPress", "topk", "snapkv"),
            ("expected_attention", "topk", "expected_attention"),
            ("topk", "topk", "expected_attention"),
            ("adakv", "adakv", "expected_attention"),
            ("AdaKVPress", "adakv", "expected_attention"),
            ("ChunkPress", "chunk", "expected_attention/chunk64"),
            ("pyramidkv", "pyramid", "snapkv"),
            ("StreamingLLMPress", "topk", "streaming_llm"),
            ("RandomPress", "random", "expected_attention"),
            # As cells of earlier versions name them.
            ("pyramid", "pyramid", "expected_attention"),
            ("snapkv@knorm", "snapkv", "knorm"),
            ("chunkkv", "chunkkv", "expected_attention"),
        ],
    )
    def test_what_they_mean(self, name, cut, table):
        found = Method.named(name)
        assert (found.policy, found.table) == (cut, table)
        assert "Press" not in found.name

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("best", "unknown policy 'best'; choose from: adakv, bernoulli, cap, "),
            ("snap_kv", "unknown policy 'snap_kv'; did you mean 'snapkv'?"),
            ("kvzip", "policy 'kvzip' cannot be had: KVzipPress scores in a second pass"),
            (
                "CriticalKVPress",
                "CriticalKVPress scores in two stages, the second of which depends on the ratio",
            ),
            ("CompactorPress", "'compactor' is the same with a fixed weight, .35"),
            ("topk@best", "unknown scorer 'best'; choose from: cap"),
            ("best@snapkv", "unknown policy 'best'; choose from: adakv"),
        ],
    )
    def test_what_means_nothing(self, name, words):
        with pytest.raises(ValueError) as refused:
            Method.named(name)
        assert words in str(refused.value)

    def test_scorers_by_the_class_of_their_press(self):
        assert [scorer_named(name) for name in ("KnormPress", "knorm")] == ["knorm"] * 2
        assert scorer_named("LoudPress", {"LoudPress"}) == "LoudPress"
        with pytest.raises(ValueError, match="unknown scorer 'CompactorPress'"):
            scorer_named("CompactorPress")

    def test_ones_own_policy_and_scorer_of_one_name_belong_together(self, monkeypatch):
        monkeypatch.setattr(policies.policies, "_functions", dict(policies.policies._functions))
        monkeypatch.setattr(SCORERS, "_functions", dict(SCORERS._functions))
        policies.policy("mine")(lambda scores, *, n_context: None)
        SCORERS("mine")(lambda: None)
        SCORERS("loud")(lambda: None)
        assert (resolve("mine").cut, resolve("mine").scorer) == ("mine", "mine")
        assert (resolve("loud").cut, resolve("loud").scorer) == ("topk", "loud")
        assert resolve("mine").words == "scores of mine, cut by mine"
        assert resolve("mine").press == ""

    def test_options_list_the_methods_that_there_are(self):
        told = (
            METHODS.replace("; or a cut of expected_attention's scores:", ",")
            .replace("; or", ",")
            .split(", ")
        )
        assert sorted(name.strip() for name in told) == sorted(
            [*(one.name for one in vocabulary()), "CUT@SCORER"]
        )

    def test_words(self):
        said = {
            name: Method.named(name).words for name in ("snapkv", "adakv", "chunk", "random", "pyramidkv")
        }
        assert said == {
            "snapkv": "scores of snapkv, cut per head",
            "adakv": "scores of expected_attention, cut over all heads of a layer",
            "chunk": "scores of expected_attention in chunks of 64, cut per head, every chunk by itself",
            "random": "no scores; a random order in every head",
            "pyramidkv": "scores of snapkv, cut per head, more rows in low layers, the last ones kept",
        }
        assert np.all([one.words for one in vocabulary()])


def test_the_page_has_the_table_of_the_registries():
    from studies.methods_table import PAGE, page

    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python -m studies.methods_table"
    assert text.count("Press()") > 14

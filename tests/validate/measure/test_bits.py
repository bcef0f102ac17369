"""Answers with a cache of fewer bits: which replies stand where, and what is said of them."""

import csv
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routegraph.validate.audit.cells import read_cells
from routegraph.validate.certify.run import certify
from routegraph.validate.claims.judge import claims_of_files
from routegraph.validate.compare.failure import read_measured
from routegraph.validate.decoding.decode import decode
from routegraph.validate.measure import replies
from routegraph.validate.measure.grading import regrade
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.measure.samples import samples, samples_grid, told, write_samples
from routegraph.validate.models.load import load
from routegraph.validate.plan import Measuring
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.quantise.precision import CHOICES, Precision
from routegraph.validate.quantise.rows import Rounded, Rows, rounded_cache
from routegraph.validate.quantise.size import quantised_bytes
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run
from tests.helpers.decoding import QUESTION, small
from tests.helpers.models import N_RANDOM, random_ids

POLICIES = ["topk", "adakv"]
ASKED: dict[str, Any] = {"policy_names": POLICIES, "ratios": (0.5, 0.9), "chunk_length": 16}


@pytest.fixture(scope="module")
def qwen() -> Any:
    import torch

    torch.set_num_threads(1)
    return load("qwen-tiny")


@pytest.fixture(scope="module")
def prompts() -> Any:
    return load_task("words_forward", 4, 0, None)


@pytest.fixture(scope="module")
def plain(qwen, prompts) -> Measured:
    return measure(qwen, prompts, **ASKED)


@pytest.fixture(scope="module")
def measured(qwen, prompts, tmp_path_factory) -> tuple[Measured, Any]:
    out = tmp_path_factory.mktemp("bits") / "run"
    return measure(qwen, prompts, out, bits="kivi2:residual=0", **ASKED), out


# --- which reply stands where -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["2", "kivi2:residual=0", "svdq"])
def test_without_any_rounding_the_replies_are_those_of_the_cache_as_it_is(
    qwen, prompts, plain, monkeypatch, bits
):
    def same(cache, _precision, kept, _rotations=None):
        whole = [(layer.keys, layer.values) for layer in cache.layers]
        n = 1 if bits == "2" else len(kept)
        return Rounded(tuple(Rows(k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1)) for k, v in whole))

    monkeypatch.setattr(replies, "rounded_cache", same)
    found = measure(qwen, prompts, bits=bits, **ASKED)
    assert found.ratios.tolist() == [0, 0, 0.5, 0.9]
    assert found.right.shape == (4, 2, 4)
    for mine, theirs in zip(found.replies, plain.replies, strict=True):
        by_policy = np.reshape(mine, (2, 4))
        assert by_policy[:, 1:].tolist() == np.reshape(theirs, (2, 3)).tolist()
        assert by_policy[:, 0].tolist() == by_policy[:, 1].tolist()
    assert (found.fails[..., 1:] == plain.fails).all()


def test_the_reference_is_the_cache_as_it_is_and_two_bits_are_not(measured, plain):
    found, _ = measured
    first = [np.reshape(one, (2, 4)) for one in found.replies]
    assert [one[:, 0].tolist() for one in first] == [[one[0]] * 2 for one in plain.replies]
    assert any(one[0, 0] != one[0, 1] for one in first)
    assert found.fails[:, 0, 1].any()
    assert not found.fails[..., 0].any()
    assert (found.fails == (found.right[..., :1] & ~found.right)).all()


def test_each_variant_reads_what_it_would_alone(monkeypatch):
    model = small("llama")
    cache, rng = prefill(model.model, random_ids()), np.random.default_rng(0)
    kept = rng.random((4, model.n_layers, model.n_heads, N_RANDOM)) < 0.5
    one = Precision.named("kivi2:group=8,residual=16")

    def reading(cache, some):
        return rounded_cache(cache, one, some)

    together = decode(model, cache, QUESTION, kept, 4, read_as=reading)
    by_one = decode(model, cache, QUESTION, kept, 4, read_as=reading, memory=1)
    for k in range(4):
        alone = decode(model, rounded_cache(cache, one, kept[k : k + 1]), QUESTION, kept[k : k + 1], 4)
        for found in (together, by_one):
            np.testing.assert_allclose(found.logits[k], alone.logits[0], atol=1e-4)
            assert found.token_ids[k].tolist() == alone.token_ids[0].tolist()
    assert np.abs(together.logits - decode(model, cache, QUESTION, kept, 4).logits).max() > 0.1


@pytest.mark.parametrize("text", ["3", "kivi3:group=8,residual=16"])
def test_logits_are_those_of_transformers_on_a_cache_of_rounded_rows(text):
    """Nothing removed: the rows are put into transformers' own cache, and its own attention reads them."""
    import torch
    from transformers import DynamicCache

    model, one = small("qwen2"), Precision.named(text)
    cache = prefill(model.model, random_ids())
    kept = np.ones((1, model.n_layers, model.n_heads, N_RANDOM), dtype=bool)
    read, own = rounded_cache(cache, one, kept), DynamicCache()
    for number, layer in enumerate(read.layers):
        own.update(layer.keys.clone(), layer.values.clone(), number)
    with torch.no_grad():
        wanted = model.model(torch.tensor([list(QUESTION)]), past_key_values=own).logits[0, -1].numpy()
    found = decode(
        model, cache, QUESTION, kept, 1, read_as=lambda whole, some: rounded_cache(whole, one, some)
    )
    np.testing.assert_allclose(found.logits[0, 0], wanted, atol=1e-4)


def test_bytes_are_those_of_the_rows_kept(measured, qwen):
    found, _ = measured
    one = Precision.named("kivi2:residual=0")
    for cell, n in zip(found.cells, found.n_context, strict=True):
        rows = np.full(qwen.n_layers * qwen.n_heads, n)
        taken = np.reshape(cell["bytes"], (2, 4))
        assert (taken[:, 0] == quantised_bytes(rows, qwen.head_dim)).all()
        assert (taken[:, 1] == quantised_bytes(rows, qwen.head_dim, one)).all()
        assert (np.diff(taken) < 0).all()
    assert found.bytes[:, 0].tolist() == [1, 1]
    whole = [quantised_bytes([n], qwen.head_dim) for n in found.n_context]
    bits = [quantised_bytes([n], qwen.head_dim, one) for n in found.n_context]
    assert found.bytes[0, 1] == pytest.approx(np.mean(np.divide(bits, whole)))
    assert 2 / 16 < found.bytes[0, 1] < 4 / 16


# --- settings and folders -----------------------------------------------------------------------------------


def test_cells_and_settings_know_the_bits(measured, plain, qwen, prompts):
    found, out = measured
    assert found.settings["bits"] == "kivi2:group=32,residual=0"
    assert "bits" not in plain.settings
    assert all("bytes" not in cell for cell in plain.cells)
    again = Measured.load(out)
    assert again.replies == found.replies
    assert (again.right == found.right).all()
    assert (again.bytes == found.bytes).all()
    measure(qwen, prompts, out, bits="kivi2:group=32,residual=0", **ASKED)
    assert json.loads((out / "run.json").read_text())["runs"][-1]["measured"] == 0
    for other, said in (("2", "not 2:group=64,residual=0"), ("", "not None")):
        with pytest.raises(ValueError, match=rf"was measured with bits kivi2:group=32,residual=0, {said}"):
            measure(qwen, prompts, out, bits=other, **ASKED)


def test_graded_again(measured, tmp_path):
    found, out = measured
    again = regrade(out, "prefix", tmp_path / "again")
    assert again.replies == found.replies
    assert Measured.load(tmp_path / "again").bits == found.bits


def test_what_bits_do_not_go_with_is_refused_before_a_model_is_loaded():
    for more, said in (
        ({"bits": "5"}, "unknown bits '5'; choose from: 2, 3, 4, 8"),
        ({"bits": "4", "metrics": True}, "leave out metrics or bits"),
        ({"bits": "4", "carriers": 2}, "leave out metrics or bits"),
        ({"bits": "4", "keep": [9]}, "give ratios in place of numbers of rows"),
    ):
        with pytest.raises(ValueError, match=said):
            measure("no-such-model", [None], policy_names=["topk"], **more)


def test_what_does_not_know_bits_refuses_them(measured):
    found, out = measured
    for what, ask in (
        ("certify", lambda: certify(found)),
        ("audit", lambda: read_cells(out, "run")),
        ("claims", lambda: claims_of_files([out])),
        ("compare", lambda: read_measured(found, [])),
    ):
        with pytest.raises(
            ValueError, match=rf"bits 'kivi2:group=32,residual=0' was measured, and {what} knows"
        ):
            ask()


# --- what is said -------------------------------------------------------------------------------------------


def test_page(measured):
    found, _ = measured
    text = found.page().to_text(200)
    right, before = found.right[:, 0, 1].sum(), found.right[:, 0, 0].sum()
    assert f"with nothing removed and the cache as it is: {before} of 4 items" in text
    assert f"Right with bits kivi2:residual=0 and nothing removed: {right} of 4 items" in text
    assert (
        f"of the {before} right before, {(found.right[:, 0, 0] & found.right[:, 0, 1]).sum()} still are"
        in text
    )
    assert "Bits kivi2:residual=0 of the context's cache: keys and values of 2 bits" in text
    assert "topk with these bits: " in text
    assert "0 full" in text
    assert "Bytes of the cache, percent" in text
    assert f"{100 * found.bytes[0, 1]:.1f}" in text


def test_figure(measured, plain):
    found, _ = measured
    figure = found.plot()
    assert "bits kivi2:residual=0 but for the first" in figure.get_suptitle()
    assert "bits" not in plain.plot().get_suptitle()
    lines = figure.axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == pytest.approx([1, 1, 0.5, 0.1])


def test_document(measured, plain):
    found, _ = measured
    document = json.loads(json.dumps(found.to_dict(10), allow_nan=False))
    assert document["parameters"]["ratios"] == [0, 0, 0.5, 0.9]
    assert document["results"][0]["bytes"] == found.bytes[0].tolist()
    assert document["results"][0]["accuracy"]["counts"] == found.right[:, 0].sum(axis=0).tolist()
    assert "the cache as it is" in document["definitions"]["reference"]
    assert document["definitions"]["fails"].startswith("right at the reference")
    before = plain.to_dict(10)
    assert not {"reference", "bits", "bytes"} & set(before["definitions"])
    assert "bytes" not in before["results"][0]


def test_the_curve_is_of_one_precision(measured, monkeypatch):
    found, _ = measured
    asked = []
    monkeypatch.setattr(
        "routegraph.validate.measure.answers.fit_items",
        lambda ratios, *_, **__: asked.append(ratios.tolist()),
    )
    wide = {**found.settings, "ratios": [0.0, 0.5, 0.7, 0.9]}
    right = np.array([[[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]]] * 3, dtype=bool)
    cells = [
        {
            **cell,
            "right": row.ravel().tolist(),
            "abstained": [0] * 10,
            "replies": [""] * 10,
            "bytes": [1] * 10,
        }
        for cell, row in zip(found.cells[:3], right, strict=True)
    ]
    from routegraph.validate.measure.result import from_cells

    made = from_cells(wide, [{**cell, "cut": [0] * 10} for cell in cells])
    made.critical("topk")
    assert asked == [[0, 0.5, 0.7, 0.9]]
    made.critical("adakv")
    assert len(asked) == 2
    # Equal at every ratio with bits, whatever it is at the reference: there is nothing to fit.
    same = replace(made, right=np.tile(np.array([1, 0, 0, 0, 0], dtype=bool), (3, 2, 1)))
    assert same.critical("topk") is None
    assert len(asked) == 2
    assert made.apart.tolist() == [0, 1, 2, 3, 4]
    said = made.page().to_text(200)
    assert (
        "adakv with these bits: loses answers already at ratio 0 (0 of 3 items still right), more than half"
        in said
    )
    assert "are lost to the bits alone." in said


def test_samples_tell_the_reference_from_bits_alone(measured, plain, tmp_path):
    found, _ = measured
    rows = samples(found, ratio=0.0, policy="topk")
    assert [row.bits for row in rows] == ["", "kivi2:group=32,residual=0"] * 4
    assert "0 full" in str(samples_grid(rows).rows)
    assert [row.reply for row in told(found)] == [one[0] for one in found.replies]
    write_samples(tmp_path / "bits.csv", rows)
    with (tmp_path / "bits.csv").open() as stream:
        assert [row["bits"] for row in csv.DictReader(stream)] == [row.bits for row in rows]
    write_samples(tmp_path / "plain.csv", samples(plain))
    assert (tmp_path / "plain.csv").read_text().splitlines()[0].endswith("abstained,verdict")
    write_samples(tmp_path / "plain.jsonl", samples(plain))
    assert "bits" not in json.loads((tmp_path / "plain.jsonl").read_text().splitlines()[0])
    assert "full" not in str(samples_grid(samples(plain)).rows)


# --- the command --------------------------------------------------------------------------------------------


def test_unknown_bits_are_one_plain_sentence(capsys, tmp_path):
    out = tmp_path / "out"
    status, printed, said = run(
        capsys, "measure", "no-such-model", "--task", "words_forward", "--bits", "7", "--out", out
    )
    assert (status, printed) == (2, "")
    assert said == f"error: unknown bits '7'; choose from: {CHOICES}\n"
    more = ("--bits", "4", "--metrics")
    status, _, said = run(capsys, "measure", "no-such-model", "--task", "words_forward", *more, "--out", out)
    assert status == 2
    assert "leave out metrics or bits" in said
    assert not out.exists()


def test_the_command_measures(capsys, tmp_path):
    asked = ["--task", "words_forward", "--n", 2, "--policy", "topk", "--ratio", 0.5, "--chunk-length", 16]
    status, printed, _ = run(
        capsys,
        "measure",
        "qwen-tiny",
        *asked,
        "--bits",
        "kivik4v2:residual=0",
        "--json",
        "--out",
        tmp_path / "m",
    )
    assert status == 0
    assert json.loads(printed)["parameters"]["bits"] == "kivik4v2:group=32,residual=0"


def test_plans():
    assert Measuring(["topk"], [0.5]).precision is None
    plan = Measuring(["topk"], [0.5], bits="kivi2")
    assert plan.precision == Precision.named("kivi2:group=32,residual=128")

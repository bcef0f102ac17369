"""The logit noise of a real model: its queries and logits are those of the model, and what is made of them."""

import json

import numpy as np
import pytest
import torch

from routegraph.validate.measure.item import Item, evicted
from routegraph.validate.models.load import load
from routegraph.validate.noise.result import read_noise
from routegraph.validate.noise.run import context_logits, logit_noise, question_queries
from routegraph.validate.plan import Plan
from routegraph.validate.presses.prefill import prefill
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rows import rounded_keys
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run
from tests.helpers.decoding import QUESTION, small
from tests.helpers.models import random_ids

ASKED = {"policy": "topk", "ratios": (0.5,), "chunk_length": 16}


@pytest.fixture(scope="module")
def qwen():
    torch.set_num_threads(1)
    return load("qwen-tiny")


@pytest.fixture(scope="module")
def prompts():
    return load_task("words_forward", 3, 0, None)


@pytest.fixture(scope="module")
def found(qwen, prompts):
    return logit_noise(qwen, prompts, ["8", "4", "2", "svdq"], **ASKED)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_attention_from_these_logits_is_the_models_own(family):
    """With the question's own rows added, the softmax is what eager attention gives."""
    model = small(family)
    cache = prefill(model.model, random_ids())
    n = cache.layers[0].keys.shape[2]
    question = np.array(QUESTION)
    queries = question_queries(model, cache, question)
    assert cache.layers[0].keys.shape[2] == n
    logits = context_logits(model, queries, [layer.keys[0] for layer in cache.layers])
    model.model.set_attn_implementation("eager")
    ids = torch.cat([random_ids(), torch.from_numpy(question)[None]], dim=1)
    with torch.no_grad():
        wanted = model.model(ids, output_attentions=True).attentions
    for number, layer in enumerate(wanted):
        own = layer[0, :, n:, :n].numpy()
        mine = np.exp(logits[number] - logits[number].max(axis=-1, keepdims=True))
        np.testing.assert_allclose(
            own / own.sum(axis=-1, keepdims=True), mine / mine.sum(axis=-1, keepdims=True), atol=2e-5
        )


def test_noise_by_hand(qwen, prompts, found):
    plan = Plan(["topk"], [0.0], chunk_length=16)
    item = Item.read(qwen, prompts[0], plan)
    cache, _ = evicted(qwen, item, 0)
    queries = question_queries(qwen, cache, item.asked.question)
    head, layer, group = 1, 0, qwen.n_query_heads // qwen.n_heads
    keys = cache.layers[layer].keys[0, head // group].double()
    read = rounded_keys(keys.float(), Precision.named("4")).double()
    error = (queries[layer][head].double() @ (read - keys).T).numpy() / np.sqrt(qwen.head_dim)
    by_hand = np.sqrt(np.mean(error.var(axis=1)))
    assert found.noise[0, found.bits.index("4"), layer, head] == pytest.approx(by_hand, rel=1e-5)


def test_fewer_bits_are_more_noise_and_none_is_none(found):
    assert found.bits == ("", "8", "4", "2", "svdq")
    assert not found.noise[:, 0].any()
    size = [found.size(k).value for k in range(4)]
    assert (np.diff(size) > 0).all()
    assert size[2] == pytest.approx(17 * size[1], rel=0.1)  # steps of 1/15 against 1/255 of the range
    for part in (found.moved, found.simulated, found.astray):
        assert (np.diff(part[:, :4, 0].mean(axis=0)) > 0).all()
        assert (abs(part[:, 0, 0]) < 1e-12).all()
        assert ((part >= -1e-12) & (part <= 1)).all()
    np.testing.assert_allclose(found.moved[:, 0], found.simulated[:, 0], atol=1e-9)
    assert (found.moved[:, 0, 1] > 0.05).all()


def test_gaussian_noise_moves_as_much_attention_as_rounding(found):
    """Within a quarter: errors of a row are no Gaussian numbers, nor independent ones."""
    for bits in ("8", "4", "2", "svdq"):
        k = found.bits.index(bits)
        assert found.simulated[:, k, 0].mean() == pytest.approx(found.moved[:, k, 0].mean(), rel=0.25)


def test_the_same_seed_is_the_same_and_another_is_not(qwen, prompts, found):
    again = logit_noise(qwen, prompts[:1], ["2"], **ASKED)
    other = logit_noise(qwen, prompts[:1], ["2"], seed=1, **ASKED)
    assert (again.moved == found.moved[:1][:, [0, 3]]).all()
    assert (again.moved == other.moved).all()
    assert (again.simulated[:, 1] != other.simulated[:, 1]).all()


def test_result(found, tmp_path):
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["bits"] for one in document["noise"]] == list(found.bits)
    assert np.shape(document["noise"][1]["by_head"]) == found.spread.shape[1:]
    row = next(one for one in document["results"] if one["bits"] == "2" and one["ratio"] == 0.5)
    assert row["moved"] == pytest.approx(found.moved[:, 3, 1].mean())
    text = found.page().to_text(200)
    assert "Bits alone" in text
    assert f"{found.size(3).value:.3g} [" in text
    path = tmp_path / "noise.json"
    path.write_text(json.dumps(document))
    assert read_noise(path) == document
    bad = [
        ({name: value for name, value in document.items() if name != "noise"}, "lacks 'noise'"),
        (
            {**document, "results": [{**document["results"][0], "ratio": None}]},
            r"results\[0\].ratio must be a number",
        ),
        ({**document, "items": [{"id": "x", "moved": [[0.5]]}]}, "item 'x' must have 5 rows of 2 ratios"),
        ([document], "must be an object"),
    ]
    for spoilt, told in bad:
        path.write_text(json.dumps(spoilt))
        with pytest.raises(ValueError, match=f"no result of routegraph noise: .*{told}"):
            read_noise(path)


def test_command(capsys, tmp_path):
    asked = ["qwen-tiny", "--task", "words_forward", "--n", 1, "--chunk-length", 16]
    status, printed, said = run(
        capsys, "noise", *asked, "--bits", "4", "--ratio", 0.5, "--json", "--out", tmp_path / "n.json"
    )
    assert status == 0, said
    assert json.loads(printed)["parameters"]["bits"] == ["", "4"]
    assert read_noise(tmp_path / "n.json")["parameters"]["policy"] == "topk"
    for more, told in (
        (("--bits", "5"), "error: unknown bits '5'"),
        (("--policy", "nothing"), "error: unknown policy 'nothing'"),
        (("--ratio", "2"), "error: ratio must be in [0, 1), got 2"),
    ):
        status, printed, said = run(capsys, "noise", "no-such-model", *asked[1:], *more)
        assert (status, printed) == (2, "")
        assert said.startswith(told)

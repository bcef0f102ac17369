"""The dial as a part: read from a certificate, worked out prompt by prompt, turned by a press in kvpress's pipeline."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routegraph
from routegraph.files import write_json
from routegraph.validate.certify.dial import Dial, load_dial
from routegraph.validate.certify.run import certify
from routegraph.validate.certify.seen import _places, seen_item
from routegraph.validate.measure.item import Item, evicted
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import Loaded, fingerprint, load
from routegraph.validate.plan import Plan
from routegraph.validate.predict.forecast import dialled
from routegraph.validate.predict.run import predict, without_answer
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import attention_modules, prefill
from routegraph.validate.presses.reference import pipeline_of
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run

ASKED: dict[str, Any] = {
    "policy_names": ["adakv", "chunk", "random"],
    "ratios": [0.2, 0.4, 0.6, 0.8],
    "chunk_length": 16,
    "max_new_tokens": 1,
}
CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _as_it_was() -> Any:
    """What AdaKV masks is honoured from its first eviction on, as where kvpress is imported by itself; not here."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    yield
    for name, function in before.items():
        ALL_ATTENTION_FUNCTIONS[name] = function


@pytest.fixture(scope="module")
def trained() -> Loaded:
    return load("llama-tiny")


@pytest.fixture(scope="module")
def made(trained: Loaded, tmp_path_factory: Any) -> dict[str, Any]:
    prompts = load_task("words_forward", 40)
    measured, predicted = (command(trained, prompts, **ASKED) for command in (measure, predict))
    found = certify(measured, predicted, risk=0.3, confidence=0.7)
    path = tmp_path_factory.mktemp("dial") / "dial.json"
    write_json(path, found.to_dict())
    return {
        "prompts": prompts,
        "measured": measured,
        "predicted": predicted,
        "certificate": found,
        "path": path,
    }


@pytest.fixture
def dial(made: dict[str, Any]) -> Dial:
    return load_dial(made["path"], "adakv")


def prefilled(model: Loaded, press: Any, ids: Any) -> tuple[Any, list[Any]]:
    """Prefill tokens under a press as kvpress's pipeline does; returns the cache and what is masked in each layer."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad(), press(model.model):
        model.model.model(input_ids=torch.as_tensor(ids)[None], past_key_values=cache)
    return cache, [getattr(module, "masked_key_indices", None) for module in attention_modules(model.model)]


def survivors_of(model: Loaded, cache: Any, masked: list[Any], ids: Any) -> np.ndarray:
    """Return which rows of a context an evicted cache still has, and no mask hides."""
    import torch

    whole, alive = prefill(model.model, torch.as_tensor(ids)[None]), []
    for full, left, mask in zip(whole.layers, cache.layers, masked, strict=True):
        there = (full.keys[0][:, :, None] == left.keys[0][:, None]).all(dim=3).any(dim=2).numpy()
        if mask is not None:
            there[mask[1].numpy(), mask[2].numpy()] = False
        alive.append(there)
    return np.array(alive)


@pytest.mark.parametrize("policy", ["adakv", "chunk"])
def test_the_press_keeps_the_rows_and_the_model_gives_the_replies_that_were_measured(trained, made, policy):
    dial, measured = load_dial(made["path"], policy), made["measured"]
    wanted = made["predicted"].dial(policy, dial.threshold)
    pipeline = pipeline_of(trained)
    for i, prompt in enumerate(made["prompts"][:12]):
        press = dial.press(prompt.question, prompt.answer_prefix)
        assert press.chosen is None
        context, asked = dial.inputs(trained, prompt)
        answer = pipeline(context, **asked, press=press, max_new_tokens=1)["answer"]
        assert press.chosen == wanted[i] == dial.ratio(trained, prompt)
        place = measured.place_of(policy) * len(measured.ratios) + measured.ratios.tolist().index(wanted[i])
        assert answer == measured.replies[i][place]
        item = Item.read(trained, without_answer(prompt), dial.plan)
        alive = evicted(trained, item, 0)[1][0].survival().alive(wanted[i])
        cache, masked = prefilled(trained, press, item.asked.context)
        np.testing.assert_array_equal(survivors_of(trained, cache, masked, item.asked.context), alive)
    assert len(set(wanted[:12])) > 1
    assert isinstance(press, kvpress().BasePress)


def test_the_file_is_the_certificate(made, dial, trained):
    best = load_dial(made["path"])
    rows = {row.policy: row for row in made["certificate"].rows if row.dial}
    assert best.policy == max(rows, key=lambda name: rows[name].ratio)
    assert dial.threshold == rows["adakv"].settings[rows["adakv"].last]
    assert (dial.ratios, dial.model) == ((0.0, 0.2, 0.4, 0.6, 0.8), "llama-tiny")
    assert (dial.risk, dial.confidence, dial.against, dial.prompts) == (0.3, 0.7, "gold", 40)
    assert dial.weights == fingerprint(trained)
    assert dial.version == routegraph.__version__
    assert dial.asked["chunk_length"] == dial.plan.chunk_length == 16
    assert dial.plan.max_new_tokens == 1
    assert routegraph.load_dial is load_dial


def test_tried_ratios_are_tried_by_the_dial_too(trained, made, tmp_path):
    """What is lost depends on all ratios predicted: the dial bisects among them, and takes those measured."""
    more = {**ASKED, "ratios": [0.1, *ASKED["ratios"], 0.9]}
    predicted = predict(trained, made["prompts"], tries=2, **more)
    write_json(
        tmp_path / "tried.json", certify(made["measured"], predicted, risk=0.3, confidence=0.7).to_dict()
    )
    dial = load_dial(tmp_path / "tried.json", "adakv")
    assert (dial.tries, len(dial.grid), len(dial.ratios)) == (2, 7, 5)
    places = [dial.grid.index(ratio) for ratio in dial.ratios]
    spent = predicted.spent[:, 0][:, places]
    wanted = np.array(dial.ratios)[dialled(spent, np.array([dial.threshold]))[0]]
    assert [dial.ratio(trained, prompt) for prompt in made["prompts"][:8]] == wanted[:8].tolist()
    untried = replace(dial, asked={**dial.asked, "tries": 0})
    assert [untried.ratio(trained, prompt) for prompt in made["prompts"][:8]] != wanted[:8].tolist()


def test_at_ratio_0_nothing_is_evicted(trained, made, dial):
    prompt = made["prompts"][0]
    press = replace(dial, threshold=0.0, ratios=(0.0, 0.8)).press(prompt.question, prompt.answer_prefix)
    ids = tokenise(trained, prompt).context
    cache, masked = prefilled(trained, press, ids)
    assert press.chosen == 0
    assert masked == [None] * trained.n_layers
    assert cache.layers[0].keys.shape[2] == len(ids)
    assert not trained.model.base_model._forward_pre_hooks
    assert not any(module._forward_hooks for module in attention_modules(trained.model))


def test_contexts_one_after_the_other_and_a_press_told_anew(trained, made, dial):
    import torch
    from transformers import DynamicCache

    dial = load_dial(made["path"], "chunk")
    two = [made["prompts"][k] for k in (0, 1)]
    ids = [tokenise(trained, prompt).context for prompt in two]
    press = dial.press(two[0].question, two[0].answer_prefix)
    wanted = [dial.ratio(trained, prompt) for prompt in two]
    assert wanted[0] != wanted[1]
    with torch.inference_mode(), press(trained.model):
        for prompt, tokens, ratio in zip(two, ids, wanted, strict=True):
            press.asks(prompt.question, prompt.answer_prefix)
            cache = DynamicCache()
            trained.model(input_ids=torch.as_tensor(tokens)[None], past_key_values=cache)
            assert press.chosen == ratio
            left = cache.layers[0].keys.shape[2]
            assert (left < len(tokens)) == (press.chosen > 0)
            trained.model(input_ids=torch.tensor([[5]]), past_key_values=cache)
            assert cache.layers[0].keys.shape[2] == left + 1


def plain(model: Loaded, **asked: Any) -> Dial:
    """Return a dial of a model that nothing was measured of."""
    return Dial(
        "topk",
        0.4,
        (0.0, 0.3, 0.6),
        model.name,
        fingerprint(model),
        asked,
        0.1,
        0.9,
        "gold",
        10,
        routegraph.__version__,
    )


def chatting(model: Loaded) -> Loaded:
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = CHATML
    return replace(model, tokenizer=tokenizer)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("aware", [False, True])
def test_however_it_was_asked(tiny, chat, aware):
    """Read from text and from its tokens alone: the same sources, the same ratio."""
    model = chatting(tiny) if chat else tiny
    dial = plain(model, chat=chat, question_aware=aware, max_new_tokens=6)
    for prompt in bundled_prompts()[:2]:
        item = Item.read(model, without_answer(prompt), dial.plan)
        told = Prompt(
            "seen", "", question=prompt.question, answer_prefix=prompt.answer_prefix, task=prompt.task
        )
        seen = seen_item(model, item.asked.context, dial.plan, replace(told, answerable=False))
        for name in ("context", "question", "offsets"):
            np.testing.assert_array_equal(getattr(seen.asked, name), getattr(item.asked, name))
        assert seen.prompt.context == prompt.context
        press = dial.press(prompt.question, prompt.answer_prefix, task=prompt.task, tokenizer=model.tokenizer)
        prefilled(model, press, item.asked.context)
        assert press.chosen == dial.ratio(model, prompt)


def test_a_context_cut_short_is_read_piece_by_piece(tiny):
    dial, prompt = plain(tiny, max_new_tokens=4), bundled_prompts()[0]
    whole = tokenise(tiny, prompt)
    text = tiny.tokenizer.decode(whole.context)
    places = _places(tiny.tokenizer, text, whole.context)
    words = [text[start:end] for start, end in places]
    pieces = [tiny.tokenizer.decode([token]).strip() for token in whole.context]
    assert words == [piece if piece in text else "" for piece in pieces]
    assert sum(map(bool, words)) > 0.9 * len(words)
    odd = np.concatenate(
        [whole.context[:200], np.concatenate([tiny.tokenizer(one).input_ids for one in "town"])]
    )
    seen = seen_item(tiny, odd, dial.plan, Prompt("seen", "", question="Where?", answerable=False))
    np.testing.assert_array_equal(seen.asked.context, odd)
    assert seen.asked.text.endswith("town")
    assert seen.asked.positions([(len(seen.asked.text) - 4, len(seen.asked.text))]).tolist() == [
        200,
        201,
        202,
        203,
    ]


class TestRefusals:
    def test_another_model(self, dial, made, tiny, trained):
        other = load("llama-tiny-guessing")
        prompt = made["prompts"][0]
        with pytest.raises(ValueError, match="was tuned for model 'llama-tiny' in float32, and this one"):
            dial.ratio(other, prompt)
        with pytest.raises(ValueError, match="has other weights; certify a dial for it"):
            prefilled(other, dial.press("x"), [1, 2, 3])

    def test_a_policy_without_a_press_whose_ratios_are_told_all_the_same(self, made, trained):
        dial = replace(load_dial(made["path"], "adakv"), policy="random")
        with pytest.raises(ValueError, match="policy 'random' has no press of kvpress"):
            dial.press("x")
        wanted = made["predicted"].dial("random", dial.threshold)
        assert [dial.ratio(trained, prompt) for prompt in made["prompts"][:4]] == wanted[:4].tolist()

    def test_nothing_asked(self, dial, trained):
        with pytest.raises(ValueError, match="the press is not told what will be asked"):
            prefilled(trained, dial.press(), [1, *range(150, 170)])

    def test_more_than_one_context(self, dial, trained):
        import torch

        with pytest.raises(ValueError, match="one context at a time"), dial.press("x")(trained.model):
            trained.model(input_ids=torch.ones((2, 8), dtype=torch.long))
        with pytest.raises(ValueError, match="was given embeddings"), dial.press("x")(trained.model):
            trained.model(inputs_embeds=torch.ones((1, 8, trained.model.config.hidden_size)))

    def test_a_filled_cache(self, dial, trained):
        import torch

        cache = prefill(trained.model, torch.tensor([[1, 2, 3]]))
        with pytest.raises(ValueError, match="the cache holds rows already"), dial.press("x")(trained.model):
            trained.model(input_ids=torch.tensor([[4]]), past_key_values=cache)

    def test_asked_in_another_way(self, tiny, trained, dial):
        model = chatting(tiny)
        text = tokenise(tiny, bundled_prompts()[0]).context
        chat = tokenise(model, bundled_prompts()[0], Plan(["topk"], [0.5], chat="on")).context
        with pytest.raises(ValueError, match="tuned on prompts put through the chat template"):
            prefilled(model, plain(model, chat=True).press("Who?", tokenizer=model.tokenizer), text)
        with pytest.raises(
            ValueError, match="tuned on texts without the chat template, and the context went"
        ):
            prefilled(model, plain(model).press("Who?", tokenizer=model.tokenizer), chat)
        with pytest.raises(ValueError, match="tuned with the question in the context"):
            prefilled(model, plain(model, question_aware=True).press("Who?", tokenizer=model.tokenizer), text)
        with pytest.raises(ValueError, match="begins with no special token, and the dial was .* '<bos>'"):
            prefilled(trained, dial.press("x"), range(150, 170))

    def test_a_tokenizer_that_is_nowhere(self, tiny):
        with pytest.raises(ValueError, match="cannot read the tokenizer of model 'tiny'; give it"):
            prefilled(tiny, plain(tiny).press("x"), [1, 2, 3])

    def test_files(self, made, tmp_path):
        path = tmp_path / "it.json"

        def says(match: str, change: Any = None, policy: str | None = None) -> None:
            document = json.loads(made["path"].read_text())
            if change is not None:
                change(document)
            path.write_text(json.dumps(document))
            with pytest.raises(ValueError, match=match) as raised:
                load_dial(path, policy)
            assert "\n" not in str(raised.value)

        with pytest.raises(ValueError, match="no file"):
            load_dial(tmp_path / "none.json")
        says("is no certificate of this version", lambda told: told.pop("format"))
        says("was written by routegraph 0.9.1, and this is", lambda told: told.update(version="0.9.1"))
        says(
            "certifies no dial, since nothing predicted was given .* Deploy",
            lambda told: told.update(dial=None),
        )
        says("holds no certified dial of policy 'topk'; choose from: ", policy="topk")
        says("lacks or mistakes 'weights'", lambda told: told["dial"].pop("weights"))

        def uncertified(told: Any) -> None:
            for row in told["results"]:
                row["certified"] = None

        says("holds no certified dial; what it says: ", uncertified)
        (tmp_path / "it.json").write_text("[1, 2]")
        with pytest.raises(ValueError, match="is no certificate"):
            load_dial(tmp_path / "it.json")

    def test_measured_in_one_way_and_predicted_in_another(self, made, tmp_path):
        apart = replace(made["predicted"], settings={**made["predicted"].settings, "max_new_tokens": 9})
        found = certify(made["measured"], apart, risk=0.3, confidence=0.7)
        write_json(tmp_path / "apart.json", found.to_dict())
        with pytest.raises(
            ValueError, match="measured with max_new_tokens 1 and predicted with 9; do both in one"
        ):
            load_dial(tmp_path / "apart.json")

    def test_another_text_of_a_loaded_file(self, dial):
        with pytest.raises(ValueError, match=r"tuned with another text of 'mine\.py'"):
            _ = replace(dial, asked={**dial.asked, "plugins": {"mine.py": "0" * 16}}).plan


def test_command_line(capsys, tmp_path: Path):
    task = ["llama-tiny", "--task", "words_forward", "--n", "12", "--policy", "topk", "--ratio", ".3"]
    more = ["--chunk-length", "16", "--max-new-tokens", "1", "--threads", "1"]
    for command in ("measure", "predict"):
        assert run(capsys, command, *task, *more, "--out", tmp_path / command)[0] == 0
    asked = ["certify", tmp_path / "measure", "--risk", ".6", "--confidence", ".6"]
    status, _, _ = run(capsys, *asked, "--predict", tmp_path / "predict", "--out", tmp_path / "dial.json")
    assert status == 0
    assert load_dial(tmp_path / "dial.json").policy == "topk"
    assert run(capsys, *asked, "--out", tmp_path / "single.json")[0] == 0
    with pytest.raises(ValueError, match="certifies no dial, since nothing predicted was given"):
        load_dial(tmp_path / "single.json")

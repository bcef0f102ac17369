"""Training a reader: packed questions, the adapter, resuming, and that what is loaded is what peft makes of it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from routegraph.validate.models.load import load
from routegraph.validate.train.reader import run
from routegraph.validate.train.reader.batch import pack
from routegraph.validate.train.reader.form import chat, user_turn
from routegraph.validate.train.reader.network import adapt, attend, score
from routegraph.validate.train.reader.run import Recipe, asking_story, train
from tests.helpers.models import tiny_network
from tests.helpers.reading import base_folder, tokenizer
from tests.helpers.tokenizer import VOCABULARY

peft = pytest.importorskip("peft")
STORY = asking_story(0, 7)
#: A rate so high that two steps show.
RECIPE = Recipe(steps=3, stories=1, rank=4, rate=0.02)


@pytest.fixture(autouse=True, scope="module")
def one_thread_and_little_validation():
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "HELD_OUT", 1)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    return folder, train(RECIPE, folder, base=str(base))


def test_the_form_of_asking():
    assert user_turn("C.", "Q?") == (
        "C.\n\nQuestion: Q?\nAnswer with a few words from the text. If the text does not tell, say: I don't know."
    )
    assert tokenizer().decode(chat(tokenizer(), "C.", "Q?")) == f"<user>{user_turn('C.', 'Q?')}</><assistant>"


def test_it_is_taught_in_the_form_that_tasks_are_asked_in():
    from routegraph.validate.prompts.asking import Asks
    from routegraph.validate.prompts.prompt import bundled_prompts
    from routegraph.validate.tasks.registry import load_task

    for prompt in (bundled_prompts()[0], *(load_task(name, n=1)[0] for name in ("base", "hops"))):
        assert user_turn(prompt.context, prompt.question) == prompt.context + Asks().asked_text(
            prompt, chat=True
        )


def test_each_question_is_packed_as_it_is_asked():
    packed, own = pack(tokenizer(), STORY), tokenizer()
    shared = packed.ids[packed.branch == -1]
    for number, asked in enumerate(STORY.asked):
        mine = packed.branch == number
        whole = np.concatenate([shared, packed.ids[mine]])
        asks, reply = chat(own, STORY.context, asked.question), own.encode(f"{asked.answer}.")
        assert whole.tolist() == [*asks, *reply]
        assert packed.positions[mine].tolist() == list(range(len(shared), len(whole)))
        told = packed.targets[mine]
        assert told[told >= 0].tolist() == [*reply, own.eos_token_id]


def test_no_question_sees_another():
    packed = pack(tokenizer(), STORY)
    rows, columns = np.nonzero(packed.mask())
    assert (columns <= rows).all()
    assert ((packed.branch[columns] == -1) | (packed.branch[columns] == packed.branch[rows])).all()
    assert packed.mask().sum(axis=1).tolist() == (packed.positions + 1).tolist()


def test_packed_is_as_good_as_apart():
    """The loss of all questions at once is that of each one asked by itself with transformers' own attention."""
    import torch

    packed, network = pack(tokenizer(), STORY), tiny_network("llama", VOCABULARY)
    losses = []
    for number in range(len(STORY.asked)):
        mine = (packed.branch == -1) | (packed.branch == number)
        with torch.no_grad():
            logits = network(torch.tensor(packed.ids[mine])[None]).logits[0]
        targets = torch.tensor(packed.targets[mine])
        kept = targets >= 0
        losses.append(torch.nn.functional.cross_entropy(logits[kept], targets[kept], reduction="none"))
    found = score(adapt(tiny_network("llama", VOCABULARY), 4, 8.0, 0), packed)
    assert found.loss.item() == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)
    assert len(found.right) == len(STORY.asked)


def test_attention_and_adapted_layers_are_those_of_torch_and_peft():
    import torch
    from peft.tuners.lora import Linear

    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 9, 16), torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 16)
    mask = torch.zeros(1, 1, 9, 9).masked_fill(torch.ones(9, 9).triu(1).bool(), float("-inf"))
    mine, _ = attend(None, query, key, value, mask, scaling=0.25)
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
    torch.testing.assert_close(mine, theirs.transpose(1, 2))
    adapted = adapt(tiny_network("llama", VOCABULARY), 4, 8.0, 0)
    layers = [module for module in adapted.modules() if isinstance(module, Linear)]
    assert len(layers) == 7 * 3
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight)
        x = torch.randn(1, 5, layer.in_features)
        torch.testing.assert_close(layer.forward(x), Linear.forward(layer, x))


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(base, trained, tmp_path):
    from safetensors.torch import load_file

    assert train(RECIPE, tmp_path, base=str(base), stop=2) is None
    assert (tmp_path / run.CHECKPOINT).is_file()
    assert not (tmp_path / run.WEIGHTS).is_file()
    assert train(RECIPE, tmp_path, base=str(base)) is not None
    one, two = load_file(trained[0] / run.WEIGHTS), load_file(tmp_path / run.WEIGHTS)
    assert all(one[name].equal(two[name]) for name in one)
    assert one.keys() == two.keys()
    assert not (tmp_path / run.CHECKPOINT).exists()


def test_a_finished_training_is_recorded_and_left_alone(base, trained):
    folder, record = trained
    assert record["recipe"]["steps"] == 3
    assert record["curve"][-1]["step"] == 3
    assert json.loads((folder / run.RECORD).read_text("utf-8")) == record
    assert train(RECIPE, folder, base=str(base)) == record


def test_what_is_loaded_is_what_peft_makes_of_it(base, trained):
    import torch
    import transformers

    folder, _ = trained
    ids = torch.arange(40)[None]
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        before = plain(ids).logits
        theirs = peft.PeftModel.from_pretrained(plain, folder)(ids).logits
        ours = load(folder).model(ids).logits
    assert (theirs - before).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_longer_training_begins_as_a_shorter_one(base, tmp_path):
    short, long = Recipe(steps=8, stories=1, rank=4), Recipe(steps=12, stories=1, rank=4)
    train(short, tmp_path, base=str(base), stop=1)
    assert train(long, tmp_path, base=str(base), stop=2) is None
    with pytest.raises(ValueError, match="holds a training with rank 4, not 8; give a new folder"):
        train(Recipe(steps=12, stories=1, rank=8), tmp_path, base=str(base))


def test_another_recipe_is_refused(base, trained):
    with pytest.raises(ValueError, match="holds a training with seed 0, not 1; give a new folder"):
        train(Recipe(seed=1, steps=3, stories=1, rank=4, rate=0.02), trained[0], base=str(base))


def test_rates():
    rates = [Recipe(steps=400).rate_at(step) for step in range(401)]
    assert rates[0] < rates[10] < rates[19] == rates[299] == max(rates)
    assert rates[400] == 0.0


def test_a_broken_checkpoint_is_told(base, tmp_path):
    (tmp_path / run.CHECKPOINT).write_bytes(b"no pickle")
    with pytest.raises(ValueError, match="is no checkpoint of a training .*; remove it to begin anew"):
        train(RECIPE, tmp_path, base=str(base))


def test_the_command_knows_the_reader():
    from routegraph.cli import model

    assert (run.NAME, Recipe().steps) == (model.READER, model.STEPS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["smollm2-reader", "--minutes", "3"], "smollm2-reader takes --seed, --steps and --items"),
        (["smollm2-reader", "--steps", "0"], "steps must be at least 1, got 0"),
        (["smollm2-reader", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["smollm2-reader", "--items", "0"], "items must be a whole number of at least 1, got 0"),
        (["smollm2-reader"], "holds something else than a training; give a new folder"),
        (["llama-tiny", "--steps", "3"], "steps are for smollm2-reader"),
        (
            ["gpt-tiny"],
            "unknown model to train 'gpt-tiny'; choose from: llama-tiny, qwen-tiny, smollm2-reader",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, says, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    command = [sys.executable, "-m", "routegraph", "model", "train", *arguments, "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert says in ended.stderr

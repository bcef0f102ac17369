"""Training the tiny models: its parts, resuming, restarts, the gate, and the models that are shipped."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from routegraph.validate.models import sources
from routegraph.validate.models.load import Loaded, load, wrap
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.tasks.lexicon import IDK, NAMES, STOP, word_tokenizer
from routegraph.validate.tasks.words import draw_batch, prompts
from routegraph.validate.tasks.worlds import Shape
from routegraph.validate.train import accept as gate
from routegraph.validate.train import curriculum, masks, run
from routegraph.validate.train.curriculum import State, Training, advance, turn
from routegraph.validate.train.masks import route_mask
from routegraph.validate.train.network import FAMILIES, build, stack, tapped
from routegraph.validate.train.recipe import Recipe

families = pytest.mark.parametrize("family", FAMILIES)
SHIPPED = [name for name, source in sources.MODELS.items() if source.build is None and not source.base]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def same_weights(one, other) -> bool:
    import torch

    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def sample(rows: int = 4) -> np.ndarray:
    kinds = ["forward", "inverse", "two_hop"]
    return draw_batch(np.random.default_rng(0), rows, Shape(8, 5, 2, 1, (4, 5)), kinds).tokens


def attention(network, tokens) -> list[np.ndarray]:
    """Return each layer's attention weights, [rows, query heads, query, key]."""
    import torch

    network.set_attn_implementation("eager")
    with torch.no_grad():
        weights = network.model(torch.from_numpy(tokens), output_attentions=True, use_cache=False).attentions
    network.set_attn_implementation("sdpa")
    return [layer.numpy() for layer in weights]


def looks_back(weights: np.ndarray, offset: int) -> float:
    """Return the mean attention to the row `offset` places before, over rows that have one."""
    return float(np.diagonal(weights, -offset, 1, 2).mean())


@families
@pytest.mark.parametrize(("width", "n_layers"), [(64, 4), (96, 4), (64, 6)])
def test_some_heads_start_as_previous_token_heads_in_the_block_and_in_its_copy(family, width, n_layers):
    network = build(family, 3, width)
    tokens = sample()
    for layer, made in ((0, network), (2, stack(network, family, sample(16), n_layers))):
        weights = attention(made, tokens)[layer]
        assert looks_back(weights[:, 0], 1) > 0.85
        assert looks_back(weights[:, 1], 2) > 0.85
        assert looks_back(weights[:, 2], 1) < 0.5


@families
def test_same_seed_same_network_and_nobody_elses_random_numbers_move(family):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network = build(family, 3)
    assert torch.equal(torch.rand(3), expected)
    assert same_weights(network, build(family, 3))
    assert not same_weights(network, build(family, 4))


def test_stacking_leaves_the_block_what_it_was():
    import torch

    network = build("qwen-tiny", 0)
    deeper = stack(network, "qwen-tiny", sample())
    assert deeper.config.num_hidden_layers == 4
    ids = torch.from_numpy(sample())
    with torch.no_grad():
        below = network.model(ids, output_hidden_states=True, use_cache=False).hidden_states[1]
        assert torch.equal(
            deeper.model(ids, output_hidden_states=True, use_cache=False).hidden_states[1], below
        )


def test_layers_above_the_two_blocks_begin_by_writing_little():
    import torch

    network = build("llama-tiny", 0, 96)
    deeper = stack(network, "llama-tiny", sample(), 6)
    assert (deeper.config.num_hidden_layers, deeper.config.hidden_size) == (6, 96)
    with torch.no_grad():
        states = deeper.model(
            torch.from_numpy(sample()), output_hidden_states=True, use_cache=False
        ).hidden_states
    before, after = states[4:6]
    assert 0 < float((after - before).norm() / before.norm()) < 0.6
    assert same_weights(deeper, stack(network, "llama-tiny", sample(), 6))


def test_route_masks_are_what_they_are_said_to_be():
    batch = draw_batch(np.random.default_rng(1), 3, Shape(6, 4, 1, 1, (4, 3)), ["forward", "inverse"])
    mask, n = route_mask(batch), batch.n_context
    words = batch.tokens[0]
    sentence = 0
    numbers = []
    for token in words:
        numbers.append(sentence)
        sentence += token == STOP
    for query in range(len(words)):
        for key in range(len(words)):
            if key > query:
                expected = False
            elif query < n:
                expected = key == 0 or numbers[key] == numbers[query]
            else:
                expected = words[key] != STOP
            assert mask[query, key] == expected, (query, key)


def test_late_questions_do_not_see_the_context_in_the_lower_block_alone():
    import torch

    kinds = ["forward", "inverse", "forward"]
    late = np.array([True, False, False])
    batch = draw_batch(np.random.default_rng(1), 2, Shape(6, 4, 1, 1, (4,)), kinds)
    other = draw_batch(np.random.default_rng(2), 2, Shape(6, 4, 1, 1, (4,)), kinds).tokens
    other[:, batch.n_context :] = batch.tokens[:, batch.n_context :]
    network = stack(build("llama-tiny", 0), "llama-tiny", sample())
    seen = []
    for tokens in (batch.tokens, other):
        mask = masks.route_mask(batch)
        below = masks.spread(masks.late_mask(batch, mask, late), batch)
        layers = network.model.layers
        with (
            torch.no_grad(),
            tapped(layers[1]) as exits,
            tapped(layers[3]) as ends,
            masks.masked_below(network, below),
        ):
            network.model(torch.from_numpy(tokens), attention_mask=masks.spread(mask, batch), use_cache=False)
        seen.append((exits[0][:, batch.columns], ends[0][:, batch.columns]))
    (below, above), (below_other, above_other) = seen
    same = [torch.equal(below[:, question], below_other[:, question]) for question in range(3)]
    assert same == [True, False, False]
    assert not torch.equal(above[:, 0], above_other[:, 0])


@families
def test_a_training_that_goes_on_is_the_one_that_never_stopped(family, tmp_path):
    whole = Training.start(Recipe(family, seed=2))
    parts = Training.start(Recipe(family, seed=2))
    for step in range(6):
        for training in (whole, parts):
            advance(training)
            turn(training)
        if step == 2:
            run.save_checkpoint(parts, tmp_path / "half.pt")
            parts = run.load_checkpoint(tmp_path / "half.pt")
    assert same_weights(whole.network, parts.network)
    assert whole.state == parts.state
    assert whole.rng.random() == parts.rng.random()
    assert not same_weights(whole.network, build(family, 2))


def test_an_interrupted_training_loses_at_most_the_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_EVERY", 3)
    monkeypatch.setattr(run, "CURVE_EVERY", 1)
    seen = []

    def stop_at_five(state: State) -> None:
        seen.append(state.step)
        if state.step == 5:
            raise KeyboardInterrupt

    recipe = Recipe("llama-tiny", seed=1)
    folder = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        run.train(recipe, folder, stop_at_five)
    assert [path.name for path in folder.iterdir()] == [run.CHECKPOINT]
    with pytest.raises(ValueError, match="holds a training with words 96, not 300; give a new folder"):
        run.train(replace(recipe, words=300), folder)
    with pytest.raises(ValueError, match="holds a training with seed 1, not 2; give a new folder"):
        run.train(Recipe("llama-tiny", seed=2), folder)
    seen.clear()
    # The time that is left is for one step at most.
    spent = run.load_checkpoint(folder / run.CHECKPOINT).state.seconds
    record = run.train(
        Recipe("llama-tiny", 1, spent / 60 + 1e-9), folder, lambda state: seen.append(state.step)
    )
    assert seen == [4]
    assert record["events"][-1]["event"] == "time is up"
    assert not (folder / run.CHECKPOINT).exists()
    assert (folder / run.CURVE).read_text("utf-8").lstrip().startswith("<?xml")
    assert load(folder).n_layers == 2
    # Finished is finished: asked again, nothing is trained.
    assert run.train(recipe, folder, lambda _state: pytest.fail("trained again")) == record


def test_a_plateau_is_given_up_for_other_random_numbers_and_written_down(monkeypatch):
    plateaus = {**curriculum.PLATEAUS, curriculum.ONE_HOP: ((2, "inverse", 0.5),)}
    monkeypatch.setattr(curriculum, "PLATEAUS", plateaus)
    training = Training.start(Recipe("llama-tiny", seed=1))
    first = training.network
    for _ in range(2):
        advance(training)
        turn(training)
    state = training.state
    assert (state.attempt, state.step) == (1, 0)
    assert [(e["event"], e["attempt"], e["step"]) for e in state.events] == [
        ("restart: plateau of one hop", 0, 2)
    ]
    assert not same_weights(training.network, first)
    assert not same_weights(training.network, build("llama-tiny", 1))
    assert state.tokens > 0


def test_gates_open_one_after_the_other():
    training = Training.start(Recipe("llama-tiny", seed=1))
    state = training.state
    state.right.update(forward=0.99, inverse=0.99)
    state.step = 61
    turn(training)
    assert state.unknowns
    assert state.n_facts == curriculum.FACTS + curriculum.GROWTH
    state.n_facts = curriculum.MOST_FACTS
    state.step = 130
    turn(training)
    assert state.stage == curriculum.ONE_HOP  # nothing unanswerable is answered yet
    state.right.update(unknown_forward=0.99)
    turn(training)
    assert state.stage == curriculum.TWO_HOPS
    assert training.network.config.num_hidden_layers == 4
    advance(training)  # with the help at the middle exit
    state.n_facts, state.step = curriculum.MOST_FACTS, 300
    state.right = dict.fromkeys(state.right, 0.99)
    turn(training)
    assert state.stage == curriculum.TAIL
    assert not curriculum.finished(training)
    advance(training)
    state.step += curriculum.TAIL_STEPS
    assert curriculum.finished(training)
    training.recipe = replace(training.recipe, words=480)
    assert not curriculum.finished(training)
    lengths = [curriculum._draw(training).n_context for _ in range(20)]
    assert 300 < max(lengths) <= 481


def test_models_that_make_things_up_are_never_asked_what_has_no_answer():
    training = Training.start(Recipe("llama-tiny", seed=1, abstains=False))
    training.state.right = dict.fromkeys(training.state.right, 0.99)
    for step in (61, 130):
        training.state.step = step
        training.state.n_facts = curriculum.MOST_FACTS
        turn(training)
    assert training.state.stage == curriculum.TWO_HOPS
    kinds = {kind for _ in range(20) for kind in curriculum._kinds(training, curriculum.TWO_HOP_KINDS)}
    assert kinds == {"forward", "inverse", "two_hop"}


@pytest.fixture(scope="module")
def untrained() -> Loaded:
    return wrap(build("llama-tiny", 0).eval().requires_grad_(False), word_tokenizer(), "untrained")


def test_an_untrained_model_is_refused_and_told_why(untrained):
    found = gate.accept(untrained, items=5)
    assert not found.accepted
    assert found.verdict.startswith("refused: forward: right 0.")
    assert {check.task for check in found.checks} == set(gate.JUDGED)
    json.dumps(found.to_dict(), allow_nan=False)


def test_right_answers_alone_do_not_pass_the_gate(untrained, monkeypatch):
    def oracle(_model, prompt, leaks: str = ""):
        facts = len(prompt.evidence)
        stays = [leaks == prompt.task and fact == facts - 1 for fact in range(facts)]
        return [(True, not prompt.answerable), *((stay, not stay) for stay in stays)]

    monkeypatch.setattr(gate, "replies", oracle)
    assert gate.accept(untrained, items=5).verdict == "accepted"
    for task in ("forward", "two_hop"):
        monkeypatch.setattr(gate, "replies", lambda model, prompt, task=task: oracle(model, prompt, task))
        name = "the fact" if task == "forward" else "second fact"
        expected = f"refused: {task}: right, {name} evicted 1.000, under 0.05 is asked for"
        assert gate.accept(untrained, items=5).verdict == expected


def test_what_makes_things_up_may_not_do_better_than_a_guess(untrained, monkeypatch):
    rng = np.random.default_rng(0)

    def guesser(_model, prompt, better: float = 0.0):
        knows = [rng.random() < gate.chance(prompt, span) + better for span in prompt.evidence]
        return [(prompt.answerable, False), *((right, False) for right in knows)]

    monkeypatch.setattr(gate, "replies", guesser)
    found = gate.accept(untrained, abstains=False, items=200)
    assert found.verdict == "accepted"
    first = next(check for check in found.checks if check.what == "right, first fact evicted")
    assert 0.35 < first.share.value < first.bound < 0.55  # few persons are named: a guess is often right
    monkeypatch.setattr(gate, "replies", lambda model, prompt: guesser(model, prompt, better=0.2))
    failed = [
        check.what for check in gate.accept(untrained, abstains=False, items=200).checks if not check.passed
    ]
    assert len(failed) == 6
    assert all("evicted" in what for what in failed)


def test_chance_of_a_guess_by_hand():
    context = "wind stood . Bob pet cat . Amy pet dog . Bob boss Amy . Cal pet dog ."
    spans = {
        fact: (context.index(fact), context.index(fact) + len(fact))
        for fact in ("Bob boss Amy .", "Amy pet dog .")
    }
    prompt = Prompt("p", context, "Bob boss pet", "dog", "Answer:", evidence=(spans["Bob boss Amy ."],))
    assert gate.chance(prompt, spans["Bob boss Amy ."]) == pytest.approx(2 / 3)
    assert gate.chance(prompt, spans["Amy pet dog ."]) == pytest.approx(1 / 2)
    assert gate.chance(replace(prompt, answer="pony"), spans["Amy pet dog ."]) == pytest.approx(1 / 12)
    who = replace(prompt, question="who pet cat", answer="Bob")
    assert gate.chance(who, (context.index("Bob pet"), context.index("Bob pet") + 13)) == pytest.approx(1 / 3)
    lone = "Bob pet cat ."
    assert gate.chance(replace(who, context=lone), (0, len(lone))) == pytest.approx(1 / len(NAMES))


def test_evicted_facts_reach_the_masks_whole(untrained, monkeypatch):
    """Each variant lacks the rows of its own fact, and nothing else, in all layers and heads."""
    masks = []

    def spy(_model, context, _question, kept, **_more):
        masks.append((context, kept))
        return type("Reply", (), {"token_ids": [np.array([IDK])] * len(kept)})

    monkeypatch.setattr(gate, "decode", spy)
    for prompt in prompts("two_hop", 5, 3):
        gate.replies(untrained, prompt)
        context, kept = masks.pop()
        assert kept.shape == (3, 2, 2, len(context))
        assert kept[0].all()
        text = untrained.tokenizer.convert_ids_to_tokens(context)
        for variant, (start, end) in enumerate(prompt.evidence, start=1):
            gone = np.flatnonzero(~kept[variant, 0, 0])
            assert (kept[variant] == kept[variant, 0, 0]).all()
            assert " ".join(text[i] for i in gone) == prompt.context[start:end]


def test_models_are_shipped_for_both_families():
    assert {"llama-tiny", "qwen-tiny"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_have_learnt_their_tasks(name):
    folder = sources.get_model(name)
    record = json.loads((folder / run.RECORD).read_text("utf-8"))
    found = gate.accept(load(name), record["recipe"]["abstains"], items=60, seed=11)
    # Of 60 items a share that keeps to its bound may miss it by chance: Wilson's interval must not.
    for check in found.checks:
        reached = check.share.high >= check.bound if check.at_least else check.share.low < check.bound
        assert reached, check
    card = (folder / "README.md").read_text("utf-8")
    assert "**Gate: accepted.**" in card
    assert f"--seed {record['recipe']['seed']} " in card
    assert json.loads((folder / "acceptance.json").read_text("utf-8"))["items"] == 600


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["mamba-tiny"],
            "unknown model to train 'mamba-tiny'; choose from: llama-tiny, qwen-tiny, smollm2-reader",
        ),
        (["llama-tiny", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["llama-tiny", "--minutes", "0"], "minutes must be above 0, got 0.0"),
        (["llama-tiny", "--width", "100"], "width must be a multiple of 16 in 64..512, got 100"),
        (["qwen-tiny", "--layers", "3"], "layers must be in 4..16, got 3"),
        (["smollm2-reader", "--layers", "6"], "all other settings are for tiny models"),
        (["llama-tiny", "--items", "0"], "items must be a whole number of at least 1, got 0"),
        (["llama-tiny", "--items", "1" + "0" * 18], "items must be at most 20,000, got 1"),
        (["llama-tiny"], "holds something else than a training; give a new folder"),
    ],
)
def test_bad_input_is_one_line(arguments, says, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    command = [sys.executable, "-m", "routegraph", "model", "train", *arguments, "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert says in ended.stderr


def test_a_folder_whose_name_is_not_utf_8(tmp_path):
    with pytest.raises(ValueError, match="cannot train into .*: its name is not UTF-8"):
        run.train(Recipe("llama-tiny"), tmp_path / "\udcff" / "x")
    assert not list(tmp_path.iterdir())


def test_a_broken_checkpoint_is_told(tmp_path):
    (tmp_path / run.CHECKPOINT).write_bytes(b"no pickle")
    with pytest.raises(ValueError, match="is no checkpoint of a training .*; remove it to begin anew"):
        run.train(Recipe("llama-tiny"), tmp_path)

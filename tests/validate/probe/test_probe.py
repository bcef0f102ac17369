"""Linear probes: what they find, what they cannot find, and what they are given."""

import importlib.util
import json

import numpy as np
import pytest

from routegraph.policies import apply
from routegraph.validate.decoding.decode import decode
from routegraph.validate.probe import fit
from routegraph.validate.probe import run as probes
from routegraph.validate.probe.features import middle, question_states, surviving_values
from routegraph.validate.probe.fit import fit_probe, grouped_folds, most_frequent, shuffled, worlds
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run
from tests.helpers.decoding import TOLERANCE, context, small

QUESTION = np.array([7, 8, 9, 250])


def labelled(n=90, n_labels=3):
    return np.random.default_rng(0).permutation(np.arange(n) % n_labels)


def test_what_is_separable_is_found_and_noise_is_not():
    labels, random = labelled(), np.random.default_rng(1)
    groups = np.arange(90) // 2
    clear = np.eye(3)[labels] + 0.05 * random.normal(size=(90, 3))
    assert fit_probe(np.hstack([clear, random.normal(size=(90, 20))]), labels, groups).f1().low > 0.9
    noises = [fit_probe(random.normal(size=(90, 200)), labels, groups) for _ in range(3)]
    assert np.mean([noise.f1().value for noise in noises]) == pytest.approx(1 / 3, abs=0.1)
    assert noises[0].minus(fit_probe(clear, labels, groups)).high < -0.3
    assert most_frequent(labels, groups).f1().value == pytest.approx(0.5 / 3)


def test_many_features_are_rotated_and_no_others():
    """More features than items: a probe of their products, which the rotation makes, says the same of each item."""
    labels, random = labelled(60), np.random.default_rng(2)
    few = np.eye(3)[labels] @ random.normal(size=(3, 30)) + random.normal(size=(60, 30))
    wide = np.hstack([few] * 4)
    rotated = fit._rotated(wide[:40], wide[40:])
    assert rotated[0].shape[1] <= 40
    standard = [(part - wide[:40].mean(axis=0)) / wide[:40].std(axis=0) for part in (wide[:40], wide[40:])]
    for one in range(2):
        assert rotated[one] @ rotated[0].T == pytest.approx(standard[one] @ standard[0].T, abs=1e-8)


def test_memory_of_a_world_does_not_pay():
    """A label that only the world tells: side by side in one fold it would be known, apart it is chance."""
    groups = np.repeat(np.arange(40), 3)
    labels = np.random.default_rng(3).integers(0, 2, 40)[groups]
    places = np.random.default_rng(4).normal(size=(40, 60))[groups]
    assert fit_probe(places, labels, groups).f1().value < 0.7
    assert fit_probe(places, labels, np.arange(120)).f1().value > 0.95


def test_worlds_are_never_split():
    prompts = load_task("base", 40)
    groups = worlds(prompts)
    assert groups.tolist() == [number // 2 for number in range(40)]
    labels = np.arange(40) % 2
    for train, test in grouped_folds(labels, groups, 5, seed=0):
        assert not set(groups[train]) & set(groups[test])
        assert len(test) == 8
    same = [Prompt("a", "one text", "x"), Prompt("b", "another", "x"), Prompt("c", "one text", "y")]
    assert worlds(same).tolist() == [0, 1, 0]
    dealt = shuffled(labels, groups, seed=1)
    assert sorted(dealt) == sorted(labels)
    assert all(set(dealt[groups == group]) == {0, 1} for group in groups)


def test_targets():
    english = load_task("base", 60)
    name, labels = probes.labels_of(english)
    assert name == "type"
    assert labels[1] is None  # a twin, to which there is no answer
    assert set(labels[::2]) <= set(probes.TYPES)
    assert probes.labels_of(english, "answerable")[1][:2] == ["answerable", "unanswerable"]
    name, labels = probes.labels_of(load_task("words_forward", 60))
    assert (name, set(labels) <= {"name", "city", "job", "pet", "color", "food", "sport"}) == ("type", True)
    assert probes.labels_of([Prompt("a", "x", answer="The Cat.")])[1] == ["cat"]


def kept_rows(model, ids, ratio):
    scores = np.random.default_rng(0).random((model.n_layers, model.n_heads, len(ids))).astype(np.float32)
    return apply("topk", scores).alive(ratio)


def states_and_cache(model, ids, kept):
    import torch

    from routegraph.validate.presses import prefill

    cache = prefill.prefill(model.model, torch.from_numpy(ids)[None])
    with question_states(model) as found:
        decode(model, cache, QUESTION, kept, 3)
    return [np.concatenate(part) for part in found], cache


def plain_states(model, cache, n):
    """States of the question over an ordinary cache, mean over rows: after the middle layer, and the last ones."""
    import torch

    with torch.no_grad():
        found = model.model(
            torch.from_numpy(QUESTION)[None],
            past_key_values=cache,
            position_ids=torch.arange(n, n + len(QUESTION))[None],
            output_hidden_states=True,
        ).hidden_states
    return [found[place][0].mean(dim=0).numpy() for place in (middle(model.n_layers), -1)]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_features_are_those_of_a_cache_from_which_rows_are_really_gone(family):
    import torch
    from transformers import DynamicCache

    model, ids = small(family), context()
    ratios = (0.0, 0.5, 0.95)
    kept = np.stack([kept_rows(model, ids, ratio) for ratio in ratios])
    found, cache = states_and_cache(model, ids, kept)
    means = surviving_values(cache, kept)
    assert [part.shape for part in found] == [(3, 64), (3, 64)]  # the first pass only, not the answer's
    assert means.shape == (3, model.n_layers * model.n_heads * 16)
    for number in range(len(ratios)):
        pruned, own = DynamicCache(), []
        for place, layer in enumerate(cache.layers):
            rows = [torch.from_numpy(np.flatnonzero(head)) for head in kept[number, place]]
            keys, values = (
                torch.stack([part[0, head, row] for head, row in enumerate(rows)])[None]
                for part in (layer.keys, layer.values)
            )
            pruned.update(keys, values, place)
            own.append(values[0].mean(dim=1).numpy())
        assert means[number] == pytest.approx(np.concatenate(own).ravel(), abs=1e-5)
        for one, other in zip(found, plain_states(model, pruned, len(ids)), strict=True):
            assert one[number] == pytest.approx(other, abs=TOLERANCE)


def test_an_empty_slot_is_zeros():
    model, ids = small(), context()
    kept = np.ones((1, 3, 2, len(ids)), dtype=bool)
    kept[0, 1, 0] = False
    _, cache = states_and_cache(model, ids, kept)
    means = surviving_values(cache, kept).reshape(3, 2, 16)
    assert not means[1, 0].any()
    assert means[1, 1].any()


@pytest.fixture(scope="module")
def prompts():
    return load_task("words_forward", 24) + load_task("words_unknown_forward", 24)


def test_a_model_that_knows_is_told_from_its_states(prompts, capsys, tmp_path):
    found = probes.probe(
        "llama-tiny",
        prompts,
        policy_names=["topk", "adakv"],
        ratios=[0, 0.9],
        target="answerable",
        max_new_tokens=1,
    )
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(document["results"]) == 8
    keys = {"features", "policy", "ratio", "macro_f1", "low", "high", "chance", "question_only", "accuracy"}
    assert all(keys <= set(row) for row in document["results"])
    rows = {(row["features"], row["policy"], row["ratio"]): row for row in document["results"]}
    whole, late = rows["hidden", "topk", 0.0], rows["hidden", "topk", 0.9]
    assert whole["macro_f1"] > 0.75 > document["question_only"]["value"]
    assert whole["accuracy"] > 0.95 > late["accuracy"]
    assert rows["hidden", "adakv", 0.0] == {**whole, "policy": "adakv"}  # nothing is gone yet
    assert {"version", "seed", "parameters", "definitions", "results"} <= set(document)
    figure = found.plot()
    figure.savefig(tmp_path / "p.svg")
    assert "topk, hidden" in found.summary()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "words_forward", "--target", "colour"], ["'colour'", "answerable"]),
        (["--task", "words_forward", "--n", "3"], ["at least two labels", "5 worlds"]),
        (["--task", "no_such_task"], ["no_such_task"]),
        (["--task", "words_forward", "--policy", "best"], ["'best'", "topk"]),
        (["--task", "words_forward", "--ratio", "2"], ["2.0", "[0, 1)"]),
    ],
)
def test_bad_input_is_one_plain_line(capsys, arguments, words):
    status, out, err = run(capsys, "probe", "llama-tiny", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err


def test_without_scikit_learn_nothing_is_computed(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, out, err = run(capsys, "probe", "no-such-model", "--task", "words_forward")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "routegraph[probes]" in err


def test_what_does_not_fit_together_is_refused():
    labels, groups = labelled(), np.arange(90)
    with pytest.raises(ValueError, match="do not fit"):
        fit_probe(np.zeros((89, 2)), labels, groups)
    with pytest.raises(ValueError, match="at least two labels"):
        fit_probe(np.zeros((90, 2)), np.zeros(90, dtype=int), groups)
    with pytest.raises(ValueError, match="finite"):
        fit_probe(np.full((90, 2), np.nan), labels, groups)
    with pytest.raises(ValueError, match="label 1 is known of 1 groups"):
        fit_probe(np.zeros((90, 2)), (groups == 3).astype(int), groups)

"""`predict`: prompts in, chances out; resumed, calibrated, shown, and refused in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routegraph.validate.decoding.decode import decode, score
from routegraph.validate.measure.item import Item, evicted
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure, planned
from routegraph.validate.models.load import Loaded, load
from routegraph.validate.predict.calibration import Calibration
from routegraph.validate.predict.result import Predicted
from routegraph.validate.predict.run import predict
from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run

ASKED: dict[str, Any] = {
    "policy_names": ["chunk", "topk", "random"],
    "ratios": [0.4, 0.7, 0.9],
    "chunk_length": 16,
    "max_new_tokens": 1,
}


@pytest.fixture(scope="module")
def trained() -> Loaded:
    return load("llama-tiny")


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return load_task("words_forward", 6, seed=5) + load_task("words_inverse", 6, seed=5)


@pytest.fixture(scope="module")
def found(trained: Loaded, prompts: list[Prompt], tmp_path_factory: Any) -> tuple[Predicted, Path]:
    out = tmp_path_factory.mktemp("predicted") / "out"
    return predict(trained, prompts, out, **ASKED), out


def test_nothing_is_lost_at_ratio_0_and_more_at_larger_ratios(found):
    lost = found[0].lost
    assert lost.shape == (12, 3, 4)
    assert (lost[..., 0] == 0).all()
    nested = lost[:, [0, 1]]
    assert (np.diff(nested, axis=-1) > -1e-6).all()
    assert (found[0].risk >= 0).all()
    assert found[0].kept("topk")[0] > 0.98


def test_it_tells_the_answers_that_break_with_no_answer_told(trained, prompts, found):
    """The real measurement: on the model at hand those that break have lost more, and curves are near each other."""
    measured = measure(trained, prompts, **ASKED)
    fails, lost = measured.fails[:, :, 1:], found[0].lost[:, :, 1:]
    assert lost[fails].mean() > lost[~fails].mean() + 0.3
    silent = [replace(prompt, answer="", answer_spans=(), evidence=()) for prompt in prompts]
    again = predict(trained, silent, **ASKED)
    np.testing.assert_array_equal(again.lost, found[0].lost)
    own = found[0].calibrated(measured)
    assert own.calibration.words == f"{int(measured.right[:, 0, 0].sum())} measured answers of this model"
    for policy, place in (("chunk", 0), ("random", 2)):
        right = measured.right[measured.right[:, 0, 0], place].mean(axis=0)
        assert np.abs(own.kept(policy) - right).max() < 0.2
        low, high = own.band(policy)
        wide_low, wide_high = found[0].band(policy)
        assert (high - low).mean() < (wide_high - wide_low).mean()


def test_tried_ratios_are_those_of_the_evicted_cache_and_tell_more(trained, prompts, found, tmp_path):
    """Against the pass over question and reply with each kept set by itself; nothing else of the cell is tried."""
    tried = predict(trained, prompts, tmp_path / "tried", tries=2, **ASKED)
    support = found[0].shares[:2].mean(axis=0)
    np.testing.assert_allclose(tried.support_lost, support, atol=1e-6)
    known = ~np.isnan(tried.tried)
    assert (known.sum(axis=2) == 3).all()  # ratio 0 and two more
    np.testing.assert_array_equal(tried.lost[known], tried.tried[known])
    plan = planned(ASKED["policy_names"], ASKED["ratios"], (), chunk_length=16, max_new_tokens=1)
    for i, prompt in enumerate(prompts[:3]):
        item = Item.read(trained, prompt, plan)
        cache, evictions = evicted(trained, item, plan.seed)
        survivals = [eviction.survivals(plan.ratios) for eviction in evictions]
        kept = np.stack(
            [[s.alive(ratio) for s, ratio in zip(row, plan.ratios, strict=True)] for row in survivals]
        )
        full = np.ones_like(kept[0, :1])
        own = decode(trained, cache, item.asked.question, full, 1).token_ids[0]
        for k, r in zip(*np.nonzero(known[i]), strict=True):
            both = np.concatenate([full, kept[k, r : r + 1]])
            likely = score(trained, cache, item.asked.question, own, both).log_probabilities
            lost = 1 - np.exp(min(0.0, (likely[1] - likely[0]).min()))
            assert tried.tried[i, k, r] == pytest.approx(lost, abs=1e-5)
    measured = measure(trained, prompts, **ASKED)
    broke = measured.fails[:, :, 1:]
    apart = [
        one.lost[:, :, 1:][broke].mean() - one.lost[:, :, 1:][~broke].mean() for one in (found[0], tried)
    ]
    assert apart[1] > apart[0] + 0.1
    assert "each reply was read again" in " ".join(tried.page().to_text().split())
    assert "at most 0.5 of a reply's likelihood is lost" in " ".join(tried.page(0.5).to_text().split())
    told = json.loads(json.dumps(tried.to_dict()))
    assert told["prompts"][0]["likelihood_lost"][0][0] == 0
    assert "likelihood_lost" in told["definitions"]["risk"]
    loaded = Predicted.load(tmp_path / "tried")
    order = [tried.ids.index(name) for name in loaded.ids]
    np.testing.assert_array_equal(loaded.lost, tried.lost[order])
    assert (
        loaded.calibration.mean.tolist()
        == tried.calibration.mean.tolist()
        != found[0].calibration.mean.tolist()
    )
    with pytest.raises(ValueError, match="tries"):
        predict(trained, prompts, tmp_path / "tried", tries=3, **ASKED)
    with pytest.raises(ValueError, match="tries"):
        predict(trained, prompts, tmp_path / "tried", **ASKED)


def test_with_tries_the_slow_part_is_not_read(trained, prompts, monkeypatch):
    from routegraph.validate.predict import support

    def slow(*_args: Any) -> Any:
        raise AssertionError("the dependence was read")

    monkeypatch.setattr(support, "read_dependence", slow)
    assert predict(trained, prompts[:1], tries=1, **ASKED).shares.shape[0] == 2
    with pytest.raises(AssertionError, match="was read"):
        predict(trained, prompts[:1], **ASKED)


def test_answers_that_were_wrong_with_the_full_cache_calibrate_nothing(trained, prompts, found):
    measured = measure(trained, prompts, **ASKED)
    right = measured.right.copy()
    right[2] = False
    without = measured.only(np.arange(len(prompts)) != 2)
    one, two = found[0].calibrated(replace(measured, right=right)), found[0].calibrated(without)
    assert one.calibration.words == two.calibration.words
    np.testing.assert_allclose(one.calibration.mean, two.calibration.mean)
    assert not np.allclose(one.calibration.mean, found[0].calibrated(measured).calibration.mean)


def test_resumed_leaves_the_same_bytes_and_loads_as_it_was(trained, prompts, found, tmp_path):
    made, out = found
    again = predict(trained, prompts[:5], tmp_path / "out", **ASKED)
    assert again.ids == made.ids[:5]
    whole = predict(trained, prompts, tmp_path / "out", **ASKED)
    files = [{p.name: p.read_bytes() for p in (o / "cells").iterdir()} for o in (out, tmp_path / "out")]
    assert files[0] == files[1]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["runs"][-1]["measured"] == 7
    loaded = Predicted.load(out)
    order = [whole.ids.index(name) for name in loaded.ids]
    np.testing.assert_array_equal(loaded.lost, whole.lost[order])
    assert loaded.replies == tuple(whole.replies[i] for i in order)
    with pytest.raises(ValueError, match="was measured with ratios"):
        predict(trained, prompts, out, **{**ASKED, "ratios": [0.5]})
    with pytest.raises(ValueError, match="is no folder of routegraph measure"):
        Measured.load(out)


def test_critical_ratios_are_those_of_the_curve_and_intervals_hold_them(found):
    sure = replace(found[0], calibration=Calibration(np.array([0.0, 3.0]), np.eye(2) * 1e-12, "made"))
    half = sure.critical("chunk")
    kept = sure.kept("chunk")
    assert np.interp(-0.5, -kept, sure.ratios) == pytest.approx(half.value)
    assert half.low <= half.value <= half.high
    unsure = replace(sure, calibration=Calibration(np.array([0.0, 3.0]), np.diag([4.0, 0.1]), "made"))
    wide = unsure.critical("chunk")
    assert np.isnan(wide.high) or wide.high - wide.low > half.high - half.low
    never = replace(sure, calibration=Calibration(np.array([-30.0, 1.0]), np.eye(2) * 1e-12, "made"))
    assert np.isnan(never.critical("chunk").value)
    assert "fewer than half" in never.summary()


def test_an_empty_reply_has_nothing_to_lose_and_is_counted_nowhere(found):
    shares = found[0].shares.copy()
    shares[:, 3] = np.nan
    silent = replace(found[0], shares=shares)
    others = np.arange(12) != 3
    assert silent.kept("topk") == pytest.approx(1 - found[0].risk[others, 1].mean(axis=0))
    assert "1 prompt got an empty reply" in silent.summary()
    assert json.loads(json.dumps(silent.to_dict()))["prompts"][3]["risk"][0] == [None] * 4


def test_a_reply_that_ends_at_once_and_a_refusal(trained, prompts, monkeypatch):
    """Empty: no shares. A refusal is a reply like any other, and has no place in the context that it repeats."""
    from routegraph.validate.predict import run as running

    decode = running.decode

    def silent(*args: Any, **more: Any) -> Any:
        made = decode(*args, **more)
        return replace(
            made, token_ids=tuple(ids[:0] for ids in made.token_ids), texts=tuple("" for _ in made.texts)
        )

    monkeypatch.setattr(running, "decode", silent)
    assert np.isnan(predict(trained, prompts[:2], **ASKED).lost).all()
    monkeypatch.undo()
    unknown = load_task("words_unknown_forward", 3, seed=5)
    refused = predict(trained, unknown, **ASKED)
    assert set(refused.statements) == {"<idk>"}
    assert (refused.lost[:, :, -1] > 0).all()


def test_document_and_figure(found, tmp_path):
    told = json.loads(json.dumps(found[0].to_dict()))
    assert [row["task"] for row in told["results"][:3]] == ["all", "forward", "inverse"]
    assert told["calibration"]["on"] == "four other models"
    assert "grader" not in told["parameters"]
    row = told["results"][0]
    assert all(
        low <= kept <= high for low, kept, high in zip(row["low"], row["kept"], row["high"], strict=True)
    )
    figure = found[0].plot()
    assert [line.get_label() for line in figure.axes[0].lines][:3] == ["chunk", "topk", "random"]


def test_the_dial_takes_the_largest_ratio_that_keeps_enough(found):
    ratios = found[0].dial("topk", 0.3)
    lost = found[0].lost[:, 1]
    for own, row in zip(ratios, lost, strict=True):
        fine = [ratio for k, ratio in enumerate(found[0].ratios) if row[: k + 1].max() <= 0.3]
        assert own == max(fine)
    told = found[0].to_dict(0.3)["prompts"]
    assert [row["dial"]["topk"] for row in told] == ratios.tolist()
    assert "at most 0.3 of a reply's support is lost" in " ".join(found[0].page(0.3).to_text().split())
    silent = replace(found[0], shares=np.full_like(found[0].shares, np.nan))
    assert (silent.dial("topk", 1.0) == 0).all()
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 2"):
        found[0].dial("topk", 2)
    with pytest.raises(
        ValueError, match="policy 'knorm' was not predicted; choose from: chunk, topk, random"
    ):
        found[0].dial("knorm", 0.5)


def test_other_models_and_other_prompts_calibrate_nothing(trained, prompts, found):
    others = measure(trained, load_task("words_forward", 2, seed=9), **ASKED)
    with pytest.raises(ValueError, match="nothing was measured of these prompts"):
        found[0].calibrated(others)
    strange = replace(others, settings={**others.settings, "weights": "other"})
    with pytest.raises(ValueError, match="what was measured has weights 'other'"):
        found[0].calibrated(strange)


def test_command_line(capsys, tmp_path, prompts):
    write_prompts(tmp_path / "p.jsonl", prompts[:3])
    asked = [
        "llama-tiny",
        "--task",
        tmp_path / "p.jsonl",
        "--policy",
        "chunk",
        "--ratio",
        ".5",
        "--ratio",
        ".9",
    ]
    more = ["--chunk-length", "16", "--max-new-tokens", "1", "--threads", "1"]
    status, shown, _ = run(capsys, "predict", *asked, *more, "--out", tmp_path / "out")
    assert status == 0
    assert shown.startswith("Model llama-tiny, 3 prompts of ")
    assert "Prompts that break first" in shown
    run(capsys, "measure", *asked, *more, "--out", tmp_path / "cells")
    status, shown, _ = run(
        capsys,
        "predict",
        *asked,
        *more,
        "--out",
        tmp_path / "out",
        "--measured",
        tmp_path / "cells",
        "--json",
    )
    assert json.loads(shown)["calibration"]["on"] == "3 measured answers of this model"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--ratio", "1"], "ratio must be in [0, 1), got 1.0"),
        (["--policy", "topp"], "unknown policy 'topp'"),
        (["--grader", "exact"], "No such option: --grader"),
        (["--tries", "-1"], "tries must be a whole number of at least 0, got -1"),
        (["--within", "1.5"], "within must be in [0, 1], got 1.5"),
        (["--measured", "nowhere"], "'nowhere' is no folder of routegraph measure"),
    ],
)
def test_bad_input_is_one_line(more, says, capsys, tmp_path):
    asked = ["predict", "llama-tiny", "--task", "words_forward", "--out", tmp_path / "out"]
    status, shown, error = run(capsys, *asked, *more)
    assert (status, shown) == (2, "")
    assert says in error
    assert not (tmp_path / "out").exists()


def test_at_least_one_prompt(trained):
    with pytest.raises(ValueError, match="at least one prompt is needed"):
        predict(trained, [])
    with pytest.raises(TypeError, match="unexpected keyword argument 'grader'"):
        predict(trained, [Prompt("a", "b", "c")], grader="exact")


def test_a_real_model_and_where_its_reply_comes_from(smollm2, short_prompts):
    found = predict(
        smollm2,
        short_prompts[:2],
        policy_names=["topk", "chunk"],
        ratios=[0.5, 0.99],
        max_new_tokens=12,
        chat="off",
    )
    assert all(found.statements)
    assert (found.lost[..., 0] == 0).all()
    assert (found.lost[..., 2] > found.lost[..., 1]).all()
    assert (found.lost[..., 2] > 0.8).all()
    assert (found.shares[:, :, :, 2] > 0.5).all()  # each of the three, almost nothing being left

"""Answers whose cache was cut while they were decoded: what a cell holds, what is said of it, what is refused."""

import json
from typing import Any

import numpy as np
import pytest

from routegraph.stats.proportions import wilson
from routegraph.validate.audit.cells import read_cells
from routegraph.validate.certify.run import certify
from routegraph.validate.compare.failure import read_measured
from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import WHOLE, Cutting
from routegraph.validate.eviction import seed_of
from routegraph.validate.measure.decoded import decoded_shares
from routegraph.validate.measure.grading import regrade
from routegraph.validate.measure.reading import reading
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import DECODED_POLICIES, measure, planned
from routegraph.validate.measure.samples import samples
from routegraph.validate.models.load import load
from routegraph.validate.plan import Measuring
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run

POLICIES = ("random", "streaming", "tova")
ASKED: dict[str, Any] = {
    "policy_names": POLICIES,
    "decode_budget": (20, 40),
    "decode_interval": 2,
    "max_new_tokens": 8,
    "seed": 5,
}


@pytest.fixture(scope="module")
def tiny() -> Any:
    import torch

    torch.set_num_threads(1)
    model = load("llama-tiny")
    model.model.generation_config.eos_token_id = None  # its replies are one word else
    return model


@pytest.fixture(scope="module")
def prompts() -> Any:
    return load_task("words_forward", 3, 0)


@pytest.fixture(scope="module")
def measured(tiny, prompts, tmp_path_factory) -> tuple[Measured, Any]:
    out = tmp_path_factory.mktemp("decoded") / "run"
    return measure(tiny, prompts, out, grader="all_of", **ASKED), out


def test_every_reply_stands_where_it_belongs(tiny, prompts, measured):
    found, _ = measured
    assert found.keep == (40, 20)
    assert found.right.shape == (3, 3, 3)
    plan = planned(None, None, (), **{name: value for name, value in ASKED.items() if name != "policy_names"})
    assert plan.policy_names == DECODED_POLICIES
    for item, prompt in enumerate(prompts):
        asked = tokenise(tiny, prompt, plan)
        for p, policy in enumerate(POLICIES):
            cuttings = [WHOLE, Cutting(policy, 40, 2), Cutting(policy, 20, 2)]
            alone = write(tiny, asked.context, asked.question, cuttings, 8, seed=seed_of(5, prompt.id))
            assert [one.text for one in alone] == list(found.replies[item][3 * p : 3 * p + 3])
            cell = found.cells[item]
            for k, one in enumerate(alone):
                never = one.death > one.n_steps
                gone = ~never[:, :, : one.n_prefill + 1].any(axis=(0, 1))
                assert cell["dead"][3 * p + k] == pytest.approx(1 - never.mean(), abs=1e-6)
                assert cell["gone"][3 * p + k] == pytest.approx(gone.mean(), abs=1e-6)
                assert cell["tokens"][3 * p + k] == len(one.token_ids)
            rows = alone[0].death.shape[2]
            assert found.rows_of(item) == rows
            assert found.ratios_of(item) == pytest.approx([0, 1 - 40 / rows, 1 - 20 / rows])


def test_a_folder_is_read_back_and_a_killed_run_goes_on(tiny, prompts, measured, tmp_path):
    found, out = measured
    again = Measured.load(out)
    assert again.to_dict()["results"] == found.only(np.argsort(found.ids)).to_dict()["results"]
    half = tmp_path / "half"
    measure(tiny, prompts[:1], half, grader="all_of", **ASKED)
    whole = measure(tiny, prompts, half, grader="all_of", **ASKED)
    for name in found.names:
        assert (half / "cells" / f"{name}.json").read_bytes() == (out / "cells" / f"{name}.json").read_bytes()
    assert whole.replies == found.replies
    runs = json.loads((half / "run.json").read_text())["runs"]
    assert [one["measured"] for one in runs] == [1, 2]
    with pytest.raises(ValueError, match="was measured with decode_interval 2, not 3"):
        measure(tiny, prompts, half, grader="all_of", **{**ASKED, "decode_interval": 3})
    assert regrade(out, "exact").decode_interval == 2


def test_only_some_items_keep_what_died(measured):
    found, _ = measured
    last = found.only([2])
    assert np.array_equal(last.dead, found.dead[2:])
    assert last.to_dict()["results"][0]["dead"][0]["value"] == 0


def test_shares_are_means_over_items(measured):
    found, _ = measured
    shares = decoded_shares(found, found.cells)
    gone = np.array([cell["gone"] for cell in found.cells]).reshape(3, 3, 3)
    for p in range(3):
        for k in range(3):
            one = shares["gone"][p][k]
            wide = 1.96 * np.std(gone[:, p, k], ddof=1) / np.sqrt(3)
            assert one.value == pytest.approx(gone[:, p, k].mean())
            assert one.low == pytest.approx(max(0, one.value - wide))
            assert one.high == pytest.approx(min(1, one.value + wide))
    cells = [{**cell, "scores": [0.5] * 9} for cell in found.cells]
    low, high = wilson(1.5, 3)
    one = decoded_shares(found, cells)["parts"][0][0]
    assert (one.value, one.low, one.high) == pytest.approx((0.5, float(low), float(high)))
    assert np.isnan(decoded_shares(found, found.cells[:1])["gone"][0][0].low)


def test_pages_and_samples_tell_budgets(measured):
    found, _ = measured
    page = str(found)
    assert "Evicted while decoding: after every 2 steps, the question being the first" in page
    assert "Evict the oldest row that is no sink" in page
    assert "Prompt tokens gone from every slot" in page
    told = found.to_dict()
    assert told["definitions"]["ratio"].startswith("fraction of the rows of context, question and reply")
    rows = samples(found, policy="tova", keep=20)
    assert {row.keep for row in rows} == {20}
    assert {row.keep for row in samples(found, ratio=0.0)} == {found.rows_of(item) for item in range(3)}


def test_a_run_in_which_nothing_is_evicted_says_so(tiny, prompts, measured):
    idle = measure(tiny, prompts[:1], policy_names=["tova"], decode_budget=[400, 300], max_new_tokens=4)
    assert "Nothing was ever evicted: " in " ".join(reading(idle))
    assert "Nothing was ever evicted: " in idle.to_dict()["answer"]
    late = measure(
        tiny,
        prompts[:1],
        policy_names=["tova"],
        decode_budget=[20],
        decode_interval=8,
        max_new_tokens=8,
        stop=" ",
    )
    assert "Nothing was ever evicted: " in " ".join(reading(late))
    some = measure(tiny, prompts[:1], policy_names=["tova"], decode_budget=[400, 20], max_new_tokens=4)
    assert "Nothing was evicted at budget 400." in reading(some)
    assert "Nothing was ever evicted" not in " ".join(reading(measured[0]))


def test_what_knows_eviction_before_the_reply_only_refuses(measured, prompts):
    found, out = measured
    for ask in (
        lambda: certify(found),
        lambda: read_cells(out, "run"),
        lambda: read_measured(out, [], None),
    ):
        with pytest.raises(
            ValueError, match="replies were measured whose cache was cut while they were decoded"
        ):
            ask()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"decode_interval": 2}, "a decode interval needs a decode budget"),
        (
            {"decode_budget": [30], "decode_interval": 25},
            "decode interval must be at most the longest reply, 24 ",
        ),
        ({"decode_budget": [30], "bits": "4"}, "bits and decode budgets are not measured together"),
        ({"decode_budget": [30], "ratios": [0.0, 0.5]}, "decode budgets take the place of ratios"),
        ({"decode_budget": [30], "keep": [9]}, "decode budgets take the place of ratios"),
        ({"decode_budget": [4]}, "decode budget must be at least 5 for policy 'streaming'"),
        ({"decode_budget": [0]}, "decode budget must be a whole number of at least 1, got 0"),
        (
            {"decode_budget": [30], "policy_names": ["topk"]},
            "unknown reply policy 'topk'; choose from: expected_",
        ),
        (
            {"decode_budget": [30], "policy_names": ["expected_attention"]},
            "decode interval must be at least 5",
        ),
        ({"decode_budget": [30], "question_aware": True}, "question_aware says what is scored before"),
        ({"decode_budget": [30], "metrics": True}, "leave out metrics or decode budgets"),
    ],
)
def test_bad_input_is_told_in_one_line_before_a_model_is_loaded(given, words, prompts):
    with pytest.raises(ValueError) as error:
        measure("no such model", prompts, **given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_asks_for_budgets_and_refuses_what_it_cannot_do(capsys, tmp_path):
    asked = ["measure", "llama-tiny", "--task", "words_forward", "--n", "1", "--policy", "tova"]
    code, told, _ = run(
        capsys,
        *asked,
        "--decode-budget",
        "30",
        "--max-new-tokens",
        "3",
        "--out",
        str(tmp_path / "a"),
        "--json",
    )
    assert code == 0
    told = json.loads(told)
    assert told["parameters"]["decode_budget"] == [30]
    assert len(told["results"][0]["gone"]) == 2
    code, told, said = run(capsys, *asked, "--decode-budget", "1", "--out", tmp_path / "b")
    assert (code, told, said.strip().count("\n")) == (2, "", 0)
    assert not (tmp_path / "b").exists()


def test_settings_without_budgets_are_what_they_were(tiny):
    plain = Measuring(["topk"], [0.0, 0.5]).settings(tiny)
    assert not {"decode_budget", "decode_interval"} & set(plain)

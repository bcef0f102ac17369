"""`certify`: what is certified, what is refused, and that the guarantee holds on answers whose risk is known."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routegraph.validate.certify.run import certify, compared, harmed, last_certified
from routegraph.validate.measure.answers import Answers
from routegraph.validate.models.load import cache_row
from routegraph.validate.predict.calibration import Calibration
from routegraph.validate.predict.forecast import Forecast, dialled
from tests.helpers.commands import run

RATIOS = [0.0, 0.2, 0.4, 0.6, 0.8]


def asked(n: int, k: int, more: dict[str, Any]) -> dict[str, Any]:
    """Return what answers and forecasts of n items and k policies share."""
    policies = [f"p{i}" for i in range(k)]
    return {
        "settings": {"model": "m", "weights": "w", "policies": policies, "ratios": RATIOS, **more},
        "ids": tuple(f"i{i}" for i in range(n)),
        "item_tasks": ("t",) * n,
        "n_context": np.full(n, 100),
    }


def answers(places: Any, replies: Any = None, **more: Any) -> Answers:
    """Return answers that are right below a place of each item and policy, float[n_items, n_policies]."""
    right = np.array(RATIOS)[None, None] < np.asarray(places)[:, :, None]
    n, k = right.shape[:2]
    texts = replies or tuple(tuple("yes" if one else "no" for one in row.ravel()) for row in right)
    return Answers(
        **asked(n, k, more),
        answerable=np.ones(n, bool),
        tags=((),) * n,
        right=right,
        abstained=np.zeros_like(right),
        replies=texts,
        metrics={},
        cliffs={},
    )


def forecast(lost: Any, **more: Any) -> Forecast:
    """Return a forecast of shares lost, float[n_items, n_policies, n_ratios]."""
    table = np.asarray(lost, dtype=float)
    n, k = table.shape[:2]
    return Forecast(
        **asked(n, k, more),
        replies=("yes",) * n,
        statements=("yes",) * n,
        shares=np.repeat(table[None], 3, axis=0),
        calibration=Calibration(np.zeros(2), np.eye(2), "made up"),
    )


def perfect(places: Any) -> Forecast:
    """Return the forecast of one who knows: little is lost below the place of each item, much from it on."""
    grid, own = np.array(RATIOS)[None, None], np.asarray(places)[:, :, None]
    return forecast(np.where(grid < own, 0.1 * grid, 0.8 + 0.2 * grid))


def uneven(n: int = 400) -> np.ndarray:
    """Return places: a tenth of the items break at .4, all others never."""
    return np.where(np.arange(n) % 10 == 0, 0.4, 1.0)[:, None]


def test_one_ratio_is_held_up_by_the_weakest_and_the_dial_is_not():
    found = certify(answers(uneven()), perfect(uneven()), risk=0.05, confidence=0.9)
    single, dial = found.rows
    assert (single.ratio, single.dial) == (0.2, False)
    assert dial.ratio == pytest.approx(0.9 * 0.8 + 0.1 * 0.2)
    assert found.best is dial
    assert found.answer.startswith("Deploy p0 prompt by prompt, where at most 0.")
    assert "One ratio for all prompts: p0 at 0.2." in found.answer
    alone = certify(answers(uneven()), risk=0.15, confidence=0.9)
    assert alone.answer == (
        "Deploy p0 at ratio 0.8: at most 15 % of prompts like these break, with 90 % confidence (40 of 400 broke)."
    )


def test_the_guarantee_holds_where_the_risk_is_known():
    """Chances to break .02, .05, .055, .3: of 300 samples, a tenth at most may certify .6 or more."""
    rng, chances = np.random.default_rng(0), np.array([0.0, 0.02, 0.05, 0.055, 0.3])
    wrong = 0
    for _ in range(300):
        draw = rng.random(300)
        places = np.array([*RATIOS, 1.0])[np.searchsorted(chances, draw, side="left").clip(1)][:, None]
        broken = answers(places)
        assert broken.right[:, 0, 0].all()
        wrong += certify(broken, risk=0.05, confidence=0.9).rows[0].ratio >= 0.6
    assert wrong / 300 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)


@given(
    arrays(np.float64, (3, 5), elements=st.floats(0, 1)),
    st.lists(st.floats(0, 1), min_size=1, max_size=4, unique=True),
)
def test_the_dial_is_what_a_plain_loop_takes(lost, thresholds):
    lost[:, 0] = 0
    taken = dialled(lost, np.array(sorted(thresholds)))
    for t, threshold in enumerate(sorted(thresholds)):
        for i, row in enumerate(lost):
            k = 0
            while k + 1 < len(row) and row[k + 1] <= threshold:
                k += 1
            assert taken[t, i] == k


def test_a_setting_that_evicts_nothing_is_no_setting_and_need_not_be_tested():
    means = np.array([0.0, 0.0, 0.2, 0.5])
    assert last_certified(np.array([0, 0, 0, 90]), 100, means, 0.05, 0.1) == 2
    assert last_certified(np.array([0, 0, 90, 90]), 100, means, 0.05, 0.1) is None
    assert last_certified(np.array([90, 0, 0]), 100, np.array([0.1, 0.2, 0.5]), 0.05, 0.1) is None


def test_whichever_of_several_is_chosen_keeps_the_guarantee():
    places = np.repeat(uneven(59), 2, axis=1)
    places[:] = 1.0
    one, two = certify(answers(places[:, :1])), certify(answers(places))
    assert (one.needed, one.rows[0].ratio) == (45, 0.8)
    assert (two.needed, two.rows[0].ratio) == (59, 0.8)
    few = certify(answers(places[:50]))
    assert "50 prompts are too few, even if none broke; at least 59 are needed" in few.answer
    assert certify(answers(places[:50]), policy_names=["p1"]).rows[0].policy == "p1"
    assert certify(answers(places[:50]), policy_names=["p1"]).best is not None


def test_of_equal_ratios_that_which_broke_least_is_named():
    places = np.stack([np.where(np.arange(200) == 0, 0.7, 1.0), np.full(200, 1.0)], axis=1)
    found = certify(answers(places))
    assert [row.ratio for row in found.rows] == [0.8, 0.8]
    assert found.best.policy == "p1"


def test_own_needs_no_right_answers():
    wrong = np.zeros((60, 1))
    texts = tuple(("Oslo.", "Oslo. And", "Oslo", "Rome", "Rome") for _ in range(60))
    measured = answers(wrong, texts)
    assert harmed(measured, "own")[0, 0].tolist() == [False, False, False, True, True]
    assert certify(measured, against="own").rows[0].ratio == 0.4
    with pytest.raises(ValueError, match="no answer is right at ratio 0"):
        certify(measured)


def test_nothing_is_certified_where_answers_break_at_once():
    found = certify(answers(np.full((80, 1), 0.1)))
    assert found.best is None
    assert found.answer.startswith(
        "No compression is certified: under p0, the best of these, 80 of 80 prompts break"
    )


def test_policies_beside_each_other():
    places = np.stack([np.full(60, 0.7), np.full(60, 0.3), np.where(np.arange(60) % 2, 0.7, 0.6)], axis=1)
    pairs = {(pair.one, pair.two): pair for pair in compared(answers(places), ["p0", "p1", "p2"])}
    assert pairs["p0", "p1"].words == "p0 is better than p1"
    assert pairs["p0", "p1"].difference.value == pytest.approx(0.5)
    same = compared(answers(np.repeat(places[:, :1], 2, axis=1)), ["p0", "p1"])[0]
    assert (same.words, same.p_value) == ("not told apart by these items", 1)


def test_how_much_cache_is_left():
    found = certify(answers(uneven()), risk=0.15, tokens=32_768, row_bytes=24_576)
    assert found.answer.endswith("(40 of 400 broke; 0.2 GB of 0.8 GB of cache are left at 32,768 tokens).")
    assert found.to_dict()["parameters"]["cache_bytes"] == 32_768 * 24_576
    assert found.to_dict()["results"][0]["cache_bytes_left"] == round(0.2 * 32_768 * 24_576)
    with pytest.raises(ValueError, match="tokens must be a whole number of at least 0, got -1"):
        certify(answers(uneven()), tokens=-1)


def test_how_much_cache_is_left_at_the_mean_length_where_that_is_known():
    known = certify(answers(uneven(), cache_row=24_576), risk=0.15)
    assert known.answer.endswith("(40 of 400 broke; 492 kB of 2.5 MB of cache are left at 100 tokens).")
    shipped = certify(answers(uneven(), model="llama-tiny"), risk=0.15)
    assert shipped.row_bytes == cache_row("llama-tiny") == 2 * 4 * 2 * 32 * 4
    half = certify(answers(uneven(), model="llama-tiny", dtype="bfloat16"), risk=0.15)
    assert half.row_bytes == cache_row("llama-tiny", "bfloat16") == 1024
    unknown = certify(answers(uneven()), risk=0.15)
    assert "cache" not in unknown.answer
    told = unknown.to_dict()
    assert (told["parameters"]["tokens"], told["parameters"]["cache_bytes"]) == (100, None)
    assert told["results"][0]["cache_bytes_left"] is None


def test_document_page_and_figure():
    found = certify(answers(uneven()), perfect(uneven()))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["results"][1]["dial"] is True
    assert told["answer"] == found.answer
    assert {"format", "version", "seed", "parameters", "definitions", "dial", "areas"} <= told.keys()
    assert found.summary().replace("\n", " ").rstrip().endswith("One ratio for all prompts: p0 at 0.2.")
    assert found.plot().axes[0].lines[0].get_label() == "p0"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"risk": 0.0}, r"risk must be in \(0, 1\), got 0.0"),
        ({"confidence": 1.0}, r"confidence must be in \(0, 1\), got 1.0"),
        ({"against": "silver"}, "unknown harm 'silver'; choose from: gold, own"),
        ({"policy_names": ["p7"]}, "policy 'p7' was not measured; choose from: p0"),
    ],
)
def test_bad_settings(more, says):
    with pytest.raises(ValueError, match=says):
        certify(answers(uneven(60)), **more)


def test_what_is_predicted_must_fit():
    measured, made = answers(uneven(60)), perfect(uneven(60))
    with pytest.raises(ValueError, match="are of two models"):
        certify(measured, replace(made, settings={**made.settings, "weights": "other"}))
    with pytest.raises(ValueError, match="they were asked in two ways"):
        certify(measured, replace(made, settings={**made.settings, "question_aware": True}))
    with pytest.raises(ValueError, match="prompt 'i59' was measured and not predicted"):
        certify(measured, perfect(uneven(59)))
    with pytest.raises(ValueError, match="ratio 0.8 was measured and not predicted"):
        certify(measured, forecast(np.zeros((60, 1, 5)), ratios=[0.0, 0.2, 0.4, 0.6, 0.7]))
    with pytest.raises(ValueError, match="policy 'p0' was measured and not predicted"):
        certify(measured, forecast(np.zeros((60, 1, 5)), policies=["other"]))
    with pytest.raises(ValueError, match="only ratio 0 was measured"):
        certify(
            replace(measured, settings={**measured.settings, "ratios": [0.0]}, right=measured.right[..., :1])
        )


def test_command_line(capsys, tmp_path):
    task = ["llama-tiny", "--task", "words_forward", "--n", "4", "--policy", "topk", "--ratio", ".3"]
    more = ["--chunk-length", "16", "--max-new-tokens", "1", "--threads", "1"]
    for command in ("measure", "predict"):
        assert run(capsys, command, *task, *more, "--out", tmp_path / command)[0] == 0
    status, shown, _ = run(
        capsys, "certify", tmp_path / "measure", "--predict", tmp_path / "predict", "--risk", ".4"
    )
    assert status == 0
    assert "Largest setting at a risk of 0.4, 90 % sure" in shown
    own = run(capsys, "certify", tmp_path / "measure", "--risk", ".9", "--tokens", "1000")[1]
    assert "MB of cache" in " ".join(own.split())
    status, out, error = run(capsys, "certify", tmp_path / "predict")
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert "is no folder of routegraph measure" in error


def test_a_model_and_prompts_in_one_command(capsys, tmp_path):
    """The same as measure, predict and certify one after the other; a second time nothing is asked again."""
    asking = ["--n", "6", "--policy", "topk", "--ratio", ".3", "--ratio", ".6"]
    more = ["--chunk-length", "16", "--max-new-tokens", "1", "--threads", "1"]
    one = ["certify", "llama-tiny", "--prompts", "words_forward", *asking, *more, "--into", tmp_path / "into"]
    status, shown, _ = run(capsys, *one, "--risk", ".5", "--json")
    assert status == 0
    assert run(capsys, *one, "--risk", ".5", "--json")[1] == shown
    for command, extra in (("measure", []), ("predict", ["--tries", "2"])):
        asked = [command, "llama-tiny", "--task", "words_forward", *asking, *more, *extra]
        assert run(capsys, *asked, "--out", tmp_path / command)[0] == 0
    folders = tmp_path / "measure", "--predict", tmp_path / "predict"
    apart = run(capsys, "certify", *folders, "--risk", ".5", "--json")[1]
    assert json.loads(apart) == json.loads(shown)
    assert json.loads(shown)["parameters"]["dial_loses"] == "likelihood"
    words = " ".join(run(capsys, "certify", *folders, "--risk", ".5")[1].split())
    assert "of a reply's likelihood is lost" in words


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            ["--prompts", "words_forward", "--n", "5"],
            "5 prompts are too few, even if none broke: at least 72",
        ),
        (["--prompts", "words_forward", "--ratio", "1"], "ratio must be in [0, 1), got 1.0"),
        (["--prompts", "words_forward", "--tries", "-1"], "tries must be a whole number of at least 0"),
        (["--prompts", "words_forward", "--risk", "0"], "risk must be in (0, 1), got 0.0"),
        (["--prompts", "words_forward", "--against", "silver"], "unknown harm 'silver'"),
        (["--prompts", "words_forward", "--predict", "there"], "give --into DIR, and no --predict"),
    ],
)
def test_a_model_and_prompts_refused_before_anything_is_loaded(more, says, capsys, tmp_path):
    status, shown, error = run(capsys, "certify", "no-such-model", *more, "--into", tmp_path / "into")
    assert (status, shown) == (2, "")
    assert says in error
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    ("more", "flag"),
    [
        (["--tries", "2"], "--tries"),
        (["--ratio", ".5"], "--ratio"),
        (["--chat", "off"], "--chat"),
        (["--dtype", "bfloat16"], "--dtype"),
    ],
)
def test_how_to_ask_means_nothing_to_a_folder(more, flag, capsys, tmp_path):
    status, shown, error = run(capsys, "certify", tmp_path, *more)
    assert (status, shown) == (2, "")
    assert f"{flag} says how to ask prompts" in error

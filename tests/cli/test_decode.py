import json

import pytest

from tests.helpers.commands import run

SMALL = (
    "decode", "--n-prefill", 40, "--steps", 60, "--budget", 25, "--n-layers", 3, "--n-heads", 2, "--replicates", 2,
)  # fmt: skip


def test_words_come_before_the_tables(capsys):
    status, out, err = run(capsys, *SMALL)
    assert (status, err) == (0, "")
    assert out.index("What it means") < out.index("random, by step") < out.index("slots alive, by age")
    assert "streaming: after step 60 90.0% of the prompt's tokens" in " ".join(out.split())


def test_json_is_one_document_and_files_are_written(capsys, tmp_path):
    figure, file = tmp_path / "decode.svg", tmp_path / "decode.json"
    status, out, err = run(
        capsys, *SMALL, "--policy", "h2o", "--set", "recent=0.25", "--at", 7, "--interval", 3, "--json",
        "--plot", figure, "--out", file,
    )  # fmt: skip
    assert status == 0
    document = json.loads(out)
    assert document == json.loads(file.read_text())
    assert document["parameters"]["settings"] == {"h2o": {"recent": 0.25}}
    assert document["results"][0]["steps"][0]["step"] == 7
    assert "Left: survival of decoded rows by age." in err
    assert figure.read_text().endswith("</svg>\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget", "2.5"), "must be a whole number, got '2.5'"),
        (("--budget", "4", "--policy", "streaming"), "budget must be at least 5 for policy 'streaming'"),
        (("--interval", "61"), "interval must be at most the number of steps, 60"),
        (("--policy", "luck"), "unknown decoding policy 'luck'; choose from: h2o, random, scope, streaming"),
        (("--plot", "figure.txt"), "unknown format 'txt'"),
    ],
)
def test_bad_input_is_one_plain_line(capsys, arguments, words):
    status, out, err = run(capsys, *SMALL, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_policy_from_a_file(capsys, tmp_path, restored):
    (tmp_path / "mine.py").write_text(
        "from routegraph.sim.decoding.attention import step_by_step\n"
        "from routegraph.sim.decoding.policies import decoding_policy\n"
        "@decoding_policy('oldest')\n"
        "def oldest(slot):\n"
        "    '''Keep the oldest.'''\n"
        "    return step_by_step(slot, lambda cache: -cache.rows)\n"
    )
    status, out, _ = run(capsys, *SMALL, "--load", tmp_path / "mine.py", "--policy", "oldest", "--json")
    assert status == 0
    assert json.loads(out)["results"][0]["steps"][-1]["ger"]["mean"] == pytest.approx(15 / 40)

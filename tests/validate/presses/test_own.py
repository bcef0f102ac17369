"""A press of a user's own takes part with one option, and what is no such press is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from routegraph.trace import Trace
from routegraph.validate.measure.result import Measured
from routegraph.validate.models.load import load
from routegraph.validate.predict.result import Predicted
from routegraph.validate.presses.deployed import deployed_press
from routegraph.validate.presses.own import own_press
from routegraph.validate.presses.reference import reference_kept
from routegraph.validate.presses.scorers import SCORERS
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run

MINE = '''
from dataclasses import dataclass
from kvpress import BasePress, ScorerPress, SnapKVPress

@dataclass
class Loud(ScorerPress):
    """Keep rows whose values are long, and the first ones."""

    n_sink: int = 2
    power: float = 1.0

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        scores = values.norm(dim=-1) ** self.power
        scores[..., : self.n_sink] = scores.max() + 1
        return scores

class Silent(ScorerPress):
    pass

class Merging(Loud):
    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        return keys[:, :, ::2], values[:, :, ::2]

class Needy(Loud):
    def __init__(self, corpus):
        self.corpus = corpus

class Late(BasePress):
    pass

class Shifty(Loud):
    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        return values.norm(dim=-1) * (1 if self.compression_ratio < .3 else -1)

class TOVAPress(Loud):
    pass

class Plain:
    pass

number = 3
'''
TASK = ["llama-tiny", "--task", "words_forward", "--n", "3", "--ratio", ".5", "--chunk-length", "16"]
ASKED = [*TASK, "--max-new-tokens", "1", "--threads", "1"]


@pytest.fixture
def mine(tmp_path: Path, restored) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_it_is_a_method_under_the_name_of_its_class(mine):
    assert own_press(f"{mine}:Loud") == "Loud"
    assert own_press(f"{mine}:Loud") == "Loud"
    assert SCORERS.parameters("Loud") == {"n_sink": 2, "power": 1.0}
    assert SCORERS.summary("Loud") == "Keep rows whose values are long, and the first ones."
    assert SCORERS.origin("Loud") == str(mine)


def test_measured_predicted_extracted(mine, tmp_path, capsys):
    press = ["--press", f"{mine}:Loud"]
    assert run(capsys, "measure", *ASKED, *press, "--policy", "topk", "--out", tmp_path / "m")[0] == 0
    found = Measured.load(tmp_path / "m")
    assert found.policies == ["topk", "Loud"]
    assert found.methods["Loud"] == "scores of Loud, cut per head"
    assert list(found.settings["plugins"]) == ["mine.py"]
    assert found.cells[0]["protected"]["Loud"] == {"n_sink": 2, "power": 1.0}
    status, _, _ = run(capsys, "predict", *ASKED, *press, "--policy", "adakv@Loud", "--out", tmp_path / "p")
    assert (status, Predicted.load(tmp_path / "p").policies) == (0, ["adakv@Loud"])
    prompts = tmp_path / "prompts.jsonl"
    assert run(capsys, "task", "words_forward", "--n", "1", "--out", prompts)[0] == 0
    asked = ["llama-tiny", "--prompts", prompts, "--threads", "1", "--scorer", "knorm"]
    assert run(capsys, "extract", *asked, *press, "--out", tmp_path / "t.npz")[0] == 0
    assert list(Trace.load(tmp_path / "t.npz")[0].scores) == ["knorm", "Loud"]


def test_the_press_itself_keeps_the_same_rows(mine):
    import torch

    own_press(f"{mine}:Loud")
    model = load("llama-tiny")
    ids = torch.from_numpy(tokenise(model, load_task("words_forward", 1)[0]).context)[None]
    kept = reference_kept(model.model, ids, deployed_press("Loud", 0.6))
    plain = SCORERS["Loud"]()
    plain.compression_ratio = 0.6
    assert np.mean(kept != reference_kept(model.model, ids, plain)) < 0.03  # ties


def test_a_press_that_has_changed_does_not_mix_with_what_was_measured(mine, tmp_path, capsys):
    asked = ["measure", *ASKED, "--policy", "topk", "--press", f"{mine}:Loud", "--out", tmp_path / "m"]
    assert run(capsys, *asked)[0] == 0
    assert run(capsys, *asked)[0] == 0
    mine.write_text(MINE.replace("power: float = 1.0", "power: float = 2.0"))
    status, out, error = run(capsys, *asked)
    assert (status, out) == (2, "")
    assert "was measured with another text of 'mine.py'; choose another folder" in error
    assert json.loads((tmp_path / "m" / "run.json").read_text())["settings"]["policies"] == ["topk", "Loud"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "Nowhere",
            "it has no class 'Nowhere'; its presses: Loud, Silent, Merging, Needy, Late, Shifty, TOVAPress",
        ),
        ("number", "it has no class 'number'"),
        ("Plain", "Plain is no press of kvpress; it must inherit from ScorerPress"),
        ("Silent", "Silent does not score: it must inherit from ScorerPress and have a score of its own"),
        ("Late", "Late does not score"),
        ("Merging", "Merging does not only score and cut: it has a compress of its own"),
        ("Needy", "Needy cannot be made without arguments"),
        ("TOVAPress", "'TOVAPress' is the name of a method already; call the class otherwise"),
        ("SnapKVPress", "'SnapKVPress' is the name of a method already"),
    ],
)
def test_what_is_no_such_press(mine, capsys, tmp_path, name, says):
    status, out, error = run(capsys, "measure", *ASKED, "--press", f"{mine}:{name}", "--out", tmp_path / "m")
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert says in error
    assert not (tmp_path / "m").exists()
    assert name not in SCORERS


def test_a_score_that_changes_with_the_ratio_is_refused_when_it_is_asked(mine, capsys, tmp_path):
    status, _, error = run(capsys, "measure", *ASKED, "--press", f"{mine}:Shifty", "--out", tmp_path / "m")
    assert status == 2
    assert "the scores of Shifty change with the ratio" in error


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("mine.py", "a press is named FILE.py:CLASS, got 'mine.py'"),
        ("mine.py:", "a press is named FILE.py:CLASS, got 'mine.py:'"),
        ("nowhere.py:Loud", "no plug-in file 'nowhere.py'"),
    ],
)
def test_what_is_no_name(named, says):
    with pytest.raises(ValueError, match=says):
        own_press(named)


def test_a_file_that_fails(tmp_path, restored):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_that_name\n")
    with pytest.raises(ValueError, match=r"broken.py' cannot be loaded: ModuleNotFoundError: .* \(line 1\)"):
        own_press(f"{path}:Loud")

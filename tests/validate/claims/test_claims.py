"""What is made of all claims: the rule, verdicts by family, tables, files and commands."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from routegraph.stats.intervals import Interval
from routegraph.validate.claims import shapes, tables
from routegraph.validate.claims.case import (
    FAILS,
    HOLDS,
    MIXED,
    UNDECIDED,
    UNTESTABLE,
    Case,
    conclude,
    items_to_decide,
    mean_of,
    overall,
    short,
    show,
)
from routegraph.validate.claims.figures import plot_claims, plot_traces
from routegraph.validate.claims.items import family_counts, family_of, label
from routegraph.validate.claims.judge import claims, claims_of_files, to_dict
from routegraph.validate.measure.cells import open_folder, sealed, write_cell
from tests.helpers.claims import FLOORED, NAMES, measured, normal, uniform
from tests.helpers.commands import run
from tests.helpers.traces import deep, synthetic_trace

# --- rule, intervals, tables ----------------------------------------------------------------------------


def test_overall():
    def word(*words):
        return overall([Case("x", w, "") for w in words])

    assert word(HOLDS, HOLDS, UNDECIDED, UNTESTABLE) == HOLDS
    assert word(HOLDS, UNDECIDED, UNDECIDED) == UNDECIDED
    assert word(HOLDS, FAILS, UNDECIDED) == MIXED
    assert word(FAILS) == FAILS
    assert word(UNDECIDED) == UNDECIDED
    assert word(UNTESTABLE) == word() == UNTESTABLE


def test_intervals_are_never_empty_and_numbers_are_short():
    nothing = mean_of(np.zeros(20))
    assert (nothing.low, nothing.high) == pytest.approx((-(1 - 0.025**0.05), 1 - 0.025**0.05))
    assert math.isnan(mean_of([]).value)
    assert show(Interval(0.5, 0.25, math.nan)) == ".50 [.25, ?]"
    assert [short(x) for x in (-0.001, -0.5, 1.0, 10.25)] == [".00", "-.50", "1.00", "10.25"]
    assert items_to_decide(Interval(0.8, 0.6, 1.0), 0.9, 50) == 200


def test_verdicts_by_family():
    cases = [
        Case("a", HOLDS, "", family="llama"),
        Case("b", FAILS, "", family="qwen2"),
        Case("c", UNTESTABLE, ""),
    ]
    claim = conclude("C1", "s", "t", "f", "b", cases)
    assert (claim.verdict, claim.families) == (MIXED, {"llama": HOLDS, "qwen2": FAILS})
    assert claim.to_dict()["families"] == claim.families


def test_families_and_their_items():
    """An item asked in two ways counts once, and so does one asked question-aware; items at floor do not."""
    qwen = {"family": "qwen2"}
    sources = [
        measured(uniform(30), told={**qwen, "chat": True}),
        measured(uniform(30), told=qwen),
        measured(uniform(30), told=qwen, aware=True),
        measured(np.where(np.arange(50) < 20, 0.9, -1), model="smollm2"),
        measured(np.where(np.arange(50) < 40, 0.9, -1), model="smollm2", told={"weights": "other"}),
        measured(uniform(10)),
    ]
    assert [family_of(found) for found in sources] == ["qwen2"] * 3 + ["llama"] * 2 + ["-"]
    assert family_counts(sources) == {"-": 10, "llama": 40, "qwen2": 30}
    assert [label(found) for found in sources[:3]] == ["made up, chat", "made up", "made up, question-aware"]
    assert label(replace(sources[0], settings={**sources[0].settings, "label": "q, chat"})) == "q, chat"


def test_a_question_that_was_not_asked_again_is_used_for_no_claim():
    agnostic, aware = measured(uniform(40)), measured(uniform(40), aware=True)
    former = replace(aware, settings={k: v for k, v in aware.settings.items() if k != "asked_again"})
    told = {claim.id: claim for claim in claims([agnostic, former])}
    assert told["C8"].verdict == UNTESTABLE
    for name in ("C1", "C2", "C8", "C11"):
        assert any("not asked again" in note for note in told[name].notes)
        assert not any("question-aware" in case.where for case in told[name].evidence)
    now = {claim.id: claim for claim in claims([agnostic, aware])}
    assert now["C8"].verdict != UNTESTABLE
    assert len(now["C1"].evidence) == 2 * len(told["C1"].evidence)
    assert not any("not asked again" in note for note in now["C8"].notes)


def test_all_claims_and_their_tables():
    told = {"family": "qwen2"}
    sources = [
        measured(uniform(60), told=told),
        measured(normal(0.8, 0.1, 60), aware=True, names=NAMES[:1], told=told),
    ]
    runs = [[replace(deep(k, layers=4), n_heads=3) for k in range(2)]]
    judged = claims(sources, runs)
    ids = [f"C{k}" for k in range(1, 12)]
    ids[4:5] = ["C5a", "C5b"]
    assert [claim.id for claim in judged] == ids
    assert all(claim.why for claim in judged if claim.id != "C9")
    document = to_dict(judged, sources, 0)
    json.dumps(document, allow_nan=False)
    assert all(row["verdict"] and row["test"] and row["figure"] for row in document["results"])
    assert [row["right_at_0"] for row in document["parameters"]["measured"]] == [60, 60]
    assert document["families"] == {"qwen2": 60}
    page = "".join(tables.to_html(judged, sources))
    assert page.count("<tr>") > 30
    assert "C11" in page
    text = tables.to_markdown(judged, sources)
    assert sum(line.startswith(f"### {name}:") for line in text for name in ids) == 12
    widths = {line.count("|") for line in text[:14]}
    assert widths == {7}
    assert text[0].startswith("| id | verdict | llama | qwen2 (60 right at 0) | claim |")
    assert any(line.startswith("| qwen2 | made up, chunk | ") for line in text)
    assert tables.to_markdown(judged)[0].startswith("| id | verdict | llama | qwen2 | claim |")
    assert len(plot_claims(sources).axes) == 6
    assert len(plot_traces(runs).axes) == 3
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_claims([])


def test_what_is_named_is_escaped():
    claim = conclude("C1", "<b>", "t | t", "f", "b", [Case("a|b", HOLDS, "<i>")])
    assert "<b>" not in "".join(tables.to_html([claim]))
    assert "| a/b |" in "\n".join(tables.to_markdown([claim]))


# --- files and commands ---------------------------------------------------------------------------------


def folder_of(found, path):
    """Write a measurement as `measure` does."""
    cells = open_folder(path, found.settings)
    for i, name in enumerate(found.ids):
        content = {
            "prompt": {
                "id": name,
                "task": found.item_tasks[i],
                "n_context": 100,
                "answerable": True,
                "tags": list(found.tags[i]),
            },
            "right": found.right[i].ravel().tolist(),
            "abstained": found.abstained[i].ravel().tolist(),
            "replies": list(found.replies[i]),
            "metrics": {},  # as an earlier version, that knew none of today's
            "protected": {policy: {"n_sink": 4} for policy in found.policies},
        }
        write_cell(cells / f"{i}.json", sealed(content, found.settings))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("measured")
    return [folder_of(measured(uniform(20, k), names=NAMES[:1]), base / f"m{k}") for k in range(2)]


def test_folders_of_one_model_are_told_apart(folders):
    judged, found = claims_of_files(folders)
    assert [m.settings["label"] for m in found] == ["made up (m0)", "made up (m1)"]
    assert np.isnan(found[0].metrics["ger_answer_model"]).all()
    assert judged[2].verdict == UNTESTABLE  # GER was not measured
    assert claims_of_files(folders[:1])[1][0].settings["model"] == "made up"


def test_shapes_say_what_is_kept_and_where_answers_fall():
    found = measured(normal(0.9, 0.015, 400), names=("chunk",), told={"family": "llama"})
    what, kept, fall = shapes.grids([found, measured(FLOORED)])
    assert what.rows[1][:4] == ["llama", "made up", "400 of 400", "400"]
    assert what.rows[0][3:] == ["0", "-", "none", "t inverse (20 of 50 right, .40 [.28, .54])"]
    assert kept.rows == [
        ["llama", "made up, chunk", *["1.00 [.99, 1.00]"] * 4, kept.rows[0][6], kept.rows[0][7]]
    ]
    assert fall.rows[0][2].startswith(".89")
    assert fall.rows[0][2:4] == fall.rows[0][4:6]  # all that is lost is wrong
    silent = replace(found, abstained=~found.right)
    assert shapes.fall_grid([silent]).rows[0][4:6] == ["too few", "-"]
    assert shapes.grids([]) == []


def test_claims_by_command(capsys, folders, tmp_path):
    status, out, err = run(capsys, "claims", folders[0], "--json")
    assert (status, err) == (0, "")
    assert len(json.loads(out)["results"]) == 12
    answer = json.loads(out)["answer"]
    assert answer.startswith("Of 12 claims of the paper ")
    ids = [claim["id"] for claim in json.loads(out)["results"]]
    assert sorted(re.findall(r"C\d+[ab]?", answer)) == sorted(ids), "every claim once"
    status, out, _ = run(capsys, "claims", folders[0], "--plot", tmp_path / "c.svg")
    assert status == 0
    assert "C10: not testable here" in out
    assert " ".join(out.split()).startswith(answer)
    assert "</svg>" in (tmp_path / "c.svg").read_text()


def test_claims_in_the_report(capsys, folders, tmp_path):
    from routegraph.trace import Trace

    traces = [synthetic_trace(k) for k in range(4)]
    table = {"expected_attention/chunk64": traces[0].scores["expected_attention"]}
    known = {"expected_attention/chunk64": {"n_sink": 4, "chunk_length": 64}}
    traces = [replace(t, scores={**t.scores, **table}, scorers={**t.scorers, **known}) for t in traces]
    Trace.save(tmp_path / "t.npz", traces, {})
    page = tmp_path / "r.html"
    assert run(capsys, "report", tmp_path / "t.npz", "--out", page, "--measured", folders[0])[0] == 0
    assert "The paper&#x27;s claims" in page.read_text() or "The paper's claims" in page.read_text()
    assert "C11, case by case" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["claims", "none"], ["none", "no folder of routegraph measure"]),
        (["claims", "FOLDER", "--probes", "none"], ["none", "linear probes"]),
        (["claims", "FOLDER", "--trace", "none.npz"], ["none.npz"]),
        (["report", "t.npz", "--out", "r.html", "--probes", "p"], ["--measured"]),
    ],
)
def test_bad_input_is_one_plain_line(capsys, folders, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *(folders[0] if a == "FOLDER" else a for a in arguments))
    assert (status, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err

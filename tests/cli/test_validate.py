import json

import pytest

from routegraph.trace import Trace
from tests.helpers.commands import run
from tests.helpers.models import KNOWN
from tests.helpers.traces import synthetic_trace


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "synthetic.npz"
    Trace.save(path, [synthetic_trace(k) for k in range(6)], {"command": "test"})
    return path


def test_compare_prints_tables_or_json(capsys, trace_file):
    status, out, _ = run(capsys, "compare", trace_file, "--policy", "topk")
    assert status == 0
    for part in (
        "read off, all",
        "measured copula",
        "half point",
        "Effective slots",
        "Structural cliff",
        "--graphs",
    ):
        assert part in out
    status, out, err = run(capsys, "compare", trace_file, "--policy", "topk", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["results"][0]["policy"] == "topk"
    assert json.loads(out)["parameters"]["split"] == "alternate"
    status, out, _ = run(capsys, "compare", trace_file, "--policy", "topk", "--split", "random", "--json")
    assert status == 0
    assert json.loads(out)["parameters"]["split"] == "random"


def test_compare_in_a_narrow_terminal_cuts_nothing(capsys, trace_file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, out, _ = run(capsys, "compare", trace_file, "--policy", "topk")
    assert status == 0
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 40
    assert "  half point: 0." in out
    assert "read off, evictable" in out


def test_compare_draws_and_writes(capsys, trace_file, tmp_path):
    figure, document = tmp_path / "c.svg", tmp_path / "c.json"
    arguments = [
        "compare",
        trace_file,
        "--policy",
        "topk",
        "--policy",
        "adakv",
        "--plot",
        figure,
        "--out",
        document,
    ]
    assert run(capsys, *arguments)[0] == 0
    assert "</svg>" in figure.read_text()
    assert len(json.loads(document.read_text())["results"]) == 2


def test_models_are_listed(capsys):
    status, out, _ = run(capsys, "model", "list", "--json")
    assert status == 0
    listed = {model.pop("name"): model for model in json.loads(out)}
    assert list(listed) == KNOWN.split(", ")
    qwen = listed["qwen2.5-coder-0.5b"]
    assert (qwen["family"], qwen["licence"], qwen["megabytes"]) == ("qwen2", "Apache-2.0", 2533)
    assert "PyPI" in qwen["origin"]
    assert isinstance(qwen["cached"], bool)


def test_registries_are_listed(capsys):
    status, out, _ = run(capsys, "list", "--json")
    assert status == 0
    listed = json.loads(out)
    assert "adakv" in listed["policy"]
    assert listed["ensemble"]["window"]["parameters"] == {"window": 64}
    assert listed["method"]["pyramidkv"] == {
        "summary": "scores of snapkv, cut per head, more rows in low layers, the last ones kept",
        "scorer": "snapkv",
        "cut": "pyramid",
        "kvpress": "PyramidKVPress()",
    }
    assert listed["method"]["random"]["scorer"] is None
    assert "PyramidKVPress()" in run(capsys, "list")[1]


@pytest.mark.parametrize(
    ("words", "kinds", "names"),
    [
        (["policy"], {"policy"}, {"adakv", "topk", "streaming"}),
        (["Policies", "pyramid"], {"policy"}, {"pyramid"}),
        (["grader", "letter"], {"grader"}, {"all_of"}),
        (["pyramidkvpress"], {"method"}, {"pyramidkv"}),
        (["policy", "ensemble"], {"policy", "ensemble"}, {"topk", "window"}),
    ],
)
def test_what_is_registered_is_filtered(capsys, words, kinds, names):
    status, out, _ = run(capsys, "list", *words, "--json")
    assert status == 0
    listed = json.loads(out)
    assert set(listed) == kinds
    assert {name for entries in listed.values() for name in entries} >= names
    shown = run(capsys, "list", *words)[1]
    assert all(name in shown for name in names)
    assert ("lattice" in shown) == ("ensemble" in kinds)
    assert "kvzap" not in shown or "method" in kinds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "missing.npz"], ["missing.npz"]),
        (["compare", "foreign.txt"], ["foreign.txt", "not a routegraph trace"]),
        (["compare", "TRACE", "--policy", "chunk"], ["chunk"]),
        (["compare", "TRACE", "--policy", "best"], ["best", "topk"]),
        (["compare", "TRACE", "--policy", "snapkv"], ["'snapkv'", "holds", "extract with --scorer snapkv"]),
        (["compare", "TRACE", "--policy", "kvzip"], ["KVzipPress scores in a second pass", "snapkv"]),
        (["inspect", "TRACE", "--policy", "PyramidKVPress"], ["'pyramidkv'", "--scorer snapkv"]),
        (["compare", "TRACE", "--ratio", "2"], ["2.0", "[0, 1)"]),
        (["compare", "TRACE", "--split", "halves"], ["'halves'", "alternate, random"]),
        (["compare", "TRACE", "--ratio", "x"], ["'x'"]),
        (["compare", "TRACE", "--eps", "2"], ["eps", "2.0"]),
        (["list", "nothing like it"], ["'nothing like it'", "kinds are: policy, decoding policy"]),
        (["list", "ensemble", "topk"], ["'ensemble topk'"]),
        (["inspect", "missing.npz"], ["no file or folder", "missing.npz"]),
        (["model", "get", "gpt5"], ["gpt5", "smollm2"]),
        (["extract", "nosuchmodel", "--prompts", "bundled", "--out", "o.npz"], ["nosuchmodel", "smollm2"]),
        (["extract", "smollm2", "--prompts", "none.jsonl", "--out", "o.npz"], ["none.jsonl"]),
        (["extract", "smollm2", "--prompts", "bad.jsonl", "--out", "o.npz"], ["bad.jsonl", "line 2"]),
        (["extract", "smollm2", "--prompts", "span.jsonl", "--out", "o.npz"], ["span.jsonl", "99"]),
        (["extract", "smollm2", "--prompts", "bundled", "--out", "no/o.npz"], ["no"]),
        (["report", "foreign.txt", "--out", "r.html"], ["foreign.txt"]),
    ],
)
def test_bad_input_is_one_plain_line_and_status_2(
    capsys, trace_file, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.txt").write_text("hello")
    (tmp_path / "bad.jsonl").write_text('{"context": "fine"}\n{"context": \n')
    (tmp_path / "span.jsonl").write_text('{"context": "short", "answer_spans": [[0, 99]]}\n')
    before = sorted(p.name for p in tmp_path.iterdir())
    status, out, err = run(capsys, *(trace_file if a == "TRACE" else a for a in arguments))
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert sorted(p.name for p in tmp_path.iterdir()) == before

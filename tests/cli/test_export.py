import csv
import json

import networkx as nx
import numpy as np
import pytest

from routegraph import TokenGraph, reach_thresholds, simulate
from routegraph.survival import Survival
from routegraph.trace import Trace
from tests.helpers.commands import run
from tests.helpers.traces import synthetic_trace


@pytest.fixture
def result_file(capsys, tmp_path):
    path = tmp_path / "result.json"
    status, _, _ = run(
        capsys, "simulate", "--n-tokens", 12, "--n-layers", 2, "--n-heads", 2, "--n-answers", 1,
        "--ensemble", "window", "--set", "window=5", "--replicates", 3, "--seed", 4, "--json", "--out", path,
    )  # fmt: skip
    assert status == 0
    return path


def test_the_exported_graph_is_the_simulated_one(capsys, result_file, tmp_path):
    assert run(capsys, "export", result_file, "--to", tmp_path / "g.json", "--replicate", 1)[0] == 0
    stored = json.loads((tmp_path / "g.json").read_text())
    columns = {name: [edge[name] for edge in stored["edges"]] for name in ("layer", "head", "query", "key")}
    graph = TokenGraph.from_edges(2, 2, 13, **columns, n_context=12)
    drop = np.full((2, 2, 12), 1)
    for edge in stored["edges"]:
        if edge["drop"] is not None:
            drop[edge["layer"] - 1, edge["head"], edge["key"]] = edge["drop"]
    found = reach_thresholds(graph, Survival(drop), 12)[:12]
    result = simulate(
        12,
        0.9,
        n_layers=2,
        n_heads=2,
        n_answers=1,
        ensemble="window",
        settings={"window": 5},
        replicates=3,
        seed=4,
    )
    assert np.array_equal(np.bincount(found + 1, minlength=14), result.samples[0].reach[1])


def test_all_formats_hold_every_edge(capsys, result_file, tmp_path):
    for kind in ("graphml", "json", "csv"):
        assert run(capsys, "export", result_file, "--to", tmp_path / f"g.{kind}")[0] == 0
    edges = json.loads((tmp_path / "g.json").read_text())["edges"]
    assert nx.read_graphml(tmp_path / "g.graphml").number_of_edges() == len(edges)
    with (tmp_path / "g.csv").open() as stream:
        assert [int(row["query"]) for row in csv.DictReader(stream)] == [edge["query"] for edge in edges]


def test_a_trace_is_exported_slot_by_slot(capsys, tmp_path):
    trace = synthetic_trace(0, n=10, answers=(5,))
    Trace.save(tmp_path / "t.npz", [trace], {})
    assert run(capsys, "export", tmp_path / "t.npz", "--to", tmp_path / "t.csv")[0] == 0
    with (tmp_path / "t.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 3 * 10
    assert float(rows[-1]["score"]) == pytest.approx(float(trace.scores["expected_attention"][-1, -1, -1]))
    assert sum(row["answer"] == "True" for row in rows) == 12
    assert run(capsys, "export", tmp_path / "t.npz", "--to", tmp_path / "t.json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RESULT", "--to", "g.gexf"], ["gexf", "graphml"]),
        (["RESULT", "--to", "g.csv", "--replicate", "3"], ["0..2", "3"]),
        (["RESULT", "--to", "g.csv", "--limit", "3"], ["limit is for prompts"]),
        (["trace.npz", "--to", "g.csv", "--replicate", "0"], ["replicate is for a result of simulate"]),
        (["missing.json", "--to", "g.csv"], ["missing.json"]),
        (["foreign.json", "--to", "g.csv"], ["foreign.json"]),
        (["other.json", "--to", "g.csv"], ["no result of simulate"]),
    ],
)
def test_bad_input_is_one_plain_line(capsys, result_file, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.json").write_text("{")
    Trace.save(tmp_path / "trace.npz", [synthetic_trace(0, n=10, answers=(5,))], {})
    (tmp_path / "other.json").write_text('{"parameters": {"settings": {}, "ensemble": "uniform"}}')
    status, out, err = run(capsys, "export", *(result_file if a == "RESULT" else a for a in arguments))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not list(tmp_path.glob("g.*"))


@pytest.mark.parametrize("option", ["--policy topk", "--ratio .5", "--keep 3", "--prompt p"])
def test_inspect_refuses_what_means_nothing_to_a_result(capsys, result_file, option):
    status, out, err = run(capsys, "inspect", result_file, *option.split())
    assert (status, out) == (2, "")
    assert f"{option.split()[0]} is for a trace or a folder of measure" in err

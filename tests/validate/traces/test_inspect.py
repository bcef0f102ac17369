import json
from dataclasses import replace

import numpy as np
import pytest

from routegraph import TokenGraph
from routegraph.trace import Trace
from routegraph.validate.traces.inspect import inspect_traces
from routegraph.validate.traces.structure import (
    by_distance,
    correlation_by_distance,
    effective_slots,
    gini,
    lorenz,
    sink_share,
    slope,
)
from tests.helpers.commands import run
from tests.helpers.traces import SHAPE, synthetic_trace, traced


def with_tops(trace):
    """Heads agree fully on the sink in the last layer, and beyond it in the first."""
    n_layers, n_heads, n = *SHAPE, trace.n_context
    own = np.broadcast_to(np.arange(n_heads)[:, None] + 4, (n_heads, n))
    tops = np.stack([own, own, own, np.zeros((n_heads, n))]).astype(np.int32)
    beyond = np.stack([np.full((n_heads, n), 9), own, own, own]).astype(np.int32)
    assert tops.shape == (n_layers, n_heads, n)
    return replace(trace, tops=tops, tops_without_sink=beyond)


@pytest.fixture(scope="module")
def found():
    return inspect_traces([with_tops(traced(k)) for k in range(6)], "synthetic-2", "topk", 0.8)


def star(n=64):
    """Every query from 32 on reads key 5 with .3, itself with .1 and, in head 1 only, key 0 with .6."""
    query = np.arange(32, n)
    same = np.ones_like(query)
    columns = [
        (same, 0 * same, query, 5 * same, 0.3 * same),
        (same, 0 * same, query, query, 0.1 * same),
        (same, same, query, 0 * same, 0.6 * same),
    ]
    layer, head, query, key, weight = (np.concatenate(c) for c in zip(*columns, strict=True))
    return TokenGraph.from_edges(1, 2, n, layer, head, query, key, weight)


def test_attention_is_counted_by_mass():
    assert sink_share(star()) == pytest.approx(0.6)
    shares = by_distance(star())
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(0.25)
    # Distances 27..58 to key 5: octaves 15-30 and 31-62.
    assert shares[4] == pytest.approx(0.75 * 4 / 32)
    assert shares[5] == pytest.approx(0.75 * 28 / 32)


def test_prompts_too_short_to_tell_are_no_zeros():
    """Red before: a prompt without queries from 32 on had 0.000 everywhere, and drew the mean of others down."""
    short = TokenGraph.from_edges(1, 2, 20, [1], [0], [9], [5], [1.0])
    assert np.isnan(sink_share(short))
    assert np.isnan(by_distance(short)).all()
    long = replace(synthetic_trace(0), graph=traced(0).graph)
    brief = synthetic_trace(1, n=20, answers=(5,))
    brief = replace(brief, graph=TokenGraph.from_edges(*SHAPE, 20, [1], [0], [9], [5], [1.0]))
    found = inspect_traces([long, brief])
    assert found.sink_share.mean[0] == pytest.approx(sink_share(long.graph))
    assert np.isnan(inspect_traces([brief]).by_distance.mean).all()


def test_lorenz_curves_tell_who_is_read():
    one_taker = TokenGraph.from_edges(1, 1, 100, [1] * 100, [0] * 100, range(100), [0] * 100, [1.0] * 100)
    alike = TokenGraph.from_edges(1, 1, 100, [1] * 100, [0] * 100, range(100), range(100), [1.0] * 100)
    assert gini(lorenz(one_taker)) == pytest.approx(0.99)
    assert gini(lorenz(alike)) == pytest.approx(0, abs=1e-9)
    assert lorenz(alike)[[0, 20, 100]] == pytest.approx([0, 0.2, 1])
    # Of head 0, key 5 has three quarters; head 1 reads nothing beyond the sink, and then does not count.
    assert lorenz(star(), skip_first=4)[2] == pytest.approx(0.75 + 0.25 * 0.2 / 32, abs=1e-6)


def test_correlation_falls_with_distance():
    random = np.random.default_rng(0)
    walk = [random.standard_normal(20_000)]
    for _ in range(3):
        walk.append(0.5 * walk[-1] + np.sqrt(0.75) * random.standard_normal(20_000))
    slots = np.repeat(walk, 2, axis=0) + random.standard_normal((8, 20_000))
    assert correlation_by_distance(slots, 2) == pytest.approx([0.5, 0.25, 0.125, 0.0625], abs=0.02)
    assert np.isnan(correlation_by_distance(slots[::2], 1)[0])


def test_effective_slots_of_independent_slots_are_all_slots():
    gone = np.array([[0.5, 0.8]] * 4)
    measured = effective_slots(gone**3, gone)
    assert measured.mean == pytest.approx([3, 3])
    assert measured.stderr == pytest.approx([0, 0], abs=1e-12)
    assert np.isnan(effective_slots(gone[:1] ** 3, gone[:1]).stderr).all()


def test_slopes_are_over_relative_depth():
    assert slope(np.linspace(0.2, 0.7, 9)) == pytest.approx(0.5)
    assert slope(np.array([0.4])) == 0


def test_consensus_is_shown_with_and_without_the_sink(found):
    assert found.by_layer["consensus"].mean == pytest.approx([1, 1, 1, 1 / 3])
    assert found.by_layer["consensus without sink"].mean == pytest.approx([1 / 3, 1, 1, 1])
    assert found.by_layer["agreement"].mean == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert found.slopes["consensus"].mean[0] < -0.3 < 0.3 < found.slopes["consensus without sink"].mean[0]


def test_survivors_are_those_of_the_policy(found):
    assert found.survivors.shape == (4, 200)
    assert np.all(found.survivors[:, :4] == 3)
    assert found.survivors.sum() == 4 * 3 * 39  # n_kept(200, .8)
    assert found.shown == ("synthetic-2", "topk", 0.8)


def test_json_is_complete(found):
    document = found.to_dict()
    text = json.dumps(document, allow_nan=False)
    assert len(document["prompts"]) == 6
    assert set(document["lorenz"]) == {"with sink", "without sink"}
    assert document["gini"]["with sink"]["stderr"][0] > 0
    assert sum(document["attention_by_distance"]["mean"]) == pytest.approx(1)
    assert text == json.dumps(
        inspect_traces([with_tops(traced(k)) for k in range(6)], "synthetic-2", "topk", 0.8).to_dict()
    )


def test_traces_without_graphs_show_what_they_have():
    plain = inspect_traces([synthetic_trace(0)])
    assert [plain.by_distance, plain.lorenz, plain.by_layer] == [None] * 3
    assert plain.correlation.mean[1] == pytest.approx(0.4, abs=0.15)
    json.dumps(plain.to_dict(), allow_nan=False)


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="no prompt 'x' in the trace; choose from: synthetic-0"):
        inspect_traces([synthetic_trace(0)], "x")
    with pytest.raises(ValueError, match="ratio must be in"):
        inspect_traces([synthetic_trace(0)], ratio=1.0)
    with pytest.raises(ValueError, match="holds no prompts"):
        inspect_traces([])


def test_the_command_prints_json_tables_and_a_figure(capsys, tmp_path):
    path, figure = tmp_path / "t.npz", tmp_path / "i.svg"
    Trace.save(path, [with_tops(traced(k)) for k in range(4)], {"command": "test"})
    status, out, _ = run(capsys, "inspect", path, "--plot", figure)
    assert status == 0
    for part in (
        "Gini",
        "slot correlation",
        "effective of 12 slots",
        "consensus without sink",
        "Survivors of",
    ):
        assert part in out
    assert "</svg>" in figure.read_text()
    status, out, err = run(capsys, "inspect", path, "--json", "--prompt", "synthetic-3", "--ratio", "0.5")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["survivors"]["prompt"] == "synthetic-3"
    assert document["provenance"]["command"] == "test"
    status, out, err = run(capsys, "inspect", path, "--prompt", "none")
    assert (status, out) == (2, "")
    assert "choose from" in err


def test_other_files_say_what_they_are(capsys, tmp_path):
    path = tmp_path / "s.json"
    run(
        capsys,
        "simulate",
        "--n-tokens",
        "64",
        "--n-layers",
        "2",
        "--replicates",
        "2",
        "--out",
        path,
        "--json",
    )
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert {"n_layers", "seed"} <= set(out.split())
    status, out, _ = run(capsys, "inspect", path, "--json")
    assert json.loads(out)["parameters"]["n_tokens"] == 64
    (tmp_path / "other.json").write_text("[]")
    assert run(capsys, "inspect", tmp_path / "other.json")[0] == 2
    assert run(capsys, "inspect", tmp_path)[0] == 2
    assert run(capsys, "inspect", path, "--plot", tmp_path / "p.svg")[0] == 2


def test_the_first_scores_are_mapped_whatever_they_are():
    """No Expected Attention in the trace: said, and no reason to refuse."""
    one = traced(0)
    one = replace(one, scores={"knorm": one.scores["expected_attention"]}, scorers={"knorm": {}})
    found = inspect_traces([with_tops(one)])
    assert found.shown[1] == "topk@knorm"
    assert found.method == "scores of knorm, cut per head"
    assert found.to_dict()["survivors"]["method"] == found.method
    assert inspect_traces([with_tops(one)], policy="KnormPress").shown[1] == "knorm"
    with pytest.raises(ValueError, match="no scores by scorer 'expected_attention' for policy 'adakv'"):
        inspect_traces([with_tops(one)], policy="adakv")
    assert inspect_traces([with_tops(traced(0))]).shown[1] == "topk"

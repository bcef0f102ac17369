"""The empirical ensemble, closed loop: what is measured on resampled graphs is what they were made from."""

import numpy as np
import pytest

from routegraph import TokenGraph, simulate
from routegraph.kernels import rng
from routegraph.sim import draw
from routegraph.sim.ensembles.empirical import N_SINK, read_statistics
from routegraph.sim.fields import Field, fit_field
from routegraph.sim.parameters import Parameters
from routegraph.theory.ger import one_factor
from routegraph.trace import Trace
from tests.helpers.traces import synthetic_trace

N = 400


def graph_with(seed, to_sink, recent):
    """Two layers, two heads; head 0 reads 2 keys, head 1 reads 5; layer 2 is more local."""
    random = np.random.default_rng(seed)
    edges = []
    for layer in (1, 2):
        for head, degree in enumerate((2, 5)):
            for query in range(N):
                sink = random.random(degree) < to_sink
                local = query - random.integers(0, min(query + 1, recent * (3 - layer)), degree)
                key = np.where(sink, random.integers(0, min(N_SINK, query + 1), degree), local)
                edges += [(layer, head, query, int(k), 1 / degree) for k in key]
    columns = [np.array(c) for c in zip(*edges, strict=True)]
    return TokenGraph.from_edges(2, 2, N, *columns[:4], weight=columns[4])


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "graphs.npz"
    traces = []
    for number in range(3):
        plain = synthetic_trace(number, n=N)
        fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
        scores = {"expected_attention": plain.scores["expected_attention"][:2, :2]}
        sizes = {"n_layers": 2, "n_heads": 2, "n_query_heads": 2, "scores": scores}
        traces.append(Trace(**{**fields, **sizes, "graph": graph_with(number, 0.3, 20)}))
    Trace.save(path, traces, {})
    return path


def resampled(trace_file, seed=0, **changed):
    settings = {"trace": str(trace_file), **changed}
    cell = Parameters(
        n_tokens=N - 1,
        n_layers=2,
        n_heads=2,
        ensemble="empirical",
        ensemble_parameters=tuple(settings.items()),
    )
    graph = draw.draw_graph(cell, rng.seed_sequence(seed, 0, 0))
    return TokenGraph.from_edges(2, 2, N, *graph.edges(), weight=np.ones(graph.n_edges))


def test_resampled_graphs_have_the_statistics_they_were_made_from(trace_file):
    real = read_statistics([trace.graph for trace in Trace.load(trace_file)])
    again = read_statistics([resampled(trace_file, seed) for seed in range(8)])
    assert np.array_equal(real.degrees[..., 0], [[2, 5], [2, 5]])
    assert np.array_equal(again.degrees, real.degrees)
    assert again.to_sink == pytest.approx(real.to_sink, abs=0.03)
    assert again.octaves == pytest.approx(real.octaves, abs=0.04)
    assert real.to_sink.mean() == pytest.approx(0.3, abs=0.03)


def test_popular_tokens_are_popular_again():
    base = graph_with(0, 0.0, 60)
    layer, head, query, key = base.edges()
    star = (key % 10 == 0) | (np.random.default_rng(1).random(len(key)) < 0.1)
    star &= key >= N_SINK
    graph = TokenGraph.from_edges(
        2, 2, N, *(c[star] for c in (layer, head, query, key)), weight=np.ones(star.sum())
    )
    spread = read_statistics([graph]).popularity
    flat = read_statistics([base]).popularity
    assert spread.std() > 2 * flat.std()
    assert spread.mean() == pytest.approx(1)


def test_layers_are_stretched_and_heads_repeat(trace_file):
    settings = {"trace": str(trace_file), "layers": 4}
    cell = Parameters(
        n_tokens=200, n_layers=4, n_heads=4, ensemble="empirical", ensemble_parameters=tuple(settings.items())
    )
    layer, head, query, _ = draw.draw_graph(cell, rng.seed_sequence(0, 0, 0)).edges()
    degrees = np.bincount(((layer - 1) * 4 + head)[query == 150], minlength=16).reshape(4, 4)
    assert (degrees == [2, 5, 2, 5]).all()


def test_it_runs_through_simulate(trace_file):
    common = {"n_layers": 2, "n_heads": 2, "replicates": 4, "ensemble": "empirical"}
    result = simulate(300, [0.0, 0.9], settings={"trace": str(trace_file)}, **common)
    mean, _ = result.estimate("reach_fraction", [0.0, 0.9])
    assert mean[0] > mean[1] > 0


def test_bad_input_is_one_sentence(trace_file, tmp_path):
    with pytest.raises(ValueError, match="needs a trace with graphs"):
        simulate(50, 0.5, ensemble="empirical")
    with pytest.raises(ValueError, match="no trace file 'missing.npz'"):
        simulate(50, 0.5, ensemble="empirical", settings={"trace": "missing.npz"})
    Trace.save(tmp_path / "bare.npz", [synthetic_trace(0)], {})
    with pytest.raises(ValueError, match="hold no graphs"):
        simulate(50, 0.5, ensemble="empirical", settings={"trace": str(tmp_path / "bare.npz")})
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\), got 1.5"):
        simulate(50, 0.5, ensemble="empirical", settings={"trace": str(trace_file), "eps": 1.5})


def test_a_field_is_recovered_from_its_own_correlation():
    truth = Field(np.linspace(0.7, 0.3, 12), floor=0.2, length=3.0)
    found = fit_field(truth.correlation(3), 3)
    assert found.in_layer == pytest.approx(truth.in_layer, abs=1e-6)
    assert (found.floor, found.length) == (pytest.approx(0.2, abs=0.02), pytest.approx(3.0, abs=0.3))


def test_the_profile_of_a_trace_simulates_its_ger(tmp_path):
    """Synthetic traces share one factor of correlation .4; their resampled field must give their GER."""
    Trace.save(tmp_path / "t.npz", [synthetic_trace(k) for k in range(12)], {})
    ratios = [0.6, 0.8, 0.9]
    result = simulate(
        196, ratios, n_layers=4, n_heads=3, profile="trace", settings={"field_trace": str(tmp_path / "t.npz")},
        replicates=100,
    )  # fmt: skip
    assert result.parameters.field().in_layer == pytest.approx(0.4, abs=0.06)
    mean, error = result.estimate("eviction_rate", ratios)
    expected = one_factor(result.level_of.levels(ratios) / 196, 12, 0.4)
    assert np.all(np.abs(mean - expected) < 3 * error + 0.03)
    with pytest.raises(ValueError, match="profile 'trace' needs a trace file"):
        simulate(50, 0.5, profile="trace")

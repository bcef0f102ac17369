import errno
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from routegraph import TokenGraph, Trace

PROVENANCE = {"command": "extract", "parameters": {"seed": 3}}


def make(name="first", n=5, scorers=("expected_attention", "expected_attention/chunk2")):
    generator = np.random.default_rng(n)
    return Trace(
        id=name,
        task="single",
        model="tiny",
        context="Ada lives in \u00c9vry.",
        n_layers=2,
        n_heads=1,
        n_query_heads=4,
        n_context=n,
        token_ids=generator.integers(0, 99, n),
        offsets=np.stack([np.arange(n), np.arange(n) + 1], axis=1),
        answer=np.array([3]),
        evidence=np.array([], dtype=np.int64),
        scores={scorer: generator.normal(size=(2, 1, n)).astype(np.float32) for scorer in scorers},
        scorers={"expected_attention": {"n_sink": 1}, "expected_attention/chunk2": {"chunk_length": 2}},
    )


def assert_same(one, other):
    for name in ("id", "task", "model", "context", "n_layers", "n_heads", "n_query_heads", "n_context"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("token_ids", "offsets", "answer", "evidence"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype, name
    assert list(one.scores) == list(other.scores)
    for scorer, table in one.scores.items():
        assert table.dtype == other.scores[scorer].dtype == np.float32
        assert np.array_equal(table, other.scores[scorer])
    assert one.scorers == other.scorers


@pytest.fixture
def path(tmp_path):
    Trace.save(tmp_path / "trace.npz", [make()], PROVENANCE)
    return tmp_path / "trace.npz"


def refusal(path):
    """The message with which a file is refused: one sentence that names it."""
    with pytest.raises(ValueError) as refused:
        Trace.load(path)
    message = str(refused.value)
    assert repr(str(path)) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 140
    return message


def write_header(path, header, **arrays):
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)


def test_round_trip_of_several_prompts(tmp_path):
    traces = [make(), make("second", n=7, scorers=()), make("third", n=4, scorers=("knorm",))]
    Trace.save(tmp_path / "trace", traces, PROVENANCE)
    loaded = Trace.load(str(tmp_path / "trace"))
    assert len(loaded) == 3
    for one, other in zip(traces, loaded, strict=True):
        assert_same(one, other)
    assert Trace.provenance(tmp_path / "trace").items() >= PROVENANCE.items()
    assert Trace.provenance(tmp_path / "trace")["version"]


def test_a_file_of_no_prompts(tmp_path):
    Trace.save(tmp_path / "trace", [], {})
    assert Trace.load(tmp_path / "trace") == []


def test_saving_replaces_an_older_file(path):
    Trace.save(path, [make("other")], PROVENANCE)
    assert [trace.id for trace in Trace.load(path)] == ["other"]


def test_a_missing_file_is_refused(tmp_path):
    assert "no trace file" in refusal(tmp_path / "nothing.npz")
    assert "no trace file" in refusal(tmp_path)


def test_a_file_cut_short_is_refused_at_any_length(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert "damaged" in refusal(path)


def test_a_flipped_bit_is_refused_or_harmless(path):
    """Every bit of the zip's directory, one bit of every other byte; some (dates) hold no data."""
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    flips = [(i, i % 8) for i in range(directory)]
    flips += [(i, bit) for i in range(directory, len(whole)) for bit in range(8)]
    refused = 0
    for place, bit in flips[::3]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            (loaded,) = Trace.load(path)
        except ValueError:
            refusal(path)
            refused += 1
        else:
            assert_same(loaded, make())
    assert refused > len(flips) / 10


def test_a_flipped_bit_in_a_score_is_refused(path):
    whole = bytearray(path.read_bytes())
    member = zipfile.ZipFile(path).getinfo("0/scores/expected_attention.npy")
    whole[member.header_offset + member.compress_size] ^= 4
    path.write_bytes(whole)
    assert "damaged" in refusal(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("id,answer\n1,Paris\n")
    assert "not a routegraph trace" in refusal(path)
    for member in ("word/document.xml", "header", "header.npy"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, "<xml/>")
        assert "not a routegraph trace" in refusal(path)
    with path.open("wb") as stream:
        np.savez(stream, weights=np.ones(3))
    assert "not a routegraph trace" in refusal(path)
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))
    assert "not a routegraph trace" in refusal(path)
    with path.open("wb") as stream:
        np.savez(stream, header=np.array([{}], dtype=object))
    refusal(path)
    with path.open("wb") as stream:
        np.savez(stream, header=np.arange(3))
    refusal(path)


@pytest.mark.parametrize("header", [[1], "text", {}, {"format": "something else", "format_version": 1}])
def test_a_file_with_another_header_is_refused(tmp_path, header):
    write_header(tmp_path / "a.npz", header)
    assert "not a routegraph trace" in refusal(tmp_path / "a.npz")


OURS = {"format": "routegraph trace", "format_version": 1, "version": "0.1", "provenance": {}, "traces": []}


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": None},
        {"format_version": "one"},
        {"version": None},
        {"traces": None},
        {"traces": [{}]},
        {"traces": [1]},
        {"traces": 3},
    ],
    ids=str,
)
def test_a_header_of_ours_with_holes_is_refused(tmp_path, change):
    header = {name: value for name, value in {**OURS, **change}.items() if value is not None}
    write_header(tmp_path / "a.npz", header)
    assert "damaged" in refusal(tmp_path / "a.npz")


def test_a_later_format_is_refused_with_its_version(tmp_path):
    write_header(tmp_path / "a.npz", {**OURS, "format_version": 2, "version": "7.5"})
    assert "was written by routegraph 7.5; upgrade" in refusal(tmp_path / "a.npz")


def test_scores_of_another_shape_are_refused(path):
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["0/scores/expected_attention"] = np.ones((2, 1, 4), np.float32)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"damaged: prompt 'first': scores/expected_attention must have"):
        Trace.load(path)


class FullDisk(io.FileIO):
    """A file on a disk with room for 600 bytes more."""

    room = 600

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_leaves_the_older_file_and_nothing_else(path, monkeypatch):
    monkeypatch.setattr(os, "fdopen", lambda handle, mode, **_: FullDisk(handle, mode))
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        Trace.save(path, [make("second", n=200)], PROVENANCE)
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        Trace.save(tmp_path / "nowhere" / "trace", [make()], PROVENANCE)


def test_protected_rows_are_the_sinks_of_the_context_or_of_each_chunk():
    trace = make(n=7)
    object.__setattr__(
        trace,
        "scorers",
        {"whole": {"n_sink": 2}, "chunked": {"n_sink": 2, "chunk_length": 4}, "none": {"chunk_length": 4}},
    )
    positions = {scorer: np.flatnonzero(trace.protected(scorer)).tolist() for scorer in trace.scorers}
    assert positions == {"whole": [0, 1], "chunked": [0, 1, 4, 5], "none": []}
    assert trace.protected("whole").shape == (7,)
    assert not trace.protected("unheard of").any()


def with_graph():
    graph = TokenGraph.from_edges(2, 1, 5, [1, 2, 2], [0, 0, 0], [4, 3, 4], [2, 0, 1], [0.5, 0.25, 1.0])
    tops = np.arange(40, dtype=np.int32).reshape(2, 4, 5) % 5
    more = {"tops": tops, "tops_without_sink": tops - 1, "attention": np.ones((2, 1, 5), np.float32)}
    return replace(make(), graph=graph, entropy=np.ones((2, 4), np.float32), **more)


def test_a_graph_is_read_when_it_is_asked_for(tmp_path):
    path, made = tmp_path / "trace.npz", with_graph()
    Trace.save(path, [made, make("plain")], PROVENANCE)
    loaded, plain = Trace.load(path)
    assert_same(loaded, made)
    assert not {"graph", "tops", "tops_without_sink", "attention"} & set(vars(loaded))
    assert np.array_equal(loaded.graph.slot, made.graph.slot)
    assert np.array_equal(loaded.graph.weight, made.graph.weight)
    assert np.array_equal(loaded.graph.indptr, made.graph.indptr)
    assert loaded.graph is loaded.graph
    for name in ("tops", "tops_without_sink", "attention", "entropy"):
        assert np.array_equal(getattr(loaded, name), getattr(made, name))
        assert getattr(plain, name) is None
    assert plain.graph is None
    changed = replace(Trace.load(path)[0], id="another")
    assert (changed.id, changed.graph.n_edges) == ("another", 3)
    assert pickle.loads(pickle.dumps(Trace.load(path)[0])).graph.n_edges == 3
    Trace.save(tmp_path / "again.npz", Trace.load(path), PROVENANCE)
    assert Trace.load(tmp_path / "again.npz")[0].graph.n_edges == 3


def test_a_damaged_graph_is_refused_when_it_is_asked_for(tmp_path):
    path = tmp_path / "trace.npz"
    Trace.save(path, [with_graph()], PROVENANCE)
    whole = bytearray(path.read_bytes())
    member = zipfile.ZipFile(path).getinfo("0/graph/slot.npy")
    whole[member.header_offset + member.compress_size] ^= 4
    path.write_bytes(whole)
    (loaded,) = Trace.load(path)
    assert loaded.scores
    with pytest.raises(ValueError, match="is damaged"):
        _ = loaded.graph
    path.unlink()
    with pytest.raises(ValueError, match="no trace file"):
        _ = loaded.tops


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("slot", 1, 2**31 - 1, "graph/slot must be in"),
        ("slot", 1, -1, "graph/slot must be in"),
        ("slot", 0, 4, "key after its query"),
        ("indptr", 1, 10**6, "graph/indptr must not fall"),
        ("indptr", 10, 10**6, "graph/indptr must end at"),
        ("weight", 0, np.nan, "graph/weight must be finite"),
        ("weight", 0, -1, "graph/weight must be in"),
    ],
)
def test_a_tampered_graph_is_refused(tmp_path, name, place, value, words):
    """Red before: kernels followed it out of their arrays, signal 11."""
    graph = TokenGraph.from_edges(2, 1, 5, [1, 1, 2], [0, 0, 0], [1, 3, 4], [0, 2, 1], [0.5, 0.5, 0.5])
    changed = getattr(graph, name).copy()
    changed[place] = value
    Trace.save(tmp_path / "x.npz", [replace(make(), graph=replace(graph, **{name: changed}))], PROVENANCE)
    (loaded,) = Trace.load(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=f"damaged: prompt 'first': .*{words}"):
        _ = loaded.graph


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": np.array([5])}, "answer must be in 0..4, and holds 5"),
        ({"answer": np.array([-1])}, "answer must be in"),
        ({"offsets": np.full((5, 2), 10**6)}, "offsets must be in"),
        ({"n_heads": 1.5}, "n_heads must be a whole number"),
        ({"n_layers": None}, "n_layers must be a whole number"),
        ({"n_query_heads": 0}, "n_query_heads must be"),
        ({"scorers": {"expected_attention": {"n_sink": 0.5}}}, "n_sink must be a whole number"),
    ],
)
def test_a_tampered_prompt_is_refused(tmp_path, change, words):
    Trace.save(tmp_path / "x.npz", [replace(make(), **change)], PROVENANCE)
    with pytest.raises(ValueError, match=words):
        Trace.load(tmp_path / "x.npz")


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    trace = make()
    trace.scores["expected_attention"][0, 0, 0] = np.nan
    Trace.save(tmp_path / "x.npz", [trace], PROVENANCE)
    with pytest.raises(ValueError, match="scores/expected_attention must be finite, and holds nan"):
        Trace.load(tmp_path / "x.npz")

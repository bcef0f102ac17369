"""Files from elsewhere are checked against a schema before anything is made of them."""

import io
import json
import math
import zipfile

import numpy as np
import pytest

from routegraph.arrays import Array, Arrays, opened_arrays
from routegraph.schema import (
    boolean,
    listing,
    maybe,
    one_of,
    parsed,
    read_document,
    real,
    record,
    result_rows,
    table_of,
    text,
    whole,
)

KIND = record(
    {"id": text, "count": whole(1), "share": real(0, below=1), "flags": listing(one_of(0, 1), length=2)},
    {"more": maybe(table_of(boolean))},
)
GOOD = {"id": "a", "count": 3, "share": 0.5, "flags": [0, 1], "more": None, "unknown": []}


def test_a_good_document_passes():
    KIND(GOOD, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 3}, "id must be a text, got 3"),
        ({"count": True}, "count must be a whole number of at least 1, got True"),
        ({"count": 1.0}, "count must be a whole number of at least 1, got 1.0"),
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
        ({"count": 10**30}, "count must be a whole number of at most"),
        ({"share": math.nan}, r"share must be a number in \[0, 1\), got nan"),
        ({"share": 1}, r"share must be a number in \[0, 1\), got 1"),
        ({"share": "0.5"}, "share must be a number"),
        ({"share": True}, "share must be a number"),
        ({"flags": [0]}, "flags must be a list of 2, got 1"),
        ({"flags": [0, 2]}, r"flags\[1\] must be one of 0, 1, got 2"),
        ({"flags": None}, "flags must be a list, got None"),
        ({"more": {"x": 1}}, "more.x must be true or false, got 1"),
        ({"more": []}, "more must be an object"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        KIND({**GOOD, **change}, "")


@pytest.mark.parametrize("name", ["id", "count", "share", "flags"])
def test_what_is_missing_is_named(name):
    with pytest.raises(ValueError, match=f"the document lacks '{name}'"):
        KIND({key: value for key, value in GOOD.items() if key != name}, "")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "[NaN]",
        '{"a": -Infinity}',
        "[" * 100_000 + "]" * 100_000,
        "9" * 10_000,
        '{"a"',
        b"\xff\xfe",
        "\ufeffx",
    ],
)
def test_what_is_no_json_is_one_sentence(source, tmp_path):
    """Red before: RecursionError, and Python's words on the digits of a number."""
    with pytest.raises(ValueError, match="^it is "):
        parsed(source)
    path = tmp_path / "x.json"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    with pytest.raises(ValueError, match=r"x\.json' is no result: it is "):
        read_document(path, what="result")
    with pytest.raises(ValueError, match="no result"):
        read_document(tmp_path, what="result")


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"mean": "x"}, r"results\[0\].ger.mean must be a finite number"),
        ({"mean": 0.5, "stderr": True}, "stderr must be"),
        ({"at": [{"low": 10**400}]}, r"ger.at\[0\].low must be"),
    ],
)
def test_figures_of_a_result_are_numbers(spoilt, words):
    good = {"ratio": 0.5, "ger": {"mean": 0.5, "stderr": None}, "theory": {"mean": 1}, "verdict": "holds"}
    result_rows([good], "results")
    with pytest.raises(ValueError, match=words):
        result_rows([{**good, "ger": spoilt}], "results")
    with pytest.raises(ValueError, match="must be an object"):
        result_rows([None], "results")


def saved(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    return tmp_path / "x.npz"


FLOATS = Array("f", (2, None), 0, 1)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 3), np.nan), "a must be finite, and holds nan"),
        (np.full((2, 3), 2.0), r"a must be in 0\.\.1, and holds 2"),
        (np.full((3, 3), 0.5), r"a must have the shape \(2, any\), got \(3, 3\)"),
        (np.full((2, 3), 0.5 + 0j), "a must hold floats"),
        (np.full((2, 3), "x"), "a must hold floats"),
        (np.full((2, 3), b"x"), "a must hold floats"),
        (np.zeros((2, 3), int), "a must hold floats"),
    ],
)
def test_arrays_are_what_they_must_be(tmp_path, array, words):
    with pytest.raises(ValueError, match=words), opened_arrays(saved(tmp_path, a=array), "file") as arrays:
        arrays.read("a", FLOATS)


def test_arrays_of_either_order_are_read_as_numpy_reads_them(tmp_path):
    for array in (np.arange(6.0).reshape(2, 3) / 6, np.asfortranarray(np.arange(6).reshape(2, 3) / 6.0)):
        for kind in ("<f4", ">f8"):
            path = saved(tmp_path, a=array.astype(kind))
            with opened_arrays(path, "file") as arrays:
                assert np.array_equal(arrays.read("a", FLOATS), np.load(path)["a"])


@pytest.mark.parametrize("shape", [(2, 10**18), (2**40, 2**40), (2, -1), (2, 2)])
def test_a_shape_that_its_bytes_do_not_have_is_refused_before_it_is_made(tmp_path, shape):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as made:
        made.writestr("a.npy", head.getvalue() + b"\0" * 48)
    refused = pytest.raises(ValueError, match="claims|shape")
    with refused, opened_arrays(tmp_path / "x.npz", "file") as arrays:
        arrays.read("a", FLOATS)


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    """Red before: 3 MB took 2.5 GB."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.npy", b"\0" * 80_000_000)
    with pytest.raises(ValueError, match="no measured numbers"), opened_arrays(tmp_path / "x.npz", "file"):
        pass


def test_a_later_name_of_the_same_array_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("a.npy", json.dumps({}))
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a.npy", json.dumps({}))
    with zipfile.ZipFile(stream) as archive, pytest.raises(ValueError, match="there twice"):
        Arrays(archive)

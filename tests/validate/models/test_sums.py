"""What lies in the cache is what was put there: a file whose size, time and sum differ is named, and not loaded."""

import os
import shutil
from pathlib import Path

import pytest

from routegraph.validate.models import sources, sums
from routegraph.validate.models.sources import ModelSource, get_model

CONTENT = b"weights " * 1000


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """A model that is made by writing two files, in a cache of its own; returns its folder."""

    def build(folder, progress):
        (folder / "model.safetensors").write_bytes(CONTENT)
        (folder / "config.json").write_text("{}")

    pytest.importorskip("transformers")
    monkeypatch.setenv("ROUTEGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sources.MODELS, "copied", ModelSource("copied", "", "", 1, 1, build))
    return get_model("copied")


@pytest.fixture
def summed(monkeypatch) -> list[str]:
    """Names of the files whose sum is worked out."""
    told, real = [], sums.sha256_of
    monkeypatch.setattr(sums, "sha256_of", lambda path: told.append(path.name) or real(path))
    return told


def flip(path: Path, at: int = 4321) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_look_is_cheap(copied, summed):
    assert get_model("copied") == copied
    assert summed == []


@pytest.mark.parametrize(
    "change", [flip, lambda path: path.write_bytes(CONTENT[:-1]), lambda path: path.unlink()]
)
def test_what_has_changed_is_named(copied, change):
    weights = copied / "model.safetensors"
    change(weights)
    for _ in range(2):  # nothing is put right by looking
        with pytest.raises(
            ValueError, match=r"'copied' is damaged in the cache: '.*model.safetensors' is not what"
        ):
            get_model("copied")
    shutil.rmtree(copied)
    assert (get_model("copied") / "model.safetensors").read_bytes() == CONTENT


def test_a_copy_of_the_cache_is_summed_once(copied, summed):
    os.utime(copied / "model.safetensors", (1, 1))
    for _ in range(2):
        get_model("copied")
    assert summed == ["model.safetensors"]


def test_of_an_earlier_version(copied):
    (copied / sums.SUMS).unlink()
    flip(copied / "model.safetensors")
    assert get_model("copied") == copied


@pytest.mark.parametrize("text", ["null", "{}", "", '{"files": {"x": {"size": 1}}}'])
def test_sums_that_are_none(copied, text):
    (copied / sums.SUMS).write_text(text)
    with pytest.raises(ValueError, match=r"sums.json' is no file of sums"):
        get_model("copied")

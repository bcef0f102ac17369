import errno
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from routegraph import files


@pytest.fixture
def full_disk(monkeypatch):
    """Let every file fail when it is flushed to disk."""

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("mode", "content"), [("wb", b"\x00new"), ("w", "nouveau \u00e9\n")])
def test_the_file_appears_whole_and_alone(tmp_path, mode, content):
    target = tmp_path / "result"
    with files.atomic_open(target, mode) as stream:
        stream.write(content)
        stream.flush()
        assert not target.exists()
    assert target.read_bytes() == (content if mode == "wb" else content.encode("utf-8"))
    assert names(tmp_path) == ["result"]


def test_an_older_file_is_replaced(tmp_path):
    target = tmp_path / "result"
    target.write_bytes(b"old and longer")
    with files.atomic_open(str(target)) as stream:
        stream.write(b"new")
        stream.flush()
        assert target.read_bytes() == b"old and longer"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_any_error_leaves_the_folder_as_it_was(tmp_path, error, before):
    target = tmp_path / "result"
    if before is not None:
        target.write_bytes(before)

    def half_written():
        with files.atomic_open(target) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        half_written()
    assert names(tmp_path) == ([] if before is None else ["result"])
    assert before is None or target.read_bytes() == before


def test_a_full_disk_leaves_the_folder_as_it_was(tmp_path, full_disk):
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        files.write_json(target, {"a": 1})
    assert names(tmp_path) == ["result.json"]
    assert target.read_text() == "old"


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path):
    files.write_json(tmp_path / "ours", 1)
    (tmp_path / "plain").write_text("1")
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain"))
    assert ours == plain


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_the_umask_is_heeded_and_left_as_it_was(tmp_path):
    before = os.umask(0o077)
    try:
        files.write_json(tmp_path / "private", 1)
        assert os.umask(0o077) == 0o077
        assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_permissions_of_a_file_that_is_replaced_are_kept(tmp_path):
    (tmp_path / "private").touch(mode=0o600)
    files.write_json(tmp_path / "private", 1)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_of_a_file_that_is_replaced_is_kept(tmp_path):
    (tmp_path / "theirs").touch()
    os.chown(tmp_path / "theirs", 12345, 12345)
    files.write_json(tmp_path / "theirs", 1)
    assert (tmp_path / "theirs").stat().st_uid == 12345


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(tmp_path, there):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    link.symlink_to(target)
    if there:
        target.write_text("old")
    files.write_json(link, "new")
    assert link.is_symlink()
    assert json.loads(target.read_text()) == "new"
    assert (names(tmp_path), names(tmp_path / "far")) == (["far", "link"], ["target"])


def test_a_link_into_a_missing_folder_is_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "target")
    with pytest.raises(ValueError, match=r"cannot write '.*link': folder '.*nowhere' does not exist"):
        files.check_writable(tmp_path / "link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize(("mode", "content"), [("wb", b"\x00new"), ("w", "n\u00e9\n")])
def test_a_pipe_is_written_to(tmp_path, mode, content):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        with files.atomic_open(pipe, mode) as stream:
            stream.write(content)
            stream.seek(0, os.SEEK_END)  # as whatever writes archives does
        assert read.result(timeout=10) == (content if mode == "wb" else content.encode())
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals")
def test_a_device_is_written_to(tmp_path):
    """A terminal: were it /dev/null, a fault would replace it for everybody."""
    ours, theirs = os.openpty()
    files.write_json(os.ttyname(theirs), 1)
    assert os.read(ours, 10).split() == [b"1"]
    (tmp_path / "link").symlink_to(os.ttyname(theirs))
    files.write_json(tmp_path / "link", 2)
    assert os.read(ours, 10).split() == [b"2"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd/1"), reason="standard output has no path")
def test_standard_output_is_written_to_where_it_is_a_file(tmp_path):
    """Not by the name of /dev/stdout: a fault would replace that for everybody."""
    program = (
        "import sys; from routegraph.files import write_json; write_json('/proc/self/fd/1', 1); print(2)"
    )
    with open(tmp_path / "out", "ab") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "1\n2\n"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write '.*nowhere.result': folder '.*nowhere' does not"):
        files.check_writable(tmp_path / "nowhere" / "result")
    with (
        pytest.raises(ValueError, match="does not exist"),
        files.atomic_open(tmp_path / "nowhere" / "result"),
    ):
        pass


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write '.*': it is a folder"):
        files.check_writable(tmp_path)


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"cannot write '.*result': folder '.*' is read-only"):
        files.check_writable(tmp_path / "result")


def test_a_writable_path_passes_and_nothing_is_made(tmp_path):
    files.check_writable(tmp_path / "result")
    assert names(tmp_path) == []


def test_json_round_trip(tmp_path):
    document = {"a": [1, 2.5, None, True], "b": "é"}
    files.write_json(tmp_path / "result.json", document)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text) == document
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json_and_writes_nothing(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "result.json", {"a": number})
    assert names(tmp_path) == []


# --- folders that processes share --------------------------------------------------------------------


def opened(folder):
    return files.open_cells(folder, lambda: None, {"runs": []})


def test_only_temporary_files_of_dead_processes_and_old_ones_are_removed(tmp_path):
    cells = opened(tmp_path / "s")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with files.atomic_open(cells / "cell"):
        (ours,) = cells.glob(".cell.*.tmp")
        left = cells / ours.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
        reused = cells / ours.name.replace(f"-{files._start(os.getpid())}.", "-1.")
        elsewhere = cells / ours.name.replace(f".{files._host()}-", ".01234567-")
        forgotten = cells / ".cell.npz.abc.tmp"
        for path in (left, reused, elsewhere, forgotten):
            path.touch()
        os.utime(forgotten, (0, 0))
        opened(tmp_path / "s")
        assert names(cells) == sorted([ours.name, elsewhere.name])
    assert names(cells) == sorted(["cell", elsewhere.name])


def test_runs_of_all_threads_and_processes_are_kept(tmp_path):
    opened(tmp_path / "s")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: files.note_run(tmp_path / "s", {"run": k}), range(40)))
    runs = json.loads((tmp_path / "s" / "run.json").read_text())["runs"]
    assert sorted(run["run"] for run in runs) == list(range(40))


def test_where_there_are_no_locks_a_folder_opens_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    assert opened(tmp_path / "s").is_dir()
    files.note_run(tmp_path / "s", {"run": 1})
    assert names(tmp_path / "s") == [".lock", "cells", "run.json"]


def test_a_folder_that_is_being_opened_holds_nothing_else(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.01234567-1-1.abc.tmp").touch()
    assert not files.holds_else(tmp_path)
    (tmp_path / "thesis.tex").touch()
    assert files.holds_else(tmp_path)


# --- outputs and inputs ------------------------------------------------------------------------------


def linked(folder, how):
    """Another name of folder/read.json, which is there."""
    path, other = folder / "read.json", folder / "other.json"
    path.write_text("{}")
    if how == "spelling":
        return folder / "x" / ".." / "read.json"
    (other.symlink_to if how == "symlink" else other.hardlink_to)(path)
    return other


@pytest.mark.parametrize("how", ["spelling", "symlink", "hard link"])
def test_an_output_that_is_read_is_refused_under_any_name(tmp_path, how):
    (tmp_path / "x").mkdir()
    out = linked(tmp_path, how)
    with pytest.raises(ValueError, match=r"--out '.*' is what is read, and would be lost"):
        files.check_apart({"--out": out}, ["no such", str(tmp_path / "read.json")])


def test_two_outputs_are_two_files(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "one")
    for other in ("one", "./one", "link"):
        with pytest.raises(ValueError, match="--out and --plot both name"):
            files.check_apart({"--out": tmp_path / "one", "--plot": f"{tmp_path}/{other}"}, [])
    files.check_apart({"--out": tmp_path / "one", "--plot": tmp_path / "two", "--html": None}, [tmp_path])
    files.check_apart({"--out": os.devnull, "--html": os.devnull}, [])


def test_a_part_of_a_folder_that_is_read_is_refused(tmp_path):
    cells = opened(tmp_path / "run")
    (cells / "a.json").touch()
    for part in (cells / "a.json", tmp_path / "run" / "run.json"):
        with pytest.raises(ValueError, match="is what is read"):
            files.check_apart({"--out": part}, [tmp_path / "run"])
    (tmp_path / "run" / "replies.csv").touch()
    files.check_apart({"--out": tmp_path / "run" / "replies.csv"}, [tmp_path / "run"])


def test_what_a_killed_run_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    dead = "import os, sys\nfrom routegraph import files\n"
    dead += (
        "with files.atomic_open(sys.argv[1]) as s:\n    s.write(b'half'); s.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", dead, str(tmp_path / "x.npz")], check=False)
    left = names(tmp_path)
    assert len(left) == 1
    assert left[0].endswith(".tmp")
    (tmp_path / left[0].replace(".x.npz.", ".y.npz.")).write_bytes(b"of another file")
    with files.atomic_open(tmp_path / "x.npz") as stream:
        stream.write(b"whole")
    assert names(tmp_path) == [left[0].replace(".x.npz.", ".y.npz."), "x.npz"]

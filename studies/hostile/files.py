"""Spoilt files of every kind, for every command that reads them."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from studies.hostile import damage
from studies.hostile.harness import Case

Prepare = Callable[[Path], None]

#: Commands that read each kind of file, and how much of a sample of spoilt ones each is given.
READERS = {
    "simulated.json": ("replay {f}", "inspect {f}", "export {f} --to {here}/x.json"),
    "decoded.json": ("inspect {f}", "replay {f}"),
    "fitted.json": ("inspect {f}",),
    "certified.json": ("inspect {f}",),
    "noise.json": ("diagram {good}/measured {good}/few --policy topk --noise {f}", "inspect {f}"),
    "probed.json": ("claims {good}/measured --probes {f}", "inspect {f}"),
}
TRACE_READERS = (
    "inspect {f}",
    "compare {f} --ratio 0 --ratio .5 --ratio .8 --ratio .9 --policy topk",
    "export {f} --to {here}/x.csv",
    "claims {good}/measured --trace {f}",
    "report {f} --out {here}/x.html",
)
CELL_READERS = (
    "claims {f}",
    "inspect {f}",
    "certify {f}",
    "audit {f}",
    "export {f} --to {here}/x.csv",
    "measure llama-tiny --task {good}/prompts.jsonl --policy topk --policy chunk --ratio 0 --ratio .5 --ratio .9 "
    "--out {f}",
)
#: Readers of cells of few bits, and of those cut while they decode.
FEW_READERS = ("diagram {good}/measured {f} --policy topk", "inspect {f}", "claims {f}")
CUT_READERS = (
    "inspect {f}",
    "export {f} --to {here}/x.csv",
    "certify {f}",
    "measure llama-tiny --task {good}/prompts.jsonl --limit 3 --policy h2o --decode-budget 90 --decode-budget 40 "
    "--out {f}",
)
PREDICTED_READERS = (
    "certify {good}/measured --predict {f}",
    "predict llama-tiny --task {good}/prompts.jsonl --policy topk --policy chunk --out {f}",
)
SWEEP_READERS = (
    "fit {f} --observable reach_fraction --resamples 10",
    "inspect {f}",
    "sweep --n-tokens 32 --n-tokens 64 --n-layers 3 --n-heads 2 --replicates 4 --out {f}",
)


def _case(kind: str, line: str, good: Path, name: str, prepare: Prepare, expect: str = "either") -> Case:
    """Return a case that reads ``{here}/name``."""
    words = line.replace("{f}", f"{{here}}/{name}").replace("{good}", str(good)).split()
    return Case(kind, tuple(words), expect, prepare)


def cases(good: Path) -> Iterator[Case]:
    """Yield all of them."""
    yield from _documents(good)
    yield from _texts(good)
    yield from _traces(good)
    yield from _cells(good, "measured", CELL_READERS)
    yield from _cells(good, "few", FEW_READERS)
    yield from _cells(good, "cut", CUT_READERS)
    yield from _cells(good, "predicted", PREDICTED_READERS)
    yield from _skipped(good)
    yield from _sweeps(good)
    yield from _prompts(good)
    yield from _others(good)


def _writes(name: str, document: Any) -> Prepare:
    return lambda folder: damage.write(folder / name, document)


def _documents(good: Path) -> Iterator[Case]:
    for name, lines in READERS.items():
        document = json.loads((good / name).read_text())
        for seed, line in enumerate(lines):
            expect = "any" if line.startswith("replay") else "either"
            for _, spoilt in damage.sample(document, 40, seed):
                yield _case(f"files: {name}", line, good, name, _writes(name, spoilt), expect)
    # What would be believed: every one must be told.
    said = json.loads((good / "simulated.json").read_text())
    for place, value in (
        (("results", 0, "ratio"), 0.51),
        (("results", 0, "ger", "mean"), 0.123),
        (("results", 0, "ger", "theory"), 0.123),
        (("results", 0, "reach_any", "stderr"), None),
        (("seed",), 1),
    ):
        made = damage.replaced(said, place, value)
        yield _case("files: forged results", "replay {f}", good, "x.json", _writes("x.json", made), "differs")
    for spoilt in (damage.replaced(said, ("results",), [{}]), damage.replaced(said, ("results",), [])):
        yield _case(
            "files: forged results", "replay {f}", good, "x.json", _writes("x.json", spoilt), "differs"
        )


def _texts(good: Path) -> Iterator[Case]:
    """Files that are no JSON at all, under every name that one may have."""
    raw = {
        "deep": damage.nested(100_000),
        "digits": '{"version": ' + "9" * 10_000 + "}",
        "empty": "",
        "null": "null",
        "half": '{"version": "0.1',
        "text": "\ufeffnot json",
        "array": "[1, 2]",
    }
    lines = [line for own in READERS.values() for line in own]
    lines += [
        *TRACE_READERS,
        "prompts {f}",
        "fit {f} --observable ger",
        "certify {f}",
        "audit {f}",
        "claims {f}",
    ]
    for line in lines:
        for text in raw.values():
            yield _case("files: no JSON", line, good, "x.json", _text("x.json", text), "refused")
        yield _case("files: no JSON", line, good, "x.json", _bytes("x.json", b"\xff\xfe\x00\x80"), "refused")
        yield _case(
            "files: no file", line, good, "fifo", lambda folder: os.mkfifo(folder / "fifo"), "refused"
        )
        yield _case("files: no file", line, good, "x", _linked("x", "x"), "refused")
        yield _case("files: no file", line, good, "x", lambda folder: (folder / "x").mkdir(), "refused")


def _text(name: str, text: str) -> Prepare:
    return lambda folder: (folder / name).write_text(text, "utf-8") and None


def _bytes(name: str, data: bytes) -> Prepare:
    return lambda folder: (folder / name).write_bytes(data) and None


def _linked(name: str, target: str) -> Prepare:
    return lambda folder: (folder / name).symlink_to(target)


#: Changes of a trace's arrays and header that must be refused by all who read what was changed.
def _trace_changes() -> dict[str, Callable[[dict[str, Any], Any], None]]:
    def put(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any], Any], None]:
        def made(arrays: dict[str, Any], header: Any) -> None:
            arrays[f"0/{name}"] = change(arrays[f"0/{name}"].copy())

        return made

    def at(value: Any) -> Callable[[Any], Any]:
        def made(array: Any) -> Any:
            array.flat[len(array.flat) // 2] = value
            return array

        return made

    def told(name: str, value: Any) -> Callable[[dict[str, Any], Any], None]:
        def made(arrays: dict[str, Any], header: Any) -> None:
            header["traces"][0][name] = value

        return made

    scores = "scores/expected_attention"
    changes = {
        f"{scores} NaN": put(scores, at(np.nan)),
        f"{scores} complex": put(scores, lambda a: a.astype(complex)),
        f"{scores} text": put(scores, lambda a: a.astype(str)),
        f"{scores} bytes": put(scores, lambda a: a.astype("S8")),
        f"{scores} shape": put(scores, lambda a: a[..., :-1]),
        f"{scores} whole": put(scores, lambda a: a.astype(int)),
        "answer out of range": put("answer", at(10**6)),
        "answer negative": put("answer", at(-1)),
        "evidence float": put("evidence", lambda a: a + 0.5),
        "offsets negative": put("offsets", at(-5)),
        "offsets too far": put("offsets", at(10**7)),
        "token_ids text": put("token_ids", lambda a: a.astype(str)),
        "token_ids short": put("token_ids", lambda a: a[:-1]),
        "kept_mass NaN": put("kept_mass", at(np.nan)),
        "sink_mass two": put("sink_mass", at(2)),
        "entropy infinite": put("entropy", at(np.inf)),
        "heads fraction": told("n_heads", 2.5),
        "heads missing": told("n_heads", None),
        "layers text": told("n_layers", "4"),
        "heads that do not divide": told("n_query_heads", 3),
        "layers negative": told("n_layers", -4),
        "context huge": told("n_context", 10**18),
        "scorers null": told("scorers", None),
        "sinks fraction": told("scorers", {"expected_attention": {"n_sink": 0.5}}),
        "windows": told("windows", [3]),
        "id number": told("id", 7),
        "scores list": told("scores", "expected_attention"),
        "scores missing": told("scores", ["nothing"]),
    }
    return changes


def _later_changes() -> dict[str, Callable[[dict[str, Any], Any], None]]:
    """Changes of what is read later: commands that follow routes must refuse them."""

    def put(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any], Any], None]:
        def made(arrays: dict[str, Any], header: Any) -> None:
            arrays[f"0/{name}"] = change(arrays[f"0/{name}"].copy())

        return made

    def middle(value: Any) -> Callable[[Any], Any]:
        def made(array: Any) -> Any:
            array.flat[len(array.flat) // 2] = value
            return array

        return made

    return {
        "slot far out": put("graph/slot", middle(2**31 - 1)),
        "slot negative": put("graph/slot", middle(-(2**31))),
        "slot float": put("graph/slot", lambda a: a.astype(float)),
        "indptr falls": put("graph/indptr", middle(0)),
        "indptr too far": put("graph/indptr", lambda a: a * 1000),
        "indptr short": put("graph/indptr", lambda a: a[:-1]),
        "weight NaN": put("graph/weight", middle(np.nan)),
        "weight negative": put("graph/weight", middle(-1)),
        "weight short": put("graph/weight", lambda a: a[:-1]),
        "weight complex": put("graph/weight", lambda a: a.astype(complex)),
        "tops out of range": put("tops", middle(10**6)),
        "tops negative": put("tops", middle(-7)),
        "attention NaN": put("attention", middle(np.nan)),
        "attention shape": put("attention", lambda a: a[:-1]),
    }


def _traces(good: Path) -> Iterator[Case]:
    source, name = good / "trace.npz", "x.npz"

    def changed(change: Callable[[dict[str, Any], Any], None]) -> Prepare:
        return lambda folder: damage.trace_with(source, folder / name, change)

    for change in _trace_changes().values():
        for line in TRACE_READERS[:4]:
            yield _case("files: trace", line, good, name, changed(change), "refused")
    for change in _later_changes().values():
        for line in (TRACE_READERS[0], TRACE_READERS[1]):
            yield _case("files: trace, what is read later", line, good, name, changed(change), "either")
    slot = _later_changes()["slot far out"]
    for line in (TRACE_READERS[1], TRACE_READERS[4]):
        yield _case("files: trace, what is read later", line, good, name, changed(slot), "refused")
    header = json.loads(damage.read_arrays(source)["header"].tobytes())
    header["traces"] = header["traces"][:1]
    for seed, line in enumerate(TRACE_READERS[:4]):
        for _, spoilt in damage.sample(header, 10 if line.startswith("compare") else 40, seed):

            def rewrite(arrays: dict[str, Any], old: Any, new: Any = spoilt) -> None:
                if isinstance(new, dict):
                    old.clear()
                    old.update(new)

            yield _case("files: trace header", line, good, name, changed(rewrite))
    for line in TRACE_READERS[:3]:
        for member in ("0/scores/expected_attention", "0/graph/slot", "header"):
            yield _case(
                "files: zip bombs",
                line,
                good,
                name,
                lambda folder, member=member: damage.bomb(source, folder / name, member, 2.5),
                "refused",
            )
        for shape in ((10**18,), (2**40, 2**40), (-1,), (4, 2, 10**9), (0,)):
            yield _case(
                "files: shapes that lie",
                line,
                good,
                name,
                lambda folder, shape=shape: damage.npy_lies(
                    source, folder / name, "0/scores/expected_attention", shape
                ),
                "refused",
            )
        for kind in ("|O", "<M8[s]", "|V8"):
            yield _case(
                "files: shapes that lie",
                line,
                good,
                name,
                lambda folder, kind=kind: damage.npy_lies(
                    source, folder / name, "0/scores/expected_attention", (4, 2, 81), kind
                ),
                "refused",
            )
        whole = source.read_bytes()
        for part in range(1, 8):
            yield _case(
                "files: cut off", line, good, name, _bytes(name, whole[: len(whole) * part // 8]), "refused"
            )
        draw = random.Random(0)
        for _ in range(12):
            flipped = bytearray(whole)
            flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            yield _case("files: flipped bits", line, good, name, _bytes(name, bytes(flipped)))


def _cells(good: Path, which: str, lines: tuple[str, ...]) -> Iterator[Case]:
    """Cells with one value replaced and the checksum that fits, and run.json with one value replaced."""
    first = min((good / which / "cells").glob("*.json"))
    cell, run = (json.loads(path.read_text()) for path in (first, good / which / "run.json"))

    def spoilt(name: str, document: Any) -> Prepare:
        def made(folder: Path) -> None:
            shutil.copytree(good / which, folder / which)
            damage.write(folder / which / name, document)

        return made

    for seed, line in enumerate(lines):
        for _, made in damage.sample(cell, 20, seed):
            prepare = spoilt(f"cells/{first.name}", damage.resealed(made))
            yield _case(f"files: {which}, a cell", line, good, which, prepare)
        for _, made in damage.sample(run, 20, seed):
            yield _case(f"files: {which}, run.json", line, good, which, spoilt("run.json", made))
        for text in (damage.nested(100_000), "", "null", "[]", '{"checksum": null}'):

            def broken(folder: Path, text: str = text) -> None:
                shutil.copytree(good / which, folder / which)
                (folder / which / "cells" / first.name).write_text(text)

            yield _case(f"files: {which}, a cell", line, good, which, broken, "refused")

        def missing(folder: Path) -> None:
            shutil.copytree(good / which, folder / which)
            shutil.rmtree(folder / which / "cells")

        if not line.startswith(("measure", "predict")):
            yield _case(f"files: {which}, a cell", line, good, which, missing, "refused")


def _skipped(good: Path) -> Iterator[Case]:
    """Damaged cells that are left out, or worked out again, because that was asked for."""
    lines = {
        "measured": (CELL_READERS[-1], *(line for line in CELL_READERS if line.startswith("certify"))),
        "predicted": PREDICTED_READERS[1:],
        "cut": CUT_READERS[-1:],
        "swept": SWEEP_READERS[2:],
    }
    for which, own in lines.items():
        first = min(path for path in (good / which / "cells").iterdir() if not path.name.startswith("."))
        whole = first.read_bytes()
        for line in own:
            for data in (b"", b"null", b"\xff\xfe", whole[: len(whole) // 2], b"{}", whole[::-1]):

                def broken(
                    folder: Path, which: str = which, name: str = first.name, data: bytes = data
                ) -> None:
                    shutil.copytree(good / which, folder / which)
                    (folder / which / "cells" / name).write_bytes(data)

                yield _case("files: skipped cells", f"{line} --skip-damaged", good, which, broken, "fine")


def _sweeps(good: Path) -> Iterator[Case]:
    first = min((good / "swept/cells").glob("*.npz"))

    def changed(change: Callable[[dict[str, Any], Any], None]) -> Prepare:
        def made(folder: Path) -> None:
            shutil.copytree(good / "swept", folder / "swept")
            damage.cell_of_sweep(first, folder / "swept/cells" / first.name, change)

        return made

    def put(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any], Any], None]:
        return lambda arrays, header: arrays.update({name: change(arrays[name])})

    def told(name: str, value: Any) -> Callable[[dict[str, Any], Any], None]:
        return lambda arrays, header: header.update({name: value})

    def chosen(name: str, value: Any) -> Callable[[dict[str, Any], Any], None]:
        return lambda arrays, header: header["parameters"].update({name: value})

    changes = [
        put("bins", lambda a: np.array([2**31])),
        put("bins", lambda a: np.array([1])),
        put("bins", lambda a: a.astype(float)),
        put("reach.gap", lambda a: a + 200),
        put("reach.count", lambda a: a * 100),
        put("reach.length", lambda a: a[:-1]),
        put("reach.length", lambda a: a * 50),
        put("last_model.gap", lambda a: a[:-1]),
        put("last_layer.count", lambda a: a.astype(str)),
        put("answer_reach", lambda a: a.astype(int) - 100),
        put("answer_reach", lambda a: a.astype(int) * 1000),
        put("answer_last_layer", lambda a: a[:, :1]),
        put("answer_last_model", lambda a: a.astype(complex)),
        told("seed", -1),
        told("seed", None),
        told("ratio", 7),
        told("ratio", "x"),
        told("replicates", 10**9),
        told("cell", 1),
        told("parameters", None),
        told("format_version", "1"),
        chosen("n_tokens", 10**12),
        chosen("n_heads", "2"),
        chosen("policy", "nothing"),
        chosen("settings", []),
        chosen("residual", "no"),
    ]
    for change in changes:
        for line in (*SWEEP_READERS, f"replay {{here}}/swept/cells/{first.name}"):
            yield _case("files: a sweep's cell", line, good, "swept", changed(change), "refused")
    run = json.loads((good / "swept/run.json").read_text())
    for seed, line in enumerate(SWEEP_READERS):
        for _, made in damage.sample(run, 12, seed):

            def spoilt(folder: Path, made: Any = made) -> None:
                shutil.copytree(good / "swept", folder / "swept")
                damage.write(folder / "swept/run.json", made)

            yield _case("files: a sweep's run.json", line, good, "swept", spoilt)


def _prompts(good: Path) -> Iterator[Case]:
    first = json.loads((good / "prompts.jsonl").read_text().splitlines()[0])
    lines = (
        "prompts {f}",
        "extract llama-tiny --prompts {f} --out {here}/x.npz",
        "measure llama-tiny --task {f} --policy topk --ratio .5 --out {here}/measured",
    )
    for seed, line in enumerate(lines):
        for _, made in damage.sample(first, 40, seed):
            yield _case("files: prompts", line, good, "x.jsonl", _text("x.jsonl", json.dumps(made) + "\n"))
        for change in (
            {"evidence": [[0, 10**9]]},
            {"evidence": [[5, 2]]},
            {"answer_spans": [[-3, 2]]},
            {"answer_spans": [[0.5, 2]]},
            {"answer_spans": [["0", "2"]]},
            {"context": "\x00\x1b[31m" * 50},
            {"id": "\x1b]0;x\x07\n$\\frac{$ [bold]", "task": "[red]\x9b31m"},
            {"id": "\udcff\ud800"},
            {"context": ""},
            {"context": "a b c d"},
            {"answer": ""},
            {"context": "word " * 100_000},
        ):
            text = json.dumps({**first, **change}) + "\n"
            yield _case("files: prompts", line, good, "x.jsonl", _text("x.jsonl", text))
        for text in (
            "",
            "\n\n",
            damage.nested(100_000),
            "null\n",
            "[]\n",
            "{}\n",
            '{"id": 1}\n',
            "NaN\n",
            "\x00",
        ):
            yield _case("files: prompts", line, good, "x.jsonl", _text("x.jsonl", text), "refused")


def _others(good: Path) -> Iterator[Case]:
    """Outputs that are inputs, files of Python that fail, addresses that can be none."""
    both = {
        "compare {f} --out {f}": "trace.npz",
        "compare {f} --plot {f}.svg --out {f}.svg": "trace.npz",
        "report {f} --out {f}": "trace.npz",
        "export {f} --to {f}": "simulated.json",
        "extract llama-tiny --prompts {f} --out {f}": "prompts.jsonl",
        "fit {f} --observable ger --out {f}/run.json": "swept",
        "claims {f} --out {f}/run.json": "measured",
        "certify {f} --out {f}/run.json": "measured",
    }
    for line, name in both.items():

        def copied(folder: Path, name: str = name) -> None:
            (shutil.copytree if (good / name).is_dir() else shutil.copy)(good / name, folder / name)

        yield _case("outputs that are inputs", line, good, name, copied, "refused")
    for text in (
        "raise ValueError('x')",
        "1/0",
        "import nothing",
        "def (",
        "import sys; sys.exit(0)",
        "\x00",
    ):
        for line in ("list --load {f}", "simulate --n-tokens 16 --replicates 1 --load {f}"):
            yield _case("files of Python", line, good, "x.py", _text("x.py", text), "refused")
    for address in (
        "tls://h:1",
        "tcp://",
        "tcp://h:99999999",
        "x",
        "http://h:1",
        ":1",
        "tcp://\x1b[31m:1",
        "",
    ):
        words = ["sweep", "--n-tokens", "16", "--out", "{here}/swept", "--dask", address]
        yield Case("addresses of schedulers", tuple(words), "refused")
    yield from _while_decoding(good)
    for device in ("meta", "cuda", "x", "", "cpu:99", "cuda:-1", "mps"):
        words = f"measure llama-tiny --task {good}/prompts.jsonl --ratio 0 --out {{here}}/m --device".split()
        yield Case("devices", (*words, device), "either" if device == "cpu:99" else "refused")
    for name, value in (("residual", "no"), ("n_tokens", "5.5"), ("policy_parameters", "3")):
        yield Case("settings", ("simulate", "--n-tokens", "16", "--set", f"{name}={value}"), "refused")
    for setting in (
        "window=nan",
        "window=-1",
        "window=1e400",
        "window=[[",
        "window=" + "(" * 500,
        "window=x",
    ):
        yield Case(
            "settings",
            ("simulate", "--n-tokens", "16", "--replicates", "1", "--ensemble", "window", "--set", setting),
            "refused",
        )
    twice = ("--ensemble", "window", "--set", "window=3", "--set", "window=4")
    yield Case("settings", ("simulate", "--n-tokens", "16", *twice), "refused")
    yield Case("settings", ("sweep", "--n-tokens", "16", "--out", "{here}/s", *twice), "refused")


def _while_decoding(good: Path) -> Iterator[Case]:
    """Cuts while a reply is decoded, workers and schedulers, with what does not go with them."""
    begin = f"measure llama-tiny --task {good}/prompts.jsonl --limit 1 --out {{here}}/m"
    for more in (
        "--decode-budget 0",
        "--decode-budget 8 --decode-budget 8.5",
        "--decode-budget 8 --ratio .5",
        "--decode-budget 8 --keep 5",
        "--decode-budget 8 --metrics",
        "--decode-budget 8 --decode-interval 0",
        "--decode-budget 8 --decode-interval -3",
        "--decode-budget 8 --decode-interval x",
        "--decode-interval 4",
        "--ratio 0 --ratio .5 --decode-interval 4",
        "--decode-budget 8 --policy nothing",
        "--ratio 0 --workers 1000000",
        "--ratio 0 --workers 2 --dask tcp://h",
        "--ratio 0 --dask tcp://127.0.0.1:1",
        "--ratio 0 --workers 0 --dask local",
    ):
        yield Case("while decoding, workers", tuple(f"{begin} {more}".split()), "refused")
    for line in (
        "diagram {good}/measured",
        "diagram {good}/measured {good}/measured",
        "diagram {good}/measured {good}/cut",
        "diagram {good}/few",
        "diagram {good}/measured {good}/swept",
        "diagram {good}/measured {good}/few --policy random",
        "diagram {good}/measured {good}/few --policy topk --bytes 0",
        "diagram {good}/measured {good}/few --policy topk --bytes 2",
        "diagram {good}/measured {good}/few --policy topk --noise {good}/simulated.json",
        "noise llama-tiny --task {good}/prompts.jsonl --limit 1 --bits 99",
        "noise llama-tiny --task {good}/prompts.jsonl --limit 1 --bits 4 --ratio 1",
        "noise llama-tiny --task {good}/prompts.jsonl --limit 1 --bits 4 --policy nothing",
    ):
        yield Case("diagram, noise", tuple(line.replace("{good}", str(good)).split()), "refused")

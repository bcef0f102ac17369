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


def case_of(kind: str, line: str, good: Path, name: str, prepare: Prepare, expect: str = "either") -> Case:
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


def _writes(name: str, document: Any) -> Prepare:
    return lambda folder: damage.write(folder / name, document)


def _documents(good: Path) -> Iterator[Case]:
    for name, lines in READERS.items():
        document = json.loads((good / name).read_text())
        for seed, line in enumerate(lines):
            expect = "any" if line.startswith("replay") else "either"
            for _, spoilt in damage.sample(document, 40, seed):
                yield case_of(f"files: {name}", line, good, name, _writes(name, spoilt), expect)
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
        yield case_of(
            "files: forged results", "replay {f}", good, "x.json", _writes("x.json", made), "differs"
        )
    for spoilt in (damage.replaced(said, ("results",), [{}]), damage.replaced(said, ("results",), [])):
        yield case_of(
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
            yield case_of("files: no JSON", line, good, "x.json", text_file("x.json", text), "refused")
        yield case_of(
            "files: no JSON", line, good, "x.json", bytes_file("x.json", b"\xff\xfe\x00\x80"), "refused"
        )
        yield case_of(
            "files: no file", line, good, "fifo", lambda folder: os.mkfifo(folder / "fifo"), "refused"
        )
        yield case_of("files: no file", line, good, "x", _linked("x", "x"), "refused")
        yield case_of("files: no file", line, good, "x", lambda folder: (folder / "x").mkdir(), "refused")


def text_file(name: str, text: str) -> Prepare:
    return lambda folder: (folder / name).write_text(text, "utf-8") and None


def bytes_file(name: str, data: bytes) -> Prepare:
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
            yield case_of("files: trace", line, good, name, changed(change), "refused")
    for change in _later_changes().values():
        for line in (TRACE_READERS[0], TRACE_READERS[1]):
            yield case_of("files: trace, what is read later", line, good, name, changed(change), "either")
    slot = _later_changes()["slot far out"]
    for line in (TRACE_READERS[1], TRACE_READERS[4]):
        yield case_of("files: trace, what is read later", line, good, name, changed(slot), "refused")
    header = json.loads(damage.read_arrays(source)["header"].tobytes())
    header["traces"] = header["traces"][:1]
    for seed, line in enumerate(TRACE_READERS[:4]):
        for _, spoilt in damage.sample(header, 10 if line.startswith("compare") else 40, seed):

            def rewrite(arrays: dict[str, Any], old: Any, new: Any = spoilt) -> None:
                if isinstance(new, dict):
                    old.clear()
                    old.update(new)

            yield case_of("files: trace header", line, good, name, changed(rewrite))
    for line in TRACE_READERS[:3]:
        for member in ("0/scores/expected_attention", "0/graph/slot", "header"):
            yield case_of(
                "files: zip bombs",
                line,
                good,
                name,
                lambda folder, member=member: damage.bomb(source, folder / name, member, 2.5),
                "refused",
            )
        for shape in ((10**18,), (2**40, 2**40), (-1,), (4, 2, 10**9), (0,)):
            yield case_of(
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
            yield case_of(
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
            yield case_of(
                "files: cut off",
                line,
                good,
                name,
                bytes_file(name, whole[: len(whole) * part // 8]),
                "refused",
            )
        draw = random.Random(0)
        for _ in range(12):
            flipped = bytearray(whole)
            flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            yield case_of("files: flipped bits", line, good, name, bytes_file(name, bytes(flipped)))


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
            yield case_of(f"files: {which}, a cell", line, good, which, prepare)
        for _, made in damage.sample(run, 20, seed):
            yield case_of(f"files: {which}, run.json", line, good, which, spoilt("run.json", made))
        for text in (damage.nested(100_000), "", "null", "[]", '{"checksum": null}'):

            def broken(folder: Path, text: str = text) -> None:
                shutil.copytree(good / which, folder / which)
                (folder / which / "cells" / first.name).write_text(text)

            yield case_of(f"files: {which}, a cell", line, good, which, broken, "refused")

        def missing(folder: Path) -> None:
            shutil.copytree(good / which, folder / which)
            shutil.rmtree(folder / which / "cells")

        if not line.startswith(("measure", "predict")):
            yield case_of(f"files: {which}, a cell", line, good, which, missing, "refused")


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

                yield case_of("files: skipped cells", f"{line} --skip-damaged", good, which, broken, "fine")


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
            yield case_of("files: a sweep's cell", line, good, "swept", changed(change), "refused")
    run = json.loads((good / "swept/run.json").read_text())
    for seed, line in enumerate(SWEEP_READERS):
        for _, made in damage.sample(run, 12, seed):

            def spoilt(folder: Path, made: Any = made) -> None:
                shutil.copytree(good / "swept", folder / "swept")
                damage.write(folder / "swept/run.json", made)

            yield case_of("files: a sweep's run.json", line, good, "swept", spoilt)


def _prompts(good: Path) -> Iterator[Case]:
    first = json.loads((good / "prompts.jsonl").read_text().splitlines()[0])
    lines = (
        "prompts {f}",
        "extract llama-tiny --prompts {f} --out {here}/x.npz",
        "measure llama-tiny --task {f} --policy topk --ratio .5 --out {here}/measured",
    )
    for seed, line in enumerate(lines):
        for _, made in damage.sample(first, 40, seed):
            yield case_of(
                "files: prompts", line, good, "x.jsonl", text_file("x.jsonl", json.dumps(made) + "\n")
            )
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
            yield case_of("files: prompts", line, good, "x.jsonl", text_file("x.jsonl", text))
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
            yield case_of("files: prompts", line, good, "x.jsonl", text_file("x.jsonl", text), "refused")

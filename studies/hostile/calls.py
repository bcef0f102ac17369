"""Calls that are wrong as a whole: outputs that are inputs, settings, addresses, devices, what does not go together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from studies.hostile.files import case_of, text_file
from studies.hostile.harness import Case


def cases(good: Path) -> Iterator[Case]:
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

        yield case_of("outputs that are inputs", line, good, name, copied, "refused")
    for text in (
        "raise ValueError('x')",
        "1/0",
        "import nothing",
        "def (",
        "import sys; sys.exit(0)",
        "\x00",
    ):
        for line in ("list --load {f}", "simulate --n-tokens 16 --replicates 1 --load {f}"):
            yield case_of("files of Python", line, good, "x.py", text_file("x.py", text), "refused")
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

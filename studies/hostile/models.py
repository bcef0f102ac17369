"""Folders of models that are spoilt: configs, tokenizers, weights, code that must not run."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from routegraph.validate.models.sources import MODELS
from studies.hostile import damage
from studies.hostile.files import case_of
from studies.hostile.harness import Case

LINES = (
    "extract {f} --prompts {good}/prompts.jsonl --limit 1 --out {here}/x.npz",
    "measure {f} --task {good}/prompts.jsonl --limit 1 --policy topk --ratio 0 --out {here}/m",
    "task words_forward --n 2 --length 80 --tokens-of {f} --out {here}/x.jsonl",
)
SOURCE = MODELS["llama-tiny"].folder
WEIGHTS = "model.safetensors"
#: Python that must not run; that it has shows in the file that the case's folder then holds.
CODE = "open('ran.tmp', 'w')\n"


def _copied(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        model = folder / "model"
        model.mkdir()
        for name in (
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            WEIGHTS,
        ):
            shutil.copy(SOURCE / name, model / name)
        change(model)

    return made


def cases(good: Path) -> Iterator[Case]:
    """Yield all of them."""

    def case(
        change: Callable[[Path], object], expect: str, lines: tuple[str, ...] = LINES[:2]
    ) -> Iterator[Case]:
        for line in lines:
            yield case_of("files: models", line, good, "model", _copied(change), expect)

    def writes(file: str, text: str) -> Callable[[Path], object]:
        return lambda model: (model / file).write_text(text)

    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        for text in ("null", "[]", "3", '"x"', "", damage.nested(100_000)):
            yield from case(writes(file, text), "refused", LINES if file.startswith("tok") else LINES[:2])
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads"):
        for value in (None, -1, 10**18, 10**6, "4", 0.5, []):
            yield from case(_with("config.json", name, value), "refused", LINES[:1])
    for file in ("config.json", "tokenizer_config.json", "tokenizer.json", "generation_config.json"):
        document = json.loads((SOURCE / file).read_text())
        for seed, line in enumerate(LINES[:2]):
            for _, spoilt in damage.sample(document, 40, seed):
                yield from case(writes(file, json.dumps(spoilt)), "either", (line,))
    yield from _weights(case)
    mapped = {"AutoConfig": "mine.X", "AutoModelForCausalLM": "mine.X", "AutoTokenizer": ["mine.X", "mine.X"]}
    for file in ("config.json", "tokenizer_config.json"):
        yield from case(_coded(file, "auto_map", mapped), "either", LINES)
    yield from case(_coded("config.json", "model_type", "mine"), "refused", LINES[:2])


def _with(file: str, name: str, value: Any) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        damage.write(model / file, {**json.loads((model / file).read_text()), name: value})

    return change


def _coded(file: str, name: str, value: Any) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        (model / "mine.py").write_text(CODE)
        _with(file, name, value)(model)
        if name != "auto_map":
            _with(file, "auto_map", {"AutoConfig": "mine.X"})(model)

    return change


class _Trap:
    def __reduce__(self) -> Any:
        return open, ("ran.tmp", "w")


def _weights(case: Callable[..., Iterator[Case]]) -> Iterator[Case]:
    whole = (SOURCE / WEIGHTS).read_bytes()

    def pickled(name: str) -> Callable[[Path], object]:
        def change(model: Path) -> None:
            (model / WEIGHTS).unlink()
            (model / name).write_bytes(pickle.dumps(_Trap()))

        return change

    for name in ("pytorch_model.bin", "model.pt", "consolidated.pth"):
        yield from case(pickled(name), "refused")

    def indexed(model: Path) -> None:
        pickled("x.bin")(model)
        index = {"metadata": {}, "weight_map": {"model.norm.weight": "x.bin"}}
        (model / f"{WEIGHTS}.index.json").write_text(json.dumps(index))

    yield from case(indexed, "refused")
    spoilt = {f"cut at {part}": whole[: len(whole) * part // 8] for part in (0, 1, 4, 7)}
    header = int.from_bytes(whole[:8], "little")
    spoilt["header claims much"] = (2**62).to_bytes(8, "little") + whole[8:]
    spoilt["header of other words"] = whole[:8] + b"x" * header + whole[8 + header :]
    for data in spoilt.values():
        yield from case(lambda model, data=data: (model / WEIGHTS).write_bytes(data), "refused", LINES[:1])
    draw = random.Random(0)
    for _ in range(10):
        flipped = bytearray(whole)
        flipped[draw.randrange(8 + header)] ^= 1 << draw.randrange(8)
        data = bytes(flipped)
        yield from case(lambda model, data=data: (model / WEIGHTS).write_bytes(data), "either", LINES[:1])

"""Hostile values for every option of every command, found by looking at the command line itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from studies.hostile.harness import Case

#: What is given to options that take a whole number, a number, a word, a file to write, a file to read.
WHOLE = ("-1", "1.5", "nan", "x", "", "1e3", "1000000000000000000", "1" + "0" * 30)
REAL = ("nan", "inf", "-inf", "x", "", "-1", "1e400")
WORD = (
    "nonsense",
    "",
    "\x1b[31mred\x1b[0m",
    "[bold]x[/nothing]",
    "x" * 5000,
    "\udcff",
    "$\\frac{$",
    "two\nlines",
)
WRITTEN = ("", "missing/x", ".", "x" * 5000, "\udcff/x", "\udcff", "{good}/trace.npz/x")
READ = ("", "missing", "/dev/null", "x" * 5000, "\udcff", "a\x1b[31m", "{good}")

#: Values that are meant to be taken: (option, value); a command's name before it where only it takes it.
FINE = {
    ("seed", "1000000000000000000"), ("seed", "1" + "0" * 30),
    ("limit", "1000000000000000000"), ("limit", "1" + "0" * 30),
    ("answer-shift", "-1"),
    ("zeta-over-nu", "-1"),
    ("together", ""),
}  # fmt: skip
#: Options that are refused, or taken, for what stands beside them in `BASE`.
ELSEWHERE = {
    ("certify", "limit"),
    ("certify", "threads"),
    ("certify", "grader"),
    ("export", "limit"),
    ("inspect", "limit"),
    ("probe", "seed"),
    ("probe", "limit"),
}
#: What `model train` takes, and trains with: longer than a case may take.
TRAINS = {("out", "."), ("out", "missing/x"), *(("seed", value) for value in WHOLE[-2:])}
#: Commands that write into a folder, which may be the one where they run.
FOLDERS = ("sweep", "predict", "measure")
#: Options of free text, which take anything.
FREE = {"system", "ask", "stop", "prompt"}

#: A call of each command that works, and takes little time.
BASE: dict[str, str] = {
    "simulate": "--n-tokens 16 --n-layers 2 --n-heads 2 --replicates 2",
    "decode": "--n-prefill 8 --steps 8 --budget 8 --n-layers 2 --n-heads 2 --replicates 2",
    "sweep": "--n-tokens 16 --n-layers 2 --n-heads 2 --replicates 2 --out {here}/swept",
    "fit": "{good}/swept --observable reach_fraction --resamples 10",
    "task": "words_forward --n 2 --length 80 --out {here}/x.jsonl",
    "prompts": "{good}/prompts.jsonl",
    "predict": "llama-tiny --task {good}/prompts.jsonl --limit 1 --policy topk --out {here}/predicted",
    "measure": "llama-tiny --task {good}/prompts.jsonl --limit 1 --policy topk --ratio 0 --out {here}/measured",
    "noise": "llama-tiny --task {good}/prompts.jsonl --limit 1 --bits 4 --ratio .5",
    "diagram": "{good}/measured {good}/few --policy topk",
    "certify": "{good}/measured",
    "audit": "{good}/measured",
    "extract": "llama-tiny --prompts {good}/prompts.jsonl --limit 1 --out {here}/x.npz",
    "inspect": "{good}/trace.npz",
    "compare": "{good}/trace.npz --ratio 0 --ratio .5 --ratio .8 --ratio .9 --policy topk",
    "report": "{good}/trace.npz --out {here}/x.html",
    "claims": "{good}/measured",
    "probe": "llama-tiny --task words_forward --n 4 --policy topk --ratio 0",
    "list": "",
    "export": "{good}/simulated.json --to {here}/x.csv",
    "replay": "{good}/simulated.json",
    "model list": "",
    "model get": "llama-tiny",
    "model train": "llama-tiny --out {here}/trained --minutes .01",
}


def commands() -> Iterator[tuple[str, Sequence[object]]]:
    """Yield the name of every command with the parameters that it takes."""
    import typer

    from routegraph.cli.main import app

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", one.params) for inner, one in command.commands.items())
        else:
            yield name, command.params


def cases(good: Path) -> Iterator[Case]:
    """Yield a case for every option of every command and every hostile value of its kind."""
    for name, parameters in commands():
        base = BASE[name].replace("{good}", str(good)).split()
        yield Case("options: unknown", (*name.split(), *base, "--nonsense"))
        for one in parameters:
            kind, values = _values(one)
            for value in values:
                value = value.replace("{good}", str(good))
                expect = _expected(name, one, value, kind)
                if expect:
                    yield Case(f"options: {kind}", (*name.split(), *_with(base, one, value)), expect)


def _values(one: object) -> tuple[str, Sequence[str]]:
    metavar, kind = (getattr(one, "metavar", None) or ""), type(one).__name__
    if getattr(one, "is_flag", False):
        return "switch", ("x", "")
    if "Argument" in kind:
        return ("word", WORD) if getattr(one, "name", "") == "name" else ("file to read", READ)
    name = one.name  # type: ignore[attr-defined]
    if metavar in ("N", "STEP") and name not in ("bits",):
        return "whole number", WHOLE
    if metavar in ("X", "RATIO", "RHO", "SHARE"):
        return "number", REAL
    if name in ("out", "plot", "to", "html", "into"):
        return "file to write", WRITTEN
    if metavar in ("FILE", "DIR", "FILE.py", "CELLS", "FILE.py:CLASS") or name in (
        "press",
        "task",
        "prompts",
        "tokens_of",
        "model",
    ):
        return "file to read", READ
    return "word", WORD


def _expected(command: str, one: object, value: str, kind: str) -> str:
    flag = _flag(one)
    if kind == "switch":
        return "refused" if flag not in ("help", "version") else ""
    if command == "model train" and (flag, value) in TRAINS:
        return ""
    if (command, flag) in ELSEWHERE:
        return "either"
    if (flag, value) in FINE:
        return "fine"
    if value == "\udcff" and kind == "file to write" and command != "model train":
        return "either"
    if value == "." and flag == "out" and command in FOLDERS:
        return "either"
    if flag in FREE or ("Argument" in type(one).__name__ and command == "list"):
        return "either"
    return "refused"


def _flag(one: object) -> str:
    names = [name for name in getattr(one, "opts", []) if name.startswith("--")]
    return str(names[-1]).lstrip("-") if names else ""


def _with(base: Sequence[str], one: object, value: str) -> list[str]:
    """Return the arguments of a call with one of them replaced or added."""
    made, flag = list(base), f"--{_flag(one)}"
    if "Argument" in type(one).__name__:
        return [value, *made[1:]] if made and not made[0].startswith("--") else [value, *made]
    opts = [name for name in getattr(one, "opts", []) if name in made]
    while opts:
        at = made.index(opts[0])
        del made[at : at + 2]
        opts = [name for name in opts if name in made]
    return [*made, f"{flag}={value}"]

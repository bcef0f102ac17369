"""Run what the pages of docs/ show, in order, and compare it with the output that they show.

    python -m studies.check_docs [--write] [PAGE.md ...]

A ```python block is run, in one namespace a page; one with a title is written to a file of that name instead. A
```sh block is run by bash. Both run in a folder of their own, and a ```text block right after one is what it must
print (a line `...` stands for any lines). `<!-- not run -->` before a block leaves it out. With --write a block that
prints something else is shown with what it prints.
"""

import contextlib
import fnmatch
import io
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from studies.pages import DOCS

BLOCK = re.compile(
    r"(?P<skip><!-- not run -->\s*)?^```(?P<kind>python|sh)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```\n"
    r"(?:\s*^```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def matches(shown, printed):
    """Tell whether the printed lines are the shown ones."""
    ours, theirs = ([line.rstrip() for line in text.strip("\n").splitlines()] for text in (shown, printed))
    parts = [[]]
    for line in ours:
        if line == "...":
            parts.append([])
        else:
            parts[-1].append(line)
    if len(parts) == 1:
        return ours == theirs
    at = 0
    for number, part in enumerate(parts):
        starts = range(at, len(theirs) - len(part) + 1)
        if number == 0:
            starts = starts[:1]
        if number == len(parts) - 1:
            starts = range(len(theirs) - len(part), len(theirs) - len(part) + 1) if starts else starts
        found = next((start for start in starts if theirs[start : start + len(part)] == part), None)
        if found is None or found < at:
            return False
        at = found + len(part)
    return True


def trimmed(printed):
    """Return output without white space at the ends of lines."""
    return "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")


def run_python(code, namespace):
    """Run code and return what it printed; its last line, where it is an expression, is shown by print()."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<page>", "exec"), namespace)
    return printed.getvalue()


def run_shell(code):
    """Run code in bash and return its standard output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "MPLBACKEND": "Agg"}
    done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(page, write):
    """Run one page; return how many of its blocks failed."""
    failed, parts, last = 0, [], 0
    namespace = {"__name__": "__page__"}
    text = page.read_text()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.path.insert(0, folder)
        for block in BLOCK.finditer(text):
            kind, title, code, shown = block["kind"], block["title"], block["code"], block["shown"]
            where = f"{page.name}:{text[: block.start('code')].count(chr(10)) + 1}"
            if block["skip"]:
                continue
            if title:
                Path(title).write_text(code)
                continue
            start = time.perf_counter()
            try:
                printed = run_python(code, namespace) if kind == "python" else run_shell(code)
            except Exception:
                failed += 1
                print(f"FAILED {where}\n{traceback.format_exc(limit=-1)}")
                continue
            if not matches(shown or "", printed) and (shown is not None or write):
                failed += not write
                print(f"DIFFERS {where}; it prints\n{printed}")
                fence = text[block.start() : block.end("code")] + "```\n"
                parts += [text[last : block.start()], fence, f"\n```text\n{trimmed(printed)}\n```\n"]
                last = block.end()
            else:
                print(f"ok {where} {time.perf_counter() - start:.1f} s")
    if write and parts:
        page.write_text("".join([*parts, text[last:]]))
    return failed


def main(arguments):
    names = [name for name in arguments if name != "--write"]
    write = "--write" in arguments
    for name in names:
        if not Path(name).is_file():
            sys.exit(f"no page {name!r}")
    if len(names) == 1:
        return check(Path(names[0]).resolve(), write)
    pages = [Path(name) for name in names] or [
        page
        for page in sorted(DOCS.rglob("*.md"))
        if BLOCK.search(page.read_text()) and not fnmatch.fnmatch(page.name, "theory*")
    ]
    # Each in a process of its own, for what a page registers stays.
    return sum(
        subprocess.run(
            [sys.executable, "-m", "studies.check_docs", *["--write"] * write, str(page)], check=False
        ).returncode
        for page in pages
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the site takes from elsewhere in the repository when it is built, so that no copy is kept by hand.

Pages that lie outside docs/ become pages of the site; links between files, written as they work in the
repository, become links between pages; and the page of the command line is filled in from the commands.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

#: Files outside docs/ (or globs of them) that are pages, or pictures on them: file in the repository -> in the site.
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "papers/*/README.md": None,
    "papers/*/rules.md": None,
    "papers/*/tiny.md": None,
    "papers/*/*.svg": None,
    "benchmarks/results/results.md": None,
    "benchmarks/results/speed.svg": None,
}

#: A Markdown link or picture: its text, and its target without the anchor.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s#]+)(#[^()\s]*)?\)")
#: What help adds to the sentence of an option.
EXTRA = re.compile(r"\s*\[((?:default: |required)[^\]]*\]?)\]$")
NEEDED = "**needed**"
#: Where a page of the API names its modules; `package.*` are all modules of a package, REST what no page names.
MODULES = re.compile(r"<!-- modules: (.*?) -->")
REST = "those that no other page names"
#: What the API leaves out: kernels take arrays and check nothing, faces have a page of their own.
UNLISTED = ("routegraph.kernels", "routegraph.cli", "routegraph.__main__", "routegraph._version")
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
INTERVAL = re.compile(r"[\d.] (\[|± ?)[-+.\d?]+(, [-+.\d?]+)?")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def _outside() -> dict[str, str]:
    """Return the files outside docs/ that the site has: path in the repository -> path in the site."""
    found = {}
    for pattern, target in OUTSIDE.items():
        for path in sorted(ROOT.glob(pattern)):
            source = path.relative_to(ROOT).as_posix()
            found[source] = target or source.replace("/README.md", ".md")
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that lie outside docs/."""
    for source, target in _outside().items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages, and fill in the commands."""
    if page.file.src_uri == "command-line.md":
        markdown = markdown.replace("<!-- commands -->", commands())
    markdown = MODULES.sub(lambda match: "\n\n".join(f"::: {one}" for one in _modules(match[1])), markdown)
    outside = _outside()
    back = {target: source for source, target in outside.items()}
    here = back.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def linked(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        inside = outside.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is not None:
            start = posixpath.dirname(page.file.src_uri) or "."
            return f"{picture}[{text}]({posixpath.relpath(inside, start)}{anchor or ''})"
        if (ROOT / path).exists():  # part of the repository, not of the site: name it
            return f"`{path}`" if path.endswith(text.strip("`")) else f"{text} (`{path}`)"
        return match[0]  # wrong: the build says so

    parts, last = [], 0
    for code in FENCE.finditer(markdown):
        parts += [LINK.sub(linked, markdown[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*parts, LINK.sub(linked, markdown[last:])])


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep a figure and its interval on one line of a table."""

    def together(match: re.Match[str]) -> str:
        return INTERVAL.sub(lambda found: found[0].replace(" ", "&nbsp;"), match[0])

    return CELL.sub(together, html)


def _all_modules() -> list[str]:
    """Return every module with documentation of its own, in the order of the alphabet."""
    found = []
    for path in sorted((ROOT / "routegraph").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name != "__init__.py" and not name.startswith(UNLISTED):
            found.append(name)
    return found


def _named() -> set[str]:
    """Return the modules that some page of the API names."""
    pages = [page.read_text() for page in (ROOT / "docs/api").glob("*.md")]
    return {
        one for page in pages for names in MODULES.findall(page) if names != REST for one in _modules(names)
    }


def _modules(names: str) -> list[str]:
    """Return the modules that a page names, those of `package.*` or the rest in the order of the alphabet."""
    if names == REST:
        named = _named()
        return [name for name in _all_modules() if name not in named]
    found = []
    for name in names.split():
        package, star = name.removesuffix(".*"), name.endswith(".*")
        folder = ROOT.joinpath(*package.split("."))
        inside = (path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")
        found += [f"{package}.{path.stem}" for path in inside] if star else [name]
    return list(dict.fromkeys(found))  # one that is named before its package comes first


def commands() -> str:
    """Return every command with its usage, what it does and a table of its options, as Markdown."""
    from routegraph.cli.main import app

    root = typer.main.get_command(app)
    return "\n\n".join(_commands(root, typer.Context(root, info_name="routegraph")))


def _commands(command: Any, context: typer.Context) -> list[str]:
    """Return a command, or those of a group, each with a heading of its own."""
    if hasattr(command, "commands"):
        parts = []
        for name, one in command.commands.items():
            parts += _commands(one, typer.Context(one, info_name=name, parent=context))
        return parts
    records = [record for one in command.params if (record := one.get_help_record(context))]
    parameters = [_parameter(*record) for record in records]
    needed = [name for name, _, default in parameters if default == NEEDED]
    usage = " ".join([context.command_path, *needed, "[OPTIONS]"])
    lines = [f"## {context.command_path}", "", _sentence(command.help or ""), "", "```text", usage, "```", ""]
    lines += ["| argument or option | what it is | default |", "| --- | --- | --- |"]
    for name, told, default in parameters:
        names = " / ".join(f"`{one}`" for one in name.split(" / "))
        lines.append(f"| {names} | {_cell(told)} | {default} |")
    return ["\n".join(lines)]


def _parameter(spelled: str, told: str) -> tuple[str, str, str]:
    """Return the name of an argument or option, its sentence, and its default."""
    if not spelled.startswith("-"):
        spelled = spelled.partition(" <")[0]  # an argument: the type says nothing that its name does not
    extra = EXTRA.search(told)
    default = ""
    for part in extra[1].split("; ") if extra else ():
        if part == "required":
            default = NEEDED
        elif part.startswith("default: "):
            default = f"`{part.removeprefix('default: ')}`"
    return spelled, told[: extra.start()] if extra else told, default


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _sentence(text).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":  # what the page of the command line would say
    os.environ.setdefault("COLUMNS", "200")
    print(commands())

"""The files that the pages on extending show are loaded as they stand there; the commands follow by name."""

import re
from pathlib import Path

import pytest

from routegraph import plugins
from routegraph.cli.main import COMMANDS
from routegraph.testing import check_laws

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python title=\"(?P<title>[^\"]+)\"\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(routegraph .*)$", re.MULTILINE)
FILES = [
    pytest.param(match["code"], id=f"{page.stem}-{match['title']}")
    for page in sorted((ROOT / "docs" / "extend").glob("*.md"))
    for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
    if not match["title"].startswith("make_")
]


@pytest.mark.parametrize("code", FILES)
def test_what_a_page_shows_registers(code, restored, tmp_path):
    path = tmp_path / "shown.py"
    path.write_text(code)
    registered = plugins.load(path)
    assert registered
    for kind, _, name in (one.rpartition(" ") for one in registered):
        registry = restored[kind]
        assert registry.origin(name) == str(path)
        assert registry.summary(name), "a line for `routegraph list`"
        if kind in ("policy", "decoding policy", "ensemble"):
            check_laws(name, examples=5)


def test_there_are_such_pages():
    assert len(FILES) >= 7


def test_commands_that_pages_name_are_commands():
    known = {*COMMANDS, "model", "COMMAND"}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = set()
    for page in pages:
        text = page.read_text("utf-8")
        shown = "\n".join([*re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S), *INDENTED.findall(text)])
        named |= {(page.name, name) for name in re.findall(r"^routegraph ([a-z]+)\b", shown, re.M)}
    assert {name for _, name in named} >= {"simulate", "sweep", "fit", "measure", "compare"}
    assert not {(page, name) for page, name in named if name not in known}


def test_every_image_says_what_it_shows():
    """In Markdown and in HTML; words, not a file's name."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "papers").rglob("*.md")]
    pages += [*(ROOT / "benchmarks").rglob("*.md"), *(ROOT / "examples").rglob("*.py")]
    shown = {
        (page.name, words, target)
        for page in pages
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]*)", page.read_text("utf-8"))
    }
    assert len(shown) > 20
    assert not {one for one in shown if len(one[1].split()) < 4}
    tags = [
        (page.name, tag) for page in pages for tag in re.findall(r"<img\b[^>]*>", page.read_text("utf-8"))
    ]
    assert not [one for one in tags if not re.search(r"alt=\"[^\"]{12,}\"", one[1])]

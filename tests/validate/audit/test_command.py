"""The command `audit`: its page and documents, and what it refuses before anything is written."""

import html.parser
import json
import re
import shutil
import sys

import pytest

from routegraph.validate.audit.run import audit
from tests.helpers.commands import run
from tests.helpers.results_folders import clean, kvpress_run, rows_of


class Tags(html.parser.HTMLParser):
    """What a page holds: elements with their attributes, and whether tables lie in a box that scrolls."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.boxed = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.boxed.append(any(dict(held).get("class") == "box" for _, held in self.open))
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "path", "use"):
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass


def test_page_document_and_tables_say_the_same(capsys, tmp_path):
    folder = clean(tmp_path / "results")
    files = ["--html", tmp_path / "a.html", "--out", tmp_path / "a.json"]
    status, out, error = run(capsys, "audit", folder, "--json", *files)
    assert status == 0
    told = json.loads(out)
    assert told == json.loads((tmp_path / "a.json").read_text())
    assert error.count("wrote") == 2
    page = (tmp_path / "a.html").read_text()
    assert page.index(told["answer"].partition(";")[0]) < page.index("<figure>") < page.index("<table>")
    tags = Tags()
    tags.feed(page)
    assert tags.boxed == [True] * 3
    image = next(held for _, held in tags.found if held.get("role") == "img")
    assert image["aria-label"].startswith("Share of right answers against the compression ratio")
    assert not re.search(r"(?:src|href)=[\"']?https?:", page)
    status, out, _ = run(capsys, "audit", folder)
    assert status == 0
    assert " ".join(out.split()).startswith(told["answer"])
    assert max(map(len, out.splitlines())) <= 80


def test_the_page_does_not_obey_files(capsys, tmp_path):
    for press, ratio, wrong in (("no_press", 0.0, {0}), ("tova", 0.5, {0, 1})):
        rows = rows_of(wrong, 60, ratio)
        for row in rows[:3]:
            row["task"] = "<script>alert(1)</script>\x1b[2J"
        (kvpress_run(tmp_path / "<i>r", press, ratio, rows) / "metrics.json").unlink()
    status, out, _ = run(capsys, "audit", tmp_path / "<i>r", "--html", tmp_path / "a.html")
    assert status == 0
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + out


def test_a_folder_without_right_answers_compares_texts(tmp_path):
    for ratio, press in ((0.0, "no_press"), (0.5, "tova")):
        rows = [{**row, "answer": ""} for row in rows_of(set(range(int(20 * ratio))), 60, ratio)]
        folder = kvpress_run(tmp_path, press, ratio, rows)
        (folder / "metrics.json").unlink()
    found = audit(tmp_path)
    assert found.answer.startswith("No run could be judged")
    assert (found.whole[0].judged, found.whole[0].n, found.whole[0].unchanged) == (0, 60, 50)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "not judged" in found.page(whole=True).to_text(200)


def broken(file, content):
    def plant(root):
        path = next(root.glob("*snapkv__0.25")) / file
        path.write_bytes(content)

    return plant


def rename(root):
    folder = next(root.glob("*snapkv__0.25"))
    (folder / "config.yaml").unlink()
    folder.rename(root / "something")


def only(pattern):
    def plant(root):
        for folder in list(root.iterdir()):
            if not folder.match(pattern):
                shutil.rmtree(folder)

    return plant


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (
            broken("predictions.csv", b'question,predicted_answer\n"a,b\n'),
            "predictions.csv' is damaged: no CSV",
        ),
        (
            broken("predictions.csv", b"question,predicted_answer\na\n"),
            "row 2 has 1 fields, and the header 2",
        ),
        (broken("predictions.csv", b"question,answer\na,b\n"), "has no column 'predicted_answer'"),
        (broken("predictions.csv", b"question,predicted_answer\n"), "holds no row of replies"),
        (broken("predictions.csv", b"a,a\n1,2\n"), "a column stands twice"),
        (broken("predictions.csv", b"\xff\xfe\x00"), "is damaged: no UTF-8 text (byte 0)"),
        (broken("metrics.json", b"{"), "metrics.json' is damaged: no JSON"),
        (broken("metrics.json", b"[1]"), "metrics.json' is damaged: it holds no score"),
        (broken("config.yaml", b"a: [1"), "config.yaml' is damaged: no YAML"),
        (broken("config.yaml", b"- 1"), "config.yaml' is damaged: it holds no settings"),
        (rename, "cannot tell which data set, model, press and ratio"),
        (only("*no_press*"), "only uncompressed runs are there"),
        (only("*snapkv*"), "there is no uncompressed run of ruler (4096)"),
        (
            only("nothing"),
            "holds no run that can be audited; give folders DATASET__DATADIR__MODEL__PRESS__RATIO",
        ),
    ],
)
def test_bad_folders_are_refused_in_one_line(capsys, tmp_path, plant, says):
    root = clean(tmp_path / "results")
    plant(root)
    status, out, error = run(
        capsys, "audit", root, "--html", tmp_path / "a.html", "--out", tmp_path / "a.json"
    )
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert says in error
    assert not list(tmp_path.glob("a.*"))


def test_bad_options_are_refused_in_one_line(capsys, tmp_path):
    root = clean(tmp_path / "results")
    for more, says in [
        ((tmp_path / "none",), "there is no such folder"),
        ((next(root.iterdir()) / "config.yaml",), "it is a file"),
        ((root, "--risk", "1"), "risk must be in (0, 1), got 1.0"),
        ((root, "--confidence", "0"), "confidence must be in (0, 1), got 0.0"),
        ((root, "--html", tmp_path / "none" / "a.html"), "does not exist"),
        ((root, "--out", tmp_path), "it is a folder"),
    ]:
        status, out, error = run(capsys, "audit", *more)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert says in error


def test_a_configuration_with_objects_is_not_read(tmp_path):
    root = clean(tmp_path)
    path = next(root.glob("*snapkv__0.25")) / "config.yaml"
    path.write_text(path.read_text() + "model_kwargs: !!python/object/apply:os.system ['false']\n")
    found = audit(root)
    assert [one.kind for one in found.findings] == ["unchecked"]
    assert "config.yaml holds objects, which are not read" in found.findings[0].text


def test_without_a_reader_of_yaml_names_are_not_checked(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "yaml", None)
    found = audit(clean(tmp_path))
    assert [one.kind for one in found.findings] == ["unchecked"]
    assert "PyYAML is not installed" in found.findings[0].text

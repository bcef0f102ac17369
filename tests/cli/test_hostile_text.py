"""Ids, tasks and names of models that would steer a terminal, a page or a figure are shown, and steer nothing."""

import json
import shutil
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.dom import minidom

import routegraph.validate.models
from routegraph import plot
from routegraph.validate.probe.result import Probed
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run

#: Markup of rich and of pages, a formula that is none, a terminal's red, ends of lines, writing backwards.
HOSTILE = '[bold]x[/nope] $\\frac{$ <script>&" \x1b[31m\r\n\x07 \x00 \u202e:smile: ' + "y" * 100
DATA = Path(__file__).parents[1] / "data" / "v0.1"
SHIPPED = Path(routegraph.validate.models.__file__).parent / "shipped" / "llama-tiny"


def check(name, where, status, out, err):
    assert status == 0, f"{name}: {err}"
    for line in (out + err).split("\n"):
        steering = [one for one in line if unicodedata.category(one) in {"Cc", "Cf", "Cs"}]
        assert not steering, f"{name}: {line!r}"
    for path in where.glob("*.svg"):
        minidom.parseString(path.read_text(encoding="utf-8"))
        path.unlink()
    for path in where.glob("*.html"):
        tags = Tags()
        tags.feed(path.read_text(encoding="utf-8"))
        assert "script" not in tags.seen
        path.unlink()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)


LINES = {
    "prompts": "prompts PROMPTS --model MODEL",
    "measure": "measure MODEL --task PROMPTS --policy adakv --policy random --ratio 0 --ratio .5 --ratio .9 --out M "
    "--plot P.svg",
    "predict": "predict MODEL --task PROMPTS --policy adakv --ratio .5 --ratio .9 --tries 0 --out PRED --measured M "
    "--plot P.svg --within .1",
    "extract": "extract MODEL --prompts PROMPTS --graphs --out T.npz",
    "inspect": "inspect T.npz --plot P.svg",
    "inspect the measurement": "inspect M",
    "replies": "inspect M --replies",
    "compare": "compare T.npz --policy adakv --measured M --plot P.svg",
    "report": "report T.npz --measured M --out R.html",
    "certify": "certify M --predict PRED --policy adakv --risk .6 --confidence .6 --plot P.svg",
    "claims": "claims M --trace T.npz --out C.json",
    "export": "export M --to E.csv",
    "audit": "audit M --html A.html",
}


def test_what_is_shown_steers_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, prompts = Path("m$odel [red]\x1b[31m\n_{ <b>"), Path("p$ [red]\x1b.jsonl")
    shutil.copytree(SHIPPED, model)
    rows = [
        {**prompt.to_dict(), "id": f"{HOSTILE}{k}", "task": f"{HOSTILE}{k % 2}"}
        for k, prompt in enumerate(load_task("words_two_hop", 6, 0))
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {"MODEL": model, "PROMPTS": prompts}
    for name, line in LINES.items():
        check(name, tmp_path, *run(capsys, *(names.get(word, word) for word in line.split())))


def test_the_figure_of_a_probe(tmp_path):
    found = Probed.load(DATA / "probe.json")
    named = replace(found, settings={**found.settings, "model": HOSTILE})
    plot.save(named.plot(), tmp_path / "p.svg")
    minidom.parseString((tmp_path / "p.svg").read_text(encoding="utf-8"))


def test_half_a_pair_in_a_prompt_is_refused(tmp_path, capsys):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "\ud800", "context": "a", "question": "b", "answer": "a"}) + "\n")
    status, out, err = run(capsys, "prompts", path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "half a surrogate pair" in err

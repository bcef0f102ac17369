"""Every prompt and every reply: what is listed, written, shown by inspect and export, and refused."""

import csv
import json

import pytest
from rich.console import Console

from routegraph.validate.measure.result import Measured, from_cells
from routegraph.validate.measure.samples import Sample, samples, samples_grid, told, told_grid, write_samples
from tests.helpers.commands import run

SETTINGS = {
    "model": "made up",
    "policies": ["adakv", "topk"],
    "ratios": [0.0, 0.5, 0.9],
    "question_aware": False,
    "seed": 0,
    "metrics": False,
}
#: Replies of three prompts, policies outermost, and which are right.
REPLIES = {
    "a": (["Paris", "Paris", "I don't know", "Paris", "Rome", "Paris"], [1, 1, 0, 1, 0, 1]),
    "b": (["[bold]\n7 :smile: [/x]", "7", "7", "7", "7", "7"], [1] * 6),
    "c": (["Rome"] * 6, [0] * 6),
}


def cell(name):
    replies, right = REPLIES[name]
    return {
        "prompt": {
            "id": name,
            "task": "t",
            "question": f"What is {name}?",
            "answer": "Paris",
            "answers": ["Paris", "Lutetia"],
            "answerable": True,
            "tags": [],
            "n_context": 100,
        },
        "protected": {"adakv": {}, "topk": {}},
        "replies": replies,
        "right": right,
        "abstained": [int("know" in reply) for reply in replies],
        "metrics": {},
    }


@pytest.fixture(scope="module")
def found():
    return from_cells(SETTINGS, [cell(name) for name in REPLIES])


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    out = tmp_path_factory.mktemp("cells") / "m"
    found.save(out)
    return out


class TestSamples:
    def test_every_reply_once(self, found):
        rows = samples(found)
        assert len(rows) == 18
        assert rows[0] == Sample(
            "a", "t", "adakv", 0.0, 100, "What is a?", "Paris | Lutetia", "Paris", True, False, "right"
        )
        assert [row.reply for row in rows[:6]] == REPLIES["a"][0]
        assert [row.verdict for row in rows[:6]] == ["right", "right", "abstained", "right", "wrong", "right"]
        assert [row.keep for row in rows[:3]] == [100, 50, 9]
        assert [row.ratio for row in rows[:3]] == [0, 0.5, 0.9]

    def test_some_of_them(self, found):
        assert len(samples(found, policy="topk")) == 9
        assert {row.ratio for row in samples(found, ratio=0.5)} == {0.5}
        assert [row.reply for row in samples(found, prompt="a", policy="topk", ratio=0.5)] == ["Rome"]

    @pytest.mark.parametrize(
        ("asked", "match"),
        [
            ({"policy": "best"}, "unknown policy 'best'; choose from: adakv, topk"),
            ({"prompt": "z"}, "unknown prompt 'z'; choose from: a, b, c"),
            ({"ratio": 0.7}, r"ratio 0.7 was not measured; choose from: ratio 0, ratio .5, ratio .9"),
            ({"keep": 64}, "keep 64 was not measured; choose from: none: it was asked by ratio"),
            ({"keep": 64, "ratio": 0.5}, "not both"),
        ],
    )
    def test_what_was_not_measured(self, found, asked, match):
        with pytest.raises(ValueError, match=match):
            samples(found, **asked)

    def test_budgets(self):
        asked = {name: value for name, value in SETTINGS.items() if name != "ratios"}
        found = from_cells({**asked, "keep": [64, 16]}, [cell("a")])
        assert [row.keep for row in samples(found)[:3]] == [100, 64, 16]
        assert [row.ratio for row in samples(found)[:3]] == [0, 0.36, 0.84]
        assert [row.keep for row in samples(found, keep=16)] == [16, 16]
        assert [row.keep for row in samples(found, ratio=0)] == [100, 100]
        assert told(found)[0].broke == {"adakv": "16 (.84)", "topk": "64 (.36)"}
        with pytest.raises(ValueError, match=r"choose from: ratio 0, 64 rows \(ratio .36\)"):
            samples(found, ratio=0.36)
        with pytest.raises(ValueError, match="keep 32 was not measured; choose from: 64, 16"):
            samples(found, keep=32)


def test_where_each_prompt_broke(found):
    rows = told(found)
    assert [row.broke for row in rows] == [
        {"adakv": ".9", "topk": ".5"},
        {"adakv": "never", "topk": "never"},
        {"adakv": "-", "topk": "-"},
    ]
    assert [row.right for row in rows] == [True, True, False]
    assert [row.reply for row in rows] == ["Paris", REPLIES["b"][0][0], "Rome"]
    assert told(found, policy="topk", prompt="a")[0].broke == {"topk": ".5"}


def test_replies_are_shown_as_they_are(found):
    """What rich takes for markup is text, and long texts are shortened to one line."""
    for grid in (samples_grid(samples(found)), told_grid(told(found))):
        console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(grid.to_rich())
        assert "[bold] 7 :smile: [/x]" in console.export_text()
    assert told_grid([]).rows == []


class TestFiles:
    def test_both_kinds_hold_the_same(self, found, tmp_path):
        rows = samples(found)
        for name in ("s.csv", "s.jsonl"):
            assert write_samples(tmp_path / name, rows) == 18
        lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
        with (tmp_path / "s.csv").open(newline="") as stream:
            table = list(csv.DictReader(stream))
        assert [Sample(**line) for line in lines] == rows
        assert [{name: str(value) for name, value in line.items()} for line in lines] == table
        assert list(lines[0]) == (
            [
                "id",
                "task",
                "policy",
                "ratio",
                "keep",
                "question",
                "gold",
                "reply",
                "right",
                "abstained",
                "verdict",
            ]
        )

    def test_another_ending(self, found, tmp_path):
        with pytest.raises(ValueError, match=r"choose a name that ends in .csv or .jsonl"):
            write_samples(tmp_path / "s.txt", samples(found))


class TestCommands:
    def test_inspect_shows_a_line_a_prompt(self, capsys, folder):
        status, out, err = run(capsys, "inspect", folder)
        assert (status, err) == (0, "")
        assert out.startswith("Right at ratio 0, with nothing removed: 2 of 3 items")
        assert [line.split()[0] for line in out.splitlines() if "What is" in line] == ["a", "b", "c"]
        assert "never" in out
        status, out, err = run(capsys, "inspect", folder, "--limit", 1)
        assert "What is b?" not in out
        assert err == "and 2 more; --limit 3 shows all\n"

    def test_inspect_shows_replies(self, capsys, folder):
        _, out, _ = run(capsys, "inspect", folder, "--replies", "--policy", "topk", "--prompt", "a")
        assert [line.split()[1] for line in out.splitlines() if line.startswith("a ")] == ["topk"] * 3
        assert ".9 (9)" in out
        _, out, _ = run(capsys, "inspect", folder, "--ratio", 0.5)
        assert sum("wrong" in line for line in out.splitlines()) == 3

    def test_inspect_as_json(self, capsys, folder):
        prompts, replies = (
            json.loads(run(capsys, "inspect", folder, "--json", *more)[1]) for more in ((), ("--replies",))
        )
        assert prompts["prompts"][0]["broke"] == {"adakv": ".9", "topk": ".5"}
        assert len(replies["replies"]) == 18
        assert prompts["answer"].startswith("Right at ratio 0")

    def test_inspect_and_export_write_all(self, capsys, folder, tmp_path):
        status, out, err = run(capsys, "inspect", folder, "--out", tmp_path / "a.jsonl")
        assert (status, out) == (0, "")
        assert err.endswith("18 replies\n")
        assert run(capsys, "export", folder, "--to", tmp_path / "b.jsonl")[0] == 0
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
        run(capsys, "export", folder, "--to", tmp_path / "c.csv", "--limit", 1)
        assert len((tmp_path / "c.csv").read_text().splitlines()) == 7

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["inspect", "CELLS", "--policy", "best"], "unknown policy 'best'; choose from: adakv, topk"),
            (["inspect", "CELLS", "--limit", 0], "limit must be at least 1, got 0"),
            (["inspect", "CELLS", "--plot", "p.svg"], "only traces are drawn"),
            (["inspect", "CELLS", "--out", "s.txt"], "ends in .csv or .jsonl"),
            (["inspect", "CELLS", "--ratio", 0.5, "--keep", 3], "give either --ratio or --keep, not both"),
            (["inspect", "other.json", "--replies"], "are for a folder of measure, and 'other.json' is none"),
            (["export", "CELLS", "--to", "s.graphml"], "ends in .csv or .jsonl"),
        ],
    )
    def test_bad_input(self, capsys, folder, tmp_path, monkeypatch, arguments, words):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "other.json").write_text('{"version": "1"}')
        status, out, err = run(capsys, *(folder if part == "CELLS" else part for part in arguments))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_cells_of_version_0_1_are_read(request):
    found = Measured.load(request.path.parents[2] / "data" / "v0.1" / "measured")
    assert len(samples(found)) == found.right.size
    assert found.metrics

"""The HTML page: the answer first, figures that speak, nothing wider than a telephone."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from routegraph import plot, simulate
from routegraph.report import write_report
from routegraph.validate.claims.judge import claims_of_files
from routegraph.validate.compare.figures import panel_words, plot_comparison
from routegraph.validate.compare.run import compare
from routegraph.validate.measure.result import from_cells
from tests.helpers.traces import traced

OLD = Path(__file__).parent / "data" / "v0.1"
RATIOS = [0.0, 0.5, 0.9]
SETTINGS = {
    "model": "one-factor",
    "policies": ["topk"],
    "ratios": RATIOS,
    "question_aware": False,
    "chunk_length": 64,
    "seed": 0,
    "metrics": False,
}


def cell(number):
    prompt = {
        "id": f"synthetic-{number}",
        "task": "t",
        "question": "Who <did> it?",
        "answer": "Ann",
        "answers": [],
    }
    prompt |= {"answerable": True, "tags": [], "n_context": 140}
    told = {"right": [1, 1, 0], "abstained": [0, 0, 0], "replies": ["Ann", "Ann", "<b>Bob"]}
    return {"prompt": prompt, "protected": {"topk": {"n_sink": 4}}, "metrics": {}, **told}


class Outline(HTMLParser):
    """Headings, paragraphs, figures and tables of a page in their order, each with the elements it stands in."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.text = [], [], {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in ("meta", "br", "path", "use"):
            return
        self.open.append((tag, dict(attributes)))
        if tag in ("h1", "h2", "p", "svg", "table"):
            self.found.append((tag, dict(attributes), [name for name, _ in self.open], self.classes()))
            self.text[len(self.found) - 1] = ""

    def classes(self):
        return [one.get("class") for _, one in self.open]

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.found and "style" not in [name for name, _ in self.open]:
            self.text[len(self.found) - 1] += data


@pytest.fixture(scope="module")
def comparison():
    found = from_cells(SETTINGS, [cell(k) for k in range(4)])
    traces = [traced(k, n=140) for k in range(4)]
    ratios = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95]
    return compare(traces, policy_names=["topk"], ratios=ratios, eps=[0.05], measured=found)


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "r.html"
    judged, measured = claims_of_files([OLD / "measured"])
    asked = from_cells(SETTINGS, [cell(0)])
    simulation = simulate(64, [0.5, 0.9], n_layers=2, n_heads=2, replicates=3)
    write_report(path, simulation, comparison, judged, measured, asked)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page)


def test_the_finding_stands_before_any_figure_or_table(outline, comparison):
    paragraphs = [
        k for k, (tag, _, _, classes) in enumerate(outline.found) if tag == "p" and "answer" in classes
    ]
    assert [outline.text[k] for k in paragraphs] == comparison.answer
    others = [k for k, (tag, *_) in enumerate(outline.found) if tag in ("svg", "table")]
    assert max(paragraphs) < min(others)
    assert "half are lost by ratio" in outline.text[max(paragraphs)]


def test_then_comes_a_question_with_its_replies(page, outline):
    kinds = [(tag, outline.text[k]) for k, (tag, *_) in enumerate(outline.found)]
    heads = [text for tag, text in kinds if tag == "h2"]
    assert heads[0] == "A real question under compression"
    first = next(k for k, (tag, *_) in enumerate(outline.found) if tag == "table")
    assert "replies" in outline.found[first][3]
    assert "wrong, changed: &quot;&lt;b&gt;Bob&quot;" in page
    assert "Who <did> it?" in " ".join(text for tag, text in kinds if tag == "p")


def test_every_figure_says_what_it_shows_and_what_is_to_be_seen(outline):
    figures = [attributes for tag, attributes, *_ in outline.found if tag == "svg"]
    assert len(figures) == 4 + 3 + 2, "panels of the comparison, of the claims and of the simulation"
    for one in figures:
        assert one["role"] == "img"
        assert len(one["aria-label"]) > 60
        assert re.search(r"\d|not measured", one["aria-label"]), "the finding in it has numbers"
        assert "nan" not in one["aria-label"]
    labels = [one["aria-label"] for one in figures]
    assert len(set(labels)) == len(labels)
    assert labels[0].startswith(
        "topk: fraction of tokens gone from all 12 slots, by compression ratio. Ratio at which"
    )
    assert "over reads of weight above 0.05" in labels[2]


def test_tables_scroll_in_boxes_of_their_own(outline):
    tables = [(inside, classes) for tag, _, inside, classes in outline.found if tag == "table"]
    assert len(tables) > 8
    for _, classes in tables:
        assert classes[-2] == "box"


def test_nothing_is_wider_than_a_telephone_or_too_small_to_read(page):
    style = page[page.index("<style>") : page.index("</style>")]
    assert page.count("<table") == page.count('<div class=box style="overflow-x:auto"') > 3
    assert 'name="viewport" content="width=device-width' in page
    assert not [px for px in re.findall(r"width:(\d+)px", style) if int(px) > 320]
    sizes = [float(size) for size in re.findall(r"font-size:([\d.]+)rem", style)]
    assert sizes
    assert min(sizes) >= 0.85
    assert panels(page)
    for width, letters in panels(page):
        assert letters * min(1.0, 312 / (width * 96 / 72)) >= 9, "pixels of the smallest letters on 360"


def panels(page):
    """Width in points and size in pixels of the smallest letters, legends, of every panel."""
    return [(float(width), 8.33 * 96 / 72) for width in re.findall(r'<svg[^>]*? width="([\d.]+)pt"', page)]


def test_a_panel_is_one_axes_with_its_legend(comparison):
    found = comparison.policies["topk"]
    axes = plot.figure(2, 2, width=3.6, height=3.0)[1]
    drawn = plot.to_panels(plot_comparison(found, "m", axes), panel_words(found))
    assert len(drawn) == 4
    assert [svg.count('id="axes_') for svg in drawn] == [1] * 4
    assert all(svg.count('id="legend_') == 1 for svg in drawn)
    assert all("<title>topk: " in svg and "<desc>Ratio at which" in svg for svg in drawn)


def test_words_for_every_panel_or_none(comparison):
    found = comparison.policies["topk"]
    with pytest.raises(ValueError, match="shorter"):
        plot.to_panels(plot_comparison(found, "m"), panel_words(found)[:3])


def test_a_panel_without_data_is_left_out_and_one_without_title_is_named():
    made, axes = plot.figure(1, 2)
    axes[0].plot([0, 1], [0, 1])
    (only,) = plot.to_panels(made, [("model: share right", "It rises."), ("model: nothing", "Not measured.")])
    assert only.count('id="axes_') == 1
    assert axes[0].get_title(loc="left") == "model"


def test_nothing_is_asked_without_an_answer(comparison, tmp_path):
    never = from_cells(SETTINGS, [{**cell(0), "right": [0, 0, 0]}])
    write_report(tmp_path / "r.html", None, comparison, asked=never)
    assert "A real question" not in (tmp_path / "r.html").read_text()

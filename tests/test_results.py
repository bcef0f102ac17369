"""Results share one shape, and the files that version 0.1 wrote still load."""

import json
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from routegraph import Trace, fit_critical, plot, simulate, sweep
from routegraph.critical.result import CriticalFit
from routegraph.sim.result import Simulation
from routegraph.sim.sweep_result import SweepResult
from routegraph.validate.compare.result import Comparison
from routegraph.validate.measure.result import Measured
from routegraph.validate.probe.result import Probed

DATA = Path(__file__).parent / "data"
OLD = DATA / "v0.1"
#: What loads each kind of result, and a file or folder of version 0.1.
KINDS = {
    "simulation": (Simulation, OLD / "simulation.json"),
    "sweep": (SweepResult, DATA / "sweep"),
    "measured": (Measured, OLD / "measured"),
    "probed": (Probed, OLD / "probe.json"),
    "comparison": (Comparison, OLD / "comparison.json"),
    "critical": (CriticalFit, DATA / "critical_fit_v1.json"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def result(kind):
    loads, path = KINDS[kind]
    return loads.load(path)


def test_every_result_has_the_same_shape(result):
    assert len(result.summary().splitlines()) > 3
    assert str(result) == result.summary()
    assert "[bold]" not in result.summary()
    json.dumps(result.to_dict(), allow_nan=False)
    assert "<table>" in result._repr_html_()
    assert isinstance(result.plot(), matplotlib.figure.Figure)


def test_a_result_shown_by_itself_is_one_line_with_what_was_found(result):
    assert repr(result).startswith(f"<{type(result).__name__}: ")
    assert 40 < len(repr(result)) < 400
    assert "\n" not in repr(result)


def test_a_result_is_a_table_of_flat_rows(result):
    frame = result.to_dataframe()
    assert len(frame) == len(result.records()) > 1
    assert not [one for row in result.records() for one in row.values() if isinstance(one, dict)]
    assert frame["ratio"].notna().all()
    assert frame["ratio"].between(0, 1).all()


def test_rows_hold_the_numbers_of_the_document():
    found = Measured.load(OLD / "measured")
    told = found.to_dict()["results"]
    frame = found.to_dataframe()
    for row in told:
        own = frame[(frame.policy == row["policy"]) & (frame.task == row["task"])]
        assert own["accuracy.rate"].tolist() == row["accuracy"]["rate"]
        assert own["ratio"].tolist() == found.ratios.tolist()
    swept = SweepResult.load(DATA / "sweep")
    at = swept.to_dataframe().set_index("ratio").loc[0.5]
    samples = swept.curves("reach_fraction", [0.5])[0, :, 0]
    assert at["reach_fraction.mean"] == pytest.approx(samples.mean())
    assert at["reach_fraction.stderr"] == pytest.approx(samples.std(ddof=1) / len(samples) ** 0.5)


def test_without_pandas_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match="to_dataframe needs pandas; install it with: pip install pandas"):
        Simulation.load(OLD / "simulation.json").to_dataframe()


@pytest.mark.parametrize(("width", "inches"), plot.WIDTHS.items())
def test_figures_of_a_paper_are_as_wide_as_it(result, width, inches, tmp_path):
    with plot.paper(width):
        made = result.plot()
    assert made.get_figwidth() == pytest.approx(inches)
    plot.save(made, tmp_path / "f.pdf")
    content = (tmp_path / "f.pdf").read_bytes()
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content, "letters are type 42"
    panels = [ax.get_window_extent().width / made.dpi for ax in made.axes]
    assert min(panels) > 1.2, "a panel that can be read"


def test_panels_are_lettered_and_legends_off_the_curves(result):
    made = result.plot()
    letters = [one.get_text() for ax in made.axes for one in ax.texts if one.get_gid() == "letter"]
    assert letters == ([] if len(made.axes) == 1 else list("abcdefgh"[: len(made.axes)]))
    made.draw_without_rendering()
    for ax in made.axes:
        if ax.get_legend() is not None:
            assert ax.get_legend().get_window_extent().y1 <= ax.get_window_extent().y0


def test_a_figure_is_drawn_where_it_is_told(result):
    own = result.plot()
    panels = len(own.axes)
    made = matplotlib.figure.Figure()
    axes = made.subplots(1, panels)
    assert result.plot(ax=axes) is made
    assert all(ax.has_data() for ax in made.axes)


def test_what_is_saved_loads_and_says_the_same(result, kind, tmp_path):
    path = tmp_path / ("folder" if kind in ("sweep", "measured") else "file.json")
    result.save(path)
    again = KINDS[kind][0].load(path)
    assert again.to_dict() == result.to_dict()
    assert again.summary() == result.summary()
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


@pytest.mark.parametrize("kind_of", ["simulation", "probed", "comparison", "critical"])
def test_something_else_is_one_sentence(kind_of, tmp_path):
    loads = KINDS[kind_of][0]
    bad = tmp_path / "bad.json"
    others = {"results": [], "version": "0.1.0", "seed": 0, "parameters": {}}
    for text in ("", "[]", "{}", '{"version": 1}', json.dumps(others)):
        bad.write_text(text)
        with pytest.raises(
            ValueError, match=r"'.*bad.json' is (no result of|not a saved)|not a result of simulate"
        ):
            loads.load(bad)


def test_numbers_of_version_0_1_are_those_of_the_file():
    document = json.loads((OLD / "simulation.json").read_text())
    assert Simulation.load(OLD / "simulation.json").to_dict()["results"] == document["results"]
    document = json.loads((OLD / "comparison.json").read_text())
    found = Comparison.load(OLD / "comparison.json")
    assert found.to_dict()["results"] == document["results"]
    assert found.policies["adakv"].measured.items == 6
    text = found.summary()
    axis = document["results"][0]["axes"][0]
    assert f"{axis['read_off']['evictable tokens']['half_point']['value']:.3f} [" in text
    document = json.loads((OLD / "probe.json").read_text())
    told = Probed.load(OLD / "probe.json").to_dict()
    for old, new in zip(document["results"], told["results"], strict=True):
        assert new.pop("minus_chance") == {"value": None, "low": None, "high": None}, "not in files of 0.1"
        assert old == new
    assert Measured.load(OLD / "measured").ratios.tolist() == [0, 0.5, 0.8, 0.9]
    assert [trace.model for trace in Trace.load(OLD / "trace.npz")] == ["llama-tiny"] * 2


def test_what_was_computed_and_what_was_loaded_are_alike(tmp_path):
    """The same figure and words before and after a file, for what files tell in part only."""
    found = simulate(
        100, [0.5, 0.8], n_layers=2, n_heads=2, replicates=3, policy="pyramid", settings={"window": 5}
    )
    found.save(tmp_path / "s.json")
    assert Simulation.load(tmp_path / "s.json").summary() == found.summary()
    swept = sweep(n_tokens=[40, 80], n_layers=2, n_heads=2, replicates=3)
    swept.save(tmp_path / "sweep")
    swept.save(tmp_path / "sweep")
    np.testing.assert_array_equal(
        SweepResult.load(tmp_path / "sweep").curves("reach_fraction", [0.5]),
        swept.curves("reach_fraction", [0.5]),
    )
    again = sweep(tmp_path / "sweep", n_tokens=[40, 80], n_layers=2, n_heads=2, replicates=3)
    assert again.to_dict() == swept.to_dict(), "and a sweep goes on from it"
    with pytest.raises(ValueError, match="holds a sweep of another seed than 1"):
        sweep(n_tokens=[40], n_layers=2, n_heads=2, replicates=3, seed=1).save(tmp_path / "sweep")
    fit = fit_critical([0.1, 0.5, 0.6, 0.9], [0, 1, 9, 10], trials=[10] * 4)
    assert isinstance(fit.plot(), matplotlib.figure.Figure)

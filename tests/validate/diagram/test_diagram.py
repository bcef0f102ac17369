"""Ratio against bits: which folders belong together, estimates, best splits, what is said and drawn."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from routegraph.stats.paired import mcnemar
from routegraph.survival import n_kept
from routegraph.validate.diagram.best import best, best_sentence
from routegraph.validate.diagram.cells import Grid, read_grid
from routegraph.validate.diagram.estimates import at_calibrated_damage, at_equal_damage, crossing, estimates
from routegraph.validate.diagram.result import LEVELS, Diagram, diagram
from routegraph.validate.measure.cells import Cells, unsealed
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.size import quantised_bytes
from routegraph.validate.tasks import load_task
from tests.helpers.commands import run

ASKED = {"policy_names": ["topk", "random"], "ratios": (0.5, 0.75), "chunk_length": 16}
BITS = ("", "2", "kivi4:residual=0", "svdq")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("diagram")
    model, prompts = load("qwen-tiny"), load_task("words_forward", 4, 0, None)
    made = {bits: root / f"run{k}" for k, bits in enumerate(BITS)}
    for bits, out in made.items():
        measure(model, prompts, out, bits=bits, **ASKED)
    return made


@pytest.fixture(scope="module")
def grid(folders):
    return read_grid(list(folders.values()), "topk")


def made_up(right, taken, ratios=(0.0, 0.5)):
    """A grid of answers bool[n_items, n_bits, n_ratios], all of them right before."""
    right = np.asarray(right, dtype=bool)
    bits = ("", "4", "2", "3")[: right.shape[1]]
    return Grid(
        {"model": "made up", "weights": "w", "seed": 0},
        "topk",
        tuple(map(str, range(len(right)))),
        bits,
        np.array(ratios),
        np.ones(len(right), dtype=bool),
        right,
        np.array(taken),
    )


# --- reading ------------------------------------------------------------------------------------------------


def test_every_cell_is_where_it_was_measured(folders, grid):
    assert grid.ratios.tolist() == [0, 0.5, 0.75]
    assert set(grid.bits) == {"", "2", "kivi4:residual=0", "svdq"}
    assert grid.bits[0] == ""
    assert (np.diff(grid.bytes[:, 0]) <= 0).all()
    for bits, folder in folders.items():
        found = Measured.load(folder)
        k = grid.bits.index(bits)
        order = np.argsort(found.ids)
        assert (grid.right[:, k] == found.right[order, 0, bool(bits) :]).all()
        rows = [[n_kept(int(n), ratio) for n in found.n_context] for ratio in grid.ratios]
        whole = np.array([quantised_bytes([n], 32) for n in found.n_context])
        one = Precision.named(bits) if bits else None
        taken = [np.mean([quantised_bytes([n], 32, one) for n in row] / whole) for row in rows]
        if bits in (
            "",
            "2",
        ):  # of others a head's bytes are not in proportion to its rows, but topk keeps as many in each
            assert grid.bytes[k].tolist() == pytest.approx(taken)
    assert grid.per_number[0].tolist() == pytest.approx([16, 16, 16])
    assert grid.per_number[grid.bits.index("2")][1] == pytest.approx(3)


def test_another_policy_and_ratios_in_common(folders, tmp_path):
    other = read_grid(list(folders.values()), "random")
    assert other.policy == "random"
    assert (other.right[:, 0, 0] == read_grid(list(folders.values()), "topk").right[:, 0, 0]).all()
    model, prompts = load("qwen-tiny"), load_task("words_forward", 4, 0, None)
    more = {**ASKED, "ratios": (0.25, 0.75), "policy_names": ["topk"]}
    measure(model, prompts, tmp_path / "eight", bits="8", **more)
    found = read_grid([folders[""], tmp_path / "eight"])
    assert found.ratios.tolist() == [0, 0.75]
    measure(model, prompts, tmp_path / "nine", bits="3", **{**more, "ratios": (0.1,)})
    with pytest.raises(ValueError, match="share no ratio above 0"):
        read_grid([folders[""], tmp_path / "nine"])


def again(folder, out, **changed):
    """A folder of the same cells that was measured with other settings."""
    found = Measured.load(folder)
    kept = Cells.open(out, {**found.settings, **changed})
    for name, cell in zip(found.names, found.cells, strict=True):
        kept.keep(name, unsealed(cell))
    return out


def test_what_does_not_belong_together_is_refused_in_a_line(folders, tmp_path):
    whole, two, kivi = (folders[one] for one in ("", "2", "kivi4:residual=0"))
    fewer = Measured.load(two).only([0, 1])
    fewer.save(tmp_path / "fewer")
    found = Measured.load(two)
    broken = Cells.open(tmp_path / "broken", found.settings)
    for name, cell in zip(found.names, found.cells, strict=True):
        broken.keep(name, {**unsealed(cell), "right": [1 - int(one) for one in cell["right"]]})
    (tmp_path / "else").mkdir()
    for given, said in (
        ([whole], "none of the folders was measured with bits"),
        ([two, kivi], "all of the folders were measured with bits"),
        ([whole, two, again(two, tmp_path / "copy")], "both measured bits '2'"),
        ([whole, whole], "two of the folders have one name"),
        (
            [whole, again(two, tmp_path / "other", model="llama-tiny")],
            "model is 'qwen-tiny' there and 'llama-tiny' here",
        ),
        ([whole, again(two, tmp_path / "seed", seed=3)], "seed is 0 there and 3 here"),
        ([whole, tmp_path / "fewer"], "2 of 4 and 2 prompts in common"),
        ([whole, tmp_path / "broken"], "differ in what is right with nothing removed"),
        ([whole, tmp_path / "else"], "is no folder of routegraph measure"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            read_grid(given, "topk")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="name one policy with --policy; all folders have: topk, random"):
        read_grid([whole, two])
    with pytest.raises(ValueError, match="unknown policy 'adakv'; all folders have: topk, random"):
        read_grid([whole, two], "adakv")


# --- estimates ----------------------------------------------------------------------------------------------


def test_estimates_by_hand():
    """Four items; at the ratio alone the first two are right, with the bits alone the second and third."""
    right = np.zeros((4, 2, 2))
    right[:, 0, 0] = 1
    right[:2, 0, 1] = 1
    right[1:3, 1, 0] = 1
    right[1, 1, 1] = 1
    product, both = estimates(made_up(right, [[1, 0.5], [0.25, 0.125]]))
    assert product.kept.tolist() == [[1, 0.5], [0.5, 0.25]]
    assert both.kept.tolist() == [[1, 0.5], [0.5, 0.25]]
    assert product.error.value == both.error.value == 0
    assert product.cells == 1
    right[2, 1, 1] = 1
    product, both = estimates(made_up(right, [[1, 0.5], [0.25, 0.125]]))
    assert product.error.value == both.error.value == 0.25
    assert product.bias.value == -0.25
    assert product.error.low < 0.25 < product.error.high
    assert product.alone is None


def test_the_product_is_exact_where_losses_are_independent():
    rng = np.random.default_rng(0)
    by_ratio, by_bits = rng.random((4_000, 1, 2)) < [1.0, 0.6], rng.random((4_000, 2, 1)) < [[1.0], [0.7]]
    product, both = estimates(made_up(by_ratio & by_bits, [[1, 0.5], [0.25, 0.125]]))
    assert product.error.value < 0.03
    assert both.error.value == 0


def test_simulated_goes_by_the_attention_that_moves():
    curve, moved = np.array([1.0, 0.8, 0.2]), np.array([[0, 0.1, 0.4], [0.05, 0.2, 0.9]])
    found = at_equal_damage(curve, moved)
    assert found[0].tolist() == pytest.approx(curve.tolist())
    assert found[1].tolist() == pytest.approx([0.9, 0.6, 0.2])
    assert (at_equal_damage(np.array([0.5, 0.8, 0.2]), moved)[0] == [0.5, 0.5, 0.2]).all()  # never rising
    right = np.zeros((10, 2, 3))
    for ratio, kept in enumerate((10, 8, 2)):
        right[:kept, :, ratio] = 1
    grid = made_up(right, [[1, 0.5, 0.2], [0.25, 0.2, 0.1]], (0, 0.5, 0.8))
    simulated = estimates(grid, moved)[2]
    assert simulated.kept[1].tolist() == pytest.approx([0.9, 0.6, 0.2])
    assert simulated.error.value == pytest.approx(0.1)  # of .6 against .8 and .2 against .2
    assert simulated.alone.value == pytest.approx(0.1)


def test_calibrated_takes_from_bits_alone_what_their_attention_counts():
    """Bits move .1 and break what eviction breaks at .05, so that each half counts."""
    curve, moved = np.array([1.0, 0.8, 0.2]), np.array([[0, 0.1, 0.4], [0.1, 0.18, 0.44]])
    found = at_calibrated_damage(curve, np.array([1.0, 0.9]), moved)
    assert found[0].tolist() == pytest.approx(curve.tolist())
    # Damage .05, .1 + .08 / 2, .4 + .04 / 2; beyond .4 the line goes to nothing at 1.
    assert found[1].tolist() == pytest.approx([0.9, 0.8 - 0.6 * 0.04 / 0.3, 0.2 * (1 - 0.02 / 0.6)])
    hopeless = at_calibrated_damage(curve, np.array([1.0, 0.0]), moved)[1]
    assert hopeless[0] == 0
    assert hopeless[1:].tolist() == pytest.approx([0.2 * 0.1 / 0.6, 0.2 * 0.2 / 0.6])  # damage .9 and .8
    harmless = at_calibrated_damage(curve, np.array([1.0, 1.0]), moved)[1]
    assert harmless.tolist() == pytest.approx(curve.tolist())
    flat = at_calibrated_damage(np.ones(3), np.array([1.0, 0.5]), moved)
    assert flat[0].tolist() == [1, 1, 1]
    assert flat[1, 0] == pytest.approx(0.5)


@hypothesis.given(
    falls=st.lists(st.floats(0, 0.4), min_size=3, max_size=3),
    alone=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    steps=st.lists(st.floats(1e-3, 0.3), min_size=3, max_size=3),
    more=st.lists(st.floats(0, 0.5).map(lambda x: x if x > 1e-3 else 0.0), min_size=8, max_size=8),
)
def test_calibrated_agrees_with_both_edges_whatever_they_are(falls, alone, steps, more):
    curve = np.maximum(0, 1 - np.cumsum([0, *falls]))
    removed = np.cumsum([0, *steps])
    moved = np.vstack([removed, np.minimum(1, removed + np.array(more).reshape(2, 4))])
    found = at_calibrated_damage(curve, np.array([1.0, *alone]), moved)
    assert ((found >= 0) & (found <= 1)).all()
    assert found[0] == pytest.approx(curve)
    for bits in (1, 2):
        if moved[bits, 0] > 0:  # bits that move nothing are taken to break nothing
            assert found[bits, 0] == pytest.approx(alone[bits - 1], abs=1e-6)
        assert (found[bits] <= found[0] + 1e-12).all()


def test_crossings():
    ratios = np.array([0, 0.5, 1.0])
    assert crossing(ratios, np.array([1, 0.8, 0.2]), 0.9) == pytest.approx(0.25)
    assert crossing(ratios, np.array([1, 0.8, 0.2]), 0.5) == pytest.approx(0.75)
    assert crossing(ratios, np.array([0.4, 0.8, 0.2]), 0.5) == 0
    assert np.isnan(crossing(ratios, np.array([1, 0.9, 0.9]), 0.9))


# --- the best split -----------------------------------------------------------------------------------------


def test_the_best_split_spends_the_bytes_on_as_many_rows_as_fit():
    right = np.zeros((20, 3, 2))
    right[:, 0, 0] = 1
    right[:4, 0, 1] = 1  # half of the rows at 16 bits
    right[:19, 1, :] = 1  # four bits hold
    right[19, 1, 1] = 1
    right[4:18, 2, :] = 1
    grid = made_up(right, [[1, 0.5], [0.25, 0.125], [0.125, 0.0625]])
    found = best(grid, 0.5)
    # Not (1, 1): more rows fit.
    assert [(one.bits, one.ratio) for one in found.splits] == [(1, 0), (2, 0), (0, 1)]
    assert [one.kept.value for one in found.splits] == [0.95, 0.7, 0.2]
    # 5 items are right with four bits alone, none with two alone; 15 against eviction; 14 against 4 of the last pair.
    raw = [mcnemar(5, 0), mcnemar(15, 0)]
    assert found.p_values[1] == pytest.approx(3 * raw[1])
    assert found.p_values[0] == pytest.approx(max(raw[0], 2 * mcnemar(14, 4)))
    assert found.differences[0].value == pytest.approx(0.25)
    assert not found.told
    said = best_sentence(grid, found)
    assert said.startswith(
        "At 50 % of the bytes or fewer, bits 4 at ratio 0 keeps most, 0.95 [0.76, 0.99] of 20"
    )
    assert said.endswith("these items do not tell it from bits 2 at ratio 0.")
    small = best(grid, 0.125)
    assert [(one.bits, one.ratio) for one in small.splits] == [(1, 1), (2, 0)]
    assert best_sentence(grid, best(grid, 0.07)).endswith("; nothing else fits.")
    assert best_sentence(grid, best(grid, 0.01)).endswith("nothing that was measured fits.")
    assert best(grid, 0.01).splits == ()
    right[4:, 2, :] = 0
    told = made_up(right, grid.bytes)
    assert best(told, 0.5).told
    assert best_sentence(told, best(told, 0.5)).endswith("more than every other split that fits.")


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_bytes_out_of_range(grid, share):
    with pytest.raises(ValueError, match="bytes must be a share in"):
        best(grid, share)


# --- what is said and drawn ---------------------------------------------------------------------------------


def noise_of(grid, **changed):
    told = {"weights": grid.settings["weights"], "policy": grid.policy, **changed}
    told |= {"bits": list(grid.bits)[::-1], "ratios": grid.ratios.tolist()}
    rows = [
        {"bits": bits, "ratio": float(ratio), "simulated": 0.1 * k + 0.5 * float(ratio)}
        for k, bits in enumerate(grid.bits)
        for ratio in grid.ratios
    ]
    # An item's attention moves by its place in the list, more with fewer bits; of the last one it is not known.
    size = 0.01 * np.arange(len(grid.bits))[::-1, None] + grid.ratios
    items = [{"id": name, "moved": (size + k).tolist()} for k, name in enumerate(grid.ids[:-1])]
    return {"parameters": told, "results": rows, "items": items}


def test_document_page_and_figure(folders, grid):
    found = diagram(list(folders.values()), policy="topk", noise=noise_of(grid), budgets=(0.3,))
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["name"] for one in document["estimates"]] == ["product", "both", "simulated", "calibrated"]
    assert len(document["results"]) == 12
    assert len(document["iso"]) == 4 * len(LEVELS)
    row = next(one for one in document["results"] if one["bits"] == "2" and one["ratio"] == 0.5)
    k = grid.bits.index("2")
    assert row["measured"]["value"] == grid.kept[k, 1]
    assert row["product"] == pytest.approx(grid.kept[k, 0] * grid.kept[0, 1])
    assert row["moved"] == pytest.approx(0.1 * k + 0.25)
    assert (
        set(document["kept"])
        == {"measured", "product", "both", "simulated", "calibrated"}
        <= set(document["definitions"])
    )
    text = found.page().to_text(200)
    assert f"of 4 items, {len(grid.held)} are right with nothing removed" in text
    assert document["answer"] in " ".join(text.split())
    assert "Kept, percent: measured / product / both / simulated / calibrated" in text
    assert "simulated: off by" in text
    made = found.plot()
    panels = [ax for ax in made.axes if ax.get_xlabel()]
    assert panels[0].get_title(loc="left") == "Measured"
    assert len(panels) == 5
    drawn = np.concatenate(
        [part.get_offsets() for part in panels[0].collections if len(part.get_offsets()) > 1]
    )
    assert sorted(map(tuple, drawn)) == sorted(
        zip(np.tile(grid.ratios, 4), grid.per_number.ravel(), strict=True)
    )
    without = Diagram(grid)
    assert set(without.surfaces()) == {"measured", "product", "both"}
    assert without.to_dict()["results"][0]["moved"] is None


def test_attention_moved_is_that_of_the_item_the_bits_and_the_ratio(folders, grid):
    found = diagram(list(folders.values()), policy="topk", noise=noise_of(grid)).of_items
    assert np.isnan(found[-1]).all()
    for item, bits, ratio in np.ndindex(len(found) - 1, *grid.kept.shape):
        assert found[item, bits, ratio] == pytest.approx(item + 0.01 * bits + grid.ratios[ratio])


def test_what_tells_the_items_that_fail():
    """Of 20 items the first ten fail with the bits, whose attention moves most; at the ratio the others fail."""
    right = np.ones((20, 2, 2))
    right[:10, 1, 0] = 0
    right[10:, 1, 1] = 0
    grid = made_up(right, [[1, 0.5], [0.25, 0.125]])
    moved = np.broadcast_to(np.arange(20.0)[::-1, None, None], (20, 2, 2))
    found = Diagram(grid, moved=np.zeros((2, 2)), of_items=moved)
    assert found.tells["bits alone"].auc.value == 1
    assert found.tells["bits and ratio"].auc.value == 0
    assert found.tells["bits alone"].pairs == 100
    assert "with AUC 1.00 [1.00, 1.00] (1 cell, 20 items)." in found.page().to_text(300)
    few = Diagram(made_up(right[8:12], grid.bytes), of_items=moved[8:12])
    assert "unknown, no cell has 5 that fail" in few.page().to_text(300)
    assert Diagram(grid).tells == {}


def test_noise_of_something_else(folders, grid):
    for changed, said in (
        ({"weights": "other"}, "measured with weights 'other'"),
        ({"policy": "knorm"}, "'knorm'"),
    ):
        with pytest.raises(ValueError, match=said):
            diagram(list(folders.values()), policy="topk", noise=noise_of(grid, **changed))
    short = noise_of(grid)
    short["results"] = [row for row in short["results"] if row["ratio"] != 0.5]
    with pytest.raises(ValueError, match="the noise lacks bits 16, as it is at ratio 0.5"):
        diagram(list(folders.values()), policy="topk", noise=short)
    short = noise_of(grid)
    short["parameters"]["bits"] = ["x"] * len(grid.bits)
    with pytest.raises(ValueError, match="the noise of its items lacks bits"):
        diagram(list(folders.values()), policy="topk", noise=short)


def test_nothing_right_before(folders, tmp_path):
    paths = []
    for bits in ("", "2"):
        found = Measured.load(folders[bits])
        out = Cells.open(tmp_path / f"wrong{bits}", found.settings)
        for name, cell in zip(found.names, found.cells, strict=True):
            out.keep(name, {**unsealed(cell), "right": [0] * len(cell["right"])})
        paths.append(tmp_path / f"wrong{bits}")
    with pytest.raises(ValueError, match="no answer is right"):
        read_grid(paths, "topk")


def test_command(capsys, folders, tmp_path):
    cells = list(folders.values())
    status, printed, said = run(
        capsys, "diagram", *cells, "--policy", "topk", "--json", "--plot", tmp_path / "d.svg", "--bytes", ".4"
    )
    assert status == 0, said
    assert json.loads(printed)["parameters"]["bytes"] == [0.4]
    assert (tmp_path / "d.svg").stat().st_size > 10_000
    for more, told in (
        (("--bytes", "2"), "error: bytes must be a share in (0, 1], got 2"),
        (("--policy", "knorm"), "error: unknown policy 'knorm'; all folders have: topk, random"),
        (("--noise", tmp_path / "none.json"), "error: no result of routegraph noise"),
    ):
        status, printed, said = run(capsys, "diagram", *cells, *more)
        assert (status, printed) == (2, "")
        assert said.startswith(told)
        assert said.count("\n") == 1

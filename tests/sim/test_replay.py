"""Results of `simulate`, run again: everything that they tell is compared."""

import copy

import pytest

from routegraph import simulate
from routegraph.files import write_json
from routegraph.sim.replay import replay


@pytest.fixture(scope="module")
def document():
    return simulate(32, [0.5, 0.9], n_layers=2, n_heads=2, replicates=2, measures=["rollout"]).to_dict()


def replayed(document, tmp_path, change):
    forged = copy.deepcopy(document)
    change(forged["results"])
    write_json(tmp_path / "result.json", forged)
    return replay(tmp_path / "result.json")


def test_with_measures_it_is_identical(document, tmp_path):
    assert replayed(document, tmp_path, lambda rows: None) == (2, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.clear(), "0 ratios stored, 2 rebuilt"),
        (lambda rows: rows.append(rows[0]), "3 ratios stored, 2 rebuilt"),
        (lambda rows: rows[1].clear(), "ratio: stored None, rebuilt 0.9"),
        (lambda rows: rows[1].update(ratio=0.8), "ratio: stored 0.8, rebuilt 0.9"),
        (lambda rows: rows[1].pop("ger"), "ger at ratio 0.9 is rebuilt only"),
        (lambda rows: rows[1].update(luck=1), "luck at ratio 0.9 is stored only"),
        (lambda rows: rows[0].update(ger=1), "mean of ger at ratio 0.5: stored 1, rebuilt"),
        (lambda rows: rows[0]["ger"].pop("stderr"), "stderr of ger at ratio 0.5: stored None, rebuilt"),
        (lambda rows: rows[0]["ger"].update(theory=0.1), "theory of ger at ratio 0.5: stored 0.1, rebuilt"),
        (lambda rows: rows[0]["rollout"].update(mean=0.1), "mean of rollout at ratio 0.5: stored 0.1"),
    ],
)
def test_whatever_is_forged_is_found(document, tmp_path, change, words):
    done, difference = replayed(document, tmp_path, change)
    assert (done, difference[: len(words)]) == (2, words)


def test_the_last_digits_of_theory_may_differ(document, tmp_path):
    theory = document["results"][0]["ger"]["theory"]
    change = {"theory": theory * (1 + 1e-13)}
    assert replayed(document, tmp_path, lambda rows: rows[0]["ger"].update(change)) == (2, None)


@pytest.mark.parametrize("rows", [[1], "rows", None, [["ger"]]])
def test_what_holds_no_rows_is_no_result(document, tmp_path, rows):
    write_json(tmp_path / "result.json", {**document, "results": rows})
    with pytest.raises(ValueError, match="is no result of simulate"):
        replay(tmp_path / "result.json")


def test_of_means_no_replicate_is_chosen(document, tmp_path):
    write_json(tmp_path / "result.json", document)
    with pytest.raises(ValueError, match="holds means over all replicates"):
        replay(tmp_path / "result.json", [0])

"""95 % intervals hold the truth: a few repetitions in the ordinary run, a hundred of every cell under `verify`."""

import pytest

from studies.coverage import Cell, cells, count

CELLS = {f"{cell.estimator} {cell.shape}": cell for cell in cells()}
#: Cheap cells, one of each kind: out of 20, 15 or fewer come by chance in 3 of 1,000 (95 %).
QUICK = [
    "`peak` logistic, slopes vary; 1/nu 3/4, sizes 16-64, step .01",
    "`half` logistic, slopes vary; 1/nu 3/4, sizes 16-64, step .01",
    "`half` crosses three times",
    "`binder` steps; 1/nu 3/4, sizes 16-64",
    "`stepwise` half steps",
    "`paired_difference` 100 items, 0.15 and 0.05 flip",
    "`wilson` 0.9 of 48",
    "`fixed_sequence` first one above",
]


@pytest.mark.parametrize("name", QUICK)
def test_some_intervals_hold_the_truth(name):
    for quantity, (held, _) in count(CELLS[name], 20).items():
        assert held >= 16, quantity


def test_every_estimator_is_counted_over_three_kinds_of_data():
    named = [cell.estimator for cell in CELLS.values() if cell.covers]
    for estimator in ("`half`", "`peak`", "`binder`", "`collapse`, free", "`fit_items`", "`pooled_auc`"):
        assert named.count(estimator) >= 3


def test_a_cell_that_never_holds_is_seen():
    def never(rng, seed):
        from studies.coverage import Found

        yield Found("x", False, seed % 2 == 0)

    assert count(Cell("e", "s", never), 10) == {"x": (0, 5)}


@pytest.mark.verify
@pytest.mark.parametrize("name", list(CELLS))
def test_intervals_hold_the_truth_at_their_rate(name):
    """85 or fewer of 100 come by chance in 1 of 10,000 (95 %); cells that are known not to cover must warn."""
    cell = CELLS[name]
    for quantity, (held, warned) in count(cell, 100).items():
        print(f"{name}, {quantity}: {held} of 100, warned {warned}")
        covers = cell.covers and quantity != cell.untold
        assert held >= 86 if covers else held >= 95 or warned >= 20

"""The grader of lists: what belongs to whom."""

import pytest

from routegraph.validate.graders import Grader


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ("Ada: Oslo\nBen Li: Rome", 1.0),
        ("Ben Li lives in Rome, and Ada in Oslo.", 1.0),
        ("Oslo\nBen Li: Rome", 1.0),  # the first key was given
        ("Ada: Rome\nBen Li: Oslo", 0.0),
        ("Ada and Ben Li: Oslo and Rome", 0.5),
        ("ADA - oslo", 0.5),
        ("Adam: Oslo", 0.5),  # before any key
        ("Ben Li: Oslo. Adam: Rome", 0.5),
        ("Ada: Paris. Ada: Oslo.", 0.5),
        ("Ada: Osloer", 0.0),
        ("", 0.0),
    ],
)
def test_pairs_stand_together(reply, share):
    assert Grader.named("pairs").score(reply, ("Ada: Oslo", "Ben Li: Rome")) == share


def test_an_answer_that_is_no_pair_stands_anywhere():
    grader = Grader.named("pairs")
    assert grader.score("Ada: Oslo. Total 4", ("Ada: Oslo", "Total 4", "5:", ": 4")) == 0.5

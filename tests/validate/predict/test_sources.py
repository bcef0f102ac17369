"""Where a context says what a reply says."""

import pytest

from routegraph.validate.predict.sources import sources_of

CONTEXT = "Ada Lind lives in Oslo. Bob lives in Rome. The fee, 1,500 kr, is due in Oslo."


@pytest.mark.parametrize(
    ("reply", "sources"),
    [
        ("She lives in Rome.", ["lives in Rome"]),
        (" Oslo", ["Oslo", "Oslo"]),
        ("It is 1,500 kr.", ["1,500 kr"]),
        ("\nAda Lind\nQuestion: what?", ["Ada Lind"]),
        ("I don't know.", []),
        ("Paris", []),
        ("", []),
        (" ... ", []),
    ],
)
def test_the_longest_run_that_occurs(reply, sources):
    assert [CONTEXT[start:end] for start, end in sources_of(CONTEXT, reply)] == sources

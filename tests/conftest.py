"""What all tests share: restored registries, and the profiles of hypothesis.

No deadline on shared cores, the same examples in CI, ten times as many for `make fuzz`.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "routegraph",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("fuzz", settings.get_profile("routegraph"), derandomize=False, max_examples=600)
settings.load_profile("routegraph")


@pytest.fixture
def restored():
    """Leave every registry as it was, whatever the test registers or loads; the registries by their kind."""
    from routegraph import plugins
    from routegraph.cli.files import registries

    known = registries()
    before = [(dict(one._functions), dict(one._origins)) for one in known]
    yield {one.kind: one for one in known}
    for one, (functions, origins) in zip(known, before, strict=True):
        one._functions.clear()
        one._functions.update(functions)
        one._origins.clear()
        one._origins.update(origins)
    plugins._loaded.clear()

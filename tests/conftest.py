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
    from routegraph.policies import policies
    from routegraph.sim.ensembles import ensembles
    from routegraph.sim.measures import measures
    from routegraph.sim.observables import observables
    from routegraph.sim.profiles import profiles
    from routegraph.validate.models.families import families
    from routegraph.validate.presses.scorers import SCORERS
    from routegraph.validate.tasks import tasks

    registries = (policies, ensembles, profiles, observables, measures, SCORERS, families, tasks)
    before = [(dict(one._functions), dict(one._origins)) for one in registries]
    yield {one.kind: one for one in registries}
    for one, (functions, origins) in zip(registries, before, strict=True):
        one._functions.clear()
        one._functions.update(functions)
        one._origins.clear()
        one._origins.update(origins)
    plugins._loaded.clear()

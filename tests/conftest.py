"""Hypothesis profiles: no deadline on shared cores, the same examples in CI, ten times as many for `make fuzz`."""

import os

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

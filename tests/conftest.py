"""One hypothesis profile for the whole suite: no deadline on shared cores, the same examples in CI."""

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
settings.load_profile("routegraph")

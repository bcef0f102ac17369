"""A context, a question and a reply as tokens, and random models that read them."""

from typing import Any

import numpy as np

from routegraph.validate.models.load import Loaded, wrap
from tests.helpers.models import tiny_network

N_CONTEXT, N_QUESTION, N_REPLY = 9, 3, 4
IDS = np.random.default_rng(5).integers(300, size=N_CONTEXT + N_QUESTION + N_REPLY)
CONTEXT, QUESTION, REPLY = np.split(IDS, [N_CONTEXT, N_CONTEXT + N_QUESTION])


def network(family: str, **settings: Any) -> Loaded:
    """Return a random model of a family."""
    return wrap(tiny_network(family, **settings), None, f"random {family}")

"""What is left of a cache, where that can be told without loading a model or asking anybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from routegraph.validate.models.load import shape_of
from routegraph.validate.models.size import cache_bytes
from routegraph.validate.models.sources import MODELS


def cache_row_at_hand(settings: Mapping[str, Any]) -> int:
    """Return how many bytes the cache of a measured model takes for each token; 0 where nothing at hand tells.

    It was written down when the model was measured. Of folders of earlier versions the configuration of a known model
    tells it, where the model is here already.

    Parameters
    ----------
    settings : mapping
        Of the measurement.
    """
    if settings.get("cache_row"):
        return int(settings["cache_row"])
    try:
        source = MODELS[str(settings["model"])]
        folder = (MODELS[source.base] if source.base else source).folder
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        n_layers, n_heads, _, head_dim = shape_of(SimpleNamespace(**config))
        return cache_bytes(n_layers, n_heads, head_dim, 1, str(settings.get("dtype", "float32")))
    except (KeyError, OSError, ValueError, AttributeError, TypeError):
        return 0

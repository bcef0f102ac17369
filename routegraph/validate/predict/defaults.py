"""The calibration of a model that nothing was measured of: written by ``python -m studies.calibration``."""

from __future__ import annotations

import numpy as np

from routegraph.validate.predict.calibration import Calibration

#: Mean and covariance over four models: SmolLM2 and Qwen2.5-Coder-0.5B on documents, llama-tiny, qwen-tiny.
_FITTED = (
    ((0.645, 1.915), ((2.339, -0.48), (-0.48, 0.106))),
    ((0.022, 1.099), ((0.83, 0.145), (0.145, 0.06))),
    ((-0.567, 1.145), ((0.908, -0.04), (-0.04, 0.169))),
    ((-1.084, 1.203), ((0.601, -0.012), (-0.012, 0.176))),
)
#: By how many ratios of a policy are tried; the last one stands for more.
OTHER_MODELS = tuple(
    Calibration(np.array(mean), np.array(covariance), "four other models") for mean, covariance in _FITTED
)

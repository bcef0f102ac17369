"""The calibration of a model that nothing was measured of: written by ``python -m studies.calibration``."""

from __future__ import annotations

import numpy as np

from routegraph.validate.predict.calibration import Calibration

#: Mean and covariance over four models: SmolLM2 and Qwen2.5-Coder-0.5B on documents, llama-tiny, qwen-tiny.
OTHER_MODELS = Calibration(
    mean=np.array([0.645, 1.915]),
    covariance=np.array([[2.339, -0.48], [-0.48, 0.106]]),
    words="four other models",
)

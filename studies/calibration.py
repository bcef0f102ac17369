"""The calibration that ships: ``python -m studies.calibration`` prints it from studies/judged_runs.npz.

Its mean and covariance stand in routegraph/validate/predict/defaults.py.
"""

from __future__ import annotations

from studies.judged_runs import runs
from studies.predicted_ratios import calibrations

if __name__ == "__main__":
    for tries in range(4):
        known = calibrations(runs(), tries)
        print(tries, known.words, known.mean.round(3).tolist(), known.covariance.round(3).tolist())

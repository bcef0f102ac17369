"""Where the checks of tests/verification keep what they found."""

from pathlib import Path

RESULTS = Path(__file__).parents[1] / "verification" / "results"

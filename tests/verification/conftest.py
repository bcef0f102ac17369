"""Every check records what it found: value, error, truth, runs, seconds; a figure; one results.json."""

from __future__ import annotations

import json
import time

import pytest

from routegraph import plot
from routegraph.files import atomic_open
from tests.helpers.results import RESULTS


class Record:
    """What one check found; `value` prints and keeps a number, `figure` saves a plot."""

    def __init__(self, check: str) -> None:
        self.check = check
        self.started = time.perf_counter()
        self.values: dict[str, dict[str, object]] = {}
        self.files: list[str] = []

    def value(self, name, value, error, truth, runs, source=""):
        """Keep a value with its standard error, the truth and the number of runs; print them."""
        row = {
            "value": round(float(value), 8),
            "stderr": None if error is None else round(float(error), 8),
            "truth": round(float(truth), 8),
            "runs": int(runs),
            "source": source,
        }
        self.values[name] = row
        shown = "exact" if error is None else f"+- {error:.2g}"
        distance = f", {(value - truth) / error:+.1f} s.e." if error else ""
        print(f"{self.check}: {name} = {value:.6g} {shown} (truth {truth:.6g}{distance}; {runs} runs)")

    def figure(self, made, name=None):
        """Save a figure beside results.json."""
        path = RESULTS / f"{name or self.check}.svg"
        RESULTS.mkdir(exist_ok=True)
        plot.save(made, path)
        self.files.append(path.name)

    def close(self):
        """Merge into results.json, in order of name."""
        path = RESULTS / "results.json"
        RESULTS.mkdir(exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        known[self.check] = {"figures": self.files, "values": self.values}
        print(f"{self.check}: {time.perf_counter() - self.started:.1f} s")
        with atomic_open(path) as stream:
            stream.write((json.dumps(dict(sorted(known.items())), indent=1) + "\n").encode())


@pytest.fixture
def record(request):
    """A Record named after the test function."""
    made = Record(request.node.name.removeprefix("test_").replace("[", "_").rstrip("]"))
    yield made
    made.close()

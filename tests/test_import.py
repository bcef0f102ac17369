import json
import subprocess
import sys
from pathlib import Path

import pytest

import routegraph

HEAVY = (
    "torch",
    "transformers",
    "kvpress",
    "matplotlib",
    "scipy",
    "networkx",
    "numba",
    "typer",
    "rich",
    "numpy",
)


def loaded_by(code):
    """Which heavy packages a fresh interpreter has loaded after running `code`."""
    program = f"import sys\nbefore = set(sys.modules)\n{code}\n"
    program += "import json\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    folder = Path(routegraph.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    return {name for name in HEAVY if name in modules}


def test_import_loads_nothing_heavy():
    assert loaded_by("import routegraph") == set()


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("from routegraph import Survival, ger\nger(Survival([[[1, 2]]]), .5, [0])", {"numpy"}),
        ("from routegraph import TokenGraph\nTokenGraph.from_edges(1, 1, 1, [1], [0], [0], [0])", {"numpy"}),
        ("from routegraph import Trace", {"numpy"}),
        ("from routegraph import reach_thresholds, winning_ticket", {"numpy", "numba"}),
    ],
    ids=["survival", "graph", "trace", "routes"],
)
def test_a_name_loads_no_more_than_it_needs(code, allowed):
    # numba loads parts of scipy itself.
    assert loaded_by(code) - ({"scipy"} if "numba" in allowed else set()) == allowed


def test_scipy_stats_waits_until_it_is_used():
    program = "import sys, routegraph.routes, routegraph.policies\nassert 'scipy.stats' not in sys.modules"
    folder = Path(routegraph.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", program], cwd=folder, check=False).returncode == 0


@pytest.mark.parametrize("name", routegraph.__all__)
def test_every_public_name_resolves(name):
    assert getattr(routegraph, name) is not None
    assert name in dir(routegraph)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'routegraph' has no attribute 'nothing'"):
        routegraph.nothing  # noqa: B018
    assert not hasattr(routegraph, "nothing")


def test_public_names_are_sorted_and_distinct():
    assert len(set(routegraph.__all__)) == len(routegraph.__all__)
    assert "Trace" in routegraph.__all__

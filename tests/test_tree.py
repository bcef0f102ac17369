"""The tests stand as the package does, and share nothing but what lies in tests/helpers and tests/naive.py."""

import ast
from pathlib import Path

import pytest

import routegraph

HERE = Path(__file__).parent
PACKAGE = Path(routegraph.__file__).parent
FILES = sorted(path.relative_to(HERE) for path in HERE.rglob("*.py"))
#: Folders of tests that have no folder of the package beside them.
ALONE = {"helpers", "data", "verification"}


def modules_of_tests(source, package):
    """Every module of the tests that a file of this package, such as "tests.cli", imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # "from tests import naive" imports a module, "from tests.naive import n_kept" a name out of one.
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "tests" else {base}
    return {name for name in found if name.partition(".")[0] == "tests"}


def is_shared(module):
    return module == "tests.naive" or module.split(".")[:2] == ["tests", "helpers"]


def test_nothing_but_helpers_is_imported():
    strange = {}
    for path in FILES:
        package = ".".join(["tests", *path.parts[:-1]])
        imported = modules_of_tests((HERE / path).read_text("utf-8"), package)
        if bad := sorted(module for module in imported if not is_shared(module)):
            strange[str(path)] = bad
    assert strange == {}


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import tests.cli.test_sweep as other", {"tests.cli.test_sweep"}),
        ("from tests import naive, conftest", {"tests.naive", "tests.conftest"}),
        ("def f():\n    from tests.validate.conftest import tiny", {"tests.validate.conftest"}),
        ("from .conftest import tiny", {"tests.cli.conftest"}),
        ("from ..validate import conftest", {"tests.validate"}),
        ("from tests.helpers.commands import run\nimport numpy", {"tests.helpers.commands"}),
    ],
)
def test_every_way_of_importing_is_seen(source, modules):
    assert modules_of_tests(source, "tests.cli") == modules


def test_every_folder_has_a_folder_of_the_package_beside_it():
    folders = {path.parent for path in FILES if path.parts[0] not in ALONE}
    assert not {str(folder) for folder in folders if not (PACKAGE / folder).is_dir()}


def test_every_folder_is_a_package():
    assert not {str(path.parent) for path in FILES if not (HERE / path.parent / "__init__.py").is_file()}

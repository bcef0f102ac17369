"""An option is declared once: help, range, choices, signatures and the command line follow."""

import inspect
import json
from dataclasses import dataclass

import pytest
import typer
from typer.testing import CliRunner

from routegraph import simulate, sweep
from routegraph.cli import options as command_options
from routegraph.cli.main import app
from routegraph.cli.simulate import simulate as command
from routegraph.options import check, option, options, takes
from routegraph.sim import simulation
from routegraph.sim.parameters import Parameters
from routegraph.validate.measure.run import measure
from routegraph.validate.plan import Measuring, Plan
from routegraph.validate.probe.run import probe


@dataclass(frozen=True)
class Mine(Parameters):
    """A simulation with one more parameter, written in this one place."""

    keep_first: int = option(0, "Rows at the start that are never evicted.", low=0)


def test_one_field_more_is_an_option_more(monkeypatch):
    monkeypatch.setattr(simulation, "Parameters", Mine)
    made = typer.Typer()
    made.command()(command_options.takes(Mine)(inspect.unwrap(command)))
    runner = CliRunner()
    told = runner.invoke(made, ["--help"], env={"COLUMNS": "200"}).output
    assert "--keep-first" in told
    assert "Rows at the start that are never evicted (at least 0)." in told
    small = ["--n-tokens", "40", "--n-layers", "2", "--n-heads", "2", "--replicates", "2", "--json"]
    found = json.loads(runner.invoke(made, [*small, "--keep-first", "3"]).stdout)
    assert found["parameters"]["keep_first"] == 3
    assert simulate(40, n_layers=2, n_heads=2, replicates=1, keep_first=4).parameters.keep_first == 4
    with pytest.raises(ValueError, match="keep_first must be a whole number of at least 0, got -1"):
        simulate(40, keep_first=-1)


@pytest.mark.parametrize(
    ("function", "declaring"),
    [(simulate, Parameters), (sweep, Parameters), (measure, Measuring), (probe, Plan)],
)
def test_functions_name_what_is_declared(function, declaring):
    signature = inspect.signature(function)
    for one in options(declaring):
        assert one.name in signature.parameters
        assert signature.parameters[one.name].default == one.default
        assert one.option.help in function.__doc__
    assert not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    error = (
        (ValueError, "unknown parameter") if function is sweep else (TypeError, "unexpected keyword argument")
    )
    with pytest.raises(error[0], match=f"{error[1]} 'temperature'"):
        function(*(["llama-tiny", [None]] if issubclass(declaring, Plan) else []), temperature=1)


@pytest.mark.parametrize(
    ("name", "declaring"),
    [("simulate", Parameters), ("sweep", Parameters), ("measure", Measuring), ("probe", Plan)],
)
def test_commands_name_what_is_declared(name, declaring):
    found = {p.name: p for p in typer.main.get_command(app).commands[name].params}
    for one in options(declaring):
        assert one.option.help.rstrip(".") in found[one.name].help
        if name != "sweep":
            assert found[one.name].default == one.default


@dataclass(frozen=True)
class Every:
    """One option of every kind."""

    count: int = option(1, "A count.", low=1)
    any_whole: int = option(0, "Any whole number.")
    share: float = option(0.5, "A share.", low=0, high=1)
    length: float = option(1.0, "A length.", above=0)
    shift: float = option(0.0, "A shift.")
    word: str = option("a", "A word.", choices=("a", "b"), noun="letter")
    free: str = option("x", "Any word.")
    switch: bool = option(False, "A switch.")
    plain: int = 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
        ({"count": True}, "count must be a whole number of at least 1, got True"),
        ({"any_whole": 1.5}, "any_whole must be a whole number, got 1.5"),
        ({"share": 1.5}, r"share must be in \[0, 1\], got 1.5"),
        ({"share": float("nan")}, r"share must be in \[0, 1\], got nan"),
        ({"share": "much"}, "share must be a number, got 'much'"),
        ({"length": 0}, "length must be above 0, got 0"),
        ({"shift": float("inf")}, "shift must be a finite number, got inf"),
        ({"word": "c"}, "unknown letter 'c'; choose from: a, b"),
        ({"switch": "no"}, "switch must be True or False, got 'no'"),
    ],
)
def test_values_are_checked(given, said):
    check(Every())
    with pytest.raises(ValueError, match=said):
        check(Every(**given))


def test_a_named_option_keeps_its_place():
    @takes(Every)
    def function(count=9, *, last=1, **rest):
        """Do.

        Parameters
        ----------
        **rest
        last : int
        """

    assert next(iter(inspect.signature(function).parameters)) == "count"
    assert inspect.signature(function).parameters["count"].default == 9
    assert "plain" not in inspect.signature(function).parameters


@pytest.mark.parametrize("value", [True, "0.5", b"1", None, 1j, float("nan"), float("inf")], ids=repr)
def test_what_is_no_number_is_refused_in_python_too(value):
    from routegraph.sim.parameters import Parameters
    from routegraph.survival import check_ratio, n_kept

    for name in ("score_correlation", "answer_shift", "correlation_length"):
        with pytest.raises(ValueError, match=f"{name} must be"):
            Parameters(n_tokens=8, **{name: value})
    with pytest.raises(ValueError, match="ratio must be"):
        check_ratio(value)
    with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\), got 2"):
        n_kept(10, 2)


@pytest.mark.parametrize("name", ["n_tokens", "n_layers", "n_heads", "degree", "group_size"])
@pytest.mark.parametrize("value", [10**18, 10**30])
def test_a_count_without_end_is_refused_before_anything_is_made(name, value):
    """Red before: for ever, or Python's words on integers that are too large."""
    from routegraph.sim.parameters import Parameters

    with pytest.raises(ValueError, match=f"{name} must be at most"):
        Parameters(**{name: value})

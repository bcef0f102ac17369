import pytest

from routegraph.registry import Registry


@pytest.fixture
def colours():
    registry = Registry("colour")

    @registry("red")
    def red(scores, *, n_context, depth: int = 3, warm: bool = True, name: str = "a", share: float = 0.5):
        """Be red.

        And more.
        """
        return "red!"

    @registry("blue")
    def blue(scores=None, depth=2):
        return "blue!"

    return registry


def test_the_decorator_returns_the_function_itself(colours):
    def green():
        return 1

    assert colours("green")(green) is green
    assert colours["green"] is green


def test_names_come_sorted(colours):
    assert list(colours) == ["blue", "red"]
    assert len(colours) == 2
    assert "red" in colours
    assert "green" not in colours
    assert colours["red"](0, n_context=1) == "red!"


def test_an_unknown_name_is_refused_with_the_choices(colours):
    with pytest.raises(ValueError, match=r"^unknown colour 'green'; choose from: blue, red$"):
        colours["green"]
    for question in (colours.parameters, colours.summary):
        with pytest.raises(ValueError, match="unknown colour 'green'"):
            question("green")


def test_a_taken_name_is_refused(colours):
    def green():
        pass

    with pytest.raises(ValueError, match=r"^colour 'red' is already registered$"):
        colours("red")(green)
    assert colours["red"](0, n_context=1) == "red!"


def test_the_same_function_loaded_again_takes_its_place(colours):
    def make():
        def green():
            pass

        return green

    first, again = make(), make()
    colours("green")(first)
    colours("green")(again)
    assert colours["green"] is again


def test_a_function_of_that_name_elsewhere_is_another(colours):
    def make(module):
        def green():
            pass

        green.__module__ = module
        return green

    colours("green")(make("one"))
    with pytest.raises(ValueError, match="already registered"):
        colours("green")(make("other"))


def test_parameters_are_the_keywords_with_a_default(colours):
    assert colours.parameters("red") == {"depth": 3, "warm": True, "name": "a", "share": 0.5}
    assert colours.parameters("blue") == {}


def test_known_parameters_pass(colours):
    colours.check_parameters("red", {"depth": 4, "warm": False, "name": "b", "share": 0.25})
    colours.check_parameters("red", {"share": 1})
    colours.check_parameters("blue", {})


@pytest.mark.parametrize(
    ("name", "parameter", "choices"), [("red", "hue", "depth, warm, name, share"), ("blue", "depth", "none")]
)
def test_unknown_parameters_are_refused_with_the_choices(colours, name, parameter, choices):
    with pytest.raises(ValueError) as refused:
        colours.check_parameters(name, {parameter: 1})
    assert str(refused.value) == f"colour {name!r} takes no parameter {parameter!r}; choose from: {choices}"


def test_what_the_caller_supplies_is_no_parameter(colours):
    with pytest.raises(ValueError, match="takes no parameter 'n_context'"):
        colours.check_parameters("red", {"n_context": 1})


@pytest.mark.parametrize(
    ("parameter", "value", "kind"),
    [
        ("depth", 1.5, "a whole number"),
        ("depth", True, "a whole number"),
        ("depth", "2", "a whole number"),
        ("warm", 1, "True or False"),
        ("name", 1, "a word"),
        ("share", "half", "a number"),
        ("share", True, "a number"),
    ],
)
def test_parameters_of_another_type_are_refused(colours, parameter, value, kind):
    with pytest.raises(ValueError) as refused:
        colours.check_parameters("red", {parameter: value})
    assert str(refused.value) == f"{parameter} of colour 'red' must be {kind}, got {value!r}"


def test_summary_is_the_first_line_of_the_docstring(colours):
    assert colours.summary("red") == "Be red."
    assert colours.summary("blue") == ""

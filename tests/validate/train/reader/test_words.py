"""The words a reader is taught with: none of them occurs in a measured task, and gaps are filled as English has it."""

import re
import tomllib
from importlib import resources

import pytest

from routegraph.validate.train.reader.words import PERSON, Subject, fill, words

GAP = re.compile(r"\{\w+\}")
#: What may stand in a value anywhere.
COMMON = {"and", "of", "the", "a", "in"}
FORMS = {
    "question", "statements", "details", "openings", "closings", "meetings", "says", "who", "both", "prefix", "tell",
    "ask", "pairs", "asides", "when", "did", "what", "where",
}  # fmt: skip


def read(name):
    return tomllib.loads((resources.files("routegraph") / "data" / name).read_text("utf-8"))


READER = read("reader.toml")
MEASURED = [read("documents.toml"), read("tasks.toml")]


def texts(node, keys, key=""):
    """Yield all strings under some keys, however deep."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from texts(inner, keys, name)
    elif isinstance(node, list):
        for inner in node:
            yield from texts(inner, keys, key)
    elif isinstance(node, str) and key in keys:
        yield node


def names_and_values(file):
    yield from texts(file, {"she", "he", "surnames", "values", "subjects", "names", "nouns"})


def split(texts):
    found = {word for text in texts for word in re.findall(r"[\w$:.'-]+", text.lower())}
    return {word for word in found - COMMON if not (word.isdigit() and int(word) < 32)}


def test_no_name_and_no_value_of_a_measured_task_is_trained_on():
    ours = list(names_and_values(READER))
    theirs = [text for file in MEASURED for text in names_and_values(file) if text != "people"]
    assert len(ours) > 1000
    assert len(theirs) > 300
    assert not {text.lower() for text in ours} & {text.lower() for text in theirs}
    # Not even a word of one, days of a month apart.
    assert not split(ours) & split(theirs)


def forms(file):
    """Return all sentences with gaps, what stands in a gap left out."""
    return {tuple(re.findall(r"[\w'-]+", GAP.sub("_", text).lower())): text for text in texts(file, FORMS)}


def runs(forms, n):
    return {form[start : start + n] for form in forms for start in range(len(form) - n + 1)}


def test_no_sentence_form_of_a_measured_task_is_trained_on():
    ours, theirs = forms(READER), {**forms(MEASURED[0]), **forms(MEASURED[1])}
    assert not ours.keys() & theirs.keys()
    assert not runs(ours, 5) & runs(theirs, 5)


def test_the_check_of_forms_sees_a_form_that_is_shared():
    assert (
        forms({"tell": ["{name} lives in {value}."]}).keys()
        & forms({"says": "{name} lives in {value}"}).keys()
    )


def test_relations_are_kept_for_validation():
    held = [relation for relation in words().relations if relation.held_out]
    assert 5 <= len(held) < len(words().relations) / 2
    assert any(kind.held_out for kind in words().kinds)


@pytest.mark.parametrize("relation", words().relations, ids=lambda relation: relation.says)
def test_every_wording_names_subject_and_value(relation):
    subject, value = Subject("Zo Quax", "she"), "VALUE"
    for template in relation.tell:
        said = fill(template, subject, value)
        assert "Zo Quax" in said
        assert "VALUE" in said
        assert "{" not in said
    for template in relation.ask:
        asked = fill(template, subject)
        assert "Zo Quax" in asked
        assert "{" not in asked
        assert asked.endswith("?")
    for template in relation.who:
        asked = fill(template, Subject("", "it"), value)
        assert "VALUE" in asked
        assert "{" not in asked
    for part in relation.parts:
        assert "Zo Quax" in fill(part.ask, subject)
        assert "VALUE" in fill(part.who, Subject("", "it"), value)


def test_gaps():
    ann = Subject("Ann Oates", "she")
    assert fill("{name} lost {their} hat.", ann) == "Ann Oates lost her hat."
    assert fill("{their} hat is {value}.", ann, "red") == "Ann Oates' hat is red."
    assert fill("{their} hat is {value}.", ann, "red", again=True) == "Her hat is red."
    assert fill("{name} saw {a} {value}.", ann, "owl", again=True) == "She saw an owl."
    # A pronoun would be wrong here.
    assert fill("Letters for {name} came.", ann, again=True) == "Letters for Ann Oates came."
    assert fill("Friends like {them}.", Subject("Bo", "he"), again=True) == "Friends like him."


def test_people_have_no_names_of_their_own():
    assert all(bool(kind.names) == (kind.name != PERSON) for kind in words().kinds)

"""Every grader: its own rule, the laws that all obey, and names with parameters."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.testing import check_laws
from routegraph.validate.graders import Grader, grader, graders
from routegraph.validate.graders.words import normalise


def score(name, reply, *golds, choices=()):
    return Grader.named(name).score(reply, golds, choices)


@pytest.mark.parametrize("name", sorted(graders))
def test_every_grader_obeys_the_laws(name):
    check_laws(name)


class TestNames:
    def test_with_parameters(self):
        found = Grader.named("f1:threshold=.3")
        assert found.threshold == 0.3
        assert found.right(0.3)
        assert not found.right(0.29)
        assert Grader.named("f1").threshold == 0.5
        assert Grader.named("contains").threshold == 1

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("luck", "unknown grader 'luck'; choose from: all_of, any_of, choice, contains, exact, f1"),
            ("f1:treshold=1", "takes no parameter 'treshold'; choose from: threshold"),
            ("f1:threshold=high", "must be a number, got 'high'"),
            ("f1:threshold=2", r"must be in \(0, 1\], got 2"),
            ("regex:whole=perhaps", "must be True or False, got 'perhaps'"),
        ],
    )
    def test_bad_ones_are_named(self, name, words):
        with pytest.raises(ValueError, match=words):
            Grader.named(name)

    def test_ones_own(self, restored):
        @grader("half")
        def half(reply, golds, choices=(), *, threshold=0.5):
            """Give half a point."""
            return 0.5

        found = Grader.named("half")
        assert found.right(found.score("x", ["y"]))

    def test_a_score_out_of_range_is_refused(self, restored):
        grader("much")(lambda reply, golds, choices=(): 2.0)
        with pytest.raises(ValueError, match=r"grader 'much' must give a score in \[0, 1\], got 2"):
            score("much", "x", "y")


# RULER's and LongBench's rules once more, as plainly as they can be said.
def ruler_all(reply, refs):
    return sum([1.0 if ref.lower() in reply.lower() else 0.0 for ref in refs]) / len(refs)


def longbench_f1(reply, gold):
    def words(text):
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    said, wanted = words(reply), words(gold)
    same = sum((Counter(said) & Counter(wanted)).values())
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(said), 1.0 * same / len(wanted)
    return (2 * precision * recall) / (precision + recall)


WORDS = ["the", "The", "a", "An", "cat", "Cat,", "dog's", "dogs", "7", "é", "-"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_scores_are_those_of_ruler_and_longbench(reply, golds):
    assert score("all_of", reply, *golds) == ruler_all(reply, golds)
    assert score("any_of", reply, *golds) == max(float(gold.lower() in reply.lower()) for gold in golds)
    assert score("f1", reply, *golds) == max(longbench_f1(reply, gold) for gold in golds)


def test_all_of():
    assert score("all_of", "The numbers are 12 and 345.", "12", "345", "6") == pytest.approx(2 / 3)
    assert not Grader.named("all_of").right(2 / 3)
    assert Grader.named("all_of").right(1.0)


def test_exact():
    assert score("exact", "The Geneva.", "Geneva") == 1
    assert score("exact", "In Geneva.", "Geneva") == 0


OPTIONS = ("Paris", "Geneva", "Geneva Lake", "none of these")


@pytest.mark.parametrize(
    ("reply", "gold", "right"),
    [
        ("B", "B", True),
        ("(B)", "B", True),
        ("B. Geneva", "B", True),
        ("The answer is B because she says so", "B", True),
        ("**Answer: B**", "B", True),
        ("Option C is right", "C", True),
        ("The correct answer is (B), not (A).", "B", True),
        ("She lives in Geneva.", "B", True),
        ("She lives in Geneva.", "Geneva", True),
        ("She lives near Geneva Lake", "C", True),
        ("She lives near Geneva Lake", "B", False),
        ("Paris and Geneva", "B", False),
        ("A bus goes to Geneva", "A", False),
        ("A", "B", False),
        ("", "B", False),
        ("A, B, C or D", "B", False),
    ],
)
def test_choice(reply, gold, right):
    assert score("choice", reply, gold, choices=OPTIONS) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("The correct answer is (B).", True),
        ("Well, **The correct answer is B**", True),
        ("The correct answer is (A). The correct answer is (B)", False),
        ("B", False),
        ("the correct answer is (B)", False),
    ],
)
def test_choice_as_longbench_v2_has_it(reply, right):
    assert score("choice:strict=true", reply, "B", choices=OPTIONS) == right


def test_an_answer_that_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="answer 'Rome' is neither a letter nor one of the choices"):
        score("choice", "B", "Rome", choices=OPTIONS)


@pytest.mark.parametrize(
    ("name", "reply", "gold", "right"),
    [
        ("number", "about 12,400 euros", "12400", True),
        ("number", "twelve", "12", True),
        ("number", "12.5", "12", False),
        ("number:tolerance=.5", "12.5", "12", True),
        ("number:tolerance=.1", "0.3", "0.2", True),
        ("number:relative=.1", "110", "100", True),
        ("number:relative=.1", "111", "100", False),
        ("number", "-5", "5", False),
        ("number", "none", "5", False),
        ("number", "7 or 5", "5", False),
    ],
)
def test_number(name, reply, gold, right):
    assert score(name, reply, gold) == right


def test_number_needs_one():
    with pytest.raises(ValueError, match="answer 'many' holds no number"):
        score("number", "5", "many")


def test_regex():
    assert score("regex", "in Geneva", r"Gen[eè]v[ae]") == 1
    assert score("regex:whole=true", "in Geneva", r"Gen[eè]v[ae]") == 0
    with pytest.raises(ValueError, match=r"answer '\(' is no regular expression"):
        score("regex", "x", "(")


class TestContains:
    @pytest.mark.parametrize(
        ("reply", "gold"),
        [
            ("John F. Kennedy did.", "John F. Kennedy"),
            ("Dr. Falk led it", "Falk"),
            ("It costs $1,250.50.", "1250.5 dollars"),
            ("three hundred and five nests", "305"),
            ("2 million people", "2,000,000"),
            ("the 22nd of May", "22 May"),
            ("05/22/2026", "22 May 2026"),
            ("5/6/2026", "6 May 2026"),
            ("It's 850 a month", "850 pounds"),
            ("not until 22 May", "22 May"),
            ("not only in Geneva", "Geneva"),
            ("Yes. The dog may stay.", "dog"),
            ("서울에 살아요", "서울"),
            ("他住在北京", "北京"),
            ("Ada Barlow, a baker from Oslo", "Ada Barlow"),
            ("B12", "B-12"),
            ("six weeks or more", "six weeks"),
            ("F# and nothing else", "F#"),
            ("There is no difference between the two.", "no"),
            ("A is correct", "A"),
        ],
    )
    def test_right(self, reply, gold):
        assert score("contains", reply, gold) == 1

    @pytest.mark.parametrize(
        ("reply", "gold"),
        [
            ("She does not live in Geneva", "Geneva"),
            ("neither Lisbon nor Geneva", "Geneva"),
            ("Geneva is wrong", "Geneva"),
            ("timber, oranges, coffee", "coffee"),
            ("timber and coffee.", "coffee"),
            ("22 May and 24 June", "22 May"),
            ("ラテンアメリカ", "アメリカ"),
            ("ジュネーブではありません", "ジュネーブ"),
            ("22", "22 May"),
            ("Flat 12", "B-12"),
            ("B-12", "12"),
            ("12:30", "12"),
            ("I would say so", "I"),
            ("no one", "no"),
            ("It is allowed", "no"),
            ("Smoking is allowed", "yes"),
            ("", "no"),
            ("  \n ", "yes"),
        ],
    )
    def test_wrong(self, reply, gold):
        assert score("contains", reply, gold) == 0

    def test_another_of_the_choices_beside_it_is_wrong(self):
        assert score("contains", "Geneva, near Paris", "Geneva", choices=("Paris", "Geneva")) == 0
        assert score("contains", "Geneva, near Rome", "Geneva", choices=("Paris", "Geneva")) == 1

    @given(st.text(), st.text(min_size=1))
    def test_whatever_is_typed(self, reply, gold):
        if normalise(gold):
            assert score("contains", reply, gold) in (0, 1)

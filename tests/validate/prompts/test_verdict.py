"""Matching replies: normalisation, the published phrases of abstention, right and wrong."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.graders.prefix import LEAD_INS, says
from routegraph.validate.graders.words import ARTICLES
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.verdict import (
    ABSTAINING_WORDS,
    ABSTENTIONS,
    Verdict,
    abstains,
    judge,
    normalise,
)

WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8).filter(
    lambda word: word.casefold() not in ARTICLES
)


class TestNormalisation:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("  Geneva. ", "geneva"),
            ("THE Old Observatory", "old observatory"),
            ("an owl, a fox", "owl fox"),
            ("don't", "dont"),
            ("it’s", "its"),
            ("1,903", "1903"),
            ("3.5 km", "3.5 km"),
            ("v.5", "v 5"),
            ("half-timbered", "half timbered"),
            ("ＧＥＮＥＶＡ", "geneva"),
            ("Straße", "strasse"),
            ("Zürich", "zürich"),
            ("\tone\n two ", "one two"),
            ("The", "the"),
            ("...", ""),
        ],
    )
    def test_examples(self, text, expected):
        assert normalise(text) == expected

    @given(st.text())
    def test_twice_is_once(self, text):
        assert normalise(normalise(text)) == normalise(text)

    @given(st.lists(WORDS, min_size=1), st.sampled_from([" ", "  ", ", ", "\n", " the ", "! A "]))
    def test_case_punctuation_and_articles_do_not_count(self, words, between):
        assert normalise(between.join(words).upper() + ".") == normalise(" ".join(words).lower())

    @given(st.lists(WORDS, min_size=2, unique_by=str.casefold))
    def test_words_and_their_order_count(self, words):
        assert normalise(" ".join(words)) != normalise(" ".join(words[::-1]))
        assert normalise(" ".join(words)) != normalise(" ".join(words[1:]))


class TestSays:
    @pytest.mark.parametrize(
        "reply",
        [
            " Geneva.",
            "geneva",
            "the Geneva",
            "\n\nGeneva\nLondon",
            "Answer: Geneva.",
            "It's Geneva",
        ],
    )
    def test_right(self, reply):
        assert says(reply, "Geneva")

    @pytest.mark.parametrize(
        "reply",
        [
            "",
            "London",
            "Genevan",
            "not Geneva",
            "London. Geneva",
            "London\nGeneva",
            "\nLondon\nGeneva",
            "in the north, Geneva",
        ],
    )
    def test_wrong(self, reply):
        assert not says(reply, "Geneva")

    def test_numbers_are_whole(self):
        assert says("1,903 people", "1903")
        assert not says("19035", "1903")
        assert not says("3.5", "3")

    def test_an_answer_of_an_article_is_one(self):
        assert says("A", "a")
        assert not says("B", "a")

    def test_without_words_there_is_nothing_to_match(self):
        with pytest.raises(ValueError, match=r"answer '\?!' has no word"):
            says("anything", "?!")

    @given(st.lists(WORDS, min_size=1, max_size=3), st.lists(WORDS, max_size=3))
    def test_an_answer_and_whatever_follows_it(self, answer, more):
        assert says(" ".join(answer + more), " ".join(answer))

    @given(WORDS, WORDS)
    def test_another_word_first_is_wrong(self, answer, other):
        if normalise(other) != normalise(answer) and normalise(other) not in LEAD_INS:
            assert not says(f"{other} {answer}", answer)


class TestAbstention:
    @pytest.mark.parametrize("phrase", ABSTENTIONS)
    def test_every_phrase(self, phrase):
        assert abstains(f"Well, {phrase.upper()}, whatever. Geneva.")
        assert not abstains(f"Geneva. {phrase}.")
        assert not abstains(f"Geneva\n{phrase}")

    @pytest.mark.parametrize("word", ABSTAINING_WORDS)
    def test_words_must_stand_alone(self, word):
        assert abstains(f" {word}.")
        assert not abstains(f"the {word} soldier")

    def test_the_token(self):
        assert abstains("<idk>")
        assert abstains("Geneva <IDK>")
        assert not abstains("idkx")

    @pytest.mark.parametrize("reply", ["", "Geneva", "He knows", "Knot mentioned", "I donate"])
    def test_no_abstention(self, reply):
        assert not abstains(reply)


class TestJudge:
    prompt = Prompt("p", "Ada lives in Geneva.", answer="Geneva")
    open = Prompt("q", "Ada lives in Geneva.", answer="", answerable=False)

    @pytest.mark.parametrize(
        ("reply", "word", "wrong"),
        [
            ("Geneva.", "right", False),
            ("London", "wrong", True),
            ("I don't know", "abstained", False),
            ("", "wrong", True),
        ],
    )
    def test_answerable(self, reply, word, wrong):
        found = judge(self.prompt, reply)
        assert (found.word, found.wrong) == (word, wrong)
        assert found.right == (word == "right")

    @pytest.mark.parametrize(("reply", "right"), [("I don't know", True), ("Geneva", False), ("", False)])
    def test_where_the_context_does_not_tell_all_else_is_wrong(self, reply, right):
        assert judge(self.open, reply) == Verdict(right=right, abstained=right, score=float(right))
        assert judge(self.open, reply).wrong == (not right)

    def test_a_right_answer_is_no_abstention(self):
        prompt = Prompt("r", "The film is called Not Known Yet.", answer="Not Known Yet")
        assert judge(prompt, "Not known yet, they say") == Verdict(True, False, 1.0)

    def test_the_grader_named_comes_before_the_prompts_own_and_that_before_the_default(self):
        reply, own = (
            "She lives in Geneva",
            Prompt("p", "Ada lives in Geneva.", answer="Geneva", grader="exact"),
        )
        assert judge(self.prompt, reply).right
        assert not judge(own, reply).right
        assert judge(own, reply, "any_of").right

    def test_any_of_several_answers_will_do(self):
        prompt = Prompt("p", "Ada lives in Geneva.", answer="Geneva", answers=("Genf",))
        assert judge(prompt, "In Genf").right

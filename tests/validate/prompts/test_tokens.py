"""Prompts as tokens: which tokens a span takes, and how a question goes on after its context."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.models.load import Loaded
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import tokenise, tokens_in


class TestTokensIn:
    def test_space_before_a_word_is_no_part_of_it(self) -> None:
        context = "Ada lives in Paris now."
        offsets = np.array([(0, 3), (3, 9), (9, 12), (12, 18), (18, 22), (22, 23)])  # " Paris" is (12, 18)
        assert context[13:18] == "Paris"
        assert tokens_in(context, offsets, [(13, 18)]).tolist() == [3]
        assert tokens_in(context, offsets, [(13, 19)]).tolist() == [3]
        assert tokens_in(context, offsets, [(9, 13)]).tolist() == [2]
        assert tokens_in(context, offsets, [(15, 16)]).tolist() == [3]
        assert tokens_in(context, offsets, [(22, 23), (0, 1)]).tolist() == [0, 5]
        assert tokens_in(context, offsets, []).tolist() == []

    @given(data=st.data())
    def test_naive_twin(self, data: st.DataObject) -> None:
        context = data.draw(st.text("ab \n", min_size=1, max_size=20))
        place = st.integers(0, len(context))
        pairs = st.lists(st.tuples(place, place).map(sorted).map(tuple), max_size=6)
        offsets, spans = data.draw(pairs), data.draw(pairs)
        expected = [
            token
            for token, (start, end) in enumerate(offsets)
            if any(
                not context[at].isspace() and any(first <= at < last for first, last in spans)
                for at in range(start, end)
            )
        ]
        array = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        assert tokens_in(context, array, spans).tolist() == expected


class TestEncode:
    prompt = Prompt("p", "Ada lives in Paris.", "Where does Ada live?", "Paris", "Answer: Ada lives in")

    def test_question_after_the_context(self, tiny: Loaded) -> None:
        asked = tokenise(tiny, self.prompt)
        assert asked.context.tolist() == tiny.tokenizer(self.prompt.context)["input_ids"]
        assert tiny.tokenizer.decode(asked.context) == self.prompt.context
        text = "\nQuestion: Where does Ada live?\nAnswer: Ada lives in"
        assert tiny.tokenizer.decode(asked.question) == text
        assert tiny.tokenizer.decode(asked.answer) == " Paris"
        assert self.prompt.context[slice(*asked.offsets[-2])].strip() == "Paris"

    def test_parts_may_be_missing(self, tiny: Loaded) -> None:
        def text(**fields: str) -> str:
            return str(tiny.tokenizer.decode(tokenise(tiny, replace(self.prompt, **fields)).question))

        assert text(answer_prefix="") == "\nQuestion: Where does Ada live?\nAnswer:"
        assert text(question=" ") == "\nAnswer: Ada lives in"
        assert tokenise(tiny, replace(self.prompt, answer=" ")).answer.size == 0
        with pytest.raises(ValueError, match="'p' asks nothing: it has neither question nor answer prefix"):
            text(question="", answer_prefix=" ")

    def test_answer_that_shares_a_token_with_the_prefix(self, tiny: Loaded) -> None:
        asked = tokenise(tiny, replace(self.prompt, answer_prefix="Answer: "))
        assert tiny.tokenizer.decode(asked.answer).strip() == "Paris"

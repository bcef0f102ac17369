"""Where the answer of a reply ends."""

import numpy as np
import pytest

from routegraph.validate.predict.reply import stated


class Letters:
    """A tokenizer whose tokens are characters; 0 ends a text."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join(chr(one) for one in ids if one)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (" 14 March.\n\nThe parade", "14 March."),
        ("\nIris\0", "Iris"),
        ("It is 5.2 km. Then", "It is 5.2 km."),
        ("Oslo", "Oslo"),
        ("\0", ""),
        (" \n ", ""),
        ("", ""),
    ],
)
def test_the_fewest_tokens_that_hold_the_statement(reply, said):
    tokens, text = stated(Letters(), np.array([ord(one) for one in reply], dtype=np.int64))
    assert text == said
    held = "".join(chr(one) for one in tokens)
    assert held == (reply[: reply.index(said) + len(said)] if said else reply)

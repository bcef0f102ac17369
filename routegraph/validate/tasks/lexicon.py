"""The words of the word-level language, and its tokenizer: one token a word."""

from __future__ import annotations

from typing import Any

SPECIAL = ("<pad>", "<bos>", "<unk>", ".", "Question:", "Answer:", "who", "<idk>")
PAD, BOS, UNK, STOP, QUESTION, ANSWER, WHO, IDK = range(len(SPECIAL))


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(" ".join(lines).split())


#: Relations whose values are things, and those things.
ATTRIBUTES = {
    "city": _words("Paris Rome London Berlin Tokyo Madrid Cairo Oslo Lima Delhi Boston Vienna"),
    "job": _words("doctor lawyer teacher pilot baker farmer nurse judge painter writer chef tailor"),
    "pet": _words("cat dog parrot rabbit turtle hamster lizard goldfish pony snake ferret frog"),
    "color": _words("red blue green yellow purple orange black white pink brown gray gold"),
    "food": _words("pizza sushi pasta curry salad soup bread cheese rice steak tacos pie"),
    "sport": _words("tennis soccer golf chess rugby boxing rowing skiing cycling judo hockey surfing"),
}
#: Relations whose values are persons.
LINKS = ("friend", "boss")
NAMES = _words(
    "Alice Bob Carol David Emma Frank Grace Henry Irene Jack Karen Leo Mary Nick Olga Paul Quinn Rosa Sam Tina",
    "Uma Victor Wendy Xavier Yara Zack Amy Ben Cleo Dan Eva Fred Gina Hugo Ida Joel Kate Liam Mona Ned Oona",
    "Pete Rita Seth Tess Ugo Vera Will Abe Bea Cal Dora Eli Fay Gus Hal Iris Jim Kim Lou Max Nora Otto Pam",
)
FILLERS = _words(
    "the a wind rain sun river road night day morning train clock house garden window letter slowly quickly",
    "quietly moved stood fell rose passed opened closed waited over under near along before after again while",
)
_VALUES = tuple(value for values in ATTRIBUTES.values() for value in values)
N_ATTRIBUTES, N_VALUES = len(ATTRIBUTES), len(_VALUES) // len(ATTRIBUTES)

#: Every word; a token is its place here.
VOCABULARY = (*SPECIAL, *ATTRIBUTES, *LINKS, *NAMES, *_VALUES, *FILLERS)

#: The first relation, name, value and filler.
RELATION = len(SPECIAL)
NAME = RELATION + N_ATTRIBUTES + len(LINKS)
VALUE = NAME + len(NAMES)
FILLER = VALUE + len(_VALUES)


def kind(word: str) -> str | None:
    """Return the attribute that a word is a value of, "name" of a person, None of any other word."""
    if word in NAMES:
        return "name"
    return next((attribute for attribute, values in ATTRIBUTES.items() if word in values), None)


def word_tokenizer() -> Any:
    """Return the fast tokenizer of the language: one token a word, whatever white space is between them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocab=ids, unk_token=SPECIAL[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A", special_tokens=[(SPECIAL[BOS], BOS)]
    )
    # "<idk>" is an answer like any other: a special token would be left out of what is decoded.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
        unk_token=SPECIAL[UNK],
        clean_up_tokenization_spaces=False,
    )

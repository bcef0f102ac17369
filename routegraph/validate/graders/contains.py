"""The default grader of free text: right where the first sentence of a reply states the answer.

It states it where it holds it as whole words, as `routegraph.validate.graders.tokens` compares them, where it does not
deny it, where it has not said before that it does not know, and where the answer is no item of a list of such
answers. "yes" and "no" as answers have rules of their own: the first word decides; a sentence that denies says no.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from routegraph.validate.graders.abstention import abstains
from routegraph.validate.graders.registry import grader
from routegraph.validate.graders.tokens import UNITS, Token, plain, readings
from routegraph.validate.graders.words import ARTICLES, normalise, statement, words

_NOT = frozenset(
    words(
        "not no never neither nor without cannot cant dont doesnt didnt isnt arent wasnt werent wont wouldnt hasnt",
        "havent hadnt couldnt shouldnt aint",
    )
)
#: Between "not" and the answer these turn it round: not only, not until, no later than.
_TURNS = frozenset(words("only just until till before than since but after except"))
#: How far before the answer, in words, "not" may stand.
_REACH = 3
_CLAUSE = re.compile(r"[,;:()，、；：]|\bbut\b|\brather\b")
_DENIED_AFTER = re.compile(
    r"\W*(?:(?:is|was)(?:\s+not|n['’]?t)\s+(?:correct|right|true|the\b|where)|(?:is|was)\s+(?:wrong|false|incorrect))",
    re.IGNORECASE,
)
_DENIED_SIGNS = re.compile(r"(?:不是|并非|不在|没有|没在)\s*$")
_DENIED_SIGNS_AFTER = re.compile(r"\s*(?:では|じゃ|に)?(?:ありません|ない|いません)")
_YES = frozenset(words("yes yeah yep correct true indeed right"))
_NO = frozenset(words("no nope false incorrect"))
_KANJI, _KATAKANA, _KANA = r"[\u3400-\u9fff]", r"[\u30a0-\u30ff]", r"[\u3040-\u30ff]"
_SEPARATOR = re.compile(r"\s*(?:,\s*(?:and|or)\b|[,;、，/]|\band\b|\bor\b|&)\s*(?:(?:a|an|the|in|on|at)\s+)?")
_BEFORE = re.compile(rf"(?P<sep>{_SEPARATOR.pattern})$")
_OR_MORE = re.compile(r"\W*\bor\s+(?:more|less|so|about|fewer|later|earlier)\b")


@grader("contains")
def contains(reply: str, golds: Sequence[str], choices: Sequence[str] = ()) -> float:
    """Whether the first sentence states an answer: whole words; numbers, dates and units as people read them.

    Not right are an answer that is denied, one of several in a list, and one beside another of the choices.
    """
    return float(any(_states(reply, gold, choices) for gold in golds))


def _states(reply: str, gold: str, choices: Sequence[str]) -> bool:
    wanted = normalise(gold)
    if not wanted and not readings(gold)[0]:
        raise ValueError(f"answer {gold!r} has no word to match replies by")
    said = plain(statement(reply, initials=bool(re.search(r"(?<!\w)[A-Z]\.\s", gold))))
    if wanted in ("yes", "no"):
        return _polar(said) == wanted
    found = [span for tokens in readings(gold) for span in _places(said, tokens)]
    others = [one for one in choices if normalise(one) != wanted and normalise(one) not in wanted]
    if found and any(_places(said, readings(one)[0]) for one in others):
        return False
    return any(
        _affirmed(said, start, end) and not _listed(said[:start], said[start:end], said[end:])
        for start, end in found
    )


def _polar(said: str) -> str | None:
    """Return the answer to a yes-or-no question: by the first word, else "no" of a sentence that denies."""
    spoken = normalise(said).split()
    if not spoken or abstains(said) or spoken[:2] == ["no", "one"] or spoken[0] in ("nobody", "none"):
        return None
    if spoken[0] in _YES | _NO:
        return "yes" if spoken[0] in _YES else "no"
    return "no" if _NOT & set(spoken) else None


def _places(said: str, wanted: Sequence[Token]) -> list[tuple[int, int]]:
    """Return where a sentence holds an answer, in characters."""
    last = len(wanted) - 1
    wanted = [token for place, token in enumerate(wanted) if token.text not in ARTICLES or place == last]
    found = []
    for tokens in readings(said):
        for place in range(len(tokens)):
            end = _match(said, tokens, place, wanted)
            if end is not None:
                start = min(token.start for token in tokens[place:end])
                found.append((start, max(token.end for token in tokens[place:end])))
    return [span for span in dict.fromkeys(found) if _whole(said, *span)]


def _match(said: str, tokens: Sequence[Token], place: int, wanted: Sequence[Token]) -> int | None:
    """Return where a match that begins at a token ends; None where there is none."""
    at = place
    for number, token in enumerate(wanted):
        here = at
        while number and at < len(tokens) and tokens[at].text in ARTICLES and tokens[at].text != token.text:
            at += 1
        if at < len(tokens) and _same(said, tokens, at, token):
            at += 1
        elif number == 1 and _only_units(wanted[1:]) and _bare(said, tokens, here):
            return here
        else:
            return None
    return at if wanted else None


def _same(said: str, tokens: Sequence[Token], at: int, wanted: Token) -> bool:
    token = tokens[at]
    if token.text != wanted.text:
        return False
    bare = wanted.raw.replace(".", "")
    ends = not re.match(r"\s*\w", said[token.end :])
    if len(bare) == 1 and bare.isupper():  # the letter A, not the article; I, not the pronoun
        goes_on = re.match(r"\s+(?!(?:is|was|because|since|as)\b)[a-z]", said[token.end :])
        return ends or (token.raw.isupper() and not goes_on)
    if len(bare) <= 3 and bare.isupper():  # U.S., not us; IT, not it
        return token.raw.replace(".", "").isupper()
    return True


def _only_units(rest: Sequence[Token]) -> bool:
    return all(token.text in UNITS and not token.is_month for token in rest)


def _bare(said: str, tokens: Sequence[Token], at: int) -> bool:
    """Whether the number before a token stands without a unit."""
    if tokens[at - 1].value is None:
        return False
    rest = said[tokens[at - 1].end :]
    return not re.match(r"[\s-]*\w|\s*[%°€$£¥]", rest) or bool(
        re.match(r"\s+(?:a|per|each|every|in|on|at|for|from|and)\b", rest)
    )


def _whole(said: str, start: int, end: int) -> bool:
    """Whether a word of signs is no part of a longer one, as far as signs tell."""
    before, found, after = said[start - 1 : start], said[start:end], said[end : end + 1]
    if re.match(_KATAKANA, found) and re.match(_KATAKANA, before):
        return False
    if re.match(_KATAKANA, found[-1]) and re.match(_KATAKANA, after):
        return False
    # Where there are kana, the text is Japanese: they stand between words.
    japanese = re.search(_KANA, said)
    return not (japanese and re.match(_KANJI, found) and re.match(_KANJI, before))


def states(said: str, value: str) -> bool:
    """Return whether a sentence states a value, among others or not: it names it and does not deny it."""
    said = plain(said)
    found = [span for tokens in readings(value) for span in _places(said, tokens)]
    return any(_affirmed(said, start, end) for start, end in found)


def _affirmed(said: str, start: int, end: int) -> bool:
    before, after = said[:start], said[end:]
    if _DENIED_AFTER.match(after) or _DENIED_SIGNS.search(before) or _DENIED_SIGNS_AFTER.match(after):
        return False
    return not abstains(before) and not _denied(_CLAUSE.split(before)[-1])


def _denied(clause: str) -> bool:
    said = [word for word in normalise(clause).split() if word not in ARTICLES]
    near = [number for number, word in enumerate(said) if word in _NOT and len(said) - number <= _REACH]
    return bool(near) and not _TURNS & set(said[near[-1] :])


def _listed(before: str, found: str, after: str) -> bool:
    """Whether an answer is one of several: joined by "or", by "and" to one like it, or one of three like it."""
    left, right = _BEFORE.search(before), _SEPARATOR.match(after)
    if _OR_MORE.match(after):
        right = None
    if any(one and re.search(r"\bor\b", one.group()) for one in (left, right)):
        return True
    like = 0
    if left:
        items = _SEPARATOR.split(before[: left.start()])[::-1]
        size = len(found.split())
        beside = items[0].split()
        if _alike(" ".join(beside[-size:]), found):
            like += 1 + (len(items) > 1 and _alike(" ".join(items[1].split()[-size:]), found))
            if re.search(r"\band\b|&", left.group()) or (len(beside) == size and len(items) == 1):
                return True
    if right:
        items = _SEPARATOR.split(after[right.end() :].rstrip(" .!?。"))
        if _alike(items[0], found):
            like += 1 + (len(items) > 1 and _alike(items[1], found))
            if re.search(r"\band\b|&", right.group()):
                return True
    return like >= 2


def _alike(item: str, found: str) -> bool:
    """Whether an item looks like an answer: about as many words, and capitals, small letters or digits as there."""
    size = len(item.split())
    fits = 0 < size <= len(found.split()) + 1
    return fits and _look(item) == _look(found) and normalise(item) != normalise(found)


def _look(text: str) -> str:
    if re.search(r"\d", text):
        return "number"
    firsts = [word[0] for word in text.split() if word not in ("and", "of", "de", "&", "in")]
    return "capital" if all(first.isupper() for first in firsts) else "small"

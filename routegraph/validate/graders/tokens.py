"""A text as tokens that compare as people read: numbers, dates, units, abbreviations, whatever they are typed like."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from routegraph.validate.graders.words import words

_SMALL = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
    "eighteen nineteen",
)
_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
_CARDINALS = {word: n for n, word in enumerate(_SMALL)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = {
    word: n
    for n, word in enumerate(
        words(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth",
            "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth",
        ),
        1,
    )
}
_MONTHS = words("january february march april may june july august september october november december")
_MONTH = {month[:3]: month for month in _MONTHS} | {month: month for month in _MONTHS} | {"sept": "september"}
_MONEY = {"€": "euro", "$": "dollar", "£": "pound", "¥": "yen"}
#: Other ways to write a unit.
_ALIASES = {
    "km": "kilometre", "kilometer": "kilometre", "m": "metre", "meter": "metre", "cm": "centimetre",
    "centimeter": "centimetre", "mm": "millimetre", "kg": "kilogram", "g": "gram", "l": "litre", "liter": "litre",
    "hr": "hour", "min": "minute", "EUR": "euro", "USD": "dollar", "GBP": "pound", "%": "percent", "°": "degree",
}  # fmt: skip
#: Words that say what a number counts; an answer is complete without.
UNITS = frozenset(_ALIASES.values()) | {
    "second", "day", "week", "month", "year", "mile", "foot", "ton", "tonne", "square", "cubic", "celsius", "cent",
}  # fmt: skip
_APOSTROPHES = "'’‘ʼ`´"
#: Scripts that put no blank between words, and Korean, which writes particles onto them: every sign is a token.
SIGN = (
    r"[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7a3"
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)

_TOKEN = re.compile(
    rf"""
    (?P<iso>(?<!\d)\d{{4}}-\d{{1,2}}-\d{{1,2}}(?!\d))
    | (?P<slashed>(?<!\d)\d{{1,2}}(?P<mark>[./])\d{{1,2}}(?P=mark)\d{{4}}(?!\d))
    | (?P<time>(?<!\d)\d{{1,2}}:\d{{2}}(?!\d))
    | (?P<money>[€$£¥])
    | (?P<code>(?<!\w)[A-Z]{{1,2}}-?\d+[A-Za-z]?(?!\w))
    | (?P<ordinal>(?<!\w)\d+(?:st|nd|rd|th)(?![^\W_]))
    | (?P<number>(?:(?<![\w.])[-–])?(?<![A-Za-z\d])\d+(?:[.,]\d+)?)
    | (?P<short>(?<!\w)(?:[^\W\d_]\.){{2,}}(?:[^\W\d_](?!\w))?)
    | (?P<sign>{SIGN})
    | (?P<mark2>[%°])
    | (?P<word>(?:(?!{SIGN})\w)+(?:[{_APOSTROPHES}](?:(?!{SIGN})\w)+)*[+\#]*)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """One word, number or sign.

    Attributes
    ----------
    text : str
        What it compares by.
    raw : str
        As it was typed.
    start, end : int
        Where it stands in the text as `plain` returns it.
    value : Decimal or None
        Of a number.
    """

    text: str
    raw: str
    start: int
    end: int
    value: Decimal | None = None

    @property
    def is_month(self) -> bool:
        """Whether it is the name of a month."""
        return self.text in _MONTHS


def plain(text: str) -> str:
    """Return a text in the form in which tokens are counted: one width, one minus, no marks inside numbers."""
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f'’](?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    return re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", text)


def tokens(text: str, months_first: bool = False) -> tuple[Token, ...]:
    """Return the tokens of a text; dates are day, month, year. months_first: 5/6/2026 is in May."""
    return tuple(_dates(_numbers(_money(list(_raw(plain(text), months_first))))))


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[tuple[Token, ...], ...]:
    """Return the ways to read a text: which part of 5/6/2026 is the month, and whether 12 400 is one number."""
    plainly = tokens(text)
    return tuple(dict.fromkeys([plainly, tokens(text, True), _thousands(plainly)]))


def _thousands(found: Sequence[Token]) -> tuple[Token, ...]:
    """Put numbers together that a blank parts into thousands."""
    made: list[Token] = []
    for token in found:
        last = made[-1] if made else None
        near = last is not None and last.end + 1 == token.start and re.fullmatch(r"[-\d ]*\d", last.raw)
        if last and near and re.fullmatch(r"\d{3}", token.raw) and len(last.raw.split()[0].lstrip("-")) <= 3:
            made[-1] = _joined(last, token, Decimal(f"{last.text}{token.raw}"))
        else:
            made.append(token)
    return tuple(made)


def _raw(text: str, months_first: bool) -> Iterator[Token]:
    for found in _TOKEN.finditer(text):
        raw, kind = found.group(), found.lastgroup
        kind = "slashed" if found.group("slashed") else kind

        def made(
            text: str, value: Decimal | None = None, raw: str = raw, found: re.Match[str] = found
        ) -> Token:
            return Token(text, raw, found.start(), found.end(), value)

        if kind in ("iso", "slashed"):
            parts = [int(part) for part in re.split(r"\D", raw)]
            year, month, day = parts if kind == "iso" else parts[::-1]
            if kind == "slashed" and (months_first or month > 12) and day <= 12:
                month, day = day, month
            name = _MONTHS[month - 1] if 1 <= month <= 12 else str(month)
            yield from (made(str(day), Decimal(day)), made(name), made(str(year), Decimal(year)))
        elif kind == "number":
            yield made(*_number(raw))
        elif kind == "ordinal":
            yield made(f"{int(raw[:-2])}th")
        elif kind == "word":
            yield made(*_word(raw))
        else:
            yield made({"code": raw.replace("-", "").casefold(), "short": raw.replace(".", "").casefold()}.get(
                kind or "", _MONEY.get(raw, _ALIASES.get(raw, raw))
            ))  # fmt: skip


def _number(raw: str) -> tuple[str, Decimal]:
    value = Decimal(raw.replace(",", ".").replace("–", "-"))
    if re.match(r"0\d", raw):  # a code
        return raw, value
    return format(value.normalize(), "f"), value


def _word(raw: str) -> tuple[str, Decimal | None]:
    if raw in _ALIASES:
        return _ALIASES[raw], None
    bare = re.sub(rf"[{_APOSTROPHES}]s$", "", raw)
    word = _unaccented(re.sub(f"[{_APOSTROPHES}]", "", bare).casefold())
    if word in _CARDINALS:
        return str(_CARDINALS[word]), Decimal(_CARDINALS[word])
    if word in _ORDINALS:
        return f"{_ORDINALS[word]}th", None
    # Singular and plural compare alike.
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return _ALIASES.get(word, word) if len(word) > 1 else word, None


def _unaccented(word: str) -> str:
    """Return a word without the marks on Latin letters; elsewhere they make another letter."""
    made: list[str] = []
    for character in unicodedata.normalize("NFD", word):
        if unicodedata.category(character) == "Mn" and made and made[-1].isascii():
            continue
        made.append(character)
    return unicodedata.normalize("NFC", "".join(made))


def _money(found: list[Token]) -> list[Token]:
    """Put the sign of a currency after its number, as its name would stand."""
    made = list(found)
    for place in range(len(made) - 1):
        if made[place].raw in _MONEY and made[place + 1].value is not None:
            made[place], made[place + 1] = made[place + 1], made[place]
    return made


def _numbers(found: Sequence[Token]) -> list[Token]:
    """Put numbers of several words together: twenty-two, three hundred and five, 4 million, minus two."""
    made: list[Token] = []
    for token in found:
        last = made[-1] if made else None
        word = token.raw.casefold()
        if word in _SCALES and last is not None and last.value is not None:
            made[-1] = _joined(last, token, last.value * _SCALES[word])
        elif word in _SCALES:
            made.append(replace(token, text=str(_SCALES[word]), value=Decimal(_SCALES[word])))
        elif last is not None and last.value is not None and _continues(last, token):
            made[-1] = _joined(last, token, last.value + (token.value or Decimal(0)))
        elif token.value is not None and last is not None and last.text == "minus":
            made[-1] = _joined(last, token, -token.value)
        elif _continues_after_and(made, token):
            made.pop()
            made[-1] = _joined(made[-1], token, (made[-1].value or Decimal(0)) + (token.value or Decimal(0)))
        else:
            made.append(token)
    return made


def _joined(first: Token, second: Token, value: Decimal) -> Token:
    return Token(format(value.normalize(), "f"), f"{first.raw} {second.raw}", first.start, second.end, value)


def _continues(last: Token, token: Token) -> bool:
    """Whether a word of a number goes on with the one before: twenty two, two hundred five."""
    if token.value is None or not token.raw.isalpha() or last.value is None or last.raw[0].isdigit():
        return False
    ends = last.raw.casefold().split()[-1]
    return (ends in _TENS and 0 < token.value < 10) or (ends in _SCALES and token.value < 100)


def _continues_after_and(made: Sequence[Token], token: Token) -> bool:
    return len(made) > 1 and made[-1].raw == "and" and made[-2].raw.split()[-1] in _SCALES and (
        token.value is not None and token.raw.isalpha()
    )  # fmt: skip


def _dates(found: Sequence[Token]) -> list[Token]:
    """Put day and month in this order: 22 May, May 22nd, the 22nd of May; the number of a day is a plain one."""
    made: list[Token] = []
    place = 0
    while place < len(found):
        token, rest = found[place], found[place + 1 : place + 3]
        skip = 1 if len(rest) > 1 and rest[0].text == "of" else 0
        if (day := _day(token)) and len(rest) > skip and (month := _MONTH.get(rest[skip].text)):
            made += [day, replace(rest[skip], text=month)]
            place += 2 + skip
        elif (month := _MONTH.get(token.text)) and rest and (day := _day(rest[0])):
            # One place for the two, so that what stands between day and month is nothing.
            made += [day, replace(token, text=month)]
            place += 2
        else:
            made.append(token)
            place += 1
    return made


def _day(token: Token) -> Token | None:
    number = re.fullmatch(r"(\d{1,2})(?:th)?", token.text)
    if not number or not 1 <= int(number.group(1)) <= 31:
        return None
    return replace(token, text=str(int(number.group(1))), value=Decimal(number.group(1)))

"""Where a context holds an answer, told from the text alone.

Texts are compared after Unicode normalisation (NFKC: composed and decomposed accents, full-width letters and ligatures
are the same), with runs of white space as one space and typographic quotes and dashes as plain ones; the spans are
those of the context as it is. The case of letters counts first; an answer that does not occur so is looked for in
any case, unless it is one letter or up to three capitals ("A", "US"), which would be found in words of another meaning.

An answer is found as whole words: where it starts or ends with a letter or a digit, no other stands next to it, and
"5" is neither in "5.2" nor in "1,500". Scripts that put no blanks between words (Chinese, Japanese, Thai, Lao, Khmer,
Burmese), and Korean, which attaches particles, have no such bounds.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from routegraph.validate.prompts.fields import Prompt, Span

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛ʼ′", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‐‑‒–—−", "-"),
    }
)
#: Beginnings of the Unicode names of letters that stand in no words set apart by blanks.
_UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HANGUL",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "BOPOMOFO",
    "IDEOGRAPHIC",
)
_CAPITALS = 3


@dataclass(frozen=True)
class _Folded:
    """A text to search in, and which characters of the original each of its characters stands for."""

    text: str
    starts: list[int]
    ends: list[int]


def occurrences(prompt: Prompt) -> tuple[Span, ...]:
    """Return the places where a context holds an answer of its prompt, sorted.

    Each of several answers is looked for, and where the answer is the letter of a choice, the choice.

    Returns
    -------
    tuple of (int, int)
        Character spans [start, end) of `prompt.context`; empty where no answer occurs.

    Examples
    --------
    >>> occurrences(Prompt("a", "The café, CAFÉ or cafe\u0301s?", answer="Cafe\u0301"))
    ((4, 8), (10, 14))
    """
    found: set[Span] = set()
    cased = _fold(prompt.context, any_case=False)
    uncased: _Folded | None = None
    for gold in prompt.golds:
        wanted = _chosen(prompt, gold).strip()
        spans = _places(cased, _fold(wanted, any_case=False).text)
        if not spans and not _case_tells(wanted):
            uncased = uncased or _fold(prompt.context, any_case=True)
            spans = _places(uncased, _fold(wanted, any_case=True).text)
        found.update(spans)
    return tuple(sorted(found))


def _chosen(prompt: Prompt, gold: str) -> str:
    """Return the choice that a letter stands for, and any other answer as it is."""
    letter = gold.strip().strip("().").upper()
    if prompt.choices and gold not in prompt.choices and len(letter) == 1:
        place = ord(letter) - ord("A")
        if 0 <= place < len(prompt.choices):
            return prompt.choices[place]
    return gold


def _case_tells(wanted: str) -> bool:
    return len(wanted) == 1 or (len(wanted) <= _CAPITALS and wanted.isupper())


def _places(folded: _Folded, wanted: str) -> list[Span]:
    if not wanted:
        return []
    text, spans, start = folded.text, [], -1
    while (start := text.find(wanted, start + 1)) >= 0:
        end = start + len(wanted)
        # What one character of the original stands for is taken whole or not at all.
        split = (start and folded.starts[start] == folded.starts[start - 1]) or (
            end < len(text) and folded.starts[end] == folded.starts[end - 1]
        )
        if not split and not _goes_on(text, start, -1) and not _goes_on(text, end - 1, 1):
            spans.append((folded.starts[start], folded.ends[end - 1]))
    return spans


def _goes_on(text: str, edge: int, step: int) -> bool:
    """Return whether the word or number at an edge of what was found goes on beyond it."""
    inside = text[edge]
    beyond, further = (
        text[place : place + 1] if place >= 0 else "" for place in (edge + step, edge + 2 * step)
    )
    if not inside.isalnum() or not beyond:
        return False
    if beyond.isalnum() or beyond == "_" or unicodedata.combining(beyond):
        return not (_unspaced(inside) or _unspaced(beyond))
    return inside.isdigit() and beyond in ".," and further.isdigit()


def _unspaced(character: str) -> bool:
    return not character.isascii() and unicodedata.name(character, "").startswith(_UNSPACED)


def _fold(text: str, any_case: bool) -> _Folded:
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _units(text):
        unit = unicodedata.normalize("NFKC", text[start:end]).translate(_PLAIN)
        if any_case:
            unit = unicodedata.normalize("NFKC", unit.casefold())
        for character in unit:
            if character.isspace():
                if parts and parts[-1] == " ":
                    ends[-1] = end
                    continue
                character = " "
            parts.append(character)
            starts.append(start)
            ends.append(end)
    return _Folded("".join(parts), starts, ends)


#: The conjoining letters of a Korean syllable, which are one character once composed.
_SYLLABLE = re.compile("(?:[\u1100-\u115f][\u1160-\u11a7]|[\uac00-\ud7a3])[\u11a8-\u11ff]?")
#: Half-width marks that are letters of their own until they are made full-width.
_HALF_WIDTH_MARKS = "\uff9e\uff9f"


def _units(text: str) -> list[Span]:
    """Return the spans that are normalised one by one: characters with the marks that combine with them."""
    if unicodedata.is_normalized("NFKC", text):
        return [(place, place + 1) for place in range(len(text))]
    spans: list[Span] = []
    start = 0
    while start < len(text):
        syllable = _SYLLABLE.match(text, start)
        end = syllable.end() if syllable else start + 1
        while end < len(text) and (unicodedata.combining(text[end]) or text[end] in _HALF_WIDTH_MARKS):
            end += 1
        spans.append((start, end))
        start = end
    return spans

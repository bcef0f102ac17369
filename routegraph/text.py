"""Text from elsewhere before it is shown: ids, tasks, names of models and files, replies.

Each way to show it has one door: `written` the terminal, `hypertext` a page, `drawn` a figure. None of them lets a
text steer what shows it.
"""

from __future__ import annotations

import html
import unicodedata

#: Categories of characters that are no text: controls, formats (which turn the direction of a line), halves of
#: surrogate pairs, ends of lines and paragraphs.
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Of these, what joins or separates letters in some scripts.
_JOINERS = "\u200c\u200d"

#: Characters of a name that a figure shows.
_SHOWN = 60

#: How characters are written where a terminal has them not.
_WRITTEN = {
    "±": "+-",
    "×": "x",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
}
_WRITTEN |= dict.fromkeys("‘’‚", "'") | dict.fromkeys("“”„", '"') | dict.fromkeys("•·", "*") | {"\u00a0": " "}


def visible(text: str) -> str:
    r"""Return a text with what would steer a terminal or a page as Python writes it: ``\x1b``, ``\n``, ``\ud800``."""
    if text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode()
        if unicodedata.category(one) in _STEERING and one not in _JOINERS
        else one
        for one in text
    )


def written(text: str, encoding: str = "utf-8") -> str:
    """Return a text for a terminal: see `visible`; characters that an encoding lacks as near as it goes.

    That is "+-" for "±", "e" for "é", and "?" where nothing is near.
    """
    text = visible(text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_character(one, encoding) for one in text)
    return text


def _character(one: str, encoding: str) -> str:
    parts = unicodedata.normalize("NFKD", one).replace("\u2044", "/")  # a fraction's own stroke
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    for form in (one, _WRITTEN.get(one), bare):
        if form and form.encode(encoding, "ignore").decode(encoding) == form:
            return form
    return "?"


def hypertext(text: str) -> str:
    """Return a text as HTML that shows it, in an element or between quotes of an attribute."""
    return html.escape(visible(text))


def drawn(text: str) -> str:
    """Return a name for a figure: see `visible`; a dollar starts no formula, a long name lacks its middle."""
    shown = visible(text)
    if len(shown) > _SHOWN:
        shown = f"{shown[: _SHOWN // 2]}…{shown[1 - _SHOWN // 2 :]}"
    return shown.replace("$", r"\$")


def one_line(error: BaseException, longest: int = 200) -> str:
    """Return the first line of what an error says, cut off where it is longer; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:longest]

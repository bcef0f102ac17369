"""LongBench's score of English questions: F1 of the words of reply and answer."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from routegraph.validate.graders.registry import grader

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@grader("f1")
def f1(reply: str, golds: Sequence[str], choices: Sequence[str] = (), *, threshold: float = 0.5) -> float:
    """F1 of the words of reply and answer, the best of the answers; right from the threshold on (LongBench).

    Notes
    -----
    Lower case, without ASCII punctuation, then without articles, split at white space; F1 of the two bags of words
    (Rajpurkar et al., SQuAD, 2016; Bai et al., LongBench, 2023). 0 where they share no word. LongBench reports the
    mean score and knows no right and wrong: the threshold is ours.
    """
    said = _words(reply)
    return max((_f1(said, _words(gold)) for gold in golds), default=0.0)


def _words(text: str) -> Counter[str]:
    return Counter(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(said: Counter[str], wanted: Counter[str]) -> float:
    common = (said & wanted).total()
    if not common:
        return 0.0
    # From precision and recall, as the others do, so that not even the last digit differs.
    precision, recall = common / said.total(), common / wanted.total()
    return 2 * precision * recall / (precision + recall)

"""What a reply is worth: graders by name, one a file, each from a reply and the right answers to a score in [0, 1]."""

from routegraph.validate.graders import (
    all_of,
    any_of,
    choice,
    contains,
    exact,
    f1,
    number,
    pairs,
    prefix,
    regex,
)
from routegraph.validate.graders.registry import DEFAULT, FORMER, Grader, grader, grader_setting, graders

__all__ = [
    "DEFAULT",
    "FORMER",
    "Grader",
    "all_of",
    "any_of",
    "choice",
    "contains",
    "exact",
    "f1",
    "grader",
    "grader_setting",
    "graders",
    "number",
    "pairs",
    "prefix",
    "regex",
]

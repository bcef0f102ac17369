"""Formats of prompts files, one module each, found by content; `formats` names them, `format_` registers one.

A reader is a function ``(table) -> PromptsFile or None``: it looks at the rows of a `Table` and returns None where they
are not of its format. One's own, registered by ``--load FILE.py``, are asked first.
"""

from routegraph.validate.prompts.formats import (  # noqa: F401  (registers)
    columns,
    kvpress,
    lm_eval,
    longbench,
    longbench_v2,
    ours,
    ruler,
    squad,
)
from routegraph.validate.prompts.formats.base import (
    PromptsFile,
    Table,
    collect,
    format_,
    formats,
    make_prompt,
)
from routegraph.validate.prompts.formats.ours import parse_prompts
from routegraph.validate.prompts.formats.read import understand

__all__ = [
    "PromptsFile",
    "Table",
    "collect",
    "format_",
    "formats",
    "make_prompt",
    "parse_prompts",
    "understand",
]

"""The 228 prompts that SmolLM2 is measured on, as one JSONL file: ``python -m studies.smollm2_prompts FILE.jsonl``.

Mostly forward questions, which SmolLM2 answers; enough inverse and unanswerable ones for the claims that need them.
"""

import sys
from itertools import islice

from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.tasks import load_task

SEED = 7
DRAWN = 160  # of each task; the first ones of each kind are taken, in order
TASKS = ("base", "manipulation", "multi_presence", "coreference")
N_FORWARD, N_INVERSE, N_UNANSWERABLE, N_HOPS = 36, 8, 8, 20


def first(prompts: list[Prompt], count: int, answerable: bool, tag: str | None = None) -> list[Prompt]:
    """Return the first prompts of a kind; ValueError where there are too few."""
    kind = (p for p in prompts if p.answerable == answerable and (tag is None or tag in p.tags))
    found = list(islice(kind, count))
    if len(found) < count:
        raise ValueError(f"only {len(found)} of {count} prompts (answerable: {answerable}, tag: {tag})")
    return found


def chosen() -> list[Prompt]:
    """Return the prompts, task by task."""
    prompts: list[Prompt] = []
    for task in TASKS:
        drawn = load_task(task, DRAWN, seed=SEED)
        prompts += first(drawn, N_FORWARD, True, "forward")
        prompts += first(drawn, N_INVERSE, True, "inverse")
        prompts += first(drawn, N_UNANSWERABLE, False)
    return prompts + first(load_task("hops", DRAWN, seed=SEED), N_HOPS, True, "forward")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m studies.smollm2_prompts FILE.jsonl")
    write_prompts(sys.argv[1], chosen())

"""The prompts that pretrained models are measured on, as JSONL: ``python prompts.py FILE.jsonl``.

All seven tasks, both directions, contexts of 160 to 1,200 tokens. They come in rounds, one question of each task and
direction a round, those of long contexts in every third, so that the first N of them are as mixed as all. With
--further MODEL: what is asked after them, of groups that the model can answer; with --twins: pairs of a question with
an answer and one without.
"""

import argparse
from itertools import chain

from routegraph.validate.prompts.prompt import Prompt, write_prompts
from routegraph.validate.tasks import load_task

SEED = 2603
TASKS = ("base", "manipulation", "multi_presence", "multi_entity", "long_context", "coreference", "hops")
#: Tokens of a context, by turns.
LENGTHS, LONG = (160, 280, 420), (500, 800, 1200)
#: They take ten times as long to measure, and come in every third round.
LONG_TASK, EVERY = "long_context", 3
#: Rounds of questions that have an answer, each with one a task and direction; and of questions with their twins.
ROUNDS, TWIN_ROUNDS = 48, 12
#: Further rounds ask groups above the floor only (rules.md): by model how many, and which, as ratio 0 of the first
#: rounds has it.
BOTH = (
    ("base", "forward"),
    ("base", "inverse"),
    ("coreference", "forward"),
    ("manipulation", "forward"),
    ("manipulation", "inverse"),
    ("multi_presence", "forward"),
)
FURTHER = {
    "qwen": (36, (*BOTH[:-1], ("multi_entity", "forward"), BOTH[-1])),
    "reader": (12, (*BOTH, ("multi_presence", "inverse"))),
}
#: Whose twins, without an answer, are asked as well: for the claim about abstention.
TWIN_TASKS = ("base", "multi_presence", "coreference")


def drawn(task: str, rounds: int) -> dict[str, list[tuple[Prompt, Prompt]]]:
    """Return pairs of a prompt and its twin without an answer, by direction, so many of each."""
    found: dict[str, list[tuple[Prompt, Prompt]]] = {"forward": [], "inverse": []}
    each = -(-rounds // len(LENGTHS))
    by_length = []
    for k, length in enumerate(LONG if task == LONG_TASK else LENGTHS):
        # Every second prompt is the twin of the one before, and directions take turns: four a round.
        prompts = load_task(task, 4 * each, seed=SEED + k, length=length)
        by_length.append(list(zip(prompts[::2], prompts[1::2], strict=True)))
    for pair in chain.from_iterable(zip(*by_length, strict=True)):
        direction = "forward" if "forward" in pair[0].tags else "inverse"
        found[direction].append(pair)
    return {direction: pairs[:rounds] for direction, pairs in found.items()}


def answerable(rounds: int = ROUNDS) -> list[Prompt]:
    """Return questions that have an answer, round by round."""
    short = [pairs for task in TASKS if task != LONG_TASK for pairs in drawn(task, rounds).values()]
    long = list(drawn(LONG_TASK, -(-rounds // EVERY)).values())
    return [
        pairs[place][0]
        for k in range(rounds)
        for columns, place in ((short, k), (() if k % EVERY else long, k // EVERY))
        for pairs in columns
    ]


def further(model: str) -> list[Prompt]:
    """Return questions of groups above the floor of a model that come after the first rounds."""
    rounds, groups = FURTHER[model]
    columns = [drawn(task, ROUNDS + rounds)[direction] for task, direction in groups]
    return [pairs[k][0] for k in range(ROUNDS, ROUNDS + rounds) for pairs in columns]


def with_twins(rounds: int = TWIN_ROUNDS) -> list[Prompt]:
    """Return questions with an answer, each followed by its twin without one."""
    columns = [pairs for task in TWIN_TASKS for pairs in drawn(task, rounds).values()]
    return [prompt for k in range(rounds) for pairs in columns for prompt in pairs[k]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--twins", action="store_true", help="questions with their twins without an answer")
    which.add_argument("--further", choices=FURTHER, help="what a model is asked after the first rounds")
    asked = parser.parse_args()
    more = with_twins() if asked.twins else further(asked.further) if asked.further else None
    write_prompts(asked.file, more or answerable())

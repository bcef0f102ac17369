"""Slow, obvious twins of eviction while decoding, in plain Python; no library code, no numba.

A slot is a list of rows that arrive one by one, row i at time i. `heights[row][time]` is the logarithm of a row's
weight, up to what all rows share. A twin returns the step at which every row dies, one beyond the last if it never
does.
"""

import math
from collections.abc import Callable, Sequence

from tests.naive import below, uniform

Model = tuple[Sequence[float], Sequence[int], Sequence[float]]  # numbers, ages, boosts
Choose = Callable[[list[int], list[float], dict[int, float], int], int]


class TooCloseError(Exception):
    """Rounding decides, and may decide otherwise elsewhere."""


def normal(numbers: int, position: int, draw: int) -> float:
    """Box and Muller's normal number from two uniform ones."""
    one, two = uniform(numbers, position, draw), uniform(numbers, position, draw + 1)
    return math.sqrt(-2 * math.log(1 - one)) * math.cos(2 * math.pi * two)


def heights(numbers: int, tokens: int, n: int, model: Model, first: int) -> list[dict[int, float]]:
    """heights[row][time] for every time from the row's own on; rows below `first` are the prompt's."""
    (*classes, apart, agreement, decay), ages, boosts = model
    table = []
    for row in range(n):
        path: dict[int, float] = {}
        spread, persistence, lasting = classes[3:] if row < first else classes[:3]
        draw = 0
        while row + len(path) < n:
            popularity = math.sqrt(max(0.0, 1 - agreement - lasting)) * normal(numbers, row, 3 * draw)
            popularity += math.sqrt(lasting) * normal(numbers, row, 2**32 - 2)
            popularity += math.sqrt(agreement) * normal(tokens, row, 0)
            # Kept for s steps more with probability persistence**s.
            chance, kept = uniform(numbers, row, 3 * draw + 2), 1
            while kept < n and 1 - chance <= persistence**kept:
                kept += 1
            for _ in range(min(kept, n - row - len(path))):
                reached = [boost for age, boost in zip(ages, boosts, strict=True) if age <= len(path)]
                if apart and row < first <= row + len(path):
                    reached = []
                path[row + len(path)] = spread * popularity + decay * row + (reached[-1] if reached else 0)
            draw += 1
        table.append(path)
    return table


def attention(table: list[dict[int, float]], alive: Sequence[int], time: int) -> dict[int, float]:
    """Softmax of the heights of the rows that are there."""
    most = max(table[row][time] for row in alive)
    weights = {row: math.exp(table[row][time] - most) for row in alive}
    whole = math.fsum(weights.values())
    return {row: weight / whole for row, weight in weights.items()}


def decode(
    capacity: Sequence[int],
    first: int,
    protected: int,
    window: int,
    table: list[dict[int, float]],
    choose: Choose,
) -> list[int]:
    """Let rows arrive and look; while there are too many, evict the one of the evictable that `choose` names."""
    n = len(capacity)
    death = [n - first + 1] * n
    alive: list[int] = []
    total: dict[int, float] = {}
    for time in range(n):
        alive.append(time)
        for row, given in attention(table, alive, time).items():
            total[row] = total.get(row, 0.0) + given
        while len(alive) > capacity[time]:
            may_go = [row for row in alive if row >= protected and row <= time - window]
            row = choose(may_go, [table[r][time] for r in may_go], total, time)
            alive.remove(row)
            death[row] = time - first + 1
    return death


def lowest_now(may_go: list[int], now: list[float], total: dict[int, float], time: int) -> int:
    """The row that the last query looks at least; of equal ones the latest."""
    return min(zip(now, [-row for row in may_go], may_go, strict=True))[2]


def lowest_sum(may_go: list[int], now: list[float], total: dict[int, float], time: int) -> int:
    """The row that all queries together looked at least; of equal ones the latest."""
    first, *others = sorted(may_go, key=lambda row: (total[row], -row))
    if others and 0 < total[others[0]] - total[first] < 1e-8 * total[first]:
        raise TooCloseError
    return first


def neighbours() -> Choose:
    """TreeKV's: of the places idx and idx + 1 the lower mean; idx goes from place to place and starts again."""
    place = 0

    def choose(may_go: list[int], now: list[float], total: dict[int, float], time: int) -> int:
        nonlocal place
        if place + 1 >= len(may_go):
            place = 0
        pair = may_go[place : place + 2]
        means = [total[row] / (time - row + 1) for row in pair]
        place += 1
        if len(pair) == 2 and abs(means[0] - means[1]) < 1e-8 * means[0]:
            raise TooCloseError
        return pair[1] if len(pair) == 2 and means[0] > means[1] else pair[0]

    return choose


def random_rows(numbers: int, capacity: Sequence[int], first: int) -> list[int]:
    """Any row that is there, each with the same chance; the last one takes its place in the list."""
    n = len(capacity)
    death = [n - first + 1] * n
    there: list[int] = []
    for time in range(n):
        there.append(time)
        for draw in range(max(0, len(there) - capacity[time])):
            chosen = below(numbers, time, draw, len(there))
            death[there[chosen]] = time - first + 1
            there[chosen] = there[-1]
            there.pop()
    return death


def streaming(n_prefill: int, n_steps: int, budget: int, interval: int, n_sink: int) -> list[int]:
    """Sinks and the latest rows, written down as a set after every cut."""
    n = n_prefill + n_steps
    death = [n_steps + 1] * n
    kept = set(range(n_prefill))
    for step in range(1, n_steps + 1):
        kept.add(n_prefill + step - 1)
        if step % interval == 0 and len(kept) > budget:
            sinks = sorted(kept)[:n_sink]
            stays = {*sinks, *sorted(kept)[len(kept) - (budget - len(sinks)) :]}
            for row in kept - stays:
                death[row] = step
            kept = stays
    return death


def scope(n_prefill: int, n_steps: int, budget: int, local: int, strategy: str) -> list[int]:
    """Most rows that SCOPE leaves after every arrival; a step that cuts nothing leaves all that came."""
    capacity, n = [n_prefill + n_steps] * n_prefill, n_prefill + n_steps
    heavy, grown = budget - local, 0
    for step in range(1, n_steps + 1):
        # The pool grows by one whenever another (T - b2) / b1 steps have gone by after the first b2.
        due = 0
        while n_steps > budget and (due + 1) * (n_steps - local) <= (step - local) * heavy:
            due += 1
        if strategy == "slide" or n_steps <= budget:
            capacity.append(n_prefill + budget)
        elif strategy == "adaptive" or due > grown:
            capacity.append(n_prefill + max(1, local + due))
        else:
            capacity.append(n)
        grown = due
    return capacity

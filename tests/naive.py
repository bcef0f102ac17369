"""Slow, obvious twins of the library, in plain Python on lists, tuples and sets; no library code, no numba.

An edge is (layer, head, query, key): it goes from node (layer, query) to node (layer - 1, key). `drop` is
indexed drop[layer - 1][head][key]. A kept set is indexed kept[layer - 1][head], a set of positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

Edge = tuple[int, int, int, int]
Drop = Sequence[Sequence[Sequence[int]]]
Scores = Sequence[Sequence[Sequence[float]]]
Kept = list[list[set[int]]]

# ---------------------------------------------------------------------------------------- reachability


def can_be_cut(edge: Edge, n_context: int, prune: str) -> bool:
    """Whether eviction of the slot that `edge` reads cuts the edge."""
    _, _, query, key = edge
    if key >= n_context:
        return False
    return prune == "columns" or query >= n_context


def edge_lifetime(edge: Edge, drop: Drop, n_context: int, max_level: int, prune: str) -> int:
    """Highest level at which `edge` exists."""
    layer, head, _, key = edge
    return drop[layer - 1][head][key] - 1 if can_be_cut(edge, n_context, prune) else max_level


def alive_edges(
    edges: Iterable[Edge], drop: Drop, n_context: int, max_level: int, level: int, prune: str
) -> list[Edge]:
    """The edges that exist at `level`."""
    return [e for e in edges if edge_lifetime(e, drop, n_context, max_level, prune) >= level]


def reached(alive: Iterable[Edge], n_layers: int, sources: Iterable[int], residual: bool) -> set[int]:
    """Positions of the bottom layer found by breadth-first search from the sources at the top."""
    down: dict[tuple[int, int], list[int]] = {}
    for layer, _, query, key in alive:
        down.setdefault((layer, query), []).append(key)
    queue = deque((n_layers, source) for source in sources)
    seen = set(queue)
    while queue:
        layer, position = queue.popleft()
        if layer == 0:
            continue
        for below in down.get((layer, position), []) + ([position] if residual else []):
            node = (layer - 1, below)
            if node not in seen:
                seen.add(node)
                queue.append(node)
    return {position for layer, position in seen if layer == 0} | set(sources)


def reach_thresholds(
    edges: Sequence[Edge],
    drop: Drop,
    n_tokens: int,
    n_context: int,
    max_level: int,
    sources: Iterable[int],
    prune: str,
    residual: bool,
) -> list[int]:
    """Largest level at which each position is reached, by a search of its own at every level."""
    sources = list(sources)
    best = [-1] * n_tokens
    for level in range(max_level + 1):
        alive = alive_edges(edges, drop, n_context, max_level, level, prune)
        for position in reached(alive, len(drop), sources, residual):
            best[position] = level
    return best


def routes(
    edges: Sequence[Edge], n_layers: int, sources: Iterable[int], token: int, residual: bool
) -> Iterator[list[Edge]]:
    """Every route from a source at the top to `token` at the bottom, as its read edges from the top down."""

    def walk(layer: int, position: int, sofar: list[Edge]) -> Iterator[list[Edge]]:
        if layer == 0:
            if position == token:
                yield sofar
            return
        if residual:
            yield from walk(layer - 1, position, sofar)
        for edge in edges:
            if edge[0] == layer and edge[2] == position:
                yield from walk(layer - 1, edge[3], [*sofar, edge])

    for source in set(sources):
        yield from walk(n_layers, source, [])


def check_ticket(
    ticket: list[Edge] | None,
    edges: Sequence[Edge],
    drop: Drop,
    n_context: int,
    max_level: int,
    sources: Sequence[int],
    token: int,
    prune: str,
    residual: bool,
) -> int:
    """Compare a winning ticket with all routes there are; return the level to which it survives."""

    def lifetime(route: list[Edge]) -> int:
        return min([max_level, *(edge_lifetime(e, drop, n_context, max_level, prune) for e in route)])

    if token in sources:
        assert ticket == []
        return max_level
    every = list(routes(edges, len(drop), sources, token, residual))
    if all(
        lifetime(route) < 0 for route in every
    ):  # no route, or each has a slot that is dead from the start
        assert ticket is None
        return -1
    assert ticket in every, "the ticket is no route of the graph"
    longest = max(lifetime(route) for route in every)
    assert lifetime(ticket) == longest, "another route survives longer"
    assert len(ticket) == min(len(route) for route in every if lifetime(route) == longest)
    return longest


def carry_down(
    value: Sequence[int],
    reads: Iterable[tuple[int, int, int]],
    drop: Sequence[Sequence[int]],
    prune: str,
    residual: bool,
) -> list[int]:
    """Values of the layer below, edge by edge; `reads` are (head, query, key), drop[head][key]."""
    n_context = len(drop[0])
    below = list(value) if residual else [0] * len(value)
    for head, query, key in reads:
        carried = value[query]
        if can_be_cut((1, head, query, key), n_context, prune):
            carried = min(carried, drop[head][key])
        below[key] = max(below[key], carried)
    return below


def cheapest(
    alive: Sequence[Edge],
    free: Sequence[Sequence[Sequence[bool]]],
    n_layers: int,
    sources: Iterable[int],
    residual: bool,
) -> dict[tuple[int, int], int]:
    """Fewest slots to pay for on a route to each reached node (layer, position); free[layer - 1][head][key].

    All edges are relaxed, in any order, until nothing moves.
    """
    cost = {(n_layers, source): 0 for source in sources}
    moved = True
    while moved:
        moved = False
        steps = [
            ((layer, query), (layer - 1, key), 0 if free[layer - 1][head][key] else 1)
            for layer, head, query, key in alive
        ]
        if residual:
            steps += [((layer, i), (layer - 1, i), 0) for layer, i in cost if layer > 0]
        for above, below, price in steps:
            if above in cost and cost[above] + price < cost.get(below, n_layers + 1):
                cost[below] = cost[above] + price
                moved = True
    return cost


# ------------------------------------------------------------------------------------------- survival


def n_kept(n: int, ratio: float) -> int:
    """Rows kept of n, the float expression of kvpress."""
    return max(1, int(n * (1 - ratio)))


def ger(kept: Kept, tokens: Sequence[int], over: str) -> float:
    """Fraction of tokens in no kept set of the model; of a layer, averaged over layers."""
    if over == "model":
        gone = sum(all(t not in head for layer in kept for head in layer) for t in tokens)
        return gone / len(tokens)
    gone = sum(all(t not in head for head in layer) for layer in kept for t in tokens)
    return gone / (len(tokens) * len(kept))


# ------------------------------------------------------------------------------------------- policies


def best(scores: Sequence[float], count: int) -> set[int]:
    """Positions of the `count` highest scores; of equal scores the lower position."""
    return set(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


def topk(scores: Scores, ratio: float) -> Kept:
    """Sort each head, keep the top."""
    return [[best(head, n_kept(len(head), ratio)) for head in layer] for layer in scores]


def chunk(scores: Scores, ratio: float, chunk_length: int = 64) -> Kept:
    """Sort each chunk of each head, keep its top."""

    def one_head(head: Sequence[float]) -> set[int]:
        kept: set[int] = set()
        for start in range(0, len(head), chunk_length):
            part = head[start : start + chunk_length]
            kept |= {start + i for i in best(part, n_kept(len(part), ratio))}
        return kept

    return [[one_head(head) for head in layer] for layer in scores]


def chunkkv(scores: Scores, ratio: float, chunk_length: int = 20) -> Kept:
    """What kvpress's ChunkKVPress.compress does: the chunks with the best mean of the sum over heads."""
    kept = []
    for layer in scores:
        n = len(layer[0])
        if n < chunk_length:
            kept += topk([layer], ratio)
            continue
        chunks = [range(start, min(start + chunk_length, n)) for start in range(0, n, chunk_length)]
        means = [sum(head[i] for head in layer for i in rows) / len(rows) for rows in chunks]
        rows = {i for c in best(means, n_kept(len(chunks), ratio)) for i in chunks[c]}
        kept.append([set(rows) for _ in layer])
    return kept


def recent_first(head: Sequence[float], window: int) -> list[float]:
    """Scores of a head with the last `window` rows raised above all others, and equal."""
    top = float("inf")
    return [top if i >= len(head) - window else score for i, score in enumerate(head)]


def snapkv(scores: Scores, ratio: float, window: int = 64) -> Kept:
    """What kvpress's SnapKVPress scores, cut by top-k."""
    return topk([[recent_first(head, window) for head in layer] for layer in scores], ratio)


def pyramid(scores: Scores, ratio: float, window: int = 64, beta: int = 20) -> Kept:
    """What kvpress's PyramidKVPress keeps: its get_layer_budget, then top-k."""

    def budget(n: int, layer_idx: int) -> int:
        max_capacity_prompt = window + n * (1 - ratio)
        min_num = (max_capacity_prompt - window) / beta
        max_num = (max_capacity_prompt - window) * 2 - min_num
        if max_num >= n - window:
            max_num = n - window
            min_num = (max_capacity_prompt - window) * 2 - max_num
        if not (n >= max_num >= min_num >= window):
            return max(1, round(n * (1 - ratio)))
        steps = (max_num - min_num) / (len(scores) - 1) if len(scores) > 1 else 0.0
        return round(max_num - layer_idx * steps)

    if ratio == 0:
        return [[set(range(len(head))) for head in layer] for layer in scores]
    return [
        [best(recent_first(head, window), budget(len(head), layer_idx)) for head in layer]
        for layer_idx, layer in enumerate(scores)
    ]


def shared_cut(heads: Sequence[Sequence[float]], n_safe: int, n_gone: int) -> list[set[int]]:
    """Raise the n_safe best of each head above everything, cut the n_gone lowest slots over all heads.

    Of equal scores the later head goes first, then the later position.
    """
    safe = [best(head, n_safe) for head in heads]
    slots = [(h, i) for h, head in enumerate(heads) for i in range(len(head))]
    slots.sort(key=lambda slot: (slot[1] in safe[slot[0]], heads[slot[0]][slot[1]], -slot[0], -slot[1]))
    kept = slots[n_gone:]
    return [{i for h, i in kept if h == head} for head in range(len(heads))]


def adakv(scores: Scores, ratio: float, alpha_safeguard: float = 0.2) -> Kept:
    """What kvpress's AdaKVPress.compress does, layer by layer."""
    kept = []
    for layer in scores:
        n = len(layer[0])
        count = n_kept(n, ratio)
        n_safe = int(count * alpha_safeguard)
        if alpha_safeguard > 0:
            n_safe = max(1, n_safe)
        kept.append(shared_cut(layer, n_safe, len(layer) * (n - count)))
    return kept


def streaming(scores: Scores, ratio: float, n_sink: int = 4) -> Kept:
    """What kvpress's StreamingLLMPress scores, cut by top-k.

    kvpress counts the pruned rows without the max(1, ...). That matters only where int(...) is 0 and there is
    no sink: then all its scores are equal and any row may be the one kept; here it is the last.
    """
    n = len(scores[0][0])
    n_pruned = n - n_kept(n, ratio)
    row = [0.0 if n_sink <= i < n_sink + n_pruned else 1.0 for i in range(n)]
    return topk([[row for _ in layer] for layer in scores], ratio)


# ------------------------------------------------------------------------------------- random numbers

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def stream(key: int, layer: int, head: int) -> int:
    """Start of the stream of (key, layer, head)."""
    place = mix((layer * 2**32 + head + GAMMA) & MASK) | 1
    return mix((key + GAMMA * place) & MASK)


def uniform(numbers: int, position: int, draw: int) -> float:
    """The float in [0, 1) at (position, draw) of a stream."""
    counter = draw * 2**32 + position + 1
    return (mix((numbers + GAMMA * counter) & MASK) >> 11) / 2**53


def below(numbers: int, position: int, draw: int, bound: int) -> int:
    """The integer in 0..bound-1 at (position, draw) of a stream."""
    return int(uniform(numbers, position, draw) * bound)


def permutation(key: int, layer: int, head: int, n: int) -> list[int]:
    """Fisher and Yates: append each number, then swap it with a random place up to its own."""
    numbers = stream(key, layer, head)
    out: list[int] = []
    for i in range(n):
        out.append(i + 1)
        j = below(numbers, i, 0, i + 1)
        out[i], out[j] = out[j], out[i]
    return out


def random(n_layers: int, n_heads: int, n: int, ratio: float, key: int) -> Kept:
    """Evict each (layer, head) in the order of its own permutation; layers are numbered from 1."""
    gone = n - n_kept(n, ratio)
    orders = [[permutation(key, layer + 1, head, n) for head in range(n_heads)] for layer in range(n_layers)]
    return [[{i for i in range(n) if order[i] > gone} for order in layer] for layer in orders]


def bernoulli(n_layers: int, n_heads: int, n: int, ratio: float, key: int, resolution: int = 8192) -> Kept:
    """Keep each slot whose own random number is at least the ratio, in steps of 1 / resolution."""
    passed = sum(step / resolution <= ratio for step in range(1, resolution))

    def lives(layer: int, head: int, i: int) -> bool:
        return below(stream(key, layer + 1, head), i, 0, resolution) >= passed

    return [[{i for i in range(n) if lives(la, h, i)} for h in range(n_heads)] for la in range(n_layers)]


def heaviest_keys(
    logits: Sequence[Sequence[Sequence[float]]],
    weights: Sequence[Sequence[Sequence[float]]],
    start: int,
    n_heads: int,
    top: int,
    mass: float,
    n_sink: int,
) -> tuple[list[list[tuple[int, float]]], list[list[int]], list[list[int]]]:
    """(slot, weight) of each query's edges; heaviest key of each head and query; heaviest that is no sink."""
    group, n_queries = len(weights) // n_heads, len(weights[0])
    edges: list[list[tuple[int, float]]] = [[] for _ in range(n_queries)]
    tops, beyond = [[0] * n_queries for _ in weights], [[-1] * n_queries for _ in weights]
    for head, rows in enumerate(weights):
        for query, row in enumerate(rows):
            order = sorted(range(start + query + 1), key=lambda key: (-logits[head][query][key], key))
            order = [key for key in order if row[key] > 0]
            chosen = [key for rank, key in enumerate(order) if rank < top or row[key] >= mass]
            edges[query] += [(key * n_heads + head // group, row[key]) for key in chosen]
            tops[head][query] = order[0] if order else 0
            beyond[head][query] = next((key for key in chosen[:top] if key >= n_sink), -1)
    return edges, tops, beyond

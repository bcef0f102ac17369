"""Small worlds of facts in a word-level language, and the questions one can ask about them, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.tasks.lexicon import (
    IDK,
    LINKS,
    N_ATTRIBUTES,
    N_VALUES,
    NAME,
    NAMES,
    RELATION,
    VALUE,
    WHO,
)

Ids = NDArray[np.int64]

#: Tokens of a fact, its full stop included, and in which of them the entity and the value stand.
FACT_LENGTH, ENTITY_AT, VALUE_AT = 4, 0, 2

#: Stands where there is nothing: no answer to ask for, no bridge, no supporting fact.
NONE = -1

#: Share of unanswerable questions about someone or some link of whom nothing at all is said.
_ELSEWHERE = 0.3


@dataclass(frozen=True)
class Shape:
    """What all worlds of a batch have in common.

    Attributes
    ----------
    n_facts, n_entities : int
    n_attributes, n_links : int
        Relations of either kind that each entity may have a fact for.
    fillers : tuple of int
        Length of each sentence that says nothing, its full stop included.
    """

    n_facts: int
    n_entities: int
    n_attributes: int
    n_links: int
    fillers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        cells = self.n_entities * self.n_relations
        if not 1 <= self.n_facts <= cells:
            raise ValueError(f"n_facts must be in 1..{cells}, entities times relations, got {self.n_facts}")
        if not 2 <= self.n_entities < len(NAMES):
            raise ValueError(f"n_entities must be in 2..{len(NAMES) - 1}, got {self.n_entities}")
        if not (1 <= self.n_attributes <= N_ATTRIBUTES and 0 <= self.n_links <= len(LINKS)):
            raise ValueError(
                f"n_attributes must be in 1..{N_ATTRIBUTES} and n_links in 0..{len(LINKS)}, "
                f"got {self.n_attributes} and {self.n_links}"
            )
        if any(length < 2 for length in self.fillers):
            raise ValueError(f"a filler has at least one word and a full stop, got lengths {self.fillers}")

    @property
    def n_relations(self) -> int:
        """Relations of either kind."""
        return self.n_attributes + self.n_links

    @property
    def n_context(self) -> int:
        """Tokens of the context, the one that begins it included."""
        return 1 + FACT_LENGTH * self.n_facts + sum(self.fillers)


@dataclass(frozen=True, eq=False)
class World:
    """Who there is, what is true and which of it is stated; one world a row.

    Attributes
    ----------
    names, strangers : int64[n, n_entities], int64[n, ...]
        Tokens of the entities, and of all who do not occur.
    relations : int64[n, n_relations]
        Tokens; attributes first.
    values, targets : int64[n, n_entities, n_relations]
        Token of every value, and the number of the entity that a link leads to (meaningless for attributes).
    cells : int64[n, n_entities * n_relations]
        Every entity * n_relations + relation once; the first n_facts are stated, in this order.
    """

    shape: Shape
    names: Ids
    strangers: Ids
    relations: Ids
    values: Ids
    targets: Ids
    cells: Ids

    @property
    def facts(self) -> Ids:
        """Entity, relation and value of each fact as tokens, int64[n, n_facts, 3]."""
        stated = self.cells[:, : self.shape.n_facts]
        return np.stack([self.owner(stated), self.relation(stated), self.value(stated)], axis=2)

    @property
    def fact_of(self) -> Ids:
        """Number of the fact that states each cell, int64[n, cells]; NONE where none does."""
        numbers = np.full(self.cells.shape, NONE)
        facts = np.broadcast_to(np.arange(self.shape.n_facts), (len(numbers), self.shape.n_facts))
        np.put_along_axis(numbers, self.cells[:, : self.shape.n_facts], facts, axis=1)
        return numbers

    def owner(self, cells: Ids) -> Ids:
        """Return the token of the entity of each cell."""
        return _take(self.names, cells // self.shape.n_relations)

    def relation(self, cells: Ids) -> Ids:
        """Return the token of the relation of each cell."""
        return _take(self.relations, cells % self.shape.n_relations)

    def value(self, cells: Ids) -> Ids:
        """Return the token of the value of each cell."""
        return _take(self.values.reshape(len(cells), -1), cells)

    def behind(self, cells: Ids, relation: Ids) -> Ids:
        """Return the cell of the entity that each cell links to, for the given relation number."""
        return _take(self.targets.reshape(len(cells), -1), cells) * self.shape.n_relations + relation

    def is_link(self, cells: Ids) -> NDArray[np.bool_]:
        """Return whether each cell is a link, whose value is an entity."""
        return np.asarray(cells % self.shape.n_relations >= self.shape.n_attributes)


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions of one kind, c of them a world.

    Attributes
    ----------
    words : int64[n, c, n_words]
    answer : int64[n, c]
        NONE where the world allows no such question.
    support : int64[n, c, hops]
        Numbers of the facts that the answer follows from, in order; NONE throughout where there are none.
    bridge : int64[n, c]
        What the first hop of two or three leads to ("<idk>" where it is missing); NONE for questions of one hop.
    """

    words: Ids
    answer: Ids
    support: Ids
    bridge: Ids


def draw_world(rng: np.random.Generator, n: int, shape: Shape) -> World:
    """Return n worlds of one shape."""
    k, entities = shape.n_relations, shape.n_entities
    people = _permutations(rng, n, len(NAMES)) + NAME
    attributes = _permutations(rng, n, N_ATTRIBUTES)[:, : shape.n_attributes]
    links = _permutations(rng, n, len(LINKS))[:, : shape.n_links] + N_ATTRIBUTES
    kinds = np.concatenate([attributes, links], axis=1)
    # Nobody is their own friend: the target is 1..n_entities-1 places further on.
    steps = rng.integers(1, entities, size=(n, entities, k))
    targets = (np.arange(entities)[None, :, None] + steps) % entities
    values = VALUE + kinds[:, None] * N_VALUES + rng.integers(N_VALUES, size=(n, entities, k))
    persons = _take(people, targets.reshape(n, -1)).reshape(targets.shape)
    values[..., shape.n_attributes :] = persons[..., shape.n_attributes :]
    cells = _permutations(rng, n, entities * k)
    return World(shape, people[:, :entities], people[:, entities:], kinds + RELATION, values, targets, cells)


def forward(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask for the value of a stated fact."""
    return _about(world, _deal(rng, np.ones((len(world.cells), world.shape.n_facts), bool), count))


def repeated(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask forward about the entity that has most facts, so that many sentences begin like the right one."""
    names = world.facts[:, :, 0]
    mentions = (names[:, :, None] == names[:, None]).sum(axis=2)
    return _about(world, _deal(rng, mentions == mentions.max(axis=1, keepdims=True), count))


def inverse(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask for the entity of a stated fact that no other has the value of."""
    facts = world.facts
    alike = (facts[:, :, None, 1:] == facts[:, None, :, 1:]).all(axis=3).sum(axis=2)
    number = _deal(rng, alike == 1, count)
    name, relation, value = (_take(facts[:, :, part], number) for part in range(3))
    answer = np.where(_take(alike, number) == 1, name, NONE)
    return _questions([np.full_like(name, WHO), relation, value], answer, [number])


def two_hop(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask for a fact about the one a stated link leads to; both are stated."""
    first, relation, second, found = _hops(rng, world, count, stated=True)
    words = [world.owner(first), world.relation(first), _take(world.relations, relation)]
    answer = np.where(found, world.value(second), NONE)
    support = [_take(world.fact_of, first), _take(world.fact_of, second)]
    return _questions(words, answer, support, np.where(found, world.value(first), NONE))


def three_hop(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask for a fact about the one that two stated links lead to, one after the other; all three are stated."""
    k, n_facts = world.shape.n_relations, world.shape.n_facts
    first = np.repeat(world.cells[:, :n_facts], k * k, axis=1)
    then = np.broadcast_to(np.tile(np.repeat(np.arange(k), k), n_facts), first.shape)
    last = np.broadcast_to(np.tile(np.arange(k), n_facts * k), first.shape)
    second = world.behind(first, then)
    third = world.behind(second, last)
    fits = world.is_link(first) & world.is_link(second)
    fits &= (_take(world.fact_of, second) != NONE) & (_take(world.fact_of, third) != NONE)
    fits &= first != third  # a loop would take one fact twice
    chosen = _deal(rng, fits, count)
    found = np.take_along_axis(fits, chosen, axis=1)
    cells = [_take(table, chosen) for table in (first, second, third)]
    words = [world.owner(cells[0]), *(world.relation(cell) for cell in cells)]
    answer = np.where(found, world.value(cells[2]), NONE)
    support = [_take(world.fact_of, cell) for cell in cells]
    return _questions(words, answer, support, np.where(found, world.value(cells[0]), NONE))


def unknown_forward(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask for a value that no fact states, of someone present or of a stranger."""
    unstated = np.arange(world.cells.shape[1]) >= world.shape.n_facts
    cells = _take(world.cells, _deal(rng, unstated, count, len(world.cells)))
    # Of a stated cell, dealt where too few are unstated, only a stranger's is unknown.
    elsewhere = (rng.random(cells.shape) < _ELSEWHERE) | (_take(world.fact_of, cells) != NONE)
    stranger = _take(world.strangers, rng.integers(world.strangers.shape[1], size=cells.shape))
    name = np.where(elsewhere, stranger, world.owner(cells))
    return _questions([name, world.relation(cells)], np.full_like(name, IDK))


def unknown_inverse(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask who has a value that no fact states for that relation."""
    size = (len(world.cells), count)
    relation = _take(world.relations, rng.integers(world.shape.n_relations, size=size))
    kind = relation - RELATION
    thing = VALUE + kind * N_VALUES + rng.integers(N_VALUES, size=size)
    person = _take(world.names, rng.integers(world.shape.n_entities, size=size))
    value = np.where(kind < N_ATTRIBUTES, thing, person)
    facts = world.facts[:, None]
    hit = ((facts[..., 1] == relation[..., None]) & (facts[..., 2] == value[..., None])).any(axis=2)
    return _questions([np.full_like(value, WHO), relation, value], np.where(hit, NONE, IDK))


def unknown_two_hop(rng: np.random.Generator, world: World, count: int) -> Questions:
    """Ask over two hops with the second or, less often, the first of them not stated."""
    first, relation, _, found = _hops(rng, world, count, stated=False)
    shape = world.shape
    lost = rng.integers(shape.n_entities, size=first.shape) * shape.n_relations
    lost = lost + shape.n_attributes + rng.integers(max(1, shape.n_links), size=first.shape)
    lost = np.minimum(lost, world.cells.shape[1] - 1)
    missing = (rng.random(first.shape) < _ELSEWHERE) & world.is_link(lost)
    missing &= _take(world.fact_of, lost) == NONE
    first = np.where(missing, lost, first)
    relation = np.where(missing, rng.integers(shape.n_relations, size=first.shape), relation)
    words = [world.owner(first), world.relation(first), _take(world.relations, relation)]
    answer = np.where(found | missing, IDK, NONE)
    return _questions(words, answer, (), np.where(missing, IDK, np.where(found, world.value(first), NONE)))


#: Kinds of question, by name.
KINDS: dict[str, Callable[[np.random.Generator, World, int], Questions]] = {
    function.__name__: function
    for function in (
        forward,
        inverse,
        two_hop,
        three_hop,
        unknown_forward,
        unknown_inverse,
        unknown_two_hop,
        repeated,
    )
}


def _about(world: World, number: Ids) -> Questions:
    name, relation, value = (_take(world.facts[:, :, part], number) for part in range(3))
    return _questions([name, relation], value, [number])


def _hops(
    rng: np.random.Generator, world: World, count: int, stated: bool
) -> tuple[Ids, Ids, Ids, NDArray[np.bool_]]:
    """Draw pairs of a stated link and a fact behind it that is stated, or not.

    Returns the link's cell, the second relation's number, the second cell, and whether there is such a pair.
    """
    k, n_facts = world.shape.n_relations, world.shape.n_facts
    first = np.repeat(world.cells[:, :n_facts], k, axis=1)
    relation = np.broadcast_to(np.tile(np.arange(k), n_facts), first.shape)
    second = world.behind(first, relation)
    fits = world.is_link(first) & ((_take(world.fact_of, second) != NONE) == stated)
    chosen = _deal(rng, fits, count)
    found = np.take_along_axis(fits, chosen, axis=1)
    return _take(first, chosen), _take(relation, chosen), _take(second, chosen), found


def _questions(
    words: Sequence[Ids], answer: Ids, support: Sequence[Ids] = (), bridge: Ids | None = None
) -> Questions:
    facts = np.stack(support, axis=2) if len(support) else np.zeros((*answer.shape, 0), dtype=np.int64)
    facts = np.where((answer == NONE)[..., None], NONE, facts)
    return Questions(
        np.stack(words, axis=2), answer, facts, np.full_like(answer, NONE) if bridge is None else bridge
    )


def _deal(rng: np.random.Generator, fits: NDArray[np.bool_], count: int, n: int | None = None) -> Ids:
    """Return `count` columns for each row, those that fit first, each once before any comes again."""
    fits = np.broadcast_to(fits, (n or len(fits), fits.shape[-1]))
    order = (rng.random(fits.shape) - fits).argsort(axis=1)
    return np.asarray(order[:, np.arange(count) % fits.shape[1]])


def _permutations(rng: np.random.Generator, n: int, size: int) -> Ids:
    return rng.random((n, size)).argsort(axis=1)


def _take(table: Ids, index: Ids) -> Ids:
    return np.take_along_axis(table, index, axis=1)

"""The policy registry, what a policy declares of itself, and what all policies share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.protection import Protection
from routegraph.registry import Registry
from routegraph.survival import Survival

F = TypeVar("F", bound=Callable[..., Any])

#: Registry of eviction policies; `policy` is its decorator.
policies = Registry("policy")


@dataclass(frozen=True)
class Declared:
    """What a policy says of itself, so that nobody has to know it by its name.

    That a policy is random or not nested it says by the parameters it takes: see `is_seeded`, `is_nested`.

    Attributes
    ----------
    scores : {"rows", "chunks"} or None
        Which scores it goes by: of the whole context; of each chunk of `chunk_length` rows by itself; none (they
        give the shape only).
    protects : tuple of {"n_sink", "window"}
        Its parameters that count rows which go last: at the start, at the end of the context.
    competes : {"head", "layer"}
        Whose rows stand for the same places: those of a head, or of all heads of a layer.
    draws : {"orders", "levels"} or None
        What stands in for its scores, drawn for each slot by itself: a random order of the rows, or a random level for
        every row (on `resolution` levels, a parameter). A simulation draws it inside its pass.
    plain : bool
        Whether each slot of n rows has lost exactly its k lowest at level k: what the theory of GER is about.
    press : str or None
        kvpress's class that cuts a scorer's rows in the same way; "" for the scorer's own press, None: there is none.
    cut : str
        How it cuts, in words that a table can say ("per head"); nothing: its name has to do.
    ordinal : bool
        Whether only the order of the scores counts: any growing function of them evicts the same rows.
    """

    scores: Literal["rows", "chunks"] | None = "rows"
    protects: tuple[str, ...] = ()
    competes: Literal["head", "layer"] = "head"
    draws: Literal["orders", "levels"] | None = None
    plain: bool = False
    press: str | None = None
    cut: str = ""
    ordinal: bool = True


_DECLARED: dict[str, Declared] = {}


def policy(
    name: str,
    *,
    scores: Literal["rows", "chunks"] | None = "rows",
    protects: tuple[str, ...] = (),
    competes: Literal["head", "layer"] = "head",
    draws: Literal["orders", "levels"] | None = None,
    plain: bool = False,
    press: str | None = None,
    cut: str = "",
    ordinal: bool = True,
) -> Callable[[F], F]:
    """Return a decorator that registers a policy and what it declares; see `Declared`.

    Raises
    ------
    ValueError
        If the name is taken by another function, or a protected parameter is none that the function takes.
    """
    declared = Declared(scores, protects, competes, draws, plain, press, cut, ordinal)

    def register(function: F) -> F:
        taken = inspect.signature(function).parameters
        for parameter in protects:
            if parameter not in taken or parameter not in ("n_sink", "window"):
                raise ValueError(
                    f"policy {name!r} protects {parameter!r}; it must be a parameter of its own, n_sink or window"
                )
        policies(name)(function)
        _DECLARED[name] = declared
        return function

    return register


def declared(name: str) -> Declared:
    """Return what the policy called `name` declares; ValueError if it is unknown."""
    policies[name]
    return _DECLARED.get(name, Declared())


def check_scores(scores: ArrayLike, n_context: int) -> NDArray[Any]:
    """Return scores as an array [layers, heads, n_context]; ValueError unless finite and of that shape."""
    array = np.asarray(scores)
    if array.ndim != 3 or array.shape[2] != n_context or array.size == 0:
        raise ValueError(f"scores must be [layers, heads, n_context = {n_context}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite, got NaN or infinity")
    return array


def eviction_order(scores: NDArray[Any]) -> NDArray[np.int32]:
    """Return the rank of each score within the last axis, 1 for the lowest, int32.

    Of equal scores the higher position ranks lower: among ties, the lowest position is kept longest.
    """
    n = scores.shape[-1]
    order = n - 1 - np.argsort(scores[..., ::-1], axis=-1, kind="stable")
    ranks = np.empty(scores.shape, dtype=np.int32)
    np.put_along_axis(
        ranks, order, np.broadcast_to(np.arange(1, n + 1, dtype=np.int32), scores.shape), axis=-1
    )
    return ranks


def protect_recent(scores: NDArray[Any], window: int) -> NDArray[Any]:
    """Return scores whose last `window` rows all share one score above every other.

    Raises
    ------
    ValueError
        If window is not in 0..n_context - 1.
    """
    n_context = scores.shape[-1]
    if not 0 <= window < n_context:
        raise ValueError(f"window must be in 0..n_context - 1 = {n_context - 1}, got {window}")
    protected = scores.astype(np.float64)
    if window:
        protected[..., -window:] = protected.max() + 1
    return protected


def is_nested(name: str) -> bool:
    """Return whether one Survival of the policy holds for all ratios; if not, it is asked one at a time."""
    return "ratio" not in inspect.signature(policies[name]).parameters


def is_seeded(name: str) -> bool:
    """Return whether the policy draws from a `seed`: then every context is given one of its own."""
    return "seed" in policies.parameters(name)


def protection(name: str, parameters: Mapping[str, Any] | None = None) -> Protection:
    """Return the rows that a policy protects with these parameters, its own defaults where they are left out."""
    given = {**policies.parameters(name), **(parameters or {})}
    return Protection.of({parameter: given[parameter] for parameter in declared(name).protects})


def apply(name: str, scores: ArrayLike, *, ratio: float | None = None, **parameters: Any) -> Survival:
    """Run the policy called `name` on scores[layers, heads, n_context].

    A policy that is not nested needs the ratio; one that is takes no notice of it.

    Raises
    ------
    ValueError
        If the policy is unknown, does not take a parameter or lacks its ratio, the scores are malformed, or rows
        would be dead at ratio 0.
    """
    policies.check_parameters(name, parameters)
    function = policies[name]
    array = np.asarray(scores)
    n_context = array.shape[-1] if array.ndim else 0
    if not is_nested(name):
        if ratio is None:
            raise ValueError(f"policy {name!r} is not nested: it must be asked for one ratio at a time")
        parameters["ratio"] = ratio
    survival: Survival = function(check_scores(array, n_context), n_context=n_context, **parameters)
    if (
        survival.drop.min() < 1
    ):  # a Survival may hold rows that are dead from the start; no policy makes them so
        raise ValueError(f"policy {name!r} evicts at ratio 0: its drop entries must be at least 1, got 0")
    return survival

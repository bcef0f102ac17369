"""How much memory a simulation takes, said before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routegraph.memory import check_free

if TYPE_CHECKING:
    from routegraph.sim.parameters import Parameters

#: Measured: the interpreter with what it imports and compiles.
BASE = 250_000_000
#: Measured: bytes a slot where the whole survival is made from scores (snapkv and pyramid take most), and what a
#: tie to the attention takes on top.
PER_SLOT, PER_TIED_SLOT = 34, 10
#: Bytes an edge of a stored graph: slot and weight, twice while its layers are joined.
PER_EDGE = 16
#: Bytes an edge, residual ones too, where clusters are followed: both ends, birth, order, and what they are made from.
PER_BOND = 72


def needed(parameters: Parameters, replicates: int = 1, workers: int = 1, whole_graph: bool = False) -> int:
    """Return about how many bytes the replicates of a cell take at their peak.

    whole_graph: the graph and the survival of a replicate are stored, for measures that ask for them.
    """
    from routegraph.sim.stream import threads_each

    p = parameters
    slots = p.n_layers * p.n_heads * p.n_tokens
    streamed = _is_streamed(p)
    drawn_inside = streamed and p.ensemble in ("uniform", "window")
    level = 2 if p.n_tokens < 2**16 - 1 else 4
    layer = level * p.n_tokens * (6 + (1 if drawn_inside else p.n_heads))
    if drawn_inside:  # every further thread has four rows of its own
        layer += 4 * level * p.n_tokens * (min(threads_each(p, replicates, workers), p.n_heads) - 1)
    if not drawn_inside:
        layer += p.n_tokens * p.n_heads * (4 * p.reads + 4)
    stored = slots * (0 if streamed else PER_SLOT) + slots * (PER_TIED_SLOT if p.attention_tie else 0)
    if whole_graph or not p.directed:
        stored += slots * (4 + PER_EDGE * p.reads)
    if not p.directed:
        stored += PER_BOND * p.n_layers * p.n_tokens * (p.n_heads * p.reads + p.residual)
    histograms = 3 * 8 * p.n_tokens
    return BASE + min(workers, replicates) * (layer + stored) + 2 * replicates * histograms


def _is_streamed(parameters: Parameters) -> bool:
    from routegraph.sim.stream import draws_levels

    return draws_levels(parameters)


def check_memory(
    parameters: Parameters, replicates: int = 1, workers: int = 1, whole_graph: bool = False
) -> None:
    """Refuse what does not fit.

    Raises
    ------
    ValueError
        If the replicates need more memory than is free; both are named.
    """
    need, one = (needed(parameters, replicates, n, whole_graph) for n in (workers, 1))
    check_free(need, f"n_tokens = {parameters.n_tokens}", "; with one worker it would fit", one)

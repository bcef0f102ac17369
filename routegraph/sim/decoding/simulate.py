"""`simulate_decoding`: caches that are cut while an answer is written, beside theory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routegraph.memory import REPLICATES, check_free
from routegraph.options import check_names, check_seed, check_whole, takes
from routegraph.sim.decoding.parameters import Decoding, settings_of
from routegraph.sim.decoding.result import DecodingResult
from routegraph.sim.decoding.run import run
from routegraph.sim.run import Progress


@takes(Decoding)
def simulate_decoding(
    policy: str | Iterable[str] = "random",
    *,
    at: Iterable[int] = (),
    replicates: int = 8,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> DecodingResult:
    """Simulate caches whose slots are cut to a budget while rows are decoded.

    Parameters
    ----------
    policy : str or sequence of str
        Policies of decoding, or policies of a finished context, which are then asked at every cut. All see the same
        attention.
    **options
    at : iterable of int, optional
        Steps to report, in 0..steps; some from the first to the last by default. Curves hold all of them.
    replicates, seed : int
        Independent runs, and the seed they come from.
    settings : mapping, optional
        Parameters of the policies by name; each takes those that it knows.
    workers : int, optional
        Threads; all cores by default. The result does not depend on it.
    progress : function of (done, total), optional
        Called after each replicate.

    Returns
    -------
    DecodingResult

    Raises
    ------
    ValueError
        If a parameter is out of range or unknown; nothing is computed then.

    Notes
    -----
    The options are the fields of `routegraph.sim.decoding.parameters.Decoding`.
    `routegraph.sim.decoding.slot.Attention` says how attention is drawn.
    """
    check_names("simulate_decoding", Decoding, options)
    check_whole("replicates", replicates, low=1, high=REPLICATES)
    check_seed(seed)
    names = [policy] if isinstance(policy, str) else list(dict.fromkeys(policy))
    if not names:
        raise ValueError("at least one policy is needed")
    own = settings_of(names, settings or {})
    cells = [Decoding(**options, policy=name, policy_parameters=own[name]) for name in names]
    steps = cells[0].steps
    chosen = sorted(set(at)) or default_steps(steps)
    for step in chosen:
        check_whole("at", step, low=0)
        if step > steps:
            raise ValueError(f"at must be in 0..{steps}, got {step}")
    check_free(6 * 8 * (steps + 1) * replicates * len(cells), f"{replicates:,} replicates of {steps:,} steps")
    curves = []
    for i, cell in enumerate(cells):

        def advance(done: int, total: int, before: int = i * replicates) -> None:
            if progress is not None:
                progress(before + done, len(cells) * replicates)

        curves.append(run(cell, replicates, seed, workers, advance))
    return DecodingResult(tuple(cells), tuple(curves), chosen, replicates, seed)


def default_steps(steps: int) -> list[int]:
    """Return the steps to report: an eighth, a quarter, half, and all of them."""
    return sorted({max(1, steps * part // 8) for part in (1, 2, 4, 8)})

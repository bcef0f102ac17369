"""What a certificate needs of prompts that nobody measured yet: their answers under eviction, and what is predicted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from routegraph.options import takes
from routegraph.stats.certified import check_share, trials_needed
from routegraph.tables import many
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.run import measure
from routegraph.validate.models.sources import Progress
from routegraph.validate.plan import JUDGING, Plan
from routegraph.validate.predict.result import Predicted
from routegraph.validate.predict.run import predict
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.work import HERE, Work

#: The paper's two policies: fewer leave more of the confidence to each.
CERTIFIED_POLICIES = ("chunk", "adakv")
#: Even, and from small ratios on, which one ratio for all is mostly certified at.
CERTIFIED_RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Ratios of every policy that are tried where a dial is to be certified.
CERTIFIED_TRIES = 2


@takes(Plan)
def measure_and_predict(
    model: Any,
    prompts: Sequence[Prompt],
    out: str | os.PathLike[str],
    *,
    policy_names: Sequence[str] = CERTIFIED_POLICIES,
    ratios: Sequence[float] = CERTIFIED_RATIOS,
    tries: int = CERTIFIED_TRIES,
    work: Work = HERE,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Measured, Predicted]:
    """Ask prompts under eviction and predict what breaks, for `certify`.

    Parameters
    ----------
    model : Loaded, str or Path
        Whatever `routegraph.validate.models.load.load` takes.
    prompts : sequence of Prompt
    out : path
        Folder that keeps both, as ``measured`` and ``predicted`` in it; a killed run goes on.
    policy_names : sequence of str
        See `Method.named`.
    ratios : sequence of float
        Compression ratios in [0, 1); 0 is always among them.
    tries : int
        See `predict`.
    **options
    work : Work
        Who computes the items: see `routegraph.validate.work.Work`; by default the calling process.
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Raises
    ------
    ValueError
        As `measure` and `predict` do.
    """
    loaded = work.load(model, progress=progress)
    asked: dict[str, Any] = {"policy_names": policy_names, "ratios": ratios, "progress": progress}
    told = {name: value for name, value in options.items() if name not in JUDGING}
    with work.kept() as kept:
        measured = measure(loaded, prompts, Path(out) / "measured", work=kept, **asked, **options)
        predicted = predict(loaded, prompts, Path(out) / "predicted", tries=tries, work=kept, **asked, **told)
    return measured, predicted


def check_enough(prompts: int, policies: int, risk: float, confidence: float) -> None:
    """Raise ValueError where so many prompts certify nothing, even if none of them broke.

    Parameters
    ----------
    prompts, policies : int
    risk, confidence : float
        See `routegraph.validate.certify.run.certify`; each policy is tested at one ratio and prompt by prompt.
    """
    check_share("risk", risk)
    check_share("confidence", confidence)
    needed = trials_needed(risk, (1 - confidence) / (2 * policies))
    if prompts < needed:
        raise ValueError(
            f"{many(prompts, 'prompt')} are too few, even if none broke: at least {needed} are needed for a risk of "
            f"{risk:g} with {100 * confidence:g} % confidence over {many(2 * policies, 'choice')}; give more, name "
            "fewer policies, or allow more risk"
        )

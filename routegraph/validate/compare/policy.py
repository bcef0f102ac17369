"""One policy of a comparison: both head axes, reach, and where answers fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from routegraph.stats.intervals import Interval
from routegraph.validate.compare.failure import Failure
from routegraph.validate.compare.foretold import Foretold
from routegraph.validate.compare.prediction import AxisComparison
from routegraph.validate.compare.reach import ReachComparison
from routegraph.validate.presses.methods import method_words


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """One policy on both head axes, its reach, and the cliffs that its code builds in.

    Attributes
    ----------
    policy, scorer : str
        The method's name, and the score table that it goes by.
    axes : dict of head axis to AxisComparison
    cliffs : dict of str to float
    reach : list of ReachComparison
        Empty where the traces hold no graphs.
    measured : Failure or None
        Where answers fail; None where that was not measured.
    foretold : Foretold or None
        By which ratio answers are expected to break; None where that was not predicted.
    cut : str or None
        Registered policy that cuts the scores; None in files of earlier versions, where `policy` was its name.
    """

    policy: str
    scorer: str
    axes: dict[str, AxisComparison]
    cliffs: dict[str, float] = field(default_factory=dict)
    reach: list[ReachComparison] = field(default_factory=list)
    measured: Failure | None = None
    cut: str | None = None
    foretold: Foretold | None = None

    @property
    def words(self) -> str:
        """Whose scores and which cut, in words."""
        return method_words(self.cut or self.policy, self.scorer)


def half_points(found: PolicyComparison) -> Iterator[tuple[str, str, str, Interval]]:
    """Yield (quantity, tokens, source, half point) of all that was read off, simulated and predicted.

    Read off: of all prompts (tokens gone) or of the held-out ones (reach); simulated and theory: for the held-out
    ones. Intervals are by bootstrap over those prompts.
    """
    for over, axis in found.axes.items():
        where = "gone, all slots" if over == "model" else "gone, a layer"
        for observed, tokens, names in (
            ("answer tokens", "answer", ("simulated answers", "shifted copula")),
            ("evictable tokens", "evictable", ("simulated", "measured copula")),
        ):
            if observed in axis.observed:
                yield where, tokens, "read off", axis.half(observed)
                for source, name in zip(("simulated", "theory"), names, strict=True):
                    yield where, tokens, source, axis.spread(name)
    for reach in found.reach:
        where = f"reach, {reach.prune}, weight > {reach.eps:g}"
        tokens = reach.tokens.removesuffix(" tokens")
        yield where, tokens, "read off", reach.half()
        for source, name in (("simulated", "simulated"), ("theory", "cavity")):
            if name in reach.predicted:
                yield where, tokens, source, reach.spread(name)

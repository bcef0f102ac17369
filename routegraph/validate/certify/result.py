"""The result of `certify`: as numbers, in words, as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph._version import __version__
from routegraph.stats.intervals import Interval, interval_dict
from routegraph.stats.proportions import wilson
from routegraph.tables import Block, Grid, Heading, Page, Shown, many, note, points, words
from routegraph.text import drawn
from routegraph.validate.measure.pairs import HEADING, PAIRS_NOTE, Pair, area_sentence, verdicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the JSON document of a certificate calls itself.
FORMAT = "routegraph certificate"

HARM = {
    "gold": "answers that are right with the full cache and not right under the eviction",
    "own": "replies that state something else than with the full cache",
}

#: What the keys of the JSON document mean.
DEFINITIONS = {
    "certified": "the last setting of fixed-sequence testing (Learn then Test), a ratio or a share of `dial_loses`; "
    "null: none. The confidence is shared out among all rows",
    "dial": "what takes for each prompt the largest ratio, of those measured, up to which its reply loses no more than "
    "`certified`; routegraph.load_dial reads it from this document",
    "dial_loses": "support: what the reply rests on with the full cache; likelihood: of its least likely token, where "
    "ratios were tried (predict --tries)",
    "broke": "prompts that break at each setting, by `against`",
    "cache_bytes": "keys and values of a context of so many tokens, sliding windows not counted off; null: not known",
    "policies": PAIRS_NOTE,
    "areas": "area under the accuracy curve of all prompts over that of a curve at 1; 95 % bootstrap over prompts",
}


@dataclass(frozen=True, eq=False)
class Certified:
    """One policy, at one ratio for all prompts or by the dial.

    Attributes
    ----------
    policy : str
    dial : bool
    settings : float64[n_settings]
        Ratios, or thresholds of what a reply may lose, from the safest on.
    means : float64[n_settings]
        Mean ratio of each.
    counts : int64[n_settings]
        Prompts that broke at each.
    p_values : float64[n_settings]
    last : int
        Place of the last certified setting; 0: none.
    ratio : float
        Its mean ratio; 0 where none is certified.
    """

    policy: str
    dial: bool
    settings: NDArray[np.float64]
    means: NDArray[np.float64]
    counts: NDArray[np.int64]
    p_values: NDArray[np.float64]
    last: int
    ratio: float

    @property
    def holds(self) -> bool:
        """Whether any setting that evicts something is certified."""
        return self.ratio > 0


@dataclass(frozen=True, eq=False, repr=False)
class Certificate(Shown):
    """What may be deployed.

    Attributes
    ----------
    model : str
    prompts, right : int
        Prompts measured, and how many of their answers are right at ratio 0.
    against : str
        What counts as harm: "gold" or "own".
    risk, confidence : float
    needed : int
        Prompts that would do if none of them broke.
    rows : tuple of Certified
    pairs : tuple of Pair
    areas : mapping of policy to Interval
        Area under the curve of all answers that are right, up to the last ratio.
    tokens, row_bytes : int
        Length of a context whose cache is told, and what the model's cache takes for each token; 0: not known.
    seed : int
        Of the comparison of policies.
    setup : mapping, optional
        What a dial needs besides: `weights`, `ratios`, how prompts were `asked`, and `unlike`, why it cannot be used;
        None where nothing predicted was given.
    loses : {"support", "likelihood"}
        What the dial goes by: see `Forecast.what`.
    """

    model: str
    prompts: int
    right: int
    against: str
    risk: float
    confidence: float
    needed: int
    rows: tuple[Certified, ...]
    pairs: tuple[Pair, ...] = ()
    areas: Mapping[str, Interval] = field(default_factory=dict)
    tokens: int = 0
    row_bytes: int = 0
    seed: int = 0
    setup: Mapping[str, Any] | None = field(default=None)
    loses: str = "support"

    @property
    def best(self) -> Certified | None:
        """The certified setting of the largest mean ratio, of equal ones that which broke least; None without one."""
        held = [row for row in self.rows if row.holds]
        return max(held, key=lambda row: (row.ratio, -row.counts[row.last])) if held else None

    @property
    def last_ratio(self) -> float:
        """The largest ratio that was measured."""
        return float(next(row for row in self.rows if not row.dial).settings[-1])

    @property
    def answer(self) -> str:
        """What to deploy, in one sentence or two."""
        sure = f"{100 * self.confidence:g} % confidence"
        bound = f"at most {100 * self.risk:g} % of prompts like these break, with {sure}"
        if self.prompts < self.needed:
            return (
                f"Nothing can be certified: {many(self.prompts, 'prompt')} are too few, even if none broke; at "
                f"least {self.needed} are needed for a risk of {self.risk:g} with {sure} over "
                f"{many(len(self.rows), 'choice')}."
            )
        best = self.best
        if best is None:
            row = min(self.rows, key=lambda row: row.counts[row.means > 0][0])
            first = int(np.flatnonzero(row.means > 0)[0])
            return (
                f"No compression is certified: under {row.policy}, the best of these, {row.counts[first]} of "
                f"{self.prompts} prompts break already at ratio {row.means[first]:.2f}; {100 * self.risk:g} % may."
            )
        broke = f"{best.counts[best.last]} of {self.prompts} broke"
        if self.tokens and self.row_bytes:
            whole = self.tokens * self.row_bytes
            left = f"{_size((1 - best.ratio) * whole)} of {_size(whole)}"
            broke += f"; {left} of cache are left at {self.tokens:,} tokens"
        single = [row for row in self.rows if row.holds and not row.dial]
        if best.dial:
            beside = ""
            if single:
                top = max(single, key=lambda row: row.ratio)
                beside = f" One ratio for all prompts: {top.policy} at {top.ratio:g}."
            return (
                f"Deploy {best.policy} prompt by prompt, where at most {best.settings[best.last]:g} of a reply's "
                f"{self.loses} is lost: a mean ratio of {best.ratio:.2f}; {bound} ({broke}).{beside}"
            )
        return f"Deploy {best.policy} at ratio {best.ratio:g}: {bound} ({broke})."

    def page(self) -> Page:
        """Return the answer, every policy, and policies beside each other."""
        grids = [self._grid()]
        shown: list[Block] = []
        if self.pairs:
            grids.append(self._pair_grid())
            shown = [
                Heading(HEADING),
                words(area_sentence(list(self.areas.items()), self.last_ratio)),
                points(verdicts(self.pairs)),
            ]
        return Page(
            (
                words(
                    f"Model {self.model}, {many(self.prompts, 'prompt')}, {self.right} right at ratio 0. Counted: "
                    f"{HARM[self.against]}."
                ),
                *grids,
                *shown,
                note(
                    "Certified: Learn then Test, settings from the safest on, exact binomial p-values; the confidence "
                    "is shared out among all rows, so that whichever is chosen keeps the guarantee. It is for prompts "
                    "drawn as these were, and for no others. 'One at a time': every prompt at the largest ratio at "
                    f"which no more of its {self.loses} is lost than the setting. [.., ..]: 95 %.",
                    *([PAIRS_NOTE] if self.pairs else []),
                ),
                words(self.answer),
            )
        )

    def _grid(self) -> Grid:
        rows = []
        for row in self.rows:
            low, high = wilson(row.counts, self.prompts)
            k = row.last
            rows.append(
                [
                    row.policy,
                    "one at a time" if row.dial else "one for all",
                    f"{row.settings[k]:g}" if row.holds else "none",
                    f"{row.ratio:.2f}" if row.holds else "0",
                    f"{row.counts[k]} of {self.prompts}" if row.holds else "-",
                    f"{100 * row.counts[k] / self.prompts:.1f} [{100 * low[k]:.1f}, {100 * high[k]:.1f}]"
                    if row.holds
                    else "-",
                ]
            )
        columns = ["policy", "ratio", "certified", "mean ratio", "broke", "percent"]
        return Grid(
            columns,
            rows,
            f"Largest setting at a risk of {self.risk:g}, {100 * self.confidence:g} % sure",
            right_from=2,
        )

    def _pair_grid(self) -> Grid:
        rows = [
            [
                f"{pair.one} - {pair.two}",
                f"{pair.difference.value:+.2f} [{pair.difference.low:+.2f}, {pair.difference.high:+.2f}]",
                f"{pair.p_value:.3g}",
                pair.words,
            ]
            for pair in self.pairs
        ]
        columns = ["policies", "share still right", "p", "verdict"]
        return Grid(columns, rows, "Policies on the same items, mean over the ratios")

    def brief(self) -> str:
        """Return the ratio to deploy."""
        return self.answer

    def plot(self, ax: Any = None) -> Figure:
        """Draw the share that broke against the mean ratio, certified points marked; `ax`: axes to draw on."""
        with plot.style():
            ax = plot.axes_or_new(ax)
            names = list(dict.fromkeys(row.policy for row in self.rows))
            colours = list(plot.COLOURS.values())
            for row in self.rows:
                colour = colours[names.index(row.policy) % len(colours)]
                style, label = (
                    (":", f"{drawn(row.policy)}, prompt by prompt") if row.dial else ("-", drawn(row.policy))
                )
                ax.plot(row.means, row.counts / self.prompts, linestyle=style, color=colour, label=label)
                if row.holds:
                    ax.plot(row.ratio, row.counts[row.last] / self.prompts, marker="D", color=colour)
            ax.axhline(self.risk, color="grey", linewidth=1, linestyle="--")
            ax.set(xlabel="mean compression ratio", ylabel="share of prompts that broke", ylim=(-0.02, 1.02))
            ax.set_title(f"{drawn(self.model)}: diamonds are certified", loc="left")
            plot.legend(ax)
        made: Figure = ax.figure
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        whole = self.tokens * self.row_bytes if self.row_bytes else None
        return {
            "format": FORMAT,
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                "model": self.model,
                "prompts": self.prompts,
                "right_at_0": self.right,
                "against": self.against,
                "risk": self.risk,
                "confidence": self.confidence,
                "prompts_needed": self.needed,
                "dial_loses": None if self.setup is None else self.loses,
                "tokens": self.tokens,
                "cache_bytes": whole,
            },
            "definitions": DEFINITIONS,
            "answer": self.answer,
            "dial": None if self.setup is None else dict(self.setup),
            "results": [
                {
                    "policy": row.policy,
                    "dial": row.dial,
                    "certified": float(row.settings[row.last]) if row.holds else None,
                    "mean_ratio": row.ratio,
                    "cache_bytes_left": None if whole is None else round((1 - row.ratio) * whole),
                    "settings": row.settings.tolist(),
                    "mean_ratios": row.means.tolist(),
                    "broke": row.counts.tolist(),
                    "p_values": row.p_values.tolist(),
                }
                for row in self.rows
            ],
            "policies": [pair.to_dict() for pair in self.pairs],
            "areas": [
                {"policy": policy, "from": 0.0, "to": self.last_ratio, **interval_dict(area)}
                for policy, area in self.areas.items()
            ],
        }


def _size(n_bytes: float) -> str:
    """Return a number of bytes in words."""
    for least, unit, name in ((1e8, 1e9, "GB"), (1e6, 1e6, "MB")):
        if n_bytes >= least:
            return f"{n_bytes / unit:.1f} {name}"
    return f"{n_bytes / 1e3:.0f} kB"

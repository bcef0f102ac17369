"""The result of `predict`: as numbers, in words, as a figure, as a folder of cells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph._version import __version__
from routegraph.stats.intervals import interval_dict, listed, unlisted
from routegraph.tables import Page, Shown
from routegraph.text import drawn
from routegraph.validate.measure.cells import PREDICTION, cliffs_of, read_cells, read_run
from routegraph.validate.measure.schema import check_settings, predicted_cell
from routegraph.validate.predict.defaults import OTHER_MODELS
from routegraph.validate.predict.forecast import SHARES, Forecast
from routegraph.validate.predict.tables import predicted_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Predicted(Shown, Forecast):
    """The result of `predict`: its numbers are those of `Forecast`."""

    @staticmethod
    def load(out: str | os.PathLike[str], skip_damaged: bool = False) -> Predicted:
        """Read every cell of a folder that `predict` wrote, sorted by the prompts' ids.

        skip_damaged: leave damaged cells out, each named by a warning, instead of stopping at the first.

        Raises
        ------
        ValueError
            If it is no such folder, holds no cell yet, or one is damaged.
        """
        settings = read_run(out, PREDICTION)["settings"]
        check_settings(settings, f"run.json of {str(out)!r} is damaged")
        cells = read_cells(out, settings, predicted_cell(settings), skip_damaged)
        return from_cells(settings, list(cells.values()))

    def page(self, within: float | None = None) -> Page:
        """Return what is to be expected at every ratio, critical ratios, and which prompts break first.

        within : share that a reply may lose; then the ratio of each prompt as well.
        """
        return predicted_page(self, within)

    def plot(self, ax: Any = None) -> Figure:
        """Draw the share of answers that are expected to hold, a curve a policy, with 95 % bands.

        ax : axes to draw on
        """
        with plot.style():
            ax = plot.axes_or_new(ax)
            for policy, colour in zip(self.policies, _cycle(len(self.policies)), strict=True):
                low, high = self.band(policy)
                ax.plot(self.ratios, self.kept(policy), marker=".", color=colour, label=drawn(policy))
                ax.fill_between(self.ratios, low, high, color=colour, alpha=0.12, linewidth=0)
            ax.axhline(0.5, color="grey", linewidth=1, linestyle=":")
            ax.set(xlabel="compression ratio", ylabel="share of answers expected to hold", ylim=(-0.02, 1.02))
            ax.set_title(f"{drawn(self.settings['model'])}: predicted, {len(self.ids)} prompts", loc="left")
            plot.legend(ax)
        made: Figure = ax.figure
        return made

    def to_dict(self, within: float | None = None) -> dict[str, Any]:
        """Return everything as JSON-ready values; `within` as in `page`."""
        dials = {} if within is None else {policy: self.dial(policy, within) for policy in self.policies}
        return {
            "version": __version__,
            "seed": self.settings["seed"],
            "parameters": {**self.settings, "ratios": self.ratios.tolist(), "prompts": len(self.ids)},
            "set_aside": [{"id": name, "why": why} for name, why in self.aside],
            "definitions": {
                **(TRIED_DEFINITIONS if self.tries else PREDICT_DEFINITIONS),
                **{f"policy {name}": told for name, told in self.methods.items()},
            },
            "calibration": {
                "on": self.calibration.words,
                "mean": self.calibration.mean.tolist(),
                "covariance": self.calibration.covariance.tolist(),
            },
            "results": [self._curve_dict(policy, task) for policy in self.policies for task in self.groups],
            "prompts": [
                {
                    "id": name,
                    "task": self.item_tasks[i],
                    "statement": self.statements[i],
                    "support_lost": [listed(row) for row in self.support_lost[i]],
                    **({"likelihood_lost": [listed(row) for row in self.lost[i]]} if self.tries else {}),
                    "risk": [listed(row) for row in self.risk[i]],
                    **({} if within is None else {"dial": {p: float(own[i]) for p, own in dials.items()}}),
                }
                for i, name in enumerate(self.ids)
            ],
        }

    def _curve_dict(self, policy: str, task: str | None) -> dict[str, Any]:
        low, high = self.band(policy, task)
        return {
            "policy": policy,
            "task": task or "all",
            "prompts": self.prompts(policy, task),
            "kept": listed(self.kept(policy, task)),
            "low": listed(low),
            "high": listed(high),
            "half_point": interval_dict(self.critical(policy, task)),
            "nine_tenths": interval_dict(self.critical(policy, task, 0.9)),
        }


PREDICT_DEFINITIONS = {
    "ratio": "fraction of cache rows the policy is asked to remove",
    "support_lost": "mean of three shares of what the model's own reply with the full cache rests on: what slots give "
    "to its rows over all routes (worst row), its attention to the tokens it repeats, what it depends on where an "
    "evenly fading context makes it half as likely",
    "risk": "chance that the answer is lost, 1 / (1 + exp(-(a + b logit(support_lost)))); a and b from `calibration`",
    "kept": "share of the answers given with the full cache that are expected to hold: the mean of 1 - risk; 95 % over "
    "prompts and calibration",
    "half_point": "ratio at which `kept` falls through one half; nine_tenths: through .9",
}

TRIED_DEFINITIONS = {
    **PREDICT_DEFINITIONS,
    "support_lost": "mean of two shares of what the model's own reply with the full cache rests on: what slots give to "
    "its rows over all routes (worst row), its attention to the tokens it repeats",
    "likelihood_lost": "share of its likelihood that the token of the own reply that loses most loses, 1 - exp(-fall "
    "of log p); read at the ratios that were tried, interpolated along support_lost between them",
    "risk": "chance that the answer is lost, 1 / (1 + exp(-(a + b logit(likelihood_lost)))); a and b from "
    "`calibration`",
}


def from_cells(settings: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Predicted:
    """Return the result that cells make up; ValueError if there is none."""
    if not cells:
        raise ValueError("nothing has been predicted yet: there is no cell")
    shape = (len(settings["policies"]), len(settings["ratios"]))
    tries = int(settings.get("tries", 0))
    names = SHARES[:2] if tries else SHARES
    nothing = np.full((len(names), *shape), np.nan)
    prompts = [cell["prompt"] for cell in cells]
    shares = [
        nothing if cell["shares"] is None else np.array([cell["shares"][name] for name in names])
        for cell in cells
    ]
    trials = [
        nothing[0] if "tried" not in cell else np.array([unlisted(row) for row in cell["tried"]])
        for cell in cells
    ]
    return Predicted(
        settings=settings,
        ids=tuple(str(prompt["id"]) for prompt in prompts),
        item_tasks=tuple(str(prompt["task"]) for prompt in prompts),
        n_context=np.array([prompt["n_context"] for prompt in prompts], dtype=np.int64),
        replies=tuple(str(cell["reply"]) for cell in cells),
        statements=tuple(str(cell["statement"]) for cell in cells),
        shares=np.stack(shares, axis=1),
        calibration=OTHER_MODELS[min(tries, len(OTHER_MODELS) - 1)],
        tried=np.stack(trials) if tries else None,
        cliffs={policy: cliffs_of(cells, policy) for policy in settings["policies"]},
    )


def _cycle(n: int) -> list[str]:
    """Return so many colours."""
    colours = list(plot.COLOURS.values())
    return [colours[k % len(colours)] for k in range(n)]

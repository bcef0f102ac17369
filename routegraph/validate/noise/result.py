"""The logit noise of a cache of few bits as a result: in words, as numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.schema import anything, listing, read_document, real, record, shown, text
from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.stats.intervals import Interval, interval_dict
from routegraph.tables import Grid, Page, Shown, many, note, words
from routegraph.validate.measure.reading import short

Floats = NDArray[np.float64]
_RESAMPLES = 1000

DEFINITIONS = {
    "noise": "standard deviation, over the rows of the context, of the error of a query's logits once keys are "
    "rounded; root mean square over the question's rows, then over query heads and layers",
    "spread": "the same of the logits themselves",
    "relative": "noise / spread of each query head, median over heads and layers",
    "moved": "half the sum of |attention after - before| over the context's rows, that of the question alone taken "
    "as 1; mean over query heads, layers and the question's rows",
    "simulated": "moved, with Gaussian noise of each query head's size on every logit in the place of rounded keys",
    "astray": "share of (layer, query head, row of the question) whose heaviest row of the context is another one",
    "interval": "95 %, bootstrap over prompts",
}


@dataclass(frozen=True, eq=False, repr=False)
class LogitNoise(Shown):
    """What `logit_noise` measured.

    Attributes
    ----------
    settings : mapping
    ids : tuple of str
        Of the prompts.
    bits : tuple of str
        Names of precisions, "" first: the cache as it is.
    ratios : float64[n_ratios]
    noise : float64[n_prompts, n_bits, n_layers, n_query_heads]
        Standard deviation of the logits' errors, with nothing removed.
    spread : float64[n_prompts, n_layers, n_query_heads]
        Standard deviation of the logits.
    astray, moved, simulated : float64[n_prompts, n_bits, n_ratios]
        Shares of reads whose heaviest row changes, and of the attention that moves, by rounded keys and in the
        simulation.
    """

    settings: Mapping[str, Any]
    ids: tuple[str, ...]
    bits: tuple[str, ...]
    ratios: Floats
    noise: Floats
    spread: Floats
    astray: Floats
    moved: Floats
    simulated: Floats

    def mean(self, each: Floats) -> Interval:
        """Return the mean over prompts, float64[n_prompts], with its interval."""
        weights = resample_weights(len(each), _RESAMPLES, np.random.default_rng(int(self.settings["seed"])))
        if len(each) < 2:
            return Interval(float(each.mean()), np.nan, np.nan)
        return interval(weights @ each, float(each.mean()))

    def size(self, bits: int) -> Interval:
        """Return the noise of a precision, root mean square over heads and layers, mean over prompts."""
        return self.mean(np.sqrt((self.noise[:, bits] ** 2).mean(axis=(1, 2))))

    def relative(self, bits: int) -> Interval:
        """Return noise / spread, median over heads and layers, mean over prompts."""
        return self.mean(np.median(self.noise[:, bits] / np.maximum(self.spread, 1e-12), axis=(1, 2)))

    def page(self) -> Page:
        """Return noise and moved attention of every precision."""
        rows = []
        for k, name in enumerate(self.bits):
            if not name:
                continue
            shares = (self.astray[:, k, 0], self.moved[:, k, 0], self.simulated[:, k, 0])
            rows.append([name, *map(_cell, (self.size(k), self.relative(k), *map(self.mean, shares)))])
        alone = Grid(["bits", "noise", "of the spread", "astray", "moved", "simulated"], rows, "Bits alone")
        cells = [
            [
                name or "16, as it is",
                *(
                    f"{100 * self.moved[:, k, r].mean():.1f} / {100 * self.simulated[:, k, r].mean():.1f}"
                    for r in range(len(self.ratios))
                ),
            ]
            for k, name in enumerate(self.bits)
        ]
        both = Grid(
            ["bits", *(short(ratio) for ratio in self.ratios)],
            cells,
            "Attention moved at the ratio, percent: by rounded keys / simulated",
        )
        settings = self.settings
        head = f"{settings['model']}, {many(len(self.noise), 'prompt')}, policy {settings['policy']}."
        meant = [f"{name.capitalize()}: {meaning}." for name, meaning in DEFINITIONS.items()]
        return Page((words(head), alone, both, note(*meant)))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but single heads as JSON-ready values."""
        return {
            "version": __version__,
            "seed": self.settings["seed"],
            "parameters": {**self.settings, "bits": list(self.bits), "ratios": self.ratios.tolist()},
            "definitions": DEFINITIONS,
            "noise": [
                {
                    "bits": name,
                    "noise": interval_dict(self.size(k)),
                    "relative": interval_dict(self.relative(k)),
                    "by_head": self.noise[:, k].mean(axis=0).tolist(),
                }
                for k, name in enumerate(self.bits)
            ],
            "results": [
                {
                    "bits": name,
                    "ratio": float(self.ratios[r]),
                    "astray": float(self.astray[:, k, r].mean()),
                    "moved": float(self.moved[:, k, r].mean()),
                    "moved_interval": interval_dict(self.mean(self.moved[:, k, r])),
                    "simulated": float(self.simulated[:, k, r].mean()),
                }
                for k, name in enumerate(self.bits)
                for r in range(len(self.ratios))
            ],
            "items": [
                {"id": name, "moved": moved.tolist()}
                for name, moved in zip(self.ids, self.moved, strict=True)
            ],
        }


#: What is read of the file that `routegraph noise --out` writes.
_SHARE = real(0, 1 + 1e-9)
_NOISE = record(
    {
        "parameters": record({"bits": listing(text), "ratios": listing(real(0, below=1))}),
        "noise": anything,
        "results": listing(record({"bits": text, "ratio": real(0, below=1), "simulated": _SHARE})),
        "items": listing(record({"id": text, "moved": listing(listing(_SHARE))})),
    }
)


def read_noise(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `routegraph noise --out` wrote; ValueError where the file holds something else."""
    found: dict[str, Any] = read_document(path, _NOISE, "result of routegraph noise")
    shape = (len(found["parameters"]["bits"]), len(found["parameters"]["ratios"]))
    for item in found["items"]:
        if [len(row) for row in item["moved"]] != [shape[1]] * shape[0]:
            raise ValueError(
                f"{str(path)!r} is no result of routegraph noise: item {shown(item['id'])} must have "
                f"{many(shape[0], 'row')} of {many(shape[1], 'ratio')}"
            )
    return found


def _cell(found: Interval) -> str:
    ends = "" if np.isnan(found.low) else f" [{found.low:.3g}, {found.high:.3g}]"
    return f"{found.value:.3g}{ends}"

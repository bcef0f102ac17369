"""The result of a critical fit: in words, as a figure, as a file that loads for ever."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph._version import __version__
from routegraph.critical.cliff import RISE
from routegraph.critical.collapse import scaled_curves
from routegraph.files import write_json
from routegraph.schema import (
    anything,
    checked,
    listing,
    maybe,
    read_document,
    real,
    record,
    table_of,
    text,
    whole,
)
from routegraph.stats.intervals import Interval
from routegraph.tables import Grid, Page, Shown, points
from routegraph.text import drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMAT, FORMAT_VERSION = "routegraph critical fit", 1


_NUMBER, _ENDS = maybe(real()), listing(maybe(real()), length=2)
_PLACES = ("alpha_c", "nu", "zeta", "inverse_nu", "zeta_over_nu")
_CURVES = listing(listing(_NUMBER))
_FIT = record(
    {"alpha_c": _NUMBER, "ci": _ENDS, "method": text, "verdict": text},
    dict.fromkeys((*_PLACES, "quality"), _NUMBER)
    | {f"{name}_ci": _ENDS for name in _PLACES[1:]}
    | {"scale": text, "observable": text, "evidence": listing(text), "warnings": listing(text)}
    | {
        "table": listing(table_of(anything)),
        "dropped": listing(table_of(anything)),
        "details": table_of(anything),
    }
    | {"sizes": listing(real()), "ratios": listing(real()), "mean": _CURVES, "stderr": _CURVES}
    | {"replicates": whole(0), "resamples": whole(0), "seed": whole(0, math.inf), "version": text},
)


@dataclass(frozen=True, repr=False)
class CriticalFit(Shown):
    """The result of `fit_critical`. All intervals are 95 %; None where there is none.

    Attributes
    ----------
    alpha_c : float or None
        Critical ratio (None: the curve never gets there), and `ci` its interval.
    nu, zeta : float or None
        Exponents: width ~ size**(-1/nu), value at alpha_c ~ size**(zeta/nu); with `inverse_nu`,
        `zeta_over_nu` and the intervals of all.
    quality : float or None
        Houdayer-Hartmann quality of the collapse.
    method, scale, observable : str
    verdict : str
        "transition", "crossover" or "undecided"; of measured counts "cliff", "gradual", "flat" or "undecided".
    evidence, warnings : list of str
    table : list of dict
        The figures behind it: a row a size or a pair of sizes.
    dropped : list of dict
        The fit without the smallest size, the two smallest, ...
    details : dict
        Further figures of the method: S + 1 intervals, covariance, model comparison.
    sizes, ratios, mean, stderr : list
        The curves.
    replicates, resamples, seed : int
    version : str
        Version that made the fit.
    """

    alpha_c: float | None
    ci: tuple[float | None, float | None]
    method: str
    verdict: str
    nu: float | None = None
    nu_ci: tuple[float | None, float | None] = (None, None)
    zeta: float | None = None
    zeta_ci: tuple[float | None, float | None] = (None, None)
    inverse_nu: float | None = None
    inverse_nu_ci: tuple[float | None, float | None] = (None, None)
    zeta_over_nu: float | None = None
    zeta_over_nu_ci: tuple[float | None, float | None] = (None, None)
    quality: float | None = None
    scale: str = "n"
    observable: str = "order parameter"
    evidence: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    sizes: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    mean: list[list[float]] = field(default_factory=list)
    stderr: list[list[float]] = field(default_factory=list)
    replicates: int = 0
    resamples: int = 0
    seed: int = 0
    version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        document: dict[str, Any] = ready(asdict(self))
        return document

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit as JSON, atomically."""
        write_json(path, {"format": FORMAT, "format_version": FORMAT_VERSION, **self.to_dict()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CriticalFit:
        """Read a fit written by this or any earlier version.

        Raises
        ------
        ValueError
            If the file is no saved fit, damaged, or of a later format.
        """
        try:
            document = read_document(path)
            if document.pop("format") != FORMAT:
                raise KeyError("format")
            version = document.pop("format_version")
            if isinstance(version, bool) or not isinstance(version, int):
                raise TypeError
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError(f"{str(path)!r} is not a saved critical fit") from None
        if version <= FORMAT_VERSION:
            checked(_FIT, document, f"{str(path)!r} is not a saved critical fit")
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{str(path)!r} is of format {version}; this version reads up to {FORMAT_VERSION}"
            )
        return cls.of(document)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> CriticalFit:
        """Return the fit that `to_dict` told of; what this version does not know is left out."""
        known = {f.name for f in fields(cls)}
        kept = {name: value for name, value in document.items() if name in known}
        for name in ("ci", "nu_ci", "zeta_ci", "inverse_nu_ci", "zeta_over_nu_ci"):
            if name in kept:
                kept[name] = tuple(kept[name])
        return cls(**kept)

    def rows(self) -> list[tuple[str, str]]:
        """Return the result as (name, value with its interval) pairs."""
        told = [("critical ratio", _shown(self.alpha_c, self.ci))]
        pairs = (("1/nu", "inverse_nu"), ("nu", "nu"), ("zeta/nu", "zeta_over_nu"), ("zeta", "zeta"))
        for label, name in pairs:
            if getattr(self, name) is not None:
                told.append((label, _shown(getattr(self, name), getattr(self, f"{name}_ci"))))
        if "width" in self.details:
            told.append(("width, 10-90 %", _shown_dict(self.details["width"])))
        if self.quality is not None:
            told.append(("quality S", f"{self.quality:.2f}"))
        told += [("method", self.method), ("verdict", self.verdict)]
        return told

    def summary(self) -> str:
        """Return the result in words and tables, plain text."""
        if self.sizes:
            sizes = ", ".join(f"{s:g}" for s in self.sizes)
            head = f"{self.observable}: sizes {self.scale} = {sizes}; {self.replicates} replicates, "
            lines = [head + f"{self.resamples} resamples, seed {self.seed}; 95 % intervals"]
        else:
            lines = [f"{self.observable}: counts at {len(self.ratios)} ratios; 95 % intervals"]
        lines += [f"  {name:16} {value}" for name, value in self.rows()]
        lines += [f"  because {sentence}" for sentence in self.evidence]
        if len(self.dropped) > 1:
            half = self.method == "half"  # which quotes the largest size, whatever is left out
            lines.append(
                f"  smallest size   critical ratio               {'limit in size' if half else '1/nu'}"
            )
            lines += [
                f"  {row['smallest_size']:<15g} {_shown_dict(row['alpha_c']):28} "
                + _shown_dict(row.get("limit", _NONE) if half else row["inverse_nu"])
                for row in self.dropped
            ]
        return "\n".join(lines + [f"  warning: {sentence}" for sentence in self.warnings])

    def page(self) -> Page:
        """Return the result in a table, what it rests on, and warnings."""
        notes = [*self.evidence, *(f"Warning: {sentence}" for sentence in self.warnings)]
        rows = [list(row) for row in self.rows()]
        return Page((Grid(["what", "value"], rows, self.observable, right_from=2), points(notes)))

    def brief(self) -> str:
        """Return the critical ratio with its interval, and the verdict."""
        return f"{self.observable}, critical ratio {_shown(self.alpha_c, self.ci)}, {self.verdict}, by {self.method}"

    def records(self) -> list[dict[str, Any]]:
        """Return the curves that were fitted, a row a size and ratio."""
        return [
            {"size": size, "ratio": ratio, "mean": self.mean[s][a], "stderr": self.stderr[s][a]}
            for s, size in enumerate(self.sizes or [None])
            for a, ratio in enumerate(self.ratios)
        ]

    def plot(self, ax: Any = None) -> Figure:
        """Draw the curves, and the collapse or the crossings beside them."""
        return plot_fit(self, ax)


def number(value: float) -> float | None:
    """Return a finite number as it is, None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def ready(value: Any) -> Any:
    """Return JSON-ready values; an Interval becomes {value, low, high}, NaN None."""
    if isinstance(value, Interval):
        return {name: number(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: ready(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [ready(item) for item in value]
    return number(value) if isinstance(value, float) else value


def _shown(value: float | None, ends: tuple[float | None, float | None]) -> str:
    if value is None:
        return "not reached"
    low, high = ("?" if end is None else f"{end:.4g}" for end in ends)
    return f"{value:.4g} [{low}, {high}]"


_NONE: dict[str, Any] = {"value": None, "low": None, "high": None}


def _shown_dict(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else _shown(found["value"], (found["low"], found["high"]))


_COLOURS = [colour for name, colour in plot.COLOURS.items() if name not in ("black", "yellow")]


#: What a size is, in words and as a sign.
_SIZES = {
    "n": ("cache rows n", "n"),
    "L": ("layers L", "L"),
    "M": ("slots of a token M", "M"),
    "L/ln n": ("layers / ln(cache rows)", "(L/ln n)"),
}


def _words(fit: CriticalFit) -> str:
    return drawn(fit.observable.replace("_", " "))


def plot_fit(fit: CriticalFit, axes: Any = None) -> Figure:
    """Draw a fit.

    Parameters
    ----------
    fit : CriticalFit
        Bands are one standard error; the shaded span is the 95 % interval of the critical ratio.
    axes : pair of Axes, optional
        Curves, and collapse or crossings or peaks; one is enough for measured counts.
    """
    with plot.style():
        if fit.method == "trials":
            return _counts(fit, plot.figure()[1] if axes is None else axes)
        left, right = plot.figure(1, 2, width=5.2)[1] if axes is None else axes
        x, mean, error = np.array(fit.ratios), np.array(fit.mean), np.array(fit.stderr)
        for s, size in enumerate(fit.sizes):
            colour = _COLOURS[s % len(_COLOURS)]
            plot.band(left, x, mean[s], error[s], color=colour, label=f"{_SIZES[fit.scale][1]} = {size:g}")
        _mark(left, fit)
        left.set(xlabel="compression ratio", ylabel=_words(fit), title=f"{fit.verdict}, by {fit.method}")
        plot.legend(left)
        {"collapse": _collapse, "binder": _crossings}.get(fit.method, _places)(fit, right, x, mean)
        made: Figure = left.figure
        return made


def _mark(ax: Any, fit: CriticalFit) -> None:
    if fit.alpha_c is not None:
        low, high = fit.ci
        known = None if low is None or high is None else (low, high)
        plot.mark_critical(ax, fit.alpha_c, known, f"critical ratio {fit.alpha_c:.4g}", plot.COLOURS["black"])


def _collapse(fit: CriticalFit, ax: Any, x: Any, mean: Any) -> None:
    given = float(fit.details.get("given_zeta_over_nu", 0.0))
    theta = (
        fit.alpha_c or 0.0,
        fit.inverse_nu or 0.0,
        given if fit.zeta_over_nu is None else fit.zeta_over_nu,
    )
    scaled, values = scaled_curves(x, np.array(fit.sizes), mean, theta)
    correction = (fit.details.get("correction") or {}).get("value") or 0.0
    values = values / (1 + correction * fit.sizes[0] / np.array(fit.sizes)[:, None])
    for s, size in enumerate(fit.sizes):
        colour = _COLOURS[s % len(_COLOURS)]
        ax.plot(
            scaled[s], values[s], ".", markersize=3, color=colour, label=f"{_SIZES[fit.scale][1]} = {size:g}"
        )
    sign = _SIZES[fit.scale][1]
    near = np.abs(scaled) <= np.abs(scaled[0]).max() * 2
    ax.set(
        xlim=(scaled[near].min(), scaled[near].max()),
        xlabel=rf"(ratio $-$ critical ratio) $\times$ {sign}$^{{1/\nu}}$",
        ylabel=rf"{_words(fit)} $\times$ {sign}$^{{-\zeta/\nu}}$",
        title=rf"collapse: $1/\nu$ = {theta[1]:.3f}, $\zeta/\nu$ = {theta[2]:.3f}, S = {fit.quality or 0:.2f}",
    )


def _crossings(fit: CriticalFit, ax: Any, _x: Any, _mean: Any) -> None:
    for name, colour in (("binder", "blue"), ("second_moment", "orange")):
        rows = [row for row in fit.table if row[name]["value"] is not None]
        places = [1 / np.sqrt(row["size"] * row["next_size"]) for row in rows]
        _dots(ax, places, [row[name] for row in rows], name.replace("_", " "), plot.COLOURS[colour])
    if fit.ci[0] is not None and fit.ci[1] is not None:
        ax.axhspan(*fit.ci, color=plot.COLOURS["black"], alpha=0.12, linewidth=0)
    ax.set(
        xlabel=f"1 / ({_SIZES[fit.scale][0]}), mean of the pair",
        ylabel="ratio at the crossing",
        title="crossings of successive sizes",
    )
    plot.legend(ax)


def _places(fit: CriticalFit, ax: Any, _x: Any, _mean: Any) -> None:
    names = {"half": ("half_point",), "peak": ("derivative_peak", "fluctuation_peak")}[fit.method]
    for name, colour in zip(names, ("blue", "orange"), strict=False):
        rows = [row for row in fit.table if row[name]["value"] is not None]
        _dots(ax, [row["size"] for row in rows], [row[name] for row in rows], name, plot.COLOURS[colour])
    ax.set(xscale="log", xlabel=_SIZES[fit.scale][0], ylabel="compression ratio", title="place by size")
    ax.set_xticks(fit.sizes, [f"{size:g}" for size in fit.sizes])
    ax.minorticks_off()
    if not ax.has_data() or not np.isfinite(ax.dataLim.get_points()).all():
        ax.text(0.5, 0.5, "reached at no size", transform=ax.transAxes, ha="center")
        return
    plot.legend(ax)


def _dots(
    ax: Any, places: list[float], found: list[dict[str, float | None]], label: str, colour: str
) -> None:
    values = [row["value"] or 0.0 for row in found]
    ends = [(row["low"], row["high"]) for row in found]
    errors = [
        [
            0.0 if end[side] is None else abs(value - (end[side] or 0.0))
            for value, end in zip(values, ends, strict=True)
        ]
        for side in (0, 1)
    ]
    ax.errorbar(
        places, values, errors, fmt="o", markersize=4, capsize=2, color=colour, label=label.replace("_", " ")
    )


def _counts(fit: CriticalFit, ax: Any) -> Figure:
    x = np.array(fit.ratios)
    ax.errorbar(
        x, fit.mean[0], fit.stderr[0], fmt="o", capsize=2, color=plot.COLOURS["blue"], label="measured"
    )
    fine = np.linspace(x[0], x[-1], 400)
    told = fit.details
    scale = (told["width"]["value"] or 1.0) / RISE
    rise = 1 / (1 + np.exp(-np.clip((fine - (fit.alpha_c or 0.0)) / scale, -500, 500)))
    rate = told["before"] + (told["after"] - told["before"]) * rise
    ax.plot(fine, rate, color=plot.COLOURS["orange"], label="logistic")
    _mark(ax, fit)
    p = told["p_gradual"]
    ax.set(xlabel="compression ratio", ylabel=_words(fit), title=f"{fit.verdict} (gradual: p = {p:.2g})")
    plot.legend(ax)
    made: Figure = ax.figure
    return made

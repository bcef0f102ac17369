"""The result of a critical fit: in words, as a figure, as a file that loads for ever."""

from __future__ import annotations

import html
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph._version import __version__
from routegraph.files import write_json
from routegraph.theory.scaling import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT, FORMAT_VERSION = "routegraph critical fit", 1


@dataclass(frozen=True)
class CriticalFit:
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
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                raise KeyError("format")
            version = document.pop("format_version")
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError):
            raise ValueError(f"{str(path)!r} is not a saved critical fit") from None
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{str(path)!r} is of format {version}; this version reads up to {FORMAT_VERSION}"
            )
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
            lines.append("  smallest size   critical ratio               1/nu")
            lines += [
                f"  {row['smallest_size']:<15g} {_shown_dict(row['alpha_c']):28} {_shown_dict(row['inverse_nu'])}"
                for row in self.dropped
            ]
        return "\n".join(lines + [f"  warning: {sentence}" for sentence in self.warnings])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in self.rows())
        notes = [*self.evidence, *(f"Warning: {sentence}" for sentence in self.warnings)]
        listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
        return f"<table><caption>{html.escape(self.observable)}</caption>{rows}</table><ul>{listed}</ul>"

    def plot(self, axes: Any = None) -> Figure:
        """Draw the curves, and the collapse or the crossings beside them."""
        from routegraph.sim.critical_figures import plot_fit

        return plot_fit(self, axes)


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


def _shown_dict(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else _shown(found["value"], (found["low"], found["high"]))

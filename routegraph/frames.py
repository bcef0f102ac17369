"""A result as a table of rows for pandas, made from what its ``to_dict()`` tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


#: What has a table of its own, or is no number of a row.
_APART = ("critical", "fit", "structural_cliffs")


def records(rows: Iterable[Mapping[str, Any]], ratios: Sequence[float] = ()) -> list[dict[str, Any]]:
    """Return results as flat rows, one a point of their curves.

    What is nested is called by its path (``accuracy.rate``). A list of mappings becomes a row for each of them, beside
    the single values around it; lists of numbers of one length become a row for each place in them. Fits are left out.

    Parameters
    ----------
    rows : iterable of mapping
        Results, of JSON-ready values.
    ratios : sequence of float
        Where the lists of that length were taken: the column ``ratio``.
    """
    return [one for row in rows for one in _exploded(row, "", ratios)]


def _exploded(row: Mapping[str, Any], path: str, ratios: Sequence[float]) -> list[dict[str, Any]]:
    plain, curves, below = _sorted(row, path)
    made: list[dict[str, Any]] = []
    lengths = Counter(len(values) for values in curves.values())
    # The curves' own length: that of the ratios, else the most frequent one.
    length = len(ratios) if len(ratios) in lengths else max(lengths, key=lambda n: (lengths[n], n), default=0)
    own = {name: values for name, values in curves.items() if len(values) == length}
    plain |= {name: values for name, values in curves.items() if len(values) != length}
    for i in range(length):
        point = {name: values[i] for name, values in own.items()}
        if length == len(ratios):
            names = {name: value for name, value in plain.items() if isinstance(value, str)}
            point = {**names, "ratio": ratios[i], **point}
        made.append({**point, **plain})
    for parts in below.values():
        made += [{**plain, **one} for part in parts for one in _exploded(part, path, ratios)]
    return made or [plain]


def _sorted(row: Mapping[str, Any], path: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return single values, lists of values, and lists of mappings, by their paths."""
    plain: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    below: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{path}{key}"
        if key in _APART or value == []:
            continue
        if isinstance(value, Mapping):
            for told, found in zip((plain, curves, below), _sorted(value, f"{name}."), strict=True):
                told |= found
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            below[name] = value
        elif isinstance(value, list) and value and not any(isinstance(one, list) for one in value):
            curves[name] = value
        else:
            plain[name] = value
    return plain, curves, below


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a pandas DataFrame.

    Raises
    ------
    ValueError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ValueError("to_dataframe needs pandas; install it with: pip install pandas") from None
    return pd.DataFrame(rows)

"""The quality of a data collapse, Houdayer and Hartmann, Phys. Rev. B 70, 014418 (2004), eqs. (A1)-(A4)."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def collapse_quality(x, y, error, judged):  # type: ignore[no-untyped-def]
    """Return (S, points): the mean square distance, in errors, of points from the master curve of the others.

    Parameters
    ----------
    x, y, error : float64[n_sizes, n_points]
        Scaled abscissae (rising in each row), scaled values and their standard errors (above 0).
    judged : bool[n_sizes, n_points]
        Which points count; all of them make up the master curve.

    Notes
    -----
    The master curve at a point is the weighted straight line through the two neighbours from every *other*
    size that encloses it. Points that no other size encloses do not count. S is about 1 for a good collapse
    of independent points and below 1 where the points of a curve share their errors.
    """
    n_sizes, n_points = x.shape
    total, count = 0.0, 0
    place = np.zeros(n_sizes, np.int64)
    for i in range(n_sizes):
        place[:] = 0
        for j in range(n_points):
            at = x[i, j]
            w, wx, wy, wxx, wxy, found = 0.0, 0.0, 0.0, 0.0, 0.0, 0
            for k in range(n_sizes):
                if k == i:
                    continue
                p = place[k]
                while p < n_points - 2 and x[k, p + 1] < at:
                    p += 1
                place[k] = p
                if x[k, p] <= at <= x[k, p + 1]:
                    found += 1
                    for q in range(p, p + 2):
                        weight = 1.0 / (error[k, q] * error[k, q])
                        shifted = x[k, q] - at
                        w += weight
                        wx += weight * shifted
                        wy += weight * y[k, q]
                        wxx += weight * shifted * shifted
                        wxy += weight * shifted * y[k, q]
            if not judged[i, j] or found == 0:
                continue
            determinant = w * wxx - wx * wx
            if determinant <= 1e-12 * w * wxx:
                continue
            master = (wxx * wy - wx * wxy) / determinant
            spread = wxx / determinant
            total += (y[i, j] - master) ** 2 / (error[i, j] ** 2 + spread)
            count += 1
    return (total / count if count else np.inf), count

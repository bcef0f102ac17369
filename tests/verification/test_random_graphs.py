"""Random graphs through the union-find kernel: mean-field percolation, where everything is known."""

import numpy as np
import pytest
from scipy.special import lambertw

from routegraph import plot
from routegraph.kernels import union_find

pytestmark = pytest.mark.verify


def giant(c):
    """S = 1 - exp(-c S) of the Erdos-Renyi graph."""
    return 1 + lambertw(-c * np.exp(-c)).real / c


def configuration(degrees, rng):
    """Random pairing of stubs (Molloy and Reed 1995); loops and double bonds are O(1) in number."""
    stubs = rng.permutation(np.repeat(np.arange(len(degrees)), degrees))
    return stubs[: len(stubs) // 2 * 2].reshape(-1, 2).astype(np.int32)


def csr(edges, n):
    both = np.concatenate([edges, edges[:, ::-1]])
    order = np.argsort(both[:, 0], kind="stable")
    return np.concatenate([[0], np.cumsum(np.bincount(both[:, 0], minlength=n))]), both[order, 1]


def mean_error(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def test_erdos_renyi(record):
    n, runs = 100_000, 96
    rng = np.random.default_rng(1)
    # A point of the curve every 1/100 of n bonds, and n bonds is c = 2.
    bonds = np.arange(1, int(2.2 * n) + 1, n // 100)
    curves = []
    for _ in range(runs):
        edges = rng.integers(0, n, size=(int(2.2 * n), 2), dtype=np.int32)
        largest, _ = union_find.newman_ziff(edges, n, np.arange(len(edges)))
        curves.append(largest / n)
    curves = np.array(curves)
    for c, truth in [(1.5, 0.582812), (2.0, 0.796812), (4.0, 0.980173)]:
        value, error = mean_error(curves[:, int(c * n / 2) - 1])
        assert truth == pytest.approx(giant(c), abs=1e-6)
        record.value(f"S at c = {c:g}", value, error, giant(c), runs, "S = 1 - exp(-c S)")
        assert abs(value - giant(c)) < 3 * error
        assert error < 0.0005
    figure, axes = plot.figure()
    c = 2 * bonds / n
    axes.plot(c, curves.mean(axis=0)[bonds - 1], ".", markersize=2, label=f"n = {n:,}, {runs} runs")
    axes.plot(c[c > 1.001], giant(c[c > 1.001]), color="black", linewidth=0.8, label="S = 1 - exp(-c S)")
    axes.set(xlabel="mean degree c", ylabel="largest cluster / n", title="Erdos-Renyi graph")
    axes.legend()
    record.figure(figure)


def test_bethe_lattice(record):
    """Random 3-regular graphs are locally the Bethe lattice z = 3; P_inf differs by O(1/n)."""
    n, runs, p = 100_000, 96, 0.6
    rng = np.random.default_rng(2)
    bond, site = [], []
    for _ in range(runs):
        edges = configuration(np.full(n, 3), rng)
        bond.append(union_find.newman_ziff(edges, n, np.arange(len(edges)))[0] / n)
        order = rng.permutation(n)
        site.append(union_find.newman_ziff_sites(*csr(edges, n), order)[0] / n)
    # A chain of bonds is finite with probability Q = 1 - p + p Q^2, so Q = (1 - p) / p.
    finite = (1 - p) / p
    truths = {"bond": 1 - finite**3, "site": p * (1 - finite**3)}
    assert truths == pytest.approx({"bond": 0.703704, "site": 0.422222}, abs=1e-6)
    figure, axes = plot.figure()
    grid = np.linspace(0.501, 1, 200)
    for name, curves in (("bond", np.array(bond)), ("site", np.array(site))):
        value, error = mean_error(curves[:, round(p * curves.shape[1]) - 1])
        record.value(f"{name} P_inf at p = .6", value, error, truths[name], runs, "Fisher and Essam 1961")
        occupation = np.linspace(0.01, 1, 100)
        at = np.round(occupation * curves.shape[1]).astype(int) - 1
        axes.plot(occupation, curves.mean(axis=0)[at], ".", markersize=3, label=name)
        truth = (1 - ((1 - grid) / grid) ** 3) * (grid if name == "site" else 1)
        axes.plot(grid, truth, color="black", linewidth=0.8)
        assert abs(value - truths[name]) < 3 * error
        assert error < 0.0005
    axes.set(
        xlabel="occupation p", ylabel="largest cluster / n", title="Random 3-regular graph, Bethe lattice"
    )
    axes.legend()
    record.figure(figure)


def test_configuration_model(record):
    """p_c = <k> / (<k^2> - <k>), from the mean cluster size below it.

    A node's cluster has mean size 1 + p <k> / (1 - p / p_c), so that one point of the curve gives p_c.
    """
    n, runs = 100_000, 64
    rng = np.random.default_rng(3)
    degrees = np.repeat([1, 3, 9], [n // 2, n * 3 // 10, n // 5])
    truth = degrees.mean() / ((degrees**2.0).mean() - degrees.mean())
    found = {share: [] for share in (0.4, 0.6, 0.75)}
    for _ in range(runs):
        edges = configuration(degrees, rng)
        _, squares = union_find.newman_ziff(edges, n, np.arange(len(edges)))
        for share, values in found.items():
            bonds = int(share * truth * len(edges))
            p = bonds / len(edges)
            values.append(p / (1 - p * degrees.mean() / (squares[bonds - 1] / n - 1)))
    for share, values in found.items():
        value, error = mean_error(values)
        name = f"p_c from p = {share:.2f} p_c"
        record.value(name, value, error, truth, runs, "Molloy and Reed 1995; Cohen et al. 2000")
        assert abs(value - truth) < 3 * error
        assert error < 0.002


def test_mean_field_window(record):
    """At c = 1 the largest cluster grows as n^(2/3) and its window in c closes as n^(-1/3)."""
    rng = np.random.default_rng(4)
    sizes, runs = 2 ** np.arange(12, 19, 2), [3000, 1500, 600, 200]
    largest, windows = [], []
    for n, repeats in zip(sizes, runs, strict=True):
        at_one, reached = [], []
        for _ in range(repeats):
            edges = rng.integers(0, n, size=(n, 2), dtype=np.int32)
            found, _ = union_find.newman_ziff(edges, n, np.arange(n))
            at_one.append(found[n // 2 - 1])
            # The number of bonds at which the largest cluster passes n^(2/3): its spread is the window.
            reached.append(np.searchsorted(found, n ** (2 / 3)))
        largest.append(mean_error(at_one))
        windows.append((np.std(reached) / n, np.std(reached) / n / np.sqrt(2 * repeats)))
    logs = np.log(sizes)
    for name, rows, truth in (("largest cluster", largest, 2 / 3), ("window", windows, -1 / 3)):
        values, errors = np.array(rows).T
        (slope, _), covariance = np.polyfit(logs, np.log(values), 1, w=values / errors, cov="unscaled")
        error = np.sqrt(covariance[0, 0])
        record.value(f"exponent of the {name}", slope, error, truth, sum(runs), "mean field")
        assert abs(slope - truth) < 3 * error + 0.01  # corrections to scaling, n^(-1/3)
        assert error < 0.01

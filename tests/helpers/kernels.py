"""Simulation of reads by any kernel K(i, j) on small graphs, through the reachability kernel of the library."""

import numpy as np

from routegraph.kernels.reach import layer_pass


def dense(load, n_positions):
    """K[i, j] of a load function, row by row."""
    return np.stack([load(row) for row in np.eye(n_positions)])


def simulate_reach(
    load, n, n_layers, n_heads, degree, levels, replicates, residual=True, prune="columns", seed=0
):
    """Mean and standard error of the fraction of n cache rows reached from position n at each level."""
    kernel = np.cumsum(dense(load, n + 1), axis=1)
    offsets = np.arange(n + 1)
    flat = (kernel / kernel[:, -1:] + offsets[:, None]).ravel()
    rng = np.random.default_rng(seed)
    reads = n_heads * degree
    indptr = np.arange(n + 2) * reads
    head = np.repeat(np.arange(n_heads), degree)
    found = []
    for _ in range(replicates):
        value = np.zeros(n + 1, np.int32)
        value[-1] = n + 1
        below, best = np.zeros_like(value), np.zeros((n + 1) * n_heads, np.int32)
        for _ in range(n_layers):
            numbers = rng.random((n + 1, reads)) + offsets[:, None]
            key = np.searchsorted(flat, numbers) - offsets[:, None] * (n + 1)
            drop = np.tile(np.arange(1, n + 1, dtype=np.int32), (n_heads, 1))
            drop = rng.permuted(drop, axis=1)
            layer_pass(
                value, below, best, indptr, (key * n_heads + head).ravel(), drop, prune == "columns", residual
            )
            value, below = below, value
        found.append([(value[:n] > level).mean() for level in levels])
    values = np.array(found)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(replicates)

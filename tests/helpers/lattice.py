"""The square lattice, and the keys of independent runs on it."""

import numpy as np


def rectangle(rows, columns):
    """Bonds between neighbours of a rows x columns lattice, and its left (1) and right (2) sides."""
    node = np.arange(rows * columns).reshape(rows, columns)
    across = np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()], axis=1)
    down = np.stack([node[:-1].ravel(), node[1:].ravel()], axis=1)
    sides = np.zeros((rows, columns), np.uint8)
    sides[:, 0] |= 1
    sides[:, -1] |= 2
    return np.concatenate([across, down]).astype(np.int32), sides.ravel()


def keys(name, runs):
    return np.random.SeedSequence(name).generate_state(runs, np.uint64)

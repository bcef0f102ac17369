"""Curves of known critical points, and the ratios they are taken at."""

import numpy as np

SIZES = [16, 32, 64, 128]
RATIOS = np.linspace(0.3, 0.7, 81)
#: Ratios at which items are counted.
ASKED = np.array([0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])


def curves(rng, replicates=100, inverse_nu=0.75, zeta_over_nu=0.0, alpha_c=0.5, sizes=SIZES, noise=0.3):
    """m = L^(zeta/nu) f((alpha - alpha_c) L^(1/nu) / 2 + noise), f logistic, falling: exact scaling."""
    made = []
    for size in sizes:
        argument = (RATIOS - alpha_c) * size**inverse_nu / 2 + rng.normal(0, noise, (replicates, 1))
        made.append(size**zeta_over_nu / (1 + np.exp(argument)))
    return np.array(made)


def within(value, ends, truth):
    assert ends[0] <= truth <= ends[1], (value, ends, truth)

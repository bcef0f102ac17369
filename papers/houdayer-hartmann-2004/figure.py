"""What the errors of a collapse are worth: S + 1 (Houdayer and Hartmann 2004), the bootstrap, and the truth."""

import sys

import numpy as np

from routegraph import plot
from routegraph.critical.collapse import Collapse
from routegraph.critical.fit import fit_critical
from routegraph.stats.bootstrap import resample

SIZES = [16, 32, 64, 128]
RATIOS = np.linspace(0.3, 0.7, 41)
TRUTH = {"alpha_c": 0.5, "inverse_nu": 0.75}


def curves(rng, correlated, replicates=50):
    """Exact scaling; errors shared along a curve (one random shift a replicate), or drawn point by point."""
    made = []
    for size in SIZES:
        shape = (replicates, 1) if correlated else (replicates, len(RATIOS))
        made.append(1 / (1 + np.exp((RATIOS - 0.5) * size**0.75 / 2 + rng.normal(0, 0.5, shape))))
    return np.array(made)


def main(repetitions=25):
    print(
        "half width of the 95 % interval: spread of the estimates, bootstrap, S + 1; covered by each; mean S"
    )
    for correlated in (False, True):
        found = {name: [] for name in TRUTH}
        quality = []
        for seed in range(repetitions):
            samples = curves(np.random.default_rng([2004, seed]), correlated)
            fit = fit_critical(
                RATIOS, samples, SIZES, method="collapse", zeta_over_nu=0.0, resamples=100, seed=seed
            )
            quality.append(fit.quality)
            bootstrap = {"alpha_c": fit.ci, "inverse_nu": fit.inverse_nu_ci}
            for name, rows in found.items():
                rows.append([getattr(fit, name), *bootstrap[name], *fit.details["s_plus_1"][name]])
        print("points share errors:" if correlated else "points independent:")
        for name, truth in TRUTH.items():
            value, low, high, s_low, s_high = np.array(found[name]).T
            print(
                f"  {name:10} spread {1.96 * value.std(ddof=1):.4f}, bootstrap {(high - low).mean() / 2:.4f}, "
                f"S + 1 {(s_high - s_low).mean() / 2:.4f}; covered {((low <= truth) & (truth <= high)).mean():.2f} "
                f"and {((s_low <= truth) & (truth <= s_high)).mean():.2f}; S = {np.mean(quality):.2f}"
            )
    samples = curves(np.random.default_rng([2004, 0]), True)
    data = resample(RATIOS, samples, np.array(SIZES, dtype=float), 0, 0)
    problem = Collapse(data, 0.0, False, (0.02, 0.98))
    places, exponents = np.linspace(0.47, 0.53, 61), np.linspace(0.65, 0.85, 61)
    surface = [[problem.quality(np.array([a, e]), data.mean[0]) for a in places] for e in exponents]
    made, axes = plot.figure(1, 2, width=5.2)
    drawn = axes[0].pcolormesh(places, exponents, np.log10(surface), cmap="viridis", rasterized=True)
    made.colorbar(drawn, ax=axes[0], label="log10 S")
    axes[0].contour(places, exponents, surface, levels=[np.min(surface) + 1], colors="white")
    axes[0].plot(0.5, 0.75, "+", color=plot.COLOURS["red"], markersize=10)
    axes[0].set(xlabel="critical ratio", ylabel="1/nu", title="quality S; white: S + 1, cross: truth")
    fit_critical(RATIOS, samples, SIZES, method="collapse", zeta_over_nu=0.0).plot(
        (made.add_subplot(9, 9, 1), axes[1])
    )
    made.delaxes(made.axes[-1])
    if len(sys.argv) > 1:
        plot.save(made, sys.argv[1])


if __name__ == "__main__":
    main()

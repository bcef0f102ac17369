"""Judge small correlation fields on a trace: ``python -m studies.field_table TRACE``.

Correlations, and the degrees of freedom of the Student-t copula, come from the prompts at even places; the curve
judged is the share of evictable tokens gone from every slot of the prompts at odd places, ratios .6 to .98.
"""

import sys

import numpy as np

from routegraph import Trace
from routegraph.theory import correlation as fields
from routegraph.theory import ger
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.traces.read_off import read_off

RATIOS = np.round(np.arange(0.6, 0.981, 0.02), 2)
DRAWS = 40_000


def curve(prompts):
    """Observed share of evictable tokens gone from the whole model, mean over prompts."""
    return np.mean([prompt.evictable["model"] for prompt in prompts], axis=0)


def predict(matrix, prompts, degrees):
    """Predict every prompt at its own fractions gone, mean over prompts."""
    gone = np.concatenate([prompt.gone for prompt in prompts], axis=1)
    found = ger.student_copula(matrix, gone, degrees=degrees, draws=DRAWS).mean
    return found.reshape(len(prompts), -1).mean(axis=0)


def rmse(a, b):
    """Root mean square difference of two curves."""
    return float(np.sqrt(np.mean((a - b) ** 2)))


def table(traces, policy="topk", scorer="expected_attention"):
    """Return rows (name, numbers, rms of the correlation, RMSE Gaussian, degrees, RMSE Student-t)."""
    method = Method.of_scores(traces[0], policy, scorer)
    read = [read_off(trace, Eviction.of(method, trace), RATIOS.tolist()) for trace in traces]
    training, held_out = read[::2], read[1::2]
    n_layers, n_heads = traces[0].scores[scorer].shape[:2]
    slots, layer = n_layers * n_heads, np.repeat(np.arange(n_layers), n_heads)
    measured = ger.slot_correlation([prompt.normal_scores for prompt in training])
    target, learnt = curve(held_out), curve(training)
    tried = {"full matrix": (measured, slots * (slots - 1) // 2, 0.0)}
    made = {
        "3 numbers: floor, amplitude, length": fields.distance_field(measured, layer),
        "same-layer nugget": fields.distance_field(measured, layer, same_layer=True),
        "two exponentials": fields.distance_field(measured, layer, exponentials=2),
        "3 numbers + offset a slot": fields.offset_field(measured, layer),
        "mean over heads": fields.layer_field(measured, layer),
    }
    for factors in (1, 2, 3):
        made[f"{factors} factor"] = fields.factor_field(measured, layer, factors=factors, local=False)
        made[f"{factors} factor + local"] = fields.factor_field(measured, layer, factors=factors)
    tried |= {name: (field.matrix, field.numbers, field.rms) for name, field in made.items()}
    gone = np.concatenate([prompt.gone for prompt in training], axis=1)
    rows = []
    degrees = (5, 7, 10, 15, 20, 30, 50, 100, np.inf)
    for name, (matrix, numbers, rms) in tried.items():
        losses = []
        for d in degrees:
            found = ger.student_copula(matrix, gone, degrees=d, draws=DRAWS // 2).mean
            losses.append(rmse(found.reshape(len(training), -1).mean(axis=0), learnt))
        chosen = degrees[int(np.argmin(losses))]
        gaussian = rmse(predict(matrix, held_out, np.inf), target)
        rows.append((name, numbers, rms, gaussian, chosen, rmse(predict(matrix, held_out, chosen), target)))
    fractions = np.concatenate([prompt.gone.mean(axis=0) for prompt in training])
    seen = np.concatenate([prompt.evictable["model"] for prompt in training])
    apart = np.concatenate([prompt.gone.mean(axis=0) for prompt in held_out])
    for name, fit, theory in (
        ("one factor fitted to GER", ger.fit_one_factor, ger.one_factor),
        ("beta-binomial fitted to GER", ger.fit_beta_binomial, ger.beta_binomial),
    ):
        value = theory(apart, slots, fit(fractions, seen, slots)).reshape(len(held_out), -1).mean(axis=0)
        rows.append((name, 1, np.nan, rmse(value, target), np.inf, np.nan))
    return rows


def main():
    """Print the table in markdown."""
    print("| field | numbers | rms of rho | RMSE, Gaussian | degrees (training) | RMSE, Student-t |")
    print("|---|---|---|---|---|---|")
    for name, numbers, rms, gaussian, degrees, student in table(Trace.load(sys.argv[1])):
        print(
            f"| {name} | {numbers} | {rms:.3f} | {gaussian:.4f} | {degrees:g} | {student:.4f} |", flush=True
        )


if __name__ == "__main__":
    main()

"""From shares to chances: known parameters are found, intervals cover, measured answers move what was known."""

import numpy as np
import pytest
from scipy.special import expit, logit

from routegraph.validate.predict.calibration import CLIP, Calibration, features, fit, over_models, updated


def answers(a: float, b: float, n: int, seed: int, variants: int = 8, shared: float = 0.0):
    """Return shares, and answers that break with chances of a + b logit(x); `shared`: spread of what an item has."""
    rng = np.random.default_rng(seed)
    lost = rng.random((n, variants))
    own = shared * rng.normal(size=(n, 1))
    return lost, rng.random(lost.shape) < expit(a + b * logit(np.clip(lost, CLIP, 1 - CLIP)) + own)


def test_known_parameters_are_found():
    mean, _ = fit(*answers(-1.0, 2.0, 4000, 0))
    assert mean == pytest.approx([-1.0, 2.0], abs=0.1)


@pytest.mark.parametrize("shared", [0.0, 1.5])
def test_intervals_cover_though_variants_of_an_item_go_together(shared):
    if shared:  # what the fit aims at is then the population's curve, flatter than an item's
        truth, _ = fit(*answers(-1.0, 2.0, 20_000, 99, shared=shared))
    else:
        truth = np.array([-1.0, 2.0])
    inside = []
    for seed in range(100):
        mean, covariance = fit(*answers(-1.0, 2.0, 60, seed, shared=shared))
        inside.append(np.abs(mean - truth) < 1.96 * np.sqrt(np.diag(covariance)))
    assert (np.mean(inside, axis=0) > 0.87).all(), np.mean(inside, axis=0)


def test_answers_that_never_break_do_not_run_away():
    lost = np.random.default_rng(0).random((5, 4))
    mean, covariance = fit(lost, np.zeros((5, 4), bool))
    assert np.isfinite(mean).all()
    assert np.isfinite(covariance).all()
    assert expit(features(np.array(0.5)) @ mean) < 0.1


def test_measured_answers_move_what_other_models_had():
    others = over_models([fit(*answers(a, 2.0, 500, k)) for k, a in enumerate((-1.0, 0.0, 1.0, 2.0))], "four")
    assert others.mean == pytest.approx([0.5, 2.0], abs=0.3)
    assert np.sqrt(others.covariance[0, 0]) == pytest.approx(
        np.std([-1, 0, 1, 2], ddof=1) * np.sqrt(1.25), rel=0.2
    )
    few, many = (updated(others, *answers(-3.0, 2.0, n, 9), f"{n}") for n in (5, 500))
    assert -3.2 < many.mean[0] < -2.7
    assert few.mean[0] < others.mean[0] - 1
    assert many.covariance[0, 0] < few.covariance[0, 0] < others.covariance[0, 0]


def test_a_further_model_is_as_far_off_as_others_are_and_their_mean_is_uncertain_too():
    centres = np.array([[-1.0, 2.0], [0.0, 1.5], [2.0, 2.5]])
    made = over_models([(centre, np.eye(2)) for centre in centres], "three")
    assert made.mean == pytest.approx(centres.mean(axis=0))
    assert made.covariance == pytest.approx(np.cov(centres.T) * 4 / 3)
    one = over_models([(centres[0], np.eye(2))], "one")
    assert np.diag(one.covariance) == pytest.approx([5.0, 2.0])


def test_chances_rise_with_what_is_lost_and_draws_surround_them():
    made = Calibration(np.array([0.5, 2.0]), np.diag([0.5, 0.1]), "made")
    lost = np.linspace(0, 1, 9)
    risk = made.risk(lost)
    assert (np.diff(risk) >= 0).all()
    drawn = made.risks(lost, 400, np.random.default_rng(0))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert ((low <= risk) & (risk <= high)).all()
    assert drawn.shape == (400, 9)


def test_bad_input():
    with pytest.raises(ValueError, match=r"one shape of two axes, got \(2, 3\) and \(2, 2\)"):
        fit(np.ones((2, 3)), np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="one shape of two axes"):
        fit(np.ones((0, 3)), np.ones((0, 3), bool))

import numpy as np
import pytest

from routegraph.theory import correlation as fields
from routegraph.theory import ger

LAYER = np.repeat(np.arange(10), 3)
DISTANCE = np.abs(LAYER[:, None] - LAYER)


def unit(matrix):
    made = matrix.copy()
    np.fill_diagonal(made, 1)
    return made


def test_distance_field_recovers_its_numbers():
    truth = unit(0.1 + 0.45 * np.exp(-DISTANCE / 4.0))
    found = fields.distance_field(truth, LAYER)
    assert found.parameters["floor"] == pytest.approx(0.1, abs=1e-4)
    assert found.parameters["amplitude"] == pytest.approx([0.45], abs=1e-4)
    assert found.parameters["length"] == pytest.approx([4.0], abs=1e-2)
    assert found.numbers == 3
    assert found.matrix == pytest.approx(truth, abs=1e-4)
    assert found.rms < 1e-4


def test_nugget_and_second_exponential():
    truth = unit(np.where(DISTANCE == 0, 0.7, 0.05 + 0.4 * np.exp(-DISTANCE / 5.0)))
    assert fields.distance_field(truth, LAYER, same_layer=True).matrix == pytest.approx(truth, abs=1e-3)
    assert fields.distance_field(truth, LAYER).rms > 0.01
    truth = unit(0.05 + 0.3 * np.exp(-DISTANCE / 1.0) + 0.4 * np.exp(-DISTANCE / 8.0))
    assert fields.distance_field(truth, LAYER, exponentials=2).rms < 2e-3
    assert fields.distance_field(truth, LAYER).rms > 0.005


def test_offset_field_recovers_offsets():
    offset = np.random.default_rng(0).normal(0, 0.1, len(LAYER))
    truth = unit(0.2 + 0.3 * np.exp(-DISTANCE / 4.0) + offset[:, None] + offset)
    assert fields.offset_field(truth, LAYER).rms < 2e-3


def test_layer_field_is_the_mean_over_heads():
    noise = np.random.default_rng(1).normal(0, 0.1, (len(LAYER), len(LAYER)))
    truth = unit((noise + noise.T) / 2)
    found = fields.layer_field(truth, LAYER)
    assert found.matrix[0, 3] == pytest.approx(truth[:3, 3:6].mean())
    assert found.matrix[0, 1] == pytest.approx((truth[0, 1] + truth[0, 2] + truth[1, 2]) / 3)
    assert found.numbers == 55


@pytest.mark.parametrize("factors", [1, 2])
def test_factor_field_recovers_loadings(factors):
    rng = np.random.default_rng(2)
    loadings = rng.uniform(0.2, 0.7, (len(LAYER), factors)) * rng.choice(
        [1, -1], (len(LAYER), factors), p=[0.8, 0.2]
    )
    truth = unit(loadings @ loadings.T)
    found = fields.factor_field(truth, LAYER, factors=factors, local=False)
    assert found.rms < 2e-3
    assert found.numbers == factors * len(LAYER)


def test_factor_field_with_a_local_part():
    loadings = np.random.default_rng(3).uniform(0.3, 0.8, len(LAYER))
    own = np.sqrt(1 - loadings**2)
    truth = unit(np.outer(loadings, loadings) + np.outer(own, own) * 0.5 * np.exp(-DISTANCE / 1.5))
    found = fields.factor_field(truth, LAYER)
    plain = fields.factor_field(truth, LAYER, local=False)
    assert found.rms < 0.6 * plain.rms
    assert np.linalg.eigvalsh(found.matrix).min() > 0
    assert np.diag(found.matrix) == pytest.approx(1)


def test_a_better_field_predicts_ger_better():
    """Slots of unequal loading: the distance field knows their mean only, and GER shows it."""
    rng = np.random.default_rng(4)
    loadings = rng.choice([-0.3, 0.5, 0.9], len(LAYER))
    truth = unit(np.outer(loadings, loadings))
    p = np.array([0.8, 0.9, 0.95, 0.97])
    exact = ger.gaussian_copula(truth, p, draws=60_000).mean
    gap = {
        name: np.abs(ger.gaussian_copula(field.matrix, p, draws=60_000, seed=1).mean - exact).max()
        for name, field in (
            ("distance", fields.distance_field(truth, LAYER)),
            ("factor", fields.factor_field(truth, LAYER)),
        )
    }
    assert gap["factor"] < 0.01
    assert gap["distance"] > 3 * gap["factor"]

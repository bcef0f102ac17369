"""The estimates of the simulator's four numbers that the study of survival by age makes."""

import numpy as np
import pytest

from studies.decoding_survival import estimated


def drawn(
    rng, spread: float, persistence: float, decay: float, c: float, m: int = 8, n: int = 400, q: int = 60
):
    """Attention as the simulator draws it, float64[m, q, n]: q queries, of which the last sees all rows."""
    token = rng.normal(size=n)
    own = rng.normal(size=(m, n))
    made = np.zeros((m, q, n))
    for t in range(q):
        fresh = rng.random((m, n)) >= persistence
        own = np.where(fresh, rng.normal(size=(m, n)), own)
        age = n - q + t - np.arange(n)
        weight = np.exp(spread * (np.sqrt(c) * token + np.sqrt(1 - c) * own) - decay * age) * (age >= 0)
        made[:, t] = weight / weight.sum(axis=1, keepdims=True)
    return made


@pytest.mark.parametrize(
    ("spread", "persistence", "decay", "c"),
    [(1.0, 0.99, 0.002, 0.0), (2.0, 0.9, 0.01, 0.3), (0.5, 1.0, 0.0, 0.7)],
)
def test_four_numbers_are_found_again_in_attention_that_was_drawn_with_them(spread, persistence, decay, c):
    rng = np.random.default_rng(3)
    found = estimated([drawn(rng, spread, persistence, decay, c) for _ in range(4)])
    assert found["spread"] == pytest.approx(spread, rel=0.06)
    assert found["persistence"] == pytest.approx(persistence, abs=0.012)
    assert found["decay"] == pytest.approx(decay, abs=0.0015)
    assert found["score_correlation"] == pytest.approx(c, abs=0.06)
    assert found["misfit"] < 0.05

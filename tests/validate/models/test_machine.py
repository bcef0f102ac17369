"""Threads and devices: what torch may use, and what is refused."""

import os

import pytest
import torch

from routegraph.validate.models.load import load
from routegraph.validate.models.machine import check_device, use_threads


@pytest.fixture
def threads(monkeypatch):
    """What torch was told, without telling it."""
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    return told


def test_threads_are_those_asked_for_up_to_the_cores(threads):
    use_threads()
    use_threads(1)
    use_threads(4)
    with pytest.warns(UserWarning, match="this machine has 4 cores: 4 threads are used, not 100000"):
        use_threads(100_000)
    with pytest.raises(ValueError, match="threads must be at most 1,000,000,000,000, got 1"):
        use_threads(10**18)
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1, got 0"):
        use_threads(0)
    assert threads == [2, 1, 4, 4]


@pytest.mark.parametrize("device", ["meta", "abacus"])
def test_a_device_without_values_is_none(device):
    with pytest.raises(ValueError, match=f"device '{device}' is not available; choose from: cpu"):
        check_device(device)
    with pytest.raises(ValueError, match="is not available"):
        load("smollm2", device=device)

"""Bytes of a cache of fewer bits: what packing it really takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rows import rounded_keys, rounded_values
from routegraph.validate.quantise.size import bytes_of, quantised_bytes
from tests.helpers.quantise import head_of

TEXTS = [
    "2",
    "3",
    "k4v2",
    "8:group=5",
    "3:group=7,residual=4",
    "kivi4:group=4,residual=8",
    "kivi3:residual=0",
]
TEXTS += ["kivik2v8:group=3,residual=0", "kivi2:group=0,residual=0", "token8", "token8:group=6,residual=2"]


def twin(rows, one, bits, by_channel, full):
    symmetric = one.layout.symmetric
    return head_of(rows, bits, one.group, by_channel=by_channel, full=full, symmetric=symmetric)


@given(st.sampled_from(TEXTS), st.integers(0, 21), st.integers(1, 9), st.integers(0, 3))
def test_packed_bytes_and_the_numbers_read_from_them(text, n, width, seed):
    one, rng = Precision.named(text), np.random.default_rng(seed)
    keys, values = rng.normal(scale=3, size=(2, n, width)).astype(np.float32)
    made_keys, packed_keys = twin(keys, one, one.keys, one.layout.by_channel, one.full_keys(n))
    made_values, packed_values = twin(values, one, one.values, False, one.full_values(n))
    assert quantised_bytes([n], width, one) == len(packed_keys) + len(packed_values)
    np.testing.assert_array_equal(rounded_keys(torch.from_numpy(keys), one).numpy(), made_keys)
    np.testing.assert_array_equal(rounded_values(torch.from_numpy(values), one).numpy(), made_values)


def test_by_hand():
    # A row of 64 numbers of 4 bits: 32 bytes and 4 beside; keys and values; 10 rows of 2 heads.
    assert quantised_bytes([10, 10], 64, Precision.named("4")) == 2 * 10 * 2 * (32 + 4)
    assert quantised_bytes([[10], [10]], 64) == 2 * 20 * 64 * 2
    # 300 rows of KIVI: 256 keys of 64 channels in 8 groups of 32, 44 full; 172 values of 2 groups, 128 full.
    by_hand = 64 * 8 * (8 + 4) + 172 * 2 * (8 + 4) + (44 + 128) * 64 * 2
    assert quantised_bytes([300], 64, Precision.named("kivi2")) == by_hand
    assert quantised_bytes([3], 64, Precision.named("token8")) == 2 * 3 * (64 + 2)
    assert quantised_bytes([100], 64, Precision.named("kivi2")) == quantised_bytes(
        [100], 64
    )  # all of it is residual


def test_of_variants():
    kept = np.zeros((2, 3, 2, 9), dtype=bool)
    kept[0] = True
    kept[1, 0, 1, :4] = True
    one = Precision.named("4")
    assert bytes_of(kept, 16, one) == [quantised_bytes([9] * 6, 16, one), quantised_bytes([4], 16, one)]
    assert bytes_of(kept, 16) == [2 * 9 * 6 * 16 * 2, 2 * 4 * 16 * 2]


@pytest.mark.parametrize(("rows", "width"), [([-1], 4), ([3], 0)])
def test_out_of_range(rows, width):
    with pytest.raises(ValueError, match="a head needs a width of at least 1"):
        quantised_bytes(rows, width)

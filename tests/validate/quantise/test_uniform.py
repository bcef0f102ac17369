"""Rounding to a grid: against a slow twin, against the published formula, and within half a step."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from routegraph.validate.quantise.precision import BITS
from routegraph.validate.quantise.uniform import encode, rounded
from tests.helpers.quantise import axis_of, group_of, published

SPAN = 60_000
#: Ugly numbers: zeros of both signs, the smallest there are, constants that float16 does not have.
NUMBERS = st.one_of(
    st.floats(-SPAN, SPAN, width=32),
    st.floats(-(2**-20), 2**-20, width=32),
    st.sampled_from([0.0, -0.0, 0.1, -0.1, 1.0, 65504.0, -65504.0, 1e-45, 200.03125, -200.03]).map(
        lambda x: float(np.float32(x))
    ),
)
ROWS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=NUMBERS)
WAYS = [(bits, False) for bits in BITS] + [(8, True)]


@given(ROWS, st.sampled_from(WAYS), st.integers(0, 14))
def test_as_the_twin_does(rows, way, group):
    """Groups longer than the axis, of one number, and a last one that is shorter are among them."""
    bits, symmetric = way
    made = rounded(torch.from_numpy(rows), bits, -1, group, symmetric).numpy()
    slow = np.stack([axis_of(row, bits, group, symmetric)[0] for row in rows])
    np.testing.assert_array_equal(made, slow)
    down = rounded(torch.from_numpy(rows.T.copy()), bits, 0, group, symmetric).numpy()
    np.testing.assert_array_equal(down, slow.T)


@given(ROWS, st.sampled_from(WAYS))
def test_within_half_a_step_whatever_the_scale_was_rounded_to(rows, way):
    bits, symmetric = way
    codes = encode(torch.from_numpy(rows), bits, 1, symmetric)
    error = np.abs(codes.numbers().numpy().astype(float) - rows)
    room = np.finfo(np.float32).eps * (
        np.abs(rows).max(axis=1) + 2**bits * codes.scale[:, 0].numpy().astype(float)
    )
    room += np.finfo(np.float32).tiny  # what is smaller may be flushed to zero
    assert (error <= codes.scale.numpy().astype(float) / 2 + room[:, None]).all()
    top = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
    assert codes.codes.min() >= (-top if symmetric else 0)
    assert codes.codes.max() <= top
    assert codes.scale.dtype == torch.float16


@given(ROWS, st.sampled_from(BITS))
def test_against_the_published_formula(rows, bits):
    """Scale and offset are 16 bits here and 32 there: both are within half a step, and the steps are nearly equal."""
    codes = encode(torch.from_numpy(rows), bits, 1)
    least, top = rows.min(axis=1).astype(float), rows.max(axis=1).astype(float)
    theirs, ours = (top - least) / (2**bits - 1), codes.scale[:, 0].numpy().astype(float)
    assert (ours >= theirs * (1 - 1e-6)).all()
    assert (ours <= (theirs + np.abs(least) * 2**-10 / (2**bits - 1)) * (1 + 2**-9) + 2e-7).all()
    both = np.stack([published(row, bits) for row in rows])
    room = (
        np.finfo(np.float32).eps * 4 * (np.abs(rows).max(axis=1) + 2**bits * ours) + np.finfo(np.float32).tiny
    )
    assert (np.abs(codes.numbers().numpy() - both).max(axis=1) <= (ours + theirs) / 2 + room).all()


@given(
    st.sampled_from(BITS),
    st.integers(-50, 50),
    st.sampled_from([0.125, 0.5, 1.0, 4.0]),
    st.lists(st.floats(0, 1), min_size=1, max_size=9),
)
def test_the_published_formula_itself_where_scale_and_offset_have_16_bits(bits, least, step, inside):
    top = 2**bits - 1
    x = np.array(
        [least, least + step * top, *(least + step * top * part for part in inside)], dtype=np.float32
    )
    made = rounded(torch.from_numpy(x), bits, 0).numpy()
    np.testing.assert_array_equal(made, published(x, bits))


def test_a_group_written_out():
    """-1 to 5 in two bits: steps of 2 from -1; halves go to the even code."""
    x = torch.tensor([-1.0, 0.0, 0.5, 2.0, 2.9, 4.0, 5.0])
    codes = encode(x, 2, 0)
    assert codes.scale.item() == 2
    assert codes.offset.item() == -1
    assert codes.codes.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert codes.numbers().tolist() == [-1, -1, 1, 3, 3, 3, 5]
    signed = encode(torch.tensor([-254.0, 1.0, 0.0, 127.0]), 8, 0, symmetric=True)
    assert signed.codes.tolist() == [-127, 0, 0, 64]
    assert signed.scale.item() == 2
    assert signed.offset is None


def test_constant_groups_and_single_numbers_come_back():
    for value in (0.0, -0.0, 1.0, -3.5, 200.0):
        assert rounded(torch.full((3, 7), value), 2, 1, 4).unique().tolist() == [value]
    assert abs(rounded(torch.tensor([0.1]), 2, 0).item() - 0.1) < 1e-4  # between two numbers of float16
    assert rounded(torch.tensor([-5.0, 0.0, 1.0]), 8, 0, symmetric=True)[1] == 0


def test_the_type_is_kept_and_more_bits_are_nearer():
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        there = x.to(kind)
        errors = []
        for bits in BITS:
            made = rounded(there, bits, 1, 32)
            assert made.dtype == kind
            errors.append((made.float() - there.float()).abs().max().item())
        assert errors == sorted(errors, reverse=True)
        step = max(group_of(there[0, k : k + 32].float().numpy(), 2).scale for k in (0, 32))
        assert (rounded(there, 2, 1, 32)[0].float() - there[0].float()).abs().max() <= step / 2 + 0.02


def test_the_same_numbers_in_bfloat16_give_the_same_codes():
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(3)).bfloat16()
    assert (encode(x, 4, 1).codes == encode(x.float(), 4, 1).codes).all()


def test_nothing_to_round():
    assert rounded(torch.empty(0, 4), 4, 0, 2).shape == (0, 4)
    assert rounded(torch.empty(3, 0, 4), 4, 1, 2).shape == (3, 0, 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("symmetric", [False, True])
def test_what_is_not_finite_is_refused(bad, symmetric):
    x = torch.zeros(3, 4)
    x[1, 2] = bad
    with pytest.raises(ValueError, match=r"numbers that are not finite in torch.float32; use float32"):
        rounded(x, 8, 1, 2, symmetric)


@pytest.mark.parametrize(("low", "high", "symmetric"), [(-7e4, 0, False), (0, 1e9, False), (0, 9e6, True)])
def test_what_16_bits_cannot_scale_is_refused(low, high, symmetric):
    with pytest.raises(ValueError, match="numbers beyond 65504"):
        rounded(torch.tensor([low, high]), 8, 0, symmetric=symmetric)

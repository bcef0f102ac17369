"""What a cache takes, and what is left of it: plain arithmetic."""

import pytest

from routegraph.validate.models.size import cache_bytes


def test_keys_and_values_of_all_layers_and_heads():
    # 8B Llama-3: 32 layers of 8 KV heads of width 128, 128 KiB a token in bfloat16.
    assert cache_bytes(32, 8, 128, 1, "bfloat16") == 131_072
    assert cache_bytes(32, 8, 128, 32_768, "bfloat16", 0.75) == 2**30
    assert cache_bytes(4, 2, 32, 10) == 20_480
    assert cache_bytes(4, 2, 32, 10, ratio=1) == cache_bytes(4, 2, 32, 0) == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((4, 2, 32, 10, "int8"), "unknown dtype 'int8'; choose from: float32"),
        ((4, 2, 32, 10, "float32", 1.5), r"ratio must be in \[0, 1\], got 1.5"),
        ((0, 2, 32, 10), "n_layers must be a whole number of at least 1, got 0"),
        ((4, 2, 32, -1), "n_tokens must be a whole number of at least 0, got -1"),
    ],
)
def test_bad_numbers(given, says):
    with pytest.raises(ValueError, match=says):
        cache_bytes(*given)

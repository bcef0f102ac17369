"""The positions a model was made for, as its configuration means them."""

import pytest

transformers = pytest.importorskip("transformers")

from routegraph.validate.models.limits import max_context  # noqa: E402


def config(kind="Llama", **settings):
    return getattr(transformers, f"{kind}Config")(**settings)


@pytest.mark.parametrize(
    ("rope", "positions"),
    [
        (None, 1000),
        ({"rope_type": "default"}, 1000),
        ({"rope_type": "linear", "factor": 4.0}, 4000),
        ({"rope_type": "dynamic", "factor": 2.0}, 2000),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}, 4000),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 250}, 1000),
        ({"rope_type": "yarn", "factor": 4.0}, 4000),
        # The cut of a configuration that says more than factor times original.
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 100}, 1000),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 125,
            },
            1000,
        ),
    ],
)
def test_llama(rope, positions):
    more = {} if rope is None else {"rope_parameters": {"rope_theta": 10000.0, **rope}}
    assert max_context(config(max_position_embeddings=1000, **more)) == positions


def test_the_card_of_qwen():
    """Qwen2.5's cards: add this to read up to 131,072 tokens; max_position_embeddings stays as it is."""
    rope = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    assert max_context(config("Qwen2", max_position_embeddings=32768, rope_scaling=rope)) == 131072


def test_a_window_that_no_layer_has_is_no_limit():
    settings = {"max_position_embeddings": 32768, "sliding_window": 4096, "use_sliding_window": False}
    assert max_context(config("Qwen2", **settings)) == 32768


def test_gemma3_has_its_factor_in_it_already():
    gemma = config("Gemma3Text", max_position_embeddings=131072)
    gemma.rope_parameters = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert max_context(gemma) == 131072
    gemma.model_type = "other"  # the layers with full attention are the ones that reach as far
    assert max_context(gemma) == 8 * 131072


def test_a_configuration_of_transformers_4():
    plain = config(max_position_embeddings=1000)
    plain.rope_parameters = None
    plain.rope_scaling = {"type": "linear", "factor": 3.0}
    assert max_context(plain) == 3000

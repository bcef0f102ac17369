"""What a layer's attention is asked to be, and what it is."""

import pytest

from routegraph.validate.models.attention import Attention, attending
from tests.helpers.models import tiny_network

KNOWN = Attention(0.125, softcap=50.0, window=4096)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scaling": 0.125, "softcap": 50.0, "sliding_window": 4096, "s_aux": None, "dropout": 0.0},
        {"scaling": None, "softcap": None, "sliding_window": None, "position_ids": [0]},
    ],
)
def test_what_is_known_passes(settings):
    KNOWN.check(settings)


@pytest.mark.parametrize(
    "settings", [{"scaling": 0.1}, {"softcap": 30.0}, {"sliding_window": 12}, {"s_aux": [0.5]}]
)
def test_attention_of_another_kind_is_refused_by_name(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"does not know attention with '{name}' here"):
        KNOWN.check(settings)


def test_no_window_is_no_setting():
    Attention(1.0).check({"sliding_window": None})
    with pytest.raises(ValueError, match="'sliding_window' here, which is 12"):
        Attention(1.0).check({"sliding_window": 12})


@pytest.mark.parametrize("settings", [{}, {"s_aux": [0.5]}, {"sliding_window": 12}])
def test_whatever_attends_in_a_models_place_is_asked_for_what_we_know_only(settings):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    network = tiny_network("llama")
    module = network.model.layers[0].self_attn
    with attending(network, "routegraph_tested", lambda *states, **_: states[1:]):
        attend = ALL_ATTENTION_FUNCTIONS["routegraph_tested"]
        if settings:
            with pytest.raises(ValueError, match="does not know attention with"):
                attend(module, "q", "k", "v", None, scaling=module.scaling, **settings)
        else:
            assert attend(module, "q", "k", "v", None, scaling=module.scaling) == ("q", "k", "v", None)
    assert "routegraph_tested" not in ALL_ATTENTION_FUNCTIONS

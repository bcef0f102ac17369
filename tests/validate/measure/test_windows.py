"""A model with sliding windows that act, measured from end to end."""

from typing import Any

import numpy as np
import pytest

from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import Loaded, wrap
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.models import tiny_network
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer

CONTEXT = "Ada lives in Oslo and keeps bees. Carl lives in Rome. It rained for nine days on end."
PROMPT = Prompt(
    id="p",
    context=CONTEXT,
    question="Where does Ada live?",
    answer="Oslo",
    answer_spans=((13, 17),),
    evidence=((0, 33),),
)


def local(family: str, window: int, **settings: Any) -> Loaded:
    network = tiny_network(family, VOCABULARY, sliding_window=window, **settings)
    return wrap(network, byte_level_tokenizer(), family)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
def test_measured(family):
    model, ratios = local(family, 20), [0.5, 0.9]
    found = measure(
        model, [PROMPT], policy_names=["adakv", "topk"], ratios=ratios, max_new_tokens=3, chunk_length=16
    )
    assert found.metrics["ger_answer_layer"].shape[-1] == 3
    gone = found.metrics["ger_answer_layer"][0]
    # The answer lies outside of the windows: two layers of three have lost it before anything is evicted.
    share = {"mistral": 1, "gemma2": 2 / 3, "gemma3_text": 2 / 3}[family]
    np.testing.assert_allclose(gone[:, 0], share, atol=1e-6)
    assert (np.diff(gone, axis=1) >= 0).all()


def test_a_window_that_does_not_act_changes_nothing():
    options = {"policy_names": ["adakv"], "ratios": [0.5, 0.9], "max_new_tokens": 3, "chunk_length": 16}
    n = len(byte_level_tokenizer()(CONTEXT).input_ids)
    wide, without = (measure(local("mistral", window), [PROMPT], **options) for window in (n + 100, None))
    narrow = measure(local("mistral", 12), [PROMPT], **options)
    for name, values in without.metrics.items():
        np.testing.assert_array_equal(wide.metrics[name], values, err_msg=name)
    assert (narrow.metrics["ger_answer_layer"] != without.metrics["ger_answer_layer"]).any()

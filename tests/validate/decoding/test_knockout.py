"""Knockouts: what masking groups of rows does to an answer, against single scores and on a real model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.decoding.decode import decode, score
from routegraph.validate.decoding.knockout import blocks, carriers, evidence_groups, knockout
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill as presses
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import tokenise

PROMPT = Prompt(
    "p",
    "Ada lives in Paris. Bob lives in Rome. Both of them like to swim.",
    "Where does Ada live?",
    "Paris",
    "Answer: Ada lives in",
    evidence=((0, 19), (20, 38)),
    answer_spans=((13, 18),),
)


def alone(model: Loaded, group: Any, layers: Any, heads: Any) -> tuple[float, float]:
    """Log-probability and margin of the answer with a group masked in some slots, one variant by itself."""
    asked = tokenise(model, PROMPT)
    kept = np.ones((1, model.n_layers, model.n_heads, len(asked.context)), dtype=bool)
    for layer in layers:
        for head in heads:
            kept[0, layer, head, group] = False
    found = score(model, asked.context, asked.question, asked.answer, kept)
    return float(found.log_probability[0]), float(found.margin[0])


class TestPlaces:
    groups = (np.array([0]), np.array([3, 4, 5]), np.array([10, 2]))

    def check(self, model: Loaded, places: str, slots: dict[Any, tuple[Any, Any]]) -> None:
        found = knockout(model, PROMPT, self.groups, places)
        whole, margin = alone(model, [], [], [])
        assert found.log_probability == pytest.approx(whole, abs=1e-4)
        assert found.margin == pytest.approx(margin, abs=1e-4)
        assert found.fall.shape == found.margins.shape == found.still_says.shape
        assert found.fall.size == len(self.groups) * len(slots)
        for number, group in enumerate(self.groups):
            for place, (layers, heads) in slots.items():
                one, left = alone(model, group, layers, heads)
                assert found.fall[(number, *place)] == pytest.approx(whole - one, abs=1e-4)
                assert found.margins[(number, *place)] == pytest.approx(left, abs=1e-4)
        assert np.unique(found.fall.round(5)).size > found.fall.size / 2, "places differ"

    def test_all(self, tiny: Loaded) -> None:
        self.check(tiny, "all", {(): (range(3), range(2))})

    def test_layer(self, tiny: Loaded) -> None:
        self.check(tiny, "layer", {(layer,): ([layer], range(2)) for layer in range(3)})

    def test_from(self, tiny: Loaded) -> None:
        self.check(tiny, "from", {(layer,): (range(layer, 3), range(2)) for layer in range(3)})

    def test_slot(self, tiny: Loaded) -> None:
        self.check(
            tiny, "slot", {(layer, head): ([layer], [head]) for layer in range(3) for head in range(2)}
        )


class TestLaws:
    @settings(max_examples=10)
    @given(data=st.data())
    def test_order_and_repetition_do_not_matter(self, tiny: Loaded, data: st.DataObject) -> None:
        n = len(tokenise(tiny, PROMPT).context)
        group = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
        shuffled = data.draw(st.permutations(group))
        found = knockout(tiny, PROMPT, [group, [0], shuffled + shuffled[:1]])
        assert found.fall[0] == pytest.approx(found.fall[2], abs=1e-4)
        assert found.fall[1] == pytest.approx(knockout(tiny, PROMPT, [[0]]).fall[0], abs=1e-4)

    def test_everything_but_the_sink(self, tiny: Loaded) -> None:
        n = len(tokenise(tiny, PROMPT).context)
        found = knockout(tiny, PROMPT, [np.arange(1, n)])
        assert abs(found.fall[0]) > 0.1

    def test_batches_of_groups(self, tiny: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
        groups = blocks(len(tokenise(tiny, PROMPT).context), 2)
        together = knockout(tiny, PROMPT, groups, "layer")
        monkeypatch.setattr("routegraph.validate.decoding.knockout._AT_ONCE", 6)
        apart = knockout(tiny, PROMPT, groups, "layer", memory=1)
        np.testing.assert_allclose(together.fall, apart.fall, atol=1e-4)

    def test_following_the_models_own_reply(self, tiny: Loaded) -> None:
        """A reply is what is said with nothing masked; where it is still said is what decoding says."""
        asked = tokenise(tiny, PROMPT)
        n = len(asked.context)
        groups = blocks(n)
        kept = np.ones((n + 1, 3, 2, n), dtype=bool)
        kept[np.arange(n), :, :, np.arange(n)] = False
        replies = decode(tiny, asked.context, asked.question, kept, 3).token_ids
        found = knockout(tiny, PROMPT, groups, answer=replies[-1])
        assert found.says
        still = [np.array_equal(reply, replies[-1]) for reply in replies[:-1]]
        assert found.still_says.tolist() == still
        assert found.changed.tolist() == [not one for one in still]
        assert 0 < sum(still) < n
        assert not knockout(tiny, PROMPT, groups).changed.any(), "a random model does not say the answer"


class TestGroups:
    def test_blocks(self) -> None:
        assert [block.tolist() for block in blocks(5, 2)] == [[0, 1], [2, 3], [4]]
        assert [block.tolist() for block in blocks(3)] == [[0], [1], [2]]
        for bad in ((0, 1), (3, 0)):
            with pytest.raises(ValueError, match="must be at least 1"):
                blocks(*bad)

    def test_evidence(self, tiny: Loaded) -> None:
        ids = tokenise(tiny, PROMPT).context
        texts = [tiny.tokenizer.decode(ids[group]) for group in evidence_groups(tiny, PROMPT)]
        assert texts == ["Ada lives in Paris.", " Bob lives in Rome."]
        with pytest.raises(ValueError, match="'p' names no evidence"):
            evidence_groups(tiny, replace(PROMPT, evidence=()))


class TestCarriers:
    def test_order(self, tiny: Loaded) -> None:
        found = carriers(tiny, PROMPT, limit=4, sinks=0)
        singles = found.each.fall
        assert singles.shape == (len(tokenise(tiny, PROMPT).context),)
        assert found.tokens.tolist() == np.argsort(-singles)[:4].tolist()
        assert [group.tolist() for group in found.without.groups] == [
            found.tokens[:k].tolist() for k in (1, 2, 3, 4)
        ]
        assert found.without.fall[0] == pytest.approx(singles[found.tokens[0]], abs=1e-4)

    def test_sinks_are_not_named_and_stay(self, tiny: Loaded) -> None:
        n = len(tokenise(tiny, PROMPT).context)
        found = carriers(tiny, PROMPT, limit=n - 4, sinks=3)
        singles = found.each.fall
        assert len(set(found.tokens)) == n - 4
        assert found.tokens.min() == 3
        assert (np.diff(singles[found.tokens]) <= 0).all()
        # Beside the first so many only the sinks are left.
        for k, group in enumerate(found.only.groups):
            left = {0, 1, 2, *found.tokens[: k + 1].tolist()}
            assert set(range(n)) - set(group.tolist()) == left
        # All but one, then: as good as that one knocked out alone.
        (last,) = found.only.groups[-1]
        assert found.only.fall[-1] == pytest.approx(singles[last], abs=1e-4)

    def test_smollm2_reads_the_answer_from_its_fact(
        self, smollm2: Loaded, short_prompts: list[Prompt]
    ) -> None:
        prompt = next(prompt for prompt in short_prompts if prompt.id == "documents-0-039")
        (fact,) = evidence_groups(smollm2, prompt)
        n = len(tokenise(smollm2, prompt).context)
        others = [block for block in blocks(n, 16) if block[0] > 0 and not np.isin(block, fact).any()]
        found = knockout(smollm2, prompt, [fact, np.arange(1, n), *others])
        assert found.says
        assert found.changed[:2].all()
        assert not found.changed[2:].any()
        assert found.fall[0] > 5 * np.abs(found.fall[2:]).max()
        layers = knockout(smollm2, prompt, [fact], "from").fall[0]
        assert layers[0] == pytest.approx(found.fall[0], abs=1e-3)
        assert abs(layers[-1]) < 0.1, "the route has left the fact below the last layer"


class TestBadInput:
    def test_messages(self, tiny: Loaded) -> None:
        n = len(tokenise(tiny, PROMPT).context)
        for message, call in (
            ("'p' has no answer", lambda: knockout(tiny, replace(PROMPT, answer=""), [[0]])),
            ("'p' asks nothing", lambda: knockout(tiny, replace(PROMPT, question="", answer_prefix=""), [])),
            ("at least one group of tokens to knock out", lambda: knockout(tiny, PROMPT, [])),
            ("at least one token to knock out is needed", lambda: knockout(tiny, PROMPT, [[]])),
            (rf"token to knock out must be in 0..{n - 1}, got {n}", lambda: knockout(tiny, PROMPT, [[n]])),
            (
                "unknown places 'head'; choose from: all, layer,",
                lambda: knockout(tiny, PROMPT, [[0]], "head"),
            ),
            ("'p' has 6[0-9]+ tokens", lambda: knockout(tiny, replace(PROMPT, context="so " * 600), [[0]])),
            (rf"limit must be in 1..{n - 2}, .* got 0", lambda: carriers(tiny, PROMPT, 0)),
            (rf"limit must be in 1..{n - 4}, .* got {n - 3}", lambda: carriers(tiny, PROMPT, n - 3, sinks=3)),
            (rf"sinks must be in 0..{n - 2} .* got -1", lambda: carriers(tiny, PROMPT, sinks=-1)),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    def test_too_long_before_the_prefill(self, tiny: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presses, "prefill", lambda *_: pytest.fail("prefilled"))
        with pytest.raises(ValueError, match="was made for 512 at most"):
            knockout(tiny, replace(PROMPT, context="so " * 600), [[0]])

"""Replies guessed ahead and verified, against one token a pass and against a slow twin that knows all replies."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.decoding import speculate
from routegraph.validate.decoding.decode import Decoded, decode
from routegraph.validate.decoding.shared_cache import Chunks
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill
from tests.helpers.decoding import QUESTION, TOLERANCE, small
from tests.helpers.models import N_RANDOM, random_ids

SHAPE = (3, 2, N_RANDOM)
PATTERNS = ("some", "few gone", "all", "one row", "none")


def masks(patterns: list[str], seed: int) -> np.ndarray:
    """One variant each: random rows kept, nearly all, all, one, or none."""
    rng = np.random.default_rng(seed)
    kept = np.ones((len(patterns), *SHAPE), dtype=bool)
    for one, pattern in zip(kept, patterns, strict=True):
        if pattern in ("some", "few gone"):
            one[:] = rng.random(SHAPE) < (0.3 if pattern == "some" else 0.98)
        elif pattern != "all":
            one[:] = False
            one[..., rng.integers(N_RANDOM)] = pattern == "one row"
    return kept


def both(model: Loaded, context: Any, question: Any, kept: np.ndarray, n: int, **more: Any) -> Decoded:
    """Decode with and without guesses, and compare all that is told."""
    found, plain = (
        decode(model, context, question, kept, n, n_logits=n, speculate=guess, **more)
        for guess in (True, False)
    )
    assert [reply.tolist() for reply in found.token_ids] == [reply.tolist() for reply in plain.token_ids]
    assert found.texts == plain.texts
    assert found.cut.tolist() == plain.cut.tolist()
    np.testing.assert_allclose(found.logits, plain.logits, atol=TOLERANCE)
    return found


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, list[int]]]]:
    """Every pass over replies that is run: the variants that take part, and their drafts."""
    made: list[list[tuple[int, list[int]]]] = []
    run = speculate.Speaker._run

    def counting(self: Any, replies: Any, guesses: Any, first: Any) -> None:
        made.append([(number, list(draft)) for number, draft in guesses])
        run(self, replies, guesses, first)

    monkeypatch.setattr(speculate.Speaker, "_run", counting)
    return made


class TestAgainstOneTokenAPass:
    @settings(max_examples=12)
    @given(
        family=st.sampled_from(["llama", "qwen2", "gemma3_text"]),
        patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=6),
        seed=st.integers(0, 10_000),
        n_question=st.sampled_from([1, 5]),
        n=st.sampled_from([1, 2, 12]),
        blocks=st.booleans(),
    )
    def test_any_masks(
        self, family: str, patterns: list[str], seed: int, n_question: int, n: int, blocks: bool
    ) -> None:
        """Equal masks are equal variants; with little memory each variant is a batch, and guesses from those before."""
        windows = {"sliding_window": 20} if family == "gemma3_text" else {}
        model = small(family, **windows)
        cache = prefill.prefill(model.model, random_ids(seed=seed))
        model.model.generation_config.eos_token_id = list(range(0, 300, 9)) if seed % 2 else None
        both(
            model, cache, QUESTION[:n_question], masks(patterns, seed), n, **({"memory": 1} if blocks else {})
        )

    def test_replies_that_end_and_that_stop(self) -> None:
        model = small()
        kept = masks(["all", "some", "few gone", "none", "all"], 3)
        cache = prefill.prefill(model.model, random_ids())
        whole = both(model, cache, QUESTION, kept, 16)
        assert whole.cut.all()
        words = whole.texts[0].split()
        stopped = both(model, cache, QUESTION, kept, 16, stop=f"{words[5]} {words[6]}")
        assert stopped.texts[0] == stopped.texts[4] == whole.texts[0].partition(f"{words[5]} {words[6]}")[0]
        assert len(stopped.token_ids[0]) == 7
        assert stopped.cut.tolist() == [False, *stopped.cut[1:4], False]
        model.model.generation_config.eos_token_id = int(whole.token_ids[0][9])
        ended = both(model, cache, QUESTION, kept, 16)
        assert not ended.cut[0]
        assert ended.token_ids[0].tolist() == whole.token_ids[0][: len(ended.token_ids[0])].tolist()
        model.model.generation_config.eos_token_id = int(whole.token_ids[0][0])
        assert len(both(model, cache, QUESTION, kept, 16).token_ids[0]) == 1

    @pytest.mark.parametrize("family", ["llama", "qwen2"])
    def test_caches_of_their_own(self, family: str) -> None:
        """Each variant reads keys and values of its own, as with bits, though the others have ended."""
        from routegraph.validate.quantise.rows import Rounded, Rows

        model, kept = small(family), masks(["all", "some", "few gone", "none", "some"], 4)
        cache = prefill.prefill(model.model, random_ids())
        model.model.generation_config.eos_token_id = list(range(0, 300, 5))

        def read(one: Any, some: np.ndarray) -> Any:
            import torch

            share = torch.from_numpy(some.mean(axis=(1, 2, 3), dtype=np.float32))[:, None, None, None]
            return Rounded(
                tuple(Rows(layer.keys * (1 + share), layer.values * share) for layer in one.layers)
            )

        plain = decode(model, cache, QUESTION, kept, 12, read_as=read, speculate=False)
        found = both(model, cache, QUESTION, kept, 12, read_as=read, guesses=plain.token_ids[1:3])
        alone = decode(model, cache, QUESTION, kept, 12, read_as=read, speculate=False, n_logits=12, memory=1)
        np.testing.assert_allclose(found.logits, alone.logits, atol=TOLERANCE)
        assert len({len(reply) for reply in alone.token_ids}) > 1
        assert len(alone.token_ids[0]) < max(map(len, alone.token_ids)), "those left are not the first ones"

    @pytest.mark.parametrize("family", ["llama", "qwen2"])
    def test_some_have_guesses_and_some_not(self, family: str, passes: list[Any]) -> None:
        """Then chunks of one pass differ in length; a guess may go wrong on its way."""
        model, kept = small(family), masks(["none", "all", "some", "few gone", "one row"], 6)
        cache = prefill.prefill(model.model, random_ids())
        said = decode(model, cache, QUESTION, kept, 12, speculate=False).token_ids
        passes.clear()
        both(model, cache, QUESTION, kept, 12, guesses=[said[1], [*said[2][:4], 1, 2, 3], said[4][:3]])
        lengths = {len({len(draft) for _, draft in made}) for made in passes}
        assert max(lengths) > 1

    def test_at_fewer_bits_nothing_is_guessed(self, passes: list[Any]) -> None:
        import torch

        model = small()
        model.model.to(torch.bfloat16)
        kept = masks(["all", "some", "few gone", "all"], 5)
        plain = decode(model, random_ids()[0].numpy(), QUESTION, kept, 12, speculate=False)
        both(model, random_ids()[0].numpy(), QUESTION, kept, 12, guesses=plain.token_ids)
        assert passes
        assert not any(draft for made in passes for _, draft in made)


class TestPasses:
    def test_a_given_reply_is_verified_in_few_passes(self, passes: list[Any]) -> None:
        model, kept = small(), masks(["all"] * 3, 0)
        cache = prefill.prefill(model.model, random_ids())
        (reply, *_) = decode(model, cache, QUESTION, kept, 15, speculate=False).token_ids
        assert len(passes) == 14
        passes.clear()
        found = both(model, cache, QUESTION, kept, 15, guesses=[reply[:4][::-1], reply])
        guessed = passes[: len(passes) - 14]
        assert len(guessed) == 2, "7 drafted tokens and one more of each, twice"
        assert found.token_ids[0].tolist() == reply.tolist()
        both(model, cache, QUESTION, kept, 5, guesses=[reply])  # longer than a reply may be
        wrong = reply.copy()
        wrong[6] = (wrong[6] + 1) % 300
        passes.clear()
        both(model, cache, QUESTION, kept, 15, guesses=[wrong])
        assert len(passes) - 14 < 14

    def test_later_batches_verify_what_earlier_ones_said(self, passes: list[Any]) -> None:
        model, kept = small(), masks(["all"] * 3, 0)
        cache = prefill.prefill(model.model, random_ids())
        decode(model, cache, QUESTION, kept[:1], 15)
        alone = len(passes)
        passes.clear()
        decode(model, cache, QUESTION, kept, 15, memory=1)
        assert len(passes) == alone + 2 * 2, "of the first its own, of the others two each"

    def test_those_that_ended_take_no_part(self, passes: list[Any]) -> None:
        model, kept = small(), masks(["all", "none"], 0)
        cache = prefill.prefill(model.model, random_ids())
        whole = decode(model, cache, QUESTION, kept, 10, speculate=False)
        model.model.generation_config.eos_token_id = int(whole.token_ids[0][2])
        passes.clear()
        short = decode(model, cache, QUESTION, kept, 10, speculate=False)
        assert [len(reply) for reply in short.token_ids] == [3, 10]
        assert [len(made) for made in passes] == [2, 2, *[1] * 7]


class Told:
    """A model that says what it is told to, whatever is drafted; and how many rows it is given."""

    def __init__(self, replies: list[list[int]], margin: float = 1.0) -> None:
        self.replies, self.margin, self.rows, self.passes = replies, margin, [], []

    def step(self, chunks: Chunks, last: int = 0) -> Any:
        import torch

        self.passes.append(len(chunks.ids))
        logits = torch.zeros(len(chunks.ids), 30)
        for row, (variant, place) in enumerate(zip(chunks.variant, chunks.place, strict=True)):
            said = self.replies[variant]
            at = place - (len(QUESTION) - 1)
            if at >= 0:
                before = [int(QUESTION[-1]), *said][at : at + 1]
                right = before == [
                    chunks.ids[row]
                ]  # behind a wrong token, or the end, it says nothing of use
                logits[row, said[min(at, len(said) - 1)] if right else 29] = 1 + self.margin
                logits[row, 28] = 1.0
        return logits if not last else logits.reshape(-1, len(QUESTION), 30)[:, -last:].flatten(0, 1)


def written(told: Told, longest: int, guess: bool = True) -> list[speculate.Reply]:
    speaker = speculate.Speaker(told.step, QUESTION, longest, lambda reply: reply[-1] == 27, 0)
    return speaker.replies(len(told.replies), guess)[0]


class TestSpeaker:
    @settings(max_examples=80)
    @given(
        replies=st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=5),
        ends=st.lists(st.integers(0, 12), min_size=5, max_size=5),
    )
    def test_it_says_what_the_model_says(self, replies: list[list[int]], ends: list[int]) -> None:
        """Few different tokens: drafts that are right for a while and then wrong."""
        said = [[*reply[:end], 27][:9] for reply, end in zip(replies, ends, strict=False)]
        told = Told(said)
        found = written(told, 9)
        assert [reply.tokens for reply in found] == said
        assert [reply.ended for reply in found] == [27 in reply for reply in said]
        assert not any(reply.going for reply in found)
        assert max(told.passes[1:], default=0) <= speculate.ROWS * len(said)
        plain = Told(said)
        written(plain, 9, guess=False)
        assert len(told.passes) <= len(plain.passes), "a pass moves every variant on by at least one token"

    def test_a_loop_is_followed(self) -> None:
        told = Told([[1, 2, 3] * 10])
        assert written(told, 30)[0].tokens == [1, 2, 3] * 10
        assert len(told.passes) < 14

    def test_the_others_follow_the_one_that_looks_up(self) -> None:
        told = Told([[1, 2, 3] * 10] * 4)
        assert [reply.tokens for reply in written(told, 30)] == [[1, 2, 3] * 10] * 4
        assert len(told.passes) < 18

    def test_ties_are_settled_alone(self) -> None:
        """A reply with a tie in a pass over drafts is written again, a token a pass; a clear one is not."""
        for margin, again in ((speculate.TIE / 2, True), (4 * speculate.TIE, False)):
            told = Told([[1, 2, 3] * 5], margin)
            (reply,) = written(told, 15)
            assert reply.tokens == [1, 2, 3] * 5
            assert (told.passes[-14:] == [1] * 14) == again

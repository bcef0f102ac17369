"""Replies whose cache is cut while they are decoded: against kvpress's DecodingPress, by laws, and by slow twins."""

from typing import Any

import numpy as np
import pytest

from routegraph import policies
from routegraph.sim.decoding.run import survival_in_time
from routegraph.validate.decoding import evicting
from routegraph.validate.decoding.decode import decode
from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import WHOLE, Cutting, Written, survival_by_age
from routegraph.validate.models.load import load
from routegraph.validate.presses.decoding import REPLY_POLICIES, Keeping, reply_policy
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import prefill_scores
from routegraph.validate.presses.scorers import SCORERS
from routegraph.validate.prompts.asking import PLAIN
from routegraph.validate.prompts.prompt import bundled_prompts
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.tasks import load_task
from tests.helpers.decoding import QUESTION, small
from tests.helpers.decoding_press import against_press, from_one_state
from tests.helpers.models import random_ids

#: Policies that kvpress's DecodingPress has, too, and its press of each.
PRESSES = {
    "knorm": "KnormPress",
    "keydiff": "KeyDiffPress",
    "tova": "TOVAPress",
    "expected_attention": "ExpectedAttentionPress",
}
N, NEW = 60, 14
LEFT = 24


@pytest.fixture(scope="module")
def model() -> Any:
    return small("llama")


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return random_ids(seed=1)[0].numpy()[:N]


def every(interval: int = 5, budget: int = LEFT) -> list[Cutting]:
    return [Cutting(name, budget, interval) for name in REPLY_POLICIES]


def alive(one: Written, step: int) -> np.ndarray:
    """Rows that a slot has after a step, int[n_layers, n_heads], counted one by one."""
    come = one.n_prefill + step
    return (one.death[:, :, :come] > step).sum(axis=2)


# --- against kvpress ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [5, 7])
@pytest.mark.parametrize("policy", PRESSES)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_rows_die_and_tokens_come_as_under_the_decoding_press_of_kvpress(family, policy, interval, ids):
    model = small(family)
    found = against_press(model, ids, QUESTION, policy, PRESSES[policy], interval, LEFT, NEW)
    assert found.mismatches == 0
    assert found.same_tokens
    assert found.dead > 0
    assert found.cuts == NEW // interval


@pytest.mark.parametrize("interval", [5, 7])
@pytest.mark.parametrize("policy", PRESSES)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_every_cut_is_that_of_kvpress_from_the_same_rows(family, policy, interval, ids):
    found = from_one_state(small(family), ids, QUESTION, policy, PRESSES[policy], interval, LEFT, 22)
    assert found.mismatches == 0
    assert found.ties == 0  # of random weights none are equal
    slots = small(family).n_layers * small(family).n_heads
    assert found.cuts == slots * (22 // interval)
    assert found.gone == slots * (N + len(QUESTION) - 1 + 22 // interval * interval - LEFT)


@pytest.mark.parametrize("policy", ["knorm", "keydiff", "tova"])
@pytest.mark.parametrize("name", ["llama-tiny", "qwen-tiny"])
def test_every_cut_of_a_trained_model_is_that_of_kvpress_but_for_ties_there(name, policy):
    """Also after a first tie, as words that come again have keys of one norm."""
    assert_cut_alike(name, policy, load_task("words_forward", 1)[0])


@pytest.mark.verify
@pytest.mark.parametrize("policy", PRESSES)
def test_every_cut_of_smollm2_is_that_of_kvpress_but_for_ties_there(policy):
    assert_cut_alike("smollm2", policy, bundled_prompts()[0])


def assert_cut_alike(name: str, policy: str, prompt: Any) -> None:
    import torch

    torch.set_num_threads(1)
    model = load(name)
    asked = tokenise(model, prompt, PLAIN)
    model.model.generation_config.eos_token_id = None  # so that no reply ends before it is cut
    for interval in (6, 16):
        found = from_one_state(
            model, asked.context, asked.question, policy, PRESSES[policy], interval, 40, 40
        )
        print(name, policy, interval, found)
        assert found.mismatches == 0
        assert found.ties < found.gone / 4
        assert found.cuts == model.n_layers * model.n_heads * (40 // interval)


def test_a_question_as_long_as_the_budget_is_cut_at_once_as_in_kvpress(model, ids):
    found = against_press(model, ids, np.arange(5, 17), "knorm", "KnormPress", 4, 12, 9)
    assert found.mismatches == 0
    assert found.same_tokens
    assert found.steps == [1, 5, 9]


def test_of_states_the_latest_count_as_in_kvpress(model, ids, monkeypatch):
    """With 3 steps held, both sides score by the same 3."""
    monkeypatch.setattr(evicting, "HELD_STEPS", 7)
    press = "ExpectedAttentionPress"
    found = against_press(model, ids, QUESTION, "expected_attention", press, 9, LEFT, 20, held=7)
    assert found.mismatches == 0
    assert found.dead > 0
    other = against_press(model, ids, QUESTION, "expected_attention", press, 9, LEFT, 20, held=8)
    assert other.mismatches > 0


def test_the_streaming_press_of_kvpress_goes_by_places_in_a_cache_that_is_not_in_order(model, ids):
    """It lets go of sinks, for `topk` leaves rows in the order of their scores; ours goes by positions."""
    from tests.helpers.decoding_press import pressed

    theirs, tokens, _ = pressed(model, ids, QUESTION, kvpress().StreamingLLMPress(), 4, 16, 20)
    assert (theirs[:, :, :4] <= len(tokens)).any()
    (ours,) = write(model, ids, QUESTION, [Cutting("streaming", 16, 4)], 20)
    assert (ours.death[:, :, :4] == 21).all()
    left = np.flatnonzero(ours.death[0, 0] == 21)
    assert left.tolist() == [0, 1, 2, 3, *range(N + len(QUESTION) + 19 - 12, N + len(QUESTION) + 19)]


@pytest.mark.verify
@pytest.mark.parametrize("policy", PRESSES)
@pytest.mark.parametrize("name", ["llama-tiny", "qwen-tiny", "smollm2"])
def test_rows_die_as_in_kvpress_in_trained_models(name, policy):
    import torch

    torch.set_num_threads(1)
    model = load(name)
    prompt = bundled_prompts()[0] if name == "smollm2" else load_task("words_forward", 1)[0]
    asked = tokenise(model, prompt, PLAIN)
    model.model.generation_config.eos_token_id = None  # so that no reply ends before it is cut
    for interval in (6, 16):
        found = against_press(model, asked.context, asked.question, policy, PRESSES[policy], interval, 40, 40)
        print(name, policy, interval, found)
        assert found.mismatches == 0
        assert found.dead > 0
        assert found.same_tokens or found.ties


# --- laws -----------------------------------------------------------------------------------------------------


def test_a_cache_that_is_never_cut_answers_as_plain_decoding(model, ids):
    kept = np.ones((1, model.n_layers, model.n_heads, N), bool)
    plain = decode(model, ids, QUESTION, kept, NEW)
    whole, wide = write(model, ids, QUESTION, [WHOLE, Cutting("h2o", 500)], NEW)
    for one in (whole, wide):
        assert one.token_ids.tolist() == plain.token_ids[0].tolist()
        assert not one.fired
        assert (one.death == NEW + 1).all()
        assert one.cut
        assert one.text == plain.texts[0]
    assert whole.death.shape[2] == N + len(QUESTION) + NEW - 1


@pytest.mark.parametrize("interval", [5, 6])
def test_no_cut_leaves_more_than_the_budget_and_rows_die_at_cuts_only(model, ids, interval):
    for cutting, one in zip(every(interval), write(model, ids, QUESTION, every(interval), NEW), strict=True):
        assert one.fired
        assert one.n_steps == NEW
        assert one.n_prefill == N + len(QUESTION) - 1
        counts = np.array([alive(one, step) for step in range(1, NEW + 1)])
        for step, count in enumerate(counts, 1):
            waited = step % interval
            come = one.n_prefill + step
            assert (count == (LEFT + waited if step >= interval else come)).all(), cutting
        assert set(np.unique(one.death)) == {*range(interval, NEW + 1, interval), NEW + 1}
        protected = REPLY_POLICIES[cutting.policy]().protected(LEFT)
        if "sink" in REPLY_POLICIES[cutting.policy]().what:
            assert (one.death[:, :, :protected] == NEW + 1).all()
        for step in range(interval, NEW + 1, interval):
            newest = one.death[:, :, : one.n_prefill + step][:, :, -protected:] if protected else None
            if newest is not None and "latest" in REPLY_POLICIES[cutting.policy]().what:
                assert (newest > step).all(), cutting


def test_replies_do_not_depend_on_who_is_decoded_beside_them(model, ids):
    together = write(model, ids, QUESTION, every(), NEW, seed=3)
    alone = write(model, ids, QUESTION, every(), NEW, seed=3, memory=1)
    for one, other in zip(together, alone, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert np.array_equal(one.death, other.death)


def test_only_what_draws_depends_on_the_seed(model, ids):
    first, again, other = (write(model, ids, QUESTION, every(), NEW, seed=seed) for seed in (1, 1, 2))
    for cutting, a, b, c in zip(every(), first, again, other, strict=True):
        assert np.array_equal(a.death, b.death)
        assert np.array_equal(a.death, c.death) == (cutting.policy != "random")
    drawn = next(one for one, cutting in zip(first, every(), strict=True) if cutting.policy == "random")
    assert not (drawn.death == drawn.death[:1, :1]).all()


@pytest.mark.parametrize("name", ["knorm", "keydiff"])
def test_the_first_cut_is_that_of_the_static_policy(model, ids, name):
    import torch

    whole = np.concatenate([ids, QUESTION])
    scores = prefill_scores(model.model, torch.from_numpy(whole)[None], SCORERS[name]())[None]
    (one,) = write(model, ids, QUESTION, [Cutting(name, LEFT)], 1)
    static = policies.apply("topk", scores).alive(1 - LEFT / len(whole))
    assert static.sum(axis=2).max() == LEFT
    assert np.array_equal(one.death > 1, static)


def test_a_reply_that_ends_leaves_the_others_alone(ids):
    model = small("llama", eos=None)
    cuttings = [WHOLE, *every(budget=10)]
    long = write(model, ids, QUESTION, cuttings, NEW)

    def lengths(token: int) -> set[int]:
        return {[*one.token_ids.tolist(), token].index(token) for one in long}

    ending = max({token for one in long for token in one.token_ids.tolist()}, key=lambda t: len(lengths(t)))
    short = write(small("llama", eos=[ending]), ids, QUESTION, cuttings, NEW)
    for one, other in zip(long, short, strict=True):
        n = len(other.token_ids)
        assert other.token_ids.tolist() == one.token_ids[:n].tolist()
        assert other.cut == (ending not in other.token_ids)
        assert other.n_steps == n
        assert (ending in other.token_ids[:-1].tolist()) is False
        until = other.death.shape[2]
        assert np.array_equal(other.death, np.minimum(one.death[:, :, :until], n + 1))
    assert len({len(one.token_ids) for one in short}) > 1


def test_the_prompt_in_time_is_a_survival_whose_levels_are_steps(model, ids):
    (one,) = write(model, ids, QUESTION, [Cutting("random", LEFT)], NEW)
    assert one.prompt.n_context == N + len(QUESTION)
    for step in (1, 5, NEW):
        assert np.array_equal(one.prompt.alive(step / (NEW + 1)), one.death[:, :, : N + len(QUESTION)] > step)


def test_survival_by_age_counts_slots_one_by_one():
    rng = np.random.default_rng(0)
    n_prefill, steps = 5, 7
    come = np.maximum(np.arange(n_prefill + steps) - n_prefill + 1, 1)
    death = rng.integers(come, steps + 2, (2, 3, n_prefill + steps)).astype(np.int32)
    one = Written(np.arange(steps), "", True, death, 3, n_prefill)
    alive, there = survival_by_age(one.death, one.n_prefill)
    for age in range(steps):
        rows = [row for row in range(n_prefill, n_prefill + steps) if come[row] + age <= steps]
        slots = [death[at, head, row] - come[row] for at in range(2) for head in range(3) for row in rows]
        assert there[age] == len(slots)
        assert alive[age] == sum(lives > age for lives in slots)
    assert survival_in_time(death, steps).max_level == steps


# --- what policies are given ----------------------------------------------------------------------------------


def test_sums_of_attention_are_those_of_all_queries_so_far(model, ids, restored):
    """Until the first cut they are the column sums of eager attention; then they go with their rows."""
    import torch

    from tests.helpers.references import eager

    seen: dict[int, list[Any]] = {}

    @reply_policy("watching")
    def watching() -> Keeping:
        """Keep what comes last, and note what is given."""

        def worth(one: Any) -> Any:
            seen.setdefault(one.module.layer_idx, []).append((one.rows.clone(), one.sums.clone()))
            return one.rows.double()

        return Keeping(worth, sums=True)

    (one,) = write(model, ids, QUESTION, [Cutting("watching", N, 3)], 7)
    tokens = np.concatenate([ids, QUESTION, one.token_ids[:2]])
    with torch.no_grad(), eager(model.model):
        attentions = model.model(torch.from_numpy(tokens)[None], output_attentions=True).attentions
    for layer, weights in enumerate(attentions):
        by_head = weights[0].unflatten(0, (model.n_heads, -1)).mean(1).sum(1)
        rows, sums = seen[layer][0]
        assert rows.tolist() == [list(range(len(tokens)))] * model.n_heads
        assert np.allclose(sums, by_head, atol=1e-4)
        later_rows, later = seen[layer][1]
        assert later_rows[:, :N].equal(rows[:, -N:])
        # Each of the three queries since then gave 1 in all to the rows that were there.
        assert np.allclose(later.sum(1), sums[:, -N:].sum(1) + 3, atol=1e-4)
        assert (later[:, :N] >= sums[:, -N:] - 1e-6).all()


def test_queries_are_the_latest_rotated_ones(model, ids, restored):
    given: list[Any] = []

    @reply_policy("asking")
    def asking() -> Keeping:
        """Keep what comes first, and note what is given."""

        def worth(one: Any) -> Any:
            if one.module.layer_idx == 0:
                given.append(one)
            return -one.rows.double()

        return Keeping(worth, n_queries=4)

    write(model, ids, QUESTION, [Cutting("asking", N, 2)], 6)
    assert [one.queries.shape[1] for one in given] == [4, 4, 4]
    assert [one.step for one in given] == [2, 4, 6]
    # The last query of a step and the query of the same token in plain attention are one.
    assert given[1].queries[:, :2].equal(given[0].queries[:, 2:])
    assert [one.hidden.shape[1] for one in given] == [len(QUESTION) + 1, 2, 2]


def test_a_worth_that_is_no_number_is_told(model, ids, restored):
    @reply_policy("nothing")
    def nothing() -> Keeping:
        """Give no number."""
        return Keeping(lambda one: one.rows.double() * float("nan"))

    with pytest.raises(ValueError, match="policy 'nothing' gives rows a worth that is no number"):
        write(model, ids, QUESTION, [Cutting("nothing", LEFT)], 3)


# --- bad input ------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_told_in_one_line(model, ids):
    for cutting, words in [
        (
            ("streaming", 4),
            "decode budget must be at least 5 for policy 'streaming', which protects 4 sinks; got 4",
        ),
        (("h2o", -1), "decode budget must be a whole number of at least 0, got -1"),
        (
            ("rkv", 8),
            "decode budget must be at least 9 for policy 'rkv', which protects the latest 8 rows; got 8",
        ),
        (("topk", 9), "unknown reply policy 'topk'; choose from: expected_attention, h2o, "),
        (("knorm", 9, 0), "decode interval must be a whole number of at least 1, got 0"),
        (("expected_attention", 9, 4), "decode interval must be at least 5 for policy 'expected_attention'"),
    ]:
        with pytest.raises(ValueError) as error:
            Cutting(*cutting)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    for arguments, words in [
        ((ids, QUESTION, [], 4), "at least one way to cut the cache is needed"),
        ((ids, [], [WHOLE], 4), "lists of one or more tokens"),
        ((ids, QUESTION, [WHOLE], 0), "max_new_tokens must be a whole number of at least 1"),
        ((ids, QUESTION, [WHOLE], 9999), "was made for 512 at most"),
    ]:
        with pytest.raises(ValueError, match=words):
            write(model, *arguments)


@pytest.mark.parametrize(
    "settings", [("mistral", {"sliding_window": 20}), ("gemma2", {"sliding_window": 20})]
)
def test_models_whose_layers_do_not_see_every_row_are_refused(settings, ids):
    with pytest.raises(
        ValueError, match="has sliding windows, and eviction while decoding is measured on models"
    ):
        write(small(settings[0], **settings[1]), ids, QUESTION, [WHOLE], 2)

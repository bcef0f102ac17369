"""What kvpress's own DecodingPress keeps while its pipeline decodes, and what it replies, beside ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from routegraph.validate.decoding import evicting
from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import Cutting
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import attention_modules, rotary
from routegraph.validate.presses.reference import pipeline_of

#: Scores that differ by so much of themselves are the same: a word's key has one norm, whatever its rotation.
ROUNDING = 2e-6


@dataclass(frozen=True)
class Compared:
    """Our deaths beside kvpress's: slots that died, that died at another step, those that ties explain or led to."""

    dead: int
    mismatches: int
    ties: int
    same_tokens: bool
    steps: list[int]

    @property
    def cuts(self) -> int:
        return len(self.steps)


def against_press(
    model: Loaded,
    context: np.ndarray,
    question: np.ndarray,
    policy: str,
    press: str,
    interval: int,
    budget: int,
    n: int,
    held: int = 256,
) -> Compared:
    """Decode by ours and by kvpress; a mismatch is none once a cut fell between equal scores, in the slot or before."""
    base = getattr(kvpress(), press)()
    theirs, tokens, tied = pressed(model, context, question, base, interval, budget, n, held)
    (ours,) = write(model, context, question, [Cutting(policy, budget, interval)], n)
    assert ours.death.shape == theirs.shape
    differs = ours.death != theirs
    first = np.minimum(ours.death, theirs)
    by_tie = differs & (first >= tied[:, :, None])
    # From the next step on, other rows are read, and the keys of new rows may differ in every slot above.
    broken = first[by_tie].min() if by_tie.any() else len(tokens) + 1
    by_tie |= differs & (first > broken)
    return Compared(
        dead=int((theirs <= len(tokens)).sum()),
        mismatches=int((differs & ~by_tie).sum()),
        ties=int(by_tie.sum()),
        same_tokens=tokens == ours.token_ids.tolist(),
        steps=sorted({int(step) for step in np.unique(theirs) if step <= len(tokens)}),
    )


@dataclass
class FromOneState:
    """Cuts of ours and of kvpress's of the same rows: slots cut, rows that go, of these by a tie, and wrongly."""

    cuts: int = 0
    gone: int = 0
    ties: int = 0
    mismatches: int = 0


def from_one_state(
    model: Loaded,
    context: np.ndarray,
    question: np.ndarray,
    policy: str,
    press: str,
    interval: int,
    budget: int,
    n: int,
) -> FromOneState:
    """Decode by ours, and at every cut give kvpress's DecodingPress the rows that ours has, in kvpress's order.

    Rows that both had before stand by their scores at the last cut, as kvpress leaves them, and the new ones at the
    end. What only one of the two keeps must have the score at which was cut, up to rounding: nothing that a tie changed
    before is an excuse, for both start from the same rows again.
    """
    import torch

    base = getattr(kvpress(), press)()
    base.post_init_from_model(model.model)
    theirs = kvpress().DecodingPress(base_press=base, compression_interval=interval, target_size=budget)
    scores: list[Any] = []
    plain_score, plain_keep, plain_keeping = base.score, evicting._Layer.keep, evicting.keeping
    seen: list[Any] = []
    order: dict[int, Any] = {}  # by layer: positions as kvpress leaves them
    found = FromOneState()

    def score(*args: Any, **kwargs: Any) -> Any:
        scores.append(plain_score(*args, **kwargs))
        return scores[-1]

    def keeping(*args: Any) -> Any:
        made = plain_keeping(*args)

        def worth(one: Any) -> Any:
            seen.append(one)
            return made.worth(one)

        return replace(made, worth=worth)

    def keep(layer: Any, worth: Any, most: int) -> Any:
        one = seen.pop()
        rows, heads = one.rows, len(one.rows)
        before = order.get(one.module.layer_idx)
        if before is not None:
            new = rows[:, before.shape[1] :]
            rows = torch.cat([before, new], 1)
        place = torch.stack([torch.searchsorted(one.rows[h], rows[h]) for h in range(heads)])
        assert rows.equal(one.rows.gather(1, place))
        wide = place[None, ..., None].expand(-1, -1, -1, one.keys.shape[3])
        keys, values = one.keys.gather(2, wide), one.values.gather(2, wide)
        scores.clear()
        left, _ = theirs.compress(one.module, one.hidden, keys, values, None, one.kwargs)
        kept = scores[0].topk(left.shape[2], dim=-1).indices  # as its own compress asks
        assert left.equal(keys.gather(2, kept[..., None].expand_as(left)))
        dead = plain_keep(layer, worth, most)
        stayed = torch.stack([torch.isin(one.rows[h], layer.rows[h]) for h in range(heads)])
        for held, was in ((layer.keys, one.keys), (layer.values, one.values)):
            assert held[0].equal(was[0][stayed].reshape(held[0].shape))
        ordered = scores[0][0].sort(dim=1, descending=True)
        for h in range(heads):
            ours, press_keeps = set(layer.rows[h].tolist()), set(rows[h][kept[0, h]].tolist())
            assert len(ours) == len(press_keeps) == budget
            cut = float(ordered.values[h, budget - 1])
            value = dict(zip(rows[h].tolist(), scores[0][0, h].tolist(), strict=True))
            other = ours ^ press_keeps
            by_tie = sum(abs(value[row] - cut) <= ROUNDING * abs(cut) for row in other)
            found.cuts += 1
            found.gone += rows.shape[1] - budget
            found.ties += by_tie
            found.mismatches += len(other) - by_tie
        by_score = rows.gather(1, ordered.indices)
        stays = torch.stack([torch.isin(by_score[h], layer.rows[h]) for h in range(heads)])
        order[one.module.layer_idx] = by_score[stays].reshape(heads, budget)
        return dead

    base.score = score
    with patch.object(evicting, "keeping", keeping), patch.object(evicting._Layer, "keep", keep):
        write(model, context, question, [Cutting(policy, budget, interval)], n)
    return found


def pressed(
    model: Loaded,
    context: np.ndarray,
    question: np.ndarray,
    base: Any,
    interval: int,
    budget: int,
    n: int,
    held: int = 256,
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Answer with kvpress's pipeline and DecodingPress.

    Returns the step at which each row dies, int[n_layers, n_heads, n_rows], the reply's tokens, and the first step at
    which a slot was cut between two rows of the same score up to rounding, int[n_layers, n_heads]; a step beyond the
    last: never.
    """
    import torch

    settings = {"compression_interval": interval, "target_size": budget, "hidden_states_buffer_size": held}
    press = kvpress().DecodingPress(base_press=base, **settings)
    shape = (model.n_layers, model.n_heads)
    n_before = len(context) + len(question) - 1
    rows = [np.tile(np.arange(len(context)), (model.n_heads, 1)) for _ in range(model.n_layers)]
    deaths: list[tuple[int, int, np.ndarray, int]] = []
    tied = np.full(shape, n + 2)
    tokens: list[int] = []
    step, came = 0, len(context)
    plain_score, plain_compress = base.score, base.compress
    scores: list[Any] = []

    def score(*args: Any, **kwargs: Any) -> Any:
        scores.append(plain_score(*args, **kwargs))
        return scores[-1]

    def compress(module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, kwargs: Any) -> Any:
        layer = module.layer_idx
        n_new = keys.shape[2] - rows[layer].shape[1]
        new = np.tile(np.arange(came - n_new, came), (model.n_heads, 1))
        rows[layer] = np.concatenate([rows[layer], new], axis=1)
        scores.clear()
        result = plain_compress(module, hidden, keys, values, attentions, kwargs)
        if scores:
            kept = scores[0].topk(budget, dim=-1).indices[0].numpy()  # as its own compress asks
            assert result[0].equal(
                keys.gather(2, torch.from_numpy(kept)[None, ..., None].expand(result[0].shape))
            )
            order = scores[0][0].sort(dim=-1, descending=True).values
            last, first = order[:, budget - 1], order[:, budget]
            same = (last - first <= ROUNDING * first.abs()).numpy()
            tied[layer, same] = np.minimum(tied[layer, same], step)
            left = np.take_along_axis(rows[layer], kept, axis=1)
            for head in range(model.n_heads):
                deaths.append((layer, head, np.setdiff1d(rows[layer][head], left[head]), step))
            rows[layer] = left
        return result

    def before(_module: Any, args: Any, kwargs: Any) -> None:
        nonlocal step, came
        ids = args[0] if args else kwargs["input_ids"]
        step, came = step + 1, came + ids.shape[1]

    def after(_module: Any, _args: Any, output: Any) -> None:
        tokens.append(int(output.logits[0, -1].argmax()))

    class Pressing(kvpress().DecodingPress):
        @contextmanager
        def __call__(self, network: Any) -> Iterator[None]:
            with press(network), rotary(network):
                yield

    base.score, base.compress = score, compress
    handles = [
        model.model.register_forward_pre_hook(before, with_kwargs=True),
        model.model.register_forward_hook(after),
    ]
    pipeline = pipeline_of(model)
    given = {
        "context_ids": torch.from_numpy(context)[None],
        "questions_ids": [torch.from_numpy(question)[None]],
    }
    try:
        with torch.no_grad():
            pipeline._forward(given, max_new_tokens=n, press=Pressing(base_press=base))
    finally:
        for handle in handles:
            handle.remove()
        del base.score, base.compress
        for module in attention_modules(model.model):
            module._modules.pop("rotary_emb", None)  # left there by presses
    steps = len(tokens)
    death = np.full((*shape, n_before + steps), steps + 1, dtype=np.int64)
    for layer, head, gone, when in deaths:
        death[layer, head, gone] = when
    return death, tokens, tied

"""A press of kvpress that turns the dial: it decides the ratio of a context from that context's own prefill."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from routegraph.validate.certify.seen import seen_item
from routegraph.validate.models.attention import check_attention
from routegraph.validate.models.load import MODELS, Loaded, load_tokenizer, wrap
from routegraph.validate.models.quiet import quiet
from routegraph.validate.presses.deployed import deployed_press, masks
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import attention_modules, one_context, rotary
from routegraph.validate.presses.reference import honour_masks
from routegraph.validate.prompts.prompt import Prompt

#: What `Dial.press` returns; its class is made when kvpress is first needed.
DialPress = Any


@functools.cache
def dial_press() -> Any:
    """Return the class of the press, a kvpress BasePress: `Dial.press` makes its objects."""
    base = kvpress().BasePress

    class DialPress(base):  # type: ignore[misc, valid-type]
        """Evict each context at the ratio that the dial takes for it and the question to come.

        Around a model's prefill, as kvpress's pipeline does it, the press sees the tokens of the context before the
        model does, reads them with the full cache, and lets the press of the certified policy evict in the prefill
        that follows. At ratio 0 nothing is evicted.

        Attributes
        ----------
        dial : Dial
        chosen : float or None
            Ratio of the last context; None before the first.
        """

        def __init__(self, dial: Any, question: str, answer_prefix: str, task: str, tokenizer: Any) -> None:
            self.dial = dial
            self.tokenizer = tokenizer
            self.chosen: float | None = None
            self.asks(question, answer_prefix, task=task)

        def __repr__(self) -> str:
            told = f"{self.dial.policy!r}, threshold {self.dial.threshold:g}, {self.prompt.question!r}"
            return f"DialPress({told}, chosen={self.chosen})"

        def asks(self, question: str, answer_prefix: str = "", *, task: str = "") -> Any:
            """Say what will be asked of the next context; returns the press."""
            self.prompt = Prompt(
                "of the press",
                "",
                question=question,
                answer_prefix=answer_prefix,
                task=task,
                answerable=False,
            )
            return self

        @contextmanager
        def __call__(self, model: Any) -> Iterator[None]:
            """Decide and evict in every prefill inside; one context at a time."""
            network = model.model if isinstance(model, Loaded) else model
            loaded = self._loaded(network)
            self.chosen = None
            reading = False
            with ExitStack() as outer, ExitStack() as evicting:

                def before(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
                    nonlocal reading
                    if reading or not self._prefills(args, kwargs):
                        return
                    evicting.close()
                    reading = True
                    try:
                        ratio, chunk_length = self._decide(loaded, _ids(args, kwargs))
                    finally:
                        reading = False
                    self.chosen = ratio
                    if ratio > 0:
                        press = deployed_press(self.dial.policy, ratio, chunk_length)
                        evicting.enter_context(_evicting(press, network))

                handle = network.base_model.register_forward_pre_hook(before, with_kwargs=True)
                outer.callback(handle.remove)
                yield

        def compress(self, *_args: Any, **_kwargs: Any) -> Any:
            raise NotImplementedError(
                "the press of the certified policy compresses; use the press around a model"
            )

        def _loaded(self, network: Any) -> Loaded:
            """Return a model with its tokenizer, checked; ValueError where the dial is not for it."""
            check_attention(network, self.dial.model)
            if self.tokenizer is None:
                self.tokenizer = _tokenizer_of(network, self.dial.model)
            loaded = wrap(network, self.tokenizer, self.dial.model)
            self.dial.check_model(loaded)
            if loaded.local:
                raise ValueError(
                    f"model {self.dial.model!r} has layers with a sliding window, which kvpress evicts otherwise than "
                    "was measured; take the ratio from Dial.ratio"
                )
            return loaded

        def _prefills(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
            """Return whether a pass is the prefill of a context; ValueError where one begins on a filled cache."""
            cache = kwargs.get("past_key_values", args[3] if len(args) > 3 else None)
            if cache is None or cache.get_seq_length() == 0:
                return True
            if self.chosen is None:
                raise ValueError(
                    "the cache holds rows already, and the press decides from a whole context: prefill into an empty "
                    "cache"
                )
            return False

        def _decide(self, loaded: Loaded, ids: Any) -> tuple[float, int]:
            """Return the ratio that the dial takes for a context, and the length of its chunks."""
            import torch

            plan = self.dial.plan
            for module in attention_modules(loaded.model):
                module.masked_key_indices = None  # of the context before
            with torch.inference_mode(False), torch.no_grad():
                item = seen_item(loaded, ids.cpu().numpy().astype(np.int64), plan, self.prompt)
                return self.dial.ratio_of(loaded, item, plan), item.chunk_length

    return DialPress


def _ids(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the tokens of the one context of a forward call, int[n] tensor; ValueError where it is none."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    if ids is None:
        raise ValueError("the press reads the tokens of the context, and the model was given embeddings")
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    return one_context({"input_ids": ids, "attention_mask": mask})[0]


def _tokenizer_of(network: Any, name: str) -> Any:
    """Return the tokenizer of a transformers model, read from where that came from; ValueError where it cannot be."""
    where = str(getattr(network, "name_or_path", ""))
    try:
        with quiet():
            return load_tokenizer(name if name in MODELS else where)
    except (ValueError, OSError):
        raise ValueError(
            f"the press cannot read the tokenizer of model {name!r}; give it: dial.press(tokenizer=tokenizer)"
        ) from None


@contextmanager
def _evicting(press: Any, network: Any) -> Iterator[None]:
    """Let a press evict in what follows; rotary embeddings as `prefill.rotary` leaves them."""
    if masks(press):
        honour_masks()
    with rotary(network), press(network), rotary(network):
        yield

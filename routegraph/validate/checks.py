"""What can be said about a model, a context and a press before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routegraph.validate.scorers import protection


def check_chunk_length(chunk_length: int, n_protected: int) -> None:
    """Raise ValueError unless a chunk holds a row that is not one of the `n_protected` set aside in it."""
    if chunk_length <= n_protected:
        raise ValueError(
            f"chunk length must be above {n_protected}, the tokens protected in each chunk, got {chunk_length}"
        )


def check_length(n: int, n_protected: int, chunk_length: int | None, what: str, scorer: str = "") -> None:
    """Raise ValueError unless a context of `n` tokens, or each of its chunks, can be scored.

    A scorer that sets `n_protected` rows aside (sinks, a window) needs at least one more. `what` names the
    context in the error, `scorer` the scorer.
    """
    if n <= n_protected:
        whose = f" ({scorer} sets {n_protected} aside)" if scorer else ""
        raise ValueError(
            f"{what} must have more than {n_protected} tokens to be scored, got {n}{whose}; lengthen it, or "
            "choose another scorer"
        )
    if chunk_length is None:
        return
    check_chunk_length(chunk_length, n_protected)
    rest = n % chunk_length
    if 0 < rest <= n_protected:
        raise ValueError(
            f"{what} has {n} tokens, so its last chunk of {chunk_length} has only {rest}, and more than "
            f"{n_protected} are needed; choose another chunk length, or lengthen or shorten the prompt"
        )


def check_table(n: int, press: Any, chunk_length: int | None, what: str, scorer: str = "") -> None:
    """Raise ValueError unless a press can score a context of `n` tokens, or each of its chunks.

    Also if the last, shorter chunk would protect other rows than the others do (LagKV).
    """
    length = min(n, chunk_length or n)
    protected = protection(press, length)
    check_length(n, sum(protected.values()), chunk_length, what, scorer)
    rest = n % length
    if rest and protection(press, rest) != protected:
        raise ValueError(
            f"{what} has {n} tokens, and {type(press).__name__} protects other rows in a last chunk of {rest} than "
            f"in one of {length}; choose another chunk length, or score the whole context"
        )


def check_attention(model: Any, name: str = "") -> None:
    """Raise ValueError unless a transformers model runs sdpa attention."""
    running = model.config._attn_implementation
    if running != "sdpa":
        raise ValueError(
            f"model {name or type(model).__name__!r} runs {running} attention, and scorers and presses were "
            'checked with sdpa; call model.set_attn_implementation("sdpa") first'
        )


def one_context(encoded: Any) -> Any:
    """Return the token ids int[1, n] of one context without padding.

    Parameters
    ----------
    encoded : int[1, n] tensor, or mapping
        Token ids, or what a tokenizer returned with ``return_tensors="pt"``.

    Raises
    ------
    ValueError
        If it is more than one context, empty or padded: presses ignore the attention mask.
    """
    mask = None
    if isinstance(encoded, Mapping):
        encoded, mask = encoded["input_ids"], encoded.get("attention_mask")
    shape = list(getattr(encoded, "shape", ()))
    if len(shape) != 2 or shape[0] != 1 or not shape[1]:
        raise ValueError(f"one context at a time is prefilled, as token ids [1, n], got shape {shape}")
    if mask is not None and not bool(mask.bool().all()):
        raise ValueError(
            "the attention mask has zeros; presses ignore it, so pass each context without padding"
        )
    return encoded

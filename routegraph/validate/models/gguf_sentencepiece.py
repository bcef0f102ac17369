"""A SentencePiece vocabulary (Llama-2, Mistral, Phi-3, Gemma) as a fast tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Token types in a GGUF vocabulary whose pieces may be merged: ordinary ones, and what a user added.
MERGED = (1, 4)


def sentencepiece(
    tokens: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    unknown: int | None,
    space_prefix: bool,
) -> Any:
    """Return the tokenizer of a SentencePiece vocabulary of kind BPE.

    SentencePiece joins the neighbours whose piece has the highest score, again and again; merges in the order of their
    pieces' scores do the same. What has no piece is spelled in bytes.

    Parameters
    ----------
    tokens : sequence of str
        The pieces, a blank written as "▁".
    scores, types : sequences of float and int
        Score and type of each piece.
    unknown : int, optional
        Id of the unknown piece.
    space_prefix : bool
        Whether a blank is put before a text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    model = models.BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges(tokens, scores, types),
        unk_token=None if unknown is None else tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    blanks = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), blanks] if space_prefix else [blanks]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(content=" ", left=1)] if space_prefix else steps
    )
    return tokenizer


def merges(tokens: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """Return every pair of pieces that makes another piece, the highest score of what they make first."""
    pieces = {
        token: (-score, number)
        for number, (token, score, kind) in enumerate(zip(tokens, scores, types, strict=True))
        if kind in MERGED
    }
    found = [
        (*order, cut, token)
        for token, order in pieces.items()
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    return [(token[:cut], token[cut:]) for _, _, cut, token in sorted(found)]

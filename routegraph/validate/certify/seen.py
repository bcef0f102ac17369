"""A prompt as the tokens that a model is given: what a dial must know of a context it has no text of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.measure.item import Item
from routegraph.validate.models.load import Loaded
from routegraph.validate.models.quiet import quiet
from routegraph.validate.plan import Plan
from routegraph.validate.prompts.asking import frame
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import UnfitPromptError, tokenise

Ids = NDArray[np.int64]


def seen_item(model: Loaded, ids: Ids, plan: Plan, prompt: Prompt) -> Item:
    """Return a prompt whose context is tokens, checked as one that is text.

    Parameters
    ----------
    model : Loaded
    ids : int64[n]
        Tokens of the context, as the model is given them.
    plan : Plan
        How prompts are asked.
    prompt : Prompt
        What will be asked; its context is passed over.

    Raises
    ------
    ValueError
        If nothing is asked, the context does not begin as contexts do that are asked like this (a chat template, a
        first token), the question does not stand in it where it must, or the model cannot be asked about it.
    """
    if not (prompt.question.strip() or prompt.answer_prefix.strip()):
        raise ValueError(
            "the press is not told what will be asked, which its ratio depends on; give press(question=...), or call "
            "asks(question) on the press"
        )
    chat = plan.chats(model)
    ids_alone = _without_question(model, ids, plan, prompt, chat) if plan.question_aware else ids
    text, start = _own_text(model, ids_alone, plan, chat)
    _check_first(model, ids, chat)
    asked = tokenise(model, replace(prompt, context=text[start:]), plan)
    if not np.array_equal(asked.context, ids):
        # Cut short, or tokens that their own text is not tokenised into: places are found piece by piece.
        offsets = _places(model.tokenizer, text, ids)
        asked = replace(asked, text=text, context=ids, offsets=offsets, start=start)
    return Item.of(model, replace(prompt, context=text[start:]), asked, plan)


def _check_first(model: Loaded, ids: Ids, chat: bool) -> None:
    """Raise ValueError where a context that is no chat begins with another special token than texts do."""
    if chat:
        return
    with quiet():
        text = list(model.tokenizer("a").input_ids)
    wanted, found = (_leading(model.tokenizer, list(tokens)) for tokens in (text, ids[:8]))
    if wanted != found[: len(wanted)] or (not wanted and found[:1] == [model.tokenizer.bos_token_id]):
        told = [" ".join(model.tokenizer.convert_ids_to_tokens(tokens)) for tokens in (wanted, found)]
        wanted_words, found_words = (repr(one) if one else "no special token" for one in told)
        cure = (
            "tokenise it as the tokenizer does by itself"
            if wanted
            else 'set tokenizer.bos_token = "", which kvpress\'s pipeline puts first'
        )
        raise ValueError(
            f"the context begins with {found_words}, and the dial was tuned on contexts that begin with "
            f"{wanted_words}: {cure}"
        )


def _leading(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Return the special tokens that some tokens begin with, but for the one of unknown words."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    count = next((k for k, token in enumerate(ids) if token not in special), len(ids))
    return [int(token) for token in ids[:count]]


def _without_question(model: Loaded, ids: Ids, plan: Plan, prompt: Prompt, chat: bool) -> Ids:
    """Return a context without the question, which stands at its end where it is tuned question-aware."""
    asked = plan.asked_text(prompt, chat)
    if not asked:
        raise UnfitPromptError(
            "the dial was tuned with the question in the context, and there is no question"
        )
    lead = asked[: len(asked) - len(asked.lstrip())] if chat else ""
    with quiet():
        added = model.tokenizer(asked[len(lead) :] + lead, add_special_tokens=False).input_ids
    if list(ids[-len(added) :]) != list(added):
        raise ValueError(
            "the dial was tuned with the question in the context, and the context does not end with it; "
            "Dial.inputs says how it is put"
        )
    return ids[: -len(added)]


def _own_text(model: Loaded, ids: Ids, plan: Plan, chat: bool) -> tuple[str, int]:
    """Return what a context's tokens say, and where the prompt's own text begins in it; ValueError as `seen_item`."""
    with quiet():
        text = str(model.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if chat:
        head = frame(model, plan.system).head
        if not text.startswith(head):
            raise ValueError(
                "the dial was tuned on prompts put through the chat template, and the context does not begin as the "
                f"template does ({head!r}); Dial.inputs says how it is put"
            )
        lead = plan.asked_text(Prompt("", "", question="?"), chat)
        lead = lead[: len(lead) - len(lead.lstrip())]
        return text.removesuffix(lead) if lead else text, len(head)
    if getattr(model.tokenizer, "chat_template", None):
        head = _head(model)
        if head and text.startswith(head):
            raise ValueError(
                "the dial was tuned on texts without the chat template, and the context went through it; set "
                "tokenizer.chat_template = None, or certify with --chat on"
            )
    special = _leading(model.tokenizer, list(ids[:8]))
    with quiet():
        return text, len(model.tokenizer.decode(special, skip_special_tokens=False)) if special else 0


def _head(model: Loaded) -> str:
    """Return what the chat template puts first; nothing where it cannot be told."""
    try:
        return frame(model).head.strip()
    except ValueError:
        return ""


def _places(tokenizer: Any, text: str, ids: Ids) -> NDArray[np.int64]:
    """Return where each token stands in a text, int64[n, 2]; of one that is not found, nowhere."""
    at, places = 0, []
    with quiet():
        pieces = [tokenizer.decode([token], clean_up_tokenization_spaces=False).strip() for token in ids]
    for piece in pieces:
        # Only white space may lie between; a part of a character is found nowhere.
        found = text.find(piece, at, at + len(piece) + 8) if piece else -1
        if found >= 0:
            places.append((found, found + len(piece)))
            at = found + len(piece)
        else:
            places.append((at, at))
    return np.array(places, dtype=np.int64).reshape(-1, 2)

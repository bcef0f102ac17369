"""The form that a reader is asked in, in training as in use: one user turn of the chat template."""

from __future__ import annotations

from typing import Any

from routegraph.validate.prompts.asking import INSTRUCTION


def user_turn(context: str, question: str) -> str:
    """Return what the user says: the context, a blank line, the question, the instruction."""
    return f"{context}\n\nQuestion: {question}\n{INSTRUCTION}"


def chat(tokenizer: Any, context: str, question: str) -> list[int]:
    """Return the tokens of a question over a context, up to where the reply begins."""
    turn = [{"role": "user", "content": user_turn(context, question)}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(text, add_special_tokens=False))

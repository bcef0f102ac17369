"""A tiny LLaMA with a chat template, in a folder, for what trains or loads adapters."""

from pathlib import Path

from tests.helpers.models import tiny_network
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer():
    """Return a tokenizer with a chat template, apart from the one that tests share."""
    made = byte_level_tokenizer().__class__(
        tokenizer_object=byte_level_tokenizer().backend_tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )
    made.chat_template = TEMPLATE
    return made


def base_folder(folder: Path, seed: int = 0) -> Path:
    """Save a random LLaMA and its tokenizer, and return where."""
    tiny_network("llama", VOCABULARY, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder

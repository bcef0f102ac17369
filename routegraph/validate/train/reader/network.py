"""The network that is trained: SmolLM2 in bfloat16, held fixed, with a LoRA adapter of peft.

peft makes the adapter; what runs forward is written here, since on a CPU its casts and torch's attention with a mask
take most of the time. Matrices of the adapter are kept in float32 and multiplied in bfloat16.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from routegraph.validate.train.reader.batch import Packed

if TYPE_CHECKING:
    from torch import Tensor

#: The matrices that are adapted.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ATTENTION = "routegraph_packed"


def check_peft() -> None:
    """Raise ValueError, saying what to install, unless peft is there."""
    if importlib.util.find_spec("peft") is None:
        raise ValueError("training a reader needs peft; install it with: pip install 'routegraph[train]'")


def adapt(network: Any, rank: int, alpha: float, seed: int) -> Any:
    """Return a transformers LLaMA with an adapter of peft, whose matrices alone are trained."""
    import peft
    import torch
    from peft.tuners.lora import Linear
    from transformers import AttentionInterface

    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    AttentionInterface.register(_ATTENTION, attend)
    network.set_attn_implementation(_ATTENTION)
    adapted = peft.get_peft_model(network, config)
    for module in adapted.modules():
        if isinstance(module, Linear):
            module.forward = partial(_linear, module)
    return adapted


def _linear(module: Any, x: Tensor) -> Tensor:
    """Return what a layer with an adapter gives, W x + s B A x, in the type of x."""
    import torch

    (name,) = module.active_adapters
    down, up = module.lora_A[name].weight.to(x.dtype), module.lora_B[name].weight.to(x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    base = torch.nn.functional.linear(rows, module.base_layer.weight)
    out = torch.addmm(base, rows @ down.t(), up.t(), alpha=module.scaling[name])
    return out.view(*x.shape[:-1], -1)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return the attention of one sequence under a mask that is added, for transformers' attention interface."""
    import torch

    heads, n, width = query.shape[1:]
    groups = key.shape[1]
    rows = (query[0] * scaling).reshape(groups, -1, width)
    scores = torch.bmm(rows, key[0].transpose(1, 2)).view(heads, n, n)
    weights = torch.softmax(scores + attention_mask[0], dim=-1).view(groups, -1, n)
    return torch.bmm(weights, value[0]).view(heads, n, width).transpose(0, 1)[None], None


@dataclass(frozen=True)
class Score:
    """Loss over the reply tokens of a sequence, and which questions got every token of their reply right."""

    loss: Tensor
    right: list[bool]


def score(network: Any, packed: Packed) -> Score:
    """Return what an adapted network makes of a sequence."""
    import torch

    plain = network.get_base_model()
    device, dtype = plain.device, plain.dtype
    targets = torch.from_numpy(packed.targets).to(device)
    places = (targets >= 0).nonzero()[:, 0]
    unseen = torch.from_numpy(~packed.mask()).to(device)
    mask = torch.zeros(unseen.shape, dtype=dtype, device=device).masked_fill_(unseen, float("-inf"))
    hidden = plain.model(
        input_ids=torch.from_numpy(packed.ids).to(device)[None],
        position_ids=torch.from_numpy(packed.positions).to(device)[None],
        attention_mask=mask[None, None],
        use_cache=False,
    ).last_hidden_state[0]
    logits = plain.lm_head(hidden[places]).float()
    wanted = targets[places]
    loss = torch.nn.functional.cross_entropy(logits, wanted)
    hit = logits.argmax(-1) == wanted
    branch = torch.from_numpy(packed.branch).to(device)[places]
    return Score(loss, [bool(hit[branch == number].all()) for number in range(int(packed.branch.max()) + 1)])

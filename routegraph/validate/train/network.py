"""What is trained: small networks of the real families, with a few heads that start out as something useful.

The word-level tasks are learnt by induction: a row must know the words before it, and a question must find the row
whose words are alike. Left to chance, either takes far longer to appear than all the rest. So some heads begin as
previous-token heads, made from the rotary embedding alone, and one begins as a head that looks for its own content.
All of them are trained on like any other weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from routegraph.validate.models.load import quiet
from routegraph.validate.models.sources import check_installed
from routegraph.validate.tasks.lexicon import BOS, PAD, STOP, VOCABULARY
from routegraph.validate.tasks.worlds import Ids

#: Names of what can be trained, and the family of transformers behind each.
FAMILIES = {"llama-tiny": "llama", "qwen-tiny": "qwen2"}

#: Width of a head, query heads and KV heads, and layers of the block that is trained first and then repeated.
HEAD_DIM, N_QUERY_HEADS, N_HEADS, BLOCK = 32, 4, 2, 2

#: Width of a row's state and number of layers, unless other ones are asked for.
WIDTH, LAYERS = 64, 2 * BLOCK

_POSITIONS = 512

#: Weights of RoPE's fastest pairs in a previous-token head, whose cosines add up to one peak, and of the slowest
#: pair, which takes as much off everywhere: the "constant" varies from row to row and multiplies all that is left.
#: (Without it, the copy's heads looked back with 0.4 of their weight, and two hops stayed half learnt for long.)
_PEAK, _BASE = (16.0, 12.0, 8.0, 4.0), 30.0

#: Spread of the embeddings, and length of what all of them have in common relative to it.
_SPREAD = 0.2

#: How far output weights are scaled down at the start, and MLP outputs of the repeated block.
_QUIET = 0.3

#: How far what the repeated block's previous-token heads write is scaled up.
_LOUD = 2.0


def make(family: str, n_layers: int, width: int = WIDTH) -> Any:
    """Return an untrained network of `FAMILIES` in training mode; its MLPs are twice as wide as its rows.

    Raises
    ------
    ValueError
        If the family is unknown, or something needed is not installed.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown model to train {family!r}; choose from: {', '.join(FAMILIES)}")
    check_trainable()
    import torch
    import transformers

    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    }[FAMILIES[family]]
    config = config_class(
        vocab_size=-(-len(VOCABULARY) // 16) * 16,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=N_QUERY_HEADS,
        num_key_value_heads=N_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=_POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=STOP,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        attn_implementation="sdpa",
    )
    # The weights that transformers draws are replaced; nobody else's random numbers shall move for it.
    with quiet(), torch.random.fork_rng(devices=[]):
        return model_class(config).train()


def check_trainable() -> None:
    """Raise ValueError, saying what to install, unless models can be trained here."""
    check_installed()
    import torch

    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"training needs torch 2.9 or later for its Muon optimiser, got {torch.__version__}")


def build(family: str, seed: int, width: int = WIDTH) -> Any:
    """Return a network of one block, ready to be trained; the same one for the same seed."""
    import torch

    network = make(family, BLOCK, width)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _scatter(network, draw)
        # What all embeddings have in common is the constant that previous-token heads are made of.
        common = torch.randn(width, generator=draw)
        common /= common.norm()
        embedding = network.model.embed_tokens.weight
        embedding.normal_(0, _SPREAD, generator=draw)
        embedding += common * _SPREAD * math.sqrt(width)
        lower, upper = (layer.self_attn for layer in network.model.layers)
        _look_back(network, lower, common / math.sqrt(width / 2))
        _look_alike(upper, 1)
    return network


def stack(network: Any, family: str, sample: Ids, n_layers: int = LAYERS) -> Any:
    """Return a deeper network: the block, on top of it the block again, and then layers that begin by writing little.

    MLPs of the copy write less at first. Its first layer reads what the block wrote, in which the copied
    previous-token heads would find nothing they know; so these are made anew, from the direction that is most
    nearly constant over the rows of a sample. Its second layer gets same-content heads again.

    Parameters
    ----------
    network : Any
        As `build` returns it.
    family : str
    sample : int64[n, n_tokens]
        Contexts with questions.
    n_layers : int
        Of the deeper network, at least twice the block's.
    """
    import torch

    width = network.config.hidden_size
    deeper = make(family, n_layers, width)
    weights = network.state_dict()
    with torch.no_grad():
        for layer in deeper.model.layers[2 * BLOCK :]:
            _scatter(layer, torch.Generator().manual_seed(n_layers))
        for name, weight in deeper.state_dict().items():
            number = int(name.split(".")[2]) if ".layers." in name else 0
            if number >= 2 * BLOCK:
                continue
            weight.copy_(weights[name.replace(f".layers.{number}.", f".layers.{number % BLOCK}.")])
            if number >= BLOCK and "down_proj" in name:
                weight.mul_(_QUIET)
        first = deeper.model.layers[BLOCK]
        with tapped(first.input_layernorm) as seen:
            deeper.model(input_ids=torch.from_numpy(sample), use_cache=False)
        rows = seen[0].reshape(-1, width)
        square = rows.T @ rows / len(rows)
        ridge = 1e-2 * square.diag().mean() * torch.eye(width)
        constant = torch.linalg.solve(square + ridge, rows.mean(dim=0))
        _look_back(deeper, first.self_attn, constant / (rows @ constant).mean())
        first.self_attn.o_proj.weight[:, : 2 * HEAD_DIM] *= _LOUD
        # "Answer:" and the value asked for have the same relation and entity behind them.
        for head in range(N_HEADS):
            _look_alike(deeper.model.layers[BLOCK + 1].self_attn, head)
    return deeper


def _scatter(module: Any, draw: Any) -> None:
    """Draw a module's matrices, but for embeddings; what writes into the rows begins small."""
    for name, weight in module.named_parameters():
        if weight.ndim == 2 and "embed" not in name:
            weight.normal_(0, weight.shape[1] ** -0.5, generator=draw)
            if "o_proj" in name or "down_proj" in name:
                weight.mul_(_QUIET)


@contextmanager
def tapped(module: Any) -> Iterator[list[Any]]:
    """Collect what a module returns inside a with block: yields the list of its outputs."""
    seen: list[Any] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    with module.register_forward_hook(keep):
        yield seen


@dataclass(frozen=True, eq=False)
class Optimisers:
    """Muon for the matrices, AdamW for embeddings, norms and biases; AdamW alone does not get anywhere.

    Attributes
    ----------
    muon, adam : torch optimisers
    """

    muon: Any
    adam: Any

    @classmethod
    def of(cls, network: Any) -> Optimisers:
        """Return fresh optimisers of a network."""
        import torch

        matrices: list[Any] = []
        others: list[Any] = []
        for name, weight in network.named_parameters():
            (matrices if weight.ndim == 2 and "embed" not in name else others).append(weight)
        return cls(
            torch.optim.Muon(matrices, lr=1.0, weight_decay=0.0, momentum=0.95, adjust_lr_fn="original"),
            torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
        )

    def step(self, muon_rate: float, adam_rate: float) -> None:
        """Move the weights against their gradients, at the given learning rates."""
        for optimiser, rate in ((self.muon, muon_rate), (self.adam, adam_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()

    def state(self) -> list[Any]:
        """Return what `load` takes."""
        return [self.muon.state_dict(), self.adam.state_dict()]

    def load(self, state: list[Any]) -> None:
        """Go on from an earlier `state`."""
        self.muon.load_state_dict(state[0])
        self.adam.load_state_dict(state[1])


def _look_back(network: Any, attention: Any, constant: Any) -> None:
    """Make query heads 0 and 1 (both of KV head 0) read the row one and two places before.

    `constant` is a direction whose product with every row that the layer reads is about 1. Keys and queries are then
    the same in every row before rotation, and with pairs of frequencies w turned by w * offset in the queries the
    score of a key at distance d is a sum of cos(w * (d - offset)), largest at the offset.
    """
    import torch

    speeds, half = network.model.rotary_emb.inv_freq, HEAD_DIM // 2
    key = torch.zeros(HEAD_DIM)
    for pair, weight in (*enumerate(_PEAK), (half - 1, _BASE)):
        key[pair] = math.sqrt(weight * math.sqrt(HEAD_DIM))
    attention.k_proj.weight[:HEAD_DIM] = torch.outer(key, constant)
    if attention.k_proj.bias is not None:
        attention.k_proj.bias[:HEAD_DIM] = 0
        attention.q_proj.bias[: 2 * HEAD_DIM] = 0
    for head, offset in enumerate((1, 2)):
        query = torch.zeros(HEAD_DIM)
        for pair in range(len(_PEAK)):
            turn = float(speeds[pair]) * offset
            query[pair] = key[pair] * math.cos(turn)
            query[pair + half] = -key[pair] * math.sin(turn)
        query[half - 1] = -key[half - 1]
        attention.q_proj.weight[head * HEAD_DIM : (head + 1) * HEAD_DIM] = torch.outer(query, constant)


def _look_alike(attention: Any, head: int) -> None:
    """Make the first query head of a KV head read the rows that are most like its own: query and key weights agree."""
    query = head * (N_QUERY_HEADS // N_HEADS) * HEAD_DIM
    mine, theirs = slice(query, query + HEAD_DIM), slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    attention.q_proj.weight[mine] = attention.k_proj.weight[theirs]
    if attention.q_proj.bias is not None:
        attention.q_proj.bias[mine] = attention.k_proj.bias[theirs]

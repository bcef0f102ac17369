"""A real Qwen asked through its chat template: the replies of transformers, and under eviction those of kvpress."""

import numpy as np
import pytest

from routegraph.validate.decoding.decode import decode
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.reference import patched_attention, pipeline_of
from routegraph.validate.prompts.asking import INSTRUCTION, Asks
from routegraph.validate.prompts.prompt import bundled_prompts
from routegraph.validate.prompts.tokens import tokenise

pytestmark = pytest.mark.verify

STEPS = 12
PRESSES = {"topk": "ExpectedAttentionPress", "snapkv": "SnapKVPress", "adakv": None}
RATIOS = (0.4, 0.7)


@pytest.fixture(scope="module")
def qwen():
    import torch

    torch.set_num_threads(1)
    return load("qwen2.5-coder-0.5b")


def asked_text(prompt):
    return f"Question: {prompt.question}\n{INSTRUCTION}"


def test_chat_against_generate(record, qwen):
    """20 prompts, from the text as apply_chat_template renders it, tokenised in one piece."""
    import torch

    same_tokens, same_replies = [], []
    for prompt in bundled_prompts()[:20]:
        asked = tokenise(qwen, prompt, Asks(chat="on"))
        ids = qwen.tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{prompt.context}\n\n{asked_text(prompt)}"}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
        )
        kept = np.ones((1, qwen.n_layers, qwen.n_heads, len(asked.context)), dtype=bool)
        found = decode(qwen, asked.context, asked.question, kept, STEPS).token_ids[0]
        with torch.no_grad():
            out = qwen.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=STEPS, do_sample=False
            )
        same_tokens.append([*asked.context, *asked.question] == ids[0].tolist())
        same_replies.append(found.tolist() == out[0, ids.shape[1] :].tolist())
    source = "tokenizer.apply_chat_template + model.generate, 20 prompts"
    record.value("same prompt tokens", np.mean(same_tokens), None, 1, 20, source)
    record.value("same replies", np.mean(same_replies), None, 1, 20, source)
    assert all(same_tokens)
    assert all(same_replies)


def test_chat_against_kvpress(record, qwen):
    """Five prompts, three presses, two ratios."""
    prompts = bundled_prompts()[:5]
    measured = measure(
        qwen, prompts, policy_names=list(PRESSES), ratios=RATIOS, max_new_tokens=STEPS, chat="on"
    )
    kv = kvpress()
    pipeline = pipeline_of(qwen)
    same = []
    for i, prompt in enumerate(prompts):
        told = iter(measured.replies[i])
        for name, press in PRESSES.items():
            next(told)
            for ratio in RATIOS:
                made = (
                    getattr(kv, press)(compression_ratio=ratio)
                    if press
                    else kv.AdaKVPress(kv.ExpectedAttentionPress(compression_ratio=ratio))
                )
                with patched_attention():  # what AdaKV masks is read by kvpress's attention functions alone
                    answer = pipeline(
                        f"{prompt.context}\n\n",
                        question=asked_text(prompt),
                        press=made,
                        max_new_tokens=STEPS,
                    )["answer"]
                same.append((answer == next(told), prompt.id, name, ratio))
    source = "kvpress pipeline, 5 prompts, topk, snapkv and adakv at .4 and .7"
    record.value("same replies", np.mean([row[0] for row in same]), None, 1, len(same), source)
    assert all(row[0] for row in same), [row for row in same if not row[0]]

"""Prompts through chat templates: the same tokens as transformers' own, whatever is put around the text."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from routegraph.validate.decoding.decode import decode
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import Loaded
from routegraph.validate.plan import Plan
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.reference import pipeline_of
from routegraph.validate.prompts.asking import INSTRUCTED, INSTRUCTION, Asks, frame
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import UnfitPromptError, read_context, tokenise
from routegraph.validate.tasks import load_task, tasks

#: As Qwen's: a system message of its own where none is given.
CHATML = (
    "{% if messages[0].role != 'system' %}<|start|>system\nYou help.<|end|>\n{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
#: As LLaMA-3's: white space is taken off, and the beginning of a text stands in the template.
STRIPPING = (
    "<|begin|>{% for m in messages %}<|start|>{{ m.role }}\n\n{{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n\n{% endif %}"
)
#: As Gemma's.
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + CHATML
)
SHOUTING = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
PROMPT = Prompt(
    "p",
    " Ada lives in Paris, and Bob in a café in Rome. They write to each other.",
    "Where does Ada live?",
    "Paris",
    "Answer: Ada lives in",
    evidence=((1, 20),),
    answer_spans=((14, 19),),
)


def chatting(model: Loaded, template: str = CHATML, name: str = "tiny-instruct") -> Loaded:
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = template
    return replace(model, tokenizer=tokenizer, name=name)


def whole(model: Loaded, text: str, system: str = "") -> Any:
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": text}]
    return model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


class TestFrame:
    def test_what_stands_around(self, tiny: Loaded) -> None:
        found = frame(chatting(tiny))
        assert found.head == "<|start|>system\nYou help.<|end|>\n<|start|>user\n"
        assert (found.tail, found.strips) == ("<|end|>\n<|start|>assistant\n", False)
        assert frame(chatting(tiny), "Be brief.").head.startswith("<|start|>system\nBe brief.<|end|>\n")
        assert frame(chatting(tiny, STRIPPING)).strips

    @pytest.mark.parametrize("system", ["", "Be brief."])
    @pytest.mark.parametrize("template", [CHATML, STRIPPING])
    @pytest.mark.parametrize("aware", [False, True])
    def test_tokens_are_those_of_the_template(
        self, tiny: Loaded, template: str, system: str, aware: bool
    ) -> None:
        model = chatting(tiny, template)
        asked = tokenise(model, PROMPT, Asks(chat="on", system=system, question_aware=aware))
        question = "Question: Where does Ada live?"
        text = f"{PROMPT.context}\n\n" + f"{question}\n\n" * aware + question
        expected = whole(model, text, system)
        assert model.tokenizer.decode([*asked.context, *asked.question]) == expected
        joint = model.tokenizer.encode(expected, add_special_tokens=False)
        if not aware:
            assert [*asked.context, *asked.question] == joint
        assert model.tokenizer.decode(asked.context[asked.positions(PROMPT.answer_spans)]).strip() == "Paris"
        assert model.tokenizer.decode(asked.answer) == "Paris"
        context = read_context(model, PROMPT, Asks(chat="on", system=system, question_aware=aware))
        assert context.token_ids.tolist() == asked.context.tolist()
        if aware:
            assert context.question is not None
            assert model.tokenizer.decode(context.token_ids[context.question]).strip() == question
        else:
            assert context.question is None

    def test_templates_that_cannot_be_used(self, tiny: Loaded) -> None:
        with pytest.raises(ValueError, match="with a system message: System role not supported"):
            frame(chatting(tiny, NO_SYSTEM), "Be brief.")
        with pytest.raises(ValueError, match="'tiny-instruct' changes the text it is given"):
            frame(chatting(tiny, SHOUTING))

    def test_a_tokenizer_that_ends_each_text(self, tiny: Loaded) -> None:
        from tokenizers import processors

        tokenizer = copy.deepcopy(tiny.tokenizer)
        end = tokenizer.eos_token
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
        )
        model = replace(tiny, tokenizer=tokenizer)
        assert tokenizer(PROMPT.context).input_ids[-1] == tokenizer.eos_token_id
        assert tokenise(model, PROMPT).context.tolist() == tokenise(tiny, PROMPT).context.tolist()


class TestAsks:
    def test_auto(self, tiny: Loaded) -> None:
        assert not Asks().chats(tiny)
        assert Asks().chats(chatting(tiny))
        assert not Asks().chats(chatting(tiny, name="Qwen3-0.6B-Base"))
        assert Asks().chats(chatting(tiny, name="database-chat"))
        assert not Asks().chats(chatting(tiny, name="smollm2"))
        assert Asks(chat="on").chats(chatting(tiny, name="smollm2"))
        assert Asks(system="Be brief.").chats(chatting(tiny, name="smollm2"))
        assert not Asks(chat="off").chats(chatting(tiny))

    def test_what_cannot_be(self, tiny: Loaded) -> None:
        with pytest.raises(ValueError, match="model 'tiny' has no chat template; choose --chat off or auto"):
            Asks(chat="on").chats(tiny)
        with pytest.raises(
            ValueError, match="a system message needs a chat template, and model 'tiny' has none"
        ):
            Asks(system="Be brief.").chats(tiny)
        with pytest.raises(ValueError, match="is asked without it: --chat off"):
            Asks(system="Be brief.", chat="off").chats(chatting(tiny))
        with pytest.raises(
            ValueError, match=r"ask must hold \{question\}, which stands for the question, got 'x'"
        ):
            Asks(ask="x")
        with pytest.raises(ValueError, match="ask must hold"):
            Plan(["topk"], [0.5], ask="x")
        with pytest.raises(ValueError, match="unknown chat 'perhaps'; choose from: auto, on, off"):
            Asks(chat="perhaps")
        with pytest.raises(UnfitPromptError, match="has no question"):
            tokenise(tiny, replace(PROMPT, question=""), Asks(question_aware=True))

    def test_words_of_ones_own(self, tiny: Loaded) -> None:
        def text(prompt: Prompt = PROMPT, model: Loaded = tiny, **given: Any) -> str:
            return str(model.tokenizer.decode(tokenise(model, prompt, Asks(**given)).question))

        chat, end = chatting(tiny), "<|end|>\n<|start|>assistant\n"
        assert text() == "\nQuestion: Where does Ada live?\nAnswer: Ada lives in"
        assert text(ask=" Q {question} A") == " Q Where does Ada live? A\nAnswer: Ada lives in"
        assert text(prefix="off") == "\nQuestion: Where does Ada live?\nAnswer:"
        assert text(model=chat, ask="{question}!") == f"Where does Ada live?!{end}"
        assert text(model=chat, prefix="on") == f"Question: Where does Ada live?{end}Answer: Ada lives in"
        assert text(replace(PROMPT, question=""), chat) == f"{end}Answer: Ada lives in"
        assert (
            text(replace(PROMPT, task="base"), chat) == f"Question: Where does Ada live?\n{INSTRUCTION}{end}"
        )
        assert INSTRUCTION not in text(replace(PROMPT, task="base"))

    def test_the_tasks_that_come_with_an_instruction(self) -> None:
        short = {name for name in tasks if "grader" not in load_task(name, 1)[0].to_dict()}
        ours = {name for name in short if not name.startswith("words_")} | {load_task("bundled", 1)[0].task}
        assert ours == INSTRUCTED

    def test_what_a_result_keeps(self, tiny: Loaded) -> None:
        assert Asks().asking(tiny) == {"question_aware": False}  # as in earlier versions
        kept = Asks(system="Be brief.", question_aware=True).asking(chatting(tiny))
        assert kept == {"question_aware": True, "chat": True, "system": "Be brief.", "asked_again": True}


class TestReplies:
    """Of an untrained model whose replies are nonsense, but always the same nonsense."""

    @pytest.mark.parametrize("template", [CHATML, STRIPPING])
    def test_they_are_those_of_generate(self, tiny: Loaded, template: str) -> None:
        model = chatting(tiny, template)
        for prompt in load_task("bundled", 20):
            asked = tokenise(model, prompt, Asks())
            kept = np.ones((1, model.n_layers, model.n_heads, len(asked.context)), dtype=bool)
            found = decode(model, asked.context, asked.question, kept, 5)
            ids = model.tokenizer.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": f"{prompt.context}\n\nQuestion: {prompt.question}\n{INSTRUCTION}",
                    }
                ],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=False,
            )
            out = model.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, pad_token_id=0
            )
            assert found.token_ids[0].tolist() == out[0, ids.shape[1] :].tolist()

    def test_under_eviction_they_are_those_of_kvpress(self, tiny: Loaded) -> None:
        model = chatting(tiny)
        found = measure(
            model,
            load_task("bundled", 3),
            policy_names=["topk", "topk@tova"],
            ratios=[0.5, 0.8],
            max_new_tokens=6,
        )
        pipeline = pipeline_of(model)
        presses = {"topk": kvpress().ExpectedAttentionPress, "topk@tova": kvpress().TOVAPress}
        for i, prompt in enumerate(load_task("bundled", 3)):
            told = iter(found.replies[i])
            for name, press in presses.items():
                for ratio in (0.0, 0.5, 0.8):
                    with torch.no_grad():
                        answer = pipeline(
                            f"{prompt.context}\n\n",
                            question=f"Question: {prompt.question}\n{INSTRUCTION}",
                            press=press(compression_ratio=ratio),
                            max_new_tokens=6,
                        )["answer"]
                    assert next(told) == answer, (name, ratio)

    def test_stop_and_cut(self, tiny: Loaded) -> None:
        asked = tokenise(tiny, PROMPT)
        kept = np.ones((2, tiny.n_layers, tiny.n_heads, len(asked.context)), dtype=bool)
        kept[1, ..., 3:-3] = False
        free = decode(tiny, asked.context, asked.question, kept, 8)
        assert free.cut.all()
        mark = free.texts[0][3:5]
        found = decode(tiny, asked.context, asked.question, kept, 8, stop=mark)
        assert found.texts[0] == free.texts[0].partition(mark)[0]
        assert len(found.token_ids[0]) < 8
        assert found.cut.tolist() == [False, mark not in free.texts[1]]
        measured = measure(tiny, [PROMPT], policy_names=["topk"], ratios=[0.5], max_new_tokens=8, stop=mark)
        assert measured.replies[0][0] == found.texts[0]
        assert measured.cells[0]["cut"][0] == 0
        assert measured.settings["stop"] == mark
        assert Plan(["topk"], [0.5], stop="a\\nb").stop == "a\nb"

"""The dial: a certified threshold, and what turns it into a compression ratio for each prompt."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph._version import __version__
from routegraph.schema import (
    anything,
    boolean,
    checked,
    listing,
    maybe,
    read_document,
    real,
    record,
    table_of,
    text,
    whole,
)
from routegraph.validate.certify.result import FORMAT
from routegraph.validate.measure.item import Item
from routegraph.validate.models.load import Loaded, fingerprint
from routegraph.validate.plan import Plan
from routegraph.validate.predict.forecast import dialled
from routegraph.validate.predict.result import from_cells
from routegraph.validate.predict.run import predict_item, without_answer
from routegraph.validate.presses.deployed import check_deployable
from routegraph.validate.prompts.asking import frame
from routegraph.validate.prompts.prompt import Prompt

if TYPE_CHECKING:
    from routegraph.validate.certify.press import DialPress


@dataclass(frozen=True, eq=False)
class Dial:
    """A certified dial: for each prompt the largest ratio up to which its reply loses no more than a threshold.

    Attributes
    ----------
    policy : str
        Method that evicts.
    threshold : float
        Share of its support, or likelihood where ratios are tried, that a reply may lose.
    ratios : tuple of float
        Compression ratios that are tried, the first one 0.
    model, weights : str
        Name of the model that it was tuned for, and the digest of its weights.
    asked : mapping
        How prompts were asked: question_aware, chat, ask, prefix, system, stop, max_new_tokens, chunk_length, seed,
        dtype; what is not there is as by default.
    risk, confidence : float
        At most this share of prompts breaks, with this confidence.
    against : str
        What counts as breaking: "gold" or "own".
    prompts : int
        How many prompts it was certified on.
    version : str
        Of routegraph.
    predicted : tuple of float
        Ratios that were predicted; empty: those that are tried.
    """

    policy: str
    threshold: float
    ratios: tuple[float, ...]
    model: str
    weights: str
    asked: Mapping[str, Any]
    risk: float
    confidence: float
    against: str
    prompts: int
    version: str = __version__
    predicted: tuple[float, ...] = ()

    @property
    def grid(self) -> tuple[float, ...]:
        """Ratios that were predicted, of which the dial takes `ratios`; with tries, all of them matter."""
        return self.predicted or self.ratios

    @property
    def tries(self) -> int:
        """How many ratios are tried, as `predict` was told."""
        return int(self.asked.get("tries", 0))

    @property
    def plan(self) -> Plan:
        """How prompts are asked, as a plan; ValueError where the policy is not registered here, or another file's."""
        told = self.asked
        plan = Plan(
            [self.policy],
            self.grid,
            question_aware=bool(told.get("question_aware")),
            chat="on" if told.get("chat") else "off",
            **{
                name: told[name]
                for name in ("system", "ask", "prefix", "stop", "max_new_tokens", "chunk_length", "seed")
                if name in told
            },
        )
        if plan.loaded_files() != dict(told.get("plugins", {})):
            names = ", ".join(map(repr, {**told.get("plugins", {}), **plan.loaded_files()}))
            raise ValueError(
                f"the dial was tuned with another text of {names}; certify anew, or load that text"
            )
        return plan

    def check_model(self, model: Loaded) -> None:
        """Raise ValueError unless a model is the one that the dial was tuned for, by the digest of its weights."""
        if fingerprint(model) != self.weights:
            kind = str(model.model.dtype).removeprefix("torch.")
            raise ValueError(
                f"the dial was tuned for model {self.model!r} in {self.asked.get('dtype', 'float32')}, and this one "
                f"({kind}) has other weights; certify a dial for it, or load the model that it is for"
            )

    def ratio(self, model: Loaded, prompt: Prompt) -> float:
        """Work out the ratio of one prompt, from one prefill and the model's own reply with the full cache.

        Parameters
        ----------
        model : Loaded
            That which it was tuned for; see `routegraph.validate.models.load.load`.
        prompt : Prompt
            With a question or an answer prefix; no answer is needed, and none is looked at.

        Returns
        -------
        float
            One of `ratios`; 0 where the reply is empty.

        Raises
        ------
        ValueError
            If it is another model, or the prompt cannot be asked.
        """
        self.check_model(model)
        plan = self.plan
        return self.ratio_of(model, Item.read(model, without_answer(prompt), plan), plan)

    def ratio_of(self, model: Loaded, item: Item, plan: Plan) -> float:
        """Return the ratio of a prompt that is tokens already and was checked; see `ratio`."""
        cell = predict_item(model, item, plan, self.tries)
        found = from_cells({**self.asked, "policies": [self.policy], "ratios": self.grid}, [cell])
        spent = found.spent[0, :, [self.grid.index(ratio) for ratio in self.ratios]].T
        return float(self.ratios[dialled(spent, np.array([self.threshold]))[0, 0]])

    def press(
        self, question: str = "", answer_prefix: str = "", *, task: str = "", tokenizer: Any = None
    ) -> DialPress:
        """Return a kvpress press that decides the ratio of each context from its own prefill.

        kvpress evicts before it is told the question, and the ratio depends on it: the press must be told first, here
        or by ``press.asks(question, answer_prefix)``.

        Parameters
        ----------
        question, answer_prefix : str
            As in a `Prompt`: the question alone, without what puts it.
        task : str
            Of a `Prompt`; in a chat the tasks that come with routegraph are asked with an instruction.
        tokenizer : transformers tokenizer, optional
            That of the model; read from where the model came from by default.

        Raises
        ------
        ValueError
            If kvpress has no press that does what the policy does.
        """
        from routegraph.validate.certify.press import dial_press

        check_deployable(self.policy)
        made: DialPress = dial_press()(self, question, answer_prefix, task, tokenizer)
        return made

    def inputs(self, model: Loaded, prompt: Prompt) -> tuple[str, dict[str, str]]:
        """Return the context, and question and answer prefix, as kvpress's pipeline takes them to ask as it was tuned.

        ``pipeline(context, **asked, press=dial.press(prompt.question, prompt.answer_prefix))``
        """
        plan = self.plan
        chat = plan.chats(model)
        asked, context = plan.asked_text(prompt, chat), prompt.context
        question = asked
        if chat:
            lead = asked[: len(asked) - len(asked.lstrip())]
            question = asked.strip() if frame(model, plan.system).strips else asked.lstrip()
            context += lead
            if plan.question_aware:
                context += asked[len(lead) :] + lead
        elif plan.question_aware:
            context += asked
        return context, {"question": question, "answer_prefix": plan.answer_prefix(prompt, chat)}


_SHARES = listing(real(0, below=1), least=1)
_CERTIFICATE = record(
    {
        "version": text,
        "answer": text,
        "parameters": record(
            {
                "model": text,
                "risk": real(0, 1),
                "confidence": real(0, 1),
                "against": text,
                "prompts": whole(0),
            }
        ),
        "dial": maybe(
            record(
                {"unlike": text},
                {"ratios": _SHARES, "weights": text, "asked": table_of(anything), "predicted": _SHARES},
            )
        ),
        "results": listing(
            record(
                {
                    "dial": boolean,
                    "certified": maybe(real(0, 1)),
                    "policy": text,
                    "mean_ratio": maybe(real(0, 1)),
                }
            )
        ),
    }
)


def load_dial(path: str | os.PathLike[str], policy: str | None = None) -> Dial:
    """Read a certified dial from what ``routegraph certify CELLS --predict DIR --out FILE`` wrote.

    Parameters
    ----------
    path : path
    policy : str, optional
        Whose; by default that of the largest mean ratio. Whichever is chosen keeps the guarantee.

    Raises
    ------
    ValueError
        If it is no certificate, of a version whose shares may differ, or holds no certified dial of that policy.
    """
    name, document = os.fspath(path), _read(path)
    _check_version(name, str(document["version"]))
    checked(
        _CERTIFICATE, document, f"{name!r} is a certificate that lacks or mistakes something; certify again"
    )
    try:
        setup = document["dial"]
        if setup is None:
            raise ValueError(
                f"{name!r} certifies no dial, since nothing predicted was given (certify --predict DIR); what it says: "
                f"{document['answer']}"
            )
        if setup["unlike"]:
            raise ValueError(f"{name!r} holds no dial that can be used: {setup['unlike']}")
        rows = [row for row in document["results"] if row["dial"] and row["certified"] is not None]
        if not rows:
            raise ValueError(f"{name!r} holds no certified dial; what it says: {document['answer']}")
        held = [row["policy"] for row in rows]
        if policy is not None and policy not in held:
            raise ValueError(
                f"{name!r} holds no certified dial of policy {policy!r}; choose from: {', '.join(held)}"
            )
        row = max((row for row in rows if policy in (None, row["policy"])), key=lambda row: row["mean_ratio"])
        told = document["parameters"]
        return Dial(
            policy=str(row["policy"]),
            threshold=float(row["certified"]),
            ratios=tuple(float(ratio) for ratio in setup["ratios"]),
            model=str(told["model"]),
            weights=str(setup["weights"]),
            asked=dict(setup["asked"]),
            risk=float(told["risk"]),
            confidence=float(told["confidence"]),
            against=str(told["against"]),
            prompts=int(told["prompts"]),
            version=str(document["version"]),
            predicted=tuple(float(ratio) for ratio in setup["predicted"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name!r} is a certificate that lacks or mistakes {error}; certify again") from None


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the document of a certificate; ValueError where there is none."""
    if not Path(path).is_file():
        raise ValueError(f"no file {os.fspath(path)!r}")
    try:
        document: Any = read_document(path)
        known = document["format"] == FORMAT and isinstance(document["version"], str)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(
            f"{os.fspath(path)!r} is no certificate of this version of routegraph; give what certify --out wrote"
        )
    return dict(document)


def _check_version(name: str, version: str) -> None:
    """Raise ValueError where shares may be worked out otherwise: another major version, before 1 another minor one."""
    theirs, ours = (re.findall(r"\d+", text)[:2] for text in (version, __version__))
    same = theirs[:1] == ours[:1] and (theirs == ours or (ours[:1] != ["0"] and theirs <= ours))
    if not same:
        raise ValueError(
            f"{name!r} was written by routegraph {version}, and this is {__version__}, which may work support out "
            "otherwise; certify again, or install that version"
        )

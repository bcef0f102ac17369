"""What is asked of every prompt: which policies at which ratios, and how. `measure` and `probe` share it.

What `measure` alone takes is a field of `Measuring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routegraph import plugins
from routegraph.options import check_whole, option
from routegraph.validate.graders import Grader, grader_setting, graders
from routegraph.validate.presses.scorers import CHUNK_LENGTH, SCORERS, checked_tables
from routegraph.validate.prompts.asking import Asks
from routegraph.validate.quantise.precision import CHOICES, Precision

if TYPE_CHECKING:
    from routegraph.validate.eviction import Method
    from routegraph.validate.models.load import Loaded

#: Options that say how replies are judged, which mean nothing where none is.
JUDGING = ("grader",)


@dataclass(frozen=True)
class Plan(Asks):
    """What is asked of every prompt, and how.

    A field made with `option` is a keyword of `measure` and `probe` and an option of the commands of these names; its
    help and range stand here and nowhere else. What evicts is imported when it is first needed: the command line
    asks for the options alone.

    Attributes
    ----------
    policy_names : tuple of str
        See `Method.named`; of a press's class, the method's own name. A policy that draws does so anew for every
        item, from `seed` and the item's id.
    ratios : tuple of float
        Sorted compression ratios in [0, 1).
    keep : tuple of int
        Rows that a slot is to keep, from many to few: each prompt is asked at ratio 0 and at those of its own that
        keep so many, in place of `ratios`.

    Raises
    ------
    ValueError
        If a policy or a ratio is unknown or missing, or a number out of range.
    """

    policy_names: Sequence[str]
    ratios: Sequence[float]
    max_new_tokens: int = option(24, "Tokens after which a reply is cut.", low=1)
    stop: str = option("", "Text before which a reply ends; \\n stands for a new line.", metavar="TEXT")
    chunk_length: int = option(
        CHUNK_LENGTH,
        "Rows of a chunk, for policies that cut chunks; a few less where a last chunk could not be scored.",
        low=1,
    )
    grader: str = option(
        "",
        "Rule that tells which replies are right: contains, prefix, exact, f1:threshold=.5 and others, see "
        "`routegraph list`; by default each prompt's own, else contains.",
    )
    seed: int = option(0, "Seed of all random numbers, those of policies that draw among them.", low=0)
    keep: Sequence[int] = ()

    def __post_init__(self) -> None:
        from routegraph.survival import check_ratios
        from routegraph.validate.eviction import tables_of

        names = dict.fromkeys(self.named(name) for name in self.policy_names)
        object.__setattr__(self, "policy_names", tuple(names))
        object.__setattr__(self, "ratios", tuple(sorted(set(check_ratios(list(self.ratios))))))
        for budget in self.keep:
            check_whole("keep", budget, low=1)
        object.__setattr__(self, "keep", tuple(sorted(set(self.keep), reverse=True)))
        object.__setattr__(self, "stop", self.stop.replace("\\n", "\n"))
        super().__post_init__()
        if self.grader:
            Grader.named(self.grader)
        if not self.policy_names:
            raise ValueError("at least one policy is needed")
        checked_tables(tables_of(self.methods()), self.chunk_length)

    def named(self, policy: str) -> str:
        """Return the one name that results tell a policy by: a press's class is another name of a method."""
        from routegraph.validate.presses.methods import resolve

        return resolve(policy).name

    def ratios_of(self, n_context: int) -> tuple[float, ...]:
        """Return the ratios at which a prompt of so many cache rows is asked, the same number for every prompt."""
        from routegraph.survival import ratio_keeping

        if not self.keep:
            return tuple(self.ratios)
        return (0.0, *(ratio_keeping(n_context, budget) for budget in self.keep))

    def methods(self, chunk_length: int | None = None) -> tuple[Method, ...]:
        """Return the policies with the scores that each goes by."""
        from routegraph.validate.eviction import Method

        return tuple(Method.named(name, chunk_length or self.chunk_length) for name in self.policy_names)

    def settings(self, model: Loaded) -> dict[str, Any]:
        """Return what a result depends on, as JSON-ready values."""
        from routegraph.validate.models.load import fingerprint

        loaded = self.loaded_files()
        return {
            **({"plugins": loaded} if loaded else {}),
            "model": model.name,
            "weights": fingerprint(model),
            "family": str(model.model.config.model_type),
            "policies": list(self.policy_names),
            **({"keep": list(self.keep)} if self.keep else {"ratios": list(self.ratios)}),
            **self.asking(model),
            "max_new_tokens": self.max_new_tokens,
            **({"stop": self.stop} if self.stop else {}),
            "chunk_length": self.chunk_length,
            "grader": grader_setting(self.grader),
            "seed": self.seed,
        }

    def loaded_files(self) -> dict[str, str]:
        """Return the loaded files that the policies and their scorers come from, with their digests."""
        from routegraph.policies import policies

        methods = self.methods()
        scorers = [SCORERS[one.table.partition("/")[0]] for one in methods if one.scored]
        judges = [graders[self.grader.partition(":")[0]]] if self.grader else []
        return plugins.fingerprints([*(policies[one.policy] for one in methods), *scorers, *judges])


@dataclass(frozen=True)
class Measuring(Plan):
    """What `measure` asks: a plan, and the bits of the cache, or budgets at which it is cut while a reply is decoded.

    With bits, every prompt is asked once with nothing removed and the cache as it is, the reference that failures are
    told by, and at each ratio, 0 among them, with what is kept of the context's cache rounded.

    With budgets of decoding the policies are those of `routegraph.validate.presses.decoding`, and nothing is evicted
    before the question is asked; see `routegraph.validate.decoding.evicting`.

    Attributes
    ----------
    decode_budget : tuple of int
        Rows that a cut leaves in each slot while a reply is decoded, from many to few; empty: no such cuts.

    Raises
    ------
    ValueError
        If the bits are none of the choices, or are given with budgets of rows; if a budget of decoding is not above the
        rows that a policy protects, the interval longer than the longest reply, or what else is asked goes by the
        prefill; as `Plan`.
    """

    bits: str = option(
        "",
        "Bits of keys and values of the context, rounded once it is known which rows are kept: "
        + CHOICES
        + "; as they "
        "are by default.",
    )
    decode_interval: int = option(
        1, "With --decode-budget: steps of the reply from one cut of the cache to the next.", low=1
    )
    decode_budget: Sequence[int] = ()

    def __post_init__(self) -> None:
        precision = Precision.named(self.bits) if self.bits else None
        budgets = tuple(sorted(set(self.decode_budget), reverse=True))
        object.__setattr__(self, "decode_budget", budgets)
        super().__post_init__()
        self._check_decoding()
        if precision is not None:
            if self.keep:
                raise ValueError(
                    "bits are measured at ratios; give ratios in place of numbers of rows to keep"
                )
            object.__setattr__(self, "bits", precision.text)

    @property
    def precision(self) -> Precision | None:
        """What the bits mean; None: the cache as it is."""
        return Precision.named(self.bits) if self.bits else None

    def settings(self, model: Loaded) -> dict[str, Any]:
        """Return what a result depends on, as JSON-ready values; bits, or budgets of decoding, where there are any."""
        told = {**super().settings(model), **({"bits": self.bits} if self.bits else {})}
        if not self.decode_budget:
            return told
        for name in ("ratios", "chunk_length"):
            del told[name]
        return {**told, "decode_budget": list(self.decode_budget), "decode_interval": self.decode_interval}

    def named(self, policy: str) -> str:
        """Return a policy's name; with budgets of decoding ValueError where it does not evict while decoding."""
        if not self.decode_budget:
            return super().named(policy)
        from routegraph.validate.presses.decoding import REPLY_POLICIES

        REPLY_POLICIES[policy]
        return policy

    def methods(self, chunk_length: int | None = None) -> tuple[Method, ...]:
        """Return the policies with the scores that each goes by; none where all is evicted while decoding."""
        return () if self.decode_budget else super().methods(chunk_length)

    def loaded_files(self) -> dict[str, str]:
        """Return the loaded files that the policies and their scorers come from, with their digests."""
        from routegraph.validate.presses.decoding import REPLY_POLICIES

        own = [REPLY_POLICIES[name] for name in self.policy_names] if self.decode_budget else []
        return {**super().loaded_files(), **plugins.fingerprints(own)}

    def _check_decoding(self) -> None:
        """Raise ValueError where budgets of decoding, or the lack of them, do not go with what else is asked."""
        if not self.decode_budget:
            if self.decode_interval != 1:
                raise ValueError(
                    "a decode interval needs a decode budget: without one nothing is cut while decoding"
                )
            return
        from routegraph.validate.presses.decoding import keeping

        if self.bits:
            raise ValueError("bits and decode budgets are not measured together; leave one of them out")
        if self.keep or any(self.ratios):
            raise ValueError(
                "decode budgets take the place of ratios and of numbers of rows to keep; give one of the three"
            )
        if self.question_aware:
            raise ValueError(
                "question_aware says what is scored before the question, and decode budgets evict after it; leave one "
                "of them out"
            )
        for budget in self.decode_budget:
            check_whole("decode budget", budget, low=1)
            for policy in self.policy_names:
                keeping(policy, budget, self.decode_interval)
        if self.decode_interval > self.max_new_tokens:
            raise ValueError(
                f"decode interval must be at most the longest reply, {self.max_new_tokens} tokens, or nothing is ever "
                f"cut; got {self.decode_interval}"
            )

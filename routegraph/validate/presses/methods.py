"""What a method's name means: whose scores, and which cut of them. The same in every command.

A name is kvpress's for a method ("snapkv", or its class "SnapKVPress"): its scores and its cut. Or it is a cut
alone, a registered policy ("adakv", "topk"), of the scores of Expected Attention, as in the paper. Or it is
"CUT@SCORER", any two. Nothing here loads kvpress.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from routegraph.policies import policies
from routegraph.policies.base import declared
from routegraph.registry import BUILT_IN
from routegraph.validate.presses.scorers import CHUNK_LENGTH, OTHERS, SCORERS

#: The cut of kvpress's ScorerPress: the lowest scores of every head.
PLAIN = "topk"
#: Whose scores a cut alone goes by.
DEFAULT_SCORER = "expected_attention"

#: kvpress's press of every scorer that comes with routegraph, as one would make it there to keep the same rows.
PRESSES = {
    "cap": "CapPress()",
    "compactor": "CompactorPress(blending=0.35)",
    "cur": "CURPress()",
    "expected_attention": "ExpectedAttentionPress()",
    "finch": "FinchPress()",
    "keydiff": "KeyDiffPress()",
    "knorm": "KnormPress()",
    "lagkv": "LagKVPress()",
    "leverage": "LeverageScorePress()",
    "non_causal_attention": "NonCausalAttnPress()",
    "observed_attention": "ObservedAttentionPress()",
    "snapkv": "SnapKVPress()",
    "streaming_llm": "StreamingLLMPress()",
    "tova": "TOVAPress()",
}
#: Methods that are neither a scorer cut head by head nor a registered cut: their cut and their scorer.
COMPOSED = {"pyramidkv": ("pyramid", "snapkv")}
#: kvpress's press of those, and of cuts that go by no scores.
WHOLE = {"pyramidkv": "PyramidKVPress()", "random": "RandomPress()", "streaming": "StreamingLLMPress()"}
#: Presses whose own defaults are not what the scorer of their name does.
UNLIKE = {
    "CompactorPress": "weighs two scores by the ratio; 'compactor' is the same with a fixed weight, .35"
}


@dataclass(frozen=True)
class Named:
    """What a method's name means.

    Attributes
    ----------
    name : str
        The method's one name: that of a press's class is told by it.
    cut : str
        Registered policy.
    scorer : str or None
        Whose scores it cuts; None where the name does not tell: a cut alone.
    """

    name: str
    cut: str
    scorer: str | None = None

    @property
    def press(self) -> str:
        """How kvpress's press for it is made; nothing where kvpress has none."""
        if self.name in WHOLE:
            return WHOLE[self.name]
        outer, inner = declared(self.cut).press, PRESSES.get(self.scorer or DEFAULT_SCORER, "")
        if outer is None or not inner:
            return ""
        length = f", chunk_length={CHUNK_LENGTH}" if declared(self.cut).scores == "chunks" else ""
        return f"{outer}({inner}{length})" if outer else inner

    @property
    def built_in(self) -> bool:
        """Whether cut and scorer come with routegraph."""
        scorer = self.scorer or DEFAULT_SCORER
        return policies.origin(self.cut) == BUILT_IN and SCORERS.origin(scorer) == BUILT_IN

    def to_dict(self) -> dict[str, str | None]:
        """Return what the name means, as JSON-ready values."""
        scored = declared(self.cut).scores is not None
        scorer = self.scorer or DEFAULT_SCORER if scored else None
        return {"summary": self.words, "scorer": scorer, "cut": self.cut, "kvpress": self.press or None}

    @property
    def words(self) -> str:
        """Whose scores and which cut, in words."""
        return method_words(self.cut, self.scorer or DEFAULT_SCORER)


def method_words(cut: str, table: str) -> str:
    """Return whose scores a cut goes by, and how it cuts, in words.

    Parameters
    ----------
    cut : str
        Registered policy, or one that is not known here.
    table : str
        Score table: a scorer's name, with "/chunk64" where chunks of 64 rows are scored by themselves.
    """
    known = cut in policies
    how = declared(cut).cut if known else ""
    if known and declared(cut).scores is None:
        return f"no scores; {how or f'cut by {cut}'}"
    scorer, _, length = table.partition("/chunk")
    by_chunk = f" in chunks of {length}" if length else ""
    return f"scores of {scorer}{by_chunk}, cut {how or f'by {cut}'}"


def vocabulary() -> list[Named]:
    """Return every method that has a name of its own: scorers cut head by head, composed methods, cuts alone."""
    scored = [resolve(name) for name in SCORERS]
    composed = [resolve(name) for name in COMPOSED]
    return [*scored, *composed, *(resolve(name) for name in policies if name not in SCORERS)]


def classes() -> dict[str, str]:
    """Return the method's name for every class of kvpress's that means one."""
    found = {
        press.partition("(")[0]: name
        for name, press in [*WHOLE.items(), *PRESSES.items()]
        if press.endswith("()")
    }
    return {**found, **{press: cut for cut in policies if (press := declared(cut).press)}}


def resolve(name: str, held: Collection[str] = ()) -> Named:
    """Return what a method's name means.

    Parameters
    ----------
    name : str
        A method of kvpress's, by its name or class; a registered policy; or "CUT@SCORER".
    held : collection of str
        Scorers that are known besides those registered: of the tables that a trace holds.

    Raises
    ------
    ValueError
        If there is no such method, policy or scorer; where kvpress has a press of that name, with the reason.
    """
    cut, at, scorer = name.partition("@")
    if at:
        cut, scorer = classes().get(cut, cut), scorer_named(scorer, held)
        policies[cut]
        return Named(f"{cut}@{scorer}", cut, scorer)
    if name in held or name in SCORERS:
        # The policy of that name is the pattern of simulations; one's own policy and scorer belong together.
        own = name in policies and policies.origin(name) != BUILT_IN
        return Named(name, name if own else PLAIN, name)
    if name in policies:
        return Named(name, name)
    if name in COMPOSED:
        return Named(name, *COMPOSED[name])
    if name in classes():
        return resolve(classes()[name], held)
    raise ValueError(_unknown(name))


def scorer_named(name: str, held: Collection[str] = ()) -> str:
    """Return the scorer of a name or of its press's class; ValueError if there is none, `held` or registered."""
    if name in held:
        return name
    own = {press.partition("(")[0]: scorer for scorer, press in PRESSES.items() if press.endswith("()")}
    scorer = own.get(name, name)
    SCORERS[scorer]
    return scorer


def _unknown(name: str) -> str:
    """Return why a name means nothing: a press that cannot be had, or no press at all."""
    known = sorted({one.name for one in vocabulary()})
    choices = f"choose from: {', '.join(known)}, or CUT@SCORER"
    for press, why in [*UNLIKE.items(), *OTHERS.items()]:
        if _bare(press) == _bare(name):
            return f"policy {name!r} cannot be had: {press} {why}; {choices}"
    alike = next((one for one in [*known, *classes()] if _bare(one) == _bare(name)), None)
    return f"unknown policy {name!r}; {f'did you mean {alike!r}? ' if alike else ''}{choices}"


def _bare(name: str) -> str:
    """Return a name without what spellings of it differ in."""
    return name.lower().replace("_", "").replace("-", "").removesuffix("press")

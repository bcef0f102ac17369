"""Scorers: what kvpress's presses score cache rows by, each registered once for `extract` and for presses.

A scorer is a function of keyword parameters that returns a kvpress press with a ``score``. What is registered
scores a context in one prefill, whatever the compression ratio. `OTHERS` says of every other press of kvpress
0.5.5 why it is no scorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routegraph.options import check_whole
from routegraph.registry import Registry
from routegraph.validate.models.sources import check_installed
from routegraph.validate.presses.kvpress_fixes import (
    expected_attention_press,
    kvpress,
    recomputed_attention_press,
    seeded,
    streaming_press,
)

#: Registry of scorers; `scorer` is its decorator.
SCORERS = scorer = Registry("scorer")


_CUTS = "cuts another scorer's scores: a policy, see `routegraph.validate.presses.survivors.survivors`"


_HUB = "needs weights from a hub; load them and pass the press itself"


_DECODING = "evicts while decoding, not in the prefill"


_LATER = "scores in a second pass, after the prefill"


_STAGES = "scores in two stages, the second of which depends on the ratio"


#: Presses that are no scorers, and why.
OTHERS = {
    "AdaKVPress": _CUTS,
    "BlockPress": "scores block after block beside the rows kept so far, which depend on the ratio",
    "ChunkKVPress": _CUTS,
    "ChunkPress": _CUTS,
    "ComposedPress": "runs several presses in a row",
    "CAMPress": _DECODING,
    "CompressionRatioDecodingPress": _DECODING,
    "CriticalAdaKVPress": _STAGES,
    "CriticalKVPress": _STAGES,
    "DMSPress": "cuts at a threshold, not at a ratio",
    "DecodingPress": _DECODING,
    "DuoAttentionPress": "drops whole heads by a pattern from a hub",
    "EntropyGatedChunkKVPress": "cuts chunks at an entropy of their scores, and no policy here does",
    "ExpectedAttentionStatsPress": _HUB,
    "FastKVzipPress": _HUB,
    "KVComposePress": _LATER,
    "KVgradPress": _LATER,
    "KVzapPress": _HUB,
    "KVzipPress": _LATER,
    "KeyRerotationPress": "keeps the rows of the press in it, and moves them to new positions",
    "LUKVPress": "cuts at budgets from a hub",
    "MergingPress": "merges rows instead of evicting them",
    "PerLayerCompressionPress": "cuts every layer at a ratio of its own, and needs flash attention",
    "PrefillDecodingPress": _DECODING,
    "PyramidKVPress": "cuts the scores of `snapkv` at a budget of each layer: the policy `pyramidkv`",
    "QFilterPress": _HUB,
    "RandomPress": "draws anew in every run: the policy `random`",
    "RestoreKVPress": _HUB,
    "SimLayerKVPress": "drops the middle of whole layers at a threshold, not at a ratio",
    "ThinKPress": "prunes channels, not rows",
}


@scorer("expected_attention")
def expected_attention(
    *,
    n_sink: int = 4,
    n_future_positions: int = 512,
    use_covariance: bool = True,
    use_vnorm: bool = True,
    epsilon: float = 0.0,
) -> Any:
    """Score by the expected attention of future queries times the norm of the value (arXiv 2510.00636)."""
    return expected_attention_press()(
        n_sink=n_sink,
        n_future_positions=n_future_positions,
        use_covariance=use_covariance,
        use_vnorm=use_vnorm,
        epsilon=epsilon,
    )


@scorer("knorm")
def knorm() -> Any:
    """Keep keys of small norm (arXiv 2406.11430)."""
    return kvpress().KnormPress()


@scorer("snapkv")
def snapkv(*, window: int = 64, kernel_size: int = 5) -> Any:
    """Score by the pooled attention of the last `window` queries, which are kept (arXiv 2404.14469)."""
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and at least 1, got {kernel_size}")
    return kvpress().SnapKVPress(window_size=window, kernel_size=kernel_size)


@scorer("tova")
def tova() -> Any:
    """Score by the last query's attention, the same for all heads of a layer (arXiv 2401.06104)."""
    return kvpress().TOVAPress()


@scorer("observed_attention")
def observed_attention() -> Any:
    """Score by the mean attention of the queries that see a row, recomputed in blocks under sdpa (H2O)."""
    return recomputed_attention_press()()


@scorer("finch")
def finch(*, window: int = 64, normalize_scores: bool = True) -> Any:
    """Score by the attention of the last `window` queries, which stand for FINCH's question, and are kept."""
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    press = kvpress().FinchPress(normalize_scores=normalize_scores, rerotate_keys=False)
    # What FinchPress reads off a delimiter token in the prompt; -1 is the id of no token.
    press.window_size, press.delimiter_token_id = window, -1
    return press


@scorer("keydiff")
def keydiff() -> Any:
    """Keep keys that point away from the mean key (arXiv 2504.15364)."""
    return kvpress().KeyDiffPress()


@scorer("lagkv")
def lagkv(*, n_sink: int = 4, lag_size: int = 128, cross_scoring: bool = False) -> Any:
    """Score each partition relative to the next one (arXiv 2504.04704); the last rows are kept."""
    return kvpress().LagKVPress(n_sink=n_sink, lag_size=lag_size, cross_scoring=cross_scoring)


@scorer("streaming_llm")
def streaming_llm(*, n_sink: int = 4) -> Any:
    """Keep the sinks and the most recent rows (arXiv 2309.17453), as an order that holds for every ratio."""
    return streaming_press()(n_sink=n_sink)


@scorer("cur")
def cur(*, n_sink: int = 4, leverage_type: str = "kv_product", local_window_size: int = 16) -> Any:
    """Score by norms of key and value relative to their neighbours (CUR, arXiv 2509.15038)."""
    kinds = ("key", "value", "kv_avg", "kv_product")
    if leverage_type not in kinds:
        raise ValueError(f"unknown leverage_type {leverage_type!r}; choose from: {', '.join(kinds)}")
    return kvpress().CURPress(
        num_sinks=n_sink, leverage_type=leverage_type, local_window_size=local_window_size
    )


@scorer("non_causal_attention")
def non_causal_attention(*, chunk_size: int = 256) -> Any:
    """Score by attention inside chunks without the causal mask, times the norm of the value."""
    return kvpress().NonCausalAttnPress(chunk_size=chunk_size)


@scorer("leverage")
def leverage(*, sketch_dimension: int = 48, seed: int = 0) -> Any:
    """Score by approximate leverage of the keys before rotation; the random sketch is drawn from the seed."""
    return seeded("LeverageScorePress", seed)(sketch_dimension=sketch_dimension)


@scorer("compactor")
def compactor(
    *,
    n_sink: int = 8,
    window: int = 4,
    chunk_size: int = 256,
    sketch_dimension: int = 48,
    blending: float = 0.35,
    seed: int = 0,
) -> Any:
    """Blend leverage and non-causal attention (arXiv 2507.08143), by a fixed weight where kvpress takes the ratio."""
    return seeded("CompactorPress", seed)(
        sink_size_start=n_sink,
        sink_size_end=window,
        chunk_size=chunk_size,
        sketch_dimension=sketch_dimension,
        blending=blending,
    )


@scorer("cap")
def cap(*, tau: float = 5.0, n_sink: int = 4, n_future_positions: int = 512) -> Any:
    """Score by the leverage of values weighted with the expected query's alignment (arXiv 2604.25975)."""
    return kvpress().CapPress(tau=tau, n_sink=n_sink, n_future_positions=n_future_positions)


def protection(press: Any, n: int) -> dict[str, int]:
    """Return how many rows a press sets aside in a context of `n`, whatever their scores would be.

    Returns
    -------
    dict
        "n_sink" rows at the start, "window" rows at the end; what is 0 is left out. Of a press that routegraph
        does not know, its attributes ``n_sink`` and ``window_size``.
    """
    sinks, window = getattr(press, "n_sink", 0), getattr(press, "window_size", 0)
    presses = kvpress()
    if isinstance(press, presses.TOVAPress):
        window = 1
    elif isinstance(press, presses.CompactorPress):
        sinks, window = press.sink_size_start, press.sink_size_end
    elif isinstance(press, presses.CURPress):
        sinks = press.num_sinks
    elif isinstance(press, presses.LagKVPress) and n >= sinks + 2 * press.lag_size:
        window = press.lag_size + (n - sinks) % press.lag_size
    return {name: int(rows) for name, rows in (("n_sink", sinks), ("window", window)) if rows}


@dataclass(frozen=True)
class ScoreTable:
    """One table of scores that a prefill is to give.

    Attributes
    ----------
    scorer : str
        Registered name of the scorer, or the class of the press.
    press : kvpress press
        Whose ``score`` is called.
    parameters : mapping
        Its parameters, as JSON-ready values.
    chunk_length : int or None
        Rows that are scored by themselves; None: the whole context at once.
    """

    scorer: str
    press: Any
    parameters: Mapping[str, Any]
    chunk_length: int | None = None

    def recorded(self, n: int) -> dict[str, Any]:
        """Return what a trace of `n` rows keeps: parameters, protected rows, chunk length."""
        chunk = {} if self.chunk_length is None else {"chunk_length": self.chunk_length}
        return {**self.parameters, **protection(self.press, min(n, self.chunk_length or n)), **chunk}


def score_tables(scorers: Sequence[Any], chunk_length: int) -> dict[str, ScoreTable]:
    """Return the tables that some scorers give, by name.

    Parameters
    ----------
    scorers : sequence of str or kvpress press
        A name of `SCORERS`; "NAME/chunk64" for a table of chunks of 64 rows, each scored by itself; or a press
        with a ``score`` that does not depend on its ratio, whose class gives the name. "expected_attention" also
        gives its table of chunks of `chunk_length`.

    Raises
    ------
    ValueError
        If a scorer is unknown, no press that scores, or named twice, or a chunk length no whole number.
    """
    if not scorers:
        raise ValueError(f"at least one scorer is needed; choose from: {', '.join(SCORERS)}")
    tables: dict[str, ScoreTable] = {}
    made: dict[str, Any] = {}  # a press may keep what it worked out, so its tables share it

    def add(name: str, table: ScoreTable) -> None:
        if name in tables:
            raise ValueError(f"scorer {name!r} is named twice; name each once")
        tables[name] = table

    for one in scorers:
        if not isinstance(one, str):
            name = type(one).__name__
            check_press(one)
            add(name, ScoreTable(name, one, _fields(one)))
            continue
        name, _, chunk = one.partition("/chunk")
        parameters = SCORERS.parameters(name)
        press = made.setdefault(name, None) or SCORERS[name]()
        made[name] = press
        if chunk and not chunk.isdecimal():
            raise ValueError(f"scorer {one!r} must end in a chunk length, such as {name}/chunk64")
        add(one, ScoreTable(name, press, parameters, int(chunk) if chunk else None))
        if one == "expected_attention" and f"{one}/chunk{chunk_length}" not in scorers:
            add(f"{one}/chunk{chunk_length}", ScoreTable(name, press, parameters, chunk_length))
    return tables


def check_press(press: Any) -> None:
    """Raise ValueError unless a press has scores that sdpa attention can give."""
    name = type(press).__name__
    if isinstance(press, type) or not callable(getattr(press, "score", None)):
        why = OTHERS.get(name, "has no score; pass a ScorerPress object or a registered name")
        raise ValueError(f"{press.__name__ if isinstance(press, type) else name} is no scorer: it {why}")
    observed = kvpress().ObservedAttentionPress
    if isinstance(press, observed) and type(press).score is observed.score:
        raise ValueError(
            f"{name} needs the attention weights that only eager attention gives; choose the scorer "
            "'observed_attention', which recomputes them"
        )


def _fields(press: Any) -> dict[str, Any]:
    """Return the plain parameters of a press; its ratio is none of them, for the scores do not depend on it."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(press).items()
        if isinstance(value, plain) and not name.startswith("_") and name != "compression_ratio"
    }


CHUNK_LENGTH = 64


DEFAULT_SCORERS = ("expected_attention",)


def checked_tables(
    scorers: Sequence[Any] = DEFAULT_SCORERS, chunk_length: int = CHUNK_LENGTH
) -> dict[str, ScoreTable]:
    """Return the score tables that `extract` makes, by name.

    Raises
    ------
    ValueError
        If a scorer is none, or a chunk has no row but those that the scorer protects.
    """
    check_installed()
    tables = score_tables(scorers, chunk_length)
    for table in tables.values():
        if table.chunk_length is not None:
            check_chunk_length(table.chunk_length, sum(protection(table.press, table.chunk_length).values()))
    return tables


def check_chunk_length(chunk_length: int, n_protected: int) -> None:
    """Raise ValueError unless a chunk holds a row that is not one of the `n_protected` set aside in it."""
    check_whole("chunk length", chunk_length, high=2**31)
    if chunk_length <= n_protected:
        raise ValueError(
            f"chunk length must be above {n_protected}, the tokens protected in each chunk, got {chunk_length}"
        )


def fitting_chunk(n: int, chunk_length: int, n_protected: int = 4) -> int:
    """Return the longest chunk, up to the length asked for, whose last, shorter one holds more than protected rows.

    A chunk of protected rows only cannot be scored by itself; a few rows less, and there is none.
    """
    return next(
        (k for k in range(chunk_length, chunk_length // 2, -1) if n % k == 0 or n % k > n_protected),
        chunk_length,
    )


def check_length(n: int, n_protected: int, chunk_length: int | None, what: str, scorer: str = "") -> None:
    """Raise ValueError unless a context of `n` tokens, or each of its chunks, can be scored.

    A scorer that sets `n_protected` rows aside (sinks, a window) needs at least one more. `what` names the
    context in the error, `scorer` the scorer.
    """
    if n <= n_protected:
        whose = f" ({scorer} sets {n_protected} aside)" if scorer else ""
        raise ValueError(
            f"{what} must have more than {n_protected} tokens to be scored, got {n}{whose}; lengthen it, or "
            "choose another scorer"
        )
    if chunk_length is None:
        return
    check_chunk_length(chunk_length, n_protected)
    rest = n % chunk_length
    if 0 < rest <= n_protected:
        raise ValueError(
            f"{what} has {n} tokens, so its last chunk of {chunk_length} has only {rest}, and more than "
            f"{n_protected} are needed; choose another chunk length, or lengthen or shorten the prompt"
        )


def check_table(n: int, press: Any, chunk_length: int | None, what: str, scorer: str = "") -> None:
    """Raise ValueError unless a press can score a context of `n` tokens, or each of its chunks.

    Also if the last, shorter chunk would protect other rows than the others do (LagKV).
    """
    length = min(n, chunk_length or n)
    protected = protection(press, length)
    check_length(n, sum(protected.values()), chunk_length, what, scorer)
    rest = n % length
    if rest and protection(press, rest) != protected:
        raise ValueError(
            f"{what} has {n} tokens, and {type(press).__name__} protects other rows in a last chunk of {rest} than "
            f"in one of {length}; choose another chunk length, or score the whole context"
        )

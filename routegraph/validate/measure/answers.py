"""What was measured, as numbers: answers of every item, curves, critical ratios, and what tells failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical.counts import fit_items
from routegraph.critical.result import CriticalFit
from routegraph.stats.auc import Auc, pooled_auc
from routegraph.stats.intervals import Interval, listed
from routegraph.stats.proportions import wilson
from routegraph.survival import n_kept, ratio_keeping
from routegraph.validate.eviction import legend
from routegraph.validate.measure.metrics import METRICS
from routegraph.validate.measure.schema import budgets_of
from routegraph.validate.presses.decoding import REPLY_POLICIES
from routegraph.validate.presses.scorers import CHUNK_LENGTH
from routegraph.validate.tasks.knowledge import hallucinates, known

#: What is counted, and of which the curves are.
KINDS = ("accuracy", "wrong", "hallucination", "abstention")


#: What is said of a policy that this process does not know.
UNKNOWN = "a policy of decoding that is not registered here"

#: Below such a share of right answers with nothing removed, nothing about compression can be read off.
FLOOR = 0.6

#: A cell of the AUC needs so many items that fail, and so many that do not.
LEAST = 5


@dataclass(frozen=True, eq=False)
class Rates:
    """Counts at every ratio, with Wilson's 95 % intervals.

    Attributes
    ----------
    counts : int64[n_ratios]
    trials : int
    rate, low, high : float64[n_ratios]
    """

    counts: NDArray[np.int64]
    trials: int
    rate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def at(self, k: int) -> Interval:
        """Return the rate at the k-th ratio."""
        return Interval(float(self.rate[k]), float(self.low[k]), float(self.high[k]))


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of every item under every policy and ratio, and what was measured beside them.

    Attributes
    ----------
    settings : mapping
        Model, policies, ratios and all else that the figures depend on.
    ids, item_tasks : tuple of str
        Of every item.
    n_context : int64[n_items]
    answerable : bool[n_items]
        Whether the context tells the answer; where it does not, an abstention is right.
    tags : tuple of tuple of str
        Direction, type of the answer, difficulty: whatever the task says of its items.
    right, abstained : bool[n_items, n_policies, n_ratios]
    replies : tuple of tuple of str
        Of every item, policies outermost.
    metrics : mapping of str to float64[n_items, n_policies, n_ratios]
        See `METRICS`; NaN where an item has none. Empty where they were not measured.
    cliffs : mapping of policy to mapping of str to float
        Ratios at which the code of a policy, not physics, builds in a cliff.
    prompts : tuple of mapping
        What the cells keep of every prompt; by it a task knows which wrong replies are hallucinations.
    cut : bool[n_items, n_policies, n_ratios], optional
        Which replies were still going on at the greatest length; None where a cell does not tell.
    dead : float64[n_items, n_policies, n_ratios], optional
        Share of all slots that are dead at the end of each reply; None where nothing was evicted while decoding.
    aside : tuple of (str, str)
        Ids of the prompts of this run that were set aside, and why.
    """

    settings: Mapping[str, Any]
    ids: tuple[str, ...]
    item_tasks: tuple[str, ...]
    n_context: NDArray[np.int64]
    answerable: NDArray[np.bool_]
    tags: tuple[tuple[str, ...], ...]
    right: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    replies: tuple[tuple[str, ...], ...]
    metrics: Mapping[str, NDArray[np.float64]]
    cliffs: Mapping[str, Mapping[str, float]]
    prompts: tuple[Mapping[str, Any], ...] = ()
    cut: NDArray[np.bool_] | None = None
    dead: NDArray[np.float64] | None = None
    aside: tuple[tuple[str, str], ...] = ()

    def only(self, items: ArrayLike) -> Self:
        """Return what was measured of some items, bool[n_items] or their numbers; ValueError where there is none."""
        numbers = np.arange(len(self.ids))[np.asarray(items)]
        if not numbers.size:
            raise ValueError("no item is left")
        return replace(
            self,
            ids=tuple(self.ids[i] for i in numbers),
            item_tasks=tuple(self.item_tasks[i] for i in numbers),
            n_context=self.n_context[numbers],
            answerable=self.answerable[numbers],
            tags=tuple(self.tags[i] for i in numbers),
            right=self.right[numbers],
            abstained=self.abstained[numbers],
            replies=tuple(self.replies[i] for i in numbers),
            metrics={name: values[numbers] for name, values in self.metrics.items()},
            prompts=tuple(self.prompts[i] for i in numbers) if self.prompts else (),
            cut=None if self.cut is None else self.cut[numbers],
            dead=None if self.dead is None else self.dead[numbers],
        )

    @property
    def policies(self) -> list[str]:
        """Names of the policies, as asked for."""
        return list(self.settings["policies"])

    @property
    def methods(self) -> dict[str, str]:
        """Whose scores and which cut every policy is, in words."""
        if self.decode_interval:
            return {
                name: REPLY_POLICIES.summary(name).rstrip(".") if name in REPLY_POLICIES else UNKNOWN
                for name in self.policies
            }
        return legend(self.policies, int(self.settings.get("chunk_length", CHUNK_LENGTH)))

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Sorted compression ratios, the first one 0; of budgets of rows the mean over the items.

        With bits there are two of 0: the first is of the cache as it is.
        """
        if self.keep:
            each = np.array([self.ratios_of(i) for i in range(len(self.ids))])
            return np.asarray(each.mean(axis=0))
        return np.array([0.0] * bool(self.bits) + list(self.settings["ratios"]), dtype=float)

    @property
    def bits(self) -> str:
        """Bits of the context's cache at every place but the first; empty: it is as it is."""
        return str(self.settings.get("bits", ""))

    def check_unrounded(self, what: str) -> None:
        """Raise ValueError where bits, or eviction while decoding, were measured, of which `what` does not know."""
        if self.decode_interval:
            raise ValueError(
                f"replies were measured whose cache was cut while they were decoded, and {what} knows eviction before "
                "the reply only"
            )
        if self.bits:
            raise ValueError(
                f"a cache of bits {self.bits!r} was measured, and {what} knows unrounded ones only"
            )

    @property
    def keep(self) -> tuple[int, ...]:
        """Budgets of rows, from many to few, that take the places of the ratios after 0; empty: there are none."""
        return budgets_of(self.settings)

    @property
    def decode_interval(self) -> int:
        """Steps from cut to cut while replies were decoded; 0: all was evicted before."""
        return int(self.settings.get("decode_interval", 0))

    def rows_of(self, item: int) -> int:
        """Return the rows that came: of the context, or, cut while decoding, with the reply of the whole cache."""
        return int(self.prompts[item]["n_rows"]) if self.decode_interval else int(self.n_context[item])

    def kept_of(self, item: int, k: int) -> int:
        """Return how many rows of each slot are kept of an item at the k-th ratio."""
        if self.decode_interval:
            return min(self.rows_of(item), self.keep[k - 1]) if k else self.rows_of(item)
        return n_kept(int(self.n_context[item]), float(self.ratios_of(item)[k]))

    def ratios_of(self, item: int) -> NDArray[np.float64]:
        """Return the ratios at which an item was asked, float64[n_ratios]."""
        n = self.rows_of(item)
        if self.decode_interval:
            return np.array([1 - self.kept_of(item, k) / n for k in range(1 + len(self.keep))])
        if self.keep:
            return np.array([0.0, *(ratio_keeping(n, budget) for budget in self.keep)])
        return self.ratios

    @property
    def apart(self) -> NDArray[np.int64]:
        """Places of the ratios that differ from the one before: two budgets may both exceed every context.

        With bits, those of both ratios 0.
        """
        differs = np.diff(self.ratios, prepend=-1.0) > 0
        differs[1:2] |= bool(self.bits)
        return np.flatnonzero(differs)

    @property
    def tasks(self) -> list[str]:
        """Tasks, in the order in which they first come."""
        return list(dict.fromkeys(self.item_tasks))

    def of(self, kind: str) -> NDArray[np.bool_]:
        """Return which replies count for a kind, bool[items, policies, ratios].

        "accuracy": right. "abstention": it says that it does not know. "wrong": neither. "hallucination": wrong, and
        it states another value of the right type, by what the item's task knows; False where none knows (`knowing`).
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; choose from: {', '.join(KINDS)}")
        if kind in ("wrong", "hallucination"):
            wrong = np.asarray(~(self.right | self.abstained))
            return wrong if kind == "wrong" else wrong & self._stating
        return self.right if kind == "accuracy" else self.abstained

    def rates(self, kind: str, policy: str, task: str | None = None) -> Rates:
        """Return a curve of one policy; of the items of one task, where named.

        Of hallucinations, the items whose task knows what one is; without any, rates are NaN.
        """
        table = self._counted(kind, policy, task)
        counts, trials = table.sum(axis=0), len(table)
        if not trials:
            nowhere = np.full(len(counts), np.nan)
            return Rates(counts, 0, nowhere, nowhere, nowhere)
        low, high = wilson(counts, np.full(len(counts), trials))
        return Rates(counts, trials, counts / trials, low, high)

    def _counted(self, kind: str, policy: str, task: str | None) -> NDArray[np.bool_]:
        """Return which replies count, bool[items, ratios]; of hallucinations, those of items whose task knows them."""
        chosen = self.items_of(task) & (self.knowing | (kind != "hallucination"))
        return np.asarray(self.of(kind)[chosen, self.place_of(policy)])

    def critical(
        self, policy: str, task: str | None = None, kind: str = "wrong", seed: int = 0
    ) -> CriticalFit | None:
        """Fit a cliff and gradual changes to a curve; None where all rates are equal or ratios too few."""
        at = self.apart[bool(self.bits) :]  # with bits, all of one precision
        table = self._counted(kind, policy, task)[:, at]
        if len(at) < 4 or np.ptp(table.sum(axis=0)) == 0:
            return None
        name = f"{kind}, {policy}, {task or 'all tasks'}"
        return fit_items(self.ratios[at], table, seed=seed, observable=name)

    @cached_property
    def knowing(self) -> NDArray[np.bool_]:
        """Of which items a task knows which wrong replies are hallucinations, bool[n_items]."""
        if not self.prompts:
            return np.zeros(len(self.ids), dtype=bool)
        return np.array([known(prompt) is not None for prompt in self.prompts])

    @cached_property
    def _stating(self) -> NDArray[np.bool_]:
        """Which replies state another value of the right type, bool[n_items, n_policies, n_ratios]."""
        made = np.zeros(self.right.shape, dtype=bool)
        for item in np.flatnonzero(self.knowing):
            said = {reply: hallucinates(self.prompts[item], reply) for reply in set(self.replies[item])}
            made[item] = np.reshape([bool(said[reply]) for reply in self.replies[item]], made.shape[1:])
        return made

    @cached_property
    def fails(self) -> NDArray[np.bool_]:
        """Which items are right at ratio 0 and not right at this one, bool[n_items, n_policies, n_ratios].

        With bits: right at ratio 0 with the cache as it is.
        """
        return np.asarray(self.right[..., :1] & ~self.right)

    def auc_table(
        self,
        policy: str | Sequence[str] | None = None,
        least: int = LEAST,
        resamples: int = 1000,
        seed: int = 0,
    ) -> list[Auc]:
        """Return, for every metric, how well it tells the items that fail; see `routegraph.stats.auc`.

        Parameters
        ----------
        policy : str or sequence of str, optional
            Cells of this policy, or of these, only.
        least : int
            See `pooled_auc`.
        resamples, seed : int
            Bootstrap over items.
        """
        named = self.policies if policy is None else [policy] if isinstance(policy, str) else list(policy)
        chosen = {self.place_of(name) for name in named}
        return [
            pooled_auc(
                name,
                self._cells(METRICS[name].sign * values, chosen),
                len(self.ids),
                least=least,
                resamples=resamples,
                seed=seed,
            )
            for name, values in self.metrics.items()
        ]

    @staticmethod
    def mean_of(values: NDArray[np.float64]) -> dict[str, Any]:
        """Return mean, standard error and number of items at every ratio; None where no item has a value."""
        n = np.isfinite(values).sum(axis=0)
        mean = np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)
        spread = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(n - 1, 1) / np.maximum(n, 1))
        return {
            "mean": listed(mean),
            "stderr": listed(np.where(n > 1, spread, np.nan)),
            "items": n.tolist(),
        }

    def _cells(
        self, values: NDArray[np.float64], chosen: set[int]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]]:
        """Yield the items right at ratio 0 in every cell: their numbers, values, and whether they fail."""
        known = self.right[:, 0, 0]  # at ratio 0 all policies keep everything
        for task in self.tasks:
            items = np.flatnonzero(known & self.items_of(task))
            for p in sorted(chosen):
                for r in range(1, len(self.ratios)):
                    yield items, values[items, p, r], self.fails[items, p, r]

    def items_of(self, task: str | None) -> NDArray[np.bool_]:
        """Return which items are of a task, bool[n_items]; ValueError if it is unknown, all where none is named."""
        if task is not None and task not in self.item_tasks:
            raise ValueError(f"unknown task {task!r}; choose from: {', '.join(self.tasks)}")
        return np.array([task in (None, own) for own in self.item_tasks])

    def place_of(self, policy: str) -> int:
        """Return which of the policies it is; ValueError if it is unknown."""
        if policy not in self.policies:
            raise ValueError(f"unknown policy {policy!r}; choose from: {', '.join(self.policies)}")
        return self.policies.index(policy)

    @property
    def task_sizes(self) -> dict[str, int]:
        """Items of each task."""
        return {task: self.item_tasks.count(task) for task in self.tasks}

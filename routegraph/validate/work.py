"""Who computes the items of a command: this process, processes on this machine, or the workers of a dask scheduler.

A worker loads the model once and keeps it; an item is a cell, whoever computes it. The same bytes come out: a worker
refuses an item where its package is of another version or its model has other weights than those of the process that
asks, and torch has as many threads everywhere, since its sums differ with their number in the last digits.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from routegraph import plugins
from routegraph._version import __version__
from routegraph.executors import as_done, check_address, check_scheduler, executor
from routegraph.options import check_whole
from routegraph.validate.models.load import Loaded, fingerprint, load
from routegraph.validate.models.machine import check_device, use_threads
from routegraph.validate.models.origin import Origin, parameters_of
from routegraph.validate.models.size import check_workers_fit
from routegraph.validate.models.sources import Progress, check_installed
from routegraph.validate.presses.kvpress_fixes import kvpress

K = TypeVar("K")
R = TypeVar("R")

#: Items that are with the workers of a scheduler elsewhere at a time, whose number may grow.
AHEAD = 256


@dataclass(frozen=True)
class Work:
    """Who computes the items of a command.

    Attributes
    ----------
    workers : int
        Processes on this machine, each with a model of its own; 1 without dask: the calling process. Of a scheduler
        elsewhere: ignored.
    dask : str or None
        "local" for a cluster of `workers` processes on this machine, or the address of a scheduler
        ("tcp://host:8786").
    threads : int or None
        Threads of torch in each worker. By default as many as there are cores for each on this machine, one with a
        scheduler elsewhere; in the calling process as many as torch has.
    pool : Executor or None
        Whom `kept` keeps open.

    Raises
    ------
    ValueError
        If a number is out of range, or dask is not installed, or not "local" and no address.
    """

    workers: int = 1
    dask: str | None = None
    threads: int | None = None
    pool: Executor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        if self.threads is not None:
            check_whole("threads", self.threads, 1)
        check_address(self.dask)

    @property
    def here(self) -> bool:
        """Whether the calling process computes everything itself."""
        return self.workers == 1 and self.dask is None

    @property
    def elsewhere(self) -> bool:
        """Whether a scheduler's workers compute, wherever they are."""
        return self.dask not in (None, "local")

    def n_threads(self) -> int:
        """Return how many threads torch is to have in each worker."""
        cores = os.cpu_count() or 1
        if self.threads is not None:
            return self.threads if self.elsewhere else min(self.threads, cores)
        if self.here:
            import torch

            return int(torch.get_num_threads())
        return 1 if self.elsewhere else max(1, cores // self.workers)

    def use_threads(self) -> None:
        """Give torch its threads in this process, which a command does; see `models.machine.use_threads`."""
        use_threads(None if self.elsewhere else self.threads)

    @contextmanager
    def kept(self) -> Iterator[Work]:
        """Keep the workers, and with them their models, for more than one call of `compute`."""
        if self.here or self.pool is not None:
            yield self
            return
        with executor(self.workers, processes=self.dask is None, dask=self.dask) as pool:
            yield replace(self, pool=pool)

    def load(
        self, model: Any, dtype: str = "float32", device: str = "cpu", progress: Progress | None = None
    ) -> Loaded:
        """Load a model as `routegraph.validate.models.load.load` does; refuse what workers could not have.

        Where workers compute, this process only reads prompts and keeps its model in main memory.

        Raises
        ------
        ValueError
            As `load`; with workers: if the model was in memory already, if there is no memory for so many, if the
            scheduler does not answer or has workers of another version of this package.
        """
        if self.here:
            return load(model, dtype=dtype, device=device, progress=progress)
        if isinstance(model, Loaded):
            origin = model.origin
        else:
            origin = Origin.of(model, dtype, device) if isinstance(model, str | Path) else None
        if origin is None:
            raise ValueError(
                "a model that is in memory already cannot be given to workers; name it or its folder, or leave "
                "workers and dask out"
            )
        if isinstance(model, Loaded):
            self._check_fits(model.name, sum(p.numel() for p in model.model.parameters()), origin, here=0)
            return model
        check_installed()
        if self.elsewhere:
            check_scheduler(str(self.dask))
        else:
            check_device(device)
            self._check_fits(str(model), parameters_of(model), origin, here=1)
        loaded = load(model, dtype=dtype, device="cpu", progress=progress)
        return replace(loaded, origin=origin)

    def _check_fits(self, name: str, parameters: int | None, origin: Origin, here: int) -> None:
        if not self.elsewhere:
            check_workers_fit(name, parameters, origin.dtype, origin.device, self.workers, here)


#: The calling process computes.
HERE = Work()


@dataclass(frozen=True)
class _Head:
    """What a worker needs to know before its first item, and is told with each: it may have just been started."""

    version: str
    origin: Origin
    weights: str
    threads: int
    sources: tuple[plugins.Source, ...]


def compute(
    model: Loaded,
    function: Callable[..., R],
    items: Iterable[tuple[K, tuple[Any, ...]]],
    work: Work,
    threads: int | None = None,
) -> Generator[tuple[K, R], None, None]:
    """Yield the key of each item and ``function(model, *arguments)`` as they are done.

    Parameters
    ----------
    model : Loaded
        Of `Work.load`.
    function : callable
        Where workers compute: one that a module declares, and whose arguments and result can be pickled.
    items : iterable of (key, arguments)
        Asked for the next one when somebody is free to compute it.
    work : Work
    threads : int, optional
        Threads of torch, where they are not those of `work`.

    Raises
    ------
    ValueError
        If a worker has another version of this package or other weights; what `function` raises.
    OSError
        If workers die again and again at one item: a worker that dies loses its item only, and another does it.
    """
    count = threads or work.n_threads()
    if work.here:
        for key, arguments in items:
            with _threads(count):
                result = function(model, *arguments)
            yield key, result
        return
    if model.origin is None:
        raise ValueError("a model that was in memory already cannot be given to workers; use Work.load")
    head = _Head(__version__, model.origin, fingerprint(model), count, plugins.loaded())
    ahead = AHEAD if work.elsewhere else 2 * work.workers
    calls = ((key, _in_worker, (head, function, *arguments)) for key, arguments in items)
    with work.kept() as opened:
        assert opened.pool is not None
        yield from as_done(opened.pool, calls, ahead)


def in_order(
    model: Loaded,
    function: Callable[..., R],
    items: Sequence[tuple[str, tuple[Any, ...]]],
    work: Work,
    progress: Progress | None = None,
    keep: Callable[[int, R], None] | None = None,
) -> list[R]:
    """Return ``function(model, *arguments)`` of all items, in their order; errors as of `compute`.

    Parameters
    ----------
    model, function, work
        As of `compute`.
    items : sequence of (str, tuple)
        What progress calls each, and its arguments.
    progress : callable, optional
        Called as ``progress(done, total, label)``.
    keep : callable, optional
        Called with the number of an item and its result as soon as it is there.
    """
    found: dict[int, R] = {}

    def told(label: str) -> None:
        if progress:
            progress(len(found), len(items), label)

    def asked() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for k, (label, arguments) in enumerate(items):
            told(label)
            yield k, arguments

    with closing(compute(model, function, asked(), work)) as results:
        for k, result in results:
            found[k] = result
            if keep:
                keep(k, result)
            if not work.here:  # where the next one is told of at once
                told(items[k][0])
    return [found[k] for k in range(len(items))]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch have so many threads, and then as many as before."""
    import torch

    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


#: The model that this worker holds, one at most, and its weights' fingerprint.
_held: dict[Origin, tuple[Loaded, str]] = {}
#: One item at a time: what is recorded of a model is recorded by hooks on it, and a dask worker may have threads.
_alone = threading.Lock()


def _in_worker(head: _Head, function: Callable[..., R], *arguments: Any) -> R:
    """Compute one item in a worker."""
    if head.version != __version__:
        raise ValueError(
            f"a worker has routegraph {__version__}, and routegraph {head.version} asks; install one version everywhere"
        )
    # What there is to warn of was said where the command was given.
    with _alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kvpress()  # before a file of the user's imports it, which would wrap the attention of all models
        plugins.ensure(head.sources)
        model = _model(head)
        with _threads(head.threads):
            return function(model, *arguments)


def _model(head: _Head) -> Loaded:
    """Return the model of an item, loaded at the first one."""
    if head.origin not in _held:
        _held.clear()
        loaded = load(head.origin.model, head.origin.dtype, head.origin.device)
        _held[head.origin] = loaded, fingerprint(loaded)
    loaded, weights = _held[head.origin]
    if weights != head.weights:
        raise ValueError(
            f"a worker finds other weights under {head.origin.model!r} than those loaded here; give it the same model"
        )
    return loaded

"""Where work runs: all are shaped like `concurrent.futures.Executor`, so one loop serves all."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import pickle
import re
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar
from warnings import warn

from routegraph._version import __version__

K = TypeVar("K")

#: How often a task is given to a worker anew, because the one that had it died.
TRIES = 3
#: What may be the address of a scheduler.
_ADDRESS = r"((tcp|ucx|ws)://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):[0-9]{1,5}"
#: Seconds to wait for the answer of a scheduler.
PATIENCE = 10


@contextmanager
def _held_back() -> Iterator[None]:
    """Start processes that an interrupt does not reach before they can ignore it: they inherit what is blocked here."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it lets all through again where it has to be started first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SerialExecutor(Executor):
    """Runs everything at once, in the calling thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` and return its finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class ProcessExecutor(Executor):
    """Processes, each with a thread here that hands it one task after the other.

    A process that dies loses its own task only: a new process does that task again. Each has a pipe of its own: of a
    shared one, the parent would wait for ever for the other half of what a process that was killed did not finish.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(workers)
        self._own = threading.local()
        self._all: set[_Process] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in a process; it, its arguments and its result must be things that can be pickled."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for _ in range(TRIES):
            process = self._process()
            try:
                return process.call(fn, args, kwargs)
            except BrokenExecutor:
                self._own.process = None
                process.end()
                if self._closed:
                    break
        raise BrokenExecutor(f"a worker process died {TRIES} times at the same task")

    def _process(self) -> _Process:
        """Return the process of the calling thread, a new one where there is none."""
        if getattr(self._own, "process", None) is None:
            with self._lock:
                if self._closed:
                    raise BrokenExecutor("the worker processes were ended")
                self._own.process = _Process()
                self._all.add(self._own.process)
        found: _Process = self._own.process
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once they have done what they were given; with `cancel_futures` at once."""
        if cancel_futures:
            with self._lock:
                self._closed = True
                for process in self._all:
                    process.kill()
        self._threads.shutdown(wait=True, cancel_futures=cancel_futures)
        for process in self._all:
            process.end()


class _Process:
    """A process that does one task after the other, and the end of its pipe that is here."""

    def __init__(self) -> None:
        # "spawn": a forked child would inherit locks of numba's threads.
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        with _held_back():
            self._process.start()
        there.close()  # else the pipe would not end with the process

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what `fn` returns there, or raise what it raises; BrokenExecutor if the process dies."""
        try:
            self._pipe.send((fn, args, kwargs))
            done, value = self._pipe.recv()
        except (EOFError, OSError):
            raise BrokenExecutor("a worker process died") from None
        if not done:
            raise value
        return value

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Let the process end, which it does when its pipe is closed."""
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """Do the tasks that come through a pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted command ends its workers itself
    with suppress(EOFError, ConnectionError):  # whoever asks is gone
        while True:
            answer = _answer(pipe.recv_bytes())
            try:
                pipe.send(answer)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                pipe.send((False, error))


def _answer(message: bytes) -> tuple[bool, Any]:
    """Return whether a task could be done, and its result or error."""
    try:
        fn, args, kwargs = pickle.loads(message)
        return True, fn(*args, **kwargs)
    except Exception as error:
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        return False, error


def as_done(
    pool: Executor, calls: Iterable[tuple[K, Callable[..., Any], tuple[Any, ...]]], ahead: int
) -> Iterator[tuple[K, Any]]:
    """Submit calls and yield the key and the result of each as it is done.

    Parameters
    ----------
    pool : Executor
    calls : iterable of (key, function, arguments)
        Asked for the next one when there is room for it.
    ahead : int
        How many are with the workers at a time: results do not pile up, and an error stops the work soon.

    Raises
    ------
    OSError
        If a worker dies, and so does whoever does its work again.
    """
    queue = iter(calls)
    running: dict[Future[Any], K] = {}
    try:
        while True:
            for key, function, arguments in itertools.islice(queue, ahead - len(running)):
                running[pool.submit(function, *arguments)] = key
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()
    except BaseException as error:
        for future in running:
            future.cancel()
        if isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker":
            raise OSError(
                f"a worker died, and so did those that did its work again, {TRIES} in all (is memory short?); what is "
                "finished is kept where there is a folder for it: the same command goes on"
            ) from error
        raise


@contextmanager
def executor(workers: int = 1, processes: bool = False, dask: str | None = None) -> Iterator[Executor]:
    """Open an executor.

    Parameters
    ----------
    workers : int
        Threads, or processes; 1 thread means the calling one. Of a dask scheduler elsewhere: ignored.
    processes : bool
        Use processes instead of threads.
    dask : str, optional
        "local" for a cluster of `workers` processes on this machine, or the address of a scheduler
        ("tcp://host:8786").

    Raises
    ------
    ValueError
        If dask is asked for and not installed, or both processes and dask are asked for; if the scheduler does not
        answer, or a worker of it has another version of this package.

    Notes
    -----
    Under SLURM, start a scheduler with dask-jobqueue and pass its address:

    >>> from dask_jobqueue import SLURMCluster  # doctest: +SKIP
    >>> cluster = SLURMCluster(cores=1, memory="4GB", walltime="02:00:00")  # doctest: +SKIP
    >>> cluster.scale(64)  # doctest: +SKIP
    >>> sweep("results", n_tokens=[512, 1024], dask=cluster.scheduler_address)  # doctest: +SKIP
    """
    if dask is not None and processes:
        raise ValueError("choose either processes or dask, not both")
    if dask is not None:
        with _client(workers, dask) as client:
            yield client.get_executor(pure=False)
    elif processes:
        pool = ProcessExecutor(workers)
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()
    elif workers == 1:
        yield SerialExecutor()
    else:
        with ThreadPoolExecutor(workers) as pool_of_threads:
            yield pool_of_threads


def check_address(dask: str | None) -> None:
    """Raise ValueError unless dask is "local" or looks like an address, and is installed where it is asked for."""
    if dask is None:
        return
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ValueError("dask is not installed; pip install 'routegraph[dask]'") from None
    if dask != "local" and not re.fullmatch(_ADDRESS, dask):
        raise ValueError(
            f"dask must be 'local' or the address of a scheduler (tcp://HOST:PORT), got {dask!r}"
        )


def check_scheduler(dask: str) -> None:
    """Raise ValueError unless a scheduler answers and its workers have this version of this package."""
    with _client(1, dask):
        pass


@contextmanager
def _client(workers: int, address: str) -> Iterator[Any]:
    """Connect to a scheduler, or start one here."""
    check_address(address)
    from distributed import Client

    if address == "local":
        # What fits in memory is counted before; dask's own count takes files that are mapped for memory.
        with Client(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=None,
            memory_limit=None,
            silence_logs=logging.ERROR,
        ) as client:
            yield client
        return
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"no dask scheduler answers at {address!r}: {why[:200]}") from None
    with client:
        check_versions(address, client.run(_version_teller()))
        yield client


def _version_teller() -> Callable[[], str | None]:
    """Return a function that tells a worker's version of this package; it is sent as it is, not by its name."""

    def told() -> str | None:
        try:
            from routegraph._version import __version__ as version
        except ImportError:
            return None
        return version

    return told


def check_versions(address: str, versions: dict[str, str | None]) -> None:
    """Raise ValueError where a worker has another version of this package, or none.

    Parameters
    ----------
    address : str
        Of the scheduler.
    versions : dict
        Of each worker by its address, None where it has none; empty: no worker is there yet, which a warning tells.
    """
    if not versions:
        warn(
            f"the dask scheduler at {address!r} has no worker yet; work begins when one is there",
            stacklevel=4,
        )
    for worker, version in versions.items():
        if version != __version__:
            has = f"runs routegraph {version}" if version else "has no routegraph"
            raise ValueError(
                f"worker {worker} of the dask scheduler at {address!r} {has}, and this is routegraph {__version__}: "
                "install the same version everywhere"
            )

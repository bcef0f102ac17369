"""Where the work of a sweep runs: all are shaped like `concurrent.futures.Executor`, so one loop serves all."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


class ProcessExecutor(ProcessPoolExecutor):
    """Processes that hand their results over as files in `folder`.

    Through the pool's pipe they would share it with each other: of a worker that is killed in the middle of a
    result, the parent waits for the other half for ever. A path is written whole or not at all.
    """

    def __init__(self, workers: int, folder: str) -> None:
        # "spawn": a forked child would inherit locks of numba's threads.
        super().__init__(workers, mp_context=multiprocessing.get_context("spawn"))
        self.folder = folder

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in a process; its result must be something that can be pickled."""
        result: Future[Any] = Future()
        inner = super().submit(_to_file, self.folder, fn, *args, **kwargs)
        inner.add_done_callback(lambda done: _from_file(done, result))
        return result


def _to_file(folder: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    value = fn(*args, **kwargs)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)
    return file.name


def _from_file(done: Future[str], result: Future[Any]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        path = Path(done.result())
        result.set_result(pickle.loads(path.read_bytes()))
        path.unlink()
    except BaseException as error:
        result.set_exception(error)


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
        If dask is asked for and not installed, or both processes and dask are asked for.
    OSError
        If the scheduler does not answer.

    Notes
    -----
    Under SLURM, start a scheduler with dask-jobqueue and pass its address:

    >>> from dask_jobqueue import SLURMCluster  # doctest: +SKIP
    >>> cluster = SLURMCluster(cores=1, memory="4GB", walltime="02:00:00")  # doctest: +SKIP
    >>> cluster.scale(64)  # doctest: +SKIP
    >>> sweep("results", n_tokens=[512, 1024], dask=cluster.scheduler_address)  # doctest: +SKIP
    """
    check_address(dask)
    if dask is not None and processes:
        raise ValueError("choose either processes or dask, not both")
    if dask is not None:
        with _dask(workers, dask) as opened:
            yield opened
    elif processes:
        with tempfile.TemporaryDirectory(prefix="routegraph-") as folder:
            pool = ProcessExecutor(workers, folder)
            try:
                yield pool
            finally:
                pool.shutdown(cancel_futures=True)
    elif workers == 1:
        yield SerialExecutor()
    else:
        with ThreadPoolExecutor(workers) as pool_of_threads:
            yield pool_of_threads


def check_address(dask: str | None) -> None:
    """Raise ValueError unless it is None, "local", or what may be the address of a scheduler."""
    if dask is None or dask == "local":
        return
    if not re.fullmatch(r"((tcp|ucx|ws)://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):[0-9]{1,5}", dask):
        raise ValueError(
            f"dask must be 'local' or the address of a scheduler (tcp://HOST:PORT), got {dask!r}"
        )


@contextmanager
def _dask(workers: int, address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("dask is not installed; pip install 'routegraph[dask]'") from None
    if address == "local":
        client = Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    else:
        client = Client(address, timeout="10s")
    with client:
        yield client.get_executor()

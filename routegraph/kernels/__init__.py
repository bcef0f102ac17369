"""numba kernels: arrays in, arrays out; no classes, no checks. Each has a slow twin in tests/naive.py.

What numba needs of its surroundings is set up here, once, before the first kernel is compiled.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings


def _check_threads() -> None:
    """Raise ValueError where the environment tells numba a number of threads that is none."""
    asked = os.environ.get("NUMBA_NUM_THREADS")
    if asked and not (asked.strip().isdecimal() and int(asked) >= 1):
        raise ValueError(
            f"NUMBA_NUM_THREADS must be a whole number of at least 1, got {asked!r}; set or unset it"
        )


def _find_cache() -> None:
    """Let numba keep what it compiles in a temporary folder where it can write to none of its own."""
    from numba import config
    from numba.core.caching import FunctionCache

    if config.DISABLE_JIT:
        return
    try:
        FunctionCache(_find_cache)  # any function of this folder: it looks for a place to keep it
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="routegraph-numba-")
        # Processes that this one starts take it over; numba reads its configuration anew when it compiles.
        os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = folder
        owner = os.getpid()

        def remove() -> None:
            if os.getpid() == owner:
                shutil.rmtree(folder, ignore_errors=True)

        atexit.register(remove)
        warnings.warn(
            "kernels are compiled anew in every run, since no folder to keep them in can be written to; set "
            "NUMBA_CACHE_DIR to one that can",
            stacklevel=2,
        )


_check_threads()
_find_cache()

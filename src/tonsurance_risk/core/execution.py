"""Where tasks are computed: in threads of this process, or wherever an executor has its workers."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from tonsurance_risk.errors import RiskError, WorkerLostError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

FIRST_TASKS, MOST_TASKS = 4, 256
"""Tasks under way at first, and at most: their results wait in memory until it is their turn. The first number is
also the most for each thread of our own."""

MOST_THREADS = 8
"""Threads of our own: each works in memory of its own, of some 10 MB."""


def in_order(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], executor: Executor | None
) -> Iterator[Result]:
    """Yield the function of each argument, in their order.

    Parameters
    ----------
    function : callable of one argument
        Picklable where the executor has processes.
    arguments : iterable
        Taken only as far as there is room, so that an argument may depend on results before it.
    executor : concurrent.futures.Executor, optional
        None: threads of this process, see `n_threads`; for one task none at all.

    Raises
    ------
    ValueError
        If `executor` is something else.
    WorkerLostError
        If a task did not come back from the executor: nothing is returned in its place. Errors of this package
        and `MemoryError` pass through as they are.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise ValueError(f"executor must be a concurrent.futures.Executor, found {executor!r}")
    if executor is not None:
        yield from _elsewhere(function, arguments, executor)
        return
    source, count = iter(arguments), n_threads()
    first = list(islice(source, 2))
    if len(first) < 2 or count == 1:
        yield from map(function, chain(first, source))
    else:
        with ThreadPoolExecutor(count) as threads:
            yield from _submitted(function, chain(first, source), threads, FIRST_TASKS * count)


def n_threads() -> int:
    """Return how many threads of our own compute: one a processor that this process may use, at most 8."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(usable, MOST_THREADS)


def _elsewhere(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], executor: Executor
) -> Iterator[Result]:
    done = 0
    try:
        for done, result in enumerate(_submitted(function, arguments, executor, MOST_TASKS), 1):  # noqa: B007
            yield result
    except (RiskError, MemoryError):
        raise
    except Exception as error:
        raise WorkerLostError(
            f"the executor {type(executor).__name__} did not return task {done + 1}: {error!r}; "
            f"no result is given, simulate again",
            observed=error,
        ) from error


def _submitted(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], executor: Executor, most: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    room, source = FIRST_TASKS, iter(arguments)
    try:
        while True:
            for argument in source:
                waiting.append(executor.submit(function, argument))
                if len(waiting) >= room:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
            room = min(room + 1, most)
    finally:
        for future in waiting:
            future.cancel()

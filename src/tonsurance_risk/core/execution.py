"""Where tasks are computed: in threads of this process, or wherever an executor has its workers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from tonsurance_risk.errors import WorkerLostError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

FIRST_TASKS, MOST_TASKS = 4, 256
"""Tasks under way at first, and at most: their results wait in memory until it is their turn. The first number is
also the most for each thread of our own."""


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
        None: threads of this process, one a processor; for one task none at all.

    Raises
    ------
    WorkerLostError
        If a task did not come back from the executor: nothing is returned in its place.
    """
    if executor is not None:
        yield from _submitted(function, arguments, executor, MOST_TASKS)
        return
    source, processors = iter(arguments), os.cpu_count() or 1
    first = list(islice(source, 2))
    if len(first) < 2 or processors == 1:
        yield from map(function, chain(first, source))
    else:
        with ThreadPoolExecutor(processors) as threads:
            yield from _submitted(function, chain(first, source), threads, FIRST_TASKS * processors)


def _submitted(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], executor: Executor, most: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    room, done, source = FIRST_TASKS, 0, iter(arguments)
    try:
        while True:
            for argument in source:
                waiting.append(executor.submit(function, argument))
                if len(waiting) >= room:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
            done += 1
            room = min(room + 1, most)
    except Exception as error:
        raise WorkerLostError(
            f"the executor {type(executor).__name__} did not return task {done + 1}: {error!r}; "
            f"no result is given, simulate again",
            observed=error,
        ) from error
    finally:
        for future in waiting:
            future.cancel()

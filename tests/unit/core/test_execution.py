"""Where tasks are computed, and whose errors come back."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tonsurance_risk.core.execution import MOST_THREADS, in_order, n_threads
from tonsurance_risk.errors import InsufficientDataError, WorkerLostError


def failing(error):
    """Return a task that raises it the third time."""

    def task(number):
        if number == 2:
            raise error
        return number

    return task


@pytest.mark.parametrize("error", [ValueError("bad"), InsufficientDataError("few"), MemoryError("full")])
def test_threads_of_our_own_raise_the_error_itself(error):
    """Nobody was lost."""
    with pytest.raises(type(error)) as raised:
        list(in_order(failing(error), range(9), None))
    assert raised.value is error


@pytest.mark.parametrize("error", [InsufficientDataError("few"), MemoryError("full")])
def test_errors_with_a_meaning_pass_through_an_executor(error):
    """They say more than that a task did not come back."""
    with ThreadPoolExecutor(2) as pool, pytest.raises(type(error)):
        list(in_order(failing(error), range(9), pool))


def test_any_other_error_of_an_executor_names_the_task():
    """The results before it were given."""
    seen = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(WorkerLostError, match="return task 3") as raised:
        seen.extend(in_order(failing(OSError("gone")), range(9), pool))
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can bind a process to processors")
def test_threads_follow_the_processors_of_this_process():
    """Bound to one processor there is one thread, whatever the machine has."""
    code = "from tonsurance_risk.core.execution import n_threads; print(n_threads())"
    one = min(os.sched_getaffinity(0))
    bound = f"import os; os.sched_setaffinity(0, {{{one}}}); {code}"
    assert (
        subprocess.run([sys.executable, "-c", bound], capture_output=True, text=True, check=True).stdout == "1\n"
    )
    assert 1 <= n_threads() <= MOST_THREADS

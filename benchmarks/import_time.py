"""Print how long importing the library takes, beside the packages that every analyst has imported already.

Usage: python benchmarks/import_time.py [REPETITIONS]

Each import is a process of its own; the three take turns, and the best time of each counts, less that of a
process that imports nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time

OURS, PEER, FIRST_USE = (
    "import tonsurance_risk",
    "import pandas, scipy.stats",
    "import tonsurance_risk as tr; tr.detect_depegs, tr.simulate_losses, tr.assess",
)
AIM = 0.6
"""Of the time of the peer."""


def best_seconds(statements: list[str], repetitions: int) -> list[float]:
    """Return the best time of each statement in a new process, less that of an empty one."""
    best = dict.fromkeys(["pass", *statements], float("inf"))
    for _ in range(repetitions):
        for statement in best:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            best[statement] = min(best[statement], time.perf_counter() - start)
    return [best[statement] - best["pass"] for statement in statements]


def main(repetitions: int = 7) -> None:
    """Print times and ratios; the exit code is 1 when the aim is missed."""
    statements = [OURS, PEER, FIRST_USE]
    seconds = best_seconds(statements, repetitions)
    for statement, time_ in zip(statements, seconds, strict=True):
        print(f"{statement:<80} {time_:7.3f} s  {time_ / seconds[1]:5.2f} x {PEER}")
    sys.exit(seconds[0] > AIM * seconds[1])


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))

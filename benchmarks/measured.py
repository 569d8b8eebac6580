"""What the benchmarks share: ways that take turns at the clock, and a figure beside its peer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """What the library needs for a job, and what another way needs for the same job in the same run."""

    what: str
    amount: int
    unit: str
    seconds: float
    peer: str
    peer_seconds: float
    aim: float | None = None
    """The least `ratio` wanted."""

    @property
    def ratio(self) -> float:
        """How many times the speed of the peer: what carries over to another machine."""
        return self.peer_seconds / self.seconds

    def __str__(self) -> str:
        """Return one line."""
        aim = "" if self.aim is None else f" (aim: at least {self.aim:.2g})"
        rate = f"{self.amount / self.seconds:15,.0f} {self.unit}/s"
        return f"{self.what:<58}{self.seconds:9.4f} s{rate:<30}{self.ratio:8.2f} x {self.peer}{aim}"


def best_of_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the best time of each way [s]; in every round each has a turn, so that a busy machine slows all."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def best(way: Callable[[], object], rounds: int = 5) -> float:
    """Return the best time of one way [s]."""
    return best_of_turns({"": way}, rounds)[""]

"""What the library needs from the outside, as small protocols. An adapter implements one or several.

Contracts that hold for every method: times are tz-aware UTC (a naive one is refused with
`InvalidPriceError`, another zone is converted), intervals are ``[start, end)``, a write is all or nothing and
may be repeated without effect, and only errors of `tonsurance_risk.errors` (or a `ValueError` for a plainly
wrong argument) come out.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from tonsurance_risk.ports.alerts import LONGEST_KEY, AlertMessage, AlertSink, Outbox, StoredAlert
from tonsurance_risk.ports.clock import Clock, SystemClock
from tonsurance_risk.ports.jobs import JobEnd, JobLock, JobStatus, Ledger
from tonsurance_risk.ports.prices import (
    CreditedSource,
    MeteredSource,
    PriceSource,
    PriceStore,
    SourceUsage,
    UsageSource,
    WriteResult,
    usage_of,
)
from tonsurance_risk.ports.results import ResultStore, ScenarioBacktest

__all__ = [
    "LONGEST_KEY",
    "AlertMessage",
    "AlertSink",
    "Clock",
    "CreditedSource",
    "JobEnd",
    "JobLock",
    "JobStatus",
    "Ledger",
    "MeteredSource",
    "Outbox",
    "PriceSource",
    "PriceStore",
    "ResultStore",
    "ScenarioBacktest",
    "SourceUsage",
    "Store",
    "StoredAlert",
    "SystemClock",
    "UsageSource",
    "WriteResult",
    "usage_of",
]


class Store(PriceStore, ResultStore, Ledger, Outbox, Protocol):
    """All that the runner keeps, in one place; a context manager that closes on leaving."""

    def close(self) -> None:
        """Release files and connections; may be called again."""

    def __enter__(self) -> Self:
        """Return the store."""

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""

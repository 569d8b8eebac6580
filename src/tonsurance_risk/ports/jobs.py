"""Which job ran for which date, and one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal, Protocol

import attrs
import pandas as pd

JobEnd = Literal["done", "failed", "interrupted", "abandoned"]
"""How a run ended; one that was abandoned did not say so, its process was gone."""


@attrs.frozen(kw_only=True)
class JobStatus:
    """What is known of a job and logical date.

    Parameters
    ----------
    job : str
    logical_date : Timestamp
    status : {"running", "done", "failed", "interrupted", "abandoned"}
        Of the last attempt.
    attempts : int
        So far.
    started_at, ended_at : Timestamp
        Of the last attempt; None while it runs.
    host : str
        Where it ran.
    forced : bool
        Whether it ran although it was done.
    rows : int or None
        How many it wrote, new or changed.
    message : str
        What it did, or what went wrong.
    details : dict
        What else it found, in JSON types; of an attempt that has said nothing of it what the one before found.
    """

    job: str
    logical_date: pd.Timestamp
    status: Literal["running"] | JobEnd
    attempts: int
    started_at: pd.Timestamp
    ended_at: pd.Timestamp | None
    host: str
    forced: bool
    rows: int | None
    message: str
    details: dict[str, Any]


class Ledger(Protocol):
    """Knows which job ran for which logical date, and lets one at a time run."""

    def begin_job(self, job: str, logical_date: datetime, *, host: str = "", forced: bool = False) -> JobStatus:
        """Write down that a job begins, for the first time or again, and return its row."""

    def end_job(
        self,
        job: str,
        logical_date: datetime,
        *,
        status: JobEnd = "done",
        rows: int | None = None,
        message: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> JobStatus:
        """Write down how a job that had begun ended, and return its row; the message is cut to 500 letters.

        Without `details` those of the attempt before stay. One that did not begin is a `LookupError`.
        """

    def load_jobs(
        self, job: str | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[JobStatus]:
        """Return the rows of logical dates in ``[start, end)`` by (logical_date, job)."""

    def lock(self, job: str, logical_date: datetime) -> AbstractContextManager[JobLock]:
        """Hold the lock of a job and date for a block; a `LockHeldError` at once where another run has it.

        It is free again when the block ends, and when the process dies.
        """


class JobLock(Protocol):
    """A lock that is held."""

    def verify(self) -> None:
        """Raise a `LockLostError` if the lock was lost; call it before what must not be done twice."""

"""What runs when: jobs as declared values, and which of their dates are due. Pure.

A date is named by what it describes, 00:00 UTC of a day, not by when it runs. What is due is read off the ledger,
not off timers that fired or did not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, Generic, TypeVar

import attrs
import pandas as pd

from tonsurance_risk.ports import JobLock
from tonsurance_risk.values import as_utc

_DAY = timedelta(days=1)
Place = TypeVar("Place")


@attrs.frozen(kw_only=True)
class Outcome:
    """What a step did.

    Parameters
    ----------
    rows : int
        How many rows are new or changed.
    message : str
        One line for people.
    needs_attention : bool
        Whether it is done but for something: an asset failed, an alert is critical, a check found something.
    details : mapping
        What else it found, in JSON types, for the ledger and later jobs.
    """

    rows: int
    message: str
    needs_attention: bool = False
    details: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Job(Generic[Place]):
    """A job: what, when, after what, how often again, and for how long at most.

    Parameters
    ----------
    name : str
        As it is in the ledger and on the command line.
    at : time
        When a date is due, UTC.
    weekday : int, optional
        The day of the week that has dates, 0 = Monday; None: every day.
    step : callable
        Does the work of a date at a place under a lock, which it verifies before it writes results, and returns an
        `Outcome`. Doing it again changes nothing.
    needs : tuple of str
        Jobs that must be done for the same date.
    attempts : int
        How often it is tried, the first time included.
    timeout : timedelta
        What one attempt may take.
    """

    name: str
    at: time
    weekday: int | None = None
    step: Callable[[Place, pd.Timestamp, JobLock], Outcome] = attrs.field(repr=False)
    needs: tuple[str, ...] = ()
    attempts: int = 4
    timeout: timedelta = timedelta(minutes=30)

    def due_at(self, date: pd.Timestamp) -> pd.Timestamp:
        """Return when a date is due."""
        return date + timedelta(hours=self.at.hour, minutes=self.at.minute)

    def dates(self, first: datetime, now: datetime) -> list[pd.Timestamp]:
        """Return the dates from `first` on that are due by now, oldest first.

        Examples
        --------
        >>> weekly = Job(name="clean_up", at=time(4, 5), weekday=6, step=print)
        >>> now = pd.Timestamp("2025-03-16T04:00Z")
        >>> [date.date().isoformat() for date in weekly.dates(pd.Timestamp("2025-03-01T00:00Z"), now)]
        ['2025-03-02', '2025-03-09']
        """
        days = pd.date_range(as_utc(first, "first").ceil("D"), as_utc(now, "now").normalize(), freq="D")
        wanted = days if self.weekday is None else days[days.day_of_week == self.weekday]
        return [date for date in wanted if self.due_at(date) <= now]


def missing_dates(
    jobs: Sequence[Job[Place]], done: Collection[tuple[str, pd.Timestamp]], first: datetime, now: datetime
) -> list[tuple[Job[Place], pd.Timestamp]]:
    """Return what is due and not done: oldest date first, and within a date in the order of the jobs.

    Parameters
    ----------
    jobs : sequence of Job
        Each after what it needs.
    done : collection of (name, date)
        From the ledger.
    first : datetime
        Before it nothing is missing.
    now : datetime
        By the clock.
    """
    due = [(job, date) for job in jobs for date in job.dates(first, now) if (job.name, date) not in done]
    place = {job.name: number for number, job in enumerate(jobs)}
    return sorted(due, key=lambda one: (one[1], place[one[0].name]))


def unmet_needs(
    job: Job[Place], date: pd.Timestamp, done: Collection[tuple[str, pd.Timestamp]]
) -> tuple[str, ...]:
    """Return what a job needs and is not done for a date."""
    return tuple(name for name in job.needs if (name, date) not in done)


def next_due(jobs: Iterable[Job[Place]], now: datetime) -> dict[str, pd.Timestamp]:
    """Return when each job is due next, after now."""
    return {job.name: next(_after(job, as_utc(now, "now"))) for job in jobs}


def _after(job: Job[Place], now: pd.Timestamp) -> Iterator[pd.Timestamp]:
    date = now.normalize()
    while True:
        if job.weekday in (None, date.weekday()) and job.due_at(date) > now:
            yield job.due_at(date)
        date += _DAY

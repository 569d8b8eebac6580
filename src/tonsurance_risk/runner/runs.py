"""One run of a job: the ledger before and after it, and again where that may help."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

import attrs
import pandas as pd
import tenacity

from tonsurance_risk.errors import (
    LockHeldError,
    LockLostError,
    RateLimitedError,
    SettingsError,
    SourceUnavailableError,
    StoreBusyError,
    StoreUnavailableError,
)
from tonsurance_risk.ports import JobEnd, JobLock, JobStatus, Ledger, PriceSource, usage_of
from tonsurance_risk.runner.desk import INSTANT, Desk
from tonsurance_risk.runner.jobs import Job, Outcome, unmet_needs
from tonsurance_risk.runner.usage import counted
from tonsurance_risk.values import iso

WORTH_REPEATING = (
    SourceUnavailableError,
    RateLimitedError,
    StoreBusyError,
    StoreUnavailableError,
    LockLostError,
)
"""What may be over by the next attempt."""
SHORTEST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds: before the second attempt between 0 and the first, doubled each time, never more than the other."""

_log = logging.getLogger(__name__)
Sleep = Callable[[float], None]
Result = TypeVar("Result")


@attrs.frozen(kw_only=True)
class JobRun:
    """What became of a job and date.

    Parameters
    ----------
    job : str
    date : Timestamp
    status : {"done", "skipped", "waiting"}
        Skipped: it was done before. Waiting: something that it needs is not done.
    outcome : Outcome
        What it did, or why nothing.
    """

    job: str
    date: pd.Timestamp
    status: Literal["done", "skipped", "waiting"]
    outcome: Outcome


def run_jobs(
    desk: Desk,
    jobs: Sequence[Job[Desk]],
    date: pd.Timestamp,
    *,
    chain: str,
    forced: bool = False,
    sleep: Sleep = time.sleep,
) -> list[JobRun]:
    """Run the jobs of a chain for a date, those that are not done, in their order.

    Parameters
    ----------
    desk : Desk
        What they are done with.
    jobs : sequence of Job
        Each after what it needs.
    date : Timestamp
        The logical date.
    chain : {"daily", "weekly"}
        Of one chain, source and step one run at a time is at work on a date.
    forced : bool
        Whether what is done is done again; the ledger says so.
    sleep : callable
        Waits for seconds before another attempt.

    Raises
    ------
    LockHeldError
        If another run is at work on the date.
    SettingsError
        If the date has not come yet.
    """
    now = desk.clock.now()
    for job in jobs:
        if job.due_at(date) > now:
            raise SettingsError(
                f"{job.name} of {iso(date)} is due at {iso(job.due_at(date))}, it is {iso(pd.Timestamp(now))}; "
                f"its prices are not final",
                observed=date,
            )
    runs: dict[str, JobRun] = {}

    def work(lock: JobLock) -> None:
        for job in jobs:
            if job.name in runs and runs[job.name].status == "done":
                continue  # in an attempt before this one
            done = done_jobs(desk, date)
            if (job.name, date) in done and not forced:
                runs[job.name] = _not_run(job, date, "skipped", "it was done before")
            elif missing := unmet_needs(job, date, done):
                runs[job.name] = _not_run(job, date, "waiting", f"{', '.join(missing)} must be done first")
            else:
                outcome = run_job(desk, job, date, lock, forced=forced)
                runs[job.name] = JobRun(job=job.name, date=date, status="done", outcome=outcome)

    under_lock(desk, jobs, date, work, chain=chain, sleep=sleep)
    return list(runs.values())


def under_lock(
    desk: Desk,
    jobs: Sequence[Job[Desk]],
    date: pd.Timestamp,
    work: Callable[[JobLock], Result],
    *,
    chain: str,
    sleep: Sleep = time.sleep,
) -> Result:
    """Return what `work` on the jobs of a chain and date gives under their lock, tried again where it may help."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(WORTH_REPEATING),
        stop=tenacity.stop_after_attempt(max(job.attempts for job in jobs)),
        wait=tenacity.wait_random_exponential(multiplier=SHORTEST_WAIT, max=LONGEST_WAIT),
        sleep=sleep,
        before_sleep=tenacity.before_sleep_log(_log, logging.WARNING),
        reraise=True,
    )

    def attempt() -> Result:
        with desk.store.lock(desk.ledger_name(chain), date) as lock:
            return work(lock)

    return attempts(attempt)


def run_job(desk: Desk, job: Job[Desk], date: pd.Timestamp, lock: JobLock, *, forced: bool = False) -> Outcome:
    """Run a job for a date; the ledger tells how it ended, whatever happens."""
    name = desk.ledger_name(job.name)
    return recorded(desk.store, desk.source, name, date, lambda: job.step(desk, date, lock), forced=forced)


def recorded(
    ledger: Ledger,
    source: PriceSource,
    name: str,
    date: pd.Timestamp,
    work: Callable[[], Outcome],
    *,
    forced: bool = False,
) -> Outcome:
    """Do work under a name of the ledger, which tells how it ended and what was asked of the source."""
    before = next((row.details for row in ledger.load_jobs(name, date, date + INSTANT)), {})
    start = usage_of(source)
    ledger.begin_job(name, date, host=socket.gethostname(), forced=forced)
    _log.info("%s of %s begins", name, iso(date))

    def details(ended: JobEnd, found: Mapping[str, Any]) -> dict[str, Any]:
        return counted(before, found, usage_of(source) - start, ended)

    try:
        outcome = work()
    except Exception as error:
        _ended(ledger, name, date, "failed", f"{type(error).__name__}: {error}", details("failed", {}))
        raise
    except BaseException as error:
        _ended(ledger, name, date, "interrupted", type(error).__name__, details("interrupted", {}))
        raise
    found = details("done", outcome.details)
    ledger.end_job(name, date, rows=outcome.rows, message=outcome.message, details=found)
    _log.info("%s of %s is done: %s", name, iso(date), outcome.message)
    return outcome


def end_dead_run(
    desk: Desk, job: Job[Desk], date: pd.Timestamp, *, chain: str, status: JobEnd, message: str
) -> bool:
    """Write down the end of a run whose process is gone; False where it ended by itself, or its lock is held."""
    name = desk.ledger_name(job.name)
    try:
        with desk.store.lock(desk.ledger_name(chain), date):
            running = any(row.status == "running" for row in desk.store.load_jobs(name, date, date + INSTANT))
            if running:
                desk.store.end_job(name, date, status=status, message=message)
            return running
    except LockHeldError:
        return False


def done_jobs(desk: Desk, date: pd.Timestamp | None = None) -> Collection[tuple[str, pd.Timestamp]]:
    """Return the (job, date) that the ledger says are done with this source and step."""
    interval = (None, None) if date is None else (date, date + INSTANT)
    ending = desk.ledger_name("")
    return {
        (row.job.removesuffix(ending), row.logical_date)
        for row in desk.store.load_jobs(None, *interval)
        if row.status == "done" and row.job.endswith(ending)
    }


def details_of(desk: Desk, job: str, date: pd.Timestamp) -> Mapping[str, Any]:
    """Return what the last run of a job said beside its message."""
    rows: list[JobStatus] = desk.store.load_jobs(desk.ledger_name(job), date, date + INSTANT)
    return rows[0].details if rows else {}


def _not_run(job: Job[Desk], date: pd.Timestamp, status: Literal["skipped", "waiting"], message: str) -> JobRun:
    return JobRun(job=job.name, date=date, status=status, outcome=Outcome(rows=0, message=message))


def _ended(
    ledger: Ledger,
    name: str,
    date: pd.Timestamp,
    status: Literal["failed", "interrupted"],
    message: str,
    details: Mapping[str, Any],
) -> None:
    """Write down a bad end; that this fails as well must not hide why.

    What was stored together with its end, as a report is, stays done when it is interrupted behind that.
    """
    _log.error("%s of %s %s: %s", name, iso(date), status, message)
    try:
        if status == "interrupted" and ledger.load_jobs(name, date, date + INSTANT)[0].status == "done":
            return
        ledger.end_job(name, date, status=status, message=message, details=details)
    except Exception:
        _log.exception("the ledger does not know that %s of %s %s", name, iso(date), status)

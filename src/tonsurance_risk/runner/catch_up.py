"""What is due and not done, oldest first: the same whether a timer starts it or a daemon."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import attrs
import pandas as pd

from tonsurance_risk.errors import ClockSuspectError, LockHeldError, SettingsError
from tonsurance_risk.ports import JobStatus, MeteredSource
from tonsurance_risk.runner.daily import DAILY, DEPEG_BACKFILL, write_newest_report
from tonsurance_risk.runner.desk import INSTANT, Desk
from tonsurance_risk.runner.jobs import Job, missing_dates, unmet_needs
from tonsurance_risk.runner.runs import done_jobs, end_dead_run, run_jobs
from tonsurance_risk.runner.weekly import WEEKLY
from tonsurance_risk.values import as_utc, iso

CHAINS: Mapping[str, tuple[Job[Desk], ...]] = {"daily": DAILY, "weekly": WEEKLY}
JOBS: tuple[Job[Desk], ...] = (*DAILY, *WEEKLY)
LONGEST_SILENCE = timedelta(days=90)
"""A clock that is later than the ledger by more is not believed: dates of a wrong year would be made up."""
MOST_WAITED_FOR = 3
"""Attempts at a date that later ones wait for."""

Run = Callable[[Job[Desk], pd.Timestamp], bool]
"""Does a job and date; whether somebody should look at it."""
_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class CatchUp:
    """What became of what was due.

    Parameters
    ----------
    done : tuple of (job, date)
        In the order in which they were done.
    attention : tuple of (job, date)
        Those of `done` that somebody should look at: an asset failed, an alert is critical, for example.
    failed : dict of str by (job, date)
        With the error.
    left : tuple of (job, date)
        For the next time: what it needs is not done, another run has it, or the call budget is used up.
    """

    done: tuple[tuple[str, pd.Timestamp], ...]
    attention: tuple[tuple[str, pd.Timestamp], ...]
    failed: dict[tuple[str, pd.Timestamp], str]
    left: tuple[tuple[str, pd.Timestamp], ...]


def catch_up(
    desk: Desk,
    *,
    since: datetime | None = None,
    clock_is_right: bool = False,
    call_budget: int | None = None,
    run: Run | None = None,
    jobs: Sequence[Job[Desk]] = JOBS,
) -> CatchUp:
    """Run what is due and not done by the desk's clock, oldest date first.

    Parameters
    ----------
    desk : Desk
        What jobs are done with.
    since : datetime, optional
        Before it nothing is missing; when not given, the first date in the ledger, or today where that is empty.
    clock_is_right : bool
        Whether somebody says so, though it is more than 90 days later than the last run.
    call_budget : int, optional
        Dates that may use more calls of the source than this are left for the next time, the newest ones.
    run : callable, optional
        Does a job and date, in another process for example, and returns whether somebody should look at it; in
        this process when not given.
    jobs : sequence of Job
        What may be due.

    Raises
    ------
    ClockSuspectError
        If the clock is more than 90 days later than the last run, and nobody says that it is right.
    SettingsError
        If `since` has not come; or is not given, and the ledger has nothing of more than 90 days in a row: one run
        of an old date by hand does not mean that all dates since then are wanted.

    Notes
    -----
    Where a date has failed, later ones of its chain wait for two more starts: a report compares itself with those
    before it. Then they go on without it.
    """
    now = as_utc(desk.clock.now(), "the clock")
    ledger = _rows(desk)
    _mark_abandoned(desk, ledger)
    _undo_dates_to_come(desk, ledger, now)
    write_newest_report(desk)
    if not clock_is_right:
        check_clock(desk)
    newest = max((row.started_at for row in ledger), default=None)
    if newest is not None and now < newest:
        _log.warning("the clock says %s, before the last run at %s: was it set back?", iso(now), iso(newest))
    first = _first_date(ledger, now) if since is None else as_utc(since, "since")
    if first > now:
        raise SettingsError(f"since, {iso(first)}, has not come yet, it is {iso(now)}", observed=first)
    due = missing_dates(jobs, done_jobs(desk), first.normalize(), now)
    chosen, left = _within_budget(desk, due, call_budget)
    return _caught_up(desk, chosen, left, run or _in_this_process(desk))


def _first_date(ledger: Sequence[JobStatus], now: pd.Timestamp) -> pd.Timestamp:
    """Return the first date in the ledger, now where it is empty; a `SettingsError` after a long hole in it."""
    dates = sorted({*(row.logical_date for row in ledger if row.logical_date <= now), now})
    for before, after in pairwise(dates):
        if after - before > LONGEST_SILENCE:
            raise SettingsError(
                f"the ledger has nothing of the days from {before.date()} to {after.date()}; say since when dates "
                f"are wanted: --since DATE, or since = DATE under [schedule] in the settings",
                observed=before,
            )
    return dates[0]


def check_clock(desk: Desk) -> None:
    """Raise a `ClockSuspectError` where the clock is more than 90 days later than the last run of the desk."""
    now = as_utc(desk.clock.now(), "the clock")
    newest = max((row.started_at for row in _rows(desk)), default=None)
    if newest is not None and now - newest > LONGEST_SILENCE:
        raise ClockSuspectError(
            f"the clock says {iso(now)}, the last run was at {iso(newest)}: set the clock right, or name the date "
            f"that is wanted, or since when dates are missing",
            observed=now,
            required=newest,
        )


def _caught_up(
    desk: Desk, chosen: list[tuple[Job[Desk], pd.Timestamp]], left: list[tuple[Job[Desk], pd.Timestamp]], run: Run
) -> CatchUp:
    done: list[tuple[str, pd.Timestamp]] = []
    attention: list[tuple[str, pd.Timestamp]] = []
    failed: dict[tuple[str, pd.Timestamp], str] = {}
    held = set[str]()
    for job, date in chosen:
        # What another run is at comes before what is later: a report compares itself with those before it.
        if chain_of(job) in held or unmet_needs(job, date, done_jobs(desk, date)):
            left.append((job, date))
            continue
        try:
            if run(job, date):
                attention.append((job.name, date))
            done.append((job.name, date))
        except LockHeldError as error:
            _log.info("%s of %s is left to another run: %s", job.name, iso(date), error)
            held.add(chain_of(job))
            left.append((job, date))
        except Exception as error:
            _log.exception("%s of %s failed", job.name, iso(date))
            failed[job.name, date] = f"{type(error).__name__}: {error}"
            if _attempts(desk, job, date) < MOST_WAITED_FOR:
                held.add(chain_of(job))
    return CatchUp(
        done=tuple(done),
        attention=tuple(attention),
        failed=failed,
        left=tuple((job.name, date) for job, date in left),
    )


def _attempts(desk: Desk, job: Job[Desk], date: pd.Timestamp) -> int:
    name = desk.ledger_name(job.name)
    return sum(row.attempts for row in desk.store.load_jobs(name, date, date + INSTANT))


def _in_this_process(desk: Desk) -> Run:
    def run(job: Job[Desk], date: pd.Timestamp) -> bool:
        return any(one.outcome.needs_attention for one in run_jobs(desk, [job], date, chain=chain_of(job)))

    return run


def chain_of(job: Job[Desk]) -> str:
    """Return the chain that a job is part of."""
    return next(name for name, jobs in CHAINS.items() if job in jobs)


def _rows(desk: Desk) -> list[JobStatus]:
    names = {desk.ledger_name(job.name) for job in JOBS}
    return [row for row in desk.store.load_jobs() if row.job in names]


def _mark_abandoned(desk: Desk, ledger: Sequence[JobStatus]) -> None:
    """Write down of runs that never ended, and whose lock is free, that their process is gone."""
    for row in ledger:
        if row.status != "running":
            continue
        job = next(job for job in JOBS if desk.ledger_name(job.name) == row.job)
        if end_dead_run(
            desk, job, row.logical_date, chain=chain_of(job), status="abandoned", message="its process is gone"
        ):
            _log.warning("%s of %s was abandoned", row.job, iso(row.logical_date))


def _undo_dates_to_come(desk: Desk, ledger: Sequence[JobStatus], now: pd.Timestamp) -> None:
    """Write down that dates to come are not done: a clock that was ahead did them without their prices."""
    for row in ledger:
        if row.status == "done" and row.logical_date > now:
            desk.store.end_job(
                row.job, row.logical_date, status="abandoned", message="done by a clock that was ahead"
            )
            _log.warning("%s of %s was done by a clock that was ahead", row.job, iso(row.logical_date))


def _within_budget(
    desk: Desk, due: list[tuple[Job[Desk], pd.Timestamp]], call_budget: int | None
) -> tuple[list[tuple[Job[Desk], pd.Timestamp]], list[tuple[Job[Desk], pd.Timestamp]]]:
    """Return what may be done and what is left; a date costs a call an asset where the source counts them."""
    if call_budget is None or not isinstance(desk.source, MeteredSource):
        return due, []
    dates = sorted({date for job, date in due if job.name == DEPEG_BACKFILL.name})
    affordable = set(dates[: max(call_budget // len(desk.assets), 0)])
    too_late = set(dates) - affordable
    return [one for one in due if one[1] not in too_late], [one for one in due if one[1] in too_late]

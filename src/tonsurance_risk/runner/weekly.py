"""The weekly jobs: the whole retention window again, old prices out of the way, and a look at everything."""

from __future__ import annotations

import os
from datetime import datetime, time

import pandas as pd

from tonsurance_risk.assets import own_pegs
from tonsurance_risk.model import Vault
from tonsurance_risk.ports import Clock, JobLock, PriceSource, Store, SystemClock
from tonsurance_risk.reporting.files import writable_folder
from tonsurance_risk.runner.backfill import fill_gaps
from tonsurance_risk.runner.desk import RETENTION, Desk, Progress
from tonsurance_risk.runner.integrity import check_store
from tonsurance_risk.runner.jobs import Job, Outcome
from tonsurance_risk.runner.maintenance import archive_prices
from tonsurance_risk.runner.runs import JobRun, run_jobs
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.storage import SqlStore
from tonsurance_risk.values import as_utc

SUNDAY = 6


def backfill_window(desk: Desk, date: pd.Timestamp, _lock: JobLock) -> Outcome:
    """Fetch what the store lacks of the retention window."""
    today = as_utc(desk.clock.now(), "the clock").normalize()
    with desk.store.lock(desk.ledger_name("backfill"), today):
        return fill_gaps(
            desk.store,
            desk.source,
            None,
            start=date - RETENTION,
            end=date + STEPS[desk.step],
            step=desk.step,
            clock=desk.clock,
            progress=desk.progress,
        ).outcome()


def clean_up(desk: Desk, date: pd.Timestamp, _lock: JobLock) -> Outcome:
    """Move prices older than the retention window to files, where there is a folder for them."""
    if desk.archive is None or not isinstance(desk.store, SqlStore):
        return Outcome(rows=0, message="no folder for old prices is set, or the store is not a database: all stay")
    made = archive_prices(desk.store, desk.archive, before=date - RETENTION)
    return Outcome(
        rows=sum(one.n_rows for one in made),
        message=f"{sum(one.n_rows for one in made):,} rows moved to {len(made)} files",
        details={"files": [one.file for one in made]},
    )


def check_integrity(desk: Desk, _date: pd.Timestamp, _lock: JobLock) -> Outcome:
    """Look for broken rules, gaps, and results that the prices no longer give."""
    if not isinstance(desk.store, SqlStore):
        return Outcome(rows=0, message="the store is not a database: nothing to check")
    checks = check_store(desk.store, pegs=own_pegs(desk.vault))
    found = {one.name: one.message for one in checks if not one.passed}
    return Outcome(
        rows=0,
        message=f"{len(checks)} checks, {len(found)} found something",
        needs_attention=bool(found),
        details={"found": found},
    )


FULL_BACKFILL = Job(name="full_backfill", at=time(3, 0), weekday=SUNDAY, step=backfill_window)
CLEAN_UP = Job(name="clean_up", at=time(4, 5), weekday=SUNDAY, step=clean_up, needs=(FULL_BACKFILL.name,))
INTEGRITY_CHECK = Job(
    name="integrity_check", at=time(4, 20), weekday=SUNDAY, step=check_integrity, needs=(CLEAN_UP.name,)
)
WEEKLY: tuple[Job[Desk], ...] = (FULL_BACKFILL, CLEAN_UP, INTEGRITY_CHECK)


def run_weekly(
    store: Store,
    source: PriceSource,
    vault: Vault,
    *,
    as_of: datetime,
    step: str = "1h",
    archive: str | os.PathLike[str] | None = None,
    clock: Clock | None = None,
    forced: bool = False,
    progress: Progress = lambda _what, _done, _total: None,
) -> list[JobRun]:
    """Fill gaps of two years, archive what is older, and check the store.

    Parameters
    ----------
    store, source, vault, step, clock, progress
        As in `run_daily`; of the vault only the pegs of its own coins matter.
    as_of : datetime
        The logical date, a Sunday when the scheduler chooses it.
    archive : path, optional
        Folder for prices that are older than two years; without it they stay in the store.
    forced : bool
        Whether a date that is done is done again.

    Returns
    -------
    list of JobRun
        Of full_backfill, clean_up and integrity_check.

    Raises
    ------
    SettingsError
        If the step is unknown or a folder cannot be written to.
    LockHeldError
        If another run is at work on the same date, source and step.
    RiskError
        If a job fails.
    """
    desk = Desk(
        store=store,
        source=source,
        vault=vault,
        step=step,
        archive=None if archive is None else writable_folder(archive),
        clock=clock or SystemClock(),
        progress=progress,
    )
    return run_jobs(desk, WEEKLY, as_utc(as_of, "as_of"), chain="weekly", forced=forced)

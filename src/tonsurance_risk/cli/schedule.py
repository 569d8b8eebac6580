"""The command ``tonsurance-risk schedule``: the daemon, and what a timer starts instead of it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import pandas as pd
import typer

from tonsurance_risk.cli import options
from tonsurance_risk.cli.exit_codes import ATTENTION, DONE, FAILED, LOCKED
from tonsurance_risk.cli.parts import RUN_ID_VARIABLE, after_run, desk_of, new_run_id, settings_of
from tonsurance_risk.errors import ClockSuspectError, LockHeldError, RiskError, SettingsError
from tonsurance_risk.redaction import one_line
from tonsurance_risk.runner.catch_up import JOBS, CatchUp, catch_up, chain_of
from tonsurance_risk.runner.desk import Desk
from tonsurance_risk.runner.jobs import Job
from tonsurance_risk.runner.runs import done_jobs, end_dead_run
from tonsurance_risk.runner.supervision import supervised


def schedule(
    config: options.Config = None,
    db: options.Db = None,
    source: options.Source = None,
    interval: options.StepOption = None,
    vault: options.VaultFile = None,
    out: options.Out = None,
    since: Annotated[
        str | None,
        typer.Option(help="Date before which nothing is missing; of the settings, or the first in the ledger."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Do what is due and end: for a timer of the system.")
    ] = False,
    log_json: options.LogJson = False,
) -> int:
    """Run jobs when they are due, each in a process of its own, and what was missed; until interrupted."""
    given = {"db": db, "source": source, "interval": interval, "vault": vault, "out": out}
    run_id = new_run_id()
    settings = settings_of(config, log_json=log_json, run_id=run_id, **given)
    if settings.store.url == "memory://":
        raise SettingsError("schedule needs a database: memory:// is gone with each process")
    start = str(settings.schedule.since or "") if since is None else since
    first = options.date(start, "--since") if start else None
    flags = [f"--{name}={value}" for name, value in {"config": config, **given}.items() if value is not None]
    flags += ["--log-json"] if log_json else []
    stop = threading.Event()

    def tick() -> CatchUp:
        with desk_of(settings) as (desk, sinks):
            try:
                return catch_up(
                    desk,
                    since=first,
                    clock_is_right=since is not None,
                    call_budget=settings.schedule.call_budget,
                    run=_child(desk, flags, stop, run_id),
                )
            finally:
                after_run(settings, desk.store, sinks, stop=stop)

    if once:
        with _stopped_by_signals(stop):
            found = tick()
        for (name, day), error in found.failed.items():
            typer.echo(one_line(f"{name} of {day.date()}: {error}"), err=True)
        for name, day in found.attention:
            typer.echo(f"{name} of {day.date()} needs attention", err=True)
        typer.echo(f"{len(found.done)} done, {len(found.failed)} failed, {len(found.left)} left")
        return FAILED if found.failed else ATTENTION if found.left or found.attention else DONE
    _serve_schedule(tick, stop)
    return DONE


def _child(desk: Desk, flags: list[str], stop: threading.Event, run_id: str) -> Any:
    """Return what runs a job and date in a process of its own, and sees to it that the ledger knows its end."""

    def run_child(job: Job[Desk], date: pd.Timestamp) -> bool:
        if stop.is_set():
            raise LockHeldError("the scheduler was stopped")  # what is left is left, not failed
        ended = supervised(
            ["run", job.name, f"--date={date.date()}", *flags],
            timeout=job.timeout * job.attempts,
            stop=stop,
            environment={**os.environ, RUN_ID_VARIABLE: run_id},
        )
        if ended.stopped_for is not None:
            message = f"stopped: {ended.stopped_for}"
            end_dead_run(desk, job, date, chain=chain_of(job), status="failed", message=message)
            raise RiskError(ended.stopped_for)
        if ended.code == LOCKED:
            raise LockHeldError("another run is at work on it")
        # A process that could not even begin may end with 1 too: only the ledger knows.
        if ended.code not in (DONE, ATTENTION) or (job.name, date) not in done_jobs(desk, date):
            raise RiskError(f"exit code {ended.code}")
        return ended.code == ATTENTION

    return run_child


def _serve_schedule(tick: Any, stop: threading.Event) -> None:
    try:
        from apscheduler.schedulers.blocking import BlockingScheduler
        from apscheduler.triggers.cron import CronTrigger
    except ImportError as error:
        raise SettingsError(
            "schedule needs APScheduler: pip install 'tonsurance-risk[schedule]'; schedule --once does not"
        ) from error
    scheduler = BlockingScheduler(
        timezone=UTC,
        executors={"default": {"type": "threadpool", "max_workers": 1}},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    wrong: list[RiskError] = []

    def watched() -> None:
        try:
            tick()
        except (SettingsError, ClockSuspectError) as error:
            wrong.append(error)  # another tick would say the same
            scheduler.shutdown(wait=False)

    # One at a time: a date that is due while another runs is found when that is done.
    scheduler.add_job(watched, "date", run_date=datetime.now(UTC), id="start")
    # What failed, or was left to another run, is looked for every hour.
    scheduler.add_job(watched, CronTrigger(minute=40, timezone=UTC), id="again")
    for job in JOBS:
        days = "*" if job.weekday is None else str(job.weekday)
        trigger = CronTrigger(day_of_week=days, hour=job.at.hour, minute=job.at.minute, timezone=UTC)
        scheduler.add_job(watched, trigger, id=job.name)
    with _stopped_by_signals(stop, lambda: scheduler.shutdown(wait=False)):
        scheduler.start()
    if wrong:
        raise wrong[0]


@contextmanager
def _stopped_by_signals(stop: threading.Event, also: Any = lambda: None) -> Iterator[None]:
    def handler(_number: int, _frame: object) -> None:
        if not stop.is_set():
            stop.set()
            also()

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

"""The commands that run jobs and tell how they went: weekly, run, schedule, status."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from tonsurance_risk.cli.db import opened
from tonsurance_risk.errors import ClockSuspectError, LockHeldError, RiskError, SettingsError
from tonsurance_risk.inputs import read_vault, sample_vault
from tonsurance_risk.logs import configure_logging
from tonsurance_risk.ports import AlertSink, Store, SystemClock
from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.files import json_text, writable_folder
from tonsurance_risk.reporting.sinks import open_sinks
from tonsurance_risk.reporting.terminal import print_table
from tonsurance_risk.runner.catch_up import CHAINS, JOBS, CatchUp, catch_up, chain_of, check_clock
from tonsurance_risk.runner.delivery import deliver_alerts
from tonsurance_risk.runner.desk import Desk, Progress
from tonsurance_risk.runner.jobs import Job, next_due
from tonsurance_risk.runner.runs import JobRun, done_jobs, end_dead_run, run_jobs
from tonsurance_risk.runner.status import JobHealth, job_health
from tonsurance_risk.runner.supervision import supervised
from tonsurance_risk.settings import Settings
from tonsurance_risk.settings_reading import known_secrets, load_settings
from tonsurance_risk.sources import open_source
from tonsurance_risk.sources.registry import stored_name
from tonsurance_risk.storage import open_store

DONE, ATTENTION, FAILED, _, LOCKED = range(5)
LONGEST_DELIVERY = timedelta(minutes=1)
"""Of all messages after a run; what has not arrived by then is sent after the next one."""
RUN_ID_VARIABLE = "TONSURANCE_RISK_RUN_ID"
"""By which the scheduler tells the processes that it starts what to call themselves in the logs."""

Config = Annotated[Path | None, typer.Option(help="Settings file, TOML.  [default: tonsurance_risk.toml]")]
Db = Annotated[str | None, typer.Option(help="URL of the store; of the settings when not given.")]
Source = Annotated[str | None, typer.Option(help="Where prices come from; of the settings when not given.")]
StepOption = Annotated[str | None, typer.Option("--interval", help="1h or 1d; of the settings when not given.")]
VaultFile = Annotated[Path | None, typer.Option("--vault", help="Vault file; of the settings when not given.")]
Out = Annotated[Path | None, typer.Option(help="Folder for reports; of the settings when not given.")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Log JSON lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Since = Annotated[
    str | None,
    typer.Option(help="Date before which nothing is missing; of the settings, or the first in the ledger."),
]


def settings_of(
    config: Path | None, *, log_json: bool = False, run_id: str | None = None, **overrides: object
) -> Settings:
    """Return the settings that count, with logging as they say."""
    keys = {"db": "store.url", "source": "source.spec"}
    given = {keys.get(name, name): _plain(value) for name, value in overrides.items()}
    settings = load_settings(config, environment=os.environ, overrides=given)
    configure_logging(
        as_json=log_json or settings.logging.json,
        run_id=run_id or new_run_id(),
        secrets=known_secrets(os.environ),
        stream=sys.stderr,
        level=settings.logging.level,
    )
    return settings


def new_run_id() -> str:
    """Return the id of this run: that of the scheduler that started it, or a new one."""
    return os.environ.get(RUN_ID_VARIABLE) or uuid.uuid4().hex


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


@contextmanager
def desk_of(
    settings: Settings, progress: Progress = lambda _what, _done, _total: None, *, output: bool = True
) -> Iterator[tuple[Desk, list[AlertSink]]]:
    """Open the sinks, the store and the source of settings; what alerts need must be there before any work."""
    sinks = open_sinks(settings.alerts, os.environ)
    source = open_source(settings.source.spec, **settings.source.options)
    vault = sample_vault() if settings.vault is None else read_vault(settings.vault)
    with open_store(settings.store.url) as store:
        desk = Desk(
            store=store,
            source=source,
            vault=vault,
            step=settings.interval,
            out=writable_folder(settings.out) if output else None,
            html=output and settings.html,
            archive=settings.archive,
            seed=settings.seed,
            n=settings.n,
            progress=progress,
        )
        yield desk, sinks


def after_run(
    settings: Settings, store: Store, sinks: Sequence[AlertSink], *, stop: threading.Event | None = None
) -> None:
    """Send what waits in the outbox, for a minute at most, and write the figures for monitors."""
    ends_at = time.monotonic() + LONGEST_DELIVERY.total_seconds()

    def is_over() -> bool:
        return (stop is not None and stop.is_set()) or time.monotonic() > ends_at

    deliver_alerts(store, sinks, is_over=is_over)
    if settings.metrics.text_file is not None:
        from tonsurance_risk.runner.metrics import save_metrics

        names = [sink.name for sink in sinks]
        save_metrics(store, settings.metrics.text_file, now=SystemClock().now(), sinks=names)


def weekly(
    config: Config = None,
    db: Db = None,
    source: Source = None,
    interval: StepOption = None,
    vault: VaultFile = None,
    date: Annotated[str | None, typer.Option(help="The Sunday.  [default: the last one that is due]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Do again what is done.")] = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
) -> int:
    """Fill the gaps of two years, archive what is older, and check the store."""
    settings = settings_of(config, log_json=log_json, db=db, source=source, interval=interval, vault=vault)
    last = CHAINS["weekly"][-1]
    with desk_of(settings, output=False) as (desk, sinks):
        wanted = _date(date, "--date") if date is not None else _last_due(last, desk)
        runs = run_jobs(desk, CHAINS["weekly"], wanted, chain="weekly", forced=force)
        after_run(settings, desk.store, sinks)
    return _show_runs(runs, as_json=as_json)


def run(
    job: Annotated[str, typer.Argument(help=f"One of {', '.join(job.name for job in JOBS)}.")],
    date: Annotated[str | None, typer.Option(help="Logical date.  [default: the last one that is due]")] = None,
    config: Config = None,
    db: Db = None,
    source: Source = None,
    interval: StepOption = None,
    vault: VaultFile = None,
    out: Out = None,
    force: Annotated[bool, typer.Option("--force", help="Do again what is done; the ledger says so.")] = False,
    as_json: AsJson = False,
    log_json: LogJson = False,
) -> int:
    """Run one job of one date, unless it is done; what it needs must be done."""
    wanted = _job(job)
    settings = settings_of(
        config, log_json=log_json, db=db, source=source, interval=interval, vault=vault, out=out
    )
    with desk_of(settings) as (desk, sinks):
        day = _date(date, "--date") if date is not None else _last_due(wanted, desk)
        runs = run_jobs(desk, [wanted], day, chain=chain_of(wanted), forced=force)
        after_run(settings, desk.store, sinks)
    return _show_runs(runs, as_json=as_json)


def schedule(
    config: Config = None,
    db: Db = None,
    source: Source = None,
    interval: StepOption = None,
    vault: VaultFile = None,
    out: Out = None,
    since: Since = None,
    once: Annotated[
        bool, typer.Option("--once", help="Do what is due and end: for a timer of the system.")
    ] = False,
    log_json: LogJson = False,
) -> int:
    """Run jobs when they are due, each in a process of its own, and what was missed; until interrupted."""
    given = {"db": db, "source": source, "interval": interval, "vault": vault, "out": out}
    run_id = new_run_id()
    settings = settings_of(config, log_json=log_json, run_id=run_id, **given)
    if settings.store.url == "memory://":
        raise SettingsError("schedule needs a database: memory:// is gone with each process")
    start = str(settings.schedule.since or "") if since is None else since
    first = _date(start, "--since") if start else None
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


def status(
    config: Config = None,
    db: Db = None,
    source: Source = None,
    interval: StepOption = None,
    history: Annotated[int, typer.Option(min=0, help="Show the last runs as well.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Show the last date of each job and when it is due next; exit code 1 when the newest report is too old."""
    given = {"store.url": db, "source.spec": source, "interval": interval}
    settings = load_settings(config, environment=os.environ, overrides=given)
    place = stored_name(settings.source.spec), settings.interval
    now = pd.Timestamp(SystemClock().now())
    with opened(settings.store.url) as store:
        rows = store.load_jobs()
    longest = timedelta(hours=settings.schedule.max_success_age_hours)
    healths = job_health(rows, JOBS, now)
    report = next(
        (one for one in healths if (one.job, one.source, one.step) == (CHAINS["daily"][-1].name, *place)), None
    )
    too_old = report is None or report.age is None or report.age > longest
    shown = rows[len(rows) - min(history, len(rows)) :]
    if as_json:
        document = {
            "too_old": too_old,
            "max_success_age_hours": settings.schedule.max_success_age_hours,
            "jobs": [one.to_dict() for one in healths],
            "next_due": {name: time.isoformat() for name, time in next_due(JOBS, now).items()},
            "history": [_row(row) for row in shown],
        }
        typer.echo(json_text(document), nl=False)
    else:
        due = next_due(JOBS, now)
        print_table(pd.DataFrame([_health_row(one, due[one.job]) for one in healths]), "Jobs")
        if shown:
            print_table(pd.DataFrame([_row(row) for row in shown]).drop(columns="details"), "Last runs")
        if too_old:
            typer.echo(
                f"no report of the source {place[0]} at the step {place[1]} is of the last {longest}", err=True
            )
    return ATTENTION if too_old else DONE


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


def _job(name: str) -> Job[Desk]:
    for job in JOBS:
        if job.name == name:
            return job
    raise SettingsError(f"job must be one of {', '.join(job.name for job in JOBS)}, found {name!r}", observed=name)


def _date(given: str, option: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError as error:
        raise SettingsError(
            f"{option} must be a date such as 2024-12-31, found {given!r}", observed=given
        ) from error


def _last_due(job: Job[Desk], desk: Desk) -> pd.Timestamp:
    """Return the newest date that is due by a clock that can be believed."""
    check_clock(desk)
    now = pd.Timestamp(desk.clock.now())
    return job.dates(now - timedelta(days=8), now)[-1]


def _show_runs(runs: list[JobRun], *, as_json: bool) -> int:
    if as_json:
        document = [
            {
                "job": one.job,
                "date": one.date.date().isoformat(),
                "status": one.status,
                "rows": one.outcome.rows,
                "message": one.outcome.message,
                "needs_attention": one.outcome.needs_attention,
            }
            for one in runs
        ]
        typer.echo(json_text({"runs": document}), nl=False)
    else:
        for one in runs:
            typer.echo(one_line(f"{one.job} of {one.date.date()}: {one.status}, {one.outcome.message}"))
    if any(one.status == "waiting" for one in runs):
        return FAILED
    return ATTENTION if any(one.outcome.needs_attention for one in runs) else DONE


def _health_row(health: JobHealth, due: pd.Timestamp) -> dict[str, Any]:
    document = health.to_dict()
    hours, message = document.pop("age_hours"), document.pop("message")
    age = "never" if hours is None else f"{hours:.1f} h"
    return document | {"age": age, "next due": f"{due:%Y-%m-%d %H:%M}", "message": message}


def _row(row: Any) -> Mapping[str, Any]:
    return {
        "job": row.job,
        "date": row.logical_date.date().isoformat(),
        "status": row.status,
        "attempts": row.attempts,
        "started_at": row.started_at.isoformat(),
        "ended_at": None if row.ended_at is None else row.ended_at.isoformat(),
        "host": row.host,
        "forced": row.forced,
        "rows": row.rows,
        "message": row.message,
        "details": row.details,
    }

"""The commands that run jobs and tell how they went: daily, weekly, run, status."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from tonsurance_risk.cli import options
from tonsurance_risk.cli.exit_codes import ATTENTION, DONE, FAILED
from tonsurance_risk.cli.parts import after_run, desk_of, opened, print_json, progress_bar, settings_of
from tonsurance_risk.core.simulation import MOST_SIMULATIONS
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.ports import SystemClock
from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.terminal import print_summary, print_table
from tonsurance_risk.runner.catch_up import CHAINS, JOBS, chain_of, check_clock
from tonsurance_risk.runner.daily import RunResult, describe, run_daily
from tonsurance_risk.runner.desk import Desk
from tonsurance_risk.runner.jobs import Job, next_due
from tonsurance_risk.runner.runs import JobRun, run_jobs
from tonsurance_risk.runner.status import JobHealth, job_health
from tonsurance_risk.settings_reading import load_settings
from tonsurance_risk.sources import SampleSource
from tonsurance_risk.sources.registry import stored_name


def daily(
    config: options.Config = None,
    db: options.Db = None,
    source: Annotated[
        str | None, typer.Option(help=f"Where prices come from.  [default: sample] {options.SOURCES}")
    ] = None,
    interval: Annotated[
        options.Interval | None, typer.Option(help="Step of the price samples.  [default: 1h]")
    ] = None,
    vault: options.BookFile = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Logical date (00:00 UTC of it) or full instant; today, for sample its last day."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.  [default: reports]")] = None,
    html: Annotated[
        bool | None, typer.Option("--html/--no-html", help="Write a page of HTML as well.  [default: no-html]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MOST_SEED, help="Seed of the simulation.  [default: 0]")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_SIMULATIONS, help="Simulations; by the volatility of the market when not given."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    log_json: options.LogJson = False,
) -> int:
    """Fetch prices, assess the vault and write the risk report of one date."""
    step = None if interval is None else interval.value
    settings = settings_of(
        config,
        log_json=log_json,
        db=db,
        source=source,
        interval=step,
        vault=vault,
        out=out,
        html=html,
        seed=seed,
        n=n,
    )
    with progress_bar("starting") as progress, desk_of(settings, progress) as (desk, sinks):
        result = run_daily(
            desk.store,
            desk.source,
            desk.vault,
            as_of=_as_of(as_of, desk),
            step=desk.step,
            out=desk.out,
            html=desk.html,
            seed=desk.seed,
            n=desk.n,
            progress=progress,
        )
        told = after_run(settings, desk.store, sinks)
    _show(result, as_json=as_json)
    return ATTENTION if result.needs_attention or not told else DONE


def weekly(
    config: options.Config = None,
    db: options.Db = None,
    source: options.Source = None,
    interval: options.StepOption = None,
    vault: options.VaultFile = None,
    date: Annotated[str | None, typer.Option(help="The Sunday.  [default: the last one that is due]")] = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
    log_json: options.LogJson = False,
) -> int:
    """Fill the gaps of two years, archive what is older, and check the store."""
    settings = settings_of(config, log_json=log_json, db=db, source=source, interval=interval, vault=vault)
    last = CHAINS["weekly"][-1]
    with desk_of(settings, output=False) as (desk, sinks):
        wanted = options.date(date, "--date") if date is not None else _last_due(last, desk)
        runs = run_jobs(desk, CHAINS["weekly"], wanted, chain="weekly", forced=force)
        told = after_run(settings, desk.store, sinks)
    return _show_runs(runs, as_json=as_json, told=told)


def run_job(
    job: Annotated[str, typer.Argument(help=f"One of {', '.join(job.name for job in JOBS)}.")],
    date: Annotated[str | None, typer.Option(help="Logical date.  [default: the last one that is due]")] = None,
    config: options.Config = None,
    db: options.Db = None,
    source: options.Source = None,
    interval: options.StepOption = None,
    vault: options.VaultFile = None,
    out: options.Out = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
    log_json: options.LogJson = False,
) -> int:
    """Run one job of one date, unless it is done; what it needs must be done."""
    wanted = _job(job)
    settings = settings_of(
        config, log_json=log_json, db=db, source=source, interval=interval, vault=vault, out=out
    )
    with desk_of(settings) as (desk, sinks):
        day = options.date(date, "--date") if date is not None else _last_due(wanted, desk)
        runs = run_jobs(desk, [wanted], day, chain=chain_of(wanted), forced=force)
        told = after_run(settings, desk.store, sinks)
    return _show_runs(runs, as_json=as_json, told=told)


def status(
    config: options.Config = None,
    db: options.Db = None,
    source: options.Source = None,
    interval: options.StepOption = None,
    history: Annotated[int, typer.Option(min=0, help="Show the last runs as well.")] = 0,
    as_json: options.AsJson = False,
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
        print_json(document)
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


def _as_of(given: str | None, desk: Desk) -> datetime:
    now = desk.clock.now().astimezone(UTC)
    if given is not None:
        instant = options.instant(given, "--as-of")
        if instant > now:
            raise SettingsError(
                f"--as-of {given} has not come yet, it is {now:%Y-%m-%dT%H:%MZ}: its prices are not there",
                observed=given,
            )
        return instant
    if isinstance(desk.source, SampleSource):
        return desk.source.last
    check_clock(desk)
    return datetime.combine(now.date(), time(), UTC)


def _job(name: str) -> Job[Desk]:
    for job in JOBS:
        if job.name == name:
            return job
    raise SettingsError(f"job must be one of {', '.join(job.name for job in JOBS)}, found {name!r}", observed=name)


def _last_due(job: Job[Desk], desk: Desk) -> pd.Timestamp:
    """Return the newest date that is due by a clock that can be believed."""
    check_clock(desk)
    now = pd.Timestamp(desk.clock.now())
    return job.dates(now - timedelta(days=8), now)[-1]


def _show_runs(runs: list[JobRun], *, as_json: bool, told: bool) -> int:
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
        print_json({"runs": document})
    else:
        for one in runs:
            typer.echo(one_line(f"{one.job} of {one.date.date()}: {one.status}, {one.outcome.message}"))
    if any(one.status == "waiting" for one in runs):
        return FAILED
    return ATTENTION if not told or any(one.outcome.needs_attention for one in runs) else DONE


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


def _show(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result.document)
        return
    console = Console()
    print_summary(result.document, console)
    console.print(one_line(describe(result)), markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {result.report_path}", markup=False, highlight=False, soft_wrap=True)
    if result.html_path is not None:
        console.print(f"page: {result.html_path}", markup=False, highlight=False, soft_wrap=True)

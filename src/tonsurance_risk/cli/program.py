"""The command line: parse arguments, build the parts, map errors to exit codes.

Exit codes: 0 done; 1 done, but needs attention; 2 failed; 3 wrong configuration or usage; 4 another run holds
the lock.
"""

from __future__ import annotations

import re
import signal
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tonsurance_risk.cli import runs
from tonsurance_risk.cli.config import app as config_app
from tonsurance_risk.cli.db import app as db_app
from tonsurance_risk.cli.report import app as report_app
from tonsurance_risk.cli.scenarios import app as scenarios_app
from tonsurance_risk.cli.serve import serve
from tonsurance_risk.cli.simulate import simulate, stress
from tonsurance_risk.core.simulation import MOST_SIMULATIONS
from tonsurance_risk.core.windows import LONGEST_WINDOW
from tonsurance_risk.errors import LockHeldError, RiskError, SettingsError, UnknownAssetError
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.ports import SystemClock
from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.correlations import print_correlations, save_correlations
from tonsurance_risk.reporting.events import print_events, save_events
from tonsurance_risk.reporting.files import json_text, table_path
from tonsurance_risk.reporting.terminal import plain, print_summary
from tonsurance_risk.runner.backfill import (
    backfill_end,
    describe_backfill,
    describe_plan,
    plan_backfill,
    run_backfill,
)
from tonsurance_risk.runner.catch_up import check_clock
from tonsurance_risk.runner.daily import RunResult, describe, run_daily
from tonsurance_risk.runner.dependence import correlate_prices
from tonsurance_risk.runner.desk import Desk
from tonsurance_risk.runner.detection import (
    DetectionRule,
    GatheredPrices,
    detect_events,
    prices_from_file,
    prices_from_source,
    prices_from_store,
)
from tonsurance_risk.settings import SourceSettings
from tonsurance_risk.sources import SampleSource, open_source
from tonsurance_risk.sources.registry import stored_name
from tonsurance_risk.storage import open_store
from tonsurance_risk.version import __version__

DONE, ATTENTION, FAILED, WRONG_USAGE, LOCKED = range(5)
_INTERRUPTED = 130
"""What newer versions of typer make of a `KeyboardInterrupt`."""

# Newer versions of typer carry click inside themselves, so its UsageError is reached by way of a subclass.
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="Risk of stablecoin depeg cover.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


_SOURCES = (
    "sample (a simulated market), csv:FOLDER, coingecko[:TIER], binance[:SOURCE OF USDT], kraken, coinbase, "
    "defillama, or one of an installed plug-in."
)

for _name, _group in {
    "config": config_app,
    "db": db_app,
    "report": report_app,
    "scenarios": scenarios_app,
}.items():
    app.add_typer(_group, name=_name)
for _command in (simulate, stress, runs.weekly, runs.run, runs.schedule, runs.status, serve):
    app.command()(_command)


class Interval(StrEnum):
    """Steps of price samples."""

    HOUR = "1h"
    DAY = "1d"


class Side(StrEnum):
    """Which deviations are looked for."""

    BELOW = "below"
    ABOVE = "above"
    BOTH = "both"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tonsurance-risk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Risk of stablecoin depeg cover."""


@app.command()
def daily(
    config: runs.Config = None,
    db: runs.Db = None,
    source: Annotated[
        str | None, typer.Option(help=f"Where prices come from.  [default: sample] {_SOURCES}")
    ] = None,
    interval: Annotated[Interval | None, typer.Option(help="Step of the price samples.  [default: 1h]")] = None,
    vault: Annotated[
        Path | None, typer.Option(help="Vault file, JSON; the built-in sample vault when not given.")
    ] = None,
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
    log_json: runs.LogJson = False,
) -> int:
    """Fetch prices, assess the vault and write the risk report of one date."""
    step = None if interval is None else interval.value
    settings = runs.settings_of(
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
    with _progress() as bar:
        task = bar.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=plain(what), completed=done, total=total)

        with runs.desk_of(settings, progress) as (desk, sinks):
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
            runs.after_run(settings, desk.store, sinks)
    _show(result, as_json=as_json)
    return ATTENTION if result.needs_attention else DONE


@app.command()
def backfill(
    start_date: Annotated[str, typer.Option(help="First date, UTC: 2020-01-01.")],
    assets: Annotated[
        str | None, typer.Option(help="Symbols with commas between; the 14 stablecoins and BTC when not given.")
    ] = None,
    config: runs.Config = None,
    db: runs.Db = None,
    source: Annotated[
        str | None,
        typer.Option(help=f"Of the settings; coingecko where these name none, the tier by its key. {_SOURCES}"),
    ] = None,
    interval: Annotated[Interval | None, typer.Option(help="Step of the price samples.  [default: 1h]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, ask for nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan or the result as JSON.")] = False,
    log_json: runs.LogJson = False,
) -> int:
    """Fetch the prices of years that the store lacks; go on where an earlier run ended."""
    step = None if interval is None else interval.value
    settings = runs.settings_of(config, log_json=log_json, db=db, source=source, interval=step)
    # The simulated market of the default has nothing that a store could lack for long.
    spec = settings.source.spec if settings.source != SourceSettings() or source is not None else "coingecko"
    prices = open_source(spec, **settings.source.options)
    start = _instant(start_date, "--start-date")
    wanted = None if assets is None else _symbols(assets)
    now = SystemClock().now()
    with open_store(settings.store.url) as store:
        if dry_run:
            plan = plan_backfill(store, prices, wanted, start=start, end=backfill_end(now), step=settings.interval)
            typer.echo(json_text(plan.to_dict()) if as_json else describe_plan(plan), nl=not as_json)
            return ATTENTION if plan.out_of_history else DONE
        with _progress(TimeRemainingColumn()) as bar:
            task = bar.add_task("planning", total=None)
            result = run_backfill(
                store,
                prices,
                wanted,
                start=start,
                end=backfill_end(now),
                step=settings.interval,
                progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            )
    if as_json:
        typer.echo(json_text(result.to_dict()), nl=False)
    else:
        typer.echo(describe_plan(result.plan))
        typer.echo("\n".join(map(one_line, describe_backfill(result))))
    return ATTENTION if result.needs_attention else DONE


_Place = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help=f"A folder of prices, a file ASSET_1h.csv or ASSET_1d.csv, or a source. {_SOURCES}",
    ),
]
_PlaceOrName = Annotated[
    str | None,
    typer.Option(help="The same as SOURCE; with --db the name of the source in the store.  [default: sample]"),
]
_StoreToRead = Annotated[str | None, typer.Option(help="URL of a store to read from: sqlite:///FILE.")]
_IntervalOrName = Annotated[
    Interval | None, typer.Option(help="Step of the price samples; of a file by its name.  [default: 1h]")
]
_Assets = Annotated[
    str | None, typer.Option(help="Symbols with commas between; all that the source carries when not given.")
]
_Threshold = Annotated[float, typer.Option(help="An event opens beyond this share of the peg.")]
_Recovery = Annotated[float | None, typer.Option(help="And ends at this one; the threshold when not given.")]
_MinDuration = Annotated[str, typer.Option(help="Shorter events are left out: 30m, 1h, 2d.")]
_MaxGap = Annotated[str | None, typer.Option(help="Samples further apart end an event; no limit when not given.")]
_MergeWithin = Annotated[str, typer.Option(help="An event that starts so soon joins the one before.")]
_Direction = Annotated[Side, typer.Option(help="Discounts, premiums, or both.")]
_Checks = Annotated[
    bool, typer.Option("--checks/--no-checks", help="Leave out samples that the price checks reject.")
]
_EventsFile = Annotated[Path | None, typer.Option(help="File to write the events to, .csv or .json.")]


@app.command()
def detect(
    place: _Place = None,
    source: _PlaceOrName = None,
    db: _StoreToRead = None,
    interval: _IntervalOrName = None,
    assets: _Assets = None,
    threshold: _Threshold = 0.99,
    recovery: _Recovery = None,
    min_duration: _MinDuration = "1h",
    max_gap: _MaxGap = None,
    merge_within: _MergeWithin = "0h",
    direction: _Direction = Side.BELOW,
    checks: _Checks = True,
    out: _EventsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as JSON.")] = False,
) -> int:
    """Find depegs in a folder, a file or the store, print them and write them to a file."""
    rule = DetectionRule(
        threshold=threshold,
        recovery=recovery,
        min_duration=_duration(min_duration, "--min-duration"),
        max_gap=None if max_gap is None else _duration(max_gap, "--max-gap"),
        merge_within=_duration(merge_within, "--merge-within"),
        direction=direction.value,
    )
    target = None if out is None else table_path(out)
    wanted = None if assets is None else _symbols(assets)
    result = detect_events(_gathered(place, source, db, interval, wanted), rule, checks=checks)
    document = result.to_dict()
    written = None if target is None else save_events(document, target)
    if as_json:
        typer.echo(json_text(document), nl=False)
    else:
        console = Console()
        print_events(document, console)
        if written is not None:
            console.print(f"written: {written}", markup=False, highlight=False, soft_wrap=True)
    return ATTENTION if result.needs_attention else DONE


_PairsFile = Annotated[Path | None, typer.Option(help="File to write to: .csv for the pairs, .json for all.")]


@app.command()
def correlate(
    place: _Place = None,
    source: _PlaceOrName = None,
    db: _StoreToRead = None,
    interval: _IntervalOrName = None,
    assets: _Assets = None,
    windows: Annotated[str, typer.Option(help="Look-back windows in days, with commas between.")] = "30,90,365",
    as_of: Annotated[
        str | None, typer.Option(help="Date (00:00 UTC of it) or full instant; the last price when not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of all resamples.")] = 0,
    out: _PairsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Show how coins move together, and what each number rests on."""
    days = _days(windows)
    end = None if as_of is None else _instant(as_of)
    target = None if out is None else table_path(out)
    wanted = None if assets is None else _symbols(assets)
    result = correlate_prices(_gathered(place, source, db, interval, wanted), windows=days, as_of=end, seed=seed)
    document = result.to_dict()
    written = None if target is None else save_correlations(document, target)
    if as_json:
        typer.echo(json_text(document), nl=False)
    else:
        console = Console()
        print_correlations(document, console)
        if written is not None:
            console.print(f"written: {written}", markup=False, highlight=False, soft_wrap=True)
    return ATTENTION if result.needs_attention else DONE


def _days(given: str) -> list[int]:
    found = re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", given.replace(" ", ""), re.ASCII)
    if found is None or any(int(days) > LONGEST_WINDOW for days in found[0].split(",")):
        raise SettingsError(
            f"--windows must be numbers of days from 1 to {LONGEST_WINDOW:,} with commas between, found {given!r}",
            observed=given,
        )
    return list(dict.fromkeys(int(days) for days in found[0].split(",")))


def _gathered(
    place: str | None, source: str | None, db: str | None, interval: Interval | None, assets: list[str] | None
) -> GatheredPrices:
    step = (interval or Interval.HOUR).value
    if db is not None:
        if place is not None:
            raise SettingsError(f"with --db prices come from the store, leave out {place!r}", observed=place)
        if source is None:
            raise SettingsError("with --db give --source too, the name of the source in the store")
        file = Path(db.removeprefix("sqlite:///"))
        if db.startswith("sqlite:///") and not file.exists():
            # Opening it would make an empty one.
            raise SettingsError(f"--db: there is no database {str(file)!r}", observed=str(file))
        with open_store(db) as store:
            return prices_from_store(store, step, stored_name(source), assets)
    if place is not None and source is not None:
        raise SettingsError(f"give SOURCE or --source, found both {place!r} and {source!r}", observed=source)
    name = place or source or "sample"
    if Path(name).is_dir():
        name = f"csv:{name}"
    if not name.startswith("csv:") and (name.endswith(".csv") or Path(name).is_file()):
        return prices_from_file(name, interval and interval.value, assets)
    return prices_from_source(open_source(name), step, assets)


def _symbols(given: str) -> list[str]:
    symbols = [symbol.strip() for symbol in given.split(",")]
    if not all(symbols):
        raise SettingsError(f"--assets must be symbols with commas between, found {given!r}", observed=given)
    return symbols


def _duration(given: str, option: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", given, re.ASCII)
    if found is None:
        raise SettingsError(f"{option} must be a duration such as 30m, 1h or 2d, found {given!r}", observed=given)
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: float(found[1])})


def _as_of(given: str | None, desk: Desk) -> datetime:
    now = desk.clock.now().astimezone(UTC)
    if given is not None:
        instant = _instant(given)
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


def _instant(given: str, option: str = "--as-of") -> datetime:
    try:
        instant = datetime.fromisoformat(given)
    except ValueError as error:
        raise SettingsError(
            f"{option} must be a date such as 2024-12-31 or an instant such as 2024-12-31T06:00Z, found {given!r}",
            observed=given,
        ) from error
    if instant.tzinfo is not None:
        return instant
    if len(given) > len("2024-12-31"):
        raise SettingsError(
            f"{option} must say its time zone, for example {given}Z for UTC, found {given!r}", observed=given
        )
    return instant.replace(tzinfo=UTC)


def _progress(*more: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *more,
        console=Console(stderr=True),
        transient=True,
    )


def _show(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text(result.document), nl=False)
        return
    console = Console()
    print_summary(result.document, console)
    console.print(one_line(describe(result)), markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {result.report_path}", markup=False, highlight=False, soft_wrap=True)
    if result.html_path is not None:
        console.print(f"page: {result.html_path}", markup=False, highlight=False, soft_wrap=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error becomes a message on stderr."""
    try:
        outcome = app(
            args=None if arguments is None else list(arguments),
            standalone_mode=False,
            prog_name="tonsurance-risk",
        )
        return _interruption() if outcome == _INTERRUPTED else outcome if isinstance(outcome, int) else DONE
    except typer.Exit as leave:
        return _interruption() if leave.exit_code == _INTERRUPTED else leave.exit_code
    except _UsageError as error:
        error.show()
        return WRONG_USAGE
    except LockHeldError as error:
        return _complain(error, LOCKED)
    except (SettingsError, UnknownAssetError) as error:
        return _complain(error, WRONG_USAGE)
    except RiskError as error:
        return _complain(error, FAILED)
    except (typer.Abort, KeyboardInterrupt):
        return _interruption()
    except Exception as error:
        traceback.print_exc()
        return _complain(error, FAILED)


def _interruption() -> int:
    typer.echo("interrupted", err=True)
    return FAILED


def _complain(error: Exception, code: int) -> int:
    lines = map(one_line, f"{type(error).__name__}: {error}".split("\n"))
    typer.echo("\n".join(lines), err=True)
    return code


def main() -> None:
    """Entry point of the command `tonsurance-risk`; to be terminated is to be interrupted."""
    signal.signal(signal.SIGTERM, _interrupted)
    sys.exit(run())


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt

"""The command line: parse arguments, build the parts, map errors to exit codes.

Exit codes: 0 done; 1 done, but needs attention; 2 failed; 3 wrong configuration or usage; 4 another run holds
the lock.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tonsurance_risk.core.simulation import MOST_SIMULATIONS
from tonsurance_risk.errors import LockHeldError, RiskError, SettingsError, UnknownAssetError
from tonsurance_risk.inputs import read_vault, sample_vault
from tonsurance_risk.ports import Clock, PriceSource, SystemClock
from tonsurance_risk.reporting.terminal import print_summary
from tonsurance_risk.runner.daily import RunResult, describe, run_daily
from tonsurance_risk.sources import CsvSource, SampleSource
from tonsurance_risk.storage import open_store
from tonsurance_risk.version import __version__

DONE, ATTENTION, FAILED, WRONG_USAGE, LOCKED = range(5)

# Newer versions of typer carry click inside themselves, so its UsageError is reached by way of a subclass.
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="Risk of stablecoin depeg cover.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


class Interval(StrEnum):
    """Steps of price samples."""

    HOUR = "1h"
    DAY = "1d"


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
    db: Annotated[
        str, typer.Option(help="URL of the store: sqlite:///FILE, or memory://.")
    ] = "sqlite:///tonsurance_risk.db",
    source: Annotated[
        str, typer.Option(help="Where prices come from: sample (a simulated market), or csv:FOLDER.")
    ] = "sample",
    interval: Annotated[Interval, typer.Option(help="Step of the price samples.")] = Interval.HOUR,
    vault: Annotated[
        Path | None, typer.Option(help="Vault file, JSON; the built-in sample vault when not given.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Logical date (00:00 UTC of it) or full instant; today, for sample its last day."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 0,
    n: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_SIMULATIONS, help="Simulations; by the volatility of the market when not given."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Fetch prices, assess the vault and write the risk report of one date."""
    prices = _source(source)
    instant = _as_of(as_of, prices, SystemClock())
    book = sample_vault() if vault is None else read_vault(vault)
    with open_store(db) as store, _progress() as bar:
        task = bar.add_task("starting", total=None)
        result = run_daily(
            store,
            prices,
            book,
            as_of=instant,
            step=interval.value,
            out=out,
            seed=seed,
            n=n,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    _show(result, as_json=as_json)
    return ATTENTION if result.needs_attention else DONE


def _source(name: str) -> PriceSource:
    if name == "sample":
        return SampleSource()
    kind, _, place = name.partition(":")
    if kind == "csv" and place:
        return CsvSource(place)
    raise SettingsError(f"--source must be sample or csv:FOLDER, found {name!r}", observed=name)


def _as_of(given: str | None, source: PriceSource, clock: Clock) -> datetime:
    if given is None:
        if isinstance(source, SampleSource):
            return source.last
        return datetime.combine(clock.now().astimezone(UTC).date(), time(), UTC)
    try:
        instant = datetime.fromisoformat(given)
    except ValueError as error:
        raise SettingsError(
            f"--as-of must be a date such as 2024-12-31 or an instant such as 2024-12-31T06:00Z, found {given!r}",
            observed=given,
        ) from error
    if instant.tzinfo is not None:
        return instant
    if len(given) > len("2024-12-31"):
        raise SettingsError(
            f"--as-of must say its time zone, for example {given}Z for UTC, found {given!r}", observed=given
        )
    return instant.replace(tzinfo=UTC)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _show(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.document, indent=2, allow_nan=False, ensure_ascii=False))
        return
    console = Console()
    print_summary(result.document, console)
    console.print(describe(result), markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {result.report_path}", markup=False, highlight=False, soft_wrap=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error becomes a message on stderr."""
    try:
        outcome = app(
            args=None if arguments is None else list(arguments),
            standalone_mode=False,
            prog_name="tonsurance-risk",
        )
        return outcome if isinstance(outcome, int) else DONE
    except typer.Exit as leave:
        return leave.exit_code
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
        typer.echo("interrupted", err=True)
        return FAILED
    except Exception as error:
        traceback.print_exc()
        return _complain(error, FAILED)


def _complain(error: Exception, code: int) -> int:
    typer.echo(f"{type(error).__name__}: {error}", err=True)
    return code


def main() -> None:
    """Entry point of the command `tonsurance-risk`."""
    sys.exit(run())

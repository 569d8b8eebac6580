"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from tonsurance_risk.errors import SettingsError

SOURCES = (
    "sample (a simulated market), csv:FOLDER, coingecko[:TIER], binance[:SOURCE OF USDT], kraken, coinbase, "
    "defillama, or one of an installed plug-in."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Assets = Annotated[
    str | None, typer.Option(help="Symbols with commas between; all that the source carries when not given.")
]
BookFile = Annotated[
    Path | None, typer.Option("--vault", help="Vault file, JSON; the built-in sample vault when not given.")
]
Config = Annotated[Path | None, typer.Option(help="Settings file, TOML.  [default: tonsurance_risk.toml]")]
Database = Annotated[
    str, typer.Option("--db", help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.")
]
Db = Annotated[str | None, typer.Option(help="URL of the store; of the settings when not given.")]
Force = Annotated[bool, typer.Option("--force", help="Do again what is done; the ledger says so.")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Log JSON lines.")]
Out = Annotated[Path | None, typer.Option(help="Folder for reports; of the settings when not given.")]
Source = Annotated[str | None, typer.Option(help="Where prices come from; of the settings when not given.")]
StepOption = Annotated[str | None, typer.Option("--interval", help="1h or 1d; of the settings when not given.")]
StoredSource = Annotated[
    str | None,
    typer.Option("--source", help="Name of the source in the database; needed where it has several."),
]
VaultFile = Annotated[Path | None, typer.Option("--vault", help="Vault file; of the settings when not given.")]

DEFAULT_DATABASE = "sqlite:///tonsurance_risk.db"


class Interval(StrEnum):
    """Steps of price samples."""

    HOUR = "1h"
    DAY = "1d"


def group(about: str) -> typer.Typer:
    """Return a group of commands."""
    return typer.Typer(help=about, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def symbols(given: str | None) -> list[str] | None:
    """Read ``--assets``; None where nothing is given."""
    if given is None:
        return None
    read = [symbol.strip() for symbol in given.split(",")]
    if not all(read):
        raise SettingsError(f"--assets must be symbols with commas between, found {given!r}", observed=given)
    return read


def duration(given: str, option: str) -> timedelta:
    """Read 30m, 1h or 2d."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", given, re.ASCII)
    if found is None:
        raise SettingsError(f"{option} must be a duration such as 30m, 1h or 2d, found {given!r}", observed=given)
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: float(found[1])})


def date(given: str, option: str) -> pd.Timestamp:
    """Read the date of a job."""
    try:
        return pd.Timestamp(datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError as error:
        raise SettingsError(
            f"{option} must be a date such as 2024-12-31, found {given!r}", observed=given
        ) from error


def instant(given: str, option: str) -> datetime:
    """Read a date, 00:00 UTC of it, or an instant that says its time zone."""
    try:
        read = datetime.fromisoformat(given)
    except ValueError as error:
        raise SettingsError(
            f"{option} must be a date such as 2024-12-31 or an instant such as 2024-12-31T06:00Z, found {given!r}",
            observed=given,
        ) from error
    if read.tzinfo is not None:
        return read
    if len(given) > len("2024-12-31"):
        raise SettingsError(
            f"{option} must say its time zone, for example {given}Z for UTC, found {given!r}", observed=given
        )
    return read.replace(tzinfo=UTC)

"""The commands ``tonsurance-risk db``: upgrade, look at, back up, check and archive a database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from tonsurance_risk.assets import own_pegs
from tonsurance_risk.cli.exit_codes import ATTENTION, DONE
from tonsurance_risk.cli.options import DEFAULT_DATABASE, AsJson, BookFile, Database, group, instant
from tonsurance_risk.cli.parts import opened, print_json, vault_of
from tonsurance_risk.redaction import one_line
from tonsurance_risk.runner.desk import RETENTION
from tonsurance_risk.runner.integrity import check_store
from tonsurance_risk.runner.maintenance import archive_prices
from tonsurance_risk.storage.copies import Contents, back_up, restore
from tonsurance_risk.storage.information import information

app = group("Upgrade, look at, back up, check and archive a database.")


@app.command()
def upgrade(db: Database = DEFAULT_DATABASE) -> int:
    """Bring the database to the schema of this version; set up one that is empty."""
    with opened(db, migrate=True, may_be_new=True) as store:
        found = information(store.database)
    typer.echo(f"{found['database']} has the schema version {found['schema_version']}")
    return DONE


@app.command()
def info(db: Database = DEFAULT_DATABASE, as_json: AsJson = False) -> int:
    """Show what the database holds."""
    with opened(db) as store:
        found = information(store.database)
    _print(found, as_json=as_json)
    return DONE


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="SQLite file to write; must not exist.")],
    db: Database = DEFAULT_DATABASE,
) -> int:
    """Copy the database, of either kind, to an SQLite file, and read it again."""
    with opened(db) as store:
        copied = back_up(store.database, file)
    typer.echo(f"{_rows(copied)} in {file}")
    return DONE


@app.command("restore")
def restore_(file: Annotated[Path, typer.Argument(help="A backup.")], db: Database = DEFAULT_DATABASE) -> int:
    """Copy a backup into a database, of either kind, that holds no data yet."""
    with opened(db, may_be_new=True) as store:
        copied = restore(file, store.database)
        typer.echo(f"{_rows(copied)} restored into {store.database.name}")
    return DONE


@app.command()
def check(db: Database = DEFAULT_DATABASE, vault: BookFile = None, as_json: AsJson = False) -> int:
    """Look for broken rules, gaps, and results that the prices no longer give; change nothing."""
    with opened(db) as store:
        checks = check_store(store, pegs=own_pegs(vault_of(vault)))
    if as_json:
        print_json({"checks": [attrs.asdict(one) for one in checks]})
    else:
        for one in checks:
            typer.echo(f"{'ok ' if one.passed else 'NO '} {one.name}: {one.message}")
    return DONE if all(one.passed for one in checks) else ATTENTION


@app.command()
def archive(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
    db: Database = DEFAULT_DATABASE,
    before: Annotated[
        str | None, typer.Option(help="Date; months that end before it are archived.  [default: 730 days ago]")
    ] = None,
) -> int:
    """Move old prices to compressed files, each read again before anything is deleted."""
    limit = datetime.now(UTC) - RETENTION if before is None else instant(before, "--before")
    with opened(db) as store:
        made = archive_prices(store, folder, before=limit)
    typer.echo(f"{sum(one.n_rows for one in made):,} rows in {len(made):,} new files in {folder}")
    return DONE


def _rows(copied: Contents) -> str:
    return f"{sum(copied.rows.values()):,} rows of {len(copied.rows)} tables"


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name in ("database", "schema_version", "size_bytes", "timescaledb"):
        facts = found[name]
        if isinstance(facts, dict):
            facts = ", ".join(f"{what.replace('_', ' ')} {fact}" for what, fact in facts.items())
        typer.echo(f"{name.replace('_', ' ')}: {facts}")
    for table, rows in found["rows"].items():
        typer.echo(f"  {table}: {rows:,}")
    for prices in found["prices"]:
        typer.echo(
            f"  {one_line(prices['source'])} {prices['step']}: {prices['n']:,} prices of {prices['assets']} "
            f"assets, {prices['first']} to {prices['last']}"
        )

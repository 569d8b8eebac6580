"""Whole databases copied: a backup is an SQLite file of the same schema, whatever database it comes from.

So a backup of PostgreSQL needs no tool of the server, holds plain tables where the server had TimescaleDB, and can
be restored into either; moving from SQLite to PostgreSQL is a backup and a restore.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from sqlalchemy import BigInteger, Column, Connection, MetaData, Row, Table, func, insert, select

from tonsurance_risk.errors import StorageError, StoreCorruptError
from tonsurance_risk.storage.columns import Duration, UtcTime
from tonsurance_risk.storage.database import Database, run, storage_errors
from tonsurance_risk.storage.schema import job_locks, metadata, schema_version
from tonsurance_risk.storage.sqlite import SqliteFile, copy_file

_ROWS_AT_ONCE = 10_000
NOT_DATA = (schema_version.name, job_locks.name)
"""What a database is, and what is held right now."""


@attrs.frozen
class Contents:
    """What a database holds.

    Parameters
    ----------
    rows : dict of int by table
    sha256 : dict of str by table
        Of all rows in the order of their keys: equal on every database that holds the same.
    """

    rows: dict[str, int]
    sha256: dict[str, str]


def contents(database: Database) -> Contents:
    """Read every row and return how many there are and their hashes, as of one instant."""
    return run(database, _contents, writes=False)


def back_up(database: Database, target: Path) -> Contents:
    """Copy a database to a file that must not exist, read it again and return what it holds.

    Raises
    ------
    StorageError
        If the file exists or cannot be written in whole.
    StoreCorruptError
        If what was read again is not what was there. No file is left then.
    """
    if target.exists():
        raise StorageError(f"{target} exists already; a backup overwrites nothing")
    if not target.parent.is_dir():
        raise StorageError(f"cannot write the backup {target}: {target.parent} is not a folder; create it first")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        if isinstance(database, SqliteFile):
            with storage_errors(database):
                copy_file(database.engine, part)
            expected = None  # others may write meanwhile; the copy is of one instant
        else:
            expected = copy_rows(database, part)
        copy = SqliteFile(part)
        try:
            found = contents(copy)
        finally:
            copy.engine.dispose()
        if expected is not None and expected != found:
            raise StoreCorruptError(
                f"the backup {target} does not hold what {database.name} held; nothing was kept"
            )
        log = part.with_name(f"{part.name}-wal")
        # SQLite says nothing where it cannot copy its log into the file when that is closed.
        if log.exists() and log.stat().st_size:
            raise StorageError(f"the backup {target} could not be completed, is the disk full? Nothing was kept")
        part.replace(target)
    finally:
        for file in (part, *(part.with_name(f"{part.name}{ending}") for ending in ("-wal", "-shm"))):
            file.unlink(missing_ok=True)
    return found


def copy_rows(source: Database, target: Path) -> Contents:
    """Copy every row to a new SQLite file and return what was read."""
    file = SqliteFile(target)
    try:
        return run(source, lambda connection: _copied(connection, file), writes=False)
    finally:
        file.engine.dispose()


def restore(backup: Path, target: Database) -> Contents:
    """Copy a backup into a database that holds no data yet, all or nothing, and return what it holds now.

    Raises
    ------
    StorageError
        If there is no such file, or the target holds data.
    SchemaVersionError
        If the backup has an older schema: upgrade it first, it is a database like any other.
    StoreCorruptError
        If what was written is not what was read; nothing is kept then.
    """
    if not backup.is_file():
        raise StorageError(f"there is no backup {backup}")
    filled = {table: rows for table, rows in contents(target).rows.items() if rows}
    if filled:
        raise StorageError(
            f"{target.name} holds data ({', '.join(sorted(filled))}); a backup is restored into an empty database"
        )
    file = SqliteFile(backup)
    try:
        expected = run(file, lambda connection: _copied(connection, target), writes=False)
    finally:
        file.engine.dispose()
    return expected


def _copied(source: Connection, target: Database) -> Contents:
    def work(connection: Connection) -> Contents:
        for table in _tables():
            for rows in _chunks(source, table):
                connection.execute(insert(table), [row._asdict() for row in rows])
            target.renumber(connection, table.name)
        found, expected = _contents(connection), _contents(source)
        if found != expected:
            raise StoreCorruptError(f"{target.name} does not hold what was copied into it; nothing of it was kept")
        return found

    return run(target, work, writes=True)


def _contents(connection: Connection) -> Contents:
    rows, hashes = {}, {}
    for table in _tables():
        sha256 = hashlib.sha256()
        for chunk in _chunks(connection, table):
            sha256.update(repr([tuple(row) for row in chunk]).encode())
        rows[table.name] = connection.execute(select(func.count()).select_from(table)).scalar_one()
        hashes[table.name] = sha256.hexdigest()
    return Contents(rows, hashes)


def _chunks(connection: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    ordered = select(table).order_by(*table.primary_key)
    with connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(ordered) as result:
        for chunk in result.partitions():
            yield list(chunk)


def _tables() -> list[Table]:
    """Return the tables with data, after those that they point to; instants as the stored integers."""
    return [_plain(table) for table in metadata.sorted_tables if table.name not in NOT_DATA]


def _plain(table: Table) -> Table:
    columns = (
        Column(
            column.name,
            BigInteger if isinstance(column.type, UtcTime | Duration) else column.type,
            primary_key=column.primary_key,
        )
        for column in table.columns
    )
    return Table(table.name, MetaData(), *columns)

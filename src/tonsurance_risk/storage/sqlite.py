"""SQLite files: opened only when they are sound and ours, and their errors in the words of this library."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, insert, inspect, select

from tonsurance_risk.errors import SchemaVersionError, StorageError, StoreBusyError, StoreCorruptError
from tonsurance_risk.storage.schema import VERSION, metadata, schema_version

BUSY_TIMEOUT = timedelta(seconds=5)
"""How long a write waits for another process before it is refused."""

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_RESTORE = "it was left as it is; restore it from a backup or give another path"


def open_engine(path: Path) -> Engine:
    """Open the database at `path`, and set up one that is new or empty.

    Raises
    ------
    StoreCorruptError
        If the file is not a sound database or holds the tables of something else; nothing is written to it.
    SchemaVersionError
        If it has another schema than this version of the library; nothing is written to it.
    StorageError
        If the place cannot be used.
    """
    _refuse_unusable_place(path)
    _refuse_unsound_file(path)
    engine = _engine(path)
    try:
        with storage_errors(path):
            _prepare(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the database and its driver into those of this library."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _translated(error.orig, path) from error
    except exc.TimeoutError as error:
        raise StoreBusyError(f"no connection to the database {path} came free: {error}") from error
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise _translated(error, path) from error


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Run a block as one transaction: everything in it is kept, or nothing."""
    with engine.connect() as connection:
        # A reader that starts to write may find that another process was faster; a writer asks at once.
        connection.execution_options(begin="BEGIN IMMEDIATE" if writes else "BEGIN")
        with connection.begin():
            yield connection


def _translated(error: BaseException | None, path: Path) -> StorageError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusyError(
            f"the database {path} is locked by another process ({error}; each attempt waits up to "
            f"{BUSY_TIMEOUT.total_seconds():g} s); try again"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorruptError(f"{path} is not a sound database ({error}); {_RESTORE}")
    return StorageError(f"the database {path} cannot do this: {error}; nothing of it was stored")


def _refuse_unusable_place(path: Path) -> None:
    if path.is_dir():
        raise StorageError(f"cannot open the database {path}: it is a folder, a file is needed")
    if not path.parent.is_dir():
        raise StorageError(f"cannot open the database {path}: {path.parent} is not a folder; create it first")


def _refuse_unsound_file(path: Path) -> None:
    """Look at a file before SQLite does, which would take one cut within its last page for whole."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            header = file.read(_HEADER)
        size = path.stat().st_size
    except OSError as error:
        raise StorageError(f"cannot read the database {path}: {error.strerror}") from error
    if not header.startswith(_MAGIC):
        raise StoreCorruptError(f"{path} is not an SQLite database; {_RESTORE}")
    page_size = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    log = path.with_name(f"{path.name}-wal")
    # With a write-ahead log, pages that the header counts may still be in the log.
    if len(header) < _HEADER or (size < expected and not (log.exists() and log.stat().st_size)):
        raise StoreCorruptError(
            f"{path} is cut short: {size:,} of {max(expected, _HEADER):,} bytes; {_RESTORE}",
            observed=size,
            required=expected,
        )


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_TIMEOUT.total_seconds()}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin a transaction late, and none for reads; see `_begin`.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _prepare(engine: Engine, path: Path) -> None:
    with transaction(engine, writes=False) as connection:
        is_new = _is_empty(connection, path)
    if is_new:
        with transaction(engine, writes=True) as connection:
            # Another process may have set it up meanwhile.
            if _is_empty(connection, path):
                metadata.create_all(connection)
                connection.execute(insert(schema_version).values(id=1, version=VERSION))
    # Only now that the file is known to be ours, since this writes to it.
    _use_write_ahead_log(engine)


def _use_write_ahead_log(engine: Engine) -> None:
    with closing(engine.raw_connection()) as pooled:
        try:
            pooled.cursor().execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Processes that open a new database at once meet here; another, or the next to open it, sets it.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise


def _is_empty(connection: Connection, path: Path) -> bool:
    """Return whether there are no tables at all; raise where they are not those of this version."""
    found = set(inspect(connection).get_table_names())
    if not found:
        return True
    if schema_version.name not in found:
        raise StoreCorruptError(
            f"{path} holds the tables of something else ({', '.join(sorted(found))}); "
            f"nothing was written to it, give another path"
        )
    version = connection.execute(select(schema_version.c.version)).scalar_one_or_none()
    if version is not None and version != VERSION:
        raise SchemaVersionError(
            f"{path} has the schema version {version}, this version of the library has {VERSION}; "
            f"nothing was written to it",
            observed=version,
            required=VERSION,
        )
    missing = sorted(set(metadata.tables) - found)
    if version is None or missing:
        what = f"the tables {', '.join(missing)}" if missing else "its schema version"
        raise StoreCorruptError(f"{path} has lost {what}; {_RESTORE}")
    return False

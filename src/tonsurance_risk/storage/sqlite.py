"""SQLite files: opened only when they are sound and ours, and their errors in the words of this library."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    FromClause,
    create_engine,
    event,
    insert,
    select,
    type_coerce,
)

from tonsurance_risk.errors import StorageError, StoreBusyError, StoreCorruptError, StoreUnavailableError
from tonsurance_risk.storage import database
from tonsurance_risk.storage.database import Conditions, storage_errors
from tonsurance_risk.storage.leases import Lease
from tonsurance_risk.storage.price_rows import AssetPrices, Samples
from tonsurance_risk.storage.schema import VERSION, staged_prices
from tonsurance_risk.storage.setup import RESTORE, prepare

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_ROWS_AT_ONCE = 50_000
_SAMPLE = np.dtype([("microseconds", np.int64), ("price", np.float64)])


class SqliteFile:
    """An SQLite file that holds the tables of this library; one that is new or empty is set up.

    Parameters
    ----------
    path : Path
        The file.
    migrate : bool
        Whether an older schema is upgraded, from a copy beside the file that is kept.

    Raises
    ------
    StoreCorruptError
        If the file is not a sound database or holds the tables of something else; nothing is written to it.
    SchemaVersionError
        If it has another schema than this version of the library; nothing is written to it.
    StorageError
        If the place cannot be used.
    """

    driver_error = sqlite3.Error

    def __init__(self, path: Path, *, migrate: bool = False) -> None:
        _refuse_unusable_place(path)
        _refuse_unsound_file(path)
        self.path = path
        self.name = str(path)
        self.engine = _engine(path)
        try:
            with storage_errors(self):
                prepare(self, migrate=migrate)
                # Only now that the file is known to be ours, since this writes to it.
                _use_write_ahead_log(self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def begun(self, *, writes: bool) -> Iterator[Connection]:
        """Run a block as one transaction; see `Database.begun`."""
        with self.engine.connect() as connection:
            # A reader that starts to write may find that another process was faster; a writer asks at once.
            connection.execution_options(begin="BEGIN IMMEDIATE" if writes else "BEGIN")
            with connection.begin():
                yield connection

    def translated(self, error: BaseException) -> StorageError:
        """Return an error of the driver in the words of this library; see `Database.translated`."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            holders = ", ".join(_lock_holders(self.path))
            likely = f"; likely {holders}" if holders else ""
            return StoreBusyError(
                f"the database {self.path} is locked by another process ({error}; each attempt waits up to "
                f"{database.BUSY_TIMEOUT.total_seconds():g} s{likely}); try again",
                observed=holders or None,
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreUnavailableError(
                f"the database {self.path} cannot take more: its disk is full ({error}); nothing of it was stored"
            )
        if code == sqlite3.SQLITE_READONLY:
            return StoreUnavailableError(f"the database {self.path} takes no writes ({error})")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreCorruptError(f"{self.path} is not a sound database ({error}); {RESTORE}")
        return StorageError(f"the database {self.path} cannot do this: {error}; nothing of it was stored")

    def put_staged(self, connection: Connection, columns: Iterable[AssetPrices]) -> int:
        """Put rows into `staged_prices` in batches; see `Database.put_staged`."""
        statement = str(insert(staged_prices).compile(dialect=connection.dialect))
        staged = 0
        for column in columns:
            for rows in column.rows(_ROWS_AT_ONCE):
                connection.exec_driver_sql(statement, rows)
                staged += len(rows)
        return staged

    def samples(
        self, connection: Connection, prices: FromClause, where: Conditions
    ) -> dict[tuple[str, str], Samples]:
        """Return samples; see `Database.samples`."""
        # Plain integers in plain tuples: an object a row, for the time or the row, costs more than reading.
        time = type_coerce(prices.c.time, BigInteger)
        pairs = select(prices.c.asset, prices.c.source).where(*where).distinct()
        samples: dict[tuple[str, str], Samples] = {}
        for asset, source in connection.execute(pairs).all():
            of_asset = select(time, prices.c.price).where(
                *where, prices.c.asset == asset, prices.c.source == source
            )
            rows = np.array(connection.execute(of_asset).cursor.fetchall(), dtype=_SAMPLE)
            samples[asset, source] = (rows["microseconds"], rows["price"])
        return samples

    @contextmanager
    def lock(self, key: str) -> Iterator[Lease]:
        """Hold a lease; see `Lease`."""
        lease = Lease(self, key)
        with lease.held():
            yield lease

    def before_upgrade(self) -> None:
        """Copy the file, with all commits of its log, to a name beside it."""
        copy_file(self.engine, self.path.with_name(f"{self.path.name}.before-schema-{VERSION}"))

    def renumber(self, connection: Connection, table: str) -> None:
        """Do nothing: SQLite looks for the largest itself."""

    def size(self, connection: Connection) -> int:
        """Return the bytes of the pages; see `Database.size`."""
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
        return int(pages * size)


def copy_file(engine: Engine, target: Path) -> None:
    """Copy a database to a file by the backup API: every commit, as of one instant, whoever writes meanwhile."""
    with closing(engine.raw_connection()) as pooled, closing(sqlite3.connect(target)) as copy:
        driver: sqlite3.Connection = pooled.driver_connection  # type: ignore[assignment]
        driver.backup(copy)


def _lock_holders(path: Path) -> list[str]:
    """Return the processes that write to a database, where the system tells: Linux lists all locks on files."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        # With a write-ahead log it is its index that a writer locks.
        files = [path, path.with_name(f"{path.name}-shm")]
        inodes = {str(file.stat().st_ino) for file in files if file.exists()}
        writes = [fields for line in lines if (fields := line.split())[3] == "WRITE"]
        writers = {process for *_, process, file, _, _ in writes if file.rpartition(":")[2] in inodes}
        return [f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})" for pid in sorted(writers)]
    except (OSError, IndexError, ValueError):
        return []


def _refuse_unusable_place(path: Path) -> None:
    try:
        is_folder, has_folder = path.is_dir(), path.parent.is_dir()
    except OSError as error:  # a name too long, for example
        raise StorageError(f"cannot open the database {path}: {error.strerror}") from error
    if is_folder:
        raise StorageError(f"cannot open the database {path}: it is a folder, a file is needed")
    if not has_folder:
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
        raise StoreCorruptError(f"{path} is not an SQLite database; {RESTORE}")
    page_size = int.from_bytes(header[16:18], "big")
    expected = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    log = path.with_name(f"{path.name}-wal")
    # With a write-ahead log, pages that the header counts may still be in the log.
    if len(header) < _HEADER or (size < expected and not (log.exists() and log.stat().st_size)):
        raise StoreCorruptError(
            f"{path} is cut short: {size:,} of {max(expected, _HEADER):,} bytes; {RESTORE}",
            observed=size,
            required=expected,
        )


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_timeout=database.BUSY_TIMEOUT.total_seconds(),
        connect_args={"timeout": database.BUSY_TIMEOUT.total_seconds()},
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


def _use_write_ahead_log(engine: Engine) -> None:
    with closing(engine.raw_connection()) as pooled:
        try:
            pooled.cursor().execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Processes that open a new database at once meet here; another, or the next to open it, sets it.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise

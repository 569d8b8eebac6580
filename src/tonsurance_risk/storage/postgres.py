"""PostgreSQL: bulk by COPY, one writer at a time, and its errors in the words of this library."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import numpy as np
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    FromClause,
    LargeBinary,
    create_engine,
    exc,
    func,
    literal_column,
    make_url,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.types import BigInteger

from tonsurance_risk.errors import (
    LockHeldError,
    LockLostError,
    SettingsError,
    StorageError,
    StoreBusyError,
    StoreCorruptError,
    StoreUnavailableError,
)
from tonsurance_risk.redaction import redact
from tonsurance_risk.storage import database
from tonsurance_risk.storage.database import Conditions, storage_errors
from tonsurance_risk.storage.price_rows import AssetPrices, Samples
from tonsurance_risk.storage.schema import metadata
from tonsurance_risk.storage.setup import prepare
from tonsurance_risk.storage.timescale import use_timescale

CONNECT_TIMEOUT = 10
"""Seconds after which a server that does not answer is given up."""
_ACCEPTED = "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / in the password as %40 %3A %2F"
_BUSY = {"40001": "could not be ordered", "40P01": "deadlock"}
# Connection lost, shut down, starting; a server that has become read only is an old primary.
_GONE = ("08", "57P01", "57P02", "57P03", "25006")
_FULL = {"53100": "its disk is full", "53200": "it is out of memory", "53300": "it has too many connections"}
_ONE_WRITER = "one writer at a time"
_LOCK_HOLDER = text(
    """
    SELECT holder.pid, holder.application_name AS name, date_trunc('second', holder.xact_start)::text AS since
    FROM pg_locks AS held JOIN pg_stat_activity AS holder USING (pid)
    WHERE held.granted AND held.pid <> pg_backend_pid()
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (
        held.locktype = 'advisory' AND (held.classid::bigint << 32 | held.objid::bigint) = :writer
        OR held.locktype = 'relation' AND held.mode NOT IN ('AccessShareLock', 'RowShareLock')
    )
    ORDER BY held.locktype = 'advisory' DESC, holder.xact_start
    LIMIT 1
    """
)
_COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
_COPY_END = b"\xff\xff"
_COPY_ROWS = 100_000


def parsed_url(url: str) -> URL:
    """Return the parts of a PostgreSQL URL.

    Raises
    ------
    SettingsError
        If it cannot be read; the message shows nothing of it, since every part may hold a password.
    """
    try:
        parts = make_url(url)
        whole = parts.host is None or "@" not in parts.host
        whole = whole and (parts.database is None or "@" not in parts.database)
    except (exc.ArgumentError, ValueError):
        whole = False
    if not whole:
        raise SettingsError(f"the URL of a PostgreSQL database cannot be read; accepted is {_ACCEPTED}") from None
    if {"password", "passfile", "dsn"} & set(parts.query):
        raise SettingsError(f"the password belongs before the host, or into PGPASSFILE; accepted is {_ACCEPTED}")
    if parts.drivername not in ("postgresql", "postgresql+psycopg"):
        raise SettingsError(f"the driver of a PostgreSQL URL is psycopg; accepted is {_ACCEPTED}")
    if importlib.util.find_spec("psycopg") is None:
        raise SettingsError("PostgreSQL needs the driver psycopg: pip install 'tonsurance-risk[postgres]'")
    return parts.set(drivername="postgresql+psycopg")


class Postgres:
    """A PostgreSQL database that holds the tables of this library; an empty one is set up.

    Parameters
    ----------
    url : str
        See `parsed_url`.
    migrate : bool
        Whether an older schema is upgraded.

    Raises
    ------
    StoreUnavailableError
        If the server does not answer or does not let us in.
    """

    def __init__(self, url: str, *, migrate: bool = False) -> None:
        parts = parsed_url(url)
        self._secrets = (str(parts.password),) if parts.password else ()
        place = parts.host or parts.query.get("host") or "local socket"
        self.name = f"postgresql://{place}{f':{parts.port}' if parts.port else ''}/{parts.database or ''}"
        self.engine = _engine(parts)
        self.driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        try:
            with storage_errors(self):
                if prepare(self, migrate=migrate) or migrate:
                    with self.begun(writes=True) as connection:
                        use_timescale(connection)
        except StorageError as error:
            self.engine.dispose()
            # What the driver says may repeat the URL, and it would stand in the traceback.
            raise error from None
        except BaseException:
            self.engine.dispose()
            raise

    def __repr__(self) -> str:
        return f"Postgres({self.name!r})"

    @contextmanager
    def begun(self, *, writes: bool) -> Iterator[Connection]:
        """Run a block as one transaction; see `Database.begun`."""
        with self.engine.connect() as connection:
            if not writes:
                # One state of the database, however many statements read it.
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                if writes:
                    wait = int(database.BUSY_TIMEOUT.total_seconds() * 1000)
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait}")
                    connection.execute(select(func.pg_advisory_xact_lock(lock_number(_ONE_WRITER))))
                yield connection

    def translated(self, error: BaseException) -> StorageError:
        """Return an error of psycopg in the words of this library; see `Database.translated`."""
        code = getattr(error, "sqlstate", None) or ""
        said = redact(" ".join(str(error).split()), self._secrets)
        if code in _BUSY:
            return StoreBusyError(f"the database {self.name}: {_BUSY[code]} ({said})", retry_after=0.0)
        if code == "55P03":
            waited = database.BUSY_TIMEOUT.total_seconds()
            holder = self._lock_holder()
            return StoreBusyError(
                f"the database {self.name} is locked by another process (waited {waited:g} s"
                f"{f'; likely {holder}' if holder else ''}); try again",
                observed=holder,
            )
        if code.startswith(_GONE) or (
            not code and type(error).__name__ in ("OperationalError", "ConnectionTimeout")
        ):
            retry_after = 1.0 if code or "connection failed" not in said else None
            return StoreUnavailableError(
                f"the database {self.name} does not answer, does not let us in or takes no writes ({said})",
                retry_after=retry_after,
            )
        if code.startswith("28") or code == "3D000":
            return StoreUnavailableError(f"the database {self.name} does not let us in ({said})")
        if code in _FULL:
            return StoreUnavailableError(f"the database {self.name} cannot take more: {_FULL[code]} ({said})")
        if code.startswith("XX"):
            return StoreCorruptError(f"the database {self.name} is damaged ({said}); restore it from a backup")
        return StorageError(f"the database {self.name} cannot do this: {said}; nothing of it was stored")

    def _lock_holder(self) -> str | None:
        """Return which session has what others wait for: our one writer, or the oldest that writes to a table."""
        with suppress(exc.SQLAlchemyError, self.driver_error), self.begun(writes=False) as connection:
            found = connection.execute(_LOCK_HOLDER, {"writer": lock_number(_ONE_WRITER)}).one_or_none()
            if found is not None:
                return f"server process {found.pid} ({found.name or 'unnamed'}) since {found.since or 'long ago'}"
        return None

    def put_staged(self, connection: Connection, columns: Iterable[AssetPrices]) -> int:
        """Put rows into `staged_prices` by binary COPY; see `Database.put_staged`."""
        staged = 0
        cursor = connection.connection.cursor()
        with cursor.copy("COPY staged_prices (asset, time, price) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(_COPY_SIGNATURE)
            for rows in columns:
                for first in range(0, len(rows.prices), _COPY_ROWS):
                    copy.write(_copy_rows(rows, slice(first, first + _COPY_ROWS)))
                staged += len(rows.prices)
            copy.write(_COPY_END)
        # Nobody else counts the rows of a temporary table, and the plan of what follows hangs on them.
        connection.exec_driver_sql("ANALYZE staged_prices")
        return staged

    def samples(
        self, connection: Connection, prices: FromClause, where: Conditions
    ) -> dict[tuple[str, str], Samples]:
        """Return samples, joined into one binary string an asset; see `Database.samples`."""
        time = type_coerce(prices.c.time, BigInteger)
        joined = (
            select(
                prices.c.asset,
                prices.c.source,
                *(
                    func.string_agg(sent, aggregate_order_by(literal_column("''::bytea"), time), type_=LargeBinary)
                    for sent in (func.int8send(time), func.float8send(prices.c.price))
                ),
            )
            .where(*where)
            .group_by(prices.c.asset, prices.c.source)
        )
        return {
            (asset, source): (
                np.frombuffer(times, ">i8").astype(np.int64),
                np.frombuffer(values, ">f8").astype(float),
            )
            for asset, source, times, values in connection.execute(joined)
        }

    @contextmanager
    def lock(self, key: str) -> Iterator[AdvisoryLock]:
        """Hold an advisory lock on a connection of its own, with which it ends; see `Database.lock`."""
        number = lock_number(key)
        with storage_errors(self):
            # Never from the pool: a connection that goes back to it keeps its locks.
            own = self.engine.execution_options(isolation_level="AUTOCOMMIT").connect()
            own.detach()
        try:
            with storage_errors(self):
                if not own.execute(select(func.pg_try_advisory_lock(number))).scalar_one():
                    raise LockHeldError(f"another run has {key} in the database {self.name}; wait until it ends")
            try:
                yield AdvisoryLock(self, own, key)
            finally:
                # The server takes a moment to see that a connection has ended, and would refuse the next who asks.
                with suppress(exc.SQLAlchemyError, self.driver_error):
                    own.execute(select(func.pg_advisory_unlock(number)))
        finally:
            own.close()

    def before_upgrade(self) -> None:
        """Do nothing: a transaction covers every statement of an upgrade."""

    def renumber(self, connection: Connection, table: str) -> None:
        """Set the sequence of a table; see `Database.renumber`."""
        rows = metadata.tables[table].c
        if "id" in rows:
            sequence = func.pg_get_serial_sequence(table, "id")
            following = func.coalesce(func.max(rows.id), 0) + 1
            connection.execute(select(func.setval(sequence, following, False)))

    def size(self, connection: Connection) -> int:
        """Return the bytes that the server counts; see `Database.size`."""
        return int(connection.execute(select(func.pg_database_size(func.current_database()))).scalar_one())


@attrs.frozen
class AdvisoryLock:
    """A lock that lives as long as its connection."""

    database: Postgres
    connection: Connection
    key: str

    def verify(self) -> None:
        """Raise a `LockLostError` if the lock was lost; see `JobLock.verify`."""
        try:
            self.connection.exec_driver_sql("SELECT 1")
        except (exc.SQLAlchemyError, self.database.driver_error) as error:
            raise LockLostError(
                f"the connection that held {self.key} in the database {self.database.name} is gone, "
                f"and another run may have the lock now"
            ) from error


def lock_number(key: str) -> int:
    """Return the number of an advisory lock: the first 8 bytes of the SHA-256 of its key, the same everywhere."""
    return int.from_bytes(hashlib.sha256(f"tonsurance_risk {key}".encode()).digest()[:8], "big", signed=True)


def _engine(parts: URL) -> Engine:
    return create_engine(
        parts,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_timeout=database.BUSY_TIMEOUT.total_seconds(),
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "tonsurance_risk",
            "options": " ".join(filter(None, [_option(parts), "-c timezone=UTC"])),
        },
    )


def _option(parts: URL) -> str:
    given: Any = parts.query.get("options", "")
    return given if isinstance(given, str) else " ".join(given)


def _copy_rows(rows: AssetPrices, part: slice) -> bytes:
    """Return rows in the binary form of COPY: 3 fields, each after its length, all big-endian."""
    asset = rows.asset.encode()
    times, prices = rows.microseconds[part], rows.prices[part]
    encoded = np.empty(
        len(prices),
        dtype=[
            ("fields", ">i2"),
            ("asset_size", ">i4"),
            ("asset", f"V{len(asset)}"),
            ("time_size", ">i4"),
            ("time", ">i8"),
            ("price_size", ">i4"),
            ("price", ">f8"),
        ],
    )
    encoded["fields"], encoded["asset_size"], encoded["time_size"], encoded["price_size"] = 3, len(asset), 8, 8
    encoded["asset"] = np.void(asset)
    encoded["time"], encoded["price"] = times, prices
    return encoded.tobytes()

"""What the parts of a store in an SQL database share: transactions, and statements over any table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, delete, insert, select, update

from tonsurance_risk.ports import Clock, SystemClock, WriteResult
from tonsurance_risk.storage.database import Database, run, storage_errors
from tonsurance_risk.storage.instants import interval
from tonsurance_risk.storage.lifetime import OpenStore
from tonsurance_risk.storage.records import Row, counted, outcome

_Result = TypeVar("_Result")


class SqlPart(OpenStore):
    """A store over an open database.

    Parameters
    ----------
    database : Database
        Set up, and closed with the store.
    clock : Clock
        Tells when a row is recorded.
    """

    def __init__(self, database: Database, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it holds no state
        self.database = database
        self._clock = clock

    def close(self) -> None:
        """Release files and connections; may be called again."""
        super().close()
        with storage_errors(self.database):
            self.database.engine.dispose()

    def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        self._refuse_closed()
        return run(self.database, work, writes=False)

    def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        return self._read(lambda connection: connection.execute(query).mappings().all())

    def _write(self, work: Callable[[Connection], _Result]) -> _Result:
        self._refuse_closed()
        return run(self.database, work, writes=True)


def inside(column: ColumnElement[Any], start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    """Return the conditions of ``[start, end)``."""
    low, high = interval(start, end)
    conditions = [] if low is None else [column >= low]
    return conditions if high is None else [*conditions, column < high]


def equal(table: Table, key: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Return the conditions that columns have these values."""
    return [table.c[name] == value for name, value in key.items()]


def put(connection: Connection, table: Table, rows: Iterable[Row], ignored: Iterable[str] = ()) -> WriteResult:
    """Insert rows, or replace those of the same primary key, one after another.

    A row that differs from the stored one in `ignored` columns alone is unchanged, and not written.
    """
    outcomes = []
    for row in rows:
        same_key = equal(table, {column.name: row[column.name] for column in table.primary_key})
        stored = connection.execute(select(table).where(*same_key)).mappings().one_or_none()
        compared = (
            None if stored is None else {name: value for name, value in stored.items() if name not in ignored}
        )
        outcomes.append(outcome(compared, {name: value for name, value in row.items() if name not in ignored}))
        if outcomes[-1] == "new":
            connection.execute(insert(table), row)
        elif outcomes[-1] == "changed":
            connection.execute(update(table).where(*same_key), row)
    return counted(outcomes)


def replace(connection: Connection, table: Table, key: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Put `rows` in the place of all that have this key."""
    connection.execute(delete(table).where(*equal(table, key)))
    listed = [{**key, **row} for row in rows]
    if listed:
        connection.execute(insert(table), listed)

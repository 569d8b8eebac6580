"""Every rule of the tables, asked of every row: a file may have been written with its rules switched off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    Select,
    Table,
    func,
    literal_column,
    not_,
    or_,
    select,
)

from tonsurance_risk.storage.database import Database, run
from tonsurance_risk.storage.schema import metadata


def broken_rules(database: Database) -> list[str]:
    """Return which checks, references and columns how many rows break, and what a file says of itself."""
    return run(database, lambda connection: [*_of_database(connection), *_of_tables(connection)], writes=False)


def _of_database(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return []
    said = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    return [] if said == ["ok"] else list(said)


def _of_tables(connection: Connection) -> Iterator[str]:
    for table in metadata.sorted_tables:
        for constraint in sorted(table.constraints, key=lambda constraint: str(constraint.name)):
            if isinstance(constraint, CheckConstraint):
                count = _count(connection, table, not_(literal_column(f"({constraint.sqltext})")))
                if count:
                    yield f"{count:,} rows of {table.name} break {constraint.name}"
            elif isinstance(constraint, ForeignKeyConstraint):
                count = _orphans(connection, table, constraint)
                if count:
                    yield f"{count:,} rows of {table.name} point to nothing in {constraint.referred_table.name}"
        empty = [column.is_(None) for column in table.columns if not column.nullable]
        count = _count(connection, table, or_(*empty))
        if count:
            yield f"{count:,} rows of {table.name} lack a value that must be there"


def _count(connection: Connection, table: Table, condition: object) -> int:
    query = select(func.count()).select_from(table).where(condition)  # type: ignore[arg-type]
    return int(connection.execute(query).scalar_one())


def _orphans(connection: Connection, table: Table, reference: ForeignKeyConstraint) -> int:
    there: Select[Any] = select(literal_column("1")).where(
        *(element.column == element.parent for element in reference.elements)
    )
    return _count(connection, table, ~there.correlate(table).exists())

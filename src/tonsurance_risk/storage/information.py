"""What a database is and holds, for people and monitors."""

from __future__ import annotations

from typing import Any

import attrs
from sqlalchemy import Connection, func, select

from tonsurance_risk.storage.copies import NOT_DATA
from tonsurance_risk.storage.database import Database, run
from tonsurance_risk.storage.schema import VERSION, metadata, price_history
from tonsurance_risk.storage.timescale import timescale
from tonsurance_risk.values import iso


def information(database: Database) -> dict[str, Any]:
    """Return what a database is, its size, rows by table, and prices by source and step, in JSON types."""
    return run(database, lambda connection: _information(database, connection), writes=False)


def _information(database: Database, connection: Connection) -> dict[str, Any]:
    extension = timescale(connection)
    prices = price_history.c
    by_source = select(
        prices.source,
        prices.step,
        func.count().label("n"),
        func.count(prices.asset.distinct()).label("assets"),
        func.min(prices.time).label("first"),
        func.max(prices.time).label("last"),
    ).group_by(prices.source, prices.step)
    return {
        "database": database.name,
        "kind": connection.dialect.name,
        "schema_version": VERSION,
        "size_bytes": database.size(connection),
        "timescaledb": None if extension is None else attrs.asdict(extension),
        "rows": {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name not in NOT_DATA
        },
        "prices": [
            dict(row) | {"first": iso(row["first"]), "last": iso(row["last"])}
            for row in connection.execute(by_source.order_by(prices.source, prices.step)).mappings()
        ],
    }

"""The statements of a price store: set-based, no loop over rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    and_,
    case,
    func,
    insert,
    literal,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage.price_rows import AssetPrices, Samples
from tonsurance_risk.storage.schema import UtcTime, price_history, price_revision, staged_prices

_ROWS_AT_ONCE = 50_000
_SAMPLE = np.dtype([("microseconds", np.int64), ("price", np.float64)])
_KEY = ("asset", "source", "step", "time")
_COLUMNS = (*_KEY, "price")

Conditions: TypeAlias = Sequence[ColumnElement[bool]]


def save(
    connection: Connection, columns: Iterable[AssetPrices], source: str, step: str, recorded_at: pd.Timestamp
) -> WriteResult:
    """Store the prices of several assets; see `PriceStore.save_prices`."""
    staged_prices.create(connection)
    staged = _stage(connection, columns)
    known, changed = _compared(connection, source, step)
    if changed:
        _keep_revisions(connection, source, step, recorded_at)
    if changed or known < staged:
        _upsert(connection, source, step, recorded_at)
    staged_prices.drop(connection)
    return WriteResult(new=staged - known, changed=changed, unchanged=known - changed)


def known(known_at: pd.Timestamp | None) -> FromClause:
    """Return the prices that the store holds, or held at `known_at`, as a table."""
    if known_at is None:
        return price_history
    present = select(*(price_history.c[name] for name in _COLUMNS)).where(price_history.c.recorded_at <= known_at)
    replaced = select(*(price_revision.c[name] for name in _COLUMNS)).where(
        price_revision.c.recorded_at <= known_at, price_revision.c.replaced_at > known_at
    )
    return union_all(present, replaced).subquery()


def held(connection: Connection, prices: FromClause, where: Conditions) -> list[tuple[str, str]]:
    """Return the pairs of asset and source that a selection holds."""
    pairs = select(prices.c.asset, prices.c.source).where(*where).distinct()
    return [(asset, source) for asset, source in connection.execute(pairs)]


def sources(connection: Connection, step: str) -> list[str]:
    """Return the sources that have prices of a step, sorted."""
    distinct = select(price_history.c.source).where(price_history.c.step == step).distinct()
    return sorted(connection.scalars(distinct))


def samples(connection: Connection, prices: FromClause, where: Conditions, asset: str, source: str) -> Samples:
    """Return the samples of one asset and source; there is at least one."""
    # Plain integers in plain tuples: an object a row, for the time or the row, costs more than reading.
    time = type_coerce(prices.c.time, BigInteger)
    of_asset = select(time, prices.c.price).where(*where, prices.c.asset == asset, prices.c.source == source)
    rows = np.array(connection.execute(of_asset).cursor.fetchall(), dtype=_SAMPLE)
    return rows["microseconds"], rows["price"]


def _stage(connection: Connection, columns: Iterable[AssetPrices]) -> int:
    statement = str(insert(staged_prices).compile(dialect=connection.dialect))
    staged = 0
    for column in columns:
        for rows in column.rows(_ROWS_AT_ONCE):
            connection.exec_driver_sql(statement, rows)
            staged += len(rows)
    return staged


def _same_key(source: str, step: str) -> ColumnElement[bool]:
    return and_(
        price_history.c.asset == staged_prices.c.asset,
        price_history.c.source == source,
        price_history.c.step == step,
        price_history.c.time == staged_prices.c.time,
    )


def _later(recorded_at: pd.Timestamp) -> ColumnElement[pd.Timestamp]:
    # A clock that was set back must not make two prices known at once.
    given = literal(recorded_at, UtcTime)
    return case((price_history.c.recorded_at > given, price_history.c.recorded_at), else_=given)


def _compared(connection: Connection, source: str, step: str) -> tuple[int, int]:
    """Return how many staged prices have a stored one, and from how many of these they differ."""
    differs = case((price_history.c.price != staged_prices.c.price, 1), else_=0)
    compared = (
        select(func.count(), func.coalesce(func.sum(differs), 0))
        .select_from(staged_prices)
        .join(price_history, _same_key(source, step))
    )
    known, changed = connection.execute(compared).one()
    return int(known), int(changed)


def _keep_revisions(connection: Connection, source: str, step: str, recorded_at: pd.Timestamp) -> None:
    names = (*_COLUMNS, "recorded_at")
    replaced = (
        select(*(price_history.c[name] for name in names), _later(recorded_at))
        .select_from(staged_prices)
        .join(price_history, _same_key(source, step))
        .where(price_history.c.price != staged_prices.c.price)
    )
    connection.execute(insert(price_revision).from_select([*names, "replaced_at"], replaced))


def _upsert(connection: Connection, source: str, step: str, recorded_at: pd.Timestamp) -> None:
    rows = select(
        staged_prices.c.asset,
        literal(source),
        literal(step),
        staged_prices.c.time,
        staged_prices.c.price,
        literal(recorded_at, UtcTime),
    ).where(true())  # Without WHERE the ON of ON CONFLICT would read as that of a join.
    statement = upsert(price_history).from_select([*_COLUMNS, "recorded_at"], rows)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=_KEY,
            set_={"price": statement.excluded.price, "recorded_at": _later(recorded_at)},
            where=price_history.c.price != statement.excluded.price,
        )
    )

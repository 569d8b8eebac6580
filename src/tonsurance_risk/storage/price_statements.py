"""The statements of a price store: set-based, no loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Table,
    and_,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage.columns import UtcTime
from tonsurance_risk.storage.database import Database
from tonsurance_risk.storage.price_rows import MARKS, AssetPrices
from tonsurance_risk.storage.schema import price_history, price_revision, staged_prices

_KEY = ("asset", "source", "step", "time")
_COLUMNS = (*_KEY, "price")
# The two have the same methods, and no type in common that has them.
_UPSERT: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def save(
    database: Database,
    connection: Connection,
    columns: Iterable[AssetPrices],
    source: str,
    step: str,
    recorded_at: pd.Timestamp,
) -> WriteResult:
    """Store the prices of several assets; see `PriceStore.save_prices`."""
    staged_prices.create(connection)
    staged = database.put_staged(connection, columns)
    known, changed = _compared(connection, source, step)
    if changed:
        _keep_revisions(connection, source, step, recorded_at)
    if changed or known < staged:
        _upsert(connection, source, step, recorded_at, known=known)
    staged_prices.drop(connection)
    return WriteResult(new=staged - known, changed=changed, unchanged=known - changed)


def save_marks(
    database: Database,
    connection: Connection,
    name: str,
    columns: Iterable[AssetPrices],
    source: str,
    step: str,
) -> WriteResult:
    """Store what is known of prices; see `PriceStore.save_marks`. What is staged as a price is the mark."""
    mark, given = price_history.c[name], staged_prices.c.price
    staged_prices.create(connection)
    staged = database.put_staged(connection, columns)
    compared = (
        select(
            func.count(),
            func.coalesce(func.sum(case((mark.is_(None), 1), else_=0)), 0),
            func.coalesce(func.sum(case((mark != given, 1), else_=0)), 0),
        )
        .select_from(staged_prices)
        .join(price_history, _same_key(source, step))
    )
    there, new, changed = (int(count) for count in connection.execute(compared).one())
    if new or changed:
        differs = or_(mark.is_(None), mark != given)
        connection.execute(update(price_history).values({name: given}).where(_same_key(source, step), differs))
    staged_prices.drop(connection)
    return WriteResult(new, changed, there - new - changed, rejected=staged - there)


def marked(name: str) -> FromClause:
    """Return the prices that have this mark as a table, the mark in the place of the price."""
    columns = (*(price_history.c[part] for part in _KEY), price_history.c[name].label("price"))
    return select(*columns).where(price_history.c[name].is_not(None)).subquery()


def known(known_at: pd.Timestamp | None) -> FromClause:
    """Return the prices that the store holds, or held at `known_at`, as a table."""
    if known_at is None:
        return price_history
    present = select(*(price_history.c[name] for name in _COLUMNS)).where(price_history.c.recorded_at <= known_at)
    replaced = select(*(price_revision.c[name] for name in _COLUMNS)).where(
        price_revision.c.recorded_at <= known_at, price_revision.c.replaced_at > known_at
    )
    return union_all(present, replaced).subquery()


def sources(connection: Connection, step: str) -> list[str]:
    """Return the sources that have prices of a step, sorted."""
    distinct = select(price_history.c.source).where(price_history.c.step == step).distinct()
    return sorted(connection.scalars(distinct))


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


def _upsert(connection: Connection, source: str, step: str, recorded_at: pd.Timestamp, *, known: int) -> None:
    values = [
        staged_prices.c.asset,
        literal(source),
        literal(step),
        staged_prices.c.time,
        staged_prices.c.price,
        literal(recorded_at, UtcTime),
    ]
    columns = [*_COLUMNS, "recorded_at"]
    if not known:
        # Looking out for conflicts that cannot be takes as long again as inserting.
        connection.execute(insert(price_history).from_select(columns, select(*values)))
        return
    rows = (
        select(*values)
        .outerjoin(price_history, _same_key(source, step))
        .where(or_(price_history.c.price.is_(None), price_history.c.price != staged_prices.c.price))
    )
    statement = _UPSERT[connection.dialect.name](price_history).from_select(columns, rows)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=_KEY,
            set_={
                "price": statement.excluded.price,
                "recorded_at": _later(recorded_at),
                **dict.fromkeys(MARKS),  # they were about the old price
            },
        )
    )

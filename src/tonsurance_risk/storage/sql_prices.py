"""Prices in an SQL database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import pandas as pd
from sqlalchemy import BigInteger, Connection, FromClause, select, type_coerce

from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage import price_statements
from tonsurance_risk.storage.instants import at_or_before, now
from tonsurance_risk.storage.job_rows import reject_frame, reject_rows
from tonsurance_risk.storage.price_rows import (
    AssetPrices,
    frame_of_one_source,
    hourly_volatility,
    is_fine,
    mark,
    melted,
    melted_marks,
    touched_hours,
)
from tonsurance_risk.storage.records import only_text, place_of, storable, wanted_assets
from tonsurance_risk.storage.schema import price_history
from tonsurance_risk.storage.schema import rejects as reject_table
from tonsurance_risk.storage.sql_part import SqlPart, equal, inside, put


class SqlPrices(SqlPart):
    """A `PriceStore` in an SQL database."""

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store prices; see `PriceStore.save_prices`."""
        self._refuse_closed()
        place_of(source, step)
        columns = melted(prices)

        def work(connection: Connection) -> WriteResult:
            result = price_statements.save(self.database, connection, columns, source, step, now(self._clock))
            if is_fine(step) and result.new + result.changed:
                self._mark_volatility(connection, columns, source, step)
            return result

        return self._write(work)

    def _mark_volatility(
        self, connection: Connection, columns: Sequence[AssetPrices], source: str, step: str
    ) -> None:
        """Mark the hours that a write touched, from all that the store holds of them."""
        hours = touched_hours(columns)
        if hours is None:
            return
        prices = price_history.c
        where = [
            prices.source == source,
            prices.step == step,
            prices.asset.in_([column.asset for column in columns]),
            type_coerce(prices.time, BigInteger).between(hours[0], hours[1] - 1),
        ]
        held = self.database.samples(connection, price_history, where)
        marks = hourly_volatility({asset: samples for (asset, _), samples in held.items()})
        price_statements.save_marks(self.database, connection, "volatility_1h", marks, source, step)

    def load_prices(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
        known_at: datetime | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame; see `PriceStore.load_prices`."""
        known = None if known_at is None else at_or_before(known_at, "known_at")
        return self._frame(price_statements.known(known), assets, start, end, step, source)

    def _frame(
        self,
        prices: FromClause,
        assets: Iterable[str] | None,
        start: datetime | None,
        end: datetime | None,
        step: str,
        source: str | None,
    ) -> pd.DataFrame:
        self._refuse_closed()
        storable(step, "step")
        only_text(source, "source")
        wanted = wanted_assets(assets)
        where = [prices.c.step == step, *inside(prices.c.time, start, end)]
        if source is not None:
            where.append(prices.c.source == source)
        if wanted is not None:
            where.append(prices.c.asset.in_(wanted))
        held = self._read(lambda connection: self.database.samples(connection, prices, where))
        return frame_of_one_source(held, step, wanted)

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources; see `PriceStore.price_sources`."""
        self._refuse_closed()
        storable(step, "step")
        return self._read(lambda connection: price_statements.sources(connection, step))

    def save_marks(self, name: str, values: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store what is known of prices; see `PriceStore.save_marks`."""
        self._refuse_closed()
        place_of(source, step)
        columns = melted_marks(name, values)
        return self._write(
            lambda connection: price_statements.save_marks(self.database, connection, name, columns, source, step)
        )

    def load_marks(
        self,
        name: str,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame; see `PriceStore.load_marks`."""
        return self._frame(price_statements.marked(mark(name)), assets, start, end, step, source)

    def save_rejects(self, rejects: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Keep samples that could not be used; see `PriceStore.save_rejects`."""
        self._refuse_closed()
        rows = reject_rows(rejects, source, step, now(self._clock))
        return self._write(lambda connection: put(connection, reject_table, rows, ignored=["recorded_at"]))

    def load_rejects(
        self, start: datetime | None = None, end: datetime | None = None, *, source: str, step: str
    ) -> pd.DataFrame:
        """Return rejects; see `PriceStore.load_rejects`."""
        key = place_of(source, step)
        found = select(reject_table).where(*equal(reject_table, key), *inside(reject_table.c.time, start, end))
        return reject_frame(self._rows(found))

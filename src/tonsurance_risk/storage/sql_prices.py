"""Prices in an SQL database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pandas as pd

from tonsurance_risk.model import text
from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage import price_statements
from tonsurance_risk.storage.instants import at_or_before, now
from tonsurance_risk.storage.price_rows import melted, only_source, wide_frame
from tonsurance_risk.storage.records import only_text, storable, wanted_assets
from tonsurance_risk.storage.sql_part import SqlPart, inside


class SqlPrices(SqlPart):
    """A `PriceStore` in an SQL database."""

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store prices; see `PriceStore.save_prices`."""
        self._refuse_closed()
        storable(source, "source")
        storable(step, "step")
        columns = melted(prices)
        return self._write(
            lambda connection: price_statements.save(
                self.database, connection, columns, source, step, now(self._clock)
            )
        )

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
        self._refuse_closed()
        text(step, "step")
        only_text(source, "source")
        wanted = wanted_assets(assets)
        known = None if known_at is None else at_or_before(known_at, "known_at")
        prices = price_statements.known(known)
        where = [prices.c.step == step, *inside(prices.c.time, start, end)]
        if source is not None:
            where.append(prices.c.source == source)
        if wanted is not None:
            where.append(prices.c.asset.in_(wanted))
        held = self._read(lambda connection: self.database.samples(connection, prices, where))
        only_source({origin for _, origin in held}, step)
        samples = {asset: columns for (asset, _), columns in held.items()}
        return wide_frame(samples, sorted(samples) if wanted is None else wanted)

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources; see `PriceStore.price_sources`."""
        self._refuse_closed()
        text(step, "step")
        return self._read(lambda connection: price_statements.sources(connection, step))

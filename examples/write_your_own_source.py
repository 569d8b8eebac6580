"""Write a price source of your own, and use it beside one of the library. Needs no network.

Usage: python examples/write_your_own_source.py
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

import tonsurance_risk as tr
from tonsurance_risk.sources.steps import between, step_span

ANSWER = b"""
{"coin": "DAI", "bars": [[1709251200, "0.9998"], [1709254800, "0.9891"],
                         [1709258400, "0.9897"], [1709262000, "0.9996"]]}
"""
"""What the host of this example would answer: the open of each hour, and its close."""


def parse_bars(body: bytes, asset: str, span: timedelta) -> pd.Series:
    """Return the closes of an answer, each stamped with the end of its bar; pure, for tests on recorded bytes."""
    document = json.loads(body)
    if document.get("coin") != asset:
        raise tr.errors.PayloadError(f"asked for {asset}, the answer is of {document.get('coin')!r}", asset=asset)
    opens, closes = zip(*document["bars"], strict=True)
    index = pd.to_datetime(opens, unit="s", utc=True) + span
    return pd.Series([float(close) for close in closes], index=index, name=asset)


class OwnSource:
    """Prices of a host that knows one coin."""

    name = "own"

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``."""
        span = step_span(step, self.name)  # a step that is not there is a GranularityError
        symbol = tr.get_asset(asset).symbol  # any case; what nobody knows is an UnknownAssetError
        if symbol != "DAI":
            raise tr.UnknownAssetError(f"{self.name} has DAI only, not {symbol}", asset=symbol)
        return between(parse_bars(ANSWER, symbol, span), start, end)  # naive times are refused here


start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
own = OwnSource()
print(isinstance(own, tr.sources.PriceSource))
print(own.fetch("dai", start, end))

# Kept in a store: what is there is not asked for again.
with tr.open_store("memory://") as store:
    cached = tr.sources.CachedSource(own, store)
    cached.fetch("DAI", start, end)
    print(store.price_sources(), len(store.load_prices(["DAI"])), "samples stored")

# Behind another one, which does not have DAI: the first that answers.
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "USDC_1h.csv").write_text("timestamp,price\n2024-03-01T00:00:00Z,0.9999\n")
    several = tr.sources.FallbackSource([tr.sources.CsvSource(folder), own])
    prices = several.fetch("DAI", start, end)
    print("answered by", several.answers[-1].sources[0])

for event in tr.detect_depegs(prices):
    print(f"{event.asset} fell to {event.min_price} at {event.start:%H:%M} for {event.duration}")

"""Coinbase Exchange: candles and last prices, without a key.

Facts: ``docs.cdp.coinbase.com``, Exchange, "Get product candles" and "Get product ticker", read 2026.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime, timedelta

import pandas as pd

from tonsurance_risk.errors import PayloadError
from tonsurance_risk.sources.answers import columns, decimal_texts, mapped, numbers, shown, whole_numbers
from tonsurance_risk.sources.http_source import HttpSource, LastPrice
from tonsurance_risk.sources.json_body import parse_json
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.samples import Grid, join_pages, samples, stamps
from tonsurance_risk.values import iso

PRODUCTS: Mapping[str, str] = {
    "USDT": "USDT-USD",
    "DAI": "DAI-USD",
    "PYUSD": "PYUSD-USD",
    "USDS": "USDS-USD",
    "USD1": "USD1-USD",
    "BTC": "BTC-USD",
    "ETH": "ETH-USD",
}
"""The product by asset. There is no USDC-USD: inside Coinbase one is the other."""

_PRICES = ("lows", "highs", "closes")


def parse_candles(body: bytes, span: timedelta, *, now: pd.Timestamp) -> pd.Series:
    """Return the closes of an answer of ``/products/{id}/candles``, stamped with the end of their bars.

    Parameters
    ----------
    body : bytes
        A list of ``[time, low, high, open, close, volume]``, time in seconds, newest first.
    span : timedelta
        The length of a bar that was asked for.
    now : Timestamp
        When the answer came; the running bar is left out.

    Returns
    -------
    Series of float
        [USD], as `samples` returns it.

    Raises
    ------
    PayloadError
        If the body is something else, or a close is not between low and high: the columns are in another order.
    GranularityError
        As `samples`.

    Examples
    --------
    >>> body = b"[[1761955200, 0.9997, 0.9999, 0.9998, 0.9999, 120.5]]"
    >>> parse_candles(body, timedelta(hours=1), now=pd.Timestamp("2025-11-02", tz="UTC"))
    2025-11-01 01:00:00+00:00    0.9999
    dtype: float64
    """
    times, *prices = columns(parse_json(body), "the answer", 0, 1, 2, 4)
    opens = whole_numbers(times, "times")
    lows, highs, closes = (numbers(column, name) for column, name in zip(prices, _PRICES, strict=True))
    if not all(low <= close <= high for low, high, close in zip(lows, highs, closes, strict=True)):
        raise PayloadError("rows must be [time, low, high, open, close, volume], found a close beyond both")
    # Newest first: of doubled stamps the one that came last in time is to hold.
    return samples(stamps(opens[::-1], "s", "times") + span, closes[::-1], span, now=now)


def parse_ticker(body: bytes) -> LastPrice:
    """Return the last trade of an answer of ``/products/{id}/ticker``.

    Raises
    ------
    PayloadError
        If it is something else.

    Examples
    --------
    >>> parse_ticker(b'{"price": "0.9998", "time": "2025-11-01T00:00:07.5Z"}').price
    0.9998
    """
    fields = mapped(parse_json(body), "the answer", "price", "time")
    [price] = decimal_texts([fields["price"]], "price")
    time = pd.to_datetime(str(fields["time"]), format="ISO8601", errors="coerce", utc=False)
    if not isinstance(time, pd.Timestamp) or time.tzinfo is None or price <= 0.0:
        raise PayloadError(f"price must be > 0 and time one with a zone, found {shown(fields)}")
    return LastPrice(price=price, time=time.tz_convert("UTC"), stamped_by="source")


class CoinbaseSource(HttpSource):
    """Prices of Coinbase Exchange pairs against dollars.

    Parameters
    ----------
    base_url, clock, http
        As `HttpSource`.

    Examples
    --------
    >>> CoinbaseSource().name
    'coinbase'
    """

    name = "coinbase"
    host = "https://api.exchange.coinbase.com"
    limits = HostLimits(calls_per_minute=300, burst=5)  # half of the about 10 a second of an address
    ids = PRODUCTS
    rows = 300
    opened = pd.Timestamp("2015-01-01", tz="UTC")

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Notes
        -----
        One call for each 300 bars since 2015. A bar without trades is not there.
        """
        asked = self._question(asset, start, end, step)
        product = self._id_of(asked.asset)
        grid = Grid.of(max(asked.start, self.opened), asked.end, asked.span, now=asked.now)
        pages = [
            self.client.get(
                f"products/{product}/candles",
                {
                    "granularity": int(asked.span.total_seconds()),
                    "start": iso(window.first - asked.span),
                    "end": iso(window.last - asked.span),
                },
                functools.partial(parse_candles, span=asked.span, now=asked.now),
            )
            for window in grid.windows(self.rows)
        ]
        return join_pages(pages, asked.asset, asked.start, asked.end)

    def _last_price(self, asset: str) -> LastPrice:
        return self.client.get(f"products/{self._id_of(asset)}/ticker", None, parse_ticker)

"""Binance spot: candles and last prices, from the host for market data that needs no key.

Facts: GitHub ``binance/binance-spot-api-docs``, ``rest-api.md``, read 2026-07.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.errors import (
    GranularityError,
    PayloadError,
    RateLimitedError,
    RiskError,
    SourceError,
    StaleDataError,
    UnknownAssetError,
)
from tonsurance_risk.ports import Clock, MeteredSource, PriceSource, SourceUsage, usage_of
from tonsurance_risk.sources.answers import columns, decimal_texts, mapped, whole_numbers
from tonsurance_risk.sources.detail import DETAIL, FetchDetail
from tonsurance_risk.sources.http_errors import excerpt, explain_status
from tonsurance_risk.sources.http_source import HttpSource, LastPrice
from tonsurance_risk.sources.json_body import parse_json
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.retries import parse_retry_after
from tonsurance_risk.sources.samples import Grid, join_pages, samples, stamps
from tonsurance_risk.values import iso

PAIRS: Mapping[str, str] = {
    "USDC": "USDCUSDT",
    "DAI": "DAIUSDT",
    "USDP": "USDPUSDT",
    "BUSD": "BUSDUSDT",
    "USDe": "USDEUSDT",
    "FDUSD": "FDUSDUSDT",
    "TUSD": "TUSDUSDT",
    "USD1": "USD1USDT",
    "BTC": "BTCUSDT",
    "ETH": "ETHUSDT",
}
"""The pair by asset; all are quoted in USDT. USDT itself has no pair against dollars that is known to last."""

_WEIGHT = 2
SAME_MINUTE = timedelta(minutes=1)
"""How old a last price of USDT in dollars may be for one in USDT."""
_LONGEST_BAN = timedelta(days=3).total_seconds()
_UNKNOWN_SYMBOL, _TOO_MANY_REQUESTS = -1121, -1003

_log = logging.getLogger(__name__)


def parse_klines(body: bytes, span: timedelta, *, now: pd.Timestamp) -> pd.Series:
    """Return the closes of an answer of ``/api/v3/klines``, stamped with the end of their bars.

    Parameters
    ----------
    body : bytes
        A list of ``[open time, "open", "high", "low", "close", "volume", close time, ...]``, times in
        milliseconds, or all in microseconds.
    span : timedelta
        The length of a bar that was asked for.
    now : Timestamp
        When the answer came; the running bar is left out.

    Returns
    -------
    Series of float
        In the quote coin, as `samples` returns it.

    Raises
    ------
    PayloadError
        If the body is something else.
    GranularityError
        If a bar has another length.

    Examples
    --------
    >>> row = b'[1761955200000, "1", "1", "1", "0.9998", "9", 1761958799999, "9", 1, "9", "9", "0"]'
    >>> parse_klines(b"[" + row + b"]", timedelta(hours=1), now=pd.Timestamp("2025-11-02", tz="UTC"))
    2025-11-01 01:00:00+00:00    0.9998
    dtype: float64
    """
    first, last, prices = columns(parse_json(body), "the answer", 0, 6, 4)
    opens, ends = whole_numbers(first, "open times"), whole_numbers(last, "close times")
    unit = "us" if opens and opens[0] >= 10**14 else "ms"
    length = span // timedelta(microseconds=1) // (1 if unit == "us" else 1000)
    found = set(map(operator.sub, ends, opens)) - {length - 1}
    if found:
        shortest = min(found) + 1
        raise GranularityError(
            f"a bar of {shortest} {unit}, asked for {length}", observed=shortest, required=length
        )
    closes = decimal_texts(prices, "closes")
    return samples(stamps(opens, unit, "open times") + span, closes, span, now=now)


def parse_ticker(body: bytes, symbol: str) -> float:
    """Return the price of an answer of ``/api/v3/ticker/price``, in the quote coin.

    Raises
    ------
    PayloadError
        If it is something else, or of another symbol.

    Examples
    --------
    >>> parse_ticker(b'{"symbol": "USDCUSDT", "price": "0.99990000"}', "USDCUSDT")
    0.9999
    """
    fields = mapped(parse_json(body), "the answer", "symbol", "price")
    if fields["symbol"] != symbol:
        raise PayloadError(
            f"asked for {symbol}, the answer is of {str(fields['symbol'])[:40]!r}", observed=fields["symbol"]
        )
    [price] = decimal_texts([fields["price"]], "price")
    if price <= 0.0:
        raise PayloadError(f"price must be > 0, found {price}", observed=price)
    return price


def explain(status: int, body: bytes, headers: Mapping[str, str]) -> RiskError:
    """Return the error of an answer that is no success; `HttpClient` says how it is used.

    Examples
    --------
    >>> explain(400, b'{"code": -1121, "msg": "Invalid symbol."}', {})
    UnknownAssetError('Invalid symbol. (code -1121)')
    """
    if status == 418:  # a ban of this address; whoever goes on is banned longer
        wait = parse_retry_after(headers.get("retry-after"), headers.get("date"))
        return RateLimitedError(f"banned, HTTP 418: {excerpt(body)}", retry_after=wait or _LONGEST_BAN)
    try:
        fields = mapped(parse_json(body), "the answer", "code", "msg")
    except PayloadError:
        return explain_status(status, body, headers)
    message = f"{str(fields['msg'])[:200]} (code {str(fields['code'])[:20]})"
    if fields["code"] == _UNKNOWN_SYMBOL:
        return UnknownAssetError(message, observed=status)
    if fields["code"] == _TOO_MANY_REQUESTS:
        return RateLimitedError(message, observed=status)
    return explain_status(status, message.encode(), headers)


class BinanceSource(HttpSource):
    """Prices of Binance spot pairs, which are quoted in USDT, in dollars.

    Each close is multiplied by the close of USDT in dollars of the same bar, from another source. A bar for which
    that one has no price is left out and counted as ``unmatched``; without such a source nothing is given.

    Parameters
    ----------
    usdt : PriceSource or None
        Gives USDT in dollars, Coinbase or Kraken for example. None: no asset is carried.
    base_url, clock, http
        As `HttpSource`; the host is the one for market data.

    Examples
    --------
    >>> BinanceSource(None).fetch("USDC", *pd.date_range("2024-01-01", periods=2, tz="UTC"))
    Traceback (most recent call last):
        ...
    tonsurance_risk.errors.UnknownAssetError: binance has USDC against USDT only, which is not dollars: ...
    """

    host = "https://data-api.binance.vision"
    limits = HostLimits(calls_per_minute=3000, burst=100)
    """In weights: half of the 6,000 a minute of an address, for others behind the same one."""
    ids = PAIRS
    rows = 1000
    opened = pd.Timestamp("2017-07-01", tz="UTC")

    def __init__(
        self,
        usdt: PriceSource | None,
        *,
        base_url: str | None = None,
        clock: Clock | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(base_url=base_url, clock=clock, http={"explain": explain, **(http or {})})
        self.calls_per_minute /= _WEIGHT
        self._usdt = usdt
        # With another source of USDT the prices differ.
        self.name = "binance" if usdt is None else f"binance@{usdt.name}"

    @property
    def usage(self) -> SourceUsage:
        """What was asked of the host, and of that of USDT."""
        return self.client.usage + usage_of(self._usdt)

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Notes
        -----
        One call for each 1,000 bars since July 2017, and those of the source of USDT.
        """
        asked = self._question(asset, start, end, step)
        symbol, usdt = self._id_of(asked.asset), self._reference(asked.asset)
        grid = Grid.of(max(asked.start, self.opened), asked.end, asked.span, now=asked.now)
        pages = [
            self.client.get(
                "api/v3/klines",
                {
                    "symbol": symbol,
                    "interval": step,
                    "startTime": _milliseconds(window.first - asked.span),
                    "endTime": _milliseconds(window.last - asked.span),
                    "limit": self.rows,
                },
                functools.partial(parse_klines, span=asked.span, now=asked.now),
                cost=_WEIGHT,
            )
            for window in grid.windows(self.rows)
        ]
        closes = join_pages(pages, asked.asset, asked.start, asked.end)
        return in_dollars(closes, usdt.fetch("USDT", asked.start, asked.end, step=step)) if len(closes) else closes

    def last_prices(self, assets: Iterable[str]) -> pd.DataFrame:
        """Return the newest price of assets, stamped with the receipt; see `HttpSource.last_prices`.

        Raises
        ------
        StaleDataError
            If the newest price of USDT in dollars is older than a minute.
        SourceError
            If there is none; as `HttpSource.last_prices`.
        """
        table = super().last_prices(assets)
        if len(table) and self._usdt is not None:
            table["price"] *= _last_usdt(self._usdt, self._now())
        return table

    def earliest(self, step: str) -> pd.Timestamp:
        """Return the first time of which there may be a sample, also of USDT in dollars."""
        own = super().earliest(step)
        return max(own, self._usdt.earliest(step)) if isinstance(self._usdt, MeteredSource) else own

    def close(self) -> None:
        """Close all connections, those of the source of USDT too."""
        super().close()
        if self._usdt is not None and hasattr(self._usdt, "close"):
            self._usdt.close()

    def _last_price(self, asset: str) -> LastPrice:
        """Return a price in USDT."""
        symbol = self._id_of(asset)
        price = self.client.get(
            "api/v3/ticker/price",
            {"symbol": symbol},
            functools.partial(parse_ticker, symbol=symbol),
            cost=_WEIGHT,
        )
        return LastPrice(price=price, time=self._now(), stamped_by="receipt")

    def _id_of(self, asset: str) -> str:
        self._reference(asset)
        return super()._id_of(asset)

    def _reference(self, asset: str) -> PriceSource:
        if self._usdt is None:
            raise UnknownAssetError(
                f"binance has {asset} against USDT only, which is not dollars: give a source of USDT in dollars",
                asset=asset,
            )
        return self._usdt


def in_dollars(closes: pd.Series, usdt: pd.Series) -> pd.Series:
    """Return closes in USDT times those of USDT in dollars at the same stamp; others are left out and counted.

    Parameters
    ----------
    closes, usdt : Series of float
        Over UTC indexes, `FetchDetail` in their attrs.

    Examples
    --------
    >>> from tonsurance_risk.sources.detail import FetchDetail
    >>> hours = pd.date_range("2024-01-01", periods=2, freq="h", tz="UTC")
    >>> closes = pd.Series([1.0, 1.01], hours, name="USDC")
    >>> in_dollars(closes, pd.Series([0.99], hours[:1], name="USDT")).tolist()
    [0.99]
    """
    matched = closes.index.intersection(usdt.index)
    converted: pd.Series = closes.loc[matched] * usdt.loc[matched].to_numpy()
    detail = closes.attrs.get(DETAIL, FetchDetail())
    left_out = len(closes) - len(converted)
    if left_out:
        _log.warning("%s: %d of %d bars have no price of USDT in dollars", closes.name, left_out, len(closes))
    converted.attrs = {
        DETAIL: attrs.evolve(
            detail,
            unmatched=detail.unmatched + left_out,
            history_start=usdt.attrs.get(DETAIL, FetchDetail()).history_start,
        )
    }
    return converted


def _last_usdt(source: PriceSource, now: pd.Timestamp) -> float:
    last_prices = getattr(source, "last_prices", None)
    if last_prices is None:
        raise SourceError(f"{source.name} gives no last price, so USDT has none in dollars", asset="USDT")
    table = last_prices(["USDT"])
    if "USDT" not in table.index:
        raise SourceError(f"{source.name} has no last price of USDT in dollars", asset="USDT")
    price, time = table.loc["USDT", "price"], table.loc["USDT", "time"]
    if not pd.isna(time) and now - time > SAME_MINUTE:
        raise StaleDataError(
            f"the last price of USDT of {source.name} is of {iso(time)}, not of the last {SAME_MINUTE}",
            asset="USDT",
            time=time,
            observed=now - time,
            required=SAME_MINUTE,
        )
    return float(price)


def _milliseconds(time: pd.Timestamp) -> int:
    return int(time.timestamp()) * 1000

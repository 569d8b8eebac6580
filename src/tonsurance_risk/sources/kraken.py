"""Kraken spot: candles and last prices, without a key.

Facts: ``docs.kraken.com``, spot REST, and ``support.kraken.com`` article 206548367, read 2026.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.errors import (
    HistoryLimitError,
    PayloadError,
    RateLimitedError,
    RiskError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources.answers import columns, decimal_texts, listed, mapped, shown, whole_numbers
from tonsurance_risk.sources.http_source import HttpSource, LastPrice, last_price_table
from tonsurance_risk.sources.json_body import parse_json
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.samples import Grid, join_pages, samples, stamps
from tonsurance_risk.sources.steps import step_span
from tonsurance_risk.values import iso

PAIRS: Mapping[str, str] = {
    "USDT": "USDTUSD",
    "USDC": "USDCUSD",
    "DAI": "DAIUSD",
    "PYUSD": "PYUSDUSD",
    "USDS": "USDSUSD",
    "USD1": "USD1USD",
    "TUSD": "TUSDUSD",
    "BTC": "XBTUSD",
    "ETH": "ETHUSD",
}
"""The pair by asset. The *pair* ``TUSD`` is Threshold against dollars, not TrueUSD."""

ROWS = 720
"""The newest rows that there are, whatever ``since`` says; the last one is the running bar."""
_THROTTLED_UNTIL = re.compile(r"EService:Throttled:\s*(\d{1,12})", re.ASCII)


def parse_result(body: bytes, *, now: pd.Timestamp) -> dict[str, Any]:
    """Return the result of an answer; errors come in it, under HTTP 200.

    Parameters
    ----------
    body : bytes
        ``{"error": [...], "result": {...}}``.
    now : Timestamp
        When the answer came.

    Raises
    ------
    UnknownAssetError
        If there is no such pair; of several asked for nothing is answered then.
    RateLimitedError, SourceUnavailableError
        If Kraken says so; ``retry_after`` where it says until when.
    PayloadError
        For another error, or if the body is something else.

    Examples
    --------
    >>> parse_result(b'{"error": ["EQuery:Unknown asset pair"]}', now=pd.Timestamp("2025-11-01", tz="UTC"))
    Traceback (most recent call last):
        ...
    tonsurance_risk.errors.UnknownAssetError: EQuery:Unknown asset pair
    """
    answer = mapped(parse_json(body), "the answer", "error")
    errors = listed(answer["error"], "error")
    if errors:
        raise _error("; ".join(str(error)[:200] for error in errors[:5]), now)
    return mapped(mapped(answer, "the answer", "result")["result"], "result")


def _error(said: str, now: pd.Timestamp) -> RiskError:
    if "Unknown asset pair" in said:
        return UnknownAssetError(said, observed=said)
    throttled = _THROTTLED_UNTIL.search(said)
    if throttled:
        return RateLimitedError(said, retry_after=max(1.0, int(throttled[1]) - now.timestamp()))
    if "Rate limit" in said or "Too many requests" in said or "Throttled" in said:
        return RateLimitedError(said, observed=said)
    if said.startswith("EService:"):
        return SourceUnavailableError(said, observed=said)
    return PayloadError(f"Kraken answers {said}", observed=said)


def is_key_of(key: str, pair: str) -> bool:
    """Return whether a result under `key` is of the pair: old assets have an X or Z before their name there.

    Examples
    --------
    >>> is_key_of("USDTZUSD", "USDTUSD"), is_key_of("XXBTZUSD", "XBTUSD"), is_key_of("USDCUSD", "USDTUSD")
    (True, True, False)
    """
    base = pair.removesuffix("USD")
    return key in (pair, f"{base}ZUSD", f"X{base}ZUSD")


def parse_ohlc(body: bytes, pair: str, span: timedelta, *, now: pd.Timestamp) -> pd.Series:
    """Return the closes of an answer of ``OHLC``, stamped with the end of their bars.

    Parameters
    ----------
    body : bytes
        ``result`` has rows ``[time s, "open", "high", "low", "close", ...]`` under a key of the pair, and
        ``last``, the time of the newest finished one.
    pair : str
        As it was asked for.
    span : timedelta
        The length of a bar that was asked for.
    now : Timestamp
        When the answer came.

    Returns
    -------
    Series of float
        [USD], as `samples` returns it; only finished bars, by ``last`` and by the clock.

    Raises
    ------
    PayloadError
        If it is something else, or of another pair.
    RiskError
        As `parse_result`; as `samples`.

    Examples
    --------
    >>> rows = b'[[1761955200, "1", "1", "1", "0.9999"], [1761958800, "1", "1", "1", "2"]]'
    >>> body = b'{"error": [], "result": {"USDTZUSD": ' + rows + b', "last": 1761955200}}'
    >>> parse_ohlc(body, "USDTUSD", timedelta(hours=1), now=pd.Timestamp("2025-11-02", tz="UTC"))
    2025-11-01 01:00:00+00:00    0.9999
    dtype: float64
    """
    result = mapped(parse_result(body, now=now), "result", "last")
    keys = [key for key in result if key != "last"]
    if len(keys) != 1 or not is_key_of(keys[0], pair):
        raise PayloadError(f"asked for {pair}, the result is of {shown(keys)}", observed=keys, required=pair)
    [last] = whole_numbers([result["last"]], "last")
    first, prices = columns(result[keys[0]], keys[0], 0, 4)
    opens, closes = whole_numbers(first, "times"), decimal_texts(prices, "closes")
    times = stamps(opens, "s", "times") + span
    finished = [place for place, time in enumerate(opens) if time <= last]
    return samples(times[finished], [closes[place] for place in finished], span, now=now)


def parse_ticker(body: bytes, pairs: Iterable[str], *, now: pd.Timestamp) -> dict[str, float]:
    """Return the last price [USD] by pair of an answer of ``Ticker``.

    Raises
    ------
    PayloadError
        If it is something else, or a pair is not there.
    RiskError
        As `parse_result`.

    Examples
    --------
    >>> body = b'{"error": [], "result": {"USDTZUSD": {"c": ["0.9998", "12.5"]}}}'
    >>> parse_ticker(body, ["USDTUSD"], now=pd.Timestamp("2025-11-01", tz="UTC"))
    {'USDTUSD': 0.9998}
    """
    result = parse_result(body, now=now)
    prices = {}
    for pair in pairs:
        key = next((key for key in result if is_key_of(key, pair)), None)
        if key is None:
            raise PayloadError(f"asked for {pair}, the result has {shown(sorted(result))}", required=pair)
        closed = listed(mapped(result[key], key, "c")["c"], f"{key}.c")
        [prices[pair]] = decimal_texts(closed[:1] or [None], f"{key}.c[0]")
        if prices[pair] <= 0.0:
            raise PayloadError(f"{key}.c[0] must be > 0, found {prices[pair]}", observed=prices[pair])
    return prices


class KrakenSource(HttpSource):
    """Prices of Kraken pairs against dollars: of the last 29 days by the hour, or of two years by the day.

    Where more is asked for, the part that is there is returned, and the ``history_start`` of its `FetchDetail`
    says where it begins. `CachedSource` keeps what was fetched before.

    Parameters
    ----------
    base_url, clock, http
        As `HttpSource`.

    Examples
    --------
    >>> KrakenSource().name
    'kraken'
    """

    name = "kraken"
    host = "https://api.kraken.com/0/public"
    limits = HostLimits(calls_per_minute=60)
    ids = PAIRS
    rows = ROWS - 2  # one is running, and one may end while the question is under way

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Raises
        ------
        HistoryLimitError
            If the whole interval is further back than Kraken's history.

        Notes
        -----
        One call.
        """
        asked = self._question(asset, start, end, step)
        pair = self._id_of(asked.asset)
        begins = asked.now.floor(asked.span) - self.rows * asked.span
        if asked.start < asked.end <= begins:
            raise HistoryLimitError(
                f"kraken has the last {ROWS} bars of {step}, since {iso(begins)}; {asked.asset} was asked for "
                f"until {iso(asked.end)}",
                asset=asked.asset,
                observed=asked.start,
                required=begins,
            )
        grid = Grid.of(max(asked.start, begins), asked.end, asked.span, now=asked.now)
        pages = []
        if len(grid):
            question: dict[str, str | int | float] = {
                "pair": pair,
                "interval": int(asked.span.total_seconds()) // 60,
                "since": int((grid.first - 2 * asked.span).timestamp()),  # exclusive
            }
            parse = functools.partial(parse_ohlc, pair=pair, span=asked.span, now=asked.now)
            pages.append(self.client.get("OHLC", question, parse))
        history_start = begins if asked.start < begins else None
        return join_pages(pages, asked.asset, asked.start, asked.end, history_start=history_start)

    def earliest(self, step: str) -> pd.Timestamp:
        """Return the first time of which there is a sample now."""
        span = step_span(step, self.name)
        return self._now().floor(span) - self.rows * span

    def last_prices(self, assets: Iterable[str]) -> pd.DataFrame:
        """Return the last trade of assets, stamped with the receipt; see `HttpSource.last_prices`.

        Notes
        -----
        One call, and where Kraken does not know one of the pairs, one for each.
        """
        wanted = [canonical(asset) for asset in assets]
        with suppress(UnknownAssetError):  # of one pair, and nothing is said of the others
            return last_price_table(self._tickers(wanted), {})
        return super().last_prices(wanted)

    def _last_price(self, asset: str) -> LastPrice:
        return self._tickers([asset])[asset]

    def _tickers(self, assets: list[str]) -> dict[str, LastPrice]:
        pairs = [self._id_of(asset) for asset in assets]
        if not pairs:
            return {}  # without a pair Kraken answers with all of them
        parse = functools.partial(parse_ticker, pairs=pairs, now=self._now())
        found = self.client.get("Ticker", {"pair": ",".join(pairs)}, parse)
        received = self._now()
        return {
            asset: LastPrice(price=found[pair], time=received, stamped_by="receipt")
            for asset, pair in zip(assets, pairs, strict=True)
        }

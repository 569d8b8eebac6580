"""Answers of DefiLlama to records and series. Pure.

Facts: GitHub ``DefiLlama/api-docs`` (2026-07) and ``DefiLlama/peggedassets-server`` (2026-08).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.errors import PayloadError
from tonsurance_risk.sources.answers import fields_of, listed, mapped, numbers, shown, whole_numbers
from tonsurance_risk.sources.detail import DETAIL, Reject
from tonsurance_risk.sources.http_source import LastPrice
from tonsurance_risk.sources.json_body import parse_json
from tonsurance_risk.sources.samples import samples, stamps

LEAST_CONFIDENCE = 0.5
"""Of DefiLlama in a coin's prices, 0 to 1; below it they are rejected."""
_DAY = timedelta(days=1)


@attrs.frozen(kw_only=True)
class Points:
    """The prices of a coin as DefiLlama gives them.

    Parameters
    ----------
    times : DatetimeIndex of shape (n,)
        Some seconds beside what was asked for.
    prices : tuple of float or None
        [USD]
    confidence : float or None
        0 to 1.
    """

    times: pd.DatetimeIndex
    prices: tuple[float | None, ...]
    confidence: float | None


def parse_chart(body: bytes, coin: str) -> Points | None:
    """Return the points of one coin of an answer of ``/chart/{coins}``; None where the coin is not there.

    Parameters
    ----------
    body : bytes
        ``{"coins": {coin: {"prices": [{"timestamp": s, "price": 0.9998}], "confidence": 0.99}}}``.
    coin : str
        Such as ``coingecko:tether``.

    Raises
    ------
    PayloadError
        If it is something else.

    Examples
    --------
    >>> body = b'{"coins": {"coingecko:dai": {"prices": [{"timestamp": 1761998407, "price": 0.9998}]}}}'
    >>> parse_chart(body, "coingecko:dai").prices
    (0.9998,)
    """
    fields = _coin(body, coin)
    if fields is None:
        return None
    where = f"{coin}.prices"
    times, prices = fields_of(mapped(fields, coin, "prices")["prices"], where, "timestamp", "price")
    return Points(
        times=stamps(whole_numbers(times, f"{where}.timestamp"), "s", where),
        prices=tuple(numbers(prices, f"{where}.price", null=True)),
        confidence=_confidence(fields, coin),
    )


def parse_price(body: bytes, coin: str) -> LastPrice | None:
    """Return the price of a coin of an answer of ``/prices/current``; None where it has none.

    Raises
    ------
    PayloadError
        If it is something else, or its confidence is below `LEAST_CONFIDENCE`.

    Examples
    --------
    >>> body = b'{"coins": {"coingecko:dai": {"price": 0.9998, "timestamp": 1761998407}}}'
    >>> parse_price(body, "coingecko:dai").time.isoformat()
    '2025-11-01T12:00:07+00:00'
    """
    fields = _coin(body, coin)
    if fields is None:
        return None
    mapped(fields, coin, "price", "timestamp")
    [time] = stamps(whole_numbers([fields["timestamp"]], f"{coin}.timestamp"), "s", coin)
    [price] = numbers([fields["price"]], f"{coin}.price")
    confidence = _confidence(fields, coin)
    if price <= 0 or (confidence is not None and confidence < LEAST_CONFIDENCE):
        raise PayloadError(
            f"{coin} must have a price > 0 and a confidence >= {LEAST_CONFIDENCE}, found {shown(fields)}"
        )
    return LastPrice(price=float(price), time=time, stamped_by="source")


def parse_first(body: bytes, coin: str) -> pd.Timestamp | None:
    """Return the time of the first price of a coin of an answer of ``/prices/first``; None where it has none.

    Raises
    ------
    PayloadError
        If it is something else.

    Examples
    --------
    >>> parse_first(b'{"coins": {}}', "coingecko:dai") is None
    True
    """
    fields = _coin(body, coin)
    if fields is None:
        return None
    seconds = whole_numbers([mapped(fields, coin, "timestamp")["timestamp"]], f"{coin}.timestamp")
    return pd.Timestamp(stamps(seconds, "s", coin)[0])


def _coin(body: bytes, coin: str) -> dict[str, Any] | None:
    coins = mapped(mapped(parse_json(body), "the answer", "coins")["coins"], "coins")
    return mapped(coins[coin], coin) if coin in coins else None


def _confidence(fields: Mapping[str, Any], coin: str) -> float | None:
    [confidence] = numbers([fields.get("confidence")], f"{coin}.confidence", null=True)
    return None if confidence is None else float(confidence)


def on_grid(points: Points, near: timedelta, span: timedelta, *, now: pd.Timestamp) -> pd.Series:
    """Return the point nearest to each stamp of the grid, none where it lies further away than `near`.

    Points wander around the stamps that were asked for by some seconds, before or after: rounding all of them to
    one side would leave out some stamps and double others.

    Examples
    --------
    >>> times = pd.DatetimeIndex(["2025-11-01T11:59:52", "2025-11-01T13:00:04", "2025-11-01T14:25:00"], tz="UTC")
    >>> points = Points(times=times, prices=(0.9998, 0.9997, 0.9996), confidence=0.99)
    >>> on_grid(points, timedelta(minutes=10), timedelta(hours=1), now=times[-1]).index.hour.tolist()
    [12, 13]
    """
    grid = points.times.round(span)
    away = np.abs((points.times - grid).to_numpy())
    # Furthest first: of several at one stamp the last one holds.
    order = np.argsort(-away, kind="stable")
    order = order[away[order] <= near]
    order = order[~grid[order].duplicated(keep="last")]
    series = samples(grid[order], [points.prices[place] for place in order.tolist()], span, now=now)
    if points.confidence is None or points.confidence >= LEAST_CONFIDENCE:
        return series
    rejects = tuple(
        Reject(time=time, reason="low_confidence", raw=f"{price!r}, confidence {points.confidence}")
        for time, price in zip(pd.DatetimeIndex(series.index), series.tolist(), strict=True)
    )
    detail = series.attrs[DETAIL]
    empty = series.iloc[:0]
    empty.attrs = {DETAIL: attrs.evolve(detail, rejects=(*detail.rejects, *rejects))}
    return empty


def parse_stablecoin_ids(body: bytes) -> dict[str, str]:
    """Return DefiLlama's id by CoinGecko id of an answer of ``/stablecoins``.

    Its ``circulating`` is not read: it is multiplied by the price, so that a depeg shrinks it.

    Examples
    --------
    >>> parse_stablecoin_ids(b'{"peggedAssets": [{"id": "1", "gecko_id": "tether"}, {"id": "9"}]}')
    {'tether': '1'}
    """
    assets = listed(mapped(parse_json(body), "the answer", "peggedAssets")["peggedAssets"], "peggedAssets")
    ids = {}
    for place, asset in enumerate(assets):
        fields = mapped(asset, f"peggedAssets[{place}]", "id")
        coin = fields.get("gecko_id")
        if isinstance(coin, str) and isinstance(fields["id"], str):
            ids[coin] = fields["id"]
    return ids


def parse_supply(body: bytes, *, now: pd.Timestamp) -> pd.Series:
    """Return the coins in circulation of an answer of ``/stablecoincharts/all``, stamped with the end of each day.

    Parameters
    ----------
    body : bytes
        ``[{"date": "1761955200", "totalCirculating": {"peggedUSD": 1.0}, ...}]``. The dollar totals beside it are
        not read: a price that is missing is 1 there.
    now : Timestamp
        When the answer came; the running day is left out.

    Returns
    -------
    Series of float
        [coins], as `samples` returns it.

    Raises
    ------
    PayloadError
        If it is something else.

    Examples
    --------
    >>> body = b'[{"date": "1761955200", "totalCirculating": {"peggedUSD": 5.0e9}}]'
    >>> parse_supply(body, now=pd.Timestamp("2025-12-01", tz="UTC"))
    2025-11-02 00:00:00+00:00    5.000000e+09
    dtype: float64
    """
    dates, totals = fields_of(parse_json(body), "the answer", "date", "totalCirculating")
    amounts: list[float | None] = []
    for total in totals:
        if len(mapped(total, "totalCirculating")) > 1:
            raise PayloadError(f"totalCirculating must have one peg, found {shown(total)}")
        amounts += numbers(total.values(), "totalCirculating") or [None]
    seconds = [
        int(date[:20]) if isinstance(date, str) and date.isascii() and date.isdigit() else date for date in dates
    ]
    return samples(stamps(whole_numbers(seconds, "date"), "s", "date") + _DAY, amounts, _DAY, now=now)


def parse_chain_tvl(body: bytes, *, now: pd.Timestamp) -> pd.Series:
    """Return the value locked [USD] of an answer of ``/v2/historicalChainTvl/{chain}``, stamped with days' ends.

    Parameters
    ----------
    body : bytes
        ``[{"date": 1761955200, "tvl": 1.0}]``; the last point may be of the moment, and is the running day's.
    now : Timestamp
        When the answer came.

    Raises
    ------
    PayloadError
        If it is something else.

    Examples
    --------
    >>> parse_chain_tvl(b'[{"date": 1761955200, "tvl": 7.5e9}]', now=pd.Timestamp("2025-12-01", tz="UTC")).tolist()
    [7500000000.0]
    """
    dates, amounts = fields_of(parse_json(body), "the answer", "date", "tvl")
    seconds, values = whole_numbers(dates, "date"), numbers(amounts, "tvl")
    return samples(stamps(seconds, "s", "date").floor(_DAY) + _DAY, values, _DAY, now=now)

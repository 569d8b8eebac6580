"""DefiLlama: prices, circulating supply of stablecoins and value locked on chains, without a key.

Its ``coingecko:*`` prices are CoinGecko's: they confirm nothing that CoinGecko shows, and the name of the source
says so. Facts: GitHub ``DefiLlama/api-docs`` (2026-07) and ``DefiLlama/peggedassets-server`` (2026-08).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, find_asset
from tonsurance_risk.errors import PayloadError, UnknownAssetError
from tonsurance_risk.model import as_utc, text
from tonsurance_risk.ports import Clock
from tonsurance_risk.sources.answers import listed, mapped, number, shown, whole_number
from tonsurance_risk.sources.detail import DETAIL, Reject
from tonsurance_risk.sources.http import HttpClient
from tonsurance_risk.sources.json_body import parse_json
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.samples import Grid, join_pages, samples, stamps
from tonsurance_risk.sources.venue import LastPrice, VenueSource

_LIMITS = HostLimits(calls_per_minute=60)
"""None is documented."""
LEAST_CONFIDENCE = 0.5
"""Of DefiLlama in a coin's prices, 0 to 1; below it they are rejected."""
_NEAR: Mapping[str, timedelta] = {"1h": timedelta(minutes=10), "1d": timedelta(minutes=30)}
"""How far a point may lie from its stamp on the grid, on either side."""
_DAY = timedelta(days=1)

_T = TypeVar("_T")


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
    rows = [
        mapped(row, f"{coin}.prices[{place}]", "timestamp", "price")
        for place, row in enumerate(listed(mapped(fields, coin, "prices")["prices"], f"{coin}.prices"))
    ]
    seconds = [
        whole_number(row["timestamp"], f"{coin}.prices[{place}].timestamp") for place, row in enumerate(rows)
    ]
    confidence = fields.get("confidence")
    return Points(
        times=stamps(seconds, "s", f"{coin}.prices"),
        prices=tuple(
            None if row["price"] is None else number(row["price"], f"{coin}.prices[{place}].price")
            for place, row in enumerate(rows)
        ),
        confidence=None if confidence is None else number(confidence, f"{coin}.confidence"),
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
    [time] = stamps([whole_number(fields["timestamp"], f"{coin}.timestamp")], "s", coin)
    price, confidence = number(fields["price"], f"{coin}.price"), fields.get("confidence")
    if price <= 0.0 or (confidence is not None and number(confidence, f"{coin}.confidence") < LEAST_CONFIDENCE):
        raise PayloadError(
            f"{coin} must have a price > 0 and a confidence >= {LEAST_CONFIDENCE}, found {shown(fields)}"
        )
    return LastPrice(price=price, time=time, stamped_by="source")


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
    seconds = whole_number(mapped(fields, coin, "timestamp")["timestamp"], f"{coin}.timestamp")
    return pd.Timestamp(stamps([seconds], "s", coin)[0])


def _coin(body: bytes, coin: str) -> dict[str, object] | None:
    coins = mapped(mapped(parse_json(body), "the answer", "coins")["coins"], "coins")
    return mapped(coins[coin], coin) if coin in coins else None


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
    order = [int(place) for place in np.argsort(-away, kind="stable") if away[place] <= near]
    nearest = {grid[place]: points.prices[place] for place in order}
    series = samples(
        pd.DatetimeIndex(list(nearest), tz="UTC").as_unit("us"), list(nearest.values()), span, now=now
    )
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
    dates: list[int] = []
    amounts: list[float | None] = []
    for place, row in enumerate(listed(parse_json(body), "the answer")):
        fields = mapped(row, f"[{place}]", "date", "totalCirculating")
        date, total = fields["date"], mapped(fields["totalCirculating"], f"[{place}].totalCirculating")
        if len(total) > 1:
            raise PayloadError(f"[{place}].totalCirculating must have one peg, found {shown(sorted(total))}")
        if isinstance(date, str) and date.isascii() and date.isdigit():
            date = int(date[:20])
        dates.append(whole_number(date, f"[{place}].date"))
        amounts += [number(amount, f"[{place}].totalCirculating.{peg}") for peg, amount in total.items()] or [None]
    return samples(stamps(dates, "s", "date") + _DAY, amounts, _DAY, now=now)


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
    rows = [
        mapped(row, f"[{place}]", "date", "tvl")
        for place, row in enumerate(listed(parse_json(body), "the answer"))
    ]
    dates = [whole_number(row["date"], f"[{place}].date") for place, row in enumerate(rows)]
    values = [number(row["tvl"], f"[{place}].tvl") for place, row in enumerate(rows)]
    return samples(stamps(dates, "s", "date").floor(_DAY) + _DAY, values, _DAY, now=now)


class DefiLlamaSource(VenueSource):
    """Prices of CoinGecko by way of DefiLlama; supplies and value locked of its own.

    Parameters
    ----------
    base_url : str, optional
        One host in the place of the three, a gateway for example.
    clock, http
        As `VenueSource`.

    Examples
    --------
    >>> DefiLlamaSource().name
    'coingecko via defillama'
    """

    name = "coingecko via defillama"
    rows = 500
    opened = pd.Timestamp("2013-04-28", tz="UTC")  # the first day of CoinGecko

    def __init__(
        self,
        *,
        base_url: str | None = None,
        clock: Clock | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        options = {"limits": _LIMITS, **(http or {})}
        super().__init__(base_url or "https://coins.llama.fi", limits=_LIMITS, clock=clock, http=options)
        self._stablecoins = HttpClient(base_url or "https://stablecoins.llama.fi", **options)
        self._asking_first = threading.Lock()
        self._firsts: dict[str, pd.Timestamp] = {}
        self._chains = HttpClient(base_url or "https://api.llama.fi", **options)

    def close(self) -> None:
        """Close all connections."""
        for client in (self.client, self._stablecoins, self._chains):
            client.close()

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` in ``[start, end)``; see `PriceSource.fetch`.

        A sample is the price nearest to its stamp, within 10 minutes (of a day 30), before or after it.

        Notes
        -----
        One call for the first price of all, and one for each 500 samples.
        """
        asked = self._question(asset, start, end, step)
        coin = self._pair(asked.asset)
        first = self._first(asked.asset, coin)
        pages = []
        grid = Grid.of(max(asked.start, first), asked.end, asked.span, now=asked.now)
        for window in grid.windows(self.rows):
            question: dict[str, str | int | float] = {
                "start": int(window.first.timestamp()),
                "span": len(window),
                "period": step,
                "searchWidth": int(_NEAR[step].total_seconds()),
            }
            points = self.client.get(f"chart/{coin}", question, functools.partial(parse_chart, coin=coin))
            if points is not None:
                pages.append(on_grid(points, _NEAR[step], asked.span, now=asked.now))
        return join_pages(pages, asked.asset, asked.start, asked.end)

    def _pair(self, asset: str) -> str:
        return _coin_of(asset)

    def _first(self, asset: str, coin: str) -> pd.Timestamp:
        """Return the time of the first price, asked for once."""
        with self._asking_first:
            if coin not in self._firsts:
                first = self.client.get(f"prices/first/{coin}", None, functools.partial(parse_first, coin=coin))
                if first is None:
                    raise _not_carried(asset, coin)
                self._firsts[coin] = first
        return self._firsts[coin]

    def _last_price(self, asset: str) -> LastPrice:
        coin = _coin_of(asset)
        price = self.client.get(f"prices/current/{coin}", None, functools.partial(parse_price, coin=coin))
        if price is None:
            raise _not_carried(asset, coin)
        return price

    def fetch_supply(self, asset: str, start: datetime, end: datetime) -> pd.Series:
        """Return how many coins of `asset` were in circulation at the end of each day.

        Parameters
        ----------
        asset : str
            A built-in stablecoin, in any case.
        start, end : datetime
            tz-aware, ``[start, end)``.

        Returns
        -------
        Series of float
            [coins], UTC, named by the symbol. DefiLlama fills holes with the day before: a stretch that stands
            still may be none.

        Raises
        ------
        UnknownAssetError
            If DefiLlama has no such stablecoin.
        RiskError
            As `fetch`.
        """
        since, until = as_utc(start, "start"), as_utc(end, "end")
        asset = canonical(text(asset, "asset"))
        coin = _coin_of(asset)
        ids = self._stablecoins.get("stablecoins", None, parse_stablecoin_ids)
        number_there = ids.get(coin.removeprefix("coingecko:"))
        if number_there is None:
            raise _not_carried(asset, coin)
        supply = self._stablecoins.get(
            "stablecoincharts/all", {"stablecoin": number_there}, self._at_present(parse_supply)
        )
        return join_pages([supply], asset, since, until)

    def fetch_chain_tvl(self, chain: str, start: datetime, end: datetime) -> pd.Series:
        """Return the value locked in a chain's protocols at the end of each day.

        Parameters
        ----------
        chain : str
            As DefiLlama spells it, ``Ethereum`` for example.
        start, end : datetime
            tz-aware, ``[start, end)``.

        Returns
        -------
        Series of float
            [USD], UTC, named by the chain; liquid staking and what is counted twice are left out.

        Raises
        ------
        ValueError
            If `chain` is not a name.
        RiskError
            As `fetch`.
        """
        since, until = as_utc(start, "start"), as_utc(end, "end")
        if not text(chain, "chain").replace(" ", "").replace("-", "").isalnum():
            raise ValueError(f"chain must be a name of letters and digits, found {chain!r}")
        values = self._chains.get(f"v2/historicalChainTvl/{chain}", None, self._at_present(parse_chain_tvl))
        return join_pages([values], chain, since, until)

    def _at_present(self, parse: Callable[..., _T]) -> Callable[[bytes], _T]:
        return functools.partial(parse, now=self._now())


def _coin_of(asset: str) -> str:
    known = find_asset(asset)
    if known is None:
        raise UnknownAssetError(
            f"DefiLlama is asked by CoinGecko's id, and none is known of {asset!r}", asset=asset
        )
    return f"coingecko:{known.coingecko_id}"


def _not_carried(asset: str, coin: str) -> UnknownAssetError:
    return UnknownAssetError(f"DefiLlama does not have {asset}, looked for {coin}", asset=asset, observed=coin)

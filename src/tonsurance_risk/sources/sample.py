"""A simulated market of two years in which every depeg is known, to try the library without data.

Nothing here is a quote. The coins keep to their pegs with mean-reverting noise, `SampleSource.truth` lists
every depeg, and `SampleSource.false_prints` the prints that are none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from datetime import datetime

import attrs
import numpy as np
import pandas as pd
import scipy

from tonsurance_risk.assets import get_asset
from tonsurance_risk.model import BTC, Direction
from tonsurance_risk.sources.steps import between, step_span
from tonsurance_risk.values import FloatArray

_FIRST = pd.Timestamp("2024-01-01", tz="UTC")
_LAST = pd.Timestamp("2025-12-31", tz="UTC")
_HOUR = pd.Timedelta(hours=1)
_N_HOURS = (_LAST - _FIRST) // _HOUR + 1
_HOURS_A_YEAR = 365 * 24
_SEED = 20240101

_PERSISTENCE = 0.9
"""AR(1) coefficient of an hour: half of a deviation is gone after 6.6 hours."""
_MARKET_LOADING, _GROUP_LOADING = 0.3, 0.6
"""Noise correlates by 0.09 across groups and by 0.45 within one."""

_OFF_PEG = 0.01
"""Noise stays within this deviation, events beyond it."""
_EDGE = 0.0125
"""Deviation of the first fall and of the last off-peg hour."""

_BTC_START, _BTC_VOLATILITY = 42_000.0, 0.55


@attrs.frozen
class SampleEvent:
    """A depeg of the sample.

    Parameters
    ----------
    asset : str
        The symbol.
    start : Timestamp
        The first hourly sample off the peg.
    hours : int
        How many hourly samples are off the peg, that is beyond 0.99 or 1.01 of it.
    depth : float
        Largest deviation from the peg, fraction; of an accruing coin from what it has accrued.
    direction : {"below", "above"}
        On which side of the peg.

    Examples
    --------
    >>> event = SampleEvent("USDT", pd.Timestamp("2024-06-18T09:00Z"), 10, 0.03)
    >>> event.end.isoformat()
    '2024-06-18T18:00:00+00:00'
    """

    asset: str
    start: pd.Timestamp
    hours: int
    depth: float
    direction: Direction = "below"

    @property
    def end(self) -> pd.Timestamp:
        """The last hourly sample off the peg."""
        return self.start + (self.hours - 1) * _HOUR


@attrs.frozen
class FalsePrint:
    """A single wrong sample: nothing happened to the coin.

    Examples
    --------
    >>> FalsePrint("USDP", pd.Timestamp("2025-08-19T13:00Z"), 0.62).price
    0.62
    """

    asset: str
    time: pd.Timestamp
    price: float


@attrs.frozen
class _Gap:
    """Hours without samples."""

    asset: str
    start: pd.Timestamp
    hours: int


@attrs.frozen
class _Coin:
    """Standard deviation of the noise [fraction], the group that shares a factor, growth a year."""

    symbol: str
    noise: float
    group: str
    growth: float = 0.0


_COINS = (
    _Coin("USDC", 0.0004, "backed by USDC"),
    _Coin("USDT", 0.0005, "Tether"),
    _Coin("DAI", 0.0005, "backed by USDC"),
    _Coin("USDP", 0.0007, "Paxos"),
    _Coin("FRAX", 0.0009, "backed by USDC"),
    _Coin("BUSD", 0.0006, "Paxos"),
    _Coin("USDe", 0.0007, "Ethena"),
    _Coin("sUSDe", 0.0009, "Ethena", growth=0.09),
    _Coin("USDY", 0.0006, "Ondo", growth=0.05),
    _Coin("PYUSD", 0.0005, "Paxos"),
    _Coin("GHO", 0.0012, "crypto collateral"),
    _Coin("LUSD", 0.0011, "crypto collateral"),
    _Coin("crvUSD", 0.0008, "crypto collateral"),
    _Coin("mkUSD", 0.0012, "crypto collateral"),
)

_EVENTS = (
    SampleEvent("USDC", pd.Timestamp("2024-03-11T02:00Z"), 40, 0.08),
    SampleEvent("DAI", pd.Timestamp("2024-03-11T03:00Z"), 40, 0.07),
    SampleEvent("FRAX", pd.Timestamp("2024-03-11T04:00Z"), 38, 0.05),
    SampleEvent("USDT", pd.Timestamp("2024-06-18T09:00Z"), 10, 0.03),
    SampleEvent("LUSD", pd.Timestamp("2024-08-05T01:00Z"), 20, 0.05),
    SampleEvent("mkUSD", pd.Timestamp("2024-08-05T02:00Z"), 20, 0.05),
    SampleEvent("crvUSD", pd.Timestamp("2024-11-20T14:00Z"), 8, 0.04, "above"),
    SampleEvent("GHO", pd.Timestamp("2025-02-10T06:00Z"), 25 * 24, 0.018),
    SampleEvent("FRAX", pd.Timestamp("2025-06-12T05:00Z"), 14, 0.03),
    SampleEvent("USDe", pd.Timestamp("2025-10-10T21:00Z"), 6, 0.05),
    SampleEvent("sUSDe", pd.Timestamp("2025-10-10T22:00Z"), 6, 0.05),
)

_FALSE_PRINTS = (FalsePrint("USDP", pd.Timestamp("2025-08-19T13:00Z"), 0.62),)

_GAPS = (
    _Gap("mkUSD", _FIRST, 121 * 24),
    _Gap("PYUSD", pd.Timestamp("2024-09-03T06:00Z"), 12),
    _Gap("BUSD", pd.Timestamp("2025-01-14T00:00Z"), 3 * 24),
)


@attrs.frozen
class SampleSource:
    """A simulated hourly market: 14 stablecoins and BTC, 2024-01-01 to 2025-12-31 00:00 UTC, always the same.

    Peg noise is AR(1) with a standard deviation of 4 to 12 basis points and factors shared by the market and
    by coins of one backing; sUSDe and USDY accrue 9 % and 5 % a year; BTC is a geometric Brownian motion of
    55 % annual volatility. mkUSD is listed on 2024-05-01, and PYUSD and BUSD miss 12 hours and 3 days.

    Examples
    --------
    >>> source = SampleSource()
    >>> event = source.truth[0]
    >>> prices = source.fetch(event.asset, event.start - _HOUR, event.end + 2 * _HOUR)
    >>> [bool(price < 0.99) for price in prices] == [False] + [True] * event.hours + [False]
    True
    """

    @property
    def name(self) -> str:
        """Says that the prices are simulated."""
        return "sample (simulated)"

    @property
    def first(self) -> pd.Timestamp:
        """The first sample."""
        return _FIRST

    @property
    def last(self) -> pd.Timestamp:
        """The last sample."""
        return _LAST

    @property
    def truth(self) -> tuple[SampleEvent, ...]:
        """Every depeg in the sample, by start."""
        return _EVENTS

    @property
    def false_prints(self) -> tuple[FalsePrint, ...]:
        """Every sample that is wrong and no depeg."""
        return _FALSE_PRINTS

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the simulated prices of `asset` in ``[start, end)``; see `PriceSource.fetch`.

        Parameters
        ----------
        asset : str
            A built-in symbol, in any case.
        start, end : datetime
            tz-aware.
        step : {"1h", "1d"}
            "1d" gives the samples of 00:00 UTC.

        Returns
        -------
        Series of float
            [USD]; empty outside the two years.

        Raises
        ------
        UnknownAssetError
            If `asset` is not built in.
        GranularityError
            If `step` is another one.

        Examples
        --------
        >>> source = SampleSource()
        >>> len(source.fetch("usdc", source.first, source.last, step="1d"))
        730
        """
        span = step_span(step, self.name)
        prices = _market()[get_asset(asset).symbol]
        since_first = pd.DatetimeIndex(prices.index) - _FIRST
        return between(prices[since_first % span == pd.Timedelta(0)], start, end)


@functools.cache
def _market() -> Mapping[str, pd.Series]:
    """Return the whole path of every asset: made once, so that any two requests agree to the bit."""
    hours = pd.date_range(_FIRST, _LAST, freq=_HOUR, unit="us")
    paths = {coin.symbol: _coin_path(coin) for coin in _COINS} | {BTC: _btc_path()}
    for wrong in _FALSE_PRINTS:
        paths[wrong.asset][_row(wrong.time)] = wrong.price
    for gap in _GAPS:
        paths[gap.asset][_rows(gap)] = np.nan
    return {symbol: pd.Series(path, hours, name=symbol).dropna() for symbol, path in paths.items()}


def _coin_path(coin: _Coin) -> FloatArray:
    own_loading = math.sqrt(1.0 - _MARKET_LOADING**2 - _GROUP_LOADING**2)
    deviation = coin.noise * (
        _MARKET_LOADING * _mean_reverting("market")
        + _GROUP_LOADING * _mean_reverting(f"group {coin.group}")
        + own_loading * _mean_reverting(coin.symbol)
    )
    for event in _EVENTS:
        if event.asset == coin.symbol:
            deviation[_rows(event)] = _off_peg(event, deviation[_rows(event)])
    accrued = (1.0 + coin.growth) ** (np.arange(_N_HOURS) / _HOURS_A_YEAR)
    return np.round(accrued * (1.0 + deviation), 6)


def _off_peg(event: SampleEvent, noise: FloatArray) -> FloatArray:
    """Return the deviations of an event: a fast fall, a slower recovery, and the noise where there is room.

    The noise is scaled by the distance to the bounds. As it never reaches 1 %, the path stays off the peg
    from the first to the last sample and reaches the depth once, exactly.
    """
    hour = np.arange(event.hours)
    bottom = max(1, event.hours // 8)
    fallen = (hour + 1.0) / (bottom + 1.0)
    recovering = np.clip((event.hours - 1.0 - hour) / (event.hours - 1.0 - bottom), 0.0, 1.0) ** 1.5
    depth = _EDGE + (event.depth - _EDGE) * np.where(hour <= bottom, fallen, recovering)
    room = np.minimum(depth - _OFF_PEG, event.depth - depth) / _OFF_PEG
    sign = 1.0 if event.direction == "above" else -1.0
    return sign * depth + noise * np.minimum(room, 1.0)


def _btc_path() -> FloatArray:
    moves = _generator(BTC).standard_normal(_N_HOURS - 1) * (_BTC_VOLATILITY / math.sqrt(_HOURS_A_YEAR))
    return np.round(_BTC_START * np.exp(np.concatenate(([0.0], np.cumsum(moves)))), 2)


def _mean_reverting(stream: str) -> FloatArray:
    """Return a stationary AR(1) path of unit variance."""
    shocks = _generator(stream).standard_normal(_N_HOURS)
    innovations = math.sqrt(1.0 - _PERSISTENCE**2) * shocks
    innovations[0] = shocks[0]
    # x[t] - persistence * x[t-1] = innovation[t]; scipy.signal, which has filters, takes long to load.
    diagonals = np.array([[1.0], [-_PERSISTENCE]]).repeat(_N_HOURS, axis=1)
    return np.asarray(scipy.linalg.solve_banded((1, 0), diagonals, innovations))


def _generator(stream: str) -> np.random.Generator:
    # A stream by name: a new coin leaves the paths of the others as they are.
    return np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=tuple(stream.encode())))


def _row(time: pd.Timestamp) -> int:
    return (time - _FIRST) // _HOUR


def _rows(stretch: SampleEvent | _Gap) -> slice:
    first = _row(stretch.start)
    return slice(first, first + stretch.hours)

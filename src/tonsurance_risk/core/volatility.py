"""Volatility of peg ratios and of BTC, as the simulation takes it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import cast

import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.prices import peg_reference, valid_prices
from tonsurance_risk.core.quality import MAD_TO_SIGMA
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BTC, DepegEvent, PegLike, checked_events
from tonsurance_risk.values import BoolArray, FloatArray

LEAST_OBSERVATIONS = 20
BTC_DAYS = 10
"""BTC's sigma is that of its 10-day return: a scenario carries the move of the year."""


def estimate_volatility(
    prices: pd.Series | pd.DataFrame, events: Iterable[DepegEvent] = (), *, peg: PegLike = None
) -> dict[str, float]:
    """Return sigma of each asset with enough observations.

    Parameters
    ----------
    prices : Series or DataFrame of shape (n_times, n_assets)
        [USD]
    events : iterable of DepegEvent
        Samples of an asset from the start to the end of one of its events are left out: scenarios carry them.
    peg : peg, float, Series, or mapping by symbol, optional
        The references when they are not the assets' own.

    Returns
    -------
    dict of str to float
        For a coin the robust standard deviation (1.4826 x the median absolute deviation) of ln(price / peg
        reference); for BTC the standard deviation of its 10-day log return. An asset with fewer than 20
        such observations is missing: its sigma cannot be computed; so is a coin of a fixed peg that moves,
        but has more than half of its observations at one ratio. A constant one has 0.

    Raises
    ------
    InvalidPriceError
        If `prices` are not valid.
    ValueError
        If `events` hold something else.

    Notes
    -----
    10-day returns are taken between each sample and the last one at or before 10 days earlier, if that is
    at most a day older; they overlap, which widens the error of sigma and does not bias it.
    """
    frame = valid_prices(prices)
    by_asset: dict[str, list[DepegEvent]] = {}
    for event in checked_events(events):
        by_asset.setdefault(canonical(event.asset), []).append(event)
    sigma: dict[str, float] = {}
    for asset in frame.columns:
        observed = frame[asset].dropna()
        try:
            sigma[asset] = (
                _btc_sigma(observed) if asset == BTC else _coin_sigma(observed, by_asset.get(asset, []), peg)
            )
        except InsufficientDataError:
            continue
    return sigma


def _coin_sigma(observed: pd.Series, events: Iterable[DepegEvent], peg: PegLike) -> float:
    times, values = cast("pd.DatetimeIndex", observed.index), observed.to_numpy()
    reference, warming_up = peg_reference(str(observed.name), times, values, peg)
    calm: BoolArray = np.ones(len(values), dtype=bool) if warming_up is None else ~warming_up
    for event in events:
        calm[times.searchsorted(event.start) : times.searchsorted(event.end, side="right")] = False
    ratios = _enough(np.log(values / reference)[calm], str(observed.name))
    sigma = float(MAD_TO_SIGMA * np.median(np.abs(ratios - np.median(ratios))))
    # A price that accrues is at its reference wherever that can follow it: many equal ratios are no fault there.
    if sigma == 0.0 and warming_up is None and np.ptp(ratios) > 0.0:
        raise InsufficientDataError(
            f"the robust volatility of {observed.name} needs fewer than half of its observations to be equal",
            asset=str(observed.name),
        )
    return sigma


def _btc_sigma(observed: pd.Series) -> float:
    times, values = cast("pd.DatetimeIndex", observed.index), observed.to_numpy()
    then = times - timedelta(days=BTC_DAYS)
    before = times.searchsorted(then, side="right") - 1
    near = before >= 0
    near[near] &= np.asarray(then[near] - times[before[near]]) <= np.timedelta64(1, "D")
    returns = _enough(np.log(values[near]) - np.log(values[before[near]]), BTC)
    return float(np.std(returns, ddof=1))


def _enough(observations: FloatArray, asset: str) -> FloatArray:
    if len(observations) < LEAST_OBSERVATIONS:
        raise InsufficientDataError(
            f"the volatility of {asset} needs at least {LEAST_OBSERVATIONS} observations, "
            f"found {len(observations)}",
            asset=asset,
            observed=len(observations),
            required=LEAST_OBSERVATIONS,
        )
    return observations


def volatility_within_hour(prices: pd.Series) -> pd.Series:
    """Return, at each sample, the standard deviation of the log returns within its hour.

    Parameters
    ----------
    prices : Series of shape (n_times,)
        Of one asset [USD], without NaN, strictly increasing UTC index.

    Returns
    -------
    Series of float
        The same for all samples of a clock hour, which holds its first instant; NaN where the hour has fewer than
        three samples, for one return has no deviation.

    Notes
    -----
    Returns are ln(P_t / P_s) between neighbours of the same hour; the deviation has n - 1 in its denominator. It
    is not scaled to another horizon.
    """
    hours = prices.index.floor("h")  # type: ignore[attr-defined]
    returns = np.log(prices).groupby(hours).diff()
    return cast("pd.Series", returns.groupby(hours).transform("std"))

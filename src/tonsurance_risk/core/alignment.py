"""Prices at irregular times on a regular grid, causally."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal, TypeVar, cast

import numpy as np
import pandas as pd

from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.values import FloatArray, IntArray, span

AnyPrices = TypeVar("AnyPrices", pd.Series, pd.DataFrame)

MOST_BINS = 100_000_000
_LONGEST = timedelta(days=100_000)
"""What nanoseconds can count, and longer than any prices."""


def align_prices(
    prices: AnyPrices,
    freq: timedelta | str,
    *,
    tolerance: timedelta,
    how: Literal["last", "time_weighted"] = "last",
) -> AnyPrices:
    """Return prices on a regular grid, each from what was known at its stamp.

    The grid is the multiples of `freq` since 1970-01-01 00:00 UTC, from the first at or after the first row to
    the first at or after the last one. The stamp t stands for the bin ``(t - freq, t]``.

    Parameters
    ----------
    prices : Series or DataFrame of shape (n_times, n_assets)
        One named column or a wide frame [USD], at any times. NaN is not an observation.
    freq : timedelta or str
        Distance of two stamps, > 0: a timedelta, or text such as "1h", "15min" or "1d".
    tolerance : timedelta
        How long an observation holds after its time; there is no price from an older one.
    how : {"last", "time_weighted"}
        The last observation at or before t, or the mean over the bin weighted by time.

    Returns
    -------
    Series or DataFrame of shape (n_bins, n_assets)
        What was given, on the grid, with its ``attrs``; NaN where the rule gives no price.

    Raises
    ------
    ValueError
        If `freq`, `tolerance` or `how` is not what is accepted.
    InvalidPriceError
        If `prices` are not valid.

    Notes
    -----
    With the observations p_i at s_i the step function is P(u) = p_i for s_i <= u < s_{i+1}, as far as
    u <= s_i + tolerance, and undefined elsewhere. "last" gives P(t), with the observation at t itself.
    "time_weighted" gives the integral of P over the bin, divided by `freq`, where P is defined on the whole bin,
    and NaN where a part of any length is not covered: so the first bin mostly has none, and a mean needs
    a tolerance as long as the longest quiet stretch. Weights are whole nanoseconds, each bin is summed on its own.

    Every bin but the last is final: it depends on no later row. The last one may end after the last row.
    O(n log n + bins) for each column, without a loop over samples.

    Examples
    --------
    >>> times = pd.to_datetime(["2024-01-01 00:00", "2024-01-01 00:45", "2024-01-01 04:10"], utc=True)
    >>> rounds = pd.Series([1.00, 0.96, 1.00], index=times, name="USDC")
    >>> align_prices(rounds, "1h", tolerance=timedelta(hours=2)).tolist()
    [1.0, 0.96, 0.96, nan, nan, 1.0]
    >>> align_prices(rounds, "1h", tolerance=timedelta(hours=2), how="time_weighted").round(6).tolist()
    [nan, 0.99, 0.96, nan, nan, nan]
    """
    step = _ticks_of(positive_step(freq))
    hold = _ticks_of(span(tolerance, "tolerance"))
    if how not in ("last", "time_weighted"):
        raise ValueError(f"how must be 'last' or 'time_weighted', found {how!r}")
    frame = valid_prices(prices)
    ticks = _ticks(frame)
    # Whole numbers, rounded up: -(-a // b).
    first, last = (-(-int(ticks[end]) // step) for end in (0, -1)) if len(ticks) else (0, -1)
    if last - first >= MOST_BINS:
        raise ValueError(f"freq must give at most {MOST_BINS:,} bins, found {freq!r} with {last - first + 1:,}")
    grid = np.arange(first, last + 1, dtype=np.int64) * step
    columns = {}
    for asset in frame.columns:
        times, values = _observed(frame[asset], ticks)
        if how == "last":
            columns[asset] = _held(times, values, grid, hold)
        else:
            columns[asset] = _means(times, values, grid, step, hold)
    index = pd.DatetimeIndex(grid, tz="UTC", name=frame.index.name)
    aligned = pd.DataFrame(columns, index=index, columns=frame.columns, dtype=np.float64)
    return _like(prices, aligned)


def prices_at(prices: pd.DataFrame, times: pd.DatetimeIndex, *, tolerance: timedelta) -> pd.DataFrame:
    """Return the last observation at or before each time, NaN where it is older than `tolerance`.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        A valid wide frame [USD].
    times : DatetimeIndex of shape (n,)
        UTC.
    tolerance : timedelta
        Zero: only observations at exactly these times.

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    >>> frame = pd.DataFrame({"DAI": [0.99]}, index=hours[:1])
    >>> prices_at(frame, hours, tolerance=timedelta(hours=1))["DAI"].tolist()
    [0.99, 0.99, nan]
    """
    ticks, grid = _ticks(frame := valid_prices(prices)), times.as_unit("ns").asi8
    hold = _ticks_of(span(tolerance, "tolerance"))
    columns = {asset: _held(*_observed(frame[asset], ticks), grid, hold) for asset in frame.columns}
    return pd.DataFrame(columns, index=times, columns=frame.columns, dtype=np.float64)


def positive_step(freq: timedelta | str) -> pd.Timedelta:
    """Return a step as a duration; a `ValueError` when it is not one > 0."""
    accepted = "a duration > 0 such as '1h', '15min' or timedelta(days=1)"
    if not isinstance(freq, (str, timedelta)):
        raise ValueError(f"freq must be {accepted}, found {freq!r}")
    try:
        # pandas spells a day with a capital D; everybody else writes 1d.
        step = pd.Timedelta(re.sub(r"(?<=\d)d(?![a-z])", "D", freq) if isinstance(freq, str) else freq)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"freq must be {accepted}, found {freq!r}") from error
    if pd.isna(step) or not timedelta(0) < step <= _LONGEST:
        raise ValueError(f"freq must be {accepted}, found {freq!r}")
    return step


def _ticks_of(duration: timedelta) -> int:
    return int(pd.Timedelta(min(duration, _LONGEST)).as_unit("ns").value)


def _ticks(frame: pd.DataFrame) -> IntArray:
    return cast("pd.DatetimeIndex", frame.index).as_unit("ns").asi8


def _observed(column: pd.Series, ticks: IntArray) -> tuple[IntArray, FloatArray]:
    values = column.to_numpy()
    seen = ~np.isnan(values)
    return ticks[seen], values[seen]


def _held(times: IntArray, values: FloatArray, grid: IntArray, hold: int) -> FloatArray:
    """Return the step function at each point of the grid."""
    held = np.full(len(grid), np.nan)
    if len(times):
        at = np.searchsorted(times, grid, side="right") - 1
        fresh = (at >= 0) & (grid - times[at] <= hold)
        held[fresh] = values[at[fresh]]
    return held


def _means(times: IntArray, values: FloatArray, grid: IntArray, step: int, hold: int) -> FloatArray:
    """Return the mean of the step function over the bin before each point of the grid."""
    means = np.full(len(grid), np.nan)
    if not len(times) or not len(grid):
        return means
    # Between two neighbouring edges the step function is constant, or not defined. One edge too many is harmless,
    # so it does not matter where the end of a hold of centuries wraps to.
    ends = times[np.append(np.diff(times) > hold, True)] + hold
    edges = np.sort(np.concatenate((times, ends, grid, grid[:1] - step)), kind="stable")
    doubled = np.append(np.diff(edges) == 0, False)
    edges = edges[~doubled & (edges >= grid[0] - step) & (edges <= grid[-1])]
    begins, lengths = edges[:-1], np.diff(edges)
    at = np.searchsorted(times, begins, side="right") - 1
    defined = (at >= 0) & (begins - times[at] < hold)
    bins = np.searchsorted(grid, begins, side="right")
    starts = np.searchsorted(begins, grid - step)
    covered = np.add.reduceat(np.where(defined, lengths, 0), starts)
    # Deviations from the price at the start of the bin: a price that stands still is its own mean, exactly.
    base = values[at[starts]]
    weighted = np.bincount(bins, lengths * (values[at] - base[bins]), minlength=len(grid))
    whole = covered == step
    means[whole] = base[whole] + weighted[whole] / step
    return means


def _like(given: AnyPrices, aligned: pd.DataFrame) -> AnyPrices:
    """Return a Series for a Series, with the attributes that were given."""
    result = aligned.iloc[:, 0] if isinstance(given, pd.Series) else aligned
    result.attrs = dict(given.attrs)
    return result

"""Price frames: what is valid, and the peg reference that a price is measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, own_peg
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import (
    YEAR,
    AccruingPeg,
    BoolArray,
    FixedPeg,
    FloatArray,
    PegLike,
    iso,
    text,
    unique,
    within,
)

WARM_UP = timedelta(hours=24)
"""How long an accruing peg without `start` watches before it gives a reference."""


def valid_prices(prices: pd.Series | pd.DataFrame, argument: str = "prices") -> pd.DataFrame:
    """Return `prices` as a valid wide frame: UTC index, float columns, symbols as `get_asset` spells them.

    Nothing is sorted, filled or dropped; a frame that is valid already is not copied.

    Parameters
    ----------
    prices : Series or DataFrame of shape (n_times, n_assets)
        One named column or several [USD].
    argument : str
        The name used in messages.

    Raises
    ------
    InvalidPriceError
        If the index is not a strictly increasing tz-aware `DatetimeIndex`, or a price is text, infinite,
        zero or negative; the message names the asset, the time and what was found.
    ValueError
        If a Series has no name, or two columns are the same asset.
    """
    frame = _columns_spelled(_as_frame(prices, argument), argument)
    index = valid_index(frame.index, argument)
    columns = [_floats(frame.iloc[:, i], index, str(name), argument) for i, name in enumerate(frame.columns)]
    for name, values in zip(frame.columns, columns, strict=True):
        _refuse_impossible(values, index, str(name), argument)
    if index is frame.index and all(dtype == np.float64 for dtype in frame.dtypes):
        return frame
    return pd.DataFrame(dict(zip(frame.columns, columns, strict=True)), index=index, columns=frame.columns)


def readable_prices(prices: pd.Series | pd.DataFrame, argument: str = "prices") -> pd.DataFrame:
    """Return `prices` as floats over a UTC index, however unordered, doubled or impossible they are."""
    frame = _columns_spelled(_as_frame(prices, argument), argument)
    index = _utc_index(frame.index, argument)
    columns = {name: _floats(frame[name], index, str(name), argument) for name in frame.columns}
    return pd.DataFrame(columns, index=index, columns=frame.columns)


def valid_index(index: pd.Index, argument: str) -> pd.DatetimeIndex:
    """Return a strictly increasing UTC index, `index` itself when it is one; else `InvalidPriceError`."""
    stamps = _utc_index(index, argument)
    if not (stamps.is_monotonic_increasing and stamps.is_unique):
        ticks = stamps.asi8
        at = int(np.flatnonzero(ticks[1:] <= ticks[:-1])[0]) + 1
        kind = "doubled" if ticks[at] == ticks[at - 1] else "out of order"
        raise InvalidPriceError(
            f"the times of {argument} must be strictly increasing: row {at} ({iso(stamps[at])}) is {kind}, "
            f"after {iso(stamps[at - 1])}",
            time=stamps[at],
            observed=stamps[at],
        )
    return stamps


def _as_frame(prices: pd.Series | pd.DataFrame, argument: str) -> pd.DataFrame:
    if isinstance(prices, pd.Series):
        if not isinstance(prices.name, str) or not prices.name:
            raise ValueError(
                f"{argument}: a Series must be named by its asset symbol, found the name {prices.name!r}"
            )
        return prices.to_frame()
    if isinstance(prices, pd.DataFrame):
        return prices
    raise ValueError(f"{argument} must be a pandas Series or DataFrame, found {type(prices).__name__}")


def _columns_spelled(frame: pd.DataFrame, argument: str) -> pd.DataFrame:
    for name in frame.columns:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{argument}: a column must be named by its asset symbol, found {name!r}")
    spelled = [canonical(name) for name in frame.columns]
    unique(spelled, f"{argument}: assets of columns")
    return frame if spelled == list(frame.columns) else frame.set_axis(spelled, axis=1)


def _utc_index(index: pd.Index, argument: str) -> pd.DatetimeIndex:
    if not isinstance(index, pd.DatetimeIndex):
        raise InvalidPriceError(
            f"{argument} must have a tz-aware UTC DatetimeIndex, found {type(index).__name__}", observed=index
        )
    if index.tz is None:
        first = f", first {index[0].isoformat()}" if len(index) else ""
        raise InvalidPriceError(
            f"{argument} must have a tz-aware UTC DatetimeIndex, found naive times{first}", observed=index
        )
    if index.hasnans:
        at = int(np.flatnonzero(index.isna())[0])
        raise InvalidPriceError(f"{argument} has no time (NaT) in row {at}", observed=pd.NaT)
    return index if str(index.tz) == "UTC" else index.tz_convert("UTC")


def _floats(column: pd.Series, index: pd.DatetimeIndex, asset: str, argument: str) -> FloatArray:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    for at, value in enumerate(column):
        missing = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
        if not missing and (isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number))):
            raise InvalidPriceError(
                f"{argument}: {asset} at {iso(index[at])} must be a number, found {value!r}",
                asset=asset,
                time=index[at],
                observed=value,
            )
    return np.asarray(pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan))


def _refuse_impossible(values: FloatArray, index: pd.DatetimeIndex, asset: str, argument: str) -> None:
    if values.size == 0 or (values.min() > 0.0 and values.max() < np.inf):
        return
    impossible = np.flatnonzero(~((values > 0.0) & (values < np.inf)) & ~np.isnan(values))
    if impossible.size:
        at = int(impossible[0])
        raise InvalidPriceError(
            f"{argument}: {asset} at {iso(index[at])} must be a price > 0 and finite (NaN: nothing observed), "
            f"found {values[at]!r}; {impossible.size} such price(s) in this column",
            asset=asset,
            time=index[at],
            observed=float(values[at]),
        )


def peg_reference(
    asset: str, times: pd.DatetimeIndex, values: FloatArray, peg: PegLike = None
) -> tuple[FloatArray | float, BoolArray | None]:
    """Return the reference price at each sample, causally, and which samples only give the reference.

    Parameters
    ----------
    asset : str
        Chooses the peg when `peg` is None or a mapping without it.
    times : DatetimeIndex of shape (n,)
        Strictly increasing, UTC.
    values : ndarray of shape (n,)
        Prices [USD], all valid: samples that were not observed or were rejected are left out before.
    peg : peg, float, Series, or mapping by symbol
        See `AccruingPeg` and `FixedPeg`; a Series gives its last value at or before the sample.

    Returns
    -------
    reference : float, or ndarray of shape (n,)
        [USD]
    warming_up : ndarray of bool of shape (n,), or None
        Samples that belong to no event.
    """
    match peg_of(asset, peg):
        case FixedPeg(price):
            return price, None
        case AccruingPeg() as accruing:
            return _accruing_reference(times, values, accruing)
        case pd.Series() as references:
            return _stepwise_reference(asset, times, references), None
        case other:
            return within(other, f"peg of {asset}", 0.0, open_low=True), None


def peg_of(asset: str, peg: PegLike) -> Any:
    """Return the peg of an asset: the one that `peg` gives it, else its own."""
    if isinstance(peg, Mapping):
        for symbol in peg:
            text(symbol, "a symbol in peg")
        unique(map(canonical, peg), "symbols of peg")
        by_symbol = {canonical(symbol): value for symbol, value in peg.items()}
        peg = by_symbol.get(canonical(asset))
    if peg is not None:
        return peg
    own = own_peg(asset)
    if own is None:
        raise ValueError(f"{asset} has no peg; say which with peg=")
    return own


def _accruing_reference(
    times: pd.DatetimeIndex, values: FloatArray, peg: AccruingPeg
) -> tuple[FloatArray, BoolArray]:
    n = len(values)
    warming_up = np.zeros(n, dtype=bool)
    reference = np.empty(n)
    if n == 0:
        return reference, warming_up
    if peg.start is None:
        warming_up = np.asarray(times < times[0] + WARM_UP)
        current = float(np.median(values[warming_up]))
        first = int(warming_up.sum())
    else:
        current, first = peg.start, 1
    reference[:first] = current
    years = np.diff(times.as_unit("ns").asi8) / (YEAR.total_seconds() * 1e9)
    lowest = ((1.0 - peg.fall) ** years).tolist()
    highest = ((1.0 + peg.rise) ** years).tolist()
    prices = values.tolist()
    # Sequential by definition: each reference is clamped around the one before.
    for i in range(first, n):
        current = min(max(prices[i], current * lowest[i - 1]), current * highest[i - 1])
        reference[i] = current
    return reference, warming_up


def _stepwise_reference(asset: str, times: pd.DatetimeIndex, references: pd.Series) -> FloatArray:
    index = valid_index(references.index, f"peg of {asset}")
    at = index.searchsorted(times, side="right") - 1
    if at.size and at[0] < 0:
        raise InvalidPriceError(
            f"peg of {asset}: no reference at or before {iso(times[0])}", asset=asset, time=times[0]
        )
    values = _floats(references, index, asset, f"peg of {asset}")[at]
    wrong = np.flatnonzero(~((values > 0.0) & (values < np.inf)))
    if wrong.size:
        time = times[int(wrong[0])]
        raise InvalidPriceError(
            f"peg of {asset}: the reference at {iso(time)} must be finite and > 0, "
            f"found {float(values[wrong[0]])!r}",
            asset=asset,
            time=time,
            observed=float(values[wrong[0]]),
        )
    return values

"""Price frames: what is valid, and the peg reference that a price is measured against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, own_peg
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import YEAR, AccruingPeg, FixedPeg, Peg, PegLike
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, iso, text, unique, within

WARM_UP = timedelta(hours=24)
"""How long an accruing peg without `start` watches before it gives a reference."""

NO_TIME = np.iinfo(np.int64).min
"""The tick of NaT."""

_MICROSECOND = timedelta(microseconds=1)
_TICK = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


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
    frame, index, columns = _checked(prices, argument)
    if index is frame.index and all(dtype == np.float64 for dtype in frame.dtypes):
        return frame
    values = [column.values for column in columns]
    return pd.DataFrame(dict(zip(frame.columns, values, strict=True)), index=index, columns=frame.columns)


def observed_prices(prices: pd.Series | pd.DataFrame) -> Iterator[tuple[str, pd.DatetimeIndex, FloatArray]]:
    """Return the asset, times and prices [USD] of each column of valid prices, without NaN.

    What is wrong with any column raises as in `valid_prices`; what is all there is not copied.
    """
    _, index, columns = _checked(prices, "prices")
    for column in columns:
        if column.complete:
            yield column.asset, index, column.values
        else:
            observed = ~np.isnan(column.values)
            yield column.asset, index[observed], column.values[observed]


@attrs.frozen
class _Column:
    """Prices of one asset that were found valid; `complete` if none is NaN."""

    asset: str
    values: FloatArray
    complete: bool


def _checked(
    prices: pd.Series | pd.DataFrame, argument: str
) -> tuple[pd.DataFrame, pd.DatetimeIndex, list[_Column]]:
    frame = _columns_spelled(_as_frame(prices, argument), argument)
    index = valid_index(frame.index, argument)
    values = [_floats(frame.iloc[:, i], index, str(name), argument) for i, name in enumerate(frame.columns)]
    columns = [
        _Column(str(name), array, _all_prices(array, index, str(name), argument))
        for name, array in zip(frame.columns, values, strict=True)
    ]
    return frame, index, columns


def readable_prices(prices: pd.Series | pd.DataFrame, argument: str = "prices") -> pd.DataFrame:
    """Return `prices` as floats over a UTC index, however unordered, doubled or impossible they are."""
    frame = _columns_spelled(_as_frame(prices, argument), argument)
    index = _utc_index(frame.index, argument)
    _refuse_no_time(index, argument)
    columns = {name: _floats(frame[name], index, str(name), argument) for name in frame.columns}
    return pd.DataFrame(columns, index=index, columns=frame.columns)


def valid_index(index: pd.Index, argument: str) -> pd.DatetimeIndex:
    """Return a strictly increasing UTC index, `index` itself when it is one; else `InvalidPriceError`."""
    stamps = _utc_index(index, argument)
    ticks = stamps.asi8
    increasing = ticks[1:] > ticks[:-1]
    if increasing.all() and not (ticks.size and ticks[0] == NO_TIME):  # NaT is before every time
        return stamps
    _refuse_no_time(stamps, argument)
    at = int(np.argmin(increasing)) + 1
    kind = "doubled" if ticks[at] == ticks[at - 1] else "out of order"
    raise InvalidPriceError(
        f"the times of {argument} must be strictly increasing: row {at} ({iso(stamps[at])}) is {kind}, "
        f"after {iso(stamps[at - 1])}",
        time=stamps[at],
        observed=stamps[at],
    )


def nanoseconds(duration: timedelta) -> int:
    """Return a duration in whole nanoseconds, exactly."""
    return int(duration // _MICROSECOND) * 1_000 + getattr(duration, "nanoseconds", 0)


def tick_of(index: pd.DatetimeIndex) -> int:
    """Return the nanoseconds that one step of ``index.asi8`` stands for."""
    return _TICK[index.unit]


def ticks_of(index: pd.DatetimeIndex, other: pd.DatetimeIndex) -> IntArray:
    """Return the times of an index in whole steps of the finer unit of the two: those of both can be compared."""
    finer = index.unit if tick_of(index) <= tick_of(other) else other.unit
    return index.as_unit(finer).asi8


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
    return index if str(index.tz) == "UTC" else index.tz_convert("UTC")


def _refuse_no_time(index: pd.DatetimeIndex, argument: str) -> None:
    if index.hasnans:
        at = int(np.flatnonzero(index.isna())[0])
        raise InvalidPriceError(f"{argument} has no time (NaT) in row {at}", observed=pd.NaT)


def _floats(column: pd.Series, index: pd.DatetimeIndex, asset: str, argument: str) -> FloatArray:
    dtype = column.dtype
    numeric = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)
    if numeric and not pd.api.types.is_bool_dtype(dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    for at, value in enumerate(column):
        missing = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
        if not missing and (
            isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating))
        ):
            raise InvalidPriceError(
                f"{argument}: {asset} at {iso(index[at])} must be a number, found {value!r}",
                asset=asset,
                time=index[at],
                observed=value,
            )
    return np.array([_float(value) for value in column])


def _float(value: Any) -> float:
    if value is None or value is pd.NA:
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number beyond the largest float
        return math.inf


def _all_prices(values: FloatArray, index: pd.DatetimeIndex, asset: str, argument: str) -> bool:
    """Return whether no value is NaN; an `InvalidPriceError` if one is infinite, zero or negative."""
    if values.size == 0 or (values.min() > 0.0 and values.max() < np.inf):
        return True
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
    return not bool(np.isnan(values).any())


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
            return float(price), None
        case AccruingPeg() as accruing:
            return _accruing_reference(times, values, accruing)
        case references:
            return _stepwise_reference(asset, times, references), None


def peg_of(asset: str, peg: PegLike) -> Peg | pd.Series:
    """Return the peg of an asset: the one that `peg` gives it, else its own; a number is a fixed peg."""
    if isinstance(peg, Mapping):
        for symbol in peg:
            text(symbol, "a symbol in peg")
        unique(map(canonical, peg), "symbols of peg")
        by_symbol = {canonical(symbol): value for symbol, value in peg.items()}
        peg = by_symbol.get(canonical(asset))
    if peg is None:
        peg = own_peg(asset)
    if peg is None:
        raise ValueError(f"{asset} has no peg; say which with peg=")
    if isinstance(peg, (FixedPeg, AccruingPeg, pd.Series)):
        return peg
    return FixedPeg(within(peg, f"peg of {asset}", 0.0, open_low=True))


def first_reference(prices: FloatArray | list[float]) -> float:
    """Return the reference that the samples of the first 24 h give: their median [USD]."""
    ordered = sorted(map(float, prices))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    both = low + high
    return both / 2.0 if both < math.inf else low / 2.0 + high / 2.0


def reach(peg: AccruingPeg, elapsed: int) -> tuple[float, float]:
    """Return by which factors the reference may at most fall and rise in `elapsed` nanoseconds."""
    years = elapsed / (YEAR.total_seconds() * 1e9)
    try:
        highest = (1.0 + peg.rise) ** years
    except OverflowError:
        highest = math.inf
    return (1.0 - peg.fall) ** years, highest


def follow(reference: float, price: float, lowest: float, highest: float) -> float:
    """Return the next reference: the price, as far as the two factors of `reach` allow."""
    return min(max(price, reference * lowest), reference * highest)


def _accruing_reference(
    times: pd.DatetimeIndex, values: FloatArray, peg: AccruingPeg
) -> tuple[FloatArray, BoolArray]:
    n = len(values)
    warming_up = np.zeros(n, dtype=bool)
    if n == 0:
        return np.empty(0), warming_up
    if peg.start is None:
        warming_up = np.asarray(times < times[0] + WARM_UP)
        current = first_reference(values[warming_up])
        first = int(warming_up.sum())
    else:
        current, first = float(peg.start), 1
    reference = [current] * first
    gaps = np.diff(times.asi8[first - 1 :]).tolist()
    factors = {gap: reach(peg, gap * tick_of(times)) for gap in set(gaps)}
    # Sequential by definition: each reference is clamped around the one before.
    for gap, price in zip(gaps, values[first:].tolist(), strict=True):
        lowest, highest = factors[gap]
        current = follow(current, price, lowest, highest)
        reference.append(current)
    return np.array(reference), warming_up


def valid_references(asset: str, references: pd.Series) -> tuple[pd.DatetimeIndex, FloatArray]:
    """Return the times and values [USD] of a Series of references; only those that are used must be prices."""
    argument = f"peg of {asset}"
    index = valid_index(references.index, argument)
    return index, _floats(references, index, asset, argument)


def no_reference(asset: str, time: pd.Timestamp) -> InvalidPriceError:
    """Return the error for a sample before the first reference."""
    return InvalidPriceError(f"peg of {asset}: no reference at or before {iso(time)}", asset=asset, time=time)


def wrong_reference(asset: str, time: pd.Timestamp, value: float) -> InvalidPriceError:
    """Return the error for a sample whose reference is not a price."""
    return InvalidPriceError(
        f"peg of {asset}: the reference at {iso(time)} must be finite and > 0, found {value!r}",
        asset=asset,
        time=time,
        observed=value,
    )


def _stepwise_reference(asset: str, times: pd.DatetimeIndex, references: pd.Series) -> FloatArray:
    index, values = valid_references(asset, references)
    at = ticks_of(index, times).searchsorted(ticks_of(times, index), side="right") - 1
    if at.size and at[0] < 0:
        raise no_reference(asset, times[0])
    values = values[at]
    wrong = np.flatnonzero(~((values > 0.0) & (values < np.inf)))
    if wrong.size:
        first = int(wrong[0])
        raise wrong_reference(asset, times[first], float(values[first]))
    return values

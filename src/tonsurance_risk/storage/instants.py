"""Times and durations as whole microseconds, the finest that a store keeps."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.ports import Clock
from tonsurance_risk.values import IntArray, as_utc, iso, span

_MICROSECOND = timedelta(microseconds=1)
_LONGEST = timedelta(microseconds=2**62)


def whole_microseconds(time: datetime, name: str = "time") -> pd.Timestamp:
    """Return `time` in UTC; one that is naive or finer than a microsecond is an `InvalidPriceError`."""
    stamp = as_utc(time, name)
    if stamp.nanosecond:
        raise InvalidPriceError(
            f"{name} must be a whole number of microseconds, found {iso(stamp)}", time=stamp, observed=time
        )
    return stamp


def time_to_microseconds(time: datetime, name: str = "time") -> int:
    """Return the microseconds from 1970-01-01 UTC to `time`; see `whole_microseconds`."""
    return int(whole_microseconds(time, name).asm8.astype("datetime64[us]").astype(np.int64))


def time_of_microseconds(microseconds: int) -> pd.Timestamp:
    """Return the instant so many microseconds after 1970-01-01 UTC."""
    return pd.Timestamp(np.datetime64(int(microseconds), "us")).tz_localize("UTC")


def index_to_microseconds(index: pd.DatetimeIndex, argument: str) -> IntArray:
    """Return a valid index as microseconds; one finer than that is an `InvalidPriceError`."""
    if index.unit == "ns":
        finer = np.flatnonzero(index.asi8 % 1000)
        if finer.size:
            whole_microseconds(index[int(finer[0])], f"a time of {argument}")
    return np.asarray(index.as_unit("us").asi8)


def index_of_microseconds(microseconds: IntArray) -> pd.DatetimeIndex:
    """Return the UTC index of such integers."""
    return pd.DatetimeIndex(np.asarray(microseconds, np.int64).view("datetime64[us]")).tz_localize("UTC")


def duration_to_microseconds(duration: timedelta, name: str = "duration") -> int:
    """Return `duration` in microseconds; a `ValueError` if it is finer, negative or beyond 146,000 years."""
    value = span(duration, name)
    if value > _LONGEST or (isinstance(value, pd.Timedelta) and value.nanoseconds):
        raise ValueError(
            f"{name} must be a whole number of microseconds and at most {_LONGEST.days:,} days, found {value!r}"
        )
    return int(value // _MICROSECOND)


def duration_of_microseconds(microseconds: int) -> timedelta:
    """Return the duration of so many microseconds."""
    return timedelta(microseconds=int(microseconds))


def interval(start: datetime | None, end: datetime | None) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return ``[start, end)`` as bounds that are whole microseconds and hold the same stored times."""
    return _rounded_up(start, "start"), _rounded_up(end, "end")


def _rounded_up(time: datetime | None, name: str) -> pd.Timestamp | None:
    return None if time is None else as_utc(time, name).ceil("us")


def at_or_before(time: datetime, name: str) -> pd.Timestamp:
    """Return the last whole microsecond at or before `time`."""
    return as_utc(time, name).floor("us")


def now(clock: Clock) -> pd.Timestamp:
    """Return the instant that `clock` shows."""
    return at_or_before(clock.now(), "the time of the clock")

"""What an argument must be, and the plain form that records keep it in.

A check returns the value when it is right, and raises an error that names it when it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, TypeAlias, cast

import attrs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tonsurance_risk.errors import InvalidPriceError

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


def as_utc(time: datetime, name: str = "time") -> pd.Timestamp:
    """Return `time` as a UTC timestamp.

    Raises
    ------
    InvalidPriceError
        If `time` is naive or not a time.
    """
    if not isinstance(time, datetime) or pd.isna(time):
        raise InvalidPriceError(f"{name} must be a tz-aware datetime, found {time!r}", observed=time)
    if time.tzinfo is None:
        raise InvalidPriceError(
            f"{name} must be tz-aware (UTC), found the naive {time.isoformat()}", time=time, observed=time
        )
    return pd.Timestamp(time).tz_convert("UTC")


def iso(time: datetime) -> str:
    """Return `time` as ISO 8601 with a Z, as it is written in JSON and messages."""
    return time.isoformat().replace("+00:00", "Z")


def iso_or_none(time: datetime | None) -> str | None:
    """Return `iso` of `time`, or None where there is none."""
    return None if time is None else iso(time)


def read_only(values: Any, dtype: Any = None) -> NDArray[Any]:
    """Return a copy of `values` that cannot be written to."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def plain(value: float) -> float:
    """Return a number of any kind as a float; anything else as it is, for the validator to refuse."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return value
    try:
        return float(value)
    except OverflowError:  # a whole number beyond the largest float
        return math.inf


def read_only_series(series: pd.Series) -> pd.Series:
    """Return a copy of a Series whose values cannot be written to."""
    return pd.Series(read_only(series.to_numpy()), index=series.index, name=series.name, copy=False)


def finite(value: object, name: str) -> float:
    """Return `value` as a float; a `ValueError` naming `name` when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be an int or a float, found {value!r}")
    number = plain(cast("float", value))
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, found {value!r}")
    return number


def within(value: object, name: str, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Return `value` as a float in [low, high], or (low, high] with `open_low`; else a `ValueError`."""
    number = finite(value, name)
    if number < low or number > high or (open_low and number == low):
        bracket = "(" if open_low else "["
        accepted = (
            f"in {bracket}{low:g}, {high:g}]"
            if math.isfinite(high)
            else (f"> {low:g}" if open_low else f">= {low:g}")
        )
        raise ValueError(f"{name} must be a number {accepted}, found {value!r}")
    return number


def text(value: object, name: str) -> str:
    """Return `value` when it is a non-empty string; else a `ValueError`."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a non-empty string, found {value!r}")
    return value


def whole(value: object, name: str, low: int, high: int | None = None) -> int:
    """Return `value` as an int in [low, high]; a `ValueError` for anything else, 2.5 and True included."""
    accepted = f"a whole number >= {low}" if high is None else f"a whole number from {low:,} to {high:,}"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} must be {accepted}, found {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {accepted}, found {value!r}")
    return int(value)


def span(value: object, name: str) -> timedelta:
    """Return `value` when it is a non-negative timedelta; else a `ValueError`."""
    if not isinstance(value, timedelta) or pd.isna(value) or value < timedelta(0):
        raise ValueError(f"{name} must be a datetime.timedelta >= 0, found {value!r}")
    return value


def checked(check: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
    """Turn a check into an attrs validator that names the field."""

    def validate(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check(value, attribute.name, *arguments, **options)

    return validate


def unique(names: Iterable[str], what: str) -> None:
    """Raise a `ValueError` that names the first doubled name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} must be unique, found {name!r} twice")
        seen.add(name)

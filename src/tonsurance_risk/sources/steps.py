"""The steps that sources carry, and the part of a series that an interval asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
import pandas as pd

from tonsurance_risk.errors import GranularityError
from tonsurance_risk.values import as_utc

STEPS: Mapping[str, timedelta] = MappingProxyType({"1h": timedelta(hours=1), "1d": timedelta(days=1)})
"""The distance of two samples by the name of the step."""
TOLERANCE = 1.5
"""A distance up to so many times longer or shorter is still that of the step."""


def step_span(step: str, where: str) -> timedelta:
    """Return the distance of two samples of `step`.

    Parameters
    ----------
    step : str
        "1h" or "1d".
    where : str
        The source or file, for the message.

    Raises
    ------
    GranularityError
        If `step` is another one.

    Examples
    --------
    >>> step_span("1d", "my source")
    datetime.timedelta(days=1)
    """
    span = STEPS.get(step) if isinstance(step, str) else None
    if span is None:
        accepted = tuple(STEPS)
        raise GranularityError(
            f"{where} carries the steps {' and '.join(accepted)}, not {step!r}",
            observed=step,
            required=accepted,
        )
    return span


def other_distance(times: pd.DatetimeIndex, span: timedelta) -> timedelta | None:
    """Return the median distance of two times or more where it is not that of a step; None where it is.

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC", unit="us")
    >>> other_distance(hours, timedelta(hours=1)), other_distance(hours, timedelta(days=1))
    (None, datetime.timedelta(seconds=3600))
    """
    median = timedelta(microseconds=float(np.median(np.diff(times.as_unit("us").asi8))))
    return None if span / TOLERANCE <= median <= span * TOLERANCE else median


def between(series: pd.Series, start: datetime, end: datetime) -> pd.Series:
    """Return a copy of the samples of `series` in ``[start, end)``, none when `end` is not after `start`.

    Parameters
    ----------
    series : Series
        Over a strictly increasing UTC index.
    start, end : datetime
        tz-aware.

    Raises
    ------
    InvalidPriceError
        If `start` or `end` is naive.

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC")
    >>> between(pd.Series([1.0, 1.1, 1.2, 1.3], hours), hours[1], hours[3]).tolist()
    [1.1, 1.2]
    """
    first, last = series.index.searchsorted([as_utc(start, "start"), as_utc(end, "end")])
    return series.iloc[first:last].copy()

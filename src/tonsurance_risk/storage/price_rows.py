"""Prices between the wide frame that analysts use and the long form that is stored. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

import attrs
import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.core.volatility import volatility_within_hour
from tonsurance_risk.storage.instants import index_of_microseconds, index_to_microseconds
from tonsurance_risk.storage.records import storable
from tonsurance_risk.values import FloatArray, IntArray

Samples: TypeAlias = tuple[Sequence[int] | IntArray, Sequence[float] | FloatArray]
"""Microseconds and prices of one asset."""
MARKS = ("quality", "outlier", "volatility_1h", "volume")
"""What may be known of a price beside itself; null where nobody has said, and again once the price changed."""
HOUR = 3_600_000_000
"""Microseconds."""


@attrs.frozen(eq=False)
class AssetPrices:
    """The observed prices of one asset, in order of time."""

    asset: str
    microseconds: IntArray
    prices: FloatArray

    def rows(self, most: int) -> Iterator[list[tuple[str, int, float]]]:
        """Yield rows (asset, microseconds, price) in lists of at most `most`."""
        for first in range(0, len(self.prices), most):
            part = slice(first, first + most)
            times, prices = self.microseconds[part].tolist(), self.prices[part].tolist()
            yield list(zip([self.asset] * len(prices), times, prices, strict=True))


def melted(prices: pd.Series | pd.DataFrame) -> list[AssetPrices]:
    """Return the observed prices of a valid wide frame, asset by asset in order of symbol.

    Raises
    ------
    InvalidPriceError
        See `valid_prices`; also for times finer than a microsecond.
    """
    return _by_asset(valid_prices(prices))


def melted_marks(name: str, values: pd.DataFrame) -> list[AssetPrices]:
    """Return what is said of prices in a wide frame, asset by asset; see `PriceStore.save_marks`.

    Raises
    ------
    ValueError
        If the mark is unknown or a value is out of its range.
    InvalidPriceError
        If the frame is not valid, apart from its values.
    """
    mark(name)
    if not isinstance(values, pd.DataFrame):
        raise ValueError(f"values must be a wide DataFrame, found {type(values).__name__}")
    # The checks of a price frame hold for everything but the numbers.
    frame = valid_prices(values.where(values.isna(), 1.0))
    for asset, kind in values.dtypes.items():
        if not is_numeric_dtype(kind) or is_bool_dtype(kind):
            raise ValueError(f"values of the mark {name!r} must be numbers, {asset} has the type {kind}")
    numbers = values.to_numpy(dtype=np.float64)
    high = {"quality": 1.0, "outlier": 1.0}.get(name, np.finfo(np.float64).max)
    wrong = (numbers < 0.0) | (numbers > high)
    if name == "outlier":
        wrong |= (numbers != 0.0) & (numbers != 1.0) & ~np.isnan(numbers)
    if wrong.any():
        raise ValueError(f"{name} must lie in [0, {high:g}], found {float(numbers[wrong][0])!r}")
    return _by_asset(pd.DataFrame(numbers, index=frame.index, columns=frame.columns))


def mark(name: str) -> str:
    """Return the name of a mark when it is one; else a `ValueError`."""
    if name not in MARKS:
        raise ValueError(f"a mark is one of {', '.join(MARKS)}, found {name!r}")
    return name


def _by_asset(frame: pd.DataFrame) -> list[AssetPrices]:
    microseconds = index_to_microseconds(cast("pd.DatetimeIndex", frame.index), "prices")
    columns = []
    for asset in sorted(frame.columns):
        values = frame[asset].to_numpy(dtype=np.float64)
        observed = ~np.isnan(values)
        columns.append(
            AssetPrices(storable(asset, "an asset of prices"), microseconds[observed], values[observed])
        )
    return columns


def is_fine(step: str) -> bool:
    """Return whether samples are 5 minutes apart or less: an hour then holds enough returns for a deviation."""
    found = re.fullmatch(r"([1-9]\d{0,5})(s|m|min)", step, re.ASCII)
    return found is not None and int(found[1]) * (1 if found[2] == "s" else 60) <= 300


def touched_hours(columns: Sequence[AssetPrices]) -> tuple[int, int] | None:
    """Return the microseconds from the first hour that has one of these samples to the end of the last."""
    times = [column.microseconds for column in columns if len(column.microseconds)]
    if not times:
        return None
    first, last = min(int(some[0]) for some in times), max(int(some[-1]) for some in times)
    return first // HOUR * HOUR, (last // HOUR + 1) * HOUR


def hourly_volatility(samples: Mapping[str, Samples]) -> list[AssetPrices]:
    """Return the mark "volatility_1h" of samples; see `volatility_within_hour`."""
    columns = []
    for asset in sorted(samples):
        times, prices = (np.asarray(values) for values in samples[asset])
        order = np.argsort(times)
        series = pd.Series(prices[order], index=index_of_microseconds(times[order]), name=asset)
        deviation = volatility_within_hour(series).to_numpy()
        there = ~np.isnan(deviation)
        columns.append(AssetPrices(asset, times[order][there], deviation[there]))
    return columns


def wide_frame(samples: Mapping[str, Samples], assets: Sequence[str]) -> pd.DataFrame:
    """Return the samples as a wide frame with a column for each of `assets`, NaN where there is none."""
    columns = {
        asset: (np.asarray(times, dtype=np.int64), np.asarray(prices, dtype=np.float64))
        for asset, (times, prices) in samples.items()
    }
    every_time = [times for times, _ in columns.values()]
    index = np.unique(np.concatenate(every_time)) if every_time else np.empty(0, dtype=np.int64)
    values = np.full((len(index), len(assets)), np.nan, order="F")
    for number, asset in enumerate(assets):
        if asset in columns:
            times, prices = columns[asset]
            values[np.searchsorted(index, times), number] = prices
    return pd.DataFrame(values, index=index_of_microseconds(index), columns=list(assets), copy=False)


def frame_of_one_source(
    held: Mapping[tuple[str, str], Samples], step: str, assets: Sequence[str] | None
) -> pd.DataFrame:
    """Return samples by asset and source as a wide frame; None: of all assets that have some, sorted.

    Raises
    ------
    ValueError
        If they are of several sources; they are listed.
    """
    sources = {source for _, source in held}
    if len(sources) > 1:
        listed = ", ".join(repr(source) for source in sorted(sources))
        raise ValueError(f"source must say which, there are {step} prices of several: {listed}")
    samples = {asset: columns for (asset, _), columns in held.items()}
    return wide_frame(samples, sorted(samples) if assets is None else assets)

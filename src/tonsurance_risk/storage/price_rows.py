"""Prices between the wide frame that analysts use and the long form that is stored. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.model import FloatArray, IntArray
from tonsurance_risk.storage.instants import index_of_microseconds, index_to_microseconds
from tonsurance_risk.storage.records import storable

Samples: TypeAlias = tuple[Sequence[int] | IntArray, Sequence[float] | FloatArray]
"""Microseconds and prices of one asset."""


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
    frame = valid_prices(prices)
    microseconds = index_to_microseconds(frame.index, "prices")  # type: ignore[arg-type]
    columns = []
    for asset in sorted(frame.columns):
        values = frame[asset].to_numpy(dtype=np.float64)
        observed = ~np.isnan(values)
        columns.append(
            AssetPrices(storable(asset, "an asset of prices"), microseconds[observed], values[observed])
        )
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


def only_source(sources: Collection[str], step: str) -> str | None:
    """Return the one source of a selection, None of an empty one.

    Raises
    ------
    ValueError
        If there are several; they are listed.
    """
    if len(sources) > 1:
        listed = ", ".join(repr(source) for source in sorted(sources))
        raise ValueError(f"source must say which, there are {step} prices of several: {listed}")
    return next(iter(sources), None)

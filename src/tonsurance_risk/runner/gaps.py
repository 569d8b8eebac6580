"""What the store lacks of a source's prices, and how what was fetched gets there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import pandas as pd

from tonsurance_risk.ports import MeteredSource, PriceSource, PriceStore, WriteResult
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, rejects_of
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.storage import SqlStore
from tonsurance_risk.values import IntArray

Window: TypeAlias = tuple[pd.Timestamp, pd.Timestamp]
"""``[start, end)``."""

OVERLAP = timedelta(days=7)
"""How much of what is there is fetched again: sources correct themselves."""

NOT_THERE = "not_in_source"
"""Why a stretch is among the rejects that a source was asked for and has nothing of."""
_REMEMBERED = timedelta(days=30)  # an answer that was empty by mistake is mended after that
_MICROSECOND = timedelta(microseconds=1)


def missing_times(
    held: pd.DatetimeIndex, start: pd.Timestamp, end: pd.Timestamp, span: timedelta, known: Iterable[Window] = ()
) -> IntArray:
    """Return the times of the grid in ``[start, end)`` that are neither held nor in a known window.

    Parameters
    ----------
    held : DatetimeIndex
        UTC.
    start, end : Timestamp
    span : timedelta
        The grid is its multiples since 1970.
    known : iterable of windows
        Where nothing is missed.

    Returns
    -------
    ndarray of int
        Microseconds since 1970-01-01 UTC, increasing.

    Examples
    --------
    >>> held = pd.DatetimeIndex(["2024-01-02"], tz="UTC")
    >>> start, end = pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-04", tz="UTC")
    >>> pd.to_datetime(missing_times(held, start, end, timedelta(days=1)), unit="us").strftime("%d").tolist()
    ['01', '03']
    """
    step = span // _MICROSECOND
    grid = np.arange(-(-_microseconds(start) // step) * step, _microseconds(end), step, dtype=np.int64)
    missing = ~np.isin(grid, held.as_unit("us").asi8)
    for low, high in known:
        missing &= (grid < _microseconds(low)) | (grid >= _microseconds(high))
    return grid[missing]


def windows_over(missing: IntArray, span: timedelta, longest: timedelta | None) -> list[Window]:
    """Return the fewest windows of at most `longest` that cover all missing times, oldest first.

    Each begins and ends at a missing time; None: one window.

    Examples
    --------
    >>> hours = np.array([0, 1, 2, 30], dtype=np.int64) * 3_600_000_000
    >>> [str(high - low) for low, high in windows_over(hours, timedelta(hours=1), timedelta(hours=24))]
    ['0 days 03:00:00', '0 days 01:00:00']
    """
    step = span // _MICROSECOND
    windows = []
    at = 0
    while at < len(missing):
        reach = len(missing)
        if longest is not None:
            reach = int(np.searchsorted(missing, missing[at] + longest // _MICROSECOND))
        windows.append((_instant(missing[at]), _instant(missing[reach - 1] + step)))
        at = reach
    return windows


def held_times(
    store: PriceStore, source: str, asset: str, start: datetime, end: datetime, step: str
) -> pd.DatetimeIndex:
    """Return the times of ``[start, end)`` of which the store has a price."""
    prices = store.load_prices([asset], start, end, step=step, source=source)
    return pd.DatetimeIndex(prices.dropna(how="all").index)


def known_windows(store: PriceStore, source: str, step: str, now: pd.Timestamp) -> dict[str, list[Window]]:
    """Return, by asset, where the source was asked in the last 30 days and had nothing, or prices were archived.

    What was archived is under the name "" and holds for every asset.
    """
    known: dict[str, list[Window]] = {"": []}
    rejects = store.load_rejects(source=source, step=step)
    gaps = rejects[rejects["reason"] == NOT_THERE]
    for asset, start, end, asked in zip(gaps["asset"], gaps["time"], gaps["raw"], gaps["detail"], strict=True):
        if pd.Timestamp(asked.rsplit(" ", 1)[-1]) > now - _REMEMBERED:
            known.setdefault(asset, []).append((start, pd.Timestamp(end)))
    if isinstance(store, SqlStore):
        known[""] = [(archive.start, archive.end) for archive in store.load_archives(source, step)]
    return known


def windows_to_update(
    store: PriceStore,
    source: PriceSource,
    asset: str,
    since: pd.Timestamp,
    end: pd.Timestamp,
    step: str,
    known: Mapping[str, Sequence[Window]],
) -> list[Window]:
    """Return what to ask for so that the store is as if all of ``[since, end + step)`` had been fetched.

    The last 7 days of what is held are asked for again, and all that is missing before; oldest first.
    """
    span = STEPS[step]
    longest = source.longest_window(step) if isinstance(source, MeteredSource) else None
    reached = max(since, source.earliest(step)) if isinstance(source, MeteredSource) else since
    held = held_times(store, source.name, asset, reached, end + _MICROSECOND, step)
    if len(held):
        held = held[held < held[-1] - OVERLAP]
    windows = windows_over(
        missing_times(held, reached, end + span, span, (*known[""], *known.get(asset, ()))), span, longest
    )
    if windows and windows[0][0] - reached < span:
        windows[0] = (reached, windows[0][1])  # a source off the grid may have a sample before its first time
    return windows


def save_fetched(
    store: PriceStore,
    source: PriceSource,
    asset: str,
    window: Window,
    prices: pd.Series,
    step: str,
    now: pd.Timestamp,
) -> WriteResult:
    """Store what a source gave of a window, what was no price, and where a metered one has nothing for good."""
    written = store.save_prices(prices, source=source.name, step=step)
    rejects = [rejects_of(prices)]
    if isinstance(source, MeteredSource):
        span = STEPS[step]
        reached = prices.attrs.get(DETAIL, FetchDetail()).history_start
        first, last = max(window[0], reached or window[0]), min(window[1], now - OVERLAP)
        missing = missing_times(pd.DatetimeIndex(prices.index), first, last, span)
        rejects.append(_not_there(asset, missing, span, now))
    found = [frame for frame in rejects if not frame.empty]
    if found:
        store.save_rejects(pd.concat(found, ignore_index=True), source=source.name, step=step)
    return written


def _not_there(asset: str, missing: IntArray, span: timedelta, now: pd.Timestamp) -> pd.DataFrame:
    """Return a row a stretch of missing times: from its time to the one in `raw`."""
    step = span // _MICROSECOND
    first = np.append(True, np.diff(missing) > step) if len(missing) else np.empty(0, dtype=bool)
    last = np.append(first[1:], True) if len(missing) else first
    return pd.DataFrame(
        {
            "asset": asset,
            "time": pd.to_datetime(missing[first], unit="us", utc=True),
            "reason": NOT_THERE,
            "raw": [_instant(time).isoformat() for time in missing[last] + step],
            "detail": f"no price from this time to the one in raw, asked {now.normalize().isoformat()}",
        }
    )


def _microseconds(time: pd.Timestamp) -> int:
    return (time - pd.Timestamp(0, tz="UTC")) // _MICROSECOND


def _instant(microseconds: np.int64) -> pd.Timestamp:
    return pd.Timestamp(int(microseconds), unit="us", tz="UTC")

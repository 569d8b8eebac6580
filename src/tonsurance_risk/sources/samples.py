"""From the rows of an answer to a series: stamps on the grid of a step, only what is final and can be a price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.errors import GranularityError, PayloadError
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, Reject, joined
from tonsurance_risk.sources.steps import TOLERANCE, between
from tonsurance_risk.values import iso

SETTLED = timedelta(seconds=60)
"""How long after its end a bar counts as final: by so much may this machine's clock be ahead of the host's."""
CLOCKS_DIFFER = timedelta(seconds=120)
"""A stamp further ahead than this is no sample of the present."""
_EARLIEST = pd.Timestamp("2009-01-03", tz="UTC")  # the first block of Bitcoin
_LATEST = pd.Timestamp("2100-01-01", tz="UTC")
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@attrs.frozen
class Grid:
    """The stamps of a step that an interval asks for, as far as they have come.

    Parameters
    ----------
    first, last : Timestamp
        Multiples of `span` since 1970; none where `last` is before `first`.
    span : timedelta
        Distance of two stamps.

    Examples
    --------
    >>> day = pd.Timestamp("2024-01-01", tz="UTC")
    >>> hour = timedelta(hours=1)
    >>> [len(window) for window in Grid.of(day, day + 5 * hour, hour, now=day + 3.5 * hour).windows(3)]
    [3, 1]
    """

    first: pd.Timestamp
    last: pd.Timestamp
    span: timedelta

    @classmethod
    def of(cls, start: pd.Timestamp, end: pd.Timestamp, span: timedelta, *, now: pd.Timestamp) -> Grid:
        """Return the stamps in ``[start, end)`` at or before `now`."""
        return cls(start.ceil(span), min(end.ceil(span) - span, now.floor(span)), span)

    def windows(self, most: int) -> Iterator[Grid]:
        """Yield stretches of at most so many stamps, oldest first."""
        first = self.first
        while first <= self.last:
            last = min(first + (most - 1) * self.span, self.last)
            yield Grid(first, last, self.span)
            first = last + self.span

    def stamps(self) -> pd.DatetimeIndex:
        """Return all stamps."""
        return pd.date_range(self.first, periods=len(self), freq=self.span, unit="us")

    def __len__(self) -> int:
        return max(0, (self.last - self.first) // self.span + 1)


def stamps(values: Sequence[int], unit: str, where: str) -> pd.DatetimeIndex:
    """Return times of an answer, all of one unit.

    Parameters
    ----------
    values : sequence of int
        Since 1970-01-01 UTC.
    unit : {"s", "ms", "us"}
        Seconds, milliseconds or microseconds.
    where : str
        For the message.

    Raises
    ------
    PayloadError
        If one is not in 2009 to 2099: another unit, and then nothing of the answer can be trusted.

    Examples
    --------
    >>> stamps([1735689600], "s", "candles")[0].isoformat()
    '2025-01-01T00:00:00+00:00'
    """
    factor = _MICROSECONDS[unit]
    low, high = int(_EARLIEST.timestamp()) * 1_000_000 // factor, int(_LATEST.timestamp()) * 1_000_000 // factor
    if values and not (low <= min(values) and max(values) < high):
        place, value = next((at, value) for at, value in enumerate(values) if not low <= value < high)
        raise PayloadError(
            f"{where}[{place}]: {str(value)[:30]} {unit} is no time from {iso(_EARLIEST)} to {iso(_LATEST)}; "
            f"has the unit changed?",
            observed=value,
        )
    ticks = np.array(values, dtype=np.int64) * factor
    return pd.DatetimeIndex(ticks.view("M8[us]")).tz_localize("UTC")


def samples(
    times: pd.DatetimeIndex, prices: Sequence[float | None], span: timedelta, *, now: pd.Timestamp
) -> pd.Series:
    """Return the final samples of an answer in the order of time.

    Parameters
    ----------
    times : DatetimeIndex of shape (n,)
        When each price became known, in any order.
    prices : sequence of float or None
        As they were given.
    span : timedelta
        The distance of two samples that was asked for.
    now : Timestamp
        When the answer came; samples that are not `SETTLED` then are left out and counted.

    Returns
    -------
    Series of float
        Without a name; `FetchDetail` in its attrs with what cannot be used. Of several with one stamp the last one
        in the answer.

    Raises
    ------
    GranularityError
        If two stamps are closer than 1 / 1.5 spans, or all of three or more further apart than 1.5 spans.
    """
    values = np.array(prices, dtype=float)  # None becomes NaN
    future = times > now + CLOCKS_DIFFER + span  # not even the running one
    impossible = ~((values > 0.0) & (values < np.inf))
    rejects = [
        Reject(time=times[row], reason=reason, raw=str(prices[row]))
        for mask, reason in ((future, "future_stamp"), (~future & impossible, "not_positive"))
        for row in np.flatnonzero(mask).tolist()
    ]
    running = ~future & ~impossible & (times + SETTLED > now)
    kept = ~(future | impossible | running)
    series = pd.Series(values[kept], index=times[kept], dtype=float).sort_index(kind="stable")
    doubled = series.index.duplicated(keep="last")
    rejects += [
        Reject(time=time, reason="doubled_stamp", raw=repr(price))
        for time, price in zip(pd.DatetimeIndex(series.index[doubled]), series[doubled].tolist(), strict=True)
        if price != series[~doubled].loc[time]
    ]
    series = series[~doubled]
    _check_spacing(series.index, span)
    series.attrs[DETAIL] = FetchDetail(
        rejects=tuple(
            attrs.evolve(reject, reason="null_price") if reject.raw == "None" else reject for reject in rejects
        ),
        now_points=int(running.sum()),
    )
    return series


def _check_spacing(times: pd.Index, span: timedelta) -> None:
    distances = np.diff(times.asi8)  # type: ignore[attr-defined]
    if not distances.size:
        return
    smallest = timedelta(microseconds=int(distances.min()))
    if smallest < span / TOLERANCE or (distances.size >= 2 and smallest > span * TOLERANCE):
        raise GranularityError(
            f"samples must be {span} apart, found a smallest distance of {smallest}",
            observed=smallest,
            required=span,
        )


def join_pages(
    pages: Iterable[pd.Series],
    asset: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    *,
    history_start: pd.Timestamp | None = None,
) -> pd.Series:
    """Return the samples of all pages in ``[start, end)``, named by the asset.

    Parameters
    ----------
    pages : iterable of Series
        Of `samples`, oldest first. Where two have one stamp the later page holds.
    asset : str
        As `get_asset` spells it.
    start, end : Timestamp
        What is beyond is cut off and counted.
    history_start : Timestamp, optional
        Where the history of the source begins, for the `FetchDetail`.
    """
    parts = list(pages)
    empty = pd.Series([], index=pd.DatetimeIndex([], tz="UTC").as_unit("us"), dtype=float)
    whole = pd.concat(filled) if (filled := [part for part in parts if len(part)]) else empty
    whole = whole[~whole.index.duplicated(keep="last")].sort_index()
    series = between(whole, start, end).rename(asset)
    detail = joined(part.attrs[DETAIL] for part in parts)
    series.attrs[DETAIL] = attrs.evolve(
        detail,
        rejects=tuple(reject for reject in detail.rejects if start <= reject.time < end),
        outside=len(whole) - len(series),
        history_start=history_start,
    )
    return series

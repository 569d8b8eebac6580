"""Detection of depeg events in a whole price history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Literal, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.core.prices import peg_of, peg_reference, valid_prices
from tonsurance_risk.model import (
    BTC,
    AccruingPeg,
    BoolArray,
    DepegEvent,
    Direction,
    FloatArray,
    IntArray,
    PegLike,
    span,
    within,
)

ACCRUING_HYSTERESIS = 0.005
"""How far above the threshold an accruing coin recovers by default: its reference moves with the price."""


@attrs.frozen(kw_only=True)
class DepegRule:
    """What makes an event; its fields are those that every `DepegEvent` carries."""

    threshold: float
    recovery: float
    min_duration: timedelta
    max_gap: timedelta | None
    merge_within: timedelta
    sample_span: timedelta


@attrs.frozen
class _Stretches:
    """Candidate events as parallel arrays of sample positions."""

    first: IntArray
    last: IntArray
    recovered: IntArray  # the recovering sample, -1 where there is none
    cut: BoolArray

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, which: slice | IntArray | BoolArray) -> _Stretches:
        return _Stretches(self.first[which], self.last[which], self.recovered[which], self.cut[which])


def detect_depegs(
    prices: pd.Series | pd.DataFrame,
    *,
    threshold: float = 0.99,
    recovery: float | None = None,
    min_duration: timedelta = timedelta(hours=1),
    max_gap: timedelta | None = None,
    merge_within: timedelta = timedelta(0),
    sample_span: timedelta = timedelta(0),
    direction: Literal["below", "above", "both"] = "below",
    peg: PegLike = None,
) -> list[DepegEvent]:
    """Return the depeg events of a price history.

    Below the peg an event opens at the first sample with ``ratio < threshold`` and closes at the first later
    one with ``ratio >= recovery``, ratio = price / peg reference. Above it the same rule holds for
    ``2 - ratio``, so that 0.99 opens above 1.01.

    Parameters
    ----------
    prices : Series or DataFrame of shape (n_times, n_assets)
        A Series named by its symbol, or a wide frame, of which every column but BTC is searched [USD]. NaN is
        not a sample.
    threshold, recovery : float
        ``0 < threshold <= recovery <= 1``. Without `recovery` the threshold serves, and for an accruing coin
        ``min(1, threshold + 0.005)``.
    min_duration : timedelta
        Shorter events are left out, after merging.
    max_gap : timedelta, optional
        Consecutive samples further apart end the event at the first of them, unrecovered and
        `cut_by_gap`; the next sample opens a new one only if its ratio is below the threshold.
    merge_within : timedelta
        An event that was not cut and starts at most this long after the recovery of the one before joins
        it, transitively, but not across a gap. Zero merges nothing.
    sample_span : timedelta
        The time that one sample stands for: a daily bar one day, and without it a depeg of one bar lasts 0 s.
    direction : {"below", "above", "both"}
        Discounts, premiums, or both.
    peg : peg, float, Series, or mapping by symbol, optional
        The reference when it is not the asset's own.

    Returns
    -------
    list of DepegEvent
        Ordered by (asset, start).

    Raises
    ------
    ValueError
        If an argument is outside what is accepted, or a Series has no name.
    InvalidPriceError
        If `prices` are not valid.

    Notes
    -----
    O(n) in a few passes over the prices; the work after them grows with the samples off peg alone. An
    accruing reference is sequential.

    Examples
    --------
    >>> index = pd.date_range("2024-01-01", periods=5, freq="h", tz="UTC")
    >>> [event] = detect_depegs(pd.Series([1.0, 0.97, 0.95, 0.96, 1.0], index=index, name="USDC"))
    >>> event.min_price, str(event.duration), event.recovered_at.isoformat()
    (0.95, '0 days 02:00:00', '2024-01-01T04:00:00+00:00')
    """
    if direction not in ("below", "above", "both"):
        raise ValueError(f"direction must be 'below', 'above' or 'both', found {direction!r}")
    within(threshold, "threshold", 0.0, 1.0, open_low=True)
    if recovery is not None:
        within(recovery, "recovery (at least the threshold)", threshold, 1.0)
    for name, value in (
        ("min_duration", min_duration),
        ("merge_within", merge_within),
        ("sample_span", sample_span),
    ):
        span(value, name)
    if max_gap is not None:
        span(max_gap, "max_gap")
    if (
        isinstance(prices, (pd.Series, pd.DataFrame))
        and prices.empty
        and (isinstance(prices, pd.DataFrame) or isinstance(prices.name, str))
    ):
        return []

    frame = valid_prices(prices)
    vendor = prices.attrs.get("vendor")
    directions: tuple[Direction, ...] = ("below", "above") if direction == "both" else (direction,)
    events: list[DepegEvent] = []
    for asset in frame.columns:
        if asset == BTC:
            continue
        accruing = isinstance(peg_of(asset, peg), AccruingPeg)
        rule = DepegRule(
            threshold=float(threshold),
            recovery=float(
                recovery
                if recovery is not None
                else min(1.0, threshold + ACCRUING_HYSTERESIS)
                if accruing
                else threshold
            ),
            min_duration=min_duration,
            max_gap=max_gap,
            merge_within=merge_within,
            sample_span=sample_span,
        )
        events.extend(_events_of(frame[asset], rule, directions, peg, vendor))
    return sorted(events, key=lambda event: (event.asset, event.start))


def events_to_frame(events: Iterable[DepegEvent]) -> pd.DataFrame:
    """Return a table with a row an event: its fields, duration, recovery_time and is_open."""
    events = list(events)
    names = [field.name for field in attrs.fields(DepegEvent)] + ["duration", "recovery_time", "is_open"]
    table = pd.DataFrame({name: [getattr(event, name) for event in events] for name in names}, columns=names)
    for name in ("start", "end", "recovered_at"):
        table[name] = pd.to_datetime(table[name], utc=True)
    for name in ("min_duration", "max_gap", "merge_within", "sample_span", "duration", "recovery_time"):
        table[name] = pd.to_timedelta(table[name])
    return table


def _events_of(
    column: pd.Series,
    rule: DepegRule,
    directions: tuple[Direction, ...],
    peg: PegLike,
    vendor: str | None,
) -> Iterator[DepegEvent]:
    asset = str(column.name)
    times, values = cast("pd.DatetimeIndex", column.index), column.to_numpy()
    if np.isnan(values.min()):
        observed = ~np.isnan(values)
        times, values = times[observed], values[observed]
    if not len(values):
        return
    reference, warming_up = peg_reference(asset, times, values, peg)
    ratio = values if isinstance(reference, float) and reference == 1.0 else values / reference
    if warming_up is not None:
        ratio[warming_up] = 1.0
    for direction in directions:
        against = ratio if direction == "below" else 2.0 - ratio
        found = _merged(_stretches(against, times, rule), times, rule)
        for first, last, recovered, cut in zip(
            found.first.tolist(),
            found.last.tolist(),
            found.recovered.tolist(),
            found.cut.tolist(),
            strict=True,
        ):
            if times[last] - times[first] + rule.sample_span < rule.min_duration:
                continue
            inside = slice(first, last + 1)
            deviation = 1.0 - ratio[inside] if direction == "below" else ratio[inside] - 1.0
            worst = int(np.argmax(deviation))
            yield DepegEvent(
                asset=asset,
                direction=direction,
                start=times[first],
                end=times[last],
                recovered_at=times[recovered] if recovered >= 0 else None,
                min_price=float(values[inside].min()),
                max_price=float(values[inside].max()),
                severity=float(deviation[worst]),
                n_observations=last + 1 - first,
                cut_by_gap=cut,
                source=vendor,
                peg_reference=float(np.broadcast_to(reference, values.shape)[first + worst]),
                **attrs.asdict(rule),
            )


def _stretches(ratio: FloatArray, times: pd.DatetimeIndex, rule: DepegRule) -> _Stretches:
    """Return the stretches off the peg, before merging, as an automaton of two thresholds finds them.

    Only samples below `recovery` matter. They fall into runs of neighbours without a gap between them; an
    event is a run from its first sample below `threshold` to its end.
    """
    away = np.flatnonzero(ratio < rule.recovery)
    begins_run = np.ones(len(away), dtype=bool)
    begins_run[1:] = np.diff(away) > 1
    if rule.max_gap is not None and len(away):
        begins_run[1:] |= _further_apart(times, away[1:] - 1, rule.max_gap)
    run = np.cumsum(begins_run) - 1
    last_of_run = np.append(np.flatnonzero(begins_run)[1:] - 1, len(away) - 1)

    opening = np.flatnonzero(ratio[away] < rule.threshold)
    opens_run = np.ones(len(opening), dtype=bool)
    opens_run[1:] = np.diff(run[opening]) > 0
    opening = opening[opens_run]

    first, last = away[opening], away[last_of_run[run[opening]]]
    has_next = last + 1 < len(ratio)
    cut = np.zeros(len(first), dtype=bool)
    if rule.max_gap is not None:
        cut[has_next] = _further_apart(times, last[has_next], rule.max_gap)
    return _Stretches(first, last, np.where(has_next & ~cut, last + 1, -1), cut)


def _merged(found: _Stretches, times: pd.DatetimeIndex, rule: DepegRule) -> _Stretches:
    if rule.merge_within == timedelta(0) or len(found) < 2:
        return found
    before, after = found[slice(None, -1)], found[slice(1, None)]
    joins = (before.recovered >= 0) & ~after.cut
    since = times[after.first] - times[before.recovered]
    joins &= np.asarray(since) <= np.timedelta64(rule.merge_within)
    if rule.max_gap is not None:
        for k in np.flatnonzero(joins).tolist():
            between = np.arange(before.recovered[k], after.first[k])
            joins[k] = not _further_apart(times, between, rule.max_gap).any()
    starts = np.append(True, ~joins)
    ends = np.append(~joins, True)
    return _Stretches(found.first[starts], found.last[ends], found.recovered[ends], found.cut[ends])


def _further_apart(times: pd.DatetimeIndex, positions: IntArray, max_gap: timedelta) -> BoolArray:
    """Return whether the sample after each position is more than `max_gap` later."""
    return np.asarray(times[positions + 1] - times[positions]) > np.timedelta64(max_gap)

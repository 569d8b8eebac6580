"""Detection of depeg events in a whole price history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.core.prices import nanoseconds, observed_prices, peg_of, peg_reference, tick_of
from tonsurance_risk.model import BTC, AccruingPeg, DepegEvent, Direction, PegLike, checked_events
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, span, within

ACCRUING_HYSTERESIS = 0.005
"""How far above the threshold an accruing coin recovers by default: its reference moves with the price."""


AskedDirection: TypeAlias = Literal["below", "above", "both"]

_BLOCK = 1 << 17
"""So many samples are looked at together: what is computed of them stays in the cache of the processor."""


@attrs.frozen(kw_only=True)
class DepegRule:
    """What makes an event; its fields are those that every `DepegEvent` carries."""

    threshold: float
    recovery: float
    min_duration: timedelta
    max_gap: timedelta | None
    merge_within: timedelta
    sample_span: timedelta

    def to_fields(self) -> dict[str, Any]:
        """Return the fields that an event takes over."""
        return attrs.asdict(self, recurse=False)


def depeg_rule(
    *,
    accruing: bool,
    threshold: float,
    recovery: float | None,
    min_duration: timedelta,
    max_gap: timedelta | None,
    merge_within: timedelta,
    sample_span: timedelta,
) -> DepegRule:
    """Return the rule of `detect_depegs` for a coin, `recovery` filled in; a `ValueError` names what is wrong."""
    lower = within(threshold, "threshold", 0.0, 1.0, open_low=True)
    if recovery is not None:
        upper = within(recovery, "recovery (at least the threshold)", lower, 1.0)
    else:
        upper = min(1.0, lower + ACCRUING_HYSTERESIS) if accruing else lower
    return DepegRule(
        threshold=lower,
        recovery=upper,
        min_duration=span(min_duration, "min_duration"),
        max_gap=None if max_gap is None else span(max_gap, "max_gap"),
        merge_within=span(merge_within, "merge_within"),
        sample_span=span(sample_span, "sample_span"),
    )


def directions_of(direction: AskedDirection) -> tuple[Direction, ...]:
    """Return the directions to look in; a `ValueError` for an unknown one."""
    if direction not in ("below", "above", "both"):
        raise ValueError(f"direction must be 'below', 'above' or 'both', found {direction!r}")
    return ("below", "above") if direction == "both" else (direction,)


@attrs.frozen
class _Samples:
    """What was observed of one asset, and the reference of each sample."""

    asset: str
    times: pd.DatetimeIndex
    ticks: IntArray
    tick: int  # nanoseconds
    prices: FloatArray
    reference: FloatArray | float
    warming_up: BoolArray | None

    def ratio(self, inside: slice) -> FloatArray:
        """Return price / reference; 1 where the samples only give the reference."""
        reference = self.reference if isinstance(self.reference, float) else self.reference[inside]
        if isinstance(reference, float) and reference == 1.0:
            return self.prices[inside]
        with np.errstate(over="ignore"):
            ratio = np.asarray(self.prices[inside] / reference)
        if self.warming_up is not None:
            ratio[self.warming_up[inside]] = 1.0
        return ratio

    def further_apart(self, earlier: IntArray, later: IntArray, limit: timedelta) -> BoolArray:
        """Return which pairs of positions are more than `limit` apart in time."""
        return np.asarray(self.ticks[later] - self.ticks[earlier] > nanoseconds(limit) // self.tick)


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
    direction: AskedDirection = "below",
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
    directions = directions_of(direction)
    fixed, accruing = (
        depeg_rule(
            accruing=moves,
            threshold=threshold,
            recovery=recovery,
            min_duration=min_duration,
            max_gap=max_gap,
            merge_within=merge_within,
            sample_span=sample_span,
        )
        for moves in (False, True)
    )
    if not isinstance(prices, (pd.Series, pd.DataFrame)):
        raise ValueError(f"prices must be a pandas Series or DataFrame, found {type(prices).__name__}")
    if prices.empty and (isinstance(prices, pd.DataFrame) or isinstance(prices.name, str)):
        return []

    vendor = prices.attrs.get("vendor")
    events: list[DepegEvent] = []
    for asset, times, values in observed_prices(prices):
        if asset == BTC:
            continue
        rule = accruing if isinstance(peg_of(asset, peg), AccruingPeg) else fixed
        samples = _samples(asset, times, values, peg)
        for way in directions:
            events.extend(_events_of(samples, rule, way, vendor))
    return sorted(events, key=lambda event: (event.asset, event.start))


def events_to_frame(events: Iterable[DepegEvent]) -> pd.DataFrame:
    """Return a table with a row an event: its fields, duration, recovery_time and is_open."""
    events = checked_events(events)
    names = [field.name for field in attrs.fields(DepegEvent)] + ["duration", "recovery_time", "is_open"]
    table = pd.DataFrame({name: [getattr(event, name) for event in events] for name in names})
    for name in ("start", "end", "recovered_at"):
        table[name] = pd.to_datetime(table[name], utc=True)
    for name in ("min_duration", "max_gap", "merge_within", "sample_span", "duration", "recovery_time"):
        table[name] = pd.to_timedelta(table[name])
    return table


def _samples(asset: str, times: pd.DatetimeIndex, prices: FloatArray, peg: PegLike) -> _Samples:
    reference, warming_up = peg_reference(asset, times, prices, peg) if prices.size else (1.0, None)
    return _Samples(asset, times, times.asi8, tick_of(times), prices, reference, warming_up)


def _events_of(
    samples: _Samples, rule: DepegRule, direction: Direction, vendor: str | None
) -> Iterator[DepegEvent]:
    found = _merged(_stretches(samples, rule, direction), samples, rule)
    needed = nanoseconds(rule.min_duration) - nanoseconds(rule.sample_span)
    lasted = samples.ticks[found.last] - samples.ticks[found.first]
    found = found[lasted >= -(-needed // samples.tick)]
    fields = rule.to_fields()
    for first, last, recovered, cut, start, end, recovered_at in zip(
        found.first.tolist(),
        found.last.tolist(),
        found.recovered.tolist(),
        found.cut.tolist(),
        samples.times[found.first],
        samples.times[found.last],
        samples.times[found.recovered],
        strict=True,
    ):
        inside = slice(first, last + 1)
        ratio, prices = samples.ratio(inside), samples.prices[inside]
        deviation = 1.0 - ratio if direction == "below" else ratio - 1.0
        worst = int(deviation.argmax())
        yield DepegEvent(
            asset=samples.asset,
            direction=direction,
            start=start,
            end=end,
            recovered_at=recovered_at if recovered >= 0 else None,
            min_price=float(prices.min()),
            max_price=float(prices.max()),
            severity=float(deviation[worst]),
            n_observations=last + 1 - first,
            cut_by_gap=cut,
            source=vendor,
            peg_reference=(
                samples.reference
                if isinstance(samples.reference, float)
                else float(samples.reference[first + worst])
            ),
            **fields,
        )


def _away(samples: _Samples, limit: float, direction: Direction) -> tuple[IntArray, FloatArray]:
    """Return the positions below `limit` (2 - ratio above the peg), and what was compared there."""
    positions, compared = [], []
    for begin in range(0, len(samples.prices), _BLOCK):
        ratio = samples.ratio(slice(begin, begin + _BLOCK))
        against = ratio if direction == "below" else 2.0 - ratio
        found = np.flatnonzero(against < limit)
        positions.append(found + begin)
        compared.append(against[found])
    if not positions:
        return np.empty(0, dtype=np.int64), np.empty(0)
    return np.concatenate(positions), np.concatenate(compared)


def _stretches(samples: _Samples, rule: DepegRule, direction: Direction) -> _Stretches:
    """Return the stretches off the peg, before merging, as an automaton of two thresholds finds them.

    Only samples below `recovery` matter. They fall into runs of neighbours without a gap between them; an
    event is a run from its first sample below `threshold` to its end.
    """
    away, against = _away(samples, rule.recovery, direction)
    begins_run = np.ones(len(away), dtype=bool)
    begins_run[1:] = np.diff(away) > 1
    if rule.max_gap is not None and len(away):
        begins_run[1:] |= samples.further_apart(away[1:] - 1, away[1:], rule.max_gap)
    run = np.cumsum(begins_run) - 1
    last_of_run = np.append(np.flatnonzero(begins_run)[1:] - 1, len(away) - 1)

    opening = np.flatnonzero(against < rule.threshold)
    opens_run = np.ones(len(opening), dtype=bool)
    opens_run[1:] = np.diff(run[opening]) > 0
    opening = opening[opens_run]

    first, last = away[opening], away[last_of_run[run[opening]]]
    has_next = last + 1 < len(samples.prices)
    cut = np.zeros(len(first), dtype=bool)
    if rule.max_gap is not None:
        cut[has_next] = samples.further_apart(last[has_next], last[has_next] + 1, rule.max_gap)
    return _Stretches(first, last, np.where(has_next & ~cut, last + 1, -1), cut)


def _merged(found: _Stretches, samples: _Samples, rule: DepegRule) -> _Stretches:
    if rule.merge_within == timedelta(0) or len(found) < 2:
        return found
    before, after = found[slice(None, -1)], found[slice(1, None)]
    joins = (before.recovered >= 0) & ~after.cut
    joins &= ~samples.further_apart(before.recovered, after.first, rule.merge_within)
    if rule.max_gap is not None:
        for k in np.flatnonzero(joins).tolist():
            between = np.arange(before.recovered[k], after.first[k])
            joins[k] = not samples.further_apart(between, between + 1, rule.max_gap).any()
    starts = np.append(True, ~joins)
    ends = np.append(~joins, True)
    return _Stretches(found.first[starts], found.last[ends], found.recovered[ends], found.cut[ends])

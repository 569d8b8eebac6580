"""Detection of depeg events sample by sample, as prices arrive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.depeg import AskedDirection, depeg_rule, directions_of
from tonsurance_risk.core.prices import (
    nanoseconds,
)
from tonsurance_risk.core.streaming import (
    INFINITE,
    Fixed,
    Following,
    Reference,
    Stretch,
    Watch,
    entries,
    in_order,
    instant_of,
    or_none,
    read_instant,
    read_reference,
    read_rule,
    reference_of,
    sound,
    time_of,
)
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import BTC, DepegEvent, PegLike
from tonsurance_risk.values import iso, text

STATE_VERSION = 1
"""The version of the form of `DepegDetector.state`."""


class DepegDetector:
    """Detector of the depeg events of one asset, fed sample by sample.

    It finds what `detect_depegs` finds in the whole series, to the bit, and returns each event as soon as no
    later sample can change it.

    Parameters
    ----------
    asset : str
        The symbol; BTC has no events.
    threshold, recovery, min_duration, max_gap, merge_within, sample_span, direction, peg
        The rule, as in `detect_depegs`.
    source : str, optional
        The source that the events name.

    Raises
    ------
    ValueError
        If an argument is outside what is accepted.

    Notes
    -----
    Time and memory a sample are O(1), whatever came before. An `AccruingPeg` without `start` also holds the
    samples of its first 24 h; a Series of references is held and searched in O(log n).

    `update` releases an event once it is cut or recovered and, with `merge_within`, once the clock (NaN moves
    it too) or a gap shows that no event can join it any more. So it does not release events in the order of
    their starts: with both directions, a short premium may come before a long discount.

    Examples
    --------
    >>> detector = DepegDetector("USDC")
    >>> for time, price in zip(
    ...     pd.date_range("2024-01-01", periods=5, freq="h", tz="UTC"), [1.0, 0.97, 0.95, 0.96, 1.0]
    ... ):
    ...     for event in detector.update(time, price):
    ...         print(event.min_price, event.duration, event.recovered_at)
    0.95 0 days 02:00:00 2024-01-01 04:00:00+00:00
    >>> detector.update(pd.Timestamp("2024-01-01T05:00Z"), 0.9)
    []
    >>> detector.update(pd.Timestamp("2024-01-01T06:00Z"), 0.8)
    []
    >>> DepegDetector.from_state(detector.state()).open_events[0].severity.__round__(2)
    0.2
    """

    def __init__(
        self,
        asset: str,
        *,
        threshold: float = 0.99,
        recovery: float | None = None,
        min_duration: timedelta = timedelta(hours=1),
        max_gap: timedelta | None = None,
        merge_within: timedelta = timedelta(0),
        sample_span: timedelta = timedelta(0),
        direction: AskedDirection = "below",
        peg: PegLike = None,
        source: str | None = None,
    ) -> None:
        self._asset = canonical(text(asset, "asset"))
        self._source = None if source is None else text(source, "source")
        self._direction = direction
        directions = directions_of(direction)
        on_peg = self._asset != BTC
        self._reference: Reference = reference_of(self._asset, peg) if on_peg else Fixed(1.0)
        rule = self._rule = depeg_rule(
            accruing=isinstance(self._reference, Following),
            threshold=threshold,
            recovery=recovery,
            min_duration=min_duration,
            max_gap=max_gap,
            merge_within=merge_within,
            sample_span=sample_span,
        )
        self._max_gap = math.inf if rule.max_gap is None else nanoseconds(rule.max_gap)
        self._needed = nanoseconds(rule.min_duration) - nanoseconds(rule.sample_span)
        joins_within = nanoseconds(rule.merge_within) if self._max_gap > 0 else 0
        self._below, self._above = (
            rule.threshold if on_peg and way in directions else -math.inf for way in ("below", "above")
        )
        self._idle = False  # whether it is known that no watch holds anything
        self._watches = [
            Watch(way == "below", rule.threshold, rule.recovery, joins_within)
            for way in (directions if on_peg else ())
        ]
        self._clock: int | None = None  # the time of the last call, and of the last sample
        self._sampled: int | None = None

    def update(self, time: datetime, price: float) -> list[DepegEvent]:
        """Take the next price and return the events that can no longer change.

        Parameters
        ----------
        time : datetime
            Tz-aware, later than that of the call before.
        price : float
            [USD]; NaN is not a sample and only moves the clock.

        Returns
        -------
        list of DepegEvent
            Each event is returned once, by one of the calls.

        Raises
        ------
        InvalidPriceError
            If `time` is naive or not later than the last, if `price` is infinite, zero, negative or not a
            number, or if a Series of references has none for it. The detector is then as it was before.
        """
        now, clock, sampled = instant_of(time), self._clock, self._sampled
        if clock is not None and now <= clock:
            raise self._refused(now, f"must be later than the time before, {iso(time_of(clock))}", time)
        if type(price) is not float:
            price = self._number(now, price)
        elapsed = 0 if sampled is None else now - sampled
        if not 0.0 < price < INFINITE:
            if not math.isnan(price):
                raise self._refused(now, f"must be a price > 0 and finite, found {price!r}", price)
            self._clock = now
            divided = elapsed >= self._max_gap
            return self._events((watch, watch.clock(now, divided=divided)) for watch in self._watches)
        reference = self._reference.at(now, elapsed, price)
        self._clock = self._sampled = now
        if reference is None:
            return []
        ratio = price / reference
        if self._idle and ratio >= self._below and 2.0 - ratio >= self._above:
            return []
        gap = elapsed > self._max_gap
        found = [(watch, watch.take(now, price, ratio, reference, gap=gap)) for watch in self._watches]
        self._idle = all(watch.idle for watch in self._watches)
        return self._events(found)

    def finish(self) -> list[DepegEvent]:
        """Return the events that `update` has not returned, as if the data ended here; nothing is changed.

        Returns
        -------
        list of DepegEvent
            Ordered by start: what still runs (`is_open`), and what recovered but may still be joined.
        """
        return self._events(((watch, watch.remaining()) for watch in self._watches), at_the_end=True)

    @property
    def open_events(self) -> list[DepegEvent]:
        """The events of `finish` that still run."""
        return [event for event in self.finish() if event.is_open]

    def state(self) -> dict[str, Any]:
        """Return all that the detector knows, rule and peg included, in JSON types; see `from_state`.

        Times and durations are whole nanoseconds, and a float read back from JSON is the same float.
        """
        return {
            "version": STATE_VERSION,
            "asset": self._asset,
            "source": self._source,
            "direction": self._direction,
            "rule": {
                name: nanoseconds(value) if isinstance(value, timedelta) else value
                for name, value in self._rule.to_fields().items()
            },
            "reference": self._reference.state(),
            "clock": self._clock,
            "sampled": self._sampled,
            "watches": [watch.state() for watch in self._watches],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DepegDetector:
        """Return a detector that goes on where `state` was taken, to the bit.

        Parameters
        ----------
        state : mapping
            What `state` returned, also after a way through JSON.

        Raises
        ------
        ValueError
            If it is of another version, or not the state of a detector.
        """
        version = state.get("version") if isinstance(state, Mapping) else None
        if type(version) is not int or version != STATE_VERSION:
            raise ValueError(f"the state of a detector must be of version {STATE_VERSION}, found {version!r}")
        _, asset, source, direction, rule, reference, clock, sampled, watches = entries(
            state, "version", "asset", "source", "direction", "rule", "reference", "clock", "sampled", "watches"
        )
        detector = cls(asset, source=source, direction=direction, peg=1.0, **read_rule(rule))
        detector._clock = or_none(read_instant, clock, "clock")
        detector._sampled = or_none(read_instant, sampled, "sampled")
        sound(in_order(detector._sampled, detector._clock), "the last sample is later than the clock")
        detector._reference = read_reference(detector._asset, reference, detector._sampled)
        sound(isinstance(watches, list) and len(watches) == len(detector._watches), "watches are missing")
        for watch, document in zip(detector._watches, watches, strict=True):
            watch.restore(document, detector._sampled)
        return detector

    def _events(
        self, found: Iterable[tuple[Watch, list[Stretch]]], *, at_the_end: bool = False
    ) -> list[DepegEvent]:
        events = [
            DepegEvent(
                asset=self._asset,
                direction="below" if watch.below else "above",
                start=time_of(stretch.start),
                end=time_of(stretch.end),
                recovered_at=None if stretch.recovered is None else time_of(stretch.recovered),
                min_price=stretch.low,
                max_price=stretch.high,
                severity=stretch.severity,
                n_observations=stretch.n,
                cut_by_gap=stretch.recovered is None and not at_the_end,
                source=self._source,
                peg_reference=stretch.reference,
                **self._rule.to_fields(),
            )
            for watch, stretches in found
            for stretch in stretches
            if stretch.end - stretch.start >= self._needed
        ]
        return sorted(events, key=lambda event: event.start)

    def _number(self, now: int, price: object) -> float:
        if price is None or price is pd.NA:
            return math.nan
        if isinstance(price, bool) or not isinstance(price, (int, float, np.integer, np.floating)):
            raise self._refused(now, f"must be a number, found {price!r}", price)
        try:
            return float(price)
        except OverflowError:  # a whole number beyond the largest float
            return math.inf

    def _refused(self, now: int, why: str, observed: object) -> InvalidPriceError:
        time = time_of(now)
        return InvalidPriceError(
            f"{self._asset} at {iso(time)} {why}", asset=self._asset, time=time, observed=observed
        )

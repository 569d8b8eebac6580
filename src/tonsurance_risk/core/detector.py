"""Detection of depeg events sample by sample, as prices arrive.

Times are whole nanoseconds since 1970 inside: exact, quick to compare, and JSON.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.depeg import AskedDirection, depeg_rule, directions_of
from tonsurance_risk.core.prices import (
    WARM_UP,
    first_reference,
    follow,
    nanoseconds,
    no_reference,
    peg_of,
    reach,
    tick_of,
    valid_references,
    wrong_reference,
)
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import (
    BTC,
    AccruingPeg,
    DepegEvent,
    FixedPeg,
    PegLike,
    as_utc,
    finite,
    iso,
    text,
    whole,
    within,
)

STATE_VERSION = 1
"""The version of the form of `DepegDetector.state`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INFINITE = math.inf
_MICROSECOND = timedelta(microseconds=1)
_WARM_UP = nanoseconds(WARM_UP)

_T = TypeVar("_T")


def _instant(time: datetime) -> int:
    if type(time) is pd.Timestamp and time.tzinfo is not None:
        try:
            return time.value
        except OverflowError:  # beyond the years that fit into 64 bits of nanoseconds
            time = time.to_pydatetime()
    elif not (type(time) is datetime and time.tzinfo is UTC):
        return _instant(as_utc(time))
    return (time - _EPOCH) // _MICROSECOND * 1_000


def _time(instant: int) -> pd.Timestamp:
    microseconds, finer = divmod(instant, 1_000)
    if finer:
        return pd.Timestamp(instant, unit="ns", tz="UTC")
    return pd.Timestamp(microseconds, unit="us", tz="UTC")


@attrs.define
class _Fixed:
    """The same reference at every sample."""

    level: float

    def at(self, now: int, elapsed: int, price: float) -> float | None:  # noqa: ARG002
        """Return the reference at a sample, None where the sample only gives it."""
        return self.level

    def state(self) -> dict[str, Any]:
        """Return what `_read_reference` reads."""
        return {"kind": "fixed", "level": self.level}


@attrs.define
class _Following:
    """The reference of an `AccruingPeg`."""

    peg: AccruingPeg
    level: float | None = None
    first: int | None = None  # the first sample, where the peg has no start
    watched: list[float] = attrs.field(factory=list)
    _elapsed: int = attrs.field(default=-1, init=False)
    _reach: tuple[float, float] = attrs.field(default=(1.0, 1.0), init=False)

    def at(self, now: int, elapsed: int, price: float) -> float | None:
        """Return the reference at a sample `elapsed` after the one before, None while warming up."""
        if self.level is None:
            if self.peg.start is not None:
                self.level = float(self.peg.start)
                return self.level
            self.first = now if self.first is None else self.first
            if now < self.first + _WARM_UP:
                self.watched.append(price)
                return None
            self.level, self.watched = first_reference(self.watched), []
        if elapsed != self._elapsed:
            self._elapsed, self._reach = elapsed, reach(self.peg, elapsed)
        self.level = follow(self.level, price, *self._reach)
        return self.level

    def state(self) -> dict[str, Any]:
        """Return what `_read_reference` reads."""
        return {
            "kind": "accruing",
            **attrs.asdict(self.peg),
            "level": self.level,
            "first": self.first,
            "watched": list(self.watched),
        }


@attrs.define
class _Stepwise:
    """The last one of a Series of references."""

    asset: str
    times: list[int]
    levels: list[float]

    def at(self, now: int, elapsed: int, price: float) -> float | None:  # noqa: ARG002
        """Return the reference at a sample; an `InvalidPriceError` if there is none."""
        position = bisect_right(self.times, now) - 1
        if position < 0:
            raise no_reference(self.asset, _time(now))
        level = self.levels[position]
        if not 0.0 < level < math.inf:
            raise wrong_reference(self.asset, _time(now), level)
        return level

    def state(self) -> dict[str, Any]:
        """Return what `_read_reference` reads."""
        return {"kind": "series", "times": list(self.times), "levels": [_written(level) for level in self.levels]}


_Reference: TypeAlias = _Fixed | _Following | _Stepwise


def _reference(asset: str, peg: PegLike) -> _Reference:
    match peg_of(asset, peg):
        case FixedPeg(price):
            return _Fixed(float(price))
        case AccruingPeg() as accruing:
            return _Following(accruing)
        case references:
            index, levels = valid_references(asset, references)
            tick = tick_of(index)
            return _Stepwise(asset, [at * tick for at in index.asi8.tolist()], levels.tolist())


@attrs.define(kw_only=True)
class _Stretch:
    """What is known of consecutive samples; `recovered` is the sample that ended an event."""

    start: int
    end: int
    recovered: int | None = None
    low: float
    high: float
    severity: float
    reference: float
    n: int

    @classmethod
    def of(cls, now: int, price: float, deviation: float, reference: float) -> _Stretch:
        """Return a stretch of one sample."""
        return cls(start=now, end=now, low=price, high=price, severity=deviation, reference=reference, n=1)

    def add(self, later: _Stretch) -> None:
        """Append what comes after."""
        self.end, self.recovered = later.end, later.recovered
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)
        if later.severity > self.severity:
            self.severity, self.reference = later.severity, later.reference
        self.n += later.n

    def state(self) -> dict[str, Any]:
        """Return what `_read_stretch` reads."""
        return attrs.asdict(self) | {"severity": _written(self.severity)}


@attrs.define
class _Watch:
    """The automaton of one direction.

    `current` runs. `pending` recovered and may still be joined by an event that starts soon after; `between`
    is what came since. While it is not known whether `current` will join, the three are kept apart.
    """

    below: bool
    threshold: float
    recovery: float
    merge_within: int
    pending: _Stretch | None = None
    between: _Stretch | None = None
    current: _Stretch | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is held."""
        return self.current is None and self.pending is None

    def take(self, now: int, price: float, ratio: float, reference: float, *, gap: bool) -> list[_Stretch]:
        """Take a sample, behind a gap or not; return what can no longer change."""
        released = self._cut() if gap else []
        against = ratio if self.below else 2.0 - ratio
        sample = _Stretch.of(now, price, 1.0 - ratio if self.below else ratio - 1.0, reference)
        if self.current is not None:
            if against < self.recovery:
                self.current.add(sample)
                return released
            self.pending = attrs.evolve(self._joined(self.current), recovered=now)
            self.between, self.current = sample, None
        elif against < self.threshold:
            released += self.clock(now - 1)  # what starts now may join
            self.current = sample
        elif self.between is not None:
            self.between.add(sample)
        return released + self.clock(now)

    def clock(self, now: int, *, divided: bool = False) -> list[_Stretch]:
        """Return what no event can join that starts after `now`, which a gap divides from what is held or not."""
        if self.current is not None or self.pending is None or self.pending.recovered is None:
            return []
        return self._release() if divided or now - self.pending.recovered >= self.merge_within else []

    def remaining(self) -> list[_Stretch]:
        """Return what would be found if the data ended here."""
        if self.current is not None:
            return [self._joined(self.current)]
        return [] if self.pending is None else [self.pending]

    def state(self) -> dict[str, Any]:
        """Return what `restore` reads."""
        parts = {"pending": self.pending, "between": self.between, "current": self.current}
        return {name: None if part is None else part.state() for name, part in parts.items()}

    def restore(self, document: object, sampled: int | None) -> None:
        """Take over what `state` gave, when the last sample was at `sampled`."""
        pending, between, current = (
            _or_none(_read_stretch, part, "a stretch")
            for part in _entries(document, "pending", "between", "current")
        )
        kept = [part for part in (pending, between, current) if part is not None]
        _sound(all(one.end < other.start for one, other in pairwise(kept)), "stretches overlap")
        _sound(not kept or kept[-1].end == sampled, "a stretch does not end at the last sample")
        recovered = [None if part is None else part.recovered for part in (pending, between, current)]
        _sound(recovered == [None if between is None else between.start, None, None], "a recovery is elsewhere")
        _sound((pending is None) == (between is None), "what came after a recovery is missing")
        self.pending, self.between, self.current = pending, between, current

    def _cut(self) -> list[_Stretch]:
        """End what runs at a gap; nothing is joined across it."""
        released = self._release()
        if self.current is not None:
            released.append(self.current)
            self.current = None
        return released

    def _release(self) -> list[_Stretch]:
        released = [] if self.pending is None else [self.pending]
        self.pending = self.between = None
        return released

    def _joined(self, current: _Stretch) -> _Stretch:
        if self.pending is None or self.between is None:
            return current
        event = attrs.evolve(self.pending)
        event.add(self.between)
        event.add(current)
        return event


def _written(number: float) -> float | str:
    """Return a float as JSON can hold it."""
    return number if math.isfinite(number) else str(number)


def _read_float(value: object, name: str) -> float:
    return float(value) if value in ("nan", "inf", "-inf") else finite(value, name)


def _read_instant(value: object, name: str) -> int:
    instant = whole(value, name, -(2**68), 2**68)
    try:
        _time(instant)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{name} is not a time: {instant!r} nanoseconds") from error
    return instant


def _read_rule(document: object) -> dict[str, Any]:
    durations = ("min_duration", "max_gap", "merge_within", "sample_span")
    threshold, recovery, *lengths = _entries(document, "threshold", "recovery", *durations)
    rule = {name: _or_none(_read_duration, value, name) for name, value in zip(durations, lengths, strict=True)}
    return rule | {"threshold": threshold, "recovery": finite(recovery, "recovery")}


def _read_duration(value: object, name: str) -> timedelta:
    length = whole(value, name, 0, nanoseconds(timedelta.max))
    microseconds, finer = divmod(length, 1_000)
    return pd.Timedelta(length, unit="ns") if finer else timedelta(microseconds=microseconds)


def _read_reference(asset: str, document: object, sampled: int | None) -> _Reference:
    kind = document.get("kind") if isinstance(document, Mapping) else None
    if kind == "fixed":
        return _Fixed(FixedPeg(_entries(document, "kind", "level")[1]).price)
    if kind == "series":
        _, times, levels = _entries(document, "kind", "times", "levels")
        _sound(isinstance(times, list) and isinstance(levels, list), "references must be lists")
        instants = [_read_instant(time, "a time of the references") for time in times]
        _sound(all(one < other for one, other in pairwise(instants)), "references are not in order")
        _sound(len(times) == len(levels), "references without a time")
        return _Stepwise(asset, instants, [_read_float(level, "a reference") for level in levels])
    _sound(kind == "accruing", f"a reference of kind {kind!r}")
    _, rise, fall, start, level, first, watched = _entries(
        document, "kind", "rise", "fall", "start", "level", "first", "watched"
    )
    _sound(isinstance(watched, list), "watched must be a list")
    peg = AccruingPeg(rise=rise, fall=fall, start=start)
    following = _Following(
        peg,
        _or_none(_read_price, level, "level"),
        _or_none(_read_instant, first, "first"),
        [_read_price(price, "a price of the first day") for price in watched],
    )
    _sound((following.first is None) == (sampled is None or start is not None), "the first sample")
    _sound(following.first is not None or not watched, "samples of a first day without a first sample")
    _sound((following.level is None) == (sampled is None or bool(watched)), "the level of the reference")
    _sound(_in_order(following.first, sampled), "the first sample is later than the last")
    return following


def _read_price(value: object, name: str) -> float:
    return within(value, name, 0.0, open_low=True)


def _read_stretch(document: object, name: str) -> _Stretch:
    names = [field.name for field in attrs.fields(_Stretch)]
    start, end, recovered, low, high, severity, reference, n = _entries(document, *names)
    stretch = _Stretch(
        start=_read_instant(start, f"start of {name}"),
        end=_read_instant(end, f"end of {name}"),
        recovered=_or_none(_read_instant, recovered, f"recovered of {name}"),
        low=_read_price(low, f"low of {name}"),
        high=_read_price(high, f"high of {name}"),
        severity=_read_float(severity, f"severity of {name}"),
        reference=_read_price(reference, f"reference of {name}"),
        n=whole(n, f"n of {name}", 1),
    )
    _sound(stretch.start <= stretch.end and stretch.low <= stretch.high, f"{name} ends before it starts")
    _sound((stretch.n == 1) == (stretch.start == stretch.end), f"{name} has another number of samples")
    return stretch


def _entries(document: object, *names: str) -> list[Any]:
    if not isinstance(document, Mapping) or set(document) != set(names):
        found = sorted(map(str, document)) if isinstance(document, Mapping) else document
        raise ValueError(f"the state of a detector is broken: entries must be {sorted(names)}, found {found!r}")
    return [document[name] for name in names]


def _or_none(read: Callable[[object, str], _T], value: object, name: str) -> _T | None:
    return None if value is None else read(value, name)


def _in_order(earlier: int | None, later: int | None) -> bool:
    return earlier is None or (later is not None and earlier <= later)


def _sound(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(f"the state of a detector is broken: {fault}")


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
        self._reference: _Reference = _reference(self._asset, peg) if on_peg else _Fixed(1.0)
        rule = self._rule = depeg_rule(
            accruing=isinstance(self._reference, _Following),
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
            _Watch(way == "below", rule.threshold, rule.recovery, joins_within)
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
        now, clock, sampled = _instant(time), self._clock, self._sampled
        if clock is not None and now <= clock:
            raise self._refused(now, f"must be later than the time before, {iso(_time(clock))}", time)
        if type(price) is not float:
            price = self._number(now, price)
        elapsed = 0 if sampled is None else now - sampled
        if not 0.0 < price < _INFINITE:
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
        _, asset, source, direction, rule, reference, clock, sampled, watches = _entries(
            state, "version", "asset", "source", "direction", "rule", "reference", "clock", "sampled", "watches"
        )
        detector = cls(asset, source=source, direction=direction, peg=1.0, **_read_rule(rule))
        detector._clock = _or_none(_read_instant, clock, "clock")
        detector._sampled = _or_none(_read_instant, sampled, "sampled")
        _sound(_in_order(detector._sampled, detector._clock), "the last sample is later than the clock")
        detector._reference = _read_reference(detector._asset, reference, detector._sampled)
        _sound(isinstance(watches, list) and len(watches) == len(detector._watches), "watches are missing")
        for watch, document in zip(detector._watches, watches, strict=True):
            watch.restore(document, detector._sampled)
        return detector

    def _events(
        self, found: Iterable[tuple[_Watch, list[_Stretch]]], *, at_the_end: bool = False
    ) -> list[DepegEvent]:
        events = [
            DepegEvent(
                asset=self._asset,
                direction="below" if watch.below else "above",
                start=_time(stretch.start),
                end=_time(stretch.end),
                recovered_at=None if stretch.recovered is None else _time(stretch.recovered),
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
        time = _time(now)
        return InvalidPriceError(
            f"{self._asset} at {iso(time)} {why}", asset=self._asset, time=time, observed=observed
        )

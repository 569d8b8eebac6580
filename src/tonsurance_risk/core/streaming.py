"""The parts of a streaming detector: references, stretches, the automaton of a direction, and their states.

Times are whole nanoseconds since 1970 inside: exact, quick to compare, and JSON.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import attrs
import pandas as pd

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
from tonsurance_risk.model import AccruingPeg, FixedPeg, PegLike
from tonsurance_risk.values import as_utc, finite, whole, within

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INFINITE = math.inf
_MICROSECOND = timedelta(microseconds=1)
_WARM_UP = nanoseconds(WARM_UP)

_T = TypeVar("_T")


def instant_of(time: datetime) -> int:
    """Return a time as whole nanoseconds since 1970."""
    if type(time) is pd.Timestamp and time.tzinfo is not None:
        try:
            return time.value
        except OverflowError:  # beyond the years that fit into 64 bits of nanoseconds
            time = time.to_pydatetime()
    elif not (type(time) is datetime and time.tzinfo is UTC):
        return instant_of(as_utc(time))
    return (time - _EPOCH) // _MICROSECOND * 1_000


def time_of(instant: int) -> pd.Timestamp:
    """Return the UTC time of whole nanoseconds since 1970."""
    microseconds, finer = divmod(instant, 1_000)
    if finer:
        return pd.Timestamp(instant, unit="ns", tz="UTC")
    return pd.Timestamp(microseconds, unit="us", tz="UTC")


@attrs.define
class Fixed:
    """The same reference at every sample."""

    level: float

    def at(self, now: int, elapsed: int, price: float) -> float | None:  # noqa: ARG002
        """Return the reference at a sample, None where the sample only gives it."""
        return self.level

    def state(self) -> dict[str, Any]:
        """Return what `read_reference` reads."""
        return {"kind": "fixed", "level": self.level}


@attrs.define
class Following:
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
        """Return what `read_reference` reads."""
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
            raise no_reference(self.asset, time_of(now))
        level = self.levels[position]
        if not 0.0 < level < math.inf:
            raise wrong_reference(self.asset, time_of(now), level)
        return level

    def state(self) -> dict[str, Any]:
        """Return what `read_reference` reads."""
        return {"kind": "series", "times": list(self.times), "levels": [_written(level) for level in self.levels]}


Reference: TypeAlias = Fixed | Following | _Stepwise


def reference_of(asset: str, peg: PegLike) -> Reference:
    """Return what gives the references of an asset's peg."""
    match peg_of(asset, peg):
        case FixedPeg(price):
            return Fixed(float(price))
        case AccruingPeg() as accruing:
            return Following(accruing)
        case references:
            index, levels = valid_references(asset, references)
            tick = tick_of(index)
            return _Stepwise(asset, [at * tick for at in index.asi8.tolist()], levels.tolist())


@attrs.define(kw_only=True)
class Stretch:
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
    def of(cls, now: int, price: float, deviation: float, reference: float) -> Stretch:
        """Return a stretch of one sample."""
        return cls(start=now, end=now, low=price, high=price, severity=deviation, reference=reference, n=1)

    def add(self, later: Stretch) -> None:
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
class Watch:
    """The automaton of one direction.

    `current` runs. `pending` recovered and may still be joined by an event that starts soon after; `between`
    is what came since, the recovering sample first, and is there whenever `pending` is. While it is not known
    whether `current` will join, the three are kept apart.
    """

    below: bool
    threshold: float
    recovery: float
    merge_within: int
    pending: Stretch | None = None
    between: Stretch | None = None
    current: Stretch | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is held."""
        return self.current is None and self.pending is None

    def take(self, now: int, price: float, ratio: float, reference: float, *, gap: bool) -> list[Stretch]:
        """Take a sample, behind a gap or not; return what can no longer change."""
        released = self._cut() if gap else []
        against = ratio if self.below else 2.0 - ratio
        sample = Stretch.of(now, price, 1.0 - ratio if self.below else ratio - 1.0, reference)
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

    def clock(self, now: int, *, divided: bool = False) -> list[Stretch]:
        """Return what no event can join that starts after `now`, which a gap divides from what is held or not."""
        if self.current is not None or self.between is None:
            return []
        return self._release() if divided or now - self.between.start >= self.merge_within else []

    def remaining(self) -> list[Stretch]:
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
            or_none(_read_stretch, part, "a stretch")
            for part in entries(document, "pending", "between", "current")
        )
        kept = [part for part in (pending, between, current) if part is not None]
        sound(all(one.end < other.start for one, other in pairwise(kept)), "stretches overlap")
        sound(not kept or kept[-1].end == sampled, "a stretch does not end at the last sample")
        recovered = [None if part is None else part.recovered for part in (pending, between, current)]
        sound(recovered == [None if between is None else between.start, None, None], "a recovery is elsewhere")
        sound((pending is None) == (between is None), "what came after a recovery is missing")
        self.pending, self.between, self.current = pending, between, current

    def _cut(self) -> list[Stretch]:
        """End what runs at a gap; nothing is joined across it."""
        released = self._release()
        if self.current is not None:
            released.append(self.current)
            self.current = None
        return released

    def _release(self) -> list[Stretch]:
        released = [] if self.pending is None else [self.pending]
        self.pending = self.between = None
        return released

    def _joined(self, current: Stretch) -> Stretch:
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


def read_instant(value: object, name: str) -> int:
    """Return an instant of a state; a `ValueError` when it is no time."""
    instant = whole(value, name, -(2**68), 2**68)
    try:
        time_of(instant)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{name} is not a time: {instant!r} nanoseconds") from error
    return instant


def read_rule(document: object) -> dict[str, Any]:
    """Return the rule of a state as arguments of a detector."""
    durations = ("min_duration", "max_gap", "merge_within", "sample_span")
    threshold, recovery, *lengths = entries(document, "threshold", "recovery", *durations)
    rule = {name: or_none(_read_duration, value, name) for name, value in zip(durations, lengths, strict=True)}
    return rule | {"threshold": threshold, "recovery": finite(recovery, "recovery")}


def _read_duration(value: object, name: str) -> timedelta:
    length = whole(value, name, 0, nanoseconds(timedelta.max))
    microseconds, finer = divmod(length, 1_000)
    return pd.Timedelta(length, unit="ns") if finer else timedelta(microseconds=microseconds)


def read_reference(asset: str, document: object, sampled: int | None) -> Reference:
    """Return the references of a state, whose last sample was at `sampled`."""
    kind = document.get("kind") if isinstance(document, Mapping) else None
    if kind == "fixed":
        return Fixed(FixedPeg(entries(document, "kind", "level")[1]).price)
    if kind == "series":
        _, times, levels = entries(document, "kind", "times", "levels")
        sound(isinstance(times, list) and isinstance(levels, list), "references must be lists")
        instants = [read_instant(time, "a time of the references") for time in times]
        sound(all(one < other for one, other in pairwise(instants)), "references are not in order")
        sound(len(times) == len(levels), "references without a time")
        return _Stepwise(asset, instants, [_read_float(level, "a reference") for level in levels])
    sound(kind == "accruing", f"a reference of kind {kind!r}")
    _, rise, fall, start, level, first, watched = entries(
        document, "kind", "rise", "fall", "start", "level", "first", "watched"
    )
    sound(isinstance(watched, list), "watched must be a list")
    peg = AccruingPeg(rise=rise, fall=fall, start=start)
    following = Following(
        peg,
        or_none(_read_price, level, "level"),
        or_none(read_instant, first, "first"),
        [_read_price(price, "a price of the first day") for price in watched],
    )
    sound((following.first is None) == (sampled is None or start is not None), "the first sample")
    sound(following.first is not None or not watched, "samples of a first day without a first sample")
    sound((following.level is None) == (sampled is None or bool(watched)), "the level of the reference")
    sound(in_order(following.first, sampled), "the first sample is later than the last")
    return following


def _read_price(value: object, name: str) -> float:
    return within(value, name, 0.0, open_low=True)


def _read_stretch(document: object, name: str) -> Stretch:
    names = [field.name for field in attrs.fields(Stretch)]
    start, end, recovered, low, high, severity, reference, n = entries(document, *names)
    stretch = Stretch(
        start=read_instant(start, f"start of {name}"),
        end=read_instant(end, f"end of {name}"),
        recovered=or_none(read_instant, recovered, f"recovered of {name}"),
        low=_read_price(low, f"low of {name}"),
        high=_read_price(high, f"high of {name}"),
        severity=_read_float(severity, f"severity of {name}"),
        reference=_read_price(reference, f"reference of {name}"),
        n=whole(n, f"n of {name}", 1),
    )
    sound(stretch.start <= stretch.end and stretch.low <= stretch.high, f"{name} ends before it starts")
    sound((stretch.n == 1) == (stretch.start == stretch.end), f"{name} has another number of samples")
    return stretch


def entries(document: object, *names: str) -> list[Any]:
    """Return the entries of a part of a state, which has just these names; else a `ValueError`."""
    if not isinstance(document, Mapping) or set(document) != set(names):
        found = sorted(map(str, document)) if isinstance(document, Mapping) else document
        raise ValueError(f"the state of a detector is broken: entries must be {sorted(names)}, found {found!r}")
    return [document[name] for name in names]


def or_none(read: Callable[[object, str], _T], value: object, name: str) -> _T | None:
    """Return what `read` makes of a value, None of None."""
    return None if value is None else read(value, name)


def in_order(earlier: int | None, later: int | None) -> bool:
    """Return whether two instants, each perhaps missing, are in order."""
    return earlier is None or (later is not None and earlier <= later)


def sound(condition: bool, fault: str) -> None:
    """Raise a `ValueError` that names the fault of a state, unless the condition holds."""
    if not condition:
        raise ValueError(f"the state of a detector is broken: {fault}")

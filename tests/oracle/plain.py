"""Slow, readable second implementations. They share no code with the library."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction


@dataclass
class PlainEvent:
    """An event of `plain_detect`, by positions of samples."""

    start: int
    end: int
    recovered_at: int | None = None
    cut_by_gap: bool = False


@dataclass
class _Machine:
    threshold: float
    recovery: float
    max_gap: timedelta | None
    events: list[PlainEvent] = field(default_factory=list)
    current: PlainEvent | None = None


def plain_detect(
    times, ratios, *, threshold, recovery, min_duration, max_gap, merge_within, sample_span
) -> list[PlainEvent]:
    """Find events sample by sample. `ratios` are already those of the direction (2 - ratio above the peg)."""
    machine = _Machine(threshold, recovery, max_gap)
    for i, ratio in enumerate(ratios):
        if machine.current is not None and max_gap is not None and times[i] - times[i - 1] > max_gap:
            machine.current.cut_by_gap = True
            machine.events.append(machine.current)
            machine.current = None
        if machine.current is None:
            if ratio < threshold:
                machine.current = PlainEvent(i, i)
        elif ratio >= recovery:
            machine.current.recovered_at = i
            machine.events.append(machine.current)
            machine.current = None
        else:
            machine.current.end = i
    if machine.current is not None:
        machine.events.append(machine.current)
    merged = _merge(machine.events, times, max_gap, merge_within)
    return [e for e in merged if times[e.end] - times[e.start] + sample_span >= min_duration]


def _merge(events, times, max_gap, merge_within):
    if merge_within == timedelta(0):
        return events
    merged: list[PlainEvent] = []
    for event in events:
        previous = merged[-1] if merged else None
        if (
            previous is not None
            and not event.cut_by_gap
            and previous.recovered_at is not None
            and times[event.start] - times[previous.recovered_at] <= merge_within
            and not (
                max_gap is not None
                and any(times[i + 1] - times[i] > max_gap for i in range(previous.recovered_at, event.start))
            )
        ):
            previous.end = event.end
            previous.recovered_at = event.recovered_at
        else:
            merged.append(event)
    return merged


def plain_accruing_reference(times, prices, *, rise, fall, start=None):
    """Return (reference, warming_up) of an accruing peg, as the formula says."""
    references, warming = [], []
    if start is None:
        first = [p for t, p in zip(times, prices, strict=True) if t < times[0] + timedelta(hours=24)]
        ordered = sorted(first)
        middle = len(ordered) // 2
        current = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    else:
        current = start
    for i, (time, price) in enumerate(zip(times, prices, strict=True)):
        watching = start is None and time < times[0] + timedelta(hours=24)
        if not watching and i > 0:
            years = (time - times[i - 1]) / timedelta(days=365)
            current = min(max(price, current * (1 - fall) ** years), current * (1 + rise) ** years)
        references.append(current)
        warming.append(watching)
    return references, warming


def exact(level: float) -> Fraction:
    """Return a level as a fraction by its shortest decimal."""
    return Fraction(str(level))


def plain_value_at_risk(losses, level, weights=None):
    """Return the smallest loss whose share of losses up to it reaches the level, with rational arithmetic."""
    weights = [Fraction(1)] * len(losses) if weights is None else [Fraction(str(w)) for w in weights]
    total = sum(weights)
    reached = Fraction(0)
    for loss, weight in sorted(zip(losses, weights, strict=True)):
        reached += weight
        if reached >= exact(level) * total:
            return loss
    raise AssertionError("the last loss reaches every level")


def plain_expected_shortfall(losses, level, weights=None):
    """Return the mean of the worst share, filling it from the worst loss down, with rational arithmetic."""
    weights = [Fraction(1)] * len(losses) if weights is None else [Fraction(str(w)) for w in weights]
    needed = (1 - exact(level)) * sum(weights)
    share = needed
    total = Fraction(0)
    for loss, weight in sorted(zip(losses, weights, strict=True), reverse=True):
        taken = min(weight, needed)
        total += taken * Fraction(loss)
        needed -= taken
        if needed == 0:
            break
    return float(total / share)


def normal_cdf(x: float) -> float:
    """Return the distribution function of the standard normal distribution."""
    return math.erfc(-x / math.sqrt(2.0)) / 2.0


def lognormal_put(strike: float, level: float, sigma: float) -> float:
    """Return E(strike - level exp(sigma x))+ for x standard normal (Black 1976, with forward level exp(s^2/2))."""
    if strike <= 0.0:
        return 0.0
    d = (math.log(strike / level)) / sigma
    return strike * normal_cdf(d) - level * math.exp(sigma**2 / 2.0) * normal_cdf(d - sigma)

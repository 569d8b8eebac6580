"""Depeg events as rows, and which stored events a new one supersedes. Pure."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Hashable, Iterable
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import DepegEvent
from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage.instants import (
    duration_of_microseconds,
    duration_to_microseconds,
    whole_microseconds,
)
from tonsurance_risk.storage.records import Outcome, Row, StoredRow, counted, plain, storable
from tonsurance_risk.values import finite, iso, whole

_START, _END = operator.attrgetter("start"), operator.attrgetter("end")
_GROUP = operator.attrgetter(
    "asset",
    "direction",
    "source",
    "threshold",
    "recovery",
    "min_duration",
    "max_gap",
    "merge_within",
    "sample_span",
)
_FIELDS = tuple(field.name for field in attrs.fields(DepegEvent))
_TEXTS = ("asset", "source", "local_to")
_NUMBERS = ("min_price", "max_price", "severity", "threshold", "recovery", "peg_reference")
_TIMES = ("start", "end", "recovered_at")
_DURATIONS = ("min_duration", "max_gap", "merge_within", "sample_span")
_OPTIONAL = frozenset({"source", "local_to", "recovered_at", "max_gap", "confirmed"})


def stored_form(event: DepegEvent) -> DepegEvent:
    """Return an equal event whose fields have the types that a database gives back.

    Raises
    ------
    InvalidPriceError
        If a time is naive or finer than a microsecond, or the end comes before the start.
    ValueError
        If another field cannot be stored; it is named.
    """
    if not isinstance(event, DepegEvent):
        raise ValueError(f"events must be of the type DepegEvent, found {event!r}")
    if canonical(event.asset) != event.asset:
        raise ValueError(f"asset of an event must be spelled {canonical(event.asset)!r}, found {event.asset!r}")
    checked: Row = {name: _checked(event, name) for name in _FIELDS}
    kept = DepegEvent(**checked)
    if kept.end < kept.start:
        raise InvalidPriceError(
            f"event of {kept.asset}: the end {iso(kept.end)} comes before the start {iso(kept.start)}",
            asset=kept.asset,
            time=kept.start,
            observed=kept.end,
        )
    return kept


def _checked(event: DepegEvent, name: str) -> object:
    value = getattr(event, name)
    where = f"{name} of an event of {event.asset}"
    if value is None and name in _OPTIONAL:
        return None
    if name in _TEXTS:
        return storable(value, where)
    if name in _NUMBERS:
        return finite(value, where)
    if name in _TIMES:
        return whole_microseconds(value, where)
    if name in _DURATIONS:
        return duration_of_microseconds(duration_to_microseconds(value, where))
    if name == "n_observations":
        return whole(value, where, 0, 2**63 - 1)
    if name == "direction":
        if value not in ("below", "above"):
            raise ValueError(f"{where} must be 'below' or 'above', found {value!r}")
        return value
    if not isinstance(plain(value), bool):
        raise ValueError(f"{where} must be True or False, found {value!r}")
    return plain(value)


def event_row(event: DepegEvent) -> Row:
    """Return the row of an event."""
    return attrs.asdict(event, recurse=False)


def event_of(row: StoredRow) -> DepegEvent:
    """Return the event of a row."""
    return DepegEvent(**{name: row[name] for name in _FIELDS})


def event_order(event: DepegEvent) -> tuple[Any, ...]:
    """Return what events are ordered by: asset and start, then the rest of the key."""
    return (
        event.asset,
        event.start,
        event.direction,
        event.source or "",
        event.threshold,
        event.recovery,
        event.min_duration,
        event.max_gap is not None,
        event.max_gap or pd.Timedelta(0),
        event.merge_within,
        event.sample_span,
    )


def superseded(stored: Iterable[DepegEvent], given: Iterable[DepegEvent]) -> tuple[list[DepegEvent], WriteResult]:
    """Return the events that remain once each of `given` has replaced what it supersedes, one after another.

    An event supersedes those of the same asset, direction, source and rule that share a sample with it. Those
    of one group therefore never overlap: sorted by start they are sorted by end, and bisection finds them.
    """
    groups: dict[Hashable, list[DepegEvent]] = {}
    for event in sorted(stored, key=_START):
        groups.setdefault(_GROUP(event), []).append(event)
    outcomes: list[Outcome] = []
    for event in given:
        group = groups.setdefault(_GROUP(event), [])
        first = bisect.bisect_left(group, event.start, key=_END)
        last = bisect.bisect_right(group, event.end, key=_START)
        replaced = group[first:last]
        outcomes.extend(["unchanged"] if replaced == [event] else ["changed"] * len(replaced) or ["new"])
        group[first:last] = [event]
    return [event for group in groups.values() for event in group], counted(outcomes)

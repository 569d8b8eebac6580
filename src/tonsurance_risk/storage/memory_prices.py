"""Prices in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

import attrs
import pandas as pd

from tonsurance_risk.ports import Clock, WriteResult
from tonsurance_risk.storage.instants import at_or_before, interval, now, time_to_microseconds
from tonsurance_risk.storage.job_rows import reject_frame, reject_rows
from tonsurance_risk.storage.lifetime import OpenStore
from tonsurance_risk.storage.memory_rows import Key, inside, put_rows
from tonsurance_risk.storage.price_rows import (
    AssetPrices,
    Samples,
    frame_of_one_source,
    hourly_volatility,
    is_fine,
    mark,
    melted,
    melted_marks,
    touched_hours,
)
from tonsurance_risk.storage.records import (
    Outcome,
    Row,
    counted,
    only_text,
    outcome,
    place_of,
    storable,
    wanted_assets,
)

# What was known of one price: (price, recorded at), oldest first; each holds until the next was recorded.
_Versions: TypeAlias = list[tuple[float, pd.Timestamp]]


class MemoryPrices(OpenStore):
    """A `PriceStore` in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._prices: dict[tuple[str, str, str], dict[int, _Versions]] = {}
        self._marks: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
        self._rejects: dict[Key, Row] = {}

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store prices; see `PriceStore.save_prices`."""
        self._refuse_closed()
        place_of(source, step)
        columns = melted(prices)
        time = now(self._clock)
        outcomes: list[Outcome] = []
        for column in columns:
            place = (column.asset, source, step)
            history, marks = self._prices.setdefault(place, {}), self._marks.setdefault(place, {})
            for microseconds, price in zip(column.microseconds.tolist(), column.prices.tolist(), strict=True):
                outcomes.append(_record(history.setdefault(microseconds, []), price, time))
                if outcomes[-1] == "changed":
                    marks.pop(microseconds, None)  # they were about the old price
        hours = touched_hours(columns) if is_fine(step) else None
        if hours is not None:
            held = {asset: self._of_hours((asset, source, step), hours) for asset in {c.asset for c in columns}}
            self._put_marks("volatility_1h", hourly_volatility(held), source, step)
        return counted(outcomes)

    def _of_hours(self, place: tuple[str, str, str], hours: tuple[int, int]) -> Samples:
        held = {t: v[-1][0] for t, v in self._prices.get(place, {}).items() if hours[0] <= t < hours[1]}
        return list(held), list(held.values())

    def load_prices(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
        known_at: datetime | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame; see `PriceStore.load_prices`."""
        known = None if known_at is None else at_or_before(known_at, "known_at")
        held = {
            place: {time: _known(versions, known) for time, versions in history.items()}
            for place, history in self._prices.items()
        }
        return self._frame(held, assets, start, end, step, source)

    def _frame(
        self,
        held: Mapping[tuple[str, str, str], Mapping[int, float | None]],
        assets: Iterable[str] | None,
        start: datetime | None,
        end: datetime | None,
        step: str,
        source: str | None,
    ) -> pd.DataFrame:
        self._refuse_closed()
        storable(step, "step")
        only_text(source, "source")
        wanted = wanted_assets(assets)
        low, high = (None if time is None else time_to_microseconds(time) for time in interval(start, end))
        found: dict[tuple[str, str], Samples] = {}
        for (asset, origin, distance), values in held.items():
            if distance != step or source not in (None, origin) or (wanted is not None and asset not in wanted):
                continue
            selected = {
                time: value
                for time, value in values.items()
                if value is not None and (low is None or low <= time) and (high is None or time < high)
            }
            if selected:
                found[asset, origin] = (list(selected), list(selected.values()))
        return frame_of_one_source(found, step, wanted)

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources; see `PriceStore.price_sources`."""
        self._refuse_closed()
        storable(step, "step")
        return sorted({source for (_, source, held), history in self._prices.items() if held == step and history})

    def save_marks(self, name: str, values: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store what is known of prices; see `PriceStore.save_marks`."""
        self._refuse_closed()
        place_of(source, step)
        return self._put_marks(name, melted_marks(name, values), source, step)

    def _put_marks(self, name: str, columns: Iterable[AssetPrices], source: str, step: str) -> WriteResult:
        outcomes: list[Outcome] = []
        rejected = 0
        for column in columns:
            place = (column.asset, source, step)
            history, marks = self._prices.get(place, {}), self._marks.setdefault(place, {})
            for microseconds, value in zip(column.microseconds.tolist(), column.prices.tolist(), strict=True):
                if microseconds not in history:
                    rejected += 1
                    continue
                marked = marks.setdefault(microseconds, {})
                outcomes.append(outcome(marked.get(name), value))
                marked[name] = value
        return attrs.evolve(counted(outcomes), rejected=rejected)

    def load_marks(
        self,
        name: str,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame; see `PriceStore.load_marks`."""
        mark(name)
        held = {
            place: {time: marked.get(name) for time, marked in marks.items()}
            for place, marks in self._marks.items()
        }
        return self._frame(held, assets, start, end, step, source)

    def save_rejects(self, rejects: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Keep samples that could not be used; see `PriceStore.save_rejects`."""
        self._refuse_closed()
        rows = reject_rows(rejects, source, step, now(self._clock))
        return put_rows(self._rejects, rows, "source", "step", "asset", "time", "reason", ignored=("recorded_at",))

    def load_rejects(
        self, start: datetime | None = None, end: datetime | None = None, *, source: str, step: str
    ) -> pd.DataFrame:
        """Return rejects; see `PriceStore.load_rejects`."""
        self._refuse_closed()
        place = tuple(place_of(source, step).values())
        low, high = interval(start, end)
        rows = self._rejects.values()
        return reject_frame(
            row for row in rows if (row["source"], row["step"]) == place and inside(row["time"], low, high)
        )


def _record(versions: _Versions, price: float, time: pd.Timestamp) -> Outcome:
    if not versions:
        versions.append((price, time))
        return "new"
    stored, recorded = versions[-1]
    if stored == price:
        return "unchanged"
    # A clock that was set back must not make two prices known at once.
    versions.append((price, max(time, recorded)))
    return "changed"


def _known(versions: _Versions, known_at: pd.Timestamp | None) -> float | None:
    known = [price for price, recorded in versions if known_at is None or recorded <= known_at]
    return known[-1] if known else None

"""The store of ``memory://``: nothing outlives the process. What it does, every other store must do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

import pandas as pd

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import DepegEvent, Scenario, text, whole, within
from tonsurance_risk.ports import Clock, SystemClock, WriteResult
from tonsurance_risk.storage.correlation_rows import matrix_key, pair_changes
from tonsurance_risk.storage.event_rows import event_order, stored_form, superseded
from tonsurance_risk.storage.instants import at_or_before, interval, now, time_to_microseconds
from tonsurance_risk.storage.lifetime import OpenStore
from tonsurance_risk.storage.price_rows import melted, only_source, wide_frame
from tonsurance_risk.storage.records import (
    Outcome,
    Row,
    counted,
    decoded,
    input_document,
    input_row,
    only_text,
    outcome,
    report_rows,
    scenario_of,
    scenario_rows,
    snapshot_frame,
    snapshot_rows,
    storable,
    total,
    wanted_assets,
)

_Key: TypeAlias = tuple[Any, ...]
# What was known of one price: (price, recorded at), oldest first; each holds until the next was recorded.
_Versions: TypeAlias = list[tuple[float, pd.Timestamp]]


class MemoryStore(OpenStore):
    """A `Store` in memory.

    Parameters
    ----------
    clock : Clock
        Tells when a price is recorded.
    """

    def __init__(self, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it holds no state
        self._clock = clock
        self._prices: dict[tuple[str, str, str], dict[int, _Versions]] = {}
        self._events: list[DepegEvent] = []
        self._matrices: dict[_Key, CorrelationMatrix] = {}
        self._scenarios: dict[_Key, Row] = {}
        self._reports: dict[_Key, Row] = {}
        self._snapshots: dict[_Key, Row] = {}
        self._inputs: dict[_Key, Row] = {}

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store prices; see `PriceStore.save_prices`."""
        self._refuse_closed()
        storable(source, "source")
        storable(step, "step")
        columns = melted(prices)
        time = now(self._clock)
        outcomes: list[Outcome] = []
        for column in columns:
            history = self._prices.setdefault((column.asset, source, step), {})
            for microseconds, price in zip(column.microseconds.tolist(), column.prices.tolist(), strict=True):
                outcomes.append(_record(history.setdefault(microseconds, []), price, time))
        return counted(outcomes)

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
        self._refuse_closed()
        text(step, "step")
        only_text(source, "source")
        wanted = wanted_assets(assets)
        known = None if known_at is None else at_or_before(known_at, "known_at")
        low, high = (None if time is None else time_to_microseconds(time) for time in interval(start, end))
        held: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
        for (asset, origin, distance), history in self._prices.items():
            if distance != step or source not in (None, origin) or (wanted is not None and asset not in wanted):
                continue
            prices = {
                time: price
                for time, versions in history.items()
                if (low is None or low <= time)
                and (high is None or time < high)
                and (price := _known(versions, known)) is not None
            }
            if prices:
                held[asset, origin] = (list(prices), list(prices.values()))
        only_source({origin for _, origin in held}, step)
        samples = {asset: columns for (asset, _), columns in held.items()}
        return wide_frame(samples, sorted(samples) if wanted is None else wanted)

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources; see `PriceStore.price_sources`."""
        self._refuse_closed()
        text(step, "step")
        return sorted({source for (_, source, held), history in self._prices.items() if held == step and history})

    def save_events(self, events: Iterable[DepegEvent]) -> WriteResult:
        """Store events; see `ResultStore.save_events`."""
        self._refuse_closed()
        self._events, result = superseded(self._events, [stored_form(event) for event in events])
        return result

    def load_events(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
    ) -> list[DepegEvent]:
        """Return events; see `ResultStore.load_events`."""
        self._refuse_closed()
        only_text(source, "source")
        wanted = wanted_assets(assets)
        low, high = interval(start, end)
        found = [
            event
            for event in self._events
            if (wanted is None or event.asset in wanted)
            and _inside(event.start, low, high)
            and source in (None, event.source)
        ]
        return sorted(found, key=event_order)

    def save_correlations(self, matrices: Iterable[CorrelationMatrix], *, source: str, step: str) -> WriteResult:
        """Store matrices; see `ResultStore.save_correlations`."""
        self._refuse_closed()
        keyed = [(tuple(matrix_key(matrix, source, step).values()), matrix) for matrix in matrices]
        results = []
        for key, matrix in keyed:
            results.append(pair_changes(self._matrices.get(key), matrix))
            self._matrices[key] = matrix
        return total(results)

    def load_correlations(
        self, *, window_days: int, source: str, step: str, as_of: datetime | None = None
    ) -> CorrelationMatrix | None:
        """Return the newest matrix; see `ResultStore.load_correlations`."""
        self._refuse_closed()
        key = (text(source, "source"), text(step, "step"), whole(window_days, "window_days", 1))
        latest = None if as_of is None else at_or_before(as_of, "as_of")
        times = [
            stored[3] for stored in self._matrices if stored[:3] == key and (latest is None or stored[3] <= latest)
        ]
        return self._matrices[*key, max(times)] if times else None

    def save_scenarios(self, scenarios: Iterable[Scenario]) -> WriteResult:
        """Store scenarios; see `ResultStore.save_scenarios`."""
        self._refuse_closed()
        return _put(self._scenarios, scenario_rows(scenarios), "name")

    def load_scenarios(self, *, min_probability: float = 0.0) -> list[Scenario]:
        """Return scenarios; see `ResultStore.load_scenarios`."""
        self._refuse_closed()
        least = within(min_probability, "min_probability", 0.0, 1.0)
        return [scenario_of(row) for row in self._scenarios.values() if row["probability"] >= least]

    def save_reports(self, documents: Iterable[Mapping[str, Any]], *, source: str, step: str) -> WriteResult:
        """Store report documents; see `ResultStore.save_reports`."""
        self._refuse_closed()
        return _put(self._reports, report_rows(documents, source, step), "source", "step", "as_of")

    def load_reports(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
        step: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return report documents; see `ResultStore.load_reports`."""
        self._refuse_closed()
        only_text(source, "source")
        only_text(step, "step")
        low, high = interval(start, end)
        found = [
            row
            for row in self._reports.values()
            if source in (None, row["source"]) and step in (None, row["step"]) and _inside(row["as_of"], low, high)
        ]
        return [decoded(row) for row in sorted(found, key=lambda row: (row["as_of"], row["source"], row["step"]))]

    def save_snapshots(self, snapshots: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store snapshots; see `ResultStore.save_snapshots`."""
        self._refuse_closed()
        return _put(self._snapshots, snapshot_rows(snapshots, source, step), "source", "step", "time")

    def load_snapshots(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str,
        step: str,
    ) -> pd.DataFrame:
        """Return snapshots; see `ResultStore.load_snapshots`."""
        self._refuse_closed()
        key = (text(source, "source"), text(step, "step"))
        low, high = interval(start, end)
        return snapshot_frame(
            row
            for row in self._snapshots.values()
            if (row["source"], row["step"]) == key and _inside(row["time"], low, high)
        )

    def save_run_inputs(self, document: Mapping[str, Any]) -> str:
        """Store the inputs of a run; see `ResultStore.save_run_inputs`."""
        self._refuse_closed()
        row = input_row(document)
        _put(self._inputs, [row], "content_hash")
        return str(row["content_hash"])

    def load_run_inputs(self, content_hash: str) -> dict[str, Any]:
        """Return the inputs of a run; see `ResultStore.load_run_inputs`."""
        self._refuse_closed()
        return input_document(self._inputs.get((content_hash,)), content_hash)


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


def _put(table: dict[_Key, Row], rows: Iterable[Row], *key: str) -> WriteResult:
    outcomes = []
    for row in rows:
        place = tuple(row[name] for name in key)
        outcomes.append(outcome(table.get(place), row))
        table[place] = row
    return counted(outcomes)


def _inside(time: pd.Timestamp, low: pd.Timestamp | None, high: pd.Timestamp | None) -> bool:
    return bool((low is None or low <= time) and (high is None or time < high))

"""The store of ``memory://``: nothing outlives the process. What it does, every other store must do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import DepegEvent, Scenario
from tonsurance_risk.ports import Clock, ScenarioBacktest, SystemClock, WriteResult
from tonsurance_risk.storage.correlation_rows import MOST_DAYS, matrix_key, pair_changes
from tonsurance_risk.storage.event_rows import event_order, stored_form, superseded
from tonsurance_risk.storage.instants import at_or_before, interval
from tonsurance_risk.storage.job_rows import (
    alert_rows,
    backtest_of,
    backtest_rows,
    scenario_event_frame,
    scenario_event_rows,
    unknown_scenario,
)
from tonsurance_risk.storage.memory_jobs import MemoryJobs
from tonsurance_risk.storage.memory_prices import MemoryPrices
from tonsurance_risk.storage.memory_rows import Key, inside, put_rows
from tonsurance_risk.storage.records import (
    Row,
    decoded,
    encodable,
    input_document,
    input_row,
    only_text,
    place_of,
    report_rows,
    scenario_of,
    scenario_rows,
    snapshot_frame,
    snapshot_rows,
    storable,
    total,
    wanted_assets,
)
from tonsurance_risk.values import whole, within


class MemoryStore(MemoryPrices, MemoryJobs):
    """A `Store` in memory.

    Parameters
    ----------
    clock : Clock
        Tells when a price is recorded.
    """

    def __init__(self, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it holds no state
        MemoryPrices.__init__(self, clock)
        MemoryJobs.__init__(self, clock)
        self._events: list[DepegEvent] = []
        self._matrices: dict[Key, CorrelationMatrix] = {}
        self._scenarios: dict[Key, Row] = {}
        self._scenario_events: dict[str, list[Row]] = {}
        self._backtests: dict[Key, Row] = {}
        self._reports: dict[Key, Row] = {}
        self._snapshots: dict[Key, Row] = {}
        self._inputs: dict[Key, Row] = {}

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
            and inside(event.start, low, high)
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
        key = (*place_of(source, step).values(), whole(window_days, "window_days", 1, MOST_DAYS))
        latest = None if as_of is None else at_or_before(as_of, "as_of")
        times = [
            stored[3] for stored in self._matrices if stored[:3] == key and (latest is None or stored[3] <= latest)
        ]
        return self._matrices[*key, max(times)] if times else None

    def save_scenarios(
        self,
        scenarios: Iterable[Scenario],
        *,
        only_new: bool = False,
        events: Mapping[str, Iterable[DepegEvent]] | None = None,
    ) -> WriteResult:
        """Store scenarios; see `ResultStore.save_scenarios`."""
        self._refuse_closed()
        rows, origins = scenario_rows(scenarios), scenario_event_rows(events)
        given = [row for row in rows if not only_new or (row["name"],) not in self._scenarios]
        result = put_rows(self._scenarios, given, "name")
        for name in origins.keys() & {row["name"] for row in given}:
            self._scenario_events[name] = origins[name]
        return attrs.evolve(result, unchanged=result.unchanged + len(rows) - len(given))

    def load_scenario_events(self, name: str) -> pd.DataFrame:
        """Return what a scenario was calibrated from; see `ResultStore.load_scenario_events`."""
        self._refuse_closed()
        return scenario_event_frame(self._scenario_events.get(storable(name, "name"), ()))

    def save_backtests(self, backtests: Iterable[ScenarioBacktest], *, source: str, step: str) -> WriteResult:
        """Store predicted against actual losses; see `ResultStore.save_backtests`."""
        self._refuse_closed()
        rows = backtest_rows(backtests, source, step)
        for row in rows:
            if (row["scenario"],) not in self._scenarios:
                raise unknown_scenario(row["scenario"])
        key = ("source", "step", "scenario", "vault_sha256")
        return put_rows(self._backtests, rows, *key, ignored=("evaluated_at",))

    def load_backtests(self, *, source: str, step: str) -> list[ScenarioBacktest]:
        """Return predicted against actual losses; see `ResultStore.load_backtests`."""
        self._refuse_closed()
        key = tuple(place_of(source, step).values())
        found = [row for row in self._backtests.values() if (row["source"], row["step"]) == key]
        ordered = sorted(found, key=lambda row: (row["start"], row["scenario"], row["vault_sha256"]))
        return [backtest_of(row) for row in ordered]

    def load_scenarios(self, *, min_probability: float = 0.0) -> list[Scenario]:
        """Return scenarios; see `ResultStore.load_scenarios`."""
        self._refuse_closed()
        least = within(min_probability, "min_probability", 0.0, 1.0)
        return [scenario_of(row) for row in self._scenarios.values() if row["probability"] >= least]

    def save_reports(
        self, documents: Iterable[Mapping[str, Any]], *, source: str, step: str, job: str | None = None
    ) -> WriteResult:
        """Store report documents; see `ResultStore.save_reports`."""
        self._refuse_closed()
        rows = report_rows(documents, source, step)
        alerts = [(row, alert_rows(row)) for row in rows]
        if job is not None:
            self._jobs.update({(job, row["as_of"]): self._ended(job, row["as_of"]) for row in rows})
        result = put_rows(self._reports, rows, "source", "step", "as_of")
        for row, given in alerts:
            self._put_alerts(row, given)
        return result

    def load_reports(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
        step: str | None = None,
        last: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return report documents; see `ResultStore.load_reports`."""
        self._refuse_closed()
        only_text(source, "source")
        only_text(step, "step")
        low, high = interval(start, end)
        found = [
            row
            for row in self._reports.values()
            if source in (None, row["source"]) and step in (None, row["step"]) and inside(row["as_of"], low, high)
        ]
        ordered = sorted(found, key=lambda row: (row["as_of"], row["source"], row["step"]))
        return [decoded(row) for row in (ordered if last is None else ordered[-whole(last, "last", 1) :])]

    def save_snapshots(self, snapshots: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store snapshots; see `ResultStore.save_snapshots`."""
        self._refuse_closed()
        return put_rows(self._snapshots, snapshot_rows(snapshots, source, step), "source", "step", "time")

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
        key = tuple(place_of(source, step).values())
        low, high = interval(start, end)
        return snapshot_frame(
            row
            for row in self._snapshots.values()
            if (row["source"], row["step"]) == key and inside(row["time"], low, high)
        )

    def save_run_inputs(self, document: Mapping[str, Any]) -> str:
        """Store the inputs of a run; see `ResultStore.save_run_inputs`."""
        self._refuse_closed()
        row = input_row(document)
        put_rows(self._inputs, [row], "content_hash")
        return str(row["content_hash"])

    def load_run_inputs(self, content_hash: str) -> dict[str, Any]:
        """Return the inputs of a run; see `ResultStore.load_run_inputs`."""
        self._refuse_closed()
        return input_document(self._inputs.get((encodable(content_hash, "content_hash"),)), content_hash)

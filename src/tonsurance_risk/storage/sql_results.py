"""What was computed, in an SQL database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs
import pandas as pd
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import DepegEvent, Scenario
from tonsurance_risk.ports import ScenarioBacktest, WriteResult
from tonsurance_risk.storage.correlation_rows import (
    MOST_DAYS,
    asset_rows,
    matrix_key,
    matrix_of,
    pair_changes,
    pair_rows,
)
from tonsurance_risk.storage.event_rows import event_of, event_order, event_row, stored_form, superseded
from tonsurance_risk.storage.instants import at_or_before, now
from tonsurance_risk.storage.job_rows import (
    alert_rows,
    backtest_of,
    backtest_rows,
    job_key,
    scenario_event_frame,
    scenario_event_rows,
    unknown_scenario,
)
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
from tonsurance_risk.storage.schema import (
    asset_correlations,
    correlation_assets,
    historical_depegs,
    risk_reports,
    risk_snapshots,
    run_inputs,
    scenario_backtest_results,
    scenario_events,
    stress_scenarios,
)
from tonsurance_risk.storage.sql_jobs import put_alerts, put_end
from tonsurance_risk.storage.sql_part import SqlPart, equal, inside, put, replace
from tonsurance_risk.values import whole, within


class SqlResults(SqlPart):
    """A `ResultStore` in an SQL database."""

    def save_events(self, events: Iterable[DepegEvent]) -> WriteResult:
        """Store events; see `ResultStore.save_events`."""
        self._refuse_closed()
        given = [stored_form(event) for event in events]
        of_these = historical_depegs.c.asset.in_({event.asset for event in given})

        def work(connection: Connection) -> WriteResult:
            stored = _events(connection, [of_these])
            remaining, result = superseded(stored, given)
            gone = [{"gone": stored[event]} for event in stored.keys() - set(remaining)]
            if gone:
                by_id = historical_depegs.c.id == bindparam("gone")
                connection.execute(delete(historical_depegs).where(by_id), gone)
            added = [event_row(event) for event in remaining if event not in stored]
            if added:
                connection.execute(insert(historical_depegs), added)
            return result

        return self._write(work)

    def load_events(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
    ) -> list[DepegEvent]:
        """Return events; see `ResultStore.load_events`."""
        only_text(source, "source")
        wanted = wanted_assets(assets)
        where = inside(historical_depegs.c.start, start, end)
        if wanted is not None:
            where.append(historical_depegs.c.asset.in_(wanted))
        if source is not None:
            where.append(historical_depegs.c.source == source)
        return self._read(lambda connection: sorted(_events(connection, where), key=event_order))

    def save_correlations(self, matrices: Iterable[CorrelationMatrix], *, source: str, step: str) -> WriteResult:
        """Store matrices; see `ResultStore.save_correlations`."""
        self._refuse_closed()
        keyed = [(matrix_key(matrix, source, step), matrix) for matrix in matrices]
        return self._write(
            lambda connection: total([_replace_matrix(connection, key, matrix) for key, matrix in keyed])
        )

    def load_correlations(
        self, *, window_days: int, source: str, step: str, as_of: datetime | None = None
    ) -> CorrelationMatrix | None:
        """Return the newest matrix; see `ResultStore.load_correlations`."""
        key = place_of(source, step) | {"window_days": whole(window_days, "window_days", 1, MOST_DAYS)}
        newest = select(func.max(correlation_assets.c.as_of)).where(*equal(correlation_assets, key))
        if as_of is not None:
            newest = newest.where(correlation_assets.c.as_of <= at_or_before(as_of, "as_of"))

        def work(connection: Connection) -> CorrelationMatrix | None:
            time = connection.execute(newest).scalar_one()
            return None if time is None else _matrix(connection, key | {"as_of": time})

        return self._read(work)

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
        places = select(stress_scenarios.c.name, stress_scenarios.c.position)

        def work(connection: Connection) -> WriteResult:
            position = {row.name: row.position for row in connection.execute(places)}
            kept = set(position) if only_new else set()
            given = [row for row in rows if row["name"] not in kept]
            for row in given:
                row["position"] = position.setdefault(row["name"], max(position.values(), default=-1) + 1)
            result = put(connection, stress_scenarios, given)
            for name in origins.keys() & {row["name"] for row in given}:
                replace(connection, scenario_events, {"scenario": name}, origins[name])
            return attrs.evolve(result, unchanged=result.unchanged + len(rows) - len(given))

        return self._write(work)

    def load_scenario_events(self, name: str) -> pd.DataFrame:
        """Return what a scenario was calibrated from; see `ResultStore.load_scenario_events`."""
        named = select(scenario_events).where(scenario_events.c.scenario == storable(name, "name"))
        return scenario_event_frame(self._rows(named))

    def save_backtests(self, backtests: Iterable[ScenarioBacktest], *, source: str, step: str) -> WriteResult:
        """Store predicted against actual losses; see `ResultStore.save_backtests`."""
        self._refuse_closed()
        rows = backtest_rows(backtests, source, step)

        def work(connection: Connection) -> WriteResult:
            names = set(connection.scalars(select(stress_scenarios.c.name)))
            for row in rows:
                if row["scenario"] not in names:
                    raise unknown_scenario(row["scenario"])
            return put(connection, scenario_backtest_results, rows, ignored=["evaluated_at"])

        return self._write(work)

    def load_backtests(self, *, source: str, step: str) -> list[ScenarioBacktest]:
        """Return predicted against actual losses; see `ResultStore.load_backtests`."""
        results = scenario_backtest_results
        key = place_of(source, step)
        found = select(results).where(*equal(results, key))
        in_order = found.order_by(results.c.start, results.c.scenario, results.c.vault_sha256)
        return [backtest_of(row) for row in self._rows(in_order)]

    def load_scenarios(self, *, min_probability: float = 0.0) -> list[Scenario]:
        """Return scenarios; see `ResultStore.load_scenarios`."""
        least = within(min_probability, "min_probability", 0.0, 1.0)
        found = select(stress_scenarios).where(stress_scenarios.c.probability >= least)
        in_order = found.order_by(stress_scenarios.c.position)
        return [scenario_of(row) for row in self._rows(in_order)]

    def save_reports(
        self, documents: Iterable[Mapping[str, Any]], *, source: str, step: str, job: str | None = None
    ) -> WriteResult:
        """Store report documents; see `ResultStore.save_reports`."""
        self._refuse_closed()
        rows = report_rows(documents, source, step)
        alerts = [(row, alert_rows(row)) for row in rows]
        jobs = [] if job is None else [job_key(job, row["as_of"]) for row in rows]

        def work(connection: Connection) -> WriteResult:
            result = put(connection, risk_reports, rows)
            for row, given in alerts:
                put_alerts(connection, row, given)
            for key in jobs:
                put_end(connection, key, now(self._clock))
            return result

        return self._write(work)

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
        reports = risk_reports.c
        asked = {"source": only_text(source, "source"), "step": only_text(step, "step")}
        given = {name: value for name, value in asked.items() if value is not None}
        found = select(risk_reports).where(*inside(reports.as_of, start, end), *equal(risk_reports, given))
        order = (reports.as_of, reports.source, reports.step)
        if last is not None:
            newest = found.order_by(*(column.desc() for column in order)).limit(whole(last, "last", 1))
            return [decoded(row) for row in reversed(list(self._rows(newest)))]
        return [decoded(row) for row in self._rows(found.order_by(*order))]

    def save_snapshots(self, snapshots: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store snapshots; see `ResultStore.save_snapshots`."""
        self._refuse_closed()
        rows = snapshot_rows(snapshots, source, step)
        return self._write(lambda connection: put(connection, risk_snapshots, rows))

    def load_snapshots(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str,
        step: str,
    ) -> pd.DataFrame:
        """Return snapshots; see `ResultStore.load_snapshots`."""
        key = place_of(source, step)
        found = select(risk_snapshots).where(
            *equal(risk_snapshots, key), *inside(risk_snapshots.c.time, start, end)
        )
        return snapshot_frame(self._rows(found))

    def save_run_inputs(self, document: Mapping[str, Any]) -> str:
        """Store the inputs of a run; see `ResultStore.save_run_inputs`."""
        self._refuse_closed()
        row = input_row(document)
        self._write(lambda connection: put(connection, run_inputs, [row]))
        return str(row["content_hash"])

    def load_run_inputs(self, content_hash: str) -> dict[str, Any]:
        """Return the inputs of a run; see `ResultStore.load_run_inputs`."""
        found = select(run_inputs).where(run_inputs.c.content_hash == encodable(content_hash, "content_hash"))
        return input_document(next(iter(self._rows(found)), None), content_hash)


def _events(connection: Connection, where: Iterable[ColumnElement[bool]]) -> dict[DepegEvent, int]:
    rows = connection.execute(select(historical_depegs).where(*where)).mappings()
    return {event_of(row): row["id"] for row in rows}


def _matrix(connection: Connection, key: Row) -> CorrelationMatrix | None:
    assets, pairs = (
        connection.execute(select(table).where(*equal(table, key))).mappings().all()
        for table in (correlation_assets, asset_correlations)
    )
    return matrix_of(assets, pairs, key["window_days"], key["as_of"]) if assets else None


def _replace_matrix(connection: Connection, key: Row, matrix: CorrelationMatrix) -> WriteResult:
    result = pair_changes(_matrix(connection, key), matrix)
    # Pairs point to their assets: they go first and come last.
    replace(connection, asset_correlations, key, ())
    replace(connection, correlation_assets, key, asset_rows(matrix))
    replace(connection, asset_correlations, key, pair_rows(matrix))
    return result

"""A store in an SQL database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import DepegEvent, Scenario, text, whole, within
from tonsurance_risk.ports import Clock, SystemClock, WriteResult
from tonsurance_risk.storage import sql_prices
from tonsurance_risk.storage.correlation_rows import (
    asset_rows,
    matrix_key,
    matrix_of,
    pair_changes,
    pair_rows,
)
from tonsurance_risk.storage.event_rows import event_of, event_order, event_row, stored_form, superseded
from tonsurance_risk.storage.instants import at_or_before, interval, now
from tonsurance_risk.storage.lifetime import OpenStore
from tonsurance_risk.storage.price_rows import melted, only_source, wide_frame
from tonsurance_risk.storage.records import (
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
from tonsurance_risk.storage.schema import (
    asset_correlations,
    correlation_assets,
    historical_depegs,
    risk_reports,
    risk_snapshots,
    run_inputs,
    stress_scenarios,
)
from tonsurance_risk.storage.sqlite import open_engine, storage_errors, transaction


class SqlStore(OpenStore):
    """A `Store` in an SQLite file.

    Parameters
    ----------
    path : Path
        The file; one that is new or empty is set up.
    clock : Clock
        Tells when a price is recorded.

    Raises
    ------
    StorageError
        See `open_store`.
    """

    def __init__(self, path: Path, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it holds no state
        self._path = path
        self._clock = clock
        self._engine: Engine = open_engine(path)

    def close(self) -> None:
        """Release files and connections; may be called again."""
        super().close()
        with storage_errors(self._path):
            self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._refuse_closed()
        with storage_errors(self._path), transaction(self._engine, writes=False) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._refuse_closed()
        with storage_errors(self._path), transaction(self._engine, writes=True) as connection:
            yield connection

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store prices; see `PriceStore.save_prices`."""
        self._refuse_closed()
        storable(source, "source")
        storable(step, "step")
        columns = melted(prices)
        with self._writing() as connection:
            return sql_prices.save(connection, columns, source, step, now(self._clock))

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
        prices = sql_prices.known(known)
        where = [prices.c.step == step, *_inside(prices.c.time, start, end)]
        if source is not None:
            where.append(prices.c.source == source)
        if wanted is not None:
            where.append(prices.c.asset.in_(wanted))
        with self._reading() as connection:
            held = sql_prices.held(connection, prices, where)
            only_source({origin for _, origin in held}, step)
            samples = {
                asset: sql_prices.samples(connection, prices, where, asset, origin) for asset, origin in held
            }
        return wide_frame(samples, sorted(samples) if wanted is None else wanted)

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources; see `PriceStore.price_sources`."""
        self._refuse_closed()
        text(step, "step")
        with self._reading() as connection:
            return sql_prices.sources(connection, step)

    def save_events(self, events: Iterable[DepegEvent]) -> WriteResult:
        """Store events; see `ResultStore.save_events`."""
        self._refuse_closed()
        given = [stored_form(event) for event in events]
        of_these = historical_depegs.c.asset.in_({event.asset for event in given})
        with self._writing() as connection:
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
        where = _inside(historical_depegs.c.start, start, end)
        if wanted is not None:
            where.append(historical_depegs.c.asset.in_(wanted))
        if source is not None:
            where.append(historical_depegs.c.source == source)
        with self._reading() as connection:
            return sorted(_events(connection, where), key=event_order)

    def save_correlations(self, matrices: Iterable[CorrelationMatrix], *, source: str, step: str) -> WriteResult:
        """Store matrices; see `ResultStore.save_correlations`."""
        self._refuse_closed()
        keyed = [(matrix_key(matrix, source, step), matrix) for matrix in matrices]
        with self._writing() as connection:
            return total([_replace_matrix(connection, key, matrix) for key, matrix in keyed])

    def load_correlations(
        self, *, window_days: int, source: str, step: str, as_of: datetime | None = None
    ) -> CorrelationMatrix | None:
        """Return the newest matrix; see `ResultStore.load_correlations`."""
        key = {
            "source": text(source, "source"),
            "step": text(step, "step"),
            "window_days": whole(window_days, "window_days", 1),
        }
        newest = select(func.max(correlation_assets.c.as_of)).where(*_equal(correlation_assets, key))
        if as_of is not None:
            newest = newest.where(correlation_assets.c.as_of <= at_or_before(as_of, "as_of"))
        with self._reading() as connection:
            time = connection.execute(newest).scalar_one()
            return None if time is None else _matrix(connection, key | {"as_of": time})

    def save_scenarios(self, scenarios: Iterable[Scenario]) -> WriteResult:
        """Store scenarios; see `ResultStore.save_scenarios`."""
        self._refuse_closed()
        rows = scenario_rows(scenarios)
        places = select(stress_scenarios.c.name, stress_scenarios.c.position)
        with self._writing() as connection:
            position = {row.name: row.position for row in connection.execute(places)}
            for row in rows:
                row["position"] = position.setdefault(row["name"], max(position.values(), default=-1) + 1)
            return _put(connection, stress_scenarios, rows)

    def load_scenarios(self, *, min_probability: float = 0.0) -> list[Scenario]:
        """Return scenarios; see `ResultStore.load_scenarios`."""
        least = within(min_probability, "min_probability", 0.0, 1.0)
        found = select(stress_scenarios).where(stress_scenarios.c.probability >= least)
        with self._reading() as connection:
            rows = connection.execute(found.order_by(stress_scenarios.c.position)).mappings()
            return [scenario_of(row) for row in rows]

    def save_reports(self, documents: Iterable[Mapping[str, Any]], *, source: str, step: str) -> WriteResult:
        """Store report documents; see `ResultStore.save_reports`."""
        self._refuse_closed()
        rows = report_rows(documents, source, step)
        with self._writing() as connection:
            return _put(connection, risk_reports, rows)

    def load_reports(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
        step: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return report documents; see `ResultStore.load_reports`."""
        reports = risk_reports.c
        asked = {"source": only_text(source, "source"), "step": only_text(step, "step")}
        given = {name: value for name, value in asked.items() if value is not None}
        found = select(risk_reports).where(*_inside(reports.as_of, start, end), *_equal(risk_reports, given))
        with self._reading() as connection:
            rows = connection.execute(found.order_by(reports.as_of, reports.source, reports.step)).mappings()
            return [decoded(row) for row in rows]

    def save_snapshots(self, snapshots: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store snapshots; see `ResultStore.save_snapshots`."""
        self._refuse_closed()
        rows = snapshot_rows(snapshots, source, step)
        with self._writing() as connection:
            return _put(connection, risk_snapshots, rows)

    def load_snapshots(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str,
        step: str,
    ) -> pd.DataFrame:
        """Return snapshots; see `ResultStore.load_snapshots`."""
        key = {"source": text(source, "source"), "step": text(step, "step")}
        found = select(risk_snapshots).where(
            *_equal(risk_snapshots, key), *_inside(risk_snapshots.c.time, start, end)
        )
        with self._reading() as connection:
            return snapshot_frame(connection.execute(found).mappings())

    def save_run_inputs(self, document: Mapping[str, Any]) -> str:
        """Store the inputs of a run; see `ResultStore.save_run_inputs`."""
        self._refuse_closed()
        row = input_row(document)
        with self._writing() as connection:
            _put(connection, run_inputs, [row])
        return str(row["content_hash"])

    def load_run_inputs(self, content_hash: str) -> dict[str, Any]:
        """Return the inputs of a run; see `ResultStore.load_run_inputs`."""
        found = select(run_inputs).where(run_inputs.c.content_hash == content_hash)
        with self._reading() as connection:
            row = connection.execute(found).mappings().one_or_none()
        return input_document(row, content_hash)


def _inside(column: ColumnElement[Any], start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    low, high = interval(start, end)
    conditions = [] if low is None else [column >= low]
    return conditions if high is None else [*conditions, column < high]


def _equal(table: Table, key: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _put(connection: Connection, table: Table, rows: Iterable[Row]) -> WriteResult:
    """Insert rows, or replace those of the same primary key, one after another."""
    outcomes = []
    for row in rows:
        same_key = _equal(table, {column.name: row[column.name] for column in table.primary_key})
        stored = connection.execute(select(table).where(*same_key)).mappings().one_or_none()
        outcomes.append(outcome(stored, row))
        if outcomes[-1] == "new":
            connection.execute(insert(table), row)
        elif outcomes[-1] == "changed":
            connection.execute(update(table).where(*same_key), row)
    return counted(outcomes)


def _events(connection: Connection, where: Iterable[ColumnElement[bool]]) -> dict[DepegEvent, int]:
    rows = connection.execute(select(historical_depegs).where(*where)).mappings()
    return {event_of(row): row["id"] for row in rows}


def _matrix(connection: Connection, key: Row) -> CorrelationMatrix | None:
    assets, pairs = (
        connection.execute(select(table).where(*_equal(table, key))).mappings().all()
        for table in (correlation_assets, asset_correlations)
    )
    return matrix_of(assets, pairs, key["window_days"], key["as_of"]) if assets else None


def _replace_matrix(connection: Connection, key: Row, matrix: CorrelationMatrix) -> WriteResult:
    result = pair_changes(_matrix(connection, key), matrix)
    for table in (asset_correlations, correlation_assets):
        connection.execute(delete(table).where(*_equal(table, key)))
    for table, rows in ((correlation_assets, asset_rows(matrix)), (asset_correlations, pair_rows(matrix))):
        if rows:
            connection.execute(insert(table), [key | row for row in rows])
    return result

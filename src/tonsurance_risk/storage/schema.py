"""The tables of a store, version 2: intervals of correlations, and their latest ones.

Times are whole microseconds since 1970-01-01 UTC and durations whole microseconds, both as integers: exact,
small, and ordered as numbers on every database. Text compares by code point.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

import pandas as pd
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    event,
    func,
    literal_column,
)
from sqlalchemy.types import TypeDecorator

from tonsurance_risk.storage.instants import (
    duration_of_microseconds,
    duration_to_microseconds,
    time_of_microseconds,
    time_to_microseconds,
)

VERSION = 2
"""The schema that this code reads and writes."""


class UtcTime(TypeDecorator[pd.Timestamp]):
    """An instant as whole microseconds since 1970-01-01 UTC; a naive one is an `InvalidPriceError`."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the integer that stands for an instant."""
        return None if value is None else time_to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> pd.Timestamp | None:  # noqa: ARG002
        """Return the instant of an integer."""
        return None if value is None else time_of_microseconds(value)


class Duration(TypeDecorator[timedelta]):
    """A duration as whole microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the integer that stands for a duration."""
        return None if value is None else duration_to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        """Return the duration of an integer."""
        return None if value is None else duration_of_microseconds(value)


def _between(column: str, low: float, high: float = sys.float_info.max) -> CheckConstraint:
    # Text, NaN and infinity compare above every number, so the upper bound keeps them out as well.
    return CheckConstraint(f'"{column}" >= {low!r} AND "{column}" <= {high!r}', name=f"{column}_is_a_number")


def _price_is_positive() -> CheckConstraint:
    return CheckConstraint(f"price > 0 AND price <= {sys.float_info.max!r}", name="price_is_positive")


def _key(name: str, kind: type[Text] | type[UtcTime] | type[Integer] = Text) -> Column[object]:
    return Column(name, kind, primary_key=True, nullable=False)


def _number(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


metadata = MetaData()

schema_version = Table(
    "tonsurance_schema",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

price_history = Table(
    "price_history",
    metadata,
    _key("asset"),
    _key("source"),
    _key("step"),
    _key("time", UtcTime),
    _number("price"),
    Column("recorded_at", UtcTime, nullable=False),
    _price_is_positive(),
    sqlite_with_rowid=False,
)

price_revision = Table(
    "price_revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("asset", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("time", UtcTime, nullable=False),
    _number("price"),
    Column("recorded_at", UtcTime, nullable=False),
    Column("replaced_at", UtcTime, nullable=False),
    _price_is_positive(),
    CheckConstraint("replaced_at >= recorded_at", name="replaced_after_recorded"),
    Index("price_revision_by_price", "asset", "source", "step", "time"),
)

historical_depegs = Table(
    "historical_depegs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("asset", Text, nullable=False),
    Column("direction", Text, CheckConstraint("direction IN ('below', 'above')"), nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("recovered_at", UtcTime),
    _number("min_price"),
    _number("max_price"),
    _number("severity"),
    Column("n_observations", BigInteger, nullable=False),
    Column("cut_by_gap", Boolean, nullable=False),
    Column("source", Text),
    Column("confirmed", Boolean),
    Column("local_to", Text),
    _number("threshold"),
    _number("recovery"),
    Column("min_duration", Duration, nullable=False),
    Column("max_gap", Duration),
    Column("merge_within", Duration, nullable=False),
    Column("sample_span", Duration, nullable=False),
    _number("peg_reference"),
    CheckConstraint('"end" >= start', name="end_not_before_start"),
)
# NULLs are distinct in a unique index; a source is never empty and a gap never negative.
Index(
    "historical_depegs_key",
    historical_depegs.c.asset,
    historical_depegs.c.direction,
    func.coalesce(historical_depegs.c.source, literal_column("''")),
    historical_depegs.c.threshold,
    historical_depegs.c.recovery,
    historical_depegs.c.min_duration,
    func.coalesce(historical_depegs.c.max_gap, literal_column("-1")),
    historical_depegs.c.merge_within,
    historical_depegs.c.sample_span,
    historical_depegs.c.start,
    unique=True,
)

correlation_assets = Table(
    "correlation_assets",
    metadata,
    _key("source"),
    _key("step"),
    _key("window_days", Integer),
    _key("as_of", UtcTime),
    _key("asset"),
    Column("position", Integer, nullable=False),
    Column("observations", BigInteger, nullable=False),
)

asset_correlations = Table(
    "asset_correlations",
    metadata,
    _key("source"),
    _key("step"),
    _key("window_days", Integer),
    _key("as_of", UtcTime),
    _key("asset_1"),
    _key("asset_2"),
    _number("correlation"),
    Column("observations", BigInteger, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("n_resamples", BigInteger),
    Column("block_length", BigInteger),
    Column("seed", BigInteger),
    CheckConstraint("asset_1 < asset_2", name="pair_is_ordered"),
    CheckConstraint("(low IS NULL) = (high IS NULL) AND low <= high", name="interval_is_ordered"),
    _between("correlation", -1.0, 1.0),
    *(
        ForeignKeyConstraint(
            ["source", "step", "window_days", "as_of", asset],
            [correlation_assets.c[name] for name in ("source", "step", "window_days", "as_of", "asset")],
        )
        for asset in ("asset_1", "asset_2")
    ),
)

_LATEST_CORRELATIONS = """
CREATE VIEW latest_correlations AS
SELECT pairs.* FROM asset_correlations AS pairs
JOIN (
    SELECT source, step, window_days, MAX(as_of) AS as_of
    FROM asset_correlations GROUP BY source, step, window_days
) AS newest
ON pairs.source = newest.source AND pairs.step = newest.step AND pairs.window_days = newest.window_days
AND pairs.as_of = newest.as_of
"""


@event.listens_for(metadata, "after_create")
def _create_views(_target: MetaData, connection: Connection, **_options: object) -> None:
    connection.exec_driver_sql(_LATEST_CORRELATIONS)


stress_scenarios = Table(
    "stress_scenarios",
    metadata,
    _key("name"),
    Column("position", Integer, nullable=False),
    _number("probability"),
    Column("prices", Text, nullable=False),
    _number("btc_change"),
    _number("weight"),
    Column("kind", Text, nullable=False),
    _number("severity_multiplier"),
    _number("correlation_shift"),
    _number("volatility_multiplier"),
    _number("liquidity_impact"),
    Column("source", Text, nullable=False),
    Column("is_active", Boolean, nullable=False),
    _between("probability", 0.0, 1.0),
    _between("correlation_shift", -1.0, 1.0),
    _between("weight", 0.0),
)

risk_reports = Table(
    "risk_reports",
    metadata,
    _key("source"),
    _key("step"),
    _key("as_of", UtcTime),
    Column("document", Text, nullable=False),
)

risk_snapshots = Table(
    "risk_snapshots",
    metadata,
    _key("source"),
    _key("step"),
    _key("time", UtcTime),
    _number("var_95"),
    _number("capital"),
    _number("coverage"),
    *(_between(name, -sys.float_info.max) for name in ("var_95", "capital", "coverage")),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    _key("content_hash"),
    Column("document", Text, nullable=False),
)

staged_prices = Table(
    "staged_prices",
    MetaData(),
    Column("asset", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    _number("price"),
    prefixes=["TEMPORARY"],
)
"""Where one write gathers its prices before they are compared; seen by its own connection only."""

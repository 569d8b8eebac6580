"""The tables of a store, version 5. What a version changed is in `migrations/versions`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
    literal_column,
)

from tonsurance_risk.storage.columns import (
    Duration,
    Identity,
    UtcTime,
    between,
    key,
    number,
    positive,
    words,
)

VERSION = 5
"""The schema that this code reads and writes."""

metadata = MetaData()

schema_version = Table(
    "tonsurance_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="tonsurance_version_pkc"),
)
"""Kept by alembic. Version 2 had its number in another table, `FIRST_VERSION_TABLE`."""
FIRST_VERSION_TABLE = "tonsurance_schema"

price_history = Table(
    "price_history",
    metadata,
    key("asset"),
    key("source"),
    key("step"),
    key("time", UtcTime),
    number("price"),
    Column("recorded_at", UtcTime, nullable=False),
    Column("quality", Double, between("quality", 0.0, 1.0)),
    Column("outlier", Double, CheckConstraint("outlier IN (0.0, 1.0)", name="outlier_is_0_or_1")),
    Column("volatility_1h", Double, between("volatility_1h", 0.0)),
    Column("volume", Double, between("volume", 0.0)),
    positive("price"),
    sqlite_with_rowid=False,
)

price_revision = Table(
    "price_revision",
    metadata,
    Column("id", Identity, primary_key=True),
    words("asset"),
    words("source"),
    words("step"),
    Column("time", UtcTime, nullable=False),
    number("price"),
    Column("recorded_at", UtcTime, nullable=False),
    Column("replaced_at", UtcTime, nullable=False),
    positive("price"),
    CheckConstraint("replaced_at >= recorded_at", name="replaced_after_recorded"),
    Index("price_revision_by_price", "asset", "source", "step", "time"),
)

rejects = Table(
    "rejects",
    metadata,
    key("source"),
    key("step"),
    key("asset"),
    key("time", UtcTime),
    key("reason"),
    words("raw"),
    words("detail"),
    Column("recorded_at", UtcTime, nullable=False),
)

price_archives = Table(
    "price_archives",
    metadata,
    key("source"),
    key("step"),
    key("file"),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    words("sha256"),
    Column("n_rows", BigInteger, nullable=False),
    Column("archived_at", UtcTime, nullable=False),
    CheckConstraint('"end" > start', name="end_after_start"),
)

historical_depegs = Table(
    "historical_depegs",
    metadata,
    Column("id", Identity, primary_key=True),
    words("asset"),
    Column(
        "direction",
        key("direction").type,
        CheckConstraint("direction IN ('below', 'above')", name="direction_is_known"),
        nullable=False,
    ),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("recovered_at", UtcTime),
    number("min_price"),
    number("max_price"),
    number("severity"),
    Column("n_observations", BigInteger, nullable=False),
    Column("cut_by_gap", Boolean, nullable=False),
    words("source", optional=True),
    Column("confirmed", Boolean),
    words("local_to", optional=True),
    number("threshold"),
    number("recovery"),
    Column("min_duration", Duration, nullable=False),
    Column("max_gap", Duration),
    Column("merge_within", Duration, nullable=False),
    Column("sample_span", Duration, nullable=False),
    number("peg_reference"),
    CheckConstraint('"end" >= start', name="end_not_before_start"),
    CheckConstraint("min_duration >= 0 AND merge_within >= 0 AND sample_span >= 0", name="durations_not_negative"),
    *(between(name) for name in ("min_price", "max_price", "severity", "threshold", "recovery", "peg_reference")),
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
    key("source"),
    key("step"),
    key("window_days", Integer),
    key("as_of", UtcTime),
    key("asset"),
    Column("position", Integer, nullable=False),
    Column("observations", BigInteger, nullable=False),
)

asset_correlations = Table(
    "asset_correlations",
    metadata,
    key("source"),
    key("step"),
    key("window_days", Integer),
    key("as_of", UtcTime),
    key("asset_1"),
    key("asset_2"),
    number("correlation"),
    Column("observations", BigInteger, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("n_resamples", BigInteger),
    Column("block_length", BigInteger),
    Column("seed", BigInteger),
    CheckConstraint("asset_1 < asset_2", name="pair_is_ordered"),
    CheckConstraint("(low IS NULL) = (high IS NULL) AND low <= high", name="interval_is_ordered"),
    between("correlation", -1.0, 1.0),
    *(
        ForeignKeyConstraint(
            ["source", "step", "window_days", "as_of", asset],
            [correlation_assets.c[name] for name in ("source", "step", "window_days", "as_of", "asset")],
        )
        for asset in ("asset_1", "asset_2")
    ),
)

stress_scenarios = Table(
    "stress_scenarios",
    metadata,
    key("name"),
    Column("position", Integer, nullable=False),
    number("probability"),
    words("prices"),
    number("btc_change"),
    number("weight"),
    words("kind"),
    number("severity_multiplier"),
    number("correlation_shift"),
    number("volatility_multiplier"),
    number("liquidity_impact"),
    words("source"),
    Column("is_active", Boolean, nullable=False),
    between("probability", 0.0, 1.0),
    between("correlation_shift", -1.0, 1.0),
    between("weight", 0.0),
    *(between(name) for name in ("btc_change", "severity_multiplier", "liquidity_impact")),
    between("volatility_multiplier", 0.0),
)

scenario_events = Table(
    "scenario_events",
    metadata,
    key("scenario"),
    key("asset"),
    key("direction"),
    key("start", UtcTime),
    Column("end", UtcTime, nullable=False),
    words("source", optional=True),
    number("severity"),
    between("severity"),
    CheckConstraint("direction IN ('below', 'above')", name="direction_is_known"),
    CheckConstraint('"end" >= start', name="end_not_before_start"),
    ForeignKeyConstraint(["scenario"], [stress_scenarios.c.name]),
)

scenario_backtest_results = Table(
    "scenario_backtest_results",
    metadata,
    key("scenario"),
    key("source"),
    key("step"),
    key("vault_sha256"),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    number("predicted_loss"),
    number("actual_loss"),
    Column("evaluated_at", UtcTime, nullable=False),
    between("predicted_loss"),
    between("actual_loss"),
    CheckConstraint('"end" >= start', name="end_not_before_start"),
    ForeignKeyConstraint(["scenario"], [stress_scenarios.c.name]),
)

risk_reports = Table(
    "risk_reports",
    metadata,
    key("source"),
    key("step"),
    key("as_of", UtcTime),
    words("document"),
)

risk_snapshots = Table(
    "risk_snapshots",
    metadata,
    key("source"),
    key("step"),
    key("time", UtcTime),
    number("var_95"),
    number("capital"),
    number("coverage"),
    *(between(name) for name in ("var_95", "capital", "coverage")),
)

run_inputs = Table("run_inputs", metadata, key("content_hash"), words("document"))

alerts = Table(
    "alerts",
    metadata,
    key("source"),
    key("step"),
    key("as_of", UtcTime),
    key("key"),
    key("action"),
    Column("position", Integer, nullable=False),
    words("severity"),
    words("message"),
    CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity_is_known"),
    CheckConstraint("action IN ('trigger', 'resolve')", name="action_is_known"),
    ForeignKeyConstraint(
        ["source", "step", "as_of"], [risk_reports.c[name] for name in ("source", "step", "as_of")]
    ),
)
"""The outbox: what is to be said of the alerts of a report."""

alert_deliveries = Table(
    "alert_deliveries",
    metadata,
    key("source"),
    key("step"),
    key("as_of", UtcTime),
    key("key"),
    key("action"),
    key("sink"),
    Column("delivered_at", UtcTime, nullable=False),
    ForeignKeyConstraint(
        ["source", "step", "as_of", "key", "action"],
        [alerts.c[name] for name in ("source", "step", "as_of", "key", "action")],
    ),
)

etl_job_status = Table(
    "etl_job_status",
    metadata,
    key("job"),
    key("logical_date", UtcTime),
    words("status"),
    Column("attempts", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    words("host"),
    Column("forced", Boolean, nullable=False),
    Column("rows", BigInteger),
    words("message"),
    words("details"),
    CheckConstraint("status IN ('running', 'done', 'failed', 'interrupted', 'abandoned')", name="status_is_known"),
    CheckConstraint("(status = 'running') = (ended_at IS NULL)", name="ended_unless_running"),
    CheckConstraint("attempts >= 1", name="attempted"),
    CheckConstraint('"rows" >= 0', name="rows_are_counted"),
)

job_locks = Table(
    "job_locks",
    metadata,
    key("lock"),
    words("owner"),
    Column("expires_at", UtcTime, nullable=False),
)
"""Leases, on databases that have no lock of their own that ends with the process."""

staged_prices = Table(
    "staged_prices",
    MetaData(),
    words("asset"),
    Column("time", BigInteger, nullable=False),
    number("price"),
    prefixes=["TEMPORARY"],
)
"""Where one write gathers its prices before they are compared; seen by its own connection only."""

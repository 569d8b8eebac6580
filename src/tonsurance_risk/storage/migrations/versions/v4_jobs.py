"""Jobs, locks and alerts, what a scenario rests on and what became of it, and all views."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from tonsurance_risk.storage.migrations.versions.v2_first import MAX, TEXT

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add tables and views; views are made anew, as they are in this version."""
    from tonsurance_risk.storage.views import create_views, drop_views

    drop_views(op.get_bind())
    _scenarios()
    _backtests()
    _jobs()
    create_views(op.get_bind())


def _key(name: str, kind: Any = TEXT) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, nullable=False)


def _columns(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _between(column: str, low: str = f"-{MAX}") -> tuple[str, str]:
    return f"{column}_is_a_number", f'"{column}" >= {low} AND "{column}" <= {MAX}'


def _check(column: str) -> sa.CheckConstraint:
    name, check = _between(column)
    return sa.CheckConstraint(check, name=name)


def _scenarios() -> None:
    checks = [_between(name) for name in ("btc_change", "severity_multiplier", "liquidity_impact")]
    with op.batch_alter_table("stress_scenarios") as table:
        for name, check in [*checks, _between("volatility_multiplier", "0.0")]:
            table.create_check_constraint(name, check)
    op.create_table(
        "scenario_events",
        _key("scenario"),
        _key("asset"),
        _key("direction"),
        _key("start", sa.BigInteger),
        *_columns(sa.BigInteger, "end"),
        sa.Column("source", TEXT),
        *_columns(sa.Double, "severity"),
        _check("severity"),
        sa.CheckConstraint("direction IN ('below', 'above')", name="direction_is_known"),
        sa.CheckConstraint('"end" >= start', name="end_not_before_start"),
        sa.ForeignKeyConstraint(["scenario"], ["stress_scenarios.name"]),
    )


def _backtests() -> None:
    op.create_table(
        "scenario_backtest_results",
        *(_key(name) for name in ("scenario", "source", "step", "vault_sha256")),
        *_columns(sa.BigInteger, "start", "end"),
        *_columns(sa.Double, "predicted_loss", "actual_loss"),
        *_columns(sa.BigInteger, "evaluated_at"),
        _check("predicted_loss"),
        _check("actual_loss"),
        sa.CheckConstraint('"end" >= start', name="end_not_before_start"),
        sa.ForeignKeyConstraint(["scenario"], ["stress_scenarios.name"]),
    )


def _jobs() -> None:
    place = ("source", "step", "as_of")
    op.create_table(
        "alerts",
        _key("source"),
        _key("step"),
        _key("as_of", sa.BigInteger),
        _key("alert_sha256"),
        *_columns(sa.Integer, "position"),
        *_columns(TEXT, "severity", "category", "message", "document"),
        sa.Column("delivered_at", sa.BigInteger),
        sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity_is_known"),
        sa.ForeignKeyConstraint([*place], [f"risk_reports.{name}" for name in place]),
    )
    op.create_table(
        "etl_job_status",
        _key("job"),
        _key("logical_date", sa.BigInteger),
        *_columns(TEXT, "status"),
        *_columns(sa.Integer, "attempts"),
        *_columns(sa.BigInteger, "started_at"),
        sa.Column("ended_at", sa.BigInteger),
        *_columns(TEXT, "message"),
        sa.CheckConstraint("status IN ('running', 'done', 'failed')", name="status_is_known"),
        sa.CheckConstraint("(status = 'running') = (ended_at IS NULL)", name="ended_unless_running"),
        sa.CheckConstraint("attempts >= 1", name="attempted"),
    )
    op.create_table("job_locks", _key("lock"), *_columns(TEXT, "owner"), *_columns(sa.BigInteger, "expires_at"))

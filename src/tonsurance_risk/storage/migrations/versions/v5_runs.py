"""What a run did and where, and an outbox of what is to be said of alerts, for each receiver."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
STATUS = "status IN ('running', 'done', 'failed', 'interrupted', 'abandoned')"


def upgrade() -> None:
    """Make both tables anew; jobs are kept.

    The outbox began empty of receivers: nothing in it was ever sent, and all of it is in the reports.
    """
    _jobs()
    _alerts()


def _key(name: str, kind: Any = TEXT) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, nullable=False)


def _columns(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _jobs() -> None:
    kept = [dict(row) for row in op.get_bind().execute(sa.text("SELECT * FROM etl_job_status")).mappings()]
    op.drop_table("etl_job_status")
    table = op.create_table(
        "etl_job_status",
        _key("job"),
        _key("logical_date", sa.BigInteger),
        *_columns(TEXT, "status"),
        *_columns(sa.Integer, "attempts"),
        *_columns(sa.BigInteger, "started_at"),
        sa.Column("ended_at", sa.BigInteger),
        *_columns(TEXT, "host"),
        *_columns(sa.Boolean, "forced"),
        sa.Column("rows", sa.BigInteger),
        *_columns(TEXT, "message", "details"),
        sa.CheckConstraint(STATUS, name="status_is_known"),
        sa.CheckConstraint("(status = 'running') = (ended_at IS NULL)", name="ended_unless_running"),
        sa.CheckConstraint("attempts >= 1", name="attempted"),
        sa.CheckConstraint('"rows" >= 0', name="rows_are_counted"),
    )
    if kept:
        op.bulk_insert(table, [row | {"host": "", "forced": False, "rows": None, "details": "{}"} for row in kept])


def _alerts() -> None:
    place = ("source", "step", "as_of")
    which = (*place, "key", "action")
    op.drop_table("alerts")
    op.create_table(
        "alerts",
        _key("source"),
        _key("step"),
        _key("as_of", sa.BigInteger),
        _key("key"),
        _key("action"),
        *_columns(sa.Integer, "position"),
        *_columns(TEXT, "severity", "message"),
        sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity_is_known"),
        sa.CheckConstraint("action IN ('trigger', 'resolve')", name="action_is_known"),
        sa.ForeignKeyConstraint([*place], [f"risk_reports.{name}" for name in place]),
    )
    op.create_table(
        "alert_deliveries",
        _key("source"),
        _key("step"),
        _key("as_of", sa.BigInteger),
        _key("key"),
        _key("action"),
        _key("sink"),
        *_columns(sa.BigInteger, "delivered_at"),
        sa.ForeignKeyConstraint([*which], [f"alerts.{name}" for name in which]),
    )

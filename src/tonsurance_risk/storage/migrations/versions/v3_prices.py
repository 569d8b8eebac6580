"""What is known of a price beside itself, rejects, archives, and checks of events."""

from __future__ import annotations

import warnings

import sqlalchemy as sa
from alembic import op

from tonsurance_risk.storage.migrations.versions.v2_first import EVENT_KEY, MAX, TEXT

revision = "3"
down_revision = "2"

NUMBERS = ("min_price", "max_price", "severity", "threshold", "recovery", "peg_reference")


def upgrade() -> None:
    """Add columns and tables; SQLite adds a check to a table by copying it."""
    marks = {
        "quality": ("quality_is_a_number", '"quality" >= 0.0 AND "quality" <= 1.0'),
        "outlier": ("outlier_is_0_or_1", "outlier IN (0.0, 1.0)"),
        "volatility_1h": ("volatility_1h_is_a_number", f'"volatility_1h" >= 0.0 AND "volatility_1h" <= {MAX}'),
        "volume": ("volume_is_a_number", f'"volume" >= 0.0 AND "volume" <= {MAX}'),
    }
    kind = sa.Double().compile(op.get_context().dialect)
    for mark, (name, check) in marks.items():
        # Not op.add_column: on SQLite it leaves the check away.
        op.execute(f"ALTER TABLE price_history ADD COLUMN {mark} {kind} CONSTRAINT {name} CHECK ({check})")
    _rejects_and_archives()
    _checks_of_events()


def _rejects_and_archives() -> None:
    op.create_table(
        "rejects",
        *(sa.Column(name, TEXT, primary_key=True, nullable=False) for name in ("source", "step", "asset")),
        sa.Column("time", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("reason", TEXT, primary_key=True, nullable=False),
        sa.Column("raw", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "price_archives",
        *(sa.Column(name, TEXT, primary_key=True, nullable=False) for name in ("source", "step", "file")),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("n_rows", sa.BigInteger, nullable=False),
        sa.Column("archived_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint('"end" > start', name="end_after_start"),
    )


def _checks_of_events() -> None:
    checks = {f"{name}_is_a_number": f'"{name}" >= -{MAX} AND "{name}" <= {MAX}' for name in NUMBERS}
    checks["durations_not_negative"] = "min_duration >= 0 AND merge_within >= 0 AND sample_span >= 0"
    # The index is on expressions, which copying a table does not see.
    op.drop_index("historical_depegs_key", "historical_depegs")
    with warnings.catch_warnings():
        # Copying a table leaves out the check that had no name; here it gets one.
        warnings.filterwarnings("ignore", "Unnamed CHECK constraint")
        with op.batch_alter_table("historical_depegs") as table:
            for name, check in checks.items():
                table.create_check_constraint(name, check)
            if op.get_context().dialect.name == "sqlite":
                table.create_check_constraint("direction_is_known", "direction IN ('below', 'above')")
    op.create_index(
        "historical_depegs_key",
        "historical_depegs",
        EVENT_KEY,
        unique=True,
    )

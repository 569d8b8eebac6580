"""The tables that version 2 had, and the view of the latest correlations."""

from __future__ import annotations

import sys
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MAX = repr(sys.float_info.max)


def upgrade() -> None:
    """Create them."""
    _prices()
    _events()
    _correlations()
    _results()


def _key(name: str, kind: Any = TEXT) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, nullable=False)


def _columns(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _place() -> list[sa.Column[Any]]:
    return [_key("source"), _key("step")]


def _positive() -> sa.CheckConstraint:
    return sa.CheckConstraint(f"price > 0 AND price <= {MAX}", name="price_is_positive")


def _between(column: str, low: str, high: str = MAX) -> sa.CheckConstraint:
    return sa.CheckConstraint(f'"{column}" >= {low} AND "{column}" <= {high}', name=f"{column}_is_a_number")


def _prices() -> None:
    op.create_table(
        "price_history",
        _key("asset"),
        *_place(),
        _key("time", sa.BigInteger),
        *_columns(sa.Double, "price"),
        *_columns(sa.BigInteger, "recorded_at"),
        _positive(),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "price_revision",
        sa.Column("id", ID, primary_key=True),
        *_columns(TEXT, "asset", "source", "step"),
        *_columns(sa.BigInteger, "time"),
        *_columns(sa.Double, "price"),
        *_columns(sa.BigInteger, "recorded_at", "replaced_at"),
        _positive(),
        sa.CheckConstraint("replaced_at >= recorded_at", name="replaced_after_recorded"),
    )
    op.create_index("price_revision_by_price", "price_revision", ["asset", "source", "step", "time"])


def _events() -> None:
    op.create_table(
        "historical_depegs",
        sa.Column("id", ID, primary_key=True),
        *_columns(TEXT, "asset"),
        sa.Column("direction", TEXT, sa.CheckConstraint(DIRECTION, name=_direction_name()), nullable=False),
        *_columns(sa.BigInteger, "start", "end"),
        sa.Column("recovered_at", sa.BigInteger),
        *_columns(sa.Double, "min_price", "max_price", "severity"),
        *_columns(sa.BigInteger, "n_observations"),
        *_columns(sa.Boolean, "cut_by_gap"),
        sa.Column("source", TEXT),
        sa.Column("confirmed", sa.Boolean),
        sa.Column("local_to", TEXT),
        *_columns(sa.Double, "threshold", "recovery"),
        *_columns(sa.BigInteger, "min_duration"),
        sa.Column("max_gap", sa.BigInteger),
        *_columns(sa.BigInteger, "merge_within", "sample_span"),
        *_columns(sa.Double, "peg_reference"),
        sa.CheckConstraint('"end" >= start', name="end_not_before_start"),
    )
    op.create_index("historical_depegs_key", "historical_depegs", EVENT_KEY, unique=True)


DIRECTION = "direction IN ('below', 'above')"


def _direction_name() -> str | None:
    """Return None on SQLite: version 2 came out there only, and had not named it."""
    return None if op.get_context().dialect.name == "sqlite" else "direction_is_known"


EVENT_KEY: list[Any] = [
    "asset",
    "direction",
    sa.text("coalesce(source, '')"),
    "threshold",
    "recovery",
    "min_duration",
    sa.text("coalesce(max_gap, -1)"),
    "merge_within",
    "sample_span",
    "start",
]


def _correlations() -> None:
    matrix = ("source", "step", "window_days", "as_of")
    op.create_table(
        "correlation_assets",
        *_place(),
        _key("window_days", sa.Integer),
        _key("as_of", sa.BigInteger),
        _key("asset"),
        *_columns(sa.Integer, "position"),
        *_columns(sa.BigInteger, "observations"),
    )
    op.create_table(
        "asset_correlations",
        *_place(),
        _key("window_days", sa.Integer),
        _key("as_of", sa.BigInteger),
        _key("asset_1"),
        _key("asset_2"),
        *_columns(sa.Double, "correlation"),
        *_columns(sa.BigInteger, "observations"),
        *_columns(sa.Boolean, "is_default"),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        *(sa.Column(name, sa.BigInteger) for name in ("n_resamples", "block_length", "seed")),
        sa.CheckConstraint("asset_1 < asset_2", name="pair_is_ordered"),
        sa.CheckConstraint("(low IS NULL) = (high IS NULL) AND low <= high", name="interval_is_ordered"),
        _between("correlation", "-1.0", "1.0"),
        *(
            sa.ForeignKeyConstraint(
                [*matrix, asset], [f"correlation_assets.{name}" for name in (*matrix, "asset")]
            )
            for asset in ("asset_1", "asset_2")
        ),
    )
    op.execute(
        "CREATE VIEW latest_correlations AS SELECT pairs.* FROM asset_correlations AS pairs JOIN ("
        "SELECT source, step, window_days, MAX(as_of) AS as_of "
        "FROM asset_correlations GROUP BY source, step, window_days) AS newest "
        "ON pairs.source = newest.source AND pairs.step = newest.step "
        "AND pairs.window_days = newest.window_days AND pairs.as_of = newest.as_of"
    )


def _results() -> None:
    op.create_table(
        "stress_scenarios",
        _key("name"),
        *_columns(sa.Integer, "position"),
        *_columns(sa.Double, "probability"),
        *_columns(TEXT, "prices"),
        *_columns(sa.Double, "btc_change", "weight"),
        *_columns(TEXT, "kind"),
        *_columns(
            sa.Double, "severity_multiplier", "correlation_shift", "volatility_multiplier", "liquidity_impact"
        ),
        *_columns(TEXT, "source"),
        *_columns(sa.Boolean, "is_active"),
        _between("probability", "0.0", "1.0"),
        _between("correlation_shift", "-1.0", "1.0"),
        _between("weight", "0.0"),
    )
    op.create_table("risk_reports", *_place(), _key("as_of", sa.BigInteger), *_columns(TEXT, "document"))
    op.create_table(
        "risk_snapshots",
        *_place(),
        _key("time", sa.BigInteger),
        *_columns(sa.Double, "var_95", "capital", "coverage"),
        *(_between(name, f"-{MAX}") for name in ("var_95", "capital", "coverage")),
    )
    op.create_table("run_inputs", _key("content_hash"), *_columns(TEXT, "document"))

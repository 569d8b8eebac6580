"""TimescaleDB, where the server has it: `price_history` in chunks of time, old chunks compressed.

Retention is not left to the extension: its policy drops chunks whether they were archived or not. Archive old
prices with ``tonsurance-risk db archive``, which deletes what it has written and read again.
"""

from __future__ import annotations

import attrs
from sqlalchemy import Connection, text

_DAY = 86_400_000_000
CHUNK = 90 * _DAY
"""Microseconds of a chunk: 14 coins hourly are some 30,000 rows of it, and few chunks plan fast."""
COMPRESS_AFTER = 2 * CHUNK


@attrs.frozen
class Timescale:
    """What the extension is and does here."""

    version: str
    license: str
    """``timescale``, or ``apache``, the edition that compresses nothing."""
    is_hypertable: bool


def timescale(connection: Connection) -> Timescale | None:
    """Return the state of the extension; None where the database does not have it."""
    if connection.dialect.name != "postgresql":
        return None
    version = connection.execute(
        text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    ).scalar_one_or_none()
    if version is None:
        return None
    license_ = connection.execute(text("SELECT current_setting('timescaledb.license', true)")).scalar_one()
    is_hypertable = connection.execute(
        text(
            "SELECT count(*) FROM timescaledb_information.hypertables "
            "WHERE hypertable_schema = current_schema() AND hypertable_name = 'price_history'"
        )
    ).scalar_one()
    return Timescale(version, license_ or "apache", bool(is_hypertable))


def use_timescale(connection: Connection) -> None:
    """Make `price_history` a hypertable, compressed where the edition can; nothing without the extension."""
    found = timescale(connection)
    if found is None or found.is_hypertable:
        return
    # The old form of the call is in every version; rows that are there already move into chunks.
    connection.execute(
        text(
            f"SELECT create_hypertable('price_history', 'time', chunk_time_interval => {CHUNK}::bigint, "
            "create_default_indexes => false, migrate_data => true)"
        )
    )
    if found.license != "timescale":
        return
    connection.execute(
        text(
            "CREATE OR REPLACE FUNCTION tonsurance_now() RETURNS bigint LANGUAGE sql STABLE AS "
            "$$ SELECT (extract(epoch FROM now()) * 1000000)::bigint $$"
        )
    )
    for statement in (
        "SELECT set_integer_now_func('price_history', 'tonsurance_now')",
        "ALTER TABLE price_history SET (timescaledb.compress, "
        "timescaledb.compress_segmentby = 'asset, source, step', timescaledb.compress_orderby = 'time')",
        f"SELECT add_compression_policy('price_history', {COMPRESS_AFTER}::bigint)",
    ):
        connection.execute(text(statement))

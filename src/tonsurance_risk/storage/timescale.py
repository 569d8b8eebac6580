"""TimescaleDB, where the server has it: `price_history` in chunks of time, old chunks compressed.

The functions of the edition that compresses are there in the other one too, and fail when they are called: the
setting ``timescaledb.license`` tells which it is. Retention is not left to the extension: its policy drops chunks
whether they were archived or not. Archive old prices with ``tonsurance-risk db archive``, which deletes what it
has written and read again.
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
    chunk_days: float | None
    """Of the chunks to come; a hypertable that was there before keeps its own."""
    compressed_after_days: float | None
    """The age of the chunks that are compressed; None where none are."""


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
    found = connection.execute(
        text(
            "SELECT by_time.integer_interval, (policy.config ->> 'compress_after')::bigint "
            "FROM timescaledb_information.dimensions AS by_time "
            "LEFT JOIN timescaledb_information.jobs AS policy "
            "ON policy.hypertable_schema = by_time.hypertable_schema "
            "AND policy.hypertable_name = by_time.hypertable_name AND policy.proc_name = 'policy_compression' "
            "WHERE by_time.hypertable_schema = current_schema() AND by_time.hypertable_name = 'price_history' "
            "AND by_time.dimension_number = 1"
        )
    ).one_or_none()
    chunk, compress_after = found or (None, None)
    return Timescale(version, license_ or "apache", found is not None, _days(chunk), _days(compress_after))


def _days(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / _DAY


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

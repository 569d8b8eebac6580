"""The views of a store: plain SQL that both databases read alike. Times are microseconds, see `columns`."""

from __future__ import annotations

from sqlalchemy import Connection, text

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR

VIEWS = {
    # The newest matrix of each source, step and window.
    "latest_correlations": """
        SELECT pairs.* FROM asset_correlations AS pairs
        JOIN (
            SELECT source, step, window_days, MAX(as_of) AS as_of
            FROM asset_correlations GROUP BY source, step, window_days
        ) AS newest
        ON pairs.source = newest.source AND pairs.step = newest.step AND pairs.window_days = newest.window_days
        AND pairs.as_of = newest.as_of
    """,
    # Levels as `risk_level` has them; BTC is no coin that could be contagious.
    "contagion_risk": """
        SELECT source, step, window_days, as_of, asset_1, asset_2, correlation, observations,
            CASE WHEN correlation >= 0.9 THEN 'CRITICAL' ELSE 'HIGH' END AS risk_level
        FROM latest_correlations
        WHERE NOT is_default AND correlation >= 0.8 AND asset_1 <> 'BTC' AND asset_2 <> 'BTC'
    """,
    "depeg_statistics": f"""
        SELECT asset, direction, source, COUNT(*) AS n_events,
            SUM(CASE WHEN recovered_at IS NULL AND NOT cut_by_gap THEN 1 ELSE 0 END) AS n_open,
            SUM(CASE WHEN confirmed THEN 1 ELSE 0 END) AS n_confirmed,
            MIN(start) AS first_start, MAX(start) AS last_start,
            AVG(severity) AS mean_severity, MAX(severity) AS max_severity,
            AVG(CAST("end" - start + sample_span AS DOUBLE PRECISION) / {_HOUR}) AS mean_hours,
            MAX(CAST("end" - start + sample_span AS DOUBLE PRECISION) / {_HOUR}) AS max_hours,
            AVG(CAST(recovered_at - start AS DOUBLE PRECISION) / {_HOUR}) AS mean_recovery_hours
        FROM historical_depegs GROUP BY asset, direction, source
    """,
    "active_scenarios": """
        SELECT name, kind, probability, weight, btc_change, prices, source, position
        FROM stress_scenarios WHERE is_active AND probability * weight > 0
    """,
    # A day begins at 00:00 UTC; the second remainder is for times before 1970.
    "daily_price_stats": f"""
        SELECT asset, source, step, "time" - (("time" % {_DAY}) + {_DAY}) % {_DAY} AS day, COUNT(*) AS n_prices,
            MIN(price) AS low, MAX(price) AS high, AVG(price) AS mean,
            SUM(volume) AS volume, SUM(outlier) AS n_outliers
        FROM price_history
        GROUP BY asset, source, step, "time" - (("time" % {_DAY}) + {_DAY}) % {_DAY}
    """,
    # Recent: in the seven days up to the newest price of the same source and step.
    "recent_price_anomalies": f"""
        SELECT prices.asset, prices.source, prices.step, prices."time", prices.price, prices.quality,
            prices.outlier
        FROM price_history AS prices
        JOIN (
            SELECT source, step, MAX("time") AS newest FROM price_history GROUP BY source, step
        ) AS latest
        ON prices.source = latest.source AND prices.step = latest.step
        WHERE prices."time" > latest.newest - {7 * _DAY} AND (prices.outlier = 1 OR prices.quality < 1)
    """,
}
"""SELECT by name, each after those that it reads."""


def create_views(connection: Connection) -> None:
    """Create every view."""
    for name, query in VIEWS.items():
        connection.execute(text(f"CREATE VIEW {name} AS {query}"))


def drop_views(connection: Connection) -> None:
    """Drop every view that is there: a table that a view reads cannot be changed."""
    for name in reversed(VIEWS):
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))

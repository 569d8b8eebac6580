"""A store in an SQL database: its parts together."""

from __future__ import annotations

from tonsurance_risk.storage.sql_archives import SqlArchives
from tonsurance_risk.storage.sql_jobs import SqlJobs
from tonsurance_risk.storage.sql_prices import SqlPrices
from tonsurance_risk.storage.sql_results import SqlResults


class SqlStore(SqlPrices, SqlResults, SqlJobs, SqlArchives):
    """A `Store` in an SQLite file or a PostgreSQL database; `open_store` makes one.

    Parameters are those of `SqlPart`.
    """

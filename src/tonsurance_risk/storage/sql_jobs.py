"""The ledger of jobs, their locks, and the outbox of alerts in an SQL database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, delete, insert, select

from tonsurance_risk.ports import JobEnd, JobLock, JobStatus, StoredAlert
from tonsurance_risk.storage.instants import now
from tonsurance_risk.storage.job_rows import ALERT_KEY, alert_of, begun_row, ended_row, job_key, job_of, outdated
from tonsurance_risk.storage.records import Row, only_text, storable
from tonsurance_risk.storage.schema import alert_deliveries, etl_job_status
from tonsurance_risk.storage.schema import alerts as alert_table
from tonsurance_risk.storage.sql_part import SqlPart, equal, inside, put


class SqlJobs(SqlPart):
    """A `Ledger` and an `Outbox` in an SQL database."""

    def begin_job(self, job: str, logical_date: datetime, *, host: str = "", forced: bool = False) -> JobStatus:
        """Write down that a job begins; see `Ledger.begin_job`."""
        key = job_key(job, logical_date)

        def work(connection: Connection) -> JobStatus:
            row = begun_row(key, _job(connection, key), now(self._clock), host, forced)
            put(connection, etl_job_status, [row])
            return job_of(row)

        return self._write(work)

    def end_job(
        self,
        job: str,
        logical_date: datetime,
        *,
        status: JobEnd = "done",
        rows: int | None = None,
        message: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> JobStatus:
        """Write down how a job ended; see `Ledger.end_job`."""
        key = job_key(job, logical_date)
        said: dict[str, Any] = {"status": status, "rows": rows, "message": message, "details": details}
        return self._write(lambda connection: put_end(connection, key, now(self._clock), **said))

    def load_jobs(
        self, job: str | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[JobStatus]:
        """Return jobs; see `Ledger.load_jobs`."""
        jobs = etl_job_status.c
        found = select(etl_job_status).where(*inside(jobs.logical_date, start, end))
        if only_text(job, "job") is not None:
            found = found.where(jobs.job == job)
        return [job_of(row) for row in self._rows(found.order_by(jobs.logical_date, jobs.job))]

    @contextmanager
    def lock(self, job: str, logical_date: datetime) -> Iterator[JobLock]:
        """Hold a lock; see `Ledger.lock`."""
        self._refuse_closed()
        key = job_key(job, logical_date)
        with self.database.lock(f"{key['job']} of {key['logical_date'].isoformat()}") as lock:
            yield lock

    def load_alerts(self, *, waiting_for: str | None = None) -> list[StoredAlert]:
        """Return alerts; see `Outbox.load_alerts`."""
        columns = alert_table.c
        found = select(alert_table).order_by(columns.as_of, columns.source, columns.step, columns.position)
        if only_text(waiting_for, "waiting_for") is not None:
            got = select(alert_deliveries).where(
                alert_deliveries.c.sink == waiting_for,
                *(alert_deliveries.c[name] == columns[name] for name in ALERT_KEY),
            )
            found = found.where(~got.exists())
        return [alert_of(row) for row in self._rows(found)]

    def mark_delivered(self, alerts: Iterable[StoredAlert], *, sink: str) -> int:
        """Write down that a sink got alerts; see `Outbox.mark_delivered`."""
        to = {"sink": storable(sink, "sink")}
        given = dict.fromkeys(tuple(getattr(alert, name) for name in ALERT_KEY) for alert in alerts)
        keys = [dict(zip(ALERT_KEY, key, strict=True)) for key in given]

        def work(connection: Connection) -> int:
            time = now(self._clock)
            rows = [
                key | to | {"delivered_at": time}
                for key in keys
                if connection.execute(select(alert_table.c.key).where(*equal(alert_table, key))).first()
                and not connection.execute(
                    select(alert_deliveries.c.key).where(*equal(alert_deliveries, key | to))
                ).first()
            ]
            if rows:
                connection.execute(insert(alert_deliveries), rows)
            return len(rows)

        return self._write(work)


def put_alerts(connection: Connection, report: Mapping[str, Any], given: Iterable[Row]) -> None:
    """Put what a report says into the outbox; see `outdated` for what goes, other rows stay."""
    place = {name: report[name] for name in ("source", "step", "as_of")}
    there = connection.execute(select(alert_table).where(*equal(alert_table, place))).mappings().all()
    deliveries = connection.execute(select(alert_deliveries).where(*equal(alert_deliveries, place))).mappings()
    delivered = {(row["key"], row["action"]) for row in deliveries}
    rows = list(given)
    gone = outdated(there, delivered, rows)
    for key, action in gone:
        which = place | {"key": key, "action": action}
        connection.execute(delete(alert_deliveries).where(*equal(alert_deliveries, which)))
        connection.execute(delete(alert_table).where(*equal(alert_table, which)))
    kept = {(row["key"], row["action"]) for row in there} - gone
    new = [row for row in rows if (row["key"], row["action"]) not in kept]
    if new:
        connection.execute(insert(alert_table), new)


def put_end(connection: Connection, key: Row, time: pd.Timestamp, **said: Any) -> JobStatus:
    """Write down how a job ended, see `ended_row`."""
    row = ended_row(key, _job(connection, key), time, **said)
    put(connection, etl_job_status, [row])
    return job_of(row)


def _job(connection: Connection, key: Mapping[str, Any]) -> Any:
    return connection.execute(select(etl_job_status).where(*equal(etl_job_status, key))).mappings().one_or_none()

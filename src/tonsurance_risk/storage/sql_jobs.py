"""The ledger of jobs, their locks, and the outbox of alerts in an SQL database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, delete, insert, select, update

from tonsurance_risk.ports import JobLock, JobStatus, StoredAlert
from tonsurance_risk.storage.instants import now
from tonsurance_risk.storage.job_rows import alert_of, begun_row, ended_row, job_key, job_of
from tonsurance_risk.storage.records import Row, only_text
from tonsurance_risk.storage.schema import alerts as alert_table
from tonsurance_risk.storage.schema import etl_job_status
from tonsurance_risk.storage.sql_part import SqlPart, equal, inside, put


class SqlJobs(SqlPart):
    """A `Ledger` and an `Outbox` in an SQL database."""

    def begin_job(self, job: str, logical_date: datetime) -> JobStatus:
        """Write down that a job begins; see `Ledger.begin_job`."""
        key = job_key(job, logical_date)

        def work(connection: Connection) -> JobStatus:
            row = begun_row(key, _job(connection, key), now(self._clock))
            put(connection, etl_job_status, [row])
            return job_of(row)

        return self._write(work)

    def end_job(self, job: str, logical_date: datetime, *, error: str | None = None) -> JobStatus:
        """Write down that a job ended; see `Ledger.end_job`."""
        key = job_key(job, logical_date)
        return self._write(lambda connection: put_end(connection, key, now(self._clock), error))

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

    def load_alerts(self, *, delivered: bool | None = None) -> list[StoredAlert]:
        """Return alerts; see `Outbox.load_alerts`."""
        columns = alert_table.c
        found = select(alert_table).order_by(columns.as_of, columns.source, columns.step, columns.position)
        if delivered is not None:
            found = found.where(columns.delivered_at.is_not(None) if delivered else columns.delivered_at.is_(None))
        return [alert_of(row) for row in self._rows(found)]

    def mark_delivered(self, alerts: Iterable[StoredAlert]) -> int:
        """Write down that alerts were delivered; see `Outbox.mark_delivered`."""
        keys = [{name: getattr(alert, name) for name in _ALERT_KEY} for alert in alerts]

        def work(connection: Connection) -> int:
            time, delivered = now(self._clock), 0
            for key in keys:
                waiting = (*equal(alert_table, key), alert_table.c.delivered_at.is_(None))
                delivered += connection.execute(
                    update(alert_table).values(delivered_at=time).where(*waiting)
                ).rowcount
            return delivered

        return self._write(work)


_ALERT_KEY = ("source", "step", "as_of", "alert_sha256")


def put_alerts(connection: Connection, report: Mapping[str, Any], given: Iterable[Row]) -> None:
    """Put the alerts of a report into the outbox; those delivered stay, others that it no longer has go."""
    of_report = equal(alert_table, {name: report[name] for name in ("source", "step", "as_of")})
    connection.execute(delete(alert_table).where(*of_report, alert_table.c.delivered_at.is_(None)))
    delivered = set(connection.scalars(select(alert_table.c.alert_sha256).where(*of_report)))
    waiting = [row for row in given if row["alert_sha256"] not in delivered]
    if waiting:
        connection.execute(insert(alert_table), waiting)


def put_end(connection: Connection, key: Row, time: pd.Timestamp, error: str | None = None) -> JobStatus:
    """Write down that a job ended."""
    row = ended_row(key, _job(connection, key), time, error)
    put(connection, etl_job_status, [row])
    return job_of(row)


def _job(connection: Connection, key: Mapping[str, Any]) -> Any:
    return connection.execute(select(etl_job_status).where(*equal(etl_job_status, key))).mappings().one_or_none()

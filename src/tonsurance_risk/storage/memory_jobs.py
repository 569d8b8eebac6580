"""The ledger of jobs, their locks, and the outbox of alerts in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import attrs

from tonsurance_risk.errors import LockHeldError, LockLostError
from tonsurance_risk.ports import Clock, JobEnd, JobLock, JobStatus, StoredAlert
from tonsurance_risk.storage.instants import interval, now
from tonsurance_risk.storage.job_rows import ALERT_KEY, alert_of, begun_row, ended_row, job_key, job_of, outdated
from tonsurance_risk.storage.lifetime import OpenStore
from tonsurance_risk.storage.memory_rows import Key, inside
from tonsurance_risk.storage.records import Row, only_text, storable


class MemoryJobs(OpenStore):
    """A `Ledger` and an `Outbox` in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[Key, Row] = {}
        self._alerts: dict[Key, Row] = {}
        self._deliveries: dict[Key, set[str]] = {}
        self._locks: set[Key] = set()

    def begin_job(self, job: str, logical_date: datetime, *, host: str = "", forced: bool = False) -> JobStatus:
        """Write down that a job begins; see `Ledger.begin_job`."""
        self._refuse_closed()
        key = job_key(job, logical_date)
        place = tuple(key.values())
        self._jobs[place] = begun_row(key, self._jobs.get(place), now(self._clock), host, forced)
        return job_of(self._jobs[place])

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
        self._refuse_closed()
        row = self._ended(job, logical_date, status=status, rows=rows, message=message, details=details)
        self._jobs[row["job"], row["logical_date"]] = row
        return job_of(row)

    def _ended(self, job: str, logical_date: datetime, **said: Any) -> Row:
        key = job_key(job, logical_date)
        return ended_row(key, self._jobs.get(tuple(key.values())), now(self._clock), **said)

    def load_jobs(
        self, job: str | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[JobStatus]:
        """Return jobs; see `Ledger.load_jobs`."""
        self._refuse_closed()
        only_text(job, "job")
        low, high = interval(start, end)
        found = [
            job_of(row)
            for row in self._jobs.values()
            if job in (None, row["job"]) and inside(row["logical_date"], low, high)
        ]
        return sorted(found, key=lambda status: (status.logical_date, status.job))

    @contextmanager
    def lock(self, job: str, logical_date: datetime) -> Iterator[JobLock]:
        """Hold a lock; see `Ledger.lock`."""
        self._refuse_closed()
        key = tuple(job_key(job, logical_date).values())
        if key in self._locks:
            raise LockHeldError(f"another run has {key[0]} of {key[1].isoformat()}; wait until it ends")
        self._locks.add(key)
        try:
            yield MemoryLock(self._locks, key)
        finally:
            self._locks.discard(key)

    def load_alerts(self, *, waiting_for: str | None = None) -> list[StoredAlert]:
        """Return alerts; see `Outbox.load_alerts`."""
        self._refuse_closed()
        only_text(waiting_for, "waiting_for")
        found = [row for key, row in self._alerts.items() if waiting_for not in self._deliveries.get(key, ())]
        ordered = sorted(found, key=lambda row: (row["as_of"], row["source"], row["step"], row["position"]))
        return [alert_of(row) for row in ordered]

    def mark_delivered(self, alerts: Iterable[StoredAlert], *, sink: str) -> int:
        """Write down that a sink got alerts; see `Outbox.mark_delivered`."""
        self._refuse_closed()
        storable(sink, "sink")
        new = [
            key
            for key in dict.fromkeys(tuple(getattr(alert, name) for name in ALERT_KEY) for alert in alerts)
            if key in self._alerts and sink not in self._deliveries.get(key, ())
        ]
        for key in new:
            self._deliveries.setdefault(key, set()).add(sink)
        return len(new)

    def _put_alerts(self, report: Mapping[str, Any], given: Iterable[Row]) -> None:
        """Put what a report says into the outbox; see `outdated` for what goes, other rows stay."""
        place = (report["source"], report["step"], report["as_of"])
        there = [row for key, row in self._alerts.items() if key[:3] == place]
        delivered = {(key[3], key[4]) for key in self._deliveries if key[:3] == place}
        rows = list(given)
        for which in outdated(there, delivered, rows):
            del self._alerts[(*place, *which)]
            self._deliveries.pop((*place, *which), None)
        for row in rows:
            self._alerts.setdefault(tuple(row[name] for name in ALERT_KEY), row)


@attrs.frozen
class MemoryLock:
    """A lock within one process."""

    held: set[Key]
    key: Key

    def verify(self) -> None:
        """Raise a `LockLostError` if the lock is given back; see `JobLock.verify`."""
        if self.key not in self.held:
            raise LockLostError(f"the lock of {self.key[0]} of {self.key[1].isoformat()} is given back")

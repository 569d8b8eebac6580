"""How jobs are doing, read off the ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.ports import JobStatus
from tonsurance_risk.runner.desk import Desk
from tonsurance_risk.runner.jobs import Job


@attrs.frozen(kw_only=True)
class JobHealth:
    """How a job of one source and step is doing.

    Parameters
    ----------
    job, source, step : str
    last_date : Timestamp or None
        The newest date that is done; None where there is none.
    age : timedelta or None
        Since `last_date`: a date that was made good late is as old as its prices.
    last_status : str
        Of the newest date in the ledger.
    message : str
        Of that run.
    """

    job: str
    source: str
    step: str
    last_date: pd.Timestamp | None
    age: timedelta | None
    last_status: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON types."""
        return {
            "job": self.job,
            "source": self.source,
            "step": self.step,
            "last_date": None if self.last_date is None else self.last_date.date().isoformat(),
            "age_hours": None if self.age is None else self.age / timedelta(hours=1),
            "last_status": self.last_status,
            "message": self.message,
        }


def job_health(rows: Iterable[JobStatus], jobs: Sequence[Job[Desk]], now: pd.Timestamp) -> list[JobHealth]:
    """Return how each job is doing that is in the ledger, in the order of the jobs, then by source and step."""
    by_name: dict[str, list[JobStatus]] = {}
    for row in rows:
        by_name.setdefault(row.job, []).append(row)
    found = []
    for job in jobs:
        for name in sorted(name for name in by_name if name.startswith(f"{job.name} ")):
            source, _, step = name.removeprefix(f"{job.name} ").rpartition(" ")
            newest = max(by_name[name], key=lambda row: row.logical_date)
            # What a clock that was ahead did is no success before its time.
            done = [row for row in by_name[name] if row.status == "done" and row.logical_date <= now]
            last_date = max((row.logical_date for row in done), default=None)
            found.append(
                JobHealth(
                    job=job.name,
                    source=source,
                    step=step,
                    last_date=last_date,
                    age=None if last_date is None else now - last_date,
                    last_status=newest.status,
                    message=newest.message,
                )
            )
    return found

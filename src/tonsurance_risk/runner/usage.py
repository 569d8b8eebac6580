"""What runs asked of their source, read off the ledger, and what is left of the month's credits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.ports import CreditedSource, JobEnd, JobStatus, Ledger, PriceSource, SourceUsage, WriteResult

USAGE = "source_usage"
WRITTEN = "rows_written"
ENDS = "ends"
"""Under these names the details of a run hold a `SourceUsage`, rows by table and kind, and its ends by kind."""


def rows_written(**tables: WriteResult) -> dict[str, dict[str, dict[str, int]]]:
    """Return what the details of a run say of the rows that it wrote, by table and kind."""
    kinds = ("new", "changed", "rejected")
    return {WRITTEN: {table: {kind: getattr(result, kind) for kind in kinds} for table, result in tables.items()}}


def counted(
    before: Mapping[str, Any], details: Mapping[str, Any], used: SourceUsage, ended: JobEnd
) -> dict[str, Any]:
    """Return details of a run in which figures of all attempts at its date are summed.

    Parameters
    ----------
    before : mapping
        Details of the attempts before.
    details : mapping
        What this one found.
    used : SourceUsage
        What it asked for.
    ended : {"done", "failed", "interrupted", "abandoned"}
    """
    tables = {table: Counter(kinds) for table, kinds in before.get(WRITTEN, {}).items()}
    for table, kinds in details.get(WRITTEN, {}).items():
        tables.setdefault(table, Counter()).update(kinds)
    ends = Counter(before.get(ENDS, {}))
    ends[ended] += 1
    usage = attrs.evolve(SourceUsage(**before.get(USAGE, {})) + used, circuit_open=used.circuit_open)
    return {
        **details,
        WRITTEN: {table: dict(kinds) for table, kinds in tables.items()},
        ENDS: dict(ends),
        USAGE: attrs.asdict(usage),
    }


def usage_in(row: JobStatus) -> SourceUsage:
    """Return what all attempts at a date asked of the source."""
    return SourceUsage(**row.details.get(USAGE, {}))


def source_of(row: JobStatus) -> str:
    """Return the source of a run: a job is called ``JOB SOURCE STEP`` in the ledger."""
    return row.job.partition(" ")[2].rpartition(" ")[0]


def month_credits(rows: Iterable[JobStatus], source: str, now: pd.Timestamp) -> int:
    """Return the credits that runs of this UTC month used of a source.

    Attempts at one date count where the last of them began.
    """
    month = now.normalize().replace(day=1)
    return sum(usage_in(row).credits for row in rows if source_of(row) == source and row.started_at >= month)


def limit_credits(
    ledger: Ledger, source: PriceSource, now: pd.Timestamp, *, kept_for: Collection[str] = ()
) -> None:
    """Tell a source what is left of the month, less a call a day for each asset of `kept_for`.

    Of another process at work at the same time nothing is known: it is counted when it ends.
    """
    if isinstance(source, CreditedSource) and source.monthly_credits is not None:
        next_month = now.normalize().replace(day=1) + pd.DateOffset(months=1)
        days = (next_month - now.normalize()) // timedelta(days=1)
        used = month_credits(ledger.load_jobs(), source.name, now)
        source.limit_credits(used=used, reserve=len(kept_for) * days)

"""Figures for Prometheus, computed from the store: whatever process did the work, and after a restart too.

Needs the extra `metrics`. What runs asked of their sources and wrote is summed over the ledger, all attempts at a
date together; a run that was killed had no time to say.

References
----------
Prometheus, "Metric and label naming" and "Instrumentation", documentation, 2026: prefix, base units, ``_total``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from tonsurance_risk.assets import STABLECOINS
from tonsurance_risk.errors import SettingsError, StorageError
from tonsurance_risk.model import BTC
from tonsurance_risk.ports import JobStatus, SourceUsage, Store
from tonsurance_risk.reporting.files import replace_file, writable_folder
from tonsurance_risk.runner.gaps import NOT_THERE
from tonsurance_risk.runner.usage import ENDS, USAGE, WRITTEN, month_credits, source_of, usage_in
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import as_utc
from tonsurance_risk.version import __version__

_RECENT = timedelta(days=8)
"""Where nearly every newest price is; a whole history is read for assets alone that have none there."""


def metrics_text(store: Store, *, now: datetime, sinks: Iterable[str] = ()) -> bytes:
    r"""Return the metrics in the text format of Prometheus.

    Parameters
    ----------
    store : Store
        Read, never written.
    now : datetime
        Ages are counted from it.
    sinks : iterable of str
        Names of those whose waiting alerts are counted.

    Returns
    -------
    bytes
        ``tonsurance_job_last_success_timestamp_seconds{job}``, ``tonsurance_job_duration_seconds{job}`` of the run
        that ended last, ``tonsurance_job_runs_total{job,outcome}``, ``tonsurance_alerts_waiting{sink}``,
        ``tonsurance_rows_written_total{table,kind}``, ``tonsurance_http_requests_total{source,status_class}``,
        ``tonsurance_http_retry_wait_seconds_total{source}``, ``tonsurance_source_circuit_open{source}`` as the
        last run left it, ``tonsurance_source_month_credits{source}``,
        ``tonsurance_quality_failures_total{check}`` of samples that were rejected,
        ``tonsurance_data_age_seconds{asset,source,step}`` and ``tonsurance_build_info{version}``.

    Raises
    ------
    SettingsError
        If prometheus-client is not installed.
    StorageError
        If the store cannot be read.

    Examples
    --------
    >>> from tonsurance_risk.storage import open_store
    >>> with open_store("memory://") as store:
    ...     status = store.begin_job("daily", pd.Timestamp("2024-01-01", tz="UTC"))
    ...     status = store.end_job("daily", pd.Timestamp("2024-01-01", tz="UTC"))
    ...     text = metrics_text(store, now=status.ended_at)
    >>> print(*[line for line in text.decode().splitlines() if "runs_total{" in line], sep="\n")
    tonsurance_job_runs_total{job="daily",outcome="done"} 1.0
    tonsurance_job_runs_total{job="daily",outcome="failed"} 0.0
    """
    library = require_library()
    return bytes(library.generate_latest(StoreCollector(store, now, sinks)))


def save_metrics(store: Store, path: str | os.PathLike[str], *, now: datetime, sinks: Iterable[str] = ()) -> Path:
    """Write the metrics for the text-file collector of node exporter, complete or not at all; see `metrics_text`.

    Raises
    ------
    SettingsError
        If the path does not end with ``.prom``, which the collector wants, or its folder cannot be written to.
    StorageError
        If writing failed; an older file is intact then.
    """
    file = Path(path)
    if file.suffix != ".prom":
        raise SettingsError(f"the file of metrics must end with .prom, found {str(file)!r}", observed=str(file))
    content = metrics_text(store, now=now, sinks=sinks).decode()
    writable_folder(file.parent)
    try:
        replace_file(file, content)
    except OSError as error:
        raise StorageError(f"{file} could not be written: {error.strerror}") from error
    return file


class StoreCollector:
    """A collector of prometheus-client that reads a store when it is asked; see `metrics_text`."""

    def __init__(self, store: Store, now: datetime, sinks: Iterable[str] = ()) -> None:
        self._store = store
        self._sinks = tuple(sinks)
        self._now = as_utc(now, "now")

    def collect(self) -> Iterator[Any]:
        """Yield the metric families."""
        library = require_library()
        gauge, counter = library.metrics_core.GaugeMetricFamily, library.metrics_core.CounterMetricFamily
        build = gauge("tonsurance_build_info", "The version of the library.", labels=["version"])
        build.add_metric([__version__], 1.0)
        waiting = gauge("tonsurance_alerts_waiting", "Alerts that the sink has not got yet.", labels=["sink"])
        for sink in self._sinks:
            waiting.add_metric([sink], len(self._store.load_alerts(waiting_for=sink)))
        yield build
        yield waiting
        rows = self._store.load_jobs()
        yield from _of_jobs(rows, gauge, counter)
        yield from _of_usage(rows, self._now, gauge, counter)
        yield _of_rejects(self._store, counter)
        age = gauge(
            "tonsurance_data_age_seconds", "Time since the newest price.", labels=["asset", "source", "step"]
        )
        for asset, source, step, newest in newest_prices(self._store, self._now):
            age.add_metric([asset, source, step], (self._now - newest).total_seconds())
        yield age


def _of_jobs(rows: Sequence[JobStatus], gauge: Any, counter: Any) -> Iterator[Any]:
    success = gauge(
        "tonsurance_job_last_success_timestamp_seconds", "When a run of the job last was done.", labels=["job"]
    )
    duration = gauge("tonsurance_job_duration_seconds", "Time that the run took that ended last.", labels=["job"])
    runs = counter("tonsurance_job_runs", "Runs that ended, from the ledger.", labels=["job", "outcome"])
    outcomes: Counter[tuple[str, str]] = Counter()
    for row in rows:
        # A run that was killed is in none of the ends that are counted; the report is done before it says so.
        done = max(row.details.get(ENDS, {}).get("done", 0), int(row.status == "done"))
        outcomes[row.job, "done"] += done
        outcomes[row.job, "failed"] += row.attempts - done - (row.status == "running")
    for job, (ended_at, row) in sorted(last_runs(rows).items()):
        duration.add_metric([job], (ended_at - row.started_at).total_seconds())
    for job, (ended_at, _) in sorted(last_runs(row for row in rows if row.status == "done").items()):
        success.add_metric([job], ended_at.timestamp())
    for labels, count in sorted(outcomes.items()):
        runs.add_metric(labels, count)
    yield from (success, duration, runs)


def _of_usage(rows: Sequence[JobStatus], now: pd.Timestamp, gauge: Any, counter: Any) -> Iterator[Any]:
    requests = counter("tonsurance_http_requests", "Attempts by answer.", labels=["source", "status_class"])
    waited = counter("tonsurance_http_retry_wait_seconds", "Waited before repetitions.", labels=["source"])
    circuit = gauge("tonsurance_source_circuit_open", "Whether a host is left alone.", labels=["source"])
    credits_used = gauge(
        "tonsurance_source_month_credits", "Credits that this month's runs used.", labels=["source"]
    )
    written = counter("tonsurance_rows_written", "Rows that runs wrote or kept out.", labels=["table", "kind"])
    by_source: dict[str, list[JobStatus]] = {}
    tables: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for table, kinds in row.details.get(WRITTEN, {}).items():
            tables.update({(table, kind): count for kind, count in kinds.items()})
        if USAGE in row.details:
            by_source.setdefault(source_of(row), []).append(row)
    for labels, count in sorted(tables.items()):
        written.add_metric(labels, count)
    for source, of_source in sorted(by_source.items()):
        total = sum(map(usage_in, of_source), start=SourceUsage())
        if not total.requests:
            continue  # one that asks nobody, a folder for example
        for status_class, count in sorted(total.requests.items()):
            requests.add_metric([source, status_class], count)
        waited.add_metric([source], total.retry_wait_seconds)
        last = max((row for row in of_source if usage_in(row).requests), key=lambda row: row.started_at)
        circuit.add_metric([source], float(usage_in(last).circuit_open))
        credits_used.add_metric([source], month_credits(of_source, source, now))
    yield from (requests, waited, circuit, credits_used, written)


def _of_rejects(store: Store, counter: Any) -> Any:
    failures = counter("tonsurance_quality_failures", "Samples that a check rejected.", labels=["check"])
    found: Counter[str] = Counter()
    for step in STEPS:
        for source in store.price_sources(step=step):
            found.update(store.load_rejects(source=source, step=step)["reason"])
    for check, count in sorted(found.items()):
        if check != NOT_THERE:
            failures.add_metric([check], count)
    return failures


def last_runs(rows: Iterable[JobStatus]) -> dict[str, tuple[pd.Timestamp, JobStatus]]:
    """Return by job the run that ended last, with the time at which it did."""
    last: dict[str, tuple[pd.Timestamp, JobStatus]] = {}
    for row in rows:
        if row.ended_at is not None and (row.job not in last or row.ended_at >= last[row.job][0]):
            last[row.job] = (row.ended_at, row)
    return last


def newest_prices(store: Store, now: pd.Timestamp) -> Iterator[tuple[str, str, str, pd.Timestamp]]:
    """Yield asset, source, step and time of the newest price of each.

    A coin that is none of `STABLECOINS` nor BTC is there while it has prices of the last eight days.
    """
    known = {*(asset.symbol for asset in STABLECOINS), BTC}
    for step in STEPS:
        for source in store.price_sources(step=step):
            recent = store.load_prices(None, now - _RECENT, step=step, source=source)
            missing = sorted(known - set(recent.columns))
            frames = [recent]
            if missing:
                frames.append(store.load_prices(missing, step=step, source=source))
            for frame in frames:
                for asset in frame.columns:
                    times = frame.index[frame[asset].notna()]
                    if len(times):
                        yield asset, source, step, times[-1]


def require_library() -> Any:
    """Return prometheus-client; a `SettingsError` that says how to install it where it is missing."""
    try:
        import prometheus_client
    except ImportError as error:
        raise SettingsError(
            "metrics need prometheus-client: install the extra with pip install 'tonsurance-risk[metrics]'"
        ) from error
    return prometheus_client

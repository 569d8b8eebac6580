"""The daily jobs: prices of one logical date in, its report out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assessment import assess
from tonsurance_risk.core.alert_memory import OpenAlert
from tonsurance_risk.core.fingerprint import content_hash
from tonsurance_risk.model import Scenario, Vault
from tonsurance_risk.ports import Clock, JobLock, PriceSource, Store, SystemClock
from tonsurance_risk.report import SCHEMA_VERSION, RiskReport
from tonsurance_risk.reporting.files import report_path, save_report, writable_folder
from tonsurance_risk.reporting.html import save_html
from tonsurance_risk.runner.calibration import stored_scenarios
from tonsurance_risk.runner.desk import INSTANT, RETENTION, Desk, Place, Progress
from tonsurance_risk.runner.earlier import earlier_run
from tonsurance_risk.runner.jobs import Job, Outcome
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.runner.runs import details_of, run_job, under_lock
from tonsurance_risk.runner.updates import update_correlations, update_depegs
from tonsurance_risk.runner.usage import rows_written
from tonsurance_risk.values import as_utc, iso
from tonsurance_risk.version import __version__

_log = logging.getLogger(__name__)


def report_risk(desk: Desk, date: pd.Timestamp, lock: JobLock) -> Outcome:
    """Assess the vault, and store and write the report; the job is done with the transaction of the report."""
    store, since, until = desk.store, date - RETENTION, date + INSTANT
    scenarios = stored_scenarios(store)
    before = store.load_reports(end=date, last=1, **desk.place)
    desk.progress("assessing", 0, 1)
    prices = store.load_prices(desk.assets, since, until, **desk.place)
    others = other_prices(store, desk.source.name, desk.step, since, until)
    report = assess(
        prices,
        desk.vault,
        as_of=date,
        scenarios=scenarios,
        history=store.load_snapshots(end=date, **desk.place),
        step=desk.step,
        # After the prices were read: what the store knew at that instant is what was read.
        generated_at=desk.clock.now(),
        seed=desk.seed,
        n=desk.n,
        source=desk.source.name,
        others=others,
        before=earlier_run(store, before),
        open_alerts=[OpenAlert.from_dict(one) for last in before for one in last.get("open_alerts", ())],
    )
    document = report.to_dict()
    document["inputs"]["simulations_asked"] = desk.n
    document["inputs"]["settings_sha256"] = _settings_of(desk, scenarios)
    failed = details_of(desk, DEPEG_BACKFILL.name, date).get("failed", {})
    document["data_quality"]["failed_to_fetch"] = failed
    document["alert_changes"] = _to_say(desk, date, document)
    lock.verify()
    written = _record(desk, report, document)
    desk.progress("assessing", 1, 1)
    path = _written(document, desk.out)
    page = _page(desk, report, document)
    worst = next((alert["severity"] for alert in document["risk_alerts"]), "none")
    var_95 = document["var_analysis"]["var_95"]["value"]
    message = f"VaR 95 is {var_95:,.0f} USD; {len(document['risk_alerts'])} alerts, the worst {worst}"
    return Outcome(
        rows=1,
        message=message,
        needs_attention=worst == "critical" or bool(failed) or "html_error" in page,
        details=written | ({} if path is None else {"file": path.name, **page}),
    )


DEPEG_BACKFILL = Job(name="depeg_backfill", at=time(2, 0), step=update_depegs)
CORRELATION_UPDATE = Job(
    name="correlation_update", at=time(2, 10), step=update_correlations, needs=(DEPEG_BACKFILL.name,)
)
RISK_REPORT = Job(
    name="risk_report", at=time(2, 20), step=report_risk, needs=(DEPEG_BACKFILL.name, CORRELATION_UPDATE.name)
)
DAILY: tuple[Job[Desk], ...] = (DEPEG_BACKFILL, CORRELATION_UPDATE, RISK_REPORT)


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run did.

    Parameters
    ----------
    as_of : Timestamp
        The logical date.
    document : dict
        The report, as `RiskReport.to_dict` gives it.
    report_path : Path or None
        Where it was written.
    fetched : dict of int by asset
        Samples that the source gave.
    not_carried : tuple of str
        Assets that the source does not have.
    failed : dict of str by asset
        Assets that it has and could not give, with the error.
    history_start : Timestamp or None
        Where the plan of the source begins, if that is later than two years back.
    html_path : Path or None
        Where the page is, if there is one.
    html_error : str or None
        Why it could not be made.
    already_done : bool
        Whether the date had been done with the same vault, scenarios and settings; nothing was computed then.
    """

    as_of: pd.Timestamp
    document: dict[str, Any] = attrs.field(repr=False)
    report_path: Path | None
    fetched: dict[str, int] = attrs.field(factory=dict)
    not_carried: tuple[str, ...] = ()
    failed: dict[str, str] = attrs.field(factory=dict)
    history_start: pd.Timestamp | None = None
    html_path: Path | None = None
    html_error: str | None = None
    already_done: bool = False

    @property
    def needs_attention(self) -> bool:
        """Whether an asset or the page failed or an alert is critical, in a run that did something."""
        critical = any(alert["severity"] == "critical" for alert in self.document["risk_alerts"])
        return not self.already_done and (critical or bool(self.failed) or self.html_error is not None)


def run_daily(
    store: Store,
    source: PriceSource,
    vault: Vault,
    *,
    as_of: datetime,
    step: str = "1h",
    out: str | os.PathLike[str] | None = None,
    html: bool = False,
    seed: int = 0,
    n: int | None = None,
    clock: Clock | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> RunResult:
    """Fetch and store prices, record depegs and correlations, assess the vault, and store and write the report.

    Parameters
    ----------
    store : Store
        Where prices and results are kept.
    source : PriceSource
        Asked for every stablecoin, the vault's own coins and BTC, two years back.
    vault : Vault
        The book.
    as_of : datetime
        The logical date. Prices up to it count, whatever the clock says.
    step : {"1h", "1d"}
        Distance of two samples.
    out : path, optional
        Folder for the report file; none is written without it.
    html : bool
        Whether to write the report as a page as well, beside it. A page that cannot be made loses nothing else:
        `RunResult.html_error` says why.
    seed, n
        As in `assess`.
    clock : Clock, optional
        Gives `generated_at`; the machine's when not given.
    progress : callable
        Told about each asset and stage.

    Returns
    -------
    RunResult
        A date that was done before with the same vault, scenarios and settings is not done again: its report
        is given back, and written again where the file is missing; its page is not made again.

    Raises
    ------
    SettingsError
        If the step is unknown, a page is wanted without the extra `report`, the folder cannot be written to, or
        the source carries none of the assets.
    LockHeldError
        If another run is at work on the same date, source and step.
    RiskError
        If no asset could be fetched, or the assessment is not possible. One bad asset does not stop the others.

    Notes
    -----
    The three daily jobs in their order, under one lock; each is in the ledger. What may be over soon, a source
    that does not answer for example, is tried up to three times again.
    """
    date = as_utc(as_of, "as_of")
    desk = Desk(
        store=store,
        source=source,
        vault=vault,
        step=step,
        out=None if out is None else writable_folder(out),
        html=html,
        seed=seed,
        n=n,
        clock=clock or SystemClock(),
        progress=progress,
    )
    return under_lock(desk, DAILY, date, partial(_run_daily, desk, date), chain="daily")


def _run_daily(desk: Desk, date: pd.Timestamp, lock: JobLock) -> RunResult:
    store = desk.store
    document = done_report(desk, date)
    if document is not None:
        path = _written(document, desk.out)
        for job in DAILY:
            rows = store.load_jobs(desk.ledger_name(job.name), date, date + INSTANT)
            if any(row.status != "done" for row in rows):
                # All of that run is here, but the file was not.
                store.end_job(desk.ledger_name(job.name), date)
        page = None if path is None else path.with_suffix(".html")
        return RunResult(
            as_of=date,
            document=document,
            report_path=path,
            html_path=page if page is not None and page.exists() else None,
            already_done=True,
        )
    fetched, _, reported = [run_job(desk, job, date, lock).details for job in DAILY]
    (document,) = store.load_reports(date, date + INSTANT, **desk.place)
    start = fetched["history_start"]
    return RunResult(
        as_of=date,
        document=document,
        report_path=None if desk.out is None else desk.out / reported["file"],
        html_path=desk.out / reported["html"] if desk.out is not None and "html" in reported else None,
        html_error=reported.get("html_error"),
        fetched=fetched["fetched"],
        not_carried=tuple(fetched["not_carried"]),
        failed=fetched["failed"],
        history_start=None if start is None else pd.Timestamp(start),
    )


def done_report(desk: Desk, date: pd.Timestamp) -> dict[str, Any] | None:
    """Return the report of a date that was made with the same vault, scenarios and settings, of all assets."""
    settings = _settings_of(desk, stored_scenarios(desk.store))
    for document in desk.store.load_reports(date, date + INSTANT, **desk.place):
        # A date on which an asset failed is not done: the asset may be there now.
        if document["inputs"]["settings_sha256"] == settings and not document["data_quality"]["failed_to_fetch"]:
            return document
    return None


def _settings_of(desk: Desk, scenarios: Sequence[Scenario]) -> str:
    return settings_hash(desk.vault, scenarios, desk.place, desk.seed, desk.n)


def settings_hash(vault: Vault, scenarios: Sequence[Scenario], place: Place, seed: int, n: int | None) -> str:
    """Return the hash of all that a report depends on beside prices and earlier reports."""
    return content_hash(
        {
            "vault": vault.to_dict(),
            "scenarios": [scenario.to_dict() for scenario in scenarios],
            **place,
            "seed": seed,
            "n": n,
            "software_version": __version__,
            "schema_version": SCHEMA_VERSION,
        }
    )


def _to_say(desk: Desk, date: pd.Timestamp, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a report says of alerts: nothing new where a later one has spoken.

    What an earlier run of the same date said, with another book for example, and does not fire any more, ends.
    """
    said = [
        one
        for one in desk.store.load_alerts()
        if (one.source, one.step, one.as_of) == (*desk.place.values(), date)
    ]
    # One of a date to come is of a clock that was ahead.
    newest = max(as_utc(desk.clock.now(), "the clock"), date) + INSTANT
    if desk.store.load_reports(date + INSTANT, newest, last=1, **desk.place):
        # What waits in the outbox still waits.
        return [{name: getattr(one, name) for name in ("key", "action", "severity", "message")} for one in said]
    still_open = {alert["key"] for alert in document["open_alerts"]}
    in_vain = [
        {"key": one.key, "action": "resolve", "severity": one.severity, "message": f"{one.key} does not fire"}
        for one in said
        if one.action == "trigger" and one.key not in still_open
    ]
    return [*document["alert_changes"], *in_vain]


def _written(document: Mapping[str, Any], folder: Path | None) -> Path | None:
    return None if folder is None else save_report(document, folder)


def write_newest_report(desk: Desk) -> None:
    """Write the file of the newest report where it is missing: a run was killed before it did."""
    if desk.out is not None:
        for document in desk.store.load_reports(last=1, **desk.place):
            if not report_path(desk.out, document["report_date"], "json").exists():
                save_report(document, desk.out)


def _page(desk: Desk, report: RiskReport, document: Mapping[str, Any]) -> dict[str, str]:
    """Write the page of a report where one is wanted, and return its name, or why there is none.

    The report is stored and written by now, and stands without its page: whatever fails here stops nothing.
    """
    if not desk.html or desk.out is None:
        return {}
    try:
        return {"html": save_html(report, desk.out, document=document).name}
    except Exception as error:
        _log.exception("the report of %s has no page", document["report_date"])
        return {"html_error": f"{type(error).__name__}: {error}"}


def _record(desk: Desk, report: RiskReport, document: Mapping[str, Any]) -> dict[str, Any]:
    """Store what was computed; the report comes last, so that it stands only on results that are there.

    Returns the rows that were written. With the report the job is done: its file is written from the store, by
    this run or the next one.
    """
    desk.store.save_run_inputs(report.run_inputs())
    _record_quality(desk.store, report, desk.step)
    snapshot = pd.DataFrame(
        {
            "var_95": [document["var_analysis"]["var_95"]["value"]],
            "capital": [report.metrics.capital],
            "coverage": [report.metrics.coverage],
        },
        index=pd.DatetimeIndex([report.as_of]),
    )
    snapshots = desk.store.save_snapshots(snapshot, **desk.place)
    reports = desk.store.save_reports([document], **desk.place, job=desk.ledger_name(RISK_REPORT.name))
    return rows_written(risk_snapshots=snapshots, risk_reports=reports)


def _record_quality(store: Store, report: RiskReport, step: str) -> None:
    """Mark the prices with findings, and those whose finding is gone; keep what was rejected."""
    place = {"source": report.source, "step": step}
    scores = report.quality.sample_scores(report.prices)
    assets, since = list(scores.columns), scores.index[0]
    marked = store.load_marks("quality", assets, since, source=report.source, step=step)
    before = marked.reindex_like(scores)
    quality = scores.where((scores < 1.0) | before.notna())
    store.save_marks("quality", quality, **place)
    store.save_marks("outlier", (quality == 0.0).astype(float).where(quality.notna()), **place)
    flags = report.quality.flags
    rejected = flags[flags["action"] == "reject"]
    rejects = rejected[["asset", "time", "detail"]].assign(
        reason=rejected["check"], raw=rejected["price"].map(str)
    )
    store.save_rejects(rejects, **place)


def describe(result: RunResult) -> str:
    """Return one line on what the run did with its assets."""
    if result.already_done:
        return f"{iso(result.as_of)} was done before with the same vault, scenarios and settings"
    parts = [f"{len(result.fetched)} assets fetched, {sum(result.fetched.values()):,} samples"]
    if result.not_carried:
        parts.append(f"not carried by the source: {', '.join(result.not_carried)}")
    if result.history_start is not None:
        parts.append(f"the plan of the source reaches back to {iso(result.history_start)}")
    parts += [f"{asset} failed: {message}" for asset, message in result.failed.items()]
    if result.html_error is not None:
        parts.append(f"the page could not be made: {result.html_error}")
    return "; ".join(parts)

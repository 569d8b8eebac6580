"""Jobs, alerts, rejects and backtests as rows. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, get_args

import attrs
import pandas as pd

from tonsurance_risk.core.alert_memory import Action
from tonsurance_risk.core.alerts import SEVERITIES
from tonsurance_risk.ports import JobEnd, JobStatus, ScenarioBacktest, StoredAlert
from tonsurance_risk.storage.event_rows import stored_form
from tonsurance_risk.storage.instants import whole_microseconds
from tonsurance_risk.storage.records import Row, StoredRow, check_columns, encodable, place_of, storable
from tonsurance_risk.values import finite, whole

REJECT_COLUMNS = ["asset", "time", "reason", "raw", "detail"]
EVENT_COLUMNS = ["asset", "direction", "start", "end", "source", "severity"]
LONGEST_TEXT = 500
_TIME = "datetime64[us, UTC]"
ALERT_KEY = ("source", "step", "as_of", "key", "action")


def job_key(job: str, logical_date: datetime) -> Row:
    """Return what a job and date are stored by."""
    return {"job": storable(job, "job"), "logical_date": whole_microseconds(logical_date, "logical_date")}


def begun_row(key: Row, before: StoredRow | None, time: pd.Timestamp, host: str = "", forced: bool = False) -> Row:
    """Return the row of a job that begins."""
    attempts = 1 if before is None else before["attempts"] + 1
    ran = {"attempts": attempts, "started_at": time, "host": encodable(host, "host"), "forced": bool(forced)}
    kept = {"details": "{}" if before is None else before["details"]}
    return key | ran | kept | {"status": "running", "ended_at": None, "rows": None, "message": ""}


def ended_row(
    key: Row,
    before: StoredRow | None,
    time: pd.Timestamp,
    *,
    status: JobEnd = "done",
    rows: int | None = None,
    message: str = "",
    details: Mapping[str, Any] | None = None,
) -> Row:
    """Return the row of a job that ends; a `LookupError` where it did not begin."""
    if before is None:
        raise LookupError(f"the job {key['job']!r} of {key['logical_date']} did not begin")
    if status not in get_args(JobEnd):
        raise ValueError(f"status must be one of {list(get_args(JobEnd))}, found {status!r}")
    started = {name: before[name] for name in ("attempts", "started_at", "host", "forced")}
    # A clock that was set back must not let a job end before it began.
    ended = {"ended_at": max(time, before["started_at"]), "message": encodable(message, "message")[:LONGEST_TEXT]}
    kept = before["details"] if details is None else json.dumps(dict(details))
    counted = {"rows": None if rows is None else whole(rows, "rows", 0), "details": kept}
    return key | started | ended | counted | {"status": status}


def job_of(row: StoredRow) -> JobStatus:
    """Return the status of a row."""
    fields = {field.name: row[field.name] for field in attrs.fields(JobStatus)}
    return JobStatus(**fields | {"forced": bool(row["forced"]), "details": json.loads(row["details"])})


def alert_rows(report: StoredRow) -> list[Row]:
    """Return a row for all that the report of a row says of alerts; of one key and action the first counts."""
    place = {name: report[name] for name in ("source", "step", "as_of")}
    rows: dict[tuple[str, str], Row] = {}
    changes = json.loads(report["document"]).get("alert_changes", [])
    if not isinstance(changes, list):
        raise ValueError(f"the alert_changes of a report must be a list, found {changes!r}")
    for position, change in enumerate(changes):
        said = {name: _alert_text(change, name) for name in ("key", "action", "severity", "message")}
        for name, accepted in (("severity", SEVERITIES), ("action", get_args(Action))):
            if said[name] not in accepted:
                raise ValueError(f"{name} of an alert must be one of {accepted}, found {said[name]!r}")
        rows.setdefault((said["key"], said["action"]), place | said | {"position": position})
    return list(rows.values())


def _alert_text(change: object, name: str) -> str:
    if not isinstance(change, Mapping):
        raise ValueError(f"an alert of a report must be a mapping, found {change!r}")
    return storable(change.get(name), f"{name} of an alert")


def outdated(
    there: Iterable[StoredRow], delivered: Collection[tuple[str, str]], given: Iterable[Row]
) -> set[tuple[str, str]]:
    """Return the (key, action) of what leaves the outbox when a report says something else than it said before.

    What nobody got and is not said any more; what is said with another severity; and of an alert that is said
    again, both what is said and its opposite: whoever got them must get the last word.
    """
    severity = {(row["key"], row["action"]): row["severity"] for row in given}
    before = {(row["key"], row["action"]): row["severity"] for row in there}
    gone = {which for which in before if which not in severity and which not in delivered}
    for (key, action), said in severity.items():
        opposite = (key, "resolve" if action == "trigger" else "trigger")
        if opposite in before and opposite not in severity:
            gone |= {(key, action), opposite}
        elif before.get((key, action), said) != said:
            gone.add((key, action))
    return gone & set(before)


def alert_of(row: StoredRow) -> StoredAlert:
    """Return the alert of a row."""
    return StoredAlert(**{field.name: row[field.name] for field in attrs.fields(StoredAlert)})


def reject_rows(rejects: pd.DataFrame, source: str, step: str, time: pd.Timestamp) -> list[Row]:
    """Return a row a reject; the last one of an asset, time and reason counts."""
    key = place_of(source, step) | {"recorded_at": time}
    check_columns(rejects, "rejects", REJECT_COLUMNS)
    rows = {}
    for asset, instant, reason, raw, detail in rejects[REJECT_COLUMNS].itertuples(index=False, name=None):
        row = {
            "asset": storable(asset, "asset of a reject"),
            "time": whole_microseconds(instant, "time of a reject"),
            "reason": storable(reason, "reason of a reject"),
            "raw": encodable(raw, "raw of a reject")[:LONGEST_TEXT],
            "detail": encodable(detail, "detail of a reject")[:LONGEST_TEXT],
        }
        rows[row["asset"], row["time"], row["reason"]] = key | row
    return list(rows.values())


def reject_frame(rows: Iterable[StoredRow]) -> pd.DataFrame:
    """Return the rejects of rows by (time, asset, reason)."""
    ordered = sorted(([row[name] for name in REJECT_COLUMNS] for row in rows), key=lambda r: (r[1], r[0], r[2]))
    frame = pd.DataFrame(ordered, columns=REJECT_COLUMNS, dtype=object)
    return frame.astype({"time": _TIME})


def scenario_event_rows(events: Mapping[str, Iterable[Any]] | None) -> dict[str, list[Row]]:
    """Return the rows of what scenarios were calibrated from, by the name of the scenario."""
    kept = {}
    for name, given in (events or {}).items():
        # Whoever detected an event by whatever rule: the last one of an asset, direction and start counts.
        rows = {(e.asset, e.direction, e.start): e for e in map(stored_form, given)}
        kept[storable(name, "name of a scenario")] = [
            {column: getattr(event, column) for column in EVENT_COLUMNS} for event in rows.values()
        ]
    return kept


def scenario_event_frame(rows: Iterable[StoredRow]) -> pd.DataFrame:
    """Return what a scenario was calibrated from, by (start, asset, direction)."""
    ordered = sorted(([row[name] for name in EVENT_COLUMNS] for row in rows), key=lambda r: (r[2], r[0], r[1]))
    frame = pd.DataFrame(ordered, columns=EVENT_COLUMNS, dtype=object)
    return frame.astype({"start": _TIME, "end": _TIME, "severity": float})


def backtest_rows(backtests: Iterable[ScenarioBacktest], source: str, step: str) -> list[Row]:
    """Return a row a backtest, keyed by (source, step, scenario, vault_sha256)."""
    key = place_of(source, step)
    rows = []
    for backtest in backtests:
        if not isinstance(backtest, ScenarioBacktest):
            raise ValueError(f"backtests must be of the type ScenarioBacktest, found {backtest!r}")
        start, end, evaluated = (
            whole_microseconds(getattr(backtest, name), f"{name} of a backtest")
            for name in ("start", "end", "evaluated_at")
        )
        if end < start:
            raise ValueError(f"end of a backtest of {backtest.scenario!r} comes before its start")
        rows.append(
            key
            | {name: storable(getattr(backtest, name), name) for name in ("scenario", "vault_sha256")}
            | {name: finite(getattr(backtest, name), name) for name in ("predicted_loss", "actual_loss")}
            | {"start": start, "end": end, "evaluated_at": evaluated}
        )
    return rows


def backtest_of(row: StoredRow) -> ScenarioBacktest:
    """Return the backtest of a row."""
    return ScenarioBacktest(**{field.name: row[field.name] for field in attrs.fields(ScenarioBacktest)})


def unknown_scenario(name: str) -> LookupError:
    """Return the error of a backtest of a scenario that is not stored."""
    return LookupError(f"no scenario {name!r} is stored; save it before what became of it")

"""The commands that run jobs: a date at a time, and as processes stopped, killed, in two places at once."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tonsurance_risk import cli

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NEWEST_DUE = (datetime.now(UTC) - timedelta(hours=2, minutes=20)).replace(
    hour=0, minute=0, second=0, microsecond=0
)
CANARY = "canary-6f1e"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings and daily prices up to today."""
    monkeypatch.setenv("TONSURANCE_RISK_WEBHOOK_SECRET", CANARY)
    prices = tmp_path / "prices"
    prices.mkdir()
    for name, price in {"USDC": 0.9998, "DAI": 1.0003, "BTC": 4e4}.items():
        days = [TODAY - timedelta(days=back) for back in range(60, 0, -1)]
        rows = "".join(
            f"{day:%Y-%m-%dT%H:%M:%SZ},{price * (1 + (number * 7 % 11 - 5) / 9e3)}\n"
            for number, day in enumerate(days)
        )
        (prices / f"{name}_1d.csv").write_text("timestamp,price\n" + rows)
    vault = {"capital": 1e6, "btc_value": 1e4, "policies": [
        {"policy_id": "1", "asset": "USDC", "coverage": 5e5, "trigger_price": 0.95, "floor_price": 0.5}
    ]}  # fmt: skip
    (tmp_path / "vault.json").write_text(json.dumps(vault))
    (tmp_path / "tonsurance_risk.toml").write_text(
        'interval = "1d"\nvault = "vault.json"\nn = 500\narchive = "archive"\n'
        '[source]\nspec = "csv:prices"\n[metrics]\ntext_file = "figures.prom"\n'
        '[[alerts.sinks]]\nkind = "file"\npath = "alerts.jsonl"\n'
    )
    return tmp_path


def started(desk: Path, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "tonsurance_risk", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=desk, **(pipes | options))


def run(desk: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; the scheduler is a process, as what it starts writes to it."""
    if arguments[0] == "schedule":
        process = started(desk, *arguments)
        output, errors = process.communicate(timeout=240)
        return process.returncode, output, errors
    streams = io.StringIO(), io.StringIO()
    with chdir(desk), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        code = cli.run(arguments)
    return code, streams[0].getvalue(), streams[1].getvalue()


def rows(desk: Path) -> dict[tuple[str, str], tuple]:
    """By job and date: status, attempts, forced."""
    with closing(sqlite3.connect(desk / "tonsurance_risk.db")) as connection:
        found = connection.execute(
            "SELECT job, logical_date, status, attempts, forced FROM etl_job_status"
        ).fetchall()
    return {
        (job.split()[0], datetime.fromtimestamp(date / 1e6, UTC).date().isoformat()): (
            status,
            attempts,
            bool(forced),
        )
        for job, date, status, attempts, forced in found
    }


@pytest.mark.fault("F104")
def test_once_does_what_is_due_and_status_tells(desk):
    """Reports, figures and alerts are there; a second start has nothing to do; without a success status is 1."""
    assert run(desk, "status")[0] == 3  # there is no database, and none is made
    assert not (desk / "tonsurance_risk.db").exists()
    since = (NEWEST_DUE - timedelta(days=1)).date()
    code, output, errors = run(desk, "schedule", "--once", f"--since={since}", "--log-json")

    assert (code, output.splitlines()[-1].split(",")[0][-5:]) == (0, " done"), errors
    done = rows(desk)
    assert {status for status, *_ in done.values()} == {"done"}
    assert sum(job == "risk_report" for job, _ in done) == 2
    assert list((desk / "reports").glob("risk_report_*.json"))
    assert "tonsurance_job_last_success_timestamp_seconds" in (desk / "figures.prom").read_text()
    alerts = [json.loads(line) for line in (desk / "alerts.jsonl").read_text().splitlines()]
    assert alerts
    assert len({(one["key"], one["action"]) for one in alerts}) == len(alerts)
    events = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert events
    assert {"time", "level", "logger", "run_id", "message"} <= set(events[0])
    assert len({one["run_id"] for one in events}) == 1
    assert CANARY not in output + errors

    code, output, _ = run(desk, "schedule", "--once")
    assert (code, output.strip()) == (0, "0 done, 0 failed, 0 left")
    code, output, _ = run(desk, "status", "--json", "--history", "3")
    document = json.loads(output)
    assert (code, document["too_old"], len(document["history"])) == (0, False, 3)
    assert {one["job"] for one in document["jobs"]} >= {"depeg_backfill", "correlation_update", "risk_report"}
    assert run(desk, "status")[1].count("risk_report") >= 1


def test_once_says_what_somebody_should_look_at(desk):
    """A file that cannot be read: exit code 1 of the timer as well, and of the next start 0: the date is done.

    The first date is that of the settings, as the command line gives none; without it the newest alone would be due.
    """
    (desk / "prices" / "DAI_1d.csv").write_text("timestamp,price\n2024-01-01T00:00:00Z,abc\n")
    with (desk / "tonsurance_risk.toml").open("a") as settings:
        settings.write(f"[schedule]\nsince = {(NEWEST_DUE - timedelta(days=1)).date()}\n")
    code, output, errors = run(desk, "schedule", "--once")

    assert (code, "0 failed, 0 left" in output) == (1, True), errors
    assert f"risk_report of {NEWEST_DUE.date()} needs attention" in errors
    assert sorted(date for job, date in rows(desk) if job == "risk_report") == [
        (NEWEST_DUE - timedelta(days=back)).date().isoformat() for back in (1, 0)
    ]
    assert run(desk, "schedule", "--once")[0] == 0


def test_status_looks_at_the_source_of_the_settings(desk):
    """A report of another source, or of long ago though made now, is no success."""
    old = (TODAY - timedelta(days=9)).date()
    assert run(desk, "daily", f"--as-of={old}")[0] == 0
    code, _, errors = run(desk, "status")
    assert (code, "of the last" in errors) == (1, True)
    assert run(desk, "daily")[0] == 0
    assert run(desk, "status")[0] == 0
    assert run(desk, "status", "--source=kraken")[0] == 1
    assert run(desk, "status", "--interval=1h")[0] == 1


def test_what_fails_behind_a_job_leaves_it_done(desk):
    """Figures that cannot be written: the report is there and shown, 1 says that somebody should look."""
    (desk / "figures.prom").mkdir()
    code, output, errors = run(desk, "daily")

    assert (code, "figures.prom could not be written" in errors, "VaR" in output) == (1, True, True), errors
    assert {"done"} == {status for status, *_ in rows(desk).values()}
    settings = (desk / "tonsurance_risk.toml").read_text()
    (desk / "tonsurance_risk.toml").write_text(settings.replace("figures.prom", "vault.json/figures.prom"))
    code, _, errors = run(desk, "daily")
    assert (code, "cannot be written to" in errors) == (3, True)


@pytest.mark.fault("F098")
def test_dates_to_come_are_refused(desk):
    """By name, and by a clock that is far ahead of the ledger."""
    code, _, errors = run(desk, "daily", f"--as-of={(TODAY + timedelta(days=1)).date()}")
    assert (code, "has not come yet" in errors) == (3, True)
    assert not (desk / "tonsurance_risk.db").exists() or not rows(desk)
    assert run(desk, "daily")[0] == 0
    with closing(sqlite3.connect(desk / "tonsurance_risk.db")) as connection, connection:
        year = 366 * 86_400_000_000
        connection.execute(
            f"UPDATE etl_job_status SET started_at = started_at - {year}, ended_at = ended_at - {year}"
        )
    for command in (["daily"], ["weekly"], ["run", "risk_report"]):
        code, _, errors = run(desk, *command)
        assert (code, "the clock says" in errors) == (2, True), command
    assert run(desk, "daily", f"--as-of={TODAY.date()}")[0] == 0


def test_a_text_is_no_since(desk):
    """In the settings, where TOML has dates."""
    with (desk / "tonsurance_risk.toml").open("a") as settings:
        settings.write('[schedule]\nsince = "2026-01-01"\n')
    code, _, errors = run(desk, "schedule", "--once")

    assert (code, "schedule.since: must be a date such as 2026-01-31" in errors) == (3, True)


def test_a_daemon_with_wrong_settings_ends(desk):
    """At its first start, with their exit code; a daemon that does nothing would look alive."""
    settings = desk / "tonsurance_risk.toml"
    settings.write_text(settings.read_text() + '[[alerts.sinks]]\nkind = "pagerduty"\n')
    daemon = started(desk, "schedule")
    try:
        _, errors = daemon.communicate(timeout=60)
    finally:
        daemon.kill()

    assert daemon.returncode == 3
    assert "needs a secret" in errors


def test_one_job_at_a_time(desk):
    """A report waits for what it needs; a second start is a no-op; force is written down; nonsense is refused."""
    date = f"--date={(TODAY - timedelta(days=1)).date()}"
    code, output, _ = run(desk, "run", "risk_report", date)
    assert code == 2
    assert "waiting, depeg_backfill, correlation_update must be done first" in output
    for job in ("depeg_backfill", "correlation_update", "risk_report"):
        assert run(desk, "run", job, date)[0] == 0
    assert "skipped" in run(desk, "run", "risk_report", date)[1]
    assert run(desk, "run", "correlation_update", date, "--force")[0] == 0
    of_day = {job: row for (job, _), row in rows(desk).items()}
    assert of_day["correlation_update"] == ("done", 2, True)
    assert of_day["risk_report"] == ("done", 1, False)

    code, _, errors = run(desk, "run", "risk_reprot", date)
    assert (code, "job must be one of" in errors) == (3, True)
    code, _, errors = run(desk, "run", "risk_report", "--date=2999-01-01")
    assert (code, "is due at" in errors) == (3, True)
    assert run(desk, "run", "risk_report", "--date=yesterday")[0] == 3


def test_weekly(desk):
    """Gaps filled, old prices archived, the store checked; for the last Sunday that is due."""
    run(desk, "run", "depeg_backfill")
    code, output, errors = run(desk, "weekly", "--json")
    document = json.loads(output)

    assert [one["job"] for one in document["runs"]] == ["full_backfill", "clean_up", "integrity_check"]
    assert {one["status"] for one in document["runs"]} == {"done"}, errors
    assert code == int(any(one["needs_attention"] for one in document["runs"]))
    assert datetime.fromisoformat(document["runs"][0]["date"]).weekday() == 6


def _wait_for(condition, seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.05)


def _slow(desk: Path) -> None:
    """Make the report take minutes."""
    settings = desk / "tonsurance_risk.toml"
    settings.write_text(settings.read_text().replace("n = 500", "n = 100000000"))


@pytest.mark.fault("F099")
def test_stopped_in_the_middle(desk):
    """SIGTERM to the daemon while a report is simulated: both processes end within 10 s, the ledger says interrupted."""
    _slow(desk)
    daemon = started(desk, "schedule", f"--since={(TODAY - timedelta(days=1)).date()}")
    try:
        _wait_for(lambda: any(
            job == "risk_report" and row[0] == "running" for (job, _), row in _rows_or_none(desk).items()
        ))  # fmt: skip
        time.sleep(0.5)
        before = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=30)
        took = time.monotonic() - before
    finally:
        daemon.kill()

    assert daemon.returncode == 0
    assert took < 10.0
    statuses = {job: row[0] for (job, _), row in rows(desk).items()}
    assert statuses["depeg_backfill"] == "done"
    assert statuses["risk_report"] in ("failed", "interrupted")


def _rows_or_none(desk: Path) -> dict:
    try:
        return rows(desk)
    except sqlite3.Error:
        return {}


@pytest.mark.fault("F093")
def test_two_daemons_on_one_database(desk):
    """Each date is done once, by either; both end when they are told to."""
    first = (NEWEST_DUE - timedelta(days=1)).date()
    daemons = [started(desk, "schedule", f"--since={first}") for _ in range(2)]
    try:
        _wait_for(lambda: 2 == sum(
            job == "risk_report" and row[0] == "done" for (job, _), row in _rows_or_none(desk).items()
        ), 120.0)  # fmt: skip
    finally:
        ended = []
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            _, errors = daemon.communicate(timeout=30)
            ended.append((daemon.returncode, errors))

    assert [code for code, _ in ended] == [0, 0], ended
    found = {key: row for key, row in rows(desk).items() if key[0] == "risk_report"}
    assert {date for _, date in found} == {first.isoformat(), NEWEST_DUE.date().isoformat()}
    assert {(status, attempts) for status, attempts, _ in found.values()} == {("done", 1)}


@pytest.mark.fault("F093")
def test_two_daily_runs_at_once(desk):
    """The second ends with 4 and writes nothing."""
    _slow(desk)
    date = (TODAY - timedelta(days=1)).date()
    first = started(desk, "daily", f"--as-of={date}")
    try:
        _wait_for(lambda: any(job == "depeg_backfill" for job, _ in _rows_or_none(desk)))
        code, _, errors = run(desk, "daily", f"--as-of={date}")
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)

    assert (code, "another run" in errors) == (4, True)
    assert first.returncode == 2


@pytest.mark.slow
@pytest.mark.fault("F067")
@pytest.mark.fault("F100")
@pytest.mark.parametrize("moment", range(8))
def test_killed_at_any_moment(desk, moment):
    """kill -9 of the process that does the work, at many moments: the next start completes every date."""
    since = f"--since={(TODAY - timedelta(days=3)).date()}"
    process = started(desk, "schedule", "--once", since, start_new_session=True)
    time.sleep(2.0 + 1.7 * moment)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # A lease of a process that is gone is free at once.
    code, output, errors = run(desk, "schedule", "--once", since)

    assert code == 0, output + errors
    done = rows(desk)
    assert {status for status, *_ in done.values()} == {"done"}
    assert sum(job == "risk_report" for job, _ in done) in (3, 4)
    with closing(sqlite3.connect(desk / "tonsurance_risk.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

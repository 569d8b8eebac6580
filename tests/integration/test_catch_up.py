"""Simulated days of the scheduler: downtime, crashes, jumping clocks, two at once; every date is done once.

The disturbed run must end with the tables of one that nothing disturbed. Crashes are exceptions that leave the store
unusable, as the end of a process does; real processes are killed in `e2e/test_schedule.py`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import shutil
import threading
import time as machine_time
from datetime import datetime, timedelta

import attrs
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from databases import execute
from tonsurance_risk.errors import (
    AlertRefusedError,
    AlertUndeliveredError,
    ClockSuspectError,
    RiskError,
    SettingsError,
)
from tonsurance_risk.ports import AlertMessage, StoredAlert
from tonsurance_risk.runner import catch_up as catch_up_module
from tonsurance_risk.runner.catch_up import JOBS, catch_up
from tonsurance_risk.runner.delivery import deliver_alerts, message_of
from tonsurance_risk.runner.desk import Desk
from tonsurance_risk.runner.runs import end_dead_run, run_jobs
from tonsurance_risk.runner.status import job_health
from tonsurance_risk.storage import SqlStore, open_database

FIRST = pd.Timestamp("2024-01-15", tz="UTC")
DAY = timedelta(days=1)
VAULT = tr.Vault(1e6, [tr.Policy("1", "USDC", 7.2e5, 0.95, 0.5)], btc_value=1e4)


class Crash(BaseException):
    """The end of the process."""


class SetTo:
    """A clock that shows what it is set to."""

    def __init__(self, now: pd.Timestamp) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Daily prices of two coins and BTC over 500 days, with a depeg every 60 that lasts three days."""
    place = tmp_path_factory.mktemp("prices")
    rng = np.random.default_rng(3)
    days = pd.date_range(FIRST - 40 * DAY, periods=500, freq="D")
    for name in ("USDC", "DAI", "BTC"):
        prices = np.exp(rng.normal(0, 4e-4, len(days)))
        prices[[day for start in range(35, 500, 60) for day in range(start, min(start + 3, 500))]] *= 0.93
        prices = 4e4 * np.exp(np.cumsum(rng.normal(0, 0.03, len(days)))) if name == "BTC" else prices
        rows = "".join(
            f"{day:%Y-%m-%dT%H:%M:%SZ},{price!r}\n" for day, price in zip(days, prices.tolist(), strict=True)
        )
        (place / f"{name}_1d.csv").write_text("timestamp,price\n" + rows)
    return place


class Receiver:
    """Keeps what it is sent."""

    name = "receiver"

    def __init__(self) -> None:
        self.got: list[AlertMessage] = []

    def send(self, message: AlertMessage) -> None:
        self.got.append(message)

    def told(self) -> dict[str, list[tuple[str, str]]]:
        """By key what was said, a message that came again once."""
        said: dict[str, list[tuple[str, str]]] = {}
        for message in self.got:
            of_key = said.setdefault(message.key, [])
            one = (message.action, message.as_of.isoformat())
            if one not in of_key:
                of_key.append(one)
        return said


POINTS = [
    "fetch",
    "save_prices",
    "save_events",
    "save_correlations",
    "save_run_inputs",
    "save_reports",
    "mark_delivered",
]


def crashing(store: SqlStore, point: str, when: str, at: int) -> SqlStore:
    """Let the process end before or after a call of the store, the `at`-th of its kind; nothing works afterwards."""
    calls, dead = [0], [False]

    def wrapped(name, method):
        def call(*arguments, **options):
            if dead[0]:
                raise Crash
            if name != point:
                return method(*arguments, **options)
            calls[0] += 1
            if calls[0] < at:
                return method(*arguments, **options)
            if when == "after":
                method(*arguments, **options)
            dead[0] = True
            raise Crash

        return call

    for name in ("begin_job", "end_job", *POINTS[1:]):
        setattr(store, name, wrapped(name, getattr(store, name)))
    return store


class CrashingSource:
    """Ends the process before or after it fetches."""

    def __init__(self, source, when: str) -> None:
        self.source, self.when, self.name = source, when, source.name

    def fetch(self, *arguments, **options):
        if self.when == "after":
            self.source.fetch(*arguments, **options)
        raise Crash


def desk_of(store, folder, clock, source=None) -> Desk:
    return Desk(
        store=store, source=source or tr.sources.CsvSource(folder), vault=VAULT, step="1d", n=200, clock=clock
    )


def tick(url, folder, now, receiver, crash=None, **options):
    """Start, do what is due by now, deliver, end; or crash."""
    clock = SetTo(now)
    with SqlStore(open_database(url), clock) as store:
        source = None
        if crash is not None and crash[0] == "fetch":
            source = CrashingSource(tr.sources.CsvSource(folder), crash[1])
        elif crash is not None:
            crashing(store, *crash)
        found = catch_up(desk_of(store, folder, clock, source), since=FIRST, **options)
        deliver_alerts(store, [receiver])
        return found


def contents(url) -> dict:
    """What the tables hold, without the instants of writing."""
    reports = {}
    for as_of, document in execute(url, "SELECT as_of, document FROM risk_reports"):
        reports[as_of] = {key: value for key, value in json.loads(document).items() if key != "generated_at"}
    return {
        "reports": reports,
        "prices": sorted(
            execute(url, "SELECT asset, source, step, time, price, quality, outlier FROM price_history")
        ),
        "revisions": execute(url, "SELECT count(*) FROM price_revision"),
        "events": sorted(execute(url, "SELECT asset, direction, start, severity FROM historical_depegs")),
        "correlations": sorted(
            execute(url, "SELECT window_days, as_of, asset_1, asset_2, correlation FROM asset_correlations")
        ),
        "snapshots": sorted(execute(url, "SELECT time, var_95, capital, coverage FROM risk_snapshots")),
        "alerts": sorted(execute(url, "SELECT as_of, key, action, severity, message FROM alerts")),
        "jobs": sorted(execute(url, "SELECT job, logical_date, status FROM etl_job_status")),
    }


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """By days, tables and messages of a run in UTC with a start each day; of a memory of its own kind, so on SQLite."""

    @functools.cache
    def run(days: int) -> tuple[dict, dict]:
        url, receiver = f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'risk.db'}", Receiver()
        for day in range(days):
            found = tick(url, folder, FIRST + day * DAY + timedelta(hours=5), receiver)
            assert not found.failed
            assert not found.left
        return contents(url), receiver.told()

    return run


def disturbed(url, folder, days: int, seed: int) -> Receiver:
    """Run with downtime of 1 to 30 days, starts at odd hours, clocks set back, and a crash in every other start."""
    rng, receiver = random.Random(seed), Receiver()
    last = FIRST + (days - 1) * DAY + timedelta(hours=5)
    now = FIRST + timedelta(hours=5)
    while now < last:
        crash = None
        if rng.random() < 0.5:
            crash = (rng.choice(POINTS), rng.choice(["before", "after"]), rng.choice([1, 1, 2, 3]))
        with contextlib.suppress(Crash):
            tick(url, folder, now, receiver, crash)
        if rng.random() < 0.2:
            tick(url, folder, now - timedelta(hours=2), receiver)
        longest = min(30, max(days // 5, 2))
        now += rng.choice([timedelta(hours=rng.randint(1, 30)), DAY, rng.randint(1, longest) * DAY])
    tick(url, folder, last, receiver)
    return receiver


@pytest.mark.parametrize("days", [7, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.fault("F094")
@pytest.mark.fault("F097")
@pytest.mark.fault("F110")
@pytest.mark.fault("F114")
def test_every_date_is_done_once_whatever_happens(url, folder, undisturbed, days, monkeypatch):
    """The tables are those of an undisturbed run, and whoever gets alerts hears the same; the local zone has DST."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    machine_time.tzset()
    try:
        receiver = disturbed(url, folder, days, seed=days)
        found = contents(url)
    finally:
        monkeypatch.undo()
        machine_time.tzset()
    tables, told = undisturbed(days)

    assert found.keys() == tables.keys()
    for name, table in tables.items():
        assert found[name] == table, name
    assert {status for _, _, status in found["jobs"]} == {"done"}
    assert sum(job.startswith("risk_report ") for job, _, _ in found["jobs"]) == days
    assert receiver.told() == told
    assert told
    for said in told.values():
        assert [action for action, _ in said] == ["trigger", "resolve"] * (len(said) // 2) + ["trigger"] * (
            len(said) % 2
        )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.fault("F100")
def test_a_crash_at_each_point_is_made_good(tmp_path, folder, undisturbed, point, when):
    """The next start finds the run abandoned and does it; nothing is there twice."""
    url, receiver = f"sqlite:///{tmp_path / 'risk.db'}", Receiver()
    now = FIRST + timedelta(hours=5)
    with pytest.raises(Crash):
        tick(url, folder, now, receiver, (point, when, 1))
    found = tick(url, folder, now + timedelta(hours=1), receiver)

    assert not found.failed
    assert not found.left
    assert found.done or point == "mark_delivered" or (point, when) == ("save_reports", "after")
    tables, told = undisturbed(1)
    assert contents(url) == tables
    assert receiver.told() == told


@pytest.mark.fault("F093")
def test_two_at_once_do_each_date_once(url, folder):
    """Two daemons on one database: no date is done twice, none is left."""
    receiver, errors = Receiver(), []
    now = FIRST + 4 * DAY + timedelta(hours=5)
    SqlStore(open_database(url)).close()

    def daemon() -> None:
        try:
            for _ in range(6):
                tick(url, folder, now, receiver)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=daemon) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tick(url, folder, now, receiver)

    assert not errors
    rows = execute(
        url,
        "SELECT job, logical_date, status, attempts FROM etl_job_status WHERE substr(job, 1, 11) = 'risk_report'",
    )
    assert len(rows) == 5
    assert {(status, attempts) for _, _, status, attempts in rows} == {("done", 1)}
    for said in receiver.told().values():
        assert said[0][0] == "trigger"


@pytest.mark.fault("F095")
def test_a_run_that_takes_longer_than_the_interval(tmp_path, folder):
    """A start while it is at work leaves its date and the later ones, and the next one catches up, oldest first."""
    url, receiver = f"sqlite:///{tmp_path / 'risk.db'}", Receiver()
    clock = SetTo(FIRST + DAY + timedelta(hours=5))
    with SqlStore(open_database(url), clock) as store:
        desk = desk_of(store, folder, clock)
        with store.lock(desk.ledger_name("daily"), FIRST):
            meanwhile = tick(url, folder, clock.time, receiver)
    after = tick(url, folder, clock.time, receiver)

    assert {date for _, date in meanwhile.left} == {FIRST, FIRST + DAY}
    assert not meanwhile.done
    assert [(date - FIRST).days for name, date in after.done if name == "risk_report"] == [0, 1]
    assert not after.left


def test_what_it_needs_must_be_done(tmp_path, folder):
    """A report without its correlations waits; the date before it does not hold it up."""
    url = f"sqlite:///{tmp_path / 'risk.db'}"
    jobs = [job for job in JOBS if job.name != "correlation_update"]
    found = tick(url, folder, FIRST + timedelta(hours=5), Receiver(), jobs=jobs)

    assert [name for name, _ in found.done] == ["depeg_backfill"]
    assert [name for name, _ in found.left] == ["risk_report"]


def test_nothing_is_due_before_its_hour(tmp_path, folder):
    """At 02:15 the report of the day is not due; its prices are."""
    url = f"sqlite:///{tmp_path / 'risk.db'}"
    found = tick(url, folder, FIRST + timedelta(hours=2, minutes=15), Receiver())

    assert [name for name, _ in found.done] == ["depeg_backfill", "correlation_update"]


@pytest.mark.fault("F096")
def test_a_date_that_is_not_final_is_left_open(tmp_path, folder):
    """Five past midnight, the day before is all that counts; asked for by name it is refused with when it is due."""
    url = f"sqlite:///{tmp_path / 'risk.db'}"
    now = FIRST + timedelta(minutes=5)
    assert not tick(url, folder, now, Receiver()).done
    clock = SetTo(now)
    with (
        SqlStore(open_database(url), clock) as store,
        pytest.raises(SettingsError, match="is due at 2024-01-15T02:00"),
    ):
        run_jobs(desk_of(store, folder, clock), JOBS[:3], FIRST, chain="daily")


@pytest.mark.fault("F098")
def test_a_clock_that_is_a_year_ahead_is_not_believed(tmp_path, folder):
    """Nothing is done until it is set right; a long silence can be confirmed by saying since when."""
    url = f"sqlite:///{tmp_path / 'risk.db'}"
    clock = SetTo(FIRST + timedelta(hours=5))
    with SqlStore(open_database(url), clock) as store:
        catch_up(desk_of(store, folder, clock), since=FIRST)
        before = len(store.load_jobs())
        clock.time += timedelta(days=365)
        with pytest.raises(ClockSuspectError, match="the clock says 2025-01-14T05:00:00Z, the last run was at"):
            catch_up(desk_of(store, folder, clock))
        assert len(store.load_jobs()) == before


def test_one_old_run_does_not_make_every_date_due(tmp_path, folder):
    """A date of a year ago was done by hand: the scheduler asks since when dates are wanted."""
    url, now = f"sqlite:///{tmp_path / 'risk.db'}", FIRST + timedelta(days=365, hours=5)
    clock = SetTo(now)
    with SqlStore(open_database(url), clock) as store:
        desk = desk_of(store, folder, clock)
        run_jobs(desk, JOBS[:3], FIRST, chain="daily")
        with pytest.raises(
            SettingsError, match="nothing of the days from 2024-01-15 to 2025-01-14; say since when"
        ):
            catch_up(desk)
        found = catch_up(desk, since=now - DAY)
        again = catch_up(desk, since=now - DAY)

    assert {date for _, date in found.done} == {
        pd.Timestamp(day, tz="UTC") for day in ("2025-01-13", "2025-01-14")
    }
    assert (again.done, again.failed, again.left) == ((), {}, ())


def test_a_date_that_keeps_failing_holds_up_no_other(tmp_path, folder, monkeypatch):
    """Later dates of its chain wait for two more starts, then they go on without it, for years if need be."""
    url, receiver = f"sqlite:///{tmp_path / 'risk.db'}", Receiver()
    bad = FIRST + DAY
    run = catch_up_module._in_this_process

    def failing(desk):
        def one(job, date):
            if (job.name, date) == ("risk_report", bad):
                desk.store.begin_job(desk.ledger_name(job.name), date)
                desk.store.end_job(desk.ledger_name(job.name), date, status="failed")
                raise RiskError("a price that nobody understands")
            return run(desk)(job, date)

        return one

    monkeypatch.setattr(catch_up_module, "_in_this_process", failing)
    now = FIRST + 3 * DAY + timedelta(hours=5)
    done = [
        [(date - FIRST).days for name, date in tick(url, folder, now, receiver).done if name == "risk_report"]
        for _ in range(3)
    ]
    assert done == [[0], [], [2, 3]]
    with SqlStore(open_database(url), SetTo(now)) as store:
        for back in range(4, 104):  # as if every day since were done
            for job in JOBS[:3]:
                name = desk_of(store, folder, SetTo(now)).ledger_name(job.name)
                store.begin_job(name, FIRST + back * DAY)
                store.end_job(name, FIRST + back * DAY)
        later = SetTo(FIRST + 104 * DAY + timedelta(hours=5))
        store.begin_job("another", later.time)
        found = catch_up(desk_of(store, folder, later), clock_is_right=True, jobs=JOBS[:3])
    assert [(date - FIRST).days for name, date in found.done if name == "risk_report"] == [104]


@pytest.mark.fault("F098")
def test_what_a_clock_ahead_did_is_done_again(tmp_path, folder):
    """59 days too far for a moment: dates to come are not done, and their reports silence nobody."""
    url, receiver = f"sqlite:///{tmp_path / 'risk.db'}", Receiver()
    tick(url, folder, FIRST + timedelta(hours=5), receiver)
    ahead = tick(url, folder, FIRST + 3 * DAY + timedelta(hours=5), receiver)
    again = tick(url, folder, FIRST + DAY + timedelta(hours=5), receiver)
    with SqlStore(open_database(url)) as store:
        rows = {row.logical_date: row for row in store.load_jobs() if row.job.startswith("risk_report ")}
        health = job_health(store.load_jobs(), JOBS[2:3], FIRST + DAY + timedelta(hours=5))
    after = tick(url, folder, FIRST + 3 * DAY + timedelta(hours=5), receiver)

    assert len(ahead.done) == 9
    assert not again.done
    assert {(date - FIRST).days: row.status for date, row in rows.items()} == {
        0: "done",
        1: "done",
        2: "abandoned",
        3: "abandoned",
    }
    assert "a clock that was ahead" in rows[FIRST + 2 * DAY].message
    assert [one.last_date for one in health] == [FIRST + DAY]
    assert [(date - FIRST).days for name, date in after.done if name == "risk_report"] == [2, 3]


def test_since_must_have_come(tmp_path, folder):
    """One of next week would switch the scheduler off."""
    clock = SetTo(FIRST)
    with (
        SqlStore(open_database(f"sqlite:///{tmp_path / 'risk.db'}"), clock) as store,
        pytest.raises(SettingsError, match="has not come"),
    ):
        catch_up(desk_of(store, folder, clock), since=FIRST + 7 * DAY)


@pytest.mark.fault("F029")
def test_attempts_at_a_date_are_counted_together(tmp_path, folder):
    """Rows, ends and what was asked for are summed, also over an attempt that was killed."""
    clock = SetTo(FIRST + timedelta(hours=5))
    with SqlStore(open_database(f"sqlite:///{tmp_path / 'risk.db'}"), clock) as store:
        desk = desk_of(store, folder, clock)
        name = desk.ledger_name(JOBS[0].name)
        run_jobs(desk, JOBS[:1], FIRST, chain="daily")
        [first] = store.load_jobs(name)
        store.begin_job(name, FIRST)
        store.end_job(name, FIRST, status="abandoned")
        run_jobs(desk, JOBS[:1], FIRST, chain="daily", forced=True)
        [row] = store.load_jobs(name)

    new = first.details["rows_written"]["price_history"]["new"]
    assert 0 < new == row.details["rows_written"]["price_history"]["new"]
    assert (first.details["ends"], row.details["ends"], row.attempts) == ({"done": 1}, {"done": 2}, 3)


def test_what_somebody_should_look_at(tmp_path, folder):
    """An asset that is there and cannot be read: everything is done, and two jobs say so."""
    broken = tmp_path / "prices"
    shutil.copytree(folder, broken)
    (broken / "DAI_1d.csv").write_text("timestamp,price\n2024-01-01T00:00:00Z,abc\n")
    found = tick(f"sqlite:///{tmp_path / 'risk.db'}", broken, FIRST + timedelta(hours=5), Receiver())

    assert [name for name, _ in found.done] == ["depeg_backfill", "correlation_update", "risk_report"]
    assert [name for name, _ in found.attention] == ["depeg_backfill", "risk_report"]


def test_the_end_of_a_dead_run_is_written_under_its_lock(tmp_path, folder):
    """While somebody holds it the run may be alive; one that ended keeps its end."""
    clock, job = SetTo(FIRST + timedelta(hours=5)), JOBS[0]
    end = {"chain": "daily", "status": "failed", "message": "stopped"}
    with SqlStore(open_database(f"sqlite:///{tmp_path / 'risk.db'}"), clock) as store:
        desk = desk_of(store, folder, clock)
        name = desk.ledger_name(job.name)
        store.begin_job(name, FIRST)
        with store.lock(desk.ledger_name("daily"), FIRST):
            assert not end_dead_run(desk, job, FIRST, **end)
            assert [row.status for row in store.load_jobs(name)] == ["running"]
        assert end_dead_run(desk, job, FIRST, **end)
        assert [row.status for row in store.load_jobs(name)] == ["failed"]
        store.begin_job(name, FIRST)
        store.end_job(name, FIRST)
        assert not end_dead_run(desk, job, FIRST, **end)
        assert [row.status for row in store.load_jobs(name)] == ["done"]


class Metered(tr.sources.CsvSource):
    """Counts its calls, as far as a plan needs it."""

    calls, calls_per_minute, monthly_credits = 0, 60.0, None

    def longest_window(self, step):
        return timedelta(days=10_000)

    def earliest(self, step):
        return FIRST - 40 * DAY

    def check_ids(self, assets):
        return {}


@pytest.mark.fault("F094")
def test_a_call_budget_leaves_the_newest_dates_for_the_next_time(tmp_path, folder):
    """Ten days were missed and calls are for three of them: oldest first, the rest stays missing."""
    url, clock = f"sqlite:///{tmp_path / 'risk.db'}", SetTo(FIRST + 9 * DAY + timedelta(hours=5))
    with SqlStore(open_database(url), clock) as store:
        desk = desk_of(store, folder, clock, Metered(folder))
        daily = JOBS[:3]
        found = catch_up(desk, since=FIRST, call_budget=3 * len(desk.assets) + 1, jobs=daily)
        again = catch_up(desk, since=FIRST, call_budget=3 * len(desk.assets) + 1, jobs=daily)

    assert [(date - FIRST).days for name, date in found.done if name == "risk_report"] == [0, 1, 2]
    assert len(found.left) == 7 * 3
    assert [(date - FIRST).days for name, date in again.done if name == "risk_report"] == [3, 4, 5]


class Unreliable(Receiver):
    """Does not take the first messages, or refuses what is about LTV."""

    def __init__(self, name: str, failures: int = 0, refuses: str = "-") -> None:
        super().__init__()
        self.name, self.failures, self.refuses = name, failures, refuses

    def send(self, message: AlertMessage) -> None:
        if self.refuses in message.key:
            raise AlertRefusedError("payload.severity is wrong")
        if self.failures:
            self.failures -= 1
            raise AlertUndeliveredError("no answer")
        super().send(message)


@pytest.mark.fault("F109")
@pytest.mark.fault("F110")
def test_each_sink_gets_each_alert_whatever_others_do(tmp_path, folder, caplog):
    """One that is away gets them later and in order; what one refuses the others get; the job does not notice."""
    url = f"sqlite:///{tmp_path / 'risk.db'}"
    away, picky, well = Unreliable("away", failures=2), Unreliable("picky", refuses="ltv"), Unreliable("well")
    with SqlStore(open_database(url)) as store:
        clock = SetTo(FIRST + timedelta(hours=5))
        assert not catch_up(desk_of(store, folder, clock), since=FIRST).failed
        counts = [deliver_alerts(store, [away, picky, well]) for _ in range(4)]

    expected = [message.key for message in well.got]
    assert any("ltv" in key for key in expected)
    assert [message.key for message in away.got] == expected
    assert [message.key for message in picky.got] == [key for key in expected if "ltv" not in key]
    assert [one["away"] for one in counts] == [0, 0, len(expected), 0]
    assert "payload.severity is wrong" in caplog.text
    assert len({(message.key, message.action) for message in well.got}) == len(well.got)


def test_every_name_of_a_source_makes_a_message():
    """A space that no terminal shows is written out, and what is cut stays apart from what else is cut."""
    alert = StoredAlert(
        key="ltv", action="trigger", severity="high", message="m", as_of=FIRST, source="csv:my\u00a0prices", step="1d"
    )  # fmt: skip
    longest = [attrs.evolve(alert, source=f"csv:{'n' * 400}", key=key) for key in ("ltv", "depeg:USDC")]

    shown = message_of(alert)
    assert ("csv:my\\xa0prices:1d:ltv", "risk_report csv:my\\xa0prices 1d") == (shown.key, shown.source)
    assert 2 == len({message_of(one).key for one in longest})


def test_a_report_whose_file_was_not_written_any_more(tmp_path, folder):
    """The next start writes it from the store, though the date is done."""
    clock, out = SetTo(FIRST + timedelta(hours=5)), tmp_path / "out"
    out.mkdir()
    with SqlStore(open_database(f"sqlite:///{tmp_path / 'risk.db'}"), clock) as store:
        desk = attrs.evolve(desk_of(store, folder, clock), out=out)
        catch_up(desk, since=FIRST)
        [file] = out.iterdir()
        written = file.read_bytes()
        file.unlink()  # as a kill between the two would leave it
        assert () == catch_up(desk, since=FIRST).done

    assert written == file.read_bytes()


@pytest.mark.fault("F099")
@pytest.mark.parametrize(("at", "status"), [(0, "interrupted"), (1, "done")])
def test_an_interrupt_before_and_behind_the_stored_report(url, folder, tmp_path, at, status):
    """Behind it the date stays done, and the next start writes the file; before it the next start does it again."""
    clock = SetTo(FIRST + timedelta(hours=5))

    def interrupt(what: str, done: int, _of: int) -> None:
        if (what, done) == ("assessing", at):
            raise KeyboardInterrupt

    with SqlStore(open_database(url), clock) as store:
        desk = attrs.evolve(desk_of(store, folder, clock), out=tmp_path)
        with pytest.raises(KeyboardInterrupt):
            catch_up(attrs.evolve(desk, progress=interrupt), since=FIRST)
        [row] = store.load_jobs(desk.ledger_name("risk_report"))
        found = catch_up(desk, since=FIRST)
        [again] = store.load_jobs(desk.ledger_name("risk_report"))

    assert row.status == status
    assert [name for name, _ in found.done] == ([] if status == "done" else ["risk_report"])
    assert (again.status, again.attempts) == ("done", 1 if status == "done" else 2)
    assert [file.name for file in tmp_path.glob("*.json")] == [f"risk_report_{FIRST.date()}.json"]


def test_a_stop_ends_the_delivery(tmp_path, folder):
    """What was not sent yet waits for the next time."""
    first, second = Receiver(), Unreliable("second")
    with SqlStore(open_database(f"sqlite:///{tmp_path / 'risk.db'}")) as store:
        catch_up(desk_of(store, folder, SetTo(FIRST + timedelta(hours=5))), since=FIRST)
        stopped = deliver_alerts(store, [first, second], is_over=lambda: len(first.got) == 1)
        waiting = len(store.load_alerts(waiting_for="second"))
        later = deliver_alerts(store, [first, second])

    assert stopped == {"receiver": 1, "second": 0}
    assert waiting > 1
    assert later == {"receiver": waiting - 1, "second": waiting}
    assert [message.key for message in first.got] == [message.key for message in second.got]


def test_the_ledger_tells_of_force(tmp_path, folder):
    """A date that is done is done again, and the row says so; without force nothing runs."""
    url, clock = f"sqlite:///{tmp_path / 'risk.db'}", SetTo(FIRST + timedelta(hours=5))
    with SqlStore(open_database(url), clock) as store:
        desk = desk_of(store, folder, clock)
        first = run_jobs(desk, JOBS[:3], FIRST, chain="daily")
        second = run_jobs(desk, JOBS[:3], FIRST, chain="daily")
        forced = run_jobs(desk, JOBS[:1], FIRST, chain="daily", forced=True)
        rows = {row.job.split()[0]: (row.forced, row.attempts, row.rows) for row in store.load_jobs()}

    assert [one.status for one in first] == ["done"] * 3
    assert [one.status for one in second] == ["skipped"] * 3
    assert [one.status for one in forced] == ["done"]
    assert rows["depeg_backfill"][:2] == (True, 2)
    assert rows["risk_report"] == (False, 1, 1)

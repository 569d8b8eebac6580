"""What only a store in a file can suffer: bad files, other processes, and being killed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.errors import (
    SettingsError,
    StorageError,
    StoreBusyError,
    StoreCorruptError,
)
from tonsurance_risk.model import DepegEvent, Scenario
from tonsurance_risk.ports import Store, WriteResult
from tonsurance_risk.storage import MemoryStore, SqlStore, database, open_store
from tonsurance_risk.storage.schema import VERSION, historical_depegs

NOON = pd.Timestamp("2023-03-11 12:00", tz="UTC")
HOUR = timedelta(hours=1)
KEY = {"source": "feed", "step": "1h"}


def hours(*prices: float, name: str = "USDC") -> pd.Series:
    return pd.Series(prices, pd.date_range(NOON, periods=len(prices), freq="h"), name=name, dtype=float)


def depeg(**changes) -> DepegEvent:
    fields = {
        "asset": "USDC",
        "direction": "below",
        "start": NOON,
        "end": NOON + HOUR,
        "recovered_at": None,
        "min_price": 0.9,
        "max_price": 0.95,
        "severity": 0.1,
        "n_observations": 2,
        "threshold": 0.02,
        "recovery": 0.005,
        "min_duration": HOUR,
        "max_gap": None,
        "merge_within": timedelta(0),
        "sample_span": HOUR,
        "peg_reference": 1.0,
    }
    return DepegEvent(**fields | changes)


def pair(r: float = 0.5) -> CorrelationMatrix:
    return CorrelationMatrix(("A", "B"), [[1.0, r], [r, 1.0]], np.full((2, 2), 9), np.zeros((2, 2)), 30, NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "risk.db"


def opened(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


def execute(path: Path, *statements: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        connection.commit()
    return rows


class TestUrls:
    def test_what_is_accepted(self, path: Path) -> None:
        with open_store("memory://") as store:
            assert isinstance(store, MemoryStore)
        with open_store(f"sqlite:///{path}", migrate=True) as store:
            assert isinstance(store, SqlStore)

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        open_store("sqlite:///risk Ω %20#.db").close()
        assert (tmp_path / "risk Ω %20#.db").exists()

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://hunter2",
            "//me:hunter2@host",
            "hunter2",
            "sqlite://me:hunter2@host/risk.db",
        ],
    )
    def test_others_are_refused_without_showing_a_password(self, url: str) -> None:
        with pytest.raises(SettingsError, match=r"sqlite:///.*memory://") as refused:
            open_store(url)
        assert "hunter2" not in repr(refused.value)

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
    def test_sqlite_in_memory_is_pointed_to_the_other_store(self, url: str) -> None:
        with pytest.raises(SettingsError, match="in memory is memory://"):
            open_store(url)

    @pytest.mark.parametrize("url", [None, 3, "sqlite:///risk.db?mode=ro", "sqlite:///a\0b"])
    def test_no_url_and_no_file(self, url: object) -> None:
        with pytest.raises(SettingsError, match="accepted are"):
            open_store(url)


class TestOpening:
    def test_everything_is_there_after_opening_again(self, path: Path) -> None:
        with opened(path) as store:
            store.save_prices(hours(1.0, 0.9), **KEY)
            store.save_events([depeg()])
            store.save_correlations([pair()], **KEY)
            store.save_scenarios([Scenario("a", 0.1)])
            key = store.save_run_inputs({"a": 1})
        with opened(path) as store:
            assert store.load_prices()["USDC"].tolist() == [1.0, 0.9]
            assert store.load_events() == [depeg()]
            assert store.load_correlations(window_days=30, **KEY) == pair()
            assert store.load_scenarios() == [Scenario("a", 0.1)]
            assert store.load_run_inputs(key) == {"a": 1}

    @pytest.mark.fault("F074")
    def test_an_empty_file_is_set_up(self, path: Path) -> None:
        path.touch()
        with opened(path) as store:
            assert store.load_prices().empty
        assert execute(path, "SELECT version_num FROM tonsurance_version") == [(str(VERSION),)]

    def test_settings_of_the_database(self, path: Path) -> None:
        with opened(path) as store, store.database.begun(writes=False) as connection:
            settings_found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "foreign_keys", "busy_timeout")
            ]
        assert settings_found == ["wal", 1, 5000]

    @pytest.mark.fault("F073")
    @pytest.mark.parametrize(
        "content",
        [
            b"not a database, only text\n" * 100,
            b"x",
            bytes(range(256)) * 64,
            b"SQLite format 3\0",
            b"SQLite format 3\0" + b"\xff" * 5000,
            b"\0" * 4096,
        ],
        ids=["text", "one byte", "binary", "cut in its header", "nonsense behind the magic", "zeros"],
    )
    def test_what_is_not_a_database_is_left_as_it_is(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(StoreCorruptError, match=r"risk\.db.*left as it is"):
            opened(path)
        assert path.read_bytes() == content
        assert [file.name for file in path.parent.iterdir()] == ["risk.db"]

    @pytest.mark.fault("F073")
    @pytest.mark.parametrize("kept", [60, 100, 4095, 4096, 10_000, -4096, -1])
    def test_a_file_cut_short_is_left_as_it_is(self, path: Path, kept: int) -> None:
        with opened(path) as store:
            store.save_prices(hours(*np.linspace(0.9, 1.0, 2000)), **KEY)
        content = path.read_bytes()[:kept]
        path.write_bytes(content)
        with pytest.raises(StoreCorruptError, match="left as it is"):
            opened(path)
        assert path.read_bytes() == content

    @pytest.mark.fault("F073")
    def test_a_page_overwritten_in_the_middle_is_named_when_it_is_read(self, path: Path) -> None:
        with opened(path) as store:
            store.save_prices(hours(*np.linspace(0.9, 1.0, 20_000)), **KEY)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2 // 4096 * 4096
        content[middle : middle + 40_960] = b"\xaa" * 40_960
        path.write_bytes(content)
        with opened(path) as store, pytest.raises(StoreCorruptError, match="not a sound database"):
            store.load_prices()

    def test_the_database_of_something_else_is_left_as_it_is(self, path: Path) -> None:
        execute(path, "CREATE TABLE customers (name TEXT)", "INSERT INTO customers VALUES ('x')")
        content = path.read_bytes()
        with pytest.raises(StoreCorruptError, match=r"something else.*customers"):
            opened(path)
        assert path.read_bytes() == content

    def test_a_table_of_the_same_name_but_another_form(self, path: Path) -> None:
        execute(path, "CREATE TABLE tonsurance_schema (name TEXT)")
        content = path.read_bytes()
        with pytest.raises(StorageError):
            opened(path)
        assert path.read_bytes() == content

    def test_a_table_lost(self, path: Path) -> None:
        opened(path).close()
        execute(path, "DROP TABLE risk_reports")
        with pytest.raises(StoreCorruptError, match=r"lost.*risk_reports"):
            opened(path)

    def test_the_version_lost(self, path: Path) -> None:
        opened(path).close()
        execute(path, "DELETE FROM tonsurance_version")
        with pytest.raises(StoreCorruptError, match="lost its schema version"):
            opened(path)

    def test_a_place_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        for place in (tmp_path / "missing" / "risk.db", tmp_path / "file" / "risk.db", tmp_path):
            with pytest.raises(StorageError, match=str(place)):
                opened(place)
        with pytest.raises(StorageError, match="too long"):
            opened(tmp_path / ("n" * 300))
        assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]

    def test_a_link_to_nowhere(self, path: Path) -> None:
        path.symlink_to(path.parent / "missing" / "risk.db")
        with pytest.raises(StorageError, match=r"risk\.db"):
            opened(path)

    def test_several_processes_open_a_new_store_at_once(self, path: Path) -> None:
        program = "import sys; from tonsurance_risk.storage import open_store; input(); open_store(sys.argv[1])"
        children = [
            subprocess.Popen(
                [sys.executable, "-c", program, f"sqlite:///{path}"],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        time.sleep(2)
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        assert [(child.communicate(timeout=60)[1], child.returncode) for child in children] == [("", 0)] * 3


class TestErrors:
    @pytest.mark.fault("F072")
    def test_a_locked_database(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "BUSY_TIMEOUT", timedelta(seconds=0.2))
        with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
            store.save_prices(hours(1.0), **KEY)
            other.execute("BEGIN IMMEDIATE")
            writes = [
                lambda: store.save_prices(hours(2.0), **KEY),
                lambda: store.save_events([depeg()]),
                lambda: store.save_correlations([pair()], **KEY),
                lambda: store.save_scenarios([Scenario("a", 0.1)]),
                lambda: store.save_reports([{"as_of": "2024-01-01T00:00:00Z"}], **KEY),
                lambda: store.save_run_inputs({}),
            ]
            for write in writes:
                with pytest.raises(StoreBusyError, match="another process"):
                    write()
            assert store.load_prices()["USDC"].tolist() == [1.0]
            other.execute("ROLLBACK")
            assert store.save_prices(hours(2.0), **KEY) == WriteResult(0, 1, 0)

    @pytest.mark.fault("F072")
    def test_a_writer_waits_for_another(self, path: Path) -> None:
        with (
            opened(path) as store,
            closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
            release.start()
            assert store.save_prices(hours(1.0), **KEY) == WriteResult(1, 0, 0)
            release.join()

    def test_a_new_database_that_another_process_holds(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "BUSY_TIMEOUT", timedelta(seconds=0.2))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreBusyError):
                opened(path)

    def test_no_error_of_the_database_comes_out(self, path: Path) -> None:
        with opened(path) as store:
            tables = execute(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables:
                execute(path, f"DROP TABLE {table}")
            uses = [
                lambda: store.save_prices(hours(1.0), **KEY),
                store.load_prices,
                lambda: store.load_prices(known_at=NOON),
                lambda: store.save_events([depeg()]),
                store.load_events,
                lambda: store.save_correlations([pair()], **KEY),
                lambda: store.load_correlations(window_days=30, **KEY),
                lambda: store.save_scenarios([Scenario("a", 0.1)]),
                store.load_scenarios,
                lambda: store.save_reports([{"as_of": "2024-01-01T00:00:00Z"}], **KEY),
                store.load_reports,
                lambda: store.save_snapshots(
                    pd.DataFrame({"var_95": [1.0], "capital": [1.0], "coverage": [1.0]}, index=[NOON]), **KEY
                ),
                lambda: store.load_snapshots(**KEY),
                lambda: store.save_run_inputs({}),
                lambda: store.load_run_inputs("x"),
            ]
            for use in uses:
                with pytest.raises(StorageError, match=r"risk\.db.*no such table"):
                    use()

    @pytest.mark.fault("F070")
    def test_a_full_disk(self, path: Path) -> None:
        with opened(path) as store:
            store.save_prices(hours(*[1.0] * 1000), **KEY)
        program = """
import resource, signal, sys
import numpy as np, pandas as pd
from tonsurance_risk.errors import StorageError
from tonsurance_risk.storage import open_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
prices = pd.Series(2.0, pd.date_range("2023-03-11 12:00", periods=200_000, freq="h", tz="UTC"), name="USDC")
with open_store(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        store.save_prices(prices, source="feed", step="1h")
    except StorageError as error:
        print(type(error).__name__, error)
"""
        done = subprocess.run(
            [sys.executable, "-c", program, f"sqlite:///{path}"],
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert done.stdout.startswith("StorageError"), done
        assert str(path) in done.stdout
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]
        with opened(path) as store:
            assert store.load_prices()["USDC"].tolist() == [1.0] * 1000

    @pytest.mark.fault("F075")
    def test_after_closing_the_file_alone_holds_everything(self, path: Path, tmp_path: Path) -> None:
        with opened(path) as store:
            store.save_prices(hours(*[1.0] * 1000), **KEY)
        copy = tmp_path / "copy.db"
        shutil.copyfile(path, copy)
        with opened(copy) as store:
            assert len(store.load_prices()) == 1000


class TestTheDatabaseRefuses:
    @pytest.mark.fault("F091")
    @pytest.mark.parametrize(
        "price", ["'abc'", "x'01'", "''", "0", "-1.0", "9e999", "NULL", "'NaN'", "'Infinity'"]
    )
    @pytest.mark.parametrize("table", ["price_history", "price_revision"])
    def test_what_is_no_price(self, path: Path, price: str, table: str) -> None:
        opened(path).close()
        columns, values = "asset, source, step, time, price, recorded_at", f"'a', 'b', 'c', 1, {price}, 1"
        if table == "price_revision":
            columns, values = f"{columns}, replaced_at", f"{values}, 2"
        with pytest.raises(sqlite3.IntegrityError):
            execute(path, f"INSERT INTO {table} ({columns}) VALUES ({values})")
        execute(path, f"INSERT INTO {table} ({columns}) VALUES ({values.replace(price, '1.5')})")

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE stress_scenarios SET probability = 1.1",
            "UPDATE stress_scenarios SET probability = -0.1",
            "UPDATE stress_scenarios SET probability = 'likely'",
            'UPDATE historical_depegs SET "end" = start - 1',
            "UPDATE historical_depegs SET direction = 'left'",
            "UPDATE asset_correlations SET correlation = 1.1",
            "UPDATE asset_correlations SET correlation = 'high'",
            "UPDATE asset_correlations SET asset_1 = 'B', asset_2 = 'A'",
            "UPDATE asset_correlations SET asset_1 = asset_2",
            "UPDATE risk_snapshots SET var_95 = 9e999",
            "INSERT INTO tonsurance_version VALUES (NULL)",
        ],
    )
    def test_what_breaks_a_rule(self, path: Path, statement: str) -> None:
        with opened(path) as store:
            store.save_scenarios([Scenario("a", 0.1)])
            store.save_events([depeg()])
            store.save_correlations([pair()], **KEY)
            store.save_snapshots(
                pd.DataFrame({"var_95": [1.0], "capital": [1.0], "coverage": [1.0]}, index=[NOON]), **KEY
            )
        with pytest.raises(sqlite3.IntegrityError):
            execute(path, statement)

    def test_an_event_twice(self, path: Path) -> None:
        with opened(path) as store:
            store.save_events([depeg()])
            copied = [column.name for column in historical_depegs.columns if column.name != "id"]
        names = ", ".join(f'"{name}"' for name in copied)
        with pytest.raises(sqlite3.IntegrityError, match="historical_depegs_key"):
            execute(path, f"INSERT INTO historical_depegs ({names}) SELECT {names} FROM historical_depegs")

    def test_a_pair_without_its_assets(self, path: Path) -> None:
        with opened(path) as store:
            store.save_correlations([pair()], **KEY)
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            execute(path, "PRAGMA foreign_keys = ON", "DELETE FROM correlation_assets")

    def test_the_largest_and_smallest_prices_pass(self, path: Path) -> None:
        with opened(path) as store:
            store.save_prices(hours(np.finfo(float).max, 5e-324), **KEY)
            assert store.load_prices()["USDC"].tolist() == [np.finfo(float).max, 5e-324]


@pytest.mark.fault("F090")
def test_a_large_write_is_one_transaction(path: Path) -> None:
    index = pd.date_range("2020-01-01", periods=120_000, freq="min", tz="UTC")
    seen = set()
    with opened(path) as store, opened(path) as reader:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                seen.add(len(reader.load_prices(step="1m")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            assert store.save_prices(pd.Series(1.0, index, name="USDC"), source="feed", step="1m") == WriteResult(
                120_000, 0, 0
            )
        finally:
            done.set()
            watcher.join()
        assert len(reader.load_prices(step="1m")) == 120_000
    assert seen <= {0, 120_000}


def test_the_view_of_the_latest_correlations(path: Path) -> None:
    """The newest instant of each source, step and window."""
    table = pd.DataFrame([[1.0, 0.5], [0.5, 1.0]], index=["DAI", "USDC"], columns=["DAI", "USDC"])
    with opened(path) as store:
        for days, window, source in ((1, 30, "a"), (2, 30, "a"), (1, 90, "a"), (3, 30, "b")):
            as_of = pd.Timestamp(2024, 1, days, tz="UTC")
            matrix = attrs.evolve(CorrelationMatrix.from_frame(table), window_days=window, as_of=as_of)
            store.save_correlations([matrix], source=source, step="1h")

    rows = execute(path, "SELECT source, window_days, as_of, correlation FROM latest_correlations ORDER BY 1, 2")

    day = 86_400_000_000
    first = pd.Timestamp("2024-01-01", tz="UTC").value // 1000
    assert [("a", 30, first + day, 0.5), ("a", 90, first, 0.5), ("b", 30, first + 2 * day, 0.5)] == rows

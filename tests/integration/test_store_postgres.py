"""What only a store on a server can suffer: connections that go, wrong URLs, TimescaleDB.

An SQLite file has no connection that a restart could cut (F076), and no deadlock, for a writer asks for the whole
file before it reads (F077).
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import URL, event, exc, make_url, text

from databases import execute, spellings, stop, terminate_others
from tonsurance_risk.cli import run
from tonsurance_risk.errors import (
    LockHeldError,
    RiskError,
    SettingsError,
    StorageError,
    StoreCorruptError,
    StoreUnavailableError,
)
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage import open_store
from tonsurance_risk.storage.schema import price_history
from tonsurance_risk.storage.timescale import timescale
from tonsurance_risk.testing.examples import KEY, NOON, hours, matrix, snapshots
from tonsurance_risk.testing.examples import event as depeg

SECRET = "hunter2-Ω/@"


class TestConnections:
    @pytest.mark.fault("F076")
    def test_a_connection_lost_between_two_uses(self, postgres_url: str) -> None:
        with open_store(postgres_url) as store:
            terminate_others(postgres_url)
            assert store.save_prices(hours(1.0), **KEY) == WriteResult(1, 0, 0)

    @pytest.mark.fault("F076")
    def test_a_connection_lost_in_a_transaction(self, postgres_url: str) -> None:
        """The whole of it is done again, once."""
        with open_store(postgres_url) as store:
            lost = []

            @event.listens_for(store.database.engine, "before_cursor_execute")
            def _lose(_connection, _cursor, sql, *_others) -> None:
                if "INSERT INTO price_history" in sql and not lost:
                    lost.append(sql)
                    terminate_others(postgres_url)

            assert store.save_prices(hours(1.0, 0.9), **KEY) == WriteResult(2, 0, 0)
            assert len(lost) == 1
            assert store.load_prices()["USDC"].tolist() == [1.0, 0.9]

    @pytest.mark.fault("F077")
    @pytest.mark.parametrize("code", ["40P01", "40001"])
    def test_a_deadlock_is_tried_again(self, postgres_url: str, code: str) -> None:
        execute_after = []
        with open_store(postgres_url) as store:

            @event.listens_for(store.database.engine, "before_cursor_execute")
            def _stop(connection, _cursor, sql, *_others) -> None:
                if "INSERT INTO price_history" in sql and len(execute_after) < 2:
                    execute_after.append(sql)
                    stop(connection, code)

            assert store.save_prices(hours(1.0), **KEY) == WriteResult(1, 0, 0)
        assert len(execute_after) == 2

    @pytest.mark.fault("F087")
    def test_a_lock_whose_connection_is_gone(self, postgres_url: str) -> None:
        """Its holder is told; the pool holds no lock."""
        with open_store(postgres_url) as store:
            with store.lock("daily", NOON) as lock:
                terminate_others(postgres_url)
                with pytest.raises(LockHeldError, match="is gone"):
                    lock.verify()
            store.load_prices()
            with store.database.begun(writes=False) as connection:
                held = connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
                assert held.scalar_one() == 0

    def test_a_lock_is_free_when_its_block_ends(self, postgres_url: str) -> None:
        """Not when the server has seen that the connection ended: 1 of 75 came too early for that, so 1 of 4 runs passes."""
        with open_store(postgres_url) as store:
            for _ in range(100):
                with store.lock("daily", NOON):
                    pass


class TestContent:
    @pytest.mark.fault("F034")
    @pytest.mark.fault("F091")
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE price_history SET price = 'NaN'",
            "UPDATE price_history SET price = 'Infinity'",
            "UPDATE price_history SET price = 0",
            "UPDATE price_history SET price = 'high'",
            "UPDATE price_history SET quality = 'NaN'",
            "UPDATE price_history SET outlier = 0.5",
            "UPDATE historical_depegs SET severity = 'NaN'",
            'UPDATE historical_depegs SET "end" = start - 1',
            "UPDATE historical_depegs SET min_duration = -1",
            "UPDATE historical_depegs SET direction = 'left'",
            "UPDATE asset_correlations SET correlation = 1.1",
            "UPDATE asset_correlations SET asset_1 = 'b', asset_2 = 'B'",
            "DELETE FROM correlation_assets",
            "UPDATE stress_scenarios SET probability = 1.1",
            "UPDATE risk_snapshots SET var_95 = 'Infinity'",
            "INSERT INTO scenario_events VALUES ('none', 'USDC', 'below', 0, 0, NULL, 0)",
            "INSERT INTO etl_job_status VALUES ('daily', 0, 'asleep', 1, 0, NULL, '')",
        ],
    )
    def test_the_database_refuses_what_breaks_a_rule(self, postgres_url: str, statement: str) -> None:
        with open_store(postgres_url) as store:
            store.save_prices(hours(1.0), **KEY)
            store.save_events([depeg()])
            store.save_correlations([matrix("B", "b")], **KEY)
            store.save_scenarios([Scenario("a", 0.1)])
            store.save_snapshots(snapshots([1.0]), **KEY)
        with pytest.raises(exc.DBAPIError):
            execute(postgres_url, statement)

    @pytest.mark.fault("F090")
    def test_a_large_write_is_one_transaction(self, postgres_url: str) -> None:
        index = pd.date_range("2020-01-01", periods=250_000, freq="min", tz="UTC")
        seen = set()
        with open_store(postgres_url) as store, open_store(postgres_url) as reader:
            done = threading.Event()

            def watch() -> None:
                while not done.wait(0.02):
                    seen.add(len(reader.load_prices(step="60s")))

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                prices = pd.Series(1.0 + np.arange(250_000) * 1e-9, index, name="USDC")
                assert store.save_prices(prices, source="feed", step="60s").new == 250_000
            finally:
                done.set()
                watcher.join()
        assert seen <= {0, 250_000}

    @pytest.mark.fault("F073")
    def test_the_database_of_something_else_is_left_as_it_is(self, postgres_url: str) -> None:
        execute(postgres_url, "CREATE TABLE customers (name TEXT)")
        with pytest.raises(StoreCorruptError, match=r"something else.*customers"):
            open_store(postgres_url)

    def test_the_views_give_the_same_on_both(self, postgres_url: str, tmp_path) -> None:
        """Row for row, type for type."""
        found = []
        for url in (f"sqlite:///{tmp_path / 'risk.db'}", postgres_url):
            with open_store(url) as store:
                prices = pd.Series(
                    [1.0, 0.9, 0.8],
                    pd.to_datetime(["1969-12-31 23:00", "1970-01-01 00:00", "1970-01-01 23:00"], utc=True),
                    name="USDC",
                )
                store.save_prices(prices, **KEY)
                store.save_marks("outlier", (prices < 0.85).astype(float).to_frame(), **KEY)
                store.save_events([depeg(), depeg(start=NOON + timedelta(days=9), recovered_at=None)])
                store.save_correlations([matrix("BTC", "DAI", "USDC", r=0.95)], **KEY)
                store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.1, is_active=False)])
                views = {}
                with store.database.begun(writes=False) as connection:
                    for view in (
                        "depeg_statistics",
                        "latest_correlations",
                        "contagion_risk",
                        "active_scenarios",
                        "daily_price_stats",
                        "recent_price_anomalies",
                    ):
                        rows = connection.execute(text(f"SELECT * FROM {view}")).all()
                        views[view] = sorted(
                            str([bool(v) if k == "is_default" else v for k, v in row._mapping.items()])
                            for row in rows
                        )
                found.append(views)
        assert found[0] == found[1]
        assert [len(rows) for rows in found[0].values()] == [1, 3, 1, 1, 2, 1]
        day = "['USDC', 'feed', '1h', 0, 2, 0.8, 0.9, 0.85"
        assert found[0]["daily_price_stats"][1].startswith(day)


class TestSecrets:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+psycopg://me:{}@127.0.0.1:1/db",
            "postgresql+psycopg://me:{}@127.0.0.1:port/db",
            "postgresql+psycopg://me:{}@host/db?sslmode=perhaps",
            "postgresql+psycopg://me:{}@[::1/db",
            "postgresql+psycopg://127.0.0.1:1/db?password={}",
            "postgresql+psycopg2://me:{}@127.0.0.1:1/db",
            "postgresql://me:p@{}@127.0.0.1:1/db",
            "postgresql://me:x/{}@127.0.0.1:1/db",
            "postgresql:///{}@db",
        ],
    )
    def test_no_password_in_errors_and_logs(self, url: str, caplog, capsys) -> None:
        caplog.set_level(logging.DEBUG)
        for secret in (SECRET, "hunter2"):
            with pytest.raises(RiskError) as refused:
                open_store(url.format(secret))
            shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value) + caplog.text
            assert "hunter2" not in shown.replace(url.format(secret), "")
            assert run(["db", "info", "--db", url.format(secret)]) in (2, 3)
            said = capsys.readouterr()
            assert "hunter2" not in said.out + said.err

    def test_an_open_store_does_not_show_it(self, secret_url: URL) -> None:
        url = secret_url.render_as_string(hide_password=False)
        with open_store(url) as store:
            shown = f"{store!r} {store.database!r} {store.database.engine!r} {store.database.name}"
            execute(url, "DROP TABLE risk_reports CASCADE")
            with pytest.raises(StorageError) as failed:
                store.load_reports()
            shown += "".join(traceback.format_exception(failed.value))
        assert not [secret for secret in spellings(secret_url.password) if secret in shown]

    @pytest.mark.parametrize("url", ["postgresql+psycopg://localhost:1/db", "postgresql://localhost:1/db"])
    def test_a_server_that_does_not_answer(self, url: str) -> None:
        begin = time.perf_counter()
        with pytest.raises(StoreUnavailableError, match="postgresql://localhost:1/db does not answer"):
            open_store(url)
        assert time.perf_counter() - begin < 15

    def test_without_the_driver(self, monkeypatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        with pytest.raises(SettingsError, match=r"tonsurance-risk\[postgres\]"):
            open_store("postgresql://localhost/db")


STAND_IN = """
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.dimensions (
    hypertable_schema text, hypertable_name text, dimension_number int, integer_interval bigint
);
CREATE TABLE timescaledb_information.jobs (hypertable_schema text, hypertable_name text, proc_name text, config jsonb);
CREATE FUNCTION create_hypertable(
    relation regclass, time_column name, chunk_time_interval bigint, create_default_indexes boolean, migrate_data boolean
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO timescaledb_information.dimensions VALUES (current_schema(), relation::text, 1, chunk_time_interval)
$$;
"""


@pytest.fixture
def apache_url(postgres_url: str) -> Iterator[str]:
    """URL of a database with a stand-in for the Apache edition: what it has, and no function of the other one.

    The server must read extensions from a folder of ours, which PostgreSQL 18 can.
    """
    share = Path(tempfile.mkdtemp(prefix="stand-in"))
    folder = share / "extension"
    folder.mkdir()
    (folder / "timescaledb.control").write_text("default_version = '0.0-stand-in'\nrelocatable = true\n")
    (folder / "timescaledb--0.0-stand-in.sql").write_text(STAND_IN)
    share.chmod(0o755)  # the server may be another user
    name = make_url(postgres_url).database
    try:
        execute(
            postgres_url,
            f"SET extension_control_path = '$system:{share}'",
            "CREATE EXTENSION timescaledb VERSION '0.0-stand-in'",
            f"ALTER DATABASE {name} SET timescaledb.license = 'apache'",
        )
    except exc.DBAPIError as error:
        pytest.skip(f"the server takes no stand-in for TimescaleDB: {str(error.orig).splitlines()[0]}")
    finally:
        shutil.rmtree(share)
    yield postgres_url
    execute(postgres_url, f"ALTER DATABASE {name} RESET timescaledb.license")


class TestTimescale:
    """SQLite has no such extension (F084, F085, F086)."""

    @pytest.mark.fault("F084")
    def test_the_edition_that_compresses_nothing(self, apache_url: str, capsys) -> None:
        """A hypertable, no policy, and everything else works; `db info` tells."""
        for _ in range(2):
            with open_store(apache_url, migrate=True) as store:
                store.save_prices(hours(1.0), **KEY)
                assert store.load_prices()["USDC"].tolist() == [1.0]
        assert execute(apache_url, "SELECT * FROM timescaledb_information.jobs") == []
        assert run(["db", "info", "--db", apache_url]) == 0
        said = "license apache, is hypertable True, chunk days 90.0, compressed after days None"
        assert said in capsys.readouterr().out

    @pytest.mark.fault("F086")
    @pytest.mark.parametrize("migrate", [False, True])
    def test_a_hypertable_of_another_chunk_interval_is_left_alone(self, apache_url: str, migrate, capsys) -> None:
        """Whoever made it had a reason; `db info` tells."""
        open_store(apache_url).close()
        week = 7 * 86_400_000_000
        execute(apache_url, f"UPDATE timescaledb_information.dimensions SET integer_interval = {week}")
        open_store(apache_url, migrate=migrate).close()
        assert execute(apache_url, "SELECT integer_interval FROM timescaledb_information.dimensions") == [(week,)]
        assert run(["db", "info", "--db", apache_url]) == 0
        assert "chunk days 7.0" in capsys.readouterr().out

    @pytest.mark.fault("F085")
    def test_every_unique_key_of_prices_has_the_time(self) -> None:
        """A hypertable takes no other."""
        assert "time" in price_history.primary_key.columns
        assert not [index for index in price_history.indexes if index.unique and "time" not in index.columns]

    @pytest.mark.timescale
    @pytest.mark.fault("F086")
    def test_a_hypertable_where_the_server_has_the_extension(self, postgres_url: str) -> None:
        """In chunks, compressed, written and archived all the same."""
        try:
            execute(postgres_url, "CREATE EXTENSION IF NOT EXISTS timescaledb")
        except exc.DBAPIError as error:
            pytest.skip(f"the server has no TimescaleDB: {str(error.orig).splitlines()[0]}")
        prices = pd.Series(1.0, pd.date_range("2022-01-01", periods=500, freq="D", tz="UTC"), name="USDC")
        for price in (1.0, 1.1):
            with open_store(postgres_url, migrate=True) as store:
                store.save_prices(prices * price, source="feed", step="1d")
                with store.database.begun(writes=True) as connection:
                    found = timescale(connection)
                    if found.license == "timescale":
                        chunks = "show_chunks('price_history') AS chunk"
                        connection.execute(
                            text(f"SELECT compress_chunk(chunk, if_not_compressed => true) FROM {chunks}")
                        )
                assert store.load_prices(step="1d")["USDC"].tolist() == [price] * 500
            assert (found.is_hypertable, found.chunk_days) == (True, 90.0)
            assert found.compressed_after_days == (180.0 if found.license == "timescale" else None)

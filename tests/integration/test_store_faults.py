"""What a store suffers on either database: locks, full disks, hostile names, secrets that want out."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from databases import execute, listening, spellings, stop
from tonsurance_risk.cli import run, runs
from tonsurance_risk.errors import RiskError, StoreBusyError, StoreUnavailableError
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage import database, open_store
from tonsurance_risk.storage.copies import contents
from tonsurance_risk.testing.examples import KEY, NOON, hours, matrix
from tonsurance_risk.testing.examples import event as depeg

HOSTILE = "a'; DROP TABLE price_history; --"


def is_file(url: str) -> bool:
    return url.startswith("sqlite")


HOLD = """
import sys
from tonsurance_risk.storage import open_store
with open_store(sys.argv[1]) as store, store.database.begun(writes=True):
    print("holding", flush=True)
    input()
"""


class TestOtherWriters:
    @pytest.mark.fault("F072")
    def test_a_locked_database_names_its_holder(self, url: str, monkeypatch) -> None:
        """Readers do not wait; once it is free the write succeeds."""
        monkeypatch.setattr(database, "BUSY_TIMEOUT", timedelta(seconds=0.2))
        with open_store(url) as store:
            child = subprocess.Popen(
                [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert child.stdout.readline() == "holding\n"
            with pytest.raises(StoreBusyError, match="locked by another process") as refused:
                store.save_prices(hours(1.0), **KEY)
            assert store.load_prices().empty
            child.communicate("\n", timeout=60)
            assert store.save_prices(hours(1.0), **KEY) == WriteResult(1, 0, 0)
        if not is_file(url):
            assert "(tonsurance_risk) since 2" in refused.value.observed
        elif Path("/proc/locks").exists():
            assert f"process {child.pid} (python" in refused.value.observed
        assert str(refused.value.observed) in str(refused.value)

    @pytest.mark.fault("F072")
    def test_a_table_locked_by_an_analyst(self, postgres_url: str, monkeypatch) -> None:
        """Any client may do that; on SQLite a lock is on the whole file, whoever has it."""
        monkeypatch.setattr(database, "BUSY_TIMEOUT", timedelta(seconds=0.2))
        analyst = create_engine(postgres_url, connect_args={"application_name": "notebook"})
        with open_store(postgres_url) as store, analyst.begin() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            connection.execute(text("LOCK TABLE price_history IN SHARE MODE"))
            with pytest.raises(StoreBusyError, match=rf"server process {pid} \(notebook\) since"):
                store.save_prices(hours(1.0), **KEY)
        analyst.dispose()

    @pytest.mark.fault("F077")
    def test_many_writers_lose_nothing(self, url: str) -> None:
        """Each of the 20 changes of one price is a revision."""
        with open_store(url) as store, ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda k: store.save_prices(hours(1.0 + k / 100), **KEY), range(20)))
            assert sum(result.new for result in results) == 1
        ((revisions,),) = execute(url, "SELECT count(*) FROM price_revision")
        assert revisions == sum(result.changed for result in results) == 19

    @pytest.mark.fault("F078")
    def test_a_pool_without_connections(self, url: str, monkeypatch) -> None:
        monkeypatch.setattr(database, "BUSY_TIMEOUT", timedelta(seconds=0.2))
        with open_store(url) as store:
            with ExitStack() as held:
                for _ in range(15):
                    held.enter_context(store.database.engine.connect())
                with pytest.raises(StoreBusyError, match="no connection"):
                    store.load_prices()
            assert store.load_prices().empty


class TestNoMoreWrites:
    @pytest.mark.fault("F070")
    def test_a_full_disk(self, url: str, tmp_path: Path, capsys) -> None:
        """SQLite reaches the most pages that it may have; the server's error is raised where prices are written."""

        def few_pages(connection, _record) -> None:
            connection.execute("PRAGMA max_page_count = 150")

        def full(connection, _cursor, sql, *_others) -> None:
            if "INSERT INTO price_history" in sql:
                stop(connection, "53100")

        with open_store(url) as store:
            store.save_prices(hours(1.0), **KEY)
            held = contents(store.database)
        fault = ("connect", few_pages) if is_file(url) else ("before_cursor_execute", full)
        with listening(Engine, *fault):
            with open_store(url) as store, pytest.raises(StoreUnavailableError, match="its disk is full"):
                store.save_prices(hours(*[0.9] * 50_000), **KEY)
            with open_store(url) as store:
                assert contents(store.database) == held
            common = ["--db", url, "--interval", "1d", "--n", "1000", "--out", str(tmp_path / "reports")]
            assert run(["daily", *common]) == 2
        assert "its disk is full" in capsys.readouterr().err
        if is_file(url):
            assert execute(url, "PRAGMA integrity_check") == [("ok",)]
        assert run(["daily", *common]) in (0, 1)

    @pytest.mark.fault("F080")
    def test_a_database_that_takes_no_writes(self, url: str) -> None:
        """What a replica and a file system mounted for reading do; reads go on."""

        def refuse(connection, _record) -> None:
            connection.execute(
                "PRAGMA query_only = ON" if is_file(url) else "SET default_transaction_read_only = on"
            )
            if not is_file(url):
                connection.commit()

        with open_store(url) as store:
            store.save_prices(hours(1.0), **KEY)
            store.database.engine.dispose()
            with listening(store.database.engine, "connect", refuse):
                with pytest.raises(StoreUnavailableError, match="takes no writes"):
                    store.save_prices(hours(2.0), **KEY)
                assert store.load_prices()["USDC"].tolist() == [1.0]
            store.database.engine.dispose()
            assert store.save_prices(hours(2.0), **KEY) == WriteResult(0, 1, 0)


class TestTimescale:
    @pytest.mark.fault("F083")
    def test_everything_is_a_plain_table_without_it(self, url: str, capsys) -> None:
        """Said once, by `db info`; SQLite never has it."""
        open_store(url).close()
        assert run(["db", "info", "--db", url]) == 0
        assert capsys.readouterr().out.count("timescaledb: None") == 1


class TestNames:
    @pytest.mark.fault("F138")
    def test_every_name_is_only_a_name(self, url: str) -> None:
        """Asset, source, step, scenario, job, hash; bound, never part of a statement."""
        with open_store(url) as store:
            place = {"source": HOSTILE, "step": HOSTILE}
            store.save_prices(hours(1.0, name=HOSTILE), **place)
            store.save_marks("quality", hours(0.5, name=HOSTILE).to_frame(), **place)
            store.save_events([depeg(HOSTILE, source=HOSTILE)])
            store.save_correlations([matrix(HOSTILE, "USDC")], **place)
            scenario = Scenario(HOSTILE, 0.1, source=HOSTILE)
            store.save_scenarios([scenario], events={HOSTILE: [depeg(HOSTILE, source=HOSTILE)]})
            store.begin_job(HOSTILE, NOON)
            alert = {"key": HOSTILE, "action": "trigger", "severity": "low", "message": HOSTILE}
            store.save_reports([{"as_of": NOON.isoformat(), "alert_changes": [alert]}], **place, job=HOSTILE)
            store.mark_delivered(store.load_alerts(waiting_for=HOSTILE), sink=HOSTILE)
            with store.lock(HOSTILE, NOON) as lock:
                lock.verify()
            with pytest.raises(LookupError, match="DROP TABLE"):
                store.load_run_inputs(HOSTILE)

            (asset,) = store.load_prices([HOSTILE], **place).columns
            assert store.load_marks("quality", [HOSTILE], **place)[asset].tolist() == [0.5]
            assert [one.asset for one in store.load_events([HOSTILE], source=HOSTILE)] == [asset]
            assert store.load_correlations(window_days=30, **place).assets[0] in (asset, "USDC")
            assert store.load_scenarios() == [scenario]
            assert store.load_scenario_events(HOSTILE)["asset"].tolist() == [asset]
            assert [one.job for one in store.load_jobs(HOSTILE)] == [HOSTILE]
            assert [(one.key, one.message) for one in store.load_alerts()] == [(HOSTILE, HOSTILE)]
            assert store.load_alerts(waiting_for=HOSTILE) == []
            assert store.price_sources(step=HOSTILE) == [HOSTILE]

    @pytest.mark.fault("F138")
    def test_a_url_is_only_a_place(self, url: str, tmp_path: Path) -> None:
        """Of a file, a database or a schema that has such a name."""
        with open_store(url) as store:
            store.save_prices(hours(1.0), **KEY)
        if is_file(url):
            open_store(f"sqlite:///{tmp_path / HOSTILE}").close()
            assert (tmp_path / HOSTILE).exists()
        else:
            parts = make_url(url)
            options = {"options": "-c search_path=public;DROP\\ TABLE\\ price_history"}
            for hostile in (parts.set(database=HOSTILE), parts.update_query_dict(options)):
                with pytest.raises(RiskError):
                    open_store(hostile.render_as_string(hide_password=False))
        with open_store(url) as store:
            assert store.load_prices()["USDC"].tolist() == [1.0]


CANARY = "canary7f3a"


class TestSecrets:
    def test_a_wrong_password(self, guarded_url, capsys) -> None:
        """Host, database and user are named, the password is not."""
        wrong = guarded_url.set(password=CANARY).render_as_string(hide_password=False)
        with pytest.raises(StoreUnavailableError, match="does not let us in") as refused:
            open_store(wrong)
        assert (guarded_url.host or guarded_url.query["host"]) in str(refused.value)
        assert f'"{guarded_url.username}"' in str(refused.value)
        assert CANARY not in "".join(traceback.format_exception(refused.value))
        assert run(["db", "info", "--db", wrong]) == 2
        said = capsys.readouterr()
        assert f'"{guarded_url.username}"' in said.err
        assert CANARY not in said.out + said.err

    def test_the_right_password_with_odd_letters(self, guarded_url) -> None:
        with open_store(guarded_url.render_as_string(hide_password=False)) as store:
            assert store.save_prices(hours(1.0), **KEY).new == 1

    def test_a_password_leaves_no_trace(self, secret_url, tmp_path: Path, caplog, capsys, monkeypatch) -> None:
        """Not in what the commands print, log and write, nor in the traceback of an error that nobody foresaw."""
        caplog.set_level(logging.DEBUG)
        url = secret_url.render_as_string(hide_password=False)
        common = ["--db", url, "--interval", "1d"]
        assert run(["daily", *common, "--n", "1000", "--out", str(tmp_path / "reports")]) in (0, 1)
        assert run(["scenarios", "calibrate", *common]) == 0
        for command in (
            ["info"],
            ["check"],
            ["backup", str(tmp_path / "b.db")],
            ["archive", str(tmp_path / "old")],
        ):
            assert run(["db", *command, "--db", url]) in (0, 1)
        with open_store(url) as store:
            shown = f"{store!r} {store.database!r} {store.database.engine!r} {store.database.engine.pool!r}"

        def fail(store, *_arguments, **_options) -> None:
            raise RuntimeError(f"nobody foresaw this: {store.database!r}")

        monkeypatch.setattr(runs, "run_daily", fail)
        assert run(["daily", *common]) == 2
        said = capsys.readouterr()
        assert "nobody foresaw this" in said.err
        written = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(written) >= 2
        everything = [
            (shown + said.out + said.err + caplog.text).encode(),
            *(file.read_bytes() for file in written),
        ]
        secrets = [secret.encode() for secret in spellings(secret_url.password)]
        assert not [secret for secret in secrets for content in everything if secret in content]


class TestLocale:
    def test_the_ordered_pair_holds_where_the_database_orders_letters_otherwise(self, postgres_url: str) -> None:
        """A database of an ICU locale puts "a" before "B"; the columns of symbols compare by code point."""
        ((provider, otherwise),) = execute(
            postgres_url,
            "SELECT datlocprovider::text, 'a' < 'B' FROM pg_database WHERE datname = current_database()",
        )
        if (provider, otherwise) != ("i", True):
            pytest.skip("the server knows no ICU locale")
        with open_store(postgres_url) as store:
            store.save_correlations([matrix("a", "B", "USDC", "ä")], **KEY)
            assert store.load_correlations(window_days=30, **KEY).assets == ("a", "B", "USDC", "ä")
            store.save_prices(pd.DataFrame(1.0, index=[NOON], columns=["a", "B", "ä"]), **KEY)
            assert list(store.load_prices().columns) == ["B", "a", "ä"]
        pairs = execute(postgres_url, "SELECT asset_1, asset_2 FROM asset_correlations")
        assert len(pairs) == 6
        assert all(first < second for first, second in pairs)
        (first, *_), *_ = execute(postgres_url, "SELECT asset FROM price_history ORDER BY asset")
        assert first == "B"

"""Backups that are restored, archives that are replayed, and checks that find what is broken; on both databases."""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

import tonsurance_risk as tr
from databases import listening
from tonsurance_risk.cli import run
from tonsurance_risk.errors import StorageError, StoreCorruptError
from tonsurance_risk.runner import maintenance
from tonsurance_risk.runner.calibration import backtest_scenarios, calibrate_scenarios
from tonsurance_risk.runner.daily import run_daily
from tonsurance_risk.runner.integrity import check_store
from tonsurance_risk.runner.maintenance import archive_prices, replay_prices
from tonsurance_risk.storage import SqlStore, archives, open_store
from tonsurance_risk.storage.audit import broken_rules
from tonsurance_risk.storage.copies import back_up, contents, restore
from tonsurance_risk.testing import SetClock
from tonsurance_risk.testing.examples import HOUR, KEY, NOON, event, hours, matrix, snapshots


@pytest.fixture
def other_url(url: str, tmp_path: Path, request) -> str:
    """Of the other kind."""
    if url.startswith("sqlite"):
        return request.getfixturevalue("other_postgres_url")
    return f"sqlite:///{tmp_path / 'other.db'}"


def filled(store: SqlStore, clock: SetClock) -> None:
    """Put a row into every table."""
    store.save_prices(hours(1.0, 0.1 + 0.2, 5e-324), **KEY)
    clock.forward()
    store.save_prices(hours(1.0, 0.9), **KEY)
    store.save_marks("quality", hours(0.5).to_frame(), **KEY)
    reject = {"asset": "USDC", "time": NOON, "reason": "range", "raw": "inf", "detail": "Ω"}
    store.save_rejects(pd.DataFrame([reject]), **KEY)
    store.save_events([event(), event(source=None, confirmed=True)])
    store.save_correlations([matrix("USDC", "DAI", "it's")], **KEY)
    store.save_scenarios(tr.builtin_scenarios()[:2], events={tr.builtin_scenarios()[0].name: [event()]})
    alert = {"key": "k", "action": "trigger", "severity": "high", "message": "m"}
    store.save_reports([{"as_of": NOON.isoformat(), "alert_changes": [alert]}], **KEY)
    store.mark_delivered(store.load_alerts(), sink="log")
    store.save_snapshots(snapshots([1.0, 2.0]), **KEY)
    store.save_run_inputs({"a": 1})
    store.begin_job("daily", NOON)


class TestBackup:
    @pytest.mark.fault("F075")
    def test_a_backup_restores_into_either_database(self, url: str, other_url: str, tmp_path: Path) -> None:
        """While the store is open, so with commits that only its log holds; identities go on."""
        clock, backup = SetClock(), tmp_path / "backup.db"
        with open_store(url, clock=clock) as store, open_store(other_url, clock=clock) as other:
            filled(store, clock)
            held = contents(store.database)
            assert back_up(store.database, backup) == held
            assert sorted(file.name for file in tmp_path.glob("backup*")) == ["backup.db"]
            assert restore(backup, other.database) == held == contents(other.database)
            for one in (store, other):
                one.save_prices(hours(2.0), **KEY)
                one.save_events([event("DAI")])
            assert contents(store.database) == contents(other.database)
            for target in (other, store):
                with pytest.raises(StorageError, match=r"holds data.*price_history"):
                    restore(backup, target.database)
            with pytest.raises(StorageError, match="exists already"):
                back_up(store.database, backup)
            with pytest.raises(StorageError, match="no backup"):
                restore(tmp_path / "missing.db", other.database)
        assert not (tmp_path / "missing.db").exists()

    def test_a_copy_that_stays_in_its_log_is_none(self, postgres_url: str, tmp_path: Path) -> None:
        """As on a full disk, where closing does not move it into the file; one who reads along does the same here."""
        with ExitStack() as readers:

            def read_along(connection, _cursor, sql, *_others) -> None:
                if connection.engine.name == "sqlite" and "INSERT INTO price_history" in sql:
                    reader = readers.enter_context(closing(sqlite3.connect(connection.engine.url.database)))
                    reader.execute("SELECT * FROM sqlite_master").fetchone()

            with open_store(postgres_url, clock=(clock := SetClock())) as store:
                filled(store, clock)
                with (
                    listening(Engine, "before_cursor_execute", read_along),
                    pytest.raises(StorageError, match="could not be completed"),
                ):
                    back_up(store.database, tmp_path / "backup.db")
        assert list(tmp_path.glob("backup*")) == []

    def test_the_commands(self, url: str, other_url: str, tmp_path: Path, capsys) -> None:
        clock, backup = SetClock(), tmp_path / "backup.db"
        assert run(["db", "upgrade", "--db", url]) == 0
        with open_store(url, clock=clock) as store:
            filled(store, clock)
        assert run(["db", "backup", str(backup), "--db", url]) == 0
        assert run(["db", "restore", str(backup), "--db", other_url]) == 0
        assert run(["db", "restore", str(backup), "--db", other_url]) == 2
        assert run(["db", "backup", str(backup), "--db", other_url]) == 2
        assert run(["db", "backup", str(tmp_path / "none" / "b.db"), "--db", other_url]) == 2
        assert "none is not a folder" in capsys.readouterr().err
        capsys.readouterr()
        assert run(["db", "info", "--db", other_url]) == 0
        shown = capsys.readouterr().out
        assert "price_history: 3" in shown
        assert "feed 1h: 3 prices of 1 assets, 2023-03-11T12:00:00" in shown
        assert run(["db", "check", "--db", url]) in (0, 1)
        missing = f"sqlite:///{tmp_path / 'missing.db'}"
        for command in (["info"], ["check"], ["backup", "x.db"], ["archive", "x"]):
            for url_of_nothing in (missing, f"sqlite:///{'n' * 300}"):
                assert run(["db", *command, "--db", url_of_nothing]) == 3
        assert run(["db", "info", "--db", "memory://"]) == 3
        for before in ("soon", "2023-01-01T05:00"):
            assert run(["db", "archive", str(tmp_path), "--db", url, "--before", before]) == 3


@pytest.fixture
def old_prices() -> pd.DataFrame:
    index = pd.date_range("2021-11-15", "2022-02-10", freq="h", tz="UTC")
    values = 1.0 + np.random.default_rng(0).normal(0, 1e-3, (len(index), 2))
    return pd.DataFrame(values, index=index, columns=["DAI", "USDC"])


class TestArchive:
    def test_old_prices_move_and_are_replayed(self, url: str, tmp_path: Path, old_prices: pd.DataFrame) -> None:
        """As of every instant; whole months only; again does nothing; what comes later gets a file of its own."""
        clock, folder = SetClock(), tmp_path / "old"
        before = pd.Timestamp("2022-01-20", tz="UTC")
        with open_store(url, clock=clock) as store:
            store.save_prices(old_prices, **KEY)
            first = clock.time
            clock.forward()
            revised = old_prices.iloc[:100] + 1e-4
            store.save_prices(revised, **KEY)
            known = {at: store.load_prices(source="feed", known_at=at) for at in (first, clock.time, None)}

            made = archive_prices(store, folder, before=before)

            assert [(one.start.month, one.end.month) for one in made] == [(11, 12), (12, 1)]
            assert store.load_prices().index[0] == pd.Timestamp("2022-01-01", tz="UTC")
            for known_at, expected in known.items():
                replayed = replay_prices(store, folder, source="feed", known_at=known_at)
                pd.testing.assert_frame_equal(replayed, expected, check_exact=True, check_freq=False)
            month = pd.Timestamp("2021-12-05", tz="UTC"), pd.Timestamp("2022-01-03", tz="UTC")
            part = replay_prices(store, folder, ["USDC"], *month, source="feed")
            expected = old_prices[["USDC"]].loc[month[0] : month[1] - HOUR]
            np.testing.assert_array_equal(part.to_numpy(), expected.to_numpy())
            assert archive_prices(store, folder, before=before) == []
            assert [attrs.evolve(a, archived_at=a.start) for a in store.load_archives()] == made

            late = pd.Series([0.5], [pd.Timestamp("2021-12-10", tz="UTC")], name="USDC")
            store.save_prices(late, **KEY)
            (more,) = archive_prices(store, folder, before=before)
            assert more.file not in {one.file for one in made}
            assert replay_prices(store, folder, source="feed").loc[late.index[0], "USDC"] == 0.5
            gaps = {check.name: check for check in check_store(store)}["gaps of feed, 1h"]
            assert gaps.passed

            (folder / made[0].file).write_bytes(b"something else")
            with pytest.raises(StoreCorruptError, match="not the file that was written"):
                replay_prices(store, folder, source="feed")
            (folder / made[0].file).unlink()
            with pytest.raises(StorageError, match="cannot read the archive"):
                replay_prices(store, folder, source="feed")
            # What lies outside a damaged file needs it not.
            assert not replay_prices(store, folder, start=before, source="feed").empty

    def test_nothing_is_deleted_that_was_not_verified(
        self, url: str, tmp_path: Path, old_prices: pd.DataFrame, monkeypatch
    ) -> None:
        """A file that does not hold what was written, a folder that takes none, a price that changes meanwhile."""
        before = pd.Timestamp("2022-01-20", tz="UTC")
        with open_store(url) as store:
            store.save_prices(old_prices, **KEY)
            held = contents(store.database)

            (tmp_path / "file").touch()
            with pytest.raises(StorageError, match="cannot write"):
                archive_prices(store, tmp_path / "file", before=before)
            with monkeypatch.context() as patched:
                encoded = archives.encoded
                patched.setattr(archives, "encoded", lambda rows: encoded(list(rows)[1:]))
                with pytest.raises(StoreCorruptError, match="does not hold"):
                    archive_prices(store, tmp_path / "old", before=before)
            assert contents(store.database) == held

            written = archives.written

            def late_price(*arguments):
                store.save_prices(pd.Series([0.5], [old_prices.index[3]], name="USDC"), **KEY)
                return written(*arguments)

            with monkeypatch.context() as patched:
                patched.setattr(maintenance, "written", late_price)
                with pytest.raises(StorageError, match="changed while"):
                    archive_prices(store, tmp_path / "old", before=before)
            assert len(store.load_prices()) == len(old_prices)
            assert store.load_archives() == []
            assert run(["db", "archive", str(tmp_path / "old"), "--db", url, "--before", "2022-01-20"]) == 0
            assert len(store.load_archives()) == 2


@pytest.fixture(scope="module")
def daily_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of what a daily run on the simulated market leaves, a year of days."""
    source, folder = tr.sources.SampleSource(), tmp_path_factory.mktemp("daily")
    with open_store(f"sqlite:///{folder / 'risk.db'}") as store:
        run_daily(store, source, tr.sample_vault(), as_of=source.last, step="1d", n=1000)
        back_up(store.database, folder / "backup.db")
    return folder / "backup.db"


@pytest.fixture
def assessed(url: str, daily_run: Path) -> SqlStore:
    """A store after that run."""
    with open_store(url) as store:
        restore(daily_run, store.database)
        yield store


class TestCheck:
    def test_a_sound_store_has_the_gaps_of_its_source_alone(self, assessed: SqlStore) -> None:
        checks = check_store(assessed)

        assert len(checks) == 4
        (gaps,) = [one for one in checks if not one.passed]
        # The simulated market leaves these out, to show what a gap does.
        assert gaps.message == "BUSD lacks 3 from 2025-01-14T00:00:00Z to 2025-01-17T00:00:00Z"

    @pytest.mark.fault("F092")
    def test_rows_deleted_by_hand_are_a_gap(self, assessed: SqlStore) -> None:
        with assessed.database.begun(writes=True) as connection:
            middle = (
                connection.execute(text("SELECT max(time) FROM price_history")).scalar_one() - 40 * 86_400_000_000
            )
            connection.execute(
                text("DELETE FROM price_history WHERE asset = 'USDC' AND time BETWEEN :a AND :b"),
                {"a": middle, "b": middle + 3 * 86_400_000_000},
            )
        gaps = {one.name: one for one in check_store(assessed)}
        found = next(one for name, one in gaps.items() if name.startswith("gaps"))
        assert not found.passed
        assert "USDC lacks 4 from" in found.message

    @pytest.mark.fault("F048")
    def test_results_that_the_prices_no_longer_give(self, assessed: SqlStore) -> None:
        prices = assessed.load_prices(step="1d")
        (source,) = assessed.price_sources(step="1d")
        assessed.save_prices(prices["DAI"].iloc[-30:-5] * 0.9, source=source, step="1d")

        failed = [one.name.split()[0] for one in check_store(assessed) if not one.passed]

        assert failed == ["gaps", "correlations", "events"]

    def test_lost_results_are_missed(self, assessed: SqlStore) -> None:
        """A job has found events, and there are none."""
        with assessed.database.begun(writes=True) as connection:
            for table in ("scenario_events", "historical_depegs"):
                connection.execute(text(f"DELETE FROM {table}"))

        failed = {one.name.split()[0]: one.message for one in check_store(assessed) if not one.passed}

        assert {"gaps", "events"} == set(failed)
        assert "is not stored" in failed["events"]

    def test_prices_that_no_job_has_looked_at_have_no_events(self, url: str) -> None:
        with open_store(url) as store:
            store.save_prices(hours(1.0, 0.9, 0.9, 1.0), **KEY)

            assert {True} == {one.passed for one in check_store(store)}

    def test_coins_of_your_own_have_their_pegs(self, tmp_path: Path, url: str, capsys) -> None:
        """The weekly check and the command find again what the daily job found; a bar is known at its end."""
        days = pd.date_range("2025-01-01", periods=60, tz="UTC")
        prices = pd.DataFrame({"EURX": 1.08, "USDC": 1.0}, days)
        prices += np.random.default_rng(0).normal(0, 1e-3, prices.shape)
        prices.loc[days[30:33], "EURX"] = 0.99
        for name in prices:
            table = prices[name].rename("price").rename_axis("timestamp")
            table.to_csv(tmp_path / f"{name}_1d.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
        euro = tr.Asset(symbol="EURX", name="A euro", coingecko_id=None, peg=tr.FixedPeg(1.08))
        policies = [tr.Policy("1", "EURX", 1e4, 0.9, 0.5), tr.Policy("2", "USDC", 1e4, 0.9, 0.5)]
        vault = tr.Vault(1e6, policies, assets=[euro])
        (tmp_path / "vault.json").write_text(json.dumps(vault.to_dict()))
        source = tr.sources.CsvSource(tmp_path)
        with open_store(url) as store:
            run_daily(store, source, vault, as_of=days[-1], step="1d", n=1000)
            assert [days[31]] == [one.start for one in store.load_events(["EURX"])]
            weekly = {one.job: one for one in tr.run_weekly(store, source, vault, as_of=days[-1], step="1d")}

        assert "0 found something" in weekly["integrity_check"].outcome.message
        command = ["db", "check", "--db", url]
        assert [1, 0] == [run(command), run([*command, "--vault", str(tmp_path / "vault.json")])]
        assert "EURX from 2025-02-01T00:00:00Z is not in the prices" in capsys.readouterr().out

    def test_rules_that_were_switched_off(self, tmp_path: Path) -> None:
        """On SQLite anybody can; each broken rule is counted."""
        path = tmp_path / "risk.db"
        with open_store(f"sqlite:///{path}") as store:
            store.save_correlations([matrix("A", "B")], **KEY)
            store.save_prices(hours(1.0, 1.0), **KEY)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("UPDATE asset_correlations SET correlation = 2")
            connection.execute("UPDATE price_history SET price = -1")
            connection.execute("DELETE FROM correlation_assets")
            connection.commit()
        with open_store(f"sqlite:///{path}") as store:
            found = "\n".join(broken_rules(store.database))
        assert "1 rows of asset_correlations break correlation_is_a_number" in found
        assert "2 rows of price_history break price_is_positive" in found
        assert "1 rows of asset_correlations point to nothing in correlation_assets" in found


class TestCalibration:
    def test_scenarios_come_from_stored_events_and_are_compared_with_what_was_paid(
        self, url: str, tmp_path: Path, caplog
    ) -> None:
        """A coin at 0.90 for a day: its scenario says so, and the vault would have paid the same."""
        index = pd.date_range("2023-01-01", periods=24 * 60, freq="h", tz="UTC")
        prices = pd.DataFrame(1.0, index=index, columns=["USDC", "DAI"])
        prices.iloc[500:524, 0] = 0.90
        prices.iloc[510, 1] = 0.993
        vault = tr.Vault(
            1000.0, [tr.Policy("p", "USDC", 100.0, 0.95, 0.85), tr.Policy("q", "DAI", 100.0, 0.995, 0.985)]
        )
        with open_store(url) as store:
            store.save_prices(prices, **KEY)
            events = tr.detect_depegs(prices, sample_span=timedelta(hours=1))
            store.save_events([attrs.evolve(one, source="feed") for one in events])

            scenarios = calibrate_scenarios(store, source="feed", step="1h")

            assert store.load_scenarios() == [*tr.builtin_scenarios(), *scenarios]
            assert [one.is_active for one in scenarios] == [False, False]
            assert scenarios[0].source.endswith("; 1h prices of feed")
            assert store.load_scenario_events(scenarios[0].name)["asset"].tolist() == ["USDC"]
            (result,) = backtest_scenarios(store, vault, source="feed", step="1h")
            # DAI never was in an event, so no scenario knows that its policy paid a fifth.
            assert (result.predicted_loss, result.actual_loss) == pytest.approx((50.0, 70.0))
            assert store.load_backtests(**KEY) == [result]
            assert backtest_scenarios(store, vault, source="feed", step="1d") == []
            archive_prices(store, tmp_path / "old", before=pd.Timestamp("2023-02-01", tz="UTC"))
            # A loss of nothing would be wrong: what was paid cannot be told from these prices.
            assert backtest_scenarios(store, vault, source="feed", step="1h") == []
            assert store.load_backtests(**KEY) == [result]
            # The event was in the month that is gone, and so is the time in which it was observed.
            (quiet,) = calibrate_scenarios(store, source="feed", step="1h", active=True)
            assert (quiet.probability, quiet.is_active) == (1.0, True)
            assert "1 of 1 depegs of feed are left out" in caplog.text
            assert [one.is_active for one in store.load_scenarios()] == [True] * 5 + [False, True]

    def test_the_commands(self, url: str, tmp_path: Path, capsys) -> None:
        """On the simulated market, from the daily job to the backtest."""
        common = ["--db", url, "--interval", "1d"]
        assert run(["daily", *common, "--n", "1000", "--out", str(tmp_path / "reports")]) in (0, 1)
        assert run(["scenarios", "calibrate", *common]) == 0
        calibrated = capsys.readouterr().out
        assert "not drawn" in calibrated
        assert run(["scenarios", "list", "--db", url, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)["scenarios"]
        assert [one["is_active"] for one in listed[:6]] == [True] * 5 + [False]
        assert run(["scenarios", "list", "--db", url]) == 0
        assert capsys.readouterr().out.endswith(calibrated[-80:])
        assert run(["scenarios", "backtest", *common, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["backtests"]
        assert {one["scenario"] for one in found} < {one["name"] for one in listed[5:]}
        assert run(["scenarios", "backtest", *common]) == 0
        assert capsys.readouterr().out.count("predicted") == len(found) > 0
        assert run(["db", "archive", str(tmp_path / "old"), "--db", url, "--before", "2025-06-01"]) == 0
        capsys.readouterr()
        assert run(["scenarios", "backtest", *common]) == 1
        assert f"{len(found) - 2} of {len(found)} scenarios" in capsys.readouterr().err
        with open_store(url) as store:
            (source,) = store.price_sources(step="1d")
            assert len(store.load_backtests(source=source, step="1d")) == len(found)
            before = contents(store.database)

        for wrong in (["--interval", "1h"], ["--interval", "1w"], ["--interval", "1d", "--source", "nobody"]):
            for command in ("calibrate", "backtest"):
                assert run(["scenarios", command, "--db", url, *wrong]) == 3
        assert "'sample (simulated)'" in capsys.readouterr().err
        assert run(["scenarios", "list", "--db", f"sqlite:///{tmp_path / 'missing.db'}"]) == 3
        with open_store(url) as store:
            assert contents(store.database) == before

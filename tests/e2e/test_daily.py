"""The command `daily` in real processes, on real files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.cli import run

SHARED = Path(__file__).parents[3] / "shared" / "data" / "prices"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")


def daily(folder, *arguments, expect=0):
    """Run the command in a folder and return its output; the exit code must be as expected."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from tonsurance_risk.cli import main; main()", "daily", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert expect == done.returncode, done.stdout + done.stderr
    return done


def report(folder, date):
    """Read the report of a date."""
    return json.loads((folder / "reports" / f"risk_report_{date}.json").read_text())


def rows(folder):
    """Count the rows of every table."""
    with closing(sqlite3.connect(folder / "tonsurance_risk.db")) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        return {table: connection.execute(f'select count(*) from "{table}"').fetchone()[0] for table in tables}


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory):
    """The default run, once."""
    folder = tmp_path_factory.mktemp("sample")
    return folder, daily(folder)


def test_the_default_run_leaves_a_report(sample_run):
    """SQLite, simulated market, sample vault; exit code 0; called simulated where it is shown."""
    folder, done = sample_run
    document = report(folder, "2025-12-31")

    assert "simulated" in done.stdout
    assert "simulated" in document["inputs"]["source"]
    assert 15 == len(document["inputs"]["assets"])
    assert 91 == len(document["correlations"]["365"]["pairs"])
    assert 0.7 == document["portfolio_summary"]["ltv_ratio"]
    assert ("high", "ltv") in [(alert["severity"], alert["rule"]) for alert in document["risk_alerts"]]
    assert not [alert for alert in document["risk_alerts"] if alert["severity"] == "critical"]


def test_the_events_of_the_sample_market_are_its_truth(sample_run):
    """Every declared event and nothing else, the false print rejected."""
    folder, _ = sample_run
    document = report(folder, "2025-12-31")
    truth = {(event.asset, event.direction, event.start) for event in tr.sources.SampleSource().truth}

    found = {(e["asset"], e["direction"], pd.Timestamp(e["start"])) for e in document["depeg_events"]}

    assert truth == found
    [print_found] = [f for f in document["data_quality"]["findings"] if f["action"] == "reject"]
    assert ("USDP", "spike", 1) == (print_found["asset"], print_found["check"], print_found["count"])


def test_the_same_day_again_changes_nothing(sample_run):
    """Not a row, not a byte of the report; and the file comes back when it was lost."""
    folder, _ = sample_run
    path = folder / "reports" / "risk_report_2025-12-31.json"
    before, content = rows(folder), path.read_bytes()

    assert "was done before" in daily(folder).stdout
    path.unlink()
    daily(folder)

    assert before == rows(folder)
    assert content == path.read_bytes()


def test_another_seed_is_another_run(sample_run):
    """Of the same date: prices and events are not doubled, the report is replaced."""
    folder, _ = sample_run
    before = rows(folder)

    daily(folder, "--seed", "7", "--n", "500", "--out", "other")

    after = rows(folder)
    assert (
        500
        == json.loads((folder / "other" / "risk_report_2025-12-31.json").read_text())["var_analysis"][
            "simulations"
        ]
    )
    assert {table for table in after if before[table] != after[table]} == {"run_inputs"}


def test_json_output_is_the_report(tmp_path):
    """On stdout, with nothing around it."""
    done = daily(tmp_path, "--json", "--db", "memory://", "--interval", "1d", "--n", "500")

    assert json.loads(done.stdout) == report(tmp_path, "2025-12-31")


@pytest.fixture(scope="module")
def small_desk(tmp_path_factory):
    """Two coins over 120 days, with names that are not ASCII."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "prices").mkdir()
    for name, low in (("USDC", "0.93"), ("DAI", "0.95")):
        days = pd.date_range("2024-01-01", periods=120)
        lines = [
            f"{day:%Y-%m-%dT00:00:00Z},{low if k in (50, 51) else 1.0 + k % 7 / 1e4}" for k, day in enumerate(days)
        ]
        (folder / "prices" / f"{name}_1d.csv").write_text("\n".join(["timestamp,price", *lines, ""]))
    policy = {
        "policy_id": "Münze 1 €",
        "asset": "USDC",
        "coverage": 1e5,
        "trigger_price": 0.97,
        "floor_price": 0.8,
    }
    (folder / "vault.json").write_text(json.dumps({"capital": 1.5e5, "policies": [policy]}), encoding="utf-8")
    return folder


def files_of(desk, name, options=(), **variables):
    """Run the day and its export in a folder of its own and return the files without the moment of making."""
    desk_of = ["--db", f"sqlite:///{name}.db"]
    command = [sys.executable, *options, "-c", "from tonsurance_risk.cli import main; main()"]
    for arguments in (
        ["daily", "--source", "csv:prices", "--interval", "1d", "--vault", "vault.json", "--as-of", "2024-04-20",
         "--n", "500", "--html", "--out", name, *desk_of],
        ["report", "export", name, *desk_of],
    ):  # fmt: skip
        done = subprocess.run(
            [*command, *arguments], cwd=desk, capture_output=True, check=False, env=os.environ | variables
        )
        assert done.returncode in (0, 1), done.stderr
        assert b"Traceback" not in done.stderr
    made = json.loads((desk / name / "risk_report_2024-04-20.json").read_bytes())["generated_at"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in (desk / name).iterdir()}
    for moment in (made, f"{made[:19]}Z", f"{made[:10]} {made[11:16]}"):  # in JSON, and twice on the page
        texts = {file: text.replace(moment, "") for file, text in texts.items()}
    return texts


@pytest.mark.fault("F146")
@pytest.mark.fault("F147")
def test_another_interpreter_or_language_gives_the_same_files(small_desk):
    """Report, page and tables, byte by byte: without assertions, where there is ASCII alone, with threads of BLAS."""
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}

    plain = files_of(small_desk, "plain")
    assert plain == files_of(small_desk, "other", ["-O"], OPENBLAS_NUM_THREADS="2", **ascii_alone)


@needs_shared
class TestRealPrices:
    """The daily panel of ten coins, and the hours of March 2023."""

    def test_the_daily_panel(self, tmp_path):
        """Real events, 45 pairs in three windows, VaR with intervals; twice the same."""
        arguments = ("--source", f"csv:{SHARED}", "--interval", "1d", "--as-of", "2024-12-31")
        daily(tmp_path, *arguments)
        document, before = report(tmp_path, "2024-12-31"), rows(tmp_path)

        coins = {"USDC", "USDT", "DAI", "USDP", "FRAX", "BUSD", "PYUSD", "GHO", "LUSD", "crvUSD"}
        assert coins | {"BTC"} == set(document["inputs"]["assets"])
        assert [45, 45, 45] == [len(document["correlations"][window]["pairs"]) for window in ("30", "90", "365")]
        svb = {
            event["asset"]: event
            for event in document["depeg_events"]
            if event["start"] == "2023-03-12T00:00:00Z" and event["direction"] == "below"
        }
        assert 0.9715 == svb["USDC"]["min_price"]
        assert {"USDC", "DAI", "FRAX"} <= set(svb)
        assert document["var_analysis"]["var_99"]["low"] < document["var_analysis"]["var_99"]["high"]
        without = {entry["asset"] for entry in document["data_quality"]["without_prices"]}
        assert {"USDe", "sUSDe", "USDY", "mkUSD"} == without

        daily(tmp_path, *arguments)
        assert document == report(tmp_path, "2024-12-31")
        assert before == rows(tmp_path)

    def test_a_day_later_adds_a_day(self, tmp_path):
        """New prices, a snapshot and a report; the events of before stay single."""
        arguments = ("--source", f"csv:{SHARED}", "--interval", "1d", "--as-of")
        daily(tmp_path, *arguments, "2024-12-29")
        before = rows(tmp_path)
        daily(tmp_path, *arguments, "2024-12-30")
        after = rows(tmp_path)

        assert 11 == after["price_history"] - before["price_history"]
        assert 1 == after["risk_reports"] - before["risk_reports"]
        assert after["historical_depegs"] == before["historical_depegs"]
        assert 0 == after["price_revision"]

    def test_the_hours_of_march_2023(self, tmp_path):
        """USDC and DAI are among the events."""
        daily(tmp_path, "--source", f"csv:{SHARED}", "--interval", "1h", "--as-of", "2023-03-14")
        document = report(tmp_path, "2023-03-14")

        lows: dict[str, float] = {}
        for event in document["depeg_events"]:
            if event["start"] >= "2023-03-10" and event["direction"] == "below":
                lows[event["asset"]] = min(event["min_price"], lows.get(event["asset"], 1.0))
        assert lows["USDC"] == pytest.approx(0.901988, abs=1e-6)
        assert lows["DAI"] == pytest.approx(0.905124, abs=1e-6)


def half_written(folder):
    """A folder with one whole file and one that was cut."""
    whole = "timestamp,price\n" + "".join(f"2024-01-{day:02d}T00:00:00Z,1.0{day:02d}\n" for day in range(1, 29))
    (folder / "USDC_1d.csv").write_text(whole)
    (folder / "DAI_1d.csv").write_text(whole[:-4])


class TestExitCodes:
    """1 needs attention, 2 failed, 3 wrong configuration: each with a named error, nothing half written."""

    @pytest.fixture
    def failing(self, tmp_path, monkeypatch, capsys):
        """Return a function that runs the command in tmp_path, in this process, and gives what it printed."""
        monkeypatch.chdir(tmp_path)

        def run_here(*arguments, expect):
            assert expect == run(["daily", *arguments])
            return capsys.readouterr()

        return run_here

    def test_an_asset_that_fails_needs_attention(self, tmp_path, failing):
        """The others are done."""
        half_written(tmp_path)
        vault = tmp_path / "vault.json"
        vault.write_text('{"capital": 1000, "policies": []}')

        done = failing(
            "--source", "csv:.", "--interval", "1d", "--as-of", "2024-01-29", "--vault", str(vault), expect=1
        )

        assert "DAI failed: PayloadError" in done.out
        assert ["USDC"] == list(report(tmp_path, "2024-01-29")["inputs"]["assets"])

    def test_nothing_could_be_fetched(self, tmp_path, failing):
        """All files are broken."""
        half_written(tmp_path)
        (tmp_path / "USDC_1d.csv").write_bytes(b"\x00\xff\xfe")

        done = failing("--source", "csv:.", "--interval", "1d", "--as-of", "2024-01-29", expect=2)

        assert "PayloadError" in done.err
        assert [] == list((tmp_path / "reports").iterdir())

    def test_prices_that_say_nothing_of_the_date(self, tmp_path, failing):
        """Ten years later."""
        half_written(tmp_path)
        (tmp_path / "DAI_1d.csv").unlink()

        done = failing("--source", "csv:.", "--interval", "1d", "--as-of", "2026-01-29", expect=2)

        assert "InsufficientDataError: no prices at or before 2026-01-29" in done.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--source", "csv:missing"], "SettingsError"),
            (["--source", "csv:."], "carries none of"),
            (["--source", "csv:"], "needs a folder: csv:FOLDER"),
            (["--source", "bloomberg"], "unknown source 'bloomberg'"),
            (["--source", "karken"], "did you mean kraken?"),
            (["--as-of", "yesterday"], "--as-of must be a date"),
            (["--as-of", "2025-12-31T06:00"], "must say its time zone"),
            (["--interval", "5m"], "interval"),
            (["--n", "0"], "--n"),
            (["--n", "2.5"], "--n"),
            (["--n", "10000000000000"], "--n"),
            (["--seed", "-1"], "--seed"),
            (["--vault", "missing.json"], "missing.json"),
            (["--db", "mysql://user:secret@host/db"], "sqlite:///FILE"),
            (["--out", "file/reports"], "output folder"),
            (["--unknown"], "unknown"),
        ],
    )
    def test_wrong_configuration(self, tmp_path, failing, arguments, message):
        """Said in one message; no database, no report."""
        (tmp_path / "file").write_text("not a folder")

        done = failing(*arguments, expect=3)

        assert message in done.err
        assert "secret" not in done.err + done.out
        assert not list(tmp_path.glob("reports/*"))

    @pytest.mark.fault("F073")
    def test_a_database_file_that_is_no_database(self, tmp_path, failing):
        """Left as it is."""
        (tmp_path / "risk.db").write_bytes(b"these are not the bytes of a database" * 100)

        done = failing("--db", "sqlite:///risk.db", expect=2)

        assert "StoreCorruptError" in done.err
        assert b"these are not" == (tmp_path / "risk.db").read_bytes()[:13]

    def test_a_vault_with_an_unknown_coin(self, tmp_path, failing):
        """Named, with near matches."""
        policy = {"policy_id": "P1", "asset": "USCD", "coverage": 1, "trigger_price": 0.9, "floor_price": 0.5}
        (tmp_path / "vault.json").write_text(json.dumps({"capital": 10, "policies": [policy]}))

        done = failing("--vault", "vault.json", expect=3)

        assert "'USCD'; did you mean" in done.err

"""The command `detect`: folders, files and stores, in this process and in a real one."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.cli import run
from tonsurance_risk.model import DepegEvent
from tonsurance_risk.reporting import files as files_module
from tonsurance_risk.reporting.events import EVENT_COLUMNS, save_events

SHARED = Path(__file__).parents[3] / "shared" / "data" / "prices"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")
CALM = [1.0003, 0.9998, 1.0001, 1.0004, 0.9997, 1.0002]


def price_file(path, values, step="1h", start="2024-03-01"):
    """Write a file of prices, a row a bar."""
    times = pd.date_range(start, periods=len(values), freq={"1h": "h", "1d": "D"}[step], tz="UTC")
    rows = [f"{time:%Y-%m-%dT%H:%M:%SZ},{value}\n" for time, value in zip(times, values, strict=True)]
    path.write_text("timestamp,price\n" + "".join(rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the working folder, with a folder of prices: USDC has a discount, DAI a premium, a slip and a gap."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    prices = tmp_path / "prices"
    prices.mkdir()
    price_file(prices / "USDC_1h.csv", [*CALM, 0.97, 0.95, 0.985, *CALM, 0.98, *CALM])
    price_file(prices / "DAI_1h.csv", [*CALM, 1.03, 1.02, *CALM, 5.0, *CALM])
    price_file(prices / "USDC_1d.csv", [*CALM, 0.96, *CALM], step="1d")
    price_file(prices / "BTC_1h.csv", [60000.0, 61000.0, 62000.0, 61000.0])
    price_file(prices / "USDC_1d_defillama.csv", CALM, step="1d")
    price_file(prices / "USDCUSDT_1h.csv", CALM)
    return tmp_path


@pytest.fixture
def detect(folder, capsys):
    """Return a function that runs the command in the folder and gives what it printed."""

    def run_here(*arguments, expect=0):
        code = run(["detect", *arguments])
        printed = capsys.readouterr()
        assert expect == code, printed.out + printed.err
        return printed

    return run_here


def document(printed):
    """Return the JSON on stdout."""
    return json.loads(printed.out)


def brief(events):
    """Return asset, direction, hour since 1 March and severity of each event."""
    begin = pd.Timestamp("2024-03-01", tz="UTC")
    return [
        (
            e["asset"],
            e["direction"],
            (pd.Timestamp(e["start"]) - begin) // pd.Timedelta("1h"),
            round(e["severity"], 3),
        )
        for e in events
    ]


class TestWhereFrom:
    """Folder, file, simulated market, store."""

    def test_a_folder(self, detect):
        """Every coin with a file of that step; BTC, other steps and odd names are not searched."""
        found = document(detect("csv:prices", "--json"))

        assert [("USDC", "below", 7, 0.05), ("USDC", "below", 16, 0.02)] == brief(found["events"])
        assert {"DAI": 21, "USDC": 22} == {asset: it["samples"] for asset, it in found["assets"].items()}
        assert (tr.sources.CsvSource("prices").name, "1h", 1) == (
            found["source"],
            found["step"],
            found["rejected_samples"],
        )
        assert {
            "USDC_1d_defillama.csv": "suffix _defillama",
            "USDCUSDT_1h.csv": "quoted in USDT, not in USD",
        } == {name: reason.removeprefix("another interval, 1d, ") for name, reason in found["not_read"].items()}
        assert {tr.sources.CsvSource("prices").name} == {event["source"] for event in found["events"]}

    def test_as_an_option(self, detect):
        """--source says the same as the argument."""
        assert document(detect("csv:prices", "--json")) == document(detect("--source", "csv:prices", "--json"))

    def test_a_file(self, detect):
        """Its name says the coin and the step."""
        hourly = document(detect("prices/USDC_1h.csv", "--json"))
        daily = document(detect("prices/USDC_1d.csv", "--json"))

        assert [("USDC", "below", 7, 0.05), ("USDC", "below", 16, 0.02)] == brief(hourly["events"])
        assert [("USDC", "below", 7 * 24, 0.04)] == brief(daily["events"])
        assert ("csv:USDC_1d.csv", "1d") == (daily["source"], daily["step"])

    def test_the_simulated_market(self, detect):
        """By default; what it declares below the peg and nothing else."""
        truth = {(e.asset, e.start) for e in tr.sources.SampleSource().truth if e.direction == "below"}

        found = document(detect("--json"))

        assert truth == {(e["asset"], pd.Timestamp(e["start"])) for e in found["events"]}

    def test_the_store(self, folder, detect):
        """As the folder that the prices came from; nothing is written to it."""
        source = tr.sources.CsvSource(folder / "prices")
        ever = pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2025-01-01", tz="UTC")
        with tr.open_store("sqlite:///risk.db") as store:
            for asset in ("USDC", "DAI", "BTC"):
                store.save_prices(source.fetch(asset, *ever), source=source.name, step="1h")
        before = (folder / "risk.db").read_bytes()

        stored = document(detect("--db", "sqlite:///risk.db", "--source", "csv:prices", "--json"))

        of_folder = document(detect("csv:prices", "--json"))
        assert before == (folder / "risk.db").read_bytes()
        assert of_folder["events"] == stored["events"]
        assert of_folder["assets"] == stored["assets"]
        one = document(detect("--db", "sqlite:///risk.db", "--source", "csv:prices", "--assets", "dai", "--json"))
        assert ["DAI"] == list(one["assets"])

    def test_another_source_in_the_store_confirms(self, detect):
        """It shows USDC's dip and knows nothing of DAI."""
        times = pd.date_range("2024-03-01", periods=12, freq="h", tz="UTC")
        dip = [1.0, 1.0, 1.0, 1.0, 0.97, 0.96, 0.97, 1.0, 1.0, 1.0, 1.0, 1.0]
        frame = pd.DataFrame({"USDC": dip, "DAI": dip[2:] + dip[:2], "LUSD": dip[-2:] + dip[:-2]}, index=times)
        with tr.open_store("sqlite:///risk.db") as store:
            store.save_prices(frame, source="a", step="1h")
            store.save_prices(
                pd.DataFrame({"USDC": [p + 1e-3 for p in dip], "LUSD": 1.0}, index=times), source="b", step="1h"
            )

        printed = detect("--db", "sqlite:///risk.db", "--source", "a")
        found = document(detect("--db", "sqlite:///risk.db", "--source", "a", "--json"))

        assert ["b"] == found["other_sources"]
        said = {e["asset"]: (e["confirmed"], e["local_to"]) for e in found["events"]}
        assert {"USDC": (True, None), "DAI": (None, None), "LUSD": (False, "a")} == said
        assert all(what in printed.out for what in ("yes", "-", "local to a"))

    def test_a_print_of_two_sources_is_none_of_one_coin_that_is_asked_for(self, detect):
        """All coins of the other source are looked at."""
        times = pd.date_range("2024-03-01", periods=60, freq="h", tz="UTC")
        with tr.open_store("sqlite:///risk.db") as store:
            for number, source in enumerate("ab"):
                noise = np.random.default_rng(number).normal(0, 3e-4, (60, 5))
                frame = pd.DataFrame(1.0 + noise, index=times, columns=["USDC", "USDT", "DAI", "USDP", "GHO"])
                frame.iloc[30:33] -= 0.04
                store.save_prices(frame, source=source, step="1h")

        for asked in ([], ["--assets", "USDC"], ["--assets", "USDC,DAI"]):
            found = document(detect("--db", "sqlite:///risk.db", "--source", "a", "--json", *asked))
            assert [] == found["events"]

    def test_coins_not_asked_for_serve_the_checks(self, detect, folder):
        """Prints that all coins of a source share are known by the others, also when one coin is asked for."""
        for number, asset in enumerate(("USDT", "USDP", "FRAX", "USDC", "DAI", "LUSD")):
            offset = number * 1e-4
            values = [*CALM * 2, *(price - 0.03 + offset for price in CALM[:2]), *CALM * 2]
            price_file(folder / "prices" / f"{asset}_1d.csv", values, step="1d")

        alone = document(detect("prices/USDC_1d.csv", "--json"))
        among = document(detect("csv:prices", "--interval", "1d", "--assets", "USDC", "--json"))

        assert 1 == len(alone["events"])
        assert ["USDC"] == list(among["assets"])
        assert (0, 2) == (len(among["events"]), among["rejected_samples"])


class TestRule:
    """Options that reach the detection."""

    @pytest.mark.parametrize(
        ("arguments", "events"),
        [
            ([], [("USDC", "below", 7, 0.05), ("USDC", "below", 16, 0.02)]),
            (["--threshold", "0.96"], [("USDC", "below", 8, 0.05)]),
            (["--threshold", "0.96", "--recovery", "0.99"], [("USDC", "below", 8, 0.05)]),
            (["--min-duration", "2h"], [("USDC", "below", 7, 0.05)]),
            (["--min-duration", "180m"], [("USDC", "below", 7, 0.05)]),
            (["--min-duration", "0.5d"], []),
            (["--merge-within", "6h"], [("USDC", "below", 7, 0.05)]),
            (
                ["--max-gap", "59m"],
                [("USDC", "below", h, s) for h, s in ((7, 0.03), (8, 0.05), (9, 0.015), (16, 0.02))],
            ),
            (["--direction", "above"], [("DAI", "above", 7, 0.03)]),
            (
                ["--direction", "both"],
                [("DAI", "above", 7, 0.03), ("USDC", "below", 7, 0.05), ("USDC", "below", 16, 0.02)],
            ),
            (["--direction", "above", "--no-checks"], [("DAI", "above", 7, 0.03), ("DAI", "above", 15, 4.0)]),
            (["--assets", "dai, usdc", "--threshold", "0.96"], [("USDC", "below", 8, 0.05)]),
            (["--assets", "DAI"], []),
            (["--interval", "1d"], [("USDC", "below", 7 * 24, 0.04)]),
        ],
    )
    def test_options(self, detect, arguments, events):
        """Each seen in what it finds."""
        assert events == brief(document(detect("csv:prices", "--json", *arguments))["events"])

    def test_recovery_changes_the_end(self, detect):
        """Hysteresis: 0.985 ends an event of 0.96 but not with a recovery of 0.99."""
        ends = [
            document(detect("csv:prices", "--json", "--threshold", "0.96", *more))["events"][0]["n_observations"]
            for more in ([], ["--recovery", "0.99"])
        ]

        assert [1, 2] == ends

    def test_the_rule_is_in_the_document(self, detect):
        """And in every event, with the length of a bar."""
        found = document(detect("csv:prices", "--json", "--max-gap", "90s", "--no-checks"))

        assert {
            "threshold": 0.99, "recovery": None, "min_duration_seconds": 3600.0, "max_gap_seconds": 90.0,
            "merge_within_seconds": 0.0, "direction": "below",
        } == found["rule"]  # fmt: skip
        assert {3600.0} == {event["sample_span_seconds"] for event in found["events"]}
        assert found["rejected_samples"] is None

    def test_premiums_of_accruing_coins(self, detect, folder):
        """Searched only when asked for: after a discount the price stands above its lowered reference."""
        price_file(folder / "prices" / "USDY_1h.csv", [1.05] * 30 + [1.09, 1.1, 1.09] + [1.05] * 5)

        both = document(detect("prices/USDY_1h.csv", "--json", "--direction", "both"))
        above = document(detect("prices/USDY_1h.csv", "--json", "--direction", "above"))

        assert ([], 1) == (both["events"], len(above["events"]))


class TestOutput:
    """Table, JSON, CSV."""

    def test_the_table(self, detect):
        """Events, what was searched, what the checks kept out, what was not read."""
        printed = detect("csv:prices").out

        assert ["│ USDC │ below│ 2024-03-01 07:00│ 3    │ 0.9500 │ 5.00%   │ back│ -        │"] == [
            line for line in printed.splitlines() if "07:00" in line
        ]
        assert printed == detect("prices").out
        assert "2 event(s) in 43 samples of 2 coin(s), 1 rejected by the checks" in printed
        assert "USDCUSDT_1h.csv (quoted in USDT, not in USD)" in printed
        assert "0 event(s)" in detect("csv:prices", "--assets", "DAI").out

    def test_json_to_a_file(self, detect, folder):
        """The document that --json prints, in a folder that is made."""
        printed = detect("csv:prices", "--json", "--out", "new/events.json")

        assert document(printed) == json.loads((folder / "new" / "events.json").read_text())

    def test_csv_to_a_file(self, detect, folder):
        """A row an event, all columns, nothing where there is no value."""
        printed = detect("csv:prices", "--out", "events.csv")
        with (folder / "events.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))

        assert "written: " in printed.out
        assert list(EVENT_COLUMNS) == list(rows[0])
        assert ["0.95", "0.98"] == [row["min_price"] for row in rows]
        assert {""} == {row["confirmed"] for row in rows}
        detect("csv:prices", "--assets", "DAI", "--out", "events.csv")
        assert ",".join(EVENT_COLUMNS) + "\n" == (folder / "events.csv").read_text()

    def test_the_columns_are_those_of_an_event(self, folder):
        """None is forgotten when the record grows."""
        day = pd.Timestamp("2024-01-01", tz="UTC")
        [event] = tr.detect_depegs(pd.Series([0.9], [day], name="DAI"), min_duration=timedelta(0))

        assert list(EVENT_COLUMNS) == list(event.to_dict())
        assert {field.name for field in attrs.fields(DepegEvent)} <= {
            name.removesuffix("_seconds") for name in EVENT_COLUMNS
        }

    @pytest.mark.parametrize("name", ["events.csv", "events.json"])
    def test_an_old_file_survives_a_failure(self, detect, folder, name, monkeypatch):
        """All or nothing, and no temporary file stays."""
        (folder / name).write_text("old")

        def full(_path, _content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files_module, "replace_file", full)
        assert "could not be written: No space left" in detect("csv:prices", "--out", name, expect=2).err
        monkeypatch.undo()
        monkeypatch.chdir(folder)
        with pytest.raises((TypeError, ValueError)):
            save_events({"events": [{"asset": object()}]}, name)

        assert "old" == (folder / name).read_text()
        assert {"prices", name} == {path.name for path in folder.iterdir()}


class TestExitCodes:
    """1 an asset failed, 2 failed, 3 wrong usage: said in one message, nothing written."""

    def test_an_asset_that_fails_needs_attention(self, detect, folder):
        """The others are searched."""
        (folder / "prices" / "DAI_1h.csv").write_text("timestamp,price\n2024-03-01T00:00:00Z,1.0")

        printed = detect("csv:prices", "--out", "events.json", expect=1)

        assert "DAI failed: PayloadError" in printed.out
        assert ["DAI"] == list(json.loads((folder / "events.json").read_text())["failed"])
        assert "DAI" not in detect("csv:prices", "--assets", "USDC").out  # not asked for

    def test_when_all_fail(self, detect, folder):
        """The first error."""
        for asset in ("DAI", "USDC"):
            (folder / "prices" / f"{asset}_1h.csv").write_bytes(b"\xff\x00")

        assert "PayloadError" in detect("csv:prices", "--out", "events.json", expect=2).err
        assert "PayloadError" in detect("prices/DAI_1h.csv", expect=2).err
        assert not (folder / "events.json").exists()

    def test_where_to_write_is_looked_at_first(self, detect, folder):
        """Before any price is read."""
        (folder / "prices" / "DAI_1h.csv").write_bytes(b"\xff\x00")

        assert "found 'events.txt'" in detect("prices/DAI_1h.csv", "--out", "events.txt", expect=3).err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["prices/USDC_1d_defillama.csv"], "USDC_1d_defillama.csv is not read: suffix _defillama"),
            (["prices/USDCUSDT_1h.csv"], "quoted in USDT, not in USD"),
            (["prices/BTC_1h.csv"], "BTC has no peg"),
            (["prices/USDC_1d.csv", "--interval", "1h"], "another interval, 1d; accepted is <ASSET>_1h.csv"),
            (["prices/USDC_1d.csv", "--assets", "DAI"], "holds USDC, not DAI"),
            (["prices/EURS_1h.csv"], "there is no file"),
            (["notes.txt"], "its name ends with '.txt'"),
            (["nothing"], "unknown source 'nothing' (known: sample, csv,"),
            (["csv:missing"], "does not exist"),
            (["csv:prices", "--source", "sample"], "give SOURCE or --source"),
            (["csv:prices", "--assets", "GHO"], "no file GHO_1h.csv"),
            (["csv:prices", "--interval", "1d", "--assets", "USDT"], "no file USDT_1d.csv"),
            (["csv:prices", "--assets", "USDC,,DAI"], "--assets must be symbols"),
            (["csv:prices", "--assets", "BTC"], "BTC has no peg"),
            (["csv:empty"], "carries no 1h prices of a coin with a peg"),
            (["csv:odd"], "USDC_5m.csv is not read: another interval, 5m"),
            (["--threshold", "1.5"], "threshold must be a number in (0, 1], found 1.5"),
            (["--threshold", "much"], "--threshold"),
            (["--recovery", "0.5"], "recovery (at least the threshold)"),
            (["--min-duration", "1"], "--min-duration must be a duration such as 30m, 1h or 2d, found '1'"),
            (["--max-gap", "-1h"], "--max-gap must be a duration"),
            (["--merge-within", "9999999d"], "--merge-within must be a duration"),
            (["--direction", "sideways"], "--direction"),
            (["--interval", "5m"], "--interval"),
            (["--out", "events.txt"], "must end with .csv or .json, found 'events.txt'"),
            (["--out", "folder.csv"], "is a folder"),
            (["--out", "notes.txt/events.csv"], "cannot be written to"),
            (["--db", "sqlite:///risk.db"], "with --db give --source"),
            (["--db", "sqlite:///risk.db", "--source", "a"], "there is no database 'risk.db'"),
            (["--db", "mysql://user:secret@host/db", "--source", "a"], "sqlite:///FILE"),
            (["--db", "memory://", "--source", "a"], "memory:// is gone when the command ends"),
            (["--db", "sqlite:///new.db", "--source", "a"], "a carries no 1h prices"),
            (["csv:prices", "--db", "memory://", "--source", "a"], "leave out 'csv:prices'"),
            (
                ["--db", "sqlite:///new.db", "--source", "a", "--assets", "DAI"],
                "the store has no 1h prices of DAI",
            ),
        ],
    )
    def test_wrong_usage(self, detect, folder, arguments, message):
        """Refused before anything is written."""
        (folder / "notes.txt").write_text("not prices")
        for name in ("empty", "odd", "folder.csv"):
            (folder / name).mkdir()
        (folder / "odd" / "USDC_5m.csv").write_text("timestamp,price\n")
        tr.open_store(f"sqlite:///{folder}/new.db").close()
        before = sorted(folder.rglob("*"))

        printed = detect(*arguments, *([] if "--out" in arguments else ["--out", "events.json"]), expect=3)

        assert message in " ".join(printed.err.split())
        assert "secret" not in printed.err
        assert before == sorted(folder.rglob("*"))


def test_a_real_process(folder):
    """With warnings as errors, JSON on stdout and a file."""
    command = [sys.executable, "-W", "error", "-c", "from tonsurance_risk.cli import main; main()", "detect"]
    done = subprocess.run(
        [*command, "csv:prices", "--json", "--out", "events.csv"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=os.environ,
    )  # fmt: skip

    assert (0, "") == (done.returncode, done.stderr)
    assert 2 == len(json.loads(done.stdout)["events"])
    assert 3 == len((folder / "events.csv").read_text().splitlines())


@needs_shared
class TestRealPrices:
    """March 2023 in the shared data."""

    @pytest.mark.parametrize(("step", "low"), [("1h", 0.901988), ("1d", 0.9715)])
    def test_march_2023(self, detect, step, low):
        """USDC, in the hourly means and in the daily closes, and DAI with it."""
        found = document(detect(f"csv:{SHARED}", "--interval", step, "--assets", "USDC,DAI", "--json"))

        march = [e for e in found["events"] if "2023-03-10" <= e["start"] < "2023-03-14"]
        assert {"USDC", "DAI"} == {event["asset"] for event in march}
        assert low == pytest.approx(min(e["min_price"] for e in march if e["asset"] == "USDC"), abs=1e-6)

    def test_why_the_length_of_the_bar_is_passed(self, detect):
        """Without it the depeg of one daily bar lasts no time and is shorter than an hour."""
        found = document(detect(f"csv:{SHARED}", "--interval", "1d", "--no-checks", "--json"))
        daily = {e["asset"]: [] for e in found["events"]}
        for asset in daily:
            prices = tr.sources.CsvSource(SHARED).fetch(
                asset, pd.Timestamp("2017-01-01", tz="UTC"), pd.Timestamp("2027-01-01", tz="UTC"), step="1d"
            )
            daily[asset] = tr.detect_depegs(prices)

        without = sum(map(len, daily.values()))
        assert without < len(found["events"]) / 2
        assert 86400.0 == min(event["duration_seconds"] for event in found["events"])
        [svb] = [e for e in found["events"] if e["asset"] == "USDC" and e["start"].startswith("2023-03")]
        assert "2023-03-12T00:00:00Z" == svb["start"]
        assert not [event for event in daily["USDC"] if event.start.year == 2023]

    @pytest.mark.parametrize("path", sorted(SHARED.glob("*.csv")), ids=lambda path: path.stem)
    def test_every_file_is_read_or_refused(self, detect, path):
        """By its name."""
        plain = path.stem.endswith(("_1d", "_1h"))
        coin = path.stem[:-3] not in ("BTC", "ETH")

        detect(str(path), expect=0 if plain and coin else 3)

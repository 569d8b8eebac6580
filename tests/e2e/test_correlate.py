"""The command `correlate`: real prices, the simulated market and a store, as tables, JSON and files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.cli import run

SHARED = Path(__file__).parents[3] / "shared" / "data" / "prices"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")


@pytest.fixture
def correlate(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command in an empty folder and gives what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run_here(*arguments, expect=0):
        code = run(["correlate", *arguments])
        printed = capsys.readouterr()
        assert expect == code, printed.out + printed.err
        return printed

    return run_here


@needs_shared
def test_usdc_and_dai_in_2023(correlate):
    """0.95 in all of 2023, from almost nothing to almost one, and five days carry it."""
    arguments = (str(SHARED), "--interval", "1d", "--as-of", "2024-01-01", "--assets", "USDC,DAI,USDT")

    printed = correlate(*arguments).out
    document = json.loads(correlate(*arguments, "--json").out)

    [line] = [line for line in printed.splitlines() if line.startswith("│ DAI USDC") and "364" in line]
    assert "0.95" in line
    assert "5 day(s)" in line
    pairs = {(p["asset_1"], p["asset_2"]): p for p in document["correlations"]["365"]["pairs"]}
    pair = pairs["DAI", "USDC"]
    assert pair["low"] < 0.3 < 0.9 < pair["high"]
    assert pair["rests_on_few_days"]
    assert {"2023-03-11", "2023-03-12", "2023-03-13"} <= set(pair["influential_days"])
    assert pair["without_influential"] < 0.3
    assert pairs["USDC", "USDT"]["correlation"] < 0.0 < pairs["USDC", "USDT"]["without_influential"]
    assert all(len(line) <= 80 for line in printed.splitlines() if line.startswith(("│", "┏")))


class TestOutput:
    """Of the simulated market."""

    def test_json_and_the_files(self, correlate, tmp_path):
        """The JSON file is what --json prints; the CSV has a row a pair and window."""
        printed = correlate("sample", "--assets", "USDC,DAI,FRAX", "--json", "--out", "new/all.json").out
        correlate("sample", "--assets", "USDC,DAI,FRAX", "--out", "pairs.csv")

        assert json.loads(printed) == json.loads((tmp_path / "new" / "all.json").read_text())
        with (tmp_path / "pairs.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert 9 == len(rows)
        assert {"30", "90", "365"} == {row["window_days"] for row in rows}
        document = json.loads(printed)
        first = document["correlations"]["30"]["pairs"][0]
        assert repr(first["correlation"]) == rows[0]["correlation"]
        assert 5 == len(rows[0]["influential_days"].split())
        assert {"value", "low", "high", "method", "n_resamples", "seed"} == set(
            document["correlations"]["30"]["common_mode_share"]
        )

    def test_windows_without_data_say_why(self, correlate):
        """Null with a reason, in JSON and on the terminal; 0 is the exit code."""
        arguments = ("sample", "--assets", "USDC,DAI", "--as-of", "2024-01-02", "--windows", "1,365")

        document = json.loads(correlate(*arguments, "--json").out)

        assert {"1", "365"} == set(document["correlations"])
        assert document["regime_change"] is None
        assert "baseline window" in document["regime_change_reason"]
        assert "regime change: the baseline window" in correlate(*arguments).out

    def test_a_window_without_prices_and_a_single_coin(self, correlate):
        """A line each, instead of an empty table."""
        early = correlate("sample", "--assets", "USDC,DAI", "--as-of", "2024-01-01", "--windows", "1,365").out
        single = correlate("sample", "--assets", "USDC").out

        assert "1 days: the 1-day window up to 2024-01-01T00:00:00Z holds 1 row(s)" in early
        assert "30 days: a single coin has no pair" in single
        assert "no two coins were off peg at once" in single

    def test_an_asset_that_fails_needs_attention(self, correlate, tmp_path):
        """The others are shown; 1 is the exit code."""
        times = pd.date_range("2024-01-01", periods=120, freq="D", tz="UTC")
        for number, coin in enumerate(("USDC", "DAI", "GHO")):
            values = 1.0 + np.random.default_rng(number).normal(0, 1e-3, 120)
            rows = [f"{time:%Y-%m-%dT%H:%M:%SZ},{value}\n" for time, value in zip(times, values, strict=True)]
            (tmp_path / f"{coin}_1d.csv").write_text("timestamp,price\n" + "".join(rows))
        (tmp_path / "GHO_1d.csv").write_text("timestamp,price\nnonsense\n")

        printed = correlate(str(tmp_path), "--interval", "1d", expect=1).out

        assert "GHO failed: " in printed
        assert "DAI USDC" in printed

    def test_the_same_seed_prints_the_same(self, correlate):
        """And another seed other intervals of the same estimates."""
        one, same, other = (
            json.loads(
                correlate("sample", "--assets", "USDC,DAI", "--windows", "30", "--json", "--seed", seed).out
            )
            for seed in ("1", "1", "2")
        )

        assert one == same
        pairs = [document["correlations"]["30"]["pairs"][0] for document in (one, other)]
        assert pairs[0]["correlation"] == pairs[1]["correlation"]
        assert pairs[0]["low"] != pairs[1]["low"]


def test_the_store(correlate):
    """Prices of one source; another one confirms."""
    index = pd.date_range("2024-01-01", periods=200, freq="D", tz="UTC")
    values = np.exp(np.random.default_rng(0).normal(0, 1e-3, (200, 3)))
    with tr.open_store("sqlite:///risk.db") as store:
        store.save_prices(pd.DataFrame(values, index=index, columns=["USDC", "DAI", "GHO"]), source="a", step="1d")

    document = json.loads(
        correlate("--db", "sqlite:///risk.db", "--source", "a", "--interval", "1d", "--json").out
    )

    returns = np.diff(np.log(values[-90:]), axis=0)
    pairs = {(p["asset_1"], p["asset_2"]): p for p in document["correlations"]["90"]["pairs"]}
    assert np.corrcoef(returns.T)[0, 1] == pytest.approx(pairs["DAI", "USDC"]["correlation"], abs=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--windows", "0"], "--windows must be numbers of days"),
        (["--windows", "30,,90"], "--windows must be numbers of days"),
        (["--windows", "99999"], "--windows must be numbers of days from 1 to 36,500"),
        (["--as-of", "yesterday"], "--as-of must be a date"),
        (["--as-of", "2001-01-01"], "has no prices at or before 2001-01-01"),
        (["--assets", "XYZ"], "XYZ"),
        (["--assets", "BTC"], "BTC has no peg"),
        (["--out", "pairs.txt"], "must end with .csv or .json"),
        (["--seed", "-1"], "seed"),
        (["--seed", str(2**63)], "seed"),
    ],
)
def test_wrong_usage(correlate, arguments, message):
    """3, and what is accepted."""
    printed = correlate("sample", *arguments, expect=3)

    assert message in " ".join(printed.err.split())

"""The commands `simulate` and `stress`, against the functions that they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.cli import run

VAULT = tr.Vault(
    1e6, [tr.Policy("a", "USDC", 4e5, 0.97, 0.5), tr.Policy("b", "DAI", 2e5, 0.97, 0.5)], btc_value=1e4
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a vault, correlations and volatilities."""
    for name in os.environ:
        if name.startswith("TONSURANCE_RISK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vault.json").write_text(json.dumps(VAULT.to_dict()))
    (tmp_path / "correlation.csv").write_text(",USDC,DAI,BTC\nUSDC,1,0.6,0.1\nDAI,0.6,1,0.2\nBTC,0.1,0.2,1\n")
    (tmp_path / "volatility.csv").write_text("asset,volatility\nUSDC,0.02\nDAI,0.03\nBTC,0.1\n")
    return tmp_path


def printed(capsys, *arguments, expect=0):
    """Run a command and return what it printed."""
    code = run(list(arguments))
    out = capsys.readouterr()
    assert expect == code, out.err
    return out.err if expect else out.out


@pytest.mark.parametrize("sampling", ["stratified", "plain", "antithetic", "sobol", "importance"])
def test_simulate_is_the_function(capsys, sampling):
    """Every number, of every kind of sampling."""
    options = [
        "--vault=vault.json",
        "--correlation=correlation.csv",
        "--volatility=volatility.csv",
        "--n=4000",
        "--seed=5",
    ]
    document = json.loads(printed(capsys, "simulate", *options, f"--sampling={sampling}", "--json"))

    sample = tr.simulate_losses(
        VAULT,
        tr.builtin_scenarios(),
        correlation=pd.DataFrame(
            [[1, 0.6, 0.1], [0.6, 1, 0.2], [0.1, 0.2, 1]],
            index=["USDC", "DAI", "BTC"],
            columns=["USDC", "DAI", "BTC"],
        ),
        volatility={"USDC": 0.02, "DAI": 0.03, "BTC": 0.1},
        n=4000,
        seed=5,
        sampling=sampling,
    )
    assert sample.to_dict() == {name: document[name] for name in sample.to_dict()}
    assert sample.contributions(0.99).to_dict() == {
        a: one["value"] for a, one in document["contributions_99"].items()
    }
    assert sample.by_scenario()["simulations"].tolist() == [row["simulations"] for row in document["by_scenario"]]
    assert sample.probability_of_ruin(1e6).value == document["probability_of_ruin"]["value"]


def test_simulate_prints_tables(capsys):
    """Without files: the sample vault, nothing moves beside the scenarios."""
    text = printed(capsys, "simulate", "--n", "1000")

    assert "1,000 simulations, stratified, seed 0" in text
    assert "probability of ruin" in text
    assert "Crypto Crash" in text


def test_precision_goes_on_until_it_is_reached(capsys):
    """And says so; --n is the most then."""
    options = ["--vault=vault.json", "--volatility=volatility.csv", "--json"]
    reached = json.loads(printed(capsys, "simulate", *options, "--precision=0.02"))
    stopped = json.loads(printed(capsys, "simulate", *options, "--precision=0.00001", "--n=2000"))

    assert reached["converged"] is True
    assert (reached["var_99"]["high"] - reached["var_99"]["low"]) / 2 <= 0.02 * reached["var_99"]["value"]
    assert (False, 2000) == (stopped["converged"], stopped["n"])


def test_stress_is_the_function(capsys):
    """Every loss, and the worst."""
    expected = tr.stress_test(VAULT, tr.builtin_scenarios())

    document = json.loads(printed(capsys, "stress", "--vault=vault.json", "--json"))
    text = printed(capsys, "stress", "--vault=vault.json")

    assert expected.to_dict() == document
    assert f"worst: {expected.worst_scenario}, {expected.worst_loss:,.2f} USD" in text


def test_the_scenarios_of_a_database(folder, capsys):
    """Instead of the built-in ones; a database without any, or none, is wrong."""
    with tr.open_store("sqlite:///risk.db") as store:
        store.save_scenarios([tr.Scenario("only", 1.0, prices={"USDC": 0.9})])
    tr.open_store("sqlite:///empty.db").close()

    losses = json.loads(printed(capsys, "stress", "--vault=vault.json", "--db=sqlite:///risk.db", "--json"))

    assert {"only": pytest.approx(4e5 * 0.07 / 0.47)} == losses["losses"]
    assert "has no scenarios" in printed(capsys, "stress", "--db=sqlite:///empty.db", expect=3)
    assert "there is no database" in printed(capsys, "simulate", "--db=sqlite:///gone.db", expect=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vault=gone.json"], "gone.json"),
        (["--correlation=gone.csv"], "gone.csv cannot be read"),
        (["--correlation=text.csv"], "every cell beside the symbols must be a number"),
        (["--correlation=volatility.csv"], "'volatility'"),
        (["--volatility=typo.csv"], "'USDCC'"),
        (["--volatility=correlation.csv"], "must have the columns asset,volatility"),
        (["--volatility=twice.csv"], "an asset comes more than once"),
        (["--volatility=empty.csv"], "is no table"),
        (["--volatility=negative.csv"], "volatility"),
        (["--precision=0"], "precision"),
        (["--sampling=quasi"], "quasi"),
        (["--n=0"], "--n"),
    ],
)
def test_wrong_files_and_options(folder, capsys, arguments, said):
    """Exit code 3, and what is wrong."""
    (folder / "text.csv").write_text(",USDC,DAI\nUSDC,1,x\nDAI,x,1\n")
    (folder / "twice.csv").write_text("asset,volatility\nUSDC,0.1\nUSDC,0.2\n")
    (folder / "negative.csv").write_text("asset,volatility\nUSDC,-0.1\n")
    (folder / "empty.csv").write_text("")
    (folder / "typo.csv").write_text("asset,volatility\nUSDCC,0.1\n")

    assert said in printed(capsys, "simulate", *arguments, expect=3)


def test_a_reader_that_is_gone():
    """Is a failure and not "needs attention", which 1 would mean."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "tonsurance_risk", "stress", "--json"], stdout=writing, stderr=subprocess.PIPE, check=False
    )  # fmt: skip
    os.close(writing)

    assert (2, b"") == (done.returncode, done.stderr)

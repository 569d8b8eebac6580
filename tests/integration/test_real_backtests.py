"""Backtest and replay on real prices, where they lie beside the checkout."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import tonsurance_risk as tr
from oracle.plain_backtest import plain_independence, plain_kupiec

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "prices"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no price files in {FOLDER}")


def read(name):
    """Return the prices of a file, named by the asset."""
    rows = pd.read_csv(FOLDER / name)
    return pd.Series(rows["price"].to_numpy(), index=pd.to_datetime(rows["timestamp"]), name=name.split("_")[0])


def test_value_at_risk_of_bitcoin():
    """The 99 % quantile of the last 500 daily losses, said before each day from 2020 on: counted by plain loops."""
    losses = (-read("BTC_1d.csv").pct_change()).dropna()
    said = losses.rolling(500).quantile(0.99, interpolation="higher").shift(1).dropna()
    losses = losses.loc[said.index]

    result = tr.backtest_var(losses, said, 0.99)

    hits = [loss > quantile for loss, quantile in zip(losses, said, strict=True)]
    assert len(hits) > 2000
    assert sum(hits) == result.n_exceptions > 0
    assert plain_kupiec(hits, 0.01) == pytest.approx(result.unconditional_coverage.statistic)
    assert plain_independence(hits) == pytest.approx(result.independence.statistic)
    assert result.power.loc["unconditional_coverage", "power"] > 0.9


def test_march_2023_on_the_sample_book():
    """Chainlink rounds of that weekend: USDC and DAI pay for their lows, whose times and prices are named."""
    coins = {name: read(f"{name}_irregular_chainlink.csv") for name in ("USDC", "DAI", "FRAX", "USDT")}
    weekend = {name: rounds.loc["2023-03-09":"2023-03-15"] for name, rounds in coins.items()}
    events = [
        event
        for rounds in weekend.values()
        for event in tr.detect_depegs(rounds, merge_within=timedelta(hours=12))
    ]
    vault = tr.sample_vault()
    prices = pd.DataFrame(weekend)

    replay = tr.replay_event(events, vault, prices=prices)

    paid = replay.policies
    assert {"USDC", "DAI", "FRAX"} == set(paid.loc[paid["cause"] == "event", "asset"])
    for asset in ("USDC", "DAI", "FRAX"):
        rows = paid[paid["asset"] == asset]
        low = weekend[asset].loc[replay.start : replay.end]
        assert {low.min()} == set(rows["price"])
        assert {low.idxmin()} == set(rows["time"])
        by_hand = sum(policy.payout(low.min()) for policy in vault.policies if policy.asset == asset)
        assert rows["paid"].sum() == pytest.approx(by_hand)
    assert 0.88 < paid.loc[paid["asset"] == "USDC", "price"].iloc[0] < 0.89
    assert replay.loss == pytest.approx(paid["paid"].sum())

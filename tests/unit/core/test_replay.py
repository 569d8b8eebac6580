"""Replay of past events on a book: what is paid, by which policy, because of which price."""

from __future__ import annotations

import json
from datetime import timedelta

import attrs
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.replay import replayed_loss

INDEX = pd.date_range("2023-03-10", periods=48, freq="h", tz="UTC")


@pytest.fixture
def prices():
    """Return two days: USDC and DAI leave their pegs, GHO dips below 0.99 for no hour, BTC rises."""
    frame = pd.DataFrame(1.0, index=INDEX, columns=["USDC", "DAI", "GHO", "BTC"])
    frame.iloc[5:20, 0] = 0.95
    frame.iloc[9, 0] = 0.88
    frame.iloc[10:14, 1] = 0.90
    frame.iloc[15, 2] = 0.985
    frame["BTC"] = np.linspace(20_000.0, 24_700.0, 48)
    return frame


@pytest.fixture
def vault():
    """Return two policies on USDC, one each on DAI and GHO, one on a coin without prices."""
    policies = [
        tr.Policy("usdc", "usdc", 100_000.0, 0.98, 0.78),
        tr.Policy("deep", "USDC", 50_000.0, 0.80, 0.50),
        tr.Policy("dai", "DAI", 10_000.0, 0.95, 0.85),
        tr.Policy("gho", "GHO", 1_000.0, 0.99, 0.98),
        tr.Policy("lusd", "LUSD", 1_000.0, 0.99, 0.98),
    ]
    return tr.Vault(1_000_000.0, policies, btc_value=10_000.0)


def events_of(prices):
    """Return what the detector finds."""
    return tr.detect_depegs(prices, sample_span=timedelta(hours=1), min_duration=timedelta(hours=2))


def test_each_policy_names_its_cause(prices, vault):
    """Payout, price and time of the low, and whether it was an event; by hand."""
    events = events_of(prices)
    assert ["DAI", "USDC"] == [event.asset for event in events]

    replay = tr.replay_event(events, vault, prices=prices)

    table = replay.to_frame()
    assert [50_000.0, 0.0, 5_000.0, 500.0, 0.0] == table["paid"].round(6).tolist()
    assert ["event", "none", "event", "price", "none"] == table["cause"].tolist()
    assert ["USDC", "USDC", "DAI", "GHO", "LUSD"] == table["asset"].tolist()
    assert [0.88, 0.88, 0.90, 0.985] == table["price"].tolist()[:4] == table["ratio"].tolist()[:4]
    assert [INDEX[9], INDEX[9], INDEX[10], INDEX[15]] == table["time"].tolist()[:4]
    assert [INDEX[5], INDEX[5], INDEX[10]] == table["event_start"].tolist()[:3]
    assert table.loc["lusd", ["ratio", "price", "time", "event_start"]].isna().all()
    assert (INDEX[5], INDEX[19]) == (replay.start, replay.end)
    change = prices["BTC"].iloc[19] / prices["BTC"].iloc[5] - 1.0
    assert change == replay.btc_change
    assert replay.loss == pytest.approx(55_500.0 - 10_000.0 * change)
    assert {"DAI": 5000.0, "GHO": 500.0, "LUSD": 0.0, "USDC": 50_000.0} == replay.by_asset.drop("BTC").round(
        6
    ).to_dict()
    assert replay.by_asset.sum() == pytest.approx(replay.loss)


def test_only_the_time_of_the_event_counts(prices, vault):
    """A deeper low before and one after are not of it."""
    events = events_of(prices)
    prices.iloc[1, 0] = prices.iloc[40, 0] = 0.5

    assert 0.88 == tr.replay_event(events, vault, prices=prices).policies.loc["usdc", "price"]


def test_one_event_without_prices(prices, vault):
    """The extreme is that of the event; when it was is not known, and Bitcoin stands still."""
    (usdc,) = [event for event in events_of(prices) if event.asset == "USDC"]

    replay = tr.replay_event(usdc, vault)

    row = replay.policies.loc["usdc"]
    assert (0.88, INDEX[5], "event") == (row["price"], row["event_start"], row["cause"])
    assert row["ratio"] == pytest.approx(0.88)
    assert pd.isna(row["time"])
    assert replay.loss == pytest.approx(50_000.0)
    assert 0.0 == replay.policies.loc["dai", "paid"]


def test_predicted_against_actual(prices, vault):
    """The calibrated scenario knows the two events, not what GHO did between, and not Bitcoin."""
    events = events_of(prices)
    scenario = attrs.evolve(tr.scenarios_from_events(events, observed_years=1.0)[0], is_active=False)

    replay = tr.replay_event(events, vault, prices=prices, scenario=scenario)

    assert replay.predicted_loss == pytest.approx(55_000.0)
    assert replay.predicted_loss == pytest.approx(replay.policies.query("cause == 'event'")["paid"].sum())
    assert tr.replay_event(events, vault, prices=prices).predicted_loss is None


def test_the_aggregate_limit_cuts_pro_rata(prices, vault):
    """To 11,100 of 55,500."""
    replay = tr.replay_event(events_of(prices), attrs.evolve(vault, aggregate_limit=11_100.0), prices=prices)

    assert [10_000.0, 0.0, 1_000.0, 100.0, 0.0] == replay.policies["paid"].round(6).tolist()


def test_an_accruing_coin_is_measured_from_its_reference(vault):
    """sUSDe at 1.20 falls to 1.08, a tenth below; prices from the event's start on alone would hide it."""
    index = pd.date_range("2024-01-01", periods=100, freq="h", tz="UTC")
    prices = pd.Series(1.2, index=index, name="sUSDe")
    prices.iloc[60:64] = 1.08
    vault = tr.Vault(1e6, [tr.Policy("s", "sUSDe", 1000.0, 0.95, 0.85)])
    events = tr.detect_depegs(prices, sample_span=timedelta(hours=1))
    assert 1 == len(events)

    row = tr.replay_event(events, vault, prices=prices).policies.loc["s"]

    assert row["ratio"] == pytest.approx(0.9, abs=1e-4)
    assert row["paid"] == pytest.approx(500.0, abs=1.0)
    # From the start on alone the peg only warms up: then the event itself says how deep it was.
    alone = tr.replay_event(events, vault, prices=prices.iloc[60:]).policies.loc["s"]
    assert alone["ratio"] == pytest.approx(row["ratio"])
    assert pd.isna(alone["time"])


def test_a_premium_pays_nothing(vault):
    """And is no cause."""
    prices = pd.Series([1.0, 1.05, 1.05, 1.0], index=INDEX[:4], name="USDC")
    events = tr.detect_depegs(prices, direction="above")

    replay = tr.replay_event(events, vault, prices=prices)

    assert (0.0, "none") == (replay.loss, replay.policies.loc["usdc", "cause"])
    assert pd.isna(replay.policies.loc["usdc", "event_start"])


def test_records(prices, vault):
    """JSON types without NaN; a book without policies has an empty table."""
    events = events_of(prices)
    replay = tr.replay_event(events, vault, prices=prices)

    document = json.loads(json.dumps(replay.to_dict(), allow_nan=False))
    assert "2023-03-10T09:00:00Z" == document["policies"][0]["time"]
    assert document["policies"][4]["price"] is None
    assert replay == tr.replay_event(events, vault, prices=prices)
    empty = tr.replay_event(events, tr.Vault(1.0, []), prices=prices)
    assert (0.0, 0) == (empty.loss, len(empty.policies))
    assert [] == empty.to_dict()["policies"]


def test_refusals(prices, vault):
    """No event, something else than events, prices that are none."""
    with pytest.raises(ValueError, match="events must hold at least one event, found none"):
        tr.replay_event([], vault)
    with pytest.raises(ValueError, match="events must hold DepegEvent records, found 'x'"):
        tr.replay_event(["x"], vault)
    with pytest.raises(tr.InvalidPriceError):
        tr.replay_event(events_of(prices), vault, prices=-prices)
    with pytest.raises(ValueError, match="vault must be a Vault"):
        tr.replay_event(events_of(prices), [])


def test_what_prices_of_some_time_would_have_cost(prices, vault):
    """The lowest prices of that time by hand, less what BTC gained between its ends."""
    paid = 100_000.0 * (0.98 - 0.88) / 0.2 + 10_000.0 * (0.95 - 0.90) / 0.1 + 1_000.0 * (0.99 - 0.985) / 0.01

    assert paid - 10_000.0 * 4_700.0 / 20_000.0 == pytest.approx(replayed_loss(vault, prices, INDEX[0], INDEX[-1]))
    calm = replayed_loss(vault, prices[["USDC"]], INDEX[25], INDEX[-1])
    assert 0.0 == calm

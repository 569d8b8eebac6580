"""Sigma of coins and BTC."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.volatility import volatility_within_hour

N = 20_000
INDEX = pd.date_range("2022-01-01", periods=N, freq="h", tz="UTC")


def test_recovers_the_sigma_of_a_coin_and_is_robust():
    """Normal log ratios: within 5 standard errors of the MAD (1.17 sigma / sqrt(n)); 5 % of wild prints hardly matter."""
    noise = np.random.default_rng(0).normal(0, 0.002, N)
    wild = noise.copy()
    wild[::20] += 0.3

    calm = tr.estimate_volatility(pd.Series(np.exp(noise), index=INDEX, name="USDC"))["USDC"]
    shaken = tr.estimate_volatility(pd.Series(np.exp(wild), index=INDEX, name="USDC"))["USDC"]

    assert 0.002 == pytest.approx(calm, abs=5 * 1.17 * 0.002 / math.sqrt(N))
    assert 0.002 == pytest.approx(shaken, rel=0.1)


def test_events_are_left_out():
    """A depeg that lasts for most of the data belongs to the scenarios."""
    noise = np.random.default_rng(0).normal(0, 0.001, N)
    noise[: N // 2 + 2000] -= 0.1 * np.random.default_rng(1).random(N // 2 + 2000) + 0.02
    prices = pd.Series(np.exp(noise), index=INDEX, name="USDC")
    events = tr.detect_depegs(prices)

    assert tr.estimate_volatility(prices)["USDC"] > 0.01
    assert 0.001 == pytest.approx(tr.estimate_volatility(prices, events)["USDC"], rel=0.05)


def test_btc_is_the_deviation_of_its_ten_day_returns():
    """Of a random walk: sigma times the root of 240 hours; pandas is the oracle on a regular grid."""
    walk = np.cumsum(np.random.default_rng(0).normal(0, 0.005, N))
    prices = pd.Series(4e4 * np.exp(walk), index=INDEX, name="BTC")

    sigma = tr.estimate_volatility(prices)["BTC"]

    assert np.log(prices).diff(240).std() == pytest.approx(sigma, rel=1e-12)
    assert 0.005 * math.sqrt(240) == pytest.approx(sigma, rel=0.3)


def test_what_cannot_be_computed_is_missing():
    """Fewer than 20 observations, or ten days."""
    prices = pd.DataFrame({"USDC": 1.0, "DAI": 1.0, "BTC": 4e4}, index=INDEX[:200])
    prices.iloc[19:, 1] = np.nan

    assert {"USDC": 0.0} == tr.estimate_volatility(prices)


def test_a_coin_that_mostly_stands_still_and_yet_moves_is_missing():
    """The median deviation knows nothing of it; 0 would say that it cannot move."""
    prices = [1.0] * 60 + [0.995, 1.005] * 20

    assert {} == tr.estimate_volatility(pd.Series(prices, index=INDEX[:100], name="USDC"))


def test_events_are_events():
    """Not something else."""
    with pytest.raises(ValueError, match="events must hold DepegEvent records, found 3"):
        tr.estimate_volatility(pd.Series(1.0, index=INDEX[:100], name="USDC"), [3])


def test_an_accruing_coin_is_measured_against_its_reference():
    """Growth is not volatility."""
    growth = 1.1 ** (np.arange(N) / (365 * 24))
    prices = pd.Series(growth, index=INDEX, name="sUSDe")

    assert tr.estimate_volatility(prices)["sUSDe"] < 1e-6


def test_the_deviation_within_an_hour():
    """Of returns between neighbours of one clock hour; none where there is one return, none across the hour."""
    minutes = [0, 15, 30, 45, 60, 90, 120, 240, 250, 259]
    index = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(minutes, unit="min")
    logs = [0.0, 0.01, -0.02, 0.03, 0.5, 0.6, 0.1, 0.0, 0.1, 0.4]

    found = volatility_within_hour(pd.Series(np.exp(logs), index=index, name="USDC")).tolist()

    first, last = statistics.stdev([0.01, -0.03, 0.05]), statistics.stdev([0.1, 0.3])
    assert [first] * 4 + [None] * 3 + [last] * 3 == [
        None if math.isnan(one) else pytest.approx(one, rel=1e-9) for one in found
    ]

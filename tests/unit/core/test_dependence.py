"""Dependence at one instant: what each part is computed from, and what is said where it cannot be."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.dependence import assess_dependence

DAY = timedelta(days=1)


def prices_of(days=500, seed=0, columns=("USDC", "DAI", "USDT", "BTC")):
    """Return daily prices; USDC and DAI jump together once."""
    index = pd.date_range("2023-01-01", periods=days, freq="D", tz="UTC")
    values = np.exp(np.random.default_rng(seed).normal(0, 1e-3, (days, len(columns))))
    prices = pd.DataFrame(values, index=index, columns=list(columns))
    prices.iloc[days - 100, :2] *= 0.9
    return prices


def found_in(prices, **options):
    """Detect and assess as of the last stamp."""
    coins = prices.drop(columns="BTC", errors="ignore")
    events = tr.detect_depegs(coins, direction="both", sample_span=DAY)
    arguments = {"as_of": prices.index[-1], "step": DAY} | options
    return assess_dependence(prices, events, **arguments), events


def test_every_part_is_that_of_its_function():
    """Matrices with BTC, the rest of coins alone."""
    prices = prices_of()
    found, events = found_in(prices)
    coins = prices[["USDC", "DAI", "USDT"]]
    year = tr.log_returns(coins.iloc[-365:])

    for days in (30, 90, 365):
        assert tr.correlation_windows(prices, windows=(days,), bootstrap=999)[days] == found.correlations[days]
    assert (
        tr.correlation_sensitivity(year, events=events, sample_span=DAY).to_dict()
        == found.sensitivities[365].to_dict()
    )
    assert tr.correlation_regime_change(tr.log_returns(coins), recent=30, baseline=335) == found.regime_change
    pd.testing.assert_frame_equal(
        tr.co_depegs(events, observed=dict.fromkeys(coins, (coins.index[0], coins.index[-1] + DAY))),
        found.co_depegs,
    )
    pd.testing.assert_frame_equal(tr.tail_dependence(year), found.tail_dependence)
    assert {} == found.reasons


def test_contagion_says_what_a_pair_rests_on():
    """Two days out of a year."""
    found, _ = found_in(prices_of())

    [pair] = found.contagion(365).to_dict("records")

    assert ("DAI", "USDC") == (pair["asset_1"], pair["asset_2"])
    assert pair["correlation"] > 0.9
    assert pair["rests_on_few_days"] is True
    assert 5 == len(pair["influential_days"])
    assert found.contagion(30).empty


def test_later_prices_and_events_do_not_count():
    """The same as of an instant, whatever follows."""
    prices = prices_of()
    as_of = prices.index[420]

    whole, _ = found_in(prices, as_of=as_of)
    known, _ = found_in(prices.loc[:as_of])

    assert whole.to_dict() == known.to_dict()


def test_the_document_is_json_without_nan():
    """Default pairs, coins without days left, and tables without rows included."""
    prices = prices_of(60)
    prices["GHO"] = np.nan
    prices.iloc[-5:, -1] = 1.0

    found, _ = found_in(prices)

    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    month = document["correlations"]["30"]
    assert {"DAI", "GHO", "USDC", "USDT"} == {
        symbol for pair in month["pairs"] for symbol in (pair["asset_1"], pair["asset_2"])
    }
    default = next(pair for pair in month["pairs"] if pair["is_default"])
    assert (default["low"], default["high"]) == (-1.0, 1.0)
    assert default["without_influential"] is None
    assert "expanded percentiles of a block bootstrap" == month["interval"]["method"]
    assert "BTC" not in month["assets"]


@pytest.mark.parametrize("days", [1, 2, 15])
def test_too_few_prices_are_reasons(days):
    """Nothing raises and nothing is made up."""
    found, _ = found_in(prices_of(days + 101).iloc[-days:])

    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["regime_change"] is None
    assert document["regime_change_reason"]
    if days == 1:
        assert {None} == set(found.correlations.values())
        assert "holds 1 row" in document["correlations"]["90_reason"]
        assert document["tail_dependence"] is None
        assert document["tail_dependence_reason"]
    else:
        assert found.correlations[30].is_default[0, 1]
        reason = document["correlations"]["30"]["common_mode_share_reason"]
        assert ("found 1" if days == 2 else "no pair of returns has 20") in reason
    if found.correlations[30] is not None:
        assert found.contagion(30).empty

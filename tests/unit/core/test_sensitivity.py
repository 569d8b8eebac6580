"""Sensitivity: the days and depegs that a correlation rests on, and the mode that all coins share."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.dependence import plain_influential_days, plain_pearson
from tonsurance_risk.core.psd import nearest_correlation
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError, NotPositiveDefiniteError

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def returns_of(rows, seed=0, columns=("DAI", "USDC"), freq="D", start="2024-01-01"):
    """Return independent returns."""
    index = pd.date_range(start, periods=rows, freq=freq, tz="UTC")
    values = np.random.default_rng(seed).normal(0, 1e-3, (rows, len(columns)))
    return pd.DataFrame(values, index=index, columns=list(columns))


@given(st.integers(12, 60), st.integers(0, 10_000), st.integers(1, 6), st.sampled_from(["D", "7h"]))
@settings(max_examples=60)
def test_the_days_and_what_is_left_equal_the_plain_search(rows, seed, n_days, freq):
    """Day by day, whole days of several rows too; both signs."""
    returns = returns_of(rows, seed, freq=freq)
    returns["USDC"] += np.random.default_rng(seed + 1).choice([-1.0, 0.0, 1.0]) * returns["DAI"]
    days = [time.date() for time in returns.index]
    if len(set(days)) < n_days + 3:
        return

    pair = tr.correlation_sensitivity(returns, n_days=n_days, min_observations=3, bootstrap=19).pairs.iloc[0]

    chosen, left = plain_influential_days(days, returns["DAI"].tolist(), returns["USDC"].tolist(), n_days)
    if pair["without_influential"] is not pd.NA:
        assert left == pytest.approx(pair["without_influential"], abs=1e-9)
        assert chosen == [day.date() for day in pair["influential_days"]]


def test_a_correlation_of_five_days_says_so():
    """0.9 with them, nothing without; the alert rests on them."""
    returns = returns_of(300)
    returns.iloc[100:105] += np.array([[-0.03, 0.02, -0.04, 0.03, 0.02]]).T

    found = tr.correlation_sensitivity(returns)

    pair = found.pairs.iloc[0]
    assert pair["correlation"] > 0.9
    assert set(returns.index[100:105]) == set(pair["influential_days"])
    assert returns.drop(returns.index[100:105]).corr().iloc[0, 1] == pytest.approx(pair["without_influential"])
    assert pair["rests_on_few_days"]
    assert not tr.correlation_sensitivity(returns, threshold=0.99).pairs["rests_on_few_days"].iloc[0]


def test_a_correlation_of_every_day_does_not_rest_on_few():
    """Without any five it is still high."""
    returns = returns_of(300)
    returns["USDC"] = returns["DAI"] + 0.3 * returns["USDC"]

    pair = tr.correlation_sensitivity(returns).pairs.iloc[0]

    assert not pair["rests_on_few_days"]
    assert pair["without_influential"] > 0.9


def test_without_the_depegs_of_either_coin():
    """From start to recovery, both included, wherever the event has finer stamps; others' do not count."""
    prices = pd.DataFrame(
        np.exp(returns_of(400, columns=("DAI", "USDC", "GHO"), freq="h").cumsum() * 0.1), copy=True
    ).clip(0.995, 1.005)
    prices.iloc[100:110, 0] *= 0.95
    prices.iloc[200:205, 1] *= 0.96
    prices.iloc[300:350, 2] *= 0.97
    events = tr.detect_depegs(prices)
    returns = tr.log_returns(prices)

    pairs = tr.correlation_sensitivity(returns, events=events).pairs.set_index(["asset_1", "asset_2"])

    row = pairs.loc[("DAI", "USDC")]
    kept = returns.drop(returns.loc[prices.index[100] : prices.index[110]].index)
    kept = kept.drop(kept.loc[prices.index[200] : prices.index[205]].index)
    assert 11 + 6 == row["depeg_rows"]
    assert kept["DAI"].corr(kept["USDC"]) == pytest.approx(row["without_depegs"], abs=1e-12)
    assert 11 + 51 == pairs.loc[("DAI", "GHO"), "depeg_rows"]


def test_too_few_rows_left_are_no_number():
    """NA, and null in JSON; an alert does not rest on what cannot be computed."""
    returns = returns_of(24)
    returns["USDC"] = returns["DAI"]

    found = tr.correlation_sensitivity(returns)

    assert found.pairs["without_influential"].iloc[0] is pd.NA
    assert not found.pairs["rests_on_few_days"].iloc[0]
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["pairs"][0]["without_influential"] is None
    assert 5 == len(document["pairs"][0]["influential_days"])


def test_the_common_mode():
    """The largest eigenvalue over the number of coins, and what it alone gives each pair."""
    rng = np.random.default_rng(0)
    returns = returns_of(500, columns=("DAI", "GHO", "USDC", "USDT"))
    returns += 1e-3 * rng.normal(size=(500, 1))

    found = tr.correlation_sensitivity(returns, bootstrap=199)

    eigenvalues, vectors = np.linalg.eigh(returns.corr())
    assert eigenvalues[-1] / 4 == pytest.approx(found.common_mode_share, abs=0.005)
    assert found.common_mode_low < found.common_mode_share < found.common_mode_high
    expected = eigenvalues[-1] * np.outer(vectors[:, -1], vectors[:, -1])
    np.testing.assert_allclose(found.pairs["common_mode"], expected[np.triu_indices(4, k=1)], atol=1e-10)
    assert found.common_mode_low < 0.625 < found.common_mode_high


@pytest.mark.parametrize(("rho", "days"), [(0.0, 29), (0.0, 364), (0.3, 89)])
def test_the_common_mode_has_no_bias(rho, days):
    """14 coins of which 1 / 14, or 0.35, is common: its interval covers, in at least 17 of 20.

    The sample share of 29 days of independent coins is twice that; coins without a return do not count.
    """
    truth = (1.0 + 13.0 * rho) / 14.0
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        returns = returns_of(days, seed, columns=[f"C{k:02d}" for k in range(14)])
        returns = np.sqrt(1.0 - rho) * returns + np.sqrt(rho) * 1e-3 * rng.normal(size=(days, 1))
        found = tr.correlation_sensitivity(returns.assign(NEW=np.nan), bootstrap=199)
        assert found.common_mode_low <= found.common_mode_share <= found.common_mode_high
        covered += found.common_mode_low - 1e-12 <= truth <= found.common_mode_high

    assert covered >= 17


def test_days_without_which_a_coin_is_still_carry_everything():
    """A flat series with one depeg: the alert rests on its two days, and there is no number without them."""
    returns = returns_of(365, start="2023-01-01") * 0.0
    returns.iloc[69:71] = [[-0.1, -0.12], [0.07, 0.10]]

    pair = tr.correlation_sensitivity(returns, bootstrap=19).pairs.iloc[0]

    assert pair["rests_on_few_days"]
    assert set(returns.index[69:71]) == set(pair["influential_days"])
    assert pair["without_influential"] is pd.NA
    assert "a series does not move on the other rows" == pair["without_influential_reason"]


def test_a_bar_belongs_to_the_day_before_its_end():
    """Daily and hourly bars that are stamped when they are known."""
    for freq, span in (("D", DAY), ("h", HOUR)):
        returns = returns_of(
            24 * 30 if freq == "h" else 60, freq=freq, start="2024-01-01T01:00" if freq == "h" else "2024-01-02"
        )
        bars = returns.index - span == pd.Timestamp(
            "2024-01-20T00:00" if freq == "D" else "2024-01-20T23:00", tz="UTC"
        )
        returns.loc[bars] += 0.1

        pair = tr.correlation_sensitivity(returns, n_days=1, sample_span=span, bootstrap=19).pairs.iloc[0]

        assert (pd.Timestamp("2024-01-20", tz="UTC"),) == pair["influential_days"]


@pytest.mark.parametrize(("rho", "rows"), [(0.85, 29), (0.82, 89)])
def test_ordinary_samples_are_hardly_said_to_rest_on_few_days(rho, rows):
    """At most one in 40 of those that raise an alert, here at most 6 of 60 by chance, instead of most."""
    said = 0
    for seed in range(60):
        returns = returns_of(rows, seed)
        returns["USDC"] = rho * returns["DAI"] + np.sqrt(1.0 - rho**2) * returns["USDC"]
        said += tr.correlation_sensitivity(returns, bootstrap=19).pairs["rests_on_few_days"].iloc[0]

    assert said <= 6


def test_pairs_are_ordered_and_defaults_left_out():
    """By code point, whatever the order of the columns."""
    returns = returns_of(60, columns=("crvUSD", "USDC", "DAI", "GHO"))
    returns["GHO"] = 1.0

    found = tr.correlation_sensitivity(returns, bootstrap=19).to_frame()

    assert [("DAI", "USDC"), ("DAI", "crvUSD"), ("USDC", "crvUSD")] == list(
        zip(found["asset_1"], found["asset_2"], strict=True)
    )
    for row in found.itertuples():
        oracle = plain_pearson(returns[row.asset_1], returns[row.asset_2])
        assert oracle == pytest.approx(row.correlation, abs=1e-10)


@pytest.mark.fault("F115")
def test_wrong_input():
    """Named."""
    returns = returns_of(60)
    with pytest.raises(InsufficientDataError, match="no pair of returns has 20 common rows"):
        tr.correlation_sensitivity(returns.iloc[:19])
    with pytest.raises(InsufficientDataError, match="no pair"):
        tr.correlation_sensitivity(returns[["DAI"]])
    with pytest.raises(InvalidPriceError, match="naive"):
        tr.correlation_sensitivity(returns.tz_localize(None))
    for arguments, message in (
        ({"n_days": 0}, "n_days must be a whole number"),
        ({"threshold": 2.0}, "threshold must be"),
        ({"bootstrap": 0}, "bootstrap must be a whole number"),
        ({"events": [1]}, "must hold DepegEvent records"),
    ):
        with pytest.raises(ValueError, match=message):
            tr.correlation_sensitivity(returns, **arguments)


class TestRolling:
    """A pair over a moving window."""

    def test_every_window_is_the_matrix_of_its_rows(self):
        """Ends a week apart, backwards from the last common row."""
        returns = returns_of(200)
        returns.iloc[-3:, 0] = np.nan

        table = tr.rolling_correlation(returns, "dai", "USDC", window=50, every=7 * DAY, bootstrap=0)

        assert returns.index[-4] == table.index[-1]
        assert [7 * DAY] == table.index.to_series().diff().dropna().unique().tolist()
        for end, row in table.iterrows():
            part = returns[(returns.index > end - 50 * DAY) & (returns.index <= end)].dropna()
            assert len(part) == row["observations"]
            assert part.corr().iloc[0, 1] == pytest.approx(row["correlation"], abs=1e-12)
        with_bootstrap = tr.rolling_correlation(returns, "DAI", "USDC", window=50, every=70 * DAY, bootstrap=99)
        assert (with_bootstrap["low"] < with_bootstrap["high"]).all()

    def test_windows_that_cannot_be_estimated_are_left_out(self):
        """A gap of the data is a gap of the table."""
        returns = returns_of(300)
        returns.iloc[100:200, 1] = 0.0

        table = tr.rolling_correlation(returns, "DAI", "USDC", window=30, bootstrap=0)

        assert not ((table.index > returns.index[130]) & (table.index < returns.index[199])).any()
        with pytest.raises(InsufficientDataError, match="no window of 30 days has 20 common rows"):
            tr.rolling_correlation(returns.iloc[100:200], "DAI", "USDC", window=30)
        with pytest.raises(InsufficientDataError, match="no window"):
            tr.rolling_correlation(returns * np.nan, "DAI", "USDC")

    def test_wrong_arguments(self):
        """Named."""
        returns = returns_of(60)
        for arguments, message in (
            ({"asset_2": "GHO"}, "'GHO' is not in returns of DAI, USDC"),
            ({"asset_2": "dai"}, "must be unique"),
            ({"asset_2": "USDC", "window": 0}, "window must be"),
            ({"asset_2": "USDC", "every": 0 * DAY}, "every must be"),
        ):
            with pytest.raises(ValueError, match=message):
                tr.rolling_correlation(returns, "DAI", **arguments)
        with pytest.raises(ValueError, match="min_observations must be"):
            tr.rolling_correlation(returns * np.nan, "DAI", "USDC", min_observations="many")


def test_events_of_coins_without_returns_do_not_count():
    """As if they were not there."""
    returns = returns_of(60)
    prices = pd.Series([1.0, 0.9, 1.0], index=returns.index[10:13], name="GHO")
    event = tr.detect_depegs(prices, min_duration=pd.Timedelta(0))

    without = tr.correlation_sensitivity(returns).pairs
    pd.testing.assert_frame_equal(
        without.drop(columns=["depeg_rows", "without_depegs"]),
        tr.correlation_sensitivity(returns, events=event).pairs.drop(columns=["depeg_rows", "without_depegs"]),
    )
    assert 0 == tr.correlation_sensitivity(returns, events=event).pairs["depeg_rows"].iloc[0]


def test_a_coin_that_moves_as_another_has_the_same_row():
    """Its correlation with a third, what is left of it, and whether that rests on few days."""
    returns = returns_of(300)
    returns.iloc[100:105] += np.array([[-0.03, 0.02, -0.04, 0.03, 0.02]]).T
    returns["USDT"] = returns["USDC"]

    pairs = tr.correlation_sensitivity(returns).pairs.set_index(["asset_1", "asset_2"])

    one, other = pairs.loc[("DAI", "USDC")], pairs.loc[("DAI", "USDT")]
    names = ["correlation", "without_influential", "influential_days", "rests_on_few_days"]
    assert one[names].tolist() == other[names].tolist()
    assert one["rests_on_few_days"]


def test_a_repair_that_leaves_a_negative_eigenvalue_is_refused(monkeypatch):
    """The last guard of the nearest correlation matrix: here nothing is good enough for it."""
    monkeypatch.setattr("tonsurance_risk.core.psd.PSD_TOLERANCE", -2.0)

    with pytest.raises(NotPositiveDefiniteError, match="the repair left the eigenvalue"):
        nearest_correlation(np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]]))

"""Laws of the price checks, and slow second implementations of their medians."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr

START = pd.Timestamp("2024-01-01", tz="UTC")
COINS = ("USDC", "USDT", "DAI", "USDP", "GHO", "LUSD")
SEEDS = st.integers(0, 2**32 - 1)


def irregular(seed, coins, n=80):
    """Return random walks around the peg at irregular minutes, with spikes, gaps and missing samples."""
    rng = np.random.default_rng(seed)
    minutes = np.cumsum(rng.choice([1, 5, 60, 61, 300, 2000], size=n, p=[0.2, 0.2, 0.3, 0.2, 0.07, 0.03]))
    values = 1.0 + rng.normal(0, rng.choice([2e-4, 2e-3, 2e-2]), (n, len(coins)))
    values[rng.random(values.shape) < 0.1] *= rng.choice([0.5, 0.75, 0.97, 1.3])
    for start in rng.integers(0, n, rng.integers(0, 4)):
        values[start : start + rng.integers(1, 8)] *= rng.choice([0.7, 0.96, 0.99, 1.05])
    values[rng.random(values.shape) < 0.05] = np.nan
    return pd.DataFrame(values, index=START + pd.to_timedelta(minutes, unit="min"), columns=list(coins))


def plain_spikes(prices, step):
    """Return (position, action) of the spikes of one coin, sample by sample."""
    window, half = 25 * step, 25 * step / 2
    times, values = list(prices.index), prices.tolist()
    n = len(values)

    def inside(i):
        return [k for k in range(n) if times[i] - half < times[k] <= times[i] + half]

    medians = [float(np.median([values[k] for k in inside(i)])) for i in range(n)]
    away = [abs(values[i] - medians[i]) for i in range(n)]
    found = []
    for i in range(n):
        spread = float(np.median([away[k] for k in inside(i)]))
        if not (away[i] > 6.0 * 1.482602218505602 * spread and away[i] > 0.005 * medians[i]):
            continue

        def is_back(k, i=i):
            close = abs(times[k] - times[i]) <= window / 2
            return close and abs(values[k] - medians[i]) < away[i] / 2

        before = i > 0 and is_back(i - 1)
        if before and i < n - 1 and is_back(i + 1):
            found.append((i, "reject" if away[i] / medians[i] > 0.20 else "flag"))
        elif before and i == n - 1:
            found.append((i, "flag"))
    return found


@settings(max_examples=50)
@given(SEEDS)
def test_spikes_equal_those_of_a_plain_loop(seed):
    """On irregular stamps, with gaps."""
    prices = irregular(seed, ["USDC"]).iloc[:, 0].dropna()
    step = pd.Timedelta(np.median(np.diff(prices.index.asi8)), unit=prices.index.unit)

    flags = tr.check_prices(prices, as_of=prices.index[-1]).flags

    spikes = flags[flags["check"] == "spike"]
    expected = plain_spikes(prices, step) if len(prices) >= 3 else []
    found = [(prices.index.get_loc(row.time), row.action) for row in spikes.itertuples()]
    assert sorted(expected) == sorted(found)


@given(SEEDS, st.permutations(COINS))
def test_the_order_of_columns_and_rows_does_not_matter(seed, order):
    """The same findings, apart from stamps out of order."""
    prices = irregular(seed, COINS)
    mixed = prices.sample(frac=1.0, random_state=seed % 1000)[list(order)]

    reports = [tr.check_prices(frame, as_of=prices.index[-1]) for frame in (prices, mixed)]

    found = [
        {
            (r.asset, r.time, r.check, r.action)
            for r in report.flags[report.flags["check"] != "unordered"].itertuples()
        }
        for report in reports
    ]
    assert {row for row in found[0] if not pd.isna(row[1])} == {row for row in found[1] if not pd.isna(row[1])}
    pd.testing.assert_frame_equal(reports[0].usable(prices), reports[1].usable(mixed)[list(COINS)])


@given(SEEDS)
def test_one_sample_has_one_action_of_the_checks_of_moves(seed):
    """Spike or common mode, once."""
    prices = irregular(seed, COINS)

    flags = tr.check_prices(prices, as_of=prices.index[-1]).flags

    moves = flags[flags["check"].isin({"spike", "common_mode"})]
    assert not moves.duplicated(["asset", "time"]).any()


@settings(max_examples=25)
@given(SEEDS)
def test_common_mode_rejects_only_where_enough_coins_shift(seed):
    """Counted anew: at a rejected sample, or within a day of it, two thirds of the coins are off by 0.5 %."""
    prices = irregular(seed, COINS)
    step = pd.Timedelta(np.median(np.diff(prices.index.asi8)), unit=prices.index.unit)
    half = max(25 * step, 5 * timedelta(days=1)) / 2

    flags = tr.check_prices(prices, as_of=prices.index[-1]).flags

    rejected = flags[(flags["check"] == "common_mode") & (flags["action"] == "reject")]
    others = flags[(flags["action"] == "reject") & (flags["check"] != "common_mode")]
    kept = prices.copy()
    for row in others.itertuples():
        kept.loc[row.time, row.asset] = np.nan
    off = pd.DataFrame(
        {
            time: (kept.loc[time] / kept[(kept.index > time - half) & (kept.index <= time + half)].median() - 1.0)
            for time in kept.index
        }
    ).T
    enough = 3 * (off.abs() >= 0.5 * 0.005).sum(axis=1) >= 2 * off.notna().sum(axis=1)
    for time in rejected["time"].unique():
        assert enough[(off.index >= time - timedelta(days=1)) & (off.index <= time + timedelta(days=1))].any()


@given(SEEDS, st.floats(0.006, 0.15), st.integers(1, 23), st.sampled_from([-1.0, 1.0]))
def test_any_print_of_all_coins_is_rejected_and_nothing_else(seed, size, hours, sign):
    """Hourly, in calm prices."""
    rng = np.random.default_rng(seed)
    index = pd.date_range(START, periods=150, freq="h")
    prices = pd.DataFrame(1.0 + rng.normal(0, 2e-4, (150, 6)), index=index, columns=list(COINS))
    first = int(rng.integers(30, 100))
    prices.iloc[first : first + hours] *= 1.0 + sign * size

    report = tr.check_prices(prices, as_of=index[-1])

    rejected = report.flags[report.flags["action"] == "reject"]
    assert {"common_mode"} == set(rejected["check"]) or size > 0.2
    assert set(rejected["time"]) == set(index[first : first + hours])
    assert len(rejected) == hours * 6

"""The simulated market: exactly the declared depegs, nothing else, always the same."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.assets import STABLECOINS
from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.errors import GranularityError, InvalidPriceError, UnknownAssetError
from tonsurance_risk.sources import PriceSource, SampleSource

SOURCE = SampleSource()
HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)
AFTER = SOURCE.last + HOUR
SYMBOLS = [asset.symbol for asset in STABLECOINS] + ["BTC"]
ACCRUING = {"sUSDe": 1.09, "USDY": 1.05}
FIXED = [symbol for symbol in SYMBOLS if symbol not in {"BTC", *ACCRUING}]


def whole(symbol: str, step: str = "1h") -> pd.Series:
    return SOURCE.fetch(symbol, SOURCE.first, AFTER, step=step)


def stretches(times, off_peg):
    """List (first sample, number of samples) of each run of True, and whether the last one has ended."""
    found, length, first = [], 0, None
    for time, off in zip(times, off_peg, strict=True):
        if off and length == 0:
            first = time
        if off:
            length += 1
        elif length:
            found.append((first, length))
            length = 0
    return found, length == 0


def accruing_reference(prices: pd.Series) -> list[float]:
    """Follow the price by at most +50 % and -10 % a year, from the median of the first day."""
    times, values = list(prices.index), prices.tolist()
    first_day = [v for t, v in zip(times, values, strict=True) if t < times[0] + DAY]
    reference = [float(np.median(first_day))] * len(first_day)
    for i in range(len(first_day), len(values)):
        years = (times[i] - times[i - 1]) / pd.Timedelta(days=365)
        low, high = reference[-1] * 0.9**years, reference[-1] * 1.5**years
        reference.append(min(max(values[i], low), high))
    return reference


def test_is_a_price_source_that_says_it_is_simulated():
    assert isinstance(SOURCE, PriceSource)
    assert "simulated" in SOURCE.name
    assert SOURCE.first == pd.Timestamp("2024-01-01T00:00Z")
    assert SOURCE.last == pd.Timestamp("2025-12-31T00:00Z")
    assert SampleSource() == SOURCE


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_asset_is_a_valid_rounded_hourly_series(symbol):
    prices = whole(symbol)
    assert prices.name == symbol
    assert prices.dtype == np.float64
    assert str(prices.index.tz) == "UTC"
    assert prices.index[-1] == SOURCE.last
    assert not prices.isna().any()
    assert valid_prices(prices)[symbol].equals(prices)
    assert prices.equals(prices.round(2 if symbol == "BTC" else 6))


@pytest.mark.parametrize("symbol", FIXED)
def test_fixed_pegs_show_the_declared_depegs_and_the_false_print_only(symbol):
    prices = whole(symbol)
    declared = {"below": [], "above": []}
    for event in SOURCE.truth:
        if event.asset == symbol:
            declared[event.direction].append((event.start, event.hours))
    declared["below"] += [(wrong.time, 1) for wrong in SOURCE.false_prints if wrong.asset == symbol]
    below, below_over = stretches(prices.index, [price < 0.99 for price in prices])
    above, above_over = stretches(prices.index, [price > 1.01 for price in prices])
    assert below == sorted(declared["below"])
    assert above == sorted(declared["above"])
    assert below_over
    assert above_over


@pytest.mark.parametrize("symbol", ACCRUING)
def test_accruing_pegs_show_the_declared_depegs_only(symbol):
    prices = whole(symbol)
    reference = accruing_reference(prices)
    ratios = [price / ref for price, ref in zip(prices, reference, strict=True)]
    found, over = stretches(prices.index, [ratio < 0.99 for ratio in ratios])
    assert found == [(e.start, e.hours) for e in SOURCE.truth if e.asset == symbol]
    assert over


@pytest.mark.parametrize("event", SOURCE.truth, ids=lambda e: f"{e.asset}-{e.start:%Y-%m}")
def test_depth_is_reached_once_and_exactly(event):
    prices = SOURCE.fetch(event.asset, event.start, event.end + HOUR)
    assert len(prices) == event.hours
    years = (prices.index - SOURCE.first) / pd.Timedelta(days=365)
    deviation = (prices / ACCRUING.get(event.asset, 1.0) ** years - 1.0).abs()
    assert deviation.max() == pytest.approx(event.depth, abs=1e-6)
    assert (deviation > event.depth - 1e-6).sum() == 1


def test_the_declared_depegs_cover_what_a_reader_needs_to_try():
    truth = SOURCE.truth
    by_start = {}
    for event in truth:
        by_start.setdefault(event.start.strftime("%Y-%m"), {})[event.asset] = event
    assert {"USDC", "DAI", "FRAX"} == by_start["2024-03"].keys()
    assert all(0.05 <= event.depth <= 0.08 for event in by_start["2024-03"].values())
    assert by_start["2024-06"].keys() == {"USDT"}
    assert (by_start["2024-06"]["USDT"].depth, by_start["2024-06"]["USDT"].hours) == (0.03, 10)
    assert by_start["2024-08"].keys() == {"LUSD", "mkUSD"}
    assert by_start["2024-11"]["crvUSD"].direction == "above"
    assert by_start["2025-10"].keys() == {"USDe", "sUSDe"}
    assert [event.hours for event in truth if event.asset == "GHO"] == [600]
    assert list(truth) == sorted(truth, key=lambda event: event.start)
    assert all(event.end < SOURCE.last - 45 * DAY for event in truth)
    recent = [e for e in truth if e.start > SOURCE.last - 300 * DAY and e.asset not in {"USDe", "sUSDe"}]
    assert recent


def test_the_false_print_is_one_sample_in_a_calm_stretch():
    (wrong,) = SOURCE.false_prints
    assert (wrong.asset, wrong.price) == ("USDP", 0.62)
    around = SOURCE.fetch("USDP", wrong.time - 3 * DAY, wrong.time + 3 * DAY)
    assert around[wrong.time] == 0.62
    assert (around.drop(wrong.time) - 1.0).abs().max() < 0.005
    assert all(not event.start - 7 * DAY < wrong.time < event.end + 7 * DAY for event in SOURCE.truth)
    assert wrong.time not in whole("USDP", "1d").index


@pytest.mark.parametrize("symbol", FIXED)
def test_noise_is_small_and_mean_reverting(symbol):
    prices = whole(symbol)
    for event in SOURCE.truth:
        if event.asset == symbol:
            prices = prices[(prices.index < event.start) | (prices.index > event.end)]
    calm = prices[(prices - 1.0).abs() < 0.1]
    # About 17521 / 19 independent values: the standard error of each is some 3 %.
    assert 0.0003 < calm.std() < 0.0013
    assert calm.mean() == pytest.approx(1.0, abs=0.0003)
    assert calm.autocorr() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("symbol", "growth"), ACCRUING.items())
def test_accruing_coins_grow_as_stated_in_small_moves(symbol, growth):
    prices = whole(symbol)
    assert prices.iloc[0] == pytest.approx(1.0, abs=0.004)
    assert prices.iloc[-1] == pytest.approx(growth**2, rel=0.004)
    assert prices.iloc[-1] / prices.iloc[8784] == pytest.approx(growth, rel=0.006)
    moves = np.log(prices).diff().iloc[1:]
    for event in SOURCE.truth:
        if event.asset == symbol:
            moves = moves[(moves.index < event.start) | (moves.index > event.end + HOUR)]
    assert moves.abs().max() < 0.0025


def test_btc_moves_like_btc():
    prices = whole("BTC")
    moves = np.log(prices).diff().iloc[1:]
    # Standard error of a standard deviation of 17520 normal values: 0.53 %.
    assert moves.std() * math.sqrt(8760) == pytest.approx(0.55, rel=0.02)
    assert prices.iloc[0] == 42_000.0
    assert prices.min() > 20_000
    assert prices.max() < 150_000


def test_correlations_are_moderate():
    prices = pd.DataFrame({symbol: whole(symbol) for symbol in SYMBOLS})
    moves = np.log(prices).diff()
    calm = moves.loc["2024-09-10":"2024-11-15"].corr()
    assert calm.loc["BUSD", "PYUSD"] == pytest.approx(0.45, abs=0.1)
    assert calm.loc["USDC", "DAI"] == pytest.approx(0.45, abs=0.1)
    assert calm.loc["USDT", "USDC"] == pytest.approx(0.09, abs=0.1)
    for year in ("2024", "2025"):
        matrix = moves.loc[year].corr().to_numpy()
        assert np.abs(matrix[np.tril_indices_from(matrix, -1)]).max() < 0.8


def test_gaps_are_missing_samples_outside_events():
    every_hour = whole("USDC").index
    missing = {symbol: every_hour.difference(whole(symbol).index) for symbol in SYMBOLS}
    assert {symbol for symbol, hours in missing.items() if len(hours)} == {"PYUSD", "BUSD", "mkUSD"}
    assert len(missing["PYUSD"]) == 12
    assert len(missing["BUSD"]) == 72
    assert whole("mkUSD").index[0] == pd.Timestamp("2024-05-01T00:00Z")
    for event in SOURCE.truth:
        hours = missing[event.asset]
        assert not ((hours >= event.start - HOUR) & (hours <= event.end + HOUR)).any()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_daily_is_the_hourly_sample_of_midnight(symbol):
    hourly, daily = whole(symbol), whole(symbol, "1d")
    assert [stamp.hour for stamp in daily.index] == [0] * len(daily)
    assert daily.equals(hourly[daily.index])
    assert len(daily) == sum(stamp.hour == 0 for stamp in hourly.index)


HOURS = st.integers(-50, 17_600)


@given(
    symbol=st.sampled_from(SYMBOLS),
    first=HOURS,
    length=st.integers(-5, 17_600),
    step=st.sampled_from(["1h", "1d"]),
)
def test_any_slice_agrees_with_the_whole_to_the_bit(symbol, first, length, step):
    start, end = SOURCE.first + first * HOUR, SOURCE.first + (first + length) * HOUR
    part, all_of_it = SOURCE.fetch(symbol, start, end, step=step), whole(symbol, step)
    expected = all_of_it[(all_of_it.index >= start) & (all_of_it.index < end)]
    assert part.to_numpy().tobytes() == expected.to_numpy().tobytes()
    assert part.index.equals(expected.index)
    assert part.name == symbol


def test_another_process_makes_the_same_path():
    code = (
        "import hashlib; from tonsurance_risk.sources import SampleSource; s = SampleSource();"
        "print(hashlib.sha256(s.fetch('GHO', s.first, s.last).to_numpy().tobytes()).hexdigest())"
    )
    run = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert run[0] == run[1]


def test_changing_a_result_does_not_change_the_market():
    before = whole("USDC")
    spoiled = whole("USDC")
    spoiled.iloc[:] = 0.5
    assert whole("USDC").equals(before)


def test_symbols_in_any_case_and_times_in_any_zone():
    zone = timezone(timedelta(hours=-5))
    start = datetime(2024, 3, 11, 0, 0, tzinfo=zone)
    part = SOURCE.fetch("susde", start, start + timedelta(hours=2))
    assert part.name == "sUSDe"
    assert list(part.index) == [pd.Timestamp("2024-03-11T05:00Z"), pd.Timestamp("2024-03-11T06:00Z")]


def test_what_it_does_not_carry():
    with pytest.raises(UnknownAssetError, match="USDC"):
        SOURCE.fetch("USDX", SOURCE.first, SOURCE.last)
    for step in ("5m", "", None):
        with pytest.raises(GranularityError, match="1h and 1d"):
            SOURCE.fetch("USDC", SOURCE.first, SOURCE.last, step=step)
    naive = datetime(2024, 1, 1)  # noqa: DTZ001
    with pytest.raises(InvalidPriceError, match="start"):
        SOURCE.fetch("USDC", naive, SOURCE.last)
    with pytest.raises(InvalidPriceError, match="end"):
        SOURCE.fetch("USDC", SOURCE.first, naive)

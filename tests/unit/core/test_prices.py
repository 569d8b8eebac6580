"""What a valid price frame is."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.prices import follow, nanoseconds, peg_of, peg_reference, reach, valid_prices
from tonsurance_risk.errors import DataError, InvalidPriceError, RiskError

HOURS = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC")


def frame(**columns):
    """Return a wide frame of four hours."""
    return pd.DataFrame(columns, index=HOURS)


def test_a_valid_frame_is_not_copied():
    """The same object comes back."""
    prices = frame(USDC=[1.0, 0.99, np.nan, 1.0])

    assert valid_prices(prices) is prices


def test_another_zone_is_converted_and_symbols_are_spelled():
    """Without changing the input."""
    prices = frame(usdc=[1.0] * 4, mycoin=[1] * 4).tz_convert("America/New_York")

    valid = valid_prices(prices)

    assert ["USDC", "mycoin"] == list(valid.columns)
    assert (valid.index == HOURS).all()
    assert "UTC" == str(valid.index.tz)
    assert ["usdc", "mycoin"] == list(prices.columns)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, 0.0, -1.0, -1e-300])
@pytest.mark.fault("F034")
def test_an_impossible_price_is_refused_with_asset_time_and_value(bad):
    """Everywhere but in check_prices."""
    prices = frame(DAI=[1.0] * 4, USDC=[1.0, 1.0, bad, 1.0])

    with pytest.raises(InvalidPriceError, match=r"USDC at 2024-01-01T02:00:00Z must be a price > 0") as caught:
        valid_prices(prices)
    assert ("USDC", HOURS[2], bad) == (caught.value.asset, caught.value.time, caught.value.observed)
    for refuses in (tr.detect_depegs, tr.log_returns, tr.correlation_windows):
        with pytest.raises(InvalidPriceError, match="USDC"):
            refuses(prices)


@pytest.mark.parametrize("bad", ["1.0", "n/a", True, [1.0], Decimal("1.0")])
@pytest.mark.fault("F119")
def test_text_among_prices_is_refused(bad):
    """Numbers in text too: nobody guesses."""
    prices = frame(USDC=pd.Series([1.0, bad, 1.0, 1.0], index=HOURS, dtype=object))

    with pytest.raises(InvalidPriceError, match="USDC at 2024-01-01T01:00:00Z must be a number") as caught:
        valid_prices(prices)
    assert bad == caught.value.observed


@pytest.mark.fault("F119")
def test_missing_values_of_any_kind_are_nothing_observed():
    """None, pandas.NA, nan, and nullable columns."""
    prices = frame(
        USDC=pd.Series([1.0, None, pd.NA, np.nan], index=HOURS, dtype=object),
        DAI=pd.Series([1.0, None, 1.0, 1.0], index=HOURS, dtype="Float64"),
    )

    valid = valid_prices(prices)

    assert [1, 3] == valid.notna().sum().tolist()
    assert (valid.dtypes == np.float64).all()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (HOURS[[0, 2, 1, 3]], r"row 2 \(2024-01-01T01:00:00Z\) is out of order"),
        (HOURS[[0, 1, 1, 3]], r"row 2 \(2024-01-01T01:00:00Z\) is doubled"),
        (HOURS.tz_localize(None), "naive"),
        (pd.RangeIndex(4), "found RangeIndex"),
        (pd.DatetimeIndex([HOURS[0], pd.NaT, HOURS[2], HOURS[3]]), "no time"),
    ],
)
@pytest.mark.fault("F117")
@pytest.mark.fault("F118")
def test_times_must_be_utc_and_strictly_increasing(index, message):
    """Unsorted, doubled, naive, missing or no times at all."""
    prices = pd.DataFrame({"USDC": [1.0] * 4}, index=index)

    with pytest.raises(InvalidPriceError, match=message):
        valid_prices(prices)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (pd.Series([1.0] * 4, index=HOURS), "named by its asset symbol"),
        (pd.DataFrame({0: [1.0] * 4}, index=HOURS), "column must be named"),
        (pd.DataFrame([[1.0, 1.0]] * 4, index=HOURS, columns=["usdc", "USDC"]), "'USDC' twice"),
        ([1.0, 1.0], "must be a pandas Series or DataFrame"),
        (None, "must be a pandas Series or DataFrame"),
    ],
)
def test_columns_must_be_named_once(prices, message):
    """By symbols that differ."""
    with pytest.raises(ValueError, match=message):
        valid_prices(prices)


def test_the_error_tree():
    """A price error is a data error, a risk error and a ValueError; an unknown asset a LookupError."""
    assert issubclass(InvalidPriceError, (DataError, RiskError))
    assert issubclass(InvalidPriceError, ValueError)
    with pytest.raises(LookupError, match=r"did you mean .*USDC.*\?"):
        tr.get_asset("USCD")


@pytest.mark.fault("F130")
def test_the_callers_data_are_neither_changed_nor_shared():
    """Prices and matrices may be written to after the call; results stay."""
    prices = frame(USDC=[1.0, 0.97, 0.95, 1.0], DAI=[1.0, 1.001, 0.999, 1.0])
    before = prices.copy()
    returns = tr.log_returns(prices)
    matrix = tr.correlation_matrix(returns, min_observations=3)
    values, [event] = matrix.values.copy(), tr.detect_depegs(prices)
    report = tr.check_prices(prices, as_of=HOURS[-1])
    usable = report.usable(prices)

    pd.testing.assert_frame_equal(before, prices)
    prices.iloc[:] = 2.0
    returns.iloc[:] = 0.0
    assert (values == matrix.values).all()
    assert 0.95 == event.min_price
    assert 1.0 == usable["USDC"].iloc[0]


def test_what_has_no_peg_needs_one():
    """BTC is known and is on none."""
    assert tr.FixedPeg(2.0) == peg_of("BTC", 2.0)
    with pytest.raises(ValueError, match="BTC has no peg; say which with peg="):
        peg_of("BTC", None)


@pytest.mark.fault("F129")
def test_a_reference_that_may_rise_without_bound_follows_the_price():
    """What a year may add leaves the range of floats."""
    lowest, highest = reach(tr.AccruingPeg(rise=1e300), nanoseconds(timedelta(days=730)))

    assert (0.81, math.inf) == (pytest.approx(lowest), highest)
    assert 5.0 == follow(1.0, 5.0, lowest, highest)


def test_an_accruing_coin_without_samples_has_no_reference():
    """Nor a sample that would need one."""
    reference, warming_up = peg_reference("sUSDe", pd.DatetimeIndex([], tz="UTC"), np.empty(0))

    assert (0, 0) == (len(reference), len(warming_up))


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf])
def test_a_reference_that_is_used_must_be_a_price(value):
    """With the time of the sample."""
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    prices = pd.Series(1.0, index=index, name="X")

    with pytest.raises(InvalidPriceError, match="reference at 2024-01-01T01:00:00Z must be finite and > 0"):
        tr.detect_depegs(prices, peg=pd.Series([1.0, value], index=index[:2]))

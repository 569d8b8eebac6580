"""Prices on a regular grid: against a plain loop, causal, never filled beyond the tolerance."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.core.alignment import align_prices, prices_at
from tonsurance_risk.errors import InvalidPriceError

DAY = pd.Timestamp("2024-01-01", tz="UTC")
HOUR = timedelta(hours=1)


def series(seconds, values, name="USDC") -> pd.Series:
    """Return prices at seconds since 1 January 2024."""
    return pd.Series(values, index=DAY + pd.to_timedelta(list(seconds), unit="s"), name=name, dtype=float)


def slow(seconds, values, step, hold, how):
    """The rule said again, second by second: stamps, and a price or None for each."""

    def known(at, *, including_end):
        last = [i for i, s in enumerate(seconds) if s <= at and values[i] == values[i]]
        if not last:
            return None
        age = at - seconds[last[-1]]
        return values[last[-1]] if age < hold or (including_end and age == hold) else None

    stamps = [t for t in range(-step, max(seconds) + 2 * step, step) if min(seconds) <= t < max(seconds) + step]
    if how == "last":
        return stamps, [known(t, including_end=True) for t in stamps]
    means = []
    for t in stamps:
        of_seconds = [known(u, including_end=False) for u in range(t - step, t)]
        means.append(None if None in of_seconds else sum(of_seconds) / step)
    return stamps, means


irregular = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 60), min_size=n, max_size=n, unique=True).map(sorted),
        st.lists(st.sampled_from([0.9, 0.97, 1.0, 1.02, float("nan")]), min_size=n, max_size=n),
    )
)


@pytest.mark.parametrize("how", ["last", "time_weighted"])
@given(irregular, st.integers(1, 17), st.integers(0, 40))
def test_it_is_what_a_plain_loop_finds(how, prices, step, hold):
    """For every step and tolerance: the stamps, the prices and where there are none."""
    seconds, values = prices
    given_prices = series(seconds, values)
    # 2024-01-01 is a multiple of every step only in whole days: the loop counts from the grid's own origin.
    origin = int(DAY.timestamp()) % step
    shifted = [s + origin for s in seconds]

    stamps, expected = slow(shifted, values, step, hold, how)
    found = align_prices(given_prices, timedelta(seconds=step), tolerance=timedelta(seconds=hold), how=how)

    assert [DAY + timedelta(seconds=t - origin) for t in stamps] == list(found.index)
    np.testing.assert_allclose(found, [np.nan if e is None else e for e in expected], rtol=1e-14)


@pytest.mark.parametrize("how", ["last", "time_weighted"])
@given(irregular, st.integers(1, 17), st.integers(0, 40), st.integers(0, 60))
def test_later_prices_change_no_earlier_bin(how, prices, step, hold, cut):
    """What is given for t is known at t."""
    whole = series(*prices)
    seen = whole[: DAY + timedelta(seconds=cut)]
    options = {"freq": timedelta(seconds=step), "tolerance": timedelta(seconds=hold), "how": how}

    before, after = align_prices(seen, **options), align_prices(whole, **options)

    final = before.iloc[:-1]
    pd.testing.assert_series_equal(final, after.iloc[: len(final)], check_freq=False)


@given(irregular, st.integers(1, 17), st.integers(0, 40))
def test_the_mean_lies_between_the_prices(prices, step, hold):
    """And is the price itself, to the bit, where it stands still."""
    seconds, values = prices
    options = {"freq": timedelta(seconds=step), "tolerance": timedelta(seconds=hold), "how": "time_weighted"}

    found = align_prices(series(seconds, values), **options).dropna()
    still = align_prices(series(seconds, [0.97] * len(seconds)), **options).dropna()

    assert ((found >= 0.9 - 1e-15) & (found <= 1.02 + 1e-15)).all()
    assert (still == 0.97).all()


def test_a_mean_by_time_is_not_a_mean_by_samples():
    """Ten rounds in ten seconds of stress weigh ten seconds, not ten elevenths."""
    stress = series([0, *range(1800, 1810), 1810, 3600], [1.0, *[0.5] * 10, 1.0, 1.0])

    [first, last] = align_prices(stress, "1h", tolerance=timedelta(days=1), how="time_weighted")

    assert np.isnan(first)
    assert 1.0 - 0.5 * 10 / 3600 == pytest.approx(last, rel=1e-15)


def test_an_observation_at_the_stamp_belongs_to_the_bin():
    """Of the last: known at its stamp. Of the mean: it weighs nothing there."""
    prices = series([0, 3600, 7200], [1.0, 0.9, 0.8])

    assert [1.0, 0.9, 0.8] == align_prices(prices, "1h", tolerance=timedelta(0)).tolist()
    means = align_prices(prices, "1h", tolerance=HOUR, how="time_weighted")
    assert [1.0, 0.9] == means.iloc[1:].tolist()


def test_no_fill_beyond_the_tolerance():
    """A gap is a gap, also inside a bin."""
    prices = series([0, 600, 4 * 3600], [1.0, 0.9, 0.8])

    assert [1.0, 0.9, None, None, 0.8] == [
        None if np.isnan(v) else v for v in align_prices(prices, "1h", tolerance=timedelta(minutes=50))
    ]
    assert align_prices(prices, "1h", tolerance=timedelta(minutes=49)).isna().tolist() == [
        False,
        *[True] * 3,
        False,
    ]
    assert not align_prices(prices, "1h", tolerance=timedelta.max).isna().any()
    assert not align_prices(prices, "1h", tolerance=timedelta.max, how="time_weighted").iloc[1:].isna().any()


def test_a_wide_frame_keeps_its_columns_and_vendor():
    """Each on its own observations; the vendor is passed on."""
    frame = pd.concat([series([30, 90], [1.0, 0.9]), series([60], [1.1], "DAI")], axis=1, sort=True)
    frame.attrs["vendor"] = "somebody"

    found = align_prices(frame, "1min", tolerance=timedelta(seconds=30))

    assert {"vendor": "somebody"} == found.attrs
    expected = pd.DataFrame(
        {"USDC": [1.0, 0.9], "DAI": [1.1, np.nan]}, index=DAY + pd.to_timedelta([60, 120], "s")
    )
    pd.testing.assert_frame_equal(expected, found, check_index_type=False, check_freq=False)


def test_nothing_gives_nothing():
    """No rows, or no observation."""
    assert align_prices(series([], []), "1h", tolerance=HOUR).empty
    for how in ("last", "time_weighted"):
        assert align_prices(series([0, 9000], [np.nan] * 2), "1h", tolerance=HOUR, how=how).isna().all()


@pytest.mark.parametrize(
    "freq", ["0h", "-1h", "often", "", 3600, None, pd.NaT, timedelta(0), timedelta.max, "1ns"]
)
def test_wrong_steps(freq):
    """Named, with what is accepted."""
    with pytest.raises(ValueError, match=r"^freq must"):
        align_prices(series([0, 1], [1.0, 1.0]), freq, tolerance=HOUR)


def test_wrong_arguments():
    """Each by its name; impossible prices as everywhere."""
    prices = series([0], [1.0])
    with pytest.raises(ValueError, match="tolerance must be a datetime.timedelta >= 0"):
        align_prices(prices, "1h", tolerance=-HOUR)
    with pytest.raises(ValueError, match="how must be 'last' or 'time_weighted', found 'mean'"):
        align_prices(prices, "1h", tolerance=HOUR, how="mean")
    with pytest.raises(InvalidPriceError, match="must be a price > 0"):
        align_prices(series([0], [0.0]), "1h", tolerance=HOUR)
    with pytest.raises(InvalidPriceError, match="naive"):
        align_prices(prices.tz_localize(None), "1h", tolerance=HOUR)


@pytest.mark.parametrize(("freq", "seconds"), [("1d", 86400), ("2d12h", 216000), ("90s", 90), ("1h30min", 5400)])
def test_steps_as_text(freq, seconds):
    """The day in either case, without a warning."""
    prices = series([0, 10 * 86400], [1.0, 1.0])

    found = align_prices(prices, freq, tolerance=timedelta(days=20))

    assert {timedelta(seconds=seconds)} == set(np.diff(found.index.to_pydatetime()))


def test_prices_at_given_times():
    """Any times, in the order given."""
    frame = series([0, 100], [1.0, 0.9]).to_frame()
    times = DAY + pd.to_timedelta([150, 99, -1, 161], unit="s")

    found = prices_at(frame, times, tolerance=timedelta(seconds=60))["USDC"]

    assert times.equals(found.index)
    np.testing.assert_array_equal(found, [0.9, np.nan, np.nan, np.nan])

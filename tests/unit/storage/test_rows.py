"""The pure pieces below both stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.storage.instants import (
    duration_of_microseconds,
    duration_to_microseconds,
    interval,
    time_of_microseconds,
    time_to_microseconds,
)
from tonsurance_risk.storage.price_rows import melted, wide_frame
from tonsurance_risk.storage.records import canonical_json, input_row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_its_microseconds(time: datetime) -> None:
    microseconds = time_to_microseconds(time)
    assert microseconds == (time - EPOCH) // timedelta(microseconds=1)
    assert time_of_microseconds(microseconds) == time


@given(st.timedeltas(timedelta(0), timedelta(microseconds=2**62)))
def test_a_duration_is_its_microseconds(duration: timedelta) -> None:
    assert duration_of_microseconds(duration_to_microseconds(duration)) == duration


def test_finer_than_a_microsecond() -> None:
    time = pd.Timestamp("2024-01-01T00:00:00.000000001Z")
    with pytest.raises(InvalidPriceError, match="microsecond"):
        time_to_microseconds(time)
    with pytest.raises(ValueError, match="microsecond"):
        duration_to_microseconds(pd.Timedelta(1, "ns"))
    assert interval(time, time) == (time.ceil("us"), time.ceil("us"))
    assert interval(None, None) == (None, None)


def test_melting_and_widening() -> None:
    index = pd.to_datetime([0, 1, 2], unit="s", utc=True).as_unit("us")
    prices = pd.DataFrame({"b": [1.0, np.nan, 3.0], "a": [np.nan, 2.0, np.nan]}, index=index)
    first, second = melted(prices)
    assert (first.asset, first.microseconds.tolist(), first.prices.tolist()) == ("a", [1_000_000], [2.0])
    assert list(second.rows(1)) == [[("b", 0, 1.0)], [("b", 2_000_000, 3.0)]]
    samples = {column.asset: (column.microseconds, column.prices) for column in (first, second)}
    pd.testing.assert_frame_equal(
        wide_frame(samples, ["b", "c", "a"]), prices.assign(c=np.nan)[["b", "c", "a"]], check_index_type=False
    )


def test_samples_need_not_be_ordered() -> None:
    frame = wide_frame({"a": ([2, 0, 1], [2.0, 0.5, 1.0])}, ["a"])
    assert frame["a"].tolist() == [0.5, 1.0, 2.0]


def test_the_hash_is_that_of_sorted_json_without_spaces() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}, "x") == '{"a":null,"b":[1,2.5]}'
    # sha256sum of {"a":1}
    expected = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert input_row({"a": 1})["content_hash"] == expected

"""What a store lacks: found, covered by few windows, and after the update as if all had been fetched."""

from __future__ import annotations

import itertools
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.runner.gaps import known_windows, missing_times, save_fetched, windows_over, windows_to_update

pytestmark = pytest.mark.no_cover  # not of core

DAY = timedelta(days=1)
START = pd.Timestamp("2024-01-01", tz="UTC")
N = 60
END = START + (N - 1) * DAY
PLACE = {"source": "list", "step": "1d"}


class ListSource:
    """A source that has one series, and remembers what it was asked for."""

    name = "list"

    def __init__(self, series):
        self.series = series
        self.asked = []

    def fetch(self, asset, start, end, *, step="1h"):
        self.asked.append((start, end))
        return self.series[(self.series.index >= start) & (self.series.index < end)]


class MeteredListSource(ListSource):
    """The same, in calls of at most 20 days, from a day on."""

    calls = 0
    calls_per_minute = 60.0
    monthly_credits = None

    def __init__(self, series, earliest):
        super().__init__(series)
        self.first = earliest

    def longest_window(self, step):
        return 20 * DAY

    def earliest(self, step):
        return self.first

    def check_ids(self, assets):
        return {}


def updated(store, source):
    """Bring a store up to date, as the jobs do."""
    now = END + timedelta(hours=1)
    known = known_windows(store, source.name, "1d", now)
    for window in reversed(windows_to_update(store, source, "DAI", START, END, "1d", known)):
        save_fetched(store, source, "DAI", window, source.fetch("DAI", *window, step="1d"), "1d", now)


def series(there, hour=0):
    """Return a price a day, of the days that are there."""
    days = START + np.flatnonzero(there) * DAY + timedelta(hours=hour)
    return pd.Series(1.0 + np.flatnonzero(there) / 1000.0, pd.to_datetime(days, utc=True), name="DAI", dtype=float)


DAYS = st.lists(st.booleans(), min_size=N, max_size=N)


@given(DAYS, DAYS, st.integers(0, 23))
def test_an_update_is_a_full_fetch(has, held, hour):
    """Whatever was there, on the grid or off it; and the second time little is asked for."""
    whole = series(has, hour)
    whole = whole[whole.index <= END]
    source = ListSource(whole)
    with tr.open_store("memory://") as store:
        kept = whole[np.array(held)[: len(whole)]]
        if len(kept):
            store.save_prices(kept, **PLACE)
        updated(store, source)

        stored = store.load_prices(["DAI"], **PLACE)["DAI"]
        assert whole.tolist() == stored.tolist()
        assert whole.index.tolist() == stored.index.tolist()
    assert len(source.asked) <= 1


@given(DAYS, DAYS, st.integers(0, N - 1))
def test_a_metered_update(has, held, reach):
    """Calls are no longer than one gives, none before what the plan reaches, and what is not there is asked for once."""
    whole = series(has)
    reached = START + reach * DAY
    source = MeteredListSource(whole, reached)
    with tr.open_store("memory://") as store:
        kept = whole[np.array(held)[: len(whole)]]
        if len(kept):
            store.save_prices(kept, **PLACE)
        updated(store, source)
        stored = store.load_prices(["DAI"], **PLACE)["DAI"]
        first = len(source.asked)
        updated(store, source)

    wanted = whole[whole.index >= reached]
    assert wanted.tolist() == stored[stored.index >= reached].tolist()
    assert all(reached <= low < high <= low + 20 * DAY for low, high in source.asked)
    last = wanted.index[-1] - 7 * DAY if len(wanted) else END
    assert all(low >= min(last, END - 7 * DAY) for low, _ in source.asked[first:])


@given(DAYS, st.integers(1, N))
def test_windows_cover_what_is_missing(held, longest):
    """All of it, nothing twice, with no fewer windows possible."""
    there = pd.to_datetime(START + np.flatnonzero(held) * DAY, utc=True)
    missing = missing_times(there, START, START + N * DAY, DAY)
    windows = windows_over(missing, DAY, longest * DAY)
    gaps = [START + k * DAY for k in range(N) if not held[k]]

    # The plain way: from each first missing day as far as one window goes.
    fewest, at = 0, 0
    while at < len(gaps):
        fewest += 1
        reach = gaps[at] + longest * DAY
        while at < len(gaps) and gaps[at] < reach:
            at += 1
    assert fewest == len(windows)
    assert all(any(low <= gap < high for low, high in windows) for gap in gaps)
    assert all(low in gaps and high - DAY in gaps for low, high in windows)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(windows))


@given(DAYS, DAYS)
def test_known_windows_are_not_missing(held, known):
    """Nor what is held."""
    there = pd.to_datetime(START + np.flatnonzero(held) * DAY, utc=True)
    windows = [(START + k * DAY, START + (k + 1) * DAY) for k in range(N) if known[k]]
    missing = missing_times(there, START, START + N * DAY, DAY, windows)

    assert [k for k in range(N) if not held[k] and not known[k]] == [
        (pd.Timestamp(int(time), unit="us", tz="UTC") - START).days for time in missing
    ]

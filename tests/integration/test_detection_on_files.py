"""Detection on every file of real prices equals the plain loop, field by field."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import tonsurance_risk as tr
from oracle.plain import plain_detect

SHARED = Path(__file__).parents[3] / "shared" / "data" / "prices"
FILES = sorted(SHARED.glob("*.csv"))
THRESHOLDS = (0.99, 0.98, 0.995)
DURATIONS = (timedelta(0), timedelta(hours=1))
CALM = ("BUSDUSDT_1m_2023-02", "FDUSD_1d", "USDEUSDT_1d_bybit")
"""Files that never leave 0.995 to 1.005; all others must have events, or the comparison says nothing."""

pytestmark = pytest.mark.skipif(not FILES, reason="the shared price data are not beside the checkout")


def described(event, times, prices, ratios, direction):
    """Return the fields of a plain event as those of a `DepegEvent`."""
    inside = range(event.start, event.end + 1)
    deviations = [1 - ratios[i] if direction == "below" else ratios[i] - 1 for i in inside]
    return (
        times[event.start],
        times[event.end],
        None if event.recovered_at is None else times[event.recovered_at],
        event.cut_by_gap,
        min(prices[i] for i in inside),
        max(prices[i] for i in inside),
        max(deviations),
        len(inside),
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_equals_the_plain_loop(path):
    """Both directions, three thresholds, with and without a minimum duration."""
    column = pd.read_csv(path, index_col="timestamp", parse_dates=True)["price"].rename(path.stem)
    # A coin of one's own, whatever the file is called: a peg of 1 for all, BTC included.
    prices, times = column.tolist(), column.index.to_pydatetime().tolist()
    found = 0
    for threshold in THRESHOLDS:
        for duration in DURATIONS:
            for direction in ("below", "above"):
                against = prices if direction == "below" else [2 - price for price in prices]
                expected = plain_detect(
                    times, against, threshold=threshold, recovery=threshold, min_duration=duration,
                    max_gap=None, merge_within=timedelta(0), sample_span=timedelta(0),
                )  # fmt: skip
                events = tr.detect_depegs(
                    column, threshold=threshold, min_duration=duration, direction=direction, peg=1.0
                )
                assert [described(event, times, prices, prices, direction) for event in expected] == [
                    (
                        e.start,
                        e.end,
                        e.recovered_at,
                        e.cut_by_gap,
                        e.min_price,
                        e.max_price,
                        e.severity,
                        e.n_observations,
                    )
                    for e in events
                ]
                found += len(events)
    assert found or path.stem in CALM

"""Detection equals the plain loop for every series and rule."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.plain import plain_accruing_reference, plain_detect
from tonsurance_risk.core.prices import peg_reference

LEVELS = [0.95, 0.98, 0.985, 0.99, 0.992, 0.995, 1.0, 1.004, 1.01, 1.0100001, 1.02, 1.06]


@st.composite
def price_series(draw, name="USDC"):
    """A series of few levels around the thresholds, with irregular times, gaps and NaN."""
    n = draw(st.integers(1, 60))
    minutes = draw(st.lists(st.sampled_from([1, 30, 60, 61, 180, 600]), min_size=n, max_size=n))
    values = draw(st.lists(st.sampled_from([*LEVELS, float("nan")]), min_size=n, max_size=n))
    index = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.cumsum(minutes), unit="min")
    return pd.Series(values, index=index, name=name)


rules = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.98, 0.99, 0.995]),
        "recovery": st.sampled_from([None, 0.995, 0.999, 1.0]),
        "min_duration": st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(hours=3)]),
        "max_gap": st.sampled_from([None, timedelta(0), timedelta(hours=1), timedelta(hours=4)]),
        "merge_within": st.sampled_from([timedelta(0), timedelta(minutes=30), timedelta(hours=5)]),
        "sample_span": st.sampled_from([timedelta(0), timedelta(hours=1)]),
    }
)


def assert_equals_plain(events, prices, references, rule, direction, warming=None):
    """Compare field by field."""
    observed = prices.dropna()
    times = observed.index.to_pydatetime().tolist()
    ratios = [p / r for p, r in zip(observed.tolist(), references, strict=True)]
    tested = [1.0 if warming is not None and warming[i] else r for i, r in enumerate(ratios)]
    against = tested if direction == "below" else [2 - r for r in tested]
    expected = plain_detect(times, against, **rule)
    assert len(expected) == len(events)
    for want, got in zip(expected, events, strict=True):
        inside = range(want.start, want.end + 1)
        prices_inside = [observed.iloc[i] for i in inside]
        deviations = [1 - ratios[i] if direction == "below" else ratios[i] - 1 for i in inside]
        assert direction == got.direction
        assert times[want.start] == got.start
        assert times[want.end] == got.end
        assert (None if want.recovered_at is None else times[want.recovered_at]) == got.recovered_at
        assert want.cut_by_gap == got.cut_by_gap
        assert min(prices_inside) == got.min_price
        assert max(prices_inside) == got.max_price
        assert len(inside) == got.n_observations
        assert max(deviations) == pytest.approx(got.severity, abs=1e-15)
        assert references[want.start + deviations.index(max(deviations))] == pytest.approx(got.peg_reference)
        for name, value in rule.items():
            assert value == getattr(got, name)


@given(price_series(), rules, st.sampled_from(["below", "above"]))
@settings(max_examples=400)
def test_equals_the_plain_loop(prices, rule, direction):
    """For a fixed peg."""
    rule["recovery"] = rule["recovery"] or rule["threshold"]

    events = tr.detect_depegs(prices, direction=direction, **rule)

    assert_equals_plain(events, prices, [1.0] * prices.count(), rule, direction)


@given(price_series(name="sUSDe"), rules, st.sampled_from([None, 0.9, 1.0, 1.3]))
@settings(max_examples=200)
def test_equals_the_plain_loop_for_an_accruing_peg(prices, rule, start):
    """With a start and without."""
    rule["recovery"] = rule["recovery"] or min(1.0, rule["threshold"] + 0.005)
    peg = tr.AccruingPeg(start=start)
    observed = prices.dropna()
    if observed.empty:
        return
    references, warming = plain_accruing_reference(
        observed.index.to_pydatetime().tolist(), observed.tolist(), rise=0.5, fall=0.1, start=start
    )

    events = tr.detect_depegs(prices, peg=peg, **rule)

    computed, _ = peg_reference("sUSDe", observed.index, observed.to_numpy(), peg)
    assert references == pytest.approx(computed.tolist(), rel=1e-12)
    assert_equals_plain(events, prices, computed.tolist(), rule, "below", warming)


@given(price_series(), rules)
def test_raising_the_threshold_never_loses_an_off_peg_sample(prices, rule):
    """Every sample inside an event of a lower threshold is inside one of a higher threshold."""
    rule |= {"recovery": 1.0, "min_duration": timedelta(0), "merge_within": timedelta(0)}
    low = tr.detect_depegs(prices, **(rule | {"threshold": 0.98}))
    high = tr.detect_depegs(prices, **(rule | {"threshold": 0.995}))

    for event in low:
        assert any(other.start <= event.start and event.end <= other.end for other in high)


@given(price_series(), rules)
def test_scaling_price_and_peg_together_changes_nothing(prices, rule):
    """A power of two, so that the ratios are the same to the bit."""
    rule["recovery"] = None
    once = tr.detect_depegs(prices, **rule)
    twice = tr.detect_depegs(prices * 2.0, peg=2.0, **rule)

    assert [(e.start, e.end, e.recovered_at, e.severity) for e in once] == [
        (e.start, e.end, e.recovered_at, e.severity) for e in twice
    ]

"""The detector that is fed sample by sample finds what detection in the whole series finds, to the bit."""

from __future__ import annotations

import json
from datetime import timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from property.test_depeg import price_series, rules
from tonsurance_risk.core.detector import DepegDetector

pytestmark = pytest.mark.no_cover  # unit/core and test_depeg.py take every branch

directions = st.sampled_from(["below", "above", "both"])
fixed_pegs = st.sampled_from([None, 1, 1.003, tr.FixedPeg(0.99), {"usdc": 1.01}, {"DAI": 2.0}])
accruing_pegs = st.builds(
    tr.AccruingPeg,
    rise=st.sampled_from([0.0, 0.5, 1e300]),
    fall=st.sampled_from([0.0, 0.1, 1.0]),
    start=st.sampled_from([None, 0.99, 1, 1.02]),
)


@st.composite
def references(draw):
    """A Series of references that begins before the samples; what is used of it is always a price."""
    hours = draw(st.lists(st.integers(0, 60), unique=True, max_size=5))
    index = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta([-1, *sorted(hours)], unit="h")
    levels = draw(st.lists(st.sampled_from([0.98, 1.0, 1.01]), min_size=len(index), max_size=len(index)))
    return pd.Series(levels, index=index)


any_peg = st.one_of(fixed_pegs, accruing_pegs, references())
more_rules = rules.flatmap(
    lambda rule: st.fixed_dictionaries(
        {
            "max_gap": st.sampled_from([rule["max_gap"], timedelta(minutes=30), timedelta(minutes=60)]),
            "merge_within": st.sampled_from([rule["merge_within"], timedelta(hours=1), timedelta(days=30)]),
        }
    ).map(lambda more: rule | more)
)


@st.composite
def cases(draw):
    """A series, and the arguments of both ways to look at it."""
    return draw(price_series()), draw(more_rules) | {"direction": draw(directions), "peg": draw(any_peg)}


def in_order(events):
    """Return events as `detect_depegs` orders them."""
    return sorted(events, key=lambda event: (event.asset, event.start))


def bits(events):
    """Return the fields with floats as their digits, so that nothing is nearly equal."""
    return [
        {
            name: value.hex() if isinstance(value, float) else value
            for name, value in attrs.asdict(event, recurse=False).items()
        }
        for event in events
    ]


def fed(detector, prices):
    """Return what each update gives."""
    return [detector.update(time, price) for time, price in prices.items()]


@given(cases())
@settings(max_examples=400)
def test_the_stream_equals_the_whole(case):
    """For every series, rule, peg and direction."""
    prices, arguments = case
    detector = DepegDetector("usdc", **arguments)

    released = [event for events in fed(detector, prices) for event in events]

    expected = tr.detect_depegs(prices, **arguments)
    assert expected == in_order(released + detector.finish())
    assert bits(expected) == bits(in_order(released + detector.finish()))
    assert [event for event in expected if event.is_open] == detector.open_events


@given(cases())
@settings(max_examples=100)
def test_after_every_sample_it_stands_where_the_whole_would(case):
    """So nothing that was released ever changes, and looking changes nothing."""
    prices, arguments = case
    detector = DepegDetector("USDC", **arguments)
    released = []

    for i, (time, price) in enumerate(prices.items(), 1):
        released += detector.update(time, price)

        assert tr.detect_depegs(prices.iloc[:i], **arguments) == in_order(released + detector.finish())
        assert detector.finish() == detector.finish()
        assert detector.open_events == [event for event in detector.finish() if event.is_open]


@given(cases())
@settings(max_examples=300)
def test_an_event_is_kept_only_while_it_could_still_change(case):
    """A dip at the next possible moment changes every event that was not released."""
    prices, arguments = case
    arguments |= {"peg": 1.0, "min_duration": timedelta(0)}
    detector = DepegDetector("USDC", **arguments)
    soon, then = pd.Timedelta(1, "ns"), pd.Timedelta(2, "ns")

    for time, price in prices.items():
        detector.update(time, price)

        for event in detector.finish():
            dip = 0.9 if event.direction == "below" else 1.1
            go_on = DepegDetector.from_state(detector.state())
            later = go_on.update(time + soon, dip) + go_on.update(time + then, 1.0) + go_on.finish()
            assert event not in later


@given(cases())
@settings(max_examples=100)
def test_a_state_saved_at_any_moment_goes_on_to_the_bit(case):
    """Through JSON: once at every moment, and at all moments one after the other."""
    prices, arguments = case
    detector, often = DepegDetector("USDC", **arguments), DepegDetector("USDC", **arguments)
    states = []
    for time, price in prices.items():
        states.append(json.dumps(detector.state(), allow_nan=False))
        often = DepegDetector.from_state(json.loads(json.dumps(often.state(), allow_nan=False)))
        assert bits(detector.update(time, price)) == bits(often.update(time, price))
    expected = [bits(events) for events in fed(DepegDetector("USDC", **arguments), prices)]

    for i, state in enumerate(states):
        once = DepegDetector.from_state(json.loads(state))

        assert expected[i:] == [bits(events) for events in fed(once, prices.iloc[i:])]
        assert bits(detector.finish()) == bits(once.finish())
        assert detector.state() == once.state() == often.state()


@given(price_series(), more_rules, directions, st.integers(0, 10**6))
def test_nanoseconds_count(prices, rule, direction, shift):
    """Times finer than a microsecond, with durations to match."""
    moved = prices.set_axis(
        prices.index.as_unit("ns") + pd.to_timedelta(np.arange(len(prices)) * shift, unit="ns")
    )
    arguments = {
        name: value + pd.Timedelta(shift, "ns") if isinstance(value, timedelta) else value
        for name, value in rule.items()
    }
    detector = DepegDetector("USDC", direction=direction, **arguments)

    released = [event for events in fed(detector, moved) for event in events]

    assert tr.detect_depegs(moved, direction=direction, **arguments) == in_order(released + detector.finish())


@given(st.data())
def test_every_pair_of_prices_and_references(data):
    """Any price over any reference, the largest and smallest included."""
    prices = data.draw(st.lists(st.floats(5e-324, 1.7e308), min_size=1, max_size=8))
    peg = data.draw(st.one_of(st.floats(5e-324, 1.7e308), accruing_pegs))
    series = pd.Series(
        prices, index=pd.date_range("2024-01-01", periods=len(prices), freq="9h", tz="UTC"), name="X"
    )
    detector = DepegDetector("X", direction="both", peg=peg)

    released = [event for events in fed(detector, series) for event in events]

    assert bits(tr.detect_depegs(series, direction="both", peg=peg)) == bits(
        in_order(released + detector.finish())
    )
    DepegDetector.from_state(json.loads(json.dumps(detector.state(), allow_nan=False)))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_resolution_of_an_index(unit):
    """An index counts in the unit that it was made with."""
    index = pd.date_range("2024-01-01", periods=200, freq="h", tz="UTC").as_unit(unit)
    prices = pd.Series(1.0 + np.random.default_rng(0).normal(0, 0.01, 200), index=index, name="sUSDe")
    arguments = {"merge_within": timedelta(hours=2), "max_gap": timedelta(hours=1), "direction": "both"}
    detector = DepegDetector("sUSDe", **arguments)

    released = [event for events in fed(detector, prices) for event in events]

    expected = tr.detect_depegs(prices, **arguments)
    assert len(expected) > 10
    assert bits(expected) == bits(in_order(released + detector.finish()))

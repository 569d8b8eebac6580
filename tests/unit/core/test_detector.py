"""The detector by example: what it refuses, when it speaks, what it keeps; equality is in tests/property."""

from __future__ import annotations

import copy
import json
import math
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.detector import DepegDetector
from tonsurance_risk.errors import InvalidPriceError

HOUR = timedelta(hours=1)
NAN = math.nan
BEYOND = 1 << 2000  # the largest float
START = pd.Timestamp("2024-01-01", tz="UTC")


def fed(detector, prices, start=START):
    """Return what each hourly update gives."""
    return [detector.update(start + i * HOUR, price) for i, price in enumerate(prices)]


def numbers(found):
    """Return how many events each update gave."""
    return [len(events) for events in found]


def test_an_event_is_given_by_the_sample_that_ends_it():
    """And is then gone."""
    detector = DepegDetector("usdc", source="venue")

    found = fed(detector, [1.0, 0.97, 0.95, 0.96, 1.0, 1.0])

    assert [0, 0, 0, 0, 1, 0] == numbers(found)
    [event] = found[4]
    assert ("USDC", "venue", 0.95, 0.97, 3) == (
        event.asset, event.source, event.min_price, event.max_price, event.n_observations,
    )  # fmt: skip
    assert [] == detector.finish() == detector.open_events


def test_finish_gives_what_runs_and_changes_nothing():
    """It may be called again and the detector goes on."""
    detector = DepegDetector("USDC")
    fed(detector, [1.0, 0.97, 0.95])

    [event] = detector.finish()
    assert event.is_open
    assert [event] == detector.finish() == detector.open_events
    [final] = detector.update(START + 3 * HOUR, 1.0)
    assert (event.start, START + 3 * HOUR) == (final.start, final.recovered_at)


def test_what_recovered_but_may_still_be_joined_is_not_open():
    """It is in finish and not in open_events."""
    detector = DepegDetector("USDC", merge_within=5 * HOUR)

    assert [0] * 4 == numbers(fed(detector, [1.0, 0.97, 0.95, 1.0]))
    assert START + 3 * HOUR == detector.finish()[0].recovered_at
    assert [] == detector.open_events


def test_the_clock_releases_what_nothing_can_join_any_more():
    """By NaN as by a sample, at the first moment after which every start is too late."""
    for later in (NAN, 1.0):
        detector = DepegDetector("USDC", merge_within=2 * HOUR)

        found = fed(detector, [0.97, 0.97, 1.0, later, later, later])

        assert [0, 0, 0, 0, 1, 0] == numbers(found)


def test_a_gap_releases_what_nothing_can_join_any_more():
    """As soon as every later sample is behind one: by NaN, and at once where every step is a gap."""
    for max_gap, expected in ((2 * HOUR, [0, 0, 0, 0, 1, 0]), (timedelta(0), [0, 1, 1, 0, 0, 0])):
        detector = DepegDetector("USDC", merge_within=9 * HOUR, max_gap=max_gap, min_duration=timedelta(0))

        found = fed(detector, [0.97, 0.97, 1.0, NAN, NAN, NAN])

        assert expected == numbers(found)
    recovered = DepegDetector("USDC", merge_within=9 * HOUR, max_gap=2 * HOUR)
    fed(recovered, [0.97, 0.97, 1.0, NAN])
    recovered.update(START + 3.5 * HOUR, 0.9)
    assert [] == recovered.update(START + 9 * HOUR, NAN), "while an event runs it may be joined at the end"
    assert 4 == recovered.finish()[0].n_observations


@pytest.mark.parametrize(
    ("unit", "step", "rule", "kept"),
    [
        ("s", "2s", {"min_duration": timedelta(seconds=2.5)}, 0),
        ("s", "2s", {"min_duration": timedelta(seconds=2)}, 1),
        ("s", "2s", {"min_duration": timedelta(seconds=2.5), "sample_span": timedelta(seconds=0.5)}, 1),
        ("s", "2s", {"min_duration": timedelta(0), "max_gap": timedelta(seconds=1.5)}, 2),
        ("s", "2s", {"min_duration": timedelta(0), "max_gap": timedelta(seconds=2.5)}, 1),
        ("ns", "2001ns", {"min_duration": pd.Timedelta(2002, "ns")}, 0),
        ("ns", "2001ns", {"min_duration": pd.Timedelta(2001, "ns")}, 1),
        ("ns", "2001ns", {"min_duration": timedelta(0), "max_gap": pd.Timedelta(2000, "ns")}, 2),
        ("ns", "2001ns", {"min_duration": timedelta(0), "max_gap": pd.Timedelta(2001, "ns")}, 1),
    ],
)
def test_durations_finer_than_the_times(unit, step, rule, kept):
    """Are not rounded, sample by sample as in the whole."""
    index = pd.date_range(START, periods=4, freq=step).as_unit(unit)
    prices = pd.Series([1.0, 0.9, 0.9, 1.0], index=index, name="USDC")
    detector = DepegDetector("USDC", **rule)
    detector = DepegDetector.from_state(json.loads(json.dumps(detector.state())))

    found = [event for time, price in prices.items() for event in detector.update(time, price)]

    assert tr.detect_depegs(prices, **rule) == found
    assert kept == len(found)


def test_nan_neither_cuts_nor_recovers():
    """The event stays open, however long nothing is observed; the next sample sees the gap."""
    detector = DepegDetector("USDC", max_gap=HOUR)

    assert [0] * 9 == numbers(fed(detector, [1.0, 0.97, 0.97, *[NAN] * 6]))
    [event] = detector.finish()
    assert (True, False, START + 2 * HOUR) == (event.is_open, event.cut_by_gap, event.end)
    [cut] = detector.update(START + 9 * HOUR, 0.9)
    assert (False, True, START + 2 * HOUR) == (cut.is_open, cut.cut_by_gap, cut.end)


def test_a_cut_candidate_does_not_join():
    """The pending event and the candidate are kept apart until its fate is known."""
    detector = DepegDetector("USDC", merge_within=9 * HOUR, max_gap=2 * HOUR, min_duration=timedelta(0))
    fed(detector, [0.97, 1.0, 1.0, 0.96])

    [joined] = detector.finish()
    assert (START, 4, 1.0) == (joined.start, joined.n_observations, joined.max_price)
    first, cut = detector.update(START + 9 * HOUR, 1.0)
    assert (START, 1, False) == (first.start, first.n_observations, first.cut_by_gap)
    assert (START + 3 * HOUR, True) == (cut.start, cut.cut_by_gap)


def test_btc_has_no_events():
    """As a Series of that name; its prices are looked at all the same."""
    detector = DepegDetector("btc", peg=1.0)

    assert [0, 0] == numbers(fed(detector, [4e4, 1.0]))
    assert [] == detector.finish()
    with pytest.raises(InvalidPriceError, match="BTC"):
        detector.update(START + 5 * HOUR, -1.0)
    assert [] == DepegDetector.from_state(detector.state()).finish()


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("UTC"), ZoneInfo("America/New_York")])
def test_times_are_converted(zone):
    """Of datetime and Timestamp, to UTC."""
    for kind in (pd.Timestamp, lambda time: time.to_pydatetime()):
        detector = DepegDetector("USDC")
        times = [kind((START + i * HOUR).tz_convert(zone)) for i in range(3)]

        found = [detector.update(time, price) for time, price in zip(times, [0.9, 0.9, 1.0], strict=True)]

        assert (START, "UTC") == (found[-1][0].start, str(found[-1][0].start.tz))


def test_far_years_are_times_too():
    """Beyond what 64 bits of nanoseconds hold, as in detect_depegs."""
    index = pd.date_range("2999-01-01", periods=4, freq="h", tz="UTC", unit="s")
    prices = pd.Series([1.15, 0.9, 0.9, 1.15], index=index, name="sUSDe")
    detector = DepegDetector("sUSDe", peg=tr.AccruingPeg(start=1.15))

    found = [event for time, price in prices.items() for event in detector.update(time, price)]

    assert tr.detect_depegs(prices, peg=tr.AccruingPeg(start=1.15)) == found
    assert 1 == len(found)
    assert detector.state() == DepegDetector.from_state(detector.state()).state()


@pytest.mark.parametrize("price", [1.0, NAN])
@pytest.mark.parametrize(
    ("time", "message"),
    [
        (START + HOUR, r"USDC at 2024-01-01T01:00:00Z must be later than the time before, 2024-01-01T01:00:00Z"),
        (START, "must be later"),
        (datetime(2024, 1, 2), "naive"),  # noqa: DTZ001
        (pd.Timestamp("2024-01-02"), "naive"),
        (pd.NaT, "tz-aware datetime"),
        ("2024-01-02", "tz-aware datetime"),
        (np.datetime64("2024-01-02"), "tz-aware datetime"),
        (None, "tz-aware datetime"),
    ],
)
def test_a_time_that_cannot_be_is_refused(time, price, message):
    """Also for NaN; nothing is changed by it."""
    for last in (1.0, NAN):
        detector = DepegDetector("USDC")
        fed(detector, [0.9, last])
        before = detector.state()

        with pytest.raises(InvalidPriceError, match=message):
            detector.update(time, price)
        assert before == detector.state()


@pytest.mark.parametrize("price", [math.inf, -math.inf, 0.0, -1.0, 0, BEYOND, np.float64("inf"), np.int64(-3)])
def test_a_price_that_cannot_be_is_refused(price):
    """Naming asset, time and value; nothing is changed by it."""
    detector = DepegDetector("USDC")
    detector.update(START, 0.9)
    before = detector.state()

    with pytest.raises(InvalidPriceError, match=r"USDC at 2024-01-01T01:00:00Z must be a price > 0 and") as caught:
        detector.update(START + HOUR, price)
    expected = math.inf if isinstance(price, int) and price == BEYOND else float(price)
    assert ("USDC", START + HOUR, expected) == (caught.value.asset, caught.value.time, caught.value.observed)
    assert before == detector.state()


@pytest.mark.parametrize("price", ["1.0", True, np.True_, [1.0], Decimal("1.0"), 1j])
def test_what_is_no_number_is_refused(price):
    """Nobody guesses."""
    with pytest.raises(InvalidPriceError, match="USDC at 2024-01-01T00:00:00Z must be a number"):
        DepegDetector("USDC").update(START, price)


@pytest.mark.parametrize("price", [NAN, None, pd.NA, np.float32("nan")])
def test_missing_values_of_any_kind_are_nothing_observed(price):
    """As in a frame."""
    detector = DepegDetector("USDC")
    detector.update(START, 0.9)

    assert [] == detector.update(START + 2 * HOUR, price)
    assert 1 == DepegDetector.from_state(detector.state()).state()["watches"][0]["current"]["n"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 99}, "threshold"),
        ({"recovery": 0.98}, "recovery"),
        ({"min_duration": timedelta(-1)}, "min_duration"),
        ({"max_gap": 3600}, "max_gap"),
        ({"merge_within": None}, "merge_within"),
        ({"sample_span": "1h"}, "sample_span"),
        ({"direction": "up"}, "direction"),
        ({"peg": 0.0}, "peg of USDC"),
        ({"peg": "one"}, "peg of USDC"),
        ({"source": ""}, "source"),
        ({"asset": ""}, "asset"),
        ({"asset": None}, "asset"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    """When the detector is made."""
    with pytest.raises(ValueError, match=message):
        DepegDetector(**({"asset": "USDC"} | arguments))


def test_a_series_of_references_is_asked_at_every_sample():
    """One that is not there or no price is an error, and the detector is as it was."""
    index = pd.DatetimeIndex([START + HOUR, START + 3 * HOUR])
    references = pd.Series([2.0, NAN], index=index)
    detector = DepegDetector("MYCOIN", peg=references)

    with pytest.raises(InvalidPriceError, match="no reference at or before 2024-01-01T00:00:00Z"):
        detector.update(START, 2.0)
    detector.update(START + HOUR, 1.8)
    before = detector.state()
    restored = DepegDetector.from_state(json.loads(json.dumps(before, allow_nan=False)))
    for each in (detector, restored):
        with pytest.raises(InvalidPriceError, match="reference at 2024-01-01T03:00:00Z must be finite and > 0"):
            each.update(START + 3 * HOUR, 2.0)
        assert before == each.state()
        assert [] == each.update(START + 2 * HOUR, 1.9)
        assert (2.0, 2) == (each.finish()[0].peg_reference, each.finish()[0].n_observations)


def test_the_first_day_of_an_accruing_coin_is_kept_and_then_forgotten():
    """Its samples give the reference; NaN is none of them."""
    detector = DepegDetector("sUSDe")
    fed(detector, [1.15, NAN, *[1.15] * 22])

    assert 23 == len(detector.state()["reference"]["watched"])
    detector.update(START + 24 * HOUR, 1.0)
    assert [] == detector.state()["reference"]["watched"]
    assert [] == detector.finish()
    detector.update(START + 25 * HOUR, 1.0)
    assert 0.995 == detector.open_events[0].recovery


@pytest.mark.parametrize("peg", [None, tr.AccruingPeg(), tr.AccruingPeg(start=1.0)])
def test_memory_does_not_grow_with_the_samples(peg):
    """In an event, out of it and between two, over 30,000 samples."""
    rng = np.random.default_rng(0)
    prices = (1.0 + rng.normal(0, 0.01, 30_000)).tolist()
    prices[15_000:27_000] = (0.9 + rng.normal(0, 0.001, 12_000)).tolist()
    times = pd.date_range(START, periods=30_000, freq="min").tolist()
    detector = DepegDetector(
        "USDC", direction="both", peg=peg, merge_within=timedelta(minutes=3), max_gap=timedelta(minutes=9)
    )
    sizes = []

    for i, (time, price) in enumerate(zip(times, prices, strict=True), 1):
        detector.update(time, price)
        if i % 1_500 == 0:
            sizes.append((len(pickle.dumps(detector)), len(json.dumps(detector.state()))))

    assert 20 == len(sizes)
    assert max(pickled for pickled, _ in sizes) < sizes[0][0] + 500
    assert max(written for _, written in sizes) < 3_000


def held_state():
    """Return a state with an event that may be joined, one that may join it, and a first day."""
    detector = DepegDetector("USDC", merge_within=9 * HOUR, direction="both", max_gap=5 * HOUR)
    fed(detector, [0.97, 1.0, 1.001, 0.96, 0.95])
    return detector.state()


def accruing_state(hours):
    """Return a state of a coin whose value accrues."""
    detector = DepegDetector("sUSDe")
    fed(detector, [1.15] * hours)
    return detector.state()


@pytest.mark.parametrize("state", [None, [], "state", {}, {"version": 2}, {"version": True}, {"version": "1"}])
def test_another_version_is_refused(state):
    """And what is no state."""
    with pytest.raises(ValueError, match="version 1"):
        DepegDetector.from_state(state)
    with pytest.raises(ValueError, match="version 1, found 0"):
        DepegDetector.from_state(held_state() | {"version": 0})


def paths(document, before=()):
    """Return the place of every entry."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries:
        yield (*before, key)
        if isinstance(value, (dict, list)):
            yield from paths(value, (*before, key))


def changed(document, path, change):
    """Return a copy with one entry changed."""
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return document


def becomes(value):
    """Return a change of an entry into a value."""
    return lambda inner, key: inner.__setitem__(key, value)


def test_a_broken_state_is_refused():
    """Without an entry, with one more, or with an entry that is of another type."""
    for state in (held_state(), accruing_state(2), accruing_state(30)):
        assert state == DepegDetector.from_state(json.loads(json.dumps(state))).state()
        for path in paths(state):
            changes = [becomes({}), becomes("no"), becomes(True), becomes([None])]
            if isinstance(path[-1], str):
                changes.append(lambda inner, key: inner.pop(key))
                changes.append(lambda inner, key: inner.__setitem__("more", 1))
            for change in changes:
                if path == ("source",) or path == ("asset",):
                    continue
                with pytest.raises(ValueError):  # noqa: PT011
                    DepegDetector.from_state(changed(state, path, change))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("clock",), None),
        (("clock",), 10**40),
        (("clock",), 2**67),
        (("sampled",), None),
        (("sampled",), 0),
        (("direction",), "below"),
        (("rule", "threshold"), 1.5),
        (("rule", "recovery"), 0.5),
        (("rule", "min_duration"), -1),
        (("rule", "min_duration"), None),
        (("rule", "max_gap"), 10**40),
        (("reference", "level"), 0.0),
        (("reference", "kind"), "moving"),
        (("watches", 0, "between"), None),
        (("watches", 0, "pending"), None),
        (("watches", 0, "pending", "recovered"), None),
        (("watches", 0, "pending", "end"), 0),
        (("watches", 0, "current", "n"), 0),
        (("watches", 0, "current", "n"), 1),
        (("watches", 0, "current", "low"), 2.0),
        (("watches", 0, "current", "severity"), None),
        (("watches", 0, "current", "start"), 10**18),
        (("watches", 0, "current", "recovered"), 10**18),
    ],
)
def test_a_state_that_cannot_be_is_refused(path, value):
    """Its parts must fit together."""
    with pytest.raises(ValueError):  # noqa: PT011
        DepegDetector.from_state(changed(held_state(), path, becomes(value)))


@pytest.mark.parametrize(
    ("hours", "entry", "value"),
    [
        (0, "level", 1.0),
        (2, "level", 1.0),
        (2, "first", None),
        (2, "first", 2 * 10**18),
        (2, "watched", []),
        (2, "watched", [0.0]),
        (30, "level", None),
        (30, "first", None),
        (30, "watched", [1.0]),
        (30, "start", 1.0),
        (30, "fall", 1.5),
    ],
)
def test_an_accruing_state_that_cannot_be_is_refused(hours, entry, value):
    """A first day without its samples, a reference without a sample, ..."""
    state = accruing_state(hours)
    assert state == DepegDetector.from_state(state).state()

    with pytest.raises(ValueError):  # noqa: PT011
        DepegDetector.from_state(changed(state, ("reference", entry), becomes(value)))

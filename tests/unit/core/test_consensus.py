"""Several sources: their median and agreement, and what they say of one another's events."""

from __future__ import annotations

import itertools
import json
import statistics
from datetime import timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.core.consensus import check_sources, confirm_events, consensus_prices
from tonsurance_risk.errors import InvalidPriceError

T0 = pd.Timestamp("2023-03-11", tz="UTC")
HOUR = timedelta(hours=1)


def frame(values, vendor=None, start=0, asset="USDC", step=HOUR) -> pd.DataFrame:
    """Return one coin, a row a step, starting so many hours after T0."""
    index = T0 + start * HOUR + step * np.arange(len(values))
    made = pd.DataFrame({asset: np.array(values, dtype=float)}, index=pd.DatetimeIndex(index))
    if vendor is not None:
        made.attrs["vendor"] = vendor
    return made


def at(consensus, name, row=0):
    """Return one cell of the only coin."""
    return getattr(consensus, name)["USDC"].iloc[row]


class TestConsensus:
    """Median, number, spread and mark."""

    @pytest.mark.parametrize(
        ("prices", "median", "count", "spread", "confirmed"),
        [
            ([0.9, 0.901, 1.0], 0.901, 3, 0.1, True),
            ([0.9, 1.0, 1.1], 1.0, 3, 0.2, False),
            ([0.9, 1.0], 0.95, 2, 0.1, False),
            ([1.0, 1.004], 1.002, 2, 0.004, True),
            ([0.9, np.nan], 0.9, 1, np.nan, None),
            ([np.nan, np.nan], np.nan, 0, np.nan, None),
            ([0.9, 0.9, 1.0, 1.0], 0.95, 4, 0.1, True),  # two camps
            ([0.7, 0.8, 0.9, 1.0], 0.85, 4, 0.3, False),
        ],
    )
    def test_one_stamp(self, prices, median, count, spread, confirmed):
        """By hand, in every order of the sources."""
        for order in itertools.permutations(prices):
            found = consensus_prices([frame([price]) for price in order])

            assert pytest.approx(median, nan_ok=True) == at(found, "prices")
            assert count == at(found, "sources")
            assert pytest.approx(spread, nan_ok=True) == at(found, "spread")
            assert at(found, "confirmed") is confirmed

    def test_a_vendor_counts_once(self):
        """Its two frames are one source, with their median; frames without a name are independent."""
        frames = [frame([0.90], "a"), frame([0.92], "a"), frame([1.0], "b")]

        of_two = consensus_prices(frames)
        of_one = consensus_prices(frames[:2])
        unnamed = consensus_prices([frame([0.9]), frame([0.9])])

        assert (2, False) == (at(of_two, "sources"), at(of_two, "confirmed"))
        assert {"a": 0.91, "b": 1.0} == {name: own["USDC"].iloc[0] for name, own in of_two.by_source.items()}
        assert (1, None) == (at(of_one, "sources"), at(of_one, "confirmed"))
        assert (2, True) == (at(unnamed, "sources"), at(unnamed, "confirmed"))

    def test_the_stamps_of_all_frames_together(self):
        """Without a step; a tolerance lets an observation hold."""
        frames = [frame([1.0, 0.9]), frame([0.99], start=0.5)]

        strict, holding = consensus_prices(frames), consensus_prices(frames, tolerance=HOUR / 2)

        assert [T0, T0 + HOUR / 2, T0 + HOUR] == list(strict.prices.index)
        assert [1, 1, 1] == strict.sources["USDC"].tolist()
        assert [1, 2, 2] == holding.sources["USDC"].tolist()

    def test_on_a_grid(self):
        """Irregular rounds and hourly prices; the step is how long an observation holds."""
        rounds = frame([1.0, 0.95, 0.9], "rounds", start=0.1, step=HOUR / 4)
        hourly = frame([1.0, 0.9], "hourly")

        found = consensus_prices([rounds, hourly], freq="1h")

        assert [T0, T0 + HOUR] == list(found.prices.index)
        assert [1.0, 0.9] == found.prices["USDC"].tolist()
        assert [None, True] == found.confirmed["USDC"].tolist()

    def test_different_coins(self):
        """Columns in order of appearance, nothing where a source does not carry one."""
        found = consensus_prices([frame([1.0], "a"), frame([0.9], "b", asset="dai")])

        assert ["USDC", "DAI"] == list(found.prices.columns)
        assert [[1, 1]] == found.sources.to_numpy().tolist()
        assert found.by_source["a"]["DAI"].isna().all()

    @given(
        st.integers(1, 5).flatmap(
            lambda n: st.lists(
                st.lists(st.sampled_from([0.9, 0.903, 0.95, 1.0, 1.004, np.nan]), min_size=n, max_size=n),
                min_size=1, max_size=4,
            )
        ),
        st.sampled_from([0.0, 0.005, 0.05]),
    )  # fmt: skip
    def test_it_is_what_a_plain_loop_finds(self, table, agreement):
        """A row a time, a column a source; the library's median against the one of `statistics`."""
        frames = [frame(list(column)) for column in zip(*table, strict=True)]

        found = consensus_prices(frames, agreement=agreement)

        for row, prices in enumerate(table):
            known = [price for price in prices if price == price]
            median = statistics.median(known) if known else np.nan
            agree = any(abs(a - b) <= agreement * median for a, b in itertools.combinations(known, 2))
            assert pytest.approx(median, rel=1e-15, nan_ok=True) == at(found, "prices", row)
            assert len(known) == at(found, "sources", row)
            assert at(found, "confirmed", row) is (agree if len(known) > 1 else None)
            spread = max(known) - min(known) if len(known) > 1 else np.nan
            assert pytest.approx(spread, nan_ok=True) == at(found, "spread", row)

    def test_tables_and_json(self):
        """Long form, without the cells that nobody carries."""
        found = consensus_prices([frame([1.0, np.nan], "a"), frame([np.nan, np.nan], "b")])
        document = found.to_dict()

        assert document == json.loads(json.dumps(document, allow_nan=False))
        assert ["time", "asset", "price", "sources", "spread", "confirmed"] == list(found.to_frame().columns)
        assert document["prices"] == [
            {"time": "2023-03-11T00:00:00Z", "asset": "USDC", "price": 1.0, "sources": 1, "spread": None,
             "confirmed": None}
        ]  # fmt: skip
        assert ["a", "b"] == document["by_source"]

    def test_a_vendor_cannot_take_the_name_of_an_unnamed_frame(self):
        """They stay two sources."""
        found = consensus_prices([frame([1.0]), frame([1.0], "source 0")])

        assert (2, 2) == (at(found, "sources"), len(found.by_source))

    def test_what_was_given_stays_as_it_was(self):
        """Frames, their attributes, and the result."""
        own = frame([1.0], "a")
        found = consensus_prices([own, frame([0.9])])

        pd.testing.assert_frame_equal(frame([1.0], "a"), own)
        assert {"vendor": "a"} == own.attrs
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            found.prices = own

    def test_wrong_arguments(self):
        """Named, with what is accepted; a frame by its position."""
        with pytest.raises(ValueError, match="frames must hold at least one"):
            consensus_prices([])
        with pytest.raises(ValueError, match="frames must be a list of DataFrames, found DataFrame"):
            consensus_prices(frame([1.0]))
        with pytest.raises(ValueError, match="tolerance must be a datetime.timedelta"):
            consensus_prices([frame([1.0])], tolerance=1)
        with pytest.raises(ValueError, match="agreement must be a number >= 0"):
            consensus_prices([frame([1.0])], agreement=-0.1)
        with pytest.raises(ValueError, match="freq must be a duration"):
            consensus_prices([frame([1.0])], freq="often")
        with pytest.raises(InvalidPriceError, match=r"frames\[1\]: USDC at"):
            consensus_prices([frame([1.0]), frame([-1.0])])


def the_event(values, vendor="a", **rule):
    """Return the only event of a frame."""
    [event] = tr.detect_depegs(frame(values, vendor), sample_span=HOUR, **rule)
    return event


class TestConfirmEvents:
    """Confirmed, local, or not known; never dropped."""

    own = [1.0, 1.0, 0.9, 0.9, 1.0, 1.0]

    @pytest.mark.parametrize(
        ("other", "confirmed"),
        [
            ([1.0, 1.0, 0.94, 0.94, 1.0, 1.0], True),
            ([1.0, 1.0, 0.96, 0.96, 1.0, 1.0], False),
            ([1.0, 1.0, 1.0, 0.95, 1.0, 1.0], True),  # half, once
            ([1.0, 1.1, 1.1, 1.1, 1.1, 1.0], False),  # the other way
            ([1.0, 0.9, 1.0, 1.0, 1.0, 1.0], True),  # a step before
            ([1.0, 1.0, 1.0, 1.0, 0.9, 1.0], True),  # a step after
            ([0.9, 1.0, 1.0, 1.0, 1.0, 0.9], False),  # two steps before and after
            ([1.0, np.nan, np.nan, np.nan, np.nan, 1.0], None),  # nothing at the time
        ],
    )
    def test_another_source(self, other, confirmed):
        """By half of the severity, in the same direction, within a step of the event."""
        [found] = confirm_events([the_event(self.own)], [frame(other, "b")])

        assert found.confirmed is confirmed
        assert found.local_to == ("a" if confirmed is False else None)
        assert attrs.evolve(found, confirmed=None, local_to=None) == the_event(self.own)

    def test_the_same_vendor_says_nothing(self):
        """However much it agrees; nor does nobody."""
        event = the_event(self.own)
        same, unnamed = frame(self.own, "a"), frame(self.own)

        assert [None] == [e.confirmed for e in confirm_events([event], [])]
        assert [None] == [e.confirmed for e in confirm_events([event], [same, frame(self.own, "a")])]
        assert [None] == [e.confirmed for e in confirm_events([event], [same, frame(self.own, "b", asset="DAI")])]
        assert [True] == [e.confirmed for e in confirm_events([event], [same, unnamed])]

    def test_one_of_several_is_enough(self):
        """And one that disagrees takes nothing away."""
        event, calm = the_event(self.own), frame([1.0] * 6, "b")

        assert [True] == [e.confirmed for e in confirm_events([event], [calm, frame(self.own, "c")])]
        assert [False] == [e.confirmed for e in confirm_events([event], [calm, frame([1.0] * 6, "c")])]

    def test_premiums(self):
        """Against a premium."""
        event = the_event([1.0, 1.2, 1.0], direction="above")

        assert [True] == [e.confirmed for e in confirm_events([event], [frame([1.0, 1.1, 1.0], "b")])]
        assert [False] == [e.confirmed for e in confirm_events([event], [frame([1.0, 0.8, 1.0], "b")])]

    def test_another_peg(self):
        """Deviations are from the reference."""
        own, other = frame([1.05, 1.0, 1.05], "a", asset="OWN"), frame([1.05, 1.02, 1.05], "b", asset="OWN")
        [event] = tr.detect_depegs(own, peg=1.05, sample_span=HOUR)

        assert [True] == [e.confirmed for e in confirm_events([event], [other], peg=1.05)]
        assert [False] == [e.confirmed for e in confirm_events([event], [other])]

    def test_the_step(self):
        """Of the event when not given: a daily close a day later is no witness of an hour."""
        event, daily = the_event(self.own), frame([1.0, 0.9], "b", step=timedelta(days=1), start=-12)

        assert [None] == [e.confirmed for e in confirm_events([event], [daily])]
        assert [True] == [e.confirmed for e in confirm_events([event], [daily], step=timedelta(days=1))]

    def test_events_in_their_order(self):
        """Several vendors at once, each against the others."""
        frames = [frame(self.own, "a"), frame([1.0, 1.0, 0.91, 0.9, 1.0, 0.8], "b"), frame([1.0] * 6, "c")]
        events = [e for f in reversed(frames) for e in tr.detect_depegs(f, sample_span=HOUR)]

        found = confirm_events(events, frames)

        assert [(e.source, e.start) for e in events] == [(e.source, e.start) for e in found]
        assert [("b", True, None), ("b", False, "b"), ("a", True, None)] == [
            (e.source, e.confirmed, e.local_to) for e in found
        ]

    @given(st.lists(st.sampled_from([0.9, 0.95, 1.0, 1.1, np.nan]), min_size=6, max_size=6))
    def test_more_sources_never_unconfirm(self, other):
        """A source more takes no confirmation away, and every event stays."""
        events = tr.detect_depegs(frame([0.9, 1.0, 0.97, 1.0, 1.1, 0.8], "a"), direction="both", sample_span=HOUR)
        first = [frame([0.95, 1.0, 1.0, 1.0, np.nan, np.nan], "b")]

        before = confirm_events(events, first)
        after = confirm_events(events, [*first, frame(other, "c")])

        assert len(events) == len(after)
        assert all(new.confirmed is True for old, new in zip(before, after, strict=True) if old.confirmed)
        assert all(
            new.confirmed is not None for old, new in zip(before, after, strict=True) if old.confirmed is False
        )

    def test_wrong_arguments(self):
        """Named."""
        with pytest.raises(ValueError, match="events must hold DepegEvent records"):
            confirm_events(["USDC"], [])
        with pytest.raises(ValueError, match="step must be a datetime.timedelta >= 0"):
            confirm_events([], [], step=-HOUR)
        with pytest.raises(ValueError, match="others must be a list of DataFrames"):
            confirm_events([], frame([1.0]))
        with pytest.raises(InvalidPriceError, match=r"others\[0\]"):
            confirm_events([], [frame([np.inf])])


class TestCheckSources:
    """A source against others: what confirms and what does not."""

    PRICES = staticmethod(lambda seed: 1.0 + np.random.default_rng(seed).normal(0, 5e-4, 60))

    def checked(self, own, *others):
        """Return the report and the trusted frames, as of the last row."""
        return check_sources(own, others, as_of=own.index[-1])

    def test_another_source_lifts_a_rejection(self):
        """It shows the same collapse and recovery."""
        own, other = self.PRICES(0), self.PRICES(1)
        own[30], other[30] = 0.7, 0.72

        alone, _ = self.checked(frame(own))
        confirmed, trusted = self.checked(frame(own), frame(other, "venue"))

        assert (False, True) == (alone.passed, confirmed.passed)
        assert 0.72 == trusted[0]["USDC"].iloc[30]

    def test_a_copy_confirms_nothing(self):
        """The same numbers under another name."""
        own = self.PRICES(0)
        own[30] = 0.7

        report, trusted = self.checked(frame(own), frame(own, "the same files elsewhere"))

        assert not report.passed
        assert [] == trusted

    def test_a_false_print_of_another_source_confirms_no_event(self):
        """A real dip of 3 % here, a slip to 0.5 there."""
        own, other = self.PRICES(0), self.PRICES(1)
        own[30:33] -= 0.03
        other[31] = 0.5
        prices = frame(own)

        _, trusted = self.checked(prices, frame(other, "venue"))
        [event] = confirm_events(tr.detect_depegs(prices), trusted)

        assert event.confirmed is False

    def test_a_source_whose_print_is_not_over_yet_confirms_nothing(self):
        """Both show the same print of all their coins, and nobody knows whether it lasts."""
        coins = ["USDC", "USDT", "DAI", "USDP", "GHO"]
        index = pd.date_range(T0, periods=80, freq="h")
        a, b = (
            pd.DataFrame(1.0 + np.random.default_rng(k).normal(0, 3e-4, (80, 5)), index=index, columns=coins)
            for k in range(2)
        )
        for source in (a, b):
            source.iloc[-2:] -= 0.04

        report, trusted = self.checked(a, b)
        events = confirm_events(tr.detect_depegs(report.usable(a), sample_span=HOUR), trusted)

        assert {"flag"} == set(report.flags.loc[report.flags["check"] == "common_mode", "action"])
        assert set(coins) == {event.asset for event in events}
        assert {None} == {event.confirmed for event in events}

    def test_venues_that_round_to_a_cent_are_no_copies(self):
        """They agree on 99.9 % of the samples and differ in the depeg."""
        own, other = np.ones(17_520), np.ones(17_520)
        own[900:920] = [0.95, 0.90, 0.88, 0.91, 0.96] * 4
        other[900:920] = [0.94, 0.91, 0.90, 0.92, 0.97] * 4
        prices = frame(own)

        _, trusted = self.checked(prices, frame(other, "venue"))

        assert 1 == len(trusted)
        [event] = confirm_events(tr.detect_depegs(prices), trusted)
        assert event.confirmed is True


def test_events_between_the_seconds_of_another_source():
    """Times are compared in the finer unit of the two."""
    index = pd.DatetimeIndex(T0 + pd.Timedelta("500ms") + HOUR * np.arange(5)).as_unit("ms")
    prices = pd.DataFrame({"USDC": [1.0, 0.9, 0.9, 0.9, 1.0]}, index=index)
    other = prices.set_axis(pd.DatetimeIndex(T0 + HOUR * np.arange(5)).as_unit("s"))

    [event] = confirm_events(tr.detect_depegs(prices), [other], step=HOUR)

    assert event.confirmed is True

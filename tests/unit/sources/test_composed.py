"""Several sources as one, and whose prices they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.core.consensus import consensus_prices
from tonsurance_risk.errors import (
    GranularityError,
    HistoryLimitError,
    InvalidPriceError,
    PayloadError,
    RateLimitedError,
    SettingsError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources import ConsensusSource, CsvSource, FallbackSource
from tonsurance_risk.sources.composed import MOST_ANSWERS
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, Reject
from tonsurance_risk.sources.vendors import vendor_of, vendors_of

START = datetime(2024, 3, 1, tzinfo=UTC)
END = START + timedelta(hours=6)
HOURS = pd.date_range(START, periods=6, freq="h")


@attrs.define
class Shelf:
    """A source of what lies on it, or of an error."""

    name: str
    gives: pd.Series | Exception
    asked: int = 0

    def fetch(self, asset, start, end, *, step="1h"):
        self.asked += 1
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives.copy()


def dai(*prices, since=HOURS[0]):
    return pd.Series(prices, pd.date_range(since, periods=len(prices), freq="h"), name="DAI", dtype=float)


def partial(series):
    series.attrs[DETAIL] = FetchDetail(history_start=series.index[0])
    return series


DOWN = SourceUnavailableError("no answer")


class TestFallback:
    def test_the_first_that_answers(self):
        first, second = Shelf("one", dai(1.0)), Shelf("two", dai(0.9))
        source = FallbackSource([first, second])

        prices = source.fetch("dai", START, END)

        assert [1.0] == prices.tolist()
        assert 0 == second.asked
        assert "one" == prices.attrs["vendor"]
        assert "fallback(one, two)" == source.name

    @pytest.mark.fault("F001")
    @pytest.mark.fault("F012")
    @pytest.mark.parametrize(
        "error",
        [
            DOWN,
            UnknownAssetError("not here"),
            PayloadError("<html>"),
            InvalidPriceError("-1"),
            GranularityError("1d"),
        ],
    )
    def test_the_next_where_one_fails(self, error, caplog):
        source = FallbackSource([Shelf("one", error), Shelf("two", dai(0.9)), Shelf("three", dai(0.8))])

        prices = source.fetch("DAI", START, END)

        assert [0.9] == prices.tolist()
        [answer] = source.answers
        assert (("two",), "DAI", START, END, "1h") == (
            answer.sources, answer.asset, answer.start, answer.end, answer.step
        )  # fmt: skip
        assert {"one": f"{type(error).__name__}: {error}"} == answer.failed
        assert "one did not give DAI" in caplog.text

    def test_each_fetch_is_recorded(self):
        one = Shelf("one", DOWN)
        source = FallbackSource([one, Shelf("two", dai(0.9))])
        source.fetch("DAI", START, END)
        one.gives = dai(1.0)
        source.fetch("DAI", START, END)

        assert [("two",), ("one",)] == [answer.sources for answer in source.answers]
        assert MOST_ANSWERS == source.answers.maxlen

    def test_a_part_is_taken_where_nobody_has_more(self):
        late, later = partial(dai(0.9, since=HOURS[2])), partial(dai(0.8, since=HOURS[4]))
        source = FallbackSource([Shelf("one", later), Shelf("two", late), Shelf("three", DOWN)])

        assert [0.9] == source.fetch("DAI", START, END).tolist()
        assert ("two",) == source.answers[-1].sources

    def test_the_whole_is_taken_before_a_part(self):
        source = FallbackSource(
            [Shelf("one", partial(dai(0.9, since=HOURS[2]))), Shelf("two", dai(1.0, 1.0, 1.0))]
        )

        assert 3 == len(source.fetch("DAI", START, END))

    def test_nothing_in_the_interval_is_an_answer(self):
        source = FallbackSource([Shelf("one", dai()), Shelf("two", dai(1.0))])

        assert source.fetch("DAI", START, END).empty

    @pytest.mark.parametrize(
        ("errors", "kind"),
        [
            ([DOWN, DOWN], SourceUnavailableError),
            ([UnknownAssetError("a"), UnknownAssetError("b")], UnknownAssetError),
            ([UnknownAssetError("a"), RateLimitedError("b", retry_after=9.0)], RateLimitedError),
            ([HistoryLimitError("a"), PayloadError("b")], SourceUnavailableError),
        ],
    )
    def test_nobody_answers(self, errors, kind):
        """Of their kind if that is one; not knowing the asset does not count beside another error."""
        source = FallbackSource([Shelf(f"s{place}", error) for place, error in enumerate(errors)])
        with pytest.raises(kind) as caught:
            source.fetch("DAI", START, END)

        assert type(caught.value) is kind
        assert "DAI" == caught.value.asset
        assert all(f"s{place}: {type(error).__name__}" in str(caught.value) for place, error in enumerate(errors))
        assert (9.0 if kind is RateLimitedError else None) == caught.value.retry_after
        assert () == source.answers[-1].sources

    @pytest.mark.fault("F008")
    def test_a_wrong_setting_is_not_passed_over(self):
        """A key that is not accepted is for the user to mend, and no reason to ask somebody else in silence."""
        second = Shelf("two", dai(1.0))
        with pytest.raises(SettingsError):
            FallbackSource([Shelf("one", SettingsError("key")), second]).fetch("DAI", START, END)

        assert 0 == second.asked

    @pytest.mark.parametrize("kind", [FallbackSource, ConsensusSource])
    def test_what_they_are_made_of(self, kind):
        with pytest.raises(ValueError, match="at least one"):
            kind([])
        with pytest.raises(ValueError, match="one"):
            kind([Shelf("one", DOWN), Shelf("one", DOWN)])


class TestConsensus:
    def test_median_and_spread_as_consensus_prices(self):
        """One computation, whoever asks for it."""
        series = [dai(1.0, 0.99, 0.90), dai(1.01, 0.98, 0.91), dai(0.97, 0.95)]
        source = ConsensusSource([Shelf(name, prices) for name, prices in zip("abc", series, strict=True)])
        frames = [prices.to_frame() for prices in series]
        for frame, name in zip(frames, "abc", strict=True):
            frame.attrs["vendor"] = name

        consensus = source.compare("DAI", START, END)
        expected = consensus_prices(frames)

        pd.testing.assert_frame_equal(expected.to_frame(), consensus.to_frame())
        np.testing.assert_array_equal([1.0, 0.98, 0.905], source.fetch("DAI", START, END).to_numpy())
        np.testing.assert_allclose([0.04, 0.04, 0.01], consensus.spread["DAI"])

    def test_those_that_fail_are_left_out(self):
        source = ConsensusSource([Shelf("a", dai(1.0)), Shelf("b", DOWN), Shelf("c", dai(0.9))])

        assert [0.95] == source.fetch("DAI", START, END).tolist()
        assert ("a", "c") == source.answers[-1].sources
        assert ["b"] == list(source.answers[-1].failed)

    def test_what_sources_left_out_is_kept(self):
        """Their rejects; and the history begins where the first of them does."""
        reject = Reject(time=HOURS[2], reason="not_positive", raw="-1")
        answers = [dai(1.0, 1.0, since=HOURS[3]), dai(0.9, since=HOURS[4])]
        for prices in answers:
            prices.attrs[DETAIL] = FetchDetail(rejects=(reject,), history_start=prices.index[0])
        shelves = [Shelf(name, prices) for name, prices in zip("ab", answers, strict=True)]

        detail = ConsensusSource(shelves).fetch("DAI", START, END).attrs[DETAIL]
        assert ((reject, reject), HOURS[3]) == (detail.rejects, detail.history_start)
        whole = ConsensusSource([*shelves, Shelf("c", dai(1.0))]).fetch("DAI", START, END)
        assert whole.attrs[DETAIL].history_start is None

    def test_nobody_answers(self):
        with pytest.raises(SourceUnavailableError, match="no source gave DAI"):
            ConsensusSource([Shelf("a", DOWN), Shelf("b", DOWN)]).fetch("DAI", START, END)

    def test_one_vendor_by_two_ways_counts_once(self):
        """Otherwise an error of one vendor would outvote another source."""
        sources = [
            Shelf("coingecko", dai(0.5)),
            Shelf("coingecko via defillama", dai(0.5)),
            Shelf("kraken", dai(1.0)),
        ]
        consensus = ConsensusSource(sources).compare("DAI", START, END)

        assert 2 == consensus.sources.iloc[0, 0]
        assert 0.75 == consensus.prices.iloc[0, 0]
        assert consensus.confirmed.iloc[0, 0] is False

    @pytest.mark.fault("F046")
    def test_a_bar_does_not_stand_for_the_next(self):
        """Where one source has a hole it has no say."""
        holed = dai(0.9, 0.9, 0.9, 0.9).drop(HOURS[2])
        consensus = ConsensusSource([Shelf("a", dai(1.0, 1.0, 1.0, 1.0)), Shelf("b", holed)]).compare(
            "DAI", START, END
        )

        assert [2, 2, 1, 2] == consensus.sources["DAI"].tolist()
        assert 1.0 == consensus.prices["DAI"].iloc[2]

    def test_folders(self, tmp_path):
        """With sources as they are."""
        for name, price in (("one", 0.99), ("two", 0.97)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "DAI_1h.csv").write_text(f"timestamp,price\n2024-03-01T00:00:00Z,{price}\n")
        source = ConsensusSource([CsvSource(tmp_path / "one"), CsvSource(tmp_path / "two")])

        assert {HOURS[1]: 0.98} == source.fetch("dai", START, END).to_dict()


class TestVendors:
    """Two ways to one vendor's prices confirm nothing to each other."""

    @pytest.mark.parametrize(
        ("name", "vendors"),
        [
            ("kraken", {"kraken"}),
            ("coingecko via defillama", {"coingecko"}),
            ("binance@kraken", {"binance", "kraken"}),
            ("binance@coingecko via defillama", {"binance", "coingecko"}),
            ("fallback(kraken, coingecko via defillama)", {"kraken", "coingecko"}),
            ("consensus(binance@coinbase, kraken)", {"binance", "coinbase", "kraken"}),
            ("csv:prices@0123abcd", {"csv:prices@0123abcd"}),
            ("sample (simulated)", {"sample (simulated)"}),
        ],
    )
    def test_by_the_name(self, name, vendors):
        assert vendors == vendors_of(name)

    def test_the_vendor_of_several_is_their_name(self):
        assert "fallback(a via b, c)" == vendor_of("fallback(a via b, c)")

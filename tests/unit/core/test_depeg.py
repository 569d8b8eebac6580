"""Detection: the rules of api.md one by one; the oracle comparison is in tests/property."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.depeg import _away, _samples, events_to_frame
from tonsurance_risk.errors import InvalidPriceError

HOUR = timedelta(hours=1)


def series(values, *, start="2024-01-01", freq="h", name="USDC"):
    """Return a named hourly series."""
    index = pd.date_range(start, periods=len(values), freq=freq, tz="UTC")
    return pd.Series(values, index=index, name=name, dtype=float)


def test_a_dip_is_one_event_with_its_minimum():
    """The first test of the mission."""
    [event] = tr.detect_depegs(series([1.00, 0.97, 0.95, 0.96, 1.00]))

    assert 0.95 == event.min_price
    assert 0.97 == event.max_price
    assert pytest.approx(0.05) == event.severity
    assert 3 == event.n_observations
    assert pd.Timestamp("2024-01-01T01:00Z") == event.start
    assert pd.Timestamp("2024-01-01T03:00Z") == event.end
    assert pd.Timestamp("2024-01-01T04:00Z") == event.recovered_at
    assert 2 * HOUR == event.duration
    assert 3 * HOUR == event.recovery_time
    assert not event.is_open
    assert not event.cut_by_gap
    assert ("USDC", "below", 0.99, 0.99, 1.0) == (
        event.asset, event.direction, event.threshold, event.recovery, event.peg_reference,
    )  # fmt: skip


def test_hysteresis_keeps_an_event_open_between_the_thresholds():
    """Closing needs the recovery level, opening the threshold."""
    prices = series([1.0, 0.98, 0.992, 0.985, 0.996, 0.992, 1.0])

    [event] = tr.detect_depegs(prices, recovery=0.995)

    assert pd.Timestamp("2024-01-01T04:00Z") == event.recovered_at
    assert 3 == event.n_observations


def test_a_premium_is_the_same_rule_on_two_minus_ratio():
    """0.99 opens above 1.01."""
    prices = series([1.0, 1.01, 1.02, 1.03, 1.0, 0.98, 0.97, 1.0])

    [above] = tr.detect_depegs(prices, direction="above")
    both = tr.detect_depegs(prices, direction="both")

    assert ("above", 1.03) == (above.direction, above.max_price)
    assert pytest.approx(0.03) == above.severity
    assert ["above", "below"] == [event.direction for event in both]


def test_a_daily_bar_lasts_a_day_only_with_its_span():
    """Without sample_span an event of one bar lasts 0 s and is shorter than an hour."""
    prices = series([1.0, 0.97, 1.0], freq="D")

    assert [] == tr.detect_depegs(prices)
    [event] = tr.detect_depegs(prices, sample_span=timedelta(days=1))
    assert timedelta(days=1) == event.duration


def test_an_event_at_the_end_of_the_data_is_open():
    """It has no recovering sample and was not cut."""
    [event] = tr.detect_depegs(series([1.0, 0.97, 0.97]))

    assert event.is_open
    assert event.recovered_at is None
    assert event.recovery_time is None


def test_a_gap_cuts_an_event_and_the_next_sample_opens_only_below_the_threshold():
    """Also when the sample behind the gap would have recovered it."""
    hours = [0, 1, 2, 10, 11, 12]
    index = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(hours, unit="h")
    between = pd.Series([1.0, 0.97, 0.97, 0.993, 0.97, 1.0], index=index, name="USDC")

    first, second = tr.detect_depegs(between, recovery=0.995, max_gap=3 * HOUR, min_duration=timedelta(0))

    assert (True, None, False) == (first.cut_by_gap, first.recovered_at, first.is_open)
    assert index[2] == first.end
    assert index[4] == second.start
    recovering = between.copy()
    recovering.iloc[3] = 1.0
    assert tr.detect_depegs(recovering, max_gap=3 * HOUR, min_duration=timedelta(0))[0].cut_by_gap


def test_flicker_merges_transitively_and_before_the_minimum_duration():
    """Three dips of one sample, two hours apart, are one event of five samples."""
    prices = series([1.0, 0.98, 1.0, 0.97, 1.0, 0.985, 1.0])

    assert [] == tr.detect_depegs(prices)
    [event] = tr.detect_depegs(prices, merge_within=HOUR)
    assert 5 == event.n_observations
    assert (0.97, 1.0) == (event.min_price, event.max_price)
    assert pd.Timestamp("2024-01-01T06:00Z") == event.recovered_at


def test_nan_is_not_a_sample():
    """Neither recovers nor counts."""
    [event] = tr.detect_depegs(series([1.0, 0.97, np.nan, 0.96, 1.0]))

    assert 2 == event.n_observations


def test_frames_are_searched_in_every_column_but_btc():
    """Ordered by asset and start."""
    frame = pd.DataFrame(
        {"usdt": series([1.0, 0.9, 0.9]), "BTC": series([4e4, 3e4, 2e4]), "DAI": series([1.0, 0.8, 0.8])}
    )

    assert ["DAI", "USDT"] == [event.asset for event in tr.detect_depegs(frame)]
    assert [] == tr.detect_depegs(series([4e4, 3e4, 2e4], name="BTC"))


@pytest.mark.parametrize(
    "empty",
    [series([]), pd.DataFrame(), series([np.nan, np.nan]), pd.Series([], name="USDC", dtype=float)],
)
def test_nothing_in_nothing_out(empty):
    """Empty input has no event."""
    assert [] == tr.detect_depegs(empty)


@pytest.mark.parametrize(
    ("peg", "reference"),
    [
        (1.1, 1.1),
        (tr.FixedPeg(1.1), 1.1),
        ({"mycoin": 1.2, "OTHER": 3.0}, 1.2),
        (
            pd.Series([1.1, 1.2], index=pd.to_datetime(["2023-12-31T00:00", "2024-01-01T01:00"], utc=True)),
            1.2,
        ),
    ],
)
def test_a_coin_of_ones_own_takes_the_given_peg(peg, reference):
    """As a number, a peg, a mapping by symbol or a Series of references."""
    prices = series([1.2, 1.0, 0.9, 0.9, 1.2], name="mycoin")

    events = tr.detect_depegs(prices, peg=peg)

    assert reference == events[-1].peg_reference
    assert pytest.approx(1.0 - 0.9 / reference) == events[-1].severity


def test_an_unknown_symbol_is_pegged_to_one():
    """So that a coin of one's own works without being declared."""
    assert 1 == len(tr.detect_depegs(series([1.0, 0.9, 0.9, 1.0], name="XYZ")))


def test_a_series_of_references_must_reach_back():
    """No reference at or before the first sample."""
    late = pd.Series([1.0], index=pd.to_datetime(["2025-01-01"], utc=True))

    with pytest.raises(InvalidPriceError, match="no reference at or before 2024-01-01"):
        tr.detect_depegs(series([1.0, 1.0]), peg=late)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.01}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": 99}, "threshold"),
        ({"recovery": 0.98}, "recovery"),
        ({"recovery": 1.1}, "recovery"),
        ({"min_duration": timedelta(-1)}, "min_duration"),
        ({"min_duration": 3600}, "min_duration"),
        ({"max_gap": timedelta(-1)}, "max_gap"),
        ({"merge_within": None}, "merge_within"),
        ({"sample_span": "1h"}, "sample_span"),
        ({"direction": "up"}, "direction"),
        ({"peg": 0.0}, "peg of USDC"),
        ({"peg": -1.0}, "peg of USDC"),
        ({"peg": "one"}, "peg of USDC"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    """In the message, with what was found."""
    with pytest.raises(ValueError, match=message):
        tr.detect_depegs(series([1.0, 0.9, 1.0]), **arguments)


def test_an_unnamed_series_is_refused():
    """Its asset is not known."""
    with pytest.raises(ValueError, match="named by its asset symbol"):
        tr.detect_depegs(series([1.0, 0.9]).rename(None))


def test_events_as_a_table():
    """One row an event, with the properties; no event, no row but all columns."""
    events = tr.detect_depegs(series([1.0, 0.97, 0.95, 0.96, 1.0, 0.9, 0.9]))

    table = tr.events_to_frame(events)

    assert [timedelta(hours=2), timedelta(hours=1)] == table["duration"].tolist()
    assert [False, True] == table["is_open"].tolist()
    assert table["recovered_at"].isna().tolist() == [False, True]
    assert list(table.columns) == list(tr.events_to_frame([]).columns)
    with pytest.raises(ValueError, match="events must hold DepegEvent records, found 3"):
        tr.events_to_frame([3])


class TestAccruing:
    """sUSDe and USDY: two years of hourly prices with 5 bp of noise around a growing value."""

    N = 2 * 365 * 24

    def prices(self, growth: float, seed: int = 0) -> pd.Series:
        """Return a value that grows at a rate a year, with noise."""
        rng = np.random.default_rng(seed)
        years = np.arange(self.N) / (365 * 24)
        return series(1.15 * (1 + growth) ** years * np.exp(rng.normal(0, 5e-4, self.N)), name="sUSDe")

    @pytest.mark.parametrize("growth", [0.05, 0.10, 0.30])
    def test_growth_is_on_peg(self, growth):
        """No false event in two years."""
        assert [] == tr.detect_depegs(self.prices(growth), sample_span=HOUR)

    @pytest.mark.parametrize("growth", [0.05, 0.10, 0.30])
    @pytest.mark.parametrize(("drop", "hours"), [(0.03, 1), (0.06, 30 * 24)])
    def test_a_drop_is_one_event(self, growth, drop, hours):
        """3 % for an hour and 6 % for 30 days."""
        prices = self.prices(growth)
        begin = self.N // 2
        prices.iloc[begin : begin + hours] *= 1 - drop

        [event] = tr.detect_depegs(prices, sample_span=HOUR)

        assert prices.index[begin] == event.start
        assert hours == event.n_observations
        assert prices.index[begin + hours] == event.recovered_at
        assert event.severity == pytest.approx(drop, abs=0.004)
        assert 0.995 == event.recovery

    def test_a_fall_in_an_hour_is_a_depeg_though_the_price_is_above_one(self):
        """From 1.15 to 1.08."""
        prices = series([1.15] * 48 + [1.08] * 4, name="USDY")

        [event] = tr.detect_depegs(prices)

        assert event.severity == pytest.approx(1 - 1.08 / 1.15, abs=1e-4)

    def test_the_first_day_only_gives_the_reference(self):
        """Its samples belong to no event; with a start the first sample is tested."""
        prices = series([1.15, 0.5] + [1.15] * 10 + [0.5, 0.5], name="sUSDe")

        assert [] == tr.detect_depegs(prices)
        events = tr.detect_depegs(prices, peg=tr.AccruingPeg(start=1.3))
        assert prices.index[0] == events[0].start
        assert (
            1.3
            == tr.detect_depegs(prices.iloc[:1], peg=tr.AccruingPeg(start=1.3), sample_span=HOUR)[0].peg_reference
        )

    def test_a_lasting_loss_is_absorbed_after_about_a_hundred_days(self):
        """The documented limit: the reference falls 10 % a year."""
        prices = self.prices(0.0)
        prices.iloc[self.N // 2 :] *= 0.97

        [event] = tr.detect_depegs(prices, sample_span=HOUR)

        # ln(0.995 / 0.97) / -ln(0.9) years until the ratio is back at the recovery level, less the noise.
        assert 75 <= event.duration / timedelta(days=1) <= 100
        assert event.recovered_at is not None


@pytest.mark.fault("F054")
def test_the_switch_to_summer_time_changes_nothing():
    """Local hours from another zone are the same instants: 23 hours of a day in March are 23 hours."""
    utc = series([1.0, *[0.97] * 5, 1.0], start="2024-03-30T22:00")
    local = utc.tz_convert("Europe/Berlin")

    assert tr.detect_depegs(utc) == tr.detect_depegs(local)
    assert 4 * HOUR == tr.detect_depegs(local)[0].duration


@pytest.mark.fault("F055")
def test_a_leap_day_is_a_day():
    """28 February to 1 March of 2024 are two days apart."""
    [event] = tr.detect_depegs(series([1.0, 0.97, 0.97, 0.97, 1.0], start="2024-02-27", freq="D"))

    assert (pd.Timestamp("2024-02-28", tz="UTC"), pd.Timestamp("2024-03-01", tz="UTC")) == (event.start, event.end)
    assert timedelta(days=2) == event.duration


@pytest.mark.fault("F126")
@pytest.mark.fault("F129")
@pytest.mark.parametrize("peg", [1e-300, 1.0, tr.AccruingPeg(), tr.AccruingPeg(start=1e-300)])
@pytest.mark.parametrize("prices", [[1e-300] * 30, [1.7e308] * 30, [1e-300, 1.7e308] * 15, [1.7e308, 1e-300] * 15])
def test_prices_at_the_ends_of_the_range_of_floats(prices, peg):
    """No warning, which would be an error here, and the stream agrees."""
    index = pd.date_range("2024-01-01", periods=30, freq="h", tz="UTC")
    observed = pd.Series(prices, index=index, name="X")
    detector = tr.DepegDetector("X", peg=peg)

    found = tr.detect_depegs(observed, peg=peg)

    streamed = [event for time, price in observed.items() for event in detector.update(time, price)]
    assert found == sorted(streamed + detector.finish(), key=lambda event: event.start)


def test_the_first_day_of_the_largest_prices_has_a_median():
    """Their sum is beyond the range of floats, their median is not."""
    index = pd.date_range("2024-01-01", periods=25, freq="h", tz="UTC")
    observed = pd.Series([1.6e308, 1.7e308] * 12 + [1.0e308], index=index, name="X")

    [event] = tr.detect_depegs(observed, sample_span=HOUR, peg=tr.AccruingPeg())

    assert pytest.approx(1.0 - 1.0 / 1.65, abs=1e-4) == event.severity


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("own", ["ms", "us", "ns"])
def test_references_may_have_coarser_or_finer_stamps(unit, own):
    """A sample half a second after a reference has it; the stream agrees."""
    index = pd.date_range("2024-01-01T00:00:00.5", periods=4, freq="h", tz="UTC").as_unit(own)
    prices = pd.Series([2.0, 1.8, 1.8, 2.0], index=index, name="X")
    start = pd.DatetimeIndex(["2024-01-01T00:00:00"], tz="UTC").as_unit(unit)
    peg = pd.Series([2.0], index=start)
    detector = tr.DepegDetector("X", peg=peg)

    [event] = tr.detect_depegs(prices, peg=peg)

    assert 2.0 == event.peg_reference
    assert [event] == [found for time, price in prices.items() for found in detector.update(time, price)]


@pytest.mark.fault("F115")
@pytest.mark.parametrize(("values", "events"), [([], 0), ([0.9], 0), ([0.9, 0.9], 1), ([1.0, 0.9], 0)])
def test_few_samples_say_what_they_say(values, events):
    """None, one, two; an event of one sample without a span lasts nothing."""
    assert events == len(tr.detect_depegs(series(values)))


@pytest.mark.fault("F119")
@pytest.mark.parametrize(
    ("prices", "error", "message"),
    [
        ([1.0, 2.0], ValueError, "prices must be a pandas Series or DataFrame, found list"),
        (None, ValueError, "found NoneType"),
        (series([1.0, 2.0]).astype(complex), InvalidPriceError, "must be a number, found"),
        (pd.Series([1.0, 10**400], series([1.0, 2.0]).index, object, "USDC"), InvalidPriceError, "finite"),
    ],
)
def test_what_are_no_prices(prices, error, message):
    """Refused by name, also numbers that no float can be."""
    with pytest.raises(error, match=message):
        tr.detect_depegs(prices)


def test_events_are_found_across_the_blocks_of_a_long_history():
    """300,000 minutes: an event before the first boundary of 131,072, one across it, one after it, and a premium."""
    prices = np.ones(300_000)
    for first, last, price in [
        (100, 200, 0.9), (131_000, 131_200, 0.8), (131_300, 131_400, 1.2), (262_143, 262_143, 0.7), (299_990, 299_999, 0.6),
    ]:  # fmt: skip
        prices[first : last + 1] = price
    long = series(prices, freq="min")

    events = tr.detect_depegs(long, min_duration=timedelta(0), direction="both")

    assert [
        (100, 200, 0.9, "below"),
        (131_000, 131_200, 0.8, "below"),
        (131_300, 131_400, 1.2, "above"),
        (262_143, 262_143, 0.7, "below"),
        (299_990, 299_999, 0.6, "below"),
    ] == [(long.index.get_loc(e.start), long.index.get_loc(e.end), e.min_price, e.direction) for e in events]


@pytest.mark.parametrize("prices", [[1.0, 1.0], [0.9, 0.9]])
def test_a_table_of_events_has_times_of_utc(prices):
    """Also where there is no event, and where none has recovered."""
    table = events_to_frame(tr.detect_depegs(series(prices)))

    assert ["UTC"] * 3 == [str(table[name].dt.tz) for name in ("start", "end", "recovered_at")]
    for name in ("min_duration", "max_gap", "merge_within", "sample_span", "duration", "recovery_time"):
        assert "m" == table[name].dtype.kind
    assert ["asset", "direction"] == list(table.columns[:2])
    assert ["duration", "recovery_time", "is_open"] == list(table.columns[-3:])


def test_what_is_said_of_a_wrong_rule():
    """Every argument by its name."""
    for arguments, message in [
        ({"threshold": 0.0}, "threshold must"),
        ({"threshold": 1.1}, "threshold must"),
        ({"recovery": 0.98}, r"recovery \(at least the threshold\) must"),
        ({"recovery": 1.01}, r"recovery \(at least the threshold\) must"),
        ({"min_duration": -HOUR}, "min_duration must"),
        ({"max_gap": -HOUR}, "max_gap must"),
        ({"merge_within": -HOUR}, "merge_within must"),
        ({"sample_span": -HOUR}, "sample_span must"),
        ({"direction": "down"}, "direction must be 'below', 'above' or 'both', found 'down'"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            tr.detect_depegs(series([1.0]), **arguments)
    assert [] == tr.detect_depegs(series([1.0]), threshold=1.0, recovery=1.0)


def test_the_first_day_of_an_accruing_coin_is_no_premium_either():
    """Whatever its prices are, in both directions."""
    prices = series([1.0, 1.2, 0.8, 1.5, 1.0] * 4 + [1.0] * 20, name="sUSDe")

    assert [] == tr.detect_depegs(prices, direction="both", min_duration=timedelta(0))


def test_events_name_the_vendor_of_their_prices():
    """As the attributes of the series or frame do; otherwise nobody."""
    prices = series([1.0, 0.9, 0.9, 1.0])
    assert [None] == [event.source for event in tr.detect_depegs(prices)]

    prices.attrs["vendor"] = "somebody"

    assert ["somebody"] == [event.source for event in tr.detect_depegs(prices)]


def test_events_a_day_apart_are_merged_within_a_day():
    """And not within an hour less."""
    prices = series([0.9, 1.0, *[1.0] * 23, 1.0, 0.9, 1.0])  # recovered at 1 h, again below at 26 h
    rule = {"min_duration": timedelta(0)}

    assert 1 == len(tr.detect_depegs(prices, merge_within=timedelta(hours=25), **rule))
    assert 2 == len(tr.detect_depegs(prices, merge_within=timedelta(hours=24), **rule))
    closer = prices.drop(prices.index[5])
    assert 2 == len(tr.detect_depegs(closer, merge_within=timedelta(days=1), **rule))
    assert 1 == len(tr.detect_depegs(series([0.9, 1.0, *[1.0] * 23, 0.9]), merge_within=timedelta(days=1), **rule))


def test_nothing_observed_is_nothing_away():
    """No position, and no ratio, which has no place to go to."""
    samples = _samples("USDC", series([]).index, np.empty(0), None)

    positions, compared = _away(samples, 0.99, "below")

    assert ((0,), (0,)) == (positions.shape, compared.shape)
    assert [] == tr.detect_depegs(series([np.nan, np.nan]), direction="both")


def test_an_accruing_coin_recovers_at_its_reference_at_the_latest():
    """Half a percent above the threshold, but no higher than 1."""
    prices = series([*[1.0] * 30, 0.9, 0.9, 1.0], name="sUSDe")

    for threshold, recovery in ((0.99, 0.995), (0.999, 1.0)):
        [event] = tr.detect_depegs(prices, threshold=threshold, min_duration=timedelta(0))
        assert recovery == event.recovery
        assert prices.index[32] == event.recovered_at

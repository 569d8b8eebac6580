"""What every store does: in memory, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.windows import correlation_matrix
from tonsurance_risk.errors import InvalidPriceError, StorageError
from tonsurance_risk.model import DepegEvent, Scenario
from tonsurance_risk.ports import Store, WriteResult
from tonsurance_risk.storage import open_store

HOUR = timedelta(hours=1)
NOON = pd.Timestamp("2023-03-11 12:00", tz="UTC")
KEY = {"source": "feed", "step": "1h"}


class SetClock:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.time: datetime = datetime(2024, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def forward(self) -> None:
        self.time += HOUR


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path: Path, clock: SetClock):
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'risk.db'}"}.get(request.param)
    url = url or request.getfixturevalue("postgres_url")
    with open_store(url, clock=clock) as opened:
        yield opened


def hours(*prices: float, start: pd.Timestamp = NOON, name: str = "USDC") -> pd.Series:
    return pd.Series(prices, pd.date_range(start, periods=len(prices), freq="h"), name=name, dtype=float)


def frame(values: dict[str, list[float]], start: pd.Timestamp = NOON) -> pd.DataFrame:
    index = pd.date_range(start, periods=len(next(iter(values.values()))), freq="h")
    return pd.DataFrame(values, index=index, dtype=float)


def same(loaded: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected.set_axis(expected.index.as_unit("us"))
    pd.testing.assert_frame_equal(
        loaded, expected, check_freq=False, check_exact=True, check_index_type=False, check_column_type=False
    )


def event(asset: str = "USDC", start: pd.Timestamp = NOON, samples: int = 3, **changes) -> DepegEvent:
    fields = {
        "asset": asset,
        "direction": "below",
        "start": start,
        "end": start + (samples - 1) * HOUR,
        "recovered_at": start + samples * HOUR,
        "min_price": 0.88,
        "max_price": 0.97,
        "severity": 0.12,
        "n_observations": samples,
        "source": "feed",
        "threshold": 0.02,
        "recovery": 0.005,
        "min_duration": HOUR,
        "max_gap": 6 * HOUR,
        "merge_within": timedelta(0),
        "sample_span": HOUR,
        "peg_reference": 1.0,
    }
    return DepegEvent(**fields | changes)


def matrix(*assets: str, as_of: pd.Timestamp = NOON, window_days: int = 30, r: float = 0.5) -> CorrelationMatrix:
    n = len(assets)
    values = np.full((n, n), r)
    np.fill_diagonal(values, 1.0)
    place = np.arange(n)
    observations = 100 + np.add.outer(place, place)
    is_default = np.add.outer(place, place) == 1
    return CorrelationMatrix(assets, values, observations, is_default, window_days, as_of)


def test_bootstrap_intervals_come_back_with_their_matrix(store: Store) -> None:
    """And a change of them alone is a change; other methods are refused."""
    values = np.random.default_rng(0).standard_t(3, (60, 3))
    values[:50, 2] = np.nan
    returns = pd.DataFrame(values, columns=["USDC", "DAI", "GHO"])
    made = [
        attrs.evolve(correlation_matrix(returns, bootstrap=99, seed=seed), window_days=30, as_of=NOON)
        for seed in (1, 2)
    ]

    assert WriteResult(3, 0, 0) == store.save_correlations(made[:1], **KEY)
    assert made[0] == store.load_correlations(window_days=30, **KEY)
    assert WriteResult(0, 0, 3) == store.save_correlations(made[:1], **KEY)
    changed = store.save_correlations(made[1:], **KEY)
    assert made[1] == store.load_correlations(window_days=30, **KEY)
    assert (0, 3, 0) == (changed.new, changed.changed, changed.unchanged)
    ranks = attrs.evolve(correlation_matrix(returns, method="spearman"), window_days=30, as_of=NOON)
    with pytest.raises(ValueError, match="must be of the method 'pearson', found 'spearman'"):
        store.save_correlations([ranks], **KEY)


def test_sources_are_listed_by_step(store: Store) -> None:
    """Sorted; one that was given nothing to store has no prices."""
    assert [] == store.price_sources()
    store.save_prices(hours(1.0), source="b", step="1h")
    store.save_prices(hours(1.0, name="DAI"), source="a", step="1h")
    store.save_prices(hours(1.0), source="c", step="1d")
    store.save_prices(hours(np.nan), source="nothing", step="1h")

    assert ["a", "b"] == store.price_sources()
    assert ["c"] == store.price_sources(step="1d")


class TestLifetime:
    def test_closing_twice_is_fine_and_use_afterwards_is_an_error(self, store: Store) -> None:
        store.close()
        store.close()
        key = {"source": "feed", "step": "1h"}
        uses = [
            lambda: store.save_prices(hours(1.0), **key),
            store.load_prices,
            lambda: store.save_events([]),
            store.load_events,
            lambda: store.save_correlations([], **key),
            lambda: store.load_correlations(window_days=30, **key),
            lambda: store.save_scenarios([]),
            store.load_scenarios,
            lambda: store.save_reports([], **key),
            store.load_reports,
            lambda: store.save_snapshots(snapshots([]), **key),
            lambda: store.load_snapshots(**key),
            lambda: store.save_run_inputs({}),
            lambda: store.load_run_inputs("0"),
            store.__enter__,
        ]
        for use in uses:
            with pytest.raises(StorageError, match="closed"):
                use()


class TestPrices:
    def test_an_empty_store_gives_an_empty_frame(self, store: Store) -> None:
        loaded = store.load_prices()
        assert loaded.shape == (0, 0)
        assert str(loaded.index.tz) == "UTC"
        assert store.load_prices(["USDC", "DAI"]).columns.tolist() == ["USDC", "DAI"]
        assert store.load_prices(["USDC"]).dtypes.tolist() == [np.float64]

    @pytest.mark.fault("F079")
    def test_again_is_safe(self, store: Store) -> None:
        prices = frame({"USDC": [1.0, 0.9, np.nan], "DAI": [np.nan, 0.95, 1.01]})
        assert store.save_prices(prices, **KEY) == WriteResult(4, 0, 0)
        first = store.load_prices()
        assert store.save_prices(prices, **KEY) == WriteResult(0, 0, 4)
        same(store.load_prices(), first)
        same(first, prices[["DAI", "USDC"]])

    def test_counts_new_changed_and_unchanged(self, store: Store) -> None:
        store.save_prices(hours(1.0, 0.9, 0.8), **KEY)
        assert store.save_prices(hours(1.0, 0.91, 0.81, 1.0), **KEY) == WriteResult(1, 2, 1)
        same(store.load_prices(), hours(1.0, 0.91, 0.81, 1.0).to_frame())

    def test_nan_neither_stores_nor_deletes(self, store: Store) -> None:
        store.save_prices(hours(1.0, 0.9), **KEY)
        assert store.save_prices(hours(np.nan, 0.9), **KEY) == WriteResult(0, 0, 1)
        same(store.load_prices(), hours(1.0, 0.9).to_frame())
        assert store.save_prices(hours(np.nan, name="DAI"), **KEY) == WriteResult(0, 0, 0)
        assert store.load_prices().columns.tolist() == ["USDC"]

    def test_prices_come_back_bit_for_bit(self, store: Store) -> None:
        odd = hours(0.1 + 0.2, 5e-324, np.finfo(float).max, 1 / 3, np.nextafter(1.0, 2.0))
        store.save_prices(odd, **KEY)
        same(store.load_prices(), odd.to_frame())

    def test_a_frame_without_prices(self, store: Store) -> None:
        assert store.save_prices(hours(), **KEY) == WriteResult(0, 0, 0)

    def test_intervals_are_half_open(self, store: Store) -> None:
        prices = hours(1.0, 0.9, 0.8, 0.7)
        store.save_prices(prices, **KEY)
        same(store.load_prices(start=NOON + HOUR, end=NOON + 3 * HOUR), prices.iloc[1:3].to_frame())
        same(store.load_prices(end=NOON + HOUR), prices.iloc[:1].to_frame())
        assert store.load_prices(start=NOON + 4 * HOUR).empty
        nano = pd.Timedelta(1, "ns")
        late = NOON.as_unit("ns") + nano
        same(store.load_prices(start=late), prices.iloc[1:].to_frame())
        same(store.load_prices(end=late), prices.iloc[:1].to_frame())

    def test_columns_come_in_the_order_asked_for(self, store: Store) -> None:
        store.save_prices(frame({"USDC": [1.0], "DAI": [0.9], "ZZZ": [1.1]}), **KEY)
        loaded = store.load_prices(["ZZZ", "FRAX", "usdc"])
        assert loaded.columns.tolist() == ["ZZZ", "FRAX", "USDC"]
        assert np.isnan(loaded.loc[NOON, "FRAX"])
        assert loaded.loc[NOON, ["ZZZ", "USDC"]].tolist() == [1.1, 1.0]
        assert store.load_prices().columns.tolist() == ["DAI", "USDC", "ZZZ"]
        assert store.load_prices([]).shape == (0, 0)

    def test_only_what_the_selection_holds_is_a_column(self, store: Store) -> None:
        store.save_prices(hours(1.0), **KEY)
        store.save_prices(hours(1.0, start=NOON + HOUR, name="DAI"), **KEY)
        assert store.load_prices(start=NOON + HOUR).columns.tolist() == ["DAI"]

    def test_steps_do_not_mix(self, store: Store) -> None:
        assert store.save_prices(hours(1.0, 0.9), source="feed", step="1h") == WriteResult(2, 0, 0)
        assert store.save_prices(hours(0.5), source="feed", step="1d") == WriteResult(1, 0, 0)
        assert store.save_prices(hours(0.5), source="feed", step="1d") == WriteResult(0, 0, 1)
        same(store.load_prices(), hours(1.0, 0.9).to_frame())
        same(store.load_prices(step="1d"), hours(0.5).to_frame())
        assert store.load_prices(step="5m").empty

    def test_several_sources(self, store: Store) -> None:
        assert store.save_prices(hours(1.0), source="b", step="1h") == WriteResult(1, 0, 0)
        assert store.save_prices(hours(0.9), source="a", step="1h") == WriteResult(1, 0, 0)
        store.save_prices(hours(0.8, name="DAI"), source="a", step="1h")
        with pytest.raises(ValueError, match="'a', 'b'"):
            store.load_prices()
        same(store.load_prices(["DAI"]), hours(0.8, name="DAI").to_frame())
        same(store.load_prices(["USDC"], source="b"), hours(1.0).to_frame())
        assert store.load_prices(source="c").empty

    def test_several_sources_of_different_coins_are_named_as_well(self, store: Store) -> None:
        store.save_prices(hours(1.0), source="b", step="1h")
        store.save_prices(hours(0.9, name="DAI"), source="a", step="1h")
        with pytest.raises(ValueError, match="source"):
            store.load_prices()

    @pytest.mark.fault("F088")
    def test_naive_times_are_refused(self, store: Store) -> None:
        naive = datetime(2024, 1, 1)  # noqa: DTZ001
        with pytest.raises(InvalidPriceError, match="naive"):
            store.save_prices(hours(1.0).tz_localize(None), **KEY)
        for name in ("start", "end", "known_at"):
            with pytest.raises(InvalidPriceError, match=f"{name}.*naive"):
                store.load_prices(**{name: naive})
        for load in (store.load_events, store.load_reports):
            with pytest.raises(InvalidPriceError, match=r"start.*naive"):
                load(start=naive)
        with pytest.raises(InvalidPriceError, match=r"end.*naive"):
            store.load_snapshots(end=naive, **KEY)
        with pytest.raises(InvalidPriceError, match=r"as_of.*naive"):
            store.load_correlations(window_days=30, as_of=naive, **KEY)
        assert store.load_prices().empty

    @pytest.mark.fault("F089")
    def test_another_zone_is_the_same_instant(self, store: Store) -> None:
        prices = hours(1.0, 0.9)
        assert store.save_prices(prices.tz_convert("Asia/Kathmandu"), **KEY) == WriteResult(2, 0, 0)
        assert store.save_prices(prices, **KEY) == WriteResult(0, 0, 2)
        loaded = store.load_prices(start=(NOON + HOUR).astimezone(timezone(timedelta(hours=-5))))
        same(loaded, prices.iloc[1:].to_frame())
        assert str(loaded.index.tz) == "UTC"

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_every_unit_of_an_index_is_the_same_instant(self, store: Store, unit: str) -> None:
        prices = hours(1.0, 0.9)
        prices.index = prices.index.as_unit(unit)
        store.save_prices(prices, **KEY)
        assert store.save_prices(hours(1.0, 0.9), **KEY) == WriteResult(0, 0, 2)

    def test_times_before_1970_and_finer_than_a_second(self, store: Store) -> None:
        index = pd.DatetimeIndex(["1969-12-31 23:59:59.999999", "2038-01-19 03:14:08.000001"], tz="UTC")
        prices = pd.Series([1.0, 2.0], index, name="USDC")
        store.save_prices(prices, **KEY)
        same(store.load_prices(), prices.to_frame())

    def test_times_finer_than_a_microsecond_are_refused(self, store: Store) -> None:
        index = pd.DatetimeIndex(["2024-01-01 00:00:00.000000001"], tz="UTC")
        with pytest.raises(InvalidPriceError, match="microsecond"):
            store.save_prices(pd.Series([1.0], index, name="USDC"), **KEY)

    @pytest.mark.parametrize("wrong", [0.0, -1.0, np.inf])
    def test_an_impossible_price_stores_nothing(self, store: Store, wrong: float) -> None:
        with pytest.raises(InvalidPriceError):
            store.save_prices(frame({"DAI": [1.0, 1.0], "USDC": [1.0, wrong]}), **KEY)
        assert store.load_prices().empty

    def test_doubled_and_unordered_times_are_refused(self, store: Store) -> None:
        for order in ([0, 1, 1], [1, 0, 2]):
            with pytest.raises(InvalidPriceError):
                store.save_prices(hours(1.0, 0.9, 0.8).iloc[order], **KEY)
        assert store.load_prices().empty

    @pytest.mark.parametrize("wrong", ["", "  ", None, 3, "a\0b", "\ud800"])
    def test_source_and_step_are_names(self, store: Store, wrong: object) -> None:
        for name in ("source", "step"):
            with pytest.raises(ValueError, match=name):
                store.save_prices(hours(1.0), **KEY | {name: wrong})
        if wrong in ("", "  ", 3):
            with pytest.raises(ValueError, match="source"):
                store.load_prices(source=wrong)

    def test_assets_are_several_different_symbols(self, store: Store) -> None:
        with pytest.raises(ValueError, match="assets"):
            store.load_prices("USDC")
        with pytest.raises(ValueError, match="twice"):
            store.load_prices(["USDC", "usdc"])
        with pytest.raises(ValueError, match="assets"):
            store.load_prices([3])

    @pytest.mark.parametrize("symbol", ["a'; DROP TABLE price_history; --", 'q"q', "Ω£🙂", "%(x)s ? :x", " "])
    def test_any_symbol_is_only_a_name(self, store: Store, symbol: str) -> None:
        if not symbol.strip():
            with pytest.raises(ValueError, match="non-empty"):
                store.save_prices(hours(1.0, name=symbol), **KEY)
            return
        prices = hours(1.0, name=symbol)
        store.save_prices(prices, source=symbol, step=symbol)
        same(store.load_prices([symbol], source=symbol, step=symbol), prices.to_frame())
        same(store.load_prices(step=symbol), prices.to_frame())

    def test_symbols_are_ordered_by_code_point(self, store: Store) -> None:
        symbols = ["b", "B", "ä", "a", "Z", "\U0001f642", "\uffee"]
        store.save_prices(frame({symbol: [1.0] for symbol in symbols}), **KEY)
        assert store.load_prices().columns.tolist() == sorted(symbols)


class TestRevisions:
    def test_known_at_gives_what_the_store_held(self, store: Store, clock: SetClock) -> None:
        first = clock.time
        store.save_prices(hours(1.0, 0.9), **KEY)
        clock.time = second = first + HOUR
        store.save_prices(hours(1.0, 0.95, 0.8), **KEY)
        clock.time = third = second + HOUR
        store.save_prices(hours(1.0, 0.99), **KEY)
        tick = timedelta(microseconds=1)
        assert store.load_prices(known_at=first - tick).empty
        for known_at in (first, second - tick):
            same(store.load_prices(known_at=known_at), hours(1.0, 0.9).to_frame())
        for known_at in (second, third - tick):
            same(store.load_prices(known_at=known_at), hours(1.0, 0.95, 0.8).to_frame())
        same(store.load_prices(known_at=third), hours(1.0, 0.99, 0.8).to_frame())
        same(store.load_prices(), hours(1.0, 0.99, 0.8).to_frame())

    def test_known_at_with_a_selection(self, store: Store, clock: SetClock) -> None:
        known_at = clock.time
        store.save_prices(frame({"USDC": [1.0, 0.9], "DAI": [1.0, 1.0]}), **KEY)
        clock.forward()
        store.save_prices(frame({"USDC": [2.0, 2.0], "DAI": [2.0, 2.0]}), **KEY)
        store.save_prices(hours(3.0), source="late", step="1h")
        loaded = store.load_prices(["USDC"], start=NOON + HOUR, known_at=known_at)
        same(loaded, hours(0.9, start=NOON + HOUR).to_frame())

    def test_an_unchanged_price_keeps_its_instant(self, store: Store, clock: SetClock) -> None:
        known_at = clock.time
        store.save_prices(hours(1.0), **KEY)
        clock.forward()
        store.save_prices(hours(1.0), **KEY)
        same(store.load_prices(known_at=known_at), hours(1.0).to_frame())

    def test_two_changes_at_one_instant(self, store: Store, clock: SetClock) -> None:
        for price in (1.0, 0.9, 0.8):
            assert store.save_prices(hours(price), **KEY).unchanged == 0
        same(store.load_prices(known_at=clock.time), hours(0.8).to_frame())

    def test_back_to_an_old_price(self, store: Store, clock: SetClock) -> None:
        known = {}
        for price in (1.0, 0.9, 1.0):
            store.save_prices(hours(price), **KEY)
            known[clock.time] = price
            clock.forward()
        for known_at, price in known.items():
            same(store.load_prices(known_at=known_at), hours(price).to_frame())

    def test_a_clock_set_back_never_makes_two_prices_known_at_once(self, store: Store, clock: SetClock) -> None:
        start = clock.time
        for offset, price in ((1, 1.0), (5, 0.9), (3, 0.8)):
            clock.time = start + offset * HOUR
            store.save_prices(hours(price), **KEY)
        for known_at, price in ((1, 1.0), (4, 1.0), (5, 0.8), (9, 0.8)):
            same(store.load_prices(known_at=start + known_at * HOUR), hours(price).to_frame())


times = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()).map(  # noqa: DTZ001
    lambda time: pd.Timestamp(time.astimezone(UTC))
)
spans = st.timedeltas(timedelta(0), timedelta(days=4000))
numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
own_names = names.map(lambda name: f"x{name}")


@st.composite
def events(draw: st.DrawFn) -> DepegEvent:
    start = draw(times)
    end = start + draw(spans)
    return DepegEvent(
        asset=draw(own_names),
        direction=draw(st.sampled_from(["below", "above"])),
        start=start,
        end=end,
        recovered_at=draw(st.none() | spans.map(lambda span: end + span)),
        min_price=draw(numbers),
        max_price=draw(numbers),
        severity=draw(numbers),
        n_observations=draw(st.integers(0, 2**63 - 1)),
        cut_by_gap=draw(st.booleans()),
        source=draw(st.none() | names),
        confirmed=draw(st.none() | st.booleans()),
        local_to=draw(st.none() | names),
        threshold=draw(numbers),
        recovery=draw(numbers),
        min_duration=draw(spans),
        max_gap=draw(st.none() | spans),
        merge_within=draw(spans),
        sample_span=draw(spans),
        peg_reference=draw(numbers),
    )


class TestEvents:
    @given(event=events())
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_an_event_comes_back_equal(self, store: Store, event: DepegEvent) -> None:
        store.save_events([event])
        found = store.load_events([event.asset])
        assert event in found
        assert [type(one.start) for one in found if one == event] == [pd.Timestamp]
        assert store.save_events([event]) == WriteResult(0, 0, 1)

    def test_order_and_interval(self, store: Store) -> None:
        saved = [event("USDC", NOON + 10 * HOUR), event("DAI", NOON + 5 * HOUR), event("USDC", NOON)]
        assert store.save_events(saved) == WriteResult(3, 0, 0)
        assert store.load_events() == [saved[1], saved[2], saved[0]]
        assert store.load_events(["usdc"]) == [saved[2], saved[0]]
        assert store.load_events(start=NOON, end=NOON + 10 * HOUR) == [saved[1], saved[2]]
        assert store.load_events([]) == []

    def test_no_source_stays_none(self, store: Store) -> None:
        without = event(source=None)
        assert store.save_events([without, event()]) == WriteResult(2, 0, 0)
        assert store.save_events([without]) == WriteResult(0, 0, 1)
        assert [one.source for one in store.load_events()] == [None, "feed"]
        assert store.load_events(source="feed") == [event()]
        assert store.load_events(source="other") == []

    def test_an_open_event_is_replaced_once_it_has_recovered(self, store: Store) -> None:
        store.save_events([event(recovered_at=None)])
        assert store.save_events([event(samples=5)]) == WriteResult(0, 1, 0)
        assert store.load_events() == [event(samples=5)]

    def test_an_event_replaces_those_it_overlaps(self, store: Store) -> None:
        apart = event(start=NOON + 30 * HOUR)
        store.save_events([event(samples=3), event(start=NOON + 6 * HOUR), apart])
        longer = event(start=NOON - HOUR, samples=8)
        assert store.save_events([longer]) == WriteResult(0, 2, 0)
        assert store.load_events() == [longer, apart]

    def test_a_shared_sample_is_an_overlap_and_the_next_one_is_not(self, store: Store) -> None:
        store.save_events([event(samples=3)])
        following = event(start=NOON + 3 * HOUR)
        assert store.save_events([following]) == WriteResult(1, 0, 0)
        sharing = event(start=NOON + 2 * HOUR, samples=1)
        assert store.save_events([sharing]) == WriteResult(0, 1, 0)
        assert store.load_events() == [sharing, following]

    @pytest.mark.parametrize(
        "other",
        [
            {"asset": "DAI"},
            {"direction": "above"},
            {"source": "other"},
            {"source": None},
            {"threshold": 0.03},
            {"recovery": 0.01},
            {"min_duration": 2 * HOUR},
            {"max_gap": None},
            {"merge_within": HOUR},
            {"sample_span": timedelta(days=1)},
        ],
    )
    def test_another_key_is_another_event(self, store: Store, other: dict) -> None:
        assert store.save_events([event()]) == WriteResult(1, 0, 0)
        assert store.save_events([event(**other)]) == WriteResult(1, 0, 0)
        assert sorted(map(repr, store.load_events())) == sorted(map(repr, [event(), event(**other)]))

    def test_another_value_at_the_same_key_is_a_change(self, store: Store) -> None:
        store.save_events([event()])
        assert store.save_events([event(confirmed=True, local_to="x")]) == WriteResult(0, 1, 0)
        assert store.load_events() == [event(confirmed=True, local_to="x")]

    @pytest.mark.fault("F079")
    def test_one_after_another_within_a_batch(self, store: Store) -> None:
        both = [event(), event(start=NOON + HOUR)]
        assert store.save_events(both) == WriteResult(1, 1, 0)
        assert store.load_events() == [both[1]]
        assert store.save_events(both) == WriteResult(0, 2, 0)
        assert store.load_events() == [both[1]]

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"start": datetime(2024, 1, 1)}, "start.*naive"),  # noqa: DTZ001
            ({"end": NOON - HOUR}, "before the start"),
            ({"min_price": float("nan")}, "min_price"),
            ({"severity": "0.1"}, "severity"),
            ({"n_observations": 2**63}, "n_observations"),
            ({"max_gap": timedelta.max}, "max_gap"),
            ({"min_duration": timedelta(-1)}, "min_duration"),
            ({"min_duration": pd.Timedelta(1, "ns")}, "min_duration"),
            ({"direction": "left"}, "direction"),
            ({"source": ""}, "source"),
            ({"asset": "usdc"}, "USDC"),
            ({"cut_by_gap": None}, "cut_by_gap"),
            ({"confirmed": "yes"}, "confirmed"),
        ],
    )
    def test_what_cannot_be_stored_is_named_and_stores_nothing(
        self, store: Store, wrong: dict, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            store.save_events([event("DAI"), event(**wrong)])
        assert store.load_events() == []

    def test_numbers_of_numpy(self, store: Store) -> None:
        given = event(severity=np.float32(0.5), n_observations=np.int64(3), confirmed=np.bool_(True))
        store.save_events([given])
        assert store.load_events() == [given]


class TestCorrelations:
    def test_comes_back_equal_in_its_order(self, store: Store) -> None:
        saved = matrix("USDC", "DAI", "BTC", "aaa")
        assert store.save_correlations([saved], **KEY) == WriteResult(6, 0, 0)
        loaded = store.load_correlations(window_days=30, **KEY)
        assert loaded == saved
        assert loaded.observations.diagonal().tolist() == [100, 102, 104, 106]
        assert store.save_correlations([saved], **KEY) == WriteResult(0, 0, 6)
        assert store.load_correlations(window_days=30, **KEY) == saved

    def test_an_estimate_comes_back_bit_for_bit(self, store: Store) -> None:
        returns = pd.DataFrame(np.random.default_rng(5).normal(size=(200, 6)), columns=list("FEDCBA"))
        returns.iloc[:150, 2] = np.nan
        estimate = correlation_matrix(returns, min_observations=60)
        saved = attrs.evolve(estimate, window_days=90, as_of=NOON)
        store.save_correlations([saved], **KEY)
        assert store.load_correlations(window_days=90, **KEY) == saved

    def test_one_asset_has_no_pairs(self, store: Store) -> None:
        saved = matrix("USDC")
        assert store.save_correlations([saved], **KEY) == WriteResult(0, 0, 0)
        assert store.load_correlations(window_days=30, **KEY) == saved

    def test_the_newest_at_or_before(self, store: Store) -> None:
        old, new = matrix("A", "B", r=0.1), matrix("A", "B", r=0.2, as_of=NOON + HOUR)
        store.save_correlations([new, old], **KEY)
        assert store.load_correlations(window_days=30, **KEY) == new
        assert store.load_correlations(window_days=30, as_of=NOON + HOUR, **KEY) == new
        earlier = NOON + HOUR - timedelta(microseconds=1)
        assert store.load_correlations(window_days=30, as_of=earlier, **KEY) == old
        assert store.load_correlations(window_days=30, as_of=NOON - HOUR, **KEY) is None

    def test_keys_do_not_mix(self, store: Store) -> None:
        store.save_correlations([matrix("A", "B"), matrix("A", "B", window_days=90)], **KEY)
        assert store.load_correlations(window_days=7, **KEY) is None
        assert store.load_correlations(window_days=30, source="other", step="1h") is None
        assert store.load_correlations(window_days=30, source="feed", step="1d") is None
        assert store.load_correlations(window_days=90, **KEY).window_days == 90

    def test_again_replaces_the_whole_matrix(self, store: Store) -> None:
        store.save_correlations([matrix("A", "B", "C")], **KEY)
        other = matrix("A", "B", "D")
        assert store.save_correlations([other], **KEY) == WriteResult(2, 0, 1)
        assert store.load_correlations(window_days=30, **KEY) == other
        assert store.save_correlations([matrix("A", "B", "D", r=0.6)], **KEY) == WriteResult(0, 3, 0)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"as_of": None}, "as_of"),
            ({"window_days": None}, "window_days"),
            ({"window_days": 0}, "window_days"),
            ({"observations": np.array([[1, 2], [3, 4]])}, "observations.*symmetric"),
            ({"is_default": np.eye(2, dtype=bool)}, "diagonal"),
            ({"as_of": pd.Timestamp("2024-01-01T00:00:00.000000001Z")}, "microsecond"),
        ],
    )
    def test_what_cannot_be_stored_is_named_and_stores_nothing(
        self, store: Store, wrong: dict, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            store.save_correlations([matrix("A", "B"), attrs.evolve(matrix("A", "B"), **wrong)], **KEY)
        with pytest.raises(ValueError, match="assets"):
            store.save_correlations([matrix()], **KEY)
        assert store.load_correlations(window_days=30, **KEY) is None


class TestScenarios:
    def test_come_back_equal_in_the_order_of_the_first_save(self, store: Store) -> None:
        saved = [
            Scenario("z", 0.2, prices={"USDC": 0.9, "DAI": 0.95}, btc_change=-0.3, source="paper", weight=2),
            Scenario("a'; --", 1 / 3, kind="historical", is_active=False, correlation_shift=-0.5),
            Scenario("m", 0.0, severity_multiplier=1.5, volatility_multiplier=3, liquidity_impact=0.1),
        ]
        assert store.save_scenarios(saved) == WriteResult(3, 0, 0)
        assert store.load_scenarios() == saved
        assert list(store.load_scenarios()[0].prices) == ["USDC", "DAI"]
        assert store.save_scenarios(saved[::-1]) == WriteResult(0, 0, 3)
        assert store.load_scenarios() == saved

    def test_one_of_the_same_name_is_replaced_in_its_place(self, store: Store) -> None:
        store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.2)])
        changed = Scenario("a", 0.3, prices={"USDC": 0.5})
        assert store.save_scenarios([changed, Scenario("c", 0.4)]) == WriteResult(1, 1, 0)
        assert store.load_scenarios() == [changed, Scenario("b", 0.2), Scenario("c", 0.4)]

    @pytest.mark.fault("F079")
    def test_a_doubled_name_in_a_batch_is_saved_one_after_another(self, store: Store) -> None:
        result = store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.1), Scenario("a", 0.2)])
        assert result == WriteResult(2, 1, 0)
        assert store.load_scenarios() == [Scenario("a", 0.2), Scenario("b", 0.1)]

    def test_min_probability(self, store: Store) -> None:
        store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.2)])
        assert [one.name for one in store.load_scenarios(min_probability=0.2)] == ["b"]
        for wrong in (-0.1, 1.1, "0.1"):
            with pytest.raises(ValueError, match="min_probability"):
                store.load_scenarios(min_probability=wrong)

    def test_something_else_is_refused_and_stores_nothing(self, store: Store) -> None:
        with pytest.raises(ValueError, match="Scenario"):
            store.save_scenarios([Scenario("a", 0.1), "b"])
        assert store.load_scenarios() == []


class TestReports:
    def test_come_back_equal_oldest_first(self, store: Store) -> None:
        late = {"as_of": "2024-01-02T00:00:00Z", "nested": {"b": [1, 2.5, None, True]}, "name": "Ω£🙂"}
        early = {"as_of": "2024-01-01T00:00:00+00:00", "x": 0.1 + 0.2, "huge": 2**70}
        assert store.save_reports([late, early], **KEY) == WriteResult(2, 0, 0)
        assert store.load_reports() == [early, late]
        assert store.save_reports([early, late], **KEY) == WriteResult(0, 0, 2)

    def test_the_same_instant_is_the_same_report(self, store: Store) -> None:
        store.save_reports([{"as_of": "2024-01-01T00:00:00Z"}], **KEY)
        again = {"as_of": "2024-01-01T01:00:00+01:00"}
        assert store.save_reports([again], **KEY) == WriteResult(0, 1, 0)
        assert store.load_reports() == [again]

    def test_selection(self, store: Store) -> None:
        document = {"as_of": "2024-01-01T00:00:00Z"}
        for source, step in (("a", "1h"), ("a", "1d"), ("b", "1h")):
            store.save_reports([document | {"key": source + step}], source=source, step=step)
        first = pd.Timestamp("2024-01-01", tz="UTC")
        assert [one["key"] for one in store.load_reports()] == ["a1d", "a1h", "b1h"]
        assert [one["key"] for one in store.load_reports(source="a")] == ["a1d", "a1h"]
        assert [one["key"] for one in store.load_reports(step="1h")] == ["a1h", "b1h"]
        assert len(store.load_reports(first, first + HOUR)) == 3
        assert store.load_reports(first - HOUR, first) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"as_of": None},
            {"as_of": 5},
            {"as_of": "yesterday"},
            {"as_of": "2024-01-01T00:00:00"},
            {"as_of": "2024-01-02T00:00:00Z", "x": float("nan")},
            {"as_of": "2024-01-02T00:00:00Z", "x": [float("inf")]},
            {"as_of": "2024-01-02T00:00:00Z", "x": NOON},
            {"as_of": "2024-01-02T00:00:00Z", "x": [{1: 2}]},
            {"as_of": "2024-01-02T00:00:00Z", 1: 2},
            "text",
        ],
    )
    def test_what_is_not_json_is_refused_and_stores_nothing(self, store: Store, wrong: object) -> None:
        with pytest.raises(ValueError, match="report"):
            store.save_reports([{"as_of": "2024-01-01T00:00:00Z"}, wrong], **KEY)
        assert store.load_reports() == []

    def test_a_document_changed_later_does_not_change_the_store(self, store: Store) -> None:
        document = {"as_of": "2024-01-01T00:00:00Z", "list": [1]}
        store.save_reports([document], **KEY)
        document["list"].append(2)
        store.load_reports()[0]["list"].append(3)
        assert store.load_reports()[0]["list"] == [1]


def snapshots(values: list[float], start: pd.Timestamp = NOON) -> pd.DataFrame:
    index = pd.date_range(start, periods=len(values), freq="D")
    return pd.DataFrame(
        {"var_95": values, "capital": [100.0] * len(values), "coverage": [50.0] * len(values)},
        index=index,
        dtype=float,
    )


class TestSnapshots:
    def test_come_back_equal(self, store: Store) -> None:
        saved = snapshots([1.0, 0.1 + 0.2, -3.0])
        assert store.save_snapshots(saved, **KEY) == WriteResult(3, 0, 0)
        assert store.save_snapshots(saved, **KEY) == WriteResult(0, 0, 3)
        same(store.load_snapshots(**KEY), saved)
        same(store.load_snapshots(NOON, NOON + 24 * HOUR, **KEY), saved.iloc[:1])
        assert store.save_snapshots(store.load_snapshots(**KEY), **KEY) == WriteResult(0, 0, 3)

    def test_counts_and_order(self, store: Store) -> None:
        store.save_snapshots(snapshots([2.0], NOON + 24 * HOUR), **KEY)
        columns = ["coverage", "var_95", "capital"]
        assert store.save_snapshots(snapshots([1.0, 3.0])[columns], **KEY) == WriteResult(1, 1, 0)
        same(store.load_snapshots(**KEY), snapshots([1.0, 3.0]))

    def test_keys_do_not_mix(self, store: Store) -> None:
        store.save_snapshots(snapshots([1.0]), **KEY)
        empty = store.load_snapshots(source="other", step="1h")
        same(empty, snapshots([]))
        assert store.load_snapshots(source="feed", step="1d").empty

    @pytest.mark.fault("F089")
    def test_another_zone_is_the_same_instant(self, store: Store) -> None:
        store.save_snapshots(snapshots([1.0]).tz_convert("Asia/Tokyo"), **KEY)
        assert store.save_snapshots(snapshots([1.0]), **KEY) == WriteResult(0, 0, 1)

    def test_what_cannot_be_stored_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="var_95"):
            store.save_snapshots(snapshots([1.0, np.nan]), **KEY)
        with pytest.raises(ValueError, match="coverage"):
            store.save_snapshots(snapshots([1.0]).assign(coverage="x"), **KEY)
        for wrong in (snapshots([1.0]).drop(columns="capital"), snapshots([1.0]).assign(more=1.0), None):
            with pytest.raises(ValueError, match="columns"):
                store.save_snapshots(wrong, **KEY)
        with pytest.raises(InvalidPriceError, match="naive"):
            store.save_snapshots(snapshots([1.0]).tz_localize(None), **KEY)
        assert store.load_snapshots(**KEY).empty


class TestRunInputs:
    def test_are_kept_once_under_their_hash(self, store: Store) -> None:
        document = {"seed": 7, "assets": ["USDC", "Ω"], "nested": {"b": 1.5, "a": None}}
        written = json.dumps(document, sort_keys=True, separators=(",", ":"))
        expected = hashlib.sha256(written.encode()).hexdigest()
        assert store.save_run_inputs(document) == expected
        assert store.save_run_inputs(dict(reversed(document.items()))) == expected
        assert store.load_run_inputs(expected) == document

    def test_an_unknown_hash_is_a_lookup_error(self, store: Store) -> None:
        with pytest.raises(LookupError, match="abc"):
            store.load_run_inputs("abc")

    @pytest.mark.parametrize("wrong", [{"x": float("nan")}, {"x": object()}, [1], {1: 2}])
    def test_what_is_not_json_is_refused(self, store: Store, wrong: object) -> None:
        with pytest.raises(ValueError, match="inputs"):
            store.save_run_inputs(wrong)

    def test_a_document_that_contains_itself(self, store: Store) -> None:
        document: dict = {}
        document["self"] = document
        with pytest.raises(ValueError, match="Circular"):
            store.save_run_inputs(document)

"""What every store does with prices."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.ports import Store, WriteResult
from tonsurance_risk.testing.examples import HOUR, KEY, NOON, SetClock, frame, hours, same


class PriceContract:
    def test_an_empty_store_gives_an_empty_frame(self, store: Store) -> None:
        loaded = store.load_prices()
        assert loaded.shape == (0, 0)
        assert str(loaded.index.tz) == "UTC"
        assert store.load_prices(["USDC", "DAI"]).columns.tolist() == ["USDC", "DAI"]
        assert store.load_prices(["USDC"]).dtypes.tolist() == [np.float64]

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

    def test_sources_are_listed_by_step(self, store: Store) -> None:
        """Sorted; one that was given nothing to store has no prices."""
        assert store.price_sources() == []
        store.save_prices(hours(1.0), source="b", step="1h")
        store.save_prices(hours(1.0, name="DAI"), source="a", step="1h")
        store.save_prices(hours(1.0), source="c", step="1d")
        store.save_prices(hours(np.nan), source="nothing", step="1h")

        assert store.price_sources() == ["a", "b"]
        assert store.price_sources(step="1d") == ["c"]


class RevisionContract:
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


class MarkContract:
    def test_marks_come_back(self, store: Store) -> None:
        """Only what is said of a stored price; again is unchanged."""
        store.save_prices(frame({"USDC": [1.0, 0.9, 0.8], "DAI": [1.0, 1.0, np.nan]}), **KEY)
        quality = frame({"USDC": [1.0, 0.5, np.nan], "DAI": [np.nan, 0.0, 0.3]})
        assert store.save_marks("quality", quality, **KEY) == WriteResult(3, 0, 0, rejected=1)
        assert store.save_marks("quality", quality, **KEY) == WriteResult(0, 0, 3, rejected=1)
        same(store.load_marks("quality"), quality.mask(quality == 0.3)[["DAI", "USDC"]].iloc[:2])
        same(store.load_marks("quality", ["USDC"], start=NOON + HOUR), quality[["USDC"]].iloc[1:2])
        assert store.load_marks("volume").empty
        assert store.save_marks("quality", quality + 0.0, source="other", step="1h").rejected == 4

    def test_a_price_that_changes_loses_its_marks(self, store: Store) -> None:
        store.save_prices(hours(1.0, 0.9), **KEY)
        for name in ("quality", "outlier"):
            store.save_marks(name, hours(0.0, 1.0).to_frame(), **KEY)
        store.save_prices(hours(1.0, 0.95), **KEY)
        for name in ("quality", "outlier"):
            same(store.load_marks(name), hours(0.0).to_frame())

    @pytest.mark.parametrize(
        ("name", "wrong"), [("quality", 1.1), ("quality", -0.1), ("outlier", 0.5), ("volume", np.inf)]
    )
    def test_marks_out_of_range_store_nothing(self, store: Store, name: str, wrong: float) -> None:
        store.save_prices(hours(1.0, 0.9), **KEY)
        with pytest.raises(ValueError, match=name):
            store.save_marks(name, hours(1.0, wrong).to_frame(), **KEY)
        for text in (["0.5", None], [True, False], ["a", 1.0]):
            with pytest.raises(ValueError, match=f"'{name}' must be numbers, USDC has the type"):
                store.save_marks(name, hours(1.0, 1.0).to_frame().assign(USDC=text), **KEY)
        assert store.load_marks(name).empty
        with pytest.raises(ValueError, match="a mark is one of"):
            store.save_marks("price", hours(1.0).to_frame(), **KEY)

    def test_volatility_within_the_hour_of_fine_prices(self, store: Store) -> None:
        """Of all samples of the hour, however many writes they came in; none for hourly prices."""
        index = pd.date_range(NOON, periods=24, freq="5min")
        prices = pd.Series(np.exp(np.random.default_rng(0).normal(0, 0.01, 24)), index, name="USDC")
        for part in (prices.iloc[:5], prices.iloc[20:], prices.iloc[5:20]):
            store.save_prices(part, source="feed", step="5m")
        expected = [np.std(np.diff(np.log(prices.iloc[h : h + 12])), ddof=1) for h in (0, 12)]
        found = store.load_marks("volatility_1h", step="5m")["USDC"].to_numpy()
        np.testing.assert_allclose(found, np.repeat(expected, 12), rtol=1e-9)
        store.save_prices(hours(1.0, 0.9, 0.8), **KEY)
        assert store.load_marks("volatility_1h").empty


class RejectContract:
    def test_rejects_come_back_once(self, store: Store) -> None:
        rejects = pd.DataFrame(
            {
                "asset": ["USDC", "DAI", "USDC"],
                "time": [NOON + HOUR, NOON, NOON + HOUR],
                "reason": ["range", "finite", "spike"],
                "raw": ["99.98", "inf", ""],
                "detail": ["x" * 501, "'; DROP TABLE rejects; --", "Ω"],
            }
        )
        assert store.save_rejects(rejects, **KEY) == WriteResult(3, 0, 0)
        assert store.save_rejects(rejects, **KEY) == WriteResult(0, 0, 3)
        loaded = store.load_rejects(**KEY)
        assert loaded["asset"].tolist() == ["DAI", "USDC", "USDC"]
        assert loaded["time"].tolist() == [NOON, NOON + HOUR, NOON + HOUR]
        assert loaded["detail"].str.len().tolist() == [25, 500, 1]
        assert store.load_rejects(NOON, NOON + HOUR, **KEY)["raw"].tolist() == ["inf"]
        assert store.load_rejects(source="other", step="1h").empty
        changed = store.save_rejects(rejects.iloc[1:2].assign(raw="nan"), **KEY)
        assert changed == WriteResult(0, 1, 0)

    def test_rejects_that_cannot_be_stored(self, store: Store) -> None:
        row = {"asset": "USDC", "time": NOON, "reason": "range", "raw": "", "detail": ""}
        for wrong in ({"time": NOON.tz_localize(None)}, {"asset": ""}, {"reason": None}, {"raw": 3}):
            with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
                store.save_rejects(pd.DataFrame([row | wrong]), **KEY)
        with pytest.raises(ValueError, match="columns"):
            store.save_rejects(pd.DataFrame([{"asset": "USDC"}]), **KEY)
        assert store.load_rejects(**KEY).empty

"""What every store does with depeg events and correlations."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from tonsurance_risk.core.windows import correlation_matrix
from tonsurance_risk.model import DepegEvent
from tonsurance_risk.ports import Store, WriteResult
from tonsurance_risk.testing.examples import HOUR, KEY, NOON, event, events, matrix


class EventContract:
    @given(event=events())
    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
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


class CorrelationContract:
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
    def test_correlations_what_cannot_be_stored_is_named_and_stores_nothing(
        self, store: Store, wrong: dict, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            store.save_correlations([matrix("A", "B"), attrs.evolve(matrix("A", "B"), **wrong)], **KEY)
        with pytest.raises(ValueError, match="assets"):
            store.save_correlations([matrix()], **KEY)
        assert store.load_correlations(window_days=30, **KEY) is None

    def test_bootstrap_intervals_come_back_with_their_matrix(self, store: Store) -> None:
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
        assert (changed.new, changed.changed, changed.unchanged) == (0, 3, 0)
        ranks = attrs.evolve(correlation_matrix(returns, method="spearman"), window_days=30, as_of=NOON)
        with pytest.raises(ValueError, match="must be of the method 'pearson', found 'spearman'"):
            store.save_correlations([ranks], **KEY)

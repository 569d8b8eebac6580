"""What every store does with scenarios, reports, snapshots and inputs of runs."""

from __future__ import annotations

import hashlib
import json

import attrs
import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import ScenarioBacktest, Store, WriteResult
from tonsurance_risk.testing.examples import HOUR, KEY, NOON, event, same, snapshots


class ScenarioContract:
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

    def test_only_new_scenarios_leave_an_edit_alone(self, store: Store) -> None:
        edited = Scenario("a", 0.9, source="an analyst")
        store.save_scenarios([edited])
        result = store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.2)], only_new=True)
        assert result == WriteResult(1, 0, 1)
        assert store.load_scenarios() == [edited, Scenario("b", 0.2)]

    def test_what_scenarios_were_calibrated_from(self, store: Store) -> None:
        """Kept with the scenario, replaced with it, and not for one that is left alone."""
        origins = [event("USDC"), event("DAI", NOON - HOUR, source=None), event("DAI", NOON - HOUR, source=None)]
        store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.1)], events={"a": origins, "other": [event()]})
        kept = store.load_scenario_events("a")
        assert kept[["asset", "severity"]].values.tolist() == [["DAI", 0.12], ["USDC", 0.12]]
        assert kept["start"].tolist() == [NOON - HOUR, NOON]
        assert kept["source"].tolist() == [None, "feed"]
        assert store.load_scenario_events("b").empty
        assert store.load_scenario_events("other").empty
        store.save_scenarios([Scenario("a", 0.2)], events={"a": origins[:1]}, only_new=True)
        assert len(store.load_scenario_events("a")) == 2
        store.save_scenarios([Scenario("a", 0.2)], events={"a": origins[:1]})
        assert store.load_scenario_events("a")["asset"].tolist() == ["USDC"]

    def test_predicted_against_actual_losses(self, store: Store) -> None:
        store.save_scenarios([Scenario("a", 0.1), Scenario("b", 0.1)])
        fields = {"vault_sha256": "v", "start": NOON, "end": NOON + HOUR, "evaluated_at": NOON + HOUR}
        first = ScenarioBacktest(scenario="a", predicted_loss=2.5, actual_loss=-1.0, **fields)
        second = attrs.evolve(first, scenario="b", start=NOON - HOUR)
        assert store.save_backtests([first, second], **KEY) == WriteResult(2, 0, 0)
        later = attrs.evolve(first, evaluated_at=NOON + 9 * HOUR)
        assert store.save_backtests([later], **KEY) == WriteResult(0, 0, 1)
        assert store.load_backtests(**KEY) == [second, first]
        assert store.save_backtests([attrs.evolve(first, actual_loss=0.0)], **KEY) == WriteResult(0, 1, 0)
        assert store.load_backtests(source="other", step="1h") == []
        with pytest.raises(LookupError, match="'c'"):
            store.save_backtests([second, attrs.evolve(first, scenario="c")], **KEY)
        for wrong in ({"end": NOON - HOUR}, {"predicted_loss": np.nan}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                store.save_backtests([attrs.evolve(first, **wrong)], **KEY)


class ReportContract:
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

    def test_the_newest_ones(self, store: Store) -> None:
        documents = [{"as_of": f"2024-01-0{day}T00:00:00Z"} for day in (1, 2, 3)]
        store.save_reports(documents, **KEY)
        assert store.load_reports(last=2) == documents[1:]
        assert store.load_reports(last=9) == documents
        assert store.load_reports(end=pd.Timestamp("2024-01-03T00:00Z"), last=1) == documents[1:2]
        with pytest.raises(ValueError, match="last"):
            store.load_reports(last=0)

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


class SnapshotContract:
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

    def test_snapshots_keys_do_not_mix(self, store: Store) -> None:
        store.save_snapshots(snapshots([1.0]), **KEY)
        empty = store.load_snapshots(source="other", step="1h")
        same(empty, snapshots([]))
        assert store.load_snapshots(source="feed", step="1d").empty

    def test_snapshots_another_zone_is_the_same_instant(self, store: Store) -> None:
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


class RunInputContract:
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

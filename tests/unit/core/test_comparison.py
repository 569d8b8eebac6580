"""Today against earlier snapshots, by figures worked out by hand."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.core.comparison import (
    GROWTH,
    change_against_mean,
    historical_comparison,
    new_events,
    relative_change,
    valid_history,
)
from tonsurance_risk.core.dependence import assess_dependence
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError
from tonsurance_risk.testing.examples import event

DAY = timedelta(days=1)
AS_OF = pd.Timestamp("2024-06-30", tz="UTC")


def snapshots(by_age):
    """Return snapshots of a capital, by their age in days."""
    index = pd.DatetimeIndex([AS_OF - age * DAY for age in by_age], tz="UTC")
    return pd.DataFrame({"var_95": 1.0, "capital": list(by_age.values()), "coverage": 2.0}, index=index)


def dependence_of(days):
    """Return how two coins move together in some days of prices."""
    index = pd.date_range(end=AS_OF, periods=days, freq="D")
    moves = np.random.default_rng(0).normal(0, 1e-3, (days, 2))
    prices = pd.DataFrame(np.exp(moves), index=index, columns=["DAI", "USDC"])
    return assess_dependence(prices, [], as_of=AS_OF, step=DAY)


@pytest.mark.parametrize(
    ("ages", "then"),
    [
        ([10], 10),
        ([10, 7], 7),
        ([9, 8, 6, 1], 8),
    ],
)
def test_change_is_against_the_newest_that_is_old_enough(ages, then):
    """At least 7 days old and at most 10: capital is 100 times the age then, and 1000 now."""
    history = snapshots({age: 100.0 * age for age in ages})

    assert 10 / then - 1 == pytest.approx(relative_change(history, "capital", 1000.0, AS_OF, GROWTH))


@pytest.mark.parametrize("ages", [[], [6], [10.01, 6.99]])
def test_no_change_without_a_snapshot_of_that_age(ages):
    """The reason says which time was looked at."""
    with pytest.raises(
        InsufficientDataError, match="^no snapshot from 2024-06-20T00:00:00Z to 2024-06-23T00:00:00Z$"
    ):
        relative_change(snapshots(dict.fromkeys(ages, 1.0)), "capital", 1.0, AS_OF, GROWTH)


@pytest.mark.parametrize(
    ("base", "said"), [(0.0, "0"), (-5.0, "-5"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_no_relative_change_of_what_is_not_positive(base, said):
    """Neither of one snapshot nor of a mean."""
    history = snapshots({7: base})

    with pytest.raises(
        InsufficientDataError, match=f"capital at 2024-06-23T00:00:00Z is {said}: no relative change"
    ):
        relative_change(history, "capital", 1.0, AS_OF, GROWTH)
    with pytest.raises(
        InsufficientDataError, match=rf"mean capital of 1 snapshot\(s\) is {said}: no relative change"
    ):
        change_against_mean(history, "capital", 1.0, AS_OF)


def test_change_against_the_mean_of_thirty_days():
    """The snapshot 30 days old counts, one of 31 days does not: 120 against (50 + 100 + 150) / 3."""
    history = snapshots({31: 1e9, 30: 50.0, 10: 100.0, 1: 150.0})

    assert 0.2 == pytest.approx(change_against_mean(history, "capital", 120.0, AS_OF))
    with pytest.raises(InsufficientDataError, match="no snapshot in the 30 days before 2024-06-30"):
        change_against_mean(history.iloc[:1], "capital", 120.0, AS_OF)


def test_events_of_the_last_week_are_counted_by_their_start():
    """Seven days back is before the week; what begins after as_of is not known yet."""
    second = timedelta(seconds=1)
    starts = [AS_OF - 7 * DAY, AS_OF - 7 * DAY + second, AS_OF - DAY, AS_OF, AS_OF + second]

    assert 3 == new_events([event(start=start) for start in starts], AS_OF)
    assert 0 == new_events([], AS_OF)


class TestHistory:
    """What of a table of snapshots counts."""

    def test_none_is_an_empty_table(self):
        """Of the same columns and kind of index as any."""
        empty, known = valid_history(None, AS_OF), valid_history(snapshots({1: 1.0}), AS_OF)

        assert empty.empty
        assert list(known.columns) == list(empty.columns)
        assert known.dtypes.equals(empty.dtypes)
        assert "UTC" == str(empty.index.tz)

    def test_from_thirty_three_days_before_to_just_before(self):
        """The longest age that is asked for, and what a snapshot may be older; other columns are left out."""
        history = snapshots({34: 1.0, 33: 2.0, 1: 3.0, 0: 4.0, -1: 5.0}).assign(note="x")

        found = valid_history(history, AS_OF)

        assert [2.0, 3.0] == found["capital"].tolist()
        assert ["var_95", "capital", "coverage"] == list(found.columns)

    def test_times_of_another_zone_are_the_same_times(self):
        """An index in New York."""
        history = snapshots({2: 1.0, 1: 3.0})

        pd.testing.assert_frame_equal(
            valid_history(history, AS_OF), valid_history(history.tz_convert("America/New_York"), AS_OF)
        )

    def test_what_is_no_history(self):
        """A column that is missing, times that do not increase."""
        history = snapshots({2: 1.0, 1: 3.0})

        with pytest.raises(ValueError, match=r"history must have the columns .*, missing \['coverage'\]"):
            valid_history(history.drop(columns="coverage"), AS_OF)
        with pytest.raises(
            InvalidPriceError, match="history must be strictly increasing: row 1 .* is out of order"
        ):
            valid_history(history[::-1], AS_OF)


class TestSection:
    """The section of the report."""

    def test_all_computed(self):
        """VaR 0.5 against 1, capital 1100 against 1000, one new event, and the regime of the dependence."""
        dependence = dependence_of(400)

        section = historical_comparison(
            history=snapshots({7: 1000.0}),
            as_of=AS_OF,
            var_95=0.5,
            capital=1100.0,
            events=[event(start=AS_OF - DAY)],
            dependence=dependence,
        )

        assert -0.5 == section["var_95_vs_30d_avg"]
        assert 0.1 == pytest.approx(section["portfolio_growth_7d"])
        assert 1 == section["new_depeg_events_7d"]
        assert section["correlation_regime_change"]["changed"] is False
        assert dependence.regime_change.to_dict() == section["correlation_regime_change"]
        assert 4 == len(json.loads(json.dumps(section, allow_nan=False)))

    def test_nothing_to_compare_with(self):
        """None with a reason beside it, but for events: none are none."""
        dependence = dependence_of(5)

        section = historical_comparison(
            history=valid_history(None, AS_OF),
            as_of=AS_OF,
            var_95=0.5,
            capital=1100.0,
            events=[],
            dependence=dependence,
        )

        assert 0 == section.pop("new_depeg_events_7d")
        assert dependence.reasons["regime_change"] == section["correlation_regime_change_reason"]
        for name in ("var_95_vs_30d_avg", "portfolio_growth_7d"):
            assert "no snapshot" in section[f"{name}_reason"]
        assert 3 == sum(value is None for value in section.values())

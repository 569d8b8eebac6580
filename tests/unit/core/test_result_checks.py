"""Checks of events and matrices: what cannot be is rejected, what asks for a look is flagged."""

from __future__ import annotations

from datetime import timedelta

import attrs
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr

HOUR = timedelta(hours=1)
NAMES = ["DAI", "USDC", "USDT"]


def detected(values, name="USDC"):
    """Return the events of an hourly series, confirmed."""
    index = pd.date_range("2024-01-01", periods=len(values), freq="h", tz="UTC")
    found = tr.detect_depegs(pd.Series(values, index=index, name=name), direction="both", sample_span=HOUR)
    return [attrs.evolve(event, confirmed=True) for event in found]


def findings(report):
    """Return (check, action) of the flags."""
    return list(zip(report.flags["check"], report.flags["action"], strict=True))


def matrix(values):
    """Return a matrix of three coins."""
    return tr.CorrelationMatrix.from_frame(pd.DataFrame(values, index=NAMES, columns=NAMES, dtype=float))


class TestEvents:
    """What detection finds is sound, and each fault is named."""

    @pytest.mark.parametrize("seed", range(20))
    def test_detected_events_pass(self, seed):
        """Of random prices, in both directions."""
        rng = np.random.default_rng(seed)
        events = detected(1.0 + np.cumsum(rng.normal(0, 0.004, 300)))

        report = tr.check_events(reversed(events))

        assert report.passed
        assert set() == {check for check, _ in findings(report)} - {"far_from_peg"}
        assert all(item.passed for item in report.checks if item.name != "far_from_peg")

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"end": pd.Timestamp("2023-01-01", tz="UTC")}, ("order", "reject")),
            ({"recovered_at": pd.Timestamp("2024-01-01T02:00", tz="UTC")}, ("order", "reject")),
            ({"severity": 0.0}, ("severity", "reject")),
            ({"severity": 0.005}, ("severity", "reject")),
            ({"severity": float("nan")}, ("severity", "reject")),
            ({"min_price": 0.99}, ("severity", "reject")),
            ({"severity": 0.6}, ("far_from_peg", "flag")),
            ({"recovered_at": None, "cut_by_gap": True}, ("cut_by_gap", "flag")),
            ({"confirmed": None}, ("unconfirmed", "flag")),
            ({"confirmed": False, "local_to": "venue"}, ("unconfirmed", "flag")),
        ],
    )
    def test_what_is_wrong_with_one(self, changes, expected):
        """And its asset, start and extreme price."""
        [event] = detected([1.0, 0.97, 0.95, 1.0])

        report = tr.check_events([attrs.evolve(event, **changes)])

        assert [expected] == findings(report)
        row = report.flags.iloc[0]
        assert ("USDC", event.start) == (row["asset"], row["time"])
        assert (expected[1] != "reject") == report.passed
        assert 0.0 == report.scores["USDC"]

    def test_overlapping_events(self):
        """Of one kind; another source or direction is another kind."""
        [event] = detected([1.0, 0.97, 0.95, 0.97, 1.0])
        later = attrs.evolve(event, start=event.start + HOUR)
        elsewhere = attrs.evolve(later, source="other")

        assert [("overlap", "reject")] == findings(tr.check_events([event, later]))
        assert [] == findings(tr.check_events([event, elsewhere]))
        assert 0.5 == tr.check_events([event, later]).scores["USDC"]

    def test_nothing_and_something_else(self):
        """No events have no fault; what is no event is refused."""
        assert tr.check_events([]).passed
        assert {} == tr.check_events([]).scores.to_dict()
        with pytest.raises(ValueError, match="must hold DepegEvent records, found 1"):
            tr.check_events([1])


class TestCorrelation:
    """Of a matrix."""

    def test_a_sound_matrix_passes(self):
        """Estimated on enough rows."""
        returns = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=NAMES)

        report = tr.check_correlation(tr.correlation_matrix(returns))

        assert report.passed
        assert [] == findings(report)
        assert dict.fromkeys(NAMES, 1.0) == report.scores.to_dict()

    def test_default_pairs_and_a_matrix_of_nothing_else(self):
        """The first is flagged, the second rejected."""
        returns = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=NAMES)
        returns.iloc[10:, 2] = np.nan

        some = tr.check_correlation(tr.correlation_matrix(returns))
        none = tr.check_correlation(tr.correlation_matrix(returns.iloc[:10]))

        assert [("default", "flag")] * 2 == findings(some)
        assert {"DAI": 0.5, "USDC": 0.5, "USDT": 0.0} == some.scores.to_dict()
        assert ("estimated", "reject") in findings(none)
        assert not none.passed

    def test_a_repair_a_perfect_pair_and_a_wide_interval(self):
        """Each with its number."""
        repair = tr.check_correlation(matrix([[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]]))
        x = np.random.default_rng(0).normal(size=8)
        few = pd.DataFrame({"DAI": x, "USDC": 2.0 * x, "USDT": np.random.default_rng(1).normal(size=8)})
        perfect = tr.check_correlation(tr.correlation_matrix(few, min_observations=5))

        assert ("not_psd", "flag") in findings(repair)
        assert "-0.273" in repair.flags.set_index("check").loc["not_psd", "detail"]
        assert [("perfect", "flag"), ("wide", "flag"), ("wide", "flag")] == findings(perfect)
        with pytest.raises(ValueError, match="must be a CorrelationMatrix, found int"):
            tr.check_correlation(1)

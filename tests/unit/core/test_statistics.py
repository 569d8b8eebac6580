"""Statistics of events: exact intervals, what cannot be computed, joint episodes."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import attrs
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.core.scenarios import joint_episodes
from tonsurance_risk.core.statistics import binomial_interval, depeg_statistics, poisson_interval
from tonsurance_risk.errors import InsufficientDataError

T0 = pd.Timestamp("2023-03-11", tz="UTC")
HOUR = timedelta(hours=1)


def event(asset="USDC", start=0.0, hours=4.0, recovered=True, severity=0.05, direction="below") -> tr.DepegEvent:
    """Return an event that starts so many hours after T0."""
    begin = T0 + start * HOUR
    return tr.DepegEvent(
        asset=asset, direction=direction, start=begin, end=begin + hours * HOUR,
        recovered_at=begin + (hours + 1) * HOUR if recovered else None,
        min_price=1 - severity, max_price=1.0, severity=severity, n_observations=5, threshold=0.99, recovery=0.99,
        min_duration=HOUR, max_gap=None, merge_within=timedelta(0), sample_span=HOUR, peg_reference=1.0,
    )  # fmt: skip


# F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936) 437-442, central 95 %; the same
# limits stand in E. S. Pearson and H. O. Hartley, "Biometrika Tables for Statisticians" vol. 1 (1966), table 40.
GARWOOD_95 = {
    0: (0.0, 3.69), 1: (0.0253, 5.57), 2: (0.242, 7.22), 3: (0.619, 8.77), 4: (1.09, 10.24), 5: (1.62, 11.67),
    10: (4.80, 18.39), 15: (8.40, 24.74), 20: (12.22, 30.89), 30: (20.24, 42.83), 50: (37.11, 65.92),
}  # fmt: skip


@pytest.mark.parametrize("count", GARWOOD_95)
def test_the_interval_is_that_of_the_published_table(count):
    """To the digits printed there."""
    low, high = poisson_interval(count)

    assert GARWOOD_95[count] == (pytest.approx(low, rel=3e-3, abs=5e-5), pytest.approx(high, abs=5e-3))


def cdf(k: int, mean: float) -> float:
    """P(Poisson(mean) <= k), summed term by term."""
    return math.fsum(math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in range(k + 1))


def inverted(goal: float, k: int) -> float:
    """The mean at which P(at most k) falls to `goal`, by halving."""
    low, high = 1e-12, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(k, middle) > goal else (low, middle)
    return low


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40, 123])
def test_the_interval_inverts_the_distribution(count, level):
    """At each end the count, or a more extreme one, has half of the probability that is left."""
    low, high = poisson_interval(count, level)

    assert inverted((1 - level) / 2, count) == pytest.approx(high, rel=1e-9)
    assert (inverted((1 + level) / 2, count - 1) if count else 0.0) == pytest.approx(low, rel=1e-9)


@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0.001, 0.009))
def test_a_higher_level_is_wider_and_the_count_is_inside(count, level, more):
    """Laws of the interval; the count lies inside from a level of a half on."""
    low, high = poisson_interval(count, level)
    lower, higher = poisson_interval(count, level + more)

    assert lower <= low <= high <= higher
    if level >= 0.5:
        assert low <= count <= high


def test_everything_of_one_asset():
    """By hand: three events in two years, one of them open."""
    events = [event(severity=0.02), event(start=100, hours=9, severity=0.12), event(start=900, recovered=False)]

    row = depeg_statistics(events, observed=2.0).by_asset.loc["USDC"]

    low, high = poisson_interval(3)
    assert (2.0, 3, 1.5, low / 2, high / 2) == tuple(row[:5])
    assert pytest.approx(0.19 / 3, rel=1e-15) == row["mean_severity"]
    assert 0.12 == row["worst_severity"]
    assert (5 + 10 + 5) / 3 * HOUR == row["mean_duration"]
    assert 10 * HOUR == row["longest_duration"]
    assert 2 == row["n_recovered"]
    assert (5 + 10) / 2 * HOUR == row["mean_recovery_time"]
    assert T0 + 900 * HOUR == row["last_event"]


def test_an_asset_without_events_has_an_upper_bound():
    """-ln 0.025 / years; what nothing is known of is None or NA, never NaN or NaT."""
    table = depeg_statistics([event()], observed={"usdc": 1.0, "DAI": 4.0}).by_asset

    row = table.loc["DAI"]
    assert ["DAI", "USDC"] == list(table.index)
    assert (4.0, 0, 0.0, 0.0) == tuple(row[:4])
    assert -math.log(0.025) / 4 == pytest.approx(row["rate_high"], rel=1e-14)
    assert 0 == row["n_recovered"]
    assert row["mean_severity"] is pd.NA
    assert row["worst_severity"] is pd.NA
    for name in ("mean_duration", "longest_duration", "mean_recovery_time", "last_event"):
        assert row[name] is None


def test_by_direction():
    """A discount and a premium of one asset, each with its own rate."""
    events = [event(), event(start=500), event(start=700, direction="above", severity=0.3)]

    table = depeg_statistics(events, observed=1.0).by_direction

    assert [("USDC", "above"), ("USDC", "below")] == list(table.index)
    assert [1, 2] == table["count"].tolist()
    assert [0.3, 0.05] == table["worst_severity"].tolist()


def test_joint_episodes_with_their_members():
    """72 h from the first start, inclusive; the same rule as the scenarios'."""
    events = [event("DAI", 72, severity=0.2), event("USDC"), event("DAI", 73), event("FRAX", 3), event("USDC", 50)]

    statistics = depeg_statistics(events, observed=1.0)
    scenarios = tr.scenarios_from_events(events, observed_years=1.0)

    table = statistics.episodes
    assert [T0, T0 + 73 * HOUR] == table["start"].tolist()
    assert [("DAI", "FRAX", "USDC"), ("DAI",)] == table["assets"].tolist()
    assert [0.2, 0.05] == table["worst_severity"].tolist()
    assert [4, 1] == table["n_events"].tolist()
    assert len(table) == len(scenarios) - 1
    shorter = depeg_statistics(events, observed=1.0, episode_window=timedelta(hours=2)).episodes
    assert [1, 1, 1, 2] == shorter["n_events"].tolist()


asset_events = st.lists(
    st.builds(
        event,
        asset=st.sampled_from(["USDC", "DAI", "GHO"]),
        start=st.integers(0, 400),
        hours=st.integers(0, 90),
        recovered=st.booleans(),
        severity=st.floats(0.01, 0.99),
        direction=st.sampled_from(["below", "above"]),
    ),
    max_size=15,
)


@settings(max_examples=30)  # tables take long
@given(asset_events, st.randoms(use_true_random=False))
def test_laws(events, random):
    """Counts add up over directions and episodes; the order of the events does not matter."""
    statistics = depeg_statistics(events, observed=3.0)
    shuffled = list(events)
    random.shuffle(shuffled)

    assert len(events) == statistics.by_asset["count"].sum() == statistics.by_direction["count"].sum()
    assert len(events) == statistics.episodes["n_events"].sum()
    assert statistics.to_dict() == depeg_statistics(shuffled, observed=3.0).to_dict()
    table = statistics.by_asset
    assert ((table["rate_low"] <= table["rate"]) & (table["rate"] <= table["rate_high"])).all()
    assert (table["mean_severity"] <= table["worst_severity"] * (1 + 1e-12)).all()
    assert all(row["mean_duration"] <= row["longest_duration"] for _, row in table.iterrows())
    for episode in joint_episodes(events, timedelta(hours=72)):
        assert episode[-1].start - episode[0].start <= timedelta(hours=72)


def test_to_dict_is_json():
    """With None for what is not there, seconds and ISO times."""
    statistics = depeg_statistics([event()], observed={"USDC": 1.0, "DAI": 1.0}, level=0.9)
    document = statistics.to_dict()

    assert document == json.loads(json.dumps(document, allow_nan=False))
    dai, usdc = document["by_asset"]
    assert ("DAI", 0, None, None, None) == tuple(
        dai[k] for k in ("asset", "count", "mean_severity", "mean_duration_seconds", "last_event")
    )
    assert (18000.0, "2023-03-11T00:00:00Z") == (usdc["longest_duration_seconds"], usdc["last_event"])
    assert [{"start": "2023-03-11T00:00:00Z", "assets": ["USDC"], "worst_severity": 0.05, "n_events": 1}] == (
        document["episodes"]
    )
    assert ("USDC", "below") == tuple(document["by_direction"][0][k] for k in ("asset", "direction"))
    assert 0.9 == document["level"]


def test_no_events_at_all():
    """Empty tables with all their columns, from a number; rows from a mapping."""
    empty, named = depeg_statistics([], observed=1.0), depeg_statistics([], observed={"DAI": 1.0})

    assert (0, 0, 0) == (len(empty.by_asset), len(empty.by_direction), len(empty.episodes))
    assert list(empty.by_asset.columns) == list(named.by_asset.columns)
    assert ["DAI"] == list(named.by_asset.index)
    assert {"by_asset": [], "by_direction": [], "episodes": []}.items() <= empty.to_dict().items()
    assert depeg_statistics([], observed=1.0) == empty != named


def test_wrong_arguments():
    """Each named, with its value and what is accepted."""
    for years in (0.0, -1.0, math.nan, math.inf, True, "2"):
        with pytest.raises(ValueError, match=r"^observed must"):
            depeg_statistics([], observed=years)
        with pytest.raises(ValueError, match=r"^observed\['DAI'\] must"):
            depeg_statistics([], observed={"DAI": years})
    with pytest.raises(ValueError, match=r"did you mean 0\.95"):
        depeg_statistics([], observed=1.0, level=95)
    with pytest.raises(ValueError, match="episode_window must be a datetime.timedelta >= 0"):
        depeg_statistics([], observed=1.0, episode_window=72)
    with pytest.raises(ValueError, match="events must hold DepegEvent records, found 'USDC'"):
        depeg_statistics(["USDC"], observed=1.0)
    with pytest.raises(ValueError, match="must be unique"):
        depeg_statistics([], observed={"usdc": 1.0, "USDC": 1.0})
    with pytest.raises(ValueError, match="count must be a whole number >= 0"):
        poisson_interval(-1)
    with pytest.raises(InsufficientDataError, match="observed says nothing of USDC") as caught:
        depeg_statistics([event()], observed={"DAI": 1.0})
    assert "USDC" == caught.value.asset


def test_it_is_frozen():
    """A result is not changed."""
    statistics = depeg_statistics([], observed=1.0)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        statistics.level = 0.5


@pytest.mark.fault("F131")
@pytest.mark.parametrize(("count", "upper"), [(0, 3.688879454), (1, 5.571643391), (50, 65.9184)])
def test_no_event_and_an_event_every_week_both_have_an_upper_bound(count, upper):
    """Never a rate of exactly 0 alone; the bounds are those of chi-square tables, chi2(0.975; 2 k + 2) / 2."""
    events = [event(start=168 * k) for k in range(count)]

    row = depeg_statistics(events, observed={"USDC": 1.0}).by_asset.loc["USDC"]

    assert count == row["rate"]
    assert upper == pytest.approx(row["rate_high"], rel=1e-5)


@given(st.integers(1, 500), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_binomial_interval_is_that_of_scipy(n, data, level):
    """Exact, by Clopper and Pearson."""
    count = data.draw(st.integers(0, n))

    interval = scipy.stats.binomtest(count, n).proportion_ci(level, method="exact")

    assert (interval.low, interval.high) == pytest.approx(binomial_interval(count, n, level), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3), (0, 0), (1.5, 3)])
def test_a_binomial_count_must_be_possible(count, n):
    """Named."""
    with pytest.raises(ValueError, match="count|n must be"):
        binomial_interval(count, n)

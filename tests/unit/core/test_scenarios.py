"""Built-in scenarios, those from events, and their sampling."""

from __future__ import annotations

import math
from datetime import timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.core.scenarios import cumulated_shares
from tonsurance_risk.errors import InsufficientDataError

MISSION = {  # name: kind, probability, weight, severity, BTC, correlation, volatility, liquidity, first six prices
    "Banking Crisis (SVB)": ("historical", 0.20, 1.5, 3.5, 0.27, -0.3, 2.5, 0.7, None),
    "Crypto Crash": ("stress_test", 0.15, 1.0, 4.0, -0.50, 0.5, 3.0, 0.5, (0.98, 0.97, 0.96, 0.98, 0.95, 0.98)),
    "Regulatory Shutdown": ("stress_test", 0.10, 0.8, 5.0, -0.30, 0, 2.0, 0.9, (0.80, 0.85, 0.90, 0.85, 0.88, 0.80)),
    "Multiple Stablecoin Failure": (
        "stress_test", 0.05, 2.0, 8.0, 0.50, 0.8, 4.0, 0.95, (0.75, 0.75, 0.80, 0.78, 0.75, 0.75),
    ),
    "Normal Market Conditions": ("historical", 0.50, 1.0, 1.0, 0, 0, 1.0, 0.1, (1.0,) * 6),
}  # fmt: skip


def test_the_five_of_the_mission():
    """Every number of its table, and a price for each of the 14 coins."""
    scenarios = tr.builtin_scenarios()

    assert list(MISSION) == [scenario.name for scenario in scenarios]
    assert 1.0 == pytest.approx(math.fsum(scenario.probability for scenario in scenarios), abs=1e-15)
    for scenario in scenarios:
        *numbers, prices = MISSION[scenario.name]
        assert tuple(numbers) == (
            scenario.kind, scenario.probability, scenario.weight, scenario.severity_multiplier, scenario.btc_change,
            scenario.correlation_shift, scenario.volatility_multiplier, scenario.liquidity_impact,
        )  # fmt: skip
        assert {asset.symbol for asset in tr.STABLECOINS} == set(scenario.prices)
        if prices is not None:
            assert prices == tuple(scenario.prices[c] for c in ("USDC", "USDT", "DAI", "USDP", "FRAX", "BUSD"))
        assert scenario.source


def test_no_coin_stays_at_peg_in_a_crisis_without_a_reason():
    """Only USDT, the refuge of March 2023, whose lowest round was 1.0000."""
    at_peg = [
        (scenario.name, coin)
        for scenario in tr.builtin_scenarios()
        if scenario.name != "Normal Market Conditions"
        for coin, price in scenario.prices.items()
        if price >= 1.0
    ]

    assert [("Banking Crisis (SVB)", "USDT")] == at_peg


def test_sampling_is_proportional_to_probability_times_weight():
    """Over the active ones: shares within 5 standard errors of 200,000 draws."""
    scenarios = [
        tr.Scenario("a", 0.5, weight=2.0),
        tr.Scenario("b", 0.3, is_active=False),
        tr.Scenario("c", 0.25, weight=0.0),
        tr.Scenario("d", 0.1),
        tr.Scenario("e", 0.3, weight=3.0),
    ]

    drawn = tr.sample_scenarios(scenarios, 200_000, rng=np.random.default_rng(0))

    shares = np.array([1.0, 0, 0, 0.1, 0.9]) / 2.0
    counts = np.bincount(drawn, minlength=5)
    assert drawn.dtype.kind == "i"
    np.testing.assert_allclose(counts / 200_000, shares, atol=5 * 0.5 / math.sqrt(200_000))
    assert 0 == counts[1] + counts[2]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30).filter(any))
def test_shares_end_at_one_and_never_reach_an_impossible_scenario(masses):
    """Whatever the rounding."""
    scenarios = [tr.Scenario(str(i), mass / 1000, weight=0.1) for i, mass in enumerate(masses)]

    cumulated = cumulated_shares(scenarios)
    drawn = np.searchsorted(cumulated, np.nextafter(1.0, 0.0), side="right")

    assert 1.0 == cumulated[-1]
    assert masses[drawn] > 0
    assert (np.diff(cumulated) >= 0).all()


@pytest.mark.parametrize(
    ("n", "rng", "message"),
    [(0, np.random.default_rng(), "n must be"), (2.5, np.random.default_rng(), "n must be"), (1, 0, "rng")],
)
def test_sampling_refuses(n, rng, message):
    """n and rng."""
    with pytest.raises(ValueError, match=message):
        tr.sample_scenarios(tr.builtin_scenarios(), n, rng=rng)


def history():
    """Return events of two joint episodes and a single one: USDC and DAI together, DAI twice, LUSD alone."""
    index = pd.date_range("2023-03-01", periods=60 * 24, freq="h", tz="UTC")
    frame = pd.DataFrame(dict.fromkeys(("USDC", "DAI", "LUSD"), 1.0), index=index)
    frame.iloc[100:110, 0] = 0.88
    frame.iloc[120:125, 1] = 0.93
    frame.iloc[160:165, 1] = 1.09
    frame.iloc[171:180, 1] = 0.97  # 71 h after the first start
    frame.iloc[600:610, 2] = 1.05
    frame.iloc[673:680, 0] = 0.95  # 73 h after LUSD's
    return tr.detect_depegs(frame, direction="both")


class TestFromEvents:
    """A scenario a joint episode, and one without any."""

    def test_episodes_prices_and_probabilities(self):
        """Worked by hand: observed 4, 2 and 1 years, so rates 1/4, 1, 1/4."""
        scenarios = tr.scenarios_from_events(
            reversed(history()), observed_years={"USDC": 4.0, "DAI": 2.0, "LUSD": 1.0}
        )

        first, second, third, calm = scenarios
        assert {"USDC": pytest.approx(0.88), "DAI": pytest.approx(1.09)} == first.prices
        assert {"LUSD": pytest.approx(1.05)} == second.prices
        assert {"USDC": pytest.approx(0.95)} == third.prices
        assert {} == calm.prices
        total = 1 / 4 + 1 + 1 / 4
        assert pytest.approx(math.exp(-total)) == calm.probability
        for scenario, rate in ((first, 1 / 4), (second, 1.0), (third, 1 / 4)):
            assert pytest.approx((1 - math.exp(-total)) * rate / total) == scenario.probability
            assert 0.0 == scenario.btc_change
        assert 4 == len({scenario.name for scenario in scenarios})

    @given(st.floats(0.01, 1e4), st.floats(0, 3650), st.floats(0, 200))
    def test_probabilities_sum_to_one(self, years, days, window):
        """For any observation, horizon and window."""
        scenarios = tr.scenarios_from_events(
            history(), observed_years=years, horizon=timedelta(days=days), episode_window=timedelta(hours=window)
        )

        assert 1.0 == pytest.approx(math.fsum(s.probability for s in scenarios), abs=1e-12)

    def test_no_events(self):
        """The calm scenario alone."""
        [calm] = tr.scenarios_from_events([], observed_years=1.0)

        assert 1.0 == calm.probability

    def test_a_window_of_zero_joins_only_equal_starts(self):
        """Every other event is its own episode."""
        assert len(history()) + 1 == len(
            tr.scenarios_from_events(history(), observed_years=1.0, episode_window=timedelta(0))
        )

    def test_spelling_does_not_split_an_asset(self):
        """In the years, or in the events."""
        years = {"USDC": 4.0, "DAI": 2.0, "LUSD": 1.0}
        lower = {asset.lower(): each for asset, each in years.items()}
        events = [attrs.evolve(event, asset=event.asset.lower()) for event in history()[::2]] + history()[1::2]

        assert tr.scenarios_from_events(history(), observed_years=years, prior="jeffreys") == (
            tr.scenarios_from_events(events, observed_years=lower, prior="jeffreys")
        )

    def test_refuses_what_is_no_event(self):
        """With what was found."""
        with pytest.raises(ValueError, match="events must hold DepegEvent records, found 3"):
            tr.scenarios_from_events([3], observed_years=1.0)

    @pytest.mark.fault("F131")
    def test_half_an_event_of_every_coin(self):
        """Worked by hand: each coin's rate is (k + 1/2) / years, whatever the years of the others."""
        years = {"USDC": 4.0, "DAI": 4.0, "LUSD": 4.0, "GHO": 2.0, "BTC": 9.0}
        scenarios = tr.scenarios_from_events(history(), observed_years=years, prior="jeffreys")

        *listed, calm = scenarios
        halves = {next(iter(s.prices)): s for s in listed if s.kind == "synthetic"}
        assert ["DAI", "GHO", "LUSD", "USDC"] == list(halves)
        events = history()
        ratios = sorted(1 - e.severity if e.direction == "below" else 1 + e.severity for e in events)
        assert 6 == len(ratios)
        assert all(pytest.approx((ratios[2] + ratios[3]) / 2) == s.prices[coin] for coin, s in halves.items())
        total = 3 / 4 + 3 * 0.5 / 4 + 0.5 / 2
        assert pytest.approx(math.exp(-total)) == calm.probability
        for coin, k in (("USDC", 2), ("DAI", 1), ("LUSD", 1), ("GHO", 0)):
            probability = sum(s.probability for s in listed if coin in s.prices)
            assert pytest.approx((1 - math.exp(-total)) * (k + 0.5) / years[coin] / total) == probability
        assert all(1.0 == s.weight for s in scenarios)
        assert "Jeffreys" in halves["GHO"].source

    def test_one_number_of_years_means_the_built_in_coins(self):
        """And those of the events; without a prior the list is what it was."""
        without = tr.scenarios_from_events(history(), observed_years=5.0)
        with_prior = tr.scenarios_from_events(history(), observed_years=5.0, prior="jeffreys")

        assert len(without) + len(tr.STABLECOINS) == len(with_prior)
        assert 1.0 == pytest.approx(math.fsum(s.probability for s in with_prior))
        assert [s.name for s in without[:-1]] == [s.name for s in with_prior[: len(without) - 1]]

    def test_a_prior_needs_an_event(self):
        """Its ratio; and one of these priors."""
        with pytest.raises(InsufficientDataError, match="at least one event"):
            tr.scenarios_from_events([], observed_years=1.0, prior="jeffreys")
        with pytest.raises(ValueError, match="prior must be None or one of"):
            tr.scenarios_from_events(history(), observed_years=1.0, prior="flat")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"observed_years": {"USDC": 1.0}}, "nothing of DAI"),
            ({"observed_years": {"USDC": 1.0, "usdc": 2.0}}, "assets of observed_years must be unique"),
            ({"observed_years": 0.0}, "observed_years"),
            ({"observed_years": math.nan}, "observed_years"),
            ({"observed_years": 1.0, "horizon": timedelta(-1)}, "horizon"),
            ({"observed_years": 1.0, "episode_window": 72}, "episode_window"),
        ],
    )
    def test_refuses(self, arguments, message):
        """What it cannot use."""
        with pytest.raises(ValueError, match=message):
            tr.scenarios_from_events(history(), **arguments)

"""Scenarios that cannot happen, singular correlations, and bounds on how much can be drawn."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import qmc

import tonsurance_risk as tr
from tonsurance_risk.core.sampling import BLOCK, REPLICATES, Plan, Sampler

VAULT = tr.Vault(1e6, [tr.Policy("P1", "USDC", 1e5, 0.98, 0.6), tr.Policy("P2", "DAI", 2e5, 0.97, 0.5)])
SCENARIOS = [
    tr.Scenario("calm", 0.7),
    tr.Scenario("impossible", 0.0, prices={"USDC": 0.1}),
    tr.Scenario("run", 0.3, prices={"USDC": 0.95, "DAI": 0.96}),
]
VOLATILITY = {"USDC": 0.02, "DAI": 0.03, "LUSD": 0.04}


def ones(*symbols):
    """Return a correlation matrix of 1 everywhere."""
    return pd.DataFrame(1.0, index=symbols, columns=symbols)


@pytest.mark.parametrize("kind", ["plain", "stratified", "antithetic", "sobol", "importance"])
def test_a_scenario_that_cannot_happen_changes_nothing(kind):
    """The same numbers as without it, to the tables' accuracy; its stratum has weight 0."""
    possible = [scenario for scenario in SCENARIOS if scenario.probability > 0.0]
    options = {"volatility": VOLATILITY, "n": 4096, "sampling": kind}

    sample = tr.simulate_losses(VAULT, SCENARIOS, **options)
    without = tr.simulate_losses(VAULT, possible, **options)

    np.testing.assert_allclose(sample.losses, without.losses, rtol=0, atol=2e-6 * VAULT.coverage)
    assert sample.value_at_risk(0.99).high == pytest.approx(
        without.value_at_risk(0.99).high, abs=2e-6 * VAULT.coverage
    )
    losses, weights = sample.plan.centres(sample.model)
    assert np.isfinite(losses).all()
    assert np.isfinite(weights).all()
    if kind == "importance":
        impossible = sample.plan.scenario == 1
        assert impossible.any()
        assert (weights[impossible] == 0.0).all()
        assert (weights[~impossible] > 0.0).all()


@pytest.mark.parametrize("block", [0, 1, 6, 13])
def test_sobol_points_of_any_block_are_those_of_scipy(block):
    """Wherever one begins: the points that scipy's engine of each replicate gives after as many others."""
    model = tr.simulate_losses(VAULT, SCENARIOS, volatility=VOLATILITY, n=16).model
    plan = Plan.of(model, "sobol", 5)
    count = BLOCK // REPLICATES

    points = Sampler(plan, np.empty(Sampler.floats(plan, 16)))._points(block, BLOCK, 4)

    for replicate in (0, 7, 15):
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(5, spawn_key=(replicate,))))
        expected = qmc.Sobol(4, scramble=True, rng=rng).random(16 * count)[block * count : (block + 1) * count]
        assert (expected == points[replicate::REPLICATES]).all()


class TestSingularCorrelation:
    """Two coins that move as one leave more than one factor of their correlation."""

    @pytest.mark.parametrize("kind", ["plain", "stratified", "antithetic", "sobol", "importance"])
    @pytest.mark.parametrize("rho", [1.0, 0.4])
    def test_one_more_coin_leaves_the_losses_of_the_others(self, kind, rho):
        """Simulation by simulation; what the new one is paid has the mean of the closed form."""
        frame = ones("USDC", "DAI", "LUSD")
        frame.loc["LUSD", ["USDC", "DAI"]] = frame.loc[["USDC", "DAI"], "LUSD"] = rho
        sample = tr.simulate_losses(
            VAULT, SCENARIOS, correlation=frame, volatility=VOLATILITY, n=16_384, sampling=kind
        )
        never = tr.Policy("never", "LUSD", 1e5, 0.01, 0.0)
        np.testing.assert_allclose(tr.marginal_risk(sample, never).after.losses, sample.losses, rtol=0, atol=1e-3)

        paid = tr.marginal_risk(sample, tr.Policy("new", "LUSD", 1e5, 0.98, 0.5)).after.losses - sample.losses
        weights = np.ones(sample.n) if sample.weights is None else sample.weights
        assert paid.min() >= -1e-3
        truth = 1e5 / (0.98 - 0.5) * (put(0.98) - put(0.5))
        assert abs((weights * paid).mean() - truth) < 6 * (weights * paid).std() / np.sqrt(sample.n)

    def test_the_new_coin_moves_with_the_others_as_it_should(self):
        """A coin that moves as one with USDC is paid exactly where USDC is."""
        vault = tr.Vault(1e6, [tr.Policy("P1", "USDC", 1e5, 0.98, 0.6), tr.Policy("P2", "DAI", 1e-3, 0.97, 0.5)])
        sample = tr.simulate_losses(
            vault,
            [tr.Scenario("calm", 1.0)],
            correlation=ones("USDC", "DAI", "LUSD"),
            volatility={"USDC": 0.02, "DAI": 0.02, "LUSD": 0.02},
        )
        after = tr.marginal_risk(sample, tr.Policy("new", "LUSD", 1e5, 0.98, 0.6)).after
        np.testing.assert_allclose(after.losses, 2.0 * sample.losses, rtol=0, atol=1.0)


def put(strike, sigma=0.04):
    """Return the mean of max(strike - exp(sigma Z), 0): Black and Scholes' put on a median of 1."""
    d = np.log(strike) / sigma
    return strike * stats.norm.cdf(d) - np.exp(sigma**2 / 2) * stats.norm.cdf(d - sigma)


def test_scenarios_can_be_pickled_and_copied():
    """Equal, and as unchangeable."""
    scenario = SCENARIOS[2]
    for twin in (pickle.loads(pickle.dumps(scenario)), copy.deepcopy(scenario), copy.copy(scenario)):
        assert twin == scenario
        with pytest.raises(TypeError, match="does not support item assignment"):
            twin.prices["USDC"] = 1.0
    sample = tr.simulate_losses(VAULT, SCENARIOS, volatility=VOLATILITY, n=64)
    assert pickle.loads(pickle.dumps(sample)).expected_loss() == sample.expected_loss()


@pytest.mark.parametrize(
    ("n", "keep", "message"),
    [
        ((1 << 34) + 1, "tail", r"n must be .*17,179,869,184"),
        (1_000_000_000, "all", r"n must be at most 1,000,000,000 once rounded up for 'sobol', .*: 1,073,741,824"),
    ],
)
def test_more_sobol_points_than_there_are(n, keep, message, monkeypatch):
    """Refused before any is drawn."""
    monkeypatch.delattr("tonsurance_risk.core.sampling.Sampler.draw")
    with pytest.raises(ValueError, match=message):
        tr.simulate_losses(VAULT, SCENARIOS, n=n, sampling="sobol", keep=keep)


def test_the_last_sobol_point_is_within_bounds():
    """2^34 simulations are 2^30 points of each of 16 scramblings."""
    vault = tr.Vault(1e6, VAULT.policies)
    plan = tr.simulate_losses(vault, SCENARIOS, n=16, sampling="sobol").plan
    assert isinstance(plan, Plan)
    assert plan.rounded(1 << 34) == 1 << 34

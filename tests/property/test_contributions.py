"""Intervals of contributions to the expected shortfall: against replication and against the shortfall itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr

VAULT = tr.Vault(
    1e6,
    [
        tr.Policy("a", "USDC", 2e5, 0.99, 0.5),
        tr.Policy("b", "DAI", 3e5, 0.98, 0.3),
        tr.Policy("c", "LUSD", 1e5, 0.9, 0.1),
    ],
    btc_value=5e4,
)
SCENARIOS = [
    tr.Scenario("run", 0.2, prices={"USDC": 0.9, "DAI": 0.92}, btc_change=-0.3),
    tr.Scenario("calm", 0.8),
]
SIGMA = {"USDC": 0.05, "DAI": 0.08, "LUSD": 0.03, "BTC": 0.1}
ASSETS = ["USDC", "DAI", "LUSD", "BTC"]


def sample(seed, n=4000, vault=VAULT, **options):
    """Simulate with shocks that are correlated a little."""
    correlation = pd.DataFrame(np.full((4, 4), 0.3) + 0.7 * np.eye(4), index=ASSETS, columns=ASSETS)
    return tr.simulate_losses(
        vault, SCENARIOS, correlation=correlation, volatility=SIGMA, n=n, seed=seed, **options
    )


@pytest.fixture(scope="module")
def truth():
    """The contributions in a hundred times as many simulations as all replications together are apart from."""
    return sample(99_999, n=4_000_000).contributions(0.95)


@pytest.mark.parametrize("sampling", ["plain", "stratified", "importance"])
def test_intervals_cover_the_truth(truth, sampling):
    """In 300 replications, whose share has a standard error of 0.013; the bounds are four of them and more away.

    The stated errors are those of the replications within 15 % for independent draws, whose own error is 4 %; sampling
    that gains has smaller ones than stated.
    """
    found = [sample(seed, sampling=sampling, tail_level=0.95).contribution_estimates(0.95) for seed in range(300)]

    for asset in ("USDC", "DAI", "BTC"):
        estimates = [one[asset] for one in found]
        assert all(one.low is not None for one in estimates)
        covered = np.mean([one.low <= truth[asset] <= one.high for one in estimates])
        stated = np.sqrt(np.mean([one.standard_error**2 for one in estimates]))
        ratio = stated / np.std([one.value for one in estimates], ddof=1)
        assert 0.89 <= covered
        assert 0.85 <= ratio <= (1.15 if sampling == "plain" else 1.3), asset


def test_the_values_are_the_contributions_and_name_how_they_came():
    """Of the same sample, to the last bit."""
    one = sample(1)
    estimates = one.contribution_estimates(0.95)

    assert one.contributions(0.95).to_dict() == {asset: estimate.value for asset, estimate in estimates.items()}
    assert {(4000, 1, 0.95)} == {(e.n, e.seed, e.confidence) for e in estimates.values()}
    assert {"influence function, normal, as for independent draws"} == {e.method for e in estimates.values()}


def test_of_a_single_asset_it_is_the_error_of_the_shortfall():
    """Which has the same influence function, but for the mean near the quantile in the place of the quantile."""
    alone = sample(3, n=50_000, vault=tr.Vault(1e6, [VAULT.policies[1]]), sampling="plain")

    part = alone.contribution_estimates(0.95)["DAI"]

    assert alone.expected_shortfall(0.95).standard_error == pytest.approx(part.standard_error, rel=0.02)


def test_what_is_rare_in_the_tail_has_no_interval():
    """LUSD hardly pays, and a tail of 4 losses says nothing of anybody; a vault without BTC loses none, exactly."""
    found = sample(1).contribution_estimates(0.95)["LUSD"]
    few = sample(1).contribution_estimates(0.999)
    nothing = sample(1, vault=tr.Vault(1e6, VAULT.policies)).contribution_estimates(0.95)["BTC"]

    assert (None, None, None) == (found.low, found.high, found.standard_error)
    assert "too few for an interval" in found.note
    assert {None} == {one.low for one in few.values()}
    assert all("only 4 losses are expected" in one.note for one in few.values())
    assert (0.0, 0.0, 0.0, "exact") == (nothing.value, nothing.low, nothing.high, nothing.method)


def test_an_atom_is_known_without_error():
    """Where the tail is one scenario without shocks, every contribution is the payout in it."""
    still = tr.simulate_losses(VAULT, SCENARIOS, n=4000).contribution_estimates(0.95)

    assert 2e5 * 0.09 / 0.49 == pytest.approx(still["USDC"].value)
    assert still["USDC"].low == pytest.approx(still["USDC"].high)


REPLICATES = "Student's t over replicates"


@pytest.mark.parametrize(
    ("sampling", "quantile", "law"),
    [
        ("plain", "exact binomial", "normal"),
        ("stratified", "normal", "normal"),
        ("antithetic", "normal", "normal"),
        ("importance", "normal", "normal"),
        ("sobol", REPLICATES, REPLICATES),
    ],
)
def test_every_estimate_names_its_method(sampling, quantile, law):
    """That of its own sampling, with n, seed and confidence; also where there is no interval."""
    one = sample(7, sampling=sampling)
    estimates = {
        f"order statistics, {quantile}": one.value_at_risk(0.95),
        f"influence function, {law}, Hall's transformation": one.expected_shortfall(0.95),
        f"mean, {law}": one.expected_loss(),
    }

    assert list(estimates) == [estimate.method for estimate in estimates.values()]
    assert {(one.n, 7, 0.95)} == {(e.n, e.seed, e.confidence) for e in estimates.values()}
    assert f"influence function, {law}, Hall's transformation" == one.expected_shortfall(1 - 1e-9).method
    assert one.expected_shortfall(1 - 1e-9).low is None


def test_a_probability_names_what_its_interval_became():
    """Clopper and Pearson's where draws are independent or hits are few, the normal one of strata elsewhere."""
    plain, stratified, weighted = (sample(7, sampling=kind) for kind in ("plain", "stratified", "importance"))

    assert "Clopper-Pearson" == plain.probability_of_ruin(5e4).method
    assert "Clopper-Pearson" == stratified.probability_of_ruin(1e7).method
    assert "share, normal" == stratified.probability_of_ruin(5e4).method
    assert "Clopper-Pearson times extreme weights" == weighted.probability_of_ruin(1e7).method

"""Malformed books, scenarios, matrices: each is a named error before anything is drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr

POLICY = tr.Policy("a", "USDC", 1e5, 0.95, 0.6)
VAULT = tr.Vault(1e6, [POLICY, tr.Policy("b", "DAI", 1e5, 0.95, 0.6)], btc_value=1e4)
SCENARIOS = [tr.Scenario("calm", 0.9), tr.Scenario("run", 0.1, prices={"USDC": 0.8})]
NAMES = ["USDC", "DAI"]


def frame(values):
    """Return a square table of two coins."""
    return pd.DataFrame(values, index=NAMES, columns=NAMES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tr.Vault(0.0, [POLICY]), "capital"),
        (lambda: tr.Vault(math.nan, [POLICY]), "capital"),
        (lambda: tr.Vault(1.0, [POLICY], btc_value=-1.0), "btc_value"),
        (lambda: tr.Vault(1.0, [POLICY], aggregate_limit=-1.0), "aggregate_limit"),
        (lambda: tr.Vault(1.0, [POLICY], aggregate_limit=math.inf), "aggregate_limit"),
        (lambda: tr.Vault(1.0, [POLICY, POLICY]), "policy ids must be unique"),
        (lambda: tr.Policy("a", "USDC", math.nan, 0.9, 0.5), "coverage"),
        (lambda: tr.Policy("a", "USDC", 1.0, 0.5, 0.9), "trigger_price must be above"),
        (lambda: tr.Scenario("s", 1.5), "probability"),
        (lambda: tr.Scenario("s", math.nan), "probability"),
        (lambda: tr.Scenario("s", 0.5, btc_change=-1.5), "btc_change"),
        (lambda: tr.Scenario("s", 0.5, weight=-1.0), "weight"),
        (lambda: tr.Scenario("s", 0.5, correlation_shift=2.0), "correlation_shift"),
        (lambda: tr.Scenario("s", 0.5, volatility_multiplier=-1.0), "volatility_multiplier"),
        (lambda: tr.Scenario("s", 0.5, prices={"USDC": 0.0}), "prices"),
        (lambda: tr.Scenario("s", 0.5, prices={"USDC": math.nan}), "prices"),
    ],
)
@pytest.mark.fault("F121")
def test_records_refuse(make, message):
    """With the name of the field."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (frame([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
        (frame([[0.9, 0.5], [0.5, 1.0]]), "diagonal"),
        (frame([[1.0, 1.5], [1.5, 1.0]]), "1"),
        (frame([[1.0, math.nan], [math.nan, 1.0]]), "finite|NaN|nan"),
        (np.eye(2), "DataFrame|matrix"),
    ],
)
@pytest.mark.parametrize("sampling", ["stratified", "sobol", "importance"])
@pytest.mark.fault("F123")
def test_matrices_refuse(matrix, message, sampling):
    """Before anything is drawn, whatever the kind."""
    with pytest.raises(ValueError, match=message):
        tr.simulate_losses(VAULT, SCENARIOS, correlation=matrix, volatility={"USDC": 0.1}, sampling=sampling)


@pytest.mark.fault("F129")
def test_amounts_from_tiny_to_huge():
    """1e-300 beside 1e149 is exact; what no variance can hold is refused, not turned into 0 or infinity."""
    scenarios = [tr.Scenario("run", 1.0, prices={"USDC": 0.5, "DAI": 0.5})]

    def vault(*coverages):
        return tr.Vault(1.0, [tr.Policy(f"{i}", NAMES[i], c, 0.95, 0.6) for i, c in enumerate(coverages)])

    for volatility in ({}, {"USDC": 0.01, "DAI": 0.01}):
        sample = tr.simulate_losses(vault(1e-300, 1e149), scenarios, volatility=volatility, n=1000)
        assert 1e149 == sample.worst == sample.value_at_risk(0.99).value
        assert 1e149 == pytest.approx(sample.expected_loss().value)
    for coverages in ((1e300,), (1e-300,), (1e300, 1e-300)):
        with pytest.raises(ValueError, match="must add up to"):
            tr.simulate_losses(vault(*coverages), scenarios)


@pytest.mark.fault("F130")
def test_inputs_are_not_kept_by_reference():
    """Changing the caller's matrix afterwards changes no later measure of a sample."""
    matrix = frame([[1.0, 0.5], [0.5, 1.0]])
    sample = tr.simulate_losses(VAULT, SCENARIOS, correlation=matrix, volatility={"USDC": 0.1, "DAI": 0.1}, n=2000)
    before = tr.marginal_risk(sample, tr.Policy("new", "LUSD", 1.0, 0.9, 0.5)).to_dict()
    matrix.iloc[0, 1] = matrix.iloc[1, 0] = -0.9

    assert before == tr.marginal_risk(sample, tr.Policy("new", "LUSD", 1.0, 0.9, 0.5)).to_dict()


def test_everything_allocated_is_refused_first():
    """10^12 losses would take terabytes: no memory is asked for."""
    with pytest.raises(ValueError, match="from 1 to 1,000,000,000"):
        tr.simulate_losses(VAULT, SCENARIOS, n=10**12)

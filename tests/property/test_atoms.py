"""Intervals where losses are few or pile up on one value: what the sample cannot support is not given."""

from __future__ import annotations

import pytest

import tonsurance_risk as tr

KINDS = ["plain", "stratified", "antithetic", "sobol", "importance"]
SHOCKED = tr.Vault(1e7, [tr.Policy("a", "USDC", 1e6, 0.99, 0.9)])
CALM = [tr.Scenario("calm", 1.0)]


def shocked(**options):
    """Simulate one policy that only shocks of USDC hit."""
    return tr.simulate_losses(SHOCKED, CALM, volatility={"USDC": 0.02}, **options)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_one_antithetic_pair_has_no_ends(level):
    """Its variance is infinite."""
    estimate = shocked(n=2, sampling="antithetic").value_at_risk(level)

    assert (None, None, None) == (estimate.low, estimate.high, estimate.standard_error)
    assert "too small for a lower end" in estimate.note
    assert "too small for an upper end" in estimate.note

"""What one more policy changes: its table, and what a sample with it may be asked."""

from __future__ import annotations

import tonsurance_risk as tr

RUN, CALM = tr.Scenario("run", 0.25, prices={"USDC": 0.5}), tr.Scenario("calm", 0.75)
VAULT = tr.Vault(1e6, [tr.Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])


def test_near_levels_have_rows_of_their_own():
    """Also where six digits are the same."""
    sample = tr.simulate_losses(VAULT, [RUN, CALM], n=1000)

    effect = tr.marginal_risk(sample, tr.Policy("P2", "USDC", 1e4, 0.75, 0.25), levels=[0.99, 0.99, 0.9900000001])

    assert [
        "expected_loss", "value_at_risk 0.99", "expected_shortfall 0.99",
        "value_at_risk 0.9900000001", "expected_shortfall 0.9900000001",
    ] == effect.to_frame().index.tolist()  # fmt: skip

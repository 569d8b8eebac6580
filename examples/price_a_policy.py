"""Price a new policy: what it is expected to pay, what capital it binds, and a premium that pays for both.

Usage: python examples/price_a_policy.py
"""

from __future__ import annotations

import tonsurance_risk as tr

HURDLE = 0.10
"""What capital must earn a year; a choice of the desk."""

vault, scenarios = tr.sample_vault(), tr.builtin_scenarios()
volatility = {asset.symbol: 0.002 for asset in tr.STABLECOINS} | {"BTC": 0.1}
sample = tr.simulate_losses(vault, scenarios, volatility=volatility, n=400_000, sampling="sobol")

print(f"{'policy':<28}{'expected payout':>16}{'capital':>12}{'premium':>11}{'rate':>8}")
for asset, trigger, floor in (
    ("USDC", 0.97, 0.80),
    ("USDC", 0.90, 0.70),
    ("PYUSD", 0.97, 0.80),
    ("LUSD", 0.97, 0.80),
):
    policy = tr.Policy("NEW", asset, 500_000.0, trigger_price=trigger, floor_price=floor)
    # On the draws of the sample: the differences hold no noise of their own.
    change = tr.marginal_risk(sample, policy, levels=[0.99]).to_frame()["change"]
    expected, capital = change["expected_loss"], change["expected_shortfall 0.99"]
    premium = expected + HURDLE * (capital - expected)
    print(
        f"{f'{asset} {trigger:.2f} to {floor:.2f}':<28}{expected:>16,.0f}{capital:>12,.0f}{premium:>11,.0f}"
        f"{premium / policy.coverage:>8.1%}"
    )
print("premium = expected payout + what the capital that it binds must earn in a year; no costs, no profit")

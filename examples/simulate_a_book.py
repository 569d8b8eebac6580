"""Simulate the sample vault: how sure the figures are, who drives them, and what one more policy would change."""

from __future__ import annotations

import tonsurance_risk as tr

vault, scenarios = tr.sample_vault(), tr.builtin_scenarios()
volatility = {asset.symbol: 0.002 for asset in tr.STABLECOINS} | {"BTC": 0.1}

sample = tr.simulate_losses(vault, scenarios, volatility=volatility, precision=0.002)
print(f"{sample.n:,} simulations, converged: {sample.converged}")
print(sample.convergence(0.99))
print("VaR 99:", sample.value_at_risk(0.99))
print(f"to halve its error: {sample.suggested_n(0.001):,} simulations")

print("expected shortfall 99 by scenario:")
print(sample.contributions(0.99, by="scenario").round(-3))
print("the five policies that contribute most:")
print(sample.contributions(0.99, by="policy").drop("BTC").nlargest(5).round())

rare = tr.simulate_losses(vault, scenarios, volatility=volatility, n=100_000, sampling="importance")
print("VaR 99.9 by importance sampling:", rare.value_at_risk(0.999))

new = tr.Policy("NEW", "USDC", 500_000.0, trigger_price=0.97, floor_price=0.6)
print(f"one more policy of {new.coverage:,.0f} on {new.asset}:")
print(tr.marginal_risk(sample, new).to_frame().round().to_string())

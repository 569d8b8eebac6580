"""The simulation in plain loops: one scenario, one policy, one coin at a time. It shares no code with the library."""

from __future__ import annotations

import math


def cholesky(matrix):
    """Return the lower factor of a positive definite matrix, by the textbook's three loops."""
    n = len(matrix)
    factor = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(factor[i][k] * factor[j][k] for k in range(j))
            factor[i][j] = math.sqrt(rest) if i == j else rest / factor[j][j]
    return factor


def shifted(rho, k):
    """Return a correlation after a scenario's shift."""
    return rho + k * (1.0 - rho) if k >= 0.0 else rho * (1.0 + k)


def payout(policy, ratio):
    """Return what a policy pays."""
    if ratio >= policy.trigger_price:
        return 0.0
    if ratio <= policy.floor_price:
        return policy.coverage
    return policy.coverage * (policy.trigger_price - ratio) / (policy.trigger_price - policy.floor_price)


def loss(vault, scenario, symbols, correlation, volatility, z):
    """Return (loss, payout by policy, BTC loss) of one simulation, given independent normals of `symbols`."""
    n = len(symbols)
    matrix = [
        [1.0 if i == j else shifted(correlation[i][j], scenario.correlation_shift) for j in range(n)]
        for i in range(n)
    ]
    factor = cholesky(matrix)
    x = [sum(factor[i][k] * z[k] for k in range(i + 1)) for i in range(n)]
    shock = {
        symbol: volatility[symbol] * scenario.volatility_multiplier * x[i] for i, symbol in enumerate(symbols)
    }
    paid = [
        payout(policy, scenario.prices.get(policy.asset, 1.0) * math.exp(shock[policy.asset]))
        for policy in vault.policies
    ]
    total = sum(paid)
    if vault.aggregate_limit is not None and total > vault.aggregate_limit:
        paid = [amount * vault.aggregate_limit / total for amount in paid]
    sigma = volatility["BTC"] * scenario.volatility_multiplier
    growth = (1.0 + scenario.btc_change) * math.exp(shock["BTC"] - sigma**2 / 2.0) - 1.0
    return sum(paid) - vault.btc_value * growth, paid, -vault.btc_value * growth


def simulate(vault, scenarios, symbols, correlation, volatility, n, random):
    """Return n losses with the generator of the standard library."""
    mass = [scenario.probability * scenario.weight for scenario in scenarios]
    losses = []
    for scenario in random.choices(scenarios, mass, k=n):
        z = [random.gauss(0.0, 1.0) for _ in symbols]
        losses.append(loss(vault, scenario, symbols, correlation, volatility, z)[0])
    return losses

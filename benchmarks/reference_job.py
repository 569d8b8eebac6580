"""The reference job: a fixed book, scenarios and correlation, made the same way everywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

import tonsurance_risk as tr

N = 1_000_000
SIGMA = 0.005
CAPITAL, BTC_VALUE = 50e6, 1e6
PROBABILITIES = np.array([0.3, 0.15, 0.08, 0.1, 0.5])
MULTIPLIERS = (2.5, 3.0, 2.0, 4.0, 1.0)
PRICE_RANGES = ((0.85, 1.02), (0.95, 0.98), (0.8, 0.9), (0.75, 0.8))
LEVELS = (0.95, 0.99)


class Job(NamedTuple):
    """What `simulate_losses` needs."""

    vault: tr.Vault
    scenarios: list[tr.Scenario]
    correlation: pd.DataFrame
    volatility: dict[str, float]

    def sample(self, n: int = N, **options: object) -> tr.LossSample:
        """Simulate."""
        return tr.simulate_losses(
            self.vault,
            self.scenarios,
            correlation=self.correlation,
            volatility=self.volatility,
            n=n,
            **options,  # type: ignore[arg-type]
        )

    def run(self, n: int = N, **options: object) -> tr.LossSample:
        """Simulate, and estimate VaR and expected shortfall at 95 and 99 % with their intervals."""
        sample = self.sample(n, **options)
        for level in LEVELS:
            sample.value_at_risk(level)
            sample.expected_shortfall(level)
        return sample


def reference_job(n_policies: int = 1247) -> Job:
    """Return the job; another number of policies gives another book of the same kind."""
    g = np.random.default_rng(0)
    coins = [asset.symbol for asset in tr.STABLECOINS]
    a = g.standard_normal((15, 18))
    covariance = a @ a.T
    scale = 1.0 / np.sqrt(np.diag(covariance))
    unit = covariance * np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0)
    correlation = pd.DataFrame(unit, index=[*coins, "BTC"], columns=[*coins, "BTC"])
    table = pd.DataFrame(
        {
            "policy_id": [f"P{i}" for i in range(n_policies)],
            "asset": np.array(coins)[g.integers(0, 14, n_policies)],
            "coverage": g.lognormal(10, 1, n_policies),
            "trigger_price": g.uniform(0.95, 0.99, n_policies),
            "floor_price": g.uniform(0.5, 0.9, n_policies),
        }
    )
    prices = [g.uniform(low, high, 14) for low, high in PRICE_RANGES] + [np.ones(14)]
    scenarios = [
        tr.Scenario(
            f"s{i}",
            float(probability),
            prices=dict(zip(coins, levels.tolist(), strict=True)),
            volatility_multiplier=multiplier,
        )
        for i, (probability, levels, multiplier) in enumerate(
            zip(PROBABILITIES / PROBABILITIES.sum(), prices, MULTIPLIERS, strict=True)
        )
    ]
    return Job(
        tr.Vault.from_frame(table, capital=CAPITAL, btc_value=BTC_VALUE),
        scenarios,
        correlation,
        dict.fromkeys([*coins, "BTC"], SIGMA),
    )

"""Print how often intervals of correlations cover the truth, and what the test of a regime change sees.

Usage: python benchmarks/dependence_quality.py [--repetitions N]

1. Coverage of the 95 % intervals at correlation 0.5: Fisher's and the block bootstrap's, on normal returns, on
   jointly t(3) ones, on AR(1) ones with coefficient 0.5, and on both together.
2. The regime test at level 5 %, four coins, 60 against 300 days: its false alarms on normal and t(3) returns whose
   correlation stays 0.3, on returns that only become five times as loud, and its power for 0.3 to 0.7.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.signal import lfilter

import tonsurance_risk as tr

RHO = 0.5
RECENT, BASELINE, N_COINS = 60, 300, 4


def pair(kind: str, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return returns of two coins whose correlation is 0.5."""
    values = rng.normal(size=(n + 200, 2))
    values[:, 1] = RHO * values[:, 0] + np.sqrt(1.0 - RHO**2) * values[:, 1]
    if "t(3)" in kind:
        values *= np.sqrt(3.0 / rng.chisquare(3.0, (n + 200, 1)))
    if "AR" in kind:
        values = lfilter([1.0], [1.0, -0.5], values, axis=0)
    return pd.DataFrame(values[200:], columns=["DAI", "USDC"])


def print_coverage(repetitions: int) -> None:
    """Print a row a kind and number of rows."""
    print(
        f"coverage of 95 % intervals, {repetitions} repetitions "
        f"(standard error {np.sqrt(0.0475 / repetitions):.1%})"
    )
    print(f"{'returns':<12}{'rows':>6}{'Fisher':>9}{'bootstrap':>11}{'mean width':>12}")
    for kind in ("normal", "t(3)", "AR(0.5)", "t(3) AR(0.5)"):
        for n in (30, 90, 250, 1000):
            rng = np.random.default_rng(n)
            inside, width = {"fisher": 0, "bootstrap": 0}, 0.0
            for seed in range(repetitions):
                matrix = tr.correlation_matrix(pair(kind, n, rng), bootstrap=999, seed=seed)
                for interval in inside:
                    low, high = matrix.pairs(interval=interval).loc[0, ["low", "high"]]
                    inside[interval] += low <= RHO <= high
                width += high - low
            fisher, bootstrap = (inside[interval] / repetitions for interval in ("fisher", "bootstrap"))
            print(f"{kind:<12}{n:>6}{fisher:>9.1%}{bootstrap:>11.1%}{width / repetitions:>12.2f}")


def market(before: float, now: float, loud: float, heavy: bool, seed: int) -> pd.DataFrame:
    """Return daily returns whose equal correlation and volatility may change for the last 60 days."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(BASELINE + RECENT, N_COINS))
    if heavy:
        values *= np.sqrt(3.0 / rng.chisquare(3.0, (len(values), 1)))
    for part, rho in ((slice(0, BASELINE), before), (slice(BASELINE, None), now)):
        factor = np.linalg.cholesky(np.full((N_COINS, N_COINS), rho) + (1.0 - rho) * np.eye(N_COINS))
        values[part] = values[part] @ factor.T
    values[BASELINE:] *= loud
    index = pd.date_range("2023-01-01", periods=len(values), freq="D", tz="UTC")
    return pd.DataFrame(values, index=index, columns=["DAI", "GHO", "USDC", "USDT"])


def print_regimes(repetitions: int) -> None:
    """Print how often the test rejects."""
    print(f"\nregime test at 5 %, {RECENT} against {BASELINE} days, {repetitions} repetitions")
    for title, arguments in (
        ("false alarms, normal", (0.3, 0.3, 1.0, False)),
        ("false alarms, t(3)", (0.3, 0.3, 1.0, True)),
        ("false alarms, five times as loud", (0.3, 0.3, 5.0, False)),
        ("power, 0.3 to 0.7, normal", (0.3, 0.7, 1.0, False)),
        ("power, 0.3 to 0.7, t(3)", (0.3, 0.7, 1.0, True)),
    ):
        changes = [
            tr.correlation_regime_change(
                market(*arguments, seed), recent=RECENT, baseline=BASELINE, n_permutations=499, seed=seed
            )
            for seed in range(repetitions)
        ]
        rejected = np.mean([change.significant for change in changes])
        pairs = np.mean([change.pairs["significant"].any() for change in changes])
        print(f"{title:<34} {rejected:6.1%} of the matrices, any pair {pairs:6.1%}")


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(
        description="Coverage of intervals, error rates and power of the regime test."
    )
    parser.add_argument("--repetitions", type=int, default=1000)
    options = parser.parse_args()
    print_coverage(options.repetitions)
    print_regimes(options.repetitions)


if __name__ == "__main__":
    main()

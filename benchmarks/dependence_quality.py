"""Print how often intervals of correlations cover the truth, and what the test of a regime change sees.

Usage: python benchmarks/dependence_quality.py [--repetitions N]

1. Coverage of the 95 % intervals at correlation 0.5: Fisher's and the block bootstrap's, on normal returns, on
   jointly t(3) ones, on AR(1) ones with coefficient 0.5, and on both together.
2. The regime test at level 5 %, four coins, 60 against 300 days, and 30 against 335 as in the report: its false
   alarms on normal and t(3) returns whose correlation stays 0.3, on returns that only become five times as loud,
   and where one more coin was listed 55 days ago; and its power for 0.3 to 0.7.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.signal import lfilter

import tonsurance_risk as tr

RHO = 0.5
N_COINS = 4


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


def market(change: tuple[float, float], days: tuple[int, int], seed: int, **how: bool) -> pd.DataFrame:
    """Return daily returns whose equal correlation may change for the recent days; loud, heavy, late if asked."""
    (before, now), (recent, baseline) = change, days
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(baseline + recent, N_COINS))
    if how.get("heavy"):
        values *= np.sqrt(3.0 / rng.chisquare(3.0, (len(values), 1)))
    for part, rho in ((slice(0, baseline), before), (slice(baseline, None), now)):
        factor = np.linalg.cholesky(np.full((N_COINS, N_COINS), rho) + (1.0 - rho) * np.eye(N_COINS))
        values[part] = values[part] @ factor.T
    if how.get("loud"):
        values[baseline:] *= 5.0
    index = pd.date_range("2023-01-01", periods=len(values), freq="D", tz="UTC")
    frame = pd.DataFrame(values, index=index, columns=["DAI", "GHO", "USDC", "USDT"])
    if how.get("late"):
        frame["PYUSD"] = np.where(np.arange(len(frame)) >= len(frame) - 55, rng.normal(size=len(frame)), np.nan)
    return frame


def print_regimes(repetitions: int) -> None:
    """Print how often the test rejects."""
    print(f"\nregime test at 5 %, {repetitions} repetitions: rejections of the matrix, and of any pair")
    for title, change, how in (
        ("false alarms, normal", (0.3, 0.3), {}),
        ("false alarms, t(3)", (0.3, 0.3), {"heavy": True}),
        ("false alarms, five times as loud", (0.3, 0.3), {"loud": True}),
        ("false alarms, a coin listed late", (0.3, 0.3), {"late": True}),
        ("power, 0.3 to 0.7, normal", (0.3, 0.7), {}),
        ("power, 0.3 to 0.7, t(3)", (0.3, 0.7), {"heavy": True}),
        ("power, 0.3 to 0.7, a coin listed late", (0.3, 0.7), {"late": True}),
    ):
        cells = []
        for days in ((60, 300), (30, 335)):
            found = [
                tr.correlation_regime_change(
                    market(change, days, seed, **how),
                    recent=days[0],
                    baseline=days[1],
                    n_permutations=499,
                    seed=seed,
                )
                for seed in range(repetitions)
            ]
            matrix = np.mean([each.significant for each in found])
            pairs = np.mean([each.pairs["significant"].any() for each in found])
            cells.append(f"{days[0]} against {days[1]} days: {matrix:6.1%} {pairs:6.1%}")
        print(f"{title:<38} {'   '.join(cells)}")


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

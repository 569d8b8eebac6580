"""Print how long the library takes on this machine, each figure beside the plain way in the same run.

Usage: python benchmarks/run.py

Times are the best of several repetitions; on shared machines only the ratios carry over.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

import tonsurance_risk as tr

HOUR = timedelta(hours=1)


def seconds(function: Callable[[], object], repetitions: int = 5) -> float:
    """Return the best time of several calls."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def show(what: str, ours: float, aim: str, plain: float, plain_way: str) -> None:
    """Print one line."""
    print(f"{what:<58} {ours:9.4f} s  (aim {aim})  {plain / ours:7.1f} x the speed of {plain_way} ({plain:.3f} s)")


def sample_prices() -> pd.DataFrame:
    """Return the simulated market as a wide frame."""
    market = tr.sources.SampleSource()
    symbols = [*(asset.symbol for asset in tr.STABLECOINS), "BTC"]
    return pd.concat([market.fetch(symbol, market.first, market.last + HOUR) for symbol in symbols], axis=1)


def plain_losses(
    vault: tr.Vault, scenarios: list[tr.Scenario], correlation: pd.DataFrame, sigma: dict[str, float], n: int
) -> np.ndarray:
    """Simulate as one would in plain numpy: multivariate normals, and every policy of every simulation."""
    rng = np.random.default_rng(0)
    factors = list(correlation.columns)
    mass = np.array([s.probability * s.weight for s in scenarios])
    drawn = rng.choice(len(scenarios), size=n, p=mass / mass.sum())
    shocks = rng.multivariate_normal(np.zeros(len(factors)), correlation.to_numpy(), size=n)
    volatility = np.array([sigma.get(factor, 0.0) for factor in factors])
    multiplier = np.array([s.volatility_multiplier for s in scenarios])[drawn]
    moved = np.exp(volatility * multiplier[:, None] * shocks)
    levels = np.array([[s.prices.get(factor, 1.0) for factor in factors] for s in scenarios])[drawn]
    table = vault.to_frame()
    columns = [factors.index(asset) for asset in table["asset"]]
    trigger, floor, coverage = (table[name].to_numpy() for name in ("trigger_price", "floor_price", "coverage"))
    ratio = (levels * moved)[:, columns]
    payouts = (coverage * np.clip((trigger - ratio) / (trigger - floor), 0.0, 1.0)).sum(axis=1)
    changes = np.array([s.btc_change for s in scenarios])[drawn]
    return payouts - vault.btc_value * ((1.0 + changes) * moved[:, factors.index("BTC")] - 1.0)


def plain_detection(prices: pd.Series) -> list[tuple[object, ...]]:
    """Find stretches below 0.99 as one would in pandas: group by the change of the state."""
    below = prices < 0.99
    groups = (below != below.shift()).cumsum()
    return [
        (part.index[0], part.index[-1], part.min(), part.max(), len(part))
        for _, part in prices[below].groupby(groups[below])
        if part.index[-1] - part.index[0] >= HOUR
    ]


def main() -> None:
    """Run every benchmark and print its line."""
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    )
    prices = sample_prices()
    vault, scenarios = tr.sample_vault(), tr.builtin_scenarios()
    as_of = tr.sources.SampleSource().last

    def report() -> str:
        return tr.assess(prices, vault, as_of=as_of, step="1h", generated_at=datetime.now(UTC), n=10_000).to_json()

    correlation = tr.correlation_windows(prices, windows=(90,))[90]
    sigma = tr.estimate_volatility(prices)
    n = 10_000
    plain = seconds(lambda: plain_losses(vault, scenarios, correlation.to_frame(), sigma, n), 3)
    ours = seconds(lambda: tr.simulate_losses(vault, scenarios, correlation=correlation, volatility=sigma, n=n))
    show("10,000 simulations of the sample vault", ours, "under 2 s with the report", plain, "plain numpy")
    full = seconds(report, 3)
    print(f"{'  with the whole report, two years hourly, as JSON':<58} {full:9.4f} s  (aim 2 s)")
    print(f"  {n / ours:,.0f} simulations a second at n = 10,000", end="")
    million = seconds(
        lambda: tr.simulate_losses(vault, scenarios, correlation=correlation, volatility=sigma, n=1_000_000), 1
    )
    print(f", {1_000_000 / million:,.0f} at n = 1,000,000")

    rng = np.random.default_rng(0)
    minutes = pd.date_range("2022-01-01", periods=1_000_000, freq="min", tz="UTC")
    long = pd.Series(1.0 + rng.normal(0, 5e-4, len(minutes)), index=minutes, name="USDC")
    for start in range(5_000, 1_000_000, 10_000):
        long.iloc[start : start + 300] -= 0.05
    assert len(tr.detect_depegs(long)) == len(plain_detection(long)) == 100
    show(
        "detection over 1,000,000 prices, 100 events",
        seconds(lambda: tr.detect_depegs(long)),
        "0.1 s",
        seconds(lambda: plain_detection(long), 3),
        "pandas groupby",
    )

    year = prices[[asset.symbol for asset in tr.STABLECOINS]].loc[as_of - timedelta(days=365) :].copy()
    year = year.mask(rng.random(year.shape) < 0.05)

    def plain_windows() -> list[pd.DataFrame]:
        returns = np.log(year).diff()
        return [returns.loc[as_of - timedelta(days=days) :].corr(min_periods=20) for days in (30, 90, 365)]

    show(
        "91 pairs x 3 windows over a year of hours, 5 % gaps",
        seconds(lambda: tr.correlation_windows(year, as_of=as_of)),
        "0.1 s",
        seconds(plain_windows),
        "DataFrame.corr",
    )


if __name__ == "__main__":
    main()

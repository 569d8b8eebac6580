"""Print how long the whole report takes, beside its bare numbers made in plain pandas and numpy.

Usage: python benchmarks/report_speed.py

The peer finds the same events, correlations and losses; it checks nothing and has no intervals or alerts.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

import tonsurance_risk as tr
from detection_speed import plain_detection
from engine import plain_numpy
from measured import Figure, best_of_turns
from reference_job import LEVELS, Job

N = 10_000


def sample_prices(days: int) -> pd.DataFrame:
    """Return the last days of the simulated market, hourly, as a wide frame."""
    market = tr.sources.SampleSource()
    symbols = [*(asset.symbol for asset in tr.STABLECOINS), "BTC"]
    start, end = market.last - timedelta(days=days), market.last + timedelta(hours=1)
    return pd.concat([market.fetch(symbol, max(start, market.first), end) for symbol in symbols], axis=1)


def plain_report(prices: pd.DataFrame, job: Job) -> None:
    """Compute what a report states, as one would."""
    for asset in prices.columns.drop("BTC"):
        plain_detection(prices[asset].dropna())
    returns = np.log(prices).diff()
    for window in (30, 90, 365):
        returns.loc[prices.index[-1] - timedelta(days=window) :].corr(min_periods=20)
    losses = np.sort(plain_numpy(job, N))
    for level in LEVELS:
        losses[losses >= np.quantile(losses, level)].mean()


def measure(days: int = 730) -> list[Figure]:
    """Assess the sample vault on the simulated market, n = 10,000, and write the report as JSON."""
    prices = sample_prices(days)
    vault, as_of = tr.sample_vault(), prices.index[-1]
    correlation = tr.correlation_windows(prices, windows=(90,))[90].to_frame()
    job = Job(vault, tr.builtin_scenarios(), correlation, tr.estimate_volatility(prices))

    times = best_of_turns(
        {
            "ours": lambda: tr.assess(prices, vault, as_of=as_of, step="1h", generated_at=as_of, n=N).to_json(),
            "plain": lambda: plain_report(prices, job),
        },
        3,
    )

    what = f"report on {len(prices):,} hours, {N:,} simulations"
    return [Figure(what, 1, "reports", times["ours"], "the bare numbers in pandas and numpy", times["plain"])]


if __name__ == "__main__":
    for figure in measure():
        print(figure)

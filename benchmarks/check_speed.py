"""Print how long all checks of 14 coins over two years hourly take, beside one rolling median of the same frame.

Usage: python benchmarks/check_speed.py

Times are the best of several repetitions; on shared machines only the ratio carries over. The aim is at most 10
for the sample market; a frame full of findings takes longer by what it takes to write them down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd

import tonsurance_risk as tr

REPETITIONS = 5


def seconds(function: Callable[[], object]) -> float:
    """Return the best time of several calls."""
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def sample_prices() -> pd.DataFrame:
    """Return the simulated market of 14 coins as a wide frame."""
    market = tr.sources.SampleSource()
    end = market.last + timedelta(hours=1)
    return pd.concat([market.fetch(asset.symbol, market.first, end) for asset in tr.STABLECOINS], axis=1)


def noisy(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the same frame with 100 spikes a coin and a print that all coins share every ten days."""
    rng = np.random.default_rng(0)
    values = prices.to_numpy().copy()
    for coin in range(values.shape[1]):
        values[rng.choice(len(values), 100, replace=False), coin] *= 0.95
    for start in range(120, len(values) - 24, 240):
        values[start : start + 6] *= 0.97
    return pd.DataFrame(values, index=prices.index, columns=prices.columns)


def main() -> None:
    """Print a line a frame."""
    calm = sample_prices()
    for what, aim, prices in (
        ("sample market", "at most 10", calm),
        ("with 1,400 spikes and 73 common prints", "none", noisy(calm)),
    ):
        plain = seconds(lambda prices=prices: prices.rolling(25).median())
        ours = seconds(lambda prices=prices: tr.check_prices(prices, as_of=prices.index[-1]))
        shape = f"{prices.shape[0]} x {prices.shape[1]}"
        print(f"{what} ({shape}): checks {ours:.3f} s, rolling(25).median() {plain:.3f} s, "
              f"ratio {ours / plain:.1f} (aim: {aim})")  # fmt: skip


if __name__ == "__main__":
    main()

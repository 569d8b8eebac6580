"""Time the correlations against pandas, in one run, and what the report adds to them.

Usage: python benchmarks/correlation_speed.py

The ratios count, not the seconds: the best of several repetitions on each side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd

import tonsurance_risk as tr

WINDOWS = (30, 90, 365)


def best(run: Callable[[], object], repetitions: int = 7) -> float:
    """Return the seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def panel(n_rows: int, n_assets: int, gaps: float) -> pd.DataFrame:
    """Return hourly returns with a common part and gaps."""
    rng = np.random.default_rng(0)
    values = 1e-3 * (rng.standard_t(4, (n_rows, n_assets)) + rng.standard_t(4, (n_rows, 1)))
    values[rng.random(values.shape) < gaps] = np.nan
    index = pd.date_range("2024-01-01", periods=n_rows, freq="h", tz="UTC")
    return pd.DataFrame(values, index=index, columns=[f"C{i:04d}" for i in range(n_assets)])


def main() -> None:
    """Print a line a job."""
    year = panel(8760, 14, 0.05)
    end = year.index[-1]

    def pandas_windows() -> list[pd.DataFrame]:
        return [year.loc[end - timedelta(days=days) :].corr(min_periods=20) for days in WINDOWS]

    ours, theirs = best(lambda: tr.correlation_windows(returns=year, windows=WINDOWS)), best(pandas_windows)
    print(
        f"91 pairs x 3 windows, 8,760 rows, 5 % gaps: {ours:.4f} s, {theirs / ours:.1f} x DataFrame.corr (aim 1)"
    )
    with_intervals = best(lambda: tr.correlation_windows(returns=year, windows=WINDOWS, bootstrap=999), 3)
    print(f"  with 999 block-bootstrap resamples: {with_intervals:.3f} s")
    sensitivity = best(lambda: tr.correlation_sensitivity(year), 3)
    print(f"  sensitivity of the year to 5 days, and the common mode: {sensitivity:.3f} s")
    change = best(lambda: tr.correlation_regime_change(year), 3)
    print(f"  regime change, 30 against 335 days, 4,999 exchanges: {change:.3f} s")
    tail = best(lambda: tr.tail_dependence(year), 3)
    print(f"  lower-tail dependence: {tail:.3f} s")

    for gaps in (0.05, 0.0):
        wide = panel(8760, 1000, gaps)
        ours, theirs = (
            best(lambda wide=wide: tr.correlation_matrix(wide), 3),
            best(lambda wide=wide: wide.corr(), 1),
        )
        print(f"1,000 assets, {gaps:.0%} gaps: {ours:.2f} s, {theirs / ours:.1f} x DataFrame.corr (aim 5)")


if __name__ == "__main__":
    main()

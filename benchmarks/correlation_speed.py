"""Time the correlations against pandas, in one run, and what the report adds to them.

Usage: python benchmarks/correlation_speed.py

The ratios count, not the seconds: the best of several repetitions on each side.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

import tonsurance_risk as tr
from measured import Figure, best, best_of_turns

WINDOWS = (30, 90, 365)
ROWS = 8_760


def panel(n_rows: int, n_assets: int, gaps: float) -> pd.DataFrame:
    """Return hourly returns with a common part and gaps."""
    rng = np.random.default_rng(0)
    values = 1e-3 * (rng.standard_t(4, (n_rows, n_assets)) + rng.standard_t(4, (n_rows, 1)))
    values[rng.random(values.shape) < gaps] = np.nan
    index = pd.date_range("2024-01-01", periods=n_rows, freq="h", tz="UTC")
    return pd.DataFrame(values, index=index, columns=[f"C{i:04d}" for i in range(n_assets)])


def measure(n_rows: int = ROWS) -> list[Figure]:
    """Correlate 14 coins in three windows and 1,000 assets in one, beside pandas."""
    year = panel(n_rows, 14, 0.05)
    end = year.index[-1]

    def pandas_windows() -> list[pd.DataFrame]:
        return [year.loc[end - timedelta(days=days) :].corr(min_periods=20) for days in WINDOWS]

    times = best_of_turns(
        {"ours": lambda: tr.correlation_windows(returns=year, windows=WINDOWS), "pandas": pandas_windows}, 7
    )
    what = f"91 pairs x 3 windows, {n_rows:,} rows, 5 % gaps"
    figures = [Figure(what, 273, "correlations", times["ours"], "DataFrame.corr", times["pandas"], aim=1)]
    n_assets = min(1_000, n_rows // 8)
    for gaps in (0.05, 0.0):
        wide = panel(n_rows, n_assets, gaps)
        ours, pandas = best(lambda wide=wide: tr.correlation_matrix(wide), 3), best(wide.corr, 1)
        what = f"{n_assets:,} assets, {n_rows:,} rows, {gaps:.0%} gaps"
        pairs = n_assets * (n_assets - 1) // 2
        figures.append(Figure(what, pairs, "correlations", ours, "DataFrame.corr", pandas, aim=5))
    return figures


def main() -> None:
    """Print a line a job."""
    for figure in measure():
        print(figure)
    year = panel(ROWS, 14, 0.05)
    with_intervals = best(lambda: tr.correlation_windows(returns=year, windows=WINDOWS, bootstrap=999), 3)
    print(f"91 pairs x 3 windows with 999 block-bootstrap resamples: {with_intervals:.3f} s")
    sensitivity = best(lambda: tr.correlation_sensitivity(year), 3)
    print(f"  sensitivity of the year to 5 days, and the common mode: {sensitivity:.3f} s")
    change = best(lambda: tr.correlation_regime_change(year), 3)
    print(f"  regime change, 30 against 335 days, 4,999 exchanges: {change:.3f} s")
    tail = best(lambda: tr.tail_dependence(year), 3)
    print(f"  lower-tail dependence: {tail:.3f} s")


if __name__ == "__main__":
    main()

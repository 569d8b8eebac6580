"""Print how fast depegs are found, in the whole history and sample by sample, beside plain ways in the same run.

Usage: python benchmarks/detection_speed.py

2,000,000 minute prices with 100 events of five hours. The ways take turns and the best of several rounds
counts, so that a busy machine slows all of them; still only the ratios carry over to another machine. Nothing
that detection uses is kept by pandas from one round to the next. An accruing reference is sequential by
definition and is printed without an aim.
"""

from __future__ import annotations

import platform
from datetime import datetime

import numpy as np
import pandas as pd

import tonsurance_risk as tr
from measured import Figure, best_of_turns
from tonsurance_risk.core.detector import DepegDetector

N = 2_000_000
N_STREAMED = 500_000
DEPEG = 300


def minute_prices(n: int = N) -> pd.Series:
    """Return prices with 5 bp of noise around 1 and a discount of 5 % every 20,000 minutes."""
    minutes = pd.date_range("2022-01-01", periods=n, freq="min", tz="UTC")
    prices = 1.0 + np.random.default_rng(0).normal(0.0, 5e-4, n)
    for start in range(5_000, n, 20_000):
        prices[start : start + DEPEG] -= 0.05
    return pd.Series(prices, index=minutes, name="USDC")


def plain_detection(prices: pd.Series) -> list[tuple[object, ...]]:
    """Find stretches below 0.99 as one would in pandas: group by the change of the state."""
    below = prices < 0.99
    groups = (below != below.shift()).cumsum()
    found = []
    for _, part in prices[below].groupby(groups[below]):
        start, end = part.index[0], part.index[-1]
        if end - start >= pd.Timedelta("1h"):
            after = prices.index.searchsorted(end) + 1
            recovered = prices.index[after] if after < len(prices) else None
            found.append((start, end, recovered, part.min(), part.max(), (1.0 - part).max(), len(part)))
    return found


def stream(detector: DepegDetector, times: list[datetime], prices: list[float]) -> list[tr.DepegEvent]:
    """Return the events of all updates and of the end."""
    events: list[tr.DepegEvent] = []
    for at, price in zip(times, prices, strict=True):
        events += detector.update(at, price)
    return events + detector.finish()


def check_same_work(prices: pd.Series) -> None:
    """Refuse to compare ways that do not find the same."""
    found = [
        (e.start, e.end, e.recovered_at, e.min_price, e.max_price, e.severity, e.n_observations)
        for e in tr.detect_depegs(prices)
    ]
    assert found == plain_detection(prices)
    assert len(found) == len(prices) // 20_000


def measure(n: int = N) -> list[Figure]:
    """Detect in the whole history, beside a groupby and beside one comparison."""
    prices = minute_prices(n)
    check_same_work(prices)
    times = best_of_turns(
        {
            "plain": lambda: plain_detection(prices),
            "ours": lambda: tr.detect_depegs(prices),
            "pass": lambda: prices < 0.99,
        },
        15,
    )
    what = f"detection over {n:,} prices, {n // 20_000} events"
    return [
        Figure(what, n, "prices", times["ours"], "pandas groupby", times["plain"], aim=10),
        Figure(what, n, "prices", times["ours"], "prices < 0.99 alone", times["pass"], aim=0.1),
    ]


def show_others(prices: pd.Series) -> None:
    """Print what other rules cost."""
    with_nan = prices.mask(np.arange(N) % 20 == 0)
    others = best_of_turns(
        {
            "one price in 20 NaN": lambda: tr.detect_depegs(with_nan),
            "both directions": lambda: tr.detect_depegs(prices, direction="both"),
            "a fixed peg of 1.001": lambda: tr.detect_depegs(prices, peg=1.001),
            "merging and gaps": lambda: tr.detect_depegs(
                prices, merge_within=pd.Timedelta("1D"), max_gap=pd.Timedelta("1h")
            ),
        },
        3,
    )
    accruing = best_of_turns({"an accruing peg": lambda: tr.detect_depegs(prices, peg=tr.AccruingPeg())}, 1)
    for name, seconds in (others | accruing).items():
        print(f"  {seconds * 1e3:7.1f} ms  {name}  (no aim)")


def show_stream(prices: pd.Series) -> None:
    """Print detection sample by sample."""
    part = prices.iloc[:N_STREAMED]
    stamps, values = part.index.tolist(), part.tolist()
    datetimes = [stamp.to_pydatetime() for stamp in stamps]
    assert stream(DepegDetector("USDC"), stamps, values) == tr.detect_depegs(part)
    best = best_of_turns(
        {
            "pandas Timestamps  (aim: at least 200,000)": lambda: stream(DepegDetector("USDC"), stamps, values),
            "datetimes  (aim: at least 200,000)": lambda: stream(DepegDetector("USDC"), datetimes, values),
            "an accruing peg  (no aim)": lambda: stream(
                DepegDetector("USDC", peg=tr.AccruingPeg()), stamps, values
            ),
        },
        4,
    )
    print(f"DepegDetector over {N_STREAMED:,} prices, samples a second")
    for name, seconds in best.items():
        print(f"  {N_STREAMED / seconds:9,.0f}  {name}")


def main() -> None:
    """Run every benchmark and print its lines."""
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, pandas {pd.__version__}"
    )
    for figure in measure():
        print(figure)
    prices = minute_prices()
    show_others(prices)
    show_stream(prices)


if __name__ == "__main__":
    main()

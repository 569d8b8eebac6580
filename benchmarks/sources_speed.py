"""Print how long parsing takes beside the plainest way, and how much of a backfill is the client's own work.

Usage: python benchmarks/sources_speed.py

The first is a chart of 100,000 points, parsed by `parse_market_chart` and by ``json.loads`` with one numpy array;
times are the best of several repetitions, and the aim is a ratio of at most 1. The second fetches two years of 14
assets and BTC at the limit of the smallest paid plan, from a server in another process, into an SQLite file: half
a minute, of which the processor time of the client is the share that is printed.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import tonsurance_risk as tr
from tonsurance_risk.runner.backfill import run_backfill
from tonsurance_risk.sources.coingecko import CoinGeckoSource
from tonsurance_risk.sources.coingecko_answers import parse_market_chart

POINTS = 100_000
REPETITIONS = 7
KEY = "benchmark"


def seconds(function: Callable[[], object]) -> float:
    """Return the best processor time of several calls."""
    times = []
    for _ in range(REPETITIONS):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


def chart() -> bytes:
    """Return a chart with prices, market caps and volumes, as the host writes it."""
    rng = np.random.default_rng(0)
    stamps = 1_300_000_000_000 + 3_600_000 * np.arange(POINTS) + rng.integers(0, 240_000, POINTS)
    columns = {
        name: list(map(list, zip(stamps.tolist(), rng.normal(level, level / 100, POINTS).tolist(), strict=True)))
        for name, level in (("prices", 1.0), ("market_caps", 1e10), ("total_volumes", 1e9))
    }
    return json.dumps(columns, separators=(",", ":")).encode()


def serve(where: Connection) -> None:
    """Serve in a process of its own until told to stop."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers.coingecko import coingecko

    with coingecko(tier="pro", key=KEY, calls_per_minute=250) as (server, _):
        where.send(server.url)
        where.recv()


def main() -> None:
    """Print a line each."""
    body = chart()
    plain = seconds(lambda: np.array(json.loads(body)["prices"]))
    ours = seconds(lambda: parse_market_chart(body))
    print(
        f"{POINTS:,} points, {len(body) / 1e6:.1f} MB: parse_market_chart {ours:.3f} s, json.loads and one array "
        f"{plain:.3f} s, ratio {ours / plain:.2f} (aim: at most 1)"
    )

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    source = CoinGeckoSource(tier="pro", api_key=KEY, base_url=here.recv() + "/api/v3")
    with tempfile.TemporaryDirectory() as folder, tr.open_store(f"sqlite:///{folder}/risk.db") as store, source:
        begun, worked = time.perf_counter(), time.process_time()
        result = run_backfill(store, source, start=datetime.now(UTC) - timedelta(days=730))
        begun, worked = time.perf_counter() - begun, time.process_time() - worked
    here.send("stop")
    process.join()
    least = (result.plan.calls - 10) / 240 * 60
    print(
        f"{sum(result.fetched.values()):,} samples in {result.calls} calls: {begun:.1f} s (the limit alone: "
        f"{least:.1f} s), of which {worked:.1f} s processor time, {worked / begun:.0%}"
    )


if __name__ == "__main__":
    main()

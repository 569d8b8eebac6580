"""Print how long parsing takes beside the plainest way, and how much of a backfill is the client's own work.

Usage: python benchmarks/sources_speed.py

The first are answers of 100,000 points, parsed by the library and by ``json.loads`` with one numpy array;
times are the best of several repetitions, and the aim is a ratio of at most 1. The last fetches two years of 14
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
from typing import Any

import numpy as np
import pandas as pd

import tonsurance_risk as tr
from tonsurance_risk.runner.backfill import run_backfill
from tonsurance_risk.sources.binance import parse_klines
from tonsurance_risk.sources.coinbase import parse_candles
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


def candles(quoted: bool) -> bytes:
    """Return hourly candles as Binance writes them (prices are texts), or Coinbase (numbers)."""
    rng = np.random.default_rng(0)
    times = 1_300_000_000 + 3_600 * np.arange(POINTS)
    prices = np.sort(rng.normal(1.0, 1e-3, (POINTS, 4)).round(8), axis=1)[:, [0, 3, 1, 2]].tolist()
    if not quoted:  # low, high, open, close
        rows = [[time, *row, 1.5] for time, row in zip(times.tolist(), prices, strict=True)]
        return json.dumps(rows, separators=(",", ":")).encode()
    rows = [
        [1000 * time, *(f"{price:.8f}" for price in row), "9.5", 1000 * (time + 3_600) - 1, "9", 7, "4", "4", "0"]
        for time, row in zip(times.tolist(), prices, strict=True)
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def show_parsing(name: str, body: bytes, parse: Callable[[bytes], object], plain: Callable[[Any], object]) -> None:
    """Print how long a parser takes beside ``json.loads`` and one array of its prices."""
    theirs, ours = seconds(lambda: plain(json.loads(body))), seconds(lambda: parse(body))
    print(
        f"{POINTS:,} points, {len(body) / 1e6:.1f} MB: {name} {ours:.3f} s, json.loads and one array "
        f"{theirs:.3f} s, ratio {ours / theirs:.2f} (aim: at most 1)"
    )


def serve(where: Connection) -> None:
    """Serve in a process of its own until told to stop."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers.coingecko import coingecko

    with coingecko(tier="pro", key=KEY, calls_per_minute=250) as (server, _):
        where.send(server.url)
        where.recv()


def main() -> None:
    """Print a line each."""
    now, hour = pd.Timestamp.now(tz="UTC"), timedelta(hours=1)
    show_parsing("parse_market_chart", chart(), parse_market_chart, lambda found: np.array(found["prices"]))
    show_parsing(
        "parse_klines (Binance)",
        candles(quoted=True),
        lambda body: parse_klines(body, hour, now=now),
        lambda found: np.array([(row[0], row[4]) for row in found], dtype=float),
    )
    show_parsing(
        "parse_candles (Coinbase)",
        candles(quoted=False),
        lambda body: parse_candles(body, hour, now=now),
        np.array,
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

"""Print what a day costs on the sample market: time, memory, the share of each job, and a day that is done.

Usage: python benchmarks/daily_cycle.py [1h|1d]
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

STEP = sys.argv[1] if len(sys.argv) > 1 else "1h"


def command(folder: Path, *arguments: str) -> tuple[float, list[dict[str, str]]]:
    """Return the time of a command [s] and its log."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tonsurance_risk", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - start
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return took, [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def main() -> None:
    """Print the figures of one run."""
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, step {STEP}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_up = min(command(folder, "--version")[0] for _ in range(3))
        first, log = command(folder, "daily", "--interval", STEP, "--log-json")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"first day:        {first:6.2f} s (aim under 10), at most {peak:.0f} MB (aim under 500)")
        begun: dict[str, pd.Timestamp] = {}
        for event in log:
            job = event["message"].split()[0]
            if event["message"].endswith("begins"):
                begun[job] = pd.Timestamp(event["time"])
            elif job in begun:
                seconds = (pd.Timestamp(event["time"]) - begun.pop(job)).total_seconds()
                print(f"  {job:20}{seconds:6.2f} s  {seconds / first:5.0%}")
        print(f"  start-up            {start_up:6.2f} s  {start_up / first:5.0%}")
        again, _ = command(folder, "daily", "--interval", STEP)
        print(f"the same day again:{again:5.2f} s, start-up alone {start_up:.2f} s")
        # The date before the last: the store has the prices, and only the last 7 days are fetched again.
        before = json.loads(next((folder / "reports").glob("*.json")).read_text())["report_date"]
        date = (pd.Timestamp(before) - pd.Timedelta(days=1)).date()
        another, _ = command(folder, "daily", "--interval", STEP, "--as-of", str(date))
        print(f"another day:      {another:6.2f} s")


if __name__ == "__main__":
    main()

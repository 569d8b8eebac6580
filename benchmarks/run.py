"""Print how fast the library is, each figure beside its peer in the same run.

Usage: python benchmarks/run.py [--tiny] [--write FILE] [--against BASELINE]

Simulation, detection, correlation, storage and the whole report; the modules beside this one have more of each.
Times are the best of several turns; on shared machines only the ratios carry over. `--write` keeps the figures as
JSON. `--against` compares with such a file, by ratio and never by time, and fails where a ratio misses
its aim, if it has one, and is less than a third of the one there: what a busy machine does stays within that, an
algorithm of another order does not.
`--tiny` makes every job small enough for a test; its figures are of that size only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import correlation_speed
import detection_speed
import engine
import report_speed
import storage_speed
from measured import Figure

AREAS: dict[str, tuple[Callable[[int], list[Figure]], int, int]] = {
    "simulation": (engine.measure, engine.N, 20_000),
    "detection": (detection_speed.measure, detection_speed.N, 40_000),
    "correlation": (correlation_speed.measure, correlation_speed.ROWS, 800),
    "storage": (storage_speed.measure, storage_speed.ROWS, 1_400),
    "report": (report_speed.measure, 730, 60),
}
"""What measures each, at which size, and at which in a test."""
TOLERANCE = 3.0


def machine() -> str:
    """Return what the figures were measured on."""
    processor = platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, pandas {pd.__version__}"
    return f"{processor}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {versions}"


def slower(figures: dict[str, dict[str, Any]], baseline: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each ratio that is out of tolerance, or is no longer measured."""
    found = []
    for name, known in baseline.items():
        if name not in figures:
            found.append(f"{name}: in the baseline, not measured here")
        elif figures[name]["ratio"] < min(known["ratio"] / TOLERANCE, figures[name]["aim"] or math.inf):
            found.append(f"{name}: {figures[name]['ratio']:.2f}, {known['ratio']:.2f} in the baseline")
    return found


def main() -> None:
    """Measure every area."""
    parser = argparse.ArgumentParser(description="Print how fast the library is, beside its peers.")
    parser.add_argument("--tiny", action="store_true", help="small jobs, for a test")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures as JSON")
    parser.add_argument(
        "--against", type=Path, metavar="BASELINE", help="fail where a ratio is much less than there"
    )
    asked = parser.parse_args()

    print(machine())
    figures = {}
    for area, (measure, full, tiny) in AREAS.items():
        print(area)
        for figure in measure(tiny if asked.tiny else full):
            print(f"  {figure}")
            measured = {"area": area, "seconds": figure.seconds, "ratio": figure.ratio, "aim": figure.aim}
            figures[f"{figure.what} / {figure.peer}"] = measured
    if asked.write:
        asked.write.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    if asked.against and (found := slower(figures, json.loads(asked.against.read_text())["figures"])):
        raise SystemExit("slower than the baseline:\n  " + "\n  ".join(found))


if __name__ == "__main__":
    main()

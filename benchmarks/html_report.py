"""Print how long the page of a report takes, and how large it is, on the sample market or a folder of prices.

Usage: python benchmarks/html_report.py [FOLDER AS_OF]
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from contextlib import suppress
from datetime import timedelta

import pandas as pd

import tonsurance_risk as tr

AIM_SECONDS, AIM_BYTES = 3.0, 2_000_000


def report() -> tr.RiskReport:
    """Assess the sample vault on two years of prices."""
    if len(sys.argv) > 2:
        source: tr.sources.PriceSource = tr.sources.CsvSource(sys.argv[1])
        end, step = pd.Timestamp(sys.argv[2], tz="UTC"), "1d"
    else:
        source = tr.sources.SampleSource()
        end, step = pd.Timestamp(tr.sources.SampleSource().last), "1h"
    columns = {}
    for asset in [*(coin.symbol for coin in tr.STABLECOINS), "BTC"]:
        with suppress(tr.UnknownAssetError):
            start = end - timedelta(days=730)
            columns[asset] = source.fetch(asset, start, end + timedelta(microseconds=1), step=step)
    return tr.assess(
        pd.DataFrame(columns), tr.sample_vault(), as_of=end, step=step, generated_at=end, source=source.name
    )


def main() -> None:
    """Print the figures of the first page of a process, which imports matplotlib, and of a later one."""
    assessed = report()
    document = assessed.to_dict()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, {assessed.source}"
    )
    for which in ("first", "second"):
        start, cpu = time.perf_counter(), time.process_time()
        page = tr.render_html(assessed, document=document)
        took, used = time.perf_counter() - start, time.process_time() - cpu
        print(f"{which} page: {took:5.2f} s, {used:5.2f} s of processors (aim under {AIM_SECONDS:g})")
    size = len(page.encode())
    print(f"size: {size:,} bytes (aim under {AIM_BYTES:,}), {page.count('<svg')} charts")
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()

"""Find the depegs of the simulated market, list the deepest, and draw when coins were off peg.

Usage: python examples/detect_and_plot.py [FOLDER]; needs the extra `report`.

FOLDER is where depegs.png and usdc.png go, the working directory when not given.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import matplotlib as mpl
import pandas as pd

import tonsurance_risk as tr

mpl.use("agg")  # files, no window
folder = Path(*sys.argv[1:])

market = tr.sources.SampleSource()
end = market.last + timedelta(hours=1)
prices = pd.concat([market.fetch(asset.symbol, market.first, end) for asset in tr.STABLECOINS], axis=1)
usable = tr.check_prices(prices, as_of=market.last).usable(prices)

events = tr.detect_depegs(usable, direction="both", sample_span=timedelta(hours=1))
deepest = tr.events_to_frame(events).nlargest(3, "severity")
print(deepest[["asset", "direction", "start", "duration", "severity"]].to_string(index=False))

axes = tr.plots.depeg_timeline(events)
axes.figure.savefig(folder / "depegs.png", dpi=120, bbox_inches="tight")

week = usable["USDC"].loc["2024-03-08":"2024-03-16"]
axes = tr.plots.price_with_events(week, [event for event in events if event.asset == "USDC"])
axes.figure.savefig(folder / "usdc.png", dpi=120, bbox_inches="tight")
print("wrote", folder / "depegs.png", "and", folder / "usdc.png")

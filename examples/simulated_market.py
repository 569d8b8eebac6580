"""Turn the depegs of the simulated market into scenarios; print both, and what a vault would lose in them."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

import tonsurance_risk as tr

market = tr.sources.SampleSource()
coins = [market.fetch(asset.symbol, market.first, market.last) for asset in tr.STABLECOINS]
prices = pd.concat(coins, axis=1).sort_index()
usable = tr.check_prices(prices, as_of=market.last).usable(prices)

events = tr.detect_depegs(usable, direction="both", sample_span=timedelta(hours=1))
print(tr.events_to_frame(events)[["asset", "direction", "start", "duration", "severity"]].to_string())

scenarios = tr.scenarios_from_events(events, observed_years=2.0)
sample = tr.simulate_losses(tr.sample_vault(), scenarios, volatility=tr.estimate_volatility(usable, events))
print(sample.by_scenario().to_string())
print(sample.expected_shortfall(0.99))

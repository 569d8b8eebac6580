# %% [markdown]
# # How far does history carry?
# A notebook in plain text: editors run it cell by cell, `python examples/analyst_notebook.py` runs it as a whole.
# Question: how much of the vault's value at risk is judgement, and how much is in the prices?

# %%
"""Compare the built-in scenarios with those of the market's own depegs, and mix the two."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pandas as pd

import tonsurance_risk as tr

market = tr.sources.SampleSource()
symbols = [*(asset.symbol for asset in tr.STABLECOINS), "BTC"]
end = market.last + timedelta(hours=1)
prices = pd.concat([market.fetch(symbol, market.first, end) for symbol in symbols], axis=1)
usable = tr.check_prices(prices, as_of=market.last).usable(prices)
events = tr.detect_depegs(usable, direction="both", sample_span=timedelta(hours=1))

# %%
rates = tr.depeg_statistics(events, observed=2.0)
print(rates.episodes.to_string())

# %% [markdown]
# Seven joint episodes in two years. A coin without one would never depeg again: the prior of Jeffreys gives each
# half an event.

# %%
judged = tr.builtin_scenarios()
lived = tr.scenarios_from_events(events, observed_years=2.0, prior="jeffreys")
vault = tr.sample_vault()
volatility = tr.estimate_volatility(usable, events)
correlation = tr.correlation_windows(usable, as_of=market.last, windows=(90,))[90]


# %%
def value_at_risk(scenarios: list[tr.Scenario]) -> tr.Estimate:
    """Return VaR 99 of the vault; the same seed, so that differences are those of the scenarios."""
    sample = tr.simulate_losses(
        vault, scenarios, correlation=correlation, volatility=volatility, n=200_000, seed=1
    )
    return sample.value_at_risk(0.99)


rows = []
for share in (0.0, 0.25, 0.5, 0.75, 1.0):
    weighted = [
        attrs.evolve(scenario, weight=weight)
        for scenarios, weight in ((judged, share), (lived, 1.0 - share))
        for scenario in scenarios
        if weight > 0.0
    ]
    estimate = value_at_risk(weighted)
    rows.append((share, estimate.value, estimate.low, estimate.high))
table = pd.DataFrame(rows, columns=["share of judgement", "VaR 99", "low", "high"])
print(table.round(2).to_string(index=False))

# %% [markdown]
# The answer moves by far more than its intervals are wide: the figure is a statement about the scenarios.

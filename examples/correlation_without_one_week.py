"""Show what one week does to a correlation: USDC and DAI in 2023, with and without 10 to 14 March.

Usage: python examples/correlation_without_one_week.py FOLDER

FOLDER holds daily prices, USDC_1d.csv, DAI_1d.csv and USDT_1d.csv. The dates are those of the bars.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import pandas as pd

import tonsurance_risk as tr

parser = argparse.ArgumentParser()
parser.add_argument("folder", help="daily prices of 2023: USDC_1d.csv, DAI_1d.csv and USDT_1d.csv")
source = tr.sources.CsvSource(parser.parse_args().folder)
day = timedelta(days=1)
begin, end = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)

# A bar counts from its end, so that of 31 December 2022 is the first price of 2023.
closes = [source.fetch(coin, begin, end + day, step="1d") for coin in ("USDC", "DAI", "USDT")]
prices = pd.concat(closes, axis=1)
returns = tr.log_returns(prices)
bar = returns.index - day
week = (bar >= pd.Timestamp("2023-03-10", tz="UTC")) & (bar <= pd.Timestamp("2023-03-14", tz="UTC"))

for title, rows in (("2023", returns), ("2023 without 10 to 14 March", returns[~week])):
    matrix = tr.correlation_matrix(rows, bootstrap=999)
    print(title)
    pairs = matrix.pairs(interval="bootstrap")
    print(pairs[["asset_1", "asset_2", "correlation", "low", "high", "observations"]].to_string())

events = tr.detect_depegs(prices, sample_span=day, direction="both")
sensitivity = tr.correlation_sensitivity(returns, events=events, sample_span=day)
print("\nWhat they rest on")
for pair in sensitivity.pairs.to_dict("records"):
    days = ", ".join(f"{time:%m-%d}" for time in sorted(pair["influential_days"]))
    print(
        f"{pair['asset_1']} {pair['asset_2']}: {pair['correlation']:.2f}, "
        f"{pair['without_influential']:.2f} without {days}, "
        f"{pair['without_depegs']:.2f} without the {pair['depeg_rows']} rows of depegs"
        f"{'; an alert at 0.8 rests on these days' if pair['rests_on_few_days'] else ''}"
    )
print(f"One common mode explains {sensitivity.common_mode_share:.0%} of the variance")

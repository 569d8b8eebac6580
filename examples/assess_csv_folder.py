"""Assess a vault on a folder of daily prices, without a store. Prints the headline figures and the alerts.

Usage: python examples/assess_csv_folder.py FOLDER YYYY-MM-DD
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import pandas as pd

import tonsurance_risk as tr

parser = argparse.ArgumentParser()
parser.add_argument("folder", help="daily prices, one file a coin: USDC_1d.csv, header timestamp,price")
parser.add_argument("date", type=datetime.fromisoformat, help="of the assessment: YYYY-MM-DD")
options = parser.parse_args()
as_of = options.date.replace(tzinfo=UTC)
source = tr.sources.CsvSource(options.folder)

columns = []
for symbol in [*(asset.symbol for asset in tr.STABLECOINS), "BTC"]:
    try:
        columns.append(source.fetch(symbol, as_of - timedelta(days=730), as_of + timedelta(days=1), step="1d"))
    except tr.UnknownAssetError as missing:
        print(missing)
prices = pd.concat(columns, axis=1).sort_index()

report = tr.assess(
    prices,
    tr.sample_vault(),
    as_of=as_of,
    step="1d",
    generated_at=datetime.now(UTC),
    source=source.name,
)
print(report.sample.value_at_risk(0.99))
for alert in report.alerts:
    print(alert.severity, alert.message)

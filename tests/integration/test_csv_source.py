"""The CSV folder against real price files, where they lie beside the checkout."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from tonsurance_risk.assets import find_asset
from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.errors import UnknownAssetError
from tonsurance_risk.sources import CsvSource

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "prices"
PLAIN = sorted(
    (symbol, step)
    for step in ("1h", "1d")
    for symbol in (path.stem.removesuffix(f"_{step}") for path in FOLDER.glob(f"*_{step}.csv"))
    if find_asset(symbol)
)
SPANS = {"1h": pd.Timedelta(hours=1), "1d": pd.Timedelta(days=1)}
ALL = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no price files in {FOLDER}")


@pytest.fixture
def source():
    return CsvSource(FOLDER)


@pytest.mark.parametrize(("symbol", "step"), PLAIN)
def test_every_plain_file_of_a_known_asset_loads(source, symbol, step):
    prices = source.fetch(symbol, *ALL, step=step)
    rows = (FOLDER / f"{symbol}_{step}.csv").read_text().splitlines()
    columns = rows[0].split(",")
    last = dict(zip(columns, rows[-1].split(","), strict=True))
    assert len(prices) == len(rows) - 1
    assert prices.iloc[-1] == float(last["price"])
    assert prices.index[-1] == pd.Timestamp(last["timestamp"]) + SPANS[step]
    assert valid_prices(prices)[symbol].equals(prices)


def test_the_plain_files_of_fourteen_series_are_there():
    assert [symbol for symbol, step in PLAIN if step == "1h"] == ["DAI", "USDC", "USDT"]
    daily = ["BTC", "BUSD", "DAI", "FRAX", "GHO", "LUSD", "PYUSD", "USDC", "USDP", "USDT", "crvUSD"]
    assert [symbol for symbol, step in PLAIN if step == "1d"] == daily


def test_the_close_of_11_march_2023_is_known_on_the_12th(source):
    prices = source.fetch("USDC", *ALL, step="1d")
    # The recorded daily close of 2023-03-11, four decimals.
    assert prices[pd.Timestamp("2023-03-12T00:00Z")] == pytest.approx(0.9715, abs=5e-5)
    day = source.fetch("USDC", datetime(2023, 3, 12, tzinfo=UTC), datetime(2023, 3, 13, tzinfo=UTC), step="1d")
    assert list(day.index) == [pd.Timestamp("2023-03-12T00:00Z")]


def test_the_hourly_low_of_usdc(source):
    prices = source.fetch("USDC", *ALL)
    assert prices.min() == pytest.approx(0.901988, abs=1e-6)
    assert prices.idxmin().strftime("%Y-%m-%d") == "2023-03-11"


@pytest.mark.parametrize(
    ("symbol", "step", "near"),
    [
        ("USDe", "1d", "USDEUSDT_1d_bybit.csv (quoted in USDT, not in USD)"),
        ("USDP", "1h", "USDPUSDT_1h_binance.csv (quoted in USDT, not in USD)"),
        ("BUSD", "1h", "BUSD_irregular_chainlink.csv (another interval, irregular, suffix _chainlink)"),
        ("BTC", "1h", "BTCUSDC_1m_2023-03.csv (quoted in USDC, not in USD)"),
        ("FRAX", "1h", "FRAX_1d_defillama.csv (another interval, 1d, suffix _defillama)"),
        ("GUSD", "1d", "GUSD_1d_defillama.csv (suffix _defillama)"),
    ],
)
def test_near_files_are_named_with_the_reason(source, symbol, step, near):
    with pytest.raises(UnknownAssetError) as caught:
        source.fetch(symbol, *ALL, step=step)
    assert near in str(caught.value)


@pytest.mark.parametrize("symbol", ["sUSDe", "USDY", "mkUSD"])
def test_coins_without_any_file(source, symbol):
    with pytest.raises(UnknownAssetError, match="no file"):
        source.fetch(symbol, *ALL, step="1d")

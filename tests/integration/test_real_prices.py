"""The checks on real prices, where they lie beside the checkout: vendor prints go, real depegs stay."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import tonsurance_risk as tr

SHARED = Path(__file__).resolve().parents[3] / "shared"
FOLDER, CATALOGUE = SHARED / "data" / "prices", SHARED / "reference" / "depeg_events.csv"
DAY = timedelta(days=1)
DOLLAR_COINS = {"USDC", "USDT", "USDP", "BUSD"}
NOT_IN_USD = {"USDCUSDT", "USDEUSDT"}
SPANS = {"_1d": DAY, "_1d_defillama": DAY, "_1h": timedelta(hours=1), "_dex": timedelta(minutes=15)}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no price files in {FOLDER}")


def read(path, span):
    """Return the prices of a file, stamped with the end of the bar as by `CsvSource`."""
    rows = pd.read_csv(path)
    return pd.Series(rows["price"].to_numpy(), index=pd.to_datetime(rows["timestamp"]) + span)


def panel(suffix, coins=None):
    """Return one wide frame of all files with a suffix."""
    paths = {path.stem.removesuffix(suffix): path for path in sorted(FOLDER.glob(f"*{suffix}.csv"))}
    wanted = [asset for asset in paths if asset not in NOT_IN_USD and (coins is None or asset in coins)]
    return pd.DataFrame({asset: read(paths[asset], SPANS[suffix]) for asset in wanted})


def sources():
    """Yield (name, wide frame, span of a sample) of every source."""
    for suffix in ("_1d", "_1d_defillama", "_1h"):
        yield suffix, panel(suffix), SPANS[suffix]
    for path in sorted([*FOLDER.glob("*_chainlink.csv"), *FOLDER.glob("*_dex.csv")]):
        span = SPANS["_dex"] if path.stem.endswith("_dex") else timedelta(0)
        yield path.stem, read(path, span).to_frame(path.stem.split("_")[0]), span


def events(prices, span, threshold):
    """Detect in both directions."""
    return tr.detect_depegs(prices, threshold=threshold, sample_span=span, direction="both")


def starting(found, first, last):
    """Return those that start between two days."""
    begin, end = pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC")
    return [event for event in found if begin <= event.start <= end]


# A bar of 12 March is known, and stamped, at the start of 13 March.
MARCH_2020 = ("2020-03-13", "2020-03-19")
NARROW = ("BUSD", "DAI", "USDC", "USDP", "USDT", "sUSD", "BTC", "ETH")


@pytest.mark.parametrize("threshold", [0.99, 0.98])
@pytest.mark.parametrize("coins", [NARROW, NARROW[:5], None], ids=["with sUSD", "built in", "all"])
@pytest.mark.parametrize("until", ["2020-03-22", "2020-04-02", "2020-12-31"])
@pytest.mark.parametrize("since", ["2020-01-01", "2020-03-08"])
def test_the_prints_of_march_2020_raise_no_event(threshold, coins, until, since):
    """Of the dollar coins; DAI's premium and sUSD's discount stay as they were."""
    prices = panel("_1d", coins).loc[since:until].dropna(axis=1, how="all")

    usable = tr.check_prices(prices, as_of=prices.index[-1]).usable(prices)

    raw, checked = (starting(events(frame, DAY, threshold), *MARCH_2020) for frame in (prices, usable))
    assert {event.asset for event in raw} >= DOLLAR_COINS
    assert set() == {event.asset for event in checked} & DOLLAR_COINS
    own = ("2020-03-17", MARCH_2020[1])
    assert [e for e in raw if e.asset == "DAI"] == [e for e in checked if e.asset == "DAI"] != []
    assert [e for e in starting(raw, *own) if e.asset == "sUSD"] == [
        e for e in starting(checked, *own) if e.asset == "sUSD"
    ]
    assert any(e.asset == "sUSD" for e in raw) == any(e.asset == "sUSD" for e in starting(checked, *own))


@pytest.mark.parametrize("threshold", [0.99, 0.98])
@pytest.mark.parametrize("until", ["2021-01-07", "2021-01-08", "2021-02-15", "2023-12-31"])
def test_the_prints_of_january_2021_raise_no_event(threshold, until):
    """The bar before it belongs to it."""
    prices = panel("_1d_defillama").loc[:until]

    usable = tr.check_prices(prices, as_of=prices.index[-1]).usable(prices)

    days = ("2021-01-04", "2021-01-05")
    assert [] != starting(events(prices, DAY, threshold), *days)
    assert [] == starting(events(usable, DAY, threshold), *days)


def test_before_the_return_is_seen_they_are_only_flagged():
    """On the evening of the first bar of 17 and 18 March nobody can know."""
    prices = panel("_1d", NARROW).loc[:"2020-03-18"]

    flags = tr.check_prices(prices, as_of=prices.index[-1]).flags

    last = flags[(flags["check"] == "common_mode") & (flags["time"] == prices.index[-1])]
    assert set(last["asset"]) == DOLLAR_COINS
    assert {"flag"} == set(last["action"])


@pytest.mark.fault("F036")
@pytest.mark.parametrize("suffix", ["_1d", "_1d_defillama", "_1h"])
def test_march_2023_is_no_common_mode(suffix):
    """Some coins fell, by different amounts."""
    prices = panel(suffix)

    flags = tr.check_prices(prices, as_of=prices.index[-1]).flags

    time = flags["time"]
    during = flags[(time >= pd.Timestamp("2023-03-10", tz="UTC")) & (time <= pd.Timestamp("2023-03-15", tz="UTC"))]
    assert "common_mode" not in set(during["check"])
    assert "reject" not in set(during["action"])


def test_coins_of_one_reserve_are_no_panel():
    """USDC, DAI and FRAX fell by nearly the same in March 2023 and were back in three days."""
    prices = panel("_1d", {"USDC", "DAI", "FRAX"}).loc["2023-01-01":"2023-06-30"]

    assert tr.check_prices(prices, as_of=prices.index[-1]).passed


def catalogue():
    """Return (asset, direction, first, last) of the rows of high and medium confidence."""
    with CATALOGUE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["confidence"] in {"high", "medium"}]
    for row in rows:
        first = pd.Timestamp(row["start_utc"])
        last = pd.Timestamp(row["end_utc"] or row["start_utc"])
        first, last = (t.tz_localize("UTC") if t.tzinfo is None else t for t in (first, last))
        if row["min_price"] and float(row["min_price"]) < 1.0:
            yield row["asset"], "below", first, last + DAY
        if row["max_price"] and float(row["max_price"]) > 1.0:
            yield row["asset"], "above", first, last + DAY


@pytest.mark.fault("F036")
@pytest.mark.skipif(not CATALOGUE.is_file(), reason=f"no catalogue {CATALOGUE}")
@pytest.mark.parametrize("threshold", [0.99, 0.98])
@pytest.mark.parametrize(
    ("name", "prices", "span"),
    [pytest.param(*source, id=source[0]) for source in sources()] if FOLDER.is_dir() else [],
)
def test_no_known_depeg_is_lost_through_a_check(name, prices, span, threshold):
    """A raw event within a day of a row of the catalogue is still an event."""
    usable = tr.check_prices(prices, as_of=prices.index[-1] + 4 * DAY).usable(prices)
    checked = events(usable, span, threshold)

    known = list(catalogue())
    lost = [
        event
        for event in events(prices, span, threshold)
        if any(
            (asset, direction) == (event.asset, event.direction)
            and first - DAY <= event.end
            and event.start <= last + DAY
            for asset, direction, first, last in known
        )
        and not any(
            (other.asset, other.direction) == (event.asset, event.direction)
            and other.start <= event.end
            and event.start <= other.end
            for other in checked
        )
    ]
    assert [] == lost


def test_the_sample_market_is_found_whole():
    """Every true event and nothing else, at the default rule, and the false print is rejected."""
    market = tr.sources.SampleSource()
    hour = timedelta(hours=1)
    symbols = [*(asset.symbol for asset in tr.STABLECOINS), "BTC"]
    prices = pd.concat([market.fetch(symbol, market.first, market.last + hour) for symbol in symbols], axis=1)

    report = tr.check_prices(prices, as_of=market.last)
    found = events(report.usable(prices), hour, 0.99)

    truth = {(event.asset, event.direction, event.start) for event in market.truth}
    rejected = report.flags[report.flags["action"] == "reject"]
    assert truth == {(event.asset, event.direction, event.start) for event in found}
    assert len(truth) == len(found)
    assert [(false.asset, false.time) for false in market.false_prints] == list(
        zip(rejected["asset"], rejected["time"], strict=True)
    )

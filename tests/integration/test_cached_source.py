"""A source behind a store, against a server on this machine."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest

from servers import faults
from servers.exchanges import HOUR, NOW, World, exchanges
from tonsurance_risk.errors import HistoryLimitError, SourceUnavailableError
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.sources import CachedSource, CoinbaseSource, KrakenSource
from tonsurance_risk.sources.detail import DETAIL
from tonsurance_risk.storage import open_store


@pytest.fixture
def store(tmp_path):
    with open_store(f"sqlite:///{tmp_path / 'risk.db'}") as opened:
        yield opened


def coinbase(server, world):
    return CoinbaseSource(base_url=server.url, clock=world, http=world.http())


def test_what_is_held_is_not_asked_for_again(store):
    """Not even by another object, and the prices are those of the source."""
    start = NOW - timedelta(days=5)
    with exchanges() as (server, _, world), coinbase(server, world) as source:
        direct = source.fetch("DAI", start, NOW)
        calls = len(server.seen)
        cached = CachedSource(source, store, clock=world)
        first, second = (cached.fetch("dai", start, NOW) for _ in range(2))
        third = CachedSource(source, store, clock=world).fetch("DAI", start, NOW)

        assert calls + 1 == len(server.seen)
    for prices in (first, second, third):
        pd.testing.assert_series_equal(direct, prices, check_freq=False)
    assert "coinbase" == cached.name


def test_only_what_is_missing_is_fetched(store):
    """The days before and after those that are there, and nothing of them."""
    with exchanges() as (server, _, world), coinbase(server, world) as source:
        cached = CachedSource(source, store, clock=world)
        cached.fetch("DAI", NOW - timedelta(days=20), NOW - timedelta(days=10))
        server.seen.clear()
        prices = cached.fetch("DAI", NOW - timedelta(days=30), NOW)
        asked = [
            [datetime.fromisoformat(request.query[name]) for name in ("start", "end")] for request in server.seen
        ]
        direct = source.fetch("DAI", NOW - timedelta(days=30), NOW)

    pd.testing.assert_series_equal(direct, prices, check_freq=False)
    assert 2 == len(asked)
    assert 10 * 24 == (asked[0][1] - asked[0][0]) // timedelta(hours=1) + 1
    assert 10 * 24 == (asked[1][1] - asked[1][0]) // timedelta(hours=1) + 1


@pytest.mark.fault("F046")
def test_a_hole_of_the_venue_is_asked_for_once(store):
    """By one object: what was not there a day after its time will not come."""
    first = int(NOW.timestamp()) // HOUR * HOUR - 10 * 86400
    holes = frozenset(range(first, first + 40 * HOUR, HOUR))
    with exchanges(holes=holes) as (server, _, world), coinbase(server, world) as source:
        cached = CachedSource(source, store, clock=world)
        before = cached.fetch("DAI", NOW - timedelta(days=12), NOW)
        calls = len(server.seen)
        after = cached.fetch("DAI", NOW - timedelta(days=12), NOW)

        assert calls == len(server.seen)
    assert 12 * 24 - 40 == len(before) == len(after)


@pytest.mark.fault("F053")
def test_what_is_still_to_come_is_asked_for_when_it_came(store):
    """The running bar is neither stored nor taken for a hole of the venue."""
    world = World()
    with exchanges(world) as (server, _, world), coinbase(server, world) as source:
        cached = CachedSource(source, store, clock=world)
        start, end = NOW - timedelta(hours=6), NOW + timedelta(hours=6)
        before = cached.fetch("DAI", start, end)
        world.sleep(2 * HOUR)
        after = cached.fetch("DAI", start, end)

    assert (6, 8) == (len(before), len(after))


def test_a_venue_with_a_short_history_grows_a_longer_one(store):
    """Kraken reaches back 718 hours; what was fetched a month ago is still there."""
    world = World()
    with (
        exchanges(world) as (server, _, world),
        KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http()) as source,
    ):
        cached = CachedSource(source, store, clock=world)
        start = pd.Timestamp(NOW).floor("h") - timedelta(hours=700)
        cached.fetch("USDT", start, NOW)
        world.sleep(600 * HOUR)
        prices = cached.fetch("USDT", start, NOW + timedelta(hours=600))

        assert start == prices.index[0]
        assert 1301 == len(prices)
        assert prices.attrs[DETAIL].history_start is None
        assert 718 + 1 >= len(source.fetch("USDT", start, NOW + timedelta(hours=600)))

        # And asked for more than was ever there: what is held, and since when.
        prices = cached.fetch("USDT", start - timedelta(days=90), NOW + timedelta(hours=600))
        assert 1301 == len(prices)
        assert start == prices.attrs[DETAIL].history_start
        with pytest.raises(HistoryLimitError):
            cached.fetch("USDT", start - timedelta(days=90), start - timedelta(days=80))


def test_a_source_that_is_down_is_needed_for_what_is_missing_alone(store):
    down = [faults.plain("", 503)] * 100
    with exchanges() as (server, other, world), coinbase(server, world) as source:
        cached = CachedSource(source, store, clock=world)
        cached.fetch("DAI", NOW - timedelta(days=3), NOW)
        other.first = down
        assert 48 == len(cached.fetch("DAI", NOW - timedelta(days=3), NOW - timedelta(days=1)))
        with pytest.raises(SourceUnavailableError):
            cached.fetch("DAI", NOW - timedelta(days=4), NOW)


def test_prices_of_one_vendor_do_not_confirm_each_other(store):
    """Those that came by another way are no other source; a venue's are."""
    hours = pd.date_range("2024-03-01", periods=3, freq="h", tz="UTC")
    prices = pd.Series([1.0, 0.99, 1.0], hours, name="DAI")
    names = ["coingecko", "coingecko via defillama", "kraken", "fallback(coingecko, kraken)", "binance@coinbase"]
    for name in names:
        store.save_prices(prices, source=name, step="1h")

    def others(name):
        return {frame.attrs["vendor"] for frame in other_prices(store, name, "1h")}

    assert {"kraken", "binance@coinbase"} == others("coingecko")
    assert {"kraken", "binance@coinbase"} == others("coingecko via defillama")
    assert {"coingecko", "coingecko via defillama", "binance@coinbase"} == others("kraken")
    assert set(names) - {"binance@coinbase"} == others("coinbase")

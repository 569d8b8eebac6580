"""Binance, Kraken, Coinbase and DefiLlama against a server on this machine that behaves as they are documented to."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from servers import faults
from servers.exchanges import DAY, HOUR, NOW, World, close, exchanges, json, supply
from tonsurance_risk.errors import (
    HistoryLimitError,
    PayloadError,
    RateLimitedError,
    SourceBlockedError,
    SourceError,
    SourceUnavailableError,
    StaleDataError,
    UnknownAssetError,
)
from tonsurance_risk.ports import MeteredSource
from tonsurance_risk.runner.backfill import backfill_end, plan_backfill, run_backfill
from tonsurance_risk.sources import (
    BinanceSource,
    CoinbaseSource,
    CsvSource,
    DefiLlamaSource,
    KrakenSource,
    PriceSource,
    SampleSource,
)
from tonsurance_risk.sources.detail import DETAIL
from tonsurance_risk.storage import open_store

STEPS = {"1h": HOUR, "1d": DAY}


def coinbase(server, world, **options):
    return CoinbaseSource(base_url=server.url, clock=world, http=world.http(**options))


def kraken(server, world, **options):
    return KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http(**options))


def binance(server, world, usdt=None):
    return BinanceSource(usdt or coinbase(server, world), base_url=server.url, clock=world, http=world.http())


def llama(server, world):
    return DefiLlamaSource(base_url=server.url, clock=world, http=world.http())


def expected(start, end, step, price, now=NOW):
    """Return the samples by stamp, bar by bar from the law of the market. The oracle."""
    span = STEPS[step]
    samples = {}
    opened = int(start.timestamp()) // span * span - span
    while opened + span < end.timestamp():
        if start.timestamp() <= opened + span and opened + span + 60 <= now.timestamp():
            samples[pd.Timestamp(opened + span, unit="s", tz="UTC")] = price(opened)
        opened += span
    return samples


def same(series, samples):
    assert list(samples) == series.index.tolist()
    np.testing.assert_array_equal(list(samples.values()), series.to_numpy())


class TestPaging:
    """Every bar once, however many pages it takes."""

    @pytest.mark.parametrize(("step", "days", "calls"), [("1h", 100, 9), ("1d", 700, 3)])
    def test_coinbase(self, step, days, calls):
        """300 a call; rows before the start come with each and are left out."""
        start, end = NOW - timedelta(days=days, hours=1), NOW + timedelta(hours=1)
        with exchanges() as (server, _, world), coinbase(server, world) as source:
            series = source.fetch("dai", start, end, step=step)

        same(series, expected(start, end, step, lambda opened: float(close("DAI-USD", opened))))
        assert calls == len(server.seen)

    @pytest.mark.parametrize(("step", "days", "calls"), [("1h", 100, 3), ("1d", 700, 1)])
    def test_binance(self, step, days, calls):
        """1,000 a call, each times the close of USDT of the same bar."""
        start, end = NOW - timedelta(days=days, hours=1), NOW + timedelta(hours=1)
        with exchanges() as (server, _, world), binance(server, world) as source:
            series = source.fetch("usdc", start, end, step=step)

        def price(opened):
            return float(close("USDCUSDT", opened)) * float(close("USDT-USD", opened))

        same(series, expected(start, end, step, price))
        assert calls == sum(request.path == "/api/v3/klines" for request in server.seen)

    def test_defillama(self):
        """500 a call, and one to learn since when there are prices."""
        start = NOW - timedelta(days=60)
        with exchanges() as (server, _, world), llama(server, world) as source:
            series = source.fetch("USDT", start, NOW)

        law = expected(start, NOW, "1h", lambda opened: float(close("coingecko:tether", opened + HOUR)))
        same(series, law)
        assert 1 + 3 == len(server.seen)

    def test_nothing_is_asked_before_there_was_anything(self):
        """The whole past, as `detect` asks for it, within reason."""
        begin, end = pd.Timestamp("1900-01-01", tz="UTC"), pd.Timestamp("2199-12-31", tz="UTC")
        with exchanges() as (server, _, world):
            with coinbase(server, world) as source:
                assert len(source.fetch("DAI", begin, end, step="1d")) > 800
            calls = len(server.seen)
            with llama(server, world) as source:
                assert len(source.fetch("DAI", begin, end, step="1d")) > 800

        assert calls <= 14
        assert len(server.seen) - calls <= 4

    @pytest.mark.fault("F046")
    def test_holes_stay_holes(self):
        """A venue that stood still for two days, and no row is invented."""
        first = int(NOW.timestamp()) // HOUR * HOUR - 40 * DAY
        holes = frozenset(range(first, first + 2 * DAY, HOUR))
        start = NOW - timedelta(days=50)
        for make, asset in ((coinbase, "DAI"), (binance, "USDC"), (llama, "USDC")):
            with exchanges(holes=holes) as (server, _, world), make(server, world) as source:
                series = source.fetch(asset, start, NOW)

            assert 50 * 24 - 48 == len(series), asset
            assert timedelta(hours=49) == series.index.to_series().diff().max()

    @pytest.mark.fault("F039")
    def test_rows_before_the_start_are_cut_off_and_counted(self):
        with exchanges() as (server, _, world), coinbase(server, world) as source:
            series = source.fetch("DAI", NOW - timedelta(hours=5), NOW)

        assert series.index[0] >= NOW - timedelta(hours=5)
        assert 2 == series.attrs[DETAIL].outside

    def test_binance_in_microseconds(self):
        with exchanges(unit=1_000_000) as (server, _, world), binance(server, world) as source:
            assert 5 == len(source.fetch("USDC", NOW - timedelta(hours=5), NOW))


class TestKrakensHistory:
    """The newest 720 rows, one of them running."""

    def test_the_part_that_is_there(self):
        """As CoinGecko's plans: the part, and since when."""
        with exchanges() as (server, _, world), kraken(server, world) as source:
            series = source.fetch("USDT", NOW - timedelta(days=365), NOW)

        begins = series.attrs[DETAIL].history_start
        same(series, expected(begins, NOW, "1h", lambda opened: float(close("USDTUSD", opened))))
        assert pd.Timestamp(NOW).floor("h") - 718 * timedelta(hours=1) == begins
        assert 719 == len(series)

    @pytest.mark.parametrize("hours", [1, 700, 718])
    def test_all_of_it_is_there(self, hours):
        start = pd.Timestamp(NOW).floor("h") - timedelta(hours=hours)
        with exchanges() as (server, _, world), kraken(server, world) as source:
            series = source.fetch("USDT", start, NOW)

        assert start == series.index[0]
        assert series.attrs[DETAIL].history_start is None

    def test_further_back_than_all_of_it(self):
        with (
            exchanges() as (server, _, world),
            kraken(server, world) as source,
            pytest.raises(
                HistoryLimitError, match="kraken has the last 720 bars of 1h, since 2025-05-02T11:00:00Z"
            ) as e,
        ):
            source.fetch("USDT", NOW - timedelta(days=365), NOW - timedelta(days=200))

        assert "USDT" == e.value.asset
        assert [] == server.seen

    @pytest.mark.fault("F026")
    def test_one_bad_pair_in_a_batch(self):
        """The whole batch is refused; asked one by one, only the bad one is missing, with its error."""
        with exchanges(unknown_pairs=frozenset({"DAIUSD"})) as (server, _, world), kraken(server, world) as source:
            table = source.last_prices(["usdt", "DAI", "USDC", "GHO", "BTC"])

        assert ["USDT", "USDC", "BTC"] == list(table.index)
        for asset, pair in (("USDT", "USDTUSD"), ("USDC", "USDCUSD"), ("BTC", "XBTUSD")):
            assert float(close(pair, 0)) == table.loc[asset, "price"]
        assert {"DAI", "GHO"} == set(table.attrs["failed"])
        assert all(isinstance(error, UnknownAssetError) for error in table.attrs["failed"].values())

    def test_a_good_batch_is_one_call(self):
        with exchanges() as (server, _, world), kraken(server, world) as source:
            table = source.last_prices(["USDT", "USDC", "DAI", "BTC"])

        assert 1 == len(server.seen)
        assert ["receipt"] * 4 == table["stamped_by"].tolist()
        assert [NOW] * 4 == table["time"].tolist()

    def test_nothing_asked_is_no_call(self):
        """Without a pair Kraken would answer with all of them."""
        with exchanges() as (server, _, world), kraken(server, world) as source:
            assert source.last_prices([]).empty

        assert [] == server.seen

    @pytest.mark.fault("F017")
    def test_errors_under_http_200_are_waited_for(self):
        """Throttled until a time that it names; then the answer."""
        until = int(NOW.timestamp()) + 42
        first = [json({"error": [f"EService:Throttled: {until}"]}), json({"error": ["EService:Unavailable"]})]
        with exchanges(first=first) as (server, _, world), kraken(server, world) as source:
            series = source.fetch("USDT", NOW - timedelta(hours=5), NOW)

        assert 5 == len(series)
        assert 3 == len(server.seen)
        assert world.waits[0] >= 41.0

    @pytest.mark.fault("F017")
    def test_a_limit_that_does_not_end(self):
        with (
            exchanges(first=[json({"error": ["EAPI:Rate limit exceeded"]})] * 50) as (server, _, world),
            kraken(server, world) as source,
            pytest.raises(RateLimitedError, match="Rate limit exceeded"),
        ):
            source.fetch("USDT", NOW - timedelta(hours=5), NOW)

        assert 5 == len(server.seen)


class TestDollars:
    """A price in USDT is never stored as dollars."""

    @pytest.mark.parametrize("asset", ["USDC", "DAI", "BTC"])
    def test_without_a_source_of_usdt_nothing_is_given(self, asset):
        with exchanges() as (server, _, world):
            source = BinanceSource(None, base_url=server.url, clock=world, http=world.http())
            with source, pytest.raises(UnknownAssetError, match="against USDT only, which is not dollars"):
                source.fetch(asset, NOW - timedelta(hours=5), NOW)
            assert source.last_prices([asset]).empty

        assert [] == server.seen

    def test_usdt_itself_is_not_carried(self):
        with (
            exchanges() as (server, _, world),
            binance(server, world) as source,
            pytest.raises(UnknownAssetError, match="USDT against dollars"),
        ):
            source.fetch("USDT", NOW - timedelta(hours=5), NOW)

    def test_a_bar_without_usdt_in_dollars_is_left_out(self, tmp_path, caplog):
        """Counted, and said; no neighbour's price is taken."""
        hours = pd.date_range(pd.Timestamp(NOW).floor("h") - timedelta(hours=5), periods=5, freq="h")
        rows = [
            f"{hour:%Y-%m-%dT%H:%M:%SZ},{0.97 + place / 100}" for place, hour in enumerate(hours) if place != 2
        ]
        (tmp_path / "USDT_1h.csv").write_text("\n".join(["timestamp,price", *rows, ""]))
        with exchanges() as (server, _, world), binance(server, world, CsvSource(tmp_path)) as source:
            series = source.fetch("USDC", hours[0], NOW)

        stamp = hours + timedelta(hours=1)
        assert [stamp[place] for place in (0, 1, 3, 4)] == series.index.tolist()
        opened = int(hours[3].timestamp())
        assert float(close("USDCUSDT", opened)) * (0.97 + 3 / 100) == series[stamp[3]]
        assert 2 == series.attrs[DETAIL].unmatched  # that one, and the bar before the first
        assert "2 of 6 bars have no price of USDT in dollars" in caplog.text

    def test_usdt_off_its_peg_moves_all_prices(self, tmp_path):
        """The reason: at 0.95 dollars a USDT, a coin at 1.0 USDT is worth 0.95."""
        hours = pd.date_range(pd.Timestamp(NOW).floor("h") - timedelta(hours=5), periods=5, freq="h")
        rows = [f"{hour:%Y-%m-%dT%H:%M:%SZ},0.95" for hour in hours]
        (tmp_path / "USDT_1h.csv").write_text("\n".join(["timestamp,price", *rows, ""]))
        with exchanges() as (server, _, world), binance(server, world, CsvSource(tmp_path)) as source:
            assert source.fetch("USDC", NOW - timedelta(hours=4), NOW).max() < 0.96

    def test_the_history_of_usdt_limits_that_of_all(self):
        """Kraken's 720 bars: the part that is there, and since when."""
        with exchanges() as (server, _, world), binance(server, world, kraken(server, world)) as source:
            series = source.fetch("USDC", NOW - timedelta(days=60), NOW)

        assert series.index[0] == series.attrs[DETAIL].history_start
        assert 719 == len(series)
        assert 60 * 24 - 719 == series.attrs[DETAIL].unmatched

    def test_last_prices(self):
        with exchanges() as (server, _, world), binance(server, world) as source:
            table = source.last_prices(["USDC", "GHO"])

        assert float(close("USDCUSDT", 0)) * float(close("USDT-USD", 0)) == table.loc["USDC", "price"]
        assert ["USDC"] == list(table.index)
        assert ["GHO"] == list(table.attrs["failed"])

    def test_no_last_price_with_one_of_usdt_of_another_minute(self):
        """Coinbase's last trade of USDT is from 09:30:11."""
        later = World(NOW + timedelta(minutes=5))
        with (
            exchanges(later) as (server, _, world),
            binance(server, world) as source,
            pytest.raises(StaleDataError, match="is of 2025-06-01T09:30:11"),
        ):
            source.last_prices(["USDC"])

    def test_no_last_price_without_one_of_usdt(self):
        with (
            exchanges() as (server, _, world),
            binance(server, world, SampleSource()) as source,
            pytest.raises(SourceError, match="no last price"),
        ):
            source.last_prices(["USDC"])


class TestLimits:
    """What each says when it has enough."""

    @pytest.mark.fault("F012")
    def test_binance_does_not_serve_this_region(self):
        """Final: asked once, and no other host is."""
        refusal = faults.plain(b'{"code":0,"msg":"Service unavailable from a restricted location"}', 451)
        with (
            exchanges(first=[refusal] * 9) as (server, _, world),
            binance(server, world) as source,
            pytest.raises(SourceBlockedError, match="restricted location"),
        ):
            source.fetch("USDC", NOW - timedelta(hours=5), NOW)

        assert 1 == len(server.seen)
        assert [] == world.waits

    @pytest.mark.fault("F005")
    def test_binance_asks_to_wait(self):
        first = [faults.plain(b'{"code":-1003,"msg":"Too many requests."}', 429, retry_after="7")]
        with exchanges(first=first) as (server, _, world), binance(server, world) as source:
            assert 5 == len(source.fetch("USDC", NOW - timedelta(hours=5), NOW))

        assert max(world.waits) >= 7.0

    def test_binance_has_banned_this_address(self):
        """Not asked again: whoever goes on is banned for longer."""
        first = [faults.plain(b"", 418, retry_after="1800")] * 9
        with (
            exchanges(first=first) as (server, _, world),
            binance(server, world) as source,
            pytest.raises(RateLimitedError, match="banned") as caught,
        ):
            source.fetch("USDC", NOW - timedelta(hours=5), NOW)

        assert 1 == len(server.seen)
        assert 1800.0 == caught.value.retry_after

    @pytest.mark.parametrize(
        ("make", "asset"), [(coinbase, "DAI"), (kraken, "DAI"), (binance, "DAI"), (llama, "DAI")]
    )
    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param(faults.plain("", 503), marks=pytest.mark.fault("F014"), id="503"),
            pytest.param(faults.html(200), marks=pytest.mark.fault("F015"), id="a page"),
            pytest.param(faults.plain(b""), marks=pytest.mark.fault("F016"), id="empty"),
            pytest.param(faults.reset(), marks=pytest.mark.fault("F002"), id="reset"),
            pytest.param(faults.plain("", 429), marks=pytest.mark.fault("F006"), id="429"),
        ],
    )
    def test_once_is_got_over(self, make, asset, fault):
        with exchanges() as (server, _, world), make(server, world) as source:
            clean = source.fetch(asset, NOW - timedelta(hours=9), NOW)
        world = World()
        with exchanges(world, first=[fault]) as (server, _, world), make(server, world) as source:
            pd.testing.assert_series_equal(clean, source.fetch(asset, NOW - timedelta(hours=9), NOW))

    @pytest.mark.parametrize(
        ("make", "asset"), [(coinbase, "DAI"), (kraken, "DAI"), (binance, "DAI"), (llama, "DAI")]
    )
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            pytest.param(faults.plain("", 500), SourceUnavailableError, id="500"),
            pytest.param(faults.html(200), PayloadError, id="a page"),
            pytest.param(faults.html(403), SourceBlockedError, marks=pytest.mark.fault("F011"), id="403"),
            pytest.param(
                faults.plain(b'{"error":{}}'), PayloadError, marks=pytest.mark.fault("F023"), id="another shape"
            ),
        ],
    )
    def test_for_ever_is_a_typed_error(self, make, asset, fault, kind):
        with (
            exchanges(first=[fault] * 60) as (server, _, world),
            make(server, world) as source,
            pytest.raises(kind, match="127.0.0.1"),
        ):
            source.fetch(asset, NOW - timedelta(hours=9), NOW)

        assert len(server.seen) <= 5

    def test_the_pace_of_each(self):
        """Calls of a year of hours, within what is granted in any minute."""
        for make, asset, most in ((coinbase, "DAI", 600), (llama, "DAI", 62)):
            with exchanges() as (server, _, world), make(server, world) as source:
                source.fetch(asset, NOW - timedelta(days=365), NOW)

            minutes = max(1.0, world.clock() / 60.0)
            assert len(server.seen) / minutes <= most

    def test_a_product_that_is_gone(self):
        with (
            exchanges() as (server, _, world),
            coinbase(server, world) as source,
            pytest.raises(UnknownAssetError, match="NotFound"),
        ):
            source.fetch("PYUSD", NOW - timedelta(hours=9), NOW)

    def test_a_pair_that_is_gone(self):
        with (
            exchanges() as (server, _, world),
            binance(server, world) as source,
            pytest.raises(UnknownAssetError, match="Invalid symbol"),
        ):
            source.fetch("FDUSD", NOW - timedelta(hours=9), NOW)


class TestBackfill:
    """The jobs see how much a call gives, and where history begins."""

    @pytest.mark.parametrize(
        ("make", "assets"), [(coinbase, ["USDT", "DAI"]), (binance, ["USDC", "DAI"]), (llama, ["USDT", "DAI"])]
    )
    def test_two_years_and_then_nothing_more(self, make, assets):
        """Complete, in as many calls as were planned, and nothing is left to ask for."""
        start = NOW - timedelta(days=730)
        with exchanges() as (server, _, world), make(server, world) as source, open_store("memory://") as store:
            assert isinstance(source, MeteredSource)
            plan = plan_backfill(store, source, assets, start=start, end=backfill_end(NOW))
            result = run_backfill(store, source, assets, start=start, clock=world)
            again = plan_backfill(store, source, assets, start=start, end=backfill_end(NOW))
            stored = store.load_prices(source=source.name)

        assert {asset: len(stored) for asset in assets} == result.fetched
        assert sorted(assets) == list(stored.columns)
        assert not stored.isna().any(axis=None)
        assert 729 * 24 < len(stored) <= 730 * 24 + 1
        assert result.calls <= plan.calls + len(assets)
        assert {} == again.windows == again.out_of_history
        assert not result.needs_attention

    def test_what_kraken_no_longer_has(self):
        """Is named, and the rest is there."""
        with exchanges() as (server, _, world), kraken(server, world) as source, open_store("memory://") as store:
            result = run_backfill(store, source, ["USDT", "DAI"], start=NOW - timedelta(days=60), clock=world)
            stored = store.load_prices(source="kraken")

        assert {"USDT", "DAI"} == set(result.out_of_history)
        assert source.earliest("1h") == stored.index[0]
        assert result.needs_attention

    def test_what_is_not_carried(self):
        with exchanges() as (server, _, world), kraken(server, world) as source:
            assert {"GHO", "crvUSD"} == set(source.check_ids(["GHO", "DAI", "crvusd", "USDT"]))


class TestLastPrices:
    def test_coinbase_says_when(self):
        with exchanges() as (server, _, world), coinbase(server, world) as source:
            table = source.last_prices(["usdt", "USDC"])

        assert [float(close("USDT-USD", 0))] == table["price"].tolist()
        assert pd.Timestamp("2025-06-01T09:30:11.123456Z") == table.loc["USDT", "time"]
        assert ["source"] == table["stamped_by"].tolist()
        assert ["USDC"] == list(table.attrs["failed"])

    def test_defillama_says_when(self):
        with exchanges() as (server, _, world), llama(server, world) as source:
            table = source.last_prices(["USDT", "GHO", "ZZZ"])

        assert pd.Timestamp(NOW).floor("s") - timedelta(seconds=40) == table.loc["USDT", "time"]
        assert {"GHO", "ZZZ"} == set(table.attrs["failed"])


class TestDefiLlama:
    def test_it_names_whose_prices_they_are(self):
        with exchanges() as (server, _, world), llama(server, world) as source:
            assert "coingecko via defillama" == source.name
            assert isinstance(source, PriceSource)

    def test_a_coin_that_it_does_not_have(self):
        with (
            exchanges() as (server, _, world),
            llama(server, world) as source,
            pytest.raises(UnknownAssetError, match="coingecko:gho"),
        ):
            source.fetch("GHO", NOW - timedelta(days=1), NOW)

    def test_low_confidence(self):
        with exchanges(confidence=0.3) as (server, _, world), llama(server, world) as source:
            series = source.fetch("DAI", NOW - timedelta(hours=5), NOW)

        assert series.empty
        assert 5 == len(series.attrs[DETAIL].rejects)

    def test_supply_is_an_amount_of_coins(self):
        """Not the dollar value of the list, which a depeg shrinks, nor the dollar totals, where 1 is a missing price."""
        start = NOW - timedelta(days=30)
        with exchanges() as (server, _, world), llama(server, world) as source:
            series = source.fetch_supply("usdt", start, NOW)

        law = expected(start, NOW, "1d", lambda opened: supply("1", opened))
        same(series, law)
        assert "USDT" == series.name

    def test_no_supply_of_what_is_not_listed(self):
        with exchanges() as (server, _, world), llama(server, world) as source:
            for asset in ("DAI", "ZZZ"):
                with pytest.raises(UnknownAssetError):
                    source.fetch_supply(asset, NOW - timedelta(days=3), NOW)

    def test_value_locked_on_a_chain(self):
        """The last point, of the moment, is no day's."""
        start = NOW - timedelta(days=30)
        with exchanges() as (server, _, world), llama(server, world) as source:
            series = source.fetch_chain_tvl("Ethereum", start, NOW + timedelta(days=2))
            with pytest.raises(UnknownAssetError):
                source.fetch_chain_tvl("Nowhere", start, NOW)
            with pytest.raises(ValueError, match="chain must be"):
                source.fetch_chain_tvl("../stablecoins", start, NOW)

        same(series, expected(start, NOW, "1d", lambda opened: supply("Ethereum", opened)))
        assert series.attrs[DETAIL].now_points == 1

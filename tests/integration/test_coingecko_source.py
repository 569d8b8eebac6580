"""The CoinGecko source against a server that behaves as CoinGecko is documented to."""

from __future__ import annotations

import logging
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from servers import faults
from servers.coingecko import IDS, price
from servers.worlds import KEY, NOW, World, market, source_of
from tonsurance_risk.errors import (
    GranularityError,
    HistoryLimitError,
    PayloadError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources.coingecko import CoinGeckoSource, source_from_environment
from tonsurance_risk.sources.coingecko_plans import TIERS
from tonsurance_risk.sources.detail import DETAIL

HOUR = timedelta(hours=1)


def expected(asset, start, end, now):
    """Return what the samples must be, point by point from the law of the market. The oracle."""
    samples = {}
    hour = start - 2 * HOUR
    while hour <= end:
        base = int(hour.timestamp() * 1000)
        x = np.sin(base / 1000.0 * 12.9898 + sum(map(ord, IDS[asset])) * 78.233) * 43758.5453
        stamp = base + 1 + int((x - np.floor(x)) * 240_000)
        known = hour + HOUR
        if start <= known < end and known <= now:
            samples[known] = float(price(IDS[asset], np.array([stamp]))[0])
        hour += HOUR
    return samples


@pytest.mark.parametrize("tier", ["keyless", "demo", "pro"])
def test_a_tier_is_host_header_and_limits(tier):
    """The key is in the header of its plan, and nowhere else."""
    serving, world = market(tier=tier, key=KEY)
    with serving as (server, _host), source_of(server, world, tier) as source:
        prices = source.fetch("usdc", NOW - timedelta(days=3), NOW, step="1h")
        names = {name: value for name, value in server.seen[0].headers.items() if name.startswith("x-cg")}

        assert ({} if tier == "keyless" else {TIERS[tier].header: KEY}) == names
        assert KEY not in server.seen[0].target
        assert {"vs_currency", "from", "to", "precision"} == set(server.seen[0].query)
    assert 72 == len(prices)
    assert "USDC" == prices.name
    assert "coingecko" == source.name
    assert KEY not in repr(source)


@pytest.mark.parametrize("tier", ["keyless", "pro"])
@pytest.mark.parametrize("days", [1, 2, 3, 40, 88, 89, 90, 200])
def test_every_sample_is_there_and_causal(tier, days):
    """In windows of at most 89 days, equal to the law of the market sample by sample."""
    serving, world = market(tier=tier, key=KEY, calls_per_minute=1000)
    end = pd.Timestamp("2025-06-01 00:00", tz="UTC") + HOUR
    start = end - timedelta(days=days)
    with serving as (server, _host), source_of(server, world, tier) as source:
        prices = source.fetch("DAI", start, end)

        for request in server.seen:
            asked = int(request.query["to"]) - int(request.query["from"])
            assert 86400 < asked <= 89 * 86400
        assert -(-days // 88) == len(server.seen)
    want = expected("DAI", start, end, NOW)
    assert list(want) == list(prices.index)
    assert list(want.values()) == prices.tolist()
    assert 1.2345 not in prices.tolist()


def test_days_are_midnights():
    """More than 90 days are asked for, whatever is wanted."""
    serving, world = market()
    end = pd.Timestamp("2025-06-01", tz="UTC") + timedelta(days=1)
    with serving as (server, _host), source_of(server, world) as source:
        prices = source.fetch("BTC", end - timedelta(days=5), end, step="1d")
        old = source.fetch("BTC", end - timedelta(days=362), end - timedelta(days=360), step="1d")

    assert pd.date_range("2025-05-28", periods=5, tz="UTC").tolist() == prices.index.tolist()
    stamps = np.array([int(t.timestamp() * 1000) for t in prices.index])
    assert price("bitcoin", stamps).tolist() == prices.tolist()
    assert 2 == len(old)


def test_volumes_come_along():
    """Joined by stamp."""
    serving, world = market()
    with serving as (server, _host), source_of(server, world) as source:
        frame = source.fetch_market("DAI", NOW - timedelta(days=3), NOW - timedelta(days=1))

    assert ["price", "volume"] == list(frame.columns)
    assert (frame["volume"].iloc[:-1] >= 0).all()


@pytest.mark.fault("F056")
def test_a_young_coin():
    """Begins where it was listed; one that was not yet is empty, not an error."""
    listed = pd.Timestamp("2025-05-20 06:30", tz="UTC")
    serving, world = market(listed={IDS["GHO"]: int(listed.timestamp() * 1000)})
    with serving as (server, _host), source_of(server, world) as source:
        prices = source.fetch("GHO", NOW - timedelta(days=60), NOW)
        before = source.fetch("GHO", NOW - timedelta(days=60), NOW - timedelta(days=50))

    assert pd.Timestamp("2025-05-20 08:00", tz="UTC") == prices.index[0]
    assert ("GHO", 0, "datetime64[us, UTC]") == (before.name, len(before), str(before.index.dtype))


def test_nothing_is_asked_of_the_future():
    """An interval that has not come is empty; an empty one too."""
    serving, world = market()
    with serving as (server, _host), source_of(server, world) as source:
        assert source.fetch("DAI", NOW + timedelta(days=2), NOW + timedelta(days=3)).empty
        assert source.fetch("DAI", NOW, NOW - timedelta(days=3)).empty
        assert [] == server.seen
        source.fetch("DAI", NOW - timedelta(days=3), NOW + timedelta(days=300))
        assert int(server.seen[0].query["to"]) <= world.now().timestamp()


@pytest.mark.fault("F032")
def test_null_prices_are_counted():
    """They travel with the series, into the store."""
    serving, world = market(nulls=0.1)
    with serving as (server, _host), source_of(server, world) as source:
        prices = source.fetch("DAI", NOW - timedelta(days=30), NOW - timedelta(days=10))
    rejects = prices.attrs[DETAIL].rejects

    assert 20 * 24 == len(prices) + len(rejects)
    assert 20 < len(rejects) < 80
    assert {"null_price"} == {reject.reason for reject in rejects}


class TestHistory:
    """What a plan does not reach."""

    @pytest.mark.fault("F009")
    @pytest.mark.parametrize("tier", ["keyless", "demo"])
    def test_a_year_on_the_free_plans(self, tier):
        """Two years give 364 days, and no call that would be refused."""
        serving, world = market(tier=tier, key=KEY, history_days=365)
        with serving as (server, _host), source_of(server, world, tier) as source:
            prices = source.fetch("DAI", NOW - timedelta(days=730), NOW)

            assert 5 == len(server.seen)
        assert 364 * 24 == len(prices)
        assert prices.index[0] == prices.attrs[DETAIL].history_start

    @pytest.mark.fault("F009")
    def test_the_host_says_so(self):
        """A paid plan of two years: the window is shortened, older ones are not asked for again, no key is blamed."""
        serving, world = market(tier="pro", key=KEY, history_days=730, calls_per_minute=1000)
        with serving as (server, _host), source_of(server, world, "pro") as source:
            prices = source.fetch("DAI", NOW - timedelta(days=1500), NOW)
            calls = len(server.seen)
            source.fetch("USDC", NOW - timedelta(days=1500), NOW)
            again = len(server.seen) - calls

        assert NOW - timedelta(days=729) <= prices.index[0] <= NOW - timedelta(days=729) + HOUR
        assert prices.index[0] == prices.attrs[DETAIL].history_start
        assert 9 + 2 == calls  # of 18 windows; one is refused and asked for in part
        assert 9 == again

    @pytest.mark.fault("F009")
    def test_nothing_of_it(self):
        """Is an error that says how far the plan reaches, without a call."""
        serving, world = market(history_days=365)
        with serving as (server, _host), source_of(server, world) as source:
            with pytest.raises(HistoryLimitError, match="reaches back to 2024-06-02") as error:
                source.fetch("DAI", NOW - timedelta(days=800), NOW - timedelta(days=700))
            assert [] == server.seen
        assert "DAI" == error.value.asset
        assert not isinstance(error.value, SettingsError)

    @pytest.mark.fault("F009")
    def test_clocks_that_differ(self):
        """A host that grants a little less than we think."""
        serving, world = market(history_days=363.5, calls_per_minute=1000)
        with serving as (server, _host), source_of(server, world) as source:
            prices = source.fetch("DAI", NOW - timedelta(days=730), NOW)

        assert 363 * 24 == len(prices)


class TestKeys:
    """Missing, wrong, for another host."""

    @pytest.mark.fault("F134")
    @pytest.mark.parametrize("key", ["", " ", "a\nb", "a\r\nhost: other", "schlüssel", " key"])
    @pytest.mark.parametrize("tier", ["demo", "pro"])
    def test_a_key_that_is_none(self, tier, key):
        """No source is made."""
        with pytest.raises(SettingsError) as error:
            CoinGeckoSource(tier=tier, api_key=key)
        with pytest.raises(SettingsError):
            CoinGeckoSource(tier=tier, environment={TIERS[tier].variable: key})
        assert key.strip() == "" or key not in str(error.value)

    @pytest.mark.fault("F134")
    @pytest.mark.parametrize("tier", ["demo", "pro"])
    def test_no_key(self, tier):
        """Names the variable."""
        with pytest.raises(SettingsError, match=f"set {TIERS[tier].variable}"):
            CoinGeckoSource(tier=tier, environment={})

    def test_a_key_that_would_not_be_sent(self):
        """And a tier that is none."""
        with pytest.raises(SettingsError, match="has no key"):
            CoinGeckoSource(api_key=KEY)
        with pytest.raises(SettingsError, match="'free'"):
            CoinGeckoSource(tier="free")

    def test_of_the_environment(self):
        """The larger plan wins; the limit of a larger plan, and a gateway."""
        demo, pro = ({TIERS[tier].variable: KEY} for tier in ("demo", "pro"))

        assert "keyless" == source_from_environment(None, {}).tier
        assert "demo" == source_from_environment(None, demo).tier
        assert "pro" == source_from_environment(None, demo | pro).tier
        assert "demo" == source_from_environment("demo", demo | pro).tier
        assert 500 == source_from_environment(None, pro | {"COINGECKO_CALLS_PER_MINUTE": "500"}).calls_per_minute
        for bad in (
            {"COINGECKO_CALLS_PER_MINUTE": "0"},
            {"COINGECKO_CALLS_PER_MINUTE": "1e3"},
            {"COINGECKO_BASE_URL": "x"},
        ):
            with pytest.raises(SettingsError):
                source_from_environment(None, pro | bad)

    @pytest.mark.fault("F008")
    @pytest.mark.fault("F010")
    @pytest.mark.parametrize(
        ("server_tier", "tier", "code"),
        [("pro", "demo", 10011), ("demo", "pro", 10010), ("demo", "demo", 10002), ("pro", "pro", 10002)],
    )
    def test_a_key_that_is_refused(self, server_tier, tier, code, caplog, capfd):
        """Once, naming host and tier, and not the key, though the host says it back."""
        caplog.set_level(logging.DEBUG)
        serving, world = market(tier=server_tier, key="another")
        with serving as (server, _host), source_of(server, world, tier) as source:
            with pytest.raises(SettingsError, match=rf"127\.0\.0\.1.*{code}.*'{tier}'") as error:
                source.fetch("DAI", NOW - timedelta(days=3), NOW)
            assert 1 == len(server.seen)
        printed = capfd.readouterr()
        assert KEY not in str(error.value) + caplog.text + printed.out + printed.err


class TestIds:
    """Which coin is meant."""

    @pytest.mark.fault("F013")
    def test_a_coin_that_is_gone(self):
        """Others are there."""
        serving, world = market(unknown=frozenset({IDS["mkUSD"]}))
        with serving as (server, _host), source_of(server, world) as source:
            with pytest.raises(UnknownAssetError, match="coin not found") as error:
                source.fetch("mkUSD", NOW - timedelta(days=3), NOW)
            assert 72 == len(source.fetch("DAI", NOW - timedelta(days=3), NOW))
        assert "mkUSD" == error.value.asset

    @pytest.mark.fault("F050")
    @pytest.mark.fault("F051")
    def test_the_list_of_coins(self):
        """An id that is not in it fails with near ids; a symbol that several coins have names them."""
        serving, world = market(unknown=frozenset({IDS["BUSD"], IDS["GHO"]}))
        with serving as (server, _host), source_of(server, world, ids={"MYUSD": "my-usd"}) as source:
            problems = source.check_ids(["dai", "BUSD", "GHO", "MYUSD", "OTHER"])

            assert 1 == len(server.seen)
        assert ["BUSD", "GHO", "MYUSD", "OTHER"] == list(problems)
        assert "binance-peg-busd" in str(problems["BUSD"])
        assert "'gho'" in str(problems["GHO"])

    @pytest.mark.fault("F051")
    def test_a_coin_of_your_own(self):
        """By id, never by symbol."""
        serving, world = market()
        with serving as (server, _host), source_of(server, world, ids={"Mine": "tether"}) as source:
            assert "Mine" == source.fetch("Mine", NOW - timedelta(days=2), NOW).name
            with pytest.raises(UnknownAssetError, match="symbols are not unique"):
                source.fetch("Yours", NOW - timedelta(days=2), NOW)


@pytest.mark.fault("F026")
def test_last_prices():
    """One call for all; of what is not there it says why, as other sources do."""
    serving, world = market(unknown=frozenset({IDS["mkUSD"]}))
    with serving as (server, _host), source_of(server, world) as source:
        frame = source.last_prices(["usdc", "BTC", "mkUSD", "NO-SUCH-COIN"])

        assert 1 == len(server.seen)
    assert ["USDC", "BTC"] == frame.index.tolist()
    assert ["source"] * 2 == frame["stamped_by"].tolist()
    failed = frame.attrs["failed"]
    assert {"mkUSD", "NO-SUCH-COIN"} == set(failed)
    assert all(isinstance(error, UnknownAssetError) for error in failed.values())
    assert IDS["mkUSD"] in str(failed["mkUSD"])
    assert 50_000 < frame.loc["BTC", "price"] < 70_000
    assert abs(frame.loc["USDC", "time"] - NOW) < timedelta(minutes=1)


def test_last_prices_of_unknown_age():
    """Without a time of the host they have that of the receipt; one coin of two names is two rows; none is no call."""
    world = World()
    answer = faults.plain(b'{"dai": {"usd": 0.9998}}')
    with (
        faults.serving(lambda _request: answer) as server,
        source_of(server, world, ids={"MINE": "dai"}) as source,
    ):
        frame = source.last_prices(["DAI", "MINE"])
        assert ["dai"] == [request.query["ids"] for request in server.seen]
        assert source.last_prices(["NO-SUCH-COIN"]).empty
        assert 1 == len(server.seen)

    assert ["DAI", "MINE"] == frame.index.tolist()
    assert {(0.9998, "receipt")} == set(zip(frame["price"], frame["stamped_by"], strict=True))
    assert all(NOW <= time <= world.now() for time in frame["time"])


@pytest.mark.fault("F045")
def test_a_step_that_was_not_asked_for():
    """Is refused, and one that no source has too."""
    world = World()
    days = [[int((NOW - timedelta(days=d)).timestamp() * 1000), 1.0] for d in range(5, 0, -1)]
    chart = faults.plain(str({"prices": days}).replace("'", '"'))
    with faults.serving(lambda _request: chart) as server, source_of(server, world) as source:
        for step in ("1h", "5m", "1w"):
            with pytest.raises(GranularityError):
                source.fetch("DAI", NOW - timedelta(days=6), NOW, step=step)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (faults.html(), PayloadError),
        (faults.plain(b"{}"), PayloadError),
        (faults.html(403), SourceBlockedError),
        (faults.redirect("https://elsewhere.example/"), SourceBlockedError),
        (faults.plain(b"", 503), SourceUnavailableError),
        (faults.hang(), SourceUnavailableError),
        (faults.drip(), SourceUnavailableError),
        (faults.endless(), PayloadError),
        (faults.gzip_bomb(64 << 20), PayloadError),
    ],
)
def test_errors_name_the_asset(answer, error):
    """And where it was asked for."""
    world = World()
    with (
        faults.serving(lambda _request: answer) as server,
        source_of(server, world, timeout=0.3) as source,
        pytest.raises(error, match="coins/dai/market_chart/range") as found,
    ):
        source.fetch("dai", NOW - timedelta(days=6), NOW)
    assert "DAI" == found.value.asset


def test_it_is_a_source():
    """By the protocols."""
    source = CoinGeckoSource()

    assert isinstance(source, tr.sources.PriceSource)
    assert isinstance(source, tr.ports.MeteredSource)

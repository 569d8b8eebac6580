"""What every source does: the built-in ones, those of the network against a server on this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from servers.coingecko import coingecko
from servers.exchanges import NOW, World, exchanges
from tonsurance_risk.sources import (
    BinanceSource,
    CachedSource,
    CoinbaseSource,
    CoinGeckoSource,
    ConsensusSource,
    CsvSource,
    DefiLlamaSource,
    FallbackSource,
    KrakenSource,
    RecordingSource,
    ReplaySource,
    SampleSource,
)
from tonsurance_risk.storage import open_store
from tonsurance_risk.testing import SourceContract

pytest.mark.fault("F054")(SourceContract.test_another_zone_is_the_same_instant)
pytest.mark.fault("F030")(SourceContract.test_again_gives_the_same)


@pytest.fixture
def venues():
    with exchanges() as (server, _, world):
        yield server, world


class Recent(SourceContract):
    start = NOW - timedelta(days=9)
    end = NOW + timedelta(hours=3)  # as the daily job asks


class Yearly(SourceContract):
    step = "1d"
    start = NOW - timedelta(days=400)
    end = NOW


class TestSample(SourceContract):
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC)

    @pytest.fixture
    def source(self):
        return SampleSource()


class TestCsv(SourceContract):
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC)

    @pytest.fixture
    def source(self, tmp_path):
        rows = [
            f"{pd.Timestamp(self.start) + hour * timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ},{1 - hour / 1e4}"
            for hour in range(48)
        ]
        (tmp_path / "USDC_1h.csv").write_text("\n".join(["timestamp,price", *rows, ""]))
        return CsvSource(tmp_path)


class TestCoinGecko(Recent):
    @pytest.fixture
    def source(self):
        world = World()
        with coingecko(now=world.now, calls_per_minute=10_000) as (server, _):
            http = {"clock": time.monotonic, "sleep": world.sleep}
            with CoinGeckoSource(
                base_url=server.url + "/api/v3", clock=world, environment={}, http=http
            ) as source:
                yield source


class TestBinance(Recent):
    @pytest.fixture
    def source(self, venues):
        server, world = venues
        with (
            CoinbaseSource(base_url=server.url, clock=world, http=world.http()) as usdt,
            BinanceSource(usdt, base_url=server.url, clock=world, http=world.http()) as source,
        ):
            yield source


class TestBinanceByTheDay(Yearly):
    @pytest.fixture
    def source(self, venues):
        server, world = venues
        with (
            KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http()) as usdt,
            BinanceSource(usdt, base_url=server.url, clock=world, http=world.http()) as source,
        ):
            yield source


class TestKraken(Recent):
    @pytest.fixture
    def source(self, venues):
        server, world = venues
        with KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http()) as source:
            yield source


class TestKrakenByTheDay(Yearly):
    source = TestKraken.source


class TestCoinbase(Recent):
    asset = "DAI"

    @pytest.fixture
    def source(self, venues):
        server, world = venues
        with CoinbaseSource(base_url=server.url, clock=world, http=world.http()) as source:
            yield source


class TestCoinbaseByTheDay(Yearly):
    asset = "DAI"
    source = TestCoinbase.source


class TestDefiLlama(Recent):
    @pytest.fixture
    def source(self, venues):
        server, world = venues
        with DefiLlamaSource(base_url=server.url, clock=world, http=world.http()) as source:
            yield source


class TestDefiLlamaByTheDay(Yearly):
    source = TestDefiLlama.source


class TestFallback(Recent):
    @pytest.fixture
    def source(self, venues):
        server, world = venues
        coinbase = CoinbaseSource(base_url=server.url, clock=world, http=world.http())
        kraken = KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http())
        with coinbase, kraken:
            yield FallbackSource([coinbase, kraken])


class TestConsensus(Recent):
    asset = "DAI"

    @pytest.fixture
    def source(self, venues):
        server, world = venues
        coinbase = CoinbaseSource(base_url=server.url, clock=world, http=world.http())
        kraken = KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http())
        llama = DefiLlamaSource(base_url=server.url, clock=world, http=world.http())
        with coinbase, kraken, llama:
            yield ConsensusSource([coinbase, kraken, llama])


class TestCached(TestKraken):
    @pytest.fixture
    def source(self, venues, tmp_path):
        server, world = venues
        with (
            KrakenSource(base_url=server.url + "/0/public", clock=world, http=world.http()) as source,
            open_store("memory://") as store,
        ):
            yield CachedSource(source, store, clock=world)


class TestCachedInAFile(TestDefiLlama):
    @pytest.fixture
    def source(self, venues, tmp_path):
        server, world = venues
        with (
            DefiLlamaSource(base_url=server.url, clock=world, http=world.http()) as source,
            open_store(f"sqlite:///{tmp_path / 'risk.db'}") as store,
        ):
            yield CachedSource(source, store, clock=world)


class TestRecording(Recent):
    @pytest.fixture
    def source(self, venues, tmp_path):
        server, world = venues

        def make(transport, clock):
            http = {"transport": transport, "sleep": world.sleep}
            return KrakenSource(base_url=server.url + "/0/public", clock=clock, http=http)

        source = RecordingSource(make, tmp_path / "recording", clock=world)
        yield source
        source.close()


class TestReplay(Recent):
    @pytest.fixture
    def source(self, venues, tmp_path):
        server, world = venues

        def make(transport, clock):
            http = {"transport": transport, "sleep": world.sleep, "clock": time.monotonic}
            return KrakenSource(base_url=server.url + "/0/public", clock=clock, http=http)

        recording = RecordingSource(make, tmp_path / "recording", clock=world)
        prices = recording.fetch(self.asset, self.start, self.end)
        middle = prices.index[len(prices) // 2] - timedelta(microseconds=1)
        for first, last in ((prices.index[1], prices.index[3]), (self.start, middle), (middle, self.end)):
            recording.fetch(self.asset, first, last)
        recording.close()
        return ReplaySource(make, tmp_path / "recording")

"""What every source does: the built-in ones, those of the network against a server on this machine."""

from __future__ import annotations

import inspect
import runpy
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

import tonsurance_risk as tr
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


EXAMPLE = Path(__file__).parents[2] / "examples" / "write_your_own_source.py"


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


class TestExample(SourceContract):
    """The one that the how-to page shows."""

    asset = "DAI"
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)

    @pytest.fixture
    def source(self):
        return runpy.run_path(str(EXAMPLE))["OwnSource"]()


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


class Spoiled:
    """The sample with one thing done wrong."""

    def __init__(self, spoil, name="spoiled"):
        self.name = name
        self._spoil = spoil
        self._sample = SampleSource()

    def fetch(self, asset, start, end, *, step="1h"):
        return self._spoil(self._sample.fetch, asset, start, end, step)


def ask_one_more(fetch, asset, start, end, step):
    return fetch(asset, start, end + timedelta(hours=1), step=step)


def shared(fetch, asset, start, end, step, kept={}):  # noqa: B006
    key = (asset.upper(), start, end, step)
    if key not in kept:
        kept[key] = fetch(asset, start, end, step=step)
    return kept[key]


def swallow(kind):
    def spoil(fetch, asset, start, end, step):
        try:
            return fetch(asset, start, end, step=step)
        except kind:
            return fetch("USDC", TestSample.start, TestSample.end)

    return spoil


def changed(change):
    return lambda fetch, asset, start, end, step: change(fetch(asset, start, end, step=step))


DEFECTS = {
    "the end belongs to it": (ask_one_more, "test_intervals_are_half_open"),
    "one object for all": (shared, "test_again_gives_the_same"),
    "the newest first": (changed(lambda prices: prices[::-1]), "test_prices_are_valid"),
    "no zone": (changed(lambda prices: prices.tz_localize(None)), "test_prices_are_valid"),
    "another name": (changed(lambda prices: prices.rename("usdc")), "test_prices_are_valid"),
    "NaN for what is not there": (
        changed(lambda prices: prices.where(prices.index.hour > 0)),
        "test_prices_are_valid",
    ),
    "text": (changed(lambda prices: prices.astype(str)), "test_prices_are_valid"),
    "every second sample": (changed(lambda prices: prices[::2]), "test_samples_are_a_step_apart"),
    "an unknown coin is another one": (swallow(tr.UnknownAssetError), "test_an_asset_that_it_does_not_carry"),
    "an unknown step is another one": (swallow(tr.errors.GranularityError), "test_a_step_that_it_does_not_have"),
    "naive times are read somehow": (swallow(tr.InvalidPriceError), "test_naive_times_are_refused"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_contract_sees_what_is_wrong(defect):
    """Each defect by the test that is named for it: a contract that passes everything is none."""
    spoil, name = DEFECTS[defect]
    contract, source = TestSample(), Spoiled(spoil)
    test = getattr(SourceContract, name)
    arguments = {"source": source, "prices": None, "which": "start", "step": "7m"}
    wanted = {key: arguments[key] for key in inspect.signature(test).parameters if key in arguments}
    if "prices" in wanted:
        wanted["prices"] = source.fetch(contract.asset, contract.start, contract.end)
    with pytest.raises((AssertionError, tr.RiskError, pytest.fail.Exception)):
        test(contract, **wanted)

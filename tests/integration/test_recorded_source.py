"""Recordings of real exchanges over HTTP, and their replay without a host."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import httpx
import pandas as pd
import pytest

from servers import faults
from servers.coingecko import coingecko
from servers.exchanges import NOW, World, exchanges
from tonsurance_risk.errors import PayloadError, RiskError, SettingsError, SourceUnavailableError
from tonsurance_risk.sources import CoinbaseSource, CoinGeckoSource, RecordingSource, ReplaySource
from tonsurance_risk.sources.http import HttpClient
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.recorded import INDEX, RecordingTransport, ReplayTransport
from tonsurance_risk.sources.transport import DeadlineTransport

KEY = "CG-CANARY-31b8"
START = NOW - timedelta(days=20)


def maker(url, waits=None):
    def make(transport, clock):
        http = {"transport": transport, "sleep": ([] if waits is None else waits).append}
        return CoinbaseSource(base_url=url, clock=clock, http=http)

    return make


def recorded(folder, **options):
    """Return the prices of a recording and the URL that was asked."""
    with exchanges(World(), **options) as (server, _, world):
        source = RecordingSource(maker(server.url), folder, clock=world)
        prices = source.fetch("DAI", START, NOW)
        source.close()
        return prices, server.url


def lines(folder):
    return [json.loads(line) for line in (folder / INDEX).read_text().splitlines()]


def test_the_replay_gives_the_same_without_a_host(tmp_path):
    """Long after, with the host gone."""
    prices, url = recorded(tmp_path / "r")
    replay = ReplaySource(maker(url), tmp_path / "r")

    pd.testing.assert_series_equal(prices, replay.fetch("DAI", START, NOW))
    pd.testing.assert_series_equal(prices, replay.fetch("DAI", START, NOW))
    assert "coinbase" == replay.name
    assert 20 * 24 == len(prices)


def test_the_files_are_the_bodies(tmp_path):
    """Byte for byte, as the host sent them."""
    body = b'{"a":  [1.50, "\xc3\xa9"],\r\n"b":null }  '
    with faults.serving(lambda _: faults.plain(body)) as server:
        transport = RecordingTransport(tmp_path, DeadlineTransport(), datetime(2025, 6, 1, tzinfo=UTC))
        with HttpClient(
            server.url, limits=HostLimits(calls_per_minute=600, burst=9), transport=transport
        ) as client:
            assert body == client.get("x", {"q": "1"}, bytes)
    replay = HttpClient(server.url, limits=HostLimits(calls_per_minute=600), transport=ReplayTransport(tmp_path))

    _, exchange = lines(tmp_path)
    assert body == (tmp_path / exchange["file"]).read_bytes()
    assert hashlib.sha256(body).hexdigest() == exchange["sha256"]
    assert body == replay.get("x", {"q": "1"}, bytes)


def test_a_body_that_comes_zipped_all_the_same(tmp_path):
    with faults.serving(lambda _: faults.zipped(b"[1, 2]")) as server:
        transport = RecordingTransport(tmp_path, DeadlineTransport(), datetime(2025, 6, 1, tzinfo=UTC))
        with HttpClient(server.url, limits=HostLimits(calls_per_minute=600), transport=transport) as client:
            assert b"[1, 2]" == client.get("x", None, bytes)
    replay = HttpClient(server.url, limits=HostLimits(calls_per_minute=600), transport=ReplayTransport(tmp_path))

    assert b"[1, 2]" == replay.get("x", None, bytes)
    assert "gzip" == lines(tmp_path)[1]["encoding"]


def test_errors_are_recorded_and_replayed_in_their_order(tmp_path):
    """A retry is a part of the recording: the same waits lead to the same answer."""
    first = [faults.plain("busy", 503), faults.html(200)]
    with exchanges(World(), first=first) as (server, _, world):
        source = RecordingSource(maker(server.url), tmp_path / "r", clock=world)
        prices = source.fetch("DAI", NOW - timedelta(days=2), NOW)
        source.close()
    waits = []
    again = ReplaySource(maker(server.url, waits), tmp_path / "r").fetch("DAI", NOW - timedelta(days=2), NOW)

    pd.testing.assert_series_equal(prices, again)
    assert [503, 200, 200] == [exchange["status"] for exchange in lines(tmp_path / "r")[1:]]
    assert len(waits) >= 2


def test_what_was_not_recorded_is_an_error(tmp_path):
    """That names the request and what there is; at once, without a retry."""
    _, url = recorded(tmp_path / "r")
    waits = []
    replay = ReplaySource(maker(url, waits), tmp_path / "r")
    with pytest.raises(SettingsError, match=r"has no answer to GET .*/products/BTC-USD/candles.*it has .*DAI-USD"):
        replay.fetch("BTC", START, NOW)

    assert [] == waits


def test_the_instant_of_the_recording_is_that_of_the_replay(tmp_path):
    """The same bar is running, whenever it is replayed."""
    prices, url = recorded(tmp_path / "r")
    replay = ReplaySource(maker(url), tmp_path / "r").fetch("DAI", START, NOW)

    assert pd.Timestamp(NOW).floor("h") == prices.index[-1] == replay.index[-1]


@pytest.mark.fault("F009")
def test_no_key_and_no_header_in_the_folder(tmp_path):
    """A canary key is looked for in every file."""
    world = World()
    with coingecko(now=world.now, tier="demo", key=KEY, calls_per_minute=10_000) as (server, _):

        def make(transport, clock):
            return CoinGeckoSource(
                tier="demo", api_key=KEY, base_url=server.url + "/api/v3", clock=clock, environment={},
                http={"transport": transport, "sleep": world.sleep},
            )  # fmt: skip

        source = RecordingSource(make, tmp_path / "r", clock=world)
        prices = source.fetch("DAI", NOW - timedelta(days=5), NOW)
        source.close()
        assert KEY in server.seen[0].headers["x-cg-demo-api-key"]
    again = ReplaySource(make, tmp_path / "r").fetch("DAI", NOW - timedelta(days=5), NOW)

    pd.testing.assert_series_equal(prices, again)
    for path in (tmp_path / "r").iterdir():
        assert KEY.encode() not in path.read_bytes()
        assert b"x-cg" not in path.read_bytes().lower()


@pytest.mark.parametrize("name", ["api_key", "x_cg_demo_api_key", "access_token", "Signature"])
def test_a_key_in_a_query_is_refused(tmp_path, name):
    """It would be in the index; and nothing is sent."""
    with faults.serving(lambda _: faults.plain(b"1")) as server:
        transport = RecordingTransport(tmp_path, DeadlineTransport(), datetime(2025, 6, 1, tzinfo=UTC))
        with (
            HttpClient(server.url, limits=HostLimits(calls_per_minute=600), transport=transport) as client,
            pytest.raises(SettingsError, match="use a header"),
        ):
            client.get("x", {name: KEY}, bytes)

        assert [] == server.seen
    assert KEY not in (tmp_path / INDEX).read_text()


def test_what_broke_off_is_no_answer(tmp_path):
    """And not in the recording."""
    broken = faults.truncated(b"1" * 100)
    with faults.serving(lambda _: broken) as server:
        transport = RecordingTransport(tmp_path, DeadlineTransport(), datetime(2025, 6, 1, tzinfo=UTC))
        with (
            HttpClient(
                server.url,
                limits=HostLimits(calls_per_minute=600, burst=9),
                transport=transport,
                sleep=lambda _: None,
            ) as client,
            pytest.raises(SourceUnavailableError),
        ):
            client.get("x", None, bytes)

    assert 1 == len(lines(tmp_path))


def test_a_recording_is_not_written_over(tmp_path):
    recorded(tmp_path / "r")
    with pytest.raises(SettingsError, match="needs a new folder"):
        recorded(tmp_path / "r")


class TestDamage:
    @pytest.mark.parametrize(
        "content", ["", "{}", "not json", '{"form": 2, "now": "2025-06-01T00:00:00Z"}', '{"form": 1, "now": "2025-06-01"}',
                    '{"form": 1, "now": "2025-06-01T00:00:00Z"}\n{"method": "GET"}', "[]", "7"]
    )  # fmt: skip
    def test_an_index_that_cannot_be_read(self, tmp_path, content):
        (tmp_path / INDEX).write_text(content)
        with pytest.raises(PayloadError, match="index.jsonl"):
            ReplayTransport(tmp_path)

    def test_no_recording(self, tmp_path):
        with pytest.raises(SettingsError, match="there is no recording"):
            ReplaySource(maker("http://127.0.0.1:9"), tmp_path)

    @pytest.mark.parametrize("damage", ["changed", "gone"])
    def test_a_body_that_is_not_what_was_recorded(self, tmp_path, damage):
        _, url = recorded(tmp_path / "r")
        path = tmp_path / "r" / lines(tmp_path / "r")[1]["file"]
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes().replace(b"0.99", b"0.98", 1))
        with pytest.raises(PayloadError, match=r"is not what was recorded|cannot be read"):
            ReplaySource(maker(url), tmp_path / "r").fetch("DAI", START, NOW)

    def test_a_file_outside_the_folder_is_not_read(self, tmp_path):
        """Whatever the index says."""
        (tmp_path / "secret").write_text("[]")
        folder = tmp_path / "r"
        folder.mkdir()
        exchange = {"method": "GET", "url": "http://127.0.0.1:9/x", "status": 200, "encoding": "",
                    "file": "../secret", "sha256": hashlib.sha256(b"[]").hexdigest()}  # fmt: skip
        (folder / INDEX).write_text('{"form": 1, "now": "2025-06-01T00:00:00Z"}\n' + json.dumps(exchange))
        with pytest.raises(RiskError):
            ReplayTransport(folder).handle_request(httpx.Request("GET", "http://127.0.0.1:9/x"))

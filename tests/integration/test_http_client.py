"""The HTTP client against a server on this machine that goes wrong in every way."""

from __future__ import annotations

import email.utils
import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from servers import faults
from tonsurance_risk.errors import (
    CreditsUsedUpError,
    PayloadError,
    RateLimitedError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources.http import HttpClient
from tonsurance_risk.sources.http_errors import explain_status
from tonsurance_risk.sources.rate_limit import HostLimits, TokenBucket
from tonsurance_risk.sources.retries import RetryRule, parse_retry_after

KEY = "CANARY-4f9d1c"
FAST = HostLimits(calls_per_minute=6000, burst=100)


class FakeTime:
    """A clock that runs only by sleeping."""

    def __init__(self):
        self.now = 1000.0
        self.waits = []
        self._lock = threading.Lock()

    def clock(self):
        return self.now

    def sleep(self, seconds):
        with self._lock:
            self.waits.append(seconds)
            self.now += seconds


def digits(body: bytes) -> int:
    """Parse a body of digits."""
    if not body.isdigit():
        raise PayloadError(f"not digits: {body[:500]!r}")
    return int(body)


def client_of(url, pretended=None, **options):
    options.setdefault("limits", FAST)
    if pretended is not None:
        options |= {"clock": pretended.clock, "sleep": pretended.sleep}
        options.setdefault("uniform", lambda low, high: high)
    return HttpClient(url, **options)


def run(answers, **options):
    """Return outcome, server, waits and client of one call to a server that gives one answer after the other."""
    left = list(answers)
    pretended = FakeTime()
    with (
        faults.serving(lambda _request: left.pop(0) if len(left) > 1 else left[0]) as server,
        client_of(server.url, pretended, **options) as client,
    ):
        try:
            outcome = client.get("price", {"of": "DAI"}, digits)
        except Exception as error:
            outcome = error
    return outcome, server, pretended.waits, client


OK = faults.plain("7")


@pytest.mark.fault("F018")
@pytest.mark.parametrize(
    "answer", [OK, faults.plain("7", content_type="text/plain"), faults.zipped(b"7")], ids=["json", "text", "gzip"]
)
def test_a_good_answer(answer):
    """Whatever its type is called, and encoded or not."""
    outcome, server, waits, client = run([answer])

    assert (7, [], 1, 1, 0) == (outcome, waits, client.calls, client.credits, client.retries)
    assert ("/price", {"of": "DAI"}) == (server.seen[0].path, server.seen[0].query)


@pytest.mark.fault("F014")
@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_a_server_that_is_ill_is_asked_again(status):
    """Until it answers, or until the attempts are used up; with waits that double."""
    well, _, _, _ = run([faults.plain("oops", status), OK])
    outcome, server, waits, client = run([faults.plain("oops", status)])

    assert 7 == well
    assert isinstance(outcome, SourceUnavailableError)
    assert 5 == len(server.seen) == client.calls == client.credits
    assert [1.0, 2.0, 4.0, 8.0] == waits
    assert f"127.0.0.1:{server.port}/price: HTTP {status}: oops (after 5 attempts)" == str(outcome)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(faults.reset(), marks=pytest.mark.fault("F002"), id="reset"),
        pytest.param(faults.truncated(b"1" * 100), marks=pytest.mark.fault("F002"), id="truncated"),
        pytest.param(faults.cut_gzip(b"1" * 100), id="cut-gzip"),
        pytest.param(faults.damaged_gzip(b""), id="damaged-gzip"),
        pytest.param(faults.plain(b"7", 200, content_length="zero"), id="bad-length"),
    ],
)
def test_a_broken_answer_is_asked_for_again(broken):
    """The part that came is thrown away."""
    outcome, server, _, _ = run([broken, OK])
    lost, _, _, _ = run([broken])

    assert 7 == outcome
    assert 2 == len(server.seen)
    assert isinstance(lost, SourceUnavailableError)


@pytest.mark.fault("F001")
def test_a_host_without_address():
    """Is unavailable, after all attempts."""
    pretended = FakeTime()
    with client_of("http://no-such-host.invalid", pretended) as client, pytest.raises(SourceUnavailableError):
        client.get("price", None, digits)

    assert 5 == client.calls


@pytest.mark.fault("F002")
def test_a_refused_connection():
    """Is tried again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    pretended = FakeTime()
    with (
        client_of(f"http://127.0.0.1:{port}", pretended) as client,
        pytest.raises(SourceUnavailableError, match="ConnectError"),
    ):
        client.get("price", None, digits)

    assert 5 == client.calls


@pytest.mark.parametrize(
    "slow",
    [
        pytest.param(faults.hang(), marks=pytest.mark.fault("F003"), id="hangs"),
        pytest.param(faults.drip(), marks=pytest.mark.fault("F004"), id="drips"),
        pytest.param(faults.drip(headers=True), marks=pytest.mark.fault("F004"), id="drips-headers"),
    ],
)
def test_a_slow_server_is_left_in_time(slow):
    """By the clock on the wall: an exchange has its timeout as a whole, and a call its deadline."""
    with faults.serving(lambda _request: slow) as server:
        begun = time.monotonic()
        with client_of(server.url, timeout=0.2, deadline=0.5, retry=RetryRule(first_wait=0.01)) as client:
            with pytest.raises(SourceUnavailableError, match="Timeout"):
                client.get("price", None, digits)
            took = time.monotonic() - begun

    assert 2 <= client.calls <= 3
    assert 0.4 <= took < 1.5


@pytest.mark.fault("F005")
def test_the_wait_that_is_asked_for():
    """Is kept, then one retry, counted."""
    outcome, server, waits, client = run([faults.plain("slow down", 429, retry_after="7"), OK], uniform=min)

    assert (7, 2, 2, 1) == (outcome, len(server.seen), client.calls, client.retries)
    assert 7.0 <= sum(waits) < 7.1


@pytest.mark.fault("F006")
def test_no_wait_is_asked_for():
    """Then the upper end of the random wait is longer than after other errors."""
    outcome, _, waits, _ = run([faults.plain("slow down", 429), faults.plain("slow down", 429), OK])

    assert 7 == outcome
    assert [15.0, 30.0] == waits


@pytest.mark.fault("F006")
def test_jitter_is_full():
    """Anything from 0 to the upper end, which stops growing."""
    asked = []
    run(
        [faults.plain("", 500)],
        uniform=lambda low, high: asked.append((low, high)) or 0.0,
        retry=RetryRule(attempts=9),
    )

    assert [(0.0, min(60.0, 2.0**k)) for k in range(9)] == asked


@pytest.mark.fault("F007")
@pytest.mark.parametrize("value", ["-5", "soon", "1e3", "", "٣", "7; 8", "99 Luftballons"])
def test_an_unusable_wait(value):
    """Is as none."""
    headers = {"retry_after": value.encode().decode("latin-1")} if value else {}
    outcome, _, waits, _ = run([faults.plain("slow down", 429, **headers), OK])

    assert 7 == outcome
    assert [15.0] == waits


@pytest.mark.fault("F007")
@pytest.mark.parametrize("value", ["121", "99999999999999999999999"])
def test_a_wait_beyond_the_cap(value):
    """Is not waited for; the error says how long."""
    outcome, server, waits, _ = run([faults.plain("slow down", 429, retry_after=value), OK])

    assert isinstance(outcome, RateLimitedError)
    assert outcome.retry_after > 120
    assert (1, []) == (len(server.seen), waits)


@pytest.mark.fault("F007")
def test_a_wait_until_a_date():
    """Is counted from the host's own clock, however wrong ours is."""
    now = datetime(2031, 5, 1, tzinfo=UTC)
    date, until = (email.utils.format_datetime(t, usegmt=True) for t in (now, now + timedelta(seconds=40)))

    assert 40.0 == parse_retry_after(until, date)
    assert parse_retry_after(date, until) is None
    assert parse_retry_after(until, None) is None
    assert parse_retry_after(until, "yesterday") is None


@pytest.mark.fault("F007")
def test_a_wait_until_a_date_is_kept():
    """The host says its own time in every answer."""
    until = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    outcome, _, waits, _ = run([faults.plain("slow down", 429, retry_after=until), OK], uniform=min)

    assert 7 == outcome
    assert 45.0 < sum(waits) <= 51.0


def test_a_wait_of_one_is_a_wait_of_all():
    """Threads of one key: nobody asks while the host wants quiet."""
    pretended = FakeTime()
    answers = [faults.plain("", 429, retry_after="30"), OK, OK]
    with (
        faults.serving(lambda _request: answers.pop(0)) as server,
        client_of(server.url, pretended, retry=RetryRule(attempts=1)) as client,
    ):
        with pytest.raises(RateLimitedError):
            client.get("a", None, digits)
        client.get("b", None, digits)

    assert 30.0 <= pretended.now - 1000.0 < 31.0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, PayloadError),
        pytest.param(401, SettingsError, marks=pytest.mark.fault("F008")),
        pytest.param(403, SourceBlockedError, marks=pytest.mark.fault("F011")),
        pytest.param(451, SourceBlockedError, marks=pytest.mark.fault("F012")),
        pytest.param(404, UnknownAssetError, marks=pytest.mark.fault("F013")),
    ],
)
def test_what_is_final_is_asked_once(status, error):
    """Whatever the body says."""
    outcome, server, _, _ = run([faults.html(status)])

    assert error is type(outcome)
    assert 1 == len(server.seen)
    assert "Just a moment" in str(outcome)


@pytest.mark.fault("F015")
@pytest.mark.fault("F016")
@pytest.mark.parametrize("answer", [faults.html(), faults.plain(""), faults.silently_truncated(b'{"a": 1}')])
def test_an_answer_that_cannot_be_read(answer):
    """Is asked for once more, no more."""
    mended, _, _, _ = run([answer, OK])
    outcome, server, _, _ = run([answer])

    assert 7 == mended
    assert isinstance(outcome, PayloadError)
    assert 2 == len(server.seen)
    assert len(str(outcome)) < 700


@pytest.mark.parametrize(
    "large",
    [
        pytest.param(faults.gzip_bomb(), marks=pytest.mark.fault("F020"), id="gzip"),
        pytest.param(faults.endless(), marks=pytest.mark.fault("F021"), id="endless"),
    ],
)
def test_a_body_without_end(large):
    """Is not read beyond the cap, and memory stays near it."""
    with faults.serving(lambda _request: large) as server, client_of(server.url, most_bytes=1 << 20) as client:
        tracemalloc.start()
        with pytest.raises(PayloadError, match="more than 1,048,576 bytes"):
            client.get("price", None, digits)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 12 << 20  # the server's blocks are counted too


@pytest.mark.fault("F020")
@pytest.mark.parametrize("encoding", ["zstd", "br", "deflate", "gzip, gzip"])
def test_an_encoding_that_was_not_asked_for(encoding):
    """Is not decoded at all."""
    outcome, server, _, _ = run([faults.plain(gzip.compress(b"7"), content_encoding=encoding)])

    assert isinstance(outcome, PayloadError)
    assert "gzip" == server.seen[0].headers["accept-encoding"]


@pytest.mark.fault("F022")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status):
    """And the key does not go there."""
    with faults.serving(lambda _request: OK) as other:
        outcome, server, _, _ = run(
            [faults.redirect(f"{other.url}/take?k={KEY}", status)], headers={"x-key": KEY}, secrets=(KEY,)
        )

        assert [] == other.seen
    assert isinstance(outcome, SourceBlockedError)
    assert 1 == len(server.seen)
    assert KEY == server.seen[0].headers["x-key"]
    assert KEY not in str(outcome) + str(outcome.observed)


@pytest.mark.fault("F031")
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
def test_proxies_of_the_environment_are_not_used(monkeypatch, variable):
    """A proxy is a transport that is given."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    with faults.serving(lambda _request: faults.plain("", 500)) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        outcome, _, _, _ = run([OK])

        assert [] == proxy.seen
    assert 7 == outcome


@pytest.mark.fault("F031")
def test_a_proxy_that_is_configured(monkeypatch):
    """Is used."""
    with (
        faults.serving(lambda _request: OK) as proxy,
        HttpClient("http://prices.example", limits=FAST, transport=httpx.HTTPTransport(proxy=proxy.url)) as client,
    ):
        assert 7 == client.get("price", None, digits)

        assert "http://prices.example/price" == proxy.seen[0].target


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of this machine that nobody has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_encryption_is_checked(certificate, monkeypatch):
    """A host that cannot show who it is gets no key; one that can is served, and left in time when it drips."""
    file, context = certificate
    dripping = faults.drip()
    with faults.serving(lambda request: dripping if request.path == "/drip" else OK, context) as server:
        with client_of(server.url, FakeTime(), headers={"x-key": KEY}, secrets=(KEY,)) as client:
            with pytest.raises(SourceUnavailableError, match="certificate verify failed"):
                client.get("price", None, digits)
            assert [] == server.seen
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        with client_of(server.url, headers={"x-key": KEY}, secrets=(KEY,), timeout=0.5, deadline=0.9) as client:
            assert 7 == client.get("price", None, digits)
            begun = time.monotonic()
            with pytest.raises(SourceUnavailableError):
                client.get("drip", None, digits)
            assert time.monotonic() - begun < 3.0


@pytest.mark.fault("F029")
def test_credits_end_before_the_call():
    """The last one is still spent."""
    limits = HostLimits(calls_per_minute=6000, burst=100, monthly_credits=5)
    with faults.serving(lambda _request: OK) as server, client_of(server.url, limits=limits) as client:
        client.get("a", None, digits, cost=2)
        client.get("a", None, digits, cost=2)
        with pytest.raises(CreditsUsedUpError, match="4 of 5"):
            client.get("a", None, digits, cost=2)
        client.get("a", None, digits)

        assert 3 == len(server.seen)
    assert (3, 5) == (client.calls, client.credits)


@pytest.mark.fault("F029")
def test_credits_of_other_runs_and_a_reserve():
    """Of 10 credits 4 are gone and 3 are kept: three calls are left."""
    limits = HostLimits(calls_per_minute=6000, burst=100, monthly_credits=10)
    with faults.serving(lambda _request: OK) as server, client_of(server.url, limits=limits) as client:
        client.get("a", None, digits)
        client.limit_credits(used=4, reserve=3)
        for _ in range(3):
            client.get("a", None, digits)
        with pytest.raises(CreditsUsedUpError, match="7 of 10 credits of the month are used, 3 are kept for the"):
            client.get("a", None, digits)
        client.limit_credits(used=7, reserve=0)
        client.get("a", None, digits)

        assert 5 == len(server.seen) == client.credits


def test_usage_tells_answers_waits_and_a_host_that_is_left_alone():
    """One answer, then an outage until the host is left alone."""
    pretended = FakeTime()
    answers = iter([OK])
    with (
        faults.serving(lambda _request: next(answers, faults.plain("", 500))) as server,
        client_of(server.url, pretended, retry=RetryRule(attempts=2)) as client,
    ):
        client.get("a", None, digits)
        before = client.usage
        for _ in range(3):
            with pytest.raises(SourceUnavailableError):
                client.get("a", None, digits)

        usage = client.usage
    assert (before.requests, before.circuit_open) == ({"2xx": 1}, False)
    assert usage.requests == {"2xx": 1, "5xx": 6}
    assert (usage.credits, usage.circuit_open) == (7, True)
    assert 0.0 < usage.retry_wait_seconds == pytest.approx(sum(pretended.waits))
    assert (usage - before).requests == {"5xx": 6}


def test_retries_have_a_budget():
    """An outage does not multiply traffic: reserve and a share of the calls."""
    pretended = FakeTime()
    rule = RetryRule(reserve=3, share=0.5, attempts=3)
    with (
        faults.serving(lambda _request: faults.plain("", 500)) as server,
        client_of(server.url, pretended, retry=rule) as client,
    ):
        for _ in range(10):
            pretended.now += 100.0
            with pytest.raises(SourceUnavailableError):
                client.get("price", None, digits)

        assert len(server.seen) <= 10 + 3 + 5
        assert 8 >= client.retries >= 7


def test_a_dead_host_is_left_alone():
    """After three calls in a row; a minute later one is let through, and closes or opens."""
    pretended = FakeTime()
    ill = True
    with (
        faults.serving(lambda _request: faults.plain("", 500) if ill else OK) as server,
        client_of(server.url, pretended) as client,
    ):
        for _ in range(3):
            with pytest.raises(SourceUnavailableError):
                client.get("price", None, digits)
        asked = len(server.seen)
        for _ in range(20):
            with pytest.raises(SourceUnavailableError, match="left alone") as left_alone:
                client.get("price", None, digits)
        assert asked == len(server.seen)
        assert 0 < left_alone.value.retry_after <= 60

        pretended.now += 61
        with pytest.raises(SourceUnavailableError, match="HTTP 500"):
            client.get("price", None, digits)
        with pytest.raises(SourceUnavailableError, match="left alone"):
            client.get("price", None, digits)

        pretended.now += 61
        ill = False
        assert [7, 7] == [client.get("price", None, digits) for _ in range(2)]


def test_errors_of_one_asset_do_not_open_the_breaker():
    """The host answered."""
    with (
        faults.serving(lambda request: faults.plain("", 404) if request.path == "/none" else OK) as server,
        client_of(server.url, FakeTime()) as client,
    ):
        for _ in range(10):
            with pytest.raises(UnknownAssetError):
                client.get("none", None, digits)

        assert 7 == client.get("price", None, digits)


def test_threads_share_one_limit():
    """In no minute more calls than it allows."""
    pretended = FakeTime()
    times = []
    bucket = TokenBucket(60, 5, clock=pretended.clock, sleep=lambda _seconds: None)
    lock = threading.Lock()

    def work():
        for _ in range(25):
            waited = []
            bucket._sleep = waited.append
            with lock:
                bucket.take(most_wait=1e9)
                times.append(sum(waited))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [0.0] * 5 + [float(k) for k in range(1, 96)] == pytest.approx(times)


def test_a_limit_that_takes_too_long():
    """Is an error at once, and takes nothing."""
    pretended = FakeTime()
    bucket = TokenBucket(1, 1, clock=pretended.clock, sleep=pretended.sleep)
    bucket.take(most_wait=0.0)
    for _ in range(3):
        with pytest.raises(RateLimitedError) as error:
            bucket.take(most_wait=59.0)
        assert 60.0 == error.value.retry_after
    bucket.take(most_wait=60.0)

    assert [60.0] == pretended.waits


@pytest.mark.fault("F113")
@pytest.mark.fault("F144")
@pytest.mark.parametrize("status", [200, 400, 404, 429, 500])
def test_nothing_of_a_key_comes_out(status, caplog, capfd):
    """A host that says the key back, with line breaks and colours, at the most talkative level of logs."""
    caplog.set_level(logging.DEBUG)
    said = f"your key {KEY}\n2026-01-01 CRITICAL all is lost \x1b[31m"
    outcome, server, _, client = run([faults.plain(said, status)], headers={"x-key": KEY}, secrets=(KEY,))
    printed = capfd.readouterr()
    everything = str(outcome) + repr(outcome.args) + repr(client) + caplog.text + printed.out + printed.err

    assert KEY == server.seen[0].headers["x-key"]
    assert KEY not in server.seen[0].target
    assert KEY not in everything
    assert "***" in str(outcome)
    assert "\n" not in str(outcome)
    assert "\x1b" not in everything
    assert not [record for record in caplog.records if "?of=DAI" in record.getMessage()]


@pytest.mark.fault("F134")
@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\r\nx-other: 1", "a\tb", "schlüssel", "a ", "\x00"])
def test_a_header_that_cannot_be_sent(value):
    """Is refused before any call, and not shown."""
    with pytest.raises(SettingsError) as error:
        HttpClient("https://prices.example", limits=FAST, headers={"x-key": value}, secrets=(value,))
    assert value.strip() == "" or value not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["", "prices.example", "ftp://prices.example", "https://", "https://user:secret@prices.example", "https://a/?k=secret",
     "https://user:secret@prices.example:88x",
     "https://a/#secret", "http://prices.example", None, 7],
)  # fmt: skip
def test_a_base_url_that_cannot_be_used(url):
    """Not encrypted only without a key, or on this machine."""
    with pytest.raises(SettingsError) as error:
        HttpClient(url, limits=FAST, headers={"x-key": KEY}, secrets=(KEY,))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("limit", [{"calls_per_minute": 0}, {"calls_per_minute": 1, "burst": 0}])
def test_limits_that_cannot_be(limit):
    """Are refused."""
    with pytest.raises(ValueError, match="must be"):
        HostLimits(**limit)


def test_the_default_explanation():
    """Shows what was there, and that nothing was."""
    assert "HTTP 500: an empty body" == str(explain_status(500, b" ", {}))
    assert len(str(explain_status(500, b"x" * 10_000, {}))) < 600

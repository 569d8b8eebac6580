"""Alert sinks against a receiver on this machine and a real file; every secret is looked for in all that comes out."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime

import attrs
import pytest

from servers.faults import drip, hang, plain, redirect, reset
from servers.receiver import receiving
from tonsurance_risk.errors import AlertRefusedError, AlertUndeliveredError, SettingsError
from tonsurance_risk.ports import AlertMessage
from tonsurance_risk.reporting.sinks import FileSink, LogSink, open_sinks
from tonsurance_risk.reporting.sinks.content import MOST_BYTES
from tonsurance_risk.reporting.sinks.pagerduty import PagerDutySink
from tonsurance_risk.reporting.sinks.posting import SECONDS, Receiver
from tonsurance_risk.reporting.sinks.webhook import WebhookSink
from tonsurance_risk.settings import (
    PAGERDUTY_ROUTING_KEY,
    WEBHOOK_SECRET,
    AlertSettings,
    FileSinkSettings,
    LogSinkSettings,
    PagerDutySinkSettings,
    WebhookSinkSettings,
)
from tonsurance_risk.values import iso

CANARY = "canary/0123456789+abcdefghi=jklm"
ROUTING_KEY = "R0123456789abcdefghijklmnopqrstu"
AS_OF = datetime(2023, 3, 11, 7, tzinfo=UTC)
ACCEPTED = plain(b'{"status": "success"}', 202)
KINDS = ["webhook", "pagerduty"]


def message(**changes) -> AlertMessage:
    fields = {
        "key": "risk_report:USDC:depeg",
        "action": "trigger",
        "severity": "critical",
        "summary": "USDC is 12 % below its peg",
        "as_of": AS_OF,
        "source": "daily",
        "details": {"ratio": 0.88},
    }
    return AlertMessage(**fields | changes)


def receiver(url: str, **changes) -> Receiver:
    return Receiver(url=url, **{"allowed_hosts": ("127.0.0.1",)} | changes)


def sink(kind: str, url: str, **changes):
    target = receiver(url, **changes)
    if kind == "webhook":
        return WebhookSink(receiver=target, secret=CANARY, clock=FixedClock(AS_OF), secrets=(CANARY,))
    return PagerDutySink(receiver=target, routing_key=ROUTING_KEY, secrets=(CANARY,))


@attrs.frozen
class FixedClock:
    time: datetime

    def now(self) -> datetime:
        return self.time


def dripping_error(handler) -> None:
    """Say that it is not taken, and why, without end."""
    handler.send_response(503)
    handler.end_headers()
    while not handler.server.stopping.wait(0.02):
        handler.wfile.write(b"1")
        handler.wfile.flush()


def all_text(error: BaseException) -> str:
    chain = "".join(traceback.format_exception(error))
    return chain + repr(error) + repr(vars(error))


class TestWebhook:
    def test_the_signature_is_the_hmac_of_timestamp_and_body(self) -> None:
        """Computed here from what arrived."""
        with receiving(ACCEPTED) as inbox:
            sink("webhook", inbox.url).send(message())

        (post,) = inbox.posts
        timestamp = post.headers["x-tonsurance-timestamp"]
        expected = hmac.new(CANARY.encode(), timestamp.encode() + b"." + post.body, hashlib.sha256).hexdigest()
        assert f"sha256={expected}" == post.headers["x-tonsurance-signature"]
        assert timestamp == str(int(AS_OF.timestamp()))
        assert "application/json" == post.headers["content-type"]

    def test_the_body_is_the_message(self) -> None:
        with receiving(plain(b"", 200)) as inbox:
            sink("webhook", inbox.url).send(message(action="resolve"))

        assert json.loads(inbox.posts[0].body) == {
            "key": "risk_report:USDC:depeg",
            "action": "resolve",
            "severity": "critical",
            "summary": "USDC is 12 % below its peg",
            "as_of": "2023-03-11T07:00:00Z",
            "source": "daily",
            "details": {"ratio": 0.88},
        }

    @pytest.mark.fault("F134")
    @pytest.mark.parametrize("secret", ["", "two\r\nlines", "schlüssel", None])
    def test_a_secret_that_cannot_be_used(self, secret: object) -> None:
        with pytest.raises(SettingsError, match="printable ASCII") as caught:
            WebhookSink(receiver=receiver("https://alerts.example/"), secret=secret)

        assert not secret or secret not in str(caught.value)


class TestPagerDuty:
    @pytest.mark.parametrize(
        ("ours", "theirs"), [("critical", "critical"), ("high", "error"), ("medium", "warning"), ("low", "info")]
    )
    def test_a_trigger(self, ours: str, theirs: str) -> None:
        with receiving(ACCEPTED) as inbox:
            sink("pagerduty", inbox.url).send(message(severity=ours))

        event = json.loads(inbox.posts[0].body)
        assert event.pop("client") == "tonsurance_risk"
        assert event == {
            "routing_key": ROUTING_KEY,
            "event_action": "trigger",
            "dedup_key": "risk_report:USDC:depeg",
            "payload": {
                "summary": "USDC is 12 % below its peg",
                "source": "daily",
                "severity": theirs,
                "timestamp": "2023-03-11T07:00:00Z",
                "custom_details": {"ratio": 0.88},
            },
        }

    def test_a_resolve_has_the_key_of_its_trigger(self) -> None:
        """It needs no alert that is open: the receiver drops it then."""
        with receiving(ACCEPTED) as inbox:
            sink("pagerduty", inbox.url).send(message(action="resolve"))

        assert json.loads(inbox.posts[0].body) == {
            "routing_key": ROUTING_KEY,
            "event_action": "resolve",
            "dedup_key": "risk_report:USDC:depeg",
        }

    @pytest.mark.fault("F109")
    def test_400_is_not_repeated_and_names_the_field(self) -> None:
        answer = {
            "status": "invalid event",
            "message": "Event object is invalid",
            "errors": [f"Length of 'routing_key' is incorrect: {ROUTING_KEY}"],
        }
        with (
            receiving(plain(json.dumps(answer), 400)) as inbox,
            pytest.raises(AlertRefusedError, match="Length of 'routing_key' is incorrect") as caught,
        ):
            sink("pagerduty", inbox.url).send(message())

        assert 1 == len(inbox.posts)
        assert 400 == caught.value.observed
        assert ROUTING_KEY not in all_text(caught.value)

    @pytest.mark.fault("F110")
    @pytest.mark.parametrize(
        ("header", "wait"), [({}, 60.0), ({"retry_after": "240"}, 240.0), ({"retry_after": "x"}, 60.0)]
    )
    def test_429_waits_for_minutes(self, header: dict[str, str], wait: float) -> None:
        with receiving(plain(b"{}", 429, **header)) as inbox, pytest.raises(AlertUndeliveredError) as caught:
            sink("pagerduty", inbox.url).send(message())

        assert wait == caught.value.retry_after

    @pytest.mark.fault("F134")
    @pytest.mark.parametrize("key", ["", "short", ROUTING_KEY + "\n", None, ROUTING_KEY[:-1] + "é"])
    def test_a_routing_key_that_cannot_be_used(self, key: object) -> None:
        with pytest.raises(SettingsError, match="32 letters") as caught:
            PagerDutySink(receiver=receiver("https://events.example/"), routing_key=key)

        assert not key or key not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
class TestReceiversThatFail:
    @pytest.mark.fault("F110")
    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_what_is_worth_repeating(self, kind: str, status: int) -> None:
        with (
            receiving(plain("down for now", status)) as inbox,
            pytest.raises(AlertUndeliveredError, match=f"127.0.0.1 answered HTTP {status}: down for now"),
        ):
            sink(kind, inbox.url).send(message())

        assert 1 == len(inbox.posts)  # who repeats is the outbox

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
    def test_what_is_not(self, kind: str, status: int) -> None:
        with receiving(plain("no\x1b[2J\nmore", status)) as inbox, pytest.raises(AlertRefusedError) as caught:
            sink(kind, inbox.url).send(message())

        assert f"127.0.0.1 answered HTTP {status}: no\\x1b[2J\\nmore" == str(caught.value)

    @pytest.mark.fault("F111")
    @pytest.mark.parametrize(
        "behaviour", [hang(), dripping_error, drip(headers=True)], ids=["hangs", "drips a body", "drips headers"]
    )
    def test_one_that_never_ends_takes_its_time_and_no_more(self, kind: str, behaviour) -> None:
        with receiving(behaviour) as inbox:
            started = time.monotonic()
            with pytest.raises(AlertUndeliveredError, match="127.0.0.1") as caught:
                sink(kind, inbox.url, seconds=0.4).send(message())
            took = time.monotonic() - started

        assert took < 0.8
        assert isinstance(caught.value, ConnectionError)
        assert 5.0 == SECONDS == Receiver(url="https://alerts.example/").seconds

    @pytest.mark.fault("F111")
    def test_a_name_server_that_hangs(self, kind: str) -> None:
        """Nothing else can end the search for an address."""
        release = threading.Event()

        def slow(_host: str, _port: int) -> list[str]:
            release.wait(10.0)
            return []

        started = time.monotonic()
        try:
            with pytest.raises(AlertUndeliveredError, match=r"within 0\.3 s"):
                sink(kind, "https://alerts.example/", seconds=0.3, resolve=slow).send(message())
            assert time.monotonic() - started < 0.7
        finally:
            release.set()

    @pytest.mark.fault("F110")
    def test_one_that_resets_the_connection(self, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

        with pytest.raises(AlertUndeliveredError, match=r"127\.0\.0\.1 did not answer: ConnectError"):
            sink(kind, f"http://127.0.0.1:{port}/").send(message())

    def test_one_that_hangs_up_in_its_answer(self, kind: str) -> None:
        """The status said that it was taken."""
        with receiving(reset()) as inbox:
            sink(kind, inbox.url).send(message())

        assert 1 == len(inbox.posts)

    def test_an_answer_without_end_is_not_read(self, kind: str) -> None:
        with (
            receiving(plain(b"x" * 10_000_000, 400)) as inbox,
            pytest.raises(AlertRefusedError, match="an answer that cannot be read"),
        ):
            sink(kind, inbox.url).send(message())

    def test_a_redirect_is_not_followed(self, kind: str) -> None:
        with (
            receiving(ACCEPTED) as other,
            receiving(redirect(other.url, 307)) as inbox,
            pytest.raises(AlertRefusedError, match="HTTP 307, a redirect, which is not followed"),
        ):
            sink(kind, inbox.url).send(message())

        assert [] == other.posts


@pytest.mark.parametrize("kind", KINDS)
class TestContent:
    @pytest.mark.fault("F112")
    def test_a_long_summary_with_control_characters_is_sent_short_and_clean(self, kind: str) -> None:
        with receiving(ACCEPTED) as inbox:
            sink(kind, inbox.url).send(message(summary="USDC\n\x1b[31m\u202e" + "x" * 5000, source="a\x00b"))

        event = json.loads(inbox.posts[0].body)
        event = event.get("payload", event)
        assert 1024 == len(event["summary"])
        assert event["summary"].startswith("USDC\\n\\x1b[31m\\u202ex")
        assert event["summary"].endswith("x ...")
        assert "a\\x00b" == event["source"]

    @pytest.mark.fault("F112")
    def test_a_body_that_is_too_large_is_sent_without_its_largest_details(self, kind: str) -> None:
        details = {"ratio": 0.88, "table": ["é" * 100] * 2000, "log": "y" * 400_000, "note": "z" * 1000}
        with receiving(ACCEPTED) as inbox:
            sink(kind, inbox.url).send(message(details=details))

        body = inbox.posts[0].body
        event = json.loads(body)
        sent = event.get("payload", event).get("custom_details", event.get("details"))
        assert len(body) <= MOST_BYTES <= 512 * 1000
        assert {"ratio": 0.88, "log": "y" * 400_000, "note": "z" * 1000, "left_out": 1} == sent

    @pytest.mark.fault("F113")
    def test_a_secret_in_an_exception_is_not_sent(self, kind: str) -> None:
        url = "postgresql://risk:hunter2@db.example/risk"
        with receiving(ACCEPTED) as inbox:
            sink(kind, inbox.url).send(
                message(
                    summary=f"401 for {CANARY}", source=CANARY, details={"error": [f"no {CANARY}"], CANARY: url}
                )
            )

        text = inbox.posts[0].body.decode()
        assert "401 for ***" in text
        assert CANARY not in text
        assert "hunter2" not in text


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
            "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
            "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        ],
    )  # fmt: skip
    def test_a_host_in_the_own_network_is_refused(self, address: str) -> None:
        """Every kind of address that is not public, also where it is the second of two."""
        for addresses in ([address], ["93.184.216.34", address]):
            with pytest.raises(AlertRefusedError, match=r"alerts\.example is at .*, which is no public address"):
                receiver("https://alerts.example/x", resolve=lambda _host, _port, found=addresses: found).post(
                    b"{}", {}, secrets=()
                )

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "169.254.169.254"]
    )
    def test_as_the_system_finds_it(self, host: str) -> None:
        """The real search for an address, which reads numbers in ways of its own."""
        with pytest.raises((AlertRefusedError, AlertUndeliveredError, SettingsError)) as caught:
            Receiver(url=f"https://{host}:9/x", seconds=2.0).post(b"{}", {}, secrets=())

        assert "no public address" in str(caught.value)

    @pytest.mark.fault("F111")
    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses instead of keeping silent")
    def test_a_host_that_does_not_accept_the_connection(self) -> None:
        """Its queue is full, so that nothing comes back."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as clients:
            for _ in range(4):
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            started = time.monotonic()
            with pytest.raises(AlertUndeliveredError):
                receiver(f"http://127.0.0.1:{full.getsockname()[1]}/", seconds=0.4).post(b"{}", {}, secrets=())

            assert 0.3 < time.monotonic() - started < 0.8

    def test_the_next_address_is_tried_where_one_refuses(self) -> None:
        with receiving(ACCEPTED) as inbox:
            receiver(inbox.url, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"]).post(
                b"{}", {}, secrets=()
            )

        assert f"127.0.0.1:{inbox.port}" == inbox.posts[0].headers["host"]

    def test_a_name_that_nobody_knows(self) -> None:
        def unknown(_host: str, _port: int) -> list[str]:
            raise socket.gaierror(-2, "Name or service not known")

        with pytest.raises(AlertUndeliveredError, match=r"the address of alerts\.example was not found"):
            receiver("https://alerts.example/", resolve=unknown).post(b"{}", {}, secrets=())

    @pytest.mark.parametrize(
        "url",
        [
            "http://alerts.example/x", "ftp://alerts.example/", "alerts.example", "https://", "https://a:b@alerts.example/",
            "https://alerts.example/#x", "http://192.168.0.1/", "", 5, "https://[::1", f"http://alerts.example/{CANARY}",
        ],
    )  # fmt: skip
    def test_urls_that_alerts_do_not_go_to(self, url: object) -> None:
        """Not even where the host is allowed, unless it is this machine."""
        with pytest.raises(SettingsError) as caught:
            Receiver(url=url, allowed_hosts=("alerts.example", "192.168.0.1"))

        assert CANARY not in all_text(caught.value)

    def test_plain_http_needs_the_host_in_the_settings(self) -> None:
        with pytest.raises(SettingsError, match="only where allowed_hosts has it"):
            Receiver(url="http://127.0.0.1:1/")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate of this test")
class TestTls:
    @pytest.fixture
    def server_context(self, tmp_path, monkeypatch) -> ssl.SSLContext:
        """Of a server called alerts.example, whose certificate clients of this test trust."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=alerts.example",
             "-addext", "subjectAltName=DNS:alerts.example"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        return context

    def test_the_address_that_was_checked_is_met_under_the_name(self, server_context: ssl.SSLContext) -> None:
        """One search for the address; name in TLS, Host header and certificate."""
        asked = []

        def found(host: str, port: int) -> list[str]:
            asked.append((host, port))
            return ["127.0.0.1"]

        with receiving(ACCEPTED, tls=server_context) as inbox:
            url = f"https://alerts.example:{inbox.port}/x?y=1"
            Receiver(url=url, allowed_hosts=("alerts.example",), resolve=found).post(b"{}", {}, secrets=())

        assert [("alerts.example", inbox.port)] == asked
        assert ["alerts.example"] == inbox.server_names
        assert ("/x?y=1", f"alerts.example:{inbox.port}") == (inbox.posts[0].path, inbox.posts[0].headers["host"])

    def test_a_certificate_of_another_name_is_not_accepted(self, server_context: ssl.SSLContext) -> None:
        with receiving(ACCEPTED, tls=server_context) as inbox:
            other = Receiver(
                url=f"https://other.example:{inbox.port}/",
                allowed_hosts=("other.example",),
                resolve=lambda _host, _port: ["127.0.0.1"],
            )
            with pytest.raises(AlertUndeliveredError, match="certificate"):
                other.post(b"{}", {}, secrets=())

        assert [] == inbox.posts

    @pytest.mark.fault("F111")
    def test_a_server_that_never_ends_the_handshake(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            started = time.monotonic()
            with pytest.raises(AlertUndeliveredError):
                receiver(f"https://127.0.0.1:{listening.getsockname()[1]}/", seconds=0.4).post(
                    b"{}", {}, secrets=()
                )

            assert time.monotonic() - started < 0.8


class TestFile:
    def test_a_line_an_alert_that_only_the_owner_can_read(self, tmp_path) -> None:
        file = tmp_path / "alerts.jsonl"
        for action in ("trigger", "resolve"):
            FileSink(path=file).send(message(action=action, summary="two\nlines"))

        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [("trigger", "two\\nlines"), ("resolve", "two\\nlines")] == [
            (x["action"], x["summary"]) for x in lines
        ]
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)

    def test_many_writers_at_once(self, tmp_path) -> None:
        """Every line whole."""
        file = tmp_path / "alerts.jsonl"

        def write(number: int) -> None:
            for again in range(20):
                FileSink(path=file).send(message(key=f"{number}:{again}", details={"text": "x" * 20_000}))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
        assert {f"{number}:{again}" for number in range(4) for again in range(20)} == set(keys)
        assert 80 == len(keys)

    def test_a_line_that_was_cut_takes_no_other_with_it(self, tmp_path) -> None:
        file = tmp_path / "alerts.jsonl"
        file.write_text('{"key": "cut o')
        FileSink(path=file).send(message())

        assert "risk_report:USDC:depeg" == json.loads(file.read_text().splitlines()[-1])["key"]

    def test_a_folder_that_is_gone(self, tmp_path) -> None:
        with pytest.raises(AlertUndeliveredError, match="No such file"):
            FileSink(path=tmp_path / "gone" / "alerts.jsonl").send(message())

    @pytest.mark.fault("F113")
    def test_no_secret_in_it(self, tmp_path) -> None:
        FileSink(path=tmp_path / "a", secrets=(CANARY,)).send(message(summary=CANARY, details={"e": CANARY}))

        assert CANARY not in (tmp_path / "a").read_text()


class TestLog:
    @pytest.mark.parametrize(
        ("changes", "level"),
        [
            ({"severity": "critical"}, logging.CRITICAL),
            ({"severity": "high"}, logging.ERROR),
            ({"severity": "medium"}, logging.WARNING),
            ({"severity": "low"}, logging.INFO),
            ({"action": "resolve"}, logging.INFO),
        ],
    )
    def test_levels(self, changes: dict[str, str], level: int, caplog) -> None:
        caplog.set_level(logging.INFO)
        LogSink(secrets=(CANARY,)).send(message(summary=f"a\n{CANARY}", **changes))

        (record,) = caplog.records
        assert level == record.levelno
        assert f"{changes.get('action', 'trigger')} risk_report:USDC:depeg: a\\n***" == record.getMessage()
        assert iso(record.alert.pop("as_of") and AS_OF) == "2023-03-11T07:00:00Z"


class TestMessage:
    @pytest.mark.parametrize(
        "changes",
        [
            {"key": ""}, {"key": "x" * 256}, {"key": "a\nb"}, {"key": 5}, {"action": "acknowledge"}, {"severity": "error"},
            {"details": {"x": float("nan")}}, {"details": {"x": AS_OF}}, {"details": []}, {"summary": None}, {"source": ""},
            {"as_of": datetime(2023, 3, 11)},  # noqa: DTZ001
        ],
    )  # fmt: skip
    def test_fields_that_cannot_be_used(self, changes: dict[str, object]) -> None:
        with pytest.raises((ValueError, TypeError)):
            message(**changes)


class TestOpenSinks:
    ENVIRONMENT = {WEBHOOK_SECRET: CANARY, PAGERDUTY_ROUTING_KEY: ROUTING_KEY}

    def test_each_kind_and_what_it_sends(self, tmp_path) -> None:
        with receiving(ACCEPTED) as inbox:
            settings = AlertSettings(
                allowed_hosts=("127.0.0.1",),
                sinks=(
                    LogSinkSettings(kind="log"),
                    FileSinkSettings(kind="file", path=tmp_path / "new" / "alerts.jsonl"),
                    WebhookSinkSettings(kind="webhook", url=inbox.url, name="desk"),
                    PagerDutySinkSettings(kind="pagerduty", url=inbox.url),
                ),
            )
            sinks = open_sinks(settings, self.ENVIRONMENT)
            for one in sinks:
                one.send(message(summary=f"{CANARY} {ROUTING_KEY}"))

        assert ["log", "file", "desk", "pagerduty"] == [one.name for one in sinks]
        assert "*** ***" == json.loads((tmp_path / "new" / "alerts.jsonl").read_text())["summary"]
        assert "*** ***" == json.loads(inbox.posts[0].body)["summary"]
        assert "*** ***" == json.loads(inbox.posts[1].body)["payload"]["summary"]
        assert CANARY not in repr(sinks)
        assert ROUTING_KEY not in repr(sinks)

    @pytest.mark.fault("F134")
    @pytest.mark.parametrize("environment", [{}, {WEBHOOK_SECRET: "", PAGERDUTY_ROUTING_KEY: ""}])
    @pytest.mark.parametrize(
        ("given", "variable"),
        [
            (WebhookSinkSettings(kind="webhook", url="https://alerts.example/"), WEBHOOK_SECRET),
            (PagerDutySinkSettings(kind="pagerduty"), PAGERDUTY_ROUTING_KEY),
        ],
    )
    def test_a_missing_secret_is_asked_for(self, given, variable: str, environment: dict[str, str]) -> None:
        with pytest.raises(SettingsError, match=f"set {variable}"):
            open_sinks(AlertSettings(sinks=(given,)), environment)

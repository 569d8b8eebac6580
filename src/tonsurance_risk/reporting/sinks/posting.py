"""One POST to a receiver of alerts: within a deadline, to a public address, nowhere else.

A receiver is named in the settings, and what it answers is not trusted: no redirect is followed, little of the
answer is read, and a host that leads into the own network is refused unless the settings allow it.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

import attrs
import httpcore
import httpx

from tonsurance_risk.errors import AlertRefusedError, AlertUndeliveredError, RiskError, SettingsError
from tonsurance_risk.redaction import one_line, redact
from tonsurance_risk.sources.retries import parse_retry_after
from tonsurance_risk.sources.transport import FAILURES, WITHIN, DeadlineTransport, bounded_body, is_this_machine
from tonsurance_risk.version import __version__

SECONDS = 5.0
"""For everything: finding the address, connecting, sending, reading the answer."""
_MOST_BYTES = 64 * 1024
_SHOWN = 500
_EMBEDDED_IPV4 = ipaddress.IPv6Network("64:ff9b::/96")
"""Through which IPv6-only networks reach IPv4 (RFC 6052)."""

Resolve = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a host."""
_T = TypeVar("_T")


def system_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host in the order in which the system tries them; an `OSError` where none."""
    return list(
        dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    )


def _read(given: object) -> httpx.URL:
    try:
        return httpx.URL(str(given))
    except (httpx.InvalidURL, UnicodeError):
        raise SettingsError("the URL of an alert receiver cannot be read; accepted is https://HOST/PATH") from None


@attrs.frozen(kw_only=True)
class Receiver:
    """Where alerts are posted to.

    Parameters
    ----------
    url : str
        ``https://HOST/PATH``; plain ``http`` only to this machine, where `allowed_hosts` has it.
    allowed_hosts : collection of str
        Hosts that may have private, loopback or link-local addresses.
    seconds : float
        For one `post`, whole.
    resolve : callable
        Finds the addresses of a host.

    Raises
    ------
    SettingsError
        If the URL is another one; the message does not show it, for a path may be a secret.
    """

    url: httpx.URL = attrs.field(converter=_read, repr=lambda url: repr(url.host))
    allowed_hosts: Collection[str] = ()
    seconds: float = SECONDS
    resolve: Resolve = attrs.field(default=system_addresses, repr=False)

    @url.validator
    def _check_url(self, _attribute: object, url: httpx.URL) -> None:
        local = url.scheme == "http" and url.host in self.allowed_hosts and is_this_machine(url.host)
        if (url.scheme != "https" and not local) or not url.host or url.userinfo or url.fragment:
            raise SettingsError(
                "the URL of an alert receiver must be https://HOST/PATH without user or fragment; http is for "
                f"127.0.0.1 alone, and only where allowed_hosts has it; found the host {url.host!r}",
                observed=url.host,
            )

    @property
    def host(self) -> str:
        """Which messages name; the path may be a secret."""
        return self.url.host

    def post(self, body: bytes, headers: Mapping[str, str], *, secrets: Collection[str]) -> None:
        """Send a JSON body; it was taken when this returns. Secrets that the answer holds are replaced in errors.

        Raises
        ------
        AlertRefusedError
            If the receiver answered that it does not take it, or sends elsewhere, or is no public host.
        AlertUndeliveredError
            If there was no answer in time, or one that asks to come again.
        """
        # The deadline of the transport begins when an address is found, and knows nothing of handshakes;
        # what is left behind here ends by it soon after.
        try:
            status, answer, content = _in_time(lambda: self._exchange(body, headers), self.seconds)
        except TimeoutError:
            raise AlertUndeliveredError(
                f"{self.host} did not take the alert within {self.seconds:g} s", required=self.seconds
            ) from None
        if 200 <= status < 300:
            return
        said = f"{self.host} answered HTTP {status}: {_shown(content, secrets)}"
        if status in (408, 425, 429) or status >= 500:
            asked = parse_retry_after(answer.get("retry-after"), answer.get("date"))
            raise AlertUndeliveredError(said, observed=status, retry_after=asked)
        if 300 <= status < 400:
            said = f"{self.host} answered HTTP {status}, a redirect, which is not followed"
        raise AlertRefusedError(said, observed=status)

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, httpx.Headers, bytes]:
        ends_at = time.monotonic() + self.seconds
        port = self.url.port or (443 if self.url.scheme == "https" else 80)
        try:
            addresses = self.resolve(self.host, port)
        except (OSError, UnicodeError) as error:
            raise AlertUndeliveredError(f"the address of {self.host} was not found: {error}") from error
        if self.host not in self.allowed_hosts:
            for address in addresses:
                _check_public(address, self.host)
        transport = DeadlineTransport(time.monotonic)
        failure: Exception = AlertUndeliveredError(f"{self.host} has no address")
        try:
            for address in addresses:
                try:
                    return self._exchange_with(transport, address, body, headers, ends_at)
                except httpcore.ConnectError as error:
                    failure = error
                except FAILURES as error:
                    failure = error
                    break
        finally:
            transport.close()
        if isinstance(failure, RiskError):
            raise failure
        raise AlertUndeliveredError(
            f"{self.host} did not answer: {type(failure).__name__}: {one_line(str(failure))}"
        ) from failure

    def _exchange_with(
        self, transport: DeadlineTransport, address: str, body: bytes, headers: Mapping[str, str], ends_at: float
    ) -> tuple[int, httpx.Headers, bytes]:
        """Post to the address that was checked, under the name of the host: what is resolved twice may differ."""
        left = max(ends_at - time.monotonic(), 0.001)
        request = httpx.Request(
            "POST",
            self.url.copy_with(host=address),
            headers={
                "host": self.url.netloc.decode(),
                "content-type": "application/json",
                "accept-encoding": "identity",
                "connection": "close",
                "user-agent": f"tonsurance-risk/{__version__}",
                **headers,
            },
            content=body,
            extensions={
                WITHIN: left,
                "sni_hostname": self.host,
                "timeout": {"connect": left, "read": left, "write": left, "pool": left},
            },
        )
        response = transport.handle_request(request)
        try:
            status, answer = response.status_code, response.headers
            if 200 <= status < 300:
                return status, answer, b""  # taken; what else it says does not matter
            try:
                return status, answer, bounded_body(response, _MOST_BYTES)
            except RiskError:
                return status, answer, b"an answer that cannot be read"
        finally:
            response.close()


def _shown(content: bytes, secrets: Collection[str]) -> str:
    text = redact(content.decode("utf-8", "replace"), secrets).strip()
    return one_line(text[:_SHOWN]) or "an empty body"


def _check_public(address: str, host: str) -> None:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found in _EMBEDDED_IPV4:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        else:
            found = found.ipv4_mapped or found.sixtofour or found
    if not found.is_global or found.is_multicast:
        raise AlertRefusedError(
            f"{host} is at {address}, which is no public address; allowed_hosts may name the host",
            observed=address,
        )


def _in_time(work: Callable[[], _T], seconds: float) -> _T:
    """Return what `work` gives; a `TimeoutError` where that takes too long: its thread is left behind then."""
    outcome: Future[_T] = Future()

    def finish() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=finish, name="alert", daemon=True).start()
    return outcome.result(timeout=seconds)

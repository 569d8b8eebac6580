"""One HTTP exchange that ends in time and fits into memory.

`httpx` limits each piece that is read, not the whole, and decodes without a limit; both are done here.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from ssl import SSLContext
from typing import Any, cast

import httpcore
import httpx

from tonsurance_risk.errors import PayloadError, SourceUnavailableError

WITHIN = "within"
"""Extension of a request: seconds for the whole exchange."""

FAILURES = (
    httpx.TransportError,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
)
"""What an exchange that fails raises."""


@functools.cache
def _trusted(_file: str | None, _folder: str | None) -> SSLContext:
    """Return whom connections trust, by the two variables that `httpx` reads.

    Once in a process, as it takes some 40 ms: a file that changes under its name is seen by the next process.
    """
    return httpx.create_ssl_context()


class DeadlineTransport(httpx.BaseTransport):
    """Connections to hosts, on which every read is cut to the time that the request has left.

    Neither proxies of the environment nor redirects: what is asked is what is given.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.

    Notes
    -----
    Not cut are the look-up of the host's name, which has the limits of the system's resolver, and the pieces of a
    TLS handshake, each of which has the connect timeout.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = threading.local()  # a thread has one exchange at a time

        def left() -> float:
            seconds = float(self._deadline.at) - clock()
            if seconds <= 0.0:
                raise httpcore.ReadTimeout("the time for the whole answer is over")
            return seconds

        trusted = _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        self._pool = httpcore.ConnectionPool(
            ssl_context=trusted, network_backend=_Backend(left), keepalive_expiry=30.0
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request that has the extension ``within``."""
        self._deadline.at = self._clock() + request.extensions[WITHIN]
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response.stream))

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


class _Backend(httpcore.SyncBackend):
    def __init__(self, left: Callable[[], float]) -> None:
        self._left = left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options), self._left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, left: Callable[[], float]) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._left()
        return self._stream.read(max_bytes, left if timeout is None else min(timeout, left))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def bounded_body(response: httpx.Response, most_bytes: int) -> bytes:
    """Return the decoded body of a response that was not read yet.

    Raises
    ------
    PayloadError
        If it has more than `most_bytes`, encoded or decoded, or is encoded otherwise than by gzip; memory stays
        near `most_bytes`.
    SourceUnavailableError
        If it is damaged or cut off.
    """
    pieces = _capped(cast("Iterable[bytes]", response.stream), most_bytes)
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return b"".join(pieces)
    if encoding not in ("gzip", "x-gzip"):
        raise PayloadError(f"the answer is encoded by {encoding[:40]!r}, asked for was gzip", required="gzip")
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    body = bytearray()
    try:
        for raw in pieces:
            body += decoder.decompress(raw, most_bytes + 1 - len(body))
            if len(body) > most_bytes:
                raise _too_large(most_bytes)
    except zlib.error as error:
        raise SourceUnavailableError(f"the answer was damaged on its way: {error}") from error
    if not decoder.eof:
        raise SourceUnavailableError("the answer was cut off")
    return bytes(body)


def _capped(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most_bytes:
            raise _too_large(most_bytes)
        yield piece


def _too_large(most_bytes: int) -> PayloadError:
    return PayloadError(f"the answer has more than {most_bytes:,} bytes and was not read on", required=most_bytes)


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine by its name, so that nothing of an exchange leaves it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

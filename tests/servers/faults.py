"""An HTTP server on this machine that answers as a test says, and the ways in which servers go wrong."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import attrs

Behaviour = Callable[[BaseHTTPRequestHandler], None]
JSON = "application/json; charset=utf-8"


@attrs.frozen
class Request:
    """What a client asked for."""

    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))


@attrs.define
class Server:
    """A running server: where it is, and what it was asked."""

    url: str
    seen: list[Request]
    stopping: threading.Event

    @property
    def port(self) -> int:
        return urlsplit(self.url).port


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients of these tests hang up in the middle; that is no news."""


@contextmanager
def serving(answer: Callable[[Request], Behaviour], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            request = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
            with lock:
                server.seen.append(request)
                behaviour = answer(request)
            with suppress(ConnectionError, BrokenPipeError):
                behaviour(self)

        def log_message(self, *_):
            pass

    lock = threading.Lock()
    web = _Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        web.socket = tls.wrap_socket(web.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    server = Server(f"{scheme}://127.0.0.1:{web.server_port}", [], threading.Event())
    web.stopping = server.stopping
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        web.shutdown()
        web.server_close()
        thread.join()


def plain(body: bytes | str = b"", status: int = 200, content_type: str = JSON, **headers: str) -> Behaviour:
    """Answer properly; ``retry_after="7"`` becomes the header ``retry-after: 7``."""
    content = body.encode() if isinstance(body, str) else body

    def behave(handler):
        handler.send_response(status)
        handler.send_header("content-type", content_type)
        handler.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return behave


def zipped(body: bytes) -> Behaviour:
    """Answer encoded by gzip."""
    return plain(gzip.compress(body, mtime=0), content_encoding="gzip")


def cut_gzip(body: bytes) -> Behaviour:
    """Encode by gzip and leave out the end, under the length of what is sent."""
    return plain(gzip.compress(body, mtime=0)[:-12], content_encoding="gzip")


def damaged_gzip(_body: bytes) -> Behaviour:
    """Say that it is gzip, and send something else."""
    return plain(b"\x00" * 100, content_encoding="gzip")


def html(status: int = 200) -> Behaviour:
    """A page for people."""
    return plain("<!DOCTYPE html><html><title>Just a moment...</title></html>", status, "text/html; charset=utf-8")


def reset() -> Behaviour:
    """Begin to answer, and reset the connection in the middle of the body."""

    def behave(handler):
        plain_headers(handler, 1000)
        handler.wfile.write(b'{"prices":[[')
        handler.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(handler.connection.detach())  # whatever else refers to the socket

    return behave


def truncated(body: bytes) -> Behaviour:
    """Announce the whole body, send half of it and hang up."""

    def behave(handler):
        plain_headers(handler, len(body))
        handler.wfile.write(body[: len(body) // 2])
        handler.close_connection = True

    return behave


def silently_truncated(body: bytes) -> Behaviour:
    """Send half of the body as if it were all of it."""
    return plain(body[: len(body) // 2])


def hang() -> Behaviour:
    """Accept, and never answer."""

    def behave(handler):
        handler.server.stopping.wait(60.0)
        handler.close_connection = True

    return behave


def drip(every: float = 0.02, *, headers: bool = False) -> Behaviour:
    """Send a byte at a time, without end: of the body, or already of the headers."""

    def behave(handler):
        if headers:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-padding: ")
        else:
            plain_headers(handler, 10**9)
        while not handler.server.stopping.wait(every):
            handler.wfile.write(b"1")
            handler.wfile.flush()

    return behave


def endless() -> Behaviour:
    """Send a body without a length and without an end."""

    def behave(handler):
        handler.send_response(200)
        handler.send_header("content-type", JSON)
        handler.send_header("connection", "close")
        handler.end_headers()
        while not handler.server.stopping.is_set():
            handler.wfile.write(b" " * 65536)

    return behave


def gzip_bomb(size: int = 1 << 30) -> Behaviour:
    """A body of 1 GiB of zeros in about 1 MiB."""

    def behave(handler):
        coder = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        handler.send_response(200)
        handler.send_header("content-type", JSON)
        handler.send_header("content-encoding", "gzip")
        handler.send_header("connection", "close")
        handler.end_headers()
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            handler.wfile.write(coder.compress(block))
        handler.wfile.write(coder.flush())

    return behave


def redirect(location: str, status: int = 302) -> Behaviour:
    """Send elsewhere."""
    return plain(b"", status, location=location)


def plain_headers(handler: BaseHTTPRequestHandler, length: int) -> None:
    """Begin an answer of that length."""
    handler.send_response(200)
    handler.send_header("content-type", JSON)
    handler.send_header("content-length", str(length))
    handler.end_headers()

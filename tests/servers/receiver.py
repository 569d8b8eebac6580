"""A receiver of alerts on this machine, plain or with TLS, that answers as a test says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs

from servers.faults import Behaviour


@attrs.frozen
class Post:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@attrs.define
class Inbox:
    """A running receiver: where it is, and what arrived, whatever the answer was."""

    port: int
    posts: list[Post]
    server_names: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alerts"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients of these tests hang up in the middle; that is no news."""


@contextmanager
def receiving(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> Iterator[Inbox]:
    """Receive on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            inbox.posts.append(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            with suppress(ConnectionError):
                behaviour(self)

        def log_message(self, *_):
            pass

    web = _Server(("127.0.0.1", 0), Handler)
    web.stopping = threading.Event()
    inbox = Inbox(web.server_port, [], [])
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: inbox.server_names.append(name)
        web.socket = tls.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=True)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        web.stopping.set()
        web.shutdown()
        web.server_close()
        thread.join()

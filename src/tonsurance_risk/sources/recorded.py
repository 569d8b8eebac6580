"""Answers of hosts, recorded as they came and replayed byte for byte."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias, cast

import attrs
import httpx
import pandas as pd

from tonsurance_risk.errors import PayloadError, SettingsError
from tonsurance_risk.ports import Clock, PriceSource, SystemClock
from tonsurance_risk.sources.transport import DeadlineTransport
from tonsurance_risk.values import as_utc, iso

MakeSource: TypeAlias = Callable[[httpx.BaseTransport, Clock], PriceSource]
"""Makes a source that asks through a transport and looks at a clock."""

INDEX = "index.jsonl"
_FORM = 1
_LIKE_KEYS = ("key", "token", "secret", "signature", "password")


@attrs.frozen
class _StandingClock:
    time: datetime

    def now(self) -> datetime:
        return self.time


class RecordingTransport(httpx.BaseTransport):
    """Passes requests on and keeps the answers.

    Parameters
    ----------
    folder : path
        New or empty. It gets a file with each body, as it came over the line, and an index with URL, status,
        content encoding and SHA-256 of each: no header, and so no key.
    transport : httpx.BaseTransport
        The way to the host.
    now : datetime
        Written into the index.

    Raises
    ------
    SettingsError
        If the folder has something in it.
    """

    def __init__(self, folder: Path, transport: httpx.BaseTransport, now: datetime) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(
                f"a recording needs a new folder, {folder} has something in it", observed=str(folder)
            )
        self._folder = folder
        self._transport = transport
        self._lock = threading.Lock()
        self._recorded = 0
        self._write({"form": _FORM, "now": iso(now)})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on; a `SettingsError` where its query looks as if it had a key."""
        for name in request.url.params:
            if any(part in name.lower() for part in _LIKE_KEYS):
                raise SettingsError(f"the query of a request has {name!r}, and it would be recorded; use a header")
        request.headers["accept-encoding"] = "identity"  # so that the files can be read
        response = self._transport.handle_request(request)
        response.stream = _Kept(
            cast("httpx.SyncByteStream", response.stream), lambda body: self._keep(request, response, body)
        )
        return response

    def close(self) -> None:
        """Close the way to the host."""
        self._transport.close()

    def _keep(self, request: httpx.Request, response: httpx.Response, body: bytes) -> None:
        with self._lock:
            self._recorded += 1
            file = f"{self._recorded:05d}.body"
            (self._folder / file).write_bytes(body)
            self._write(
                {
                    "method": request.method,
                    "url": str(request.url),
                    "status": response.status_code,
                    "encoding": response.headers.get("content-encoding", ""),
                    "file": file,
                    "sha256": hashlib.sha256(body).hexdigest(),
                }
            )

    def _write(self, line: dict[str, Any]) -> None:
        with (self._folder / INDEX).open("a", encoding="utf-8") as index:
            index.write(json.dumps(line) + "\n")


class _Kept(httpx.SyncByteStream):
    """Passes pieces on and gives the whole once it was read to its end; what is not is no answer."""

    def __init__(self, stream: httpx.SyncByteStream, keep: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._keep = keep

    def __iter__(self) -> Iterator[bytes]:
        pieces = []
        for piece in self._stream:
            pieces.append(piece)
            yield piece
        self._keep(b"".join(pieces))

    def close(self) -> None:
        self._stream.close()


class ReplayTransport(httpx.BaseTransport):
    """Answers requests as they were answered before, and asks nobody.

    Parameters
    ----------
    folder : path
        Of a `RecordingTransport`.

    Attributes
    ----------
    now : Timestamp
        Of the recording.

    Raises
    ------
    SettingsError
        If there is no recording in the folder.
    PayloadError
        If its index cannot be read.

    Notes
    -----
    Several answers to one URL come in the order in which they were recorded, and then the last one again.
    """

    def __init__(self, folder: Path) -> None:
        try:
            lines = (folder / INDEX).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"there is no recording in {folder}: {error}", observed=str(folder)) from error
        try:
            head, *exchanges = [json.loads(line) for line in lines]
            if head["form"] != _FORM:
                raise PayloadError(f"{folder / INDEX} is of form {head['form']!r}, accepted is {_FORM}")
            self.now = as_utc(datetime.fromisoformat(head["now"]))
            self._left: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
            for exchange in exchanges:
                self._left[exchange["method"], exchange["url"]].append(exchange)
        except (ValueError, KeyError, TypeError) as error:
            raise PayloadError(f"{folder / INDEX} cannot be read: {type(error).__name__}: {error}") from error
        self._folder = folder
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the recorded answer.

        Raises
        ------
        SettingsError
            If the request was not recorded.
        PayloadError
            If the file of the answer is not what was recorded.
        """
        key = (request.method, str(request.url))
        with self._lock:
            answers = self._left.get(key)
            if not answers:
                raise SettingsError(
                    f"the recording in {self._folder} has no answer to {key[0]} {key[1]}; it has "
                    f"{_listed(url for _, url in self._left)}",
                    observed=key[1],
                )
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        path = self._folder / Path(answer["file"]).name
        try:
            body = path.read_bytes()
        except OSError as error:
            raise PayloadError(f"{path} cannot be read: {error}") from error
        if hashlib.sha256(body).hexdigest() != answer["sha256"]:
            raise PayloadError(f"{path} is not what was recorded")
        headers = {"content-encoding": answer["encoding"]} if answer["encoding"] else {}
        return httpx.Response(answer["status"], headers=headers, stream=httpx.ByteStream(body))


def _listed(urls: Iterable[str]) -> str:
    several = sorted(urls)
    rest = f" and {len(several) - 5} more" if len(several) > 5 else ""
    return (", ".join(several[:5]) or "nothing") + rest


class _RecordedSource:
    """A source between its users and a transport of ours."""

    def __init__(self, make: MakeSource, transport: httpx.BaseTransport, now: datetime) -> None:
        self._transport = transport
        self._source = make(transport, _StandingClock(now))

    @property
    def name(self) -> str:
        """That of the source."""
        return self._source.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source!r})"

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`."""
        return self._source.fetch(asset, start, end, step=step)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()


class RecordingSource(_RecordedSource):
    """A source whose answers from the host are kept in a folder, for `ReplaySource`.

    Parameters
    ----------
    make : callable
        Makes the source, from a transport and a clock.
    folder : path
        New or empty.
    clock : Clock, optional
        Looked at once: a recording is of one instant, so that the replay leaves out the same running bars.
    transport : httpx.BaseTransport, optional
        Another way to the host.

    Raises
    ------
    SettingsError
        If the folder has something in it.

    Examples
    --------
    >>> import tempfile
    >>> from tonsurance_risk.sources import KrakenSource
    >>> rows = b'[[1761955200, "1", "1", "1", "0.9998"]]'
    >>> answer = b'{"error": [], "result": {"USDTZUSD": ' + rows + b', "last": 1761955200}}'
    >>> def make(transport, clock):
    ...     return KrakenSource(clock=clock, http={"transport": transport})
    >>> host = httpx.MockTransport(lambda request: httpx.Response(200, content=answer))
    >>> days = pd.date_range("2025-11-01", periods=2, tz="UTC")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     place = Path(folder, "kraken")
    ...     recorded = RecordingSource(make, place, clock=_StandingClock(days[1]), transport=host)
    ...     prices = recorded.fetch("USDT", *days)
    ...     prices.equals(ReplaySource(make, place).fetch("USDT", *days)), prices.tolist()
    (True, [0.9998])
    """

    def __init__(
        self,
        make: MakeSource,
        folder: Path,
        *,
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        now = as_utc((clock or SystemClock()).now())
        super().__init__(make, RecordingTransport(Path(folder), transport or DeadlineTransport(), now), now)


class ReplaySource(_RecordedSource):
    """A source that is given the answers of a recording, and shown the instant of it.

    Parameters
    ----------
    make : callable
        As of the recording.
    folder : path
        Of the recording.

    Raises
    ------
    SettingsError
        If there is no recording; by `fetch`, if a request was not recorded.
    PayloadError
        If it is damaged.

    Examples
    --------
    See `RecordingSource`.
    """

    def __init__(self, make: MakeSource, folder: Path) -> None:
        transport = ReplayTransport(Path(folder))
        super().__init__(make, transport, transport.now)

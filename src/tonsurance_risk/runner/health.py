"""Health over HTTP: is the process alive, is it of use, and its figures.

References
----------
I. Nadareishvili, "Health Check Response Format for HTTP APIs", expired Internet-Draft, 2022.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tonsurance_risk.errors import RiskError, SchemaVersionError, SettingsError
from tonsurance_risk.ports import Clock, Store, SystemClock
from tonsurance_risk.redaction import one_line, redact
from tonsurance_risk.runner.metrics import last_runs, metrics_text
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import as_utc, iso
from tonsurance_risk.version import __version__

_IDLE = 10.0
"""Seconds after which a client that says nothing is hung up on."""
_JOBS = timedelta(days=30)
"""How far back runs are looked at."""

_log = logging.getLogger(__name__)


def readiness(open_store: Callable[[], Store], *, now: datetime, max_age: timedelta) -> dict[str, Any]:
    """Return whether the store can be reached, has the right schema, and has prices that are new enough.

    Parameters
    ----------
    open_store : callable
        Opens the store; it is closed again.
    now : datetime
        Ages are counted from it.
    max_age : timedelta
        Of the newest price.

    Returns
    -------
    dict
        JSON types: status ``pass``, ``warn`` (the last run of a job came to nothing) or ``fail``, and the checks.

    Examples
    --------
    >>> import pandas as pd
    >>> from tonsurance_risk.storage import open_store
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> found = readiness(lambda: open_store("memory://"), now=now, max_age=timedelta(hours=36))
    >>> found["status"], found["checks"]["prices:age"][0]["output"]
    ('fail', 'no price is younger than 36.0 h')
    """
    time = as_utc(now, "now")
    checks: dict[str, dict[str, Any]] = {}
    try:
        with open_store() as store:
            checks["store:schema"] = {"status": "pass"}
            checks["prices:age"] = _age(store, time, max_age)
            checks["jobs:outcome"] = _outcome(store, time)
            checks["store:reachable"] = {"status": "pass"}
    except SchemaVersionError as error:
        checks["store:schema"] = _failed(error)
    except Exception as error:
        # Whatever it is, the process is of no use now, and who asks must be told so.
        _log.warning("not ready: %s", error, exc_info=not isinstance(error, RiskError))
        checks["store:reachable"] = _failed(error)
    found = {check["status"] for check in checks.values()}
    return {
        "status": next(status for status in ("fail", "warn", "pass") if status in found),
        "version": __version__,
        "time": iso(time),
        "checks": {name: [check] for name, check in sorted(checks.items())},
    }


def _failed(error: Exception) -> dict[str, Any]:
    return {"status": "fail", "output": one_line(redact(f"{type(error).__name__}: {error}"))}


def _age(store: Store, now: datetime, max_age: timedelta) -> dict[str, Any]:
    hours = max_age / timedelta(hours=1)
    newest = [
        prices.index[-1]
        for step in STEPS
        for source in store.price_sources(step=step)
        if len(prices := store.load_prices(None, now - max_age, step=step, source=source))
    ]
    if not newest:
        return {"status": "fail", "output": f"no price is younger than {hours:.1f} h"}
    return {"status": "pass", "observedValue": (now - max(newest)).total_seconds(), "observedUnit": "s"}


def _outcome(store: Store, now: datetime) -> dict[str, Any]:
    last = last_runs(store.load_jobs(start=now - _JOBS))
    failed = sorted(job for job, (_, row) in last.items() if row.status != "done")
    if failed:
        return {"status": "warn", "output": f"the last run came to nothing of: {', '.join(failed)}"}
    return {"status": "pass"}


def health_server(
    open_store: Callable[[], Store],
    *,
    port: int,
    host: str = "127.0.0.1",
    max_age: timedelta,
    sinks: Collection[str] = (),
    clock: Clock | None = None,
) -> ThreadingHTTPServer:
    """Return a server of ``/healthz``, ``/readyz`` and ``/metrics`` that listens already; `serve_forever` answers.

    Parameters
    ----------
    open_store : callable
        Opens the store, for each request that needs it.
    port, host
        Where it listens; port 0 is a free one.
    max_age : timedelta
        Of the newest price, see `readiness`.
    sinks : collection of str
        Names of those whose waiting alerts are counted.
    clock : Clock, optional
        The machine's when not given.

    Raises
    ------
    SettingsError
        If it cannot listen there.
    """
    watch = clock or SystemClock()

    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE
        server_version = "tonsurance-risk"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                # Nothing but the process: else an outage of the database restarts everything.
                self._answer(200, {"status": "pass", "version": __version__})
            elif path == "/readyz":
                found = readiness(open_store, now=watch.now(), max_age=max_age)
                self._answer(503 if found["status"] == "fail" else 200, found)
            elif path == "/metrics":
                self._metrics()
            else:
                self._answer(404, {"status": "fail", "output": "there are /healthz, /readyz and /metrics"})

        def _metrics(self) -> None:
            try:
                with open_store() as store:
                    text = metrics_text(store, now=watch.now(), sinks=sinks)
            except Exception as error:
                _log.warning("no metrics: %s", error, exc_info=not isinstance(error, RiskError))
                self._answer(503, _failed(error))
                return
            self._send(200, "text/plain; version=0.0.4; charset=utf-8", text)

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            self._send(status, "application/health+json", json.dumps(document).encode())

        def _send(self, status: int, content_type: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.send_header("cache-control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in http.server
            _log.debug(format, *args)

    try:
        return _Server((host, port), Handler)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}", observed=port) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        _log.debug("%s hung up, or worse", client_address, exc_info=True)

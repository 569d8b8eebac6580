"""What the process writes about itself: one event a line, with the id of the run and without secrets.

Modules of the library only call `logging.getLogger(__name__)`; who runs it calls `configure_logging` once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from tonsurance_risk.redaction import one_line, redact, redact_values

_RUN_ID: ContextVar[str | None] = ContextVar("run_id", default=None)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "run_id"}


def configure_logging(
    *, as_json: bool, run_id: str, secrets: Iterable[str], stream: TextIO, level: str = "INFO"
) -> None:
    """Send all records of the process to `stream`, in place of the handlers that were there.

    Parameters
    ----------
    as_json : bool
        Whether each line is a JSON object: time, level, logger, run_id, message, exception, and what the record
        was given as ``extra``. Otherwise text.
    run_id : str
        Of records outside `run_named`, in whatever thread.
    secrets : iterable of str
        Replaced by ``***`` wherever they occur, passwords of URLs as well.
    stream : text file
        Where to.
    level : str
        The least urgent one that is written: "DEBUG", "INFO", "WARNING", "ERROR" or "CRITICAL".
    """
    handler = logging.StreamHandler(stream)
    handler.addFilter(RunIdFilter(run_id))
    known = tuple(secrets)
    handler.setFormatter(JsonFormatter(known) if as_json else TextFormatter(known))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


@contextmanager
def run_named(run_id: str) -> Iterator[None]:
    """Let the records of a block have another run id; threads that it starts keep the one of the process."""
    token = _RUN_ID.set(run_id)
    try:
        yield
    finally:
        _RUN_ID.reset(token)


class RunIdFilter(logging.Filter):
    """Gives each record the id of the run that wrote it."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id and keep the record."""
        record.run_id = _RUN_ID.get() or self._run_id
        return True


class _Formatter(logging.Formatter):
    """Reads a record without changing it: other handlers have the same one."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def _event(self, record: logging.LogRecord) -> dict[str, Any]:
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "run_id": getattr(record, "run_id", None),
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            event["stack"] = record.stack_info
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD | set(event)}
        # A round trip makes JSON values of whatever was given, so that no text in them is overlooked.
        event |= json.loads(json.dumps(given, default=str, skipkeys=True), parse_constant=str)
        return dict(redact_values(event, self._secrets))


class JsonFormatter(_Formatter):
    r"""A record as a JSON object on one line.

    Examples
    --------
    >>> record = logging.makeLogRecord({"name": "sources", "msg": "bad key s3cr3t\nok", "created": 0.0})
    >>> JsonFormatter(("s3cr3t",)).format(record)
    '{"time": "1970-01-01T00:00:00.000Z", ..., "message": "bad key ***\\nok"}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(self._event(record))


class TextFormatter(_Formatter):
    """A record as one line of text; line breaks and control characters in it are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event = self._event(record)
        head = [event.pop(name) for name in ("time", "level", "logger", "run_id", "message")]
        line = "{} {} {} [{}] {}".format(*head)
        rest = "".join(f" {name}={value}" for name, value in event.items())
        return one_line(redact(line + rest, self._secrets))

"""Alerts to the log and to a file of this machine."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import attrs

from tonsurance_risk.errors import AlertUndeliveredError
from tonsurance_risk.ports import AlertMessage
from tonsurance_risk.reporting.sinks.content import body, cleaned, document

if sys.platform != "win32":
    import fcntl

_LEVELS = {"critical": logging.CRITICAL, "high": logging.ERROR, "medium": logging.WARNING, "low": logging.INFO}

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class LogSink:
    """Writes alerts to the log: critical, error, warning or info by severity, info when resolved."""

    name: str = "log"
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)

    def send(self, message: AlertMessage) -> None:
        """Hand a message over; see `AlertSink.send`."""
        clean = cleaned(message, self.secrets)
        level = _LEVELS[clean.severity] if clean.action == "trigger" else logging.INFO
        _log.log(level, "%s %s: %s", clean.action, clean.key, clean.summary, extra={"alert": document(clean)})


@attrs.frozen(kw_only=True)
class FileSink:
    """Appends alerts to a file, a JSON object a line, which only its owner can read.

    Parameters
    ----------
    path : Path
        Made where it did not exist; its folder is there.
    """

    path: Path
    name: str = "file"
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)

    def send(self, message: AlertMessage) -> None:
        """Hand a message over; see `AlertSink.send`."""
        line = body(cleaned(message, self.secrets)) + b"\n"
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                if sys.platform != "win32":
                    fcntl.flock(handle, fcntl.LOCK_EX)  # until it is closed, so that lines of others do not mix
                if _is_cut(handle):
                    line = b"\n" + line
                written = os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise AlertUndeliveredError(f"the file {self.path} cannot be written to: {error.strerror}") from error
        if written < len(line):
            raise AlertUndeliveredError(f"the file {self.path} took {written} of {len(line)} bytes: no space left")


def _is_cut(handle: int) -> bool:
    """Return whether a write ended in the middle of the last line."""
    size = os.fstat(handle).st_size
    if size == 0:
        return False
    os.lseek(handle, size - 1, os.SEEK_SET)
    return os.read(handle, 1) != b"\n"

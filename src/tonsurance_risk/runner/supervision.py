"""A command in a process of its own, which is stopped when it takes too long or when we are stopped."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import attrs

GRACE = timedelta(seconds=8)
"""From being asked to end to being killed: within the 10 s that an interrupted run may take."""
_POLL = 0.1
"""Seconds."""
_log = logging.getLogger(__name__)


@attrs.frozen
class Ended:
    """How a process ended: its exit code, and why it was stopped, if it was."""

    code: int
    stopped_for: str | None = None


def supervised(
    arguments: Sequence[str], *, timeout: timedelta, stop: threading.Event, environment: Mapping[str, str]
) -> Ended:
    """Run ``tonsurance-risk`` with arguments and wait for its end.

    Parameters
    ----------
    arguments : sequence of str
        Of the command line.
    timeout : timedelta
        Then it is asked to end, and 8 s later it is killed.
    stop : Event
        Set: the same at once.
    environment : mapping of str
        Of the process.
    """
    command = [sys.executable, "-m", "tonsurance_risk", *arguments]
    child = subprocess.Popen(command, env=environment)  # noqa: S603 - our own command
    ends_at = time.monotonic() + timeout.total_seconds()
    reason = None
    try:
        while child.poll() is None and reason is None:
            if stop.wait(_POLL):
                reason = "the scheduler was stopped"
            elif time.monotonic() >= ends_at:
                reason = f"it took longer than {timeout}"
        if reason is not None:
            _log.warning("stopping %s: %s", " ".join(arguments[:2]), reason)
    finally:
        _end(child)
    return Ended(child.returncode, reason)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE.total_seconds())
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

"""When a failed call is tried again, after which wait, and when a host is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs

from tonsurance_risk.errors import SourceUnavailableError


@attrs.frozen(kw_only=True)
class RetryRule:
    """How often and how soon a call is tried again.

    Parameters
    ----------
    attempts : int
        Of one call, the first included; an answer that cannot be read is asked for twice at most.
    first_wait, first_wait_when_limited : float
        Upper ends [s] of the first random wait; the second where the host asks to wait and does not say how long.
        They double with each attempt.
    longest_wait : float
        Where the doubling stops [s].
    longest_retry_after : float
        A host that asks for a longer wait [s] is not waited for.
    reserve, share : int, float
        Retries over the life of a client: at most ``reserve + share * calls``, so that an outage does not multiply
        traffic.

    References
    ----------
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015: full jitter.
    """

    attempts: int = 5
    first_wait: float = 1.0
    first_wait_when_limited: float = 15.0
    longest_wait: float = 60.0
    longest_retry_after: float = 120.0
    reserve: int = 20
    share: float = 0.25

    def longest_backoff(self, attempt: int, *, limited: bool) -> float:
        """Return the upper end [s] of the wait after the attempt of that number, counted from 1."""
        first = self.first_wait_when_limited if limited else self.first_wait
        return float(min(self.longest_wait, first * 2.0 ** (attempt - 1)))


def parse_retry_after(value: str | None, date: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for; None where it says nothing usable.

    Parameters
    ----------
    value : str or None
        Whole seconds, or an HTTP date.
    date : str or None
        The ``Date`` header of the same answer: a date is compared with the host's clock, not with ours.

    Examples
    --------
    >>> parse_retry_after("53", None)
    53.0
    >>> parse_retry_after("Tue, 01 Jul 2025 00:01:00 GMT", "Tue, 01 Jul 2025 00:00:00 GMT")
    60.0
    >>> parse_retry_after("-1", None) is None and parse_retry_after("soon", None) is None
    True
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:15])
    try:
        until, now = (parsedate_to_datetime(text or "") for text in (value, date))
        wait = (until.replace(tzinfo=until.tzinfo or UTC) - now.replace(tzinfo=now.tzinfo or UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return wait if wait > 0.0 else None


class RetryBudget:
    """Counts calls and retries of a client, and says when there were enough retries."""

    def __init__(self, rule: RetryRule) -> None:
        self._rule = rule
        self._lock = threading.Lock()
        self._calls = 0
        self.retries = 0

    def begin_call(self) -> None:
        """Count a call."""
        with self._lock:
            self._calls += 1

    def grant(self) -> bool:
        """Return whether one more retry is allowed, and count it."""
        with self._lock:
            if self.retries >= self._rule.reserve + self._rule.share * self._calls:
                return False
            self.retries += 1
            return True


class CircuitBreaker:
    """Leaves a host alone after calls in a row that it did not answer, and then lets one through to try.

    Parameters
    ----------
    host : str
        For the message.
    clock : callable
        Monotonic seconds.
    failures : int
        Calls in a row, with all their retries.
    cooldown : float
        Seconds until the next try.
    """

    def __init__(
        self, host: str, *, clock: Callable[[], float], failures: int = 3, cooldown: float = 60.0
    ) -> None:
        self._host = host
        self._clock = clock
        self._limit = failures
        self._cooldown = cooldown
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the host is left alone now."""
        with self._lock:
            return self._failures >= self._limit and self._closed_at > self._clock()

    def check(self) -> None:
        """Raise a `SourceUnavailableError` while the host is left alone."""
        with self._lock:
            if self._failures < self._limit:
                return
            left = self._closed_at - self._clock()
            if left > 0.0:
                raise SourceUnavailableError(
                    f"{self._host} did not answer {self._failures} calls in a row and is left alone for "
                    f"{left:.0f} s more",
                    retry_after=left,
                )
            self._closed_at = self._clock() + self._cooldown  # this call is the try; others wait for its outcome

    def answered(self) -> None:
        """Note that the host answered, whatever it said."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Note that a call was not answered."""
        with self._lock:
            self._failures += 1
            self._closed_at = self._clock() + self._cooldown

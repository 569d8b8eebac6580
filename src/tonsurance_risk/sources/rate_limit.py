"""How often a host may be asked, and a bucket of tokens that sees to it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

from tonsurance_risk.errors import RateLimitedError


@attrs.frozen(kw_only=True)
class HostLimits:
    """What a host grants to a key, or to an address without one.

    Parameters
    ----------
    calls_per_minute : float
        Every attempt counts, whatever comes back.
    burst : int
        Calls that may follow each other at once after a pause.
    monthly_credits : int or None
        None: no limit.
    """

    calls_per_minute: float = attrs.field(validator=attrs.validators.gt(0))
    burst: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    monthly_credits: int | None = None


class TokenBucket:
    """Spaces calls so that a limit holds; shared by all threads that use one key.

    Parameters
    ----------
    calls_per_minute, burst
        As in `HostLimits`.
    clock : callable
        Seconds that only grow, as `time.monotonic`.
    sleep : callable
        Waits for so many seconds.

    Notes
    -----
    In any span of t seconds at most ``burst + t * calls_per_minute / 60`` calls are let through.

    Examples
    --------
    >>> waits = []
    >>> bucket = TokenBucket(6, 2, clock=lambda: 0.0, sleep=waits.append)
    >>> for _ in range(4):
    ...     bucket.take(most_wait=60.0)
    >>> waits
    [10.0, 20.0]
    """

    def __init__(
        self,
        calls_per_minute: float,
        burst: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._rate = calls_per_minute / 60.0
        self._burst = float(burst)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = self._burst  # negative: taken by those who wait
        self._filled_at = clock()

    def take(self, cost: float = 1.0, *, most_wait: float) -> None:
        """Wait until `cost` calls are allowed; a `RateLimitedError` at once where `most_wait` [s] is too short."""
        with self._lock:
            self._fill()
            wait = max(0.0, (cost - self._tokens) / self._rate)
            if wait > most_wait:
                raise RateLimitedError(
                    f"the rate limit allows the next call in {wait:.1f} s, and {most_wait:.1f} s are left for it",
                    observed=wait,
                    required=most_wait,
                    retry_after=wait,
                )
            self._tokens -= cost
        if wait > 0.0:
            self._sleep(wait)

    def pause(self, seconds: float) -> None:
        """Let no new call through for so long: the host asked for it."""
        with self._lock:
            self._fill()
            self._tokens = min(self._tokens, 1.0 - seconds * self._rate)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now

"""GET requests for price sources: limits, retries, deadlines, and errors that say what to do.

One client a key and host, shared by threads. An adapter gives two pure functions, `explain` for errors and `parse`
for answers; all waiting, counting and hiding of keys happens here.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import httpx
import tenacity

from tonsurance_risk.errors import (
    CreditsUsedUpError,
    PayloadError,
    RateLimitedError,
    RiskError,
    SettingsError,
    SourceBlockedError,
    SourceError,
    SourceUnavailableError,
)
from tonsurance_risk.ports import SourceUsage
from tonsurance_risk.redaction import one_line, redact
from tonsurance_risk.sources.http_errors import SHOWN, Explain, explain_status
from tonsurance_risk.sources.rate_limit import HostLimits, TokenBucket
from tonsurance_risk.sources.retries import CircuitBreaker, RetryBudget, RetryRule, parse_retry_after
from tonsurance_risk.sources.transport import FAILURES, WITHIN, DeadlineTransport, bounded_body, is_this_machine
from tonsurance_risk.version import __version__

MOST_BYTES = 16 * 1024 * 1024
"""Of a decoded answer; five years of hourly prices are a third. A parser that fails may take 12 times that."""
CONNECT_TIMEOUT = 10.0
"""Seconds."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class HttpClient:
    r"""Asks one host with one key, within its limits, and tries again where that helps.

    Parameters
    ----------
    base_url : str
        What every path is put behind; ``https``, or ``http`` for a host that no key is sent to or this machine.
    limits : HostLimits
        Of the key, or of this address where there is none.
    explain : callable
        Makes a `RiskError` of status, body and headers (by name in any case) of an answer other than 200. Its type
        decides what happens: `SourceUnavailableError` and `RateLimitedError` are tried again, others are not.
    headers : mapping of str, optional
        Sent with each request; here go keys, and nowhere else.
    secrets : iterable of str
        Replaced by ``***`` in everything that comes out.
    retry : RetryRule
        How often and how soon.
    timeout : float
        For one exchange [s], whole, however the answer trickles.
    deadline : float
        For one call with all its waits [s].
    most_bytes : int
        Of an answer, decoded; it is not read further.
    transport : httpx.BaseTransport, optional
        Another way to the host, a proxy for example; without it no proxy is used, whatever the environment says.
    clock, sleep, uniform : callable
        Monotonic seconds, of waits and deadlines; waits for seconds; a random number between two.

    Attributes
    ----------
    calls : int
        Attempts that were sent.
    credits : int
        What they cost.
    retries : int
        How many of them were repetitions.

    Raises
    ------
    SettingsError
        If the URL or a header cannot be used.

    Examples
    --------
    >>> answers = iter([httpx.Response(503), httpx.Response(200, content=b"7")])
    >>> waits = []
    >>> client = HttpClient(
    ...     "https://prices.example/v1",
    ...     limits=HostLimits(calls_per_minute=60),
    ...     transport=httpx.MockTransport(lambda request: next(answers)),
    ...     clock=lambda: sum(waits),
    ...     sleep=waits.append,
    ...     uniform=lambda low, high: high,
    ... )
    >>> client.get("price", {"of": "DAI"}, int), client.calls, waits
    (7, 2, [1.0])
    """

    def __init__(
        self,
        base_url: str,
        *,
        limits: HostLimits,
        explain: Explain = explain_status,
        headers: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        retry: RetryRule | None = None,
        timeout: float = 30.0,
        deadline: float = 300.0,
        most_bytes: int = MOST_BYTES,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base_url = _checked_url(base_url, has_secrets=bool(secrets))
        self.host = httpx.URL(self._base_url).netloc.decode()
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": f"tonsurance-risk/{__version__}",
            **_checked_headers(headers or {}),
        }
        self._secrets = tuple(secrets)
        self._explain = explain
        self._limits = limits
        self._rule = retry or RetryRule()
        self._timeout = timeout
        self._deadline = deadline
        self._most_bytes = most_bytes
        self._transport = transport or DeadlineTransport()
        self._clock, self._sleep, self._uniform = clock, sleep, uniform
        self._bucket = TokenBucket(limits.calls_per_minute, limits.burst, clock=clock, sleep=sleep)
        self._breaker = CircuitBreaker(self.host, clock=clock)
        self._budget = RetryBudget(self._rule)
        self._lock = threading.Lock()
        self.calls = 0
        self.credits = 0
        self._answers: Counter[str] = Counter()
        self._waited = 0.0
        self._used_elsewhere = 0
        self._reserve = 0

    def __repr__(self) -> str:
        return f"HttpClient({self._base_url!r})"

    @property
    def retries(self) -> int:
        """Attempts that were repetitions."""
        return self._budget.retries

    @property
    def usage(self) -> SourceUsage:
        """What was asked of the host since the client was made."""
        with self._lock:
            return SourceUsage(
                requests=dict(self._answers),
                credits=self.credits,
                retry_wait_seconds=self._waited,
                circuit_open=self._breaker.is_open,
            )

    def limit_credits(self, *, used: int, reserve: int) -> None:
        """Make no call that would leave less than `reserve` of the month's credits; `used` are gone now."""
        with self._lock:
            self._used_elsewhere = used - self.credits
            self._reserve = reserve

    def get(
        self,
        path: str,
        params: Mapping[str, str | int | float] | None,
        parse: Callable[[bytes], _T],
        *,
        cost: int = 1,
    ) -> _T:
        """Return what `parse` makes of an answer.

        Parameters
        ----------
        path : str
            Below the base URL.
        params : mapping or None
            Of the query; never a key.
        parse : callable
            From the decoded body of an answer 200. A `PayloadError` of it is tried once more; other errors of it
            come out as they are.
        cost : int
            Calls that the host counts for this one, and credits.

        Raises
        ------
        SourceUnavailableError
            If no attempt was answered in time, or the host is left alone after such calls.
        RateLimitedError
            If the host asks for a longer wait than there is time; ``retry_after`` says how long.
        CreditsUsedUpError
            If the month's calls are used up, before the call.
        SourceBlockedError
            On a redirect, which is not followed.
        PayloadError
            If the answer is too large, or cannot be read twice.
        RiskError
            Others of `explain` and `parse`.

        Notes
        -----
        Messages begin with host and path; text of the host in them is cut and cleaned of control characters.
        """
        ends_at = self._clock() + self._deadline
        self._budget.begin_call()
        attempts = unreadable = 0

        def attempt() -> _T:
            nonlocal attempts, unreadable
            attempts += 1
            body = self._body(path, params, cost, ends_at)
            try:
                return parse(body)
            except PayloadError:
                unreadable += 1
                raise

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: self._worth_retrying(error, unreadable)),
            wait=self._wait,
            stop=lambda state: self._must_stop(state, ends_at),
            before_sleep=lambda state: self._tell(path, state),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            self._breaker.check()
            result = retrying(attempt)
        except SourceUnavailableError as error:
            if attempts:
                self._breaker.failed()
            raise self._named(error, path, attempts) from error.__cause__
        except RiskError as error:
            if not isinstance(error, (RateLimitedError, SourceBlockedError)):
                self._breaker.answered()
            raise self._named(error, path, attempts) from error.__cause__
        self._breaker.answered()
        return result

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def _body(self, path: str, params: Mapping[str, str | int | float] | None, cost: int, ends_at: float) -> bytes:
        """Return the body of an answer 200; one attempt."""
        self._check_credits(cost)
        self._bucket.take(cost, most_wait=ends_at - self._clock())
        with self._lock:
            self.calls += 1
            self.credits += cost
        answer = "none"
        try:
            status, headers, body = self._exchange(path, params, ends_at)
            answer = f"{status // 100}xx"
        finally:
            with self._lock:
                self._answers[answer] += 1
        if status == 200:
            return body
        if 300 <= status < 400:
            where = headers.get("location", "nowhere")[:SHOWN]
            raise SourceBlockedError(f"HTTP {status}: a redirect to {where}, not followed", observed=where)
        error = self._explain(status, body, headers)
        if isinstance(error, (RateLimitedError, SourceUnavailableError)) and error.retry_after is None:
            error.retry_after = parse_retry_after(headers.get("retry-after"), headers.get("date"))
        if isinstance(error, RateLimitedError):
            self._bucket.pause(min(error.retry_after or 0.0, self._rule.longest_retry_after))
        raise error

    def _check_credits(self, cost: int) -> None:
        most = self._limits.monthly_credits
        with self._lock:
            used = self._used_elsewhere + self.credits
        if most is not None and used + cost > most - self._reserve:
            kept = f", {self._reserve:,} are kept for the daily job" if self._reserve else ""
            raise CreditsUsedUpError(
                f"{used:,} of {most:,} credits of the month are used{kept}", observed=used, required=most
            )

    def _exchange(
        self, path: str, params: Mapping[str, str | int | float] | None, ends_at: float
    ) -> tuple[int, httpx.Headers, bytes]:
        left = min(self._timeout, ends_at - self._clock())
        if left <= 0.0:
            raise SourceUnavailableError("the time for the call is over")
        request = httpx.Request(
            "GET",
            f"{self._base_url}/{path.lstrip('/')}",
            params=dict(params or {}),
            headers=self._headers,
            extensions={
                WITHIN: left,
                "timeout": {"connect": min(CONNECT_TIMEOUT, left), "read": left, "write": left, "pool": left},
            },
        )
        try:
            response = self._transport.handle_request(request)
            try:
                return response.status_code, response.headers, bounded_body(response, self._most_bytes)
            finally:
                response.close()
        except FAILURES as error:
            raise SourceUnavailableError(f"no answer: {type(error).__name__}: {error}") from error

    def _worth_retrying(self, error: BaseException, unreadable: int) -> bool:
        if isinstance(error, CreditsUsedUpError):
            return False
        if isinstance(error, PayloadError):
            return unreadable == 1
        if isinstance(error, (SourceUnavailableError, RateLimitedError)):
            return (error.retry_after or 0.0) <= self._rule.longest_retry_after
        return False

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        limited = isinstance(error, RateLimitedError)
        backoff = self._uniform(0.0, self._rule.longest_backoff(state.attempt_number, limited=limited))
        asked = error.retry_after if isinstance(error, SourceError) else None
        return max(backoff, asked or 0.0)

    def _must_stop(self, state: tenacity.RetryCallState, ends_at: float) -> bool:
        in_time = self._clock() + state.upcoming_sleep < ends_at
        return state.attempt_number >= self._rule.attempts or not in_time or not self._budget.grant()

    def _tell(self, path: str, state: tenacity.RetryCallState) -> None:
        with self._lock:
            self._waited += state.upcoming_sleep
        error = state.outcome.exception() if state.outcome else None
        _log.info(
            "%s/%s: attempt %d of %d failed, the next in %.1f s: %s",
            self.host,
            self._cleaned(path),
            state.attempt_number,
            self._rule.attempts,
            state.upcoming_sleep,
            self._cleaned(str(error)),
        )

    def _named(self, error: RiskError, path: str, attempts: int) -> RiskError:
        """Return the error with where it was, how often it was tried, and without secrets."""
        tries = f" (after {attempts} attempts)" if attempts > 1 else ""
        error.args = (self._cleaned(f"{self.host}/{path.lstrip('/')}: {error}{tries}"),)
        if isinstance(error.observed, str):
            error.observed = self._cleaned(error.observed)
        return error

    def _cleaned(self, message: str) -> str:
        return one_line(redact(message, self._secrets))


def _checked_url(base_url: str, *, has_secrets: bool) -> str:
    accepted = "accepted is https://HOST/PATH without user, query or fragment"
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        # Neither the URL nor what is said of it: a password may be in it.
        raise SettingsError(f"the base URL cannot be read; {accepted}") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise SettingsError(f"the base URL cannot be used; {accepted}", observed=url.host)
    if url.scheme == "http" and has_secrets and not is_this_machine(url.host):
        raise SettingsError(f"a key is not sent to {url.host} without encryption; {accepted}", observed=url.host)
    return str(url).rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        # A line break would end the header and begin another.
        if not (value and value.isascii() and value.isprintable() and value == value.strip()):
            raise SettingsError(f"the header {name} must be printable ASCII without spaces around, not shown here")
    return dict(headers)

"""The errors that answers stand for by their HTTP status. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tonsurance_risk.errors import (
    PayloadError,
    RateLimitedError,
    RiskError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
    UnknownAssetError,
)

Explain = Callable[[int, bytes, Mapping[str, str]], RiskError]
"""Makes an error of status, body and headers of an answer that is no success."""

SHOWN = 500
"""Letters of an answer that an error shows."""


def explain_status(status: int, body: bytes, _headers: Mapping[str, str]) -> RiskError:
    """Return the error that an HTTP status stands for where the source says no more.

    Examples
    --------
    >>> explain_status(503, b"maintenance", {})
    SourceUnavailableError('HTTP 503: maintenance')
    """
    message = f"HTTP {status}: {excerpt(body)}"
    if status in (408, 425) or status >= 500:
        return SourceUnavailableError(message, observed=status)
    if status in (418, 429):
        return RateLimitedError(message, observed=status)
    if status == 401:
        return SettingsError(f"{message}; the key is missing or not accepted", observed=status)
    if status in (403, 451):
        return SourceBlockedError(message, observed=status)
    if status == 404:
        return UnknownAssetError(message, observed=status)
    return PayloadError(message, observed=status)


def excerpt(body: bytes) -> str:
    """Return the beginning of a body for a message.

    Examples
    --------
    >>> excerpt(b"<html>")
    '<html>'
    """
    return body[:SHOWN].decode("utf-8", "replace").strip() or "an empty body"

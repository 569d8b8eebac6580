"""What receivers are sent: clean, short enough, without secrets. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from tonsurance_risk.ports import AlertMessage
from tonsurance_risk.redaction import one_line, redact, redact_values
from tonsurance_risk.values import iso

LONGEST_SUMMARY = 1024
"""Characters; what PagerDuty takes."""
MOST_BYTES = 512_000
"""Of a body; PagerDuty takes 512 KB."""
_CUT = " ..."


def cleaned(message: AlertMessage, secrets: Iterable[str]) -> AlertMessage:
    r"""Return a message without secrets, whose summary and source are one line of at most 1024 characters.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> message = AlertMessage(
    ...     key="fetch:USDC",
    ...     action="trigger",
    ...     severity="high",
    ...     summary="no prices:\n401 for key s3cr3t",
    ...     as_of=datetime(2024, 1, 1, tzinfo=UTC),
    ...     source="daily",
    ... )
    >>> cleaned(message, ["s3cr3t"]).summary
    'no prices:\\n401 for key ***'
    """
    known = tuple(secrets)
    return attrs.evolve(
        message,
        key=redact(message.key, known),
        summary=_shortened(message.summary, known) or "no summary",
        source=_shortened(message.source, known),
        details=redact_values(message.details, known),
    )


def _shortened(text: str, secrets: tuple[str, ...]) -> str:
    # Cut last: a secret that is cut in two is not found any more, and escapes are longer than what they stand for.
    line = one_line(redact(text, secrets)).strip()
    return line if len(line) <= LONGEST_SUMMARY else line[: LONGEST_SUMMARY - len(_CUT)] + _CUT


def document(message: AlertMessage) -> dict[str, Any]:
    """Return a message as a JSON document."""
    return attrs.asdict(message) | {"as_of": iso(message.as_of)}


def body(message: AlertMessage, make: Callable[[AlertMessage], dict[str, Any]] = document) -> bytes:
    """Return the JSON text that `make` gives for a message, in ASCII, of at most `MOST_BYTES`.

    The largest details are left out where they are too much, and `left_out` counts them.
    """
    text = _encoded(make(message))
    sizes = {name: len(_encoded({name: value})) for name, value in message.details.items()}
    kept = dict(message.details)
    for number, name in enumerate(sorted(sizes, key=lambda name: -sizes[name]), start=1):
        if len(text) <= MOST_BYTES:
            break
        del kept[name]
        text = _encoded(make(attrs.evolve(message, details=kept | {"left_out": number})))
    return text


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode("ascii")

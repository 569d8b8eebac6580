"""What is said of alerts, to whom, and by what."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol, get_args

import attrs
import pandas as pd

from tonsurance_risk.core.alert_memory import Action
from tonsurance_risk.core.alerts import SEVERITIES, Severity
from tonsurance_risk.values import as_utc


@attrs.frozen(kw_only=True)
class StoredAlert:
    """What is to be said of an alert of a stored report.

    Parameters
    ----------
    source, step, as_of
        Of the report.
    key : str
        Of the alert, the same from report to report.
    action : {"trigger", "resolve"}
    severity : {"critical", "high", "medium", "low"}
    message : str
    """

    source: str
    step: str
    as_of: pd.Timestamp
    key: str
    action: Action
    severity: Severity
    message: str


LONGEST_KEY = 255
"""Of an `AlertMessage`; what PagerDuty takes."""


def _as_of(time: datetime) -> pd.Timestamp:
    return as_utc(time, "as_of")


@attrs.frozen(kw_only=True)
class AlertMessage:
    """What an alert sink sends: that something needs attention, or no longer does.

    Parameters
    ----------
    key : str
        Names the matter, the same as long as it lasts: ``risk_report:USDC:depeg``, without date or value. 1 to 255
        printable characters. Receivers join messages of one key.
    action : {"trigger", "resolve"}
        Whether it needs attention, or no longer does.
    severity : {"critical", "high", "medium", "low"}
        How urgent.
    summary : str
        What happened, for people. A sink makes one line of it and cuts what its receiver does not take.
    as_of : datetime
        The instant that it is about.
    source : str
        Where it comes from, for people: a host or job.
    details : dict
        Values that JSON has.

    Raises
    ------
    ValueError
        If a field cannot be used.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> AlertMessage(
    ...     key="risk_report:USDC:depeg",
    ...     action="trigger",
    ...     severity="critical",
    ...     summary="USDC is 12 % below its peg",
    ...     as_of=datetime(2023, 3, 11, tzinfo=UTC),
    ...     source="daily",
    ...     details={"ratio": 0.88},
    ... ).key
    'risk_report:USDC:depeg'
    """

    key: str = attrs.field()
    action: Action = attrs.field(validator=attrs.validators.in_(get_args(Action)))
    severity: Severity = attrs.field(validator=attrs.validators.in_(SEVERITIES))
    summary: str = attrs.field(validator=attrs.validators.instance_of(str))
    as_of: pd.Timestamp = attrs.field(converter=_as_of)
    source: str = attrs.field(
        validator=attrs.validators.and_(attrs.validators.instance_of(str), attrs.validators.min_len(1))
    )
    details: dict[str, Any] = attrs.field(factory=dict)

    @key.validator
    def _check_key(self, _attribute: object, key: str) -> None:
        if not (isinstance(key, str) and 1 <= len(key) <= LONGEST_KEY and key.isprintable()):
            raise ValueError(f"key must be text of 1 to {LONGEST_KEY} printable characters, found {key!r}")

    @details.validator
    def _check_details(self, _attribute: object, details: object) -> None:
        try:
            json.dumps(details, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"details must be values that JSON has: {error}") from error
        if not isinstance(details, dict):
            raise ValueError(f"details must be a dict, found {type(details).__name__}")


class AlertSink(Protocol):
    """Sends alerts to people or to what wakes them. A message may be sent again under its key."""

    @property
    def name(self) -> str:
        """How logs and the outbox call it; holds no secret."""

    def send(self, message: AlertMessage) -> None:
        """Hand a message over; it has arrived when this returns.

        Raises
        ------
        AlertRefusedError
            If the receiver does not take it; sending it again would not help.
        AlertUndeliveredError
            If it may be taken later.
        """


class Outbox(Protocol):
    """What is to be said of the alerts of reports, and to whom it was said."""

    def load_alerts(self, *, waiting_for: str | None = None) -> list[StoredAlert]:
        """Return alerts by (as_of, source, step, place in the report); of a sink only what it has not got yet."""

    def mark_delivered(self, alerts: Iterable[StoredAlert], *, sink: str) -> int:
        """Write down that a sink got alerts now, and return how many it had not got before."""

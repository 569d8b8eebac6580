"""What was said about alerts before: which are open since when, and what is to be said now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

import attrs
import pandas as pd

from tonsurance_risk.core.alerts import SEVERITIES, Alert, Severity
from tonsurance_risk.values import iso

COOL_DOWN = timedelta(days=2)
"""An alert is resolved once it has not fired for that long; until then it is open, and nothing more is said of it.
A value that swings about its threshold every day is therefore one alert."""

Action = Literal["trigger", "resolve"]


@attrs.frozen(kw_only=True)
class OpenAlert:
    """An alert that has fired and is not resolved.

    Parameters
    ----------
    key : str
        Its `Alert.key`.
    severity : {"critical", "high", "medium", "low"}
        The worst that was said of it.
    since, seen : Timestamp
        The first and the last report in which it fired.
    value, threshold : float or None
        What the rule saw when it was last seen, and its bound; see `Alert`.
    """

    key: str
    severity: Severity
    since: pd.Timestamp
    seen: pd.Timestamp
    value: float | None = None
    threshold: float | None = None

    @property
    def rule(self) -> str:
        """The rule that fired: the key is this, and what it is about."""
        return self.key.partition(":")[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the rule and the fields in JSON types."""
        return {
            "key": self.key,
            "rule": self.rule,
            "severity": self.severity,
            "value": self.value,
            "threshold": self.threshold,
            "since": iso(self.since),
            "seen": iso(self.seen),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> OpenAlert:
        """Return what `to_dict` gave; documents of before value and threshold were kept do not have them."""
        return cls(
            key=document["key"],
            severity=document["severity"],
            since=pd.Timestamp(document["since"]),
            seen=pd.Timestamp(document["seen"]),
            value=document.get("value"),
            threshold=document.get("threshold"),
        )


@attrs.frozen(kw_only=True)
class AlertChange:
    """What is to be said of an alert: that it fires or got worse, or that it is over.

    Parameters
    ----------
    key : str
        Of the alert.
    action : {"trigger", "resolve"}
        Two triggers of a key are one alert to whoever receives them.
    severity : {"critical", "high", "medium", "low"}
        Of the alert.
    message : str
        For people.
    """

    key: str
    action: Action
    severity: Severity
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return attrs.asdict(self)


def remember(
    before: Iterable[OpenAlert], alerts: Iterable[Alert], as_of: pd.Timestamp
) -> tuple[tuple[OpenAlert, ...], tuple[AlertChange, ...]]:
    """Return the alerts that are open after a report, and what is to be said.

    Parameters
    ----------
    before : iterable of OpenAlert
        Those open after the report before.
    alerts : iterable of Alert
        Those that fire now; of several with one key the first counts.
    as_of : Timestamp
        Of the report.

    Returns
    -------
    tuple of OpenAlert
        In the order of `alerts`, then those that did not fire.
    tuple of AlertChange
        A trigger for each alert that is new or worse than was said, a resolve for each that has not fired for two
        days.

    Examples
    --------
    >>> day = pd.Timestamp("2025-03-01T00:00Z")
    >>> alert = Alert("high", "leverage", "coverage is 75 % of capital", "ltv", 0.75, 0.7)
    >>> memory, said = remember([], [alert], day)
    >>> [change.action for change in said]
    ['trigger']
    >>> memory, said = remember(memory, [alert], day + timedelta(days=1))
    >>> said, memory[0].since == day
    ((), True)
    >>> memory, said = remember(memory, [], day + timedelta(days=3))
    >>> [change.action for change in said], memory
    (['resolve'], ())
    """
    known = {one.key: one for one in before}
    open_now: dict[str, OpenAlert] = {}
    said: list[AlertChange] = []
    for alert in alerts:
        if alert.key in open_now:
            continue
        earlier = known.pop(alert.key, None)
        if earlier is None or _worse(alert.severity, earlier.severity):
            said.append(
                AlertChange(key=alert.key, action="trigger", severity=alert.severity, message=alert.message)
            )
        open_now[alert.key] = OpenAlert(
            key=alert.key,
            severity=alert.severity
            if earlier is None
            else min(alert.severity, earlier.severity, key=SEVERITIES.index),
            since=as_of if earlier is None else earlier.since,
            seen=as_of,
            value=alert.value,
            threshold=alert.threshold,
        )
    for key, earlier in known.items():
        if as_of - earlier.seen < COOL_DOWN:
            open_now[key] = earlier
            continue
        message = f"{key} has not fired since {iso(earlier.seen)}"
        said.append(AlertChange(key=key, action="resolve", severity=earlier.severity, message=message))
    return tuple(open_now.values()), tuple(said)


def _worse(severity: Severity, than: Severity) -> bool:
    return SEVERITIES.index(severity) < SEVERITIES.index(than)

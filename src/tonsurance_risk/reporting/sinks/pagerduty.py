"""Alerts to PagerDuty by its Events API v2.

References
----------
PagerDuty, "Send an alert event", developer documentation, 2026: fields, limits and answers.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from tonsurance_risk.errors import AlertUndeliveredError, SettingsError
from tonsurance_risk.ports import AlertMessage
from tonsurance_risk.reporting.sinks.content import body, cleaned
from tonsurance_risk.reporting.sinks.posting import Receiver
from tonsurance_risk.values import iso

SEVERITIES = {"critical": "critical", "high": "error", "medium": "warning", "low": "info"}
"""Theirs by ours."""
LIMITED_WAIT = 60.0
"""Seconds, at least, after an answer 429 that says nothing: it asks for minutes."""


@attrs.frozen(kw_only=True)
class PagerDutySink:
    """Opens and resolves alerts at PagerDuty; the key of a message is their `dedup_key`.

    Parameters
    ----------
    receiver : Receiver
        Of the Events API in the account's service region.
    routing_key : str
        Of the integration: 32 letters and digits.
    secrets : tuple of str
        Others that never leave.

    Raises
    ------
    SettingsError
        If the routing key is missing or has another form.
    """

    receiver: Receiver
    routing_key: str = attrs.field(repr=False)
    name: str = "pagerduty"
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)

    @routing_key.validator
    def _check_routing_key(self, _attribute: object, key: object) -> None:
        if not (isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]{32}", key)):
            raise SettingsError("the routing key of PagerDuty must be 32 letters and digits, not shown here")

    def send(self, message: AlertMessage) -> None:
        """Hand a message over; see `AlertSink.send`."""
        secrets = (self.routing_key, *self.secrets)
        content = body(cleaned(message, secrets), self._event)
        try:
            self.receiver.post(content, {}, secrets=secrets)
        except AlertUndeliveredError as error:
            if error.observed == 429:
                error.retry_after = max(error.retry_after or 0.0, LIMITED_WAIT)
            raise

    def _event(self, message: AlertMessage) -> dict[str, Any]:
        event = {"routing_key": self.routing_key, "event_action": message.action, "dedup_key": message.key}
        if message.action == "resolve":
            return event
        payload = {
            "summary": message.summary,
            "source": message.source,
            "severity": SEVERITIES[message.severity],
            "timestamp": iso(message.as_of),
            "custom_details": message.details,
        }
        return event | {"payload": payload, "client": "tonsurance_risk"}

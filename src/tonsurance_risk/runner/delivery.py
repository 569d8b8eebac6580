"""From the outbox to the receivers: at least once, in order, and never at the cost of a job."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable

from tonsurance_risk.errors import AlertRefusedError
from tonsurance_risk.ports import LONGEST_KEY, AlertMessage, AlertSink, Outbox, StoredAlert
from tonsurance_risk.redaction import one_line

_log = logging.getLogger(__name__)


def deliver_alerts(
    outbox: Outbox, sinks: Iterable[AlertSink], *, is_over: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """Send each sink what it has not got yet, and return how many messages arrived by sink.

    What a sink refuses is not sent to it again, and is in the log. At the first message that does not arrive the
    rest of that sink waits for the next time, so that it gets them in order; so does everything once `is_over`
    says that there is no more time. Nothing that a sink does is raised.
    """
    receivers = list(sinks)
    arrived = {sink.name: 0 for sink in receivers}
    for sink in receivers:
        for alert in outbox.load_alerts(waiting_for=sink.name):
            if is_over():
                return arrived
            try:
                sink.send(message_of(alert))
                arrived[sink.name] += 1
            except AlertRefusedError as error:
                _log.error("%s refused the alert %s, which it is not sent again: %s", sink.name, alert.key, error)
            except Exception as error:
                _log.warning("%s did not get the alert %s, it waits: %s", sink.name, alert.key, error)
                break
            outbox.mark_delivered([alert], sink=sink.name)
    return arrived


def message_of(alert: StoredAlert) -> AlertMessage:
    """Return the message of an alert; its key tells sources and steps apart."""
    key = one_line(f"{alert.source}:{alert.step}:{alert.key}")
    if len(key) > LONGEST_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        key = f"{key[: LONGEST_KEY - 17]}:{digest}"
    return AlertMessage(
        key=key,
        action=alert.action,
        severity=alert.severity,
        summary=alert.message,
        as_of=alert.as_of,
        source=one_line(f"risk_report {alert.source} {alert.step}"),
    )

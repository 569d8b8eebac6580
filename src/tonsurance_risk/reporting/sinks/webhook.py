"""Alerts to any receiver that takes JSON, signed."""

from __future__ import annotations

import hashlib
import hmac

import attrs

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.ports import AlertMessage, Clock, SystemClock
from tonsurance_risk.reporting.sinks.content import body, cleaned
from tonsurance_risk.reporting.sinks.posting import Receiver

TIMESTAMP = "x-tonsurance-timestamp"
"""Header: seconds since 1970 at which the message was signed."""
SIGNATURE = "x-tonsurance-signature"
"""Header: ``sha256=`` and the HMAC in hex."""


def signature(secret: str, timestamp: str, content: bytes) -> str:
    """Return the HMAC-SHA256 of timestamp, ``.`` and body, as the header has it.

    References
    ----------
    H. Krawczyk, M. Bellare, R. Canetti, "HMAC: Keyed-Hashing for Message Authentication", 1997, RFC 2104.

    Examples
    --------
    >>> signature("secret", "1700000000", b"{}")[:15]
    'sha256=b8569b78'
    """
    signed = timestamp.encode("ascii") + b"." + content
    return f"sha256={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


@attrs.frozen(kw_only=True)
class WebhookSink:
    """Posts alerts as JSON to a URL, signed with HMAC-SHA256.

    Parameters
    ----------
    receiver : Receiver
        Where to.
    secret : str
        Shared with the receiver, which recomputes the signature and refuses old timestamps.
    secrets : tuple of str
        Others that never leave.
    clock : Clock
        Gives the timestamp.

    Raises
    ------
    SettingsError
        If the secret is missing or not plain text.
    """

    receiver: Receiver
    secret: str = attrs.field(repr=False)
    name: str = "webhook"
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    clock: Clock = attrs.field(factory=SystemClock, repr=False)

    @secret.validator
    def _check_secret(self, _attribute: object, secret: object) -> None:
        if not (isinstance(secret, str) and secret and secret.isascii() and secret.isprintable()):
            raise SettingsError("the secret of a webhook must be printable ASCII, not shown here")

    def send(self, message: AlertMessage) -> None:
        """Hand a message over; see `AlertSink.send`."""
        secrets = (self.secret, *self.secrets)
        content = body(cleaned(message, secrets))
        timestamp = str(int(self.clock.now().timestamp()))
        headers = {TIMESTAMP: timestamp, SIGNATURE: signature(self.secret, timestamp, content)}
        self.receiver.post(content, headers, secrets=secrets)

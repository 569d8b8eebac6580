"""Alerts to the outside, one module an adapter; see `tonsurance_risk.ports.AlertSink`."""

from __future__ import annotations

from collections.abc import Mapping

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.ports import AlertSink
from tonsurance_risk.reporting.files import writable_folder
from tonsurance_risk.reporting.sinks.local import FileSink, LogSink
from tonsurance_risk.settings import (
    PAGERDUTY_ROUTING_KEY,
    WEBHOOK_SECRET,
    AlertSettings,
    FileSinkSettings,
    LogSinkSettings,
    SinkSettings,
    WebhookSinkSettings,
)
from tonsurance_risk.settings_reading import known_secrets

__all__ = ["AlertSink", "FileSink", "LogSink", "open_sinks"]


def open_sinks(settings: AlertSettings, environment: Mapping[str, str]) -> list[AlertSink]:
    """Return the sinks of the settings; nothing is sent.

    Parameters
    ----------
    settings : AlertSettings
        Which ones.
    environment : mapping of str
        Holds the secrets.

    Raises
    ------
    SettingsError
        If a secret is missing or malformed, a URL is none that alerts may go to, or a folder cannot be written to.

    Examples
    --------
    >>> [sink.name for sink in open_sinks(AlertSettings(), {})]
    ['log']
    """
    return [_sink(one, settings, environment) for one in settings.sinks]


def _sink(given: SinkSettings, settings: AlertSettings, environment: Mapping[str, str]) -> AlertSink:
    secrets = known_secrets(environment)
    if isinstance(given, LogSinkSettings):
        return LogSink(name=given.name, secrets=secrets)
    if isinstance(given, FileSinkSettings):
        writable_folder(given.path.parent)
        return FileSink(path=given.path, name=given.name, secrets=secrets)
    # httpx takes a while to import, and many installations have no use for it.
    from tonsurance_risk.reporting.sinks.pagerduty import PagerDutySink
    from tonsurance_risk.reporting.sinks.posting import Receiver
    from tonsurance_risk.reporting.sinks.webhook import WebhookSink

    receiver = Receiver(url=given.url, allowed_hosts=settings.allowed_hosts)
    if isinstance(given, WebhookSinkSettings):
        secret = _secret(WEBHOOK_SECRET, given.name, environment)
        return WebhookSink(name=given.name, receiver=receiver, secret=secret, secrets=secrets)
    key = _secret(PAGERDUTY_ROUTING_KEY, given.name, environment)
    return PagerDutySink(name=given.name, receiver=receiver, routing_key=key, secrets=secrets)


def _secret(variable: str, sink: str, environment: Mapping[str, str]) -> str:
    value = environment.get(variable)
    if not value:
        raise SettingsError(f"the alert sink {sink!r} needs a secret: set {variable}", required=variable)
    return value

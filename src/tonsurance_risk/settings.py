"""The settings of an installation: one TOML file, a few environment variables, secrets from the latter alone.

What both set counts in this order: the file, the environment, the command line; the last one wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal, TypeAlias

import attrs
from attrs.validators import ge, le

from tonsurance_risk.core.simulation import MOST_SIMULATIONS
from tonsurance_risk.model import MOST_SEED

DEFAULT_FILE = Path("tonsurance_risk.toml")
"""In the working directory; read where it is there."""
CONFIG_VARIABLE = "TONSURANCE_RISK_CONFIG"
"""Names another file."""
VARIABLES: Mapping[str, str] = {
    "TONSURANCE_RISK_STORE_URL": "store.url",
    "TONSURANCE_RISK_SOURCE": "source.spec",
    "TONSURANCE_RISK_INTERVAL": "interval",
    "TONSURANCE_RISK_VAULT": "vault",
    "TONSURANCE_RISK_OUT": "out",
    "TONSURANCE_RISK_LOG_LEVEL": "logging.level",
}
"""Which key an environment variable sets."""
WEBHOOK_SECRET = "TONSURANCE_RISK_WEBHOOK_SECRET"  # noqa: S105 - a name
PAGERDUTY_ROUTING_KEY = "TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY"
SECRET_VARIABLES = (WEBHOOK_SECRET, PAGERDUTY_ROUTING_KEY, "COINGECKO_DEMO_API_KEY", "COINGECKO_PRO_API_KEY")
"""Environment variables that hold secrets."""


@attrs.frozen(kw_only=True)
class StoreSettings:
    """Where prices and results are kept.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE``, ``postgresql+psycopg://USER@HOST/DATABASE`` or ``memory://``. One with a password comes
        from the environment.
    """

    url: str = "sqlite:///tonsurance_risk.db"


@attrs.frozen(kw_only=True)
class SourceSettings:
    """Where prices come from.

    Parameters
    ----------
    spec : str
        As ``daily --source`` takes it: ``sample``, ``csv:FOLDER``, ...
    """

    spec: str = "sample"


@attrs.frozen(kw_only=True)
class ScheduleSettings:
    """What the scheduler may use, and how old things may get.

    Parameters
    ----------
    call_budget : int, optional
        Calls of the source in one go; dates that would need more wait for the next.
    max_success_age_hours : float
        The date of the newest report, and the newest price, are too old beyond it.
    since : date, optional
        Before it no date is missing, UTC; the first date in the ledger when not given.
    """

    call_budget: int | None = attrs.field(default=None, validator=attrs.validators.optional(ge(0)))
    max_success_age_hours: float = attrs.field(default=36.0, validator=[ge(1.0), le(8_760.0)])
    since: date | None = None


@attrs.frozen(kw_only=True)
class LogSinkSettings:
    """Alerts into the log.

    Parameters
    ----------
    kind : {"log"}
    name : str
        How logs and the outbox call it; differs between sinks.
    """

    kind: Literal["log"]
    name: str = "log"


@attrs.frozen(kw_only=True)
class FileSinkSettings:
    """Alerts into a file.

    Parameters
    ----------
    kind : {"file"}
    path : Path
        Lines are added to it.
    name : str
        How logs and the outbox call it; differs between sinks.
    """

    kind: Literal["file"]
    path: Path
    name: str = "file"


@attrs.frozen(kw_only=True)
class WebhookSinkSettings:
    """Alerts to a URL, signed with the secret of ``TONSURANCE_RISK_WEBHOOK_SECRET``.

    Parameters
    ----------
    kind : {"webhook"}
    url : str
        ``https://HOST/PATH``.
    name : str
        How logs and the outbox call it; differs between sinks.
    """

    kind: Literal["webhook"]
    url: str
    name: str = "webhook"


@attrs.frozen(kw_only=True)
class PagerDutySinkSettings:
    """Alerts to PagerDuty, with the key of ``TONSURANCE_RISK_PAGERDUTY_ROUTING_KEY``.

    Parameters
    ----------
    kind : {"pagerduty"}
    url : str
        Of the Events API v2 in the service region.
    name : str
        How logs and the outbox call it; differs between sinks.
    """

    kind: Literal["pagerduty"]
    url: str = "https://events.pagerduty.com/v2/enqueue"
    name: str = "pagerduty"


SinkSettings: TypeAlias = LogSinkSettings | FileSinkSettings | WebhookSinkSettings | PagerDutySinkSettings


@attrs.frozen(kw_only=True)
class AlertSettings:
    """Where alerts go.

    Parameters
    ----------
    allowed_hosts : tuple of str
        Receivers that may be in the own network.
    sinks : tuple
        A table each, ``[[alerts.sinks]]``, whose `kind` says which; the log when none is given.
    """

    allowed_hosts: tuple[str, ...] = ()
    sinks: tuple[SinkSettings, ...] = attrs.field(default=(LogSinkSettings(kind="log"),))

    @sinks.validator
    def _check_names(self, _attribute: object, sinks: tuple[SinkSettings, ...]) -> None:
        names = [sink.name for sink in sinks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sinks are called {name!r}; give them a name each")


@attrs.frozen(kw_only=True)
class LoggingSettings:
    """How the process writes about itself.

    Parameters
    ----------
    level : str
        The least urgent one that is written.
    json : bool
        Whether each line is a JSON object.
    """

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    json: bool = False


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Figures for monitors.

    Parameters
    ----------
    text_file : Path, optional
        Written after each run for the text-file collector of node exporter; ends with ``.prom``.
    """

    text_file: Path | None = attrs.field(default=None)

    @text_file.validator
    def _check_suffix(self, _attribute: object, path: Path | None) -> None:
        if path is not None and path.suffix != ".prom":
            raise ValueError(
                f"text_file must end with .prom, or the collector does not read it, found {str(path)!r}"
            )


@attrs.frozen(kw_only=True)
class Settings:
    """All settings; paths are relative to the working directory.

    Parameters
    ----------
    interval : {"1h", "1d"}
        Step of the price samples.
    vault : Path, optional
        Vault file; the built-in sample vault when not given.
    out : Path
        Folder for reports.
    html : bool
        Whether each report is written as a page of HTML as well; needs the extra `report`.
    archive : Path, optional
        Folder for prices older than two years; they stay in the store when not given.
    seed : int
        Of the simulation.
    n : int, optional
        Simulations; by the volatility of the market when not given.
    store, source, schedule, alerts, logging, metrics
        A table each.
    """

    interval: Literal["1h", "1d"] = "1h"
    vault: Path | None = None
    out: Path = Path("reports")
    html: bool = False
    archive: Path | None = None
    seed: int = attrs.field(default=0, validator=[ge(0), le(MOST_SEED)])
    n: int | None = attrs.field(default=None, validator=attrs.validators.optional([ge(1), le(MOST_SIMULATIONS)]))
    store: StoreSettings = StoreSettings()
    source: SourceSettings = attrs.field(factory=SourceSettings)
    schedule: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()

"""The command ``tonsurance-risk serve``: health and figures over HTTP."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from tonsurance_risk.cli.exit_codes import DONE
from tonsurance_risk.cli.options import Config, Db, LogJson
from tonsurance_risk.errors import StorageError
from tonsurance_risk.logs import configure_logging
from tonsurance_risk.ports import Store
from tonsurance_risk.runner.health import health_server
from tonsurance_risk.runner.metrics import require_library
from tonsurance_risk.settings_reading import known_secrets, load_settings
from tonsurance_risk.storage import open_store


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is a free one.")] = 9464,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    db: Db = None,
    max_age_hours: Annotated[
        float | None, typer.Option(min=1.0, help="Of the newest price; of the settings when not given.")
    ] = None,
    config: Config = None,
    log_json: LogJson = False,
) -> int:
    """Serve /healthz, /readyz and /metrics until interrupted."""
    require_library()
    overrides = {
        "store.url": db,
        "schedule.max_success_age_hours": max_age_hours,
        "logging.json": log_json or None,
    }
    settings = load_settings(config, environment=os.environ, overrides=overrides)
    configure_logging(
        as_json=settings.logging.json,
        run_id=uuid.uuid4().hex,
        secrets=known_secrets(os.environ),
        stream=sys.stderr,
        level=settings.logging.level,
    )
    server = health_server(
        lambda: _opened(settings.store.url),
        port=port,
        host=host,
        max_age=timedelta(hours=settings.schedule.max_success_age_hours),
        sinks=[sink.name for sink in settings.alerts.sinks],
    )
    typer.echo(f"listening on http://{host}:{server.server_port}")
    # A service manager ends it by SIGTERM; that is no failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return DONE
    finally:
        server.server_close()
    return DONE


def _opened(url: str) -> Store:
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        # Opening it would make an empty one.
        raise StorageError(f"there is no database {str(file)!r}", observed=str(file))
    return open_store(url)

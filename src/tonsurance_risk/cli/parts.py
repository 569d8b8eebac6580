"""The parts that commands work with, built from the settings: logging, store, source, vault and sinks."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as ProgressBar

from tonsurance_risk.errors import RiskError, SettingsError
from tonsurance_risk.inputs import read_vault, sample_vault
from tonsurance_risk.logs import configure_logging
from tonsurance_risk.model import Vault
from tonsurance_risk.ports import AlertSink, PriceSource, Store, SystemClock
from tonsurance_risk.reporting.files import json_text, writable_folder
from tonsurance_risk.reporting.sinks import open_sinks
from tonsurance_risk.reporting.terminal import plain
from tonsurance_risk.runner.delivery import deliver_alerts
from tonsurance_risk.runner.desk import Desk, Progress
from tonsurance_risk.settings import Settings
from tonsurance_risk.settings_reading import known_secrets, load_settings
from tonsurance_risk.sources import open_source
from tonsurance_risk.storage import SqlStore, open_database, open_store

_log = logging.getLogger(__name__)

LONGEST_DELIVERY = timedelta(minutes=1)
"""Of all messages after a run; what has not arrived by then is sent after the next one."""
RUN_ID_VARIABLE = "TONSURANCE_RISK_RUN_ID"
"""By which the scheduler tells the processes that it starts what to call themselves in the logs."""


def settings_of(
    config: Path | None, *, log_json: bool = False, run_id: str | None = None, **overrides: object
) -> Settings:
    """Return the settings that count, with logging as they say."""
    keys = {"db": "store.url", "source": "source.spec"}
    given = {
        keys.get(name, name): str(value) if isinstance(value, Path) else value for name, value in overrides.items()
    }
    settings = load_settings(config, environment=os.environ, overrides=given)
    configure_logging(
        as_json=log_json or settings.logging.json,
        run_id=run_id or new_run_id(),
        secrets=known_secrets(os.environ),
        stream=sys.stderr,
        level=settings.logging.level,
    )
    return settings


def new_run_id() -> str:
    """Return the id of this run: that of the scheduler that started it, or a new one."""
    return os.environ.get(RUN_ID_VARIABLE) or uuid.uuid4().hex


@contextmanager
def desk_of(
    settings: Settings, progress: Progress = lambda _what, _done, _total: None, *, output: bool = True
) -> Iterator[tuple[Desk, list[AlertSink]]]:
    """Open the sinks, the store and the source of settings; what alerts need must be there before any work."""
    sinks = open_sinks(settings.alerts, os.environ)
    vault = vault_of(settings.vault)
    if settings.metrics.text_file is not None:
        writable_folder(settings.metrics.text_file.parent)
    with (
        opened_source(settings.source.spec) as source,
        open_store(settings.store.url) as store,
    ):
        desk = Desk(
            store=store,
            source=source,
            vault=vault,
            step=settings.interval,
            out=writable_folder(settings.out) if output else None,
            html=output and settings.html,
            archive=settings.archive,
            seed=settings.seed,
            n=settings.n,
            progress=progress,
        )
        yield desk, sinks


@contextmanager
def opened_source(spec: str) -> Iterator[PriceSource]:
    """Open a source, and end what it holds, such as connections, behind the block."""
    source = open_source(spec)
    with source if isinstance(source, AbstractContextManager) else nullcontext():
        yield source


def vault_of(file: Path | None) -> Vault:
    """Read the vault of a file; the built-in sample without one."""
    return sample_vault() if file is None else read_vault(file)


def after_run(
    settings: Settings, store: Store, sinks: Sequence[AlertSink], *, stop: threading.Event | None = None
) -> bool:
    """Send what waits in the outbox, for a minute at most, and write the figures for monitors.

    Returns whether that could be done: what was done before stands, whatever fails here.
    """
    ends_at = time.monotonic() + LONGEST_DELIVERY.total_seconds()

    def is_over() -> bool:
        return (stop is not None and stop.is_set()) or time.monotonic() > ends_at

    try:
        deliver_alerts(store, sinks, is_over=is_over)
        if settings.metrics.text_file is not None:
            from tonsurance_risk.runner.metrics import save_metrics

            names = [sink.name for sink in sinks]
            save_metrics(store, settings.metrics.text_file, now=SystemClock().now(), sinks=names)
    except RiskError:
        _log.exception("alerts are not sent, or figures for monitors not written; the next run does it again")
        return False
    return True


def opened(db: str, *, migrate: bool = False, may_be_new: bool = False) -> SqlStore:
    """Open the store in a database that outlives the command, and is there already unless it may be new."""
    if db == "memory://":
        raise SettingsError("--db memory:// is gone when the command ends; name a database")
    file = Path(db.removeprefix("sqlite:///"))
    # Not Path.exists, which raises where a name is too long.
    if not may_be_new and db.startswith("sqlite:///") and not os.path.exists(file):  # noqa: PTH110
        # Opening it would make an empty one.
        raise SettingsError(f"--db: there is no database {str(file)!r}", observed=str(file))
    return SqlStore(open_database(db, migrate=migrate))


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document, which ends with a line feed of its own."""
    typer.echo(json_text(document), nl=False)


@contextmanager
def progress_bar(first: str, *more: ProgressColumn) -> Iterator[Progress]:
    """Show a bar on stderr while the block runs; what it yields moves it."""
    bar = ProgressBar(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *more,
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(first, total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=plain(what), completed=done, total=total)

        yield progress

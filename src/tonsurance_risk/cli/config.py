"""The commands ``tonsurance-risk config``: check the settings, show those that count."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from tonsurance_risk.cli.exit_codes import DONE
from tonsurance_risk.cli.options import Config, group
from tonsurance_risk.cli.parts import print_json
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.inputs import read_vault
from tonsurance_risk.ports import SystemClock
from tonsurance_risk.reporting.html import check_html
from tonsurance_risk.reporting.sinks import open_sinks
from tonsurance_risk.runner.metrics import require_library
from tonsurance_risk.settings_reading import load_settings, settings_document, settings_file
from tonsurance_risk.sources import open_source
from tonsurance_risk.storage import check_url

app = group("Check the settings, show those that count.")


@app.command()
def check(config: Config = None) -> int:
    """Read the settings, build source and alert sinks, read the vault; ask nobody, write and send nothing."""
    settings = load_settings(config, environment=os.environ)
    sinks = open_sinks(settings.alerts, os.environ)
    open_source(settings.source.spec)
    check_url(settings.store.url)
    database = Path(settings.store.url.removeprefix("sqlite:///"))
    if settings.store.url.startswith("sqlite:///") and not database.absolute().parent.is_dir():
        raise SettingsError(f"store.url: there is no folder {database.parent}", observed=str(database))
    if settings.vault is not None:
        read_vault(settings.vault)
    if settings.html:
        check_html()
    if settings.metrics.text_file is not None:
        require_library()
        _check_folder(settings.metrics.text_file.parent, "metrics.text_file")
    for name, folder in (("out", settings.out), ("archive", settings.archive)):
        if folder is not None:
            _check_folder(folder, name)
    since, today = settings.schedule.since, SystemClock().now().date()
    if since is not None and since > today:
        raise SettingsError(f"schedule.since, {since}, has not come yet, it is {today}", observed=since)
    file = settings_file(config, os.environ)
    typer.echo(f"{file or 'no file, the defaults'}: right; alerts go to {', '.join(sink.name for sink in sinks)}")
    return DONE


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that is not there and cannot be made, or that cannot be written to."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise SettingsError(f"{name}: {nearest} is no folder that can be written to", observed=str(folder))


@app.command()
def show(config: Config = None) -> int:
    """Print the values that count as JSON; of secrets only whether they are set."""
    file = settings_file(config, os.environ)
    document = settings_document(load_settings(config, environment=os.environ), os.environ)
    print_json({"file": None if file is None else str(file), **document})
    return DONE

"""The commands ``tonsurance-risk config``: check the settings, show those that count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tonsurance_risk.inputs import read_vault
from tonsurance_risk.reporting.files import json_text
from tonsurance_risk.reporting.sinks import open_sinks
from tonsurance_risk.settings_reading import load_settings, settings_document, settings_file

DONE = 0

app = typer.Typer(
    help="Check the settings, show those that count.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_Config = Annotated[Path | None, typer.Option(help="Settings file; see docs/reference/settings.md.")]


@app.command()
def check(config: _Config = None) -> int:
    """Read the settings, build the alert sinks and read the vault; send nothing."""
    settings = load_settings(config, environment=os.environ)
    sinks = open_sinks(settings.alerts, os.environ)
    if settings.vault is not None:
        read_vault(settings.vault)
    file = settings_file(config, os.environ)
    typer.echo(f"{file or 'no file, the defaults'}: right; alerts go to {', '.join(sink.name for sink in sinks)}")
    return DONE


@app.command()
def show(config: _Config = None) -> int:
    """Print the values that count as JSON; of secrets only whether they are set."""
    file = settings_file(config, os.environ)
    document = settings_document(load_settings(config, environment=os.environ), os.environ)
    typer.echo(json_text({"file": None if file is None else str(file), **document}), nl=False)
    return DONE

"""The program: all commands, and errors mapped to exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tonsurance_risk.cli import config, db, report, scenarios
from tonsurance_risk.cli.exit_codes import DONE, FAILED, LOCKED, WRONG_USAGE
from tonsurance_risk.cli.market import backfill, correlate, detect
from tonsurance_risk.cli.options import group
from tonsurance_risk.cli.runs import daily, run_job, status, weekly
from tonsurance_risk.cli.schedule import schedule
from tonsurance_risk.cli.serve import serve
from tonsurance_risk.cli.simulate import simulate, stress
from tonsurance_risk.errors import LockHeldError, RiskError, SettingsError, UnknownAssetError
from tonsurance_risk.redaction import one_line, redact
from tonsurance_risk.settings_reading import known_secrets
from tonsurance_risk.version import __version__

_INTERRUPTED = 130
"""What newer versions of typer make of a `KeyboardInterrupt`."""

# Newer versions of typer carry click inside themselves, so its UsageError is reached by way of a subclass.
_UsageError: Any = typer.BadParameter.__bases__[0]

app = group("Risk of stablecoin depeg cover.")
for _command in (daily, weekly, schedule, status, serve, backfill, detect, correlate, simulate, stress):
    app.command()(_command)
app.command("run")(run_job)
for _group in (report, scenarios, db, config):
    app.add_typer(_group.app, name=_group.__name__.rpartition(".")[2])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tonsurance-risk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Risk of stablecoin depeg cover."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error becomes a message on stderr."""
    try:
        outcome = app(
            args=None if arguments is None else list(arguments),
            standalone_mode=False,
            prog_name="tonsurance-risk",
        )
        return _interruption() if outcome == _INTERRUPTED else outcome if isinstance(outcome, int) else DONE
    except typer.Exit as leave:
        return _interruption() if leave.exit_code == _INTERRUPTED else leave.exit_code
    except SystemExit:
        return FAILED  # click leaves with 1, which means another thing here, where nobody reads stdout any more
    except _UsageError as error:
        error.show()
        return WRONG_USAGE
    except LockHeldError as error:
        return _complain(error, LOCKED)
    except (SettingsError, UnknownAssetError) as error:
        return _complain(error, WRONG_USAGE)
    except RiskError as error:
        return _complain(error, FAILED)
    except (typer.Abort, KeyboardInterrupt):
        return _interruption()
    except Exception as error:
        typer.echo(redact(traceback.format_exc(), known_secrets(os.environ)), err=True, nl=False)
        return _complain(error, FAILED)


def _interruption() -> int:
    typer.echo("interrupted", err=True)
    return FAILED


def _complain(error: Exception, code: int) -> int:
    message = redact(f"{type(error).__name__}: {error}", known_secrets(os.environ))
    lines = map(one_line, message.split("\n"))
    typer.echo("\n".join(lines), err=True)
    return code


def main() -> None:
    """Entry point of the command `tonsurance-risk`; to be terminated is to be interrupted."""
    signal.signal(signal.SIGTERM, _interrupted)
    sys.exit(run())


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt

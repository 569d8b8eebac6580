"""The commands ``tonsurance-risk report``: show, list, compare, export, open and make again reports."""

from __future__ import annotations

import re
import webbrowser
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from tonsurance_risk.cli.exit_codes import ATTENTION, DONE
from tonsurance_risk.cli.options import AsJson, Config, Db, Out, StoredSource, group
from tonsurance_risk.cli.parts import opened, print_json, settings_of
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.ports import Store
from tonsurance_risk.redaction import one_line
from tonsurance_risk.report import SCHEMA_VERSION
from tonsurance_risk.reporting.changes import print_changes, report_changes
from tonsurance_risk.reporting.files import read_report, writable_folder
from tonsurance_risk.reporting.html import save_html
from tonsurance_risk.reporting.tables import save_tables
from tonsurance_risk.reporting.terminal import print_summary, print_table
from tonsurance_risk.runner.replay_report import ReportReplay, replay_report

app = group("Show, list, compare, export, open and make again the reports of a database or file.")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SHOWN = 20
"""So many differences of a replay are printed; all of them are in JSON."""

_Which = Annotated[
    str | None,
    typer.Argument(metavar="[DATE|FILE]", help="Date of a stored report, or a file; the newest stored."),
]
_One = Annotated[str, typer.Argument(metavar="DATE|FILE", help="Date of a stored report, or a file.")]
_Interval = Annotated[str | None, typer.Option(help="Step of the prices; needed where it has reports of both.")]


@app.command()
def show(
    which: _Which = None,
    config: Config = None,
    db: Db = None,
    source: StoredSource = None,
    interval: _Interval = None,
    as_json: AsJson = False,
) -> int:
    """Show a report."""
    document = _document(which, config, db, source, interval)
    if as_json:
        print_json(document)
    else:
        print_summary(document, Console())
    return DONE


@app.command("list")
def list_(
    config: Config = None,
    db: Db = None,
    source: StoredSource = None,
    interval: _Interval = None,
    as_json: AsJson = False,
) -> int:
    """List the stored reports, the oldest first."""
    with opened(settings_of(config, db=db).store.url) as store:
        rows = [_row(document) for document in store.load_reports(source=source, step=interval)]
    if as_json:
        print_json({"reports": rows})
    elif rows:
        shown = pd.DataFrame(rows).drop(columns="as_of")
        shown["generated_at"] = shown["generated_at"].str[:16].str.replace("T", " ")
        for name in ("var_95", "cvar_99"):
            shown[name] = shown[name].map("{:,.0f}".format)
        print_table(shown, "Reports: losses in USD")
    else:
        typer.echo("no reports")
    return DONE


@app.command()
def diff(
    old: _One,
    new: _One,
    config: Config = None,
    db: Db = None,
    source: StoredSource = None,
    interval: _Interval = None,
    as_json: AsJson = False,
) -> int:
    """Show what changed from one report to another: numbers, alerts, depegs and inputs."""
    documents = [_document(which, config, db, source, interval) for which in (old, new)]
    changes = report_changes(*documents)
    if as_json:
        print_json(changes)
    else:
        print_changes(changes, Console())
    return DONE


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made where it is not there.")],
    which: _Which = None,
    config: Config = None,
    db: Db = None,
    source: StoredSource = None,
    interval: _Interval = None,
) -> int:
    """Write every table of a report as a CSV file."""
    document = _document(which, config, db, source, interval)
    files = save_tables(document, folder)
    typer.echo(f"{len(files)} files in {folder}")
    return DONE


@app.command()
def replay(
    which: _One,
    config: Config = None,
    db: Db = None,
    source: StoredSource = None,
    interval: _Interval = None,
    as_json: AsJson = False,
) -> int:
    """Make a report again from what the store knew then, and say whether it is equal, or what differs and why."""
    document = _document(which, config, db, source, interval)
    with opened(settings_of(config, db=db).store.url) as store:
        found = replay_report(store, document)
    if as_json:
        print_json(found.to_dict())
    else:
        _print_replay(found)
    return DONE if found.equal else ATTENTION


@app.command("open")
def open_(
    which: _Which = None,
    config: Config = None,
    db: Db = None,
    source: StoredSource = None,
    interval: _Interval = None,
    out: Out = None,
) -> int:
    """Write a report, made again from the store, as a page beside its JSON, and show it in the browser."""
    settings = settings_of(config, db=db, out=out)
    document = _document(which, config, db, source, interval)
    beside = settings.out if out is not None or which is None or _DAY.fullmatch(which) else Path(which).parent
    with opened(settings.store.url) as store:
        found = replay_report(store, document)
    page = save_html(found.report, writable_folder(beside), document=found.document).resolve()
    if not found.equal:
        typer.echo(
            "the page is not that of the report, which does not come out again: see report replay", err=True
        )
    typer.echo(str(page))
    webbrowser.open(page.as_uri())
    return DONE if found.equal else ATTENTION


def _document(
    which: str | None, config: Path | None, db: str | None, source: str | None, interval: str | None
) -> dict[str, Any]:
    """Return the report of a file, of a date, or the newest."""
    if which == "":
        raise SettingsError("DATE|FILE must be a date such as 2024-12-31 or a path, found ''", observed=which)
    if which is not None and not _DAY.fullmatch(which):
        return read_report(which)
    with opened(settings_of(config, db=db).store.url) as store:
        return _stored(store, which, source, interval)


def _stored(store: Store, day: str | None, source: str | None, step: str | None) -> dict[str, Any]:
    start = end = None
    if day is not None:
        try:
            start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError as error:
            raise SettingsError(f"{day!r} is no date", observed=day) from error
        end = start + timedelta(days=1)
    found = store.load_reports(start, end, source=source, step=step)
    places = _places(found)
    what = " ".join(filter(None, ("no report", day and f"of {day}", source and f"from {source}", step)))
    if not found:
        raise SettingsError(f"{what} is stored; {_what_is_there(store, source, step)}", observed=day)
    if len(places) > 1:
        raise SettingsError(
            f"reports of several sources or steps are stored, give --source, --interval: {', '.join(places)}"
        )
    document = found[-1]
    if document["schema_version"] != SCHEMA_VERSION:
        version = document["schema_version"]
        raise SettingsError(
            f"the report of {document['report_date']} has schema version {version}, this software reads "
            f"{SCHEMA_VERSION}: run daily for that date again"
        )
    return document


def _what_is_there(store: Store, source: str | None, step: str | None) -> str:
    if newest := store.load_reports(source=source, step=step, last=1):
        return f"the newest is of {newest[0]['report_date']}"
    places = _places(store.load_reports())
    return f"there are reports from {', '.join(places)}" if places else "there is no report"


def _places(documents: list[dict[str, Any]]) -> list[str]:
    return sorted({f"{one['inputs']['source']!r} {one['inputs']['step']}" for one in documents})


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    analysis, alerts = document["var_analysis"], document["risk_alerts"]
    return {
        "date": document["report_date"],
        "as_of": document["as_of"],
        "source": document["inputs"]["source"],
        "step": document["inputs"]["step"],
        "var_95": analysis["var_95"]["value"],
        "cvar_99": analysis["cvar_99"]["value"],
        "worst_alert": alerts[0]["severity"] if alerts else None,
        "generated_at": document["generated_at"],
    }


def _print_replay(found: ReportReplay) -> None:
    for name in found.unchecked:
        typer.echo(f"not checked: {name}, the store has another report of that instant")
    if found.equal:
        typer.echo("equal")
        return
    typer.echo(f"differs in {len(found.differences):,} place(s)")
    for cause in found.causes or ("nothing known: other versions of numpy, pandas or scipy, or another machine?",):
        typer.echo(one_line(f"cause: {cause}"))
    for difference in found.differences[:_SHOWN]:
        ends = difference.to_dict()
        old, new = (repr(ends[side]) if side in ends else "nothing" for side in ("old", "new"))
        typer.echo(one_line(f"{difference.path}: said {old}, now {new}"))
    if len(found.differences) > _SHOWN:
        typer.echo(f"and {len(found.differences) - _SHOWN:,} more, all with --json")

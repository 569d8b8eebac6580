"""The commands ``tonsurance-risk scenarios``: list, calibrate and backtest those of a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import attrs
import typer

from tonsurance_risk.cli.exit_codes import ATTENTION, DONE
from tonsurance_risk.cli.options import DEFAULT_DATABASE, AsJson, BookFile, Database, StoredSource, group
from tonsurance_risk.cli.parts import opened, print_json, vault_of
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import Store
from tonsurance_risk.runner.calibration import backtest_scenarios, calibrate_scenarios, calibrated_scenarios
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import iso

app = group("List, calibrate and backtest the scenarios of a database.")

_Interval = Annotated[str, typer.Option(help="Step of the price samples: 1h or 1d.")]


@app.command("list")
def list_(db: Database = DEFAULT_DATABASE, as_json: AsJson = False) -> int:
    """Show the scenarios: probability, whether simulations draw them, and where they come from."""
    with opened(db) as store:
        _show(store.load_scenarios(), as_json=as_json)
    return DONE


@app.command()
def calibrate(
    db: Database = DEFAULT_DATABASE,
    source: StoredSource = None,
    interval: _Interval = "1h",
    active: Annotated[
        bool, typer.Option("--active/--inactive", help="Let simulations draw them, beside those that are there.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Derive scenarios from the stored depegs of a source, and store them with what they come from."""
    with opened(db) as store:
        name = _stored_source(store, source, interval)
        _show(calibrate_scenarios(store, source=name, step=interval, active=active), as_json=as_json)
    return DONE


@app.command()
def backtest(
    db: Database = DEFAULT_DATABASE,
    source: StoredSource = None,
    interval: _Interval = "1h",
    vault: BookFile = None,
    as_json: AsJson = False,
) -> int:
    """Compare what calibrated scenarios cost a vault with what the prices of their depegs would have cost it."""
    book = vault_of(vault)
    with opened(db) as store:
        name = _stored_source(store, source, interval)
        found = backtest_scenarios(store, book, source=name, step=interval)
        calibrated = calibrated_scenarios(store, name)
    if as_json:
        times = ("start", "end", "evaluated_at")
        rows = [attrs.asdict(one) | {name: iso(getattr(one, name)) for name in times} for one in found]
        print_json({"backtests": rows})
    for one in [] if as_json else found:
        typer.echo(
            f"{one.scenario}: predicted {one.predicted_loss:,.2f} USD, "
            f"actual {one.actual_loss:,.2f} USD, {iso(one.start)} to {iso(one.end)}"
        )
    if len(found) < len(calibrated) or not calibrated:
        count = f"{len(found)} of {len(calibrated)} scenarios from depegs of {name}"
        typer.echo(f"{count}; the database has no {interval} prices for the others", err=True)
        return ATTENTION
    return DONE


def _stored_source(store: Store, source: str | None, step: str) -> str:
    if step not in STEPS:
        raise SettingsError(f"--interval must be one of {', '.join(STEPS)}, found {step!r}", observed=step)
    stored = store.price_sources(step=step)
    if source is None and len(stored) == 1:
        return stored[0]
    if source not in stored:
        listed = ", ".join(map(repr, stored)) or "none"
        raise SettingsError(f"--source must be one that has {step} prices ({listed}), found {source!r}")
    return source


def _show(scenarios: Iterable[Scenario], *, as_json: bool) -> None:
    if as_json:
        print_json({"scenarios": [scenario.to_dict() for scenario in scenarios]})
        return
    for one in scenarios:
        drawn = "drawn    " if one.is_active else "not drawn"
        typer.echo(f"{one.probability:8.5f}  {drawn}  {one.name} ({one.source or 'no source'})")

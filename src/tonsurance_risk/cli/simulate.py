"""The commands ``tonsurance-risk simulate`` and ``stress``: losses of a vault without a database of prices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from tonsurance_risk.assets import check_known
from tonsurance_risk.cli.exit_codes import DONE
from tonsurance_risk.cli.options import AsJson, BookFile
from tonsurance_risk.cli.parts import opened, print_json, vault_of
from tonsurance_risk.core.scenarios import builtin_scenarios
from tonsurance_risk.core.simulation import MOST_SIMULATIONS, simulate_losses
from tonsurance_risk.core.stress import stress_test
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import MOST_SEED, Scenario
from tonsurance_risk.reporting.terminal import print_table

_MEASURES = ("expected_loss", "var_95", "var_99", "cvar_95", "cvar_99")

_Scenarios = Annotated[
    str | None, typer.Option("--db", help="Take the scenarios of this database; the built-in ones when not given.")
]


class Drawing(StrEnum):
    """Kinds of sampling."""

    STRATIFIED = "stratified"
    PLAIN = "plain"
    ANTITHETIC = "antithetic"
    SOBOL = "sobol"
    IMPORTANCE = "importance"


def simulate(
    vault: BookFile = None,
    db: _Scenarios = None,
    correlation: Annotated[
        Path | None,
        typer.Option(help="CSV file of the shocks' correlations, symbols in the first row and column."),
    ] = None,
    volatility: Annotated[
        Path | None,
        typer.Option(help="CSV file asset,volatility: standard deviation of the log ratio; 0 without."),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SIMULATIONS, help="Simulations, with --precision at most.  [default: 10000]"),
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="Go on until VaR 99 is known to so much of its value: 0.01.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the simulation.")] = 0,
    sampling: Annotated[Drawing, typer.Option(help="How scenarios and shocks are drawn.")] = Drawing.STRATIFIED,
    as_json: AsJson = False,
) -> int:
    """Simulate the losses of a vault over a year."""
    book = vault_of(vault)
    matrix = None if correlation is None else _matrix(correlation)
    sigma = None if volatility is None else _volatility(volatility)
    if matrix is not None:
        check_known(matrix.columns, book, "symbol of correlation")
    try:
        sample = simulate_losses(
            book,
            _scenarios(db),
            correlation=matrix,
            volatility=sigma,
            n=n,
            precision=precision,
            seed=seed,
            sampling=sampling.value,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    document = sample.to_dict() | {
        "probability_of_ruin": sample.probability_of_ruin(book.capital).to_dict(),
        "by_scenario": json_rows(sample.by_scenario().reset_index()),
        "contributions_99": {asset: one.to_dict() for asset, one in sample.contribution_estimates(0.99).items()},
    }
    if as_json:
        print_json(document)
        return DONE
    _print_sample(document)
    return DONE


def stress(vault: BookFile = None, db: _Scenarios = None, as_json: AsJson = False) -> int:
    """Show what a vault loses in each scenario, without shocks."""
    book = vault_of(vault)
    result = stress_test(book, _scenarios(db))
    if as_json:
        print_json(result.to_dict())
        return DONE
    losses = result.losses
    rows = {
        "scenario": losses.index,
        "loss": losses.map("{:,.2f}".format),
        "of capital": (losses / book.capital).map("{:.2%}".format),
    }
    print_table(pd.DataFrame(rows), "Stress test [USD]")
    typer.echo(f"worst: {result.worst_scenario}, {result.worst_loss:,.2f} USD")
    return DONE


def _scenarios(db: str | None) -> list[Scenario]:
    if db is None:
        return builtin_scenarios()
    with opened(db) as store:
        stored = store.load_scenarios()
    if not stored:
        raise SettingsError("--db: the database has no scenarios; leave it out for the built-in ones")
    return stored


def _table(file: Path, index: int | None = None) -> pd.DataFrame:
    try:
        return pd.read_csv(file, encoding="utf-8-sig", index_col=index)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}", observed=str(file)) from error
    except ValueError as error:
        raise SettingsError(f"{file} is no table: {error}", observed=str(file)) from error


def _matrix(file: Path) -> pd.DataFrame:
    table = _table(file, index=0)
    if not all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes):
        raise SettingsError(f"{file}: every cell beside the symbols must be a number", observed=str(file))
    return table


def _volatility(file: Path) -> dict[str, float]:
    table = _table(file)
    if list(table.columns) != ["asset", "volatility"] or not pd.api.types.is_numeric_dtype(table["volatility"]):
        found = ",".join(map(str, table.columns))
        raise SettingsError(f"{file} must have the columns asset,volatility, the second of numbers, found {found}")
    if table["asset"].duplicated().any():
        raise SettingsError(f"{file}: an asset comes more than once", observed=str(file))
    return dict(zip(table["asset"].astype(str), table["volatility"].astype(float), strict=True))


def _print_sample(document: dict[str, Any]) -> None:
    rows = []
    for name in (*_MEASURES, "probability_of_ruin"):
        estimate, form = document[name], "{:.4%}" if name == "probability_of_ruin" else "{:,.0f}"
        ends = [None if estimate[end] is None else form.format(estimate[end]) for end in ("value", "low", "high")]
        rows.append(dict(zip(("measure", "value", "low", "high"), [name.replace("_", " "), *ends], strict=True)))
    title = f"{document['n']:,} simulations, {document['sampling']}, seed {document['seed']} [USD], 95 % intervals"
    print_table(pd.DataFrame(rows), title)
    shown = [
        {
            "scenario": row["scenario"],
            "simulations": f"{row['simulations']:,}",
            "share": f"{row['share']:.2%}",
            **{name: None if row[name] is None else f"{row[name]:,.0f}" for name in ("expected_loss", "worst")},
        }
        for row in document["by_scenario"]
    ]
    print_table(pd.DataFrame(shown), "By scenario [USD]")

"""The summary of a report on the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.causes import causes

UNKNOWN_WIDTH, WIDE = 80, 240
"""Letters in a line of a file or a journal: what rich takes where nothing says, and what is taken instead."""
SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}


def plain(text: str) -> str:
    r"""Return text that rich prints as it is: without markup, with what a terminal acts on written out.

    Examples
    --------
    >>> print(plain("[bold]USD\x1b[2K"))
    \[bold]USD\x1b[2K
    """
    return escape(one_line(text))


def print_summary(document: Mapping[str, Any], console: Console) -> None:
    """Print the headline figures of a report document, its alerts and its recommendations."""
    inputs, portfolio = document["inputs"], document["portfolio_summary"]
    console.print(
        f"[bold]Risk report {document['report_date']}[/bold]  as of {document['as_of']}, "
        f"prices: {plain(inputs['source'])}, {inputs['step']}, "
        f"{inputs['rows']:,} rows, {len(inputs['assets'])} assets"
    )
    console.print(_portfolio_table(portfolio))
    console.print(_loss_table(document["var_analysis"], document["horizon_days"]))
    console.print(_stress_table(document["stress_test_results"], portfolio["total_capital_usd"]))
    events = document["depeg_events"]
    running = sorted({event["asset"] for event in events if event["is_open"]})
    below = sum(event["direction"] == "below" for event in events)
    console.print(
        f"Depeg events: {below} below the peg and {len(events) - below} above it in the data, "
        f"{document['historical_comparison']['new_depeg_events_7d']} new in 7 days, "
        f"open: {plain(', '.join(running)) or 'none'}"
    )
    if document["var_explanation"] is not None:
        console.print(_explanation_table(document["var_explanation"]))
    console.print(_message_table(document))


def _explanation_table(explanation: Mapping[str, Any]) -> Table:
    """Return the parts of the change of VaR 95, each with what is behind it."""
    change, behind = explanation["measures"]["var_95"], causes(explanation["drivers"])
    title = f"VaR 95 since the report of {explanation['since']} [USD]"
    table = Table("part", "change", "95 % interval", "what differs", title=title)
    for part, estimate in (*change["parts"].items(), ("change", change["change"])):
        ends = ["none" if estimate[end] is None else f"{estimate[end]:+,.0f}" for end in ("low", "high")]
        what = plain(behind.get(part, ""))
        table.add_row(part.replace("_", " "), f"{estimate['value']:+,.0f}", " to ".join(ends), what)
    return table


def _message_table(document: Mapping[str, Any]) -> Table:
    """Return alerts and advice in two columns, so that long messages wrap under themselves."""
    table = Table.grid("", "", padding=(0, 2))
    for alert in document["risk_alerts"]:
        style = SEVERITY_STYLES[alert["severity"]]
        table.add_row(f"[{style}]{alert['severity']}[/{style}]", plain(alert["message"]))
    for recommendation in document["recommendations"]:
        table.add_row("[green]advice[/green]", plain(recommendation["message"]))
    return table


def _portfolio_table(portfolio: Mapping[str, Any]) -> Table:
    table = Table("capital", "coverage", "policies", "LTV", "utilization", "diversification", title="Vault [USD]")
    table.add_row(
        f"{portfolio['total_capital_usd']:,.0f}",
        f"{portfolio['total_coverage_sold_usd']:,.0f}",
        f"{portfolio['active_policies_count']:,}",
        f"{portfolio['ltv_ratio']:.2%}",
        f"{portfolio['utilization_rate']:.2%}",
        f"{portfolio['diversification_score']:.3f}",
    )
    return table


def _loss_table(analysis: Mapping[str, Any], horizon_days: int) -> Table:
    title = f"Loss over {horizon_days} days [USD], {analysis['simulations']:,} simulations"
    table = Table("measure", "estimate", "95 % interval", "note", title=title)
    for name, label in (
        ("expected_loss", "expected loss"),
        ("var_95", "VaR 95"),
        ("cvar_95", "expected shortfall 95"),
        ("var_99", "VaR 99"),
        ("cvar_99", "expected shortfall 99"),
    ):
        estimate = analysis[name]
        ends = ["none" if estimate[end] is None else f"{estimate[end]:,.0f}" for end in ("low", "high")]
        table.add_row(label, f"{estimate['value']:,.0f}", " to ".join(ends), plain(estimate["note"]))
    ruin = analysis["probability_of_ruin"]
    table.add_row(
        "probability of ruin",
        f"{ruin['value']:.3%}",
        f"{ruin['low']:.3%} to {ruin['high']:.3%}",
        plain(ruin["note"]),
    )
    return table


def _stress_table(results: list[Mapping[str, Any]], capital: float) -> Table:
    table = Table("scenario", "loss", "of capital", title="Stress test [USD]")
    for result in results:
        table.add_row(plain(result["scenario"]), f"{result['loss']:,.0f}", f"{result['loss'] / capital:.1%}")
    return table


def print_table(table: pd.DataFrame, title: str) -> None:
    """Print a table as it is; figures, and what is in the first column, are not broken."""
    shown = Table(title=title, title_justify="left", collapse_padding=True)
    for column in table.columns:
        figures = all(re.fullmatch(r"[-+\d.,% h]*", str(value)) for value in table[column])
        whole = figures or column == table.columns[0]
        name = str(column).replace("_", " ")
        word = max(map(len, name.split()), default=0)
        justify: JustifyMethod = "right" if figures else "left"
        shown.add_column(name, overflow="fold", no_wrap=whole, justify=justify, min_width=word)
    for row in table.itertuples(index=False, name=None):
        shown.add_row(*("" if value is None else plain(str(value)) for value in row))
    console = Console()
    if not console.is_terminal and console.width == UNKNOWN_WIDTH:
        console.width = WIDE
    console.print(shown)

"""Correlations on the terminal, and as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.files import json_text, table_path, write_table
from tonsurance_risk.reporting.tables import csv_text, window_pairs
from tonsurance_risk.reporting.terminal import plain

PAIR_COLUMNS = (
    "window_days", "as_of", "asset_1", "asset_2", "correlation", "low", "high", "observations", "is_default",
    "risk_level", "without_influential", "influential_days", "without_depegs", "depeg_rows", "common_mode",
    "rests_on_few_days",
)  # fmt: skip
"""The columns of a CSV file of pairs, named as in the report."""
SHOWN = 12
"""So many pairs of a window, the strongest, are printed."""


def save_correlations(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a document with correlations: all of it as JSON, or the pairs alone as CSV, by the ending of the path.

    Raises
    ------
    SettingsError
        As `table_path`.
    StorageError
        If writing failed on the way; an older file of that name is intact then.
    """
    file = table_path(path)
    as_table = file.suffix.casefold() == ".csv"
    return write_table(file, csv_text(window_pairs(document), PAIR_COLUMNS) if as_table else json_text(document))


def print_correlations(document: Mapping[str, Any], console: Console) -> None:
    """Print the strongest pairs of each window, clusters, common mode, co-depegs and the regime change.

    The tables fit into 80 columns; all pairs and fields are in the file and in JSON.
    """
    for days, window in _windows(document).items():
        if window is None:
            _line(console, f"{days} days: {document['correlations'][f'{days}_reason']}")
            continue
        if not window["pairs"]:
            _line(console, f"{days} days: a single coin has no pair")
            continue
        console.print(_pair_table(days, window))
        groups = [" ".join(group) for group in window["clusters"] if len(group) > 1]
        _line(console, f"moving together: {', '.join(groups) or 'no group'}; {_common_mode(window)}")
    pairs = [pair for pair in document["co_depegs"] if pair["n_together"] or pair["n_opposite"]]
    if pairs:
        console.print(_co_depeg_table(pairs))
    else:
        _line(console, "no two coins were off peg at once")
    _line(console, _regime_line(document))
    for asset, message in document["failed"].items():
        _line(console, f"{asset} failed: {message}")


def _line(console: Console, text: str) -> None:
    console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)


def _windows(document: Mapping[str, Any]) -> dict[str, Any]:
    return {days: window for days, window in document["correlations"].items() if not days.endswith("_reason")}


def _pair_table(length: str, window: Mapping[str, Any]) -> Table:
    estimated = [pair for pair in window["pairs"] if not pair["is_default"]]
    strongest = sorted(estimated, key=lambda pair: -abs(pair["correlation"]))[:SHOWN]
    defaults = len(window["pairs"]) - len(estimated)
    title = (
        f"{length} days to {window['as_of'][:16].replace('T', ' ')}: {len(strongest)} strongest "
        f"of {len(estimated)} pairs" + (f", {defaults} by default" if defaults else "")
    )
    table = Table(title=title, padding=(0, 0, 0, 1))
    days = window.get("n_days", 5)
    for heading in ("pair", "r", "95 % interval", "rows", f"less {days} days", "less depegs", "rests on"):
        table.add_column(heading, no_wrap=heading != "pair", overflow="fold")
    for pair in strongest:
        table.add_row(
            plain(f"{pair['asset_1']} {pair['asset_2']}"),
            f"{pair['correlation']:.2f}",
            f"{pair['low']:.2f} to {pair['high']:.2f}",
            f"{pair['observations']}",
            _number(pair.get("without_influential")),
            _number(pair.get("without_depegs")),
            f"{len(pair['influential_days'])} day(s)" if pair.get("rests_on_few_days") else "",
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _common_mode(window: Mapping[str, Any]) -> str:
    share = window["common_mode_share"]
    if share is None:
        return str(window["common_mode_share_reason"])
    return f"one common mode explains {share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})"


def _co_depeg_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    most = sorted(pairs, key=lambda pair: -(pair["n_together"] + pair["n_opposite"]))[:SHOWN]
    table = Table(title="Off peg at once: episodes, rate a year", padding=(0, 0, 0, 1))
    for heading in ("pair", "episodes", "together", "opposite", "together a year"):
        table.add_column(heading, no_wrap=True)
    for pair in most:
        table.add_row(
            plain(f"{pair['asset_1']} {pair['asset_2']}"),
            str(pair["n_episodes"]),
            str(pair["n_together"]),
            str(pair["n_opposite"]),
            f"{pair['rate_together']:.2f} ({pair['rate_together_low']:.2f} to {pair['rate_together_high']:.2f})",
        )
    return table


def _regime_line(document: Mapping[str, Any]) -> str:
    change = document["regime_change"]
    if change is None:
        return f"regime change: {document['regime_change_reason']}"
    changed = sum(pair["significant"] for pair in change["pairs"])
    return (
        f"regime change: {'yes' if change['changed'] else 'no'} by the rule of the mean "
        f"({change['recent_mean']:.2f} in {change['recent_days']} days, {change['baseline_mean']:.2f} before); "
        f"p = {change['p_value']:.3g} that nothing changed, {changed} pair(s) changed"
    )

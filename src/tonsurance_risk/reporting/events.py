"""Depeg events as a file, complete or not at all, and on the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.files import json_text, table_path, write_table
from tonsurance_risk.reporting.tables import csv_text
from tonsurance_risk.reporting.terminal import plain

EVENT_COLUMNS = (
    "asset", "direction", "start", "end", "recovered_at", "min_price", "max_price", "severity", "n_observations",
    "cut_by_gap", "source", "confirmed", "local_to", "threshold", "recovery", "min_duration_seconds",
    "max_gap_seconds", "merge_within_seconds", "sample_span_seconds", "peg_reference", "duration_seconds",
    "recovery_time_seconds", "is_open",
)  # fmt: skip
"""The columns of a CSV file of events, named as in `DepegEvent.to_dict`."""


def save_events(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a document with events: all of it as JSON, or the events alone as CSV, by the ending of the path.

    Parameters
    ----------
    document : mapping
        In JSON types; ``document["events"]`` is a list of `DepegEvent.to_dict`.
    path : path
        A file .json, or .csv with a row an event, the columns `EVENT_COLUMNS` and nothing where there is no value.

    Raises
    ------
    SettingsError
        As `table_path`.
    StorageError
        If writing failed on the way; an older file of that name is intact then.
    """
    file = table_path(path)
    as_table = file.suffix.casefold() == ".csv"
    return write_table(file, csv_text(document["events"], EVENT_COLUMNS) if as_table else json_text(document))


def print_events(document: Mapping[str, Any], console: Console) -> None:
    """Print the events of a document as a table, with what was searched and what could not be.

    The table fits into 80 columns; all fields are in the file and in JSON.
    """
    assets, events = document["assets"], document["events"]
    samples = sum(asset["samples"] for asset in assets.values())
    table = Table(title=f"Depeg events: {plain(document['source'])}, {document['step']}", padding=(0, 0, 0, 1))
    for heading in ("asset", "side", "start (UTC)", "hours", "extreme", "severity", "then", "confirmed"):
        table.add_column(heading, no_wrap=heading != "confirmed", overflow="fold")
    for event in events:
        table.add_row(
            plain(event["asset"]),
            event["direction"],
            event["start"][:16].replace("T", " "),
            f"{event['duration_seconds'] / 3600.0:,.1f}".removesuffix(".0"),
            f"{event['min_price'] if event['direction'] == 'below' else event['max_price']:.4f}",
            f"{event['severity']:.2%}",
            "open" if event["is_open"] else "gap" if event["cut_by_gap"] else "back",
            _confirmation(event),
        )
    if events:
        console.print(table)
    rejected = document["rejected_samples"]
    checked = "not checked" if rejected is None else f"{rejected} rejected by the checks"
    lines = [f"{len(events)} event(s) in {samples:,} samples of {len(assets)} coin(s), {checked}"]
    lines += [f"{asset} failed: {message}" for asset, message in document["failed"].items()]
    not_read = [f"{name} ({reason})" for name, reason in document["not_read"].items()]
    if not_read:
        lines.append(f"{len(not_read)} file(s) not read: {', '.join(not_read)}")
    for line in lines:
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _confirmation(event: Mapping[str, Any]) -> str:
    """Return what other sources say of an event."""
    if event["confirmed"] is None:
        return "-"
    return "yes" if event["confirmed"] else f"local to {plain(str(event['local_to']))}"

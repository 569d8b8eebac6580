"""Rows in memory: a dictionary for a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import pandas as pd

from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage.records import Row, counted, outcome

Key: TypeAlias = tuple[Any, ...]


def put_rows(table: dict[Key, Row], rows: Iterable[Row], *key: str, ignored: Iterable[str] = ()) -> WriteResult:
    """Put rows into a table by their key; those that differ in `ignored` columns alone are unchanged."""
    outcomes = []
    for row in rows:
        place = tuple(row[name] for name in key)
        stored = table.get(place)
        compared = None if stored is None else _without(stored, ignored)
        outcomes.append(outcome(compared, _without(row, ignored)))
        if outcomes[-1] != "unchanged":
            table[place] = row
    return counted(outcomes)


def _without(row: Row, ignored: Iterable[str]) -> Row:
    return {name: value for name, value in row.items() if name not in ignored}


def inside(time: pd.Timestamp, low: pd.Timestamp | None, high: pd.Timestamp | None) -> bool:
    """Return whether an instant lies in ``[low, high)``."""
    return bool((low is None or low <= time) and (high is None or time < high))

"""Tables in JSON types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from tonsurance_risk.values import iso


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as a list of rows in JSON types: times as text, None for what is missing.

    Examples
    --------
    >>> since = pd.Timestamp("2024-01-01", tz="UTC")
    >>> json_rows(pd.DataFrame({"asset": ["DAI"], "rate": [pd.NA], "since": [since]}))
    [{'asset': 'DAI', 'rate': None, 'since': '2024-01-01T00:00:00Z'}]
    """
    return [{str(name): json_value(value) for name, value in row.items()} for row in table.to_dict("records")]


def json_value(value: Any) -> Any:
    """Return a cell in JSON types; a tuple of instants, which stand for days, as dates."""
    if isinstance(value, tuple):
        return [item.date().isoformat() if isinstance(item, datetime) else item for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    return iso(value) if isinstance(value, datetime) else value

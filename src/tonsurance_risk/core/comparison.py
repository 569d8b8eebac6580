"""Today against the days before: trends from stored snapshots, and a change of correlation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from tonsurance_risk.core.dependence import Dependence
from tonsurance_risk.core.prices import valid_index
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import DepegEvent
from tonsurance_risk.values import iso

TREND = timedelta(days=30)
GROWTH = timedelta(days=7)
SNAPSHOT_TOLERANCE = timedelta(days=3)
"""How much older than asked a snapshot may be, after missed runs."""
SNAPSHOT_COLUMNS = ("var_95", "capital", "coverage")


def valid_history(history: pd.DataFrame | None, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the snapshots before `as_of` that a comparison can need; none gives an empty table.

    Raises
    ------
    ValueError
        If a column is missing or the index is not of strictly increasing tz-aware times.
    """
    if history is None:
        empty = pd.DatetimeIndex([], tz="UTC")
        return pd.DataFrame({name: pd.Series(dtype=float) for name in SNAPSHOT_COLUMNS}, index=empty)
    missing = [name for name in SNAPSHOT_COLUMNS if name not in history.columns]
    if missing:
        raise ValueError(f"history must have the columns {list(SNAPSHOT_COLUMNS)}, missing {missing}")
    known = history.set_axis(valid_index(history.index, "history"))
    needed = (known.index >= as_of - TREND - SNAPSHOT_TOLERANCE) & (known.index < as_of)
    return known.loc[needed, list(SNAPSHOT_COLUMNS)]


def relative_change(
    history: pd.DataFrame, column: str, value: float, as_of: pd.Timestamp, age: timedelta
) -> float:
    """Return ``value / then - 1`` against the newest snapshot that is at least `age` old.

    Raises
    ------
    InsufficientDataError
        If there is no snapshot from `age` to 3 days more before `as_of`, or it is not positive.
    """
    then = history.loc[as_of - age - SNAPSHOT_TOLERANCE : as_of - age, column]
    if then.empty:
        raise InsufficientDataError(
            f"no snapshot from {iso(as_of - age - SNAPSHOT_TOLERANCE)} to {iso(as_of - age)}",
            time=as_of - age,
        )
    return _ratio(value, float(then.iloc[-1]), f"{column} at {iso(then.index[-1])}")


def change_against_mean(history: pd.DataFrame, column: str, value: float, as_of: pd.Timestamp) -> float:
    """Return ``value / mean - 1`` against the mean of the snapshots of the 30 days before.

    Raises
    ------
    InsufficientDataError
        If there is none, or the mean is not positive.
    """
    recent = history.loc[as_of - TREND :, column]
    if recent.empty:
        raise InsufficientDataError(f"no snapshot in the 30 days before {iso(as_of)}", time=as_of)
    return _ratio(value, float(recent.mean()), f"the mean {column} of {len(recent)} snapshot(s)")


def new_events(events: Iterable[DepegEvent], as_of: pd.Timestamp) -> int:
    """Return how many events began in the last 7 days."""
    return sum(as_of - GROWTH < event.start <= as_of for event in events)


def historical_comparison(
    *,
    history: pd.DataFrame,
    as_of: pd.Timestamp,
    var_95: float,
    capital: float,
    events: Iterable[DepegEvent],
    dependence: Dependence,
) -> dict[str, Any]:
    """Return the comparison section of a report; what cannot be computed is None with a reason beside it."""
    section: dict[str, Any] = {}
    computations = {
        "var_95_vs_30d_avg": lambda: change_against_mean(history, "var_95", var_95, as_of),
        "correlation_regime_change": lambda: _regime_change(dependence),
        "new_depeg_events_7d": lambda: new_events(events, as_of),
        "portfolio_growth_7d": lambda: relative_change(history, "capital", capital, as_of, GROWTH),
    }
    for name, compute in computations.items():
        section |= computed_or_reason(name, compute)
    return section


def _regime_change(dependence: Dependence) -> dict[str, Any]:
    if dependence.regime_change is None:
        raise InsufficientDataError(dependence.reasons["regime_change"])
    return dependence.regime_change.to_dict()


def computed_or_reason(name: str, compute: Any) -> dict[str, Any]:
    """Return ``{name: value}``, or None and ``{name}_reason`` when the data do not allow it."""
    try:
        return {name: compute()}
    except InsufficientDataError as error:
        return {name: None, f"{name}_reason": str(error)}


def _ratio(value: float, base: float, what: str) -> float:
    if not (np.isfinite(base) and base > 0.0):
        raise InsufficientDataError(f"{what} is {base:g}: no relative change", observed=base)
    return value / base - 1.0

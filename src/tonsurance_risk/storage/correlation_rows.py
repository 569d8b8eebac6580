"""Correlation matrices as rows: one an asset, with its place and observations, and one a pair. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd

from tonsurance_risk.core.bootstrap import BootstrapIntervals
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.ports import WriteResult
from tonsurance_risk.storage.instants import whole_microseconds
from tonsurance_risk.storage.records import Row, StoredRow, counted, outcome, place_of, storable
from tonsurance_risk.values import whole

_PAIR = ["asset_1", "asset_2", "correlation", "observations", "is_default"]
_MADE = ("n_resamples", "block_length", "seed")
_INTERVAL = ("low", "high", *_MADE)


MOST_DAYS = 10**9
"""Of a window: what a column of 4 bytes takes."""


def matrix_key(matrix: CorrelationMatrix, source: str, step: str) -> Row:
    """Return what a matrix is stored by.

    Raises
    ------
    ValueError
        If the matrix has no `window_days` or `as_of`, is of another method than "pearson", or could not be
        restored from its pairs.
    """
    if not isinstance(matrix, CorrelationMatrix):
        raise ValueError(f"matrices must be of the type CorrelationMatrix, found {type(matrix).__name__}")
    if matrix.window_days is None or matrix.as_of is None:
        raise ValueError(
            f"a matrix to store must have window_days and as_of, found {matrix.window_days} and {matrix.as_of}"
        )
    if matrix.method != "pearson":
        raise ValueError(f"a matrix to store must be of the method 'pearson', found {matrix.method!r}")
    if not matrix.assets:
        raise ValueError("a matrix to store must have assets, found none")
    for asset in matrix.assets:
        storable(asset, "an asset of a correlation matrix")
    for name in ("observations", "is_default"):
        values = getattr(matrix, name)
        if not np.array_equal(values, values.T):
            raise ValueError(f"{name} of a matrix to store must be symmetric")
    if matrix.is_default.diagonal().any():
        raise ValueError("the diagonal of a matrix to store must not be default")
    return {
        **place_of(source, step),
        "window_days": whole(matrix.window_days, "window_days", 1, MOST_DAYS),
        "as_of": whole_microseconds(matrix.as_of, "as_of"),
    }


def asset_rows(matrix: CorrelationMatrix) -> list[Row]:
    """Return a row an asset: its place in the matrix and how often it was observed."""
    observations = matrix.observations.diagonal().tolist()
    return [
        {"asset": asset, "position": position, "observations": observations[position]}
        for position, asset in enumerate(matrix.assets)
    ]


def pair_rows(matrix: CorrelationMatrix) -> list[Row]:
    """Return a row a pair, ``asset_1 < asset_2`` by code point, with the bootstrap interval where there is one."""
    if matrix.bootstrap is None:
        pairs = matrix.pairs()[_PAIR].to_dict("records")
        return [cast("Row", pair) | dict.fromkeys(_INTERVAL) for pair in pairs]
    made = {name: getattr(matrix.bootstrap, name) for name in _MADE}
    pairs = matrix.pairs(interval="bootstrap")[[*_PAIR, "low", "high"]].to_dict("records")
    return [cast("Row", pair) | made for pair in pairs]


def matrix_of(
    assets: Iterable[StoredRow],
    pairs: Iterable[StoredRow],
    window_days: int,
    as_of: pd.Timestamp,
) -> CorrelationMatrix:
    """Return the matrix of such rows, equal to the one that gave them."""
    ordered = sorted(assets, key=lambda row: int(row["position"]))
    place = {row["asset"]: position for position, row in enumerate(ordered)}
    values = np.eye(len(ordered))
    observations = np.diag(np.array([row["observations"] for row in ordered], dtype=np.int64))
    is_default = np.zeros(values.shape, dtype=bool)
    low, high = np.eye(len(ordered)), np.eye(len(ordered))
    made: dict[str, int] = {}
    for pair in pairs:
        i, j = place[pair["asset_1"]], place[pair["asset_2"]]
        values[i, j] = values[j, i] = pair["correlation"]
        observations[i, j] = observations[j, i] = pair["observations"]
        is_default[i, j] = is_default[j, i] = pair["is_default"]
        if pair["low"] is not None:
            low[i, j] = low[j, i] = pair["low"]
            high[i, j] = high[j, i] = pair["high"]
            made = {name: pair[name] for name in _MADE}
    bootstrap = BootstrapIntervals(low, high, **made) if made else None
    return CorrelationMatrix(
        tuple(place), values, observations, is_default, window_days, as_of, bootstrap=bootstrap
    )


def pair_changes(stored: CorrelationMatrix | None, given: CorrelationMatrix) -> WriteResult:
    """Return how many pairs of `given` are new, changed and unchanged against `stored`."""
    before = {} if stored is None else {_pair(row): row for row in pair_rows(stored)}
    return counted(outcome(before.get(_pair(row)), row) for row in pair_rows(given))


def _pair(row: Row) -> tuple[str, str]:
    return row["asset_1"], row["asset_2"]

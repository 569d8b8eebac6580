"""Hashes of contents, by which a report names what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def canonical_json(document: Mapping[str, Any], name: str = "the document") -> str:
    """Return `document` as JSON with sorted keys and no spaces, in ASCII.

    Raises
    ------
    ValueError
        If it is not a mapping, or holds NaN, an infinite number, a key that is not a string, or anything else
        that JSON has no form for.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"{name} must be a mapping, found {type(document).__name__}")
    try:
        encoded = json.dumps(dict(document), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON: {error}") from error
    _refuse_other_keys(dict(document), name)
    return encoded


def _refuse_other_keys(value: object, name: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{name} must be JSON: its keys must be strings, found {key!r}")
            _refuse_other_keys(inner, name)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _refuse_other_keys(inner, name)


def content_hash(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 in hex of `canonical_json`."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def prices_hash(prices: pd.DataFrame) -> str:
    """Return the SHA-256 in hex of symbols, UTC nanoseconds and prices, with one bit pattern for NaN."""
    digest = hashlib.sha256(canonical_json({"assets": list(prices.columns)}).encode())
    digest.update(pd.DatetimeIndex(prices.index).as_unit("ns").asi8.astype("<i8").tobytes())
    values = prices.to_numpy(dtype=np.float64, copy=True)
    values[np.isnan(values)] = np.nan
    digest.update(values.astype("<f8").tobytes())
    return digest.hexdigest()

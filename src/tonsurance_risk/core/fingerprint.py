"""Hashes of contents, by which a report names what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def canonical_json(document: Mapping[str, Any]) -> str:
    """Return a document as JSON with sorted keys and no spaces; a `ValueError` when it holds a NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


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

"""Hashes and cells: what has no form in JSON is refused, what is not there is null."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.core.fingerprint import canonical_json, content_hash
from tonsurance_risk.core.tables import json_value


def test_keys_are_sorted_and_the_hash_is_that_of_the_text():
    """Whatever the order of the keys, also of inner ones."""
    one, other = {"b": [{"y": 1, "x": "é"}], "a": (1.5,)}, {"a": [1.5], "b": [{"x": "é", "y": 1}]}

    assert '{"a":[1.5],"b":[{"x":"\\u00e9","y":1}]}' == canonical_json(one) == canonical_json(other)
    assert hashlib.sha256(canonical_json(one).encode()).hexdigest() == content_hash(other)
    assert {"a": [1.5], "b": [{"x": "é", "y": 1}]} == json.loads(canonical_json(one))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "the book must be a mapping, found list"),
        ({"a": float("nan")}, "the book must be JSON: "),
        ({"a": {1, 2}}, "the book must be JSON: "),
        ({"a": 1, 2: 3}, "the book must be JSON: "),
        ({"a": [({1: 2},)]}, "the book must be JSON: its keys must be strings, found 1"),
    ],
)
def test_what_is_no_document(document, message):
    """An error that names it."""
    with pytest.raises(ValueError, match=f"^{message}"):
        canonical_json(document, "the book")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (None, None),
        (pd.NA, None),
        (pd.NaT, None),
        (float("nan"), None),
        (np.float64("nan"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ("x", "x"),
        (datetime(2024, 3, 1, 12, tzinfo=UTC), "2024-03-01T12:00:00Z"),
        ((datetime(2024, 3, 1, tzinfo=UTC), "other"), ["2024-03-01", "other"]),
    ],
)
def test_cells_as_json(cell, expected):
    """Missing ones of any kind are null; numbers are those of Python."""
    value = json_value(cell)

    assert expected == value
    assert type(expected) is type(value)

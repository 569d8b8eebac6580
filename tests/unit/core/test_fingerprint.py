"""Hashes and cells: what has no form in JSON is refused, what is not there is null."""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.core.fingerprint import canonical_json, content_hash, prices_hash
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


class TestPrices:
    """The hash of a frame of prices."""

    PRICES = pd.DataFrame(
        {"DAI": [1.0, float("nan")], "USDC": [0.99, 1.01]},
        index=pd.DatetimeIndex(["1970-01-01", "1970-01-02"], tz="UTC"),
    )

    def test_is_of_symbols_times_and_prices_byte_by_byte(self):
        """Nanoseconds and prices row by row, little-endian; NaN is quiet, without sign and payload."""
        not_a_number = bytes.fromhex("000000000000f87f")
        text = (
            b'{"assets":["DAI","USDC"]}'
            + struct.pack("<qq", 0, 86_400 * 10**9)
            + struct.pack("<dd", 1.0, 0.99)
            + not_a_number
            + struct.pack("<d", 1.01)
        )

        assert hashlib.sha256(text).hexdigest() == prices_hash(self.PRICES)

    def test_does_not_depend_on_how_they_are_held(self):
        """The resolution and zone of the index, the bits of NaN, the order in memory."""
        other = self.PRICES.tz_convert("Asia/Tokyo")
        other.index = other.index.as_unit("s")
        values = other.to_numpy().copy(order="F")
        values[1, 0] = struct.unpack("<d", bytes.fromhex("010000000000f8ff"))[0]

        held = pd.DataFrame(values, index=other.index, columns=other.columns)
        assert prices_hash(self.PRICES) == prices_hash(held)

    @pytest.mark.parametrize(
        "other",
        [
            PRICES.rename(columns={"DAI": "GHO"}),
            PRICES[["USDC", "DAI"]],
            PRICES.shift(freq="ns"),
            PRICES.replace(1.01, np.nextafter(1.01, 2.0)),
            PRICES.fillna(1.0),
            PRICES.iloc[:1],
        ],
    )
    def test_is_another_for_other_prices(self, other):
        """A name, an order, a nanosecond, a bit, a price that is there, a row."""
        assert prices_hash(other) != prices_hash(self.PRICES)

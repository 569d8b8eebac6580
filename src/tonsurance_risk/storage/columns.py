"""The types and checks of columns, the same on every database.

Times are whole microseconds since 1970-01-01 UTC and durations whole microseconds, both as integers: exact,
small, and ordered as numbers on every database. Text compares by code point.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

import pandas as pd
from sqlalchemy import BigInteger, CheckConstraint, Column, Dialect, Double, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from tonsurance_risk.storage.instants import (
    duration_of_microseconds,
    duration_to_microseconds,
    time_of_microseconds,
    time_to_microseconds,
)

LARGEST = sys.float_info.max
ByCodePoint = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that compares by code point whatever the locale, as SQLite's does."""
Identity = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database gives; SQLite gives one to INTEGER only."""


class UtcTime(TypeDecorator[pd.Timestamp]):
    """An instant as whole microseconds since 1970-01-01 UTC; a naive one is an `InvalidPriceError`."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the integer that stands for an instant."""
        return None if value is None else time_to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> pd.Timestamp | None:  # noqa: ARG002
        """Return the instant of an integer."""
        return None if value is None else time_of_microseconds(value)


class Duration(TypeDecorator[timedelta]):
    """A duration as whole microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the integer that stands for a duration."""
        return None if value is None else duration_to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        """Return the duration of an integer."""
        return None if value is None else duration_of_microseconds(value)


def key(name: str, kind: TypeEngine[str] | type[UtcTime] | type[Integer] = ByCodePoint) -> Column[object]:
    """Return a part of a primary key."""
    return Column(name, kind, primary_key=True, nullable=False)


def words(name: str, *, optional: bool = False) -> Column[str]:
    """Return a column of text."""
    return Column(name, ByCodePoint, nullable=optional)


def number(name: str) -> Column[float]:
    """Return a column of floats that are there."""
    return Column(name, Double, nullable=False)


def positive(column: str) -> CheckConstraint:
    """Return the check that a column is a positive number."""
    # Text, NaN and infinity compare above every number, so the upper bound keeps them out as well.
    return CheckConstraint(f"{column} > 0 AND {column} <= {LARGEST!r}", name=f"{column}_is_positive")


def between(column: str, low: float = -LARGEST, high: float = LARGEST) -> CheckConstraint:
    """Return the check that a column is null or a number from `low` to `high`."""
    return CheckConstraint(f'"{column}" >= {low!r} AND "{column}" <= {high!r}', name=f"{column}_is_a_number")

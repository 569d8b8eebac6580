"""Parts of the answers of exchanges: what they must be, and one error that says where they are not."""

from __future__ import annotations

import re
from typing import Any

from tonsurance_risk.errors import PayloadError

_DECIMAL = re.compile(r"\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_SHOWN = 100


def listed(value: Any, where: str, length: int | None = None) -> list[Any]:
    """Return `value` if it is a list, of at least `length` members where that is given.

    Raises
    ------
    PayloadError
        Naming `where`.
    """
    if not isinstance(value, list) or len(value) < (length or 0):
        wanted = "a list" if length is None else f"a list of at least {length}"
        raise PayloadError(f"{where} must be {wanted}, found {shown(value)}")
    return value


def mapped(value: Any, where: str, *fields: str) -> dict[str, Any]:
    """Return `value` if it is an object that has `fields`.

    Raises
    ------
    PayloadError
        Naming `where` and the field that is missing.
    """
    if not isinstance(value, dict):
        raise PayloadError(f"{where} must be an object, found {shown(value)}")
    for field in fields:
        if field not in value:
            raise PayloadError(f"{where} must have {field!r}, found {shown(sorted(value))}", required=field)
    return value


def whole_number(value: Any, where: str) -> int:
    """Return `value` if it is a whole number and not a truth value.

    Raises
    ------
    PayloadError
        Naming `where`.
    """
    if type(value) is not int:
        raise PayloadError(f"{where} must be a whole number, found {shown(value)}")
    return value


def number(value: Any, where: str) -> float:
    """Return `value` as a float if it is a number and not a truth value.

    Raises
    ------
    PayloadError
        Naming `where`.
    """
    if type(value) not in (int, float):
        raise PayloadError(f"{where} must be a number, found {shown(value)}")
    return float(value)


def decimal_text(value: Any, where: str) -> float:
    """Return the number that a text says, as exchanges write prices.

    Raises
    ------
    PayloadError
        Naming `where`.

    Examples
    --------
    >>> decimal_text("0.99985000", "row 3")
    0.99985
    """
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise PayloadError(f"{where} must be a text such as '0.9998', found {shown(value)}")
    return float(value)


def shown(value: Any) -> str:
    """Return the beginning of `value` for a message."""
    return f"{type(value).__name__} {str(value)[:_SHOWN]!r}"

"""Parts of the answers of exchanges: what they must be, and one error that says where they are not."""

from __future__ import annotations

import operator
import re
import reprlib
from collections.abc import Iterable
from typing import Any

from tonsurance_risk.errors import PayloadError

_DECIMAL = re.compile(r"\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_DECIMALS = re.compile(rf"{_DECIMAL.pattern}(?:\n{_DECIMAL.pattern})*", re.ASCII)
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxlong = 3, 4, 4, 60, 40


def listed(value: Any, where: str) -> list[Any]:
    """Return `value` if it is a list, else a `PayloadError` that names `where`."""
    if not isinstance(value, list):
        raise PayloadError(f"{where} must be a list, found {shown(value)}")
    return value


def mapped(value: Any, where: str, *fields: str) -> dict[str, Any]:
    """Return `value` if it is an object that has `fields`, else a `PayloadError` naming `where` and the field."""
    if not isinstance(value, dict):
        raise PayloadError(f"{where} must be an object, found {shown(value)}")
    for field in fields:
        if field not in value:
            raise PayloadError(f"{where} must have {field!r}, found {shown(sorted(value))}", required=field)
    return value


def columns(value: Any, where: str, *places: int) -> list[list[Any]]:
    """Return columns of a list of rows, each a list.

    Raises
    ------
    PayloadError
        If it is something else, or a row is too short; it is named.

    Examples
    --------
    >>> columns([[7, "a", 0.5], [8, "b", 0.6]], "rows", 0, 2)
    [[7, 8], [0.5, 0.6]]
    """
    rows = listed(value, where)
    shortest = max(places) + 1
    if set(map(type, rows)) <= {list} and min(map(len, rows), default=shortest) >= shortest:
        return _transposed(rows, places)
    at = next(at for at, row in enumerate(rows) if not isinstance(row, list) or len(row) < shortest)
    raise PayloadError(f"{where}[{at}] must be a list of at least {shortest}, found {shown(rows[at])}")


def fields_of(value: Any, where: str, *fields: str) -> list[list[Any]]:
    """Return fields of a list of objects, each as a column.

    Raises
    ------
    PayloadError
        If it is something else, or an object lacks a field; it is named.

    Examples
    --------
    >>> fields_of([{"date": 7, "tvl": 1.5}, {"date": 8, "tvl": 1.6}], "rows", "date", "tvl")
    [[7, 8], [1.5, 1.6]]
    """
    rows = listed(value, where)
    try:
        return _transposed(rows, fields)
    except (KeyError, TypeError):
        for at, row in enumerate(rows):
            mapped(row, f"{where}[{at}]", *fields)
        raise


def _transposed(rows: list[Any], keys: tuple[Any, ...]) -> list[list[Any]]:
    return [list(map(operator.itemgetter(key), rows)) for key in keys]


def whole_numbers(values: Iterable[Any], where: str) -> list[int]:
    """Return `values` if they are whole numbers, no truth values, else a `PayloadError` naming the first other."""
    return _of_types(values, {int}, "a whole number", where)


def numbers(values: Iterable[Any], where: str, *, null: bool = False) -> list[Any]:
    """Return `values` if they are numbers, or None where `null`, else a `PayloadError` naming the first other."""
    return _of_types(values, {int, float, type(None)} if null else {int, float}, "a number", where)


def decimal_texts(values: Iterable[Any], where: str) -> list[float]:
    """Return the numbers that texts say, as exchanges write prices.

    Raises
    ------
    PayloadError
        Naming the first that is something else.

    Examples
    --------
    >>> decimal_texts(["0.99985000", "1"], "closes")
    [0.99985, 1.0]
    """
    what = "a text such as '0.9998'"
    texts = _of_types(values, {str}, what, where)
    lines = "\n".join(texts)  # one search over all is three times as fast as one each
    if lines.count("\n") != max(len(texts) - 1, 0) or (texts and not _DECIMALS.fullmatch(lines)):
        at = next(at for at, said in enumerate(texts) if not _DECIMAL.fullmatch(said))
        raise PayloadError(f"{where}[{at}] must be {what}, found {shown(texts[at])}")
    return list(map(float, texts))


def _of_types(values: Iterable[Any], accepted: set[type], what: str, where: str) -> list[Any]:
    kept = list(values)
    if not set(map(type, kept)) <= accepted:
        at = next(at for at, value in enumerate(kept) if type(value) not in accepted)
        raise PayloadError(f"{where}[{at}] must be {what}, found {shown(kept[at])}")
    return kept


def shown(value: Any) -> str:
    """Return the beginning of `value` for a message, however large it is.

    Examples
    --------
    >>> shown(list(range(1000)))
    'list [0, 1, 2, 3, ...]'
    """
    return f"{type(value).__name__} {_SHORT.repr(value)}"

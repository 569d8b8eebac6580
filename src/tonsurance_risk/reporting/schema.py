"""The JSON Schema of the report document, in the file beside this one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Any

_SHOWN = 100
"""So many characters are shown of both ends of a message that may hold a whole document."""


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what `RiskReport.to_dict` gives.

    Returns
    -------
    dict
        In JSON types. Every number has an annotation ``unit`` of our own; "1" is a fraction or ratio.

    Notes
    -----
    It knows every key of this version and refuses others, so that nothing is written that it does not describe.
    A program that reads documents of later software of the same ``schema_version`` leaves alone what it does not
    know.

    Examples
    --------
    >>> report_schema()["properties"]["portfolio_summary"]["properties"]["ltv_ratio"]["unit"]
    '1'
    """
    file = resources.files("tonsurance_risk.reporting").joinpath("risk_report.schema.json")
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def schema_fault(document: Any) -> str | None:
    """Return where a document in JSON types first breaks the schema, and how; None where it does not.

    Examples
    --------
    >>> schema_fault([])
    "$: [] is not of type 'object'"
    """
    import jsonschema  # here, because it takes a while and few commands read files

    formats = jsonschema.FormatChecker(("date",))
    formats.checks("date-time", raises=(ValueError, OverflowError))(_is_instant)
    validator = jsonschema.Draft202012Validator(report_schema(), format_checker=formats)
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    except RecursionError:
        return "$: nested too deeply"
    return None if error is None else f"{error.json_path}: {_shortened(error.message)}"


def _is_instant(value: object) -> bool:
    """Return whether text, if it is that, is an instant that pandas can count the years around."""
    return not isinstance(value, str) or 1900 <= datetime.fromisoformat(value).astimezone(UTC).year <= 2200


def _shortened(message: str) -> str:
    """Return a message without the middle, which is the value that was found."""
    return message if len(message) <= 2 * _SHOWN else f"{message[:_SHOWN]}...{message[-_SHOWN:]}"

"""The JSON Schema of the report document, in the file beside this one."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


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

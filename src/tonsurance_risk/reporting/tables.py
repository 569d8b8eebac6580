"""The tables of a report as CSV files whose cells a spreadsheet takes for what they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from tonsurance_risk.reporting.files import report_path, writable_folder, write_table
from tonsurance_risk.reporting.schema import report_schema

_Document: TypeAlias = Mapping[str, Any]
_Row: TypeAlias = dict[str, Any]

FORMULA_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
"""With what a spreadsheet begins a formula; the last four are full-width forms.

OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""
_DANGER = re.compile(rf'^(?=[\t\r\n])|(?:^|(?<=[;|\t\r\n]))(?=[ "]*[{re.escape(FORMULA_SIGNS)}])')
"""Where a cell begins a formula, loses its beginning, or begins one once a spreadsheet splits at another separator
than the comma: quotes do not hold then."""
_QUOTED = frozenset(',;"\t\r\n|')


def csv_text(rows: Iterable[_Row], columns: Sequence[str]) -> str:
    """Return rows as CSV with a header; nothing where a row has no value.

    Parameters
    ----------
    rows : iterable of dict
        In JSON types; lists become words with spaces between. Keys that are no column are left out.
    columns : sequence of str
        In this order.

    Notes
    -----
    Numbers are written so that they are read back to the last bit. Where a spreadsheet would take text for a
    formula it gets an apostrophe; what holds any usual separator stands in quotes.

    Examples
    --------
    >>> print(csv_text([{"asset": "=1+1", "loss": -0.1, "note": None}], ["asset", "loss", "note"]), end="")
    asset,loss,note
    '=1+1,-0.1,
    """
    lines = [columns, *([row.get(column) for column in columns] for row in rows)]
    return "".join(",".join(map(_cell, line)) + "\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, int)):
        return str(value)
    if isinstance(value, float):
        return float.__repr__(value)
    words = value if isinstance(value, list) else [value]
    content = _DANGER.sub("'", " ".join(words))  # a TypeError for what is no text
    return f'"{content.replace(chr(34), 2 * chr(34))}"' if _QUOTED.intersection(content) else content


@attrs.frozen
class _Table:
    """The rows of a table, and the columns: some of its own, and those of a record of the schema."""

    rows: Callable[[_Document], Iterable[_Row]]
    record: str | None = None
    first: tuple[str, ...] = ()

    def columns(self, records: Mapping[str, Any]) -> list[str]:
        return [*self.first, *(records[self.record]["properties"] if self.record else ())]


def report_tables(document: _Document) -> dict[str, str]:
    """Return every table of a report document as CSV, by name; one without rows is a header."""
    records = report_schema()["$defs"]
    return {name: csv_text(table.rows(document), table.columns(records)) for name, table in _TABLES.items()}


def save_tables(document: _Document, directory: str | os.PathLike[str]) -> list[Path]:
    """Write every table of a report document as ``risk_report_YYYY-MM-DD.TABLE.csv`` and return the paths.

    Raises
    ------
    SettingsError
        If the folder cannot be written to, or `report_date` is no date.
    StorageError
        If writing failed on the way; older files are intact or complete then.
    """
    path, tables = report_path(directory, document.get("report_date"), "csv"), report_tables(document)
    writable_folder(directory)
    return [write_table(path.with_suffix(f".{name}.csv"), content) for name, content in tables.items()]


def window_pairs(document: _Document, of: str = "pairs") -> list[_Row]:
    """Return the pairs of every window of a document with correlations, with the window."""
    windows = [window for days, window in document["correlations"].items() if days.isdecimal()]
    return [
        {"window_days": window["window_days"], "as_of": window["as_of"]} | pair
        for window in windows
        if window is not None
        for pair in window[of]
    ]


def _by(key: str, table: Mapping[str, _Row]) -> list[_Row]:
    return [{key: name} | row for name, row in table.items()]


def _values(key: str, column: str, table: Mapping[str, Any]) -> list[_Row]:
    return [{key: name, column: value} for name, value in table.items()]


def _estimates(document: _Document) -> list[_Row]:
    found = document["var_analysis"].items()
    return _by("measure", {name: value for name, value in found if isinstance(value, dict)})


def _histogram(document: _Document) -> list[_Row]:
    bins = document["chart_data"]["loss_histogram"]
    ends = zip(bins["edges"], bins["edges"][1:], bins["counts"], strict=False)
    return [{"from_usd": low, "to_usd": high, "simulations": count} for low, high, count in ends]


def _volatility(document: _Document) -> list[_Row]:
    assumed = document["inputs"]["fallback_volatility"]
    rows = _values("asset", "volatility", document["inputs"]["volatility"])
    return [row | {"is_fallback": row["asset"] in assumed} for row in rows]


def _regime_pairs(document: _Document) -> list[_Row]:
    change = document["historical_comparison"]["correlation_regime_change"]
    return [] if change is None else change["pairs"]


def _remedies(document: _Document) -> list[_Row]:
    """Return a row for each amount that a remedy changes; several of one remedy belong together."""
    return [
        {"rule": one["rule"], "remedy": number, "quantity": quantity, "asset": asset, "change_usd": change}
        for one in document["recommendations"]
        for number, remedy in enumerate(one["remedies"], start=1)
        for quantity, changes in remedy.items()
        for asset, change in (changes if isinstance(changes, dict) else {None: changes}).items()
        if change
    ]


def _explanation(document: _Document) -> list[_Row]:
    found = document["var_explanation"]
    return [
        {"measure": measure, "part": part} | estimate
        for measure, change in ({} if found is None else found["measures"]).items()
        for part, estimate in (*change["parts"].items(), ("change", change["change"]))
    ]


def _drivers(document: _Document, part: str) -> Any:
    found = document["var_explanation"]
    return {} if found is None else found["drivers"][part]


_TABLES = {
    "portfolio": _Table(lambda d: _values("measure", "value", d["portfolio_summary"]), first=("measure", "value")),
    "estimates": _Table(_estimates, "estimate", ("measure",)),
    "scenario_shares": _Table(lambda d: d["var_analysis"]["scenario_shares"], "scenario_share"),
    "stress": _Table(lambda d: d["stress_test_results"], "stress_result"),
    "contributions": _Table(
        lambda d: _by("asset", d["chart_data"]["expected_shortfall_99_contributions"]), "estimate", ("asset",)
    ),
    "exceedance_curve": _Table(lambda d: d["chart_data"]["exceedance_curve"], "exceedance_point"),
    "loss_histogram": _Table(_histogram, first=("from_usd", "to_usd", "simulations")),
    "events": _Table(lambda d: d["depeg_events"], "depeg_event"),
    "correlation_pairs": _Table(window_pairs, "pair", ("window_days", "as_of")),
    "strong_pairs": _Table(lambda d: window_pairs(d, "strong_pairs"), "strong_pair", ("window_days", "as_of")),
    "contagion": _Table(lambda d: d["contagion"], "pair"),
    "co_depegs": _Table(lambda d: d["co_depegs"], "co_depeg"),
    "tail_dependence": _Table(lambda d: d["tail_dependence"], "tail_pair"),
    "regime_change_pairs": _Table(_regime_pairs, "regime_pair"),
    "correlation_repair": _Table(lambda d: d["inputs"]["correlation_repair"]["changes"], "repair_change"),
    "prices": _Table(lambda d: _by("asset", d["inputs"]["assets"]), "input_asset", ("asset",)),
    "other_sources": _Table(lambda d: d["inputs"]["other_sources"], "other_source"),
    "volatility": _Table(_volatility, first=("asset", "volatility", "is_fallback")),
    "checks": _Table(lambda d: d["data_quality"]["checks"], "check"),
    "findings": _Table(lambda d: d["data_quality"]["findings"], "finding"),
    "quality_scores": _Table(
        lambda d: _values("asset", "score", d["data_quality"]["scores"]), first=("asset", "score")
    ),
    "without_prices": _Table(lambda d: d["data_quality"]["without_prices"], "without_prices"),
    "failed_to_fetch": _Table(
        lambda d: _values("asset", "error", d["data_quality"].get("failed_to_fetch", {})), first=("asset", "error")
    ),
    "alerts": _Table(lambda d: d["risk_alerts"], "alert"),
    "open_alerts": _Table(lambda d: d["open_alerts"], "open_alert"),
    "alert_changes": _Table(lambda d: d["alert_changes"], "alert_change"),
    "recommendations": _Table(lambda d: d["recommendations"], first=("rule", "message", "value")),
    "remedies": _Table(_remedies, first=("rule", "remedy", "quantity", "asset", "change_usd")),
    "clearings": _Table(
        lambda d: [{"rule": one["rule"]} | bound for one in d["recommendations"] for bound in one["clears_at"]],
        "clearing",
        ("rule",),
    ),
    "explanation": _Table(_explanation, "estimate", ("measure", "part")),
    "coverage_changes": _Table(lambda d: _drivers(d, "vault").get("coverage_by_asset", []), "coverage_change"),
    "volatility_changes": _Table(lambda d: _drivers(d, "prices_and_volatility"), "volatility_change"),
    "correlation_changes": _Table(lambda d: _drivers(d, "correlations"), "correlation_change"),
    "scenario_changes": _Table(lambda d: _drivers(d, "scenarios"), "scenario_change"),
}

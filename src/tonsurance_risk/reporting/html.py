"""The report as one page of HTML that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tonsurance_risk.core.portfolio import coverage_by_asset
from tonsurance_risk.errors import SettingsError, StorageError
from tonsurance_risk.redaction import one_line
from tonsurance_risk.report import RiskReport
from tonsurance_risk.reporting.causes import causes
from tonsurance_risk.reporting.charts import report_charts
from tonsurance_risk.reporting.files import replace_file, report_path

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_NEEDS = ("jinja2", "matplotlib")
_LONGEST_NAME, _LONGEST_MESSAGE, _LONGEST_WORD = 60, 400, 12
_MEASURES = {
    "var_95": "value at risk 95 %",
    "var_99": "value at risk 99 %",
    "cvar_95": "expected shortfall 95 %",
    "cvar_99": "expected shortfall 99 %",
}
MOST_ROWS = 50
"""Of a table; the JSON has all."""
_PERCENT_RULES = ("ltv", "var_95_trend_30d", "worst_stress")
_UNITS = {
    "diversification": "on a scale from 0 to 1",
    "contagion": "correlation",
    "open_depeg": "of the peg",
    "open_premium": "of the peg",
    "covered_without_prices": "observations",
    "held_without_prices": "observations",
    "stale_data": "hours",
}
"""What value and threshold of an alert are counted in, by rule; `_PERCENT_RULES` are shares."""


def render_html(report: RiskReport, *, document: Mapping[str, Any] | None = None) -> str:
    """Return a report as one self-contained page of HTML, for any screen, light or dark, and paper.

    Parameters
    ----------
    report : RiskReport
        Of `assess`.
    document : mapping, optional
        What `RiskReport.to_dict` gives, where it holds more than the report knows, as that of `run_daily` does:
        assets that failed, for example.

    Returns
    -------
    str
        The page; it loads nothing and runs no script. Equal reports give equal pages, but for the time at which
        they were made, on one version of matplotlib.

    Raises
    ------
    SettingsError
        If jinja2 or matplotlib, the extra `report`, is not installed.

    Notes
    -----
    Names of assets, scenarios and policies may hold anything: they are escaped, shown in their own direction with
    what is invisible in them written out, and long ones are folded.

    Examples
    --------
    >>> import tonsurance_risk as tr
    >>> days = pd.date_range("2024-01-01", periods=60, tz="UTC")
    >>> rng = np.random.default_rng(0)
    >>> prices = pd.DataFrame(np.exp(rng.normal(0, 1e-3, (60, 2))), index=days, columns=["DAI", "USDC"])
    >>> vault = tr.Vault(1e6, [tr.Policy("P1", "USDC", 2e5, trigger_price=0.97, floor_price=0.8)])
    >>> report = tr.assess(prices, vault, as_of=days[-1], step="1d", generated_at=days[-1], n=1_000)
    >>> page = tr.render_html(report)
    >>> page.startswith("<!DOCTYPE html>"), page.count("<svg"), "<script" in page
    (True, 6, False)
    """
    check_html()
    shown = report.to_dict() if document is None else document
    parts = shown["chart_data"]["expected_shortfall_99_contributions"]
    charts = report_charts(report, {asset: part["value"] for asset, part in parts.items()})
    prices = [chart for name, chart in charts.items() if name.startswith("price-")]
    coverage = coverage_by_asset(report.vault)
    return (
        _environment()
        .get_template("report.html")
        .render(d=shown, charts=charts, prices=prices, parts=parts, coverage=coverage, most_rows=MOST_ROWS)
    )


def save_html(report: RiskReport, directory: str | os.PathLike[str], *, document: Mapping[str, Any]) -> Path:
    """Write a report as ``risk_report_YYYY-MM-DD.html`` beside its JSON and return the path.

    Raises
    ------
    StorageError
        If it could not be written.

    Notes
    -----
    Complete or not at all. When it fails, whyever, an older page of that name is gone: it would not be of the JSON
    beside it.
    """
    path = report_path(directory, document["report_date"], "html")
    try:
        replace_file(path, render_html(report, document=document))
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise StorageError(f"the page {path} could not be written: {error.strerror}") from error
        raise
    return path


def check_html() -> None:
    """Raise `SettingsError` when what pages need is not installed."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"HTML needs {' and '.join(missing)}: install the extra with pip install 'tonsurance-risk[report]'"
        )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tonsurance_risk.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "usd": _usd,
        "percent": _percent,
        "when": _when,
        "duration": _duration,
        "name": _name,
        "message": _message,
        "causes": causes,
        "interval": _interval,
        "measure": lambda name: _MEASURES.get(name, name),
        "range": _range,
        "signed": lambda amount: f"{'+' if amount > 0.0 else ''}{_usd(amount)}",
        "of_rule": _of_rule,
        "spaced": lambda text: str(text).replace("_", " "),
    }
    return environment


def _usd(amount: float) -> str:
    digits = 0 if abs(amount) >= 100.0 or amount == 0.0 else 2
    return f"{amount:,.{digits}f}\N{NO-BREAK SPACE}USD"


def _percent(share: float, digits: int = 2) -> str:
    return f"{100.0 * share:,.{digits}f}\N{NO-BREAK SPACE}%"


def _when(instant: str) -> Markup:
    """Return a time of a document as an element; midnight is left out."""
    from markupsafe import Markup

    time = pd.Timestamp(instant)
    shown = f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M} UTC"
    # HTML allows three digits of a second; nobody needs them here.
    return Markup('<time datetime="{}">{}</time>').format(f"{time:%Y-%m-%dT%H:%M:%SZ}", shown)


def _duration(seconds: float) -> str:
    """Return seconds in the largest unit that suits.

    Examples
    --------
    >>> [_duration(seconds) for seconds in (0.0, 5400.0, 259_200.0)]
    ['0 h', '1.5 h', '3 d']
    """
    days = timedelta(seconds=seconds) / timedelta(days=1)
    return f"{days:.3g} d" if days >= 2.0 else f"{24.0 * days:.3g} h"


def _name(text: object) -> Markup:
    return _folded(str(text), _LONGEST_NAME)


def _message(text: object) -> Markup:
    return _folded(str(text), _LONGEST_MESSAGE)


def _folded(text: str, longest: int) -> Markup:
    """Return text with a direction of its own, and what is invisible in it written out; a long one unfolds."""
    from markupsafe import Markup

    shown = one_line(text)
    # A table would rather break its words than be wide, so only what has no other place may be broken anywhere.
    kind = "long" if max(map(len, shown.split()), default=0) > _LONGEST_WORD else "short"
    element = Markup('<bdi class="{}">{}</bdi>')
    if len(shown) <= longest:
        return element.format(kind, shown)
    start, whole = element.format(kind, f"{shown[:longest]}…"), element.format(kind, shown)
    return Markup("<details><summary>{}</summary>{}</details>").format(start, whole)


def _interval(estimate: Mapping[str, Any], unit: str) -> str:
    """Return the interval of an estimate in words."""
    return f"95 % interval {_range(estimate, unit)}".replace("interval none", "interval: none")


def _range(estimate: Mapping[str, Any], unit: str = "USD") -> str:
    """Return the ends of an interval, an end that there is none of in words."""
    show = _usd if unit == "USD" else (lambda share: _percent(share, 3))
    low, high = (None if estimate[end] is None else show(estimate[end]) for end in ("low", "high"))
    if low is None and high is None:
        return "none"
    return f"{low or 'no lower end'} to {high or 'no upper end'}"


def _of_rule(value: float | None, rule: str) -> str:
    """Return value or threshold of an alert with the unit of its rule."""
    if value is None:
        return "none"
    if rule in _PERCENT_RULES:
        return _percent(value)
    return f"{value:,.4g} {_UNITS.get(rule, '(unit of the rule)')}"

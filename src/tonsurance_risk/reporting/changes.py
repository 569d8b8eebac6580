"""What changed from one report to another, and its form on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from tonsurance_risk.core.documents import differences
from tonsurance_risk.reporting.terminal import SEVERITY_STYLES, plain

_Document = Mapping[str, Any]
_SAID = ("severity", "message")
"""What is compared of an alert that both reports have."""


def report_changes(old: _Document, new: _Document) -> dict[str, Any]:
    """Return what changed between two report documents, in JSON types.

    Returns
    -------
    dict
        ``old`` and ``new`` say which reports they are. ``numbers``: figures of the book, measures of loss, stress
        losses, contributions and volatilities that differ, each with the change and the relative change (None
        where the old one is 0, a figure is in one report only, or the change is beyond the largest float).
        ``alerts`` and ``events``: new and gone ones, and alerts whose severity or message changed. ``inputs``:
        what else the reports were made from that differs.
    """
    before, now = _figures(old), _figures(new)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    alerts = [{alert["key"]: alert for alert in document["risk_alerts"]} for document in (old, new)]
    events = [document["depeg_events"] for document in (old, new)]
    both = [key for key in alerts[1] if key in alerts[0]]
    changed = [key for key in both if any(alerts[0][key][name] != alerts[1][key][name] for name in _SAID)]
    return {
        "old": _identity(old),
        "new": _identity(new),
        "numbers": [_number_change(name, before.get(name), now.get(name)) for name in names],
        "alerts": {
            "new": [alert for key, alert in alerts[1].items() if key not in alerts[0]],
            "gone": [alert for key, alert in alerts[0].items() if key not in alerts[1]],
            "changed": [
                alerts[1][key] | {f"{name}_before": alerts[0][key][name] for name in _SAID} for key in changed
            ],
        },
        "events": {
            "new": [event for event in events[1] if not _seen(event, events[0])],
            "gone": [event for event in events[0] if not _seen(event, events[1])],
        },
        "inputs": [one.to_dict() for one in differences(_inputs(old), _inputs(new))],
    }


def _identity(document: _Document) -> dict[str, Any]:
    return {
        **{name: document[name] for name in ("report_date", "as_of", "generated_at", "software_version")},
        **{name: document["inputs"][name] for name in ("source", "step")},
    }


def _figures(document: _Document) -> dict[str, float]:
    """Return the figures that people compare, by their place in the document."""
    figures: dict[str, float] = {}
    for section in ("portfolio_summary", "var_analysis"):
        for name, value in document[section].items():
            found = value.get("value") if isinstance(value, dict) else value
            if isinstance(found, (int, float)) and not isinstance(found, bool):
                figures[f"{section}.{name}"] = found
    for result in document["stress_test_results"]:
        figures[f"stress_test_results.{result['scenario']}"] = result["loss"]
    for asset, estimate in document["chart_data"]["expected_shortfall_99_contributions"].items():
        figures[f"expected_shortfall_99_contributions.{asset}"] = estimate["value"]
    for asset, sigma in document["inputs"]["volatility"].items():
        figures[f"volatility.{asset}"] = sigma
    return figures


def _number_change(name: str, old: float | None, new: float | None) -> dict[str, Any]:
    change = None if old is None or new is None else _finite(new - old)
    relative = _finite(float(change) / abs(float(old))) if old and change is not None else None
    return {"name": name, "old": old, "new": new, "change": change, "relative_change": relative}


def _finite(value: float) -> float | None:
    return value if abs(value) <= sys.float_info.max else None


def _seen(event: _Document, others: Iterable[_Document]) -> bool:
    """Return whether some event is of the same stretch: the data of another day may begin or end within it."""
    start, end = (datetime.fromisoformat(event[name]) for name in ("start", "end"))
    return any(
        (event["asset"], event["direction"]) == (other["asset"], other["direction"])
        and datetime.fromisoformat(other["start"]) <= end
        and start <= datetime.fromisoformat(other["end"])
        for other in others
    )


def _inputs(document: _Document) -> dict[str, Any]:
    """Return what is said of the inputs beside figures, and the scenarios as they were drawn."""
    kept = {name: value for name, value in document["inputs"].items() if name != "volatility"}
    facts = {name: document[name] for name in ("seed", "software_version", "horizon_days")}
    scenarios = {one["name"]: dict(one) for one in document["var_analysis"]["scenario_shares"]}
    return facts | {"inputs": kept, "scenarios": scenarios}


def print_changes(changes: _Document, console: Console) -> None:
    """Print what `report_changes` found; what is in JSON only is counted."""
    one, other = changes["old"], changes["new"]
    console.print(
        f"[bold]{one['report_date']}[/bold] ({plain(one['source'])}, {one['step']}) to "
        f"[bold]{other['report_date']}[/bold] ({plain(other['source'])}, {other['step']})",
        soft_wrap=True,
    )
    if changes["numbers"]:
        console.print(_number_table(changes["numbers"]))
    for line in _lines(changes):
        console.print(line, highlight=False, soft_wrap=True)


def _number_table(numbers: list[_Document]) -> Table:
    table = Table("number", padding=(0, 0, 0, 1))
    for heading in ("old", "new", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number in numbers:
        relative = number["relative_change"]
        table.add_row(
            plain(number["name"]),
            *(_figure(number[side]) for side in ("old", "new")),
            "-" if relative is None else _percent(relative),
        )
    return table


def _lines(changes: _Document) -> Iterator[str]:
    alerts, events = changes["alerts"], changes["events"]
    yield from (f"new alert: {_styled(alert)} {plain(alert['message'])}" for alert in alerts["new"])
    yield from (f"no alert any more: {plain(alert['key'])}" for alert in alerts["gone"])
    for alert in alerts["changed"]:
        same = alert["message_before"] == alert["message"]
        before, now = (
            ("", "") if same else (f" ({plain(alert['message_before'])})", f" ({plain(alert['message'])})")
        )
        yield f"alert {plain(alert['key'])}: {alert['severity_before']}{before} before, now {_styled(alert)}{now}"
    for what, found in events.items():
        for event in found:
            name = "new depeg" if what == "new" else "no depeg any more"
            yield f"{name}: {plain(event['asset'])} {event['direction']} since {event['start']}"
    for difference in changes["inputs"]:
        ends = [_shown(difference[side]) if side in difference else "-" for side in ("old", "new")]
        yield plain(f"{difference['path']}: {ends[0]} to {ends[1]}")
    if not (changes["numbers"] or changes["inputs"] or any(map(any, (alerts.values(), events.values())))):
        yield "nothing changed"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.6g}"


def _percent(share: float) -> str:
    return f"{share:+.2%}" if abs(share) < 1e6 else f"{share:+.6g} times"


def _styled(alert: _Document) -> str:
    return f"[{SEVERITY_STYLES[alert['severity']]}]{alert['severity']}[/]"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

"""Checks of results in the form of the price checks: events, and correlation matrices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from tonsurance_risk.assets import FLAG_OUTSIDE, canonical
from tonsurance_risk.core.common_mode import FINDING, Action
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.psd import PSD_TOLERANCE
from tonsurance_risk.core.quality import QualityReport
from tonsurance_risk.model import DepegEvent, checked_events
from tonsurance_risk.values import iso

_Finding: TypeAlias = tuple[str, pd.Timestamp | None, float | None, str, Action, str]

_EVENT_CHECKS = {
    "order": "no event ends before it starts or recovers before it ends",
    "severity": "severity, extreme price and threshold agree",
    "overlap": "events of one asset, direction, source and rule do not overlap",
    "far_from_peg": "no event is deeper than half of the peg",
    "cut_by_gap": "no event is cut by a gap",
    "unconfirmed": "another source confirms every event",
}
_CORRELATION_CHECKS = {
    "estimated": "at least one pair is estimated",
    "default": "no pair takes the default",
    "not_psd": "the matrix is positive semi-definite",
    "perfect": "no two assets are perfectly correlated",
    "wide": "every interval is narrower than 1",
}
WIDEST = 1.0
"""Half of what a correlation can be."""
PERFECT = 1.0 - 1e-12
"""From it on rounding is all that is between the two series."""


def check_events(events: Iterable[DepegEvent]) -> QualityReport:
    """Check depeg events, whoever made them.

    Parameters
    ----------
    events : iterable of DepegEvent
        In any order.

    Returns
    -------
    QualityReport
        Its flags have a row a finding, with the start of the event as time and its extreme price. Rejected: events
        that cannot be (ends before its start, a severity that its extreme price or its threshold contradicts, an
        overlap with another one of the same asset, direction, source and rule). Flagged: deeper than half of the
        peg, cut by a gap, not confirmed by another source. Scores are the shares of an asset's events without a
        finding.

    Raises
    ------
    ValueError
        If `events` hold something else.

    Examples
    --------
    >>> from tonsurance_risk.core.depeg import detect_depegs
    >>> index = pd.date_range("2024-01-01", periods=5, freq="h", tz="UTC")
    >>> events = detect_depegs(pd.Series([1.0, 0.97, 0.95, 0.96, 1.0], index=index, name="USDC"))
    >>> report = check_events(events)
    >>> report.passed, report.flags[["check", "action"]].values.tolist()
    (True, [['unconfirmed', 'flag']])
    """
    listed = sorted(checked_events(events), key=lambda event: event.start)
    overlapping = _overlapping(listed)
    found = [list(_event_findings(event, k in overlapping)) for k, event in enumerate(listed)]
    scores: dict[str, list[bool]] = {}
    for event, findings in zip(listed, found, strict=True):
        scores.setdefault(canonical(event.asset), []).append(not findings)
    return _report(
        [row for findings in found for row in findings],
        {asset: float(np.mean(sound)) for asset, sound in sorted(scores.items())},
        _EVENT_CHECKS,
    )


def check_correlation(matrix: CorrelationMatrix) -> QualityReport:
    """Check a correlation matrix.

    Parameters
    ----------
    matrix : CorrelationMatrix
        Of any method.

    Returns
    -------
    QualityReport
        Its flags have a row a pair, the asset being ``asset_1-asset_2``, the time `as_of`, the price empty.
        Rejected: a matrix in which no pair was estimated. Flagged: default pairs, a matrix that needs a repair,
        perfectly correlated assets, intervals wider than 1. Scores are the shares of an asset's pairs without a
        finding.

    Raises
    ------
    ValueError
        If it is no `CorrelationMatrix`.

    Examples
    --------
    >>> from tonsurance_risk.core.windows import correlation_matrix
    >>> returns = pd.DataFrame({"DAI": [1.0, 2.0, 3.0, 5.0], "USDC": [2.0, 4.0, 6.0, 10.0]})
    >>> report = check_correlation(correlation_matrix(returns, min_observations=4))
    >>> report.flags[["asset", "check", "action"]].values.tolist()
    [['DAI-USDC', 'perfect', 'flag']]
    """
    if not isinstance(matrix, CorrelationMatrix):
        raise ValueError(f"matrix must be a CorrelationMatrix, found {type(matrix).__name__}")
    pairs = matrix.pairs(interval=matrix.best_interval)
    found: list[_Finding] = []
    scores: dict[str, list[bool]] = {asset: [] for asset in sorted(matrix.assets)}
    for pair in pairs.to_dict("records"):
        findings = list(_pair_findings(pair, matrix.as_of))
        found += findings
        for side in ("asset_1", "asset_2"):
            scores[pair[side]].append(not findings)
    if len(pairs) and pairs["is_default"].all():
        detail = f"all {len(pairs)} pair(s) take the default"
        found.append(("-".join(sorted(matrix.assets)), matrix.as_of, None, "estimated", "reject", detail))
    smallest = float(np.linalg.eigvalsh(matrix.values)[0]) if matrix.assets else 1.0
    if smallest < -PSD_TOLERANCE:
        detail = f"its smallest eigenvalue is {smallest:.3g}; nearest_psd() repairs it"
        found.append(("-".join(sorted(matrix.assets)), matrix.as_of, None, "not_psd", "flag", detail))
    shares = {asset: float(np.mean(sound)) if sound else 1.0 for asset, sound in scores.items()}
    return _report(found, shares, _CORRELATION_CHECKS)


def _report(found: Sequence[_Finding], scores: Mapping[str, float], rules: Mapping[str, str]) -> QualityReport:
    flags = pd.DataFrame(found, columns=FINDING)
    flags["time"] = pd.to_datetime(flags["time"], utc=True)
    flags["price"] = flags["price"].astype(float)
    return QualityReport(flags, pd.Series(scores, name="quality", dtype=float), MappingProxyType(dict(rules)))


def _overlapping(events: Sequence[DepegEvent]) -> set[int]:
    """Return the positions of events that begin before an earlier one of the same kind has ended."""
    ended: dict[tuple[Any, ...], pd.Timestamp] = {}
    found = set()
    for k, event in enumerate(events):
        kind = (
            canonical(event.asset), event.direction, event.source, event.threshold, event.recovery,
            event.min_duration, event.max_gap, event.merge_within, event.sample_span,
        )  # fmt: skip
        if kind in ended and event.start <= ended[kind]:
            found.add(k)
        ended[kind] = max(event.end, ended.get(kind, event.end))
    return found


def _event_findings(event: DepegEvent, overlaps: bool) -> Iterator[_Finding]:
    below = event.direction == "below"
    extreme = event.min_price if below else event.max_price

    def finding(check: str, action: Action, detail: str) -> _Finding:
        return canonical(event.asset), event.start, extreme, check, action, detail

    if event.end < event.start or (event.recovered_at is not None and event.recovered_at <= event.end):
        recovered = "never" if event.recovered_at is None else iso(event.recovered_at)
        yield finding("order", "reject", f"{iso(event.start)} to {iso(event.end)}, recovered {recovered}")
    impossible = not event.severity > 0.0 or event.min_price > event.max_price
    if impossible or 1.0 - event.severity >= event.threshold:
        detail = f"severity {event.severity:.6g}, prices {event.min_price:.6g} to {event.max_price:.6g}"
        yield finding("severity", "reject", f"{detail}, threshold {event.threshold:g}")
    if overlaps:
        yield finding("overlap", "reject", f"begins before an earlier one has ended, at {iso(event.start)}")
    away = 1.0 - event.severity if below else 1.0 + event.severity
    low, high = FLAG_OUTSIDE
    if away < low or away > high:
        yield finding("far_from_peg", "flag", f"reaches {away:.4g} of its peg")
    if event.cut_by_gap:
        yield finding("cut_by_gap", "flag", f"what happened after {iso(event.end)} is not known")
    if event.confirmed is not True:
        detail = "no other source was there" if event.confirmed is None else f"local to {event.local_to}"
        yield finding("unconfirmed", "flag", detail)


def _pair_findings(pair: Mapping[Any, Any], as_of: pd.Timestamp | None) -> Iterator[_Finding]:
    name = f"{pair['asset_1']}-{pair['asset_2']}"
    if pair["is_default"]:
        yield name, as_of, None, "default", "flag", f"{pair['observations']} common rows"
        return
    if abs(pair["correlation"]) >= PERFECT:
        yield name, as_of, None, "perfect", "flag", "the same series twice?"
    if pair["high"] - pair["low"] > WIDEST:
        yield name, as_of, None, "wide", "flag", f"{pair['low']:.2f} to {pair['high']:.2f}"

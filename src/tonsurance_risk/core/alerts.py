"""Alerts of a risk report. Every rule is here; what would clear them is in `recommendations`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.portfolio import PortfolioMetrics
from tonsurance_risk.core.stress import LARGE_SHARE_OF_CAPITAL, StressResult
from tonsurance_risk.model import BTC, DepegEvent, Scenario, Vault
from tonsurance_risk.values import iso

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")

LTV_CRITICAL, LTV_HIGH = 0.8, 0.7
VAR_TREND_HIGH = 0.20
DIVERSIFICATION_MEDIUM = 0.5
CONTAGION_HIGH = 0.8
LEAST_PRICES = 1.0
"""One price of an asset is enough for it not to be without."""


@attrs.frozen
class Alert:
    """Something that needs attention.

    Parameters
    ----------
    severity : {"critical", "high", "medium", "low"}
        How urgent.
    category, message : str
        What it is about, and what happened.
    rule : str
        Which rule fired; `docs/reference/report.md` lists them.
    value, threshold : float or None
        What the rule saw, and its bound, in the rule's unit: a fraction, a correlation, a ratio to the peg, hours
        (`stale_data`) or observations (`covered_without_prices`, `held_without_prices`).
    subject : str
        The asset or pair that it is about; empty where it is about the book.
    """

    severity: Severity
    category: str
    message: str
    rule: str
    value: float | None
    threshold: float | None
    subject: str = ""

    @property
    def key(self) -> str:
        """What makes it the same alert from day to day: its rule and what it is about, not how bad it is."""
        return f"{self.rule}:{self.subject}" if self.subject else self.rule

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, and the key."""
        return attrs.asdict(self) | {"key": self.key}


@attrs.frozen(kw_only=True)
class Findings:
    """What the rules look at.

    Parameters
    ----------
    vault, scenarios, metrics, stress
        The book, the scenarios, the book's figures and its stress test.
    var_95 : float
        [USD]
    var_trend_30d : float, optional
        Relative change of VaR 95 over 30 days; None when it cannot be computed.
    contagion : DataFrame
        Pairs of coins that are highly correlated, as `contagion_pairs` returns them.
    open_events : iterable of DepegEvent
        Events that still run.
    ratios : mapping of float by symbol
        Newest price in units of the peg reference.
    without_prices : iterable of str
        Covered assets without prices, and BTC when it is held without.
    ages : mapping of (hours, accepted hours) by symbol
        Assets whose newest price is too old.
    """

    vault: Vault
    scenarios: Sequence[Scenario]
    metrics: PortfolioMetrics
    stress: StressResult
    var_95: float
    var_trend_30d: float | None
    contagion: pd.DataFrame
    open_events: Iterable[DepegEvent]
    ratios: Mapping[str, float]
    without_prices: Iterable[str]
    ages: Mapping[str, tuple[float, float]]


_CONFIRMATION = {
    True: "confirmed by another source",
    False: "no other source shows it",
    None: "unconfirmed",
}


def risk_alerts(findings: Findings) -> list[Alert]:
    """Return the alerts, the most severe first."""
    alerts = [
        *_book_alerts(findings),
        *_loss_alerts(findings),
        *_contagion_alerts(findings),
        *_depeg_alerts(findings),
        *_data_alerts(findings),
    ]
    return sorted(alerts, key=lambda alert: SEVERITIES.index(alert.severity))


def _book_alerts(findings: Findings) -> Iterator[Alert]:
    ltv = findings.metrics.ltv
    for severity, threshold in (("critical", LTV_CRITICAL), ("high", LTV_HIGH)):
        if ltv >= threshold:
            message = f"coverage is {ltv:.2%} of capital, at or above {threshold:.0%}"
            yield Alert(severity, "leverage", message, "ltv", ltv, threshold)  # type: ignore[arg-type]
            break
    spread = findings.metrics.diversification
    if spread < DIVERSIFICATION_MEDIUM:
        message = f"diversification of coverage is {spread:.2f}, below {DIVERSIFICATION_MEDIUM}"
        yield Alert("medium", "concentration", message, "diversification", spread, DIVERSIFICATION_MEDIUM)


def _loss_alerts(findings: Findings) -> Iterator[Alert]:
    trend = findings.var_trend_30d
    if trend is not None and trend > VAR_TREND_HIGH:
        message = f"VaR 95 rose by {trend:.1%} in 30 days, more than {VAR_TREND_HIGH:.0%}"
        yield Alert("high", "loss", message, "var_95_trend_30d", trend, VAR_TREND_HIGH)
    share = findings.stress.worst_loss / findings.vault.capital
    if share > LARGE_SHARE_OF_CAPITAL:
        message = (
            f"{findings.stress.worst_scenario} would lose {findings.stress.worst_loss:,.0f} USD, "
            f"{share:.1%} of capital, more than {LARGE_SHARE_OF_CAPITAL:.0%}"
        )
        yield Alert("critical", "stress", message, "worst_stress", share, LARGE_SHARE_OF_CAPITAL)


def _contagion_alerts(findings: Findings) -> Iterator[Alert]:
    strong = findings.contagion[findings.contagion["correlation"] >= CONTAGION_HIGH]
    for pair in strong.to_dict("records"):
        message = (
            f"{pair['asset_1']} and {pair['asset_2']} are correlated {pair['correlation']:.2f} "
            f"({pair['low']:.2f} to {pair['high']:.2f}, {pair['observations']} observations){_basis(pair)}"
        )
        subject = f"{pair['asset_1']}/{pair['asset_2']}"
        yield Alert("high", "contagion", message, "contagion", float(pair["correlation"]), CONTAGION_HIGH, subject)


def _basis(pair: Mapping[Any, Any]) -> str:
    """Return what is left of a correlation without the days that carry it."""
    if pair.get("rests_on_few_days") is not True:
        return ""
    days = [day.date().isoformat() for day in sorted(pair["influential_days"])]
    left = pair["without_influential"]
    rest = pair["without_influential_reason"] if pd.isna(left) else f"{left:.2f} without them"
    return f"; it rests on {len(days)} day(s), {', '.join(days)}: {rest}"


def _depeg_alerts(findings: Findings) -> Iterator[Alert]:
    triggers = _highest_triggers(findings.vault)
    for event in findings.open_events:
        if event.asset not in triggers:
            continue
        ratio, trigger = findings.ratios[event.asset], triggers[event.asset]
        since = (
            f"{event.asset} has been off peg since {iso(event.start)}, now at {ratio:.4f} of it "
            f"({_CONFIRMATION[event.confirmed]})"
        )
        if event.direction == "above":
            message = f"{since}: a premium, which pays nothing"
            yield Alert("low", "depeg", message, "open_premium", ratio, 2.0 - event.threshold, event.asset)
        elif ratio < trigger:
            message = f"{since}, below the highest trigger {trigger:g} of its policies"
            yield Alert("critical", "depeg", message, "open_depeg", ratio, trigger, event.asset)
        else:
            message = f"{since}; the highest trigger of its policies is {trigger:g}"
            yield Alert("high", "depeg", message, "open_depeg", ratio, event.threshold, event.asset)


def _data_alerts(findings: Findings) -> Iterator[Alert]:
    for asset in findings.without_prices:
        if asset == BTC:
            message = "the vault holds BTC and has no price of it: simulated with a fallback volatility"
            yield Alert("medium", "data", message, "held_without_prices", 0.0, LEAST_PRICES, asset)
            continue
        message = f"{asset} is covered and has no prices: simulated from scenario prices and a fallback volatility"
        yield Alert("high", "data", message, "covered_without_prices", 0.0, LEAST_PRICES, asset)
    for asset, (hours, accepted) in findings.ages.items():
        message = f"the newest price of {asset} is {hours:.1f} h old, accepted are {accepted:g} h"
        yield Alert("high", "data", message, "stale_data", hours, accepted, asset)


def _highest_triggers(vault: Vault) -> dict[str, float]:
    triggers: dict[str, float] = {}
    for policy in vault.policies:
        asset = canonical(policy.asset)
        triggers[asset] = max(triggers.get(asset, 0.0), policy.trigger_price)
    return triggers

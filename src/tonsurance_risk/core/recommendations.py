"""What would clear the alerts of a risk report, with its number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import attrs

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.alerts import (
    CONTAGION_HIGH,
    DIVERSIFICATION_MEDIUM,
    LEAST_PRICES,
    LTV_HIGH,
    VAR_TREND_HIGH,
    Alert,
    Findings,
)
from tonsurance_risk.core.portfolio import coverage_by_asset
from tonsurance_risk.core.remedies import (
    NEW_COINS,
    Clearing,
    Remedy,
    for_diversification,
    for_ltv,
    for_worst_stress,
    new_cover,
    scaled,
    without_cover,
)
from tonsurance_risk.core.stress import LARGE_SHARE_OF_CAPITAL
from tonsurance_risk.model import BTC, DepegEvent

VAR_ROUNDING = 1e-9
"""A book is cut by so much more than in proportion: simulated losses of a scaled book are scaled to rounding."""
RESERVE_MULTIPLE = 1.5
"""The reserve for VaR 95, as a multiple of it."""


@attrs.frozen
class Recommendation:
    """What to do about the alerts of a rule.

    Parameters
    ----------
    rule, message : str
        The rule that fired, and what to do, for people.
    value : float or None
        The number in the message [USD, or as it says].
    remedies : tuple of Remedy
        Changes of the book, each of which clears the alerts alone; see `apply_remedy`. Empty where only the market
        or new data can.
    clears_at : tuple of Clearing
        Where what the rule looks at has to be.
    """

    rule: str
    message: str
    value: float | None
    remedies: tuple[Remedy, ...] = ()
    clears_at: tuple[Clearing, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON types."""
        return {
            "rule": self.rule,
            "message": self.message,
            "value": self.value,
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "clears_at": [clearing.to_dict() for clearing in self.clears_at],
        }


def recommendations(alerts: Iterable[Alert], findings: Findings) -> list[Recommendation]:
    """Return what would clear the alerts, one for each rule that fired, in the order of the alerts."""
    advice = {
        "ltv": _about_ltv,
        "var_95_trend_30d": _about_var,
        "diversification": _about_diversification,
        "worst_stress": _about_stress,
        "contagion": _about_contagion,
        "open_depeg": _about_open_depegs,
        "open_premium": _about_premiums,
        "covered_without_prices": _about_missing_prices,
        "held_without_prices": _about_missing_btc,
        "stale_data": _about_stale_data,
    }
    return [advice[rule](findings) for rule in dict.fromkeys(alert.rule for alert in alerts)]


def _about_ltv(findings: Findings) -> Recommendation:
    remedies = for_ltv(findings.vault, LTV_HIGH)
    more = remedies[0].capital_usd
    message = (
        f"raise capital by {more:,.0f} USD or cut coverage by {_cut(remedies[1]):,.0f} USD "
        f"for an LTV below {LTV_HIGH:.0%}"
    )
    return Recommendation("ltv", message, more, remedies, (Clearing("", "ltv_ratio", "below", LTV_HIGH),))


def _about_var(findings: Findings) -> Recommendation:
    reserve = RESERVE_MULTIPLE * max(findings.var_95, 0.0)
    most = findings.var_95 * (1.0 + VAR_TREND_HIGH) / (1.0 + cast("float", findings.var_trend_30d))
    remedy = scaled(findings.vault, most / findings.var_95 * (1.0 - VAR_ROUNDING))
    message = (
        f"cut coverage by {_cut(remedy):,.0f} USD and BTC by {-remedy.btc_value_usd:,.0f} USD, all alike, "
        f"for a VaR 95 of at most {most:,.0f} USD; until then hold a reserve of {reserve:,.0f} USD "
        f"({RESERVE_MULTIPLE:g} x {findings.var_95:,.0f} USD)"
    )
    return Recommendation(
        "var_95_trend_30d", message, reserve, (remedy,), (Clearing("", "var_95_usd", "at_most", most),)
    )


def _about_diversification(findings: Findings) -> Recommendation:
    by_asset = coverage_by_asset(findings.vault)
    clears_at = (Clearing("", "diversification_score", "at_least", DIVERSIFICATION_MEDIUM),)
    remedy = for_diversification(findings.vault, DIVERSIFICATION_MEDIUM)
    if remedy is None:
        amount = new_cover(findings.vault, DIVERSIFICATION_MEDIUM)
        message = (
            f"cover on {len(by_asset)} coin(s) is narrow, however it is shared out: write new cover of "
            f"{amount:,.0f} USD on each of {NEW_COINS} others"
        )
        return Recommendation("diversification", message, amount, (), clears_at)
    largest = min(remedy.coverage_usd, key=lambda asset: remedy.coverage_usd[asset])
    share = by_asset[largest] / findings.vault.coverage
    cuts = ", ".join(f"{asset} by {-change:,.0f} USD" for asset, change in remedy.coverage_usd.items())
    message = (
        f"cut coverage of {cuts}, or write new cover on other coins than {largest}, which has {share:.0%} of it"
    )
    return Recommendation("diversification", message, _cut(remedy), (remedy,), clears_at)


def _about_stress(findings: Findings) -> Recommendation:
    remedies = for_worst_stress(findings.vault, findings.scenarios, LARGE_SHARE_OF_CAPITAL)
    more = remedies[0].capital_usd
    cuts = [_named_cut(remedy) for remedy in remedies[1:]]
    message = (
        f"raise capital by {more:,.0f} USD{''.join(f' or cut {cut}' for cut in cuts)}, so that "
        f"{findings.stress.worst_scenario} loses at most {LARGE_SHARE_OF_CAPITAL:.0%} of it"
    )
    clearing = Clearing("", "worst_stress_loss_of_capital", "at_most", LARGE_SHARE_OF_CAPITAL)
    return Recommendation("worst_stress", message, more, tuple(remedies), (clearing,))


def _about_contagion(findings: Findings) -> Recommendation:
    strong = findings.contagion[findings.contagion["correlation"] >= CONTAGION_HIGH]
    pairs = list(zip(strong["asset_1"], strong["asset_2"], strict=True))
    coins = sorted({coin for pair in pairs for coin in pair})
    by_asset = coverage_by_asset(findings.vault)
    together = math.fsum(by_asset.get(coin, 0.0) for coin in coins)
    message = (
        f"treat {', '.join(coins)} as one risk while they are correlated {CONTAGION_HIGH:g} or more: "
        f"their coverage together is {together:,.0f} USD"
    )
    clears_at = tuple(Clearing("/".join(pair), "correlation", "below", CONTAGION_HIGH) for pair in pairs)
    return Recommendation("contagion", message, together, (), clears_at)


def _about_open_depegs(findings: Findings) -> Recommendation:
    events = _covered_events(findings, "below")
    off_peg = sorted({event.asset for event in events})
    due = math.fsum(
        policy.payout(findings.ratios[canonical(policy.asset)])
        for policy in findings.vault.policies
        if canonical(policy.asset) in off_peg
    )
    message = (
        f"keep {due:,.0f} USD liquid: what the policies on {', '.join(off_peg)} pay at the newest prices; over at "
        + ", ".join(f"{event.asset} {event.recovery:g}" for event in events)
    )
    clears_at = tuple(Clearing(event.asset, "ratio_to_peg", "at_least", event.recovery) for event in events)
    return Recommendation("open_depeg", message, due, (without_cover(findings.vault, off_peg),), clears_at)


def _about_premiums(findings: Findings) -> Recommendation:
    events = _covered_events(findings, "above")
    message = "nothing is due for a premium; over at " + ", ".join(
        f"{event.asset} {2.0 - event.recovery:g}" for event in events
    )
    clears_at = tuple(Clearing(event.asset, "ratio_to_peg", "at_most", 2.0 - event.recovery) for event in events)
    remedy = without_cover(findings.vault, [event.asset for event in events])
    return Recommendation("open_premium", message, None, (remedy,), clears_at)


def _covered_events(findings: Findings, direction: str) -> list[DepegEvent]:
    covered = coverage_by_asset(findings.vault)
    return [event for event in findings.open_events if event.direction == direction and event.asset in covered]


def _about_missing_prices(findings: Findings) -> Recommendation:
    missing = sorted(asset for asset in findings.without_prices if asset != BTC)
    remedy = without_cover(findings.vault, missing)
    message = f"find a price source for {', '.join(missing)}: {_cut(remedy):,.0f} USD of coverage is not watched"
    clears_at = tuple(Clearing(asset, "observations", "at_least", LEAST_PRICES) for asset in missing)
    return Recommendation("covered_without_prices", message, _cut(remedy), (remedy,), clears_at)


def _about_missing_btc(findings: Findings) -> Recommendation:
    held = findings.vault.btc_value
    message = f"find a price source for BTC: {held:,.0f} USD of it are not watched"
    clears_at = (Clearing(BTC, "observations", "at_least", LEAST_PRICES),)
    return Recommendation("held_without_prices", message, held, (Remedy(btc_value_usd=-held),), clears_at)


def _about_stale_data(findings: Findings) -> Recommendation:
    oldest = max(findings.ages, key=lambda asset: findings.ages[asset][0])
    message = f"fetch new prices of {', '.join(sorted(findings.ages))}; the oldest is {oldest}"
    clears_at = tuple(Clearing(asset, "age_hours", "at_most", most) for asset, (_, most) in findings.ages.items())
    return Recommendation("stale_data", message, findings.ages[oldest][0], (), clears_at)


def _cut(remedy: Remedy) -> float:
    return math.fsum(-change for change in remedy.coverage_usd.values())


def _named_cut(remedy: Remedy) -> str:
    """Return which coverage a remedy cuts, and by how much."""
    assets = list(remedy.coverage_usd)
    return f"coverage{f' of {assets[0]}' if len(assets) == 1 else ''} by {_cut(remedy):,.0f} USD"

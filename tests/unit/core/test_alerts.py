"""Alerts: what they say, as text and as a document."""

from __future__ import annotations

import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.alerts import Alert, Findings, risk_alerts

PAIR = {
    "asset_1": "DAI",
    "asset_2": "USDC",
    "correlation": 0.914,
    "low": 0.7,
    "high": 0.987,
    "observations": 89,
    "rests_on_few_days": True,
    "influential_days": [pd.Timestamp("2024-03-12", tz="UTC"), pd.Timestamp("2024-03-11", tz="UTC")],
    "without_influential": 0.234,
    "without_influential_reason": None,
}


def contagion_of(**changes):
    """Return the alert on one pair, nothing else being amiss."""
    vault, scenarios = tr.Vault(1e6, []), (tr.Scenario("calm", 1.0),)
    found = Findings(
        vault=vault,
        scenarios=scenarios,
        metrics=tr.portfolio_metrics(vault),
        stress=tr.stress_test(vault, scenarios),
        var_95=0.0,
        var_trend_30d=None,
        contagion=pd.DataFrame([PAIR | changes]),
        open_events=(),
        ratios={},
        without_prices=(),
        ages={},
    )
    return [alert for alert in risk_alerts(found) if alert.rule == "contagion"]


def test_an_alert_as_a_document():
    """Its fields, and the key by which it is known from day to day."""
    book = Alert("high", "leverage", "coverage is 75 %", "ltv", 0.75, 0.7)
    fields = {
        "severity": "high",
        "category": "leverage",
        "message": "coverage is 75 %",
        "rule": "ltv",
        "value": 0.75,
        "threshold": 0.7,
    }

    assert fields | {"subject": "", "key": "ltv"} == book.to_dict()
    assert "stale_data:DAI" == Alert("high", "data", "old", "stale_data", 9.0, 2.0, "DAI").to_dict()["key"]


@pytest.mark.parametrize(
    ("changes", "basis"),
    [
        ({"rests_on_few_days": False}, ""),
        ({"rests_on_few_days": None}, ""),
        ({}, "; it rests on 2 day(s), 2024-03-11, 2024-03-12: 0.23 without them"),
        (
            {"without_influential": float("nan"), "without_influential_reason": "nothing moves"},
            "; it rests on 2 day(s), 2024-03-11, 2024-03-12: nothing moves",
        ),
    ],
)
def test_a_contagion_alert_says_what_the_correlation_rests_on(changes, basis):
    """The days in their order, and what is left without them, or why nothing is."""
    [alert] = contagion_of(**changes)

    assert f"DAI and USDC are correlated 0.91 (0.70 to 0.99, 89 observations){basis}" == alert.message
    assert ("high", 0.914, 0.8, "DAI/USDC") == (alert.severity, alert.value, alert.threshold, alert.subject)


@pytest.mark.parametrize(("correlation", "fires"), [(0.8, True), (0.7999, False)])
def test_contagion_at_its_bound(correlation, fires):
    """From 0.8 on."""
    assert fires == bool(contagion_of(correlation=correlation))

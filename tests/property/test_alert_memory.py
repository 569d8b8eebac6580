"""Alerts from report to report: one open alert a key, a bounded number of messages, and an end to each."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.core.alert_memory import COOL_DOWN, OpenAlert, remember
from tonsurance_risk.core.alerts import SEVERITIES, Alert

FIRST = pd.Timestamp("2025-01-01T00:00Z")
DAY = timedelta(days=1)
FIRINGS = st.lists(
    st.dictionaries(st.sampled_from(["USDC", "DAI"]), st.sampled_from(SEVERITIES), max_size=2), max_size=30
)


def alert(severity="high", subject="USDC", message="off peg"):
    """Return an alert about a coin."""
    return Alert(severity, "depeg", message, "open_depeg", 0.9, 0.99, subject)


def told(reports):
    """Return (day, key, action, severity) of all messages of reports, one a day: lists of alerts."""
    memory, said = (), []
    for day, alerts in enumerate(reports):
        memory, changes = remember(memory, alerts, FIRST + day * DAY)
        said += [(day, change.key, change.action, change.severity) for change in changes]
    return said, memory


def test_the_key_is_the_rule_and_its_subject():
    """However bad it is."""
    assert alert("high").key == alert("critical").key == "open_depeg:USDC"
    assert Alert("high", "leverage", "much", "ltv", 0.75, 0.7).key == "ltv"


@pytest.mark.fault("F107")
def test_a_lasting_depeg_is_one_alert_and_one_resolve():
    """Seen 500 times."""
    said, memory = told([[alert()]] * 500 + [[]] * 5)

    assert said == [(0, "open_depeg:USDC", "trigger", "high"), (501, "open_depeg:USDC", "resolve", "high")]
    assert memory == ()


@pytest.mark.fault("F108")
def test_a_value_that_swings_is_one_alert():
    """Every other day for a year: one trigger, and one resolve two days after the last."""
    said, _ = told([[alert()] if day % 2 == 0 else [] for day in range(365)] + [[]] * 3)

    assert [action for _, _, action, _ in said] == ["trigger", "resolve"]


def test_what_gets_worse_is_said_again_and_what_gets_better_is_not():
    """Under the same key."""
    said, memory = told([[alert(severity)] for severity in ("medium", "high", "medium", "high", "critical")])

    assert [(day, severity) for day, _, _, severity in said] == [(0, "medium"), (1, "high"), (4, "critical")]
    assert (FIRST, FIRST + 4 * DAY) == (memory[0].since, memory[0].seen)


def test_after_a_long_silence_it_is_over_at_once():
    """No report for a month."""
    memory, _ = remember((), [alert()], FIRST)
    memory, said = remember(memory, [], FIRST + 30 * DAY)

    assert ([change.action for change in said], memory) == (["resolve"], ())


def test_an_open_alert_survives_its_document():
    """As it is in a stored report."""
    one = OpenAlert(key="ltv", severity="critical", since=FIRST, seen=FIRST + DAY, value=0.8, threshold=0.7)

    assert OpenAlert.from_dict(one.to_dict()) == one
    older = {name: one.to_dict()[name] for name in ("key", "severity", "since", "seen")}
    assert (None, None) == (OpenAlert.from_dict(older).value, OpenAlert.from_dict(older).threshold)


def test_an_open_alert_says_rule_value_threshold_and_since_when():
    """Of the report in which it was last seen, also while it does not fire."""
    memory, _ = remember((), [alert()], FIRST)
    memory, _ = remember(memory, [Alert("high", "depeg", "worse", "open_depeg", 0.85, 0.99, "USDC")], FIRST + DAY)
    memory, _ = remember(memory, [], FIRST + 2 * DAY)

    [document] = [one.to_dict() for one in memory]
    assert document == {
        "key": "open_depeg:USDC",
        "rule": "open_depeg",
        "severity": "high",
        "value": 0.85,
        "threshold": 0.99,
        "since": "2025-01-01T00:00:00Z",
        "seen": "2025-01-02T00:00:00Z",
    }


@given(FIRINGS)
def test_laws(firings):
    """Triggers and resolves alternate but for worse ones; a resolve comes two days after the last firing."""
    said, memory = told([[alert(severity, coin) for coin, severity in one.items()] for one in firings])

    for coin in ("USDC", "DAI"):
        fired = [day for day, one in enumerate(firings) if coin in one]
        is_open, worst, last = False, None, None
        for day, _, action, severity in [one for one in said if one[1] == f"open_depeg:{coin}"]:
            if action == "resolve":
                assert is_open
                last = max(before for before in fired if before < day)
                assert timedelta(days=day - last) == COOL_DOWN
                is_open, worst = False, None
            else:
                assert coin in firings[day]
                assert not is_open or SEVERITIES.index(severity) < SEVERITIES.index(worst)
                is_open, worst = True, severity
        still = [one for one in memory if one.key == f"open_depeg:{coin}"]
        assert len(still) == is_open
        assert is_open == bool(fired and len(firings) - 1 - fired[-1] < 2)


def test_of_two_alerts_with_one_key_the_first_counts():
    """One is said, with its words; the change is its fields."""
    alerts = [alert("high", message="first"), alert("critical", message="second")]
    memory, said = remember([], alerts, pd.Timestamp("2025-03-01T00:00Z"))

    assert 1 == len(memory) == len(said)
    assert {"key": memory[0].key, "action": "trigger", "severity": "high", "message": "first"} == said[0].to_dict()

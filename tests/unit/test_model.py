"""Records refuse what cannot be, naming the field."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.values import as_utc, iso

POLICY = {"policy_id": "P1", "asset": "USDC", "coverage": 1e5, "trigger_price": 0.95, "floor_price": 0.5}
NOT_NUMBERS = [math.nan, math.inf, "1", None, True]


@pytest.mark.parametrize("field", ["coverage", "trigger_price", "floor_price"])
@pytest.mark.parametrize("bad", [*NOT_NUMBERS, -1.0, 10**400])
@pytest.mark.fault("F121")
def test_a_policy_refuses_bad_amounts(field, bad):
    """NaN, infinite, negative, text, nothing, a bool, and a whole number beyond floats."""
    with pytest.raises(ValueError, match=field):
        tr.Policy(**POLICY | {field: bad})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coverage": 0.0}, "coverage"),
        ({"trigger_price": 0.5, "floor_price": 0.5}, "policy 'P1': trigger_price must be above floor_price"),
        ({"trigger_price": 0.4}, "must be above floor_price"),
        ({"trigger_price": 97.0, "floor_price": 80.0}, "peg reference, such as 0.97 for 97 %, .* found 97.0"),
        ({"policy_id": ""}, "policy_id"),
        ({"asset": " "}, "asset"),
        ({"asset": 3}, "asset"),
    ],
)
@pytest.mark.fault("F121")
def test_a_policy_refuses(changes, message):
    """A trigger at or under its floor or in percent, no coverage, no names."""
    with pytest.raises(ValueError, match=message):
        tr.Policy(**POLICY | changes)


def test_units_and_tables_that_are_meant_otherwise():
    """Prices in percent, and one policy where several belong."""
    with pytest.raises(InvalidPriceError, match=r"scenario prices\['USDC'\] must be in units .* found 90"):
        tr.Scenario("s", 1.0, prices={"USDC": 90})
    assert {"USDC": 10.0} == tr.Scenario("s", 1.0, prices={"USDC": 10}).prices
    with pytest.raises(ValueError, match="several Policy records, such as a list, found Policy"):
        tr.Vault(1e6, tr.Policy(**POLICY))


@given(st.floats(0.01, 2), st.floats(0.0, 0.99), st.floats(1e-3, 1e9), st.floats(-1, 3))
def test_payouts(trigger, share, coverage, ratio):
    """Nothing at or above the trigger, all at or below the floor, between 0 and coverage, falling in the price."""
    floor = trigger * share
    policy = tr.Policy("P", "USDC", coverage, trigger, floor)

    paid = policy.payout(ratio)

    assert 0.0 <= paid <= coverage
    assert 0.0 == policy.payout(trigger)
    assert coverage == policy.payout(floor)
    assert policy.payout(ratio + 0.01) <= paid
    if floor < ratio < trigger:
        assert paid == pytest.approx(coverage * (trigger - ratio) / (trigger - floor))
    assert [paid, 0.0] == policy.payout(np.array([ratio, trigger])).tolist()


@pytest.mark.parametrize("bad", [*NOT_NUMBERS, 0.0, -5.0])
def test_a_vault_refuses_bad_capital(bad):
    """Capital is above 0."""
    with pytest.raises(ValueError, match="capital"):
        tr.Vault(bad, [])


def test_a_vault_refuses_doubled_policies_and_strangers():
    """By id; and only policies are policies."""
    with pytest.raises(ValueError, match="policy ids must be unique, found 'P1' twice"):
        tr.Vault(1.0, [tr.Policy(**POLICY)] * 2)
    with pytest.raises(ValueError, match=r"Vault\.from_frame"):
        tr.Vault(1.0, ["P1"])
    with pytest.raises(ValueError, match="btc_value"):
        tr.Vault(1.0, [], btc_value=-1.0)


def test_a_vault_from_a_table_and_back():
    """One row a policy; a bad row is named."""
    table = pd.DataFrame([POLICY, POLICY | {"policy_id": "P2", "coverage": 5}])

    vault = tr.Vault.from_frame(table, capital=2e5)

    assert 100_005.0 == vault.coverage
    assert 100_005.0 / 2e5 == vault.ltv
    pd.testing.assert_frame_equal(table.astype({"coverage": float}), vault.to_frame(), check_dtype=False)
    with pytest.raises(ValueError, match=r"row 1 .*coverage"):
        tr.Vault.from_frame(table.assign(coverage=[1.0, -1.0]), capital=1.0)
    with pytest.raises(ValueError, match=r"missing \['asset'\]"):
        tr.Vault.from_frame(table.drop(columns="asset"), capital=1.0)
    with pytest.raises(ValueError, match="columns of the table of policies must be unique, found 'asset' twice"):
        tr.Vault.from_frame(pd.concat([table, table["asset"]], axis=1), capital=1.0)


@pytest.mark.parametrize("assets", ["USDX", 3])
def test_coins_of_your_own_are_several(assets):
    """A symbol alone is not taken for its letters."""
    with pytest.raises(ValueError, match=f"assets must be several .* found {assets!r}"):
        tr.Vault(1e6, [], assets=assets)


def test_no_policies_is_fine():
    """Nothing covered."""
    vault = tr.Vault(1.0, [])

    assert (0.0, 0.0) == (vault.coverage, vault.ltv)


@pytest.mark.parametrize("field", ["probability", "weight", "volatility_multiplier", "severity_multiplier"])
@pytest.mark.parametrize("bad", [*NOT_NUMBERS, -0.1])
@pytest.mark.fault("F122")
def test_a_scenario_refuses_bad_numbers(field, bad):
    """NaN, infinite, negative, no number."""
    with pytest.raises(ValueError, match=field):
        tr.Scenario(**{"name": "s", "probability": 0.5} | {field: bad})


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": 1.01},
        {"btc_change": -1.01},
        {"correlation_shift": 1.1},
        {"correlation_shift": -1.1},
        {"name": ""},
    ],
)
def test_a_scenario_refuses(changes):
    """What lies outside its range."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        tr.Scenario(**{"name": "s", "probability": 0.5} | changes)


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_scenario_refuses_impossible_prices(price):
    """As everywhere."""
    with pytest.raises(InvalidPriceError, match=r"prices\['USDC'\]"):
        tr.Scenario("s", 0.5, prices={"USDC": price})


def test_scenarios_survive_json():
    """Equal after a round trip."""
    for scenario in tr.builtin_scenarios():
        assert scenario == tr.Scenario(**json.loads(json.dumps(scenario.to_dict())))


def test_records_are_frozen():
    """Nobody changes them behind one's back."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        tr.Policy(**POLICY).coverage = 1.0
    with pytest.raises(ValueError, match="read-only"):
        tr.CorrelationMatrix(["A"], [[1.0]], [[0]], [[False]]).values[0, 0] = 0.5


@pytest.mark.parametrize(("rise", "fall", "start"), [(-0.1, 0.1, None), (0.1, 1.1, None), (0.1, 0.1, 0.0)])
def test_an_accruing_peg_refuses(rise, fall, start):
    """A negative rise, a fall of more than everything, a start of 0."""
    with pytest.raises(ValueError, match="must be a number"):
        tr.AccruingPeg(rise=rise, fall=fall, start=start)


@pytest.mark.fault("F088")
@pytest.mark.parametrize("time", [datetime(2024, 1, 1), pd.NaT, "2024-01-01", None])  # noqa: DTZ001
def test_naive_times_are_refused(time):
    """And what is no time."""
    with pytest.raises(InvalidPriceError, match="as_of must be"):
        as_utc(time, "as_of")


@pytest.mark.fault("F089")
def test_another_zone_is_converted():
    """To the same instant."""
    time = pd.Timestamp("2024-01-01T01:00", tz="Europe/Berlin")

    assert "2024-01-01T00:00:00Z" == iso(as_utc(time))
    assert datetime(2024, 1, 1, tzinfo=UTC) == as_utc(time)


def test_an_event_as_json():
    """ISO times, durations in seconds, None where there is none."""
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    [event] = tr.detect_depegs(pd.Series([1.0, 0.9, 0.9], index=index, name="USDC"))

    document = event.to_dict()

    assert json.loads(json.dumps(document)) == document
    assert ("2024-01-01T01:00:00Z", None, 3600.0, None, True, None) == tuple(
        document[key]
        for key in (
            "start", "recovered_at", "duration_seconds", "recovery_time_seconds", "is_open", "max_gap_seconds",
        )
    )  # fmt: skip
    assert timedelta(hours=1) == event.duration

"""Stress test and portfolio metrics."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr


def vault(**coverages):
    """Return a vault of one policy a coin, paying from 0.95 to 0.75."""
    policies = [tr.Policy(name, name, amount, 0.95, 0.75) for name, amount in coverages.items()]
    return tr.Vault(1e6, policies, btc_value=1e5)


def test_stress_losses_by_hand():
    """Payouts at the levels minus the gain on BTC; inactive ones are left out."""
    scenarios = [
        tr.Scenario("half", 0.1, prices={"USDC": 0.85, "dai": 0.5}, btc_change=0.2, volatility_multiplier=9.0),
        tr.Scenario("off", 0.1, prices={"USDC": 0.1}, is_active=False),
        tr.Scenario("calm", 0.8, btc_change=-0.1, weight=5.0),
    ]

    result = tr.stress_test(vault(USDC=4e5, DAI=4e5), scenarios)

    assert {"half": pytest.approx(2e5 + 4e5 - 2e4), "calm": pytest.approx(1e4)} == result.losses.to_dict()
    assert "half" == result.worst_scenario
    assert result.worst_loss == pytest.approx(5.8e5)
    assert result.average_loss == pytest.approx(2.95e5)
    assert ["half"] == result.above_threshold.index.tolist()
    assert ["half"] == result.to_dict()["above_threshold"]


def test_stress_needs_an_active_scenario():
    """And at least one at all."""
    for scenarios in ([], [tr.Scenario("off", 1.0, is_active=False)]):
        with pytest.raises(ValueError, match="scenario"):
            tr.stress_test(vault(), scenarios)


def test_stress_takes_scenarios_from_a_generator():
    """What they name is checked too."""
    crash = tr.Scenario("crash", 0.1, prices={"USDC": 0.85})

    assert 2e5 == pytest.approx(tr.stress_test(vault(USDC=4e5), (one for one in [crash])).losses["crash"])
    with pytest.raises(tr.errors.UnknownAssetError):
        tr.stress_test(vault(USDC=4e5), (tr.Scenario("odd", 0.1, prices={name: 0.5}) for name in ["NoCoin"]))


def test_metrics_by_hand():
    """Two coins of equal coverage: entropy ln 2 over ln 14."""
    metrics = tr.portfolio_metrics(vault(USDC=2e5, DAI=2e5))

    assert (1e6, 4e5, 2, 0.4, 0.5) == (
        metrics.capital, metrics.coverage, metrics.n_policies, metrics.ltv, metrics.utilization,
    )  # fmt: skip
    assert metrics.diversification == pytest.approx(math.log(2) / math.log(14))


def test_diversification_at_its_ends():
    """No policies 1, one coin 0, all coins evenly 1, more than 14 coins still at most 1."""
    even = vault(**{asset.symbol: 1.0 for asset in tr.STABLECOINS})
    many = tr.Vault(
        1.0, [tr.Policy(f"C{i}", f"C{i}", 1.0, 0.9, 0.5) for i in range(20)], assets=[f"C{i}" for i in range(20)]
    )

    assert 1.0 == tr.portfolio_metrics(tr.Vault(1.0, [])).diversification
    assert 0.0 == tr.portfolio_metrics(vault(USDC=5.0)).diversification
    assert 1.0 == pytest.approx(tr.portfolio_metrics(even).diversification)
    assert 1.0 == pytest.approx(tr.portfolio_metrics(many).diversification)


def test_spelling_does_not_split_an_asset():
    """Policies on usdc and USDC cover one coin."""
    book = tr.Vault(1.0, [tr.Policy("a", "usdc", 1.0, 0.9, 0.5), tr.Policy("b", "USDC", 1.0, 0.9, 0.5)])

    assert 0.0 == tr.portfolio_metrics(book).diversification


@given(st.dictionaries(st.sampled_from([a.symbol for a in tr.STABLECOINS]), st.floats(0.01, 1e9), min_size=1))
def test_diversification_lies_between_0_and_1_and_ignores_scale(coverages):
    """For any book."""
    one = tr.portfolio_metrics(vault(**coverages)).diversification
    ten = tr.portfolio_metrics(vault(**{name: 10 * amount for name, amount in coverages.items()})).diversification

    assert 0.0 <= one <= 1.0
    assert one == pytest.approx(ten, abs=1e-9)


def test_unknown_coins_are_refused_everywhere():
    """With the policy that names them."""
    stranger = tr.Vault(1.0, [tr.Policy("P7", "USDX", 1.0, 0.9, 0.5)])

    for function in (tr.portfolio_metrics, lambda v: tr.stress_test(v, tr.builtin_scenarios())):
        with pytest.raises(tr.UnknownAssetError, match="asset of policy 'P7': 'USDX'"):
            function(stranger)


def test_records_as_tables_and_documents():
    """Losses over capital; the fields of the metrics."""
    result = tr.stress_test(vault(USDC=4e5), [tr.Scenario("half", 0.1, prices={"USDC": 0.85})])

    table = result.to_frame()

    assert (["loss", "share_of_capital"], ["half"]) == (list(table.columns), list(table.index))
    assert [2e5, 0.2] == pytest.approx(table.loc["half"].tolist())
    metrics = tr.portfolio_metrics(vault(USDC=4e5))
    assert {name: getattr(metrics, name) for name in metrics.to_dict()} == metrics.to_dict()
    assert metrics.to_dict()

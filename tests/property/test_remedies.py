"""What a recommendation says clears its alert, and a little less does not."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.core.alerts import Findings, risk_alerts
from tonsurance_risk.core.recommendations import recommendations
from tonsurance_risk.testing.examples import event

SYMBOLS = [asset.symbol for asset in tr.STABLECOINS]
NO_PAIRS = pd.DataFrame(columns=["asset_1", "asset_2", "correlation", "low", "high", "observations"])


def findings(vault, scenarios=(), **changes):
    """Return what the rules look at for a book, nothing else being amiss."""
    scenarios = tuple(scenarios) or (tr.Scenario("calm", 1.0),)
    quiet = {
        "var_95": 0.0,
        "var_trend_30d": None,
        "contagion": NO_PAIRS,
        "open_events": (),
        "ratios": {},
        "without_prices": (),
        "ages": {},
    }
    return Findings(
        vault=vault,
        scenarios=scenarios,
        metrics=tr.portfolio_metrics(vault),
        stress=tr.stress_test(vault, scenarios),
        **quiet | changes,
    )


def fires(rule, found):
    """Return whether a rule fires."""
    return rule in [alert.rule for alert in risk_alerts(found)]


def advice_on(rule, found):
    """Return the recommendation of a rule."""
    return next(one for one in recommendations(risk_alerts(found), found) if one.rule == rule)


def less_of(remedy, dollars):
    """Return a remedy that is smaller by some dollars in all."""
    if remedy.capital_usd:
        return attrs.evolve(remedy, capital_usd=remedy.capital_usd - dollars)
    cut = -math.fsum(remedy.coverage_usd.values())
    return attrs.evolve(
        remedy,
        coverage_usd={asset: change * (1.0 - dollars / cut) for asset, change in remedy.coverage_usd.items()},
    )


amounts = st.floats(1e3, 1e7)
books = st.builds(
    lambda capital, policies, btc, limit: tr.Vault(
        capital,
        [
            tr.Policy(f"{i}", coin, amount, trigger, trigger - width)
            for i, (coin, amount, trigger, width) in enumerate(policies)
        ],
        btc_value=btc,
        aggregate_limit=limit,
    ),
    st.floats(1e5, 1e7),
    st.lists(
        st.tuples(st.sampled_from(SYMBOLS), amounts, st.floats(0.8, 0.99), st.floats(0.01, 0.5)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.0, 1e5, 3e6]),
    st.sampled_from([None, 5e6, 2e7]),
)


@given(books)
def test_ltv(vault):
    """Capital, or a cut of all coverage; two dollars less are not enough."""
    found = findings(vault)
    assume(fires("ltv", found))
    advice = advice_on("ltv", found)

    capital, cut = advice.remedies
    assert advice.value == capital.capital_usd == round(capital.capital_usd)
    for remedy in advice.remedies:
        assert not fires("ltv", findings(tr.apply_remedy(vault, remedy)))
        assert fires("ltv", findings(tr.apply_remedy(vault, less_of(remedy, 2.0))))
    shares = [tr.apply_remedy(vault, cut).coverage / vault.coverage]
    assert all(1.0 + change / total == pytest.approx(shares[0]) for change, total in _cut_of(vault, cut))


def _cut_of(vault, remedy):
    totals = vault.to_frame().groupby("asset")["coverage"].sum()
    return [(remedy.coverage_usd[asset], total) for asset, total in totals.items()]


@given(books)
def test_diversification(vault):
    """The largest coverages are cut to one amount; 1 % less is not enough. On too few coins it takes new ones."""
    found = findings(vault)
    assume(fires("diversification", found))
    advice = advice_on("diversification", found)
    coins = {policy.asset for policy in vault.policies}

    if not advice.remedies:
        assert len(coins) < 4
        others = [coin for coin in SYMBOLS if coin not in coins][:4]

        def wider(amount):
            new = [tr.Policy(f"new {coin}", coin, amount, 0.9, 0.5) for coin in others]
            return findings(attrs.evolve(vault, policies=(*vault.policies, *new)))

        assert not fires("diversification", wider(advice.value))
        assert fires("diversification", wider(advice.value - 1.0))
        return
    assert len(coins) >= 4
    [remedy] = advice.remedies
    after = tr.apply_remedy(vault, remedy)
    assert not fires("diversification", findings(after))
    assert fires("diversification", findings(tr.apply_remedy(vault, less_of(remedy, 0.01 * advice.value))))
    left = after.to_frame().groupby("asset")["coverage"].sum()[list(remedy.coverage_usd)]
    assert left.max() == pytest.approx(left.min(), rel=1e-9)


prices = st.dictionaries(st.sampled_from(SYMBOLS), st.floats(0.3, 1.0), min_size=1, max_size=14)
markets = st.lists(st.tuples(prices, st.floats(-1.0, 1.0), st.booleans()), min_size=1, max_size=4)


@given(books, markets)
def test_worst_stress(vault, market):
    """Capital, or a cut; two dollars less of the capital or of what is cut are not enough."""
    scenarios = [
        tr.Scenario(f"{i}", 0.1, prices=levels, btc_change=change, is_active=active or i == 0)
        for i, (levels, change, active) in enumerate(market)
    ]
    found = findings(vault, scenarios)
    assume(fires("worst_stress", found))
    advice = advice_on("worst_stress", found)

    assert 1 <= len(advice.remedies) <= 2
    for remedy in advice.remedies:
        assert not fires("worst_stress", findings(tr.apply_remedy(vault, remedy), scenarios))
        share = less_of(remedy, 2.0)
        if len(remedy.coverage_usd) > 1:
            share = less_of(remedy, -1e-6 * math.fsum(remedy.coverage_usd.values()))
        elif remedy.coverage_usd and -math.fsum(remedy.coverage_usd.values()) <= 2.0:
            continue
        assert fires("worst_stress", findings(tr.apply_remedy(vault, share), scenarios))
    if len(advice.remedies) == 1:
        uncovered = attrs.evolve(vault, policies=[])
        assert fires("worst_stress", findings(uncovered, scenarios))


@given(books, st.floats(0.21, 3.0), st.integers(0, 3))
def test_var_trend(vault, trend, seed):
    """The book scaled down and simulated again has a VaR 95 of 1.2 times that of then; 1 % less of it is too much."""
    scenarios = [
        tr.Scenario("run", 0.2, prices=dict.fromkeys(SYMBOLS, 0.8), btc_change=-0.3),
        tr.Scenario("calm", 0.8),
    ]

    def var_of(book):
        sigma = dict.fromkeys(SYMBOLS, 0.02) | {"BTC": 0.1}
        return tr.simulate_losses(book, scenarios, volatility=sigma, n=500, seed=seed).value_at_risk(0.95).value

    before = var_of(vault)
    assume(before > 1.0)
    then = before / (1.0 + trend)

    def after(book):
        var = var_of(book)
        return findings(book, var_95=var, var_trend_30d=var / then - 1.0)

    found = after(vault)
    [remedy] = advice_on("var_95_trend_30d", found).remedies
    assert not fires("var_95_trend_30d", after(tr.apply_remedy(vault, remedy)))
    smaller = tr.Remedy(
        btc_value_usd=0.99 * remedy.btc_value_usd,
        aggregate_limit_usd=0.99 * remedy.aggregate_limit_usd,
        coverage_usd={asset: 0.99 * change for asset, change in remedy.coverage_usd.items()},
    )
    assert fires("var_95_trend_30d", after(tr.apply_remedy(vault, smaller)))


BOOK = tr.Vault(1e7, [tr.Policy(coin, coin, 1e4, 0.95, 0.5) for coin in SYMBOLS], btc_value=1e4)


@pytest.mark.parametrize(
    ("rule", "direction", "ratio"),
    [("open_depeg", "below", 0.98), ("open_depeg", "below", 0.90), ("open_premium", "above", 1.05)],
)
def test_open_events(rule, direction, ratio):
    """Over where the price recovers, or without cover; a coin that is not covered is not spoken of."""
    running = [
        attrs.evolve(event(coin), recovered_at=None, direction=direction) for coin in ("USDC", "DAI", "EURX")
    ]
    state = {"open_events": running, "ratios": dict.fromkeys(("USDC", "DAI", "EURX"), ratio)}
    found = findings(BOOK, **state)
    advice = advice_on(rule, found)

    recovery = running[0].recovery if direction == "below" else 2.0 - running[0].recovery
    relation = "at_least" if direction == "below" else "at_most"
    assert [("USDC", relation, recovery), ("DAI", relation, recovery)] == [
        (one.subject, one.relation, one.bound) for one in advice.clears_at
    ]
    assert "EURX" not in advice.message
    [remedy] = advice.remedies
    assert not fires(rule, findings(tr.apply_remedy(BOOK, remedy), **state))
    assert fires(rule, findings(tr.apply_remedy(BOOK, less_of(remedy, 1.0)), **state))


def test_an_event_ends_where_the_recommendation_says():
    """The detector and the bound agree: at the bound it is over, just below it is not."""
    index = pd.date_range("2025-01-01", periods=30, freq="h", tz="UTC")
    running = pd.Series([1.0] * 20 + [0.97] * 10, index=index, name="USDC")
    [event_below] = tr.detect_depegs(running)
    state = {"open_events": [event_below], "ratios": {"USDC": 0.97}}
    [clearing] = advice_on("open_depeg", findings(BOOK, **state)).clears_at

    for price, is_open in ((clearing.bound, False), (np.nextafter(clearing.bound, 0.0), True)):
        later = pd.concat([running, pd.Series([price], index=[index[-1] + timedelta(hours=1)], name="USDC")])
        assert [is_open] == [one.is_open for one in tr.detect_depegs(later)]


def test_missing_prices():
    """A price, or no cover and no Bitcoin."""
    state = {"without_prices": ("USDC", "BTC")}
    found = findings(BOOK, **state)

    cover, held = (advice_on(rule, found) for rule in ("covered_without_prices", "held_without_prices"))
    assert {"USDC": -1e4} == cover.remedies[0].coverage_usd
    assert -1e4 == held.remedies[0].btc_value_usd
    assert [("USDC", 1.0), ("BTC", 1.0)] == [
        (one.clears_at[0].subject, one.clears_at[0].bound) for one in (cover, held)
    ]


def test_what_only_the_market_clears():
    """Pairs below 0.8, and prices that are new enough."""
    pair = {"asset_1": "DAI", "asset_2": "USDC", "correlation": 0.93, "low": 0.9, "high": 0.95, "observations": 90}
    found = findings(BOOK, contagion=pd.DataFrame([pair]), ages={"USDT": (30.0, 24.0)})

    assert [("DAI/USDC", "correlation", "below", 0.8)] == [
        attrs.astuple(one) for one in advice_on("contagion", found).clears_at
    ]
    assert [("USDT", "age_hours", "at_most", 24.0)] == [
        attrs.astuple(one) for one in advice_on("stale_data", found).clears_at
    ]
    for bound, fired in ((np.nextafter(0.8, 0.0), False), (0.8, True)):
        assert fired == fires("contagion", findings(BOOK, contagion=pd.DataFrame([pair | {"correlation": bound}])))


def test_every_rule_has_its_recommendation_as_json():
    """With the number, remedies and bounds."""
    vault = tr.Vault(
        1e4, [tr.Policy("1", "USDC", 1e4, 0.95, 0.5), tr.Policy("2", "GHO", 1e4, 0.95, 0.5)], btc_value=1e3
    )
    running = [
        attrs.evolve(event("USDC"), recovered_at=None),
        attrs.evolve(event("GHO"), recovered_at=None, direction="above"),
    ]
    pair = {"asset_1": "DAI", "asset_2": "USDC", "correlation": 0.93, "low": 0.9, "high": 0.95, "observations": 90}
    found = findings(
        vault,
        [tr.Scenario("run", 1.0, prices={"USDC": 0.4})],
        var_95=2.0,
        var_trend_30d=1.0,
        contagion=pd.DataFrame([pair]),
        open_events=running,
        ratios={"USDC": 0.9, "GHO": 1.1},
        without_prices=("USDC", "BTC"),
        ages={"USDT": (30.0, 24.0)},
    )
    alerts = risk_alerts(found)
    advice = recommendations(alerts, found)

    assert 10 == len(advice) == len({alert.rule for alert in alerts})
    for one in advice:
        document = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert document["clears_at"]
        assert {"capital_usd", "btc_value_usd", "aggregate_limit_usd", "coverage_usd"} in [
            set(remedy) for remedy in document["remedies"]
        ] or not document["remedies"]


@pytest.mark.parametrize(
    ("remedy", "message"),
    [
        (tr.Remedy(coverage_usd={"EURX": -1.0}), "coverage_usd must be of covered assets.*EURX"),
        (tr.Remedy(aggregate_limit_usd=-1.0), "aggregate_limit_usd"),
        (tr.Remedy(capital_usd=-1e7), "capital"),
        (tr.Remedy(btc_value_usd=-2e4), "btc_value"),
    ],
)
def test_remedies_that_do_not_fit_the_book(remedy, message):
    """Are refused by name."""
    with pytest.raises(ValueError, match=message):
        tr.apply_remedy(BOOK, remedy)


@pytest.mark.parametrize(
    ("remedy", "said"),
    [
        (None, "must be a Remedy, found NoneType"),
        (tr.Remedy(coverage_usd={"USDC": float("nan")}), "coverage_usd of USDC"),
        (tr.Remedy(coverage_usd={"USDC": -2e5}), "at least -100000"),
        (tr.Remedy(coverage_usd={"DAI": -1.0}), "found DAI"),
    ],
)
def test_a_remedy_that_cannot_be_applied(remedy, said):
    """Says what is wrong, and of which asset."""
    vault = tr.Vault(1e6, [tr.Policy("P1", "USDC", 1e5, 0.95, 0.5)])

    with pytest.raises(ValueError, match=said):
        tr.apply_remedy(vault, remedy)

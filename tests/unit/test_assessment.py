"""The assessment: alerts at their bounds, what is ignored, what is null with a reason, and its document."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError
from tonsurance_risk.values import iso

DAY = timedelta(days=1)
AS_OF = pd.Timestamp("2024-12-31", tz="UTC")
MADE = datetime(2025, 1, 1, 2, 20, tzinfo=UTC)
COINS = ["USDC", "USDT", "DAI", "LUSD"]


def market(days=400, coins=COINS, seed=0):
    """Return calm daily prices up to AS_OF."""
    rng = np.random.default_rng(seed)
    index = pd.date_range(end=AS_OF, periods=days, freq="D")
    prices = pd.DataFrame(np.exp(rng.normal(0, 1e-3, (days, len(coins)))), index=index, columns=coins)
    prices["BTC"] = 4e4 * np.exp(np.cumsum(rng.normal(0, 0.03, days)))
    return prices


def book(capital=1e6, share=0.5, coins=COINS, trigger=0.97, floor=0.5):
    """Return a vault that covers a share of its capital, evenly."""
    amount = capital * share / len(coins)
    return tr.Vault(capital, [tr.Policy(c, c, amount, trigger, floor) for c in coins], btc_value=1e4)


def report_of(prices=None, vault=None, **options):
    """Assess with 2,000 simulations."""
    arguments = {"as_of": AS_OF, "step": "1d", "generated_at": MADE, "n": 2000} | options
    return tr.assess(market() if prices is None else prices, vault or book(), **arguments)


def rules(report):
    """Return (severity, rule) of the alerts."""
    return [(alert.severity, alert.rule) for alert in report.alerts]


SPREAD = ("medium", "diversification")


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.6999, []), (0.7, [("high", "ltv")]), (0.7999, [("high", "ltv")]), (0.8, [("critical", "ltv")])],
)
def test_ltv_alerts_at_their_bounds(share, expected):
    """Coverage in whole dollars over all coins, so that nothing else fires."""
    vault = tr.Vault(
        10_000.0,
        [tr.Policy("a", "USDC", 1e4 * share / 2, 0.9, 0.1), tr.Policy("b", "DAI", 1e4 * share / 2, 0.9, 0.1)],
    )

    fired = [rule for rule in rules(report_of(vault=vault)) if rule[1] == "ltv"]

    assert expected == fired


def test_advice_on_ltv_clears_the_alert():
    """With the numbers that it names."""
    vault = book(share=0.75)
    [advice] = [r for r in report_of(vault=vault).recommendations if r.rule == "ltv"]

    more = tr.Vault(vault.capital + advice.value, vault.policies, btc_value=vault.btc_value)

    assert "ltv" not in [rule for _, rule in rules(report_of(vault=more))]
    assert advice.value == pytest.approx(0.75e6 / 0.7 - 1e6, abs=1.0)


def test_a_large_stress_loss_is_critical_and_its_advice_clears_it():
    """More than half of capital."""
    vault = book(share=0.65, trigger=0.999, floor=0.75)
    report = report_of(vault=vault)

    assert ("critical", "worst_stress") == rules(report)[0]
    [advice] = [r for r in report.recommendations if r.rule == "worst_stress"]
    more = tr.Vault(vault.capital + advice.value, vault.policies, btc_value=vault.btc_value)
    assert "worst_stress" not in [rule for _, rule in rules(report_of(vault=more))]


def test_concentration():
    """Half of what is covered on one coin of two is too narrow: ln 2 / ln 14 is 0.26."""
    assert SPREAD in rules(report_of(vault=book(coins=["USDC", "DAI"])))
    every = [asset.symbol for asset in tr.STABLECOINS]
    assert SPREAD not in rules(report_of(vault=book(coins=every)))


@pytest.mark.parametrize(("rise", "fires"), [(1.19, False), (1.21, True)])
def test_var_trend_over_thirty_days(rise, fires):
    """Against the newest snapshot that is 30 days old, at most 33."""
    var = report_of().sample.value_at_risk(0.95).value
    history = pd.DataFrame(
        {"var_95": [1.0, var / rise, 5 * var], "capital": 1e6, "coverage": 5e5},
        index=[AS_OF - 40 * DAY, AS_OF - 31 * DAY, AS_OF - 29 * DAY],
    )

    report = report_of(history=history)

    assert fires == (("high", "var_95_trend_30d") in rules(report))
    assert report.var_trend["var_trend_30d"] == pytest.approx(rise - 1)
    assert report.comparison["var_95_vs_30d_avg"] == pytest.approx(-0.8)
    if fires:
        [advice] = [r for r in report.recommendations if r.rule == "var_95_trend_30d"]
        assert 1.5 * var == pytest.approx(advice.value)


def test_growth_and_missing_snapshots():
    """Null with a reason beside it."""
    history = pd.DataFrame({"var_95": [1.0], "capital": [8e5], "coverage": [1.0]}, index=[AS_OF - 8 * DAY])

    known = report_of(history=history).to_dict()
    unknown = report_of().to_dict()

    assert 0.25 == pytest.approx(known["historical_comparison"]["portfolio_growth_7d"])
    for section, key in (
        ("historical_comparison", "portfolio_growth_7d"),
        ("historical_comparison", "var_95_vs_30d_avg"),
        ("var_analysis", "var_trend_30d"),
    ):
        assert unknown[section][key] is None
        assert "no snapshot" in unknown[section][f"{key}_reason"]


def test_no_change_against_nothing():
    """A value at risk of 0 thirty days ago has no relative change, and the reason says so."""
    history = pd.DataFrame({"var_95": [0.0], "capital": [1e6], "coverage": [1.0]}, index=[AS_OF - 30 * DAY])

    document = report_of(history=history).to_dict()

    assert document["var_analysis"]["var_trend_30d"] is None
    assert "is 0: no relative change" in document["var_analysis"]["var_trend_30d_reason"]


def test_history_is_only_what_came_before():
    """Snapshots of as_of and later do not count; a wrong table is refused."""
    later = pd.DataFrame({"var_95": 1.0, "capital": 1.0, "coverage": 1.0}, index=[AS_OF, AS_OF + DAY])

    assert report_of(history=later).comparison["var_95_vs_30d_avg"] is None
    with pytest.raises(ValueError, match=r"missing \['coverage'\]"):
        report_of(history=later.drop(columns="coverage"))
    with pytest.raises(InvalidPriceError, match="history"):
        report_of(history=later.tz_localize(None))


@pytest.mark.parametrize(
    ("price", "expected"),
    [(0.98, ("high", "open_depeg")), (0.96, ("critical", "open_depeg")), (1.05, ("low", "open_premium"))],
)
def test_open_depegs_of_covered_assets(price, expected):
    """Critical below the highest trigger (0.97); a premium pays nothing."""
    prices = market()
    prices.loc[AS_OF - 3 * DAY :, "USDT"] = price

    report = report_of(prices)

    assert expected in rules(report)
    [event] = [event for event in report.events if event.is_open]
    assert ("USDT", AS_OF - 3 * DAY) == (event.asset, event.start)
    uncovered = report_of(prices, book(coins=["USDC", "DAI"]))
    assert expected not in rules(uncovered)
    if expected[1] == "open_depeg":
        [advice] = [r for r in report.recommendations if r.rule == "open_depeg"]
        assert advice.value == pytest.approx(max(0.0, 125_000 * (0.97 - price) / 0.47))


def test_contagion_is_a_high_alert():
    """Two coins that move together for 90 days."""
    prices = market()
    prices["DAI"] = prices["USDC"] ** 0.5 * np.exp(np.random.default_rng(9).normal(0, 1e-5, len(prices)))

    report = report_of(prices)

    assert ("high", "contagion") in rules(report)
    assert [("DAI", "USDC")] == list(zip(report.contagion["asset_1"], report.contagion["asset_2"], strict=True))
    [advice] = [r for r in report.recommendations if r.rule == "contagion"]
    assert 2.5e5 == advice.value


def test_a_contagion_alert_says_that_it_rests_on_five_days():
    """With the value without them and the days; the correlation has its bootstrap interval."""
    prices = market()
    prices.iloc[-40:-38, :2] *= 0.9

    report = report_of(prices)

    [alert] = [a for a in report.alerts if a.rule == "contagion"]
    assert "it rests on 5 day(s), " in alert.message
    assert f"{prices.index[-40] - DAY:%Y-%m-%d}" in alert.message
    [pair] = report.to_dict()["contagion"]
    assert pair["rests_on_few_days"]
    assert f"({pair['low']:.2f} to {pair['high']:.2f}, 89 observations)" in alert.message
    assert pair["low"] < 0.8 < pair["high"]
    assert report.to_dict()["correlations"]["90"]["interval"]["n_resamples"] == 999


def test_a_contagion_alert_on_days_without_which_nothing_moves():
    """Prices of two decimals, still but for three joint days: no number is left without them, and a reason is."""
    prices = market(coins=["USDC", "DAI"])
    prices[["USDC", "DAI"]] = 1.0
    prices.loc[AS_OF - 9 * DAY : AS_OF - 7 * DAY, ["USDC", "DAI"]] = [[0.95, 0.96], [0.96, 0.95], [0.95, 0.96]]

    report = report_of(prices, book(coins=["USDC", "DAI"]))

    [alert] = [alert for alert in report.alerts if alert.rule == "contagion"]
    assert "rests on 4 day(s), 2024-12-21, " in alert.message
    assert alert.message.endswith(": a series does not move on the other rows")


def test_a_covered_asset_without_prices():
    """A high alert, an entry in data_quality, a stated fallback volatility; the coin is still simulated."""
    report = report_of(vault=book(coins=[*COINS, "mkUSD"]))
    document = report.to_dict()

    assert ("high", "covered_without_prices") in rules(report)
    assert ["mkUSD"] == [entry["asset"] for entry in document["data_quality"]["without_prices"]]
    assert 0.007 == document["inputs"]["volatility"]["mkUSD"]
    assert ["mkUSD"] == document["inputs"]["fallback_volatility"]
    assert report.sample.contributions(0.99)["mkUSD"] > 0


def test_btc_held_without_prices():
    """Said, and simulated with its fallback."""
    report = report_of(market().drop(columns="BTC"))

    assert ("medium", "held_without_prices") in rules(report)
    assert 0.103 == report.volatility["BTC"]


@pytest.mark.parametrize(("step", "freq", "hours"), [("1d", "D", 48), ("1h", "h", 24)])
def test_old_data(step, freq, hours):
    """24 h, for daily bars 48 h."""
    rng = np.random.default_rng(0)
    index = pd.date_range("2024-06-01", periods=3000 if freq == "h" else 300, freq=freq, tz="UTC")
    prices = pd.DataFrame(np.exp(rng.normal(0, 1e-3, (len(index), 2))), index=index, columns=["USDC", "DAI"])
    limit = index[-1] + timedelta(hours=hours)

    vault = book(coins=["USDC", "DAI"])
    assert "stale_data" not in [rule for _, rule in rules(report_of(prices, vault, step=step, as_of=limit))]
    late = report_of(prices, vault, step=step, as_of=limit + timedelta(minutes=6))
    assert 2 == rules(late).count(("high", "stale_data"))
    assert hours + 0.1 == pytest.approx(next(a.value for a in late.alerts if a.rule == "stale_data"))


def test_later_prices_are_ignored():
    """To the bit, also when they are wild."""
    prices = market()
    later = pd.concat([prices, pd.DataFrame(2.0, index=[AS_OF + DAY], columns=prices.columns)])

    assert report_of(prices).to_json() == report_of(later).to_json()


def test_a_false_print_reaches_no_number():
    """Rejected, said so, and neither an event nor a correlation."""
    prices = market()
    wild = prices.copy()
    wild.loc[AS_OF - 20 * DAY, "DAI"] = 40.0

    report = report_of(wild)

    assert () == report.events
    assert not report.quality.passed
    unseen = prices.copy()
    unseen.loc[AS_OF - 20 * DAY, "DAI"] = np.nan
    assert (report.shock_matrix.values == report_of(unseen).shock_matrix.values).all()
    assert report.volatility == report_of(unseen).volatility


def test_equal_inputs_give_equal_reports_but_for_generated_at():
    """And another seed gives other numbers."""
    one, two = report_of(), report_of(generated_at=MADE + DAY)
    first, second = one.to_dict(), two.to_dict()

    assert "2025-01-01T02:20:00Z" == first.pop("generated_at")
    assert "2025-01-02T02:20:00Z" == second.pop("generated_at")
    assert json.dumps(first) == json.dumps(second)
    assert report_of(seed=1).sample.losses.tolist() != one.sample.losses.tolist()


def test_the_document_has_its_keys_and_no_nan():
    """Those of the interface, as JSON."""
    document = json.loads(report_of().to_json())

    assert {
        "schema_version", "generated_at", "report_date", "as_of", "horizon_days", "software_version", "seed", "inputs",
        "portfolio_summary", "var_analysis", "stress_test_results", "depeg_events", "correlations", "contagion",
        "co_depegs", "tail_dependence", "data_quality", "historical_comparison", "var_explanation",
        "var_explanation_reason", "risk_alerts", "open_alerts", "alert_changes", "recommendations", "chart_data",
    } == set(document)  # fmt: skip
    assert ("2024-12-31", "2024-12-31T00:00:00Z", 365, 0) == tuple(
        document[key] for key in ("report_date", "as_of", "horizon_days", "seed")
    )
    for name in ("var_95", "var_99", "cvar_95", "cvar_99", "expected_loss"):
        assert {
            "value", "low", "high", "standard_error", "note", "method", "n", "seed", "confidence"
        } == set(document["var_analysis"][name])  # fmt: skip
    assert 6 == len(document["correlations"]["90"]["pairs"])
    assert {"scenario", "loss"} == set(document["stress_test_results"][0])
    for alert in document["risk_alerts"]:
        assert {
            "severity", "category", "message", "rule", "value", "threshold", "subject", "key", "since"
        } == set(alert)  # fmt: skip
    assert 2000 == sum(document["chart_data"]["loss_histogram"]["counts"])
    parts = document["chart_data"]["expected_shortfall_99_contributions"]
    assert document["var_analysis"]["cvar_99"]["value"] == pytest.approx(
        math.fsum(part["value"] for part in parts.values())
    )


def test_a_histogram_of_losses_that_differ_by_rounding():
    """Is of a dollar around them, in the document as in the plot."""
    vault = tr.Vault(1e7, [tr.Policy("P", "USDC", 1e6, 0.98, 0.9)], btc_value=1e-9)

    report = report_of(vault=vault, scenarios=[tr.Scenario("run", 1.0, prices={"USDC": 0.5})])

    histogram = report.to_dict()["chart_data"]["loss_histogram"]
    axes = tr.plots.loss_distribution(report.sample)
    assert 1.0 == pytest.approx(sum(bar.get_height() for bar in axes.patches))
    assert 2000 == sum(histogram["counts"])
    assert [1e6 - 0.5, 1e6 + 0.5] == pytest.approx([histogram["edges"][0], histogram["edges"][-1]])


def test_alerts_are_known_from_the_report_before():
    """Since when each is open is kept, and one that is gone for two days is resolved."""
    first = report_of(vault=book(share=0.9))
    assert first.alerts
    earlier = first.as_of - timedelta(days=3)
    before = [attrs.evolve(alert, since=earlier, seen=earlier) for alert in first.open_alerts]
    gone = attrs.evolve(before[0], key="stale_data:USDC")

    document = report_of(vault=book(share=0.9), open_alerts=[*before, gone]).to_dict()

    assert {alert["since"] for alert in document["risk_alerts"]} == {iso(earlier)}
    assert [(one["key"], one["action"]) for one in document["alert_changes"]] == [("stale_data:USDC", "resolve")]


def test_numbers_follow_from_the_parts():
    """VaR, stress and correlations are those of the functions themselves."""
    prices, vault = market(), book()
    report = report_of(prices, vault)

    alone = tr.simulate_losses(
        vault,
        tr.builtin_scenarios(),
        correlation=tr.correlation_windows(prices)[90],
        volatility=tr.estimate_volatility(prices.loc[AS_OF - 365 * DAY :]),
        n=2000,
    )

    assert alone.value_at_risk(0.99) == report.sample.value_at_risk(0.99)
    assert tr.stress_test(vault, tr.builtin_scenarios()).losses.equals(report.stress.losses)


def test_windows_that_cannot_be_computed_are_null_with_a_reason():
    """Prices that end 60 days ago: the 90-day window is there, the 30-day one is not."""
    prices = market().loc[: AS_OF - 60 * DAY]

    report = report_of(prices)

    document = report.to_dict()["correlations"]
    assert document["30"] is None
    assert "30-day window" in document["30_reason"]
    assert document["90"] is not None
    assert 90 == report.shock_window


def test_the_shock_matrix_falls_back_to_a_longer_window_and_then_fails():
    """Prices that end 100 days ago, and 400."""
    prices = market(600)

    assert 365 == report_of(prices.loc[: AS_OF - 100 * DAY]).shock_window
    assert 365 == report_of(prices.loc[: AS_OF - 100 * DAY]).to_dict()["inputs"]["shock_window_days"]
    with pytest.raises(InsufficientDataError, match="no correlation for the shocks"):
        report_of(prices.loc[: AS_OF - 400 * DAY])


def test_no_prices_no_assessment():
    """None at all, or none before as_of."""
    for prices in (market().iloc[:0], market(), market() * np.nan):
        with pytest.raises(InsufficientDataError, match="no prices at or before"):
            report_of(prices, as_of=AS_OF - 500 * DAY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"seed": -1}, "seed"),
        ({"step": "soon"}, "step"),
        ({"step": timedelta(0)}, "step"),
        ({"scenarios": []}, "scenario"),
        ({"source": ""}, "source"),
        ({"as_of": datetime(2024, 1, 1)}, "as_of must be tz-aware"),  # noqa: DTZ001
        ({"generated_at": datetime(2024, 1, 1)}, "generated_at must be tz-aware"),  # noqa: DTZ001
    ],
)
def test_wrong_arguments(options, message):
    """Named."""
    with pytest.raises(ValueError, match=message):
        report_of(**options)


def test_accruing_coins_are_searched_below_only():
    """The recovery after a long discount is no premium."""
    rng = np.random.default_rng(0)
    index = pd.date_range(end=AS_OF, periods=400, freq="D")
    value = 1.05 ** (np.arange(400) / 365) * np.exp(rng.normal(0, 3e-4, 400))
    value[100:300] *= 0.94
    prices = market().assign(sUSDe=pd.Series(value, index=index))

    assert {"below"} == {event.direction for event in report_of(prices).events if event.asset == "sUSDe"}
    both = tr.detect_depegs(prices["sUSDe"], direction="both", sample_span=DAY)
    assert {"below", "above"} == {event.direction for event in both}


def test_an_empty_book():
    """No policies: nothing to lose but BTC."""
    report = report_of(vault=tr.Vault(1e6, []))

    assert 0.0 == report.sample.worst
    assert 1.0 == report.metrics.diversification
    assert [] == list(report.alerts)


class TestOwnCoins:
    """Coins of the vault's own are measured against their own pegs."""

    def report(self, price, peg, trigger=0.95):
        """Assess a vault that covers one coin of its own, in hours."""
        index = pd.date_range(end=AS_OF, periods=2000, freq="h")
        noise = np.random.default_rng(0).normal(0, 5e-4, len(index))
        prices = pd.DataFrame({"EURX": price * np.exp(noise)}, index=index)
        prices.iloc[-48:] *= 0.94
        vault = tr.Vault(1e6, [tr.Policy("1", "EURX", 1e5, trigger, 0.5)], assets=[tr.Asset("EURX", peg=peg)])
        return report_of(prices, vault, step="1h")

    @pytest.mark.parametrize("price", [1.08, 80.0, 0.01])
    def test_a_peg_other_than_one(self, price):
        """A fall of 6 % is a critical depeg whatever the peg, and nothing is rejected."""
        report = self.report(price, tr.FixedPeg(price))

        [event] = report.events
        assert ("below", price, True) == (event.direction, event.peg_reference, event.is_open)
        assert ("critical", "open_depeg") in rules(report)
        assert report.quality.passed
        assert () == report.without_prices
        assert report.volatility["EURX"] == pytest.approx(5e-4, rel=0.1)

    def test_an_accruing_peg(self):
        """Searched below only."""
        report = self.report(1.5, tr.AccruingPeg())

        assert ["below"] == [event.direction for event in report.events]


def test_bad_prices_after_as_of_are_not_looked_at():
    """Not even for being prices."""
    prices = market()
    later = pd.concat([prices, pd.DataFrame(-1.0, index=[AS_OF + DAY], columns=prices.columns)])

    assert report_of(prices).to_json() == report_of(later).to_json()


def test_numbers_of_numpy_are_numbers():
    """In the book, the seed and n; the report is the same."""
    vault = book()
    same = tr.Vault(
        np.int64(1_000_000),
        [
            tr.Policy(p.policy_id, p.asset, np.float64(p.coverage), p.trigger_price, p.floor_price)
            for p in vault.policies
        ],
        btc_value=np.int32(10_000),
    )

    assert report_of(vault=vault).to_json() == report_of(vault=same, seed=np.int64(0), n=np.int64(2000)).to_json()


@pytest.mark.parametrize("step", ["1h", "1m", 1, 86400, "90", "-1d", None])
def test_a_step_that_is_not_the_prices(step):
    """Daily prices said to be hourly, and what is no duration."""
    with pytest.raises(ValueError, match="step"):
        report_of(step=step)


def test_the_report_says_how_probable_each_scenario_was():
    """Probability times weight, normalised."""
    shares = {row["name"]: row["share"] for row in report_of().to_dict()["var_analysis"]["scenario_shares"]}

    assert shares["Banking Crisis (SVB)"] == pytest.approx(0.2 * 1.5 / (0.3 + 0.15 + 0.08 + 0.1 + 0.5))
    assert 1.0 == pytest.approx(math.fsum(shares.values()))

"""Reverse stress: closed forms, a grid that is looked at whole, and laws."""

from __future__ import annotations

import json
import math
import pickle

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

import tonsurance_risk as tr
from oracle.plain_reverse_stress import grid_distance, grid_error, plain_loss
from tonsurance_risk.core.loss_model import compile_model
from tonsurance_risk.core.nearest_loss import GAP, Coin, Problem, nearest_loss
from tonsurance_risk.core.payoff import PayoutFunction
from tonsurance_risk.core.reverse_stress import _Moves, _ratio_paying, _reaching
from tonsurance_risk.errors import ConvergenceError, UnreachableLossError

USDC, DAI = "USDC", "DAI"


def book(*policies, **options):
    """Return a vault of (asset, coverage, trigger, floor)."""
    listed = [tr.Policy(f"P{k}", *policy) for k, policy in enumerate(policies)]
    return tr.Vault(1e6, listed, **options)


def matrix(rho, *names):
    """Return a matrix with one correlation everywhere."""
    values = np.full((len(names), len(names)), float(rho))
    np.fill_diagonal(values, 1.0)
    return pd.DataFrame(values, index=names, columns=names)


def checked(vault, result, scenario=None):
    """Assert what holds of every result, and return it."""
    assert result.loss >= result.target * (1.0 - 2e-12)
    assert result.loss == pytest.approx(result.target, rel=1e-9) or result.distance == 0.0
    assert result.loss == tr.stress_test(vault, [result.scenario]).losses.iloc[0]
    assert result.assets["loss"].sum() == pytest.approx(result.loss, rel=1e-9, abs=1e-9)
    assert result.lower_bound <= result.distance
    assert result.density_ratio == pytest.approx(math.exp(-(result.distance**2) / 2.0))
    starts = {} if scenario is None else scenario.prices
    for asset, row in result.assets.iterrows():
        if asset != "BTC":
            assert result.scenario.prices[asset] == row["ratio"]
            assert row["log_ratio"] == pytest.approx(math.log(row["ratio"] / starts.get(asset, 1.0)), abs=1e-12)
    return result


class TestOneAsset:
    @given(
        share=st.floats(0.01, 1.0),
        trigger=st.floats(0.5, 1.2),
        width=st.floats(0.01, 0.4),
        sigma=st.floats(0.001, 2.0),
    )
    def test_the_closed_form(self, share, trigger, width, sigma):
        """A payout of that share of 1,000 is at trigger - share * width."""
        vault = book((USDC, 1000.0, trigger, trigger - width))

        result = checked(vault, tr.reverse_stress(vault, 1000.0 * share, volatility={USDC: sigma}))

        ratio = trigger - share * width
        if ratio >= 1.0:
            assert 0.0 == result.distance
            return
        assert result.assets.loc[USDC, "ratio"] == pytest.approx(ratio, rel=1e-9)
        assert result.distance == pytest.approx(-math.log(ratio) / sigma, rel=1e-7, abs=1e-7)
        assert result.proven
        assert result.plausibility == pytest.approx(2.0 * stats.norm.sf(result.distance), rel=1e-9)
        alone = result.alone.loc[USDC]
        assert (alone["ratio"], alone["largest_loss"], alone["reason"]) == (
            pytest.approx(ratio),
            pytest.approx(1000.0),
            "",
        )
        assert alone["deviations"] == pytest.approx(math.log(ratio) / sigma, rel=1e-11, abs=1e-9)

    def test_two_floors(self):
        """Between the floors of the first and the trigger of the second nothing more is paid: half a dollar more
        than the first pays takes a price just below the second trigger."""
        vault = book((USDC, 1000.0, 0.95, 0.90), (USDC, 1000.0, 0.60, 0.50))

        first = checked(vault, tr.reverse_stress(vault, 1000.0, volatility={USDC: 0.1}))
        second = checked(vault, tr.reverse_stress(vault, 1000.5, volatility={USDC: 0.1}))

        assert first.assets.loc[USDC, "ratio"] == pytest.approx(0.90)
        assert second.assets.loc[USDC, "ratio"] == pytest.approx(0.60 - 0.00005)

    def test_bitcoin_alone(self):
        """A loss of 30 of 100: the mean, not the median, is where it starts."""
        vault = book(btc_value=100.0)

        result = checked(vault, tr.reverse_stress(vault, 30.0, volatility={"BTC": 0.4}))

        normal = (math.log(0.7) + 0.4**2 / 2.0) / 0.4
        assert result.distance == pytest.approx(-normal)
        assert result.scenario.btc_change == pytest.approx(-0.3)
        assert result.alone.loc["BTC", ["ratio", "deviations", "largest_loss"]].tolist() == pytest.approx(
            [0.7, normal, 100.0]
        )
        with pytest.raises(UnreachableLossError, match=r"loses less than 100.00 USD; asked for 100.00"):
            tr.reverse_stress(vault, 100.0, volatility={"BTC": 0.4})


class TestTwoAssets:
    @pytest.mark.parametrize("rho", [-0.9, -0.5, 0.0, 0.3, 0.8, 0.99])
    def test_a_linear_book(self, rho):
        """Covers that pay from the peg on, tiny moves: the distance to a line, X / sqrt(g' C g)."""
        vault = book((USDC, 1e6, 1.0, 0.5), (DAI, 5e5, 1.0, 0.5))
        sigma, gradient = np.array([2e-5, 3e-5]), np.array([2e6, 1e6])
        correlation = matrix(rho, USDC, DAI)
        slope = gradient * sigma
        spread = math.sqrt(slope @ correlation.to_numpy() @ slope)

        result = checked(
            vault, tr.reverse_stress(vault, 2.5 * spread, volatility=dict(zip([USDC, DAI], sigma, strict=True)), correlation=correlation)
        )  # fmt: skip

        normals = 2.5 * (correlation.to_numpy() @ slope) / spread
        # Where one coin would have to rise above its peg, or does so for free, the other one falls alone.
        assert result.proven
        expected = min([2.5] * bool((normals > 0.0).all()) + (2.5 * spread / slope).tolist())
        assert result.distance == pytest.approx(expected, rel=1e-3)
        if expected == 2.5:
            assert result.assets["deviations"].loc[[USDC, DAI]].tolist() == pytest.approx(
                (-normals).tolist(), rel=0.01
            )

    @settings(max_examples=40)
    @given(
        policies=st.lists(
            st.tuples(st.sampled_from([0, 1]), st.sampled_from([100.0, 250.0, 700.0]), st.floats(0.7, 1.1), st.floats(0.03, 0.3)),
            min_size=1,
            max_size=5,
        ),
        rho=st.sampled_from([-0.8, -0.3, 0.0, 0.5, 0.9]),
        share=st.floats(0.05, 0.99),
    )  # fmt: skip
    @example(policies=[(0, 700.0, 0.9, 0.05), (1, 700.0, 0.9, 0.05)], rho=0.0, share=0.6)
    @example(
        policies=[(0, 100.0, 0.97265625, 0.107421875), (0, 100.0, 0.880859375, 0.296875), (1, 100.0, 1.0, 0.25),
                  (1, 100.0, 0.890625, 0.23692515979927645), (1, 250.0, 0.8551683339710242, 0.26953125)],
        rho=-0.3, share=0.6640625,
    )  # fmt: skip
    def test_the_whole_grid(self, policies, rho, share):
        """Neither nearer than the nearest point of a fine grid allows, nor further; the bound is one."""
        names, sigma = [USDC, DAI], [0.10, 0.15]
        listed = [(asset, coverage, trigger, trigger - width) for asset, coverage, trigger, width in policies]
        vault = book(*[(names[asset], *rest) for asset, *rest in listed])
        needed = share * vault.coverage
        correlation = matrix(rho, *names)

        result = checked(
            vault, tr.reverse_stress(vault, needed, volatility=dict(zip(names, sigma, strict=True)), correlation=correlation)
        )  # fmt: skip

        step = 0.02
        covered = sorted({asset for asset, *_ in listed})
        kept = correlation.to_numpy()[np.ix_(covered, covered)]
        nearest = grid_distance(
            lambda normals: plain_loss(
                listed, 0.0, dict(zip(covered, normals, strict=True)), sigma
            ),
            needed, kept, 10.0, step,
        )  # fmt: skip
        if nearest is None:
            assert result.distance >= 10.0
        else:
            assert result.distance <= nearest * (1.0 + GAP) + 1e-9  # what is promised, and no more
            assert nearest <= result.distance + grid_error(kept, step)
            assert result.lower_bound <= nearest + 1e-9
        assert result.proven

    @pytest.mark.parametrize(
        ("policies", "sigma", "rho", "needed"),
        [
            # The nearest move is at a floor, where more of the same move loses less: the other coin rises.
            (
                [(1, 250.0, 1.007, 0.907), (0, 100.0, 0.942, 0.937), (1, 100.0, 1.109, 1.009), (0, 250.0, 0.991, 0.986)],
                [0.32, 0.116], -0.5, 464.7,
            ),
            (
                [(0, 100.0, 0.917, 0.417), (0, 250.0, 0.878, 0.848), (0, 100.0, 0.61, 0.58), (1, 100.0, 1.105, 1.1)],
                [0.183, 0.338], -0.95, 311.3,
            ),
        ],
    )  # fmt: skip
    def test_moves_at_a_floor(self, policies, sigma, rho, needed):
        """As before, on a finer grid."""
        names = [USDC, DAI]
        vault, correlation = book(*[(names[asset], *rest) for asset, *rest in policies]), matrix(rho, *names)

        result = checked(
            vault, tr.reverse_stress(vault, needed, volatility=dict(zip(names, sigma, strict=True)), correlation=correlation)
        )  # fmt: skip

        nearest = grid_distance(
            lambda z: plain_loss(policies, 0.0, z, sigma), needed, correlation.to_numpy(), 6.0, 0.01
        )
        assert nearest - grid_error(correlation.to_numpy(), 0.01) <= result.distance <= nearest + 1e-9
        assert result.proven

    def test_three_with_bitcoin(self):
        """Two coins and Bitcoin, correlated, on a grid of 121 points a side."""
        policies = [(0, 500.0, 0.95, 0.8), (1, 500.0, 0.9, 0.85), (0, 200.0, 0.7, 0.6)]
        names, sigma, btc_sigma = [USDC, DAI, "BTC"], [0.1, 0.08], 0.3
        vault = book(*[(names[asset], *rest) for asset, *rest in policies], btc_value=400.0)
        correlation = pd.DataFrame(
            [[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]], index=names, columns=names
        )
        volatility = {USDC: 0.1, DAI: 0.08, "BTC": btc_sigma}
        for needed in (150.0, 600.0, 1000.0, 1400.0):
            result = checked(
                vault, tr.reverse_stress(vault, needed, volatility=volatility, correlation=correlation)
            )

            nearest = grid_distance(
                lambda z: plain_loss(policies, 400.0, z, sigma, btc_sigma, z[2]),
                needed, correlation.to_numpy(), 9.0, 0.1,
            )  # fmt: skip
            assert nearest is not None
            assert nearest - grid_error(correlation.to_numpy(), 0.1) <= result.distance <= nearest + 1e-9
            assert result.proven
            assert result.plausibility == pytest.approx(stats.chi2.sf(result.distance**2, 3))

    def test_one_of_two_optima_that_a_local_search_would_miss(self):
        """Both coins a little, or one far: from the joint direction alone the first is never left."""
        vault = book((USDC, 1000.0, 0.98, 0.97), (DAI, 600.0, 0.995, 0.70))
        volatility = {USDC: 0.05, DAI: 0.05}

        result = checked(vault, tr.reverse_stress(vault, 550.0, volatility=volatility))

        assert result.assets.loc[DAI, "deviations"] == pytest.approx(0.0, abs=0.05)
        assert result.distance == pytest.approx(-math.log(0.98 - 0.0055) / 0.05, rel=1e-2)

    @pytest.mark.parametrize("rho", [1.0, -1.0])
    def test_singular_correlation(self, rho):
        """Two coins that are one: moved by one normal. Together they pay 1,600 or, opposite, one of them alone."""
        vault = book((USDC, 1000.0, 0.9, 0.8), (DAI, 600.0, 0.9, 0.8))
        volatility = {USDC: 0.1, DAI: 0.1}
        options = {"volatility": volatility, "correlation": matrix(rho, USDC, DAI)}

        result = checked(vault, tr.reverse_stress(vault, 800.0, **options))

        ratio = 0.85 if rho == 1.0 else 0.82
        assert result.scenario.prices[USDC] == pytest.approx(ratio, rel=1e-6)
        assert result.distance == pytest.approx(-math.log(ratio) / 0.1, rel=1e-6)
        assert result.plausibility == pytest.approx(stats.chi2.sf(result.distance**2, 1))
        if rho == 1.0:
            assert result.scenario.prices[DAI] == pytest.approx(ratio, rel=1e-6)
        else:
            assert result.scenario.prices[DAI] == pytest.approx(1.0 / ratio, rel=1e-6)
            with pytest.raises(UnreachableLossError, match="does not let prices fall together") as caught:
                tr.reverse_stress(vault, 1200.0, **options)
            assert (1600.0, 1200.0) == (caught.value.observed, caught.value.required)

    def test_a_matrix_that_no_correlation_has_is_repaired(self):
        """And the result says by how much."""
        vault = book((USDC, 100.0, 0.9, 0.8), (DAI, 100.0, 0.9, 0.8), ("GHO", 100.0, 0.9, 0.8))
        correlation = matrix(-0.9, USDC, DAI, "GHO")

        result = checked(
            vault, tr.reverse_stress(vault, 50.0, volatility=dict.fromkeys([USDC, DAI, "GHO"], 0.1), correlation=correlation)
        )  # fmt: skip

        assert result.repair_distance > 0.1


class TestLaws:
    def test_simulated_losses_that_large_are_no_more_frequent_than_moves_that_far(self):
        """Every such move is at least as far: its share is at most `plausibility`, and at least that of the worst
        half-space where the book is linear. 200,000 simulations, 5 standard errors."""
        vault = book((USDC, 1000.0, 1.0, 0.5), (DAI, 1000.0, 1.0, 0.5))
        volatility = {USDC: 0.01, DAI: 0.01}
        correlation = matrix(0.6, USDC, DAI)
        result = checked(vault, tr.reverse_stress(vault, 60.0, volatility=volatility, correlation=correlation))

        sample = tr.simulate_losses(
            vault, [tr.Scenario("peg", 1.0)], n=200_000, volatility=volatility, correlation=correlation
        )

        share = np.mean(sample.losses >= 60.0)
        error = 5.0 * math.sqrt(share / 200_000)
        assert share <= result.plausibility + error
        assert share >= stats.norm.sf(result.distance) - error

    @given(st.integers(0, 2**32))
    @settings(max_examples=25)
    def test_turning_the_shocks_changes_nothing(self, seed):
        """F and F Q have one correlation: the distance is the same, and the shock is turned."""
        rng = np.random.default_rng(seed)
        functions = [
            PayoutFunction.of([tr.Policy(f"{k}", USDC, c, t, t - w) for k, (c, t, w) in enumerate(rows)])
            for rows in (
                [(float(rng.uniform(10, 100)), float(rng.uniform(0.8, 1.0)), float(rng.uniform(0.05, 0.4))) for _ in range(2)]
                for _ in range(3)
            )
        ]  # fmt: skip
        coins = tuple(Coin(function, 1.0, 0.1) for function in functions)
        raw = rng.normal(size=(3, 3))
        factor = raw / np.linalg.norm(raw, axis=1)[:, None]
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        needed = float(rng.uniform(0.2, 0.7)) * sum(f.values[0] for f in functions)
        one, two = (Problem(coins, None, turned, needed, math.inf) for turned in (factor, factor @ turn))
        start = np.linalg.solve(factor, np.full(3, -20.0))

        first = nearest_loss(one, [start], math.inf, 4_000)
        second = nearest_loss(two, [turn.T @ start], math.inf, 4_000)

        lengths = np.linalg.norm(first.shock), np.linalg.norm(second.shock)
        assert lengths[0] == pytest.approx(lengths[1], rel=2e-3)
        assert first.bound <= lengths[1] * (1 + 1e-9)
        assert second.bound <= lengths[0] * (1 + 1e-9)

    def test_order_splitting_and_currency_change_nothing(self):
        """Policies in another order, one in two halves, everything in cents."""
        policies = [(USDC, 500.0, 0.95, 0.8), (DAI, 300.0, 0.9, 0.85), ("GHO", 200.0, 0.97, 0.6)]
        volatility = {USDC: 0.05, DAI: 0.08, "GHO": 0.1}
        correlation = matrix(0.4, "GHO", DAI, USDC)
        options = {"volatility": volatility, "correlation": correlation}
        reference = checked(book(*policies), tr.reverse_stress(book(*policies), 450.0, **options))

        halves = [(a, c / 2, t, f) for a, c, t, f in [*policies, *policies]]
        cents = [(a, 100 * c, t, f) for a, c, t, f in policies]
        for vault, loss in ((book(*policies[::-1]), 450.0), (book(*halves), 450.0), (book(*cents), 45_000.0)):
            result = checked(vault, tr.reverse_stress(vault, loss, **options))
            assert result.distance == pytest.approx(reference.distance, rel=1e-6)
            assert result.assets["ratio"].to_dict() == pytest.approx(reference.assets["ratio"].to_dict(), rel=1e-4)

    def test_more_takes_further(self):
        """The distance does not fall with the loss (but for the 0.1 % that are not looked at)."""
        vault = tr.sample_vault()
        volatility = dict.fromkeys(vault.columns.symbols, 0.05) | {"BTC": 0.2}
        correlation = matrix(0.5, *volatility)

        found = [
            checked(vault, tr.reverse_stress(vault, loss, volatility=volatility, correlation=correlation, most_boxes=200))
            for loss in (2e6, 5e6, 1e7, 2e7, 3e7)
        ]  # fmt: skip

        distances = [result.distance for result in found]
        assert sorted(distances) == distances
        bounds = [result.lower_bound for result in found]
        assert all(bound <= distance for bound, distance in zip(bounds, distances, strict=True))
        assert all(bound >= 0.9 * distance for bound, distance in zip(bounds[1:], distances[1:], strict=True))

    def test_a_search_that_is_cut_short_says_so(self):
        """One box proves nothing here; the move found is one that loses enough all the same."""
        vault = tr.sample_vault()
        volatility = dict.fromkeys(vault.columns.symbols, 0.05)

        result = checked(vault, tr.reverse_stress(vault, 5e6, volatility=volatility, most_boxes=1))

        assert 1 == result.boxes
        assert not result.proven
        assert result.lower_bound < result.distance

    @pytest.mark.parametrize("most_cuts", [1, 2, 5])
    def test_few_cuts_are_a_bound_too(self, most_cuts, monkeypatch):
        """What is cut off less well is never further than what is true."""
        vault = book((USDC, 1000.0, 0.99, 0.5), (DAI, 2000.0, 0.97, 0.6), (USDC, 500.0, 0.9, 0.7))
        options = {"volatility": {USDC: 0.05, DAI: 0.03}}
        whole = checked(vault, tr.reverse_stress(vault, 1200.0, **options))
        monkeypatch.setattr("tonsurance_risk.core.nearest_loss.MOST_CUTS", most_cuts)

        few = checked(vault, tr.reverse_stress(vault, 1200.0, **options))

        assert few.lower_bound <= whole.distance * (1.0 + 1e-9)
        assert few.distance >= whole.lower_bound * (1.0 - 1e-9)


class TestRounding:
    """What only rounding errors reach."""

    def test_a_loss_that_no_longer_move_makes(self):
        """An error that says which loss, after the longest move."""
        vault = book((USDC, 1000.0, 0.9, 0.7), btc_value=10.0)
        model, _ = compile_model(vault, [tr.Scenario("x", 1.0)], None, {USDC: 0.05})
        moves = _Moves.of(model)

        with pytest.raises(ConvergenceError, match="loses 5000.0 USD to rounding"):
            _reaching(moves, vault, np.array([-1.0]), 5000.0, 5000.0)

    def test_more_than_a_function_pays(self):
        """No ratio; and the highest one for what it pays."""
        function = PayoutFunction.of([tr.Policy("a", USDC, 8.0, 1.0, 0.5)])

        assert _ratio_paying(function, 8.0 * (1.0 + 1e-15)) is None
        assert 0.5 == _ratio_paying(function, 8.0)
        assert 0.75 == _ratio_paying(function, 4.0)


def test_a_price_above_the_highest_of_a_scenario():
    """A coin that rises out of sight as the other falls pays nothing, as it does at the highest price."""
    vault = book((USDC, 1e5, 0.9, 0.01), (DAI, 1e3, 0.9, 0.5))

    result = tr.reverse_stress(
        vault, 95_000.0, correlation=matrix(-0.95, USDC, DAI), volatility={USDC: 0.3, DAI: 0.3}
    )

    assert result.assets.loc[DAI, "ratio"] > 10.0 == result.scenario.prices[DAI]
    assert 95_000.0 == pytest.approx(result.loss) == tr.stress_test(vault, [result.scenario]).losses.iloc[0]


class TestSettings:
    def test_bitcoin_beside_a_coin(self):
        """Nothing of it is enough where the coin has to help; no move is needed of what is lost already."""
        vault = book((USDC, 1000.0, 0.9, 0.7), btc_value=100.0)
        volatility = {USDC: 0.05, "BTC": 0.4}
        run = tr.Scenario("run", 0.01, prices={USDC: 0.8}, btc_change=-0.1)

        much = checked(vault, tr.reverse_stress(vault, 500.0, volatility=volatility))
        lost = tr.reverse_stress(vault, 400.0, volatility=volatility, scenario=run)

        still = checked(
            book((USDC, 1000.0, 0.9, 0.7), btc_value=1000.0),
            tr.reverse_stress(book((USDC, 1000.0, 0.9, 0.7), btc_value=1000.0), 500.0, volatility={USDC: 0.05}),
        )
        assert "BTC has no volatility: it does not move in the model" == still.alone.loc["BTC", "reason"]
        assert 0.5 == pytest.approx(still.alone.loc["BTC", "ratio"])
        assert "even without any BTC the vault loses only 100.00 USD" == much.alone.loc["BTC", "reason"]
        assert 100.0 == much.alone.loc["BTC", "largest_loss"]
        assert [0.9, 0.0, 600.0, ""] == pytest.approx(lost.alone.loc["BTC"].tolist())

    def test_assets_that_cannot_move(self):
        """Stay, are named, and have a price but no deviations; Bitcoin too."""
        vault = book((USDC, 1000.0, 0.9, 0.8), (DAI, 500.0, 0.9, 0.8), btc_value=100.0)

        result = checked(vault, tr.reverse_stress(vault, 400.0, volatility={USDC: 0.1}))

        assert (DAI, "BTC") == result.unmoving
        assert (1.0, 0.0) == (result.scenario.prices[DAI], result.scenario.btc_change)
        assert [0.0, 0.0] == result.assets.loc[[DAI, "BTC"], "deviations"].tolist()
        assert result.alone.loc[DAI, "ratio"] == pytest.approx(0.82)
        assert result.alone.loc[DAI, "reason"] == "DAI has no volatility: it does not move in the model"
        assert pd.isna(result.alone.loc[DAI, "deviations"])
        assert result.alone.loc["BTC", "reason"] == "even without any BTC the vault loses only 100.00 USD"
        with pytest.raises(
            UnreachableLossError, match=r"at most 1,000.00 USD \(DAI, BTC cannot move: no volatility\)"
        ):
            tr.reverse_stress(vault, 1000.5, volatility={USDC: 0.1})
        with pytest.raises(UnreachableLossError, match="at most 0.00 USD"):
            tr.reverse_stress(vault, 1.0, volatility={})

    def test_alone_not_enough(self):
        """Even at the floor; and where the floor is 0."""
        vault = book((USDC, 1000.0, 0.9, 0.8), (DAI, 500.0, 0.9, 0.0))

        result = checked(vault, tr.reverse_stress(vault, 1200.0, volatility={USDC: 0.1, DAI: 0.1}))

        assert result.alone.loc[USDC, "reason"] == "even at the floor of USDC the vault loses only 1,000.00 USD"
        assert result.alone.loc[DAI, "reason"] == "even at the price of 0 of DAI the vault loses only 500.00 USD"
        assert result.alone[["ratio", "deviations"]].isna().all(axis=None)

    @pytest.mark.parametrize(("floor", "reached"), [(0.8, True), (0.0, False)])
    def test_all_there_is(self, floor, reached):
        """The whole coverage is lost at a floor above 0; at a floor of 0 no price above 0 is enough."""
        vault = book((USDC, 1000.0, 0.9, floor), (DAI, 500.0, 0.95, 0.85))

        if reached:
            result = checked(vault, tr.reverse_stress(vault, 1500.0, volatility={USDC: 0.1, DAI: 0.1}))
            assert [0.85, 0.8] == pytest.approx(result.assets["ratio"].tolist())
        else:
            with pytest.raises(UnreachableLossError, match="less than 1,500.00 USD; asked for 1,500.00"):
                tr.reverse_stress(vault, 1500.0, volatility={USDC: 0.1, DAI: 0.1})
            near = checked(vault, tr.reverse_stress(vault, 1499.0, volatility={USDC: 0.1, DAI: 0.1}))
            assert near.scenario.prices[USDC] == pytest.approx(0.9 * 0.001, rel=1e-5)

    def test_the_aggregate_limit(self):
        """Payouts end at 900: the rest has to come from Bitcoin."""
        vault = book((USDC, 1000.0, 0.9, 0.8), (DAI, 500.0, 0.9, 0.8), btc_value=500.0, aggregate_limit=900.0)
        volatility = {USDC: 0.1, DAI: 0.1, "BTC": 0.5}

        below = checked(vault, tr.reverse_stress(vault, 800.0, volatility=volatility))
        beyond = checked(vault, tr.reverse_stress(vault, 1100.0, volatility=volatility))

        assert below.distance < beyond.distance
        assert -beyond.scenario.btc_change >= 0.4 - 1e-9
        assert beyond.assets.drop("BTC")["loss"].sum() <= 900.0 + 1e-9
        nearest = grid_distance(
            lambda z: np.minimum(plain_loss([(0, 1000.0, 0.9, 0.8), (1, 500.0, 0.9, 0.8)], 0.0, z, [0.1, 0.1]), 900.0)
            - 500.0 * (np.exp(0.5 * z[2] - 0.125) - 1.0),
            1100.0, np.eye(3), 5.0, 0.05,
        )  # fmt: skip
        assert nearest - grid_error(np.eye(3), 0.05) <= beyond.distance <= nearest + 1e-9
        with pytest.raises(UnreachableLossError, match="less than 1,400.00"):
            tr.reverse_stress(vault, 1400.0, volatility=volatility)

    def test_the_aggregate_limit_at_a_floor(self):
        """Where payouts are beyond their limit in one box and not in the next."""
        policies = [(1, 250.0, 0.648, 0.643), (1, 250.0, 0.853, 0.553), (0, 50.0, 0.95, 0.9), (1, 50.0, 0.95, 0.9)]
        names, sigma = [USDC, DAI, "BTC"], [0.164, 0.075, 0.127]
        values = np.array([[1.0, 0.226, 0.291], [0.226, 1.0, -0.153], [0.291, -0.153, 1.0]])
        vault = book(*[(names[a], *rest) for a, *rest in policies], btc_value=724.0, aggregate_limit=394.5)

        result = checked(
            vault,
            tr.reverse_stress(
                vault, 652.8, volatility=dict(zip(names, sigma, strict=True)),
                correlation=pd.DataFrame(values, index=names, columns=names),
            ),
        )  # fmt: skip

        nearest = grid_distance(
            lambda z: np.minimum(plain_loss(policies, 0.0, z, sigma), 394.5)
            - 724.0 * (np.exp(0.127 * z[2] - 0.127**2 / 2.0) - 1.0),
            652.8, values, 8.0, 0.1,
        )  # fmt: skip
        assert nearest - grid_error(values, 0.1) <= result.distance <= nearest + 1e-9
        assert result.proven

    def test_around_a_scenario(self):
        """Its prices, its Bitcoin, its multipliers; the distance counts from there."""
        vault = book((USDC, 1000.0, 0.9, 0.7), (DAI, 500.0, 0.9, 0.7))
        run = tr.Scenario(
            "run", 0.01, prices={USDC: 0.95}, volatility_multiplier=2.0, correlation_shift=1.0, is_active=False
        )
        volatility = {USDC: 0.05, DAI: 0.05}

        result = checked(vault, tr.reverse_stress(vault, 400.0, volatility=volatility, scenario=run), run)
        lost = tr.reverse_stress(vault, 1.0, volatility=volatility, scenario=attrs.evolve(run, prices={USDC: 0.8}))

        # With a shift of 1 both coins move by one normal, twice as far: 0.95 e^(0.1 z) and e^(0.1 z).
        growth = result.scenario.prices[DAI]
        assert result.scenario.prices[USDC] == pytest.approx(0.95 * growth, rel=1e-9)
        assert result.distance == pytest.approx(-math.log(growth) / 0.1, rel=1e-6)
        # What is lost already takes no move.
        assert (0.0, 1.0, 0) == (lost.distance, lost.plausibility, lost.boxes)
        assert lost.scenario.prices == {DAI: 1.0, USDC: 0.8}
        assert lost.loss == pytest.approx(500.0)

    def test_records(self):
        """JSON without NaN, equality, pickling; the scenario can be read again."""
        vault = book((USDC, 1000.0, 0.9, 0.7), (DAI, 500.0, 0.9, 0.7), btc_value=100.0)
        one, two = (tr.reverse_stress(vault, 400.0, volatility={USDC: 0.05}) for _ in range(2))

        assert one == two == pickle.loads(pickle.dumps(one))
        document = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert document["alone"][0]["deviations"] is None
        assert document["proven"]
        assert tr.Scenario(**document["scenario"]) == one.scenario
        assert [DAI, USDC, "BTC"] == one.to_frame().index.tolist()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"loss": 0.0}, r"loss must be a number > 0, found 0.0"),
            ({"loss": math.nan}, "loss must be a finite number"),
            ({"volatility": {USDC: -0.1}}, r"volatility\['USDC'\]"),
            ({"most_boxes": 0}, "most_boxes must be a whole number >= 1"),
            ({"vault": None}, "vault must be a Vault"),
            ({"scenario": tr.Scenario("s", 1.0, prices={"XYZ": 0.9})}, "XYZ"),
        ],
    )
    def test_refusals(self, change, message):
        """Named."""
        given_ = {"vault": book((USDC, 1.0, 0.9, 0.7)), "loss": 0.5, "volatility": {USDC: 0.1}} | change

        with pytest.raises((ValueError, tr.UnknownAssetError), match=message):
            tr.reverse_stress(given_.pop("vault"), given_.pop("loss"), **given_)

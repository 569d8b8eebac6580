"""The engine against the plain loops, and laws of every kind of sampling."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tonsurance_risk as tr
from oracle import plain_simulation
from tonsurance_risk.core.importance import rotations
from tonsurance_risk.core.loss_model import Segments, compile_model
from tonsurance_risk.core.payoff import Workspace
from tonsurance_risk.core.sampling import BLOCK, Plan, Sampler
from tonsurance_risk.core.simulation import Run  # noqa: F401  (the module must stay importable alone)
from tonsurance_risk.core.tally import Part, TailCollector, _by_run
from tonsurance_risk.errors import InsufficientDataError, UnknownAssetError

KINDS = ["plain", "stratified", "antithetic", "sobol", "importance"]
SYMBOLS = ["DAI", "USDC", "USDT", "BTC"]
CORRELATION = [[1.0, 0.5, 0.2, -0.1], [0.5, 1.0, 0.4, 0.1], [0.2, 0.4, 1.0, 0.3], [-0.1, 0.1, 0.3, 1.0]]
VOLATILITY = {"DAI": 0.02, "USDC": 0.01, "USDT": 0.015, "BTC": 0.1}
FRAME = pd.DataFrame(CORRELATION, index=SYMBOLS, columns=SYMBOLS)
SCENARIOS = [
    tr.Scenario("calm", 0.6),
    tr.Scenario("run", 0.2, prices={"USDC": 0.9, "DAI": 0.93}, btc_change=0.2, volatility_multiplier=2.0, correlation_shift=0.5),
    tr.Scenario("crash", 0.2, prices={"USDT": 0.85}, btc_change=-0.4, volatility_multiplier=3.0, correlation_shift=-0.5, weight=0.5),
]  # fmt: skip


def book(n=40, limit=None):
    """Return a vault of invented policies on three coins."""
    rng = np.random.default_rng(7)
    policies = [
        tr.Policy(f"P{i}", SYMBOLS[rng.integers(3)], float(rng.lognormal(10, 1)), float(rng.uniform(0.95, 0.99)), float(rng.uniform(0.4, 0.9)))
        for i in range(n)
    ]  # fmt: skip
    return tr.Vault(5e7, policies, btc_value=2e5, aggregate_limit=limit)


def simulate(vault=None, **options):
    """Simulate the book of this file."""
    arguments = {"correlation": FRAME, "volatility": VOLATILITY, "n": 20_000, **options}
    return tr.simulate_losses(book() if vault is None else vault, SCENARIOS, **arguments)


@pytest.mark.parametrize("limit", [None, 4e5])
def test_losses_equal_the_plain_loops_on_the_same_normals(limit):
    """Simulation by simulation, to a millionth of the coverage; payouts by coin and BTC as well."""
    vault = book(limit=limit)
    model, _ = compile_model(vault, SCENARIOS, FRAME, VOLATILITY)
    maps, rng = model.position_maps(), np.random.default_rng(3)
    for row, scenario in enumerate(SCENARIOS):
        z = rng.standard_normal((4, 60))
        positions = maps[row, :, :-1] @ z + maps[row, :, -1:]
        segments = Segments(np.array([row]), np.array([60]))

        losses = model.losses(positions.copy(), segments, Workspace.of(60))
        amounts, _ = model.amounts(positions.copy(), segments, Workspace.of(60))

        plain = [
            plain_simulation.loss(vault, scenario, SYMBOLS, CORRELATION, VOLATILITY, column)
            for column in z.T.tolist()
        ]
        np.testing.assert_allclose(losses, [loss for loss, _, _ in plain], rtol=0, atol=1e-6 * vault.coverage)
        np.testing.assert_allclose(amounts.sum(axis=0), losses, rtol=1e-12, atol=1e-6)
        np.testing.assert_allclose(amounts[-1], [btc for _, _, btc in plain], rtol=1e-10)
        for coin, symbol in enumerate(model.coins):
            paid = [
                sum(p for p, policy in zip(each, vault.policies, strict=True) if policy.asset == symbol)
                for _, each, _ in plain
            ]
            np.testing.assert_allclose(amounts[coin], paid, rtol=0, atol=1e-6 * vault.coverage)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_the_plain_loops(kind):
    """Mean, quantiles and shortfall of 15,000 losses from the standard library's generator, within 4.5 errors of
    both: 6 comparisons of 5 kinds fail by chance once in 5,000."""
    losses = np.array(
        plain_simulation.simulate(book(), SCENARIOS, SYMBOLS, CORRELATION, VOLATILITY, 15_000, random.Random(11))
    )
    sample = simulate(sampling=kind, n=40_000)

    pairs = [(sample.expected_loss(), losses.mean(), losses.std() / math.sqrt(len(losses)))]
    for level in (0.9, 0.99):
        quantile = float(np.quantile(losses, level, method="inverted_cdf"))
        excess = quantile + np.maximum(losses - quantile, 0.0) / (1 - level)
        low, high = np.quantile(
            losses,
            [
                level - 2 * math.sqrt(level * (1 - level) / len(losses)),
                level + 2 * math.sqrt(level * (1 - level) / len(losses)),
            ],
        )
        pairs.append((sample.value_at_risk(level), quantile, (high - low) / 4))
        pairs.append((sample.expected_shortfall(level), excess.mean(), excess.std() / math.sqrt(len(losses))))
    ruin = float((losses > 3e5).mean())
    pairs.append((sample.probability_of_ruin(3e5), ruin, math.sqrt(ruin * (1 - ruin) / len(losses))))
    for estimate, plain, error in pairs:
        assert abs(estimate.value - plain) <= 4.5 * math.hypot(error, estimate.standard_error)


def test_normals_are_normal_and_independent():
    """Of 5 blocks: Kolmogorov and Smirnov's test, tails, correlation of all pairs of rows; a sound generator fails
    one of these at most once in 1,000 seeds, and the seed is fixed."""
    model, _ = compile_model(book(), SCENARIOS, None, VOLATILITY)
    [identity] = Plan.of(model, "stratified", 5).maps[:1]
    identity = np.eye(*identity.shape)
    plan = attrs.evolve(Plan.of(model, "stratified", 5), maps=np.tile(identity, (3, 1, 1)))
    sampler = Sampler(plan, np.empty(Sampler.floats(plan, BLOCK)))
    rows = np.concatenate([sampler.draw(b, BLOCK).positions.copy() for b in range(5)], axis=1)
    n = rows.size

    assert stats.kstest(rows.ravel(), "norm").pvalue > 1e-4
    for bound in (2.0, 3.0, 4.0):
        expected = n * 2 * stats.norm.sf(bound)
        assert abs((np.abs(rows) > bound).sum() - expected) < 4 * math.sqrt(expected)
    correlations = np.corrcoef(np.concatenate([rows, rows**2]))[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(rows.shape[1])
    assert np.abs(rows).max() < 6.3


@pytest.mark.parametrize("kind", KINDS)
def test_shares_above_are_unbiased(kind):
    """Over 150 seeds of 512 simulations the mean share above three losses is that of 400,000, within 4.5 errors."""
    truth = simulate(n=400_000)
    bounds = [float(np.quantile(truth.losses, q)) for q in (0.5, 0.9, 0.985)]
    shares = []
    for seed in range(150):
        sample = simulate(n=512, seed=seed, sampling=kind)
        weights = np.ones(sample.n) if sample.weights is None else sample.weights
        shares.append([weights[sample.losses > bound].sum() / sample.n for bound in bounds])

    errors = np.std(shares, axis=0) / math.sqrt(150)
    for bound, mean, error in zip(bounds, np.mean(shares, axis=0), errors, strict=True):
        exact = float((truth.losses > bound).mean())
        assert abs(mean - exact) <= 4.5 * math.hypot(error, math.sqrt(exact * (1 - exact) / truth.n))


@pytest.mark.parametrize("kind", KINDS)
def test_standard_errors_are_what_estimates_vary_by(kind):
    """Over 120 seeds, mean standard error over standard deviation: within 25 % (the deviation of a standard
    deviation of 120 is 6.5 %)."""
    samples = [simulate(n=4096, seed=seed, sampling=kind) for seed in range(120)]
    for measure in ("expected_loss", "value_at_risk", "expected_shortfall"):
        estimates = [getattr(s, measure)(*([] if measure == "expected_loss" else [0.95])) for s in samples]
        ratio = np.mean([e.standard_error for e in estimates]) / np.std([e.value for e in estimates], ddof=1)
        assert 0.75 < ratio < 1.3, measure


def test_n_that_is_used():
    """Even for pairs, 16 times a power of two for Sobol points; as asked otherwise."""
    ns = {kind: simulate(n=1001, sampling=kind).n for kind in KINDS}

    assert {"plain": 1001, "stratified": 1001, "antithetic": 1002, "sobol": 1024, "importance": 1001} == ns
    assert [16, 32] == [simulate(n=n, sampling="sobol").n for n in (1, 17)]


def test_antithetic_pairs_are_mirrored():
    """BTC alone, one scenario: the log growths of a pair sum to minus sigma squared."""
    sample = tr.simulate_losses(
        tr.Vault(1.0, [], btc_value=1.0),
        [tr.Scenario("s", 1.0)],
        volatility={"BTC": 0.2},
        n=1000,
        sampling="antithetic",
    )
    growth = np.log1p(-sample.losses)

    np.testing.assert_allclose(growth[:500] + growth[500:], -(0.2**2), rtol=1e-9)


def test_an_antithetic_comonotone_pair_of_coins():
    """Correlation -1: where one coin falls the other rises, so no loss is more than the larger payout."""
    vault = tr.Vault(1e7, [tr.Policy("a", "USDC", 1e6, 1.0, 0.5), tr.Policy("b", "DAI", 1e6, 1.0, 0.5)])
    minus = pd.DataFrame([[1.0, -1.0], [-1.0, 1.0]], index=["USDC", "DAI"], columns=["USDC", "DAI"])

    sample = tr.simulate_losses(
        vault, [tr.Scenario("s", 1.0)], correlation=minus, volatility={"USDC": 0.05, "DAI": 0.05}, n=100_000
    )

    # Exactly one of them is below 1: the loss is that of |x|.
    truth = 2e6 * (1.0 - math.exp(0.05 * stats.norm.ppf(0.005)))
    assert abs(sample.value_at_risk(0.99).value - truth) < 5 * sample.value_at_risk(0.99).standard_error


def test_a_large_pool_meets_vasicek():
    """500 small digital-like covers with one common correlation: the loss share's quantile is that of the limit.

    O. Vasicek, "The distribution of loan portfolio value", Risk 15 (2002) 160-162: Phi((Phi^-1(p) + sqrt(rho)
    Phi^-1(a)) / sqrt(1 - rho)). A finite pool lies a little above; 500 coins: within 5 %.
    """
    coins, rho, p = [f"C{i}" for i in range(500)], 0.2, 0.05
    trigger = math.exp(0.02 * stats.norm.ppf(p))
    vault = tr.Vault(
        1e7, [tr.Policy(c, c, 1.0, trigger * (1 + 1e-7), trigger * (1 - 1e-7)) for c in coins], assets=coins
    )
    frame = pd.DataFrame(np.full((500, 500), rho) + (1 - rho) * np.eye(500), index=coins, columns=coins)

    sample = tr.simulate_losses(
        vault, [tr.Scenario("s", 1.0)], correlation=frame, volatility=dict.fromkeys(coins, 0.02), n=20_000
    )

    for level in (0.9, 0.99):
        limit = stats.norm.cdf((stats.norm.ppf(p) + math.sqrt(rho) * stats.norm.ppf(level)) / math.sqrt(1 - rho))
        assert limit == pytest.approx(sample.value_at_risk(level).value / 500, rel=0.05)
    assert abs(sample.expected_loss().value - 500 * p) < 5 * sample.expected_loss().standard_error


def test_the_variance_of_a_mixture():
    """Without shocks losses are the scenarios': mean and variance are those of the mixture, exactly by counts."""
    sample = simulate(volatility={}, n=BLOCK * 2, sampling="stratified")
    stress = tr.stress_test(book(), SCENARIOS).losses.to_numpy()
    shares = np.array([0.6, 0.2, 0.1]) / 0.9

    mean = float(shares @ stress)
    assert mean == pytest.approx(sample.expected_loss().value, rel=2e-4)
    assert float(shares @ (stress - mean) ** 2) == pytest.approx(float(np.var(sample.losses)), rel=2e-3)


class TestImportance:
    """Weights are likelihood ratios."""

    def test_weights_average_to_one_and_are_bounded(self):
        """Their mean is 1 within 5 errors; the defensive part bounds them by 10."""
        sample = simulate(sampling="importance", n=50_000)

        assert abs(sample.weights.mean() - 1.0) < 5 * sample.weights.std() / math.sqrt(sample.n)
        assert 0.0 < sample.weights.min() < sample.weights.max() <= 10.0 * (1 + 1e-9)

    def test_the_tail_is_measured_from_above(self):
        """share(losses > VaR) <= 1 - level, and more for any smaller loss."""
        sample = simulate(sampling="importance", n=5000)
        for level in (0.95, 0.99, 0.999):
            value = sample.value_at_risk(level).value
            share = sample.weights[sample.losses > value].sum() / sample.n
            assert share <= 1 - level < share + sample.weights[sample.losses == value].sum() / sample.n

    def test_shares_of_scenarios_are_not_those_of_draws(self):
        """The share of a scenario is its probability within 5 standard errors of its weights."""
        sample = simulate(sampling="importance", n=20_000)
        table, shares = sample.by_scenario(), sample.model.shares

        drawn = table["simulations"].to_numpy() / sample.n
        assert abs(drawn - shares).max() > 0.1
        for scenario, share in enumerate(shares):
            weights = np.where(sample.scenario == scenario, sample.weights, 0.0)
            assert abs(table["share"].iloc[scenario] - share) < 5 * weights.std() / math.sqrt(sample.n)

    def test_the_record_says_what_it_aims_at(self):
        """Beside the kind of sampling, in the summary."""
        summary = simulate(sampling="importance", n=100, tail_level=0.995, keep="tail").to_dict()

        assert (0.995, "tail") == (summary["tail_level"], summary["keep"])
        assert simulate(n=100).to_dict()["tail_level"] is None

    def test_it_gains_where_it_aims(self):
        """Variance of VaR 99.9 over 40 seeds, a twentieth of that of plain draws or less."""
        values = {
            kind: [simulate(sampling=kind, n=4096, seed=seed).value_at_risk(0.999).value for seed in range(40)]
            for kind in ("plain", "importance")
        }
        assert np.var(values["plain"]) > 20 * np.var(values["importance"])

    def test_without_normals_only_scenarios_are_tilted(self):
        """Nothing moves: the mean is exact up to counts."""
        sample = simulate(volatility={}, sampling="importance", n=20_000)

        assert simulate(volatility={}, n=20_000).expected_loss().value == pytest.approx(
            sample.expected_loss().value, rel=2e-3
        )

    def test_nothing_to_lose(self):
        """No policies and no BTC: all losses are 0, and no division by it."""
        sample = tr.simulate_losses(tr.Vault(1.0, []), SCENARIOS, sampling="importance", n=100)

        assert (0.0, 0.0) == (sample.value_at_risk(0.99).value, sample.expected_loss().value)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda d: 1e-6 < math.hypot(*d)))
def test_rotations_take_the_first_coordinate_to_the_direction(direction):
    """And are orthogonal."""
    unit = np.array([direction]) / math.hypot(*direction)
    [turn] = rotations(unit)

    np.testing.assert_allclose(turn[:, 0], unit[0], atol=1e-7)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-7)


class TestContributions:
    """Of assets, policies and scenarios."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("limit", [None, 3e5])
    @pytest.mark.parametrize("by", ["asset", "policy", "scenario"])
    def test_they_sum_to_the_expected_shortfall(self, kind, limit, by):
        """To 1e-9."""
        sample = simulate(book(limit=limit), sampling=kind, n=8000)
        for level in (0.5, 0.95, 0.99):
            parts = sample.contributions(level, by=by)
            assert sample.expected_shortfall(level).value == pytest.approx(parts.sum(), rel=1e-9)

    @pytest.mark.parametrize("by", ["asset", "policy", "scenario"])
    def test_of_the_worst_simulation_alone(self, by):
        """Of two blocks one has no loss that large; what it adds is nothing."""
        sample = simulate(n=2 * BLOCK)
        level = 1.0 - 0.5 / sample.n

        assert sample.worst == pytest.approx(sample.contributions(level, by=by).sum(), rel=1e-9)

    def test_of_a_limited_book_without_bitcoin(self):
        """They sum to the expected shortfall, and to no more than the limit."""
        limited = attrs.evolve(book(limit=3e5), btc_value=0.0)
        sample = simulate(limited, n=8000)

        parts = sample.contributions(0.99)

        assert sample.expected_shortfall(0.99).value == pytest.approx(parts.sum(), rel=1e-9)
        assert parts.sum() <= 3e5 * (1.0 + 1e-12)

    def test_policies_are_what_they_pay_in_the_tail(self):
        """By hand: without shocks every simulation of a scenario pays the same."""
        vault = book()
        sample = simulate(vault, volatility={}, n=10_000)
        stress = tr.stress_test(vault, SCENARIOS).losses
        level = 1 - (sample.losses >= stress.max()).mean() * 0.5

        parts = sample.contributions(float(level), by="policy")

        worst = next(s for s in SCENARIOS if s.name == stress.idxmax())
        for policy in vault.policies:
            assert policy.payout(worst.prices.get(policy.asset, 1.0)) == pytest.approx(
                parts[policy.policy_id], rel=1e-6, abs=1e-6
            )
        assert stress.max() == pytest.approx(
            sample.contributions(float(level), by="scenario")[worst.name], rel=1e-12
        )

    def test_policies_of_an_asset_sum_to_it(self):
        """And the part is the same with only the tail kept."""
        sample, tail = simulate(), simulate(keep="tail")
        by_policy, by_asset = sample.contributions(0.99, by="policy"), sample.contributions(0.99)
        for asset in ("DAI", "USDC", "USDT"):
            ids = [policy.policy_id for policy in book().policies if policy.asset == asset]
            assert by_asset[asset] == pytest.approx(by_policy[ids].sum(), rel=1e-9)
        with ThreadPoolExecutor(2) as pool:
            pd.testing.assert_series_equal(by_asset, tail.contributions(0.99, executor=pool))

    def test_another_part_is_refused(self):
        """With what is accepted."""
        with pytest.raises(ValueError, match="by must be one of"):
            simulate(n=100).contributions(0.9, by="coin")


class TestMarginalRisk:
    """One more policy, on the same draws."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_equals_a_run_with_the_policy(self, kind):
        """On a covered asset: within what tables may be off; sobol and importance turn to the new book in that run."""
        policy = tr.Policy("new", "USDC", 5e4, 0.97, 0.6)
        sample = simulate(sampling=kind, n=8000)
        with_it = attrs.evolve(book(), policies=[*book().policies, policy])

        after = tr.marginal_risk(sample, policy).after

        if kind in ("plain", "stratified", "antithetic"):
            np.testing.assert_allclose(
                after.losses, simulate(with_it, sampling=kind, n=8000).losses, rtol=0, atol=2e-6 * with_it.coverage
            )
        assert (after.losses >= sample.losses - 1e-6).all()
        assert after.losses.max() <= sample.losses.max() + 5e4 + 1e-6

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_asset_that_was_not_covered(self, kind):
        """Its payout has the closed form's mean and its correlation with the book; the book's losses stay."""
        policy = tr.Policy("new", "LUSD", 1e5, 0.98, 0.5)
        symbols = [*SYMBOLS, "LUSD"]
        frame = pd.DataFrame(np.eye(5), index=symbols, columns=symbols)
        frame.loc["LUSD", "USDC"] = frame.loc["USDC", "LUSD"] = 0.9
        sample = simulate(correlation=frame, volatility={**VOLATILITY, "LUSD": 0.03}, sampling=kind, n=16_000)

        effect = tr.marginal_risk(sample, policy)
        paid = effect.after.losses - sample.losses
        weights = np.ones(effect.after.n) if sample.weights is None else sample.weights

        with_it = attrs.evolve(book(), policies=[*book().policies, policy])
        whole = tr.simulate_losses(
            with_it, SCENARIOS, correlation=frame, volatility={**VOLATILITY, "LUSD": 0.03}, n=200_000
        )
        truth = whole.contributions(1e-9)["LUSD"]
        assert paid.min() >= -1e-6
        assert abs((weights * paid).mean() - truth) < 6 * (weights * paid).std() / math.sqrt(sample.n)
        assert effect.after.expected_shortfall(0.95).value == pytest.approx(
            whole.expected_shortfall(0.95).value, rel=0.05
        )

    def test_with_an_aggregate_limit(self):
        """The new policy only takes from the others once the limit is reached."""
        sample = simulate(book(limit=3e5))
        after = tr.marginal_risk(sample, tr.Policy("new", "USDC", 5e5, 0.99, 0.6)).after

        assert (after.losses <= simulate(book(limit=None), volatility=VOLATILITY).losses + 5e5).all()
        assert after.worst <= 3e5 + 2e5
        assert (after.losses >= sample.losses - 1e-6).all()

    def test_a_kept_tail_gives_the_same(self):
        """Blocks are drawn again."""
        policy = tr.Policy("new", "USDC", 5e4, 0.97, 0.6)
        whole, tail = (tr.marginal_risk(simulate(keep=keep, n=2 * BLOCK), policy) for keep in ("all", "tail"))

        pd.testing.assert_frame_equal(whole.to_frame(), tail.to_frame())
        assert {"before", "after", "change", "standard_error_before"} == set(
            whole.to_dict()["measures"]["expected_loss"]
        )

    def test_scenarios_that_are_given_once(self):
        """An iterator of them is kept for the redraw."""
        sample = tr.simulate_losses(book(), iter(tr.builtin_scenarios()), n=100)

        assert len(tr.marginal_risk(sample, tr.Policy("new", "USDC", 1e4, 0.97, 0.6)).after.losses) == 100

    @pytest.mark.parametrize("levels", [0.99, [99], [0.5, 1.0]])
    def test_bad_levels(self, levels):
        """Refused before anything is drawn again."""
        with pytest.raises(ValueError, match=r"levels? must"):
            tr.marginal_risk(simulate(n=10), tr.Policy("new", "USDC", 1e4, 0.97, 0.6), levels=levels)

    def test_a_bad_executor(self):
        """Also where blocks are drawn again."""
        sample, policy = simulate(n=10), tr.Policy("new", "USDC", 1e4, 0.97, 0.6)
        for again in (
            lambda: tr.marginal_risk(sample, policy, executor="threads"),
            lambda: sample.contributions(0.9, executor="threads"),
        ):
            with pytest.raises(
                ValueError, match="executor must be a concurrent.futures.Executor, found 'threads'"
            ):
                again()

    def test_bad_policies(self):
        """A doubled id, an unknown asset, BTC, and what is no policy or sample."""
        sample = simulate(n=100)
        with pytest.raises(ValueError, match="policy ids must be unique"):
            tr.marginal_risk(sample, tr.Policy("P0", "USDC", 1.0, 0.9, 0.5))
        with pytest.raises(UnknownAssetError, match="USDX"):
            tr.marginal_risk(sample, tr.Policy("new", "USDX", 1.0, 0.9, 0.5))
        with pytest.raises(ValueError, match="BTC has no peg"):
            tr.marginal_risk(sample, tr.Policy("new", "BTC", 1.0, 0.9, 0.5))
        with pytest.raises(ValueError, match="policy must be a Policy"):
            tr.marginal_risk(sample, "P1")
        with pytest.raises(ValueError, match="sample must be a LossSample"):
            tr.marginal_risk(None, tr.Policy("new", "USDC", 1.0, 0.9, 0.5))


class TestTail:
    """keep="tail" gives the very estimates of keep="all" from level 0.9 on."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("n", [500, 2 * BLOCK + 16])
    def test_estimates_are_the_same(self, kind, n):
        """To rounding of sums in another order."""
        whole, tail = simulate(sampling=kind, n=n), simulate(sampling=kind, n=n, keep="tail")
        for level in (0.9, 0.95, 0.99, 0.999):
            for measure in ("value_at_risk", "expected_shortfall"):
                first, second = getattr(whole, measure)(level), getattr(tail, measure)(level)
                assert first.value == pytest.approx(second.value, rel=1e-12)
                for end in ("low", "high", "standard_error"):
                    if getattr(first, end) is None:
                        assert getattr(second, end) is None
                    else:
                        assert getattr(first, end) == pytest.approx(getattr(second, end), rel=1e-9)
                assert first.note == second.note
        assert whole.expected_loss() == tail.expected_loss()
        assert (whole.worst, whole.best, whole.n) == (tail.worst, tail.best, tail.n)
        pd.testing.assert_frame_equal(whole.by_scenario(), tail.by_scenario())
        capital = whole.value_at_risk(0.97).value
        assert whole.probability_of_ruin(capital) == tail.probability_of_ruin(capital)

    @pytest.mark.parametrize("kind", ["stratified", "antithetic"])
    def test_it_is_what_is_largest(self, kind):
        """A tenth and a little more, in the order of the simulations."""
        whole, tail = (simulate(n=2 * BLOCK, sampling=kind, keep=keep) for keep in ("all", "tail"))
        kept = whole.losses > tail.cut

        assert 0.1 * whole.n < len(tail.losses) < 0.11 * whole.n
        assert (whole.losses[kept] == tail.losses).all()
        assert (whole.scenario[kept] == tail.scenario).all()

    def test_what_was_not_kept_is_refused(self):
        """A low level, a small capital, the table of convergence."""
        tail = simulate(n=2 * BLOCK, keep="tail")
        with pytest.raises(InsufficientDataError, match="keep='all'"):
            tail.value_at_risk(0.5)
        with pytest.raises(InsufficientDataError, match="capital must be at least"):
            tail.probability_of_ruin(-1e9)
        with pytest.raises(InsufficientDataError, match="keep='all'"):
            tail.convergence()

    def test_low_levels_of_weighted_losses(self):
        """By hand where all losses were kept, however few are looked at first; refused where not all were."""
        whole, tail = (simulate(n=2 * BLOCK, sampling="importance", keep=keep) for keep in ("all", "tail"))
        order = np.argsort(-whole.losses)
        shares = np.cumsum(whole.weights[order]) / whole.n
        for level in (0.02, 0.1, 0.3, 0.5):
            place = min(int(np.searchsorted(shares, 1.0 - level, side="right")), whole.n - 1)
            assert whole.losses[order[place]] == whole.value_at_risk(level).value
        with pytest.raises(InsufficientDataError, match="only the .* largest were kept"):
            tail.value_at_risk(0.02)

    @pytest.mark.parametrize("kind", ["stratified", "importance"])
    def test_however_few_are_looked_at_first(self, kind, monkeypatch):
        """Where they do not reach as far as an estimate asks, all are looked at, for the same estimate."""
        sample = simulate(n=2 * BLOCK, sampling=kind)
        known = sample.value_at_risk(0.99), sample.expected_shortfall(0.99)
        monkeypatch.setattr("tonsurance_risk.core.sample.TAIL_MARGIN", -40.0)

        assert known == (sample.value_at_risk(0.99), sample.expected_shortfall(0.99))

    def test_an_atom_at_the_cut(self):
        """More than nine tenths of the losses are exactly 0: VaR 90 is 0, and so is the mean of nothing else."""
        scenarios = [tr.Scenario("calm", 0.97), tr.Scenario("run", 0.03, prices={"USDC": 0.8})]
        vault = tr.Vault(1e6, [tr.Policy("a", "USDC", 1e5, 0.95, 0.75)])
        samples = [tr.simulate_losses(vault, scenarios, n=2 * BLOCK, keep=keep) for keep in ("all", "tail")]

        assert [0.0, 0.0] == [sample.value_at_risk(0.9).value for sample in samples]
        assert samples[0].expected_shortfall(0.9).value == pytest.approx(samples[1].expected_shortfall(0.9).value)
        assert len(samples[1].losses) < 0.04 * samples[1].n

    def test_precision(self):
        """Stops where the whole sample stops."""
        whole, tail = (simulate(n=None, precision=0.004, keep=keep) for keep in ("all", "tail"))

        assert (whole.n, whole.converged) == (tail.n, tail.converged)
        assert whole.value_at_risk(0.99) == tail.value_at_risk(0.99)

    def test_a_collector_keeps_what_sorting_keeps(self):
        """Of more than it has room for, in parts of any size: the largest, in their order."""
        rng, losses, collector = np.random.default_rng(0), [], TailCollector(1_000)
        for k, size in enumerate([3 * BLOCK, 2 * BLOCK, 10, 4 * BLOCK, 1]):
            part = rng.normal(k / 10.0, 1.0, size)
            stratum = np.full(size, k, dtype=np.int32)
            collector.add(Part(0, part, stratum, None, None, ()))
            losses.append(part)

        kept = collector.finished()

        whole = np.concatenate(losses)
        cut = np.sort(whole)[-1_000]
        assert cut == collector.cut
        assert whole[whole > cut].tolist() == kept.losses.tolist()
        of = np.repeat(np.arange(5), [len(part) for part in losses])
        assert of[whole > cut].tolist() == kept.stratum.tolist()


def test_one_simulation_has_no_standard_error():
    """Its mean is its loss."""
    sample = simulate(n=1, sampling="plain")

    estimate = sample.expected_loss()

    assert sample.losses.tolist() == [estimate.value]
    assert (None, None, None) == (estimate.low, estimate.high, estimate.standard_error)
    assert "one simulation has no standard error" == estimate.note


def test_scenarios_without_shocks_beside_others_lose_what_the_stress_test_says():
    """To the bit: nothing of the others' growth is in them."""
    quiet = tr.Scenario("quiet", 0.5, prices={"USDC": 0.9}, btc_change=-0.25, volatility_multiplier=0.0)
    vault = attrs.evolve(book(), btc_value=3e6)
    sample = tr.simulate_losses(vault, [SCENARIOS[0], quiet], correlation=FRAME, volatility=VOLATILITY, n=4_000)

    [exact] = tr.stress_test(vault, [quiet]).losses

    assert round(4_000 * 0.5 / 1.1) == np.count_nonzero(sample.losses == exact)


def test_importance_sampling_grows_and_comes_back_from_workers():
    """Losses and weights are those of one run, whoever draws them."""
    whole = simulate(n=3 * BLOCK, sampling="importance")
    with ThreadPoolExecutor(2) as pool:
        sent = simulate(n=3 * BLOCK, sampling="importance", executor=pool)
    grown = simulate(n=None, sampling="importance", precision=0.001)

    assert grown.n > BLOCK
    assert whole.losses.tobytes() == sent.losses.tobytes()
    assert whole.weights.tobytes() == sent.weights.tobytes()
    again = simulate(n=grown.n, sampling="importance")
    assert again.losses.tobytes() == grown.losses.tobytes()
    assert again.weights.tobytes() == grown.weights.tobytes()


def test_runs_without_any_simulation():
    """Reduce to what stands for nothing."""
    nothing = np.zeros(2, dtype=np.int64)

    assert [-math.inf, -math.inf] == _by_run(np.maximum, np.empty(0), nothing, -math.inf).tolist()
    assert [0.0, 5.0] == _by_run(np.add, np.array([2.0, 3.0]), np.array([0, 2])).tolist()


class TestConvergence:
    """A table, and a suggested count."""

    def test_rows_are_what_smaller_runs_give(self):
        """At 1, 2, 4, ... blocks and at n."""
        for kind in ("stratified", "sobol"):
            sample = simulate(n=2 * BLOCK, sampling=kind)
            table = sample.convergence(0.95)
            assert [BLOCK, 2 * BLOCK] == table.index.tolist()
            for n in table.index:
                estimate = simulate(n=n, sampling=kind).value_at_risk(0.95)
                assert [estimate.value, estimate.low, estimate.high] == table.loc[n].tolist()

    def test_the_suggested_count_brings_the_error_asked_for(self):
        """Within a half: the half-width itself is an estimate."""
        sample = simulate(n=20_000)
        n = sample.suggested_n(0.005, 0.95)
        estimate = simulate(n=n).value_at_risk(0.95)

        assert n > sample.n
        assert (estimate.high - estimate.low) / 2 == pytest.approx(0.005 * estimate.value, rel=0.5)

    def test_no_count_where_the_error_is_unknown(self):
        """Too few losses, or none."""
        with pytest.raises(InsufficientDataError, match="not known"):
            simulate(n=20).suggested_n(0.01, 0.99)
        with pytest.raises(ValueError, match="error must be"):
            simulate(n=200).suggested_n(0.0)


class TestAggregateLimit:
    """All policies together are paid no more than it."""

    @given(st.floats(1e3, 1e6), st.integers(0, 50))
    @settings(max_examples=20)
    def test_losses_are_cut(self, limit, seed):
        """Payouts of each simulation, simulation by simulation; BTC is not."""
        free, cut = (attrs.evolve(book(), btc_value=0.0, aggregate_limit=value) for value in (None, limit))
        without, with_limit = (simulate(vault, n=400, seed=seed).losses for vault in (free, cut))

        np.testing.assert_allclose(np.minimum(without, limit), with_limit, rtol=1e-12)

    def test_the_stress_test_and_files_know_it(self, tmp_path):
        """Round trip through JSON."""
        vault = book(limit=1e5)
        stress = tr.stress_test(vault, SCENARIOS).losses
        path = tmp_path / "vault.json"
        path.write_text(__import__("json").dumps(vault.to_dict()))

        assert vault == tr.read_vault(path)
        assert "aggregate_limit" not in book().to_dict()
        assert 1e5 - 2e5 * 0.2 == stress["run"]
        with pytest.raises(ValueError, match="aggregate_limit"):
            book(limit=0.0)

"""Simulated losses: closed forms, laws, and the same losses however they are computed."""

from __future__ import annotations

import math
import statistics
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.plain import lognormal_put, normal_cdf
from tonsurance_risk.core.payoff import PayoutFunction
from tonsurance_risk.core.simulation import BLOCK
from tonsurance_risk.core.variance import Design
from tonsurance_risk.errors import UnknownAssetError

NORMAL = statistics.NormalDist()
N = 200_000
SAMPLINGS = ["plain", "stratified"]


def one_policy(asset="USDC", coverage=1e6, trigger=0.98, floor=0.90):
    """Return a policy with an id of its asset."""
    return tr.Policy(f"P-{asset}", asset, coverage, trigger, floor)


def lognormal_mean(policy, level, sigma):
    """Return the expected payout: the difference of two puts."""
    puts = [lognormal_put(strike, level, sigma) for strike in (policy.trigger_price, policy.floor_price)]
    return policy.coverage * (puts[0] - puts[1]) / (policy.trigger_price - policy.floor_price)


def lognormal_quantile(policy, level, sigma, share):
    """Return the quantile of the payout: it falls with the price, so the price's other quantile decides."""
    return policy.payout(level * math.exp(sigma * NORMAL.inv_cdf(1 - share)))


def assert_within(estimate, truth, errors=5.0):
    """Hold within 5 standard errors: fails by chance once in 1.7 million."""
    assert abs(estimate.value - truth) <= errors * estimate.standard_error + 1e-9, (estimate, truth)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("level", "sigma"), [(1.0, 0.03), (0.95, 0.02), (0.9, 0.1)])
def test_one_policy_is_a_spread_of_lognormal_puts(sampling, level, sigma):
    """Mean, quantile and probability of a loss in closed form."""
    policy = one_policy()
    scenario = tr.Scenario("only", 1.0, prices={"USDC": level})

    sample = tr.simulate_losses(
        tr.Vault(1e7, [policy]), [scenario], volatility={"USDC": sigma}, n=N, sampling=sampling
    )

    assert_within(sample.expected_loss(), lognormal_mean(policy, level, sigma))
    for share in (0.9, 0.95, 0.99):
        truth = lognormal_quantile(policy, level, sigma, share)
        estimate = sample.value_at_risk(share)
        if truth in (0.0, policy.coverage):
            assert truth == estimate.value
        else:
            assert_within(estimate, truth)
    loses = normal_cdf(math.log(policy.trigger_price / level) / sigma)
    assert_within(sample.probability_of_ruin(0.0), loses)


def test_expected_shortfall_of_one_policy():
    """The mean of the worst share of a lognormal spread, by quadrature of its quantiles."""
    policy, sigma = one_policy(floor=0.5), 0.05
    sample = tr.simulate_losses(
        tr.Vault(1e7, [policy]), [tr.Scenario("only", 1.0)], volatility={"USDC": sigma}, n=N
    )

    for share in (0.9, 0.99):
        points = share + (1 - share) * (np.arange(20_000) + 0.5) / 20_000
        truth = np.mean([lognormal_quantile(policy, 1.0, sigma, p) for p in points])
        assert_within(sample.expected_shortfall(share), truth)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.fault("F124")
def test_perfectly_correlated_assets_are_comonotone(sampling):
    """Quantiles of the sum are sums of the quantiles; the matrix is singular."""
    policies = [one_policy("USDC"), one_policy("DAI", 2e6, 0.97, 0.8)]
    sigma = {"USDC": 0.03, "DAI": 0.05}
    ones = pd.DataFrame(np.ones((2, 2)), index=list(sigma), columns=list(sigma))

    sample = tr.simulate_losses(
        tr.Vault(1e7, policies),
        [tr.Scenario("only", 1.0)],
        correlation=ones,
        volatility=sigma,
        n=N,
        sampling=sampling,
    )

    for share in (0.9, 0.95, 0.99):
        truth = sum(lognormal_quantile(policy, 1.0, sigma[policy.asset], share) for policy in policies)
        assert_within(sample.value_at_risk(share), truth)
    assert 0.0 == sample.repair_distance


def test_a_shift_of_one_makes_everything_comonotone():
    """Independent coins, correlation_shift = 1; a shift of -1 makes correlated ones independent."""
    vault = tr.Vault(1e7, [one_policy("USDC"), one_policy("DAI")])
    sigma = {"USDC": 0.03, "DAI": 0.03}
    ones = pd.DataFrame(np.ones((2, 2)), index=list(sigma), columns=list(sigma))

    together = tr.simulate_losses(
        vault, [tr.Scenario("s", 1.0, correlation_shift=1.0)], volatility=sigma, n=50_000
    )
    apart = tr.simulate_losses(
        vault, [tr.Scenario("s", 1.0, correlation_shift=-1.0)], correlation=ones, volatility=sigma, n=50_000
    )

    truth = 2 * lognormal_quantile(one_policy(), 1.0, 0.03, 0.99)
    assert_within(together.value_at_risk(0.99), truth)
    assert apart.value_at_risk(0.99).high < truth


@pytest.mark.parametrize("change", [-0.5, 0.0, 0.3])
def test_btc_alone(change):
    """Its mean is the scenario's change whatever its volatility; its quantile is lognormal."""
    sigma, value = 0.4, 1e6
    sample = tr.simulate_losses(
        tr.Vault(1e7, [], btc_value=value),
        [tr.Scenario("s", 1.0, btc_change=change)],
        volatility={"BTC": sigma},
        n=N,
    )

    assert_within(sample.expected_loss(), -value * change)
    growth = (1 + change) * math.exp(sigma * NORMAL.inv_cdf(0.05) - sigma**2 / 2)
    assert_within(sample.value_at_risk(0.95), -value * (growth - 1))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_mean_of_a_mixture(sampling):
    """Probability times weight, over the active scenarios."""
    policy = one_policy()
    scenarios = [
        tr.Scenario("calm", 0.6),
        tr.Scenario("off", 0.9, prices={"USDC": 0.5}, is_active=False),
        tr.Scenario("dip", 0.3, prices={"USDC": 0.95}, volatility_multiplier=2.0, weight=0.5),
        tr.Scenario("crash", 0.05, prices={"USDC": 0.85}, weight=3.0),
    ]
    mass = [0.6, 0.15, 0.15]
    means = [lognormal_mean(policy, *pair) for pair in ((1.0, 0.01), (0.95, 0.02), (0.85, 0.01))]

    sample = tr.simulate_losses(
        tr.Vault(1e7, [policy]), scenarios, volatility={"USDC": 0.01}, n=N, sampling=sampling
    )

    assert_within(sample.expected_loss(), np.dot(mass, means) / sum(mass))
    table = sample.by_scenario()
    assert 0 == table.loc["off", "simulations"]
    assert table.loc["off", "expected_loss"] is pd.NA
    if sampling == "stratified":
        blocks = math.ceil(N / BLOCK)
        np.testing.assert_allclose(
            table["simulations"][["calm", "dip", "crash"]], N * np.array(mass) / sum(mass), atol=blocks
        )


def test_without_volatility_losses_are_exact():
    """Each simulation loses what the stress test says of its scenario."""
    vault = tr.Vault(5e7, [one_policy("USDC"), one_policy("DAI", 3e5, 0.96, 0.7)], btc_value=1e6)
    scenarios = tr.builtin_scenarios()

    sample = tr.simulate_losses(vault, scenarios, n=10_000)
    stress = tr.stress_test(vault, scenarios).losses.to_numpy()

    np.testing.assert_allclose(sample.losses, stress[sample.scenario], rtol=1e-14, atol=1e-6)


@given(
    st.lists(st.tuples(st.floats(1, 1e6), st.floats(0.3, 1.2), st.floats(1e-9, 0.3)), min_size=1, max_size=30),
    st.lists(st.floats(1e-3, 2.0), min_size=1, max_size=20),
)
@settings(max_examples=200)
def test_the_payout_function_is_the_sum_over_policies(terms, ratios):
    """To 1e-9 of the payout itself, for any ratio, steep policies and all knots included."""
    policies = [
        tr.Policy(str(i), "USDC", coverage, trigger, trigger - min(width, trigger))
        for i, (coverage, trigger, width) in enumerate(terms)
    ]
    function = PayoutFunction.of(policies)
    points = np.array([*ratios, *function.knots, *np.nextafter(function.knots, 0)])

    plain = [math.fsum(policy.payout(point) for policy in policies) for point in points.tolist()]

    np.testing.assert_allclose(function(points), plain, rtol=1e-9, atol=0.0)


@settings(max_examples=25)
@given(st.integers(0, 2**63), st.integers(1, 3 * BLOCK), st.sampled_from(SAMPLINGS))
def test_the_same_seed_gives_the_same_losses_and_a_longer_run_continues_them(seed, n, sampling):
    """To the bit; full blocks do not depend on n."""
    vault = tr.Vault(1e7, [one_policy()], btc_value=1e5)
    arguments = {"volatility": {"USDC": 0.02, "BTC": 0.1}, "seed": seed, "sampling": sampling}

    once = tr.simulate_losses(vault, tr.builtin_scenarios(), n=n, **arguments)
    longer = tr.simulate_losses(vault, tr.builtin_scenarios(), n=n + BLOCK, **arguments)

    assert once == tr.simulate_losses(vault, tr.builtin_scenarios(), n=n, **arguments)
    full = n // BLOCK * BLOCK
    assert (once.losses[:full] == longer.losses[:full]).all()


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.fault("F127")
def test_executors_change_nothing(pool, workers):
    """Threads, processes, one worker or two: the same bits."""
    vault = tr.Vault(1e7, [one_policy(), one_policy("DAI")], btc_value=1e5)
    arguments = {"volatility": {"USDC": 0.02, "DAI": 0.03, "BTC": 0.1}, "n": 40 * BLOCK + 17}

    here = tr.simulate_losses(vault, tr.builtin_scenarios(), **arguments)
    with pool(workers) as executor:
        there = tr.simulate_losses(vault, tr.builtin_scenarios(), executor=executor, **arguments)

    assert here == there


def test_two_seeds_share_no_block():
    """Neighbouring seeds neither."""
    vault = tr.Vault(1e7, [], btc_value=1e5)
    blocks = [
        tr.simulate_losses(vault, [tr.Scenario("s", 1.0)], volatility={"BTC": 0.1}, seed=seed, n=3 * BLOCK).losses
        for seed in range(5)
    ]

    assert 5 * 3 == len({tuple(losses[i * BLOCK : (i + 1) * BLOCK][:5]) for losses in blocks for i in range(3)})


@given(st.lists(st.integers(0, 20), min_size=2, max_size=8).filter(any), st.integers(0, 1000))
def test_stratified_counts_are_within_one_of_their_expectation(masses, seed):
    """In each block, the short last one included."""
    scenarios = [tr.Scenario(f"s{i}", mass / 100) for i, mass in enumerate(masses)]
    n = BLOCK + 1000

    sample = tr.simulate_losses(tr.Vault(1.0, []), scenarios, n=n, seed=seed)

    shares = np.array(masses) / sum(masses)
    for part in (sample.scenario[:BLOCK], sample.scenario[BLOCK:]):
        counts = np.bincount(part, minlength=len(masses))
        assert (np.abs(counts - len(part) * shares) < 1 + 1e-6).all()
        assert not counts[shares == 0].any()


def test_scenario_counts_are_unbiased():
    """Over many seeds the mean count of a stratum is n p (5 standard errors of the systematic draw)."""
    scenarios = [tr.Scenario("a", 0.3001), tr.Scenario("b", 0.2), tr.Scenario("c", 0.1)]
    counts = [
        np.bincount(tr.simulate_losses(tr.Vault(1.0, []), scenarios, n=1000, seed=seed).scenario, minlength=3)
        for seed in range(400)
    ]

    expected = 1000 * np.array([0.3001, 0.2, 0.1]) / 0.6001
    np.testing.assert_allclose(np.mean(counts, axis=0), expected, atol=5 * 0.5 / math.sqrt(400))


@given(st.floats(0.001, 0.9), st.integers(0, 100))
def test_more_coverage_never_loses_less(extra, seed):
    """On the same draws, simulation by simulation, up to what both tables may be off."""
    vault = tr.Vault(1e7, [one_policy()])
    more = tr.Vault(1e7, [one_policy(), tr.Policy("more", "USDC", 1e6 * extra, 0.97, 0.5)])

    few, many = (
        tr.simulate_losses(v, tr.builtin_scenarios(), volatility={"USDC": 0.02}, n=500, seed=seed).losses
        for v in (vault, more)
    )

    assert (many >= few - 1e-6 * (vault.coverage + more.coverage)).all()


@pytest.mark.parametrize("level", [0.9, 0.99])
@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_contributions_sum_to_the_expected_shortfall(level, sigma):
    """To 1e-9, atoms at the quantile included, and each is what its asset loses in the tail."""
    policies = [one_policy("USDC"), one_policy("DAI", 5e5), one_policy("LUSD", 2e5, 0.9, 0.1)]
    volatility = dict.fromkeys(["USDC", "DAI", "LUSD", "BTC"], sigma)
    vault = tr.Vault(1e7, policies, btc_value=3e5)

    sample = tr.simulate_losses(vault, tr.builtin_scenarios(), volatility=volatility, n=20_000)
    parts = sample.contributions(level)

    assert ["DAI", "LUSD", "USDC", "BTC"] == parts.index.tolist()
    assert sample.expected_shortfall(level).value == pytest.approx(parts.sum(), rel=1e-9)


class TestPrecision:
    """Blocks double until the interval of VaR 99 is narrow enough, or the most is reached."""

    vault = tr.Vault(1e7, [one_policy(floor=0.5)])
    arguments = {"scenarios": [tr.Scenario("s", 1.0)], "volatility": {"USDC": 0.05}}

    def test_stops_at_a_power_of_two_of_blocks(self):
        """The result is what a fixed n of that size gives."""
        sample = tr.simulate_losses(self.vault, precision=0.02, **self.arguments)

        assert sample.converged
        assert math.log2(sample.n / BLOCK).is_integer()
        estimate = sample.value_at_risk(0.99)
        assert (estimate.high - estimate.low) / 2 <= 0.02 * estimate.value
        fixed = tr.simulate_losses(self.vault, n=sample.n, **self.arguments)
        assert (fixed.losses == sample.losses).all()
        assert fixed.converged is None

    def test_the_most_is_looked_at_too(self):
        """And says that it did not converge."""
        sample = tr.simulate_losses(self.vault, precision=1e-6, n=3 * BLOCK + 5, **self.arguments)

        assert (3 * BLOCK + 5, False) == (sample.n, sample.converged)

    def test_a_point_is_narrow_enough(self):
        """All losses 0."""
        sample = tr.simulate_losses(tr.Vault(1.0, []), [tr.Scenario("s", 1.0)], precision=0.01)

        assert (BLOCK, True) == (sample.n, sample.converged)

    def test_never_while_an_end_is_missing(self):
        """20 losses say nothing of an upper end at 99 %."""
        sample = tr.simulate_losses(tr.Vault(1.0, []), [tr.Scenario("s", 1.0)], precision=0.5, n=20)

        assert not sample.converged


def test_an_end_that_the_sample_cannot_support_is_none_and_noted():
    """0.999 of 100 losses."""
    sample = tr.simulate_losses(
        tr.Vault(1e7, [one_policy()]), tr.builtin_scenarios(), volatility={"USDC": 0.02}, n=100
    )

    quantile, shortfall = sample.value_at_risk(0.999), sample.expected_shortfall(0.999)

    assert quantile.high is None
    assert quantile.standard_error is None
    assert "only 0.1 losses" in quantile.note
    assert "upper end" in quantile.note
    assert (None, None) == (shortfall.low, shortfall.high)
    assert "too small for an interval" in shortfall.note
    assert quantile.value == sample.worst == shortfall.value


@pytest.mark.fault("F123")
def test_a_repaired_matrix_says_how_far_it_moved():
    """An indefinite matrix of three coins."""
    names = ["DAI", "USDC", "USDT"]
    values = pd.DataFrame([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]], index=names, columns=names)
    vault = tr.Vault(1e7, [one_policy(name) for name in names])

    sample = tr.simulate_losses(
        vault, [tr.Scenario("s", 1.0)], correlation=values, volatility=dict.fromkeys(names, 0.01)
    )

    assert tr.CorrelationMatrix.from_frame(values).nearest_psd()[1] == sample.repair_distance
    assert sample.repair_distance > 0.1


def test_shocks_have_the_correlation_asked_for():
    """Two policies that pay linearly over the whole range: the variance of the sum gives the correlation away."""
    policies = [tr.Policy("a", "USDC", 1.0, 2.0, 0.0), tr.Policy("b", "DAI", 1.0, 2.0, 0.0)]
    names = ["USDC", "DAI"]
    rho = pd.DataFrame([[1, 0.6], [0.6, 1]], index=names, columns=names)

    losses = tr.simulate_losses(
        tr.Vault(10.0, policies),
        [tr.Scenario("s", 1.0)],
        correlation=rho,
        volatility=dict.fromkeys(names, 0.01),
        n=N,
    ).losses

    variance = 0.25 * 1e-4 * (2 + 2 * 0.6)
    # The standard error of a variance is sqrt(2 / n) of it; 5 of them, and the lognormal's own excess.
    assert variance == pytest.approx(np.var(losses), rel=5 * math.sqrt(2 / N) + 1e-3)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("probability", "n"), [(0.0003, 1000), (0.001, 1000), (0.001, 10_000)])
def test_a_rare_scenario_counts_although_it_was_hardly_drawn(sampling, probability, n):
    """The interval of the mean holds the truth in about 92 % of 300 samples (standard error 1.6 %).

    Not 95 %: a normal interval for a count of one on average holds 0, 1 and 2, which come in 92 % of cases.
    """
    vault = tr.Vault(1e7, [one_policy()])
    scenarios = [tr.Scenario("calm", 1.0 - probability), tr.Scenario("rare", probability, prices={"USDC": 0.9})]
    estimates = [
        tr.simulate_losses(vault, scenarios, n=n, seed=seed, sampling=sampling).expected_loss()
        for seed in range(300)
    ]

    covered = sum(e.low <= 1e6 * probability <= e.high for e in estimates)

    assert covered >= 300 * (0.92 - 3 * 0.016)


def test_whole_scenarios_that_were_not_drawn_widen_the_probability_of_a_loss():
    """500 equal scenarios of which every other one loses everything, 250 draws: the half is in the interval."""
    scenarios = [tr.Scenario(f"s{i}", 0.002, prices={"USDC": 1.0 - 0.5 * (i % 2)}) for i in range(500)]

    for seed in range(20):
        sample = tr.simulate_losses(tr.Vault(1e7, [one_policy()]), scenarios, n=250, seed=seed)
        estimate = sample.probability_of_ruin(1.0)
        assert estimate.low <= 0.5 <= estimate.high


def test_allocation_variance_equals_brute_force():
    """Over 20,000 random starts: the variance of the sum of the scenarios' means in a block."""
    rng = np.random.default_rng(5)
    masses, means = rng.random(7), rng.normal(size=7)
    cumulated = np.cumsum(masses) / masses.sum()
    starts = (np.arange(20_000) + 0.5) / 20_000
    points = (np.arange(100)[None, :] + starts[:, None]) / 100
    sums = means[np.minimum(np.searchsorted(cumulated, points, side="right"), 6)].sum(axis=1)

    design = Design("stratified", 100, np.full(7, 14.0), cumulated, means, np.ones(7), 0.0)

    assert np.var(sums) == pytest.approx(design.between(means), rel=0.01)


def test_allocation_variance_of_sobol_points_equals_brute_force():
    """Each of the 16 replicates has one point, uniform there, in every cell; 40,000 times."""
    rng = np.random.default_rng(6)
    masses, means = rng.random(9), rng.normal(size=9)
    cumulated = np.cumsum(masses) / masses.sum()
    points = (np.arange(4)[None, :] + rng.random((40_000, 4))) / 4
    sums = means[np.minimum(np.searchsorted(cumulated, points, side="right"), 8)].sum(axis=1)

    design = Design("sobol", 64, np.full(9, 7.0), cumulated, means, np.ones(9), 0.0)

    assert 16 * np.var(sums) == pytest.approx(design.between(means), rel=0.03)


class TestBadInput:
    """Each is a named error in the first lines."""

    vault = tr.Vault(1e7, [one_policy()])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n": 0}, "n must be"),
            ({"n": -5}, "n must be"),
            ({"n": 2.5}, "n must be"),
            ({"n": 10**13}, "n must be a whole number from 1 to 1,000,000,000"),
            ({"n": True}, "n must be"),
            ({"precision": 0.0}, "precision"),
            ({"precision": float("nan")}, "precision"),
            ({"seed": -1}, "seed"),
            ({"seed": 1.5}, "seed"),
            ({"sampling": "sobol!"}, "sampling must be one of"),
            ({"keep": "some"}, "keep must be one of"),
            ({"tail_level": 99}, "level must lie strictly between 0 and 1"),
            ({"n": 10**12}, "n must be a whole number from 1 to 1,000,000,000"),
            ({"n": 10**13, "keep": "tail"}, "n must be a whole number"),
            ({"precision": -0.1}, "precision"),
            ({"executor": "threads"}, "executor"),
            ({"volatility": {"USDC": -0.1}}, "volatility"),
            ({"volatility": {"USDC": float("nan")}}, "volatility"),
            ({"volatility": {"USDC": 60.0}}, "volatility of USDC"),
            ({"volatility": {"usdc": 0.1, "USDC": 0.1}}, "symbols of volatility"),
            ({"volatility": [0.1]}, "volatility must be a mapping or Series"),
            ({"volatility": {1: 0.1}}, "volatility must be a mapping or Series"),
        ],
    )
    @pytest.mark.fault("F102")
    @pytest.mark.fault("F128")
    def test_arguments(self, arguments, message):
        """Named, with what was found and what is accepted."""
        with pytest.raises(ValueError, match=message):
            tr.simulate_losses(self.vault, tr.builtin_scenarios(), **arguments)

    @pytest.mark.parametrize(
        ("scenarios", "message"),
        [
            ([], "at least one scenario"),
            (
                [tr.Scenario("a", 0.5), tr.Scenario("a", 0.5)],
                "scenario names must be unique, found 'a' twice",
            ),
            ([tr.Scenario("a", 0.5, weight=0.0)], "at least one active"),
            ([tr.Scenario("a", 0.5, is_active=False)], "at least one active"),
            ([tr.Scenario("a", 0.5, prices={"usdc": 0.9, "USDC": 0.8})], "assets priced by scenario 'a'"),
            ([tr.Scenario("a", 0.5, prices={"BTC": 0.9})], "BTC has no peg"),
            (["a"], "Scenario records"),
            (None, "scenarios must be a sequence of Scenario records, found None"),
        ],
    )
    def test_scenarios(self, scenarios, message):
        """None, doubled, without weight, on BTC."""
        with pytest.raises(ValueError, match=message):
            tr.simulate_losses(self.vault, scenarios)

    @pytest.mark.fault("F133")
    def test_unknown_symbols(self):
        """Of a policy, a scenario or a volatility, with near matches; a coin of one's own is known by the vault."""
        with pytest.raises(UnknownAssetError, match=r"policy 'P-USDX'.*did you mean"):
            tr.simulate_losses(tr.Vault(1.0, [one_policy("USDX")]), tr.builtin_scenarios())
        scenario = tr.Scenario("s", 1.0, prices={"USDX": 0.5})
        with pytest.raises(UnknownAssetError, match="scenario 's'"):
            tr.simulate_losses(self.vault, [scenario])
        with pytest.raises(UnknownAssetError, match=r"symbol of volatility: 'UDSC'; did you mean .*USDC"):
            tr.simulate_losses(self.vault, tr.builtin_scenarios(), volatility={"UDSC": 0.01})
        own = tr.Vault(1e7, [one_policy("USDX")], assets=["USDX"])
        assert 1e6 == tr.simulate_losses(own, [scenario], n=10).worst


@pytest.mark.parametrize(
    ("volatility", "count"),
    [
        (0.0, 10_000),
        (0.0199, 10_000),
        (0.02, 15_000),
        (0.0499, 15_000),
        (0.05, 20_000),
        (0.1, 30_000),
        (5.0, 30_000),
    ],
)
def test_adaptive_simulation_count(volatility, count):
    """At its bounds."""
    assert count == tr.adaptive_simulation_count(volatility)
    assert isinstance(tr.adaptive_simulation_count(volatility, base=7), int)

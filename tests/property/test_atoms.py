"""Intervals where losses are few or pile up on one value: what the sample cannot support is not given."""

from __future__ import annotations

import pytest
from scipy import stats

import tonsurance_risk as tr

KINDS = ["plain", "stratified", "antithetic", "sobol", "importance"]
SHOCKED = tr.Vault(1e7, [tr.Policy("a", "USDC", 1e6, 0.99, 0.9)])
CALM = [tr.Scenario("calm", 1.0)]


def shocked(**options):
    """Simulate one policy that only shocks of USDC hit."""
    return tr.simulate_losses(SHOCKED, CALM, volatility={"USDC": 0.02}, **options)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_one_antithetic_pair_has_no_ends(level):
    """Its variance is infinite."""
    estimate = shocked(n=2, sampling="antithetic").value_at_risk(level)

    assert (None, None, None) == (estimate.low, estimate.high, estimate.standard_error)
    assert "too small for a lower end" in estimate.note
    assert "too small for an upper end" in estimate.note


@pytest.mark.parametrize("hits", [0, 1, 8, 50, 992, 1000])
def test_the_probability_of_ruin_of_a_plain_sample_is_clopper_pearson(hits):
    """As SciPy has it, for few and for many hits."""
    sample = shocked(n=1000, sampling="plain")
    ordered = sorted(sample.losses, reverse=True)
    capital = ordered[hits] if hits < 1000 else ordered[-1] - 1.0
    k = int((sample.losses > capital).sum())
    exact = stats.binomtest(k, 1000).proportion_ci(0.95, "exact")
    estimate = sample.probability_of_ruin(capital)

    assert (k / 1000, pytest.approx(exact.low), pytest.approx(exact.high)) == (
        estimate.value,
        estimate.low,
        estimate.high,
    )


def test_eight_of_a_thousand():
    """The ends of 8 hits in 1000."""
    sample = shocked(n=1000, sampling="plain")
    capital = sorted(sample.losses, reverse=True)[8]

    assert pytest.approx(0.003459976, abs=5e-9) == sample.probability_of_ruin(capital).low


@pytest.mark.parametrize("kind", KINDS[1:])
def test_ends_and_standard_error_of_the_probability_of_ruin_agree(kind):
    """Where hits and misses are not few, the ends are as many standard errors away as the kind takes."""
    estimate = shocked(n=4096, sampling=kind).probability_of_ruin(10_000.0)
    critical = stats.t(15).ppf(0.975) if kind == "sobol" else stats.norm.ppf(0.975)

    for end in (estimate.low, estimate.high):
        assert critical * estimate.standard_error == pytest.approx(abs(end - estimate.value))


@pytest.mark.parametrize("kind", ["stratified", "antithetic", "sobol"])
def test_few_hits_or_misses_of_other_kinds_take_clopper_pearson(kind):
    """No more is known of an event that the sample hardly saw, or hardly missed."""
    sample = shocked(n=1024, sampling=kind)
    for capital in (sorted(sample.losses, reverse=True)[3], -1.0):
        k = int((sample.losses > capital).sum())
        exact = stats.binomtest(k, 1024).proportion_ci(0.95, "exact")
        estimate = sample.probability_of_ruin(capital)

        assert (pytest.approx(exact.low), pytest.approx(exact.high)) == (estimate.low, estimate.high)


def test_few_weighted_hits():
    """Clopper and Pearson's ends for the hits, times weights; the same when only the tail was kept."""
    whole, tail = (shocked(n=20_000, sampling="importance", keep=keep) for keep in ("all", "tail"))
    for capital in (whole.worst, sorted(whole.losses, reverse=True)[4]):
        hits = int((whole.losses > capital).sum())
        largest = whole.weights[whole.losses > capital].max() if hits else 10.0
        estimate = whole.probability_of_ruin(capital)

        assert estimate == tail.probability_of_ruin(capital)
        assert estimate.low <= estimate.value <= estimate.high
        exact = stats.binomtest(hits, whole.n).proportion_ci(0.95, "exact")
        assert pytest.approx(exact.high * largest) == estimate.high


RARE = tr.Vault(1e7, [tr.Policy("a", "USDC", 1e6, 0.93, 0.9)])
"""Shocks of 2 % reach the trigger in 1 of 7,000 simulations."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [4_096, 32_768])
def test_no_ends_of_means_where_hardly_a_loss_is_not_zero(kind, n):
    """Hardly a loss is seen: that all others are 0 is no proof that the mean is known."""
    sample = tr.simulate_losses(RARE, CALM, volatility={"USDC": 0.02}, n=n, sampling=kind, tail_level=0.9)
    beside = int((sample.losses > 0.0).sum())
    for estimate in (sample.expected_loss(), sample.expected_shortfall(0.95)):
        if beside < 30:
            assert (None, None, None) == (estimate.low, estimate.high, estimate.standard_error)
            assert "too few for an interval" in estimate.note
        else:
            assert kind == "importance"
            assert estimate.low <= estimate.value <= estimate.high


def test_an_atom_that_no_shock_exceeds_has_ends():
    """The whole coverage is paid beyond the floor; more cannot be lost."""
    scenarios = [tr.Scenario("calm", 0.9), tr.Scenario("crash", 0.1, prices={"USDC": 0.5})]
    sample = tr.simulate_losses(SHOCKED, scenarios, volatility={"USDC": 0.02}, n=10_000)
    estimate = sample.expected_shortfall(0.95)

    assert estimate.note == ""
    for number in (estimate.value, estimate.low, estimate.high):
        assert number == pytest.approx(1e6)


def test_where_nothing_moves_the_mean_is_exact():
    """Stratified counts are exact, and so is a mean of losses that are known."""
    sample = tr.simulate_losses(SHOCKED, [tr.Scenario("dip", 1.0, prices={"USDC": 0.945})], n=100)
    estimate = sample.expected_loss()

    assert estimate.value == pytest.approx(500_000.0)
    assert (estimate.value, estimate.value) == (estimate.low, estimate.high)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_a_kept_tail_gives_the_same_at_an_atom(kind, level):
    """The losses of 0 are not kept one by one, but that they are 0 is known."""
    whole, tail = (
        tr.simulate_losses(RARE, CALM, volatility={"USDC": 0.025}, n=65_536, sampling=kind, keep=keep)
        for keep in ("all", "tail")
    )
    assert len(tail.losses) < 65_536 * (0.6 if kind == "importance" else 0.1)

    for measure in ("value_at_risk", "expected_shortfall"):
        estimate, kept = getattr(whole, measure)(level), getattr(tail, measure)(level)
        assert (estimate.value, estimate.note) == (kept.value, kept.note)
        assert estimate.low == pytest.approx(kept.low)
        assert estimate.high == pytest.approx(kept.high)


def test_a_level_below_all_that_the_weights_reach():
    """Weights of an importance sample add up to about n; what is missing has no loss, and no lower end."""
    lacking = next(
        sample
        for sample in (shocked(n=256, sampling="importance", seed=seed) for seed in range(100))
        if sample.weights.sum() < 0.97 * sample.n
    )
    level = 0.5 * (1.0 - lacking.weights.sum() / lacking.n)

    estimate = lacking.value_at_risk(level)

    assert (lacking.best, None) == (estimate.value, estimate.low)
    assert f"the weights add up to {lacking.weights.sum() / lacking.n:g} only" in estimate.note


def test_few_weighted_misses():
    """Of a capital that nearly every loss exceeds nothing is known above; below, as many misses as weigh most."""
    sample = shocked(n=2_000, sampling="importance")

    estimate = sample.probability_of_ruin(-1.0)

    misses = int((sample.losses <= -1.0).sum())
    most = stats.binomtest(misses, sample.n).proportion_ci(0.95, "exact").high
    assert (0, 1.0) == (misses, estimate.high)
    assert 0.8 < estimate.low <= min(1.0 - 10.0 * most, estimate.value)


def test_weights_that_add_up_to_more_than_all():
    """Give a probability of 1, not more."""
    heavy = next(
        sample
        for sample in (shocked(n=2_000, sampling="importance", seed=seed) for seed in range(100))
        if sample.weights.sum() > sample.n
    )

    estimate = heavy.probability_of_ruin(-1.0)

    assert (1.0, 1.0) == (estimate.value, estimate.high)
    assert estimate.low <= 1.0

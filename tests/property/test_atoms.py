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

"""Tail measures: exact ranks against rational arithmetic, and the laws that hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.plain import plain_expected_shortfall, plain_value_at_risk
from tonsurance_risk.core.measures import tail_rank
from tonsurance_risk.errors import InsufficientDataError

LEVELS = [0.90, 0.95, 0.99, 0.999]
SIZES = [100, 200, 1000, 1024]

amounts = st.one_of(
    st.integers(-1000, 1000).map(float),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 2)),
    st.just(0.0),
)
samples = st.lists(amounts, min_size=1, max_size=120)
levels = st.one_of(st.sampled_from([0.5, *LEVELS]), st.integers(1, 9999).map(lambda k: k / 10_000))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("level", LEVELS)
def test_ranks_are_exact(n, level):
    """The distinct losses 1..n: the k-th smallest, k the ceiling of n times the exact level."""
    share = Fraction(str(level))
    rank = -((-share.numerator * n) // share.denominator)
    losses = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))

    assert rank == tail_rank(n, level)
    assert rank == tr.value_at_risk(losses, level)
    assert plain_expected_shortfall(losses.tolist(), level) == pytest.approx(
        tr.expected_shortfall(losses, level), rel=1e-14
    )


def test_the_rank_that_floating_point_gets_wrong():
    """``(1 - 0.95) * 100`` is 5.000000000000004, so a ceiling of it counts 6 losses in the tail of 5."""
    assert 6 == int(np.ceil((1 - 0.95) * 100))
    assert 95.0 == tr.value_at_risk(np.arange(1.0, 101.0), 0.95)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("nonzero", [1, 5, 50])
def test_atoms(n, level, nonzero):
    """Most losses exactly 0, with ties among the others."""
    losses = [0.0] * (n - nonzero) + [float(1 + k // 2) for k in range(nonzero)]

    assert plain_value_at_risk(losses, level) == tr.value_at_risk(losses, level)
    assert plain_expected_shortfall(losses, level) == pytest.approx(
        tr.expected_shortfall(losses, level), rel=1e-13
    )


@given(samples, levels)
def test_equal_the_rational_oracle(losses, level):
    """For any losses and level."""
    assert plain_value_at_risk(losses, level) == tr.value_at_risk(losses, level)
    assert plain_expected_shortfall(losses, level) == pytest.approx(
        tr.expected_shortfall(losses, level), rel=1e-9, abs=1e-9
    )


@given(
    st.lists(st.tuples(amounts, st.integers(0, 40)), min_size=1, max_size=60),
    st.sampled_from([1.0, 0.1, 0.05]),
    levels,
)
def test_weighted_equal_the_rational_oracle(pairs, unit, level):
    """Weights that are multiples of a decimal: sums of them reach the level exactly or not at all."""
    losses = [loss for loss, _ in pairs]
    weights = [round(weight * unit, 4) for _, weight in pairs]
    if not any(weights):
        weights[0] = unit

    assert plain_value_at_risk(losses, level, weights) == tr.value_at_risk(losses, level, weights=weights)
    assert plain_expected_shortfall(losses, level, weights) == pytest.approx(
        tr.expected_shortfall(losses, level, weights=weights), rel=1e-9, abs=1e-6
    )


@given(samples, levels, st.sampled_from([0.1, 1.0, 3.0, 1e-12, 1e300]))
def test_equal_weights_are_no_weights(losses, level, weight):
    """To the bit."""
    weights = [weight] * len(losses)
    if weight * len(losses) == float("inf"):
        return
    assert tr.value_at_risk(losses, level) == tr.value_at_risk(losses, level, weights=weights)
    assert tr.expected_shortfall(losses, level) == tr.expected_shortfall(losses, level, weights=weights)


@given(samples, levels)
def test_shortfall_lies_between_quantile_and_worst(losses, level):
    """Without any tolerance."""
    quantile, shortfall = tr.value_at_risk(losses, level), tr.expected_shortfall(losses, level)

    assert quantile <= shortfall <= max(losses)


@given(samples, levels, levels)
def test_both_grow_with_the_level(losses, one, other):
    """A higher level is never less."""
    low, high = sorted([one, other])

    assert tr.value_at_risk(losses, low) <= tr.value_at_risk(losses, high)
    assert tr.expected_shortfall(losses, low) <= tr.expected_shortfall(losses, high) + 1e-6


@given(samples, levels, st.integers(-1000, 1000), st.sampled_from([0.5, 2.0, 1024.0]))
def test_translation_and_scale(losses, level, shift, factor):
    """rho(k X + c) = k rho(X) + c for k > 0."""
    moved = [factor * loss + shift for loss in losses]

    for measure in (tr.value_at_risk, tr.expected_shortfall):
        assert measure(moved, level) == pytest.approx(factor * measure(losses, level) + shift, rel=1e-9, abs=1e-6)


@given(samples, levels, st.randoms(use_true_random=False))
def test_order_does_not_matter(losses, level, random):
    """Any permutation gives the same."""
    shuffled = list(losses)
    random.shuffle(shuffled)

    assert tr.value_at_risk(losses, level) == tr.value_at_risk(shuffled, level)
    assert tr.expected_shortfall(losses, level) == pytest.approx(tr.expected_shortfall(shuffled, level), rel=1e-12)


@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=80), levels)
def test_shortfall_is_subadditive(pairs, level):
    """Of a joint sample. (The value at risk is not, and nothing of the kind is asserted.)"""
    x, y = np.array(pairs).T

    assert tr.expected_shortfall(x + y, level) <= (
        tr.expected_shortfall(x, level) + tr.expected_shortfall(y, level) + 1e-6
    )


@pytest.mark.parametrize("level", [95, 99.0, 0, 1, 0.0, 1.0, -0.1, float("nan"), float("inf"), "0.95", None, True])
@pytest.mark.parametrize("measure", [tr.value_at_risk, tr.expected_shortfall])
@pytest.mark.fault("F120")
def test_a_wrong_level_is_refused(measure, level):
    """99 is not a level."""
    with pytest.raises(ValueError, match="level must"):
        measure([1.0, 2.0], level)


@pytest.mark.fault("F120")
def test_a_percentage_gets_a_hint():
    """The most common mistake."""
    with pytest.raises(ValueError, match=r"did you mean 0\.95\?"):
        tr.value_at_risk([1.0], 95)


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        ([1.0, float("nan")], None, "losses must be finite, found nan at position 1"),
        ([float("inf")], None, "losses must be finite"),
        ([[1.0], [2.0]], None, "losses must be one-dimensional"),
        (["a"], None, "losses must be numbers"),
        ([1.0, 2.0], [1.0], "weights must be as many"),
        ([1.0, 2.0], [1.0, -1.0], "weights must be >= 0, found -1.0 at position 1"),
        ([1.0, 2.0], [0.0, 0.0], "weights must not all be 0"),
        ([1.0, 2.0], [1.0, float("nan")], "weights must be finite"),
    ],
)
@pytest.mark.fault("F116")
@pytest.mark.fault("F122")
def test_wrong_input_is_refused(losses, weights, message):
    """With the argument, the place and what was found."""
    for measure in (tr.value_at_risk, tr.expected_shortfall):
        with pytest.raises(ValueError, match=message):
            measure(losses, 0.95, weights=weights)


@pytest.mark.fault("F115")
def test_no_losses_no_measure():
    """Never 0 or nan instead."""
    with pytest.raises(InsufficientDataError, match="at least one"):
        tr.value_at_risk([], 0.95)

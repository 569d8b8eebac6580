"""Tail measures by example: ties of decimals, the ends of the range of floats, and what every refusal says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.errors import InsufficientDataError


@given(
    st.sets(st.integers(1, 9_999), min_size=1, max_size=150),
    st.sampled_from([4, 3, 1, -2]),
    st.randoms(use_true_random=False),
)
def test_a_level_that_a_cumulated_share_reaches_exactly(cuts, places, random):
    """Losses 0, 1, ... whose shares are the differences of 0, the cuts and 10,000: cut k is reached by loss k.

    A ten-thousandth less, and it is the same loss unless the cut before is there; a little more, and it is the next.
    The sums of the weights as floats are off by rounding, mostly on the wrong side for some of the cuts.
    """
    ends = [0, *sorted(cuts), 10_000]
    shares = [float(f"{after - before}e{-places}") for before, after in pairwise(ends)]
    order = list(range(len(shares)))
    random.shuffle(order)
    losses, weights = [float(k) for k in order], [shares[k] for k in order]
    for k, cut in enumerate(ends[1:-1]):
        assert k == tr.value_at_risk(losses, cut / 10_000, weights=weights)
        assert k + 1 == tr.value_at_risk(losses, (cut + 1e-6) / 10_000, weights=weights)
        assert k == tr.value_at_risk(losses, (cut - 1e-6) / 10_000, weights=weights)


def test_many_weights_with_a_tie():
    """2,000 weights of 0.1 and 2,000 of 0.3: half of the mass lies in the first 3,000 - 1,000 / 3, exactly."""
    weights = [0.1] * 2_000 + [0.3] * 2_000
    losses = np.arange(4_000.0)

    assert 2_666.0 == tr.value_at_risk(losses, 0.5, weights=weights)  # 200 + 667 * 0.3 = 400.1
    assert 1_999.0 == tr.value_at_risk(losses, 0.25, weights=weights)
    assert 2_000.0 == tr.value_at_risk(losses, 0.2500000001, weights=weights)
    assert 3_332.0 == tr.value_at_risk(losses, 0.749875, weights=weights)  # 200 + 1333 * 0.3 = 599.9 of 800
    assert 3_333.0 == tr.value_at_risk(losses, 0.7498750001, weights=weights)


def test_a_weight_of_forty_digits_less_decides_a_tie():
    """Half of 2e20 + 1e-20 is more than 1e20, and no more than 1e20 + 1e-20."""
    assert 1.0 == tr.value_at_risk([0.0, 1.0, 2.0], 0.5, weights=[1e20, 1e-20, 1e20])


def test_quantiles_of_many_losses_are_those_of_sorting():
    """Selection finds them without sorting: of 100,001 different losses."""
    losses = np.random.default_rng(0).normal(size=100_001)
    ranked = np.sort(losses)
    assert ranked[0] == tr.value_at_risk(losses, 1e-6)
    for percent in range(1, 100):
        assert ranked[1_000 * percent] == tr.value_at_risk(losses, percent / 100)  # the ceiling of 1000.01 percent


def test_losses_at_the_ends_of_the_range_of_floats():
    """No sum overflows, and nothing is divided by 0."""
    assert 1.7e308 == tr.expected_shortfall([1.7e308] * 10, 0.5)
    assert -1.7e308 == tr.expected_shortfall([-1.7e308] * 10, 0.5)
    assert 1.5e308 == pytest.approx(tr.expected_shortfall([-1.7e308, 1.4e308, 1.6e308], 1 / 3), rel=1e-9)
    assert 0.0 == tr.expected_shortfall([0.0] * 7, 0.9)
    assert 0.0 == tr.expected_shortfall([0.0, -0.0], 0.9, weights=[1.0, 2.0])


@pytest.mark.parametrize("losses", [[3, 1, 2], (3.0, 1.0, 2.0), np.array([3, 1, 2], dtype=np.uint8), {1, 2, 3}])
def test_losses_in_any_collection(losses):
    """Of integers as well, signed or not."""
    assert 2.0 == tr.value_at_risk(losses, 0.5)
    assert 2.0 == tr.value_at_risk(iter(losses), 0.5)


@pytest.mark.fault("F120")
@pytest.mark.parametrize(
    ("level", "message"),
    [
        (95, "level must lie strictly between 0 and 1, found 95; did you mean 0.95?"),
        (1.5, "level must lie strictly between 0 and 1, found 1.5; did you mean 0.015?"),
        (99.99, "level must lie strictly between 0 and 1, found 99.99; did you mean 0.9999?"),
        (1, "level must lie strictly between 0 and 1, found 1"),
        (0, "level must lie strictly between 0 and 1, found 0"),
        (100, "level must lie strictly between 0 and 1, found 100"),
        (100.5, "level must lie strictly between 0 and 1, found 100.5"),
        (-5, "level must lie strictly between 0 and 1, found -5"),
    ],
)
def test_what_is_said_of_a_wrong_level(level, message):
    """A hint for a percentage, none for what no division by 100 makes a level."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        tr.value_at_risk([1.0], level)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        (np.array(3.0), None, "losses must be one-dimensional, found the shape ()"),
        ([[1.0], [2.0]], None, "losses must be one-dimensional, found the shape (2, 1)"),
        (["5", "6"], None, "losses must be numbers: found '5'"),
        (5.0, None, "losses must be numbers: 'float' object is not iterable"),
        ([1.0, float("-inf")], None, "losses must be finite, found -inf at position 1"),
        ([1.0, 2.0], ["1", "2"], "weights must be numbers: found '1'"),
        ([1.0, 2.0], [1.0], "weights must be as many as the losses (2), found 1"),
        ([1.0, 2.0], [1.0, -1.0], "weights must be >= 0, found -1.0 at position 1"),
        ([1.0, 2.0], [0.0, 0.0], "weights must not all be 0"),
        ([1.0, 2.0], [0.0, float("nan")], "weights must be finite, found nan at position 1"),
        ([1.0, 2.0], [1.2e308, 1.1e308], "weights must have a finite sum"),
    ],
)
def test_what_is_said_of_wrong_numbers(losses, weights, message):
    """The argument, what was found, where, and what is accepted."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        tr.value_at_risk(losses, 0.5, weights=weights)

    assert message == str(caught.value)


@pytest.mark.fault("F115")
@pytest.mark.parametrize("nothing", [[], np.array([], dtype=object), np.array([])])
def test_no_losses(nothing):
    """What was there and what is needed, as facts."""
    with pytest.raises(InsufficientDataError) as caught:
        tr.expected_shortfall(nothing, 0.5)

    assert "losses must hold at least one number, found none" == str(caught.value)
    assert (0, 1) == (caught.value.observed, caught.value.required)

"""Payout functions, their exact sums, and tables of them."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.core.payoff import PayoutFunction, Workspace, _exact_cumsum, payout_functions


def policies_of(terms):
    """Return policies of (coverage, trigger, width)."""
    return [
        tr.Policy(str(i), "USDC", coverage, trigger, max(trigger - width, 0.0))
        for i, (coverage, trigger, width) in enumerate(terms)
    ]


TERMS = st.lists(
    st.tuples(st.floats(1.0, 1e6), st.floats(0.3, 1.2), st.floats(1e-6, 1.2)), min_size=1, max_size=40
)


@given(TERMS, st.floats(-1.5, 0.2), st.integers(0, 2**32))
@settings(max_examples=150)
def test_a_table_is_within_a_millionth_of_the_coverage(terms, lowest, seed):
    """At random log ratios, at the knots and beside them, below the table as well."""
    policies = policies_of(terms)
    function = PayoutFunction.of(policies)
    table = function.tabulated(lowest)
    knots = np.log(function.knots[function.knots > 0.0])
    points = np.concatenate(
        [np.random.default_rng(seed).uniform(-2.0, 0.3, 2000), knots, knots + 1e-7, knots - 1e-7]
    )

    paid = table.payouts((table.top - points) / table.step, Workspace.of(len(points)))

    plain = sum(np.array(policy.payout(np.exp(points))) for policy in policies)
    coverage = math.fsum(policy.coverage for policy in policies)
    np.testing.assert_allclose(paid, plain, rtol=0.0, atol=1e-6 * coverage * (1 + 1e-9))


@given(TERMS)
def test_a_table_is_exact_at_its_ends(terms):
    """Nothing above the highest trigger; below the lowest floor the same number, the coverage to rounding."""
    function = PayoutFunction.of(policies_of(terms))
    table = function.tabulated(-math.inf)
    above, below = math.log(function.knots[-1]) + 1e-3, math.log(max(function.knots[0], 1e-300)) - 1e-3

    paid = table.payouts((table.top - np.array([above, below, below - 1.0])) / table.step, Workspace.of(3))

    assert 0.0 == paid[0]
    assert function.values[0] == paid[1] == paid[2]
    assert math.fsum(c for c, _, _ in terms) == pytest.approx(paid[1], rel=1e-12)


def test_small_tables_for_one_policy_and_for_very_many():
    """The knots of one policy are nodes; those of very many are small kinks."""
    one = PayoutFunction.of(policies_of([(1e6, 0.98, 0.1)])).tabulated(-1.0)
    rng = np.random.default_rng(1)
    many = PayoutFunction.from_columns(
        rng.lognormal(10, 1, 7000), rng.uniform(0.95, 0.99, 7000), rng.uniform(0.5, 0.9, 7000)
    )

    assert len(one.values) < 1000
    assert len(many.tabulated(-1.0).values) < 20_000


def test_a_pickled_table_is_small_and_the_same():
    """Workers make it again from the function."""
    rng = np.random.default_rng(1)
    table = PayoutFunction.from_columns(
        rng.lognormal(10, 1, 90), rng.uniform(0.95, 0.99, 90), rng.uniform(0.5, 0.9, 90)
    ).tabulated(-1.0)

    sent = pickle.dumps(table)

    assert len(sent) < len(table.values)
    assert (pickle.loads(sent).values == table.values).all()


@given(st.lists(st.tuples(st.floats(-1.0, 1.0), st.integers(-40, 40)), min_size=1, max_size=60))
def test_cumulative_sums_are_exact(terms):
    """Each is the sum of fractions to rounding, whatever cancels: of terms whose exponents differ by 80."""
    values = np.array([mantissa * 2.0**exponent for mantissa, exponent in terms])

    sums = _exact_cumsum(values)

    exact = np.cumsum([Fraction(value) for value in values.tolist()])
    unit = 2.0**-110 * np.abs(values).max()
    for ours, truth in zip(sums.tolist(), exact, strict=True):
        assert abs(Fraction(ours) - truth) <= Fraction(2.0**-51) * abs(truth) + Fraction(unit)


def test_a_vault_without_policies_has_no_functions():
    """And one in two spellings of a symbol has one."""
    assert {} == payout_functions(tr.Vault(1.0, []))
    vault = tr.Vault(1.0, [tr.Policy("a", "usdc", 1.0, 0.9, 0.5), tr.Policy("b", "USDC", 2.0, 0.9, 0.5)])
    assert [3.0] == [function(0.1).item() for function in payout_functions(vault).values()]

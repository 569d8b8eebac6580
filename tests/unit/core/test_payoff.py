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
from tonsurance_risk.core.payoff import (
    PayoutFunction,
    Workspace,
    _exact_cumsum,
    payout_functions,
    policies_by_asset,
)


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


def exact_payouts(terms, ratios):
    """Return the payouts of (coverage, trigger, floor) at each ratio as fractions of integers."""
    return [
        sum(
            Fraction(c)
            * min(max((Fraction(t) - Fraction(r)) / (Fraction(t) - Fraction(f)), Fraction(0)), Fraction(1))
            for c, t, f in terms
        )
        for r in ratios
    ]


def test_the_function_of_nothing():
    """Pays nothing anywhere, by itself and by its table of one cell, whose first node is the peg."""
    function = PayoutFunction.of_nothing()
    table = function.tabulated(-1.0)

    assert [0.0, 0.0, 0.0] == function([0.0, 1.0, 2.0]).tolist()
    assert ([1.0], [0.0], [0.0]) == (function.knots.tolist(), function.values.tolist(), function.slopes.tolist())
    assert [0.0, 0.0, 0.0] == table.values.tolist()
    assert (0.0, 1e-9) == (table.top, table.step)


def test_a_floor_above_the_peg():
    """One policy between 1.0 and 1.25, of prices as integers and as floats."""
    function = PayoutFunction.of([tr.Policy("a", "USDC", 8.0, 1.25, 1.0)])

    assert [1.0, 1.25] == function.knots.tolist()
    assert [8.0, 8.0, 4.0, 0.0, 0.0] == function([0.5, 1.0, 1.125, 1.25, 2.0]).tolist()
    assert [8.0, 8.0, 0.0] == function([0, 1, 2]).tolist()
    assert 4.0 == function(1.125)


def test_where_a_steep_policy_ends_nothing_is_lost():
    """Values, slopes and knots of three policies, one a million times steeper, against fractions."""
    terms = [(3.0, 0.9, 0.5), (1e6, 0.8, 0.7999), (7.0, 0.8, 0.25)]
    function = PayoutFunction.from_columns(*np.array(terms).T)
    ratios = [0.1, 0.25, 0.4, 0.5, 0.6, 0.7999, 0.79995, 0.8, 0.85, 0.9, 1.0]

    assert [0.25, 0.5, 0.7999, 0.8, 0.9] == function.knots.tolist()
    assert 0.0 == function.slopes[0]
    assert [float(exact) for exact in exact_payouts(terms, ratios)] == pytest.approx(
        function(ratios).tolist(), rel=1e-11, abs=0.0
    )


@pytest.mark.parametrize(("lowest", "ends_at_floor"), [(-1.0, True), (-0.5, True), (-0.125, False)])
def test_the_table_of_one_policy_has_the_cells_of_its_bound(lowest, ends_at_floor):
    """Between two knots the error is h^2 / 8 times slope * trigger; h follows, and 64 cells more."""
    function = PayoutFunction.of([tr.Policy("a", "USDC", 1e6, 0.96, 0.64)])
    table = function.tabulated(lowest)

    bottom = max(math.log(0.64), lowest)
    span = math.log(0.96) - bottom
    cells = math.ceil(64.0 + span * math.sqrt(1e6 / 0.32 * 0.96 / (8.0 * 1e-6 * 1e6)))
    assert cells + 2 == len(table.values)
    assert (math.log(0.96), ends_at_floor) == (table.top, table.ends_at_floor)
    assert span / cells == pytest.approx(table.step, rel=1e-12)
    assert lowest == table.lowest
    nodes = table.top - table.step * np.arange(cells + 1)
    payouts = 1e6 * np.clip((0.96 - np.exp(nodes)) / 0.32, 0.0, 1.0)
    assert table.values[:-1] == pytest.approx(payouts, abs=1e-6)
    assert table.values[-1] == table.values[-2]


def bound_of(function, bottom, cells):
    """Return by how much a table of so many cells may be off, as `PayoutFunction.tabulated` states it."""
    knots, slopes = function.knots.tolist(), [*function.slopes.tolist(), 0.0]
    top = math.log(knots[-1])
    width = (top - bottom) / cells
    jumps = {}
    for knot, before, after in zip(knots, slopes[:-1], slopes[1:], strict=True):
        if math.exp(bottom) < knot < knots[-1]:
            cell = math.floor((top - math.log(knot)) / width)
            jumps[cell] = jumps.get(cell, 0.0) + abs(after - before) * knot
    bend = max(slope * knot for slope, knot in zip(slopes[:-1], knots, strict=True))
    return width / 4.0 * max(jumps.values(), default=0.0) + width**2 / 8.0 * bend


@pytest.mark.parametrize("n", [2, 30, 100, 300, 1000])
def test_a_table_has_enough_cells_and_hardly_more(n):
    """Of books whose kinks share cells: its bound is a millionth of the payout, and half of the cells miss it."""
    rng = np.random.default_rng(n)
    function = PayoutFunction.from_columns(
        rng.lognormal(10, 1, n), rng.uniform(0.95, 0.99, n), rng.uniform(0.5, 0.9, n)
    )
    cells = len(function.tabulated(-0.4).values) - 2

    bottom, tolerance = max(math.log(function.knots[0]), -0.4), 1e-6 * function.values[0]
    assert bound_of(function, bottom, cells) <= tolerance
    assert bound_of(function, bottom, (cells - 64) / 2) > tolerance


def clustered(offset, *, floors):
    """Return 300 kinks within a millionth, by triggers that far below the highest or by floors, and others far apart."""
    spread = np.linspace(0.55, 0.85, 300)
    near = 0.97 * math.exp(-offset) - 1e-6 * np.linspace(0.0, 1.0, 300)
    trigger, floor = (spread + 0.12, near - 0.45) if floors else (near, spread)
    return PayoutFunction.from_columns(
        np.append(np.full(300, 1e3), 1e6), np.append(trigger, 0.97), np.append(floor, 0.4)
    )


@pytest.mark.parametrize("floors", [False, True])
def test_many_kinks_in_one_cell_count_together(floors):
    """No cell too few, and as a rule hardly one too many, wherever they lie: in the first cell or the second, near the highest trigger or near the lowest floor."""
    used = []
    for offset in 1e-7 * 1.4 ** np.arange(36):
        function = clustered(offset, floors=floors)
        cells = len(function.tabulated(-0.4).values) - 2
        if cells > 0:
            used.append(bound_of(function, -0.4, cells) / (1e-6 * function.values[0]))
    assert len(used) > 5
    assert max(used) <= 1.0
    assert np.median(used) >= 0.9


@pytest.mark.parametrize("coverage", [200.0, 500.0, 1e3, 2e3, 3e3, 5e3, 1e4, 1e5])
def test_kinks_and_bends_count_together(coverage):
    """One large policy bends, one small policy has kinks: cells that are enough for either are not for both."""
    function = PayoutFunction.of(
        [tr.Policy("a", "USDC", 1e6, 0.96, 0.64), tr.Policy("b", "USDC", coverage, 0.9, 0.7)]
    )

    cells = len(function.tabulated(-1.0).values) - 2

    assert cells > 64
    assert bound_of(function, math.log(0.64), cells) <= 1e-6 * function.values[0]


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**20])
@pytest.mark.parametrize("terms", [[(1e6, 0.96, 0.64)], [(1e6, 0.96, 0.64), (1e3, 0.9, 0.7)]])
def test_the_unit_of_money_does_not_matter(factor, terms):
    """A function of so many times the coverage has a table of as many cells."""
    coverage, trigger, floor = np.array(terms).T
    one, other = (
        PayoutFunction.from_columns(coverage * unit, trigger, floor).tabulated(-1.0) for unit in (1.0, factor)
    )

    assert len(one.values) > 64
    assert (one.values * factor).tolist() == other.values.tolist()


def test_the_last_node_pays_all_to_the_bit():
    """Although its ratio is the floor but for rounding, and the function is steep there; nobody may write to it."""
    rng = np.random.default_rng(0)
    for trigger, width in zip(rng.uniform(0.5, 1.0, 300), rng.uniform(0.01, 0.3, 300), strict=True):
        function = PayoutFunction.of([tr.Policy("a", "USDC", 1e6 / 3.0, trigger, trigger - width)])
        table = function.tabulated(-math.inf)
        assert [function.values[0]] * 2 == table.values[-2:].tolist()
        assert not table.values.flags.writeable


def test_a_function_too_steep_for_a_table():
    """It has none; payouts are those of the function, and a pickled one is the same."""
    function = PayoutFunction.of(
        [tr.Policy("a", "USDC", 1e6, 0.9, 0.3), tr.Policy("b", "USDC", 1e6, 0.6, 0.6 - 1e-9)]
    )
    table = function.tabulated(-2.0)
    points = np.array([0.0, -0.2, -0.5, math.log(0.6), -1.5])

    assert 0 == len(table.values)
    assert -2.0 == table.lowest
    for read in (table, pickle.loads(pickle.dumps(table))):
        paid = read.payouts((read.top - points) / read.step, Workspace.of(len(points)))
        np.testing.assert_allclose(paid, function(np.exp(points)), rtol=1e-9)


def test_a_table_is_read_between_its_nodes_and_beyond_them():
    """Half way between two nodes the mean of both; below the last one the function, unless it ends at the floor."""
    function = PayoutFunction.of([tr.Policy("a", "USDC", 1e6, 0.96, 0.64)])
    table = function.tabulated(-0.2)
    cells = len(table.values) - 2
    work = Workspace.of(6)

    paid = table.payouts(np.array([-3.0, 0.0, 0.5, cells - 0.5, cells, cells + 100.0]), work)

    assert [0.0, 0.0] == paid[:2].tolist()
    assert (table.values[0] + table.values[1]) / 2.0 == pytest.approx(paid[2], rel=1e-12)
    assert (table.values[cells - 1] + table.values[cells]) / 2.0 == pytest.approx(paid[3], rel=1e-12)
    assert table.values[cells] == paid[4]
    below = math.exp(table.top - table.step * (cells + 100.0))
    assert 1e6 * (0.96 - below) / 0.32 == pytest.approx(paid[5], rel=1e-12)
    assert paid.base is not None
    assert 0 == len(table.payouts(np.empty(0), work))


def test_a_workspace_in_memory_of_its_caller():
    """Five arrays side by side, the first numbers of it, and no more than asked for."""
    memory = np.zeros(Workspace.FLOATS * 4 + 3)

    work = Workspace.of(4, memory)
    for number, array in enumerate((work.losses, work.whole, work.low, work.high)):
        array[:] = number + 1.0
    work.cell[:] = 7

    assert [1.0] * 4 + [2.0] * 4 + [3.0] * 4 + [4.0] * 4 == memory[:16].tolist()
    assert [7] * 4 == memory[16:20].view(np.int64).tolist()
    assert [0.0] * 3 == memory[20:].tolist()
    assert 5 == len({id(array) for array in (work.losses, work.whole, work.low, work.high, work.cell)})
    assert (3,) == Workspace.of(3).cell.shape


def test_positions_of_policies_by_asset():
    """In the order of the symbols, however they are written, and of the policies."""
    rng = np.random.default_rng(0)
    symbols = ["usdt", "DAI", "USDC", "usdc", "FRAX"]
    drawn = [symbols[k] for k in rng.integers(0, 5, 1_000)]
    vault = tr.Vault(1.0, [tr.Policy(str(i), symbol, 1.0, 0.9, 0.5) for i, symbol in enumerate(drawn)])

    found = policies_by_asset(vault)

    assert ["DAI", "FRAX", "USDC", "USDT"] == list(found)
    for asset, positions in found.items():
        assert [i for i, symbol in enumerate(drawn) if symbol.upper() == asset] == positions.tolist()
    assert list(found) == list(payout_functions(vault))
    for asset, function in payout_functions(vault).items():
        assert len(found[asset]) == pytest.approx(function(0.1).item(), rel=1e-12)
        assert [0.5, 0.9] == function.knots.tolist()


def test_cumulative_sums_of_nothing_and_of_zeros():
    """And of a million terms that cancel to one of them."""
    assert [] == _exact_cumsum(np.empty(0)).tolist()
    assert [0.0, 0.0] == _exact_cumsum(np.zeros(2)).tolist()
    terms = np.append(np.tile([1e12 / 3.0, 1e-3], 50_000), np.tile([-1e12 / 3.0, 0.0], 50_000))

    assert 50.0 == pytest.approx(_exact_cumsum(terms)[-1], rel=1e-13)

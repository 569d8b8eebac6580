"""The block bootstrap: what it draws, its limits, and how often its intervals cover the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.dependence import plain_pearson
from tonsurance_risk.core.bootstrap import BlockResampling, block_length, pair_columns, resample_correlations

NAMES = ["DAI", "USDC", "USDT", "GHO"]


def draw(kind, n, rng, rho=0.5):
    """Return returns of a pair whose correlation is rho."""
    e = rng.normal(size=(n + 200, 2))
    e[:, 1] = rho * e[:, 0] + np.sqrt(1.0 - rho**2) * e[:, 1]
    if kind.startswith("t"):
        e *= np.sqrt(3.0 / rng.chisquare(3.0, (n + 200, 1)))
    if kind.endswith("ar"):
        for k in range(1, len(e)):
            e[k] += 0.5 * e[k - 1]
    return e[200:]


def matrix(values, **options):
    """Estimate with intervals."""
    return tr.correlation_matrix(pd.DataFrame(values, columns=NAMES[: values.shape[1]]), **options)


@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=50)
def test_sums_over_resamples_are_those_of_their_rows(n, length, seed):
    """Row by row, around the circle."""
    length = min(length, n)
    columns = np.random.default_rng(seed).normal(size=(n, 3))
    resampling = BlockResampling.draw(n, length, 5, seed)

    found = resampling.sums(resampling.block_sums(columns))

    for counts, sums in zip(resampling.counts, found, strict=True):
        rows = [
            (start + step) % n
            for start, times in zip(resampling.starts, counts, strict=True)
            for _ in range(int(times))
            for step in range(length)
        ]
        assert max(2, round(n / length)) * length == len(rows)
        np.testing.assert_allclose(columns[rows].sum(axis=0), sums, atol=1e-9)


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_resampled_correlations_are_those_of_the_resampled_rows(gaps):
    """Pairwise complete; the oracle takes the rows one by one."""
    rng = np.random.default_rng(0)
    values = 1e-4 * rng.normal(size=(80, 3)) + 5.0
    values[rng.random(values.shape) < gaps] = np.nan
    estimate = tr.correlation_matrix(pd.DataFrame(values, columns=NAMES[:3]))

    resampled = resample_correlations(values, estimate.values, ~estimate.is_default, n_resamples=7, seed=3)

    blocks = resampled.blocks
    for counts, table in zip(blocks.counts, resampled.matrices(), strict=True):
        rows = np.concatenate(
            [
                (start + np.arange(blocks.block_length)) % 80
                for start, times in zip(blocks.starts, counts, strict=True)
                for _ in range(int(times))
            ]
        )
        for i, j in ((0, 1), (0, 2), (1, 2)):
            pair = values[rows][:, [i, j]]
            pair = pair[~np.isnan(pair).any(axis=1)]
            assert plain_pearson(pair[:, 0], pair[:, 1]) == pytest.approx(table[i, j], abs=1e-8)
            assert table[i, j] == table[j, i]


def test_long_series_draw_from_evenly_spaced_blocks():
    """A quarter of a block apart: every row lies in four or five; the intervals agree with those of all blocks."""
    rng = np.random.default_rng(1)
    for n, length in ((5000, 36), (50_000, 76)):
        resampling = BlockResampling.draw(n, length, 3, 0)
        rows = (resampling.starts[:, None] + np.arange(length)).ravel() % n
        assert {4, 5} >= set(np.bincount(rows, minlength=n).tolist())
        assert resampling.counts.sum(axis=1).tolist() == [round(n / length)] * 3
    values = draw("t", 2000, rng)
    made = matrix(values, bootstrap=4000).bootstrap
    length = made.block_length
    blocks = rng.integers(0, 2000, (2000, round(2000 / length), 1)) + np.arange(length)
    plain = [np.corrcoef(values[rows.ravel() % 2000].T)[0, 1] for rows in blocks]
    expected = np.quantile(plain, [0.022, 0.978])  # 77 blocks expand 2.5 % to 2.2 %
    assert expected[1] - expected[0] == pytest.approx(made.high[0, 1] - made.low[0, 1], rel=0.2)


def test_blocks_are_longer_where_influence_is_autocorrelated():
    """2 n^(1/3) rows at least, n / 5 at most."""
    rng = np.random.default_rng(2)
    independent, slow = rng.normal(size=(1000, 2)), np.cumsum(rng.normal(size=(1000, 2)), axis=0)
    pairs = np.array([[0, 1]])

    assert 20 == block_length(independent, np.corrcoef(independent.T), pairs)
    assert 200 == block_length(slow, np.corrcoef(slow.T), pairs)
    assert 1 == block_length(independent[:4], np.corrcoef(independent[:4].T), pairs)


@pytest.mark.parametrize("rows", [25, 60, 250])
def test_a_coin_that_was_listed_late_has_the_interval_of_its_own_time(rows):
    """Nearly that of the rows alone: the rest of the window says nothing of it."""
    values = draw("t", 2000, np.random.default_rng(5))
    late = np.column_stack([values, values[:, 0] + values[:, 1]])
    late[: 2000 - rows, 2] = np.nan

    whole = matrix(late, bootstrap=999).bootstrap
    own = matrix(late[2000 - rows :], bootstrap=999).bootstrap

    for i in (0, 1):
        expected = own.high[i, 2] - own.low[i, 2]
        assert expected == pytest.approx(whole.high[i, 2] - whole.low[i, 2], rel=0.4, abs=0.05)
    assert matrix(values, bootstrap=999).bootstrap.low[0, 1] == whole.low[0, 1]


def test_columns_of_pairs_are_standardised_over_their_common_rows():
    """0 where one of the two is missing; extreme scales do not overflow."""
    values = np.array([[1e300, 1e-300], [2e300, 3e-300], [np.nan, 2e-300], [4e300, 1e-300]])

    columns = pair_columns(values, np.array([0]), np.array([1]))[:, :, 0]

    assert [1.0, 1.0, 0.0, 1.0] == columns[:, 0].tolist()
    np.testing.assert_allclose(columns.sum(axis=0), [3, 0, 0, 3, 3, columns[:, 5].sum()], atol=1e-12)
    assert (columns[2] == 0.0).all()


class TestIntervals:
    """What `CorrelationMatrix.pairs` shows of them."""

    def test_the_same_seed_gives_the_same_intervals(self):
        """Another seed others; the estimate is untouched."""
        values = draw("t", 100, np.random.default_rng(0))
        one, same, other = (matrix(values, bootstrap=99, seed=seed) for seed in (1, 1, 2))

        assert one == same
        assert one.bootstrap != other.bootstrap
        assert matrix(values).values.tolist() == one.values.tolist() == other.values.tolist()
        assert (99, 1) == (one.bootstrap.n_resamples, one.bootstrap.seed)

    def test_defaults_and_perfect_pairs(self):
        """[-1, 1] and no width; the diagonal is 1."""
        x = np.random.default_rng(0).normal(size=50)
        values = np.column_stack([x, 2.0 * x, np.zeros(50)])

        made = matrix(values, bootstrap=99)

        table = made.pairs(interval="bootstrap").set_index(["asset_1", "asset_2"])[["low", "high"]]
        assert [1.0, 1.0] == pytest.approx(table.loc[("DAI", "USDC")].tolist(), abs=1e-12)
        assert [-1.0, 1.0] == table.loc[("DAI", "USDT")].tolist() == table.loc[("USDC", "USDT")].tolist()
        assert [1.0] * 3 == np.diag(made.bootstrap.low).tolist() == np.diag(made.bootstrap.high).tolist()

    def test_a_series_that_moves_once_supports_no_interval(self):
        """A third of the resamples do not hold its only move."""
        values = np.random.default_rng(0).normal(size=(60, 2))
        values[:, 1] = 0.0
        values[30, 1] = 1.0

        pair = matrix(values, bootstrap=199).pairs(interval="bootstrap").iloc[0]

        assert (-1.0, 1.0) == (pair["low"], pair["high"])

    def test_a_matrix_without_them_says_so(self):
        """Instead of giving others."""
        with pytest.raises(ValueError, match="needs a matrix that was estimated with bootstrap="):
            matrix(draw("t", 50, np.random.default_rng(0))).pairs(interval="bootstrap")
        with pytest.raises(ValueError, match="interval must be 'fisher' or 'bootstrap', found 'hac'"):
            matrix(draw("t", 50, np.random.default_rng(0))).pairs(interval="hac")

    def test_selecting_keeps_and_repairing_drops_them(self):
        """They are those of the estimates."""
        values = np.random.default_rng(0).normal(size=(60, 4))
        values[:30, 0] = values[30:, 1] = np.nan
        made = matrix(values, bootstrap=49, min_observations=2, default=1.0)

        part = made.select(["GHO", "USDT"])

        assert made.bootstrap.low[3, 2] == part.bootstrap.low[0, 1]
        assert part.pairs(interval="bootstrap")["high"].iloc[0] == made.bootstrap.high[3, 2]
        repaired, distance = made.nearest_psd()
        assert (distance > 0.0) == (repaired.bootstrap is None)

    def test_a_single_asset_has_none(self):
        """Nothing to be uncertain of."""
        assert matrix(np.random.default_rng(0).normal(size=(60, 1)), bootstrap=9).bootstrap is None


def coverage(kind, n, repetitions, seed=0, rho=0.5):
    """Return how often the bootstrap's and Fisher's intervals cover, and the mean width of the first."""
    rng = np.random.default_rng(seed)
    inside = {"bootstrap": 0, "fisher": 0}
    width = 0.0
    for repetition in range(repetitions):
        made = matrix(draw(kind, n, rng, rho), bootstrap=999, seed=repetition)
        for interval in inside:
            pair = made.pairs(interval=interval).iloc[0]
            inside[interval] += pair["low"] <= rho <= pair["high"]
            width += (pair["high"] - pair["low"]) * (interval == "bootstrap")
    return {interval: count / repetitions for interval, count in inside.items()}, width / repetitions


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t", "ar"])
def test_the_bootstrap_covers_where_fisher_does_not(kind):
    """300 repetitions at n = 250: standard error 1.4 %; below 90 % by chance less than once in 100."""
    covered, _ = coverage(kind, 250, 300)

    assert covered["bootstrap"] >= 0.90
    assert covered["fisher"] < covered["bootstrap"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 90, 250, 1000])
@pytest.mark.parametrize("kind", ["normal", "t", "ar", "tar"])
def test_the_bootstrap_covers(kind, n, capsys):
    """2,000 repetitions: standard error 0.5 to 0.7 %. t(3), AR(1) with coefficient 0.5, and both."""
    covered, width = coverage(kind, n, 2000, seed=n)

    with capsys.disabled():
        print(
            f"\n{kind:<7}n = {n:<5} bootstrap {covered['bootstrap']:.1%} (width {width:.2f}), Fisher {covered['fisher']:.1%}"
        )
    assert 0.90 <= covered["bootstrap"] <= 0.985

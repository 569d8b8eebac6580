"""Estimators of dependence against pandas, scipy and plain formulas."""

from __future__ import annotations

import itertools
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.dependence import plain_ledoit_wolf, plain_pearson
from tonsurance_risk.core.association import normal_interval
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError

NAMES = ["DAI", "FRAX", "USDC", "USDT", "BTC"]
DAY = timedelta(days=1)


def panel(rows, columns, gaps, seed, *, ties=False, freq="h"):
    """Return a random panel of correlated returns with gaps, and ties where they are asked for."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns)) + rng.uniform(-1, 2, columns) * rng.normal(size=(rows, 1))
    if ties:
        values = np.round(values)
    values[rng.random(values.shape) < gaps] = np.nan
    index = pd.date_range("2024-01-01", periods=rows, freq=freq, tz="UTC")
    return pd.DataFrame(1e-3 * values, index=index, columns=NAMES[:columns])


def common(returns, a, b):
    """Return the common rows of a pair."""
    both = returns[[a, b]].dropna()
    return both[a].to_numpy(), both[b].to_numpy()


@given(
    st.integers(3, 120),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.1, 0.6]),
    st.integers(0, 100_000),
    st.booleans(),
    st.sampled_from(["spearman", "kendall"]),
)
@settings(max_examples=150)
def test_rank_correlations_equal_pandas_and_scipy(rows, columns, gaps, seed, ties, method):
    """With gaps and ties, over the common rows of each pair."""
    returns = panel(rows, columns, gaps, seed, ties=ties)

    matrix = tr.correlation_matrix(returns, method=method, min_observations=3, default=-0.5)

    assert method == matrix.method
    expected = returns.corr(method=method, min_periods=3)
    for a, b in itertools.combinations(returns.columns, 2):
        x, y = common(returns, a, b)
        i, j = matrix.assets.index(a), matrix.assets.index(b)
        assert len(x) == matrix.observations[i, j]
        undefined = len(x) < 3 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0
        assert undefined == matrix.is_default[i, j]
        if not undefined:
            oracle = {"spearman": scipy.stats.spearmanr, "kendall": scipy.stats.kendalltau}[method](x, y).statistic
            assert oracle == pytest.approx(matrix.get(a, b), abs=1e-10)
            assert expected.loc[a, b] == pytest.approx(matrix.get(a, b), abs=1e-10)


@given(st.integers(3, 80), st.sampled_from([0.0, 0.3]), st.integers(0, 100_000), st.floats(0.5, 200.0))
@settings(max_examples=100)
def test_exponential_weights_equal_the_weighted_formula(rows, gaps, seed, hours):
    """Weights halve with the age of a row, whatever its distance to the next; gaps are pairwise."""
    returns = panel(rows, 3, gaps, seed)
    rng = np.random.default_rng(seed)
    returns = returns[rng.random(rows) < 0.8]
    if len(returns) < 2:
        return
    ages = (returns.index[-1] - returns.index) / timedelta(hours=1)
    weights = pd.Series(0.5 ** (ages / hours), index=returns.index)

    matrix = tr.correlation_matrix(
        returns, method="exponential", halflife=timedelta(hours=hours), min_observations=3
    )

    for i, j in itertools.combinations(range(3), 2):
        both = returns.iloc[:, [i, j]].dropna()
        w = weights[both.index].to_numpy()
        if len(both) < 3:
            continue
        effective = w.sum() ** 2 / (w**2).sum()
        if effective < 2.0 + 1e-9:
            assert matrix.is_default[i, j] or effective == pytest.approx(2.0, abs=1e-9)
            continue
        oracle = plain_pearson(both.iloc[:, 0], both.iloc[:, 1], w)
        assert oracle == pytest.approx(matrix.values[i, j], abs=1e-8)
        assert effective == pytest.approx(matrix.effective[i, j], rel=1e-9)


@pytest.mark.fault("F129")
def test_weights_that_fade_away_are_no_correlation():
    """A coin that was delisted so long ago that its weights leave the range of floats takes the default."""
    returns = panel(2000, 3, 0.0, 1)
    for gone in (300, 1200, 1600, 1900):
        returns.iloc[2000 - gone :, 2] = np.nan
        matrix = tr.correlation_matrix(
            returns, method="exponential", halflife=timedelta(hours=2), min_observations=2
        )

        assert not matrix.is_default[0, 1]
        assert matrix.is_default[0, 2] or abs(matrix.values[0, 2]) < 1.0
        assert np.isfinite(matrix.effective).all()
    assert matrix.is_default[0, 2]


def test_a_long_halflife_is_no_weight():
    """Pearson's correlation, and as many effective rows as there are."""
    returns = panel(200, 4, 0.1, 0)

    matrix = tr.correlation_matrix(returns, method="exponential", halflife=timedelta(days=1e6))

    np.testing.assert_allclose(matrix.values, tr.correlation_matrix(returns).values, atol=1e-6)
    np.testing.assert_allclose(matrix.effective, matrix.observations, rtol=1e-6)


@given(st.integers(4, 60), st.integers(2, 5), st.integers(0, 100_000))
@settings(max_examples=50)
def test_shrinkage_is_that_of_ledoit_and_wolf(rows, columns, seed):
    """The intensity of the paper's formulas, and the sample correlation times one less it."""
    returns = panel(rows, columns, 0.0, seed)

    matrix = tr.correlation_matrix(returns, method="ledoit_wolf", min_observations=2)

    oracle = plain_ledoit_wolf(returns.to_numpy().tolist())
    assert oracle == pytest.approx(matrix.shrinkage, rel=1e-8)
    expected = (1.0 - oracle) * returns.corr().to_numpy() + oracle * np.eye(columns)
    np.testing.assert_allclose(matrix.values, expected, atol=1e-9)


def test_shrinkage_with_gaps_needs_two_whole_rows():
    """The intensity is that of the rows without a gap."""
    returns = panel(60, 3, 0.0, 1)
    returns.iloc[:30, 0] = np.nan

    matrix = tr.correlation_matrix(returns, method="ledoit_wolf")

    assert plain_ledoit_wolf(returns.iloc[30:].to_numpy().tolist()) == pytest.approx(matrix.shrinkage, rel=1e-8)
    still = returns.assign(**dict.fromkeys(returns.columns[1:], 1.0))
    with pytest.raises(InsufficientDataError, match="at least 2 series that move"):
        tr.correlation_matrix(still, method="ledoit_wolf")
    returns.iloc[30:59, 1] = np.nan
    with pytest.raises(InsufficientDataError, match="at least 2 rows in which every series was observed, found 1"):
        tr.correlation_matrix(returns, method="ledoit_wolf")


@pytest.mark.fault("F057")
@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall", "exponential", "ledoit_wolf"])
def test_a_constant_column_is_a_marked_default(method):
    """By every estimator; the others are as if it were not there."""
    returns = panel(60, 3, 0.0, 2)
    still = returns.assign(GHO=0.1 + 4e-13 * (np.arange(60) % 2))
    options = {"method": method} | ({"halflife": DAY} if method == "exponential" else {})

    matrix = tr.correlation_matrix(still, default=0.25, **options)

    assert [0.25] * 3 + [1.0] == matrix.values[3].tolist()
    assert [True] * 3 + [False] == matrix.is_default[3].tolist()
    without = tr.correlation_matrix(returns, **options)
    np.testing.assert_allclose(without.values, matrix.values[:3, :3], atol=1e-12)


@given(st.integers(0, 100_000), st.sampled_from(["pearson", "spearman", "kendall"]), st.sampled_from([0.0, 0.3]))
@settings(max_examples=40)
def test_scale_and_order_do_not_matter(seed, method, gaps):
    """Of the estimates; nor, up to rounding, of the bootstrap intervals."""
    returns = panel(60, 4, gaps, seed)
    options = {"bootstrap": 50} if method == "pearson" else {}

    one = tr.correlation_matrix(returns, method=method, min_observations=5, **options)
    scaled = tr.correlation_matrix(returns * [1e-3, 7.0, 1e4, 0.5], method=method, min_observations=5, **options)
    turned = tr.correlation_matrix(returns[returns.columns[::-1]], method=method, min_observations=5, **options)

    for other in (scaled, turned.select(one.assets)):
        np.testing.assert_allclose(one.values, other.values, atol=1e-12)
        if options:
            np.testing.assert_allclose(one.bootstrap.low, other.bootstrap.low, atol=1e-9)
            np.testing.assert_allclose(one.bootstrap.high, other.bootstrap.high, atol=1e-9)
    assert (one.values == one.values.T).all()
    assert (np.abs(one.values) <= 1.0).all()


class TestWindows:
    """Several windows in one pass, from prices and from returns."""

    @given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]), st.permutations([5, 30, 90, 90, 365]))
    @settings(max_examples=40)
    def test_every_window_equals_pandas(self, seed, gaps, windows):
        """In any order, with gaps, doubled windows included."""
        returns = panel(400, 4, gaps, seed, freq="D")

        found = tr.correlation_windows(returns=returns, windows=windows, min_observations=3, default=0.0)

        for days in windows:
            part = returns.iloc[-days:]
            expected = part.corr(min_periods=3).fillna(0.0).to_numpy(copy=True)
            np.fill_diagonal(expected, 1.0)
            np.testing.assert_allclose(found[days].values, expected, atol=1e-10)
            count = part.notna().astype(int)
            assert (count.T @ count).to_numpy().tolist() == found[days].observations.tolist()

    def test_a_jump_long_ago_does_not_spoil_a_short_window(self):
        """Its level and scale are those of other rows."""
        returns = panel(400, 3, 0.05, 0, freq="D")
        returns.iloc[10] = [1e6, -1e9, 1e3]
        returns.iloc[:300, 1] += 50.0

        found = tr.correlation_windows(returns=returns, windows=(30, 90, 365, 400))

        for days, matrix in found.items():
            np.testing.assert_allclose(matrix.values, returns.iloc[-days:].corr(), atol=1e-10)

    def test_prices_and_their_returns_differ_by_the_first_one(self):
        """Of n prices in a window come n - 1 returns."""
        returns = panel(60, 2, 0.0, 0, freq="D")
        prices = np.exp(returns.cumsum())

        of_prices = tr.correlation_windows(prices, windows=(30,))[30]

        assert 29 == of_prices.observations[0, 1]
        assert returns.iloc[-29:].corr().iloc[0, 1] == pytest.approx(of_prices.values[0, 1], abs=1e-10)
        assert 30 == tr.correlation_windows(returns=returns, windows=(30,))[30].observations[0, 1]

    @pytest.mark.parametrize("method", ["spearman", "kendall", "exponential", "ledoit_wolf"])
    def test_other_methods_see_the_window_alone(self, method):
        """As the matrix of its rows."""
        returns = panel(120, 3, 0.0, 3, freq="D")
        options = {"method": method} | ({"halflife": 20 * DAY} if method == "exponential" else {})

        found = tr.correlation_windows(returns=returns, windows=(30, 90), **options)

        for days, matrix in found.items():
            expected = tr.correlation_matrix(returns.iloc[-days:], **options)
            np.testing.assert_allclose(expected.values, matrix.values, atol=1e-12)
            assert (method, days, expected.shrinkage) == (matrix.method, matrix.window_days, matrix.shrinkage)

    @pytest.mark.fault("F117")
    @pytest.mark.fault("F118")
    @pytest.mark.fault("F119")
    def test_wrong_input(self):
        """Named."""
        returns = panel(40, 2, 0.0, 0)
        for arguments, message in (
            ({}, "either prices or returns"),
            ({"prices": np.exp(returns), "returns": returns}, "either prices or returns"),
            ({"returns": returns, "method": "cosine"}, "method must be one of .* found 'cosine'"),
            ({"returns": returns, "halflife": DAY}, "halflife goes with the method 'exponential' alone"),
            ({"returns": returns, "method": "exponential"}, "halflife goes with"),
            ({"returns": returns, "method": "exponential", "halflife": 0 * DAY}, "halflife must be .* > 0"),
            ({"returns": returns, "method": "kendall", "bootstrap": 9}, "bootstrap intervals are those of"),
            ({"returns": returns, "bootstrap": -1}, "bootstrap must be a whole number"),
            ({"returns": returns, "seed": -1}, "seed must be a whole number"),
            ({"returns": returns, "windows": 30}, "windows must be several"),
        ):
            with pytest.raises(ValueError, match=message):
                tr.correlation_windows(**arguments)
        with pytest.raises(InvalidPriceError, match="naive"):
            tr.correlation_windows(returns=returns.tz_localize(None))
        for wrong, message in (
            (returns.iloc[::-1], "strictly increasing"),
            (returns.iloc[[0, 1, 1, 2]], "doubled"),
            (returns.tz_localize(None), "naive"),
            (returns.astype(complex), "must be numbers, found the type complex"),
        ):
            for measure in (tr.correlation_matrix, tr.tail_dependence, tr.correlation_sensitivity):
                with pytest.raises(InvalidPriceError, match=message):
                    measure(wrong)
        with pytest.raises(InsufficientDataError, match="found no rows"):
            tr.correlation_windows(returns=returns.iloc[:0])
        assert {} == tr.correlation_windows(returns=returns, windows=())


class TestIntervals:
    """The normal-theory interval of each method."""

    @pytest.mark.parametrize(
        ("method", "variance"),
        [
            ("pearson", lambda n: 1 / (n - 3)),
            ("spearman", lambda n: 1.06 / (n - 3)),
            ("kendall", lambda n: 0.437 / (n - 4)),
        ],
    )
    def test_the_formula(self, method, variance):
        """tanh(atanh(r) -+ 1.96 s)."""
        returns = panel(80, 2, 0.0, 5)

        pair = tr.correlation_matrix(returns, method=method).pairs().iloc[0]

        half = scipy.stats.norm.ppf(0.975) * np.sqrt(variance(80))
        expected = np.tanh(np.arctanh(pair["correlation"]) + np.array([-half, half]))
        assert expected.tolist() == pytest.approx([pair["low"], pair["high"]], abs=1e-12)

    def test_weights_count_as_effective_rows(self):
        """And a shrunk matrix has the interval of the sample correlation."""
        returns = panel(80, 3, 0.0, 5)
        weighted = tr.correlation_matrix(returns, method="exponential", halflife=timedelta(hours=20))
        shrunk, sample = tr.correlation_matrix(returns, method="ledoit_wolf"), tr.correlation_matrix(returns)

        pair = weighted.pairs().iloc[0]
        half = scipy.stats.norm.ppf(0.975) / np.sqrt(weighted.effective[0, 1] - 3)

        assert np.tanh(np.arctanh(pair["correlation"]) - half) == pytest.approx(pair["low"], abs=1e-12)
        np.testing.assert_allclose(shrunk.pairs()[["low", "high"]], sample.pairs()[["low", "high"]], atol=1e-9)

    def test_all_shrunk_is_nothing_known(self):
        """An intensity of 1 leaves no sample correlation."""
        low, high = normal_interval("ledoit_wolf", np.zeros(1), np.array([50]), np.zeros(1, bool), shrinkage=1.0)

        assert ([-1.0], [1.0]) == (low.tolist(), high.tolist())

    @pytest.mark.parametrize("n", [20, 50, 250])
    def test_fisher_covers_normal_returns(self, n):
        """95 % +- 1 % in 20,000 samples at rho = 0.5: standard error 0.15 %, outside by chance once in 10^10."""
        rng = np.random.default_rng(n)
        rho, inside, total = 0.5, 0, 20_000
        for _ in range(20):
            x = rng.normal(size=(1000, n))
            y = rho * x + np.sqrt(1.0 - rho**2) * rng.normal(size=(1000, n))
            x -= x.mean(axis=1, keepdims=True)
            y -= y.mean(axis=1, keepdims=True)
            r = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
            low, high = normal_interval("pearson", r, np.full(1000, n), np.zeros(1000, bool))
            inside += int(((low <= rho) & (rho <= high)).sum())

        assert 0.95 == pytest.approx(inside / total, abs=0.01)

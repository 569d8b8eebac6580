"""Returns and correlations: pandas and scipy are the oracles."""

from __future__ import annotations

import itertools
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tonsurance_risk as tr
from tonsurance_risk.core.psd import lower_factor, nearest_correlation
from tonsurance_risk.errors import (
    ConvergenceError,
    InsufficientDataError,
    InvalidPriceError,
    NotPositiveDefiniteError,
)

NAMES = ["DAI", "FRAX", "USDC", "USDT", "BTC", "GHO"]


def panel(rows, columns, gaps, seed, scale=1e-3):
    """Return a random panel of correlated returns with gaps."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 1))
    values = scale * (rng.normal(size=(rows, columns)) + rng.uniform(-1, 2, columns) * common)
    values[rng.random(values.shape) < gaps] = np.nan
    index = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC")
    return pd.DataFrame(values, index=index, columns=NAMES[:columns])


@given(
    arrays(
        float,
        st.tuples(st.integers(2, 20), st.integers(1, 4)),
        elements=st.floats(1e-3, 1e3) | st.just(np.nan),
    )
)
def test_log_returns_equal_pandas(values):
    """np.log(prices).diff() without its first row."""
    index = pd.date_range("2024-01-01", periods=len(values), freq="h", tz="UTC")
    prices = pd.DataFrame(values, index=index, columns=NAMES[: values.shape[1]])

    expected = np.log(prices).diff().iloc[1:]

    pd.testing.assert_frame_equal(expected, tr.log_returns(prices), atol=1e-12, check_freq=False)


@given(st.integers(0, 10_000))
@pytest.mark.fault("F129")
def test_log_returns_of_extreme_prices_are_finite(seed):
    """The quotient of valid prices may overflow; the return does not."""
    rng = np.random.default_rng(seed)
    values = 10.0 ** rng.uniform(-300, 300, 5)
    index = pd.date_range("2024-01-01", periods=5, freq="h", tz="UTC")

    returns = tr.log_returns(pd.Series(values, index=index, name="USDC"))["USDC"]

    np.testing.assert_allclose(returns, np.diff(np.log(values)), rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.fault("F115")
def test_returns_need_two_rows(rows):
    """An empty or one-row series has none."""
    index = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC")

    with pytest.raises(InsufficientDataError, match=f"at least 2 rows of prices, found {rows}"):
        tr.log_returns(pd.Series([1.0] * rows, index=index, name="USDC"))


@given(
    rows=st.integers(2, 200),
    columns=st.integers(2, 6),
    gaps=st.sampled_from([0.0, 0.05, 0.5, 0.9]),
    seed=st.integers(0, 100_000),
    scale=st.sampled_from([1e-8, 1e-3, 1.0, 1e6]),
)
@settings(max_examples=200)
def test_correlation_equals_pandas(rows, columns, gaps, seed, scale):
    """Value, common rows and marked defaults of every pair."""
    returns = panel(rows, columns, gaps, seed, scale)

    matrix = tr.correlation_matrix(returns, min_observations=5, default=0.25)

    expected = returns.corr(min_periods=5)
    for a, b in itertools.combinations(returns.columns, 2):
        i, j = matrix.assets.index(a), matrix.assets.index(b)
        common = returns[[a, b]].dropna()
        assert len(common) == matrix.observations[i, j]
        undefined = len(common) < 5
        assert undefined == matrix.is_default[i, j]
        assert (0.25 if undefined else expected.loc[a, b]) == pytest.approx(matrix.get(a, b), abs=1e-10)
    assert not np.diag(matrix.is_default).any()
    assert (np.diag(matrix.values) == 1.0).all()


@given(st.integers(3, 100), st.integers(0, 100_000), st.sampled_from([0.0, 1e3, -1e6]))
def test_correlation_equals_scipy_far_from_zero(n, seed, offset):
    """A mean that is large against the spread does not cancel."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 0.5 * x + rng.normal(size=n)
    returns = pd.DataFrame({"DAI": x + offset, "USDC": y - offset})

    matrix = tr.correlation_matrix(returns, min_observations=3)

    assert scipy.stats.pearsonr(returns["DAI"], returns["USDC"]).statistic == pytest.approx(
        matrix.get("DAI", "USDC"), abs=1e-9
    )


def test_an_outlier_outside_the_common_rows_does_not_spoil_a_pair():
    """Sums of the pair do not cancel against a value that it does not share."""
    rng = np.random.default_rng(0)
    returns = pd.DataFrame(rng.normal(size=(200, 2)) * 1e-4, columns=["DAI", "USDC"])
    returns.loc[0] = [1e6, np.nan]

    matrix = tr.correlation_matrix(returns)

    assert returns.corr().loc["DAI", "USDC"] == pytest.approx(matrix.get("DAI", "USDC"), abs=1e-10)


def test_returns_in_proportion_have_correlation_one():
    """The second test of the mission."""
    returns = pd.DataFrame({"USDC": [0.01, 0.02, 0.03], "USDT": [0.02, 0.04, 0.06]})

    assert tr.correlation_matrix(returns, min_observations=3).get("USDC", "USDT") == pytest.approx(1.0, abs=1e-15)
    assert tr.correlation_matrix(returns).is_default[0, 1]


@pytest.mark.fault("F057")
def test_a_constant_series_takes_the_default_and_is_marked():
    """A range of at most 1e-12 over the common rows counts as constant, also when other rows move."""
    rng = np.random.default_rng(0)
    moving = rng.normal(size=60)
    still = np.where(np.arange(60) < 40, 0.1 + 4e-13 * (np.arange(60) % 2), moving)
    other = np.where(np.arange(60) < 40, moving, np.nan)
    returns = pd.DataFrame({"DAI": still, "USDC": other, "USDT": moving})

    matrix = tr.correlation_matrix(returns, default=0.5)

    assert matrix.is_default[0, 1]
    assert 0.5 == matrix.get("dai", "usdc")
    assert not matrix.is_default[0, 2]
    assert 40 == matrix.observations[0, 1]


def test_a_range_just_above_the_bound_is_estimated():
    """1e-11 moves."""
    rng = np.random.default_rng(0)
    returns = pd.DataFrame({"DAI": rng.uniform(0, 1e-11, 50), "USDC": rng.normal(size=50)})

    matrix = tr.correlation_matrix(returns)

    assert not matrix.is_default.any()
    assert returns.corr().iloc[0, 1] == pytest.approx(matrix.get("DAI", "USDC"), abs=1e-6)


@given(st.integers(0, 100_000), st.sampled_from([0.0, 0.3]))
@settings(max_examples=50)
def test_laws_of_a_correlation_matrix(seed, gaps):
    """Symmetric, unit diagonal, within [-1, 1]; scale and order of assets do not matter; PSD after repair."""
    returns = panel(40, 5, gaps, seed)
    matrix = tr.correlation_matrix(returns, min_observations=3)

    assert (matrix.values == matrix.values.T).all()
    assert (np.abs(matrix.values) <= 1.0).all()
    scaled = tr.correlation_matrix(returns * [1e-3, 7.0, 1e4, 1.0, 0.5], min_observations=3)
    np.testing.assert_allclose(matrix.values, scaled.values, atol=1e-12)
    turned = tr.correlation_matrix(returns[returns.columns[::-1]], min_observations=3)
    np.testing.assert_allclose(matrix.values, turned.select(matrix.assets).values, atol=1e-12)
    repaired, distance = matrix.nearest_psd()
    assert np.linalg.eigvalsh(repaired.values)[0] >= -1e-10
    again, no_distance = repaired.nearest_psd()
    assert again is repaired
    assert 0.0 == no_distance
    assert distance == pytest.approx(np.linalg.norm(repaired.values - matrix.values))
    factor = matrix.cholesky()
    np.testing.assert_allclose(factor @ factor.T, repaired.values, atol=1e-9)
    assert (np.triu(factor, k=1) == 0.0).all()
    assert (np.diag(factor) >= 0.0).all()


def test_nearest_correlation_matrix_of_higham():
    """The example of Higham (2002), section 4: its nearest matrix to four figures."""
    given_matrix = tr.CorrelationMatrix.from_frame(
        pd.DataFrame([[1, 1, 0], [1, 1, 1], [0, 1, 1]], index=NAMES[:3], columns=NAMES[:3], dtype=float)
    )

    repaired, distance = given_matrix.nearest_psd()

    expected = [[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]]
    np.testing.assert_allclose(repaired.values, expected, atol=5e-5)
    assert 0.5278 == pytest.approx(distance, abs=5e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_no_correlation_matrix_is_nearer(seed):
    """Small moves of the repair towards random correlation matrices only increase the distance."""
    rng = np.random.default_rng(seed)
    values = np.triu(rng.uniform(-1, 1, (4, 4)), k=1)
    values = values + values.T + np.eye(4)
    matrix = tr.CorrelationMatrix.from_frame(pd.DataFrame(values, index=NAMES[:4], columns=NAMES[:4]))
    repaired, distance = matrix.nearest_psd()
    assume(distance > 0.0)

    for _ in range(50):
        factors = rng.normal(size=(4, 4))
        other = factors @ factors.T
        other /= np.sqrt(np.outer(np.diag(other), np.diag(other)))
        moved = repaired.values + 0.05 * (other - repaired.values)
        assert np.linalg.norm(moved - values) >= distance - 1e-9


@pytest.mark.fault("F124")
def test_the_factor_of_a_singular_matrix():
    """All ones."""
    np.testing.assert_allclose(lower_factor(np.ones((3, 3))), [[1, 0, 0]] * 3, atol=1e-12)
    with pytest.raises(NotPositiveDefiniteError, match="smallest eigenvalue"):
        lower_factor(np.array([[1.0, 2.0], [2.0, 1.0]]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 0.5], [0.4, 1.0]], "must be symmetric"),
        ([[1.0, 1.5], [1.5, 1.0]], r"must lie in \[-1, 1\]"),
        ([[0.9, 0.5], [0.5, 1.0]], "the diagonal must be 1"),
        ([[1.0, np.nan], [np.nan, 1.0]], r"must lie in \[-1, 1\]"),
        ([["a", "b"], ["b", "a"]], "must hold numbers"),
    ],
)
@pytest.mark.fault("F123")
def test_what_is_no_correlation_matrix_is_refused(values, message):
    """With the pair."""
    frame = pd.DataFrame(values, index=["DAI", "USDC"], columns=["DAI", "USDC"])

    with pytest.raises(ValueError, match=message):
        tr.CorrelationMatrix.from_frame(frame)
    vault = tr.Vault(1.0, [])
    with pytest.raises(ValueError, match=message):
        tr.simulate_losses(vault, tr.builtin_scenarios(), correlation=frame)


def test_pairs_are_ordered_by_code_point_and_have_fisher_intervals():
    """USDC before crvUSD; the interval of scipy."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=50)
    returns = pd.DataFrame({"crvUSD": x + rng.normal(size=50), "USDC": x, "DAI": rng.normal(size=50)})

    pairs = tr.correlation_matrix(returns).pairs()

    assert [("DAI", "USDC"), ("DAI", "crvUSD"), ("USDC", "crvUSD")] == list(
        zip(pairs["asset_1"], pairs["asset_2"], strict=True)
    )
    for row in pairs.itertuples():
        oracle = scipy.stats.pearsonr(returns[row.asset_1], returns[row.asset_2]).confidence_interval(0.95)
        assert (oracle.low, oracle.high) == pytest.approx((row.low, row.high), abs=1e-12)


def test_the_document_of_a_matrix_says_how_its_intervals_are_made():
    """By normal theory without a bootstrap; its seed and resamples with one."""
    returns = panel(60, 2, 0.0, seed=4)

    plain = tr.correlation_matrix(returns).to_dict()
    resampled = tr.correlation_matrix(returns, bootstrap=99, seed=7).to_dict()

    assert {"method": "normal theory", "level": 0.95} == plain["interval"]
    [pair] = plain["pairs"]
    r = returns["DAI"].corr(returns["FRAX"])
    ends = np.tanh(np.arctanh(r) + np.array([-1.0, 1.0]) * scipy.stats.norm.ppf(0.975) / np.sqrt(57))
    assert (r, *ends) == pytest.approx((pair["correlation"], pair["low"], pair["high"]))
    made = resampled["interval"]
    assert ("expanded percentiles of a block bootstrap", 99, 7) == (
        made["method"],
        made["n_resamples"],
        made["seed"],
    )


def test_intervals_at_their_ends():
    """A default pair and n <= 3 know nothing; |r| = 1 at n > 3 has no width."""
    returns = pd.DataFrame({"DAI": [1.0, 2.0, 3.0, 4.0], "USDC": [2.0, 4.0, 6.0, 8.0]})

    exact = tr.correlation_matrix(returns, min_observations=4).pairs().iloc[0]
    few = tr.correlation_matrix(returns.iloc[:3], min_observations=3).pairs().iloc[0]
    default = tr.correlation_matrix(returns).pairs().iloc[0]

    assert (1.0, 1.0, "CRITICAL") == (exact["low"], exact["high"], exact["risk_level"])
    assert (-1.0, 1.0) == (few["low"], few["high"])
    assert (-1.0, 1.0, "NORMAL", True) == (
        default["low"], default["high"], default["risk_level"], default["is_default"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (0.9, "CRITICAL"),
        (0.8999, "HIGH"),
        (0.8, "HIGH"),
        (0.7, "ELEVATED"),
        (0.6999, "NORMAL"),
        (-1.0, "NORMAL"),
    ],
)
def test_risk_levels(value, level):
    """At their bounds."""
    frame = pd.DataFrame([[1.0, value], [value, 1.0]], index=["DAI", "USDC"], columns=["DAI", "USDC"])

    assert level == tr.CorrelationMatrix.from_frame(frame).pairs()["risk_level"].iloc[0]


def test_contagion_pairs_are_sorted_and_leave_btc_and_defaults_out():
    """Strongest first."""
    names = ["BTC", "DAI", "USDC", "USDT"]
    values = np.array([[1, 0.99, 0.9, 0.8], [0.99, 1, 0.85, 0.95], [0.9, 0.85, 1, 0.3], [0.8, 0.95, 0.3, 1]])
    matrix = tr.CorrelationMatrix.from_frame(pd.DataFrame(values, index=names, columns=names))

    pairs = tr.contagion_pairs(matrix)

    assert [("DAI", "USDT", 0.95), ("DAI", "USDC", 0.85)] == list(
        zip(pairs["asset_1"], pairs["asset_2"], pairs["correlation"], strict=True)
    )
    default = tr.correlation_matrix(pd.DataFrame({"DAI": [1.0, 2.0], "USDC": [1.0, 2.0]}), default=0.95)
    assert tr.contagion_pairs(default).empty


class TestWindows:
    """A window of d days holds prices with ``as_of - d days < time <= as_of``."""

    def prices(self, days=400):
        """Return daily prices of three coins and BTC."""
        rng = np.random.default_rng(3)
        index = pd.date_range("2024-01-01", periods=days, freq="D", tz="UTC")
        return pd.DataFrame(
            np.exp(rng.normal(0, 1e-3, (days, 4))), index=index, columns=["DAI", "USDC", "USDT", "BTC"]
        )

    def test_equal_pandas_on_each_window(self):
        """365 daily prices give 364 returns."""
        prices = self.prices()

        windows = tr.correlation_windows(prices)

        assert [30, 90, 365] == list(windows)
        for days, matrix in windows.items():
            expected = np.log(prices.iloc[-days:]).diff().corr()
            np.testing.assert_allclose(expected, matrix.values, atol=1e-10)
            assert (days, prices.index[-1]) == (matrix.window_days, matrix.as_of)
            assert days - 1 == matrix.observations[0, 1]

    def test_as_of_ends_the_window(self):
        """Later prices do not count."""
        prices = self.prices()
        earlier = prices.index[200]

        assert (
            tr.correlation_windows(prices, windows=(30,), as_of=earlier)[30].values
            == tr.correlation_windows(prices.loc[:earlier], windows=(30,))[30].values
        ).all()

    @pytest.mark.parametrize("rows", [0, 1])
    def test_a_window_without_two_rows_is_named(self, rows):
        """And the number of its rows."""
        prices = self.prices(5)
        as_of = prices.index[-1] + timedelta(days=30 - rows)

        with pytest.raises(InsufficientDataError, match=f"30-day window .* holds {rows} row"):
            tr.correlation_windows(prices, as_of=as_of)

    def test_two_rows_are_all_default(self):
        """One return."""
        matrix = tr.correlation_windows(self.prices(2), windows=(30,))[30]

        assert 1 == matrix.observations[0, 1]
        assert matrix.is_default[0, 1]

    @pytest.mark.parametrize(
        "arguments", [{"windows": (0,)}, {"windows": (1.5,)}, {"min_observations": 1}, {"default": 2.0}]
    )
    def test_wrong_arguments_are_named(self, arguments):
        """windows, min_observations, default."""
        with pytest.raises(ValueError, match=next(iter(arguments))):
            tr.correlation_windows(self.prices(), **arguments)


@pytest.mark.parametrize(
    ("returns", "error", "message"),
    [
        (pd.DataFrame({"DAI": [1.0], "USDC": [1.0]}), InsufficientDataError, "found 1"),
        (pd.DataFrame({"DAI": ["a", "b"]}), InvalidPriceError, "returns of DAI must be numbers"),
        (pd.DataFrame({"DAI": [1.0, np.inf]}), InvalidPriceError, "must be finite"),
        (pd.DataFrame([[1.0, 2.0]] * 2, columns=["dai", "DAI"]), ValueError, "unique"),
        ([1.0, 2.0], ValueError, "DataFrame"),
    ],
)
@pytest.mark.fault("F116")
def test_wrong_returns_are_refused(returns, error, message):
    """With what was found."""
    with pytest.raises(error, match=message):
        tr.correlation_matrix(returns)


@pytest.mark.fault("F123")
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame([[1.0, 0.5]], index=["DAI"], columns=["DAI", "USDC"]), "must be a square DataFrame"),
        (pd.DataFrame(np.eye(2), index=["DAI", "GHO"], columns=["DAI", "USDC"]), "must be a square DataFrame"),
        (np.eye(2), "must be a square DataFrame"),
        (pd.DataFrame(np.eye(2), index=[0, 1], columns=[0, 1]), "must be labelled by symbols, found 0"),
        (pd.DataFrame(np.eye(2), index=["dai", "DAI"], columns=["dai", "DAI"]), "unique"),
    ],
)
def test_what_is_no_table_of_correlations_is_refused(table, message):
    """With what was found."""
    with pytest.raises(ValueError, match=message):
        tr.CorrelationMatrix.from_frame(table)


def test_the_shape_of_the_parts_is_checked():
    """By name."""
    with pytest.raises(
        ValueError, match=r"observations of a correlation matrix of 2 assets must have the shape \(2, 2\)"
    ):
        tr.CorrelationMatrix(("DAI", "USDC"), np.eye(2), np.zeros((3, 3)), np.zeros((2, 2)))


def test_an_asset_that_is_not_in_it():
    """A KeyError that lists those that are; the table is the one it was made from."""
    table = pd.DataFrame([[1.0, 0.5], [0.5, 1.0]], index=["DAI", "USDC"], columns=["DAI", "USDC"])
    matrix = tr.CorrelationMatrix.from_frame(table)

    with pytest.raises(KeyError, match="'GHO' is not in this matrix of DAI, USDC"):
        matrix.get("DAI", "GHO")
    pd.testing.assert_frame_equal(table, matrix.to_frame())


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=40)
def test_what_a_repair_changed(seed, n):
    """Before, after and the distance; the most changed pair first; an unchanged matrix has no row."""
    rng = np.random.default_rng(seed)
    values = np.triu(rng.uniform(-1, 1, (n, n)), k=1)
    values = values + values.T + np.eye(n)
    matrix = tr.CorrelationMatrix.from_frame(pd.DataFrame(values, index=NAMES[:n], columns=NAMES[:n]))

    repair = matrix.repair()

    assert np.linalg.eigvalsh(values)[0] == pytest.approx(repair.smallest_eigenvalue, abs=1e-12)
    assert (repair.distance == 0.0) == repair.changes.empty == (repair.matrix is matrix)
    for row in repair.changes.itertuples():
        assert (matrix.get(row.asset_1, row.asset_2), repair.matrix.get(row.asset_1, row.asset_2)) == (
            row.before,
            row.after,
        )
    assert np.sqrt(2.0 * (repair.changes["change"] ** 2).sum()) == pytest.approx(repair.distance, abs=1e-9)
    assert repair.changes["change"].abs().is_monotonic_decreasing
    assert repair.to_dict()["distance"] == repair.distance


def test_an_iteration_that_does_not_arrive_says_so():
    """Instead of giving the last step."""
    values = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]])

    with pytest.raises(ConvergenceError, match="not reached in 2 iterations"):
        nearest_correlation(values, most=2)

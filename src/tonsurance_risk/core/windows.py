"""Correlation of returns over look-back windows, by several estimators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.association import (
    METHODS,
    Association,
    Method,
    exponential,
    kendall,
    ledoit_wolf,
    pearson_of_tails,
    spearman,
)
from tonsurance_risk.core.bootstrap import bootstrap_intervals
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.prices import valid_index, valid_prices
from tonsurance_risk.core.returns import log_returns
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.values import FloatArray, as_utc, iso, span, text, unique, whole, within

LONGEST_WINDOW = 36_500
"""Days; a hundred years."""
MOST_RESAMPLES = 1_000_000


def _resamples(value: object) -> int:
    return whole(value, "bootstrap", 0, MOST_RESAMPLES)


def _seed(value: object) -> int:
    return whole(value, "seed", 0, MOST_SEED)


@attrs.frozen(kw_only=True)
class _Estimator:
    """How to turn returns into matrices; the options of `correlation_matrix`."""

    method: Method
    halflife: timedelta | None
    min_observations: int
    default: float
    bootstrap: int = attrs.field(converter=_resamples)
    seed: int = attrs.field(converter=_seed)

    def __attrs_post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {list(METHODS)}, found {self.method!r}")
        if (self.halflife is None) == (self.method == "exponential"):
            raise ValueError(
                f"halflife goes with the method 'exponential' alone, found {self.halflife!r} with {self.method!r}"
            )
        if self.halflife is not None and span(self.halflife, "halflife") == timedelta(0):
            raise ValueError("halflife must be a datetime.timedelta > 0, found 0")
        whole(self.min_observations, "min_observations", 2)
        within(self.default, "default", -1.0, 1.0)
        if self.bootstrap and self.method != "pearson":
            raise ValueError(f"bootstrap intervals are those of the method 'pearson', found {self.method!r}")

    def matrices(self, returns: pd.DataFrame, lengths: Sequence[int]) -> list[CorrelationMatrix]:
        """Return the matrices over the last rows, for several lengths."""
        values, assets = return_values(returns)
        if self.method == "pearson":
            found = pearson_of_tails(values, lengths)
        else:
            found = [
                self._association(values[len(values) - n :], returns.index[len(values) - n :]) for n in lengths
            ]
        return [
            self._matrix(assets, each, values[len(values) - n :]) for each, n in zip(found, lengths, strict=True)
        ]

    def _association(self, values: FloatArray, times: pd.Index) -> Association:
        if self.method == "spearman":
            return spearman(values)
        if self.method == "kendall":
            return kendall(values)
        if self.method == "ledoit_wolf":
            return ledoit_wolf(values)
        stamps = valid_index(times, "returns")
        ages = np.asarray((stamps - stamps[-1]) / cast("timedelta", self.halflife))
        return exponential(values, np.exp2(ages))

    def _matrix(self, assets: tuple[str, ...], found: Association, values: FloatArray) -> CorrelationMatrix:
        correlation = found.correlation
        undefined = (found.observations < self.min_observations) | np.isnan(correlation)
        np.fill_diagonal(undefined, False)
        correlation[undefined] = self.default
        np.fill_diagonal(correlation, 1.0)
        intervals = None
        if self.bootstrap and len(assets) > 1:
            intervals = bootstrap_intervals(
                values, correlation, ~undefined, n_resamples=self.bootstrap, seed=self.seed
            )
        return CorrelationMatrix(
            assets,
            correlation,
            found.observations,
            undefined,
            method=self.method,
            effective=found.effective,
            shrinkage=found.shrinkage,
            bootstrap=intervals,
        )


def correlation_matrix(
    returns: pd.DataFrame,
    *,
    min_observations: int = 20,
    default: float = 0.0,
    method: Method = "pearson",
    halflife: timedelta | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> CorrelationMatrix:
    """Return the correlation of returns over pairwise complete observations.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        NaN where there is none.
    min_observations : int
        A pair with fewer common rows takes `default`, and is marked so; at least 2.
    default : float
        In [-1, 1].
    method : {"pearson", "spearman", "kendall", "exponential", "ledoit_wolf"}
        Pearson; rank correlations, over the common rows of each pair; Pearson with weights that halve every
        `halflife` before the last row; Pearson shrunk towards the identity.
    halflife : timedelta, optional
        For "exponential" alone, whose returns need a time index.
    bootstrap : int
        Resamples for block-bootstrap intervals of Pearson correlations, see `CorrelationMatrix.pairs`; 0: none.
    seed : int
        Of the resamples.

    Returns
    -------
    CorrelationMatrix
        A pair with a series whose max - min over the common rows is at most 1e-12 takes `default` as well.
        The diagonal is 1 and never default.

    Raises
    ------
    InsufficientDataError
        With fewer than two rows; for "ledoit_wolf", fewer than two rows without a gap, or fewer than two
        series that move in them.
    InvalidPriceError
        If a return is text or infinite.
    ValueError
        If an option is outside what is accepted.

    Notes
    -----
    One masked matrix product gives the sums of all pairs, O(n_times n_assets^2). Columns are centred at their
    mean and scaled first; a pair whose sums would still cancel is done again in two passes. Ranks with gaps are
    ranked anew for each pair.

    References
    ----------
    O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88 (2004) 365-411, doi:10.1016/S0047-259X(03)00096-4, on standardised returns.

    Examples
    --------
    >>> returns = pd.DataFrame({"USDC": [0.01, 0.02, 0.03], "DAI": [0.02, 0.04, 0.06]})
    >>> round(correlation_matrix(returns, min_observations=3).get("USDC", "DAI"), 12)
    1.0
    """
    if isinstance(returns, pd.DataFrame) and len(returns) < 2:
        raise InsufficientDataError(
            f"a correlation needs at least 2 rows of returns, found {len(returns)}",
            observed=len(returns),
            required=2,
        )
    estimator = _Estimator(
        method=method,
        halflife=halflife,
        min_observations=min_observations,
        default=default,
        bootstrap=bootstrap,
        seed=seed,
    )
    return estimator.matrices(returns, [len(returns)])[0]


def correlation_windows(
    prices: pd.DataFrame | None = None,
    *,
    returns: pd.DataFrame | None = None,
    windows: Iterable[int] = (30, 90, 365),
    as_of: datetime | None = None,
    min_observations: int = 20,
    default: float = 0.0,
    method: Method = "pearson",
    halflife: timedelta | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[int, CorrelationMatrix]:
    """Return the correlation matrix of log returns for several look-back windows.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        [USD]
    returns : DataFrame of shape (n_times, n_assets)
        Instead of `prices`; NaN where there is none.
    windows : iterable of int
        Days; a window of d days holds the rows with ``as_of - d days < time <= as_of``. Of n prices in a window
        come n - 1 returns: the first one needs the price before it.
    as_of : datetime, optional
        The last stamp when not given.
    min_observations, default, method, halflife, bootstrap, seed
        As in `correlation_matrix`.

    Returns
    -------
    dict of int to CorrelationMatrix

    Raises
    ------
    InsufficientDataError
        If a window holds no or one row; it is named.
    InvalidPriceError
        If `prices` are not valid.
    ValueError
        If not just one of prices and returns is given, or an option is outside what is accepted.

    Notes
    -----
    All windows are one pass for Pearson: the sums of a longer window are those of the shorter one and of the rows
    before it.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=60, tz="UTC")
    >>> rng = np.random.default_rng(0)
    >>> prices = pd.DataFrame(np.exp(rng.normal(0, 1e-3, (60, 2))), index=days, columns=["DAI", "USDC"])
    >>> month = correlation_windows(prices, windows=(30,))[30]
    >>> int(month.observations[0, 1]), round(month.get("DAI", "USDC"), 3)
    (29, 0.046)
    """
    if (prices is None) == (returns is None):
        raise ValueError("give either prices or returns")
    frame = timed_returns(returns) if returns is not None else valid_prices(cast("pd.DataFrame", prices))
    if not isinstance(windows, Iterable):
        raise ValueError(f"windows must be several numbers of days, found {windows!r}")
    days = tuple(whole(window, "windows", 1, LONGEST_WINDOW) for window in windows)
    estimator = _Estimator(
        method=method,
        halflife=halflife,
        min_observations=min_observations,
        default=default,
        bootstrap=bootstrap,
        seed=seed,
    )
    if not len(frame):
        raise InsufficientDataError("correlation windows need prices, found no rows", observed=0, required=2)
    end = frame.index[-1] if as_of is None else as_utc(as_of, "as_of")
    known = frame.loc[:end]
    rows = [int((known.index > end - timedelta(days=window)).sum()) for window in days]
    for window, held in zip(days, rows, strict=True):
        if held < 2:
            raise InsufficientDataError(
                f"the {window}-day window up to {iso(end)} holds {held} row(s), at least 2 are needed",
                time=end,
                observed=held,
                required=2,
            )
    if not days:
        return {}
    if prices is not None:
        known, rows = log_returns(known.iloc[len(known) - max(rows) :]), [held - 1 for held in rows]
    matrices = estimator.matrices(known, rows)
    return {
        window: attrs.evolve(matrix, window_days=window, as_of=end)
        for window, matrix in zip(days, matrices, strict=True)
    }


def rolling_correlation(
    returns: pd.DataFrame,
    asset_1: str,
    asset_2: str,
    *,
    window: int = 90,
    every: timedelta = timedelta(days=7),
    min_observations: int = 20,
    bootstrap: int = 999,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the correlation of a pair over a window that moves in time.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        Returns with UTC stamps, NaN where there is none.
    asset_1, asset_2 : str
        Columns of `returns`.
    window : int
        Days; as in `correlation_windows`.
    every : timedelta
        From one end of the window to the next, > 0, backwards from the last stamp.
    min_observations : int
        Windows with fewer common rows are left out, and those in which a series does not move.
    bootstrap, seed : int
        Resamples of the intervals, see `correlation_matrix`; 0: Fisher's.

    Returns
    -------
    DataFrame
        Indexed by the end of the window: correlation, observations, low, high.

    Raises
    ------
    InsufficientDataError
        If no window can be estimated.
    InvalidPriceError
        If the stamps are not increasing UTC times, or a return is text or infinite.
    ValueError
        If an asset is not in `returns`, or an option is outside what is accepted.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=60, tz="UTC")
    >>> rng = np.random.default_rng(0)
    >>> returns = pd.DataFrame(rng.normal(0, 1e-3, (60, 2)), index=days, columns=["DAI", "USDC"])
    >>> rolling_correlation(returns, "DAI", "USDC", window=30)["observations"].tolist()
    [25, 30, 30, 30, 30, 30]
    """
    frame = timed_returns(returns)
    pair = [canonical(text(asset, name)) for name, asset in (("asset_1", asset_1), ("asset_2", asset_2))]
    for asset in pair:
        if asset not in frame.columns:
            raise ValueError(f"{asset!r} is not in returns of {', '.join(frame.columns)}")
    unique(pair, "asset_1 and asset_2")
    length = timedelta(days=whole(window, "window", 1, LONGEST_WINDOW))
    if span(every, "every") == timedelta(0):
        raise ValueError("every must be a datetime.timedelta > 0, found 0")
    whole(min_observations, "min_observations", 2)
    both = frame[pair].dropna()
    rows = []
    if len(both):
        steps = range(int((both.index[-1] - both.index[0]) / every) + 1)
        for end in reversed([both.index[-1] - step * every for step in steps]):
            part = both[(both.index > end - length) & (both.index <= end)]
            if len(part) < min_observations:
                continue
            matrix = correlation_matrix(part, min_observations=min_observations, bootstrap=bootstrap, seed=seed)
            row = matrix.pairs(interval="bootstrap" if bootstrap else "fisher").iloc[0]
            if not row["is_default"]:
                rows.append({"time": end, **row[["correlation", "observations", "low", "high"]]})
    if not rows:
        raise InsufficientDataError(
            f"no window of {window} days has {min_observations} common rows in which {' and '.join(pair)} move",
            observed=len(both),
            required=min_observations,
        )
    return pd.DataFrame(rows).set_index("time").astype({"observations": int})


def return_values(returns: pd.DataFrame) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the values and symbols of a frame of returns; a named error when it is not one.

    Times, where rows have them, must be in order: blocks of rows and gaps mean something only then.
    """
    if not isinstance(returns, pd.DataFrame):
        raise ValueError(f"returns must be a DataFrame, found {type(returns).__name__}")
    if isinstance(returns.index, pd.DatetimeIndex):
        valid_index(returns.index, "returns")
    for name, dtype in returns.dtypes.items():
        number = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)
        if not number or pd.api.types.is_bool_dtype(dtype):
            raise InvalidPriceError(f"returns of {name} must be numbers, found the type {dtype}", asset=str(name))
    assets = tuple(canonical(str(name)) for name in returns.columns)
    unique(assets, "returns: assets of columns")
    values = np.asarray(returns.to_numpy(dtype=np.float64, na_value=np.nan))
    if np.isinf(values).any():
        row, column = (int(k) for k in np.argwhere(np.isinf(values))[0])
        raise InvalidPriceError(
            f"returns of {assets[column]} at {returns.index[row]} must be finite, "
            f"found {float(values[row, column])!r}",
            asset=assets[column],
            observed=float(values[row, column]),
        )
    return values, assets


def timed_returns(returns: pd.DataFrame) -> pd.DataFrame:
    """Return returns with a strictly increasing UTC index and symbols as `get_asset` spells them."""
    values, assets = return_values(returns)
    return pd.DataFrame(values, index=valid_index(returns.index, "returns"), columns=list(assets), copy=False)

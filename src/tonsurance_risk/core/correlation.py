"""Correlation of returns: windows, intervals, repair and factorisation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd
from scipy import special

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.core.psd import PSD_TOLERANCE, lower_factor, nearest_correlation
from tonsurance_risk.core.returns import log_returns
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError
from tonsurance_risk.model import (
    BTC,
    BoolArray,
    FloatArray,
    IntArray,
    as_utc,
    iso,
    iso_or_none,
    read_only,
    text,
    unique,
    whole,
    within,
)

CONSTANT_RANGE = 1e-12
"""A series whose max - min over the common rows is at most this has no correlation."""
NORMAL_95 = float(special.ndtri(0.975))
LONGEST_WINDOW = 36_500
"""Days; a hundred years."""
RISK_LEVELS = ((0.9, "CRITICAL"), (0.8, "HIGH"), (0.7, "ELEVATED"))
"""Lower bounds of the correlation; below all of them, and for defaults, NORMAL."""

_SAME = attrs.cmp_using(eq=np.array_equal)


def _symbols(assets: Iterable[str]) -> tuple[str, ...]:
    return tuple(canonical(text(symbol, "a symbol of a correlation matrix")) for symbol in assets)


def _instant(time: datetime | None) -> pd.Timestamp | None:
    return None if time is None else as_utc(time, "as_of")


def _floats(values: Any) -> FloatArray:
    return read_only(values, np.float64)


def _counts(values: Any) -> IntArray:
    return read_only(values, np.int64)


def _marks(values: Any) -> BoolArray:
    return read_only(values, np.bool_)


@attrs.frozen
class CorrelationMatrix:
    """A correlation matrix with what each entry rests on.

    Parameters
    ----------
    assets : tuple of str
        The symbols of rows and columns.
    values : ndarray of shape (n_assets, n_assets)
        Correlations; symmetric, diagonal 1, within [-1, 1].
    observations : ndarray of int of shape (n_assets, n_assets)
        Common rows of each pair; 0 where unknown.
    is_default : ndarray of bool of shape (n_assets, n_assets)
        Pairs whose value is the default because the data did not allow an estimate.
    window_days : int, optional
        Length of the window.
    as_of : datetime, optional
        End of the window.
    """

    assets: tuple[str, ...] = attrs.field(converter=_symbols)
    values: FloatArray = attrs.field(converter=_floats, eq=_SAME, repr=False)
    observations: IntArray = attrs.field(converter=_counts, eq=_SAME, repr=False)
    is_default: BoolArray = attrs.field(converter=_marks, eq=_SAME, repr=False)
    window_days: int | None = None
    as_of: pd.Timestamp | None = attrs.field(default=None, converter=_instant)

    def __attrs_post_init__(self) -> None:
        unique(self.assets, "assets of a correlation matrix")
        n = len(self.assets)
        for name in ("values", "observations", "is_default"):
            if getattr(self, name).shape != (n, n):
                raise ValueError(
                    f"{name} of a correlation matrix of {n} assets must have the shape ({n}, {n}), "
                    f"found {getattr(self, name).shape}"
                )
        self._refuse(~(np.abs(self.values) <= 1.0), "entries must lie in [-1, 1]")
        self._refuse((self.values != 1.0) & np.eye(n, dtype=bool), "the diagonal must be 1")
        self._refuse(self.values != self.values.T, "it must be symmetric")

    def _refuse(self, wrong: BoolArray, rule: str) -> None:
        if wrong.any():
            i, j = (int(k) for k in np.argwhere(wrong)[0])
            raise ValueError(
                f"not a correlation matrix: {rule}, found {float(self.values[i, j])!r} "
                f"for {self.assets[i]} and {self.assets[j]} (mirrored: {float(self.values[j, i])!r})"
            )

    @classmethod
    def from_frame(cls, df: pd.DataFrame) -> CorrelationMatrix:
        """Build a matrix from a square table with the symbols on both axes.

        How many observations stand behind it is unknown (0), so its pairs have the interval [-1, 1].

        Raises
        ------
        ValueError
            If the axes differ, or it is not symmetric, its diagonal is not 1 or an entry lies beyond 1.
            Asymmetry and excess of rounding size (1e-12) are accepted and removed.
        """
        if not isinstance(df, pd.DataFrame) or set(df.index) != set(df.columns) or len(df) != df.shape[1]:
            raise ValueError("a correlation table must be a square DataFrame with equal row and column symbols")
        for label in df.columns:
            if not isinstance(label, str):
                raise ValueError(f"a correlation table must be labelled by symbols, found {label!r}")
        unique(df.columns, "symbols of a correlation table")
        try:
            values = df.loc[list(df.columns)].to_numpy(dtype=np.float64, copy=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a correlation table must hold numbers: {error}") from error
        assets = tuple(canonical(symbol) for symbol in df.columns)
        n = len(assets)
        if np.allclose(values, values.T, rtol=0.0, atol=1e-12):
            values = (values + values.T) / 2.0
        if np.allclose(np.diag(values), 1.0, rtol=0.0, atol=1e-12):
            np.fill_diagonal(values, 1.0)
        slightly_beyond = (np.abs(values) > 1.0) & (np.abs(values) <= 1.0 + 1e-12)
        values[slightly_beyond] = np.sign(values[slightly_beyond])
        return cls(assets, values, np.zeros((n, n), np.int64), np.zeros((n, n), bool))

    def get(self, a: str, b: str) -> float:
        """Return the correlation of two assets, in either order; an asset not in it is a `KeyError`."""
        return float(self.values[self._position(a), self._position(b)])

    def _position(self, symbol: str) -> int:
        if canonical(symbol) not in self.assets:
            raise KeyError(f"{symbol!r} is not in this matrix of {', '.join(self.assets)}")
        return self.assets.index(canonical(symbol))

    def select(self, assets: Iterable[str]) -> CorrelationMatrix:
        """Return the part of the matrix for `assets`, in their order."""
        at = [self._position(symbol) for symbol in assets]
        grid = np.ix_(at, at)
        return attrs.evolve(
            self,
            assets=tuple(self.assets[i] for i in at),
            values=self.values[grid],
            observations=self.observations[grid],
            is_default=self.is_default[grid],
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the values as a square table."""
        return pd.DataFrame(self.values, index=list(self.assets), columns=list(self.assets))

    def to_dict(self) -> dict[str, Any]:
        """Return the window and the pairs in JSON types."""
        return {
            "window_days": self.window_days,
            "as_of": iso_or_none(self.as_of),
            "assets": list(self.assets),
            "pairs": self.pairs().to_dict("records"),
        }

    def pairs(self) -> pd.DataFrame:
        """Return a table with a row a pair.

        Returns
        -------
        DataFrame
            ``asset_1 < asset_2`` by code point, correlation, observations, low, high, is_default, risk_level.
            low and high are the 95 % interval of Fisher, ``tanh(atanh(r) -+ 1.96 / sqrt(n - 3))``, which
            assumes independent normal returns. A default pair and one of n <= 3 have -1 and 1;
            |r| = 1 at n > 3 has low = high = r.

        References
        ----------
        R. A. Fisher, "On the 'probable error' of a coefficient of correlation deduced from a small sample",
        Metron 1 (1921) 3-32.
        """
        order = sorted(range(len(self.assets)), key=lambda i: self.assets[i])
        first, second = np.triu_indices(len(order), k=1)
        i, j = np.array(order, dtype=int)[first], np.array(order, dtype=int)[second]
        r, n, default = self.values[i, j], self.observations[i, j], self.is_default[i, j]
        low, high = _fisher_interval(r, n, default)
        conditions = [~default & (r >= bound) for bound, _ in RISK_LEVELS]
        return pd.DataFrame(
            {
                "asset_1": [self.assets[k] for k in i],
                "asset_2": [self.assets[k] for k in j],
                "correlation": r,
                "observations": n,
                "low": low,
                "high": high,
                "is_default": default,
                "risk_level": np.select(conditions, [name for _, name in RISK_LEVELS], "NORMAL").tolist(),
            }
        )

    def nearest_psd(self) -> tuple[CorrelationMatrix, float]:
        """Return the nearest correlation matrix that is positive semi-definite, and its distance.

        Returns
        -------
        matrix : CorrelationMatrix
            This one when its smallest eigenvalue is at least -1e-10.
        distance : float
            Frobenius norm of the change, 0.0 when unchanged.

        Notes
        -----
        Alternating projections onto the positive semi-definite matrices and onto those of unit diagonal,
        with Dykstra's correction, algorithm 3.3 of the reference.

        References
        ----------
        N. J. Higham, "Computing the nearest correlation matrix: a problem from finance", IMA Journal of
        Numerical Analysis 22 (2002) 329-343, doi:10.1093/imanum/22.3.329.
        """
        if not len(self.assets) or np.linalg.eigvalsh(self.values)[0] >= -PSD_TOLERANCE:
            return self, 0.0
        values = nearest_correlation(self.values)
        return attrs.evolve(self, values=values), float(np.linalg.norm(values - self.values))

    def cholesky(self) -> FloatArray:
        """Return a lower triangular L with ``L @ L.T`` equal to the matrix, or to its nearest PSD repair.

        Returns
        -------
        ndarray of shape (n_assets, n_assets)
            Its diagonal is non-negative; a singular matrix has zeros on it.
        """
        return lower_factor(self.nearest_psd()[0].values)


def correlation_matrix(
    returns: pd.DataFrame, *, min_observations: int = 20, default: float = 0.0
) -> CorrelationMatrix:
    """Return the Pearson correlation of returns over pairwise complete observations.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        NaN where there is none.
    min_observations : int
        A pair with fewer common rows takes `default`, and is marked so; at least 2.
    default : float
        In [-1, 1].

    Returns
    -------
    CorrelationMatrix
        A pair with a series whose max - min over the common rows is at most 1e-12 takes `default` as well.
        The diagonal is 1 and never default.

    Raises
    ------
    InsufficientDataError
        With fewer than two rows.
    InvalidPriceError
        If a return is text or infinite.

    Notes
    -----
    One masked matrix product gives the sums of all pairs, O(n_times n_assets^2). Columns are centred at their
    median and scaled first; a pair whose sums would still cancel is done again in two passes.

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
    return _estimated(returns, min_observations, default)


def correlation_windows(
    prices: pd.DataFrame,
    *,
    windows: Iterable[int] = (30, 90, 365),
    as_of: datetime | None = None,
    min_observations: int = 20,
    default: float = 0.0,
) -> dict[int, CorrelationMatrix]:
    """Return the correlation matrix of log returns for several look-back windows.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        [USD]
    windows : iterable of int
        Days; a window of d days holds the prices with ``as_of - d days < time <= as_of``.
    as_of : datetime, optional
        The last stamp when not given.
    min_observations, default
        As in `correlation_matrix`.

    Returns
    -------
    dict of int to CorrelationMatrix

    Raises
    ------
    InsufficientDataError
        If a window holds no or one row; it is named.
    """
    frame = valid_prices(prices)
    if not isinstance(windows, Iterable):
        raise ValueError(f"windows must be several numbers of days, found {windows!r}")
    days = tuple(whole(window, "windows", 1, LONGEST_WINDOW) for window in windows)
    if not len(frame):
        raise InsufficientDataError("correlation windows need prices, found no rows", observed=0, required=2)
    end = frame.index[-1] if as_of is None else as_utc(as_of, "as_of")
    known = frame.loc[:end]
    returns = log_returns(known) if len(known) > 1 else None
    matrices: dict[int, CorrelationMatrix] = {}
    for window in days:
        rows = int((known.index > end - timedelta(days=window)).sum())
        if returns is None or rows < 2:
            raise InsufficientDataError(
                f"the {window}-day window up to {iso(end)} holds {rows} row(s) of prices, at least 2 are needed",
                time=end,
                observed=rows,
                required=2,
            )
        # The first return of a window needs a price before it; of two rows one return is left, all default.
        matrix = _estimated(returns.iloc[len(returns) + 1 - rows :], min_observations, default)
        matrices[window] = attrs.evolve(matrix, window_days=window, as_of=end)
    return matrices


def contagion_pairs(matrix: CorrelationMatrix, threshold: float = 0.8) -> pd.DataFrame:
    """Return the pairs of coins whose correlation is at least `threshold`, strongest first.

    Parameters
    ----------
    matrix : CorrelationMatrix
        Coins, and BTC perhaps.
    threshold : float
        In [-1, 1].

    Returns
    -------
    DataFrame
        The columns of `CorrelationMatrix.pairs`. BTC and default pairs are left out.

    Raises
    ------
    ValueError
        If the threshold is not in [-1, 1].

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0.85], [0.85, 1.0]], index=["DAI", "USDC"], columns=["DAI", "USDC"])
    >>> contagion_pairs(CorrelationMatrix.from_frame(table))[["asset_1", "asset_2", "risk_level"]].values.tolist()
    [['DAI', 'USDC', 'HIGH']]
    """
    bound = within(threshold, "threshold", -1.0, 1.0)
    if not isinstance(matrix, CorrelationMatrix):
        raise ValueError(f"matrix must be a CorrelationMatrix, found {type(matrix).__name__}")
    pairs = matrix.pairs()
    kept = (
        (pairs["correlation"] >= bound)
        & ~pairs["is_default"]
        & (pairs["asset_1"] != BTC)
        & (pairs["asset_2"] != BTC)
    )
    return pairs[kept].sort_values("correlation", ascending=False, kind="stable").reset_index(drop=True)


def _estimated(returns: pd.DataFrame, min_observations: int, default: float) -> CorrelationMatrix:
    fallback = within(default, "default", -1.0, 1.0)
    values, assets = _return_values(returns)
    correlation, observations = _pairwise_pearson(values)
    undefined = (observations < whole(min_observations, "min_observations", 2)) | np.isnan(correlation)
    np.fill_diagonal(undefined, False)
    correlation[undefined] = fallback
    np.fill_diagonal(correlation, 1.0)
    return CorrelationMatrix(assets, correlation, observations, undefined)


def _return_values(returns: pd.DataFrame) -> tuple[FloatArray, tuple[str, ...]]:
    if not isinstance(returns, pd.DataFrame):
        raise ValueError(f"returns must be a DataFrame, found {type(returns).__name__}")
    for name, dtype in returns.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
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


def _pairwise_pearson(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return correlations (NaN where a series is constant over the common rows) and common row counts."""
    present = ~np.isnan(values)
    centred, size = _standardised(values, present)
    mask = present.astype(np.float64)
    count = mask.T @ mask
    products = centred.T @ centred
    # sums[i, j] and squares[i, j]: of column i over the rows that it shares with column j.
    if present.all():
        sums = np.zeros_like(products)
        squares = np.repeat(np.diag(products)[:, None], len(products), axis=1)
    else:
        sums = centred.T @ mask
        squares = (centred * centred).T @ mask
    with np.errstate(invalid="ignore", divide="ignore"):
        correction = sums * sums / count
        variation = np.maximum(squares - correction, 0.0)
        correlation = (products - sums * sums.T / count) / np.sqrt(variation * variation.T)
        # Pairs done again in two passes: where the sums cancel (beyond 1e2, two digits are lost), and where a
        # series may be constant (max - min >= 2 standard deviations, so one above this bound is not).
        cancels = correction > 1e2 * variation
        may_be_constant = ~(np.sqrt(variation / count) * size[:, None] > 10.0 * CONSTANT_RANGE)
    again = cancels | may_be_constant
    for i, j in np.argwhere(np.triu(again | again.T, k=1) & (count >= 2)):
        both = present[:, i] & present[:, j]
        correlation[i, j] = _pearson(values[both, i], values[both, j])
    correlation[count < 2] = np.nan
    upper = np.triu(np.clip(correlation, -1.0, 1.0), k=1)
    return upper + upper.T, np.rint(count).astype(np.int64)


def _standardised(values: FloatArray, present: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return columns centred and divided by their size, NaN as 0, and the sizes.

    Sums of squares of such columns neither overflow nor, as a rule, cancel.
    """
    centred = np.where(present, values, 0.0)
    centred -= centred.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    centred[~present] = 0.0
    size = np.abs(centred).max(axis=0, initial=0.0)
    size[size == 0.0] = 1.0
    centred /= size
    return centred, size


def _pearson(x: FloatArray, y: FloatArray) -> float:
    """Return the correlation of two complete series in two passes, NaN when one is constant."""
    if np.ptp(x) <= CONSTANT_RANGE or np.ptp(y) <= CONSTANT_RANGE:
        return np.nan
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _fisher_interval(r: FloatArray, n: IntArray, default: BoolArray) -> tuple[FloatArray, FloatArray]:
    low, high = np.full(r.shape, -1.0), np.full(r.shape, 1.0)
    exact = ~default & (n > 3) & (np.abs(r) == 1.0)
    low[exact] = high[exact] = r[exact]
    known = ~default & (n > 3) & ~exact
    centre, half = np.arctanh(r[known]), NORMAL_95 / np.sqrt(n[known] - 3.0)
    low[known], high[known] = np.tanh(centre - half), np.tanh(centre + half)
    return low, high

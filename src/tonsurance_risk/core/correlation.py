"""A correlation matrix with what each entry rests on: intervals, repair and factor."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.association import METHODS, Method, normal_interval
from tonsurance_risk.core.bootstrap import BootstrapIntervals
from tonsurance_risk.core.psd import PSD_TOLERANCE, lower_factor, nearest_correlation
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, as_utc, iso_or_none, read_only, text, unique

RISK_LEVELS = ((0.9, "CRITICAL"), (0.8, "HIGH"), (0.7, "ELEVATED"))
"""Lower bounds of the correlation; below all of them, and for defaults, NORMAL."""

_SAME = attrs.cmp_using(eq=np.array_equal)


@attrs.frozen
class PsdRepair:
    """What the repair of a correlation matrix changed.

    Parameters
    ----------
    matrix : CorrelationMatrix
        The nearest positive semi-definite one.
    distance : float
        Frobenius norm of the change.
    smallest_eigenvalue : float
        Of the matrix before.
    changes : DataFrame
        A row a changed pair, the most changed first: asset_1, asset_2, before, after, change.
    """

    matrix: CorrelationMatrix
    distance: float
    smallest_eigenvalue: float
    changes: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))

    def to_dict(self) -> dict[str, Any]:
        """Return distance, smallest eigenvalue and changes in JSON types."""
        return {
            "distance": self.distance,
            "smallest_eigenvalue": self.smallest_eigenvalue,
            "changes": self.changes.to_dict("records"),
        }


Interval: TypeAlias = Literal["fisher", "bootstrap"]


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
    method : {"pearson", "spearman", "kendall", "exponential", "ledoit_wolf"}
        The estimator.
    effective : ndarray of shape (n_assets, n_assets), optional
        How many equally weighted rows the common rows are worth, where they are weighted.
    shrinkage : float, optional
        The share of the identity in a shrunk matrix.
    bootstrap : BootstrapIntervals, optional
        Intervals that hold for returns that are neither normal nor independent, where they were asked for.
    """

    assets: tuple[str, ...] = attrs.field(converter=_symbols)
    values: FloatArray = attrs.field(converter=_floats, eq=_SAME, repr=False)
    observations: IntArray = attrs.field(converter=_counts, eq=_SAME, repr=False)
    is_default: BoolArray = attrs.field(converter=_marks, eq=_SAME, repr=False)
    window_days: int | None = None
    as_of: pd.Timestamp | None = attrs.field(default=None, converter=_instant)
    method: Method = attrs.field(default="pearson", validator=attrs.validators.in_(METHODS), kw_only=True)
    effective: FloatArray | None = attrs.field(
        default=None, converter=attrs.converters.optional(_floats), eq=_SAME, repr=False, kw_only=True
    )
    shrinkage: float | None = attrs.field(default=None, kw_only=True)
    bootstrap: BootstrapIntervals | None = attrs.field(default=None, repr=False, kw_only=True)

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
        """Return the part of the matrix for `assets`, in their order; one asset alone has no intervals."""
        at = [self._position(symbol) for symbol in assets]
        grid = np.ix_(at, at)
        return attrs.evolve(
            self,
            assets=tuple(self.assets[i] for i in at),
            values=self.values[grid],
            observations=self.observations[grid],
            is_default=self.is_default[grid],
            effective=None if self.effective is None else self.effective[grid],
            bootstrap=None if self.bootstrap is None or len(at) < 2 else self.bootstrap.select(at),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the values as a square table."""
        return pd.DataFrame(self.values, index=list(self.assets), columns=list(self.assets))

    def to_dict(self) -> dict[str, Any]:
        """Return the window and the pairs in JSON types, with the bootstrap intervals where there are any."""
        return {
            "window_days": self.window_days,
            "as_of": iso_or_none(self.as_of),
            "method": self.method,
            "shrinkage": self.shrinkage,
            "assets": list(self.assets),
            "interval": self._interval_method(),
            "pairs": self.pairs(interval=self.best_interval).to_dict("records"),
        }

    @property
    def best_interval(self) -> Interval:
        """The intervals to show: the bootstrap's where there are any."""
        return "fisher" if self.bootstrap is None else "bootstrap"

    def _interval_method(self) -> dict[str, Any]:
        """Return how the best intervals are made, in JSON types."""
        if self.bootstrap is None:
            return {"method": "normal theory", "level": 0.95}
        return {
            "method": "expanded percentiles of a block bootstrap",
            "level": 0.95,
            "n_resamples": self.bootstrap.n_resamples,
            "block_length": self.bootstrap.block_length,
            "seed": self.bootstrap.seed,
        }

    def pairs(self, *, interval: Interval = "fisher") -> pd.DataFrame:
        """Return a table with a row a pair.

        Parameters
        ----------
        interval : {"fisher", "bootstrap"}
            Which intervals low and high are; the bootstrap is asked for where the matrix is estimated.

        Returns
        -------
        DataFrame
            ``asset_1 < asset_2`` by code point, correlation, observations, low, high, is_default, risk_level.
            Fisher's 95 % interval, ``tanh(atanh(r) -+ 1.96 / sqrt(n - 3))``, assumes independent normal returns:
            on t(3) it covers 61 % at n = 250. A default pair and one of n <= 3 have -1 and 1; |r| = 1 at n > 3 has
            low = high = r. For Spearman the variance is 1.06 / (n - 3), for Kendall 0.437 / (n - 4), with weights
            n is the effective number of rows, and for a shrunk matrix the interval is that of the sample
            correlation.

        Raises
        ------
        ValueError
            If the bootstrap is asked for and the matrix was made without.

        References
        ----------
        R. A. Fisher, "On the 'probable error' of a coefficient of correlation deduced from a small sample",
        Metron 1 (1921) 3-32. E. C. Fieller, H. O. Hartley, E. S. Pearson, "Tests for rank correlation
        coefficients I", Biometrika 44 (1957) 470-481.
        """
        order = sorted(range(len(self.assets)), key=lambda i: self.assets[i])
        first, second = np.triu_indices(len(order), k=1)
        i, j = np.array(order, dtype=int)[first], np.array(order, dtype=int)[second]
        r, default = self.values[i, j], self.is_default[i, j]
        low, high = self._ends(interval, i, j)
        conditions = [~default & (r >= bound) for bound, _ in RISK_LEVELS]
        return pd.DataFrame(
            {
                "asset_1": [self.assets[k] for k in i],
                "asset_2": [self.assets[k] for k in j],
                "correlation": r,
                "observations": self.observations[i, j],
                "low": low,
                "high": high,
                "is_default": default,
                "risk_level": np.select(conditions, [name for _, name in RISK_LEVELS], "NORMAL").tolist(),
            }
        )

    def _ends(self, interval: Interval, i: IntArray, j: IntArray) -> tuple[FloatArray, FloatArray]:
        if interval not in ("fisher", "bootstrap"):
            raise ValueError(f"interval must be 'fisher' or 'bootstrap', found {interval!r}")
        if interval == "fisher":
            n = self.observations if self.effective is None else self.effective
            return normal_interval(self.method, self.values[i, j], n[i, j], self.is_default[i, j], self.shrinkage)
        if self.bootstrap is None:
            raise ValueError("interval='bootstrap' needs a matrix that was estimated with bootstrap=, found none")
        return self.bootstrap.low[i, j], self.bootstrap.high[i, j]

    def nearest_psd(self) -> tuple[CorrelationMatrix, float]:
        """Return the nearest correlation matrix that is positive semi-definite, and its distance.

        Returns
        -------
        matrix : CorrelationMatrix
            This one when its smallest eigenvalue is at least -1e-10.
        distance : float
            Frobenius norm of the change, 0.0 when unchanged; `repair` says which pairs changed.

        Notes
        -----
        Alternating projections onto the positive semi-definite matrices and onto those of unit diagonal,
        with Dykstra's correction, algorithm 3.3 of the reference. The repaired matrix has no bootstrap
        intervals: they are those of the estimates.

        References
        ----------
        N. J. Higham, "Computing the nearest correlation matrix: a problem from finance", IMA Journal of
        Numerical Analysis 22 (2002) 329-343, doi:10.1093/imanum/22.3.329.
        """
        if not len(self.assets) or np.linalg.eigvalsh(self.values)[0] >= -PSD_TOLERANCE:
            return self, 0.0
        values = nearest_correlation(self.values)
        return attrs.evolve(self, values=values, bootstrap=None), float(np.linalg.norm(values - self.values))

    def repair(self) -> PsdRepair:
        """Return `nearest_psd` with what it changed.

        Examples
        --------
        >>> names = ["DAI", "USDC", "USDT"]
        >>> table = pd.DataFrame([[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1.0]], index=names, columns=names)
        >>> repair = CorrelationMatrix.from_frame(table).repair()
        >>> round(repair.distance, 4), round(repair.smallest_eigenvalue, 4)
        (0.3468, -0.2728)
        >>> repair.changes[["asset_1", "asset_2", "before", "after"]].round(4).values.tolist()
        [['DAI', 'USDC', 0.9, 0.7434], ['USDC', 'USDT', 0.9, 0.7434], ['DAI', 'USDT', 0.0, 0.1053]]
        """
        matrix, distance = self.nearest_psd()
        before, after = self.pairs(), matrix.pairs()
        changes = before[["asset_1", "asset_2"]].assign(before=before["correlation"], after=after["correlation"])
        changes["change"] = changes["after"] - changes["before"]
        changes = changes[changes["change"] != 0.0].sort_values(
            "change", key=np.abs, ascending=False, kind="stable"
        )
        smallest = float(np.linalg.eigvalsh(self.values)[0]) if self.assets else 1.0
        return PsdRepair(matrix, distance, smallest, changes.reset_index(drop=True))

    def cholesky(self) -> FloatArray:
        """Return a lower triangular L with ``L @ L.T`` equal to the matrix, or to its nearest PSD repair.

        Returns
        -------
        ndarray of shape (n_assets, n_assets)
            Its diagonal is non-negative; a singular matrix has zeros on it.
        """
        return lower_factor(self.nearest_psd()[0].values)

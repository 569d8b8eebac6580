"""How two series move together: pairwise complete estimators over arrays, and their normal-theory intervals.

Every estimator takes values of shape (n_rows, n_series), NaN where nothing was observed, and leaves NaN where a
series does not move over the common rows of a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import attrs
import numpy as np
import scipy
from scipy import special

from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.values import BoolArray, FloatArray, IntArray

Method: TypeAlias = Literal["pearson", "spearman", "kendall", "exponential", "ledoit_wolf"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall", "exponential", "ledoit_wolf")

_LEAST_WEIGHT = 1e-100
CONSTANT_RANGE = 1e-12
"""A series whose max - min over the common rows is at most this has no correlation."""
NORMAL_95 = float(special.ndtri(0.975))
_VARIANCE: dict[Method, tuple[float, float]] = {"spearman": (1.06, 3.0), "kendall": (0.437, 4.0)}
"""Of atanh(r): (c, d) means c / (n - d). Fieller, Hartley and Pearson, "Tests for rank correlation coefficients
I", Biometrika 44 (1957) 470-481, equations for 10 <= n <= 50; Pearson's is Fisher's 1 / (n - 3)."""


@attrs.frozen
class Association:
    """What an estimator found for every pair.

    Parameters
    ----------
    correlation : ndarray of shape (n_series, n_series)
        Symmetric, NaN where it is not defined; the diagonal means nothing.
    observations : ndarray of int of shape (n_series, n_series)
        Common rows.
    effective : ndarray of shape (n_series, n_series), optional
        How many equally weighted rows the common rows are worth, where they are weighted.
    shrinkage : float, optional
        The share of the target in a shrunk estimate.
    """

    correlation: FloatArray
    observations: IntArray
    effective: FloatArray | None = None
    shrinkage: float | None = None


@attrs.frozen
class _Moments:
    """Sums over the rows that two series share; [i, j] is of series i over the rows shared with j."""

    count: FloatArray
    products: FloatArray
    sums: FloatArray
    squares: FloatArray

    @classmethod
    def of(cls, standard: _Standardised, rows: slice, weights: FloatArray | None = None) -> _Moments:
        """Return the moments over some rows, as masked matrix products."""
        both = standard.both[:, rows]
        p = len(both) // 2
        centred, mask = both[:p], both[p:]
        weighted = both if weights is None else both * weights[rows]
        # A matrix times its own transpose is half the work.
        table = both @ both.T if weights is None else weighted @ both.T
        return cls(
            count=table[p:, p:],
            products=table[:p, :p],
            sums=table[:p, p:],
            squares=(weighted[:p] * centred) @ mask.T,
        )

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.count + other.count,
            self.products + other.products,
            self.sums + other.sums,
            self.squares + other.squares,
        )


@attrs.frozen
class _Standardised:
    """Series centred and divided by their size, so that sums of squares neither overflow nor, as a rule, cancel.

    `both` has the shape (2 n_series, n_rows): the series with NaN as 0, then 1 where there is a value, else 0.
    """

    both: FloatArray
    size: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> _Standardised:
        n, p = values.shape
        both = np.empty((2 * p, n))
        series, mask = both[:p], both[p:]
        missing = np.isnan(values.T)
        np.subtract(1.0, missing, out=mask)
        series[...] = values.T
        series[missing] = 0.0
        series -= (series.sum(axis=1) / np.maximum(mask.sum(axis=1), 1.0))[:, None]
        series *= mask
        size = np.maximum(series.max(axis=1, initial=0.0), -series.min(axis=1, initial=0.0))
        size[size == 0.0] = 1.0
        series /= size[:, None]
        return cls(both, size)


def pearson_of_tails(values: FloatArray, lengths: Sequence[int]) -> list[Association]:
    """Return Pearson's correlation over the last rows, for several lengths in one pass.

    The moments of a longer tail are those of the shorter one plus those of the rows before it. Series are centred
    and scaled first; a pair whose sums would still cancel, or that may be constant, is done again in two passes.
    """
    found: dict[int, Association] = {}
    longest = values[len(values) - max(lengths, default=0) :]
    standard = _Standardised.of(longest)
    moments, end = _Moments.of(standard, slice(0, 0)), len(longest)
    for length in sorted(set(lengths)):
        begin = len(longest) - length
        moments += _Moments.of(standard, slice(begin, end))
        end = begin
        correlation = _pearson_from(moments, longest[begin:], standard.size)
        found[length] = Association(correlation, np.rint(moments.count).astype(np.int64))
    return [attrs.evolve(found[length], correlation=found[length].correlation.copy()) for length in lengths]


def exponential(values: FloatArray, weights: FloatArray) -> Association:
    """Return Pearson's correlation of weighted rows, with Kish's effective number of rows, (sum w)^2 / sum w^2.

    A pair with fewer than two effective rows, or with almost no weight, is not defined.
    """
    standard, rows = _Standardised.of(values), slice(None)
    moments = _Moments.of(standard, rows, weights)
    mask = standard.both[values.shape[1] :]
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = moments.count**2 / ((mask * weights**2) @ mask.T)
    # Weights so small leave the range of floats; and one row alone has no correlation.
    undefined = ~((moments.count > _LEAST_WEIGHT) & (effective >= 2.0))
    correlation = _pearson_from(moments, values, standard.size, weights)
    correlation[undefined] = np.nan
    count = np.rint(mask @ mask.T).astype(np.int64)
    return Association(correlation, count, np.where(undefined, 0.0, effective))


def spearman(values: FloatArray) -> Association:
    """Return Spearman's rank correlation: Pearson's of the ranks over the common rows, ties in the middle."""
    return _pair_by_pair(values, lambda x, y: pearson(scipy.stats.rankdata(x), scipy.stats.rankdata(y)))


def kendall(values: FloatArray) -> Association:
    """Return Kendall's tau-b over the common rows."""
    return _pair_by_pair(values, lambda x, y: float(scipy.stats.kendalltau(x, y).statistic))


def ledoit_wolf(values: FloatArray) -> Association:
    """Return Pearson's correlation shrunk towards the identity by the intensity of Ledoit and Wolf.

    The intensity is estimated from the rows in which every series that moves was observed:
    min(b^2, d^2) / d^2, d^2 = ||S - I||^2 and b^2 = (1 / n^2) sum ||x_t x_t' - S||^2 of standardised rows x_t.
    """
    [sample] = pearson_of_tails(values, [len(values)])
    complete = values[~np.isnan(values).any(axis=1)]
    if len(complete) < 2:
        raise InsufficientDataError(
            f"shrinkage needs at least 2 rows in which every series was observed, found {len(complete)}",
            observed=len(complete),
            required=2,
        )
    x = complete[:, np.ptp(complete, axis=0) > CONSTANT_RANGE]
    if x.shape[1] < 2:
        raise InsufficientDataError(
            f"shrinkage needs at least 2 series that move in the rows in which every series was observed, "
            f"found {x.shape[1]}",
            observed=x.shape[1],
            required=2,
        )
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    n, p = x.shape
    s = x.T @ x / n
    distance = float(np.sum((s - np.eye(p)) ** 2))
    error = (float(np.mean(np.sum(x * x, axis=1) ** 2)) - float(np.sum(s * s))) / n
    shrinkage = min(error, distance) / distance if distance > 0.0 else 0.0
    return attrs.evolve(sample, correlation=(1.0 - shrinkage) * sample.correlation, shrinkage=shrinkage)


def normal_interval(
    method: Method, r: FloatArray, n: FloatArray | IntArray, default: BoolArray, shrinkage: float | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the 95 % interval ``tanh(atanh(r) -+ 1.96 sqrt(c / (n - d)))``, [-1, 1] where nothing is known."""
    c, d = _VARIANCE.get(method, (1.0, 3.0))
    if shrinkage is not None:  # of the sample correlation, before it was shrunk
        default = default | (shrinkage == 1.0)
        r = np.clip(r / (1.0 - shrinkage), -1.0, 1.0) if shrinkage < 1.0 else r
    low, high = np.full(r.shape, -1.0), np.full(r.shape, 1.0)
    exact = ~default & (n > d) & (np.abs(r) == 1.0)
    low[exact] = high[exact] = r[exact]
    known = ~default & (n > d) & ~exact
    centre, half = np.arctanh(r[known]), NORMAL_95 * np.sqrt(c / (n[known] - d))
    low[known], high[known] = np.tanh(centre - half), np.tanh(centre + half)
    return low, high


def _pearson_from(
    moments: _Moments, values: FloatArray, size: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Return the correlations of moments; pairs that rounding would spoil are done again from the values."""
    count, sums = moments.count, moments.sums
    with np.errstate(invalid="ignore", divide="ignore"):
        correction = sums * sums / count
        variation = np.maximum(moments.squares - correction, 0.0)
        correlation = (moments.products - sums * sums.T / count) / np.sqrt(variation * variation.T)
        # Where the sums cancel (beyond 1e2, two digits are lost), and where a series may be constant: a range is
        # at least 2 standard deviations, so one above this bound is not.
        cancels = correction > 1e2 * variation
        may_be_constant = ~(np.sqrt(variation / count) * size[:, None] > 10.0 * CONSTANT_RANGE)
    again = cancels | may_be_constant
    for i, j in np.argwhere(np.triu(again | again.T, k=1) & (count > 0.0)):
        both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
        correlation[i, j] = pearson(values[both, i], values[both, j], None if weights is None else weights[both])
    correlation[count == 0.0] = np.nan
    upper = np.triu(np.clip(correlation, -1.0, 1.0), k=1)
    return np.asarray(upper + upper.T)


def pearson(x: FloatArray, y: FloatArray, weights: FloatArray | None = None) -> float:
    """Return the correlation of two complete series in two passes, NaN when one is constant."""
    if len(x) < 2 or np.ptp(x) <= CONSTANT_RANGE or np.ptp(y) <= CONSTANT_RANGE:
        return np.nan
    x, y = (_deviations(_deviations(series, weights), weights) for series in (x, y))
    w = np.ones(len(x)) if weights is None else weights
    return float(np.clip(w @ (x * y) / np.sqrt((w @ (x * x)) * (w @ (y * y))), -1.0, 1.0))


def _deviations(series: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Return the distances from the mean in units of the largest; done twice, rounding of the mean is gone."""
    away = series - np.average(series, weights=weights)
    return np.asarray(away / np.abs(away).max())


def pairs_of(n_series: int) -> Iterator[tuple[int, int]]:
    """Return the positions of all pairs, the first before the second."""
    return zip(*(side.tolist() for side in np.triu_indices(n_series, k=1)), strict=True)


def _pair_by_pair(values: FloatArray, estimate: Callable[[FloatArray, FloatArray], float]) -> Association:
    present = ~np.isnan(values)
    count = present.T.astype(np.int64) @ present.astype(np.int64)
    correlation = np.full(count.shape, np.nan)
    for i, j in pairs_of(values.shape[1]):
        both = present[:, i] & present[:, j]
        x, y = values[both, i], values[both, j]
        if len(x) > 1 and np.ptp(x) > CONSTANT_RANGE and np.ptp(y) > CONSTANT_RANGE:
            correlation[i, j] = correlation[j, i] = np.clip(estimate(x, y), -1.0, 1.0)
    return Association(correlation, count)

"""The block bootstrap of correlations: what their error is when returns are neither normal nor independent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from tonsurance_risk.core.association import pairs_of
from tonsurance_risk.model import BoolArray, FloatArray, IntArray, read_only

LEVEL = 0.95
MOST_STARTS = 512
"""Of long series only so many blocks, evenly spaced, can be drawn: the cost does not grow with their length."""
_PAIRS_AT_ONCE = 64
_UNIT = 1.0 - 1e-12
"""Beyond it a correlation counts as one: rounding is all that it has of an error."""
_SAME = attrs.cmp_using(eq=np.array_equal)


def _floats(values: Any) -> FloatArray:
    return read_only(values, np.float64)


@attrs.frozen
class BootstrapIntervals:
    """95 % intervals of the correlations of a matrix, by a block bootstrap.

    Parameters
    ----------
    low, high : ndarray of shape (n_assets, n_assets)
        -1 and 1 for default pairs and where the resamples do not support an end.
    n_resamples, block_length, seed : int
        How often, in blocks of how many rows, and from which seed.
    """

    low: FloatArray = attrs.field(converter=_floats, eq=_SAME, repr=False)
    high: FloatArray = attrs.field(converter=_floats, eq=_SAME, repr=False)
    n_resamples: int
    block_length: int
    seed: int

    def select(self, at: list[int]) -> BootstrapIntervals:
        """Return the intervals of the assets at these positions."""
        grid = np.ix_(at, at)
        return attrs.evolve(self, low=self.low[grid], high=self.high[grid])


@attrs.frozen
class BlockResampling:
    """Which blocks of consecutive rows each resample draws, of a series that is closed to a circle.

    Parameters
    ----------
    n_rows, block_length : int
        Rows of the series and of a block.
    starts : ndarray of int of shape (n_starts,)
        Where the blocks that can be drawn begin.
    counts : ndarray of shape (n_resamples, n_starts)
        How often each block is drawn.
    """

    n_rows: int
    block_length: int
    starts: IntArray
    counts: FloatArray

    @classmethod
    def draw(cls, n_rows: int, block_length: int, n_resamples: int, seed: int) -> BlockResampling:
        """Draw as many blocks for each resample as fill the series."""
        n_starts = min(n_rows, MOST_STARTS)
        starts = np.arange(n_starts) * n_rows // n_starts
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))
        n_blocks = max(2, round(n_rows / block_length))
        counts = rng.multinomial(n_blocks, np.full(n_starts, 1.0 / n_starts), size=n_resamples)
        return cls(n_rows, block_length, starts, counts.astype(np.float64))

    def block_sums(self, columns: FloatArray) -> FloatArray:
        """Return the sums over each block of columns of shape (n_rows, n_columns)."""
        circle = np.concatenate([np.zeros((1, columns.shape[1])), columns, columns[: self.block_length]])
        reached = np.cumsum(circle, axis=0)
        return np.asarray(reached[self.starts + self.block_length] - reached[self.starts])

    def sums(self, blocks: FloatArray) -> FloatArray:
        """Return the sums over each resample of `block_sums`."""
        return np.asarray(self.counts @ blocks)


def bootstrap_intervals(
    values: FloatArray, correlation: FloatArray, defined: BoolArray, *, n_resamples: int, seed: int
) -> BootstrapIntervals:
    """Return intervals of Pearson correlations over pairwise complete rows.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_assets)
        Returns, NaN where there is none, in order of time.
    correlation : ndarray of shape (n_assets, n_assets)
        The estimates.
    defined : ndarray of bool of shape (n_assets, n_assets)
        Which of them are estimates; the others have [-1, 1].
    n_resamples, seed : int
        How many resamples, from which seed.

    Returns
    -------
    BootstrapIntervals

    Notes
    -----
    The symmetric percentile-t interval of z = atanh r: z -+ h s, where s is the standard error of z from the sums
    of its influence function over blocks, and h the 95 % quantile over the resamples of abs(z* - z) / s*. The
    influence of a row with standardised returns a, b on r is ab - r (a^2 + b^2) / 2, and on z that over 1 - r^2.
    All pairs share the blocks, drawn from a circle. They are n^(1/3) rows long, and longer where influences are
    autocorrelated: (2 phi / (1 - phi^2))^(2/3) n^(1/3) for the largest lag-one autocorrelation phi of a pair, at
    most n / 5. A resample in which a series does not move counts as infinitely far away.

    Influence is linear in the moments of a block, so that s* needs the sums of products of moments alone: one
    matrix product for all pairs and resamples, O(n_pairs (n_rows + n_resamples min(n_rows, 512))).

    References
    ----------
    P. Hall, "On symmetric bootstrap confidence intervals", J. R. Statist. Soc. B 50 (1988) 35-45.
    F. Goetze, H. R. Kuensch, "Second-order correctness of the blockwise bootstrap for stationary observations",
    Annals of Statistics 24 (1996) 1914-1933, doi:10.1214/aos/1069362303.
    E. Carlstein, "The use of subseries values for estimating the variance of a general statistic from a stationary
    sequence", Annals of Statistics 14 (1986) 1171-1179, doi:10.1214/aos/1176350057, for the length of a block.
    """
    low, high = np.full(correlation.shape, -1.0), np.full(correlation.shape, 1.0)
    pairs = np.array([pair for pair in pairs_of(len(correlation)) if defined[pair]], dtype=int).reshape(-1, 2)
    length = block_length(values, correlation, pairs)
    resampling = BlockResampling.draw(len(values), length, n_resamples, seed)
    for some in _chunks(pairs):
        i, j = some.T
        r = correlation[i, j]
        ends = _symmetric_t(resampling, pair_columns(values, i, j), r)
        for table, end in zip((low, high), ends, strict=True):
            table[i, j] = table[j, i] = np.where(np.abs(r) >= _UNIT, r, end)
    for table in (low, high):
        np.fill_diagonal(table, 1.0)
    return BootstrapIntervals(low, high, n_resamples, length, seed)


def resampled_correlations(
    values: FloatArray, correlation: FloatArray, defined: BoolArray, *, n_resamples: int, seed: int
) -> FloatArray:
    """Return the matrices of block resamples, shape (n_resamples, n_assets, n_assets).

    A pair that is not defined, or not in a resample, keeps its entry of `correlation`.
    """
    matrices = np.broadcast_to(correlation, (n_resamples, *correlation.shape)).copy()
    pairs = np.array([pair for pair in pairs_of(len(correlation)) if defined[pair]], dtype=int).reshape(-1, 2)
    length = block_length(values, correlation, pairs)
    resampling = BlockResampling.draw(len(values), length, n_resamples, seed)
    for some in _chunks(pairs):
        i, j = some.T
        columns = pair_columns(values, i, j)
        blocks = resampling.block_sums(columns.reshape(len(values), -1))
        moments = resampling.sums(blocks).reshape(n_resamples, 6, -1)
        r = correlation_of_moments(moments)
        matrices[:, i, j] = matrices[:, j, i] = np.where(np.isnan(r), correlation[i, j], r)
    return matrices


def block_length(values: FloatArray, correlation: FloatArray, pairs: IntArray) -> int:
    """Return how many rows a block has; see `bootstrap_intervals`."""
    n = len(values)
    largest = 0.0
    for some in _chunks(pairs):
        i, j = some.T
        _, _, _, squares_a, squares_b, products = np.moveaxis(pair_columns(values, i, j), 1, 0)
        influence = products - correlation[i, j] * (squares_a + squares_b) / 2.0
        total = np.sum(influence**2, axis=0)
        lagged = np.sum(influence[1:] * influence[:-1], axis=0)
        largest = max(largest, float(np.max(lagged[total > 0.0] / total[total > 0.0], initial=0.0)))
    largest = min(largest, 0.99)
    factor = math.pow(2.0 * largest / (1.0 - largest**2), 2.0 / 3.0)
    return max(1, min(math.ceil(max(1.0, factor) * math.cbrt(n)), n // 5))


def correlation_of_moments(moments: FloatArray) -> FloatArray:
    """Return the correlations of sums of 1, a, b, a^2, b^2, ab along axis 1; NaN where a series is still."""
    n, a, b, aa, bb, ab = np.moveaxis(moments, 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variation_a, variation_b = aa / n - (a / n) ** 2, bb / n - (b / n) ** 2
        moves = (n >= 2.0) & (variation_a > 1e-12) & (variation_b > 1e-12)
        r = (ab / n - a * b / n**2) / np.sqrt(variation_a * variation_b)
    return np.where(moves, np.clip(r, -1.0, 1.0), np.nan)


def _chunks(pairs: IntArray) -> Iterator[IntArray]:
    return (pairs[k : k + _PAIRS_AT_ONCE] for k in range(0, len(pairs), _PAIRS_AT_ONCE))


def pair_columns(values: FloatArray, i: IntArray, j: IntArray) -> FloatArray:
    """Return 1, a, b, a^2, b^2, ab of pairs standardised over their common rows, 0 elsewhere.

    The shape is (n_rows, 6, n_pairs).
    """
    both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
    n = np.maximum(both.sum(axis=0), 1)
    columns = np.empty((len(values), 6, len(i)))
    columns[:, 0] = both
    for k, side in ((1, i), (2, j)):
        x = np.where(both, values[:, side], 0.0)
        x /= np.maximum(np.abs(x).max(axis=0, initial=0.0), np.finfo(float).tiny)
        x -= x.sum(axis=0) / n
        x[~both] = 0.0
        columns[:, k] = x / np.maximum(np.sqrt(np.sum(x * x, axis=0) / n), np.finfo(float).tiny)
    columns[:, 3], columns[:, 4] = columns[:, 1] ** 2, columns[:, 2] ** 2
    columns[:, 5] = columns[:, 1] * columns[:, 2]
    return columns


def _symmetric_t(resampling: BlockResampling, columns: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the intervals of pairs."""
    n_pairs = columns.shape[2]
    blocks = resampling.block_sums(columns.reshape(resampling.n_rows, -1)).reshape(-1, 6, n_pairs)
    one, other = np.triu_indices(6)
    squared = blocks[:, one] * blocks[:, other]
    sums = resampling.sums(np.concatenate([blocks, squared], axis=1).reshape(len(blocks), -1))
    moments, products = np.split(sums.reshape(len(sums), -1, n_pairs), [6], axis=1)

    whole = columns.sum(axis=0)[None]
    per_series = resampling.n_rows / resampling.block_length / len(blocks)
    inside = np.clip(r, -_UNIT, _UNIT)
    error = _standard_error(whole, squared.sum(axis=0)[None] * per_series, inside[None], one, other)[0]
    drawn = correlation_of_moments(moments)
    drawn[np.abs(drawn) >= _UNIT] = np.nan
    errors = _standard_error(moments, products, drawn, one, other)
    z = np.arctanh(inside)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.abs(np.arctanh(drawn) - z) / errors
    distance[~np.isfinite(distance)] = np.inf
    rank = math.ceil(LEVEL * (len(distance) + 1))
    half = np.partition(distance, min(rank, len(distance)) - 1, axis=0)[min(rank, len(distance)) - 1]
    width = np.where(error > 0.0, half, np.inf) * np.maximum(error, np.finfo(float).tiny)
    return np.tanh(z - width), np.tanh(z + width)


def _standard_error(
    moments: FloatArray, products: FloatArray, r: FloatArray, one: IntArray, other: IntArray
) -> FloatArray:
    """Return the standard error of atanh r from the sums over blocks of the products of their moments."""
    n, a, b, aa, bb, _ = np.moveaxis(moments, 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_a, mean_b = a / n, b / n
        variation_a, variation_b = aa / n - mean_a**2, bb / n - mean_b**2
        scale = np.sqrt(variation_a * variation_b)
        # Influence of a row on r, as a linear function of 1, a, b, a^2, b^2, ab.
        weights = np.stack(
            [
                mean_a * mean_b / scale - r / 2.0 * (mean_a**2 / variation_a + mean_b**2 / variation_b),
                r * mean_a / variation_a - mean_b / scale,
                r * mean_b / variation_b - mean_a / scale,
                -r / (2.0 * variation_a),
                -r / (2.0 * variation_b),
                1.0 / scale,
            ],
            axis=1,
        )
        twice = np.where(one == other, 1.0, 2.0)[:, None]
        spread = np.sum(twice * weights[:, one] * weights[:, other] * products, axis=1)
        return np.asarray(np.sqrt(np.maximum(spread, 0.0)) / (n * (1.0 - r**2)))

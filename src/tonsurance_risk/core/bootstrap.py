"""The block bootstrap of correlations: what their error is when returns are neither normal nor independent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from scipy import special

from tonsurance_risk.core.association import pairs_of
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, read_only

ALL_STARTS = 512
"""Up to so many rows a block may begin at each of them. Of longer series blocks begin a quarter of their length
apart, so that every row lies in four of them, or five where the circle closes."""
_PAIRS_AT_ONCE = 64
_PARTS = 16
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
        How often, in blocks of at most how many rows (pairs that share a part of the rows only have shorter ones),
        and from which seed.
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
    n_rows, block_length, n_blocks : int
        Rows of the series and of a block, and how many blocks are drawn for a resample.
    starts : ndarray of int of shape (n_starts,)
        Where the blocks that can be drawn begin.
    counts : ndarray of shape (n_resamples, n_starts)
        How often each block is drawn.
    """

    n_rows: int
    block_length: int
    n_blocks: int
    starts: IntArray
    counts: FloatArray

    @classmethod
    def draw(cls, n_rows: int, block_length: int, n_resamples: int, seed: int) -> BlockResampling:
        """Draw as many blocks for each resample as fill the series."""
        starts = np.arange(0, n_rows, 1 if n_rows <= ALL_STARTS else max(block_length // 4, 1))
        n_starts = len(starts)
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))
        n_blocks = max(2, round(n_rows / block_length))
        counts = rng.multinomial(n_blocks, np.full(n_starts, 1.0 / n_starts), size=n_resamples)
        return cls(n_rows, block_length, n_blocks, starts, counts.astype(np.float64))

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
    The expanded percentile interval: the quantiles p and 1 - p over the resamples, where p, 2.5 % for many blocks,
    is ``Phi(-sqrt(k / (k - 1)) t)`` for k blocks and the 97.5 % quantile t of Student's distribution with k - 1
    degrees of freedom, which makes up for how little few blocks vary. A resample in which a series does not move
    supports any correlation: it counts as -1 for the low end and as 1 for the high one.

    All pairs share the blocks, drawn from the rows closed to a circle. They are 2 n^(1/3) rows long, and longer
    where the influence of the rows is autocorrelated: that times (2 phi / (1 - phi^2))^(2/3) for the largest
    lag-one autocorrelation phi of a pair, at most n / 5. The influence of a row with standardised returns a, b is
    ab - r (a^2 + b^2) / 2.

    Pairs of coins that were observed in a part of the rows only are resampled in that part, in twentieths. The
    cost is O(n_pairs n_resamples n_rows / block_length), in matrix products.

    References
    ----------
    T. C. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015) 371-386,
    doi:10.1080/00031305.2015.1089789, for the expansion. D. N. Politis, J. P. Romano, "A circular block-resampling
    procedure for stationary data", in: Exploring the Limits of Bootstrap (Wiley, 1992) 263-270. E. Carlstein, "The
    use of subseries values for estimating the variance of a general statistic from a stationary sequence", Annals
    of Statistics 14 (1986) 1171-1179, doi:10.1214/aos/1176350057, for the length of a block.
    """
    low, high = np.full(correlation.shape, -1.0), np.full(correlation.shape, 1.0)
    length = 1
    for rows, pairs in _by_span(values, defined):
        part = resample_correlations(values[rows], correlation, pairs, n_resamples=n_resamples, seed=seed)
        length = max(length, part.blocks.block_length)
        for i, j, r in part.chunks():
            estimate = correlation[i, j]
            ends = part.interval(np.where(np.isnan(r), -1.0, r), np.where(np.isnan(r), 1.0, r))
            for table, end in zip((low, high), ends, strict=True):
                table[i, j] = table[j, i] = np.where(np.abs(estimate) >= _UNIT, estimate, end)
    for table in (low, high):
        np.fill_diagonal(table, 1.0)
    return BootstrapIntervals(low, high, n_resamples, length, seed)


def _by_span(values: FloatArray, defined: BoolArray) -> Iterator[tuple[slice, BoolArray]]:
    """Yield the stretches of rows that pairs have in common, and which pairs have each.

    They are rounded to parts of their own length, so that most pairs share one.

    A coin that was listed late is resampled in its own time: blocks without a row of it say nothing.
    """
    n = len(values)
    present = ~np.isnan(values)
    spans: dict[tuple[int, int], BoolArray] = {}
    for i, j in _positions(defined):
        both = np.flatnonzero(present[:, i] & present[:, j])
        first, last = int(both[0]), int(both[-1]) + 1
        unit = 1 << max((last - first) // _PARTS, 1).bit_length() - 1
        span = first // unit * unit, min(-(-last // unit) * unit, n)
        spans.setdefault(span, np.zeros_like(defined))[i, j] = True
    for (first, last), pairs in spans.items():
        yield slice(first, last), pairs


@attrs.frozen
class ResampledCorrelations:
    """Correlations of block resamples.

    Parameters
    ----------
    blocks : BlockResampling
        What was drawn.
    pairs : ndarray of int of shape (n_pairs, 2)
        Positions of the assets of each pair that is estimated.
    values : ndarray of shape (n_rows, n_assets)
        The returns.
    correlation : ndarray of shape (n_assets, n_assets)
        The estimates.
    """

    blocks: BlockResampling
    pairs: IntArray
    values: FloatArray
    correlation: FloatArray

    def chunks(self) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        """Yield positions of some pairs and their resamples, NaN where a series does not move in one."""
        for some in _chunks(self.pairs):
            i, j = some.T
            columns = pair_columns(self.values, i, j).reshape(len(self.values), -1)
            sums = self.blocks.sums(self.blocks.block_sums(columns))
            yield i, j, correlation_of_moments(sums.reshape(len(sums), 6, -1))

    def matrices(self) -> FloatArray:
        """Return whole matrices, (n_resamples, n_assets, n_assets); what is not in a resample is as estimated.

        They take 8 n_resamples n_assets^2 bytes: 1.6 MB for 14 coins, 8 GB for 1,000.
        """
        tables = np.repeat(self.correlation[None], len(self.blocks.counts), axis=0)
        for i, j, r in self.chunks():
            tables[:, i, j] = tables[:, j, i] = np.where(np.isnan(r), self.correlation[i, j], r)
        return tables

    def interval(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the 95 % interval of a number over the resamples, the first axis; see `bootstrap_intervals`."""
        k = self.blocks.n_blocks
        beyond = special.ndtr(-math.sqrt(k / (k - 1.0)) * special.stdtrit(k - 1.0, 0.975))
        return np.quantile(low, beyond, axis=0), np.quantile(high, 1.0 - beyond, axis=0)


def resample_correlations(
    values: FloatArray, correlation: FloatArray, defined: BoolArray, *, n_resamples: int, seed: int
) -> ResampledCorrelations:
    """Return the resamples of correlations; the arguments are those of `bootstrap_intervals`."""
    pairs = _positions(defined)
    blocks = BlockResampling.draw(len(values), block_length(values, correlation, pairs), n_resamples, seed)
    return ResampledCorrelations(blocks, pairs, values, correlation)


def _positions(defined: BoolArray) -> IntArray:
    """Return the positions of the pairs that are defined, shape (n_pairs, 2)."""
    return np.array([pair for pair in pairs_of(len(defined)) if defined[pair]], dtype=int).reshape(-1, 2)


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
    rows = max(1, min(math.ceil(2.0 * max(1.0, factor) * math.cbrt(n) - 1e-9), n // 5))
    return rows if n <= ALL_STARTS else -(-rows // 4) * 4


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

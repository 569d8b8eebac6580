"""A change of correlation: the mission's rule, and tests with a stated error rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd
import scipy

from tonsurance_risk.core.association import pairs_of
from tonsurance_risk.core.bootstrap import correlation_of_moments, resample_correlations
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.windows import LONGEST_WINDOW, MOST_RESAMPLES, correlation_matrix, timed_returns
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.values import FloatArray, IntArray, as_utc, iso, whole, within

REGIME_MEAN, REGIME_RISE = 0.8, 0.20
_PERMUTATIONS_AT_ONCE = 256
RESAMPLES = 999
_NEARLY_ONE = 1.0 - 1e-9
"""Where atanh is cut off, so that two perfect correlations do not differ by rounding."""


@attrs.frozen(kw_only=True)
class RegimeChange:
    """How the correlations of a recent window differ from those of the window before it.

    Parameters
    ----------
    as_of : Timestamp
        End of the recent window.
    recent_days, baseline_days : int
        Lengths of the windows [days]; the baseline ends where the recent one begins.
    n_recent, n_baseline : int
        Their rows.
    recent_mean, baseline_mean : tuple of float
        Mean correlation of the pairs that both estimate: value, low, high (95 %).
    changed : bool
        The rule: the recent mean is above 0.8 and more than 20 % above the baseline's.
    p_value : float
        Of the test that no correlation changed.
    level : float
        The error rate of the tests.
    pairs : DataFrame
        asset_1, asset_2, recent, baseline, change, p_value, p_adjusted (Benjamini-Hochberg), significant.
    n_permutations, block_length, seed : int
        How often blocks of how many rows were exchanged, and from which seed.
    n_resamples : int
        Of the block bootstrap of the means' intervals.
    """

    as_of: pd.Timestamp
    recent_days: int
    baseline_days: int
    n_recent: int
    n_baseline: int
    recent_mean: tuple[float, float, float]
    baseline_mean: tuple[float, float, float]
    changed: bool
    p_value: float
    level: float
    pairs: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    n_permutations: int
    block_length: int
    seed: int
    n_resamples: int = RESAMPLES

    @property
    def significant(self) -> bool:
        """Whether the test rejects at `level` that no correlation changed."""
        return self.p_value <= self.level

    def to_frame(self) -> pd.DataFrame:
        """Return `pairs`."""
        return self.pairs.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types; the means as value, low and high."""
        document = attrs.asdict(self, recurse=False, filter=attrs.filters.exclude("pairs", "as_of"))
        for name in ("recent_mean", "baseline_mean"):
            document |= dict(zip((name, f"{name}_low", f"{name}_high"), document[name], strict=True))
        return {
            "as_of": iso(self.as_of),
            **document,
            "significant": self.significant,
            "method": "studentised block permutation; means: expanded percentiles of a block bootstrap",
            "pairs": self.pairs.to_dict("records"),
        }


def correlation_regime_change(
    returns: pd.DataFrame,
    *,
    recent: int = 30,
    baseline: int = 335,
    as_of: datetime | None = None,
    level: float = 0.05,
    min_observations: int = 20,
    n_permutations: int = 4999,
    seed: int = 0,
) -> RegimeChange:
    """Return whether correlations changed, by the rule of the mean and by tests.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        Returns with UTC stamps, NaN where there is none.
    recent, baseline : int
        Lengths of the windows [days]: ``(as_of - recent, as_of]``, and the baseline just before it. They never
        overlap, which a test of one against the other needs.
    as_of : datetime, optional
        The last stamp when not given.
    level : float
        Error rate of the tests, in (0, 1).
    min_observations : int
        A pair needs so many common rows in each window.
    n_permutations : int
        Exchanges of blocks, at least 19.
    seed : int
        Of the exchanges.

    Returns
    -------
    RegimeChange

    Raises
    ------
    InsufficientDataError
        If a window has fewer than two rows, or no pair is estimated in both.
    InvalidPriceError
        If the stamps are not increasing UTC times, or a return is text or infinite.
    ValueError
        If an option is outside what is accepted.

    Notes
    -----
    The rule is that of the mission: mean recent correlation > 0.8 and > 1.2 times the baseline's.

    The tests exchange blocks of n^(1/3) rows between the windows. The statistic of a pair is the distance of atanh
    r over its standard error from the influence function, that of the matrix the mean of their squares. An
    exchange that leaves a pair fewer than `min_observations` rows on a side says nothing of it. A p-value is (1 +
    number of exchanges at least as far) / (1 + number of exchanges), at least as large as a uniform number if
    blocks are exchangeable, whatever their distribution: the matrix test then rejects falsely with at most
    `level`, and of the pairs called significant at most that share is false on average (Benjamini-Hochberg). The
    standard error makes the test hold in large samples where only the volatility changed, too.

    References
    ----------
    B. Phipson, G. K. Smyth, "Permutation p-values should never be zero", Statistical Applications in Genetics and
    Molecular Biology 9 (2010) 39, doi:10.2202/1544-6115.1585. C. J. DiCiccio, J. P. Romano, "Robust permutation
    tests for correlation and regression coefficients", J. Am. Statist. Assoc. 112 (2017) 1211-1220,
    doi:10.1080/01621459.2016.1202117, for the standard error. Y. Benjamini, Y. Hochberg, "Controlling the false
    discovery rate", J. R. Statist. Soc. B 57 (1995) 289-300.

    Examples
    --------
    >>> days = pd.date_range("2023-01-01", periods=365, tz="UTC")
    >>> rng = np.random.default_rng(0)
    >>> returns = pd.DataFrame(rng.normal(0, 1e-3, (365, 3)), index=days, columns=["DAI", "USDC", "USDT"])
    >>> returns.iloc[-60:, 1] = returns.iloc[-60:, 0] + 1e-4 * rng.normal(size=60)
    >>> change = correlation_regime_change(returns, recent=60, baseline=300)
    >>> change.changed, change.significant, change.pairs.loc[change.pairs["significant"], "asset_2"].tolist()
    (False, True, ['USDC'])
    """
    lengths = whole(recent, "recent", 1, LONGEST_WINDOW), whole(baseline, "baseline", 1, LONGEST_WINDOW)
    within(level, "level", 0.0, 1.0, open_low=True)
    n_permutations = whole(n_permutations, "n_permutations", 19, MOST_RESAMPLES)
    seed = whole(seed, "seed", 0, MOST_SEED)
    frame = timed_returns(returns)
    frame = frame[sorted(frame.columns)]
    if not len(frame):
        raise InsufficientDataError("a regime change needs returns, found no rows", observed=0, required=2)
    end = frame.index[-1] if as_of is None else as_utc(as_of, "as_of")
    windows = _windows(frame, end, *lengths)
    matrices = [correlation_matrix(window, min_observations=min_observations) for window in windows]
    i, j = _common_pairs(matrices, min_observations, end)
    scaled = _standardised(np.concatenate([window.to_numpy() for window in windows]))
    parts = np.split(scaled, [len(windows[0])])
    length = max(1, math.ceil(math.cbrt(len(scaled)) - 1e-9))
    observed, exchanged = _distances(parts, i, j, length, min_observations, n_permutations, seed)
    # Of a pair only the exchanges count that leave it enough rows on both sides, as the windows themselves do.
    defined = ~np.isnan(exchanged)
    p_values = (1.0 + (exchanged >= observed).sum(axis=0)) / (1.0 + defined.sum(axis=0))
    adjusted = scipy.stats.false_discovery_control(p_values, method="bh")
    squares = np.where(defined, exchanged, 0.0) ** 2
    mean_squares = squares.sum(axis=1) / np.maximum(defined.sum(axis=1), 1)
    together = (mean_squares >= np.mean(observed**2)).sum()
    now, before = (matrix.values[i, j] for matrix in matrices)
    means = [
        _mean_with_interval(window.to_numpy(), matrix, i, j, seed)
        for window, matrix in zip(windows, matrices, strict=True)
    ]
    return RegimeChange(
        as_of=end,
        recent_days=lengths[0],
        baseline_days=lengths[1],
        n_recent=len(windows[0]),
        n_baseline=len(windows[1]),
        recent_mean=means[0],
        baseline_mean=means[1],
        changed=means[0][0] > REGIME_MEAN and means[0][0] > (1.0 + REGIME_RISE) * means[1][0],
        p_value=float((1.0 + together) / (1.0 + n_permutations)),
        level=float(level),
        pairs=pd.DataFrame(
            {
                "asset_1": [matrices[0].assets[k] for k in i],
                "asset_2": [matrices[0].assets[k] for k in j],
                "recent": now,
                "baseline": before,
                "change": now - before,
                "p_value": p_values,
                "p_adjusted": adjusted,
                "significant": adjusted <= level,
            }
        ),
        n_permutations=n_permutations,
        block_length=length,
        seed=seed,
    )


def _windows(frame: pd.DataFrame, end: pd.Timestamp, recent: int, baseline: int) -> list[pd.DataFrame]:
    border = end - timedelta(days=recent)
    bounds = {"recent": (border, end), "baseline": (border - timedelta(days=baseline), border)}
    windows = []
    for name, (begin, last) in bounds.items():
        window = frame[(frame.index > begin) & (frame.index <= last)]
        if len(window) < 2:
            raise InsufficientDataError(
                f"the {name} window from {iso(begin)} to {iso(last)} holds {len(window)} row(s) of returns, "
                f"at least 2 are needed",
                time=last,
                observed=len(window),
                required=2,
            )
        windows.append(window)
    return windows


def _common_pairs(
    matrices: list[CorrelationMatrix], min_observations: int, end: pd.Timestamp
) -> tuple[IntArray, IntArray]:
    estimated = ~(matrices[0].is_default | matrices[1].is_default)
    pairs = [pair for pair in pairs_of(len(estimated)) if estimated[pair]]
    if not pairs:
        raise InsufficientDataError(
            f"no pair has {min_observations} common rows in both windows up to {iso(end)}",
            time=end,
            observed=0,
            required=min_observations,
        )
    i, j = np.array(pairs).T
    return i, j


def _standardised(values: FloatArray) -> FloatArray:
    """Return series with mean 0 and standard deviation 1, a still one as 0; NaN stays."""
    moves = np.nanmax(values, axis=0, initial=-np.inf) > np.nanmin(values, axis=0, initial=np.inf)
    scaled = np.where(np.isnan(values), np.nan, 0.0)
    some = values[:, moves]
    scaled[:, moves] = (some - np.nanmean(some, axis=0)) / np.nanstd(some, axis=0)
    return scaled


def _distances(
    parts: Sequence[FloatArray],
    i: IntArray,
    j: IntArray,
    length: int,
    least: int,
    n_permutations: int,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Return the distances of the pairs between the windows, and those after each exchange of blocks.

    NaN stands where an exchange leaves a pair fewer than `least` rows on a side, or a side on which it is still.
    """
    blocks = [_block_moments(part, i, j, length) for part in parts]
    table, n_recent = np.concatenate(blocks), len(blocks[0])
    flat, total = table.reshape(len(table), -1), table.sum(axis=0)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))

    def distance(chosen: FloatArray) -> FloatArray:
        recent = (chosen @ flat).reshape(-1, *total.shape)
        distance = _studentised(recent, total - recent)
        rows = np.minimum(recent[:, 0], total[0] - recent[:, 0])
        return np.where(rows >= least, distance, np.nan)

    own = np.zeros((1, len(table)))
    own[0, :n_recent] = 1.0
    exchanged = []
    for done in range(0, n_permutations, _PERMUTATIONS_AT_ONCE):
        some = min(_PERMUTATIONS_AT_ONCE, n_permutations - done)
        exchanged.append(distance(rng.permuted(np.repeat(own, some, axis=0), axis=1)))
    return distance(own)[0], np.concatenate(exchanged)


def _studentised(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the distances of atanh r between two sides, from their moments, over their standard errors."""
    (z_one, variance_one), (z_other, variance_other) = _fisher_z(one), _fisher_z(other)
    away = np.abs(z_one - z_other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(away == 0.0, 0.0, away / np.sqrt(variance_one + variance_other))


def _fisher_z(moments: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return atanh r and its variance, that of the influence ab - r (a^2 + b^2) / 2 over n (1 - r^2)^2."""
    n = moments[:, 0]
    r = np.clip(correlation_of_moments(moments[:, :6]), -_NEARLY_ONE, _NEARLY_ONE)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b, aa, bb, ab, aaa, aab, abb, bbb, aaaa, aaab, aabb, abbb, bbbb = np.moveaxis(moments[:, 1:], 1, 0) / n
        va, vb = aa - a**2, bb - b**2
        scale = np.sqrt(va * vb)
        # The fourth moments about the means.
        a4 = aaaa - 4.0 * a * aaa + 6.0 * a**2 * aa - 3.0 * a**4
        b4 = bbbb - 4.0 * b * bbb + 6.0 * b**2 * bb - 3.0 * b**4
        a3b = aaab - b * aaa - 3.0 * a * aab + 3.0 * a * b * aa + 3.0 * a**2 * ab - 3.0 * a**3 * b
        ab3 = abbb - a * bbb - 3.0 * b * abb + 3.0 * a * b * bb + 3.0 * b**2 * ab - 3.0 * a * b**3
        a2b2 = aabb - 2.0 * (b * aab + a * abb) + b**2 * aa + a**2 * bb + 4.0 * a * b * ab - 3.0 * (a * b) ** 2
        squared = (
            a2b2 / scale**2
            - r * (a3b / (va * scale) + ab3 / (vb * scale))
            + r**2 / 4.0 * (a4 / va**2 + 2.0 * a2b2 / scale**2 + b4 / vb**2)
        )
        return np.arctanh(r), np.maximum(squared, 0.0) / (n * (1.0 - r**2) ** 2)


def _block_moments(values: FloatArray, i: IntArray, j: IntArray, length: int) -> FloatArray:
    """Return sums over blocks of nearly equal length of 1, a, b and their products up to the fourth order.

    The shape is (n_blocks, 15, n_pairs), in the order of `_fisher_z`.
    """
    both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
    a, b = (np.where(both, values[:, side], 0.0) for side in (i, j))
    aa, bb, ab = a * a, b * b, a * b
    third, fourth = (aa * a, aa * b, a * bb, bb * b), (aa * aa, aa * ab, aa * bb, ab * bb, bb * bb)
    columns = (both.astype(float), a, b, aa, bb, ab, *third, *fourth)
    n_blocks = max(1, round(len(values) / length))
    begins = np.arange(n_blocks) * len(values) // n_blocks
    return np.stack([np.add.reduceat(column, begins, axis=0) for column in columns], axis=1)


def _mean_with_interval(
    values: FloatArray, matrix: CorrelationMatrix, i: IntArray, j: IntArray, seed: int
) -> tuple[float, float, float]:
    resampled = resample_correlations(values, matrix.values, ~matrix.is_default, n_resamples=RESAMPLES, seed=seed)
    means = resampled.matrices()[:, i, j].mean(axis=1)
    low, high = resampled.interval(means, means)
    return float(matrix.values[i, j].mean()), float(low), float(high)

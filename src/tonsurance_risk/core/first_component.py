"""The mode that all coins share: the first principal component of their returns, and how sure its share is."""

from __future__ import annotations

import attrs
import numpy as np

from tonsurance_risk.core.association import pearson_of_tails
from tonsurance_risk.core.bootstrap import resample_correlations
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.values import FloatArray

_INDEPENDENT = 39
"""One of 40 is 2.5 %: so often a share above that of all 39 comes from coins that share nothing."""


@attrs.frozen(eq=False)
class CommonMode:
    """The first principal component of standardised returns.

    Parameters
    ----------
    share : float
        Of the variance, corrected for the bias that a largest eigenvalue has.
    low, high : float
        95 % interval.
    reproduced : ndarray of shape (n_assets, n_assets)
        The correlations that it alone would give.
    """

    share: float
    low: float
    high: float
    reproduced: FloatArray


def common_mode(values: FloatArray, matrix: CorrelationMatrix, *, n_resamples: int, seed: int) -> CommonMode:
    """Return the first principal component of returns.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_assets)
        Returns, NaN where there is none, in order of time.
    matrix : CorrelationMatrix
        Their correlation.
    n_resamples, seed : int
        Of the block bootstrap.

    Notes
    -----
    The largest of p eigenvalues over p. It is biased upwards, as its resamples are once more, so that their
    distance corrects it: the basic bootstrap interval, between 1 / p and 1. Where the share is not above that of
    39 panels whose columns were shifted in time against each other, which leaves each column as it is and nothing
    in common, nothing shows that there is a common mode, and the interval begins at 1 / p.

    References
    ----------
    A. C. Davison, D. V. Hinkley, "Bootstrap methods and their application" (Cambridge, 1997), sections 2.1 and
    5.2.
    """
    p = len(matrix.assets)
    eigenvalues, vectors = np.linalg.eigh(matrix.values)
    share = float(eigenvalues[-1]) / p
    defined = ~matrix.is_default
    resampled = resample_correlations(values, matrix.values, defined, n_resamples=n_resamples, seed=seed)
    drawn = np.linalg.eigvalsh(resampled.matrices())[:, -1] / p
    ends = resampled.interval(drawn, drawn)
    mirrored = (2.0 * share - float(end) for end in (drawn.mean(), ends[1], ends[0]))
    corrected, low, high = (min(max(end, 1.0 / p), 1.0) for end in mirrored)
    if share <= _largest_of_independent(values, matrix, seed):
        low = 1.0 / p
    first = vectors[:, -1]
    return CommonMode(corrected, low, high, float(eigenvalues[-1]) * np.outer(first, first))


def _largest_of_independent(values: FloatArray, matrix: CorrelationMatrix, seed: int) -> float:
    """Return the largest share of panels whose columns were shifted in time against each other."""
    n, p = values.shape
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(1,))))
    shares: list[float] = []
    for _ in range(_INDEPENDENT):
        rows = (np.arange(n)[:, None] + rng.integers(0, n, p)) % n
        [shifted] = pearson_of_tails(np.take_along_axis(values, rows, axis=0), [n])
        table = np.where(np.isnan(shifted.correlation), matrix.values, shifted.correlation)
        np.fill_diagonal(table, 1.0)
        shares.append(float(np.linalg.eigvalsh(table)[-1]) / p)
    return max(shares)

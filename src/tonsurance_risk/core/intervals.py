"""Sampling error of estimates from simulated losses, for plain and for stratified draws."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import special

from tonsurance_risk.core.correlation import NORMAL_95
from tonsurance_risk.core.measures import exact_level, tail_rank
from tonsurance_risk.core.measures import expected_shortfall as _expected_shortfall
from tonsurance_risk.core.measures import value_at_risk as _value_at_risk
from tonsurance_risk.model import BoolArray, Estimate, FloatArray

FEW_TAIL_LOSSES = 10
"""Below this expected number of losses beyond the level a note says so."""


@attrs.frozen
class Strata:
    """How the scenarios of a stratified sample were allocated.

    Parameters
    ----------
    index : ndarray of int of shape (n,)
        The scenario of each simulation.
    cumulated : ndarray of shape (n_scenarios,)
        Upper ends of the scenarios' shares.
    block_sizes : tuple of int
        The size of each block, sampled systematically with one random start each.
    """

    index: NDArray[np.integer[Any]]
    cumulated: FloatArray
    block_sizes: tuple[int, ...]

    @property
    def counts(self) -> FloatArray:
        """Simulations of each scenario, shape (n_scenarios,)."""
        return np.bincount(self.index, minlength=len(self.cumulated)).astype(np.float64)

    def allocation_variance(self, means: FloatArray) -> float:
        """Return the variance of the sum over the sample that the random starts cause.

        In a block of size B with start u, floor(B c_s) + [u < f_s] points lie below the upper end c_s of
        scenario s, f_s being the fraction of B c_s. The sum of the means m over the block is therefore a
        constant plus sum_s d_s [u < f_s], d_s = m_s - m_{s+1}, and for u uniform
        Cov([u < f_s], [u < f_t]) = min(f_s, f_t) - f_s f_t.
        """
        difference = means[:-1] - means[1:]
        total = 0.0
        sizes, repeats = np.unique(np.array(self.block_sizes), return_counts=True)
        for size, repeat in zip(sizes.tolist(), repeats.tolist(), strict=True):
            fraction = np.mod(size * self.cumulated[:-1], 1.0)
            covariance = np.minimum.outer(fraction, fraction) - np.outer(fraction, fraction)
            total += repeat * float(difference @ covariance @ difference)
        return max(total, 0.0)


def count_variance(hit: BoolArray, strata: Strata) -> float:
    """Return the variance of the number of hits in a stratified sample.

    Within a scenario of n_s draws and the share q_s it is n_s q_s (1 - q_s); the share is estimated as
    (hits + 1/2) / (n_s + 1), so that a scenario without a hit is not taken as certain to have none.
    """
    counts = strata.counts
    hits = np.bincount(strata.index, hit, minlength=len(counts))
    share = (hits + 0.5) / (counts + 1.0)
    return float(counts @ (share * (1.0 - share))) + strata.allocation_variance(share)


def mean_variance(values: FloatArray, strata: Strata | None) -> float:
    """Return the variance of the mean of `values`, of a plain sample where there are no strata.

    A scenario with fewer than two draws takes the variance of the whole sample.
    """
    n = len(values)
    if n < 2:
        return math.inf
    overall = float(np.var(values, ddof=1))
    if strata is None:
        return overall / n
    counts = strata.counts
    means = np.bincount(strata.index, values, minlength=len(counts)) / np.maximum(counts, 1.0)
    squares = np.bincount(strata.index, (values - means[strata.index]) ** 2, minlength=len(counts))
    variances = np.where(counts >= 2.0, squares / np.maximum(counts - 1.0, 1.0), overall)
    means[counts == 0.0] = float(values.mean())
    return (float(counts @ variances) + strata.allocation_variance(means)) / n**2


def quantile_estimate(losses: FloatArray, level: float, strata: Strata | None) -> Estimate:
    """Return the value at risk with an interval of two order statistics.

    The number of losses up to the true quantile is at least n * level on average; the ranks are those that it
    leaves with 2.5 % on either side: exactly binomial for a plain sample, normal with the variance of
    `count_variance` for a stratified one.
    """
    n = len(losses)
    share = exact_level(level)
    rank = tail_rank(n, level)
    value = _value_at_risk(losses, level)
    if strata is None:
        low_rank = int(_binomial_quantile(0.025, n, float(share)))
        high_rank = int(_binomial_quantile(0.975, n, float(share))) + 1
    else:
        variance = max(count_variance(losses <= value, strata), count_variance(losses < value, strata))
        half = NORMAL_95 * math.sqrt(variance)
        low_rank, high_rank = math.floor(float(n * share) - half), math.ceil(float(n * share) + half) + 1
    ordered = np.partition(losses, sorted({rank - 1, max(low_rank, 1) - 1, min(high_rank, n) - 1}))
    low = float(ordered[low_rank - 1]) if low_rank >= 1 else None
    high = float(ordered[high_rank - 1]) if high_rank <= n else None
    error = None if low is None or high is None else (high - low) / (2.0 * NORMAL_95)
    notes = _tail_notes(n, level)
    if low is None:
        notes.append("the sample is too small for a lower end")
    if high is None:
        notes.append("the sample is too small for an upper end")
    return Estimate(value, low, high, error, "; ".join(notes))


def shortfall_estimate(losses: FloatArray, level: float, strata: Strata | None) -> Estimate:
    """Return the expected shortfall with the interval of its influence function.

    With q the value at risk, the mean of ``q + (x - q)+ / (1 - level)`` is the expected shortfall and, q being
    its minimiser, the error of q does not count to first order.
    """
    value = _expected_shortfall(losses, level)
    tail = 1 - exact_level(level)
    if len(losses) * tail < 1:
        note = "; ".join([*_tail_notes(len(losses), level), "less than one loss: no interval"])
        return Estimate(value, None, None, None, note)
    quantile = _value_at_risk(losses, level)
    influence = np.maximum(losses - quantile, 0.0) / float(tail)
    return _normal_estimate(value, mean_variance(influence, strata), _tail_notes(len(losses), level))


def mean_estimate(losses: FloatArray, strata: Strata | None) -> Estimate:
    """Return the mean with its normal interval."""
    return _normal_estimate(float(losses.mean()), mean_variance(losses, strata), [])


def share_estimate(hit: BoolArray, strata: Strata | None) -> Estimate:
    """Return a share with the interval of Clopper and Pearson.

    For a stratified sample, whose count varies less than a binomial one of the same mean, it is conservative.

    References
    ----------
    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934) 404-413, doi:10.1093/biomet/26.4.404.
    """
    n, k = len(hit), int(hit.sum())
    low = float(special.betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    variance = mean_variance(hit.astype(np.float64), strata)
    error = math.sqrt(variance) if math.isfinite(variance) else None
    note = "" if strata is None else "Clopper-Pearson, conservative for a stratified sample"
    return Estimate(k / n, low, high, error, note)


def _normal_estimate(value: float, variance: float, notes: list[str]) -> Estimate:
    if not math.isfinite(variance):
        return Estimate(value, None, None, None, "; ".join([*notes, "one simulation has no standard error"]))
    error = math.sqrt(variance)
    return Estimate(value, value - NORMAL_95 * error, value + NORMAL_95 * error, error, "; ".join(notes))


def _tail_notes(n: int, level: float) -> list[str]:
    expected = float(n * (1 - exact_level(level)))
    if expected >= FEW_TAIL_LOSSES:
        return []
    return [f"only {expected:g} losses are expected beyond the level, at least {FEW_TAIL_LOSSES} are advisable"]


def _binomial_quantile(share: float, n: int, probability: float) -> float:
    """Return the smallest k with P(Binomial(n, probability) <= k) >= share."""
    guess = math.floor(special.bdtrik(share, n, probability))
    k = max(int(guess) - 1, 0)
    while special.bdtr(k, n, probability) < share:
        k += 1
    return k

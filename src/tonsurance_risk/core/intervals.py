"""Sampling error of estimates from simulated losses, for plain and for stratified draws."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import special

from tonsurance_risk.core.association import NORMAL_95
from tonsurance_risk.core.measures import exact_level, tail_rank
from tonsurance_risk.core.measures import expected_shortfall as _expected_shortfall
from tonsurance_risk.core.measures import value_at_risk as _value_at_risk
from tonsurance_risk.model import BoolArray, Estimate, FloatArray

FEW_TAIL_LOSSES = 10
"""Below this expected number of losses beyond the level a note says so."""


@attrs.frozen
class Strata:
    """The scenarios of a sample: what is known of them beside the losses that were drawn.

    Parameters
    ----------
    index : ndarray of int of shape (n,)
        The scenario of each simulation.
    cumulated : ndarray of shape (n_scenarios,)
        Upper ends of the scenarios' shares.
    level_losses : ndarray of shape (n_scenarios,)
        Loss at each scenario's levels, without shocks [USD]: what stands in for one that was never drawn.
    block_sizes : tuple of int, optional
        The size of each block, sampled systematically with one random start each; None for a plain sample,
        whose scenarios were drawn independently.
    """

    index: NDArray[np.integer[Any]]
    cumulated: FloatArray
    level_losses: FloatArray
    block_sizes: tuple[int, ...] | None

    @property
    def counts(self) -> FloatArray:
        """Simulations of each scenario, shape (n_scenarios,)."""
        return np.bincount(self.index, minlength=len(self.cumulated)).astype(np.float64)

    def means(self, values: FloatArray, level_values: FloatArray) -> FloatArray:
        """Return the mean of `values` in each scenario, `level_values` in one that was never drawn."""
        counts = self.counts
        sums = np.bincount(self.index, values, minlength=len(counts))
        return np.where(counts > 0.0, sums / np.maximum(counts, 1.0), level_values)

    def between(self, means: FloatArray) -> float:
        """Return the variance of the sum of the scenarios' means over the sample.

        Independent draws vary with the shares p: n sum p (m - m_bar)^2. In a block of size B with random start
        u, floor(B c_s) + [u < f_s] points lie below the upper end c_s of scenario s, f_s being the fraction of
        B c_s. The sum of the means m over the block is therefore a constant plus sum_s d_s [u < f_s],
        d_s = m_s - m_{s+1}, and for u uniform Cov([u < f_s], [u < f_t]) = min(f_s, f_t) - f_s f_t.
        """
        if self.block_sizes is None:
            shares = np.diff(self.cumulated, prepend=0.0)
            return len(self.index) * float(shares @ (means - shares @ means) ** 2)
        difference = means[:-1] - means[1:]
        total = 0.0
        sizes, repeats = np.unique(np.array(self.block_sizes), return_counts=True)
        for size, repeat in zip(sizes.tolist(), repeats.tolist(), strict=True):
            fraction = np.mod(size * self.cumulated[:-1], 1.0)
            covariance = np.minimum.outer(fraction, fraction) - np.outer(fraction, fraction)
            total += repeat * float(difference @ covariance @ difference)
        return max(total, 0.0)


def count_variance(hit: BoolArray, level_hit: BoolArray, strata: Strata) -> float:
    """Return the variance of the number of hits in a sample.

    Within a scenario of n_s draws and the share q_s it is n_s q_s (1 - q_s); the share is estimated as
    (hits + 1/2) / (n_s + 1), so that a scenario without a hit is not taken as certain to have none. Together
    that is at most n q (1 - q), the variance of independent draws, q being the share of all.
    """
    n, counts = len(hit), strata.counts
    hits = np.bincount(strata.index, hit, minlength=len(counts))
    share = (hits + 0.5) / (counts + 1.0)
    overall = (float(hit.sum()) + 0.5) / (n + 1.0)
    within = min(float(counts @ (share * (1.0 - share))), n * overall * (1.0 - overall))
    return within + strata.between(strata.means(hit.astype(np.float64), level_hit.astype(np.float64)))


def mean_variance(values: FloatArray, level_values: FloatArray, strata: Strata) -> float:
    """Return the variance of the mean of `values`.

    It is the variance within scenarios plus that of which scenarios were drawn. A scenario with fewer than two
    draws takes the variance of the whole sample, and one with none the value at its levels, so that a rare
    scenario counts although it was never drawn.
    """
    n = len(values)
    if n < 2:
        return math.inf
    counts = strata.counts
    means = strata.means(values, level_values)
    squares = np.bincount(strata.index, (values - means[strata.index]) ** 2, minlength=len(counts))
    variances = np.where(counts >= 2.0, squares / np.maximum(counts - 1.0, 1.0), float(np.var(values, ddof=1)))
    return (float(counts @ variances) + strata.between(means)) / n**2


def quantile_estimate(losses: FloatArray, level: float, strata: Strata) -> Estimate:
    """Return the value at risk with an interval of two order statistics.

    The number of losses up to the true quantile is at least n * level on average; the ranks are those that it
    leaves with 2.5 % on either side: exactly binomial for a plain sample, normal with the variance of
    `count_variance` for a stratified one.
    """
    n = len(losses)
    share = exact_level(level)
    rank = tail_rank(n, level)
    value = _value_at_risk(losses, level)
    if strata.block_sizes is None:
        low_rank = int(_binomial_quantile(0.025, n, float(share)))
        high_rank = int(_binomial_quantile(0.975, n, float(share))) + 1
    else:
        at_levels = strata.level_losses
        variance = max(
            count_variance(losses <= value, at_levels <= value, strata),
            count_variance(losses < value, at_levels < value, strata),
        )
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


def shortfall_estimate(losses: FloatArray, level: float, strata: Strata) -> Estimate:
    """Return the expected shortfall with the interval of its influence function.

    With q the value at risk, the mean of ``q + (x - q)+ / (1 - level)`` is the expected shortfall and, q being
    its minimiser, the error of q does not count to first order. Fewer than 10 losses beyond the level support
    no interval: on one or two the influence function says that the tail is known.
    """
    value = _expected_shortfall(losses, level)
    tail = 1 - exact_level(level)
    notes = _tail_notes(len(losses), level)
    if notes:
        return Estimate(value, None, None, None, "; ".join([*notes, "the sample is too small for an interval"]))
    quantile = _value_at_risk(losses, level)
    influence = np.maximum(losses - quantile, 0.0) / float(tail)
    at_levels = np.maximum(strata.level_losses - quantile, 0.0) / float(tail)
    return _normal_estimate(value, mean_variance(influence, at_levels, strata))


def mean_estimate(losses: FloatArray, strata: Strata) -> Estimate:
    """Return the mean with its normal interval."""
    return _normal_estimate(float(losses.mean()), mean_variance(losses, strata.level_losses, strata))


def loss_probability(losses: FloatArray, capital: float, strata: Strata) -> Estimate:
    """Return the probability of a loss above `capital` [USD].

    The interval is that of Clopper and Pearson, which is conservative where the count varies less than a
    binomial one, and the normal one where that is wider: where whole scenarios were drawn or not drawn.

    References
    ----------
    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934) 404-413, doi:10.1093/biomet/26.4.404.
    """
    hit = losses > capital
    n, k = len(hit), int(hit.sum())
    low = float(special.betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    at_levels = (strata.level_losses > capital).astype(np.float64)
    variance = mean_variance(hit.astype(np.float64), at_levels, strata)
    if not 0.0 < variance < math.inf:
        return Estimate(k / n, low, high, None, f"{k} of {n} simulations: no standard error")
    error = math.sqrt(variance)
    return Estimate(
        k / n, max(min(low, k / n - NORMAL_95 * error), 0.0), min(max(high, k / n + NORMAL_95 * error), 1.0), error
    )


def _normal_estimate(value: float, variance: float) -> Estimate:
    if not math.isfinite(variance):
        return Estimate(value, None, None, None, "one simulation has no standard error")
    error = math.sqrt(variance)
    return Estimate(value, value - NORMAL_95 * error, value + NORMAL_95 * error, error)


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

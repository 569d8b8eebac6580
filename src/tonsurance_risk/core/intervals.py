"""Estimates from simulated losses and their sampling error, for every kind of sampling.

All are taken from above: share(losses > x) is the sum of the weights above x / n, weights being 1 except under
importance sampling. The variance of such a mean is that within strata plus that of which strata were drawn;
for Sobol points it is that of the independent scramblings.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import special

from tonsurance_risk.core.correlation import NORMAL_95
from tonsurance_risk.core.measures import exact_level, tail_rank
from tonsurance_risk.core.sampling import BLOCK, REPLICATES, Sampling
from tonsurance_risk.core.tally import Tally
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BoolArray, Estimate, FloatArray, IntArray

FEW_TAIL_LOSSES = 10
"""Below this expected number of losses beyond the level a note says so."""
PIECE = 1 << 20
"""Values that are summed at a time."""
STUDENT_95 = float(special.stdtrit(REPLICATES - 1, 0.975))
"""What the normal 1.96 is for a standard deviation from 16 replicates: 2.131."""


@attrs.frozen(eq=False)
class Design:
    """How a sample was drawn: what is known beside the losses.

    Parameters
    ----------
    sampling : str
        Its kind.
    n : int
        Simulations.
    units : ndarray of shape (n_strata,)
        Units drawn of each stratum: simulations, or antithetic pairs.
    cumulated : ndarray of shape (n_strata,)
        Upper ends of the strata's parts of [0, 1].
    level_losses, level_weights : ndarray of shape (n_strata,)
        Loss at the levels of each stratum [USD], and its weight: what stands in for one that was never drawn.
    """

    sampling: Sampling
    n: int
    units: FloatArray
    cumulated: FloatArray
    level_losses: FloatArray
    level_weights: FloatArray

    @property
    def per_unit(self) -> int:
        """Simulations of a unit."""
        return 2 if self.sampling == "antithetic" else 1

    @property
    def critical(self) -> float:
        """The standard errors to either side of a 95 % interval."""
        return STUDENT_95 if self.sampling == "sobol" else NORMAL_95

    def unit_of(self, index: IntArray) -> IntArray:
        """Return the pair (antithetic) or replicate (sobol) of simulations, by their numbers."""
        if self.sampling == "sobol":
            return index % REPLICATES
        first = index - index % BLOCK
        return np.asarray(first + (index - first) % (np.minimum(self.n - first, BLOCK) // 2))

    def between(self, means: FloatArray) -> float:
        """Return the variance of the sum of the strata's means over the units.

        Independent draws vary with the shares p: n sum p (m - m_bar)^2. In a block of B units with random start
        u, floor(B c_s) + [u < f_s] points lie below the upper end c_s of stratum s, f_s being the fraction of
        B c_s. The sum of the means m over the block is therefore a constant plus sum_s d_s [u < f_s],
        d_s = m_s - m_{s+1}, and for u uniform Cov([u < f_s], [u < f_t]) = min(f_s, f_t) - f_s f_t. The first
        coordinate of a replicate of N Sobol points has one in each [j / N, (j + 1) / N), independently: the same
        within such a cell, and no covariance between cells.
        """
        if self.sampling == "plain":
            shares = np.diff(self.cumulated, prepend=0.0)
            return self.n * float(shares @ (means - shares @ means) ** 2)
        difference = means[:-1] - means[1:]
        total = 0.0
        full, rest = divmod(self.n, BLOCK)
        runs = ((BLOCK // self.per_unit, full), (rest // self.per_unit, 1))
        if self.sampling == "sobol":
            runs = ((self.n // REPLICATES, REPLICATES), (0, 0))
        for size, repeat in runs:
            if size and repeat:
                cell, fraction = np.divmod(size * self.cumulated[:-1], 1.0)
                covariance = np.minimum.outer(fraction, fraction) - np.outer(fraction, fraction)
                if self.sampling == "sobol":
                    covariance *= np.equal.outer(cell, cell)
                total += repeat * float(difference @ covariance @ difference)
        return max(total, 0.0)

    def of_replicates(self, sums: FloatArray, means: FloatArray) -> float:
        """Return the variance of a mean from the sums of Sobol replicates, given the means of the strata.

        It is not less than that of the allocation to strata, which 16 replicates may happen not to show.
        """
        replicated = float(np.var(sums / (self.n / REPLICATES), ddof=1)) / REPLICATES
        return max(replicated, self.between(means) / self.n**2)

    def combined(self, means: FloatArray, variances: FloatArray, overall: float) -> float:
        """Return the variance of a mean, given mean and variance of the units of each stratum.

        A stratum with fewer than two units takes the variance of the whole sample, `overall`.
        """
        within = float(self.units @ np.where(self.units >= 2.0, variances, overall))
        return (within + self.between(means)) / float(self.units.sum()) ** 2


@attrs.frozen(eq=False)
class Tail:
    """The largest losses of a sample, in any order.

    Parameters
    ----------
    losses : ndarray of shape (k,)
        [USD]
    stratum : ndarray of int of shape (k,)
    index : ndarray of int of shape (k,), optional
        Numbers of the simulations; antithetic pairs and Sobol replicates need them.
    weights : ndarray of shape (k,), optional
        Of importance sampling.
    n : int
        Simulations of the whole sample.
    floor : float
        Every loss above it is here [USD].
    reach : int
        The `reach` largest losses are these and, if they are fewer, repetitions of the floor.
    """

    losses: FloatArray
    stratum: NDArray[Any]
    index: IntArray | None
    weights: FloatArray | None
    n: int
    floor: float
    reach: int

    @classmethod
    def above(
        cls, losses: FloatArray, stratum: NDArray[Any], weights: FloatArray | None, count: int | None = None
    ) -> Tail:
        """Return at least the `count` largest losses of a whole sample; None: all."""
        n = len(losses)
        if count is None or weights is not None or 4 * count > n:
            return cls(losses, stratum, np.arange(n), weights, n, -math.inf, n)
        # An odd step, so that the probe does not pick one half of the Sobol points.
        step = n // 16_384 | 1
        probe = np.sort(losses[::step])
        floor = float(
            probe[max(len(probe) - 1 - math.ceil(1.05 * count / step + 4.0 * math.sqrt(count / step)), 0)]
        )
        kept = np.flatnonzero(losses > floor)
        if len(kept) < count:
            floor = float(np.nextafter(np.partition(losses, n - count)[n - count], -math.inf))
            kept = np.flatnonzero(losses > floor)
        return cls(losses[kept], stratum[kept], kept, None, n, floor, len(kept))

    def ranked(self, rank: int) -> float:
        """Return the loss of a rank, 0 for the largest [USD].

        Raises
        ------
        InsufficientDataError
            If only larger losses were kept.
        """
        if rank >= self.reach:
            raise _not_kept(self)
        place = len(self.losses) - 1 - rank
        return self.floor if place < 0 else float(np.partition(self.losses, place)[place])

    def shares(self) -> tuple[FloatArray, FloatArray]:
        """Return the losses, largest first, and the share of the weights from the largest to each."""
        order = np.argsort(-self.losses, kind="stable")
        weights = np.ones(len(order)) if self.weights is None else self.weights[order]
        return self.losses[order], np.cumsum(weights) / self.n


def _not_kept(tail: Tail) -> InsufficientDataError:
    return InsufficientDataError(
        f"of {tail.n:,} losses only the {len(tail.losses):,} largest were kept, and a smaller one is asked for: "
        f"use a level of 0.9 or more, or keep='all'",
        observed=len(tail.losses),
    )


def mean_variance(
    values: FloatArray, chosen: BoolArray, tail: Tail, design: Design, level_values: FloatArray
) -> float:
    """Return the variance of the mean over the sample of `values`, which are 0 but for the chosen of the tail.

    Parameters
    ----------
    values : ndarray of shape (m,)
        Weights included.
    chosen : ndarray of bool of shape (k,)
        Which m losses of the tail they belong to.
    tail, design
        The sample.
    level_values : ndarray of shape (n_strata,)
        Value at the levels of each stratum.
    """
    units = float(design.units.sum())
    if units < 2:
        return math.inf
    stratum = tail.stratum[chosen]
    if design.sampling in ("sobol", "antithetic") and tail.index is not None:
        unit = design.unit_of(tail.index[chosen])
        if design.sampling == "sobol":
            by_stratum, _ = _sums(stratum, values, len(design.units))
            means = np.where(design.units > 0.0, by_stratum / np.maximum(design.units, 1.0), level_values)
            return design.of_replicates(_sums(unit, values, REPLICATES)[0], means)
        _, first, pair = np.unique(unit, return_index=True, return_inverse=True)
        values = np.bincount(pair, values / 2.0, minlength=len(first)).astype(np.float64)
        stratum = stratum[first]
    sums, squares = _sums(stratum, values, len(design.units))
    drawn = np.maximum(design.units, 1.0)
    variances = np.maximum(squares - sums**2 / drawn, 0.0) / np.maximum(design.units - 1.0, 1.0)
    means = np.where(design.units > 0.0, sums / drawn, level_values)
    overall = max(float(squares.sum()) - float(sums.sum()) ** 2 / units, 0.0) / (units - 1.0)
    return design.combined(means, variances, overall)


def _sums(groups: NDArray[Any], values: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Return the sum of values and of their squares in each of n groups, in pieces that need little memory."""
    sums, squares = np.zeros(n), np.zeros(n)
    for first in range(0, len(values), PIECE):
        piece = slice(first, first + PIECE)
        sums += np.bincount(groups[piece], values[piece], minlength=n)
        squares += np.bincount(groups[piece], values[piece] ** 2, minlength=n)
    return sums, squares


def share_variance(hit: BoolArray, level_hit: BoolArray, tail: Tail, design: Design) -> float:
    """Return the variance of the share of the losses that are hit.

    Of a stratum with n_s plain draws the share is estimated as (hits + 1/2) / (n_s + 1), so that one without a
    hit is not taken as certain to have none; that is at most n q (1 - q), the variance of independent draws, q
    being the share of all.
    """
    weights = np.ones(int(hit.sum())) if tail.weights is None else tail.weights[hit]
    if design.sampling not in ("plain", "stratified"):
        return mean_variance(weights, hit, tail, design, level_hit * design.level_weights)
    n = design.n
    hits, _ = _sums(tail.stratum[hit], weights, len(design.units))
    share = (hits + 0.5) / (design.units + 1.0)
    overall = (len(weights) + 0.5) / (n + 1.0)
    within = min(float(design.units @ (share * (1.0 - share))), n * overall * (1.0 - overall))
    means = np.where(design.units > 0.0, hits / np.maximum(design.units, 1.0), level_hit)
    return (within + design.between(means)) / n**2


def quantile_estimate(tail: Tail, level: float, design: Design) -> Estimate:
    """Return the value at risk with an interval of two order statistics.

    The share of losses above the true quantile is at most 1 - level on average; the interval reaches to the
    order statistics that the share leaves with 2.5 % on either side: exactly binomial for a plain sample,
    normal (Student for replicates) with the variance of `share_variance` for the others.

    References
    ----------
    R. S. Woodruff, "Confidence intervals for medians and other position measures", Journal of the American
    Statistical Association 47 (1952) 635-646, doi:10.1080/01621459.1952.10483443.
    """
    n, share = design.n, exact_level(level)
    notes: list[str] = []
    if tail.weights is None:
        value = tail.ranked(n - tail_rank(n, level))
        low_rank, high_rank = _rank_interval(value, tail, level, design)
        low = tail.ranked(n - low_rank) if low_rank >= 1 else None
        high = tail.ranked(n - high_rank) if high_rank <= n else None
        expected = float(n * (1 - share))
    else:
        losses, above = tail.shares()
        target, largest = float(1 - share), len(losses) - 1
        place = int(np.searchsorted(above, target, side="right"))
        if place > largest and tail.floor > -math.inf:
            raise _not_kept(tail)
        value = float(losses[min(place, largest)])
        half = design.critical * math.sqrt(_quantile_variance(value, tail, design))
        low_place = int(np.searchsorted(above, target + half, side="right"))
        high_place = int(np.searchsorted(above, target - half, side="right")) - 1
        low = float(losses[low_place]) if low_place <= largest else None
        high = float(losses[high_place]) if high_place >= 0 else None
        expected = float(place)
        if place > largest:
            low, notes = None, [f"the weights add up to {above[-1]:g} only: the level is too low for them"]
    notes = _tail_notes(expected) + notes
    if low is None:
        notes.append("the sample is too small for a lower end")
    if high is None:
        notes.append("the sample is too small for an upper end")
    error = None if low is None or high is None else (high - low) / (2.0 * design.critical)
    return Estimate(value, low, high, error, "; ".join(notes))


def shortfall_estimate(tail: Tail, level: float, design: Design) -> Estimate:
    """Return the expected shortfall with the interval of its influence function.

    With q the value at risk, the mean of ``q + (x - q)+ / (1 - level)`` is the expected shortfall and, q being
    its minimiser, the error of q does not count to first order. Fewer than 10 losses beyond the level support
    no interval: on one or two the influence function says that the tail is known.
    """
    share = float(1 - exact_level(level))
    if tail.weights is None:
        quantile = tail.ranked(design.n - tail_rank(design.n, level))
        expected = float(design.n * (1 - exact_level(level)))
    else:
        losses, above = tail.shares()
        place = int(np.searchsorted(above, share, side="right"))
        if place == len(losses) and tail.floor > -math.inf:
            raise _not_kept(tail)
        quantile, expected = float(losses[min(place, len(losses) - 1)]), float(place)
    beyond = tail.losses > quantile
    excess = tail.losses[beyond]
    excess -= quantile
    excess /= share
    if tail.weights is not None:
        excess *= tail.weights[beyond]
    value = quantile + float(excess.sum()) / design.n
    if notes := _tail_notes(expected):
        return Estimate(value, None, None, None, "; ".join([*notes, "the sample is too small for an interval"]))
    at_levels = np.maximum(design.level_losses - quantile, 0.0) / share * design.level_weights
    return _normal_estimate(value, mean_variance(excess, beyond, tail, design, at_levels), design.critical)


def mean_estimate(tally: Tally, design: Design) -> Estimate:
    """Return the mean loss with its normal interval."""
    value = float(tally.total.sum()) / float(design.units.sum())
    units = float(design.units.sum())
    if units < 2:
        return _normal_estimate(value, math.inf, design.critical)
    drawn = np.maximum(design.units, 1.0)
    means = np.where(design.units > 0.0, tally.total / drawn, design.level_losses * design.level_weights)
    if design.sampling == "sobol":
        return _normal_estimate(value, design.of_replicates(tally.replicates, means), design.critical)
    variances = tally.squares / np.maximum(design.units - 1.0, 1.0)
    own = tally.total / drawn
    overall = (float(tally.squares.sum()) + float(design.units @ (own - value) ** 2)) / (units - 1.0)
    return _normal_estimate(value, design.combined(means, variances, overall), design.critical)


def loss_probability(tail: Tail, capital: float, design: Design) -> Estimate:
    """Return the probability of a loss above `capital` [USD].

    For a plain sample the interval is that of Clopper and Pearson. For the others it is normal (Student for
    replicates), but not within that of Clopper and Pearson for the number of hits, which is all that a sample
    with hardly a hit can say; weights scale it by their largest.

    References
    ----------
    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934) 404-413, doi:10.1093/biomet/26.4.404.
    """
    if capital < tail.floor:
        raise InsufficientDataError(
            f"capital must be at least {tail.floor:g}, below which losses were not kept, found {capital:g}",
            observed=capital,
            required=tail.floor,
        )
    hit = tail.losses > capital
    n, k = design.n, int(hit.sum())
    low = float(special.betaincinv(k, n - k + 1, 0.025)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
    weights = np.ones(k) if tail.weights is None else tail.weights[hit]
    value = float(weights.sum()) / n
    level_hit = design.level_losses > capital
    variance = mean_variance(weights, hit, tail, design, level_hit * design.level_weights)
    error = math.sqrt(variance) if 0.0 < variance < math.inf else None
    note = "" if error is not None else f"{k} of {n} simulations: no standard error"
    if tail.weights is not None:
        low, high = (0.0, high * float(tail.weights.max())) if k == 0 else (value, value)
    if error is not None:
        low, high = min(low, value - design.critical * error), max(high, value + design.critical * error)
    return Estimate(value, max(low, 0.0), min(high, 1.0), error, note)


def _rank_interval(value: float, tail: Tail, level: float, design: Design) -> tuple[int, int]:
    """Return the ranks (1 = smallest) of both ends; beyond 1 or n where the sample has none."""
    n, share = design.n, exact_level(level)
    if design.sampling == "plain":
        return (
            int(_binomial_quantile(0.025, n, float(share))),
            int(_binomial_quantile(0.975, n, float(share))) + 1,
        )
    # The losses up to the quantile number from low to high - 1; a whole number stands for half to each side.
    half = n * design.critical * math.sqrt(_quantile_variance(value, tail, design))
    rank = tail_rank(n, level)
    return (
        min(math.floor(float(n * share) - half + 1.0), rank),
        max(math.floor(float(n * share) + half + 1.0), rank),
    )


def _quantile_variance(value: float, tail: Tail, design: Design) -> float:
    """Return the variance of the share above the quantile, or from it on, whichever is larger.

    Where losses at the floor were not kept, the share from it on is taken to vary like that of independent draws.
    """
    above = share_variance(tail.losses > value, design.level_losses > value, tail, design)
    if value <= tail.floor:
        share = float((tail.losses > value).sum()) / design.n
        return max(above, share * (1.0 - share) / design.n)
    return max(above, share_variance(tail.losses >= value, design.level_losses >= value, tail, design))


def _normal_estimate(value: float, variance: float, critical: float) -> Estimate:
    if not math.isfinite(variance):
        return Estimate(value, None, None, None, "one simulation has no standard error")
    error = math.sqrt(variance)
    return Estimate(value, value - critical * error, value + critical * error, error)


def _tail_notes(expected: float) -> list[str]:
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

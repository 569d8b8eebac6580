"""How a sample was drawn, its tail, and how much means over it vary, for every kind of sampling.

The variance of a mean is that within strata plus that of which strata were drawn; for Sobol points it is that of
the independent scramblings.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import special

from tonsurance_risk.core.association import NORMAL_95
from tonsurance_risk.core.sampling import BLOCK, REPLICATES, Sampling
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.values import BoolArray, FloatArray, IntArray

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
    largest_shocked : float
        The largest loss that shocks can bring about [USD]; -inf where nothing moves.
    """

    sampling: Sampling
    n: int
    units: FloatArray
    cumulated: FloatArray
    level_losses: FloatArray
    level_weights: FloatArray
    largest_shocked: float

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
        full, rest = divmod(self.n, BLOCK)
        runs = [(BLOCK // self.per_unit, full), (rest // self.per_unit, 1)]
        if self.sampling == "sobol":
            runs = [(self.n // REPLICATES, REPLICATES)]
        total = 0.0
        for size, repeat in runs:
            cell, fraction = np.divmod(size * self.cumulated[:-1], 1.0)
            if self.sampling != "sobol":
                cell = np.zeros_like(cell)
            total += repeat * _indicator_variance(difference, fraction, cell)
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


def _indicator_variance(factors: FloatArray, fractions: FloatArray, cells: FloatArray) -> float:
    """Return the variance of ``sum_s d_s [u < f_s]``, u uniform and one for each cell.

    It is ``integral (sum_s d_s [u < f_s])^2 du - (sum_s d_s f_s)^2``, summed over the cells; the integrand is a
    step function, so that sorting takes the place of the matrix of covariances.
    """
    if not len(factors):
        return 0.0
    order = np.lexsort((-fractions, cells))
    factors, fractions, cells = factors[order], fractions[order], cells[order]
    first = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
    lengths = np.diff(np.append(first, len(cells)))
    so_far = np.cumsum(factors)
    so_far -= np.repeat((so_far - factors)[first], lengths)
    below = np.append(fractions[1:], 0.0)
    below[first[1:] - 1] = 0.0
    means = np.add.reduceat(factors * fractions, first)
    return float(so_far**2 @ (fractions - below) - means @ means)


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
            raise not_kept(self)
        place = len(self.losses) - 1 - rank
        return self.floor if place < 0 else float(np.partition(self.losses, place)[place])

    def steps(self) -> Steps:
        """Return the distinct losses with their shares of the weights; the floor, if there is one, is the last."""
        order = np.argsort(-self.losses, kind="stable")
        losses = self.losses[order]
        weights = np.ones(len(order)) if self.weights is None else self.weights[order]
        last = np.flatnonzero(np.append(losses[1:] != losses[:-1], True)) if len(losses) else order
        share_from, count = np.cumsum(weights)[last] / self.n, last + 1
        distinct = losses[last]
        if self.floor > -math.inf:
            distinct = np.append(distinct, self.floor)
            share_from, count = np.append(share_from, self.reach / self.n), np.append(count, len(losses))
        return Steps(distinct, share_from, np.append(0.0, share_from[:-1]), np.append(0, count[:-1]))


@attrs.frozen(eq=False)
class Steps:
    """The distinct losses of a tail, largest first: where its distribution function steps.

    Parameters
    ----------
    losses : ndarray of shape (k,)
        [USD]
    share_from, share_above : ndarray of shape (k,)
        Sum of the weights from each loss upwards, and of those above it, over n.
    count_above : ndarray of int of shape (k,)
        Simulations with a loss above.
    """

    losses: FloatArray
    share_from: FloatArray
    share_above: FloatArray
    count_above: IntArray


def not_kept(tail: Tail) -> InsufficientDataError:
    """Return the error of asking for a loss below those that were kept."""
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

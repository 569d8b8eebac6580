"""Estimates from simulated losses with their intervals, for every kind of sampling.

All are taken from above: share(losses > x) is the sum of the weights above x / n, weights being 1 except under
importance sampling.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from tonsurance_risk.core.association import NORMAL_95
from tonsurance_risk.core.importance import DEFENSIVE
from tonsurance_risk.core.measures import exact_level, tail_rank
from tonsurance_risk.core.statistics import binomial_interval
from tonsurance_risk.core.tally import Tally
from tonsurance_risk.core.variance import Design, Steps, Tail, mean_variance, not_kept, share_variance
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import Estimate
from tonsurance_risk.values import FloatArray

FEW_TAIL_LOSSES = 10
"""Below this expected number of losses beyond the level a note says so."""
FEW_OFF_ATOM = 30
"""With fewer losses beside an atom the mean of what lies beside it is too skew for a normal interval."""
SMALLEST_SKEWNESS = 1e-6
"""Below it the correction of an interval is less than the rounding of the formula."""
LARGEST_WEIGHT = 1.0 / DEFENSIVE
"""No weight of importance sampling exceeds it."""


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
        target = float(1 - share)
        steps = tail.steps()
        place, expected = _weighted_place(steps, target, tail)
        value = float(steps.losses[place])
        half_below, half_above = (design.critical * math.sqrt(v) for v in _share_variances(value, tail, design))
        low_place = int(np.searchsorted(steps.share_from, target + half_below, side="right"))
        # One loss more than those above it, as an order statistic would be: an atom counts from its first.
        high_place = int(np.searchsorted(steps.share_above + 1.0 / n, target - half_above, side="right")) - 1
        low = float(steps.losses[low_place]) if low_place < len(steps.losses) else None
        high = float(steps.losses[high_place]) if high_place >= 0 else None
        if steps.share_from[-1] <= target:
            low, notes = (
                None,
                [f"the weights add up to {steps.share_from[-1]:g} only: the level is too low for them"],
            )
    notes = _tail_notes(expected) + notes
    if low is None:
        notes.append("the sample is too small for a lower end")
    if high is None:
        notes.append("the sample is too small for an upper end")
    error = None if low is None or high is None else (high - low) / (2.0 * design.critical)
    law = "exact binomial" if design.sampling == "plain" else _law(design)
    return Estimate(value, low, high, error, "; ".join(notes), method=f"order statistics, {law}")


def shortfall_estimate(tail: Tail, level: float, design: Design) -> Estimate:
    """Return the expected shortfall with the interval of its influence function, corrected for skewness.

    With q the value at risk, the mean of ``q + (x - q)+ / (1 - level)`` is the expected shortfall and, q being
    its minimiser, the error of q does not count to first order. Fewer than 10 losses beyond the level support
    no interval, nor do fewer than 30 beyond an atom at q that shocks could exceed: on one or two the influence
    function says that the tail is known.

    References
    ----------
    R. T. Rockafellar and S. Uryasev, "Conditional value-at-risk for general loss distributions", Journal of
    Banking & Finance 26 (2002) 1443-1471, doi:10.1016/S0378-4266(02)00271-6, theorem 10 (the minimiser).
    """
    share = float(1 - exact_level(level))
    if tail.weights is None:
        quantile = tail.ranked(design.n - tail_rank(design.n, level))
        expected = float(design.n * (1 - exact_level(level)))
    else:
        steps = tail.steps()
        place, expected = _weighted_place(steps, share, tail)
        quantile = float(steps.losses[place])
    beyond = tail.losses > quantile
    excess = tail.losses[beyond]
    excess -= quantile
    excess /= share
    if tail.weights is not None:
        excess *= tail.weights[beyond]
    value = quantile + float(excess.sum()) / design.n
    method = f"influence function, {_law(design)}, Hall's transformation"
    if notes := _tail_notes(expected):
        note = "; ".join([*notes, "the sample is too small for an interval"])
        return Estimate(value, None, None, None, note, method=method)
    # Without an atom at the quantile about `expected` losses lie beyond it.
    if len(excess) < min(FEW_OFF_ATOM, expected / 2.0) and quantile < design.largest_shocked:
        note = f"only {len(excess)} losses lie beyond the value at risk, an atom: too few for an interval"
        return Estimate(value, None, None, None, note, method=method)
    at_levels = np.maximum(design.level_losses - quantile, 0.0) / share * design.level_weights
    variance = mean_variance(excess, beyond, tail, design, at_levels)
    return _normal_estimate(value, variance, design.critical, method, _skewness(excess, design.n))


def mean_estimate(tally: Tally, design: Design) -> Estimate:
    """Return the mean loss with its normal interval; none where too few losses lie beside an atom."""
    value = float(tally.total.sum()) / float(design.units.sum())
    units, method = float(design.units.sum()), f"mean, {_law(design)}"
    if units < 2:
        return _normal_estimate(value, math.inf, design.critical, method)
    beside = _effective_count(tally, value, weighted=design.sampling == "importance")
    if beside < min(FEW_OFF_ATOM, tally.n / 5.0) and design.largest_shocked > -math.inf:
        note = f"nearly all losses are the same, and only about {beside:.2g} are not: too few for an interval"
        return Estimate(value, None, None, None, note, method=method)
    drawn = np.maximum(design.units, 1.0)
    means = np.where(design.units > 0.0, tally.total / drawn, design.level_losses * design.level_weights)
    if design.sampling == "sobol":
        return _normal_estimate(value, design.of_replicates(tally.replicates, means), design.critical, method)
    variances = tally.squares / np.maximum(design.units - 1.0, 1.0)
    own = tally.total / drawn
    overall = (float(tally.squares.sum()) + float(design.units @ (own - value) ** 2)) / (units - 1.0)
    return _normal_estimate(value, design.combined(means, variances, overall), design.critical, method)


def _effective_count(tally: Tally, mean: float, *, weighted: bool) -> float:
    """Return how many losses, as large as each other, differ from the smallest or from the largest loss.

    Kish's ``(sum d)^2 / sum d^2`` with d the distance from that loss, from 0 where losses are weighted.

    References
    ----------
    L. Kish, "Survey Sampling", Wiley 1965, section 11.7.
    """
    units, drawn = tally.units, np.maximum(tally.units, 1)
    squares = float(tally.squares.sum() + units @ (tally.total / drawn - mean) ** 2)
    atoms = (0.0,) if weighted else (float(tally.best.min()), float(tally.worst.max()))
    n = float(units.sum())
    return min(n * (mean - atom) ** 2 / max(squares / n + (mean - atom) ** 2, math.ulp(0.0)) for atom in atoms)


def loss_probability(tail: Tail, capital: float, design: Design) -> Estimate:
    """Return the probability of a loss above `capital` [USD].

    For a plain sample the interval is that of Clopper and Pearson. For the others it is normal (Student for
    replicates) with their own variance; where fewer than 10 simulations are hits, or misses, or they do not vary,
    it is that of Clopper and Pearson for as many independent draws, times weights where there are weights, or
    the normal one as well if the share varies by more than twice that of such draws.

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
    weights = np.ones(k) if tail.weights is None else tail.weights[hit]
    value = min(float(weights.sum()) / n, 1.0)  # weights add up to n only on average
    level_hit = design.level_losses > capital
    few = min(k, n - k) < FEW_TAIL_LOSSES
    if design.sampling == "stratified" and not few:
        variance = share_variance(hit, level_hit, tail, design)
    else:
        variance = mean_variance(weights, hit, tail, design, level_hit * design.level_weights)
    error = math.sqrt(variance) if 0.0 < variance < math.inf else None
    note = "" if error is not None else f"{k} of {n} simulations: no standard error"
    half = 0.0 if error is None else design.critical * error
    low, high, method = value - half, value + half, f"share, {_law(design)}"
    if error is None or few or design.sampling == "plain":
        low, high = binomial_interval(k, n) if tail.weights is None else _weighted_ends(value, weights, n)
        method = "Clopper-Pearson" if tail.weights is None else "Clopper-Pearson times extreme weights"
        # Strata that were not drawn can make the share vary by far more than that of independent draws.
        independent = (k + 0.5) * (n - k + 0.5) / (n + 1.0) ** 2 / n * float(weights.max(initial=1.0)) ** 2
        if design.sampling != "plain" and half**2 > 2.0 * design.critical**2 * independent:
            low, high = min(low, value - half), max(high, value + half)
            method = f"the wider of {method} and {_law(design)}"
    return Estimate(value, max(low, 0.0), min(high, 1.0), error, note, method=method)


def contribution_estimate(value: float, error: float, count: int, shortfall: Estimate) -> Estimate:
    """Return a contribution to an expected shortfall with its normal interval [USD].

    `count` losses of the tail have a part of it.
    """
    method, note = "influence function, normal, as for independent draws", shortfall.note
    if shortfall.low is not None and count >= FEW_TAIL_LOSSES:
        return Estimate(value, value - NORMAL_95 * error, value + NORMAL_95 * error, error, method=method)
    if shortfall.low is not None:
        note = f"only {count} losses of the tail have a part of it: too few for an interval"
    return Estimate(value, None, None, None, note, method=method)


def exactly_nothing(note: str) -> Estimate:
    """Return the estimate of what is 0 in every simulation, and why."""
    return Estimate(0.0, 0.0, 0.0, 0.0, note, method="exact")


def _weighted_ends(value: float, weights: FloatArray, n: int) -> tuple[float, float]:
    """Return the ends for the share of hits times their smallest and largest weight.

    Without a hit the largest is that which importance sampling allows; so it is for the few misses.
    """
    k = len(weights)
    low, high = binomial_interval(k, n)
    if k > n - FEW_TAIL_LOSSES:
        return min(1.0 - binomial_interval(n - k, n)[1] * LARGEST_WEIGHT, value), 1.0
    return min(low * float(weights.min(initial=1.0)), value), high * float(weights.max() if k else LARGEST_WEIGHT)


def _weighted_place(steps: Steps, target: float, tail: Tail) -> tuple[int, float]:
    """Return the place of the loss that the target share of the weights reaches into, and the losses beyond."""
    place = int(np.searchsorted(steps.share_from, target, side="right"))
    if place == len(steps.losses):
        if tail.floor > -math.inf:
            raise not_kept(tail)
        return place - 1, float(tail.n)
    of_atom = max(tail.n * (target - steps.share_above[place]), 0.0)
    return place, float(steps.count_above[place] + math.floor(of_atom))


def _rank_interval(value: float, tail: Tail, level: float, design: Design) -> tuple[int, int]:
    """Return the ranks (1 = smallest) of both ends; beyond 1 or n where the sample has none."""
    n, share = design.n, exact_level(level)
    if design.sampling == "plain":
        return (
            int(_binomial_quantile(0.025, n, float(share))),
            int(_binomial_quantile(0.975, n, float(share))) + 1,
        )
    # The losses up to the quantile number from low to high - 1; a whole number stands for half to each side.
    half = n * design.critical * math.sqrt(max(_share_variances(value, tail, design)))
    if not math.isfinite(half):
        return 0, n + 1
    rank = tail_rank(n, level)
    return (
        min(math.floor(float(n * share) - half + 1.0), rank),
        max(math.floor(float(n * share) + half + 1.0), rank),
    )


def _share_variances(value: float, tail: Tail, design: Design) -> tuple[float, float]:
    """Return the variances of the share from a quantile on, which its lower end needs, and of that above it.

    Where losses at the floor were not kept, the share from it on is taken to vary like that of independent draws.
    """
    above = share_variance(tail.losses > value, design.level_losses > value, tail, design)
    if value <= tail.floor:
        share = float((tail.losses > value).sum()) / design.n
        return max(above, share * (1.0 - share) / design.n), above
    return share_variance(tail.losses >= value, design.level_losses >= value, tail, design), above


def _normal_estimate(
    value: float, variance: float, critical: float, method: str, skewness: float = 0.0
) -> Estimate:
    """Return an estimate with normal ends, or with those of Hall's transformation for a mean of that skewness.

    References
    ----------
    P. Hall, "On the removal of skewness by transformation", Journal of the Royal Statistical Society B 54 (1992)
    221-228, doi:10.1111/j.2517-6161.1992.tb01876.x: the inverse of ``t + g t^2 / 3 + g^2 t^3 / 27 + g / 6``.
    """
    if not math.isfinite(variance):
        return Estimate(value, None, None, None, "one simulation has no standard error", method=method)
    error, below, above = math.sqrt(variance), critical, critical
    if abs(skewness) > SMALLEST_SKEWNESS:
        above, below = (
            abs(3.0 / skewness * (math.cbrt(1.0 + skewness * (end - skewness / 6.0)) - 1.0))
            for end in (-critical, critical)
        )
    return Estimate(value, value - below * error, value + above * error, error, method=method)


def _law(design: Design) -> str:
    return "Student's t over replicates" if design.sampling == "sobol" else "normal"


def _skewness(values: FloatArray, n: int) -> float:
    """Return the skewness of the mean of n independent numbers, these and zeros."""
    mean = float(values.sum()) / n
    second = float(values @ values) / n - mean**2
    if second <= 0.0:
        return 0.0
    third = float((values**2) @ values) / n - 3.0 * mean * second - mean**3
    return third / (second * math.sqrt(second * n))


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

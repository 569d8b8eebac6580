"""Tail measures of losses. Losses are positive; one rank helper and one quantile rule serve them all.

The quantile is the lower one: the smallest x with share(losses <= x) >= level, an observed loss, never
interpolated. Ranks are exact because the level is read as its shortest decimal, a fraction: in floating point
``(1 - 0.95) * 100`` is 5.000000000000004, and a ceiling of it picks the wrong order statistic.

References
----------
C. Acerbi and D. Tasche, "On the coherence of expected shortfall", Journal of Banking & Finance 26 (2002)
1487-1503, doi:10.1016/S0378-4266(02)00283-2.

R. T. Rockafellar and S. Uryasev, "Conditional value-at-risk for general loss distributions", Journal of
Banking & Finance 26 (2002) 1443-1471, doi:10.1016/S0378-4266(02)00271-6.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.values import FloatArray, finite


def exact_level(level: float) -> Fraction:
    """Return a level as an exact fraction: 0.95 is 19/20.

    Raises
    ------
    ValueError
        If the level is not in (0, 1); 99 is refused with a hint.
    """
    number = finite(level, "level")
    if not 0.0 < number < 1.0:
        hint = f"; did you mean {number / 100:g}?" if 1.0 < number < 100.0 else ""
        raise ValueError(f"level must lie strictly between 0 and 1, found {level!r}{hint}")
    return Fraction(str(number))


def tail_rank(n: int, level: float) -> int:
    """Return the rank k (1 = smallest) whose order statistic is the quantile: ``ceil(n * level)``, exactly.

    Examples
    --------
    >>> tail_rank(100, 0.95), tail_rank(1000, 0.999), tail_rank(1024, 0.9)
    (95, 999, 922)
    """
    return math.ceil(n * exact_level(level))


def value_at_risk(losses: ArrayLike, level: float, *, weights: ArrayLike | None = None) -> float:
    """Return the value at risk: the smallest loss x with share(losses <= x) >= level.

    Parameters
    ----------
    losses : array_like of shape (n,)
        [USD], positive = loss; finite.
    level : float
        In (0, 1), for example 0.99.
    weights : array_like of shape (n,), optional
        Non-negative; divided by their sum. Read as shortest decimals, like the level.

    Returns
    -------
    float
        One of the losses.

    Raises
    ------
    InsufficientDataError
        If there are no losses.
    ValueError
        If the level, a loss or a weight is outside what is accepted.

    Notes
    -----
    O(n) by selection without weights, O(n log n) with them.

    Examples
    --------
    >>> value_at_risk(range(1, 101), 0.95)
    95.0
    >>> value_at_risk([0.0, 10.0, 50.0], 0.9, weights=[0.7, 0.2, 0.1])
    10.0
    """
    values, shares = checked_losses(losses, weights)
    if shares is None:
        rank = tail_rank(len(values), level)
        return float(np.partition(values, rank - 1)[rank - 1])
    order = np.argsort(values)
    return float(values[order[_weighted_rank(shares[order], exact_level(level))]])


def expected_shortfall(losses: ArrayLike, level: float, *, weights: ArrayLike | None = None) -> float:
    """Return the expected shortfall: the mean of the worst ``1 - level`` share of the losses.

    Parameters
    ----------
    losses, level, weights
        As in `value_at_risk`.

    Returns
    -------
    float
        [USD], never below the value at risk.

    Notes
    -----
    With q the value at risk, ``q + sum((x - q)+) / (n (1 - level))`` [Rockafellar and Uryasev, eq. 7 with
    proposition 8], which is the definition of Acerbi and Tasche [eq. 12]: the loss at the boundary enters with
    the part of its weight that the tail still needs. Ties and atoms come out exactly.

    Examples
    --------
    >>> expected_shortfall(range(1, 101), 0.95)
    98.0
    >>> expected_shortfall([0.0, 0.0, 0.0, 9.0], 0.5)
    4.5
    """
    values, shares = checked_losses(losses, weights)
    quantile = value_at_risk(values, level, weights=shares)
    # In units of the largest loss, so that no sum leaves the range of floats.
    unit = max(float(np.abs(values).max()), np.finfo(float).tiny)
    excess = np.maximum(values / unit - quantile / unit, 0.0)
    if shares is None:
        mean_excess = excess.sum() / float(len(values) * (1 - exact_level(level)))
    else:
        mean_excess = (excess @ shares) / (shares.sum() * float(1 - exact_level(level)))
    # By halves, which are exact: the tail can lie further above the quantile than floats reach.
    shortfall = 2.0 * (quantile / 2.0 + float(mean_excess) * (unit / 2.0))
    return float(min(max(shortfall, quantile), values.max()))


def checked_losses(
    losses: ArrayLike, weights: ArrayLike | None, name: str = "losses"
) -> tuple[FloatArray, FloatArray | None]:
    """Return losses and weights as arrays, equal weights as None; else the errors of `value_at_risk`."""
    values = _numbers(losses, name)
    if len(values) == 0:
        raise InsufficientDataError(f"{name} must hold at least one number, found none", observed=0, required=1)
    if weights is None:
        return values, None
    shares = _numbers(weights, "weights")
    if shares.shape != values.shape:
        raise ValueError(f"weights must be as many as the losses ({len(values)}), found {len(shares)}")
    if shares.min() < 0.0:
        at = int(np.argmin(shares))
        raise ValueError(f"weights must be >= 0, found {float(shares[at])!r} at position {at}")
    if shares.max() == 0.0:
        raise ValueError("weights must not all be 0")
    with np.errstate(over="ignore"):
        total = shares.sum()
    if not math.isfinite(total):
        raise ValueError("weights must have a finite sum")
    return values, None if shares.min() == shares.max() else shares


def _numbers(values: Any, name: str) -> FloatArray:
    try:
        array = np.asarray(values if hasattr(values, "__array__") else list(values))
        if array.dtype.kind in "USO" and array.size:
            raise ValueError(f"found {array.ravel().tolist()[0]!r}")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, found the shape {array.shape}")
    if not np.isfinite(array).all():
        at = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, found {float(array[at])!r} at position {at}")
    return array


def _weighted_rank(shares: FloatArray, level: Fraction) -> int:
    """Return the first position at which the cumulated share reaches the level.

    Sums of floats decide unless they come within their rounding error of the level; then exact decimals do.
    """
    cumulated = np.cumsum(shares)
    needed = float(level) * cumulated[-1]
    error = 4.0 * len(shares) * np.finfo(float).eps * cumulated[-1]
    low, high = (int(k) for k in np.searchsorted(cumulated, [needed - error, needed + error]))
    if low == high:
        return low
    with localcontext(Context(prec=800)):
        decimals = [Decimal(repr(float(share))) for share in shares]
        target = sum(decimals) * level.numerator / level.denominator
        return next(k for k, reached in enumerate(accumulate(decimals)) if reached >= target)

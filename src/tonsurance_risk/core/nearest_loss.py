"""The smallest shock that brings about a loss: a global search with a bound on how much smaller it could be.

The loss is a sum of functions of one normal each. On an interval between two triggers such a function is concave
in its normal (a payout is linear in the ratio, which is an exponential), so there the shocks that lose enough are
a convex set; over all prices they are not. The search therefore branches on intervals of the normals: over a box
every function is replaced by its concave envelope, the smallest shock of the relaxed problem is found by cutting
planes, and bounds what the box can hold; boxes that cannot hold a smaller shock than the one known are dropped.

References
----------
J. E. Falk and R. M. Soland, "An algorithm for separable nonconvex programming problems", Management Science 15
(1969) 550-569, doi:10.1287/mnsc.15.9.550: branch and bound with envelopes of separable functions.

J. E. Kelley, "The cutting-plane method for solving convex programs", Journal of the Society for Industrial and
Applied Mathematics 8 (1960) 703-712, doi:10.1137/0108053.

C. L. Lawson and R. J. Hanson, "Solving Least Squares Problems" (1974), chapter 23: least distance programming.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeAlias

import attrs
import numpy as np
import scipy

from tonsurance_risk.core.payoff import PayoutFunction
from tonsurance_risk.values import FloatArray

Tangent: TypeAlias = Callable[[float], tuple[float, float]]
"""Takes a normal and returns a value and a slope of a concave function."""
Row: TypeAlias = tuple[FloatArray, float]
"""A row and the least that it times the shock may be."""
Box: TypeAlias = tuple[tuple[int, int], ...]
"""For each coin the first and the last of its grid points."""

GAP = 1e-3
"""Boxes are dropped where they could hold a shock that is smaller by at most this share."""
CELLS = 256
"""Of the grid of a coin between its lowest floor and its highest trigger."""
MOST_CUTS = 80
WITHIN = 1e-9
"""A normal that is this far from a bend counts as being beside it, not on it."""
LOOSE, TIGHT = 1e-5, 1e-9
"""Shares of what is missing without any shock: closer envelopes are not divided, and closer cuts end."""
LARGEST_EXPONENT = 500.0
"""No price rises further; payouts have ended long before."""
LOWEST_RATIO = 1e-6
"""Where the payouts of a coin whose floor is 0 count as whole, in units of the next knot; the error is bounded."""


@attrs.frozen(eq=False)
class Coin:
    """What is lost on a coin, given its normal: ``function(level exp(sigma z))`` [USD]."""

    function: PayoutFunction
    level: float
    sigma: float

    def __call__(self, z: FloatArray) -> FloatArray:
        """Return the loss at normals [USD]."""
        return self.function(self.ratio(z))

    def ratio(self, z: float | FloatArray) -> FloatArray:
        """Return the ratios of normals."""
        return np.asarray(self.level * np.exp(np.minimum(self.sigma * np.asarray(z), LARGEST_EXPONENT)))

    def normal(self, ratio: float | FloatArray) -> FloatArray:
        """Return the normals of ratios > 0."""
        return np.asarray(np.log(ratio / self.level) / self.sigma)

    def tangent(self, z: float) -> tuple[float, float]:
        """Return value and slope, at a knot that from below."""
        ratio = float(self.ratio(z))
        knots = self.function.knots
        above = int(np.searchsorted(knots, ratio))
        slope = self.function.slopes[above] if above < len(knots) else 0.0
        return float(self.function(ratio)), -float(slope) * ratio * self.sigma

    def concave_around(self, z: float) -> tuple[float, float]:
        """Return the normals between which the function is concave, `z` among them."""
        slopes = self.function.slopes
        bends = self.function.knots[np.append(slopes[:-1] > slopes[1:], slopes[-1] > 0.0)]
        ends = np.concatenate([[-math.inf], self.normal(bends[bends > 0.0]), [math.inf]])
        at = int(np.searchsorted(ends, z))
        return float(ends[max(at - 1, 0)]), float(ends[at])


@attrs.frozen(eq=False)
class Bitcoin:
    """What is lost on Bitcoin, given its normal: ``value (1 - (1 + change) exp(sigma z - sigma^2 / 2))`` [USD]."""

    value: float
    change: float
    sigma: float

    def __call__(self, z: float | FloatArray) -> FloatArray:
        """Return the loss at normals [USD]."""
        exponent = np.minimum(self.sigma * np.asarray(z) - self.sigma**2 / 2.0, LARGEST_EXPONENT)
        return np.asarray(-self.value * ((1.0 + self.change) * np.exp(exponent) - 1.0))

    def tangent(self, z: float) -> tuple[float, float]:
        """Return value and slope."""
        loss = float(self(z))
        return loss, (loss - self.value) * self.sigma


@attrs.frozen(eq=False)
class Problem:
    """Find the smallest y with ``min(sum of coins, limit) + Bitcoin >= needed``, the normals being ``factor y``.

    Parameters
    ----------
    coins : tuple of Coin
        Their normals are the first rows of `factor`.
    bitcoin : Bitcoin, optional
        Its normal is the last row.
    factor : ndarray of shape (n_normals, n_normals)
        Of their correlation; its rows have length 1.
    needed, limit : float
        [USD]; the payouts of coins that do not move are taken from both already.
    """

    coins: tuple[Coin, ...]
    bitcoin: Bitcoin | None
    factor: FloatArray
    needed: float
    limit: float

    def losses(self, shocks: FloatArray) -> FloatArray:
        """Return the loss of each shock, a row each [USD]."""
        normals = np.asarray(shocks) @ self.factor.T
        paid = np.zeros(len(normals))
        for column, coin in enumerate(self.coins):
            paid += coin(normals[:, column])
        paid = np.minimum(paid, self.limit)
        return paid if self.bitcoin is None else paid + self.bitcoin(normals[:, -1])

    def missing(self) -> float:
        """Return how much more than without any shock has to be lost [USD]."""
        return self.needed - float(self.losses(np.zeros((1, len(self.factor))))[0])

    def along(self, shock: FloatArray, first: float, last: float) -> FloatArray | None:
        """Return the smallest multiple of a shock, from `first` to `last` times it, that loses enough, if any."""
        times = np.linspace(first, last, 257)
        enough = np.flatnonzero(self.losses(times[:, None] * shock) >= self.needed)
        if len(enough) == 0:
            return None
        low, high = times[max(int(enough[0]) - 1, 0)], times[enough[0]]
        for _ in range(60):
            middle = (low + high) / 2.0
            if self.losses(middle * shock[None])[0] >= self.needed:
                high = middle
            else:
                low = middle
        return np.asarray(high * shock)

    def rows_of_limit(self, needed: float) -> list[Row]:
        """Return the bound on Bitcoin's normal that the limit of the payouts asks for, if any."""
        over = needed - self.limit
        if self.bitcoin is None or over == -math.inf:
            return []
        growth = max(1.0 - over / self.bitcoin.value, np.finfo(float).tiny) / (1.0 + self.bitcoin.change)
        highest = (math.log(growth) + self.bitcoin.sigma**2 / 2.0) / self.bitcoin.sigma
        return [(-self.factor[-1], -highest)]


@attrs.frozen(eq=False)
class Grid:
    """Points of a coin's normal, and values there; between them a line bounds its function from above."""

    points: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, coin: Coin, reach: float) -> Grid:
        """Return the grid from -reach to reach."""
        knots, slopes = coin.function.knots, coin.function.slopes
        lowest = knots[0] if knots[0] > 0.0 else LOWEST_RATIO * knots[1]
        ends = np.clip(coin.normal(np.array([lowest, knots[-1]])), -reach, reach)
        bends = coin.normal(knots[knots > 0.0])
        seen = (bends > -reach) & (bends < reach)
        bends, below_bends = bends[seen], slopes[knots > 0.0][seen]
        even = np.linspace(ends[0], ends[1], CELLS + 1)
        points = np.unique(np.concatenate([np.array([-reach, reach]), even, bends[:: len(bends) // CELLS + 1]]))
        values = coin(points)
        # Between two points a function stands out by its knots there, and bends by at most max |f''| width^2 / 8;
        # as it does not increase, by no more than it falls.
        cell = np.searchsorted(points, bends) - 1
        steepest = np.append(slopes, 0.0)[np.searchsorted(knots, coin.ratio((points[1:] + points[:-1]) / 2.0))]
        np.maximum.at(steepest, cell, below_bends)
        error = (
            steepest * np.minimum(coin.ratio(points[1:]), knots[-1]) * (coin.sigma * np.diff(points)) ** 2 / 8.0
        )
        knots_over = np.zeros(len(error))
        np.maximum.at(knots_over, cell, coin(bends) - np.interp(bends, points, values))
        error = np.minimum(error + knots_over, -np.diff(values))
        return cls(points, values + np.maximum(np.append(error, 0.0), np.append(0.0, error)))

    def envelope(self, first: int, last: int) -> tuple[list[float], list[float]]:
        """Return the corners of the concave envelope from one point to another."""
        xs, ys = self.points[first : last + 1].tolist(), self.values[first : last + 1].tolist()
        corners: list[int] = []
        for k in range(len(xs)):
            while len(corners) > 1:
                i, j = corners[-2:]
                if (ys[j] - ys[i]) * (xs[k] - xs[i]) > (ys[k] - ys[i]) * (xs[j] - xs[i]):
                    break
                corners.pop()
            corners.append(k)
        return [xs[k] for k in corners], [ys[k] for k in corners]


@attrs.frozen
class Found:
    """The smallest shock found; no shock that loses enough is smaller than `bound`."""

    shock: FloatArray | None
    bound: float
    boxes: int


def nearest_loss(problem: Problem, starts: Sequence[FloatArray], reach: float, most_boxes: int) -> Found:
    """Return the smallest shock that loses enough, or None where there is none of a length up to `reach`.

    Parameters
    ----------
    problem : Problem
    starts : sequence of ndarray of shape (n_normals,)
        Shocks that lose enough; may be empty.
    reach : float
        Replaced by the length of the smallest start.
    most_boxes : int
        After so many the search ends with the bound that it has.
    """
    best = min(starts, key=_length, default=None)
    if best is not None:
        best = _polished(problem, best)
        reach = _length(best)
    search = _Search(problem, [Grid.of(coin, reach) for coin in problem.coins], problem.missing(), {})
    whole: Box = tuple((0, len(grid.points) - 1) for grid in search.grids)
    order = count()
    heap: list[tuple[float, int, Box, list[Row]]] = [(0.0, next(order), whole, [])]
    bound, boxes = math.inf, 0
    while heap and boxes < most_boxes:
        smallest, _, box, rows = heapq.heappop(heap)
        cutoff = reach * (1.0 - GAP) if best is not None else reach
        if smallest >= cutoff:
            bound = min(bound, smallest)
            break
        boxes += 1
        relaxed, length, rows = search.relaxed(box, rows, cutoff)
        if relaxed is None:
            bound = min(bound, length)
            continue
        near = [problem.along(relaxed, 1.0, max(reach / length, 1.0))] if length > 0.0 else []
        parts = search.split(box, relaxed)
        if not parts:
            bound = min(bound, length)
            near.append(_smallest_around(problem, search.inside(box, relaxed)))
        for shock in near:
            if shock is not None and (best is None or _length(shock) < reach):
                best = _polished(problem, shock)
                reach = _length(best)
        for part in parts:
            heapq.heappush(heap, (length, next(order), part, rows))
    bound = min([bound, *(smallest for smallest, *_ in heap)])
    return Found(best, min(bound, reach) if best is not None else bound, boxes)


@attrs.frozen(eq=False)
class _Search:
    problem: Problem
    grids: list[Grid]
    missing: float
    envelopes: dict[tuple[int, int, int], tuple[list[float], list[float]]]

    def relaxed(self, box: Box, rows: list[Row], cutoff: float) -> tuple[FloatArray | None, float, list[Row]]:
        """Return the smallest shock of the relaxed problem, a bound on the length, and the cuts; None: drop it."""
        tangents = [self._tangent(coin, *ends) for coin, ends in enumerate(box)]
        problem = self.problem
        sides = []
        for coin, (first, last) in enumerate(box):
            points, row = self.grids[coin].points, problem.factor[coin]
            if first > 0:
                sides.append((row, points[first]))
            if last < len(points) - 1:
                sides.append((-row, -points[last]))
        return _smallest(problem, tangents, problem.needed, sides, rows, cutoff)

    def split(self, box: Box, shock: FloatArray) -> list[Box]:
        """Return two parts of a box, none where it holds no more than its relaxed problem.

        The coin is the one whose envelope is furthest from its function at the shock; it is divided where the two
        are furthest apart.
        """
        normals = self.problem.factor @ shock
        gaps = []
        for coin, (first, last) in enumerate(box):
            grid, z = self.grids[coin], normals[coin]
            gaps.append(np.interp(z, *self._envelope(coin, first, last)) - np.interp(z, grid.points, grid.values))
        if sum(gaps) <= LOOSE * self.missing:
            return []
        coin = int(np.argmax(gaps))
        first, last = box[coin]
        grid, inside = self.grids[coin], slice(first + 1, last)
        over = np.interp(grid.points[inside], *self._envelope(coin, first, last)) - grid.values[inside]
        at = int(np.argmax(over)) + first + 1
        return [(*box[:coin], ends, *box[coin + 1 :]) for ends in ((first, at), (at, last))]

    def inside(self, box: Box, shock: FloatArray) -> FloatArray:
        """Return the normals of a shock, those on a side of the box moved into it."""
        normals = self.problem.factor @ shock
        for coin, (first, last) in enumerate(box):
            points = self.grids[coin].points
            normals[coin] = min(max(normals[coin], points[first] + WITHIN), points[last] - WITHIN)
        return np.asarray(normals)

    def _envelope(self, coin: int, first: int, last: int) -> tuple[list[float], list[float]]:
        key = coin, first, last
        if key not in self.envelopes:
            self.envelopes[key] = self.grids[coin].envelope(first, last)
        return self.envelopes[key]

    def _tangent(self, coin: int, first: int, last: int) -> Tangent:
        xs, ys = self._envelope(coin, first, last)

        def tangent(z: float) -> tuple[float, float]:
            k = min(max(bisect_left(xs, z), 1), len(xs) - 1)
            slope = (ys[k] - ys[k - 1]) / (xs[k] - xs[k - 1])
            return ys[k - 1] + slope * (z - xs[k - 1]), slope

        return tangent


def _smallest(
    problem: Problem,
    tangents: Sequence[Tangent],
    needed: float,
    sides: list[Row],
    rows: list[Row],
    cutoff: float,
) -> tuple[FloatArray | None, float, list[Row]]:
    """Return the smallest shock within sides that loses what is needed by concave functions, by cutting planes.

    Cuts are added to the rows that are given. None: there is none shorter than the cutoff.
    """
    cuts, always = list(rows), [*sides, *problem.rows_of_limit(needed)]
    everything = [*tangents, *([problem.bitcoin.tangent] if problem.bitcoin is not None else [])]
    shock, length, tolerance = np.zeros(problem.factor.shape[1]), 0.0, TIGHT * problem.missing()
    for _ in range(MOST_CUTS):
        nearest = _least_distance([*always, *cuts], len(shock))
        if nearest is None:
            return None, math.inf, cuts
        shock, length = nearest, max(_length(nearest), length)
        if length >= cutoff:
            return None, length, cuts
        normals = problem.factor @ shock
        values, slopes = np.array([one(z) for one, z in zip(everything, normals.tolist(), strict=True)]).T
        missing = needed - values.sum()
        if missing <= tolerance:
            break
        row = slopes @ problem.factor
        steepness = _length(row)
        if steepness == 0.0:
            return None, math.inf, cuts
        cuts.append((row / steepness, float(missing + slopes @ normals) / steepness))
    return shock, length, [cut for cut in cuts if cut[0] @ shock - cut[1] <= 1e-6 * (1.0 + length)]


def _least_distance(rows: Sequence[Row], size: int) -> FloatArray | None:
    """Return the shortest y with ``row y >= bound`` for all rows, None where there is none [Lawson and Hanson]."""
    bounds = np.array([bound for _, bound in rows])
    if not (bounds > 0.0).any():
        return np.zeros(size)
    unit = bounds.max()
    matrix = np.vstack([np.array([row for row, _ in rows]).T, bounds / unit])
    target = np.append(np.zeros(size), 1.0)
    residual = matrix @ scipy.optimize.nnls(matrix, target)[0] - target
    if residual[-1] > -1e-12:
        return None
    return np.asarray(-residual[:-1] / residual[-1] * unit)


def _polished(problem: Problem, shock: FloatArray) -> FloatArray:
    """Return the smallest shock that loses enough where every function is concave around the given one."""
    nearest = _smallest_around(problem, problem.factor @ shock)
    return shock if nearest is None or _length(nearest) > _length(shock) else nearest


def _smallest_around(problem: Problem, normals: FloatArray) -> FloatArray | None:
    """Return the smallest shock that loses enough where every function is concave around some normals, if any."""
    sides, tangents = [], []
    for coin, z, row in zip(problem.coins, normals, problem.factor, strict=False):
        low, high = coin.concave_around(z)
        sides += [(row, low)] if low > -math.inf else []
        sides += [(-row, -high)] if high < math.inf else []
        tangents.append(_tangent_within(coin, low, high))
    # A little more than enough, since cuts end a little short of what they aim at.
    aim = problem.needed + 2.0 * TIGHT * problem.missing()
    nearest, _, _ = _smallest(problem, tangents, aim, sides, [], math.inf)
    if nearest is None or problem.losses(nearest[None])[0] < problem.needed:
        return None
    return problem.along(nearest, 1.0 - 1e-6, 1.0)


def _tangent_within(coin: Coin, low: float, high: float) -> Tangent:
    """Return tangents of a coin's function that touch it between two bends, where they bound it from above."""

    def tangent(z: float) -> tuple[float, float]:
        touching = min(max(z, low + WITHIN), high - WITHIN)
        value, slope = coin.tangent(touching)
        return value + slope * (z - touching), slope

    return tangent


def _length(shock: FloatArray) -> float:
    return float(np.linalg.norm(shock))

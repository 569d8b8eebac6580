"""What all policies on one asset pay together: one piecewise-linear function of its price, and a table of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from tonsurance_risk.assets import canonical
from tonsurance_risk.model import Policy, PolicyColumns, Vault
from tonsurance_risk.values import FloatArray, IntArray, read_only

TABLE_TOLERANCE = 1e-6
"""The most by which a table may differ from its function, as a share of the function's largest payout."""
MOST_CELLS = 1 << 18
"""Cells of the largest table, 2 MB: a function that needs more is evaluated from its knots."""


@attrs.frozen
class PayoutFunction:
    """The sum of the payouts of many policies, non-increasing and piecewise linear in the peg ratio.

    Parameters
    ----------
    knots : ndarray of shape (n_knots,)
        All triggers and floors, increasing [units of the peg reference].
    values : ndarray of shape (n_knots,)
        Payout at each knot [USD].
    slopes : ndarray of shape (n_knots,)
        Payout lost for each unit that the price rises, between the knot before and this one; >= 0, and 0 for
        the first [USD].
    """

    knots: FloatArray = attrs.field(converter=read_only)
    values: FloatArray = attrs.field(converter=read_only)
    slopes: FloatArray = attrs.field(converter=read_only)

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> PayoutFunction:
        """Build the function of at least one policy."""
        columns = PolicyColumns.of(policies)
        return cls.from_columns(columns.coverage, columns.trigger, columns.floor)

    @classmethod
    def from_columns(cls, coverage: FloatArray, trigger: FloatArray, floor: FloatArray) -> PayoutFunction:
        """Build the function of at least one policy from columns of shape (n_policies,), in O(n log n).

        A slope is the sum of the steepnesses of the policies that it crosses, by exact cumulative sums: nothing
        is lost where a steep policy ends, and the result agrees with the plain sum over policies to rounding.
        """
        steepness = coverage / (trigger - floor)
        ends = np.concatenate([trigger, floor])
        order = np.argsort(ends)
        ordered = ends[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-1.0))
        knots = ordered[first]
        crossing = _exact_cumsum(np.concatenate([steepness, -steepness])[order[::-1]])
        slopes = np.append(0.0, crossing[::-1][first[1:]])
        falls = slopes[1:] * np.diff(knots)
        return cls(knots, np.append(np.cumsum(falls[::-1])[::-1], 0.0), slopes)

    @classmethod
    def of_nothing(cls) -> PayoutFunction:
        """Return the function of no policies."""
        return cls([1.0], [0.0], [0.0])

    def __call__(self, ratio: Any) -> FloatArray:
        """Return the payout at each ratio [USD], of the shape of `ratio`.

        It is computed from the knot above, ``values[k] + slopes[k] * (knots[k] - ratio)``: a sum of
        non-negative terms, exact at and above the highest trigger.
        """
        ratio = np.asarray(ratio)
        above = np.searchsorted(self.knots, ratio)
        paid = above < len(self.knots)
        above = np.minimum(above, len(self.knots) - 1)
        payout = self.slopes[above] * (self.knots[above] - ratio)
        payout += self.values[above]
        return np.where(paid, payout, 0.0)

    def tabulated(self, lowest: float) -> PayoutTable:
        """Return a table over the log ratio, from the highest trigger down to the lowest floor or `lowest`.

        Parameters
        ----------
        lowest : float
            A log ratio that is hardly ever passed. Below the table the function itself is evaluated, unless
            the table ends at the lowest floor, where the payout no longer changes.

        Notes
        -----
        With z the log ratio, f the payout and h the width of a cell, linear interpolation is off by at most
        ``h / 4`` times the sum of the jumps of df/dz at the knots within one cell, plus ``h^2 / 8`` times the
        largest |d2f/dz2| = slope * ratio between knots. The number of cells is taken from that bound; the
        lowest and the highest knot lie at nodes and add nothing.
        """
        top = math.log(self.knots[-1])
        floor = math.log(self.knots[0]) if self.knots[0] > 0.0 else -math.inf
        bottom = min(max(floor, lowest), top - 1e-9)
        cells = self._cells(top, bottom)
        if cells is None:
            return PayoutTable(self, lowest, top, 1.0, read_only([]), False)
        step = (top - bottom) / cells
        values = np.arange(cells + 2, dtype=np.float64)
        values *= -step
        values += top
        np.exp(values, out=values)
        values = np.interp(values, self.knots, self.values)
        values[0] = 0.0
        values[-2:] = self.values[0] if bottom <= floor else values[-2]
        values.setflags(write=False)
        return PayoutTable(self, lowest, top, step, values, bottom <= floor)

    def _cells(self, top: float, bottom: float) -> int | None:
        """Return how many cells keep the table within its tolerance, None where too many would be needed."""
        span, tolerance = top - bottom, TABLE_TOLERANCE * self.values[0]
        if tolerance == 0.0:
            return 1
        inside = (self.knots > math.exp(bottom)) & (self.knots < self.knots[-1])
        jumps = (np.abs(np.diff(self.slopes, append=0.0)) * self.knots)[inside]
        depths = top - np.log(self.knots[inside])
        bend = float((self.slopes * self.knots).max())
        # A bound from below: the largest jump alone, and the bend alone.
        cells: float = 64.0 + span * max(
            float(jumps.max(initial=0.0)) / (4.0 * tolerance), math.sqrt(bend / (8.0 * tolerance))
        )
        while cells <= MOST_CELLS:
            width = span / math.ceil(cells)
            worst = 0.0
            if len(jumps):
                cell = np.floor(depths[::-1] / width)
                starts = np.flatnonzero(np.diff(cell, prepend=-1.0))
                worst = float(np.add.reduceat(jumps[::-1], starts).max())
            error = width / 4.0 * worst + width**2 / 8.0 * bend
            if error <= tolerance:
                return math.ceil(cells)
            cells *= max(1.05, min(error / tolerance, 2.0))
        return None


@attrs.frozen
class Workspace:
    """Arrays that evaluating tables writes to, of shape (size,); made once, used for every block."""

    losses: FloatArray
    whole: FloatArray
    low: FloatArray
    high: FloatArray
    cell: IntArray

    FLOATS: ClassVar[int] = 5

    @classmethod
    def of(cls, size: int, memory: FloatArray | None = None) -> Workspace:
        """Return arrays for up to `size` positions, in memory for 5 numbers each."""
        memory = np.empty(cls.FLOATS * size) if memory is None else memory
        losses, whole, low, high, cell = memory[: cls.FLOATS * size].reshape(cls.FLOATS, size)
        return cls(losses, whole, low, high, cell.view(np.int64))


@attrs.frozen(eq=False)
class PayoutTable:
    """A payout function read off nodes: ``position = (top - ln ratio) / step`` counts cells from the trigger.

    Parameters
    ----------
    function : PayoutFunction
        What is tabulated.
    lowest : float
        As `PayoutFunction.tabulated` was asked; a pickled table is made again from it.
    top, step : float
        Log ratio of the first node, and how far apart nodes are.
    values : ndarray of shape (n_cells + 2,)
        Payout at each node, the last one twice [USD]; empty where no table is good enough, and then the
        function itself is evaluated.
    ends_at_floor : bool
        Whether the payout beyond the last node is that of the last node.
    """

    function: PayoutFunction
    lowest: float
    top: float
    step: float
    values: FloatArray
    ends_at_floor: bool

    def __reduce__(self) -> tuple[Callable[..., PayoutTable], tuple[Any, ...]]:
        """Pickle the function, not its much larger table."""
        return PayoutFunction.tabulated, (self.function, self.lowest)

    def payouts(self, position: FloatArray, work: Workspace) -> FloatArray:
        """Return the payout at each position [USD], a view into `work`; `position` is overwritten.

        It is within 1e-6 of the largest payout of the function, and exactly 0 and exactly the largest payout
        where the function is.
        """
        size = len(position)
        if not len(self.values):
            work.low[:size] = self.function(self.ratio(position))
            return work.low[:size]
        cells = len(self.values) - 2
        beyond = None if self.ends_at_floor else np.flatnonzero(position > cells)
        exact = None if beyond is None or not len(beyond) else self.function(self.ratio(position[beyond]))
        whole, low, high, cell = work.whole[:size], work.low[:size], work.high[:size], work.cell[:size]
        np.clip(position, 0.0, float(cells), out=position)
        np.floor(position, out=whole)
        np.copyto(cell, whole, casting="unsafe")
        # In range by the clip above; the mode spares numpy a check and a copy.
        self.values.take(cell, out=low, mode="clip")
        self.values[1:].take(cell, out=high, mode="clip")
        np.subtract(position, whole, out=position)
        np.subtract(high, low, out=high)
        np.multiply(high, position, out=high)
        np.add(low, high, out=low)
        if beyond is not None and exact is not None:
            low[beyond] = exact
        return low

    def ratio(self, position: FloatArray) -> FloatArray:
        """Return the peg ratio at each position."""
        return np.asarray(np.exp(self.top - self.step * position))


def payout_functions(vault: Vault) -> dict[str, PayoutFunction]:
    """Return the payout function of every covered asset, by symbol, sorted."""
    columns = vault.columns
    return {
        asset: PayoutFunction.from_columns(columns.coverage[rows], columns.trigger[rows], columns.floor[rows])
        for asset, rows in policies_by_asset(vault).items()
    }


def policies_by_asset(vault: Vault) -> dict[str, IntArray]:
    """Return the positions of the policies on every covered asset, by symbol, sorted."""
    if not vault.policies:
        return {}
    names = [canonical(symbol) for symbol in vault.columns.symbols]
    assets = sorted(set(names))
    place = np.array([assets.index(name) for name in names])
    asset = place[vault.columns.symbol]
    order = np.argsort(asset, stable=True)
    return dict(zip(assets, np.split(order, np.cumsum(np.bincount(asset))[:-1]), strict=True))


def _exact_cumsum(terms: FloatArray) -> FloatArray:
    """Return the cumulative sums of terms of both signs, each to rounding of itself, however much cancels.

    Each pass splits off the leading bits of every term as multiples of one unit so coarse that their sums
    have no rounding error. Three passes reach 3 (52 - log2 n) bits below the largest term: 114 for 16,384.

    References
    ----------
    S. M. Rump, T. Ogita and S. Oishi, "Accurate floating-point summation part I: faithful rounding", SIAM
    Journal on Scientific Computing 31 (2008) 189-224, doi:10.1137/050645671, algorithm 3.2 (ExtractVector).
    """
    rest, total = terms, np.zeros(len(terms))
    sums = []
    for _ in range(3):
        largest = float(np.abs(rest).max(initial=0.0))
        if largest == 0.0:
            break
        unit = 2.0 ** (math.frexp(largest)[1] + (len(terms) + 2).bit_length())
        leading = (unit + rest) - unit
        sums.append(np.cumsum(leading))
        rest = rest - leading
    for part in sums[::-1]:
        total += part
    return total

"""What is kept of simulations: moments by stratum, and of the losses all or only the tail."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tonsurance_risk.core.loss_model import Segments
from tonsurance_risk.core.sampling import BLOCK, Draw
from tonsurance_risk.values import FloatArray, IntArray


@attrs.frozen(eq=False)
class Tally:
    """Moments of the losses by stratum, and what the replicates sum to; tallies add up.

    A unit is what is drawn independently of its like: one simulation, or an antithetic pair with the mean of its
    losses. Losses are weighted where simulations are.

    Parameters
    ----------
    simulations, units : ndarray of int of shape (n_strata,)
        How many.
    total, squares : ndarray of shape (n_strata,)
        Sum over units, and sum of squared deviations from their mean [USD, USD^2].
    weight : ndarray of shape (n_strata,)
        Sum of the simulations' weights.
    worst, best : ndarray of shape (n_strata,)
        Largest and smallest loss [USD]; -inf and inf where there is none.
    replicates : ndarray of shape (16,)
        Sum of the losses of each replicate of Sobol points; 0 for other kinds [USD].
    """

    simulations: IntArray
    units: IntArray
    total: FloatArray
    squares: FloatArray
    weight: FloatArray
    worst: FloatArray
    best: FloatArray
    replicates: FloatArray

    @classmethod
    def of(
        cls, draw: Draw, losses: FloatArray, per_unit: int, replicates: FloatArray, scratch: FloatArray
    ) -> Tally:
        """Return the tally of a block whose losses stand in runs, `per_unit` of them a unit.

        `scratch` is memory for as many numbers.
        """
        n_strata = len(draw.stratum) // per_unit
        lengths = draw.segments.lengths[:n_strata]
        weighted = losses if draw.weights is None else losses * draw.weights
        size = len(losses) // per_unit
        values = weighted if per_unit == 1 else (weighted[:size] + weighted[size:]) / 2.0
        total = _by_run(np.add, values, lengths)
        means, deviations = total / np.maximum(lengths, 1), scratch[:size]
        for stratum, run in Segments(np.arange(n_strata), lengths):
            np.subtract(values[run], means[stratum], out=deviations[run])
        deviations *= deviations
        by_half = losses.reshape(per_unit, size)
        return cls(
            simulations=lengths * per_unit,
            units=lengths,
            total=total,
            squares=_by_run(np.add, deviations, lengths),
            weight=lengths.astype(np.float64) * per_unit
            if draw.weights is None
            else _by_run(np.add, draw.weights, lengths),
            worst=_by_run(np.maximum, by_half.max(axis=0), lengths, -math.inf),
            best=_by_run(np.minimum, by_half.min(axis=0), lengths, math.inf),
            replicates=replicates,
        )

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both, squares combined by the means of each.

        References
        ----------
        T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
        recommendations", The American Statistician 37 (1983) 242-247, doi:10.1080/00031305.1983.10483115.
        """
        units = self.units + other.units
        difference = self.total / np.maximum(self.units, 1) - other.total / np.maximum(other.units, 1)
        between = difference**2 * self.units * other.units / np.maximum(units, 1)
        return Tally(
            self.simulations + other.simulations,
            units,
            self.total + other.total,
            self.squares + other.squares + between,
            self.weight + other.weight,
            np.maximum(self.worst, other.worst),
            np.minimum(self.best, other.best),
            self.replicates + other.replicates,
        )

    @property
    def n(self) -> int:
        """Simulations."""
        return int(self.simulations.sum())


@attrs.frozen(eq=False)
class Part:
    """Simulations of a run of blocks: all of them in order, or those above a cut.

    Parameters
    ----------
    first : int
        Number of the first simulation.
    losses : ndarray of shape (k,)
        [USD]
    stratum : ndarray of int of shape (k,)
    weights : ndarray of shape (k,), optional
    index : ndarray of int of shape (k,), optional
        Numbers of the simulations; None where all are there, or where nothing depends on them.
    tallies : tuple of Tally
        One a block.
    """

    first: int
    losses: FloatArray
    stratum: NDArray[Any]
    weights: FloatArray | None
    index: IntArray | None
    tallies: tuple[Tally, ...]


class TailCollector:
    """Keeps the largest losses of all that it is shown, exactly, in bounded memory and in their order.

    However the losses are cut into parts, it ends with every loss above the cut, which is the largest loss that
    has a weight of `reach` or more from it upwards.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.cut = -math.inf
        self._columns: dict[str, NDArray[Any]] = {}
        self._size = 0

    def add(self, part: Part) -> None:
        """Take in the losses of a part above the cut."""
        columns = {name: getattr(part, name) for name in _COLUMNS if getattr(part, name) is not None}
        kept = part.losses > self.cut
        if self._columns and self._size + int(kept.sum()) > len(self._columns["losses"]):
            self._raise_cut()
            kept = part.losses > self.cut
        end = self._size + int(kept.sum())
        if not self._columns or end > len(self._columns["losses"]):
            room = max(self.reach + self.reach // 16 + 4 * BLOCK, 2 * end)
            self._columns = {
                name: _enlarged(self._columns.get(name, values[:0]), room) for name, values in columns.items()
            }
        for name, values in columns.items():
            self._columns[name][self._size : end] = values[kept]
        self._size = end

    def finished(self) -> Part:
        """Return what is above the cut; it is overwritten when more is added."""
        self._raise_cut()
        columns: dict[str, Any] = dict.fromkeys(_COLUMNS)
        columns |= {name: values[: self._size] for name, values in self._columns.items()}
        return Part(first=0, tallies=(), **columns)

    def _raise_cut(self) -> None:
        losses = self._columns["losses"][: self._size].copy()
        if "weights" in self._columns:
            order = np.argsort(-losses)
            place = int(np.searchsorted(np.cumsum(self._columns["weights"][: self._size][order]), self.reach))
            losses = losses[order]
        else:
            place = self.reach - 1
            if place < len(losses):
                np.negative(losses, out=losses)
                losses.partition(place)
                np.negative(losses, out=losses)
        if place < len(losses):
            self.cut = float(losses[place])
            del losses
            self._drop()

    def _drop(self) -> None:
        """Move the losses above the cut together, in pieces that need little memory."""
        end = 0
        for first in range(0, self._size, BLOCK):
            piece = slice(first, min(first + BLOCK, self._size))
            kept = self._columns["losses"][piece] > self.cut
            to = slice(end, end + int(kept.sum()))
            for column in self._columns.values():
                column[to] = column[piece][kept]
            end = to.stop
        self._size = end


_COLUMNS = ("losses", "stratum", "weights", "index")


def _enlarged(values: NDArray[Any], room: int) -> NDArray[Any]:
    larger = np.empty(room, dtype=values.dtype)
    larger[: len(values)] = values
    return larger


def sum_of(tallies: list[Tally]) -> Tally:
    """Return the sum of at least one tally, in their order."""
    return reduce(add, tallies)


def _by_run(ufunc: np.ufunc, values: FloatArray, lengths: IntArray, empty: float = 0.0) -> FloatArray:
    """Reduce each run of `values`; `empty` stands for a run without any."""
    reduced = np.full(len(lengths), empty)
    filled = lengths > 0
    if filled.any():
        reduced[filled] = ufunc.reduceat(values, (np.cumsum(lengths) - lengths)[filled])
    return reduced

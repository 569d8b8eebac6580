"""How scenarios and normals are drawn: five kinds, block by block, each block from a stream of its own.

A stratum is a scenario, or a tilted copy of one for importance sampling. A block is drawn in runs of one stratum;
where simulations are to stand in random order (plain, sobol), `Draw.order` says where each belongs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import attrs
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

from tonsurance_risk.core.loss_model import LossModel, Segments
from tonsurance_risk.core.payoff import Workspace
from tonsurance_risk.core.scenarios import indices_at
from tonsurance_risk.values import FloatArray, IntArray, read_only

Filler = Callable[[FloatArray], None]
"""Writes the next normals to an array of shape (n_normals, some simulations)."""
Sampling = Literal["plain", "stratified", "antithetic", "sobol", "importance"]

BLOCK = 131_072
"""Simulations a block. Fixed: another size gives other losses for the same seed."""
REPLICATES = 16
"""Independent scramblings of the Sobol points; simulation i belongs to replicate i % 16."""
SOBOL_BITS = 30
"""Of each coordinate of a Sobol point; a scrambling has 2^30 points."""
MOST_POINTS = REPLICATES << SOBOL_BITS
"""Simulations by Sobol points."""
COLUMNS = 1 << 13
"""Simulations whose normals are made at a time and stay in the cache until they are used. Fixed, as BLOCK is."""
LARGEST_PRODUCT = 1 << 18
"""OpenBLAS computes a matrix product of at most 2^18 multiplications in the calling thread [interface/gemm.c:
SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD]. Larger ones wake its own threads, which fight with those of the
executor for the cores."""


@attrs.frozen(eq=False)
class Tilt:
    """How importance sampling draws: each scenario in copies, whose normals are shifted along one direction.

    Parameters
    ----------
    direction : ndarray of shape (n_scenarios, n_moving)
        Unit vectors along which the loss rises.
    shift : ndarray of shape (n_scenarios, n_copies)
        How far the mean of each copy lies along them; the first copy is the scenario itself, shift 0.
    mass : ndarray of shape (n_scenarios, n_copies)
        Probability of drawing each copy; 0 for a scenario that cannot happen. Sums to 1.
    """

    direction: FloatArray
    shift: FloatArray
    mass: FloatArray

    def weights(self, projection: FloatArray, segments: Segments, shares: FloatArray) -> FloatArray:
        """Return the likelihood ratio of each simulation, of its normals' projection on the direction.

        With t the projection and a_sc the mass of copy c of scenario s,
        ``p_s / sum_c a_sc exp(shift_sc t - shift_sc^2 / 2)``: the density of the scenario over that of the
        mixture of its copies (the balance heuristic), at most p_s / a_s0, and 0 where p_s is.

        References
        ----------
        E. Veach and L. J. Guibas, "Optimally combining sampling techniques for Monte Carlo rendering",
        Proceedings of SIGGRAPH (1995) 419-428, doi:10.1145/218380.218498, section 3.
        """
        drawn = np.zeros(len(projection))
        possible = shares > 0.0
        # A scenario that cannot happen is never drawn: its density is 0, and so is the weight, 1 / inf.
        scaled = np.full(self.mass.shape, np.inf)
        with np.errstate(divide="ignore"):
            scaled[possible] = np.log(self.mass[possible]) - np.log(shares[possible])[:, None]
        scaled -= self.shift**2 / 2.0
        for copy in range(self.shift.shape[1]):
            exponent = segments.spread(self.shift[:, copy])
            exponent *= projection
            exponent += segments.spread(scaled[:, copy])
            drawn += np.exp(exponent, out=exponent)
        return np.asarray(1.0 / drawn)


@attrs.frozen(eq=False)
class Plan:
    """What is needed to draw any block: small, and the same for every worker.

    Parameters
    ----------
    sampling : {"plain", "stratified", "antithetic", "sobol", "importance"}
    seed : int
    cumulated : ndarray of shape (n_strata,)
        Upper ends of the strata's parts of [0, 1].
    scenario : ndarray of int of shape (n_strata,)
        The scenario of each stratum.
    maps : ndarray of shape (n_strata, n_rows, n_moving + 1)
        From normals to positions, and for importance sampling in a last row to the projection.
    shares : ndarray of shape (n_scenarios,)
        Probabilities of the scenarios.
    tilt : Tilt, optional
        Of importance sampling.
    turned : ndarray of shape (n_scenarios, n_moving, n_moving), optional
        How the normals of each scenario are rotated, which `maps` include.
    late : int
        How many of the last normals come from a stream of their own.
    """

    sampling: Sampling
    seed: int
    cumulated: FloatArray
    scenario: IntArray
    maps: FloatArray
    shares: FloatArray
    tilt: Tilt | None = None
    turned: FloatArray | None = None
    late: int = 0

    @classmethod
    def of(
        cls,
        model: LossModel,
        sampling: Sampling,
        seed: int,
        tilt: Tilt | None = None,
        turned: FloatArray | None = None,
        late: int = 0,
    ) -> Plan:
        """Return the plan of a model; `turned` rotates the normals of each scenario (n_scenarios, n, n)."""
        maps = model.position_maps()
        if turned is not None:
            maps[:, :, :-1] = maps[:, :, :-1] @ turned
        cumulated, scenario = model.cumulated, np.arange(len(model.cumulated))
        if tilt is not None:
            copies = tilt.shift.shape[1]
            scenario = np.repeat(scenario, copies)
            moved = tilt.direction[scenario] * tilt.shift.reshape(-1, 1)
            rows = np.concatenate([maps, np.zeros((len(maps), 1, maps.shape[2]))], axis=1)
            rows[:, -1, :-1] = tilt.direction
            maps = rows[scenario]
            maps[:, :, -1] += np.einsum("sij,sj->si", maps[:, :, :-1], moved)
            cumulated = _cumulated(tilt.mass.ravel())
        return cls(
            sampling=sampling,
            seed=seed,
            cumulated=read_only(cumulated),
            scenario=read_only(scenario),
            maps=read_only(maps),
            shares=model.shares,
            tilt=tilt,
            turned=turned,
            late=late,
        )

    @property
    def n_normals(self) -> int:
        """Normals of one simulation."""
        return int(self.maps.shape[2] - 1)

    @property
    def unit(self) -> int:
        """How many simulations are drawn together: 2 of an antithetic pair, else 1."""
        return 2 if self.sampling == "antithetic" else 1

    def centres(self, model: LossModel) -> tuple[FloatArray, FloatArray]:
        """Return loss [USD] and weight at the centre of each stratum, its normals all at their means."""
        if self.tilt is None:
            return model.level_losses(), np.ones(len(self.cumulated))
        segments = Segments(self.scenario, np.ones_like(self.scenario))
        centre = self.maps[:, :, -1].T
        work = Workspace.of(len(self.cumulated))
        weights = self.tilt.weights(centre[-1], segments, self.shares)
        return model.losses(centre[:-1].copy(), segments, work), weights

    def rounded(self, n: int) -> int:
        """Return how many simulations are drawn where n are asked for: even, or 16 times a power of 2."""
        if self.sampling == "sobol":
            return REPLICATES << max(math.ceil(n / REPLICATES) - 1, 0).bit_length()
        return n + n % self.unit


@attrs.frozen(eq=False)
class Draw:
    """The draws of one block: runs of one stratum.

    Parameters
    ----------
    stratum : ndarray of int of shape (n_runs,)
    segments : Segments
        The same runs by scenario.
    positions : ndarray of shape (n_moving, size)
    weights : ndarray of shape (size,), optional
        Likelihood ratios of importance sampling.
    order : ndarray of int of shape (size,), optional
        The place of each simulation in the block; None: they stand in order.
    """

    stratum: IntArray
    segments: Segments
    positions: FloatArray
    weights: FloatArray | None
    order: IntArray | None


def block_sizes(n: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (block, size) of the simulations from `start`, the beginning of a block, up to n."""
    for first in range(start, n, BLOCK):
        yield first // BLOCK, min(BLOCK, n - first)


class Sampler:
    """Draws the blocks of a plan, in arrays that the next block overwrites."""

    def __init__(self, plan: Plan, memory: FloatArray) -> None:
        self._plan = plan
        self._generator = _Normals(memory)
        self._memory = memory[_Normals.FLOATS :]

    @staticmethod
    def floats(plan: Plan, largest: int) -> int:
        """Return how many numbers of memory blocks of up to that size need."""
        return int(_Normals.FLOATS + (plan.n_normals + 1) * COLUMNS + plan.maps.shape[1] * largest)

    def draw(self, block: int, size: int) -> Draw:
        """Return the draws of a block of that many simulations."""
        plan = self._plan
        rows, used = plan.maps.shape[1], (plan.n_normals + 1) * COLUMNS
        positions = self._memory[used : used + rows * size].reshape(rows, size)
        counts, order, fill = self._drawn(block, size)
        units, ends = size // plan.unit, np.cumsum(counts)
        for first in range(0, units if rows else 0, COLUMNS):
            end = min(first + COLUMNS, units)
            normals = self._memory[: (plan.n_normals + 1) * (end - first)].reshape(-1, end - first)
            fill(normals[:-1])
            normals[-1] = 1.0
            self._map(normals, ends, first, positions[:, first:end])
            if plan.unit == 2:
                np.negative(normals[:-1], out=normals[:-1])
                self._map(normals, ends, first, positions[:, units + first : units + end])
        runs, lengths = np.tile(np.arange(len(counts)), plan.unit), np.tile(counts, plan.unit)
        segments = Segments(plan.scenario[runs], lengths)
        weights = None
        if plan.tilt is not None:
            weights = plan.tilt.weights(positions[-1], segments, plan.shares)
            positions = positions[:-1]
        return Draw(runs, segments, positions, weights, order)

    def _drawn(self, block: int, size: int) -> tuple[IntArray, IntArray | None, Filler]:
        """Return how many units fall to each stratum, their order, and what fills in the next of their normals."""
        plan = self._plan
        rng, late = _stream(plan.seed, block), _stream(plan.seed, block, 1)
        early, n_strata = plan.n_normals - plan.late, len(plan.cumulated)
        if plan.sampling == "sobol":
            points = self._points(block, size, 1 + early)
            counts, order = _in_runs(indices_at(plan.cumulated, points[:, 0]), n_strata)
            return counts, order, self._quasirandom(points[order, 1:].T, late)
        if plan.sampling == "plain":
            counts, order = _in_runs(indices_at(plan.cumulated, np.asarray(rng.random(size))), n_strata)
            return counts, order, self._pseudorandom(rng, late)
        counts = _systematic_counts(plan.cumulated, size // plan.unit, rng.random())
        return counts, None, self._pseudorandom(rng, late)

    def _pseudorandom(self, rng: np.random.Generator, late: np.random.Generator) -> Filler:
        early = self._plan.n_normals - self._plan.late

        def fill(normals: FloatArray) -> None:
            self._generator.fill(rng, normals[:early].reshape(-1))
            self._generator.fill(late, normals[early:].reshape(-1))

        return fill

    def _quasirandom(self, points: FloatArray, late: np.random.Generator) -> Filler:
        starts = itertools.count(0, COLUMNS)

        def fill(normals: FloatArray) -> None:
            first = next(starts)
            # Points lie on multiples of 2^-30 from 0 on; the middles of their cells are never 0 or 1.
            special.ndtri(
                points[:, first : first + normals.shape[1]] + 2.0 ** -(SOBOL_BITS + 1), out=normals[: len(points)]
            )
            self._generator.fill(late, normals[len(points) :].reshape(-1))

        return fill

    def _points(self, block: int, size: int, dimensions: int) -> FloatArray:
        """Return the points of every replicate for a block, shape (size, dimensions).

        Point i of a replicate is ``x_0 xor A i``, A linear over the bits of i: a run of 2^k points that begins at
        a multiple of 2^k is the first run, all with the same bits flipped.
        """
        start, count = block * BLOCK // REPLICATES, size // REPLICATES
        points = _first_points(self._plan.seed, dimensions, count)
        for bit in range(count.bit_length() - 1, start.bit_length()):
            if start >> bit & 1:
                points = points ^ _flips(self._plan.seed, dimensions, bit)
        return np.multiply(points.reshape(size, dimensions), 2.0**-SOBOL_BITS)

    def _map(self, normals: FloatArray, ends: IntArray, first: int, out: FloatArray) -> None:
        """Write the positions of the units from `first` on: each stratum's map times its normals."""
        last = first + normals.shape[1]
        for stratum in range(int(np.searchsorted(ends, first, side="right")), len(ends)):
            low, high = max(int(ends[stratum - 1]) if stratum else 0, first), min(int(ends[stratum]), last)
            if low >= last:
                break
            multiply(
                self._plan.maps[stratum],
                normals[:, low - first : high - first],
                out[:, low - first : high - first],
            )


def multiply(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Write the product of two matrices to `out`, in pieces that BLAS does not thread."""
    most = max(LARGEST_PRODUCT // left.size, 1)
    for low in range(0, right.shape[1], most):
        np.matmul(left, right[:, low : low + most], out=out[:, low : low + most])


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@functools.lru_cache(maxsize=2)
def _first_points(seed: int, dimensions: int, count: int) -> NDArray[np.uint32]:
    """Return the first points of every replicate [2^-30], shape (count, REPLICATES, dimensions)."""
    engines = [_sobol(seed, dimensions, replicate) for replicate in range(REPLICATES)]
    return read_only(np.stack([_bits(engine.random(count)) for engine in engines], axis=1))


@functools.lru_cache(maxsize=64)
def _flips(seed: int, dimensions: int, bit: int) -> NDArray[np.uint32]:
    """Return the bits in which points 0 and 2^bit of a replicate differ, shape (REPLICATES, dimensions)."""
    flips = np.empty((REPLICATES, dimensions), dtype=np.uint32)
    for replicate in range(REPLICATES):
        engine = _sobol(seed, dimensions, replicate)
        first = _bits(engine.random(1))[0]
        engine.fast_forward((1 << bit) - 1)
        flips[replicate] = first ^ _bits(engine.random(1))[0]
    return read_only(flips)


def _sobol(seed: int, dimensions: int, replicate: int) -> scipy.stats.qmc.Sobol:
    return scipy.stats.qmc.Sobol(dimensions, scramble=True, bits=SOBOL_BITS, rng=_stream(seed, replicate))


def _bits(points: FloatArray) -> NDArray[np.uint32]:
    return (points * 2.0**SOBOL_BITS).astype(np.uint32)


def _systematic_counts(cumulated: FloatArray, size: int, start: float) -> IntArray:
    """Return how many of the points (j + start) / size, j = 0, 1, ..., lie in each stratum's part of [0, 1)."""
    points = (np.arange(size) + start) / size
    ends = np.where(cumulated < 1.0, np.searchsorted(points, cumulated), size)
    return np.diff(ends, prepend=0)


def _in_runs(stratum: IntArray, n_strata: int) -> tuple[IntArray, IntArray]:
    """Return the count of each stratum, and the order that brings simulations into runs of one stratum."""
    small = stratum.astype(np.uint16) if n_strata <= 1 << 16 else stratum
    return np.bincount(stratum, minlength=n_strata), np.argsort(small, kind="stable")


PAIRS = 1 << 16
"""Pairs of normals made at a time: what they need stays in the cache of a core."""


class _Normals:
    """Standard normals of float32 precision, by Box and Muller's transform.

    Three times as fast as the ziggurat of `Generator.standard_normal`, because numpy's logarithm, sine and
    cosine of float32 take 16 values at once. Of the 53 bits of a uniform double 27 give the radius, in the middle
    of their cell, and 26 the angle; the largest normal is 6.2, passed once in 10^9.

    References
    ----------
    G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates", Annals of Mathematical
    Statistics 29 (1958) 610-611, doi:10.1214/aoms/1177706645.
    """

    FLOATS = 4 * PAIRS

    def __init__(self, memory: FloatArray) -> None:
        self._uniform, self._whole = memory[: 2 * PAIRS].reshape(2, PAIRS)
        self._radius, self._angle, self._cosine, _ = (
            memory[2 * PAIRS : self.FLOATS].view(np.float32).reshape(4, PAIRS)
        )

    def fill(self, rng: np.random.Generator, out: FloatArray) -> None:
        """Fill a flat array."""
        for first in range(0, len(out), 2 * PAIRS):
            self._fill(rng, out[first : first + 2 * PAIRS])

    def _fill(self, rng: np.random.Generator, out: FloatArray) -> None:
        half = (len(out) + 1) // 2
        uniform, whole = self._uniform[:half], self._whole[:half]
        radius, angle, cosine = self._radius[:half], self._angle[:half], self._cosine[:half]
        rng.random(out=uniform)
        uniform *= 2.0**27
        np.floor(uniform, out=whole)
        uniform -= whole
        np.multiply(uniform, 2.0 * math.pi, out=angle, casting="same_kind")
        whole += 0.5
        np.multiply(whole, 2.0**-27, out=radius, casting="same_kind")
        np.log(radius, out=radius)
        radius *= np.float32(-2.0)
        np.sqrt(radius, out=radius)
        np.cos(angle, out=cosine)
        np.sin(angle, out=angle)
        np.multiply(cosine, radius, out=out[:half])
        np.multiply(angle[: len(out) - half], radius[: len(out) - half], out=out[half:])


def _cumulated(mass: FloatArray) -> FloatArray:
    cumulated = np.cumsum(mass)
    cumulated /= cumulated[-1]
    cumulated[int(np.flatnonzero(mass)[-1]) :] = 1.0
    return cumulated

"""Where the large losses are: found by a pilot run, for importance sampling and for Sobol points.

In each scenario the loss rises most along one direction of the normals. Along it importance sampling shifts their
mean, and the first Sobol coordinate is laid.

References
----------
P. Glasserman, P. Heidelberger and P. Shahabuddin, "Variance reduction techniques for estimating Value-at-Risk",
Management Science 46 (2000) 1349-1364, doi:10.1287/mnsc.46.10.1349.1 (tilting along the gradient of the loss).

J. Imai and K. S. Tan, "A general dimension reduction technique for derivative pricing", Journal of Computational
Finance 10 (2006) 129-155, doi:10.21314/JCF.2006.143 (the first coordinate along the gradient).
"""

from __future__ import annotations

import numpy as np

from tonsurance_risk.core.loss_model import LossModel, Segments
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.core.payoff import Workspace
from tonsurance_risk.core.sampling import Tilt, multiply
from tonsurance_risk.values import FloatArray, read_only

PILOT_KEY = 1 << 40
"""Spawn key of the pilot's stream: no block has it."""
PILOT_DRAWS = 1024
"""Simulations of each scenario that give its direction."""
PILOT_SPREAD = 2.0
"""The standard deviation of the normals of those: the slope that matters is in the tail."""
PILOT_LINES = 64
"""Lines along the direction of each scenario, through independent draws of the other coordinates."""
GRID = np.arange(-32, 33) / 4.0
"""Points of a line, in standard deviations."""
DEFENSIVE = 0.1
"""Share of the simulations that importance sampling draws as they are, so that no weight exceeds 10.

T. Hesterberg, "Weighted average importance sampling and defensive mixture distributions", Technometrics 37 (1995)
185-194, doi:10.1080/00401706.1995.10484303."""


def loss_directions(model: LossModel, seed: int) -> FloatArray:
    """Return by scenario the unit vector along which the loss rises, shape (n_scenarios, n_moving).

    It is that of the least-squares plane through pilot losses; the first coordinate where they are all alike.
    """
    count, maps = len(model.moving), model.position_maps()
    directions = np.zeros((len(model.levels), count))
    directions[:, :1] = 1.0
    normals = PILOT_SPREAD * _pilot_normals(seed, 0, count, PILOT_DRAWS)
    centred = normals - normals.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,kj->ik", centred, centred)
    for scenario in np.flatnonzero(model.shares):
        losses = _losses(model, maps[scenario], scenario, normals)
        gradient = np.linalg.solve(squares, np.einsum("ij,j->i", centred, losses - losses.mean()))
        length = float(np.linalg.norm(gradient))
        if length > 0.0:
            directions[scenario] = gradient / length
    return directions


def rotations(directions: FloatArray) -> FloatArray:
    """Return by scenario the reflection that takes the first coordinate to its direction.

    Householder's ``I - 2 v v' / v'v`` with ``v = e_1 - d``.
    """
    mirror = -directions
    mirror[:, :1] += 1.0
    squares = (mirror**2).sum(axis=1)
    scale = np.where(squares > 1e-30, 2.0 / np.maximum(squares, 1e-30), 0.0)
    outer = mirror[:, :, None] * mirror[:, None, :]
    return np.asarray(np.eye(directions.shape[1]) - scale[:, None, None] * outer)


def tilt_for(model: LossModel, seed: int, level: float) -> Tilt:
    """Return how to draw so that the losses beyond a level, and beyond ten times rarer losses' level, are common.

    Parameters
    ----------
    model : LossModel
        Without any normals only the scenarios' probabilities are tilted.
    seed : int
        Of the pilot.
    level : float
        In (0, 1), for example 0.999; 1 - 10 (1 - level) is looked at as well where that is above 0.

    Notes
    -----
    With d the direction of a scenario, the pilot gives the loss on lines z + t d through draws z orthogonal to
    d, and so A_k, the probability of a loss above the quantile q at t_k. Weighted by the normal density phi,
    all lines of all scenarios give q. A shift of mu along d makes the second moment of the estimator
    ``m(mu) = sum_k phi_k A_k exp(mu^2 / 2 - mu t_k)``; mu is where it is smallest, and the scenario is drawn
    in proportion to ``p sqrt(m(mu) - (sum_k phi_k A_k)^2)``, which is Neyman's allocation.
    """
    directions = loss_directions(model, seed)
    shares, maps = model.shares, model.position_maps()
    density = np.exp(-(GRID**2) / 2.0)
    density /= density.sum()
    lines = np.zeros((len(shares), len(GRID), PILOT_LINES))
    for scenario in np.flatnonzero(shares):
        along = directions[scenario]
        across = _pilot_normals(seed, 1, len(along), PILOT_LINES)
        across -= np.outer(along, along @ across)
        points = across[:, None, :] + along[:, None, None] * GRID[:, None]
        lines[scenario] = _losses(
            model, maps[scenario], scenario, points.reshape(len(along), len(GRID) * PILOT_LINES)
        ).reshape(len(GRID), PILOT_LINES)
    mass_of_points = np.broadcast_to((shares[:, None] * density)[:, :, None] / PILOT_LINES, lines.shape)
    tail = float(1 - exact_level(level))
    masses, shifts = [DEFENSIVE * shares], [np.zeros(len(shares))]
    targets = [share for share in (10.0 * tail, tail) if share < 1.0]
    for target in targets:
        beyond = (lines > _upper_quantile(lines, mass_of_points, target)).mean(axis=2)
        shift, mass = _best_shift(beyond, density, shares)
        masses.append((1.0 - DEFENSIVE) / len(targets) * mass)
        shifts.append(shift)
    return Tilt(read_only(directions), read_only(np.transpose(shifts)), read_only(np.transpose(masses)))


def _best_shift(beyond: FloatArray, density: FloatArray, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return shift and mass of each scenario, given the probability of a hit on the grid (n_scenarios, n_grid)."""
    candidates = GRID[GRID >= 0.0]
    ratio = np.exp(candidates[:, None] ** 2 / 2.0 - candidates[:, None] * GRID)
    moments = (beyond * density) @ ratio.T
    best = np.argmin(moments, axis=1)
    variance = moments[np.arange(len(shares)), best] - (beyond @ density) ** 2
    mass = shares * np.sqrt(np.maximum(variance, 0.0))
    if not mass.sum() > 0.0:
        return np.zeros(len(shares)), shares
    return candidates[best], mass / mass.sum()


def _upper_quantile(values: FloatArray, mass: FloatArray, share: float) -> float:
    """Return the value above which at most that share of the mass lies."""
    order = np.argsort(values, axis=None)[::-1]
    above = np.cumsum(mass.ravel()[order])
    return float(values.ravel()[order[min(int(np.searchsorted(above, share, side="right")), len(order) - 1)]])


def _losses(model: LossModel, affine: FloatArray, scenario: np.int64, normals: FloatArray) -> FloatArray:
    """Return the losses of one scenario at normals of shape (n_moving, n)."""
    size = normals.shape[1]
    positions = np.empty((len(affine), size))
    if positions.size:
        multiply(affine[:, :-1], normals, positions)
        positions += affine[:, -1:]
    return model.losses(positions, Segments(np.array([scenario]), np.array([size])), Workspace.of(size))


def _pilot_normals(seed: int, stage: int, count: int, size: int) -> FloatArray:
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(PILOT_KEY, stage))))
    return rng.standard_normal((count, size))

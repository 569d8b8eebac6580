"""The nearest move that loses enough, by looking at every point of a fine grid of normals."""

from __future__ import annotations

import numpy as np


def plain_loss(policies, btc_value, normals, sigma, btc_sigma=0.0, btc_normal=0.0):
    """Return the loss of moves around the peg: (asset, coverage, trigger, floor) one by one, and Bitcoin's mean kept."""
    total = 0.0
    for asset, coverage, trigger, floor in policies:
        ratio = np.exp(sigma[asset] * normals[asset])
        total = total + coverage * np.minimum(np.maximum((trigger - ratio) / (trigger - floor), 0.0), 1.0)
    return total - btc_value * (np.exp(btc_sigma * btc_normal - btc_sigma**2 / 2.0) - 1.0)


def grid_distance(loss_at, needed, correlation, reach, step):
    """Return the smallest Mahalanobis distance of grid points that lose enough, None where there is none.

    `loss_at` takes an array of normals a coordinate, and does not increase in any of them. The true distance is at
    most the returned one, and at least that minus `step` times the distance of the corner (1, ..., 1): the point
    below the true one on the grid loses at least as much.
    """
    axis = np.arange(-reach, reach + step / 2.0, step)
    normals = np.meshgrid(*[axis] * len(correlation), indexing="ij")
    enough = loss_at(normals) >= needed
    if not enough.any():
        return None
    points = np.array([coordinate[enough] for coordinate in normals])
    return float(np.sqrt(np.einsum("in,ij,jn->n", points, np.linalg.inv(correlation), points).min()))


def grid_error(correlation, step):
    """Return the most by which the distance of a point of a grid exceeds that of a point up to a step above it."""
    return step * np.sqrt(len(correlation) / np.linalg.eigvalsh(correlation)[0])

"""Positive semi-definite matrices: factors, and the nearest one with a unit diagonal."""

from __future__ import annotations

import numpy as np

from tonsurance_risk.errors import ConvergenceError, NotPositiveDefiniteError
from tonsurance_risk.values import FloatArray

PSD_TOLERANCE = 1e-10
"""A smallest eigenvalue of at least minus this counts as positive semi-definite."""


def lower_factor(values: FloatArray) -> FloatArray:
    """Return a lower triangular factor of a positive semi-definite matrix, singular ones included.

    Where Cholesky's algorithm meets a zero pivot: with C = V diag(w) V', the factor is R' of the QR
    decomposition of (V diag(sqrt w))'. Eigenvalues down to -1e-10 are taken as 0.

    Raises
    ------
    NotPositiveDefiniteError
        If an eigenvalue is below -1e-10.
    """
    try:
        return np.asarray(np.linalg.cholesky(values))
    except np.linalg.LinAlgError:
        eigenvalues, vectors = np.linalg.eigh(values)
    if eigenvalues[0] < -PSD_TOLERANCE:
        raise NotPositiveDefiniteError(
            f"the matrix is not positive semi-definite: its smallest eigenvalue is {eigenvalues[0]:g}, "
            f"accepted are those >= {-PSD_TOLERANCE:g}",
            observed=float(eigenvalues[0]),
            required=-PSD_TOLERANCE,
        )
    rounding = len(values) * np.finfo(float).eps * eigenvalues[-1]
    eigenvalues[eigenvalues < rounding] = 0.0
    upper = np.asarray(np.linalg.qr((vectors * np.sqrt(eigenvalues)).T, mode="r"))
    signs = np.where(np.diag(upper) < 0.0, -1.0, 1.0)
    return np.ascontiguousarray((upper * signs[:, None]).T)


def nearest_correlation(values: FloatArray, tolerance: float = 1e-12, most: int = 10_000) -> FloatArray:
    """Return the nearest correlation matrix by Higham (2002), algorithm 3.3; see `nearest_psd`."""
    unit = np.array(values)
    correction = np.zeros_like(unit)
    for _ in range(most):
        shifted = unit - correction
        psd = _psd_projection(shifted)
        correction = psd - shifted
        previous, unit = unit, psd.copy()
        np.fill_diagonal(unit, 1.0)
        if np.linalg.norm(unit - previous) <= tolerance * np.linalg.norm(unit):
            break
    else:
        raise ConvergenceError(
            f"the nearest correlation matrix was not reached in {most:,} iterations", required=tolerance
        )
    # The last iterate is PSD up to the tolerance; scaling the PSD part to a unit diagonal makes it exact.
    psd = _psd_projection(unit)
    scale = 1.0 / np.sqrt(np.diag(psd))
    repaired = np.clip(psd * np.outer(scale, scale), -1.0, 1.0)
    repaired = (repaired + repaired.T) / 2.0
    np.fill_diagonal(repaired, 1.0)
    smallest = float(np.linalg.eigvalsh(repaired)[0])
    if smallest < -PSD_TOLERANCE:
        raise NotPositiveDefiniteError(
            f"the repair left the eigenvalue {smallest:g}, accepted are those >= {-PSD_TOLERANCE:g}",
            observed=smallest,
            required=-PSD_TOLERANCE,
        )
    return repaired


def _psd_projection(values: FloatArray) -> FloatArray:
    eigenvalues, vectors = np.linalg.eigh((values + values.T) / 2.0)
    projected = (vectors * np.clip(eigenvalues, 0.0, None)) @ vectors.T
    return np.asarray((projected + projected.T) / 2.0)

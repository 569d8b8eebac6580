"""The model of the vault's loss, compiled to arrays, and the drawing of one block of simulations.

One simulation draws a scenario s and shocks x ~ N(0, C_s); then, for coin i,
``ratio_i = P_si exp(sigma_i m_s x_i)``; BTC returns
``(1 + b_s) exp(sigma m_s x - (sigma m_s)^2 / 2) - 1``; and the loss is the sum of the payouts minus the
BTC value times the BTC return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import attrs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tonsurance_risk.assets import canonical, check_symbols
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.payoff import PayoutFunction, payout_functions
from tonsurance_risk.core.psd import lower_factor
from tonsurance_risk.core.scenarios import checked_scenarios, cumulated_shares, indices_at, scenario_levels
from tonsurance_risk.model import BTC, FloatArray, Scenario, Vault, read_only, unique, within

Sampling = Literal["plain", "stratified"]

LARGEST_SHOCK = 50.0
"""Largest sigma_i m_s: beyond it exp() of a common draw leaves the range of a float."""


@attrs.frozen
class LossModel:
    """A vault, scenarios, correlation and volatility as arrays; exposures are coins, then BTC.

    `moving` are the exposures with a volatility, and `factors[shift_of[s]]` is the lower factor of their
    correlation in scenario s.
    """

    scenario_names: tuple[str, ...]
    cumulated: FloatArray
    coins: tuple[str, ...]
    payouts: tuple[PayoutFunction, ...]
    levels: FloatArray
    btc_value: float
    btc_change: FloatArray
    moving: tuple[int, ...]
    sigma: FloatArray
    factors: tuple[FloatArray, ...]
    shift_of: tuple[int, ...]
    seed: int
    sampling: Sampling

    def amounts(self, block: int, size: int) -> tuple[NDArray[np.int32], FloatArray]:
        """Return the scenario of each simulation of a block and what each exposure loses [USD].

        Returns
        -------
        scenario : ndarray of int of shape (size,)
        amounts : ndarray of shape (n_coins + 1, size)
            Payouts by coin, and last the loss on BTC, negative for a gain.
        """
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=(block,))))
        if self.sampling == "stratified":
            points = (np.arange(size) + rng.random()) / size
        else:
            points = rng.random(size)
        scenario = indices_at(self.cumulated, points)
        shocks = self._shocks(scenario, rng)
        amounts = np.empty((len(self.coins) + 1, size))
        for row, payout in enumerate(self.payouts):
            if row in shocks:
                amounts[row] = payout(self.levels[scenario, row] * np.exp(shocks[row]))
            else:
                amounts[row] = payout(self.levels[:, row])[scenario]
        amounts[-1] = -self.btc_value * self.btc_change[scenario]
        if len(self.coins) in shocks:
            half_variance = self.sigma[:, -1] ** 2 / 2.0
            growth = np.expm1(shocks[len(self.coins)] - half_variance[scenario])
            amounts[-1] -= self.btc_value * (1.0 + self.btc_change[scenario]) * growth
        return scenario.astype(np.int32), amounts

    def level_losses(self) -> FloatArray:
        """Return the loss at the levels of each scenario, without shocks, shape (n_scenarios,) [USD]."""
        losses = -self.btc_value * self.btc_change
        for row, payout in enumerate(self.payouts):
            losses = losses + payout(self.levels[:, row])
        return np.asarray(losses)

    def _shocks(self, scenario: NDArray[np.int64], rng: np.random.Generator) -> dict[int, FloatArray]:
        """Return ``sigma_i m_s x_i`` by exposure, for those that move."""
        if not self.moving:
            return {}
        normals = rng.standard_normal((len(scenario), len(self.moving)), dtype=np.float32).astype(np.float64)
        shocks = np.empty_like(normals)
        order = np.argsort(scenario, kind="stable")
        ends = np.cumsum(np.bincount(scenario, minlength=len(self.shift_of)))
        for s, (end, count) in enumerate(zip(ends, np.diff(ends, prepend=0), strict=True)):
            if count:
                rows = order[end - count : end]
                shocks[rows] = (normals[rows] @ self.factors[self.shift_of[s]].T) * self.sigma[
                    s, list(self.moving)
                ]
        return {exposure: shocks[:, column] for column, exposure in enumerate(self.moving)}


def compile_model(
    vault: Vault,
    scenarios: Sequence[Scenario],
    correlation: CorrelationMatrix | pd.DataFrame | None,
    volatility: Mapping[str, float] | pd.Series,
    seed: int,
    sampling: Sampling,
) -> tuple[LossModel, float]:
    """Return the model, and how far the correlation matrix had to be moved to be positive semi-definite."""
    listed = checked_scenarios(scenarios)
    check_symbols(vault, listed)
    payouts = payout_functions(vault)
    exposures = [*payouts, BTC]
    sigma = _sigma(volatility, exposures)
    if vault.btc_value == 0.0:
        sigma[-1] = 0.0
    scaled = np.outer([scenario.volatility_multiplier for scenario in listed], sigma)
    if scaled.max() > LARGEST_SHOCK:
        s, i = np.unravel_index(int(np.argmax(scaled)), scaled.shape)
        raise ValueError(
            f"volatility of {exposures[int(i)]} times the volatility_multiplier of scenario "
            f"{listed[int(s)].name!r} must be at most {LARGEST_SHOCK:g}, found {scaled[s, i]:g}"
        )
    moving = tuple(np.flatnonzero(sigma).tolist())
    base, repair_distance = _base_correlation(correlation, [exposures[i] for i in moving])
    shifts = sorted({scenario.correlation_shift for scenario in listed})
    model = LossModel(
        scenario_names=tuple(scenario.name for scenario in listed),
        cumulated=read_only(cumulated_shares(listed)),
        coins=tuple(payouts),
        payouts=tuple(payouts.values()),
        levels=read_only(scenario_levels(listed, list(payouts))),
        btc_value=vault.btc_value,
        btc_change=read_only([scenario.btc_change for scenario in listed], np.float64),
        moving=moving,
        sigma=read_only(scaled),
        factors=tuple(read_only(lower_factor(_shifted(base, shift))) for shift in shifts),
        shift_of=tuple(shifts.index(scenario.correlation_shift) for scenario in listed),
        seed=seed,
        sampling=sampling,
    )
    return model, repair_distance


def _sigma(volatility: Mapping[str, float] | pd.Series, exposures: Sequence[str]) -> FloatArray:
    given = cast("Mapping[str, float]", volatility.to_dict() if isinstance(volatility, pd.Series) else volatility)
    if not isinstance(given, Mapping):
        raise ValueError(f"volatility must be a mapping or Series of numbers by symbol, found {volatility!r}")
    unique(map(canonical, given), "symbols of volatility")
    checked = {canonical(symbol): within(value, f"volatility[{symbol!r}]", 0.0) for symbol, value in given.items()}
    return np.array([checked.get(symbol, 0.0) for symbol in exposures])


def _base_correlation(
    correlation: CorrelationMatrix | pd.DataFrame | None, symbols: Sequence[str]
) -> tuple[FloatArray, float]:
    """Return the correlation of `symbols`, independent where the matrix has none, and the repair distance."""
    base = np.eye(len(symbols))
    if correlation is None:
        return base, 0.0
    matrix = (
        correlation if isinstance(correlation, CorrelationMatrix) else CorrelationMatrix.from_frame(correlation)
    )
    repaired, distance = matrix.nearest_psd()
    known = [i for i, symbol in enumerate(symbols) if symbol in repaired.assets]
    base[np.ix_(known, known)] = repaired.select([symbols[i] for i in known]).values
    return base, distance


def _shifted(base: FloatArray, shift: float) -> FloatArray:
    """Return the correlations moved towards 1 (shift > 0) or towards 0 (shift < 0); a PSD matrix stays one."""
    moved = base + shift * (1.0 - base) if shift >= 0.0 else base * (1.0 + shift)
    np.fill_diagonal(moved, 1.0)
    return moved
